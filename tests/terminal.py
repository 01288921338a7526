"""A program on a pseudo-terminal: typed at, read from, resized and signalled.

Knows bytes and escape sequences. Reading waits for what is expected, never for a clock.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Self

ROOT = Path(__file__).parents[1]
ESCAPE = re.compile(rb"\x1b(\[[0-9;?]*[ -/]*[@-~]|\][^\x07]*\x07|[=>78])")
PATIENCE = 120.0  # machines are slow where several work at once
CTRL_C, CTRL_D, ALT_ENTER = "\x03", "\x04", "\x1b\r"


FAKE = (str(ROOT / "tests" / "fakes_chat.py"),)
REAL = ("-m", "engine")


class Terminal:
    """`engine ARGUMENTS` with a terminal for stdin, stdout and stderr; by default on the fake."""

    def __init__(
        self,
        *arguments: str,
        home: Path,
        program: tuple[str, ...] = FAKE,
        columns: int = 80,
        **variables: str,
    ) -> None:
        self._master, slave = pty.openpty()
        self.resize(columns)
        self.modes = termios.tcgetattr(slave)
        environment = os.environ | {
            "HOME": str(home),
            "XDG_STATE_HOME": str(home),
            "PYTHONPATH": str(ROOT),
            "TERM": "xterm-256color",
            "PROMPT_TOOLKIT_NO_CPR": "1",
        }
        environment.pop("NO_COLOR", None)
        self._slave = slave
        self.process = subprocess.Popen(
            [sys.executable, *program, *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(slave, termios.TIOCSCTTY, 0),  # noqa: PLW1509
            env=environment | variables,
        )
        self.raw = b""
        self._seen = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._master)
        os.close(self._slave)

    @property
    def text(self) -> str:
        """All output so far, without escape sequences."""
        return ESCAPE.sub(b"", self.raw).decode("utf-8", "replace")

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def say(self, text: str) -> None:
        """Type a line and Enter, at a prompt that is ready."""
        self.expect(">>> ")
        self.type(text + "\r")

    def expect(self, wanted: str) -> str:
        """Read until `wanted` appears after what was expected before; answers all up to it."""
        deadline = time.monotonic() + PATIENCE
        while (found := self.text.find(wanted, self._seen)) < 0:
            assert self._read(deadline), f"no {wanted!r} in {self.text[self._seen :]!r}"
        start, self._seen = self._seen, found + len(wanted)
        return self.text[start : self._seen]

    def wait(self) -> int:
        """Read to the end; answers the exit code."""
        deadline = time.monotonic() + PATIENCE
        while self.process.poll() is None:
            self._read(min(deadline, time.monotonic() + 0.05))
            assert time.monotonic() < deadline, f"still running after {self.text[-500:]!r}"
        while self._read(time.monotonic() + 0.05):
            continue
        return self.process.returncode

    def resize(self, columns: int, lines: int = 24) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.process.pid, number)

    def has_first_modes(self) -> bool:
        """Whether echo and line mode are as they were before the program."""
        return termios.tcgetattr(self._slave)[:4] == self.modes[:4]

    def _read(self, deadline: float) -> bool:
        ready, _, _ = select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))
        if ready:
            self.raw += os.read(self._master, 65536)
        return bool(ready)
