"""`engine mcp`: try the servers of an `mcpServers` file without a model.

Knows how to show servers, tools and a call's result. Does not know connections (engine.tools.mcp).
"""

from __future__ import annotations

import json as json_text
import sys
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from engine.cli.console import Console, printable, printable_line
from engine.cli.table import print_json, print_notes, print_rows
from engine.errors import ToolError, UsageError

if TYPE_CHECKING:
    from engine.events import ToolResult
    from engine.tools.mcp import McpServers, ServerConfig

FAILED = 6


def mcp(
    action: Annotated[Literal["list", "call", "accept"], typer.Argument(help="What to do.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A JSON file with mcpServers.")],
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="For call: server__tool. For accept: a server.", show_default=False
        ),
    ] = "",
    arguments: Annotated[
        str, typer.Argument(metavar="JSON", help="For call: its arguments as a JSON object.")
    ] = "{}",
    json: Annotated[bool, typer.Option("--json", help="Write one JSON object.")] = False,
) -> None:
    """List the tools of MCP servers, or call one: engine mcp call mcp.json files__read '{"a": 1}'.

    `accept` agrees to the tools as they are now: definitions that changed since then ask again.
    Exits with 6 where a server is down or the call fails.
    """
    from engine.tools.mcp import McpServers, load_config

    config = load_config(file)
    print_notes(config.notices)
    if action == "list":
        if name:
            raise UsageError(f"engine mcp list takes one file, found {name!r} behind it")
        with McpServers(config.servers) as servers:
            _list(servers, config.servers, json)
        return
    if action == "accept":
        chosen = _only(config.servers, name) if name else config.servers
        with McpServers(chosen) as servers:
            _accept(servers, json)
        return
    given = _arguments(arguments)
    with McpServers(_only(config.servers, name)) as servers:
        result = _call(servers, name, given)
    _show(result, json)
    if result.is_error:
        raise typer.Exit(FAILED)


def _list(servers: McpServers, configs: tuple[ServerConfig, ...], as_json: bool) -> None:
    found, tools = servers.status(), {tool.name: tool for tool in servers.tools()}
    notices = [notice.text for notice in servers.take_notices()]
    if as_json:
        listed = [
            {
                "name": status.name,
                "state": status.state,
                "reason": status.reason,
                "start": config.shown,
                "server": status.server,
                "protocol": status.protocol,
                "stderr": status.stderr,
                "tools": [_record(tools[name]) for name in status.tools],
            }
            for status, config in zip(found, configs, strict=True)
        ]
        print_json(servers=listed, notes=notices)
    else:
        for status, config in zip(found, configs, strict=True):
            what = " ".join(filter(None, (status.server, status.protocol)))
            told = status.reason or (f"{what}; {len(status.tools)} tools" if what else "")
            print_rows([(status.name, status.state, told), ("", "", config.shown)])
            rows = [(name, tools[name].description.partition("\n")[0]) for name in status.tools]
            print_rows(rows, indent="  ")
        print_notes(notices)
    if any(status.state == "down" for status in found):
        raise typer.Exit(FAILED)


def _accept(servers: McpServers, as_json: bool) -> None:
    """Take the definitions of the servers that are up for the ones that were agreed to."""
    from engine.cli.consent import open_consents

    consents, tools = open_consents(), servers.tools()
    before = {tool.name: consents.pinned(tool) for tool in tools}
    consents.pin(tools)
    rows = []
    for tool in tools:
        known = before[tool.name]
        state = "new" if known is None else "as before"
        rows.append((tool.name, state if known in (None, tool.definition_hash) else "changed"))
    down = [status for status in servers.status() if status.state == "down"]
    if as_json:
        print_json(
            tools=[{"name": name, "was": state} for name, state in rows],
            down=[{"name": status.name, "reason": status.reason} for status in down],
        )
    else:
        print_rows(rows)
        print_notes([status.reason for status in down])
    if down:
        raise typer.Exit(FAILED)


def _record(tool: Any) -> dict[str, Any]:
    return {
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
        "approve": tool.approve,
        "hash": tool.definition_hash,
    }


def _only(configs: tuple[ServerConfig, ...], name: str) -> list[ServerConfig]:
    """The one server that a tool's name begins with: the others need not start."""
    from engine.tools.mcp.definitions import SEPARATOR, server_part

    if not name:
        raise UsageError("engine mcp call needs the name of a tool, as `engine mcp list` shows it")
    part = name.partition(SEPARATOR)[0]
    found = [config for config in configs if server_part(config.name) == part]
    if not found:
        parts = [server_part(config.name) for config in configs]
        close = get_close_matches(part, parts, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(parts)}"
        raise ToolError(f"{name!r}: there is no server {part!r}; {hint}", name=name)
    return found


def _call(servers: McpServers, name: str, arguments: dict[str, Any]) -> ToolResult:
    from engine.events import ToolProgress
    from engine.messages import Call
    from engine.tools import run_calls, tools_by_name

    (status,) = servers.status()
    if status.state != "up":
        raise ToolError(status.reason or f"the server is {status.state}", name=name)
    console = Console()
    for event in run_calls([Call("call", name, arguments)], tools_by_name(servers.tools())):
        if isinstance(event, ToolProgress):
            console.note(printable_line(event.text), "dim")
        else:
            return event
    raise AssertionError("a call ended without a result")


def _arguments(text: str) -> dict[str, Any]:
    try:
        value = json_text.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the arguments are not JSON: {error}") from error
    if not isinstance(value, dict):
        raise UsageError('the arguments are a JSON object, as in \'{"path": "notes.md"}\'')
    return value


def _show(result: ToolResult, as_json: bool) -> None:
    content = result.content
    if as_json:
        print_json(
            name=result.name, content=content, is_error=result.is_error, seconds=result.seconds
        )
        return
    text = content if isinstance(content, str) else json_text.dumps(content, ensure_ascii=False)
    stream = sys.stderr if result.is_error else sys.stdout
    print(printable(text), file=stream)
