"""The child process of an isolated tool: waits for one call, runs it, answers, ends.

Knows one socket, one call and signals. Does not know the process that asks, nor models: a tool's
file that loads one is refused. The process leads a session and group of its own. A watcher in
that group, which no tool can hold up, kills all of it as soon as the asking process is gone.
"""

from __future__ import annotations

import atexit
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from types import FrameType, ModuleType
from typing import Any

from engine.errors import ToolError
from engine.tools import frames, isolated, spill
from engine.tools.declare import as_tool, tool
from engine.tools.identity import RAN, file_hash
from engine.tools.invoke import Invocation, Outcome, failed, failure_of
from engine.tools.load import module_from_file
from engine.tools.reference import Reference, find, load
from engine.tools.tool import Tool

# `read` ends when the last writer of its pipe is gone; then the shell kills its own group.
_WATCH = "trap '' HUP INT TERM; read -r line; kill -KILL 0"
_LLAMA = "engine.llama"


def main() -> None:
    """`python -c ... CHANNEL LIFELINE`: descriptors of the socket and of the pipe to watch."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    _watch(int(sys.argv[2]))
    signal.signal(signal.SIGTERM, _end)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace", line_buffering=True)  # type: ignore[union-attr]
    as_tool(_warm)
    sys.argv[:] = sys.argv[:1]
    request = frames.receive(channel)
    if request is None:
        return
    say = partial(_say, channel)
    outcome = _run(request, say)
    say({"content": outcome.content, "is_error": outcome.is_error})


def _warm(text: str) -> str:
    """Declared while nobody waits: the first tool takes Pydantic 20 ms, the next ones 1 ms."""
    return text


def _watch(lifeline: int) -> None:
    shell = ["/bin/sh", "-c", _WATCH]
    quiet = subprocess.DEVNULL
    watcher = subprocess.Popen(shell, stdin=lifeline, stdout=quiet, stderr=quiet)
    os.close(lifeline)

    def dismiss() -> None:  # runs last of all: what is registered first
        watcher.kill()
        watcher.wait()

    atexit.register(dismiss)


def _end(number: int, frame: FrameType | None) -> None:
    """SIGTERM unwinds the tool, so that its `finally` blocks run."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(128 + number)


def _say(channel: socket.socket, message: dict[str, Any]) -> None:
    try:
        channel.sendall(frames.encode(message))
    except OSError:  # nobody listens any more
        raise SystemExit(1) from None


def _run(request: dict[str, Any], say: Callable[[dict[str, Any]], None]) -> Outcome:
    try:
        os.environ.clear()
        os.environ.update(request["env"])
        sys.path[:] = request["path"]
        os.chdir(request["folder"])
        if request["spill"]:
            spill.use(request["spill"])
        reference = Reference(**request["reference"])
        _check_file(reference, request["sha256"])  # before any of it runs
        module = _module(reference)
        _check_file(reference, request["sha256"], getattr(module, RAN, None))
        found = _tool(reference, module, request["tool"])
    except BaseException as error:  # the file's own code ran
        return _not_loaded(error, request["tool"])
    return Invocation(
        found,
        request["arguments"],
        request["max_bytes"],
        on_progress=lambda text: say({"progress": text}),
        on_begin=lambda: say({"begun": True}),
    ).run()


def _check_file(reference: Reference, wanted: str | None, found: str | None = None) -> None:
    """What was agreed to is the file as it was; None where it could not be read then either."""
    if wanted is None or reference.file is None:
        return
    if (found or file_hash(os.path.realpath(reference.file))) != wanted:
        raise ToolError(
            f"{reference.file}: the file changed since it was loaded, and is not run; "
            "restart, or load it again",
            path=reference.file,
        )


def _module(reference: Reference) -> ModuleType:
    """The module that a reference names, loaded anew."""
    # A script without `if __name__ == "__main__"` would load its model in every child.
    sys.modules[_LLAMA] = None  # type: ignore[assignment]
    isolated.is_loading = True  # nor would such a script come to an end
    module = load(reference, module_from_file)
    isolated.is_loading = False
    return module


def _tool(reference: Reference, module: ModuleType, name: str) -> Tool:
    """The tool that a reference names."""
    found = find(reference, module)
    function: Any = found.function if isinstance(found, Tool) else found
    for value in (found, *vars(module).values()):  # `other = tool(isolate=True)(function)`
        if isinstance(value, Tool) and value.name == name and value.function is function:
            return value
    return tool(name=name)(partial(function, **reference.fixed) if reference.fixed else function)


def _not_loaded(error: BaseException, name: str) -> Outcome:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ImportError) and cause.name == _LLAMA:
            return failed(
                ToolError.__name__,
                "the file of an isolated tool is loaded again in the tool's process, and may not "
                "load a model there; put that under `if __name__ == '__main__':`",
            )
        cause = cause.__cause__ or cause.__context__
    return failure_of(error, name)
