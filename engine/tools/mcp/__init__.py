"""MCP servers as tools: configured as other clients have it, started, called and ended.

Knows servers and their lists of tools. Who may call what is decided elsewhere. The package `mcp`
is imported when the first server is started.
"""

from __future__ import annotations

from engine.tools.mcp.config import McpConfig, ServerConfig, load_config, parse_config
from engine.tools.mcp.limits import Limits
from engine.tools.mcp.servers import McpServers, ServerStatus, State

__all__ = [
    "Limits",
    "McpConfig",
    "McpServers",
    "ServerConfig",
    "ServerStatus",
    "State",
    "load_config",
    "parse_config",
]
