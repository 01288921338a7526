"""Run tool calls side by side and give their results in order.

Knows calls, tools, threads and time. Does not know models, prompts or who may run what.
A tool runs in a daemon thread of this process: one that hangs is given up, not killed, and keeps
its thread until it returns. Async tools are cancelled, generators are closed at their next yield.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import json
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from engine.errors import EngineError, ToolArgumentError
from engine.events import ToolProgress, ToolResult
from engine.messages import JSON, Call
from engine.tools.result import Failure, clean, content_of, safe_repr
from engine.tools.tool import Tool

MAX_PARALLEL = 16
MAX_MESSAGE = 500  # characters of an error, as the model is told it
MAX_PROGRESS = 2_000  # bytes of one progress event
POLL_SECONDS = 0.05  # how often `cancelled` is asked
_BACKLOG = 256  # progress events that may wait before a generator is held up

_log = logging.getLogger("engine.tools")


_running: contextvars.ContextVar[_Job] = contextvars.ContextVar("running")


def report(progress: object) -> None:
    """Say, from inside a tool, how far it is. Outside of one it does nothing."""
    job = _running.get(None)
    if job is not None:
        job.progress(progress)


def run_calls(
    calls: Sequence[Call],
    tools: Mapping[str, Tool],
    *,
    cancelled: Callable[[], bool] | None = None,
    deadline: float | None = None,
    max_output_bytes: int | None = None,
    refused: Mapping[str, str] = {},
) -> Iterator[ToolProgress | ToolResult]:
    """Run the calls, up to MAX_PARALLEL at a time; yield one ToolResult each, in call order.

    Whatever goes wrong becomes a result with `is_error` and the content
    `{"error": {"type": ..., "message": ...}}`: an exception, a timeout, an unknown tool, arguments
    that don't fit. ToolProgress comes between, as generators yield. `deadline` is a
    `time.monotonic()` value; at it, or when `cancelled` answers True, calls that have not finished
    get an error result at once. `max_output_bytes` lowers every tool's own cap. `refused` has
    reasons, by call id, for calls that are not to be run.
    """
    events: queue.Queue[_Event] = queue.Queue(_BACKLOG)
    jobs = [_Job(call, tools.get(call.name), events, max_output_bytes) for call in calls]
    for job in jobs:
        if job.tool is None:
            job.fail("UnknownTool", _unknown(job.call.name, tools))
        elif job.call.id in refused:
            job.fail("Denied", refused[job.call.id])
    waiting = deque(job for job in jobs if job.result is None)
    done = 0
    try:
        while done < len(jobs):
            yield from _happened(events)
            _end_overdue(jobs, cancelled, deadline)
            running = sum(job.is_running for job in jobs)
            while waiting and running < MAX_PARALLEL:
                job = waiting.popleft()
                if job.result is None:
                    job.start()
                    running += 1
            while done < len(jobs) and (result := jobs[done].result) is not None:
                done += 1
                yield result
            if done < len(jobs):
                yield from _happened(events, wait=POLL_SECONDS)
    finally:
        for job in jobs:
            job.stop()


def _happened(events: queue.Queue[_Event], wait: float = 0.0) -> Iterator[ToolProgress]:
    """Take in what the tools have said; wait for the first thing, `wait` seconds at most.

    Called before limits are looked at: a call that finished in time counts as finished, however
    long the reader of `run_calls` took to come back.
    """
    with contextlib.suppress(queue.Empty):
        # Not until it is empty: a tool that never stops talking would keep the limits from us.
        for _ in range(max(1, events.qsize())):
            job, event = events.get(timeout=wait) if wait else events.get_nowait()
            wait = 0.0
            if job.result is not None:
                continue  # given up before; what it says now comes too late
            if isinstance(event, ToolProgress):
                yield event
            else:
                job.result = event


def _end_overdue(
    jobs: Sequence[_Job], cancelled: Callable[[], bool] | None, deadline: float | None
) -> None:
    now = time.monotonic()
    is_cancelled = cancelled is not None and cancelled()
    for job in jobs:
        if job.result is not None:
            continue
        if is_cancelled:
            job.fail("Cancelled", "cancelled before it finished")
        elif deadline is not None and now >= deadline:
            job.fail("Deadline", "stopped: the time for the whole answer ran out")
        elif now >= job.ends_at:
            assert job.tool is not None
            job.fail("Timeout", f"timeout after {job.tool.timeout_seconds:g} s")


def _unknown(name: str, tools: Mapping[str, Tool]) -> str:
    close = get_close_matches(name, tools, 1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"there is no tool {name[:80]!r}; {hint}the tools are: {', '.join(tools) or 'none'}"


def error_content(kind: str, message: str) -> JSON:
    """What a model is told of a failure, at most MAX_MESSAGE characters of it."""
    message = clean(message)
    if len(message) > MAX_MESSAGE:
        message = message[: MAX_MESSAGE - 1] + "…"
    return {"error": {"type": kind, "message": message}}


@dataclass(eq=False)
class _Job:
    """One call: its thread while it runs, its result when it is done or given up."""

    call: Call
    tool: Tool | None
    events: queue.Queue[_Event]
    max_output_bytes: int | None
    result: ToolResult | None = None
    is_started: bool = False
    started_at: float = field(default_factory=time.monotonic)
    ends_at: float = float("inf")
    stopped: threading.Event = field(default_factory=threading.Event)
    task: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None

    @property
    def is_running(self) -> bool:
        return self.is_started and self.result is None

    def start(self) -> None:
        assert self.tool is not None
        self.is_started = True
        self.started_at = time.monotonic()
        if self.tool.timeout_seconds is not None:
            self.ends_at = self.started_at + self.tool.timeout_seconds
        context = contextvars.copy_context()
        thread = threading.Thread(
            target=context.run,
            args=(self._run, self.tool),
            name=f"tool-{self.call.id}",
            daemon=True,
        )
        try:
            thread.start()
        except RuntimeError as error:  # the system has no more threads
            self.fail("RuntimeError", str(error))

    def fail(self, kind: str, message: str) -> None:
        """Give the call up with an error result."""
        self.result = self._result(error_content(kind, message), is_error=True)
        self.stop()

    def stop(self) -> None:
        """Ask the tool to end: at once where it is async, at its next yield where it yields."""
        self.stopped.set()
        if self.task is not None:
            loop, task = self.task
            with contextlib.suppress(RuntimeError):  # its loop has closed: it ended by itself
                loop.call_soon_threadsafe(task.cancel)

    def _result(self, content: JSON, *, is_error: bool) -> ToolResult:
        seconds = time.monotonic() - self.started_at
        return ToolResult(self.call.id, self.call.name, content, is_error, seconds)

    def _run(self, tool: Tool) -> None:
        """The thread's whole life. Nothing is raised out of it."""
        is_error = True
        try:
            arguments = tool.check(self.call.arguments)
        except ToolArgumentError as error:
            content = error_content("InvalidArguments", "; ".join(error.problems))
        except BaseException as error:  # a validator of the user's own types
            content = self._failure(error)
        else:
            try:
                _running.set(self)
                assert tool.function is not None
                value = self._value(tool.function(**arguments))
                is_error = isinstance(value, Failure)
                if isinstance(value, Failure):
                    value = value.content
                elif tool.result_converter is not None:
                    value = tool.result_converter(value)
                limit = min(tool.max_output_bytes, self.max_output_bytes or tool.max_output_bytes)
                content = content_of(value, limit)
            except BaseException as error:  # SystemExit too: a tool must not end the process
                content, is_error = self._failure(error), True
        self._say(self._result(content, is_error=is_error))

    def _failure(self, error: BaseException) -> JSON:
        _log.debug("tool %s failed", self.call.name, exc_info=error)
        kind = error.kind if isinstance(error, EngineError) else type(error).__name__
        try:
            message = str(error)
        except Exception:  # a user's __str__
            message = safe_repr(error)
        return error_content(kind, message)

    def _value(self, value: Any) -> Any:
        """What the function came to, once its generator or coroutine has run."""
        if inspect.isgenerator(value):
            return self._exhaust(value)
        if inspect.isawaitable(value) or inspect.isasyncgen(value):
            return asyncio.run(self._drive(value))
        return value

    def _exhaust(self, steps: Any) -> Any:
        last = None
        while not self.stopped.is_set():
            try:
                last = next(steps)
            except StopIteration as end:
                return last if end.value is None else end.value
            self.progress(last)
        steps.close()
        return last

    async def _drive(self, value: Any) -> Any:
        task = asyncio.current_task()
        assert task is not None
        self.task = (asyncio.get_running_loop(), task)
        if self.stopped.is_set():
            task.cancel()
        if not inspect.isasyncgen(value):
            return await value
        last = None
        async for last in value:
            self.progress(last)
            await asyncio.sleep(0)  # lets a cancel through
        return last

    def progress(self, value: Any) -> None:
        content = content_of(value, MAX_PROGRESS)
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
        self._say(ToolProgress(self.call.id, text))

    def _say(self, event: ToolProgress | ToolResult) -> None:
        """Put an event where `run_calls` finds it; waits while too many wait there already."""
        while not self.stopped.is_set():
            with contextlib.suppress(queue.Full):
                self.events.put((self, event), timeout=POLL_SECONDS)
                return


_Event = tuple[_Job, ToolProgress | ToolResult]
