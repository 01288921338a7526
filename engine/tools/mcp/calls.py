"""A call from one event loop into another, with progress coming back.

Knows loops, cancellation and `report`. Does not know servers.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from engine.errors import McpError
from engine.tools.invoke import report

_WAITING = 16  # progress reports that wait for a slow reader; older ones are dropped


class Heard(Protocol):
    """What is told of progress."""

    async def __call__(self, progress: float, total: float | None, message: str | None) -> None: ...


async def call_from_here(
    loop: asyncio.AbstractEventLoop,
    start: Callable[[Heard], Coroutine[Any, Any, Any]],
    name: str,
) -> Any:
    """Run a coroutine in another thread's loop and wait for it; cancelled here, it is cancelled
    there. What it hears of progress is reported in the context of whoever waits here."""
    progress = _Progress()
    work = start(progress.heard)
    try:
        future = asyncio.run_coroutine_threadsafe(work, loop)
    except RuntimeError as error:  # that loop has ended
        work.close()
        raise _closed(name) from error
    try:
        return await asyncio.wrap_future(future)
    except asyncio.CancelledError:
        if future.cancelled() and not _is_cancelled():
            raise _closed(name) from None
        raise


def _is_cancelled() -> bool:
    """Whether it is us that were cancelled, not the one that we waited for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _closed(name: str) -> McpError:
    return McpError(f"MCP server {name!r}: the session is over", server=name, reason="closed")


class _Progress:
    """Takes progress in the servers' loop and reports it in the caller's, where it may block."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()
        self._waiting: deque[str] = deque(maxlen=_WAITING)
        self._is_due = False

    async def heard(self, progress: float, total: float | None, message: str | None) -> None:
        share = f"{progress:g} of {total:g}" if total is not None else f"{progress:g}"
        self._waiting.append(f"{share}: {message}" if message else share)
        if not self._is_due:
            self._is_due = True
            with contextlib.suppress(RuntimeError):  # the call is over
                self._loop.call_soon_threadsafe(self._say, context=self._context)

    def _say(self) -> None:
        self._is_due = False
        while self._waiting:
            report(self._waiting.popleft())
