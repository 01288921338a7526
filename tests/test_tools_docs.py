"""docs/tools.md and docs/approval.md: every block in them runs, and their words are true."""

from __future__ import annotations

import dataclasses
import re
import sys
from pathlib import Path

import pytest

from engine.tools import isolated, load_tools

DOCS = Path(__file__).parents[1] / "docs"


def blocks(page: str, language: str = "python") -> list[str]:
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)


@pytest.mark.parametrize("page, least", [("tools.md", 5), ("approval.md", 1)])
def test_a_guide_runs_from_top_to_bottom(
    page: str, least: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (here / "notes.md").write_text("안녕\n", encoding="utf-8")
    names: dict[str, object] = {"__name__": "guide"}
    assert len(blocks(page)) >= least
    for block in blocks(page):
        if name := re.match(r"# (\w+\.py)$", block, re.M):  # a file, as a person would write it
            (tmp_path / name[1]).write_text(block, encoding="utf-8")
            loaded = load_tools(str(tmp_path / name[1]))
            names |= vars(sys.modules[str(loaded[0].__module__)])
            continue
        code = compile(block, page, "exec", dont_inherit=True)
        exec(code, names)
    isolated.close()


def test_the_rules_of_the_guide_say_what_the_guide_says(tmp_path: Path) -> None:
    from engine import Approvals, Call, Tool
    from engine.tools.approval import read_rules

    file = tmp_path / "rules.toml"
    file.write_text(blocks("approval.md", "toml")[0], encoding="utf-8")
    approvals = Approvals(read_rules(file))

    def policy(name: str, server: str = "", **arguments: object) -> str:
        tool = Tool.from_schema(name, "", {}, lambda **_: None, server=server)
        approvals.meet([tool])
        return approvals.policy(Call("1", name, arguments), tool)  # type: ignore[arg-type]

    assert policy("read_file", path="a") == "allow"
    assert policy("write_file", path="a") == "ask"
    assert policy("read_file", path="my.pem") == "deny"
    strict = Approvals(dataclasses.replace(approvals.rules, default="ask"))
    item = Tool.from_schema("run_command", "", {}, lambda **_: None)
    for command, expected in {
        "git status -s": "allow",
        "git status -s /etc": "ask",
        "git status -s; rm x": "ask",
        "git push": "ask",
    }.items():
        assert strict.policy(Call("1", item.name, {"command": command}), item) == expected
    assert policy("files__list", server="files") == "ask"


def test_the_tool_file_of_the_guide_loads(tmp_path: Path) -> None:
    file = tmp_path / "tools.py"
    file.write_text(blocks("tools.md")[0], encoding="utf-8")
    assert [tool.name for tool in load_tools(str(file))] == ["get_weather"]
