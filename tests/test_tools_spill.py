"""Results too long for a model: whole in a private file, for as long as the process lives."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.tools import spill
from engine.tools.result import content_of

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Each test with a folder of its own, below a temporary folder of its own."""
    monkeypatch.setattr(spill, "_folder", None)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    yield tmp_path


def file_in(content: Any) -> Path:
    note = content.split("\n[... truncated, ", 1)[1].split(" ...]\n", 1)[0]
    return Path(note.split("file ", 1)[1])


@pytest.mark.parametrize(
    "value, whole",
    [
        ("가나다라" * 1000, "가나다라" * 1000),
        (b"bytes \xff" * 300, "bytes \ufffd" * 300),
        (list(range(1000)), json.dumps(list(range(1000)))),
        ("\x1b[31m" * 500, "\ufffd[31m" * 500),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_was_cut_is_whole_in_the_file(value: Any, whole: str) -> None:
    content = content_of(value, 1000, spill=True)
    assert isinstance(content, str) and len(content.encode()) <= 1000
    assert f"truncated, {len(whole.encode())} bytes, file " in content
    path = file_in(content)
    assert path.read_text(encoding="utf-8") == whole
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_what_fits_makes_no_file(tmp_path: Path) -> None:
    for value in ("x" * 1000, list(range(100)), b"x", None):
        content_of(value, 1000, spill=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", ["x" * 5000, range(10**12)], ids=["text", "endless"])
def test_a_file_holds_ten_mebibytes_at_most_and_the_note_says_so(
    value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spill, "MAX_FILE_BYTES", 2000)
    content = content_of(value, 1000, spill=True)
    assert isinstance(content, str) and ", its beginning in file " in content
    path = file_in(content)
    assert path.stat().st_size == 2000
    assert path.read_text()[:100] == content[:100]


def test_the_folder_has_a_bound_and_the_oldest_files_go_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(spill, "MAX_FOLDER_BYTES", 10_000)
    paths = []
    for n in range(8):
        paths.append(file_in(content_of(str(n) * 3000, 1000, spill=True)))
        os.utime(paths[-1], (n, n))
    assert [path.exists() for path in paths] == [False] * 5 + [True] * 3


class Half:
    """Iteration fails when much has been written."""

    def __len__(self) -> int:
        return 2000

    def __contains__(self, item: object) -> bool:
        return False

    def __iter__(self) -> Iterator[str]:
        yield "x" * 100_000
        raise OSError("gone")


def test_a_value_that_fails_half_way_leaves_no_file() -> None:
    content = content_of(Half(), 1000, spill=True)
    assert isinstance(content, str) and "truncated" not in content
    assert list(spill.folder().glob("result-*")) == []


def test_without_room_for_a_file_the_result_is_cut_all_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "not there"))
    content = content_of("x" * 5000, 1000, spill=True)
    assert isinstance(content, str) and "truncated, 5000 bytes ...]" in content

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    content = content_of("x" * 5000, 1000, spill=True)
    assert isinstance(content, str) and "truncated, 5000 bytes ...]" in content
    assert list(spill.folder().glob("result-*")) == []


def test_a_name_too_long_for_the_note_is_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    deep = tmp_path / ("n" * 200)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    content = content_of("x" * 5000, 300, spill=True)
    assert isinstance(content, str) and len(content.encode()) <= 300
    assert "truncated, 5000 bytes ...]" in content and content.startswith("x" * 100)


def test_the_folder_goes_at_exit_and_a_killed_process_s_with_the_next_process(
    tmp_path: Path,
) -> None:
    code = (
        "import os, sys\n"
        "from engine.tools import spill\n"
        "from engine.tools.result import content_of\n"
        "content_of('x' * 5000, 1000, spill=True)\n"
        "print(spill.folder())\n"
        "if os.fork() == 0: sys.exit()\n"
        "os.wait()\n"
        "assert any(spill.folder().iterdir())\n"
        "sys.stdout.flush()\n"
        "if sys.argv[1] == 'killed': os.kill(os.getpid(), 9)\n"
    )

    def folder_of(end: str) -> Path:
        env = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
        command = [sys.executable, "-c", code, end]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        assert "Error" not in done.stderr
        return Path(done.stdout.strip())

    killed = folder_of("killed")
    assert killed.exists()
    mine = spill.folder()  # of a process that lives
    assert not killed.exists()
    assert not folder_of("ended").exists()
    assert mine.exists()
