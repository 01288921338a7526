"""`engine mcp`, and `--mcp` of chat and run: lists, calls, exit codes, nothing left behind."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.mcp_helpers import HOSTILE, eventually, is_alive
from tests.terminal import CTRL_C, ROOT, Terminal
from tests.test_cli import engine


def entry(mode: str = "good", **values: Any) -> dict[str, Any]:
    made = {"command": sys.executable, "args": ["-I", "-S", str(HOSTILE), mode]}
    return {**made, "startup_timeout_sec": 60, **values}


@pytest.fixture
def file(tmp_path: Path) -> str:
    return write(tmp_path, h=entry())


def write(folder: Path, **servers: Any) -> str:
    path = folder / "mcp.json"
    path.write_text(json.dumps({"mcpServers": servers}))
    return str(path)


def test_list_shows_servers_and_their_tools(file: str) -> None:
    done = engine("mcp", "list", file)
    assert (done.returncode, done.stderr) == (0, "")
    assert "h  up  hostile 6.6 2025-06-18; 18 tools" in done.stdout
    assert "  h__echo            Says it again, edition 0." in done.stdout


def test_list_as_json_has_everything(file: str) -> None:
    made = json.loads(engine("mcp", "list", file, "--json").stdout)
    (server,) = made["servers"]
    assert made["version"] == 1 and server["state"] == "up"
    tool = server["tools"][0]
    assert tool["name"] == "h__echo" and len(tool["hash"]) == 64
    assert tool["parameters"]["properties"] == {"text": {"type": "string"}}


def test_a_server_that_is_down_is_told_and_ends_with_6(tmp_path: Path) -> None:
    path = write(tmp_path, h=entry(), bad=entry("exits"), odd=entry("hidden"))
    done = engine("mcp", "list", path)
    assert done.returncode == 6
    assert "bad  down  MCP server 'bad': ended with exit code 3" in done.stdout
    assert "h__echo" in done.stdout
    assert "note: MCP server 'odd'" in done.stderr
    assert "\u202e" not in done.stdout + done.stderr and "\x1b" not in done.stdout


@pytest.mark.parametrize(
    "words, code, out, err",
    [
        (["h__echo", '{"text": "hi"}'], 0, "hi\n", ""),
        (["h__progress"], 0, "done\n", "3 of 3: step 3"),
        (["h__fail"], 6, "", "the disk is full"),
        (["h__die"], 6, "", "ended with exit code 7"),
        (["h__ech"], 6, "", "did you mean 'h__echo'?"),
        (["g__echo"], 6, "", "there is no server 'g'; "),
        (["h__echo", '{"text": 1}'], 6, "", "argument 'text' must be string"),
        (["h__echo", "[1]"], 2, "", "the arguments are a JSON object"),
        (["h__echo", "{"], 2, "", "the arguments are not JSON"),
        ([], 2, "", "needs the name of a tool"),
    ],
)
def test_call_answers_or_says_why_not(
    file: str, words: list[str], code: int, out: str, err: str
) -> None:
    done = engine("mcp", "call", file, *words)
    assert (done.returncode, done.stdout) == (code, out), done.stderr
    assert err in done.stderr and "Traceback" not in done.stderr


def test_call_as_json(file: str) -> None:
    done = engine("mcp", "call", file, "h__fail", "--json")
    record = json.loads(done.stdout)
    assert done.returncode == 6
    assert (record["name"], record["content"], record["is_error"]) == (
        "h__fail",
        "the disk is full",
        True,
    )


@pytest.mark.parametrize("command", [["mcp", "list"], ["chat", "x", "--mcp"]])
def test_a_mistake_in_the_file_is_one_line(tmp_path: Path, command: list[str]) -> None:
    path = write(tmp_path, h={"comand": "x"})
    done = engine(*command, path)
    assert done.returncode == 6
    assert done.stderr == (
        f"engine: {path}: mcpServers.h.comand: unknown key; did you mean 'command'?\n"
    )


def test_a_missing_package_is_named(file: str, tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "mcp_types.py").write_text("raise ModuleNotFoundError('x', name='mcp_types')")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{ROOT}")
    done = engine("mcp", "list", file)
    assert done.returncode == 6
    assert done.stderr == (
        "engine: MCP servers need the package mcp; pip install 'engine-gguf[mcp]'\n"
    )


def test_chat_and_run_call_tools_of_servers(tmp_path: Path) -> None:
    path = write(tmp_path, h=entry(), bad=entry("exits"))
    done = engine("run", "x", 'call h__echo {"text": "hi there"}', "--mcp", path)
    assert done.returncode == 0 and "hi there" in done.stderr
    assert "! MCP server 'bad': ended with exit code 3" in done.stderr
    lines = 'call h__echo {"text": "one more"}\n/tools\n'
    done = engine("chat", "x", "--mcp", path, input=lines)
    assert done.returncode == 0, done.stderr
    assert "one more" in done.stderr and "* h__echo: Says it again, edition 0." in done.stderr


def test_a_changed_list_is_taken_at_the_next_message(tmp_path: Path) -> None:
    path = write(tmp_path, h=entry())
    with Terminal("chat", "x", "--mcp", path, home=tmp_path) as terminal:
        terminal.say("call h__change {}")
        terminal.expect("changed")
        for _ in range(100):  # until the server was asked again
            terminal.say("hello")
            terminal.expect("You said")
            if "have changed" in terminal.text:
                break
        terminal.say("/tools")
        terminal.expect("h__echo: Says it again, edition 1.")
        terminal.say("/quit")
        assert terminal.wait() == 0


@pytest.mark.parametrize("command", [["chat", "x", "--mcp"], ["mcp", "list"]])
def test_ctrl_c_while_servers_start_leaves_with_130_and_nothing_behind(
    tmp_path: Path, command: list[str]
) -> None:
    pid_file = tmp_path / "pid"
    path = write(tmp_path, h=entry("silent", env={"PID_FILE": str(pid_file)}))
    with Terminal(*command, path, home=tmp_path) as terminal:
        eventually(lambda: pid_file.is_file() and pid_file.read_text(), "the server runs")
        terminal.type(CTRL_C)
        assert terminal.wait() == 130
        assert terminal.has_first_modes()
        assert "Traceback" not in terminal.text
    pid = int(pid_file.read_text())
    eventually(lambda: not is_alive(pid), "the server is gone")
