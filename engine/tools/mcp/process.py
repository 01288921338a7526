"""A server as a process: started, its lines read within limits, ended with all that it started.

Knows pipes, lines and limits. Does not know what the lines say. The process itself is run by
`supervisor`, so that it ends also when we are killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from engine.errors import McpError
from engine.tools.mcp import supervisor
from engine.tools.mcp.config import ServerConfig
from engine.tools.mcp.limits import Limits
from engine.tools.result import clean

# What a server may see of our environment. The rest (keys, tokens) is given in `env` on purpose.
INHERITED: Final = (
    *("HOME", "LOGNAME", "USER", "SHELL", "PATH", "TERM", "TMPDIR", "TZ"),
    *("LANG", "LC_ALL", "LC_CTYPE", "SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS"),
    *("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR"),
)
_CHUNK: Final = 64 * 1024
_ENDING: Final = supervisor.GRACE + supervisor.PATIENCE + supervisor.LAST_RESORT + 0.5


def environment(config: ServerConfig) -> dict[str, str]:
    """What a server's process gets: the allow-list of ours, and all of its own."""
    ours = {name: os.environ[name] for name in INHERITED if name in os.environ}
    return ours | dict(config.env)


class Tail:
    """The last bytes of a stream that may be endless."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._data = bytearray()

    def add(self, data: bytes) -> None:
        self._data += data
        if len(self._data) > 2 * self._limit:
            del self._data[: -self._limit]

    @property
    def text(self) -> str:
        """Whole lines where something was cut off; control characters are replaced."""
        data = bytes(self._data[-self._limit :])
        if len(self._data) > len(data):
            data = data.partition(b"\n")[2] or data
        return clean(data.decode("utf-8", "replace"))


_Control = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class ServerProcess:
    """A running server. Made by `start`, ended by `end`; the loop that made it owns it."""

    def __init__(
        self,
        config: ServerConfig,
        limits: Limits,
        stderr: Tail,
        supervisor: asyncio.subprocess.Process,
        control: _Control,
    ) -> None:
        self.name = config.name
        self.pid: int | None = None
        self.stderr = stderr
        self._limits = limits
        self._supervisor = supervisor
        self._hears, self._control = control
        self._gone = asyncio.Event()  # the server's own process has ended
        self._ending = ""  # how it ended, in words
        self._listening = asyncio.create_task(self._listen())
        self._keeping = asyncio.create_task(self._keep())

    @classmethod
    async def start(cls, config: ServerConfig, limits: Limits, stderr: Tail) -> ServerProcess:
        """Start the command, without a shell. Raises McpError where there is none such."""
        env = environment(config)
        if config.cwd and not Path(config.cwd).is_dir():
            raise McpError(
                f"MCP server {config.name!r}: its cwd {config.cwd!r} is no directory",
                server=config.name,
                reason="missing",
            )
        program = _find(config, env)
        ours, theirs = socket.socketpair()
        try:
            control = await asyncio.open_connection(sock=ours)
        except BaseException:
            ours.close()
            theirs.close()
            raise
        with theirs:
            spawn = asyncio.ensure_future(
                asyncio.create_subprocess_exec(
                    *(sys.executable, "-I", "-S", supervisor.__file__, str(theirs.fileno())),
                    *(program, *config.args),
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.PIPE,
                    env=env,
                    cwd=config.cwd or None,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                )
            )
            try:
                return cls(config, limits, stderr, await asyncio.shield(spawn), control)
            except asyncio.CancelledError:  # what has begun to start is ended as ever
                started = await spawn
                theirs.close()  # or its end would not be heard
                await cls(config, limits, stderr, started, control).end()
                raise
            except (OSError, ValueError) as error:
                control[1].close()
                raise McpError(
                    f"MCP server {config.name!r}: can't be started ({error})",
                    server=config.name,
                    reason="missing",
                ) from error

    async def _listen(self) -> None:
        """What the supervisor says, until it is gone."""
        with contextlib.suppress(OSError):
            while line := await self._hears.readline():
                word, _, rest = line.decode("utf-8", "replace").strip().partition(" ")
                if word == "pid":
                    self.pid = int(rest)
                elif word == "failed":
                    self._ending = f"can't be started ({rest})"
                elif word == "exit" and not self._ending:
                    self._ending = _in_words(int(rest))
                if word == "exit":
                    self._gone.set()
        if self.pid is not None and not self._gone.is_set():
            # Somebody killed the supervisor. It can't clean up any more, so we do.
            with contextlib.suppress(OSError):
                os.killpg(self.pid, signal.SIGKILL)
        self._ending = self._ending or "was killed"
        self._gone.set()

    async def _keep(self) -> None:
        assert self._supervisor.stderr is not None
        while data := await self._supervisor.stderr.read(_CHUNK):
            self.stderr.add(data)

    @property
    def ending(self) -> str:
        """How the process ended, in words: `ended with exit code 1`. Empty while it runs."""
        return self._ending

    async def lines(self) -> AsyncGenerator[bytes]:
        """Its lines on stdout, until it ends or closes stdout.

        Raises McpError for a line over the limit. What a server that has ended wrote before is
        read for a moment more, and not until a child of its closes the pipe.
        """
        assert self._supervisor.stdout is not None
        reader, limit = self._supervisor.stdout, self._limits.line_bytes
        held = bytearray()
        gone = asyncio.create_task(self._gone.wait())
        try:
            while data := await self._read(reader, gone):
                start = len(held)
                held += data
                while (end := held.find(b"\n", start)) >= 0:
                    line = bytes(held[:end])
                    del held[: end + 1]
                    start = 0
                    if len(line) > limit:
                        self._too_long(limit)
                    yield line
                if len(held) > limit:
                    self._too_long(limit)
        finally:
            gone.cancel()

    async def _read(self, reader: asyncio.StreamReader, gone: asyncio.Task[bool]) -> bytes:
        read = asyncio.create_task(reader.read(_CHUNK))
        try:
            await asyncio.wait({read, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not read.done():
                await asyncio.wait({read}, timeout=self._limits.drain_seconds)
            return read.result() if read.done() else b""
        finally:
            read.cancel()

    def _too_long(self, limit: int) -> None:
        raise McpError(
            f"MCP server {self.name!r}: sent a line of over {limit} bytes, the longest allowed; "
            "the connection was dropped",
            server=self.name,
            reason="line_too_long",
        )

    async def settled(self) -> None:
        """Wait a moment for how it ended, and for the last of stderr."""
        await asyncio.wait({self._listening, self._keeping}, timeout=self._limits.drain_seconds)

    async def write(self, data: bytes) -> None:
        """Write to its stdin. Raises ConnectionError once it doesn't read any more."""
        assert self._supervisor.stdin is not None
        self._supervisor.stdin.write(data)
        await self._supervisor.stdin.drain()

    async def end(self) -> None:
        """End it with all it started: stdin closed, then SIGTERM, then SIGKILL. Within 5 s.

        Goes on to its end also where the task that waits for it is cancelled.
        """
        ending = asyncio.create_task(self._end())
        cancelled: asyncio.CancelledError | None = None
        while not ending.done():
            try:
                await asyncio.shield(ending)
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled

    async def _end(self) -> None:
        assert self._supervisor.stdin is not None
        self._supervisor.stdin.close()
        with contextlib.suppress(OSError):
            self._control.write_eof()
        # Its socket closes with the supervisor. `wait` of asyncio would want the pipes closed too,
        # which a process that got away may hold.
        await asyncio.wait({self._listening}, timeout=_ENDING)
        if not self._listening.done():
            self.kill()
        deadline = asyncio.get_running_loop().time() + 1.0
        while self._supervisor.returncode is None and deadline > asyncio.get_running_loop().time():
            await asyncio.sleep(0.005)  # until it is collected
        for task in (self._listening, self._keeping):
            task.cancel()
        await asyncio.gather(self._listening, self._keeping, return_exceptions=True)
        self._close()
        await asyncio.sleep(0)  # the pipes close in the loop's next round

    def kill(self) -> None:
        """End it at once, without asking."""
        with contextlib.suppress(OSError):
            if self.pid is not None and not self._gone.is_set():
                os.killpg(self.pid, signal.SIGKILL)
        with contextlib.suppress(OSError, ProcessLookupError):
            self._supervisor.kill()

    def _close(self) -> None:
        """Close the pipes, which a process that got away may hold open at the other end."""
        self._control.close()
        transport = getattr(self._supervisor, "_transport", None)
        if transport is not None:
            transport.close()


