"""Servers for the tests of engine.tools.mcp, and ways to look at what is left of them."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.events import ToolProgress, ToolResult
from engine.messages import Call
from engine.tools import run_calls, tools_by_name
from engine.tools.mcp import Limits, McpServers, ServerConfig

HOSTILE = Path(__file__).parent / "mcp_servers" / "hostile.py"
PATIENCE = 60.0  # machines are slow where several work at once
QUICK = Limits(restart_seconds=(0.0, 0.0, 0.0), reread_seconds=0.0)


def hostile(mode: str = "good", name: str = "h", **values: Any) -> ServerConfig:
    """The hostile server, with time enough to start."""
    config = ServerConfig(
        name=name,
        command=sys.executable,
        args=("-I", "-S", str(HOSTILE), mode),
        start_seconds=PATIENCE,
    )
    return replace(config, **values)


def events_of(
    servers: McpServers, name: str, **arguments: Any
) -> Iterator[ToolProgress | ToolResult]:
    return run_calls([Call("c1", name, arguments)], tools_by_name(servers.tools()))


def result_of(servers: McpServers, name: str, **arguments: Any) -> ToolResult:
    last = list(events_of(servers, name, **arguments))[-1]
    assert isinstance(last, ToolResult)
    return last


def problem_of(result: ToolResult) -> str:
    """The message of an error result."""
    assert result.is_error and isinstance(result.content, dict), result
    return str(result.content["error"]["message"])  # type: ignore[index,call-overload]


def eventually(condition: Callable[[], object], what: str = "") -> None:
    """Wait until it holds. For what another process does, which nothing announces."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"still not: {what or condition}"
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that is dead and not yet collected does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return not Path("/proc").is_dir()
    return state != "Z"
