"""Streams that are closed, full or left by their reader: a code and no traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.terminal import FAKE, ROOT

RUN = f"{sys.executable} {FAKE[0]} run x"
CHAT = f"{sys.executable} {FAKE[0]} chat x"
FULL = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")


def shell(command: str) -> subprocess.CompletedProcess[str]:
    """A command line, and the code of its last command."""
    return subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    "command, code, stdout",
    [
        (f"{RUN} hello >&-", 0, ""),
        (f"{RUN} hello --json >&-", 0, ""),
        (f"{RUN} hello 2>&-", 0, "You said: hello \n"),
        (f"{RUN} tool 2>&-", 0, "Let me look.\nIt is 21 degrees.\n"),
        (f"{RUN} hello <&-", 0, "You said: hello \n"),
        (f"{CHAT} <&-", 0, ""),
        (f"echo hello | {CHAT} 2>&-", 0, "You said: hello \n"),
        (f"sh -c '{RUN.replace(' x', ' missing.gguf')} hello >&- 2>&- <&-'", 3, ""),
    ],
)
def test_a_closed_stream_counts_as_dev_null(command: str, code: int, stdout: str) -> None:
    done = shell(command)
    assert (done.returncode, done.stdout) == (code, stdout)
    assert "Traceback" not in done.stderr and "unexpected" not in done.stderr


@FULL
@pytest.mark.parametrize("more", ["", " --json"])
@pytest.mark.parametrize("command", [f"{RUN} flood", f"{RUN} hello", f"echo hello | {CHAT}"])
def test_a_full_disk_behind_stdout_is_one_line_and_8(command: str, more: str) -> None:
    done = shell(f"{command}{more} >/dev/full")
    assert done.returncode == 8
    assert done.stderr == "engine: the output can't be written: No space left on device\n"


@FULL
def test_a_full_disk_behind_both_streams_is_8() -> None:
    assert shell(f"{RUN} tool >/dev/full 2>&1").returncode == 8


@pytest.mark.parametrize("more", ["", " --json"])
@pytest.mark.parametrize("command", [f"{RUN} flood", f"echo flood | {CHAT}"])
def test_a_reader_that_leaves_ends_the_command_with_141(
    command: str, more: str, tmp_path: Path
) -> None:
    code = tmp_path / "code"
    done = shell(f"({command}{more}; echo $? >{code}) | head -1")
    assert (done.returncode, done.stderr, code.read_text()) == (0, "", "141\n")


def test_ctrl_c_while_the_command_is_imported_ends_without_a_traceback() -> None:
    strike = "import os, signal, engine.__main__; os.kill(os.getpid(), signal.SIGINT)"
    done = subprocess.run(
        [sys.executable, "-c", strike],
        capture_output=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert (done.returncode, done.stderr) == (-signal.SIGINT, b"")
