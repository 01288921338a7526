"""docs/tools.md: every Python block in it runs, and its comments tell the truth."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from engine.tools import isolated, load_tools

GUIDE = Path(__file__).parents[1] / "docs" / "tools.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.M | re.S)


def test_the_guide_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    (here / "notes.md").write_text("안녕\n", encoding="utf-8")
    names: dict[str, object] = {"__name__": "guide"}
    assert len(BLOCKS) >= 5
    for block in BLOCKS:
        if name := re.match(r"# (\w+\.py)$", block, re.M):  # a file, as a person would write it
            (tmp_path / name[1]).write_text(block, encoding="utf-8")
            loaded = load_tools(str(tmp_path / name[1]))
            names |= vars(sys.modules[str(loaded[0].__module__)])
            continue
        code = compile(block, str(GUIDE), "exec", dont_inherit=True)
        exec(code, names)
    isolated.close()
    sys.path.remove(str(tmp_path))


def test_the_tool_file_of_the_guide_loads(tmp_path: Path) -> None:
    file = tmp_path / "tools.py"
    file.write_text(BLOCKS[0], encoding="utf-8")
    assert [tool.name for tool in load_tools(str(file))] == ["get_weather"]
