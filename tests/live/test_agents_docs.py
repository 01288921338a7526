"""docs/agents.md: every Python block in it runs on the embedded model, and tells the truth."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.live
GUIDE = Path(__file__).parents[2] / "docs" / "agents.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.M | re.S)


def test_the_guide_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    names: dict[str, object] = {"__name__": "guide"}
    assert len(BLOCKS) == 5
    for block in BLOCKS:
        exec(compile(block, str(GUIDE), "exec", dont_inherit=True), names)
    assert len(list((tmp_path / "prefixes").iterdir())) == 1
