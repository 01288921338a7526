"""Calls that run in a child process of their own, which can be killed.

Knows processes, groups and pipes. Does not know what a tool does or who may run it. A process
takes 0.2 s to start, so one is kept ahead (`_spare`) and waits for the next call. None outlives
this process, even one that is killed: see `worker`.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import json
import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from engine.tools import frames, spill
from engine.tools.invoke import Outcome, failed
from engine.tools.reference import reference_to
from engine.tools.result import clean
from engine.tools.tool import Tool

GRACE_SECONDS = 2.0  # between SIGTERM and SIGKILL, and for a process that has answered
OUTPUT_BYTES = 64 * 1024  # of what a tool prints, the last are kept
_SHOWN = 200  # characters of it in an error result
_SMALLEST_FRAME = 64 * 1024

# What a child gets of our environment, besides the names that its tool asks for.
ENVIRONMENT = frozenset(
    {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TERM"}
    | {"PYTHONPATH", "PYTHONHOME", "PYTHONUTF8", "PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV"}
    | {"LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR"}
    | {"ENGINE_TOOLS_ROOT"}
)
_BOOT = """\
import json, sys
sys.path[:] = json.loads(sys.argv.pop(1))
from engine.tools.worker import main
main()
"""

_log = logging.getLogger("engine.tools")


def environment(asked: tuple[str, ...] = ()) -> dict[str, str]:
    """The part of our environment that a tool is given."""
    return {
        name: value
        for name, value in os.environ.items()
        if name in ENVIRONMENT or name in asked or name.startswith("LC_")
    }


@dataclasses.dataclass(eq=False)
class IsolatedCall:
    """A call that runs in a child process. `run` once; `stop` from any thread."""

    tool: Tool
    arguments: Mapping[str, Any]
    max_bytes: int
    on_progress: Callable[[str], None]
    on_begin: Callable[[], None]
    _lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)
    _child: _Child | None = None
    _is_stopped: bool = False

    def run(self) -> Outcome:
        """Nothing is raised: a process that can't start is an outcome as well."""
        try:
            if is_loading:
                raise RuntimeError("a tool's file calls tools while it is loaded")
            request = frames.encode(self._request())
            child = _take_child()
        except (OSError, ValueError, TypeError, LookupError, RuntimeError) as error:
            return failed(type(error).__name__, f"its process can't be started ({error})")
        with self._lock:
            self._child = child
        if self._is_stopped:
            child.end()
        try:
            child.channel.sendall(request)
            _start_spare()
            outcome = self._listen(child)
        except OSError:  # it died before it had read its call
            outcome = None
        except (ValueError, RecursionError) as error:  # the tool wrote into our socket
            child.kill()
            return failed("ToolDied", f"its process answered with nonsense ({error})")
        finally:
            with self._lock:
                self._child = None  # a call that has its answer is not stopped any more
            child.let_go()
        if outcome is None:
            return self._died(child)
        if child.output:
            _log.debug(
                "tool %s printed: %s", self.tool.name, child.output.decode("utf-8", "replace")
            )
        return outcome

    def stop(self) -> None:
        """End the process and its group: SIGTERM, and SIGKILL after GRACE_SECONDS."""
        with self._lock:
            self._is_stopped = True
            child = self._child
        if child is not None:
            child.end()

    def _request(self) -> dict[str, Any]:
        assert self.tool.function is not None
        return {
            "reference": dataclasses.asdict(reference_to(self.tool.function)),
            "tool": self.tool.name,
            "sha256": self.tool.file_hash,
            "arguments": _plain(self.arguments),
            "max_bytes": self.max_bytes,
            "env": environment(self.tool.env),
            "path": _path(),
            "folder": os.getcwd(),
            "spill": _spill_folder(),
        }

    def _listen(self, child: _Child) -> Outcome | None:
        """Its answer; None where it ends without one."""
        for message in child.messages(max(_SMALLEST_FRAME, 6 * self.max_bytes)):
            if "progress" in message:
                self.on_progress(str(message["progress"]))
            elif "begun" in message:
                self.on_begin()
            elif "content" in message:
                return Outcome(message["content"], message.get("is_error") is True)
        return None

    def _died(self, child: _Child) -> Outcome:
        status = child.wait()
        how = f"exit status {status}"
        if status < 0:
            with contextlib.suppress(ValueError):
                how = signal.Signals(-status).name
        said = child.output.decode("utf-8", "replace").strip()
        _log.debug("tool %s died (%s); it had printed: %s", self.tool.name, how, said)
        tail = f"; it had printed: {clean(said[-_SHOWN:])}" if said else ""
        return failed("ToolDied", f"its process ended with {how} before it had answered{tail}")


def _plain(arguments: object) -> object:
    return dict(arguments) if isinstance(arguments, Mapping) else arguments


def _path() -> list[str]:
    return [os.fspath(item) for item in sys.path]


def _spill_folder() -> str:
    try:
        return str(spill.folder())
    except OSError:  # no room for temporary files: results are cut all the same
        return ""


