"""HTTP to one server and nowhere else: what may be sent where, and how much may come back.

The only importer of httpx2. Knows hosts, addresses, redirects and sizes. Does not know MCP.
Environment variables for proxies are not obeyed: a proxy would resolve names in our place.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import httpx2

from engine.errors import McpError
from engine.tools.mcp.config import ServerConfig
from engine.tools.mcp.limits import Limits

CONNECT_SECONDS: Final = 10.0
READ_SECONDS: Final = 300.0  # of silence; calls have limits of their own
# Names that nobody can register, so that no stranger decides what they resolve to.
_OWN_NAMES: Final = (".localhost", ".local", ".internal", ".lan", ".home.arpa", ".test")

Resolve = Callable[[str, int], Awaitable[list[str]]]


async def resolve(host: str, port: int) -> list[str]:
    """The addresses of a host, in the system's order of preference."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(item[4][0]) for item in found))


def http_client(
    config: ServerConfig,
    limits: Limits,
    on_error: Callable[[Exception], None],
    resolve: Resolve = resolve,
) -> httpx2.AsyncClient:
    """A client that talks to the server's origin alone, with the headers of its configuration.

    `on_error` is told what breaks a request or its answer, before anybody else hears of it.
    """
    return httpx2.AsyncClient(
        # Packed bodies could be far larger than what the limits count.
        headers={**config.headers, "Accept-Encoding": "identity"},
        timeout=httpx2.Timeout(CONNECT_SECONDS, read=READ_SECONDS),
        transport=_Guard(config, limits, on_error, resolve),
        follow_redirects=False,
    )


def describe(error: Exception) -> str:
    """What went wrong on the wire, in words; empty for errors of another kind."""
    match error:
        case httpx2.ConnectTimeout():
            return "can't be reached: no connection in time"
        case httpx2.TimeoutException():
            return "stopped sending: no data in time"
        case httpx2.ConnectError():
            return f"can't be reached ({error})"
        case httpx2.TransportError():
            return f"the connection broke ({str(error) or type(error).__name__})"
    return ""


class _Guard(httpx2.AsyncBaseTransport):
    """Looks at every request before it is sent, and at every answer before it is read."""

    def __init__(
        self,
        config: ServerConfig,
        limits: Limits,
        on_error: Callable[[Exception], None],
        resolve: Resolve,
    ) -> None:
        self._name = config.name
        self._origin = httpx2.URL(config.url)
        self._limit = limits.line_bytes
        self._on_error = on_error
        self._resolve = resolve
        self._inner = httpx2.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        try:
            return await self._handle(request)
        except Exception as error:
            self._on_error(error)
            raise

    async def _handle(self, request: httpx2.Request) -> httpx2.Response:
        if not self._is_ours(request.url):
            self._refuse(f"asks to be called at {_shown(request.url)}", "redirect")
        response = await self._send(request)
        try:
            self._check(request, response)
        except BaseException:
            await response.aclose()
            raise
        if not response.headers.get("content-type", "").lower().startswith("text/event-stream"):
            response.stream = _Bounded(response.stream, self._name, self._limit, self._on_error)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()

    def _is_ours(self, url: httpx2.URL) -> bool:
        origin = self._origin
        if (url.scheme, url.host, url.port) == (origin.scheme, origin.host, origin.port):
            return True
        is_upgrade = (origin.scheme, url.scheme) == ("http", "https")
        return is_upgrade and url.host == origin.host and url.port is origin.port is None

    async def _send(self, request: httpx2.Request) -> httpx2.Response:
        """Connect to an address that was looked at: a second look-up could give another one."""
        host = request.url.host
        if _literal(host) is not None:
            return await self._inner.handle_async_request(request)
        addresses = await self._addresses(host, request.url.port or 0)
        problem: httpx2.ConnectError | None = None
        for address in addresses:
            pinned = httpx2.Request(
                request.method,
                request.url.copy_with(host=address),
                headers=request.headers,  # its Host is the name
                stream=request.stream,
                extensions={**request.extensions, "sni_hostname": host},
            )
            try:
                return await self._inner.handle_async_request(pinned)
            except httpx2.ConnectError as error:  # nothing was sent yet
                problem = error
        raise problem or httpx2.ConnectError(f"{host} has no address")

    async def _addresses(self, host: str, port: int) -> list[str]:
        try:
            found = await self._resolve(host, port)
        except OSError as error:
            raise httpx2.ConnectError(f"{host}: {error.strerror or error}") from error
        if "." in host.rstrip(".") and not host.rstrip(".").endswith(_OWN_NAMES):
            for address in found:
                if not _is_public(address):
                    self._refuse(
                        f"the public name {host} leads to {address}, an address of this machine or "
                        "network; write that address into url if it is meant",
                        "private_address",
                    )
        return found

    def _check(self, request: httpx2.Request, response: httpx2.Response) -> None:
        status = response.status_code
        if status in (401, 403):
            self._refuse(
                f"answers {status}: it wants a key; put one into its headers, as in "
                '{"Authorization": "Bearer ${TOKEN}"}',
                "unauthorized",
            )
        if status in (404, 410):
            has_session = "mcp-session-id" in request.headers
            if has_session:
                self._refuse("has ended the session", "closed")
            self._refuse(f"answers {status}: no MCP server is at {_shown(request.url)}", "missing")
        location = response.headers.get("location")
        if location and 300 <= status < 400:
            target = request.url.join(location)
            if not self._is_ours(target):
                self._refuse(
                    f"redirects to {_shown(target)}, which was not followed and got no headers; "
                    "put that address into url if it is meant",
                    "redirect",
                )
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            self._refuse("sends packed content that was not asked for", "protocol")

    def _refuse(self, problem: str, reason: str) -> None:
        raise McpError(f"MCP server {self._name!r}: {problem}", server=self._name, reason=reason)


class _Bounded(httpx2.AsyncByteStream):
    """A body that ends with an error where it is over the limit."""

    def __init__(
        self, inner: object, name: str, limit: int, on_error: Callable[[Exception], None]
    ) -> None:
        assert isinstance(inner, httpx2.AsyncByteStream)
        self._inner = inner
        self._name = name
        self._limit = limit
        self._on_error = on_error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._counted():
                yield chunk
        except Exception as error:
            self._on_error(error)
            raise

    async def _counted(self) -> AsyncIterator[bytes]:
        seen = 0
        async for chunk in self._inner:
            seen += len(chunk)
            if seen > self._limit:
                raise McpError(
                    f"MCP server {self._name!r}: sent over {self._limit} bytes in one answer, "
                    "the most allowed",
                    server=self._name,
                    reason="line_too_long",
                )
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()


def _literal(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None


def _is_public(address: str) -> bool:
    found = _literal(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return found is not None and found.is_global


def _shown(url: httpx2.URL) -> str:
    """Without what may be a secret."""
    return str(url.copy_with(userinfo=b"", query=None, fragment=None))
