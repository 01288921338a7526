"""The file that names MCP servers: what other clients write is read, mistakes are named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.errors import McpError
from engine.tools.mcp import McpConfig, ServerConfig, load_config, parse_config

ENVIRON = {"HOME": "/home/me", "KEY": "k", "EMPTY": ""}


def read(servers: Any, group: str = "mcpServers") -> McpConfig:
    return parse_config(json.dumps({group: servers}), "mcp.json", ENVIRON)


def one(**values: Any) -> ServerConfig:
    return read({"s": values}).servers[0]


def problem(document: Any) -> McpError:
    text = document if isinstance(document, str) else json.dumps(document)
    with pytest.raises(McpError) as caught:
        parse_config(text, "mcp.json", ENVIRON)
    assert caught.value.exit_code == 6 and caught.value.path == "mcp.json"
    return caught.value


# --- what other clients write


@pytest.mark.parametrize(
    "text",
    [
        '{"mcpServers": {"s": {"command": "a", "args": ["b"]}}, "globalShortcut": "x"}',
        '{"servers": {"s": {"type": "stdio", "command": "a", "args": ["b"]}}, "inputs": []}',
        '{"mcp": {"servers": {"s": {"command": "a", "args": ["b"]}}}}',
        '// mine\n{"mcpServers": {"s": {"command": "a", /* two */ "args": ["b",],},},}',
        '\ufeff{"mcpServers": {"s": {"command": "a", "args": ["b"]}}}',
    ],
    ids=["Claude Desktop", "VS Code", "settings.json", "comments", "BOM"],
)
def test_the_files_of_other_clients_are_read(text: str, tmp_path: Path) -> None:
    file = tmp_path / "mcp.json"
    file.write_text(text, encoding="utf-8")
    (server,) = load_config(file).servers
    assert (server.name, server.command, server.args) == ("s", "a", ("b",))


@pytest.mark.parametrize("key", ["url", "serverUrl", "httpUrl"])
@pytest.mark.parametrize("kind", [None, "http", "streamable-http", "streamableHttp"])
def test_an_address_has_many_names(key: str, kind: str | None) -> None:
    values = {key: "https://h/mcp", "headers": {"A": "Bearer ${KEY}"}}
    server = one(**values | ({"type": kind} if kind else {}))
    assert (server.url, server.headers, server.problem) == (
        "https://h/mcp",
        {"A": "Bearer k"},
        "",
    )


def test_comment_marks_inside_of_texts_stay() -> None:
    assert one(command="a", args=["http://x/*y*/", "b,]"]).args == ("http://x/*y*/", "b,]")


@pytest.mark.parametrize("off", [{"disabled": True}, {"enabled": False}])
def test_a_server_can_be_switched_off(off: dict[str, bool]) -> None:
    assert one(command="a", **off).is_disabled


@pytest.mark.parametrize("given, seconds", [(30, 30.0), (0.5, 0.5), (60_000, 60.0)])
def test_a_timeout_is_in_seconds_and_thousands_are_milliseconds(
    given: float, seconds: float
) -> None:
    found = read({"s": {"command": "a", "timeout": given, "startup_timeout_sec": 3}})
    assert (found.servers[0].timeout_seconds, found.servers[0].start_seconds) == (seconds, 3.0)
    assert bool(found.notices) == (given >= 1_000)


def test_keys_of_other_clients_are_told_and_trust_is_not_taken_over() -> None:
    found = read({"s": {"command": "a", "autoApprove": ["x"], "gallery": True, "zzz": 1}})
    assert [notice.split(": ", 1)[1] for notice in found.notices] == [
        "mcpServers.s.autoApprove: nobody is trusted by it",
        "mcpServers.s.gallery: not used",
        "mcpServers.s.zzz: not used",
    ]


# --- variables


@pytest.mark.parametrize(
    "text, value",
    [
        ("${KEY}", "k"),
        ("a${env:KEY}b", "akb"),
        ("${NONE:-fallback}", "fallback"),
        ("${KEY:-fallback}", "k"),
        ("${EMPTY}", ""),
        ("$KEY $(KEY) {KEY}", "$KEY $(KEY) {KEY}"),
    ],
)
def test_variables_are_filled_in(text: str, value: str) -> None:
    server = one(command="c", args=[text], env={"E": text})
    assert (server.args, server.env, server.problem) == ((value,), {"E": value}, "")


def test_what_a_variable_holds_is_not_filled_in_again() -> None:
    found = parse_config(
        '{"mcpServers": {"s": {"command": "${A}"}}}', environ={"A": "${B}", "B": "x"}
    )
    assert found.servers[0].command == "${B}"


@pytest.mark.parametrize(
    "values, problem",
    [
        ({"command": "c", "env": {"T": "${NONE}"}}, "the environment variable NONE is not set"),
        ({"command": "c", "args": ["${input:token}"]}, "${input:token} is what editors ask for"),
        ({"url": "https://h/sse", "type": "sse"}, "the old HTTP+SSE transport is not spoken"),
    ],
)
def test_what_can_not_be_had_is_that_servers_problem_alone(
    values: dict[str, Any], problem: str
) -> None:
    bad, good = read({"bad": values, "good": {"command": "c"}}).servers
    assert problem in bad.problem and good.problem == ""


# --- mistakes


@pytest.mark.parametrize(
    "document, key, text",
    [
        ("{", "", "not JSON"),
        ("[]", "", "expected an object"),
        ({"mcpservers": {}}, "", "did you mean 'mcpServers'?"),
        ({"a": 1}, "", "has no 'mcpServers', but 'a'"),
        ({"mcpServers": []}, "mcpServers", "expected an object of servers, found a list"),
        ({"mcpServers": {"s": "npx"}}, "mcpServers.s", "found text"),
        ({"mcpServers": {"s": {}}}, "mcpServers.s", "neither command nor url"),
        ({"mcpServers": {"s": {"command": "a", "url": "http://h"}}}, "mcpServers.s", "has both"),
        ({"mcpServers": {"s": {"comand": "a"}}}, "mcpServers.s.comand", "did you mean 'command'?"),
        ({"mcpServers": {"s": {"command": "a", "arg": []}}}, "mcpServers.s.arg", "'args'?"),
        ({"mcpServers": {"s": {"command": ["a"]}}}, "mcpServers.s.command", "expected text"),
        ({"mcpServers": {"s": {"command": "a", "args": "b"}}}, "mcpServers.s.args", "found text"),
        ({"mcpServers": {"s": {"command": "a", "args": [1]}}}, "mcpServers.s.args.0", "a number"),
        ({"mcpServers": {"s": {"command": "a\0"}}}, "mcpServers.s.command", "NUL"),
        (
            {"mcpServers": {"s": {"command": "a", "env": {"A": None}}}},
            "mcpServers.s.env.A",
            "found null",
        ),
        (
            {"mcpServers": {"s": {"command": "a", "disabled": "no"}}},
            "mcpServers.s.disabled",
            "true or false",
        ),
        ({"mcpServers": {"s": {"command": "a", "timeout": 0}}}, "mcpServers.s.timeout", "above 0"),
        (
            {"mcpServers": {"s": {"command": "a", "type": "htp"}}},
            "mcpServers.s.type",
            "did you mean 'http'?",
        ),
        ({"mcpServers": {"s": {"command": "a", "type": "http"}}}, "mcpServers.s.type", "'url'"),
        ({"mcpServers": {"s": {"url": "file:///x"}}}, "mcpServers.s.url", "expected http"),
        ({"mcpServers": {"s": {"url": "http://h:99999"}}}, "mcpServers.s.url", "expected http"),
        ({"mcpServers": {" ": {"command": "a"}}}, "mcpServers. ", "needs a name"),
    ],
)
def test_a_mistake_is_named_with_file_and_key(document: Any, key: str, text: str) -> None:
    error = problem(document)
    assert error.key == key and text in error.message
    assert error.message.startswith(f"mcp.json: {key}" if key else "mcp.json: ")


@pytest.mark.parametrize("kind", ["missing", "folder", "latin1", "large"])
def test_a_file_that_can_not_be_read_is_named(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "mcp.json"
    if kind == "folder":
        file.mkdir()
    elif kind != "missing":
        file.write_bytes(b'{"\xff"}' if kind == "latin1" else b" " * 2_000_000)
    with pytest.raises(McpError, match="mcp.json: "):
        load_config(file)


# --- consent


BASE = ServerConfig("s", command="c", args=("a",), env={"K": "1"}, cwd="/")


@pytest.mark.parametrize(
    "change, is_same",
    [
        ({"env": {"K": "2"}}, True),
        ({"timeout_seconds": 5.0}, True),
        ({"name": "t"}, True),
        ({"command": "d"}, False),
        ({"args": ("b",)}, False),
        ({"args": ("a", "")}, False),
        ({"env": {"K": "1", "L": "1"}}, False),
        ({"cwd": "/tmp"}, False),
        ({"command": "", "url": "https://h"}, False),
    ],
)
def test_consent_is_bound_to_what_is_started(change: dict[str, Any], is_same: bool) -> None:
    assert (replace(BASE, **change).consent_hash == BASE.consent_hash) is is_same


def test_secrets_are_not_shown() -> None:
    server = one(url="https://me:pw@h/mcp?key=1", headers={"A": "s3cret"})
    assert server.shown == "https://h/mcp"
    local = one(command="c", args=["-v"], env={"T": "s3cret"})
    assert local.shown == "c -v"
    assert "s3cret" not in repr(local) + repr(server)
