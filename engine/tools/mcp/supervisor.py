"""Run one server and see to it that nothing of it is left: `supervisor.py FD COMMAND ARGUMENT...`.

A program of its own, so that a server's processes end even where the engine was killed with
SIGKILL. Knows processes and signals, and imports nothing of the engine. FD is one end of a socket
pair; the other end's owner is the one it works for. Lines said there: `pid N`, `failed TEXT`,
`exit STATUS`. When the other end closes, or the server ends by itself, all its processes are
ended: GRACE seconds to leave by themselves, then SIGTERM, PATIENCE seconds later SIGKILL.

"All its processes" is, on every system, the server's process group; on Linux also what has left
that group by `setsid`, because orphans of ours become our children there, and the server itself
gets SIGKILL from the kernel should this program be killed. macOS has neither: a grandchild that
made itself a session of its own outlives us there.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from types import FrameType
from typing import NoReturn

GRACE = 0.5
PATIENCE = 2.0
POLL = 0.02
LAST_RESORT = 1.0  # seconds of SIGKILL, in case something forks faster than it is found

_SET_PDEATHSIG, _SET_CHILD_SUBREAPER = 1, 36  # <linux/prctl.h>
IS_LINUX = sys.platform == "linux"


def _prctl(option: int, value: int) -> None:
    import ctypes

    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


class Supervisor:
    """One server's process, and who is told of it."""

    def __init__(self, control: int, command: list[str]) -> None:
        self.control = control
        self.status: int | None = None
        os.set_inheritable(control, False)
        # A child that ends wakes `select` up.
        self.woken, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        self.is_told = False
        if IS_LINUX:
            _prctl(_SET_CHILD_SUBREAPER, 1)
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            self._become(command, parent)
        for stream in (0, 1, 2):  # the pipes are the server's: they must close when it does
            os.dup2(os.open(os.devnull, os.O_RDWR), stream)
        self.say(f"pid {self.pid}")

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if number != signal.SIGCHLD:
            self.is_told = True

    def _become(self, command: list[str], parent: int) -> NoReturn:
        """In the child: be the server. Never returns."""
        try:
            os.setsid()
            if IS_LINUX:
                _prctl(_SET_PDEATHSIG, signal.SIGKILL)
                if os.getppid() != parent:
                    os._exit(1)
            for number in range(1, signal.NSIG):  # Python ignores SIGPIPE, and exec would keep that
                with contextlib.suppress(OSError, ValueError):
                    signal.signal(number, signal.SIG_DFL)
            os.execvp(command[0], command)
        except OSError as error:
            self.say(f"failed {error.strerror}")
        finally:
            os._exit(127)

    def say(self, line: str) -> None:
        with contextlib.suppress(OSError):
            os.write(self.control, line.encode() + b"\n")

    def run(self) -> None:
        """Until nobody wants the server, or it has ended; then until nothing of it is left."""
        while not (self.is_told or self.reap()):
            ready, _, _ = select.select([self.control, self.woken], [], [])
            if self.woken in ready:
                os.read(self.woken, 4096)
            if self.control in ready and not self._hears():
                self.wait(GRACE)
                break
        self.end(signal.SIGTERM, PATIENCE)
        self.end(signal.SIGKILL, LAST_RESORT)

    def _hears(self) -> bool:
        try:
            return bool(os.read(self.control, 4096))
        except OSError:
            return False

    def reap(self) -> bool:
        """Take the ended children's statuses; whether the server is among those that ended."""
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
                if pid == self.pid:
                    self.status = os.waitstatus_to_exitcode(status)
                    self.say(f"exit {self.status}")
        return self.status is not None

    def wait(self, seconds: float) -> bool:
        """Whether nothing is left, after `seconds` at the most."""
        until = time.monotonic() + seconds
        while not self.is_empty():
            if time.monotonic() >= until:
                return False
            time.sleep(POLL)
        return True

    def end(self, number: int, seconds: float) -> None:
        """Signal all until nothing is left, for `seconds` at the most."""
        until = time.monotonic() + seconds
        self.signal_all(number)
        while not self.is_empty() and time.monotonic() < until:
            time.sleep(POLL)
            if number == signal.SIGKILL:
                self.signal_all(number)

    def is_empty(self) -> bool:
        self.reap()
        if self.status is None or descendants(os.getpid()):
            return False
        try:
            os.killpg(self.pid, 0)
        except OSError:  # nobody there, or (macOS) nobody but the dead
            return True
        return False

    def signal_all(self, number: int) -> None:
        for pid in descendants(os.getpid()):
            with contextlib.suppress(OSError):
                os.kill(pid, number)
        with contextlib.suppress(OSError):
            os.killpg(self.pid, number)


def descendants(root: int) -> list[int]:
    """The processes below `root`, by what /proc says; none where there is no /proc."""
    children: dict[int, list[int]] = {}
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc"):
            if not name.isdigit():
                continue
            with contextlib.suppress(OSError, ValueError, IndexError):
                with open(f"/proc/{name}/stat", "rb") as file:
                    state, parent = file.read().rpartition(b")")[2].split()[:2]
                if state != b"Z":
                    children.setdefault(int(parent), []).append(int(name))
    found: list[int] = []
    waiting = [root]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


if __name__ == "__main__":
    Supervisor(int(sys.argv[1]), sys.argv[2:]).run()
