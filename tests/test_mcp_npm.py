"""The real servers from npm, everything and filesystem, called as a chat calls them."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from engine.events import Finish, ToolProgress, ToolResult
from engine.messages import Call
from engine.tools import run_calls, tools_by_name
from engine.tools.approval import Approvals, Rule, Rules
from engine.tools.mcp import McpServers, load_config
from tests.fakes import byte_vocab, scripted_model
from tests.mcp_helpers import PATIENCE, QUICK, events_of, eventually, problem_of, result_of

ROOT = Path(__file__).parents[1]
PACKAGES = (
    "@modelcontextprotocol/server-everything@2026.8.31",
    "@modelcontextprotocol/server-filesystem@2026.8.31",
)


@pytest.fixture(scope="session")
def node_modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two packages, installed for this run alone; skips, saying so, where npm can't."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("no npm: install Node.js for the tests with real MCP servers")
    folder = tmp_path_factory.mktemp("npm")
    quiet = ("--no-fund", "--no-audit", "--ignore-scripts", "--loglevel=error")
    done = subprocess.run(
        [npm, "install", *quiet, "--prefix", str(folder), *PACKAGES],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        cwd=folder,
    )
    if done.returncode != 0:
        pytest.skip(f"npm can't install {PACKAGES[0]}: {done.stderr.strip()[-200:]}")
    return folder / "node_modules"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    (folder / "notes.md").write_text("안녕, 파일\n", encoding="utf-8")
    (tmp_path / "secret.txt").write_text("s3cret")
    return folder.resolve()


@pytest.fixture
def file(node_modules: Path, root: Path, tmp_path: Path) -> Path:
    """The configuration as another client has it."""
    programs = node_modules / ".bin"
    path = tmp_path / "mcp.json"
    servers = {
        "everything": {"command": str(programs / "mcp-server-everything"), "args": ["stdio"]},
        "files": {"command": str(programs / "mcp-server-filesystem"), "args": [str(root)]},
    }
    timed = {name: {**each, "startup_timeout_sec": PATIENCE} for name, each in servers.items()}
    path.write_text(json.dumps({"mcpServers": timed}))
    return path


@pytest.fixture
def servers(file: Path) -> Any:
    with McpServers(load_config(file).servers, limits=QUICK) as made:
        yield made


def test_the_real_servers_are_listed(servers: McpServers) -> None:
    everything, files = servers.status()
    assert (everything.state, files.state) == ("up", "up"), (everything.reason, files.reason)
    names = {tool.name for tool in servers.tools()}
    assert {"everything__echo", "everything__get-sum", "files__read_text_file"} <= names
    asks = {tool.name for tool in servers.tools() if tool.approve == "ask"}
    assert "files__write_file" in asks and "files__read_text_file" not in asks
    assert servers.take_notices() == []


def test_the_real_servers_answer(servers: McpServers, root: Path, tmp_path: Path) -> None:
    assert result_of(servers, "everything__echo", message="서울").content == "Echo: 서울"
    assert "5" in str(result_of(servers, "everything__get-sum", a=2, b=3).content)
    picture = str(result_of(servers, "everything__get-tiny-image").content)
    assert "[image image/png, " in picture and len(picture) < 500
    weather = result_of(servers, "everything__get-structured-content", location="New York")
    assert isinstance(weather.content, dict) and "temperature" in weather.content
    assert problem_of(result_of(servers, "everything__get-sum", a="x", b=3))

    read = result_of(servers, "files__read_text_file", path=str(root / "notes.md"))
    assert read.content == "안녕, 파일\n"
    for outside in (str(tmp_path / "secret.txt"), str(root / ".." / "secret.txt")):
        refused = result_of(servers, "files__read_text_file", path=outside)
        assert refused.is_error and "Access denied" in str(refused.content)
    written = root / "new.txt"
    assert not result_of(servers, "files__write_file", path=str(written), content="한").is_error
    assert written.read_text(encoding="utf-8") == "한"


def test_a_long_call_reports_its_progress(servers: McpServers) -> None:
    name = "everything__trigger-long-running-operation"
    *progress, last = events_of(servers, name, duration=0.5, steps=5)
    assert isinstance(last, ToolResult) and "completed" in str(last.content)
    said = [event.text for event in progress if isinstance(event, ToolProgress)]
    assert said == [f"{n} of 5" for n in range(1, 6)]


def start(servers: McpServers, stop: threading.Event, out: list[Any]) -> threading.Thread:
    """A call that takes ten minutes, under way once it has reported progress."""
    arguments = {"duration": 600, "steps": 6_000}
    call = Call("c", "everything__trigger-long-running-operation", arguments)
    events = run_calls([call], tools_by_name(servers.tools()), cancelled=stop.is_set)
    thread = threading.Thread(target=lambda: out.extend(events))
    thread.start()
    return thread


def test_a_long_call_can_be_cancelled_and_the_server_goes_on(servers: McpServers) -> None:
    stop, out = threading.Event(), []
    thread = start(servers, stop, out)
    # Progress is only seen by the reader of the events; a second call shows that it runs.
    assert result_of(servers, "everything__echo", message="meanwhile").content == "Echo: meanwhile"
    stop.set()
    thread.join()
    assert problem_of(out[-1]).startswith("cancelled")
    assert result_of(servers, "everything__echo", message="after").content == "Echo: after"
    assert servers.status()[0].restarts == 0


def test_a_server_killed_in_a_call_fails_it_and_comes_back(servers: McpServers) -> None:
    out: list[Any] = []
    thread = start(servers, threading.Event(), out)
    eventually(lambda: out, "progress has come")
    pid = servers.status()[0].pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    thread.join()
    assert "was ended by SIGKILL" in problem_of(out[-1])
    assert result_of(servers, "everything__echo", message="back").content == "Echo: back"
    assert servers.status()[0].restarts == 1


def test_a_chat_calls_a_real_server(servers: McpServers, root: Path) -> None:
    """A scripted model writes the call under the mask of the server's own schema."""
    path = str(root / "notes.md")
    written = [f'{{"name": "files__read_text_file", "arguments": {{"path": "{path}"}}}}']
    words = ["<tool_call>", "</tool_call>"]
    model = scripted_model(byte_vocab(words=words), family="hermes", n_ctx=32_768)
    end = model.vocab.find("<|im_end|>")
    for text in (f"<tool_call>\n{written[0]}\n</tool_call>", "It greets a file."):
        model.backend.say([*model.encode(text), end])  # type: ignore[attr-defined]
    tools = [tool for tool in servers.tools() if tool.name.startswith("files__read_text")]
    approvals = Approvals(Rules([Rule("allow", server="files")]))
    with model, model.chat(tools=tools, approvals=approvals) as chat:
        events = list(chat.stream("What do my notes say?"))
    results = [event for event in events if isinstance(event, ToolResult)]
    assert [result.content for result in results] == ["안녕, 파일\n"]
    assert isinstance(events[-1], Finish) and events[-1].reason == "end_turn"


