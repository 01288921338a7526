"""Ctrl-C and the other ways to be told to stop.

Knows signals. Does not know what is being stopped: whoever works asks `cancelled()` between its
steps, so that llama.cpp is never left in the middle of a call.

A Ctrl-C comes while work runs (it is told to stop), while a question is asked (the line editor has
it), or in between: inside `kept()` it waits there for the next of the two, elsewhere it is a
KeyboardInterrupt. A second one within a second ends the process in each of them.
"""

from __future__ import annotations

import os
import signal
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final, Self

AGAIN: Final = 1.0  # seconds within which a second Ctrl-C means "quit"
GRACE: Final = 0.5  # seconds that work gets to wind down before the process goes without it
_END: Final = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)
)


class Interrupts:
    """Ctrl-C as a flag where something would be lost by an exception. A context manager.

    While work runs nothing is raised: an exception inside a ctypes callback (llama.cpp asking
    whether to abort) would be swallowed, and the second Ctrl-C with it.
    """

    def __init__(self) -> None:
        self._is_working = False
        self._is_kept = False
        self._is_cancelled = False
        self._is_waiting = False  # a Ctrl-C that neither work nor a question has seen yet
        self._last = float("-inf")
        self._exit_code: int | None = None
        self._leave: Callable[[], None] | None = None
        self._before: dict[int, Any] = {}
        self._modes: list[Any] | None = None

    def __enter__(self) -> Self:
        handlers = {signal.SIGINT: self._on_interrupt} | dict.fromkeys(_END, self._on_end)
        self._modes = _terminal_modes()
        self._before = {number: signal.signal(number, do) for number, do in handlers.items()}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        # A signal may have struck the line editor before it could promise to undo its raw mode.
        if self._modes is not None and self._modes != _terminal_modes():
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._modes)

    @contextmanager
    def working(self) -> Iterator[None]:
        """Work that stops by asking `cancelled()`. Raises SystemExit at its end if told to quit."""
        self._is_cancelled = self.waiting()
        self._is_working = True
        try:
            yield
        finally:
            self._is_working = False
            if self._exit_code is not None:
                raise SystemExit(self._exit_code)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """A session that one Ctrl-C must not end, also where it comes between work and question."""
        self._is_kept = True
        try:
            yield
        finally:
            self._is_kept = False

    @contextmanager
    def asking(self, leave: Callable[[], None]) -> Iterator[None]:
        """A line editor that ends its question when `leave` is called, in a signal handler.

        An exception raised inside its event loop would be reported there, with a traceback and a
        "Press ENTER". Raises SystemExit once the question ended, if the process was told to end.
        """
        self._leave = leave
        try:
            yield
        finally:
            self._leave = None
            if self._exit_code is not None:
                raise SystemExit(self._exit_code)

    def waiting(self) -> bool:
        """Whether a Ctrl-C came before the question could hear it; answered once."""
        was, self._is_waiting = self._is_waiting, False
        return was

    @property
    def is_ending(self) -> bool:
        """Whether the process was told to end while work or a question held it."""
        return self._exit_code is not None

    def cancelled(self) -> bool:
        """Whether the current work was told to stop. Cheap: the hot loop asks for every token."""
        return self._is_cancelled

    def pressed(self) -> bool:
        """Note one Ctrl-C. True when it follows another within a second."""
        now = time.monotonic()
        is_second = now - self._last < AGAIN
        self._last = now
        return is_second

    def _on_interrupt(self, number: int, frame: FrameType | None) -> None:
        is_second = self.pressed()
        if not (self._is_working or self._is_kept):
            raise KeyboardInterrupt
        if self._is_working:
            self._is_cancelled = True
        else:
            self._is_waiting = True
        if is_second:
            self._leave_soon(130)
        if self._leave is not None:
            self._leave()

    def _on_end(self, number: int, frame: FrameType | None) -> None:
        if self._leave is not None:
            self._leave_soon(128 + number)
            self._leave()
        elif self._is_working:
            self._is_cancelled = True
            self._leave_soon(128 + number)
        else:
            raise SystemExit(128 + number)

    def _leave_soon(self, code: int) -> None:
        if self._exit_code is None:
            self._exit_code = code
            # Work that doesn't look at the flag (a tool of somebody's) can't hold us.
            last_resort = threading.Timer(GRACE, self._leave_now, (code,))
            last_resort.daemon = True
            last_resort.start()

    def _leave_now(self, code: int) -> None:
        try:
            if self._modes is not None:
                termios.tcsetattr(sys.stdin, termios.TCSANOW, self._modes)
        finally:  # a terminal that is gone can't be put in order
            os._exit(code)


def _terminal_modes() -> list[Any] | None:
    return termios.tcgetattr(sys.stdin) if sys.stdin.isatty() else None
