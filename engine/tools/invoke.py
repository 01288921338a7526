"""One call of one tool: arguments checked, the function run to its end, its value made JSON.

Knows tools, generators and coroutines. Does not know threads, processes or other calls: it runs
where it is called, and the same in a thread of the engine as in a child process.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import json
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.errors import EngineError, ToolArgumentError
from engine.messages import JSON
from engine.tools.result import Failure, clean, content_of, safe_repr
from engine.tools.tool import Tool

MAX_MESSAGE = 500  # characters of an error, as the model is told it
MAX_PROGRESS = 2_000  # bytes of one progress event

_log = logging.getLogger("engine.tools")
_running: contextvars.ContextVar[Invocation] = contextvars.ContextVar("running")


def report(progress: object) -> None:
    """Say, from inside a tool, how far it is. Outside of one it does nothing."""
    invocation = _running.get(None)
    if invocation is not None:
        invocation.progress(progress)


def error_content(kind: str, message: str) -> JSON:
    """What a model is told of a failure, at most MAX_MESSAGE characters of it."""
    message = clean(message)
    if len(message) > MAX_MESSAGE:
        message = message[: MAX_MESSAGE - 1] + "…"
    return {"error": {"type": kind, "message": message}}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call came to, as the model is given it."""

    content: JSON
    is_error: bool = False


def failed(kind: str, message: str) -> Outcome:
    return Outcome(error_content(kind, message), is_error=True)


def failure_of(error: BaseException, tool: str) -> Outcome:
    """An exception as an outcome; its traceback goes to the debug log alone."""
    _log.debug("tool %s failed", tool, exc_info=error)
    kind = error.kind if isinstance(error, EngineError) else type(error).__name__
    try:
        message = str(error)
    except Exception:  # a user's __str__
        message = safe_repr(error)
    return failed(kind, message)


@dataclass(eq=False)
class Invocation:
    """A call that runs in this process. `run` once; `stop` from any thread."""

    tool: Tool
    arguments: Mapping[str, Any]
    max_bytes: int
    on_progress: Callable[[str], None]
    on_begin: Callable[[], None] = lambda: None  # the arguments fit, the function is next
    _stopped: threading.Event = field(default_factory=threading.Event)
    _task: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None

    def run(self) -> Outcome:
        """Nothing is raised, SystemExit included: a tool must not end the process."""
        tool = self.tool
        try:
            arguments = tool.check(self.arguments)
        except ToolArgumentError as error:
            return failed("InvalidArguments", "; ".join(error.problems))
        except BaseException as error:  # a validator of the user's own types
            return failure_of(error, tool.name)
        try:
            self.on_begin()
            _running.set(self)
            assert tool.function is not None
            value = self._value(tool.function(**arguments))
            is_error = isinstance(value, Failure)
            if isinstance(value, Failure):
                value = value.content
            elif tool.result_converter is not None:
                value = tool.result_converter(value)
            return Outcome(content_of(value, self.max_bytes, spill=True), is_error)
        except BaseException as error:
            return failure_of(error, tool.name)

    def stop(self) -> None:
        """Ask the tool to end: at once where it is async, at its next yield where it yields."""
        self._stopped.set()
        if self._task is not None:
            loop, task = self._task
            with contextlib.suppress(RuntimeError):  # its loop has closed: it ended by itself
                loop.call_soon_threadsafe(task.cancel)

    def progress(self, value: object) -> None:
        content = content_of(value, MAX_PROGRESS)
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
        self.on_progress(text)

    def _value(self, value: Any) -> Any:
        """What the function came to, once its generator or coroutine has run."""
        if inspect.isgenerator(value):
            return self._exhaust(value)
        if inspect.isawaitable(value) or inspect.isasyncgen(value):
            return asyncio.run(self._drive(value))
        return value

    def _exhaust(self, steps: Any) -> Any:
        last = None
        while not self._stopped.is_set():
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
        self._task = (asyncio.get_running_loop(), task)
        if self._stopped.is_set():
            task.cancel()
        if not inspect.isasyncgen(value):
            return await value
        last = None
        async for last in value:
            self.progress(last)
            await asyncio.sleep(0)  # lets a cancel through
        return last
