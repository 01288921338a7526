"""docs/tools.md: every Python block in it runs, and its comments tell the truth."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

GUIDE = Path(__file__).parents[1] / "docs" / "tools.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.M | re.S)


def test_the_guide_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.md").write_text("안녕\n", encoding="utf-8")
    names: dict[str, object] = {"__name__": "guide"}
    assert len(BLOCKS) >= 5
    for block in BLOCKS:
        code = compile(block, str(GUIDE), "exec", dont_inherit=True)
        exec(code, names)


def test_the_tool_file_of_the_guide_loads(tmp_path: Path) -> None:
    from engine.tools import load_tools

    file = tmp_path / "tools.py"
    file.write_text(BLOCKS[0], encoding="utf-8")
    assert [tool.name for tool in load_tools(str(file))] == ["get_weather"]
