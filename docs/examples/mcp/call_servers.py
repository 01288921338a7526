"""The servers of an MCP file from Python: listed, called, killed in mid-call, and back.

    python docs/examples/mcp/call_servers.py mcp.json

The file's server `everything` is @modelcontextprotocol/server-everything from npm.
"""

from __future__ import annotations

import os
import signal
import sys

from engine import Call, ToolProgress
from engine.tools import run_calls, tools_by_name
from engine.tools.mcp import McpServers, load_config


def main(path: str) -> None:
    with McpServers(load_config(path).servers) as servers:
        for status in servers.status():
            print(f"{status.name}: {status.state}, {len(status.tools)} tools {status.reason}")

        def call(name: str, arguments: dict, *, is_killed: bool = False) -> None:
            print(f"\n-> {name}({arguments})")
            tools = tools_by_name(servers.tools())
            for event in run_calls([Call("1", name, arguments)], tools):
                if not isinstance(event, ToolProgress):
                    print("  error:" if event.is_error else "  result:", event.content)
                    continue
                print("  progress:", event.text)
                if is_killed:
                    os.kill(servers.status()[0].pid, signal.SIGKILL)

        call("everything__get-sum", {"a": 2, "b": 3})
        call("everything__get-structured-content", {"location": "New York"})
        call("everything__trigger-long-running-operation", {"duration": 0.3, "steps": 3})
        slow = {"duration": 600, "steps": 6000}
        call("everything__trigger-long-running-operation", slow, is_killed=True)
        call("everything__echo", {"message": "back after a restart"})
        first = servers.status()[0]
        print(f"\n{first.name}: {first.state} again, {first.restarts} restart")


if __name__ == "__main__":
    main(sys.argv[1])