@pytest.mark.live
def test_engine_chat_calls_a_real_server_with_the_embedded_model(
    node_modules: Path, tmp_path: Path
) -> None:
    server = {"command": str(node_modules / ".bin" / "mcp-server-everything"), "args": ["stdio"]}
    file = tmp_path / "mcp.json"
    everything = {**server, "startup_timeout_sec": 60}
    file.write_text(json.dumps({"mcpServers": {"everything": everything}}))
    flags = ["--mcp", str(file), "--temp", "0", "--tool-choice", "everything__get-sum"]
    done = subprocess.run(
        [sys.executable, "-m", "engine", "chat", "tiny-tools", *flags]
        + ["--allow", "everything:get-sum", "--max-steps", "1"],
        input="What is the sum of 12 and 30?\n",
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert "* everything__get-sum(a=12, b=30)" in done.stderr
    assert "-> The sum of 12 and 30 is 42." in done.stderr


def test_the_page_shows_what_the_example_prints(node_modules: Path, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "mcp.md").read_text(encoding="utf-8")
    config, shown = (
        re.findall(rf"^<!-- {name} -->\n```\w+\n(.*?)^```$", page, re.M | re.S)[0]
        for name in ("mcp.json", "call_servers.py")
    )
    (tmp_path / "mcp.json").write_text(config)
    (tmp_path / "notes").mkdir()
    (tmp_path / "node_modules").symlink_to(node_modules)
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "examples" / "mcp" / "call_servers.py"), "mcp.json"],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == shown