def _find(config: ServerConfig, env: Mapping[str, str]) -> str:
    """The program's path. A command with a slash is taken as it is, from the server's cwd."""
    command = config.command
    found = shutil.which(command, path=env.get("PATH", os.defpath)) if "/" not in command else None
    if found is not None:
        return found
    if "/" in command and os.access(Path(config.cwd or ".") / command, os.X_OK):
        return command
    problem = f"there is no program {command!r}"
    if "/" in command and (Path(config.cwd or ".") / command).exists():
        problem = f"{command!r} may not be executed; chmod +x, or name its interpreter"
    elif " " in command:
        problem += "; put what follows the name into args"
    elif close := get_close_matches(command, _programs(env), 1, 0.75):
        problem += f"; did you mean {close[0]!r}?"
    raise McpError(f"MCP server {config.name!r}: {problem}", server=config.name, reason="missing")


def _programs(env: Mapping[str, str]) -> set[str]:
    names: set[str] = set()
    for folder in env.get("PATH", os.defpath).split(os.pathsep):
        with contextlib.suppress(OSError):
            names.update(os.listdir(folder))
    return names


def _in_words(status: int) -> str:
    if status >= 0:
        return f"ended with exit code {status}"
    with contextlib.suppress(ValueError):
        return f"was ended by {signal.Signals(-status).name}"
    return f"was ended by signal {-status}"
