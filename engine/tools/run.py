"""Run tool calls side by side and give their results in order.

Knows calls, tools, threads and time. Does not know models, prompts or who may run what.
A tool runs in a daemon thread of this process: one that hangs is given up, not killed, and keeps
its thread until it returns. Async tools are cancelled, generators are closed at their next yield.
An isolated tool runs in a child process, which is killed; its thread only listens.
"""

from __future__ import annotations

import contextlib
import contextvars
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Protocol

from engine.events import ToolProgress, ToolResult
from engine.messages import Call
from engine.tools.invoke import Invocation, Outcome, failed
from engine.tools.tool import Tool

MAX_PARALLEL = 16
POLL_SECONDS = 0.05  # how often `cancelled` is asked
START_SECONDS = 30.0  # for a child process to start and to import the tool's file
_BACKLOG = 256  # progress events that may wait before a generator is held up


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
            job.fail("Timeout", job.overdue)


def _unknown(name: str, tools: Mapping[str, Tool]) -> str:
    close = get_close_matches(name, tools, 1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"there is no tool {name[:80]!r}; {hint}the tools are: {', '.join(tools) or 'none'}"


class _Running(Protocol):
    """A call under way, here or in a child process."""

    def run(self) -> Outcome: ...
    def stop(self) -> None: ...


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
    overdue: str = ""  # what the model is told at `ends_at`
    stopped: threading.Event = field(default_factory=threading.Event)
    _running: _Running | None = None

    @property
    def is_running(self) -> bool:
        return self.is_started and self.result is None

    def start(self) -> None:
        assert self.tool is not None
        self.is_started = True
        self.started_at = time.monotonic()
        self._running = self._prepared(self.tool)
        context = contextvars.copy_context()
        thread = threading.Thread(
            target=context.run,
            args=(self._run, self._running),
            name=f"tool-{self.call.id}",
            daemon=True,
        )
        try:
            thread.start()
        except RuntimeError as error:  # the system has no more threads
            self.fail("RuntimeError", str(error))

    def _prepared(self, tool: Tool) -> _Running:
        """The call, and its time: an isolated tool's own begins when its process is ready."""
        cap = min(tool.max_output_bytes, self.max_output_bytes or tool.max_output_bytes)
        if not tool.is_isolated:
            self._begin()
            return Invocation(tool, self.call.arguments, cap, self._progress)
        from engine.tools.isolated import IsolatedCall

        self.ends_at = self.started_at + START_SECONDS
        self.overdue = f"its process was not ready after {START_SECONDS:g} s"
        return IsolatedCall(tool, self.call.arguments, cap, self._progress, self._begin)

    def _begin(self) -> None:
        """The tool's own time begins now."""
        assert self.tool is not None
        seconds = self.tool.timeout_seconds
        self.overdue = f"timeout after {seconds:g} s" if seconds is not None else ""
        self.ends_at = float("inf") if seconds is None else time.monotonic() + seconds

    def fail(self, kind: str, message: str) -> None:
        """Give the call up with an error result."""
        self.result = self._result(failed(kind, message))
        self.stop()

    def stop(self) -> None:
        """Ask the tool to end, or end its process."""
        self.stopped.set()
        if self._running is not None:
            self._running.stop()

    def _result(self, outcome: Outcome) -> ToolResult:
        seconds = time.monotonic() - self.started_at
        return ToolResult(self.call.id, self.call.name, outcome.content, outcome.is_error, seconds)

    def _run(self, running: _Running) -> None:
        """The thread's whole life. Nothing is raised out of it."""
        self._say(self._result(running.run()))

    def _progress(self, text: str) -> None:
        self._say(ToolProgress(self.call.id, text))

    def _say(self, event: ToolProgress | ToolResult) -> None:
        """Put an event where `run_calls` finds it; waits while too many wait there already."""
        while not self.stopped.is_set():
            with contextlib.suppress(queue.Full):
                self.events.put((self, event), timeout=POLL_SECONDS)
                return


_Event = tuple[_Job, ToolProgress | ToolResult]
