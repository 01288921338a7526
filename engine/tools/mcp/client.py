"""One connection to one server, through the official `mcp` package.

The only importer of mcp, mcp_types and anyio. Knows how a connection is opened, listed, called
and lost. Does not know how many servers there are, nor what is done when one is lost.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final

import anyio
import mcp_types as types
from mcp.client.session import ClientRequestContext, ClientSession, IncomingMessage
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp.shared.message import SessionMessage

from engine._version import __version__
from engine.errors import McpError
from engine.tools.mcp import web
from engine.tools.mcp.calls import Heard
from engine.tools.mcp.config import ServerConfig
from engine.tools.mcp.limits import Limits
from engine.tools.mcp.process import ServerProcess, Tail
from engine.tools.mcp.screen import Screen

_LEAVE_SECONDS: Final = 2.0  # for telling an HTTP server that its session is over
_CLOSED: Final = "Connection closed"  # what the library tells calls whose connection went away
_NO_HANDSHAKE: Final = (types.UNSUPPORTED_PROTOCOL_VERSION, types.METHOD_NOT_FOUND)

for _name in ("mcp", "client", "mcp_types"):  # its tracebacks are not for people at a terminal
    logging.getLogger(_name).addHandler(logging.NullHandler())


class Lost:
    """Whether the connection is gone, and why. The first reason is kept."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._event = anyio.Event()
        self.error: McpError | None = None
        self._noted: Exception | None = None

    def note(self, error: Exception) -> None:
        """Something broke on the wire; calls that find the connection closed then know why."""
        self._noted = error

    @property
    def cause(self) -> Exception | None:
        return self.error or self._noted

    def say(self, error: McpError | str) -> None:
        if isinstance(error, str):
            problem = f"MCP server {self._name!r}: {error}"
            error = McpError(problem, server=self._name, reason="closed")
        self.error = self.error or error
        self._event.set()

    async def wait(self) -> McpError:
        await self._event.wait()
        assert self.error is not None
        return self.error


