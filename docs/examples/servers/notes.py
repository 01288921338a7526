"""A small MCP server: notes, kept as long as it runs. `python docs/examples/servers/notes.py`"""

from __future__ import annotations

from mcp.server import MCPServer

server = MCPServer("notes")
notes: list[str] = []


@server.tool()
def add(text: str) -> str:
    """Add a note."""
    notes.append(text)
    return f"note {len(notes)} is kept"


@server.tool()
def show() -> list[str]:
    """Show all notes."""
    return notes


if __name__ == "__main__":
    server.run()
