"""A stream of events for `async for`: the work is done in a thread of its own.

Knows iterators and event loops. Does not know what the events are.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


async def in_thread(
    start: Callable[[Callable[[], bool]], Iterator[T]],
    cancelled: Callable[[], bool] | None = None,
) -> AsyncGenerator[T]:
    """The items of `start(cancelled)`, each made in one thread while the event loop goes on.

    When the reader is cancelled or goes away, `cancelled` answers True from then on, and the
    iterator is closed in its thread before this returns.
    """
    gone = threading.Event()

    def is_cancelled() -> bool:
        return gone.is_set() or (cancelled is not None and cancelled())

    loop, context = asyncio.get_running_loop(), contextvars.copy_context()
    items = start(is_cancelled)
    end = object()

    def following() -> Any:
        return context.run(next, items, end)

    pool = ThreadPoolExecutor(1, "engine-stream")
    try:
        while (item := await loop.run_in_executor(pool, following)) is not end:
            yield item
    finally:
        gone.set()
        try:
            # Behind what still runs there: one thread, one thing at a time.
            if hasattr(items, "close"):
                await asyncio.shield(loop.run_in_executor(pool, context.run, items.close))
        finally:
            pool.shutdown(wait=False)  # cancelled once more: the thread ends by itself
