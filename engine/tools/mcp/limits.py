"""How much a server may send, how long things may take, and how often one is started again.

Knows numbers and the clock's value that it is given. Does not know servers.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of one server. A message is a line on stdout, or one over HTTP."""

    line_bytes: int = 8 * 1024 * 1024
    messages_per_second: int = 1_000
    stderr_bytes: int = 64 * 1024
    tools: int = 1_000
    pages: int = 100  # of a list of tools
    drain_seconds: float = 0.2  # for what a server wrote before it ended
    reread_seconds: float = 1.0  # between two readings of the list, however often it changes
    restart_seconds: tuple[float, ...] = (1.0, 2.0, 4.0)  # waits before each start again
    restart_window: float = 60.0  # as many starts within this time; then the server stays down


@dataclass(slots=True)
class Backoff:
    """When to start a server again that ended."""

    limits: Limits
    _starts: deque[float] = field(default_factory=deque)

    def after(self, now: float) -> float | None:
        """Seconds to wait before a start again, None for never. Counts the start."""
        while self._starts and now - self._starts[0] >= self.limits.restart_window:
            self._starts.popleft()
        if len(self._starts) >= len(self.limits.restart_seconds):
            return None
        wait = self.limits.restart_seconds[len(self._starts)]
        self._starts.append(now)
        return wait


class Meter:
    """Counts messages against a rate. A pause saves up no more than one second of them."""

    def __init__(self, per_second: int, now: float) -> None:
        self._per_second = per_second
        self._room = float(per_second)
        self._last = now

    def admits(self, now: float) -> bool:
        """Count one message; whether it is within the rate."""
        self._room = min(self._per_second, self._room + (now - self._last) * self._per_second)
        self._last = now
        self._room -= 1
        return self._room >= 0
