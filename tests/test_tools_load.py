"""Loading tools from files and modules: what is taken, and how each failure reads."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import ToolDefinitionError, ToolError
from engine.tools.load import load_tools


@pytest.fixture(autouse=True)
def clean_imports() -> Iterator[None]:
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def write(folder: Path, text: str, name: str = "tools.py") -> str:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return str(file)


def names(spec: str) -> list[str]:
    return [tool.name for tool in load_tools(spec)]


# --- what is taken


@pytest.mark.parametrize(
    "text, taken",
    [
        ("def b(x: int): ...\ndef a(): ...\n", ["b", "a"]),
        ("def a(): ...\ndef _hidden(*x): ...\n", ["a"]),
        ("from os.path import join\nimport json\ndef a(): ...\n", ["a"]),
        ("class Helper: ...\nlimit = 5\ndef a(): ...\n", ["a"]),
        ("from engine.tools import tool\n@tool\ndef a(): ...\ndef helper(*x): ...\n", ["a"]),
        ("from engine.tools import tool\n@tool(name='b')\ndef a(): ...\nalias = a\n", ["b"]),
        ("__all__ = ['b', 'LIMIT']\nLIMIT = 5\ndef a(): ...\ndef b(): ...\n", ["b"]),
        ("from engine.tools import tool\n__all__ = ['b', 'a']\n"
         "@tool\ndef a(): ...\ndef b(): ...\n", ["b", "a"]),
        ("__all__ = ['_a']\ndef _a(): ...\n", ["_a"]),
        ("from __future__ import annotations\nfrom dataclasses import dataclass\n"
         "@dataclass\nclass P:\n    x: int\ndef a(p: P): ...\n", ["a"]),
        ("async def a(): ...\n", ["a"]),
    ],
)  # fmt: skip
def test_tools_first_else_the_files_own_public_functions(
    tmp_path: Path, text: str, taken: list[str]
) -> None:
    assert names(write(tmp_path, text)) == taken


def test_one_function_can_be_named(tmp_path: Path) -> None:
    spec = write(tmp_path, "def a(): ...\ndef _b(): ...\n")
    assert names(f"{spec}:_b") == ["_b"]


def test_a_module_is_loaded_by_name_and_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pack_of_tools").mkdir()
    write(tmp_path / "pack_of_tools", "def a() -> int:\n    return 1\n", "inner.py")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    assert names("pack_of_tools.inner") == ["a"]
    assert load_tools("pack_of_tools.inner:a")[0].call({}) == 1


def test_a_file_may_import_its_neighbours_when_it_is_run_and_later(tmp_path: Path) -> None:
    write(tmp_path, "ANSWER = 42\n", "neighbour_one.py")
    write(tmp_path, "ANSWER = 43\n", "neighbour_two.py")
    text = (
        "import neighbour_one\ndef a() -> list[int]:\n    import neighbour_two\n"
        "    return [neighbour_one.ANSWER, neighbour_two.ANSWER]\n"
    )
    assert load_tools(write(tmp_path, text))[0].call({}) == [42, 43]


def test_a_file_is_run_once_until_it_changes(tmp_path: Path) -> None:
    spec = write(tmp_path, "seen = []\ndef a():\n    seen.append(1)\n    return len(seen)\n")
    assert load_tools(spec)[0].call({}) == 1
    assert load_tools(f"{spec}:a")[0].call({}) == 2
    write(tmp_path, "def a():\n    return 'new and longer'\n")
    assert load_tools(spec)[0].call({}) == "new and longer"


def test_korean_paths_and_no_bytecode_left_behind(tmp_path: Path) -> None:
    folder = tmp_path / "도구 모음"
    folder.mkdir()
    assert names(write(folder, "def a(): ...\n", "날씨.py")) == ["a"]
    assert [item.name for item in folder.iterdir()] == ["날씨.py"]


def test_two_files_of_one_name_do_not_mix(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write(tmp_path / name, f"def {name}(): ...\n")
    assert names(str(tmp_path / "one" / "tools.py")) == ["one"]
    assert names(str(tmp_path / "two" / "tools.py")) == ["two"]


# --- how failures read


@pytest.mark.parametrize(
    "text, said",
    [
        ("def a(:\n    pass\n", "tools.py:1: SyntaxError: "),
        ("x = 1\n\n  y = 2\n", "tools.py:3: IndentationError: unexpected indent"),
        ("import os\nimport not_there_at_all\n",
         "tools.py:2: ModuleNotFoundError: No module named 'not_there_at_all'"),
        ("from os import nothing_like_it\n", "tools.py:1: ImportError: cannot import name"),
        ("def f():\n    return 1 / 0\nf()\n", "tools.py:2: ZeroDivisionError: division by zero"),
        ("import json\njson.loads('{')\n", "tools.py:2: JSONDecodeError: "),
        ("import sys\nsys.exit('bye')\n", "tools.py:2: SystemExit: bye"),
        ("raise ValueError('two\\nlines')\n", "tools.py:1: ValueError: two lines"),
        ("raise ValueError('x' * 10_000)\n", "tools.py:1: ValueError: xxx"),
        ("x = 1\n", "tools.py: no tools in it; mark functions with @tool"),
        ("", "tools.py: no tools in it"),
        ("__all__ = ['gett']\ndef get(): ...\n", "has no 'gett'; did you mean 'get'?"),
        ("\n\ndef a(x): ...\n", "tools.py:3: tool 'a': parameter 'x' has no type"),
        ("from engine.tools import tool\n\n@tool\ndef a(x: open): ...\n", "tools.py:3: tool 'a': "),
        ("from engine.tools import tool\n@tool(name='x')\ndef a(): ...\n"
         "@tool(name='x')\ndef b(): ...\n", "tool 'x': is declared twice"),
        ("x = '\x00'\n", "null bytes"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_on_one_line_with_its_place(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(ToolError) as raised:
        load_tools(write(tmp_path, text))
    assert said in raised.value.message
    assert "\n" not in raised.value.message and len(raised.value.message) < 600
    assert raised.value.exit_code == 6


def test_an_error_in_a_tool_definition_keeps_its_type_and_data(tmp_path: Path) -> None:
    with pytest.raises(ToolDefinitionError) as raised:
        load_tools(write(tmp_path, "def a(x: int, y: type): ...\n"))
    assert (raised.value.tool, raised.value.parameter) == ("a", "y")


def test_an_error_inside_a_neighbour_names_the_line_that_imports_it(tmp_path: Path) -> None:
    write(tmp_path, "1 / 0\n", "bad_neighbour.py")
    with pytest.raises(ToolError, match=r"tools\.py:2: ZeroDivisionError"):
        load_tools(write(tmp_path, "x = 1\nimport bad_neighbour\n"))


@pytest.mark.parametrize(
    "spec, said",
    [
        ("no_such_file.py", "no_such_file.py: no such file"),
        ("./nowhere/tools.py", "no such file"),
        ("tols.py", "no such file; did you mean 'tools.py'?"),
        ("no_such_module_anywhere", "no such module"),
        ("no_such_package.tools", "no such module"),
        ("engine.tools.no_such", "engine.tools.no_such: no such module"),
        ("not a module", "neither a file nor a module name"),
        ("", "neither a file nor a module name"),
        (".", "neither a file nor a module name"),
        ("folder.py", "is a directory"),
        ("pipe.py", "is not a regular file"),
        ("a\0b.py", "can't be read"),
        ("x" * 5000 + ".py", "can't be read"),
        ("latin.py", "latin.py"),
        ("tools.py:gett", "has no 'gett'; did you mean 'get'?"),
        ("tools.py:LIMIT", "tool 'int': is not a function"),
    ],
)
def test_a_name_that_leads_nowhere_is_told_on_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "LIMIT = 5\ndef get(): ...\n")
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "latin.py").write_bytes(b"x = '\xe9'\n")
    os.mkfifo(tmp_path / "pipe.py")
    with pytest.raises(ToolError) as raised:
        load_tools(spec)
    assert said in raised.value.message and "\n" not in raised.value.message
    assert raised.value.exit_code == 6


@pytest.mark.parametrize(
    "text, said",
    [
        ("x = 1\ndef a(:\n", "bad_module.py:2: SyntaxError"),
        ("import nowhere_at_all\n", "bad_module.py:1: ModuleNotFoundError"),
        ("from engine.tools import tool\n@tool\ndef a(x): ...\n", "bad_module.py:2: tool 'a'"),
    ],
)
def test_a_module_that_fails_is_told_like_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    write(tmp_path, text, "bad_module.py")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ToolError) as raised:
        load_tools("bad_module")
    assert said in raised.value.message and "\n" not in raised.value.message


def test_a_file_that_failed_can_be_mended_and_loaded(tmp_path: Path) -> None:
    spec = write(tmp_path, "def a(): ...\n1 / 0\n")
    for _ in range(2):  # the second time, too: half a module is not kept
        with pytest.raises(ToolError):
            load_tools(spec)
    assert names(write(tmp_path, "def a(): ...\n")) == ["a"]
