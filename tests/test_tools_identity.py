"""What "always" is bound to: the code that runs."""

from __future__ import annotations

import functools
import importlib
import os
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from approving import OBJECT, Person, read, send, verdict

from engine.tools import Tool, tool
from engine.tools.approval import (
    Approvals,
)
from engine.tools.consents import Consents
from engine.tools.load import load_tools
from engine.tools.shell import shell

# --- what "always" is bound to

TOOL_FILE = '''
from engine import tool
def helper() -> str:
    return "one"
@tool(approve="ask")
def act() -> str:
    """Act."""
    return helper()
'''


def from_file(path: Path, text: str) -> Tool:
    path.write_text(text)
    return load_tools(str(path))[0]


def test_always_is_bound_to_the_whole_file_that_was_loaded(tmp_path):
    path, consents = tmp_path / "tools.py", tmp_path / "consents.json"
    first = from_file(path, TOOL_FILE)
    path.write_text(TOOL_FILE.replace("one", "two, and another size"))  # after it was loaded
    assert verdict(Approvals(ask=Person("always"), consents=Consents(consents)), first) is None
    later = load_tools(str(path))[0]
    assert later() == "two, and another size"
    assert verdict(Approvals(consents=Consents(consents)), later) is not None
    again = from_file(path, TOOL_FILE + " ")  # with other bytes the same code is asked for anew
    assert verdict(Approvals(consents=Consents(consents)), again) is not None
    assert from_file(path, TOOL_FILE).definition_hash == first.definition_hash
    elsewhere = from_file(tmp_path / "other.py", TOOL_FILE)
    assert elsewhere.definition_hash != first.definition_hash


def test_a_file_that_changes_while_it_is_loaded_is_what_was_loaded(tmp_path):
    path, other = tmp_path / "tools.py", "\n\n" + TOOL_FILE
    loads = f"from pathlib import Path\nPath(__file__).write_text({other!r})\n{TOOL_FILE}"
    first = from_file(path, loads)
    assert path.read_text() == other
    assert load_tools(str(path))[0].definition_hash != first.definition_hash


def test_an_imported_module_that_changes_under_the_process_is_what_was_imported(
    tmp_path, monkeypatch
):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "engine_consent_probe.py").write_text(TOOL_FILE)
    probe = importlib.import_module("engine_consent_probe")
    before = probe.act.definition_hash
    (tmp_path / "engine_consent_probe.py").write_text(TOOL_FILE.replace("one", "three"))
    same = tool(name="act", approve="ask")(probe.act.function)
    assert same.definition_hash == before, "the function that runs is still the first one"
    importlib.invalidate_caches()
    assert importlib.reload(probe).act.definition_hash != before
    del sys.modules["engine_consent_probe"]


def wrapping(text: str) -> Any:
    def wrap(function: Any) -> Any:
        @functools.wraps(function)
        def wrapper(*arguments: Any, **names: Any) -> str:
            return text or function(*arguments, **names)

        return wrapper

    return wrap


def closed_over(value: Any) -> Any:
    def act() -> str:
        """Act."""
        return str(value)

    return act


def command(root: str, mode: str = "r") -> str:
    """Act."""
    return root + mode


class Folder:
    def __init__(self, root: str) -> None:
        self.root = root

    def act(self) -> str:
        """Act."""
        return self.root


@pytest.mark.parametrize(
    "first, second",
    [
        (closed_over("a"), closed_over("b")),
        (closed_over(["a", {"b": Path("c")}]), closed_over(["a", {"b": Path("d")}])),
        (closed_over(read), closed_over(send)),
        (wrapping("")(closed_over("a")), wrapping("rm")(closed_over("a"))),
        (wrapping("")(closed_over("a")), closed_over("a")),
        (functools.partial(command, root="a"), functools.partial(command, root="b")),
        (Folder("a").act, Folder("b").act),
    ],
)
def test_what_is_bound_to_a_function_is_part_of_its_definition(first, second):
    tools = [tool(name="act", description="Act.")(item) for item in (first, second, first)]
    assert tools[0].definition_hash == tools[2].definition_hash != tools[1].definition_hash
    assert all(item.is_code_known for item in tools)


def test_what_a_tool_runs_in_and_is_given_is_part_of_its_definition(tmp_path):
    def made(**options: Any) -> str:
        return shell(**{"allow": ["ls"], "root": tmp_path} | options).definition_hash

    (tmp_path / "inner").mkdir()
    assert made() == made()
    others = [made(root=tmp_path / "inner"), made(allow=["ls", "cat"]), made(env=["SECRET"])]
    assert len({made(), *others}) == 4
    plain, isolated, dangerous = (
        tool(name="f", isolate=isolate, dangerous=danger)(command).definition_hash
        for isolate, danger in ((False, False), (True, False), (True, True))
    )
    assert len({plain, isolated, dangerous}) == 3
    converted = {
        tool(name="f", result_converter=each)(command).definition_hash
        for each in (None, str.upper, closed_over("a"), closed_over("b"))
    }
    assert len(converted) == 4


def typed_in() -> Any:
    scope: dict[str, Any] = {"__name__": "__console__"}
    exec(compile('def act() -> str:\n    """Act."""\n    return "x"', "<stdin>", "exec"), scope)
    return scope["act"]


@pytest.mark.parametrize("function", [typed_in(), os.getcwd, closed_over(threading.Lock())])
def test_always_is_for_this_chat_where_the_code_can_t_be_told_from_other_code(tmp_path, function):
    made = Tool.from_schema("act", "Act.", OBJECT, function, approve="ask")
    path = tmp_path / "consents.json"
    approvals = Approvals(ask=Person("always"), consents=Consents(path))
    assert not made.is_code_known
    assert [verdict(approvals, made) for _ in range(2)] == [None, None]
    assert verdict(Approvals(consents=Consents(path)), made) is not None
