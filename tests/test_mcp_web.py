"""MCP over HTTP: keys stay with their host, bodies have limits, nothing is called twice."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from engine.tools.mcp import McpServers, ServerConfig
from tests.mcp_helpers import PATIENCE, QUICK, eventually, problem_of, result_of
from tests.mcp_servers.web import KEY, WebServer

LIMITS = replace(QUICK, line_bytes=1_000_000)


@pytest.fixture(scope="module")
def web() -> Iterator[WebServer]:
    with WebServer() as elsewhere, WebServer(elsewhere.url("stolen")) as server:
        yield server
        assert elsewhere.seen == []  # whatever the tests did, no request went there


def config(url: str, **values: Any) -> ServerConfig:
    made = ServerConfig("w", url=url, headers={"Authorization": KEY}, start_seconds=PATIENCE)
    return replace(made, **values)


@pytest.mark.parametrize("path", ["json", "sse", "moved", "unauthorized"])
def test_a_server_on_the_web_is_called_like_a_local_one(web: WebServer, path: str) -> None:
    with McpServers([config(web.url(path))]) as servers:
        status = servers.status()[0]
        assert (status.state, status.server, status.pid) == ("up", "web 1", None)
        assert result_of(servers, "w__echo").content == "from the web"
    headers = [headers for seen, _, headers in web.seen if seen == path]
    assert headers and all(each["Authorization"] == KEY for each in headers)


@pytest.mark.parametrize(
    "path, key, reason",
    [
        ("unauthorized", "Bearer guess", "answers 401: it wants a key"),
        ("nothing", KEY, "answers 404: no MCP server is at http://127.0.0.1"),
        ("redirect", KEY, "which was not followed and got no headers"),
    ],
)
def test_a_refused_start_is_told_by_its_reason(
    web: WebServer, path: str, key: str, reason: str
) -> None:
    with McpServers([config(web.url(path), headers={"Authorization": key})]) as servers:
        status = servers.status()[0]
    assert status.state == "down" and reason in status.reason


def test_a_server_that_is_not_there_is_down() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        with McpServers([config(f"http://127.0.0.1:{port}/mcp")]) as servers:
            assert "can't be reached" in servers.status()[0].reason


@pytest.mark.parametrize(
    "path, reason",
    [
        ("sse_drop", "SSE stream ended without a response"),
        ("cut", "the connection broke"),
        ("big", "sent over 1000000 bytes in one answer"),
        ("packed", "packed content"),
        ("page", "Unexpected content type: text/html"),
        ("broken", "error response"),
    ],
)
def test_a_failed_answer_is_an_error_and_the_call_is_not_sent_again(
    web: WebServer, path: str, reason: str
) -> None:
    before = web.calls()
    with McpServers([config(web.url(path))], limits=LIMITS) as servers:
        result = result_of(servers, "w__echo")
        assert reason in problem_of(result)
        assert web.calls() == before + 1
        eventually(lambda: servers.status()[0].state == "up", "it can be called again")


def test_a_body_that_never_ends_is_bounded_by_the_calls_time(web: WebServer) -> None:
    with McpServers([config(web.url("slow"), timeout_seconds=0.3)]) as servers:
        assert "timeout after 0.3 s" in problem_of(result_of(servers, "w__echo"))


@pytest.mark.parametrize(
    "host, answers, state",
    [
        ("mcp.example.com", ["127.0.0.1"], "down"),
        ("mcp.example.com", ["10.0.0.7"], "down"),
        ("mcp.example.com", ["93.184.216.34", "127.0.0.1"], "down"),
        ("mcp.example.com", ["169.254.169.254"], "down"),
        ("mcp.example.com", ["::ffff:127.0.0.1"], "down"),
        ("localhost", ["127.0.0.1"], "up"),
        ("box", ["127.0.0.1"], "up"),
        ("box.internal", ["127.0.0.1"], "up"),
    ],
)
def test_a_public_name_does_not_lead_to_this_machine(
    web: WebServer, monkeypatch: pytest.MonkeyPatch, host: str, answers: list[str], state: str
) -> None:
    real = socket.getaddrinfo

    def resolve(name: Any, port: Any, *rest: Any, **more: Any) -> Any:
        if name != host:
            return real(name, port, *rest, **more)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in answers]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    before = len(web.seen)
    with McpServers([config(web.url("json", host))]) as servers:
        status = servers.status()[0]
        if state == "up":
            assert result_of(servers, "w__echo").content == "from the web"
            assert web.seen[-1][2]["Host"].startswith(host)
        else:
            assert "public name mcp.example.com leads to" in status.reason
            assert len(web.seen) == before
    assert status.state == state