class _Child:
    """A process that waits for its call, and all that belongs to it."""

    def __init__(self) -> None:
        if not sys.executable:
            raise OSError("this Python doesn't know its own executable")
        self.channel, self._far = socket.socketpair()
        self._printed, stdout = os.pipe()
        self._output = bytearray()
        self._lock = threading.Lock()
        self._is_over = False
        self._reaped = threading.Event()
        self._timer: threading.Timer | None = None
        try:
            self._process = self._start(stdout)
        except BaseException:
            self._close()
            raise
        finally:
            os.close(stdout)
        _children.add(self)
        try:
            threading.Thread(target=self._reap, name="tool-reaper", daemon=True).start()
        except RuntimeError:  # the system has no more threads
            self.kill()
            self._reap()
            self._close()
            raise

    def _start(self, stdout: int) -> subprocess.Popen[bytes]:
        lifeline, far = _lifeline(), self._far.fileno()
        return subprocess.Popen(
            [sys.executable, "-P", "-c", _BOOT, json.dumps(_path()), str(far), str(lifeline)],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stdout,
            env=environment(),
            pass_fds=(far, lifeline),
            start_new_session=True,
        )

    @property
    def is_alive(self) -> bool:
        return not self._is_over

    @property
    def output(self) -> bytes:
        """The last of what it printed."""
        return bytes(self._output[-OUTPUT_BYTES:])

    def messages(self, max_bytes: int) -> Iterator[dict[str, Any]]:
        """What it says, until it ends; what it prints meanwhile is kept."""
        reader = frames.Reader(max_bytes)
        with selectors.DefaultSelector() as selector:
            selector.register(self.channel, selectors.EVENT_READ)
            selector.register(self._printed, selectors.EVENT_READ)
            while True:
                ready = {key.fd for key, _ in selector.select()}
                if self._printed in ready and not self._keep_output():
                    selector.unregister(self._printed)
                if self.channel.fileno() not in ready:
                    continue
                data = self.channel.recv(OUTPUT_BYTES)
                if not data:
                    break
                reader.feed(data)
                while (message := reader.next()) is not None:
                    yield message
        os.set_blocking(self._printed, False)  # a process that left the group may hold it open
        with contextlib.suppress(BlockingIOError):
            while self._keep_output():
                pass

    def _keep_output(self) -> bool:
        data = os.read(self._printed, OUTPUT_BYTES)
        self._output += data
        if len(self._output) > 2 * OUTPUT_BYTES:
            del self._output[:-OUTPUT_BYTES]
        return bool(data)

    def end(self) -> None:
        """Ask it to end, and make it after GRACE_SECONDS. Returns at once."""
        self._signal(signal.SIGTERM)
        self._kill_later()

    def let_go(self) -> None:
        """It has answered or died: what is left of it may take GRACE_SECONDS."""
        self._kill_later()
        self._close()

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def wait(self) -> int:
        """Its exit status, negative for a signal."""
        self._reaped.wait()
        return self._process.returncode

    def is_reaped(self, seconds: float) -> bool:
        """Whether it is gone; waits so long for it."""
        return self._reaped.wait(seconds)

    def _kill_later(self) -> None:
        with self._lock:
            if self._is_over or self._timer is not None:
                return
            timer = threading.Timer(GRACE_SECONDS, self.kill)
            timer.daemon = True
            try:
                timer.start()
                self._timer = timer
            except RuntimeError:  # the system has no more threads: no grace
                _signal_group(self._process.pid, signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        with self._lock:
            if not self._is_over:
                _signal_group(self._process.pid, number)

    def _reap(self) -> None:
        """Wait for its end; end its group with it. This thread's whole life."""
        if hasattr(os, "waitid"):
            # Not reaped yet: until it is, its number can't become another process's.
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        else:  # macOS before Python 3.13
            self._process.wait()
        with self._lock:
            self._is_over = True
            _signal_group(self._process.pid, signal.SIGKILL)
            if self._timer is not None:
                self._timer.cancel()
        self._process.wait()
        self._reaped.set()
        _children.discard(self)
        # Ends `messages`, behind all that was sent: also where a process that left the group
        # holds its end of the socket.
        with contextlib.suppress(OSError):
            self._far.shutdown(socket.SHUT_RDWR)

    def _close(self) -> None:
        self.channel.close()
        self._far.close()
        os.close(self._printed)


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: only zombies are left
        os.killpg(group, number)


# The one spare child, all children, and the pipe whose end tells them that we are gone.
_spare: _Child | None = None
_children: set[_Child] = set()
_pipe: tuple[int, int] | None = None
_lock = threading.Lock()

# Set by `worker` while a tool's file runs there: calls made at its top would never end.
is_loading = False


def _lifeline() -> int:
    global _pipe
    if _pipe is None:
        _pipe = os.pipe()
    return _pipe[0]


def _take_child() -> _Child:
    """The spare child, or a new one."""
    global _spare
    with _lock:
        child, _spare = _spare, None
        if child is not None and not child.is_alive:
            child.let_go()
            child = None
        return child or _Child()


def _start_spare() -> None:
    global _spare
    with _lock, contextlib.suppress(OSError, RuntimeError):  # the next call says what is wrong
        if _spare is None:
            _spare = _Child()


def prepare() -> None:
    """Start a child ahead, so that the first call need not wait for it. Returns at once."""
    _start_spare()


def close() -> None:
    """Kill every child, the spare one too. They come back with the next call."""
    global _spare
    with _lock:
        spare, _spare = _spare, None
        for child in list(_children):
            child.kill()
            child.is_reaped(GRACE_SECONDS)
        if spare is not None:
            spare.let_go()


def _forget() -> None:
    """In a fork of this process the children are not ours, and it must not keep them alive."""
    global _lock, _pipe, _spare
    _lock, _spare = threading.Lock(), None
    _children.clear()
    if _pipe is not None:
        for descriptor in _pipe:
            os.close(descriptor)
        _pipe = None


atexit.register(close)
os.register_at_fork(after_in_child=_forget)
