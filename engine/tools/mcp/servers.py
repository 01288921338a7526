"""All servers of a session: started side by side, called from any thread, started again, ended.

Knows states, restarts and who waits for whom. Does not know the protocol (`client`) nor processes
(`process`). One background thread runs the event loop in which everything here happens.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, Self

from engine.errors import McpError
from engine.events import Notice
from engine.tools.mcp.calls import Heard, call_from_here
from engine.tools.mcp.config import ServerConfig
from engine.tools.mcp.definitions import Offer, server_part, tools_of
from engine.tools.mcp.limits import Backoff, Limits
from engine.tools.mcp.process import Tail
from engine.tools.mcp.results import value_of
from engine.tools.tool import Tool

if TYPE_CHECKING:
    from engine.tools.mcp.client import Connection

State = Literal["starting", "up", "restarting", "down", "disabled", "closed"]
CLOSE_SECONDS = 6.0  # for all of them; what a server's processes get is less

_log = logging.getLogger("engine.tools")
_LIBRARIES = ("mcp", "mcp_types", "anyio", "httpx2")


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """What is known of a server at one moment. `reason` says why it is not up.

    `server` is its own name and version, `stderr` the end of what it wrote there.
    """

    name: str
    state: State
    tools: tuple[str, ...] = ()
    reason: str = ""
    stderr: str = ""
    pid: int | None = None
    protocol: str = ""
    server: str = ""
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class Clock:
    """Time as restarts see it."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


class McpServers:
    """Servers as a source of tools. A context manager: entering starts them, leaving ends them.

    Entering waits until each is up or has failed, `start_seconds` of its configuration at the
    most; one that failed is `down` in `status()`, and the others work. Raises McpError only where
    the package mcp is missing or two servers would share a name. `on_change` is called, in the
    background thread, whenever a list of tools has become another one; `version` then grows.
    """

    def __init__(
        self,
        configs: Sequence[ServerConfig],
        *,
        limits: Limits = Limits(),
        clock: Clock = Clock(),
        on_change: Callable[[], None] | None = None,
    ) -> None:
        _check_names(configs)
        self._on_change = on_change
        self._version = 0
        self._lock = threading.Lock()
        self._notices: list[Notice] = []
        self._loop: asyncio.AbstractEventLoop | None = None  # while it is entered
        self._thread = threading.Thread(target=self._run, name="mcp", daemon=True)
        self._servers = [_Server(config, limits, clock, self) for config in configs]

    def __enter__(self) -> Self:
        _check_package()
        self._loop = asyncio.new_event_loop()
        self._thread.start()
        try:
            self._wait(self._start())
        except BaseException:  # Ctrl-C too: nothing may be left behind
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # What there is

    @property
    def version(self) -> int:
        """Grows whenever `tools()` has become another list."""
        return self._version

    def tools(self) -> list[Tool]:
        """The tools of all servers, in the order of servers. A server that is lost keeps its own:
        calls say what became of it."""
        with self._lock:
            return [tool for server in self._servers for tool in server.offer.tools]

    def status(self) -> list[ServerStatus]:
        """One value for each server, in their order."""
        return [server.status() for server in self._servers]

    def take_notices(self) -> list[Notice]:
        """What a person should know and was not told yet."""
        with self._lock:
            taken, self._notices = self._notices, []
        return taken

    # What happens

    def close(self) -> None:
        """End all servers and what they started. Can be called again. Takes 4 s at the worst."""
        loop = self._loop
        if loop is None or not self._thread.is_alive():
            return
        try:
            self._wait(self._stop())
        except BaseException:  # Ctrl-C again: they are ended without being asked
            for server in self._servers:
                server.kill()
            self._wait(self._stop())
            raise
        finally:
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        """The thread's whole life."""
        loop = self._loop
        assert loop is not None
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        finally:
            for task in asyncio.all_tasks(loop):
                task.cancel()
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    def _wait(self, work: Coroutine[Any, Any, None]) -> None:
        """Until the background thread has done it; a signal's exception comes out at once."""
        assert self._loop is not None
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        while True:
            with contextlib.suppress(TimeoutError):
                return future.result(timeout=0.2)  # short: signals are looked at in between
            if future.done():
                return future.result()

    async def _start(self) -> None:
        for server in self._servers:
            server.task = asyncio.create_task(server.run())
        for server in self._servers:
            await server.decided.wait()

    async def _stop(self) -> None:
        tasks = [task for server in self._servers if (task := server.end()) is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_SECONDS)
        for server in self._servers:
            server.close()
        # Calls under way have been told by now; what is left would wait for ever.
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for other in others:
            other.cancel()
        if others:
            await asyncio.wait(others, timeout=1.0)

    def changed(self, server: _Server, offer: Offer) -> None:
        """A server has read its list of tools anew."""
        with self._lock:
            before = [(tool.name, tool.definition_hash) for tool in server.offer.tools]
            after = [(tool.name, tool.definition_hash) for tool in offer.tools]
            server.offer = offer
            self._notices += [each for each in offer.notices if each not in server.told]
            server.told += [each for each in offer.notices if each not in server.told]
            if before == after:
                return
            self._version += 1
        if self._on_change is not None:
            try:
                self._on_change()
            except Exception:  # somebody else's code must not cost the connection
                _log.exception("on_change failed")

    def function_of(self, server: _Server) -> Callable[[str], Callable[..., Any]]:
        """Functions for a server's tools: coroutines for whichever loop a call is run by."""

        def of(remote: str) -> Callable[..., Any]:
            async def call(**arguments: Any) -> Any:
                assert self._loop is not None
                return await call_from_here(
                    self._loop,
                    lambda heard: server.call(remote, arguments, heard),
                    server.config.name,
                )

            return call

        return of


