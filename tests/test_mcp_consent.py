"""Row M4: what a server says of its tools is pinned; a change asks again, and can be agreed to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fakes import scripted_model

import engine
from engine.events import Approval, Notice, ToolResult
from engine.tools.approval import Approvals, Request, Rule, Rules
from engine.tools.consents import Consents

pytest.importorskip("mcp", reason="the extra mcp is not installed")

from engine.tools.mcp import McpServers, load_config
from tests.mcp_helpers import HOSTILE, QUICK, eventually, hostile
from tests.terminal import ROOT

ALLOWED = Rules([Rule("allow", server="h")])


def call(name: str, **arguments: Any) -> str:
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


def say(model: Any, *messages: str) -> None:
    for text in messages:
        model.backend.say([*model.encode(text), model.vocab.find("<|im_end|>")])


def of(events: list[Any], kind: Any) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def test_a_definition_that_changes_while_it_runs_is_blocked_until_somebody_agrees():
    model = scripted_model(family="hermes")
    asked: list[Request] = []

    def ask(request: Request) -> Any:
        asked.append(request)
        return "chat"

    echo = call("h__echo", text="hi")
    say(model, call("h__change"), "done", echo, "no", echo, "yes", echo, "yes")
    approvals = Approvals(ALLOWED)
    with (
        McpServers([hostile()], limits=QUICK) as servers,
        model.chat(
            tools=servers.tools(), sampling=engine.Sampling(temperature=0), approvals=approvals
        ) as chat,
    ):
        version = servers.version
        assert not of(list(chat.stream("change")), ToolResult)[0].is_error
        eventually(lambda: servers.version > version, "the server was asked for its tools again")
        chat.set_tools(servers.tools())

        events = list(chat.stream("echo"))
        assert "h__echo" in of(events, Notice)[0].text
        [denied] = of(events, ToolResult)
        assert denied.is_error and "its definition changed" in str(denied.content)

        approvals.ask = ask
        assert of(list(chat.stream("echo")), ToolResult)[0].content == "hi"
        assert asked[0].is_changed and "edition 1" in asked[0].tool.description
        assert of(list(chat.stream("echo")), ToolResult)[0].content == "hi"
        assert len(asked) == 1, "agreed to for this chat"


def test_another_program_under_the_same_name_is_another_server(tmp_path):
    path = tmp_path / "consents.json"
    model = scripted_model(family="hermes")
    echo = call("h__echo", text="hi")
    say(model, echo, "ok", echo, "no")
    for extra, allowed in (((), True), (("--other",), False)):
        config = hostile()
        config = hostile(args=(*config.args, *extra))
        approvals = Approvals(ALLOWED, consents=Consents(path))
        with (
            McpServers([config]) as servers,
            model.chat(
                tools=servers.tools(), sampling=engine.Sampling(temperature=0), approvals=approvals
            ) as chat,
        ):
            events = list(chat.stream("?"))
            assert of(events, ToolResult)[0].is_error is not allowed
            assert [event.is_allowed for event in of(events, Approval)] == [False] * (not allowed)


def test_engine_mcp_accept_agrees_to_the_tools_as_they_are(tmp_path):
    file = tmp_path / "mcp.json"

    def accept(*arguments: str, extra: str = "") -> dict[str, str]:
        args = ["-I", "-S", str(HOSTILE), "good", *([extra] if extra else [])]
        server = {"command": sys.executable, "args": args, "startup_timeout_sec": 60}
        file.write_text(json.dumps({"mcpServers": {"h": server, "bad": {"command": "nowhere"}}}))
        done = subprocess.run(
            [sys.executable, "-m", "engine", "mcp", "accept", str(file), *arguments, "--json"],
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(tmp_path),
                "XDG_STATE_HOME": str(tmp_path / "state"),
                "PYTHONPATH": str(ROOT),
            },
        )
        assert done.returncode == (0 if arguments else 6), done.stderr  # one of two is down
        return {tool["name"]: tool["was"] for tool in json.loads(done.stdout)["tools"]}

    assert set(accept().values()) == {"new"}
    assert set(accept("h__").values()) == {"as before"}
    assert set(accept("h__", extra="--other").values()) == {"changed"}
    [kept] = tmp_path.rglob("consents.json")
    servers = load_config(file).servers
    with McpServers([server for server in servers if server.name == "h"]) as running:
        consents = Consents(Path(kept))
        assert all(consents.pinned(tool) == tool.definition_hash for tool in running.tools())