class Connection:
    """A live connection. Every method may be called from any task of its loop."""

    def __init__(
        self, config: ServerConfig, session: ClientSession, screen: Screen, lost: Lost
    ) -> None:
        self.lost = lost
        self._config = config
        self._session = session
        self._screen = screen
        self.process: ServerProcess | None = None

    async def open(self) -> None:
        """Agree on a version. The handshake that every server knows comes first."""
        with self._explaining("starting"):
            try:
                await self._session.initialize()
            except MCPError as error:
                if error.code not in _NO_HANDSHAKE:
                    raise
                await self._session.discover()

    @property
    def protocol(self) -> str:
        return self._session.protocol_version or ""

    @property
    def server(self) -> str:
        """The server's own name and version."""
        info = self._session.server_info
        return f"{info.name} {info.version}" if info is not None else ""

    @property
    def junk(self) -> str:
        """What it printed to stdout that is no message, in words; empty where nothing."""
        count = self._screen.junk_lines
        return f"{count} lines on stdout are no messages: {self._screen.junk!r}" if count else ""

    async def tools(self, limits: Limits) -> tuple[list[dict[str, Any]], list[str]]:
        """The listed tools as plain values, and what was wrong with others."""
        found: list[dict[str, Any]] = []
        self._screen.refused.clear()
        capabilities = self._session.server_capabilities
        if capabilities is None or capabilities.tools is None:
            return [], []
        cursor: str | None = None
        with self._explaining("listing its tools"):
            for _ in range(limits.pages):
                params = types.PaginatedRequestParams(cursor=cursor) if cursor else None
                page = await self._session.list_tools(params=params)
                found += [tool.model_dump(by_alias=True, exclude_none=True) for tool in page.tools]
                cursor = page.next_cursor
                if not cursor or len(found) > limits.tools:
                    break
        refused = list(dict.fromkeys(self._screen.refused))
        if len(found) > limits.tools:
            refused.append(f"it lists over {limits.tools} tools; the rest is left out")
        return found[: limits.tools], refused

    async def call(
        self, name: str, arguments: Mapping[str, Any], on_progress: Heard
    ) -> dict[str, Any]:
        """Call a tool; its result as plain values. When cancelled, the server is told.

        Raises McpError where the server refuses the call or is lost. Nothing is tried again.
        """
        with self._explaining(f"calling {name!r}"):
            result = await self._session.call_tool(
                name, dict(arguments), progress_callback=on_progress
            )
            plain: dict[str, Any] = result.model_dump(by_alias=True, mode="json", exclude_none=True)
            return plain

    @contextlib.contextmanager
    def _explaining(self, doing: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            is_closed = isinstance(error, MCPError) and error.message == _CLOSED
            cause = self.lost.error or (self.lost.cause if is_closed else None)
            raise explained(self._config, cause or error, doing) from error


def explained(config: ServerConfig, error: BaseException, doing: str = "") -> McpError:
    """Whatever came out of the library, as an error for people."""
    while isinstance(error, BaseExceptionGroup):
        inner = [each for each in error.exceptions if not isinstance(each, MCPError)]
        error = (inner or error.exceptions)[0]
    if isinstance(error, McpError):
        return error
    while_doing = f" (while {doing})" if doing else ""
    start = f"MCP server {config.name!r}: "
    if isinstance(error, MCPError):
        is_closed = error.code == types.CONNECTION_CLOSED
        reason = "closed" if is_closed else "refused"
        problem = f"{error.message}{while_doing}"
        return McpError(start + problem, server=config.name, reason=reason, code=error.code)
    if isinstance(error, Exception) and (problem := web.describe(error)):
        return McpError(start + problem, server=config.name, reason="unreachable")
    problem = " ".join(str(error).split())[:300]
    return McpError(
        f"{start}does not keep to the protocol{while_doing}: {type(error).__name__}: {problem}",
        server=config.name,
        reason="protocol",
    )


class _Session(ClientSession):
    async def validate_tool_result(self, name: str, result: types.CallToolResult) -> None:
        """Nothing: a stranger's schema may hold patterns that take hours to match."""


async def _no_roots(context: ClientRequestContext) -> types.ListRootsResult:
    return types.ListRootsResult(roots=[])


@asynccontextmanager
async def connected(
    config: ServerConfig,
    limits: Limits,
    stderr: Tail,
    on_tools_changed: Callable[[], None],
) -> AsyncIterator[Connection]:
    """A connection that is not opened yet. At its end the server's process is ended too."""
    screen = Screen(config.name, limits, time.monotonic)
    lost = Lost(config.name)

    async def heard(message: IncomingMessage) -> None:
        if isinstance(message, types.ToolListChangedNotification):
            on_tools_changed()

    transport = _over_http if config.url else _over_stdio
    async with transport(config, limits, stderr, screen, lost) as (read, write, process):
        # No callbacks for sampling and elicitation: the library refuses them, and as abilities
        # they are not announced.
        session = _Session(
            read,
            write,
            list_roots_callback=_no_roots,
            message_handler=heard,
            client_info=types.Implementation(name="engine", version=__version__),
        )
        async with session:
            connection = Connection(config, session, screen, lost)
            connection.process = process
            yield connection


_Streams = tuple[Any, Any, ServerProcess | None]


@asynccontextmanager
async def _over_stdio(
    config: ServerConfig, limits: Limits, stderr: Tail, screen: Screen, lost: Lost
) -> AsyncIterator[_Streams]:
    process = await ServerProcess.start(config, limits, stderr)
    heard, read = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    write, said = anyio.create_memory_object_stream[SessionMessage](0)

    async def hear() -> None:
        async with heard:
            try:
                async with aclosing(process.lines()) as lines:
                    async for line in lines:
                        screen.count()
                        if (message := _parsed(line, screen)) is not None:
                            await heard.send(SessionMessage(message))
                await process.settled()
                lost.say(process.ending or "closed its stdout")
            except McpError as error:
                lost.say(error)
            except anyio.BrokenResourceError:  # nobody listens any more
                lost.say("closed")

    async def say() -> None:
        with contextlib.suppress(ConnectionError):  # it ended, which `hear` notices
            async with said:
                async for item in said:
                    if isinstance(item.message, types.JSONRPCRequest):
                        screen.issue(item.message.id)
                    text = item.message.model_dump_json(by_alias=True, exclude_unset=True)
                    await process.write(text.encode() + b"\n")

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hear)
            tasks.start_soon(say)
            try:
                yield read, write, process
            finally:
                tasks.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            await process.end()
        for stream in (heard, read, write, said):
            stream.close()


def _parsed(line: bytes, screen: Screen) -> types.JSONRPCMessage | None:
    """A line's message, None for what is not meant as one."""
    clean = screen.line(line)
    if clean is None:
        return None
    try:
        message = types.jsonrpc_message_adapter.validate_json(clean, by_name=False)
    except ValueError:
        if b'"jsonrpc"' in clean:
            screen.invalid(clean)
        return None
    return _screened(message, screen)


def _screened(message: types.JSONRPCMessage, screen: Screen) -> types.JSONRPCMessage:
    if isinstance(message, types.JSONRPCResponse | types.JSONRPCError):
        screen.answer(message.id)
    if isinstance(message, types.JSONRPCResponse):
        screen.result(message.result)
    return message


@asynccontextmanager
async def _over_http(
    config: ServerConfig, limits: Limits, stderr: Tail, screen: Screen, lost: Lost
) -> AsyncIterator[_Streams]:
    heard, read = anyio.create_memory_object_stream[SessionMessage | Exception](0)

    async def hear(source: Any) -> None:
        async with heard:
            try:
                async for item in source:
                    screen.count()
                    if isinstance(item, SessionMessage):
                        _screened(item.message, screen)
                        await heard.send(item)
                lost.say("closed the connection")
            except McpError as error:
                lost.say(error)
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                lost.say("closed")

    with anyio.CancelScope() as scope:
        async with (
            web.http_client(config, limits, lost.note) as http,
            streamable_http_client(
                config.url, http_client=http, max_sse_event_size=limits.line_bytes
            ) as (source, write),
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(hear, source)
            try:
                yield read, write, None
            finally:
                tasks.cancel_scope.cancel()
                scope.deadline = anyio.current_time() + _LEAVE_SECONDS
    read.close()


__all__ = ["Connection", "connected", "explained"]