@dataclass(eq=False)
class _Server:
    """One server and its one task, `run`. All methods but `status` belong to the loop."""

    config: ServerConfig
    limits: Limits
    clock: Clock
    owner: McpServers
    task: asyncio.Task[None] | None = None
    decided: asyncio.Event = field(default_factory=asyncio.Event)  # how the first start went
    offer: Offer = field(default_factory=Offer)
    told: list[Notice] = field(default_factory=list)
    _state: State = "starting"
    _was_up: bool = False
    _is_ending: bool = False
    _reason: str = ""
    _restarts: int = 0
    _connection: Connection | None = None
    _settled: asyncio.Event = field(default_factory=asyncio.Event)  # calls need not wait
    _changed: asyncio.Event = field(default_factory=asyncio.Event)  # its list of tools has
    _stderr: Tail = field(init=False)

    def __post_init__(self) -> None:
        self._stderr = Tail(self.limits.stderr_bytes)

    def status(self) -> ServerStatus:
        connection = self._connection
        process = connection.process if connection is not None else None
        return ServerStatus(
            name=self.config.name,
            state=self._state,
            tools=tuple(tool.name for tool in self.offer.tools),
            reason=self._reason,
            stderr=self._stderr.text,
            pid=process.pid if process is not None else None,
            protocol=connection.protocol if connection is not None else "",
            server=connection.server if connection is not None else "",
            restarts=self._restarts,
        )

    async def run(self) -> None:
        """Its life: started, served, started again while that makes sense."""
        if self.config.is_disabled:
            self._settle("disabled")
            return
        if self.config.problem:
            self._settle("down", f"MCP server {self.config.name!r}: {self.config.problem}")
            return
        backoff = Backoff(self.limits)
        while True:
            error = await self._live()
            if self._is_ending:  # the cancel may have met a connection that broke, and got lost
                return
            wait = backoff.after(self.clock.now()) if self._was_up else None
            if wait is None:
                often = f"; {len(self.limits.restart_seconds)} restarts did not help"
                self._settle("down", error.message + (often if self._was_up else ""))
                return
            self._state, self._reason = "restarting", error.message
            self._settled.clear()
            await self.clock.sleep(wait)
            self._restarts += 1

    async def _live(self) -> McpError:
        """From its start to its end; answers why it ended."""
        from engine.tools.mcp.client import connected, explained

        try:
            async with connected(
                self.config, self.limits, self._stderr, self._changed.set
            ) as connection:
                self._connection = connection
                error = await self._begin(connection) or await self._serve(connection)
                self._lose(error)  # before its processes are ended, which takes its time
                return error
        except Exception as error:
            return explained(self.config, error, "starting")
        finally:
            self._connection = None

    async def _begin(self, connection: Connection) -> McpError | None:
        """Handshake and first list, within the time limit."""
        seconds = self.config.start_seconds
        try:
            async with asyncio.timeout(seconds):
                await connection.open()
                await self._read_tools(connection)
        except TimeoutError:
            return McpError(
                f"MCP server {self.config.name!r}: did not answer within {seconds:g} s"
                f"{self._hints(connection)}; where it needs longer (npx downloads at the first "
                "start), set startup_timeout_sec",
                server=self.config.name,
                reason="no_answer",
            )
        except McpError as error:
            hints = self._hints(connection)
            return McpError(error.message + hints, **error.data)
        self._was_up = True
        self._settle("up")
        return None

    def _hints(self, connection: Connection) -> str:
        """What it wrote where nobody looked."""
        last = self._stderr.text.strip().rpartition("\n")[2][:200]
        stderr = f"stderr ends: {last}" if last else ""
        found = "; ".join(text for text in (connection.junk, stderr) if text)
        return f" ({found})" if found else ""

    async def _serve(self, connection: Connection) -> McpError:
        """Until it is lost; the list of tools is read again whenever it changes."""
        lost = asyncio.create_task(connection.lost.wait())
        try:
            while True:
                changed = asyncio.create_task(self._changed.wait())
                await asyncio.wait({lost, changed}, return_when=asyncio.FIRST_COMPLETED)
                changed.cancel()
                if lost.done():
                    return lost.result()
                self._changed.clear()
                with contextlib.suppress(McpError, TimeoutError):  # lost, or the old list stays
                    async with asyncio.timeout(self.config.start_seconds):
                        await self._read_tools(connection)
                await asyncio.wait({lost}, timeout=self.limits.reread_seconds)
        finally:
            lost.cancel()

    async def _read_tools(self, connection: Connection) -> None:
        definitions, refused = await connection.tools(self.limits)
        offer = tools_of(self.config, definitions, self.owner.function_of(self))
        name = self.config.name
        notices = [Notice(f"MCP server {name!r}: {text}", {"server": name}) for text in refused]
        self.owner.changed(self, Offer(offer.tools, (*offer.notices, *notices)))

    async def call(self, tool: str, arguments: dict[str, Any], heard: Heard) -> Any:
        """Call one of its tools. Waits where it is being started again; nothing is sent twice."""
        await self._settled.wait()
        connection = self._connection
        if connection is None or self._state != "up":
            raise McpError(
                f"MCP server {self.config.name!r} is {self._state}: {self._reason}",
                server=self.config.name,
                reason="down",
            )
        return value_of(await connection.call(tool, arguments, heard))

    def _lose(self, error: McpError) -> None:
        if self._was_up:
            self._state, self._reason = "restarting", error.message
            self._settled.clear()
        else:
            self._settle("down", error.message)

    def _settle(self, state: State, reason: str = "") -> None:
        self._state, self._reason = state, reason
        self._settled.set()
        self.decided.set()

    def end(self) -> asyncio.Task[None] | None:
        """Ask its task to end; answers the task."""
        self._is_ending = True
        if self.task is not None:
            self.task.cancel()
        return self.task

    def close(self) -> None:
        self._settle("closed", self._reason or "the session is over")

    def kill(self) -> None:
        connection = self._connection
        if connection is not None and connection.process is not None:
            connection.process.kill()


def _check_names(configs: Sequence[ServerConfig]) -> None:
    names: dict[str, ServerConfig] = {}
    for config in configs:
        part = server_part(config.name)
        if part in names:
            other = names[part]
            raise McpError(
                f"{config.source or 'MCP'}: servers {other.name!r} and {config.name!r} would both "
                f"be {part!r} to the model; rename one of them",
                server=config.name,
                reason="config",
            )
        names[part] = config


def _check_package() -> None:
    try:
        import_module("engine.tools.mcp.client")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _LIBRARIES:
            raise
        raise McpError(
            "MCP servers need the package mcp; pip install 'engine-gguf[mcp]'", reason="package"
        ) from error
