"""What a server's messages must be before the library sees them.

Knows JSON-RPC as plain values: rates, ids, and the few keys of a tool that are of use here. Does
not know transports or sessions.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final, NoReturn

from engine.errors import McpError
from engine.tools.mcp.limits import Limits, Meter

_SHOWN: Final = 80  # characters of what a server wrote, in an error


class Screen:
    """One connection's gate: counts messages, refuses what breaks the protocol.

    Raises McpError for what ends the connection. What concerns one tool alone is left out, and
    said in `refused`.
    """

    def __init__(self, name: str, limits: Limits, clock: Callable[[], float]) -> None:
        self._name = name
        self._limits = limits
        self._clock = clock
        self._meter = Meter(limits.messages_per_second, clock())
        self._issued: int | None = None  # the highest id of ours; None where ids can't be wrong
        self.refused: list[str] = []
        self.junk_lines = 0
        self.junk = ""  # the first of them

    def issue(self, id: int | str | None) -> None:
        """A request with this id is sent."""
        if isinstance(id, int):
            self._issued = max(id, self._issued or 0)

    def count(self) -> None:
        """One message or line has come."""
        if not self._meter.admits(self._clock()):
            self._drop(
                f"sent more than {self._limits.messages_per_second} messages a second", "flood"
            )

    def line(self, line: bytes) -> bytes | None:
        """A line as JSON that every parser takes, None where it is not meant as a message.

        Programs print banners and warnings to stdout; those are kept for people and skipped.
        """
        try:
            # A lone surrogate (`\ud800`) is JSON, but no text: it becomes a question mark.
            value = json.loads(line.decode("utf-8", "replace"))
            if isinstance(value, dict):
                return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
        except (ValueError, RecursionError):
            value = None
        if not line.strip():
            return None
        self.junk_lines += 1
        self.junk = self.junk or line.decode("utf-8", "replace").strip()[:_SHOWN]
        return None

    def answer(self, id: int | str | None) -> None:
        """An answer with this id has come. Late ones, to calls given up, are no fault."""
        if self._issued is None or id is None:
            return
        number = int(id) if isinstance(id, str) and id.isdecimal() and len(id) < 20 else id
        if not isinstance(number, int) or not 1 <= number <= self._issued:
            self._drop(
                f"answered a request that was never made (id {str(id)[:_SHOWN]!r})", "wrong_id"
            )

    def result(self, result: dict[str, Any]) -> None:
        """Leave of listed tools what is of use, and those out that can't be read at all."""
        listed = result.get("tools")
        if not isinstance(listed, list):
            return
        kept = []
        for item in listed:
            tool = _tool(item)
            if isinstance(tool, str):
                self.refused.append(tool)
            else:
                kept.append(tool)
        result["tools"] = kept

    def invalid(self, line: bytes) -> NoReturn:
        """It said to speak JSON-RPC, and doesn't."""
        shown = line[:_SHOWN].decode("utf-8", "replace")
        self._drop(f"sent what is no JSON-RPC message: {shown}", "protocol")

    def _drop(self, problem: str, reason: str) -> NoReturn:
        raise McpError(
            f"MCP server {self._name!r}: {problem}; the connection was dropped",
            server=self._name,
            reason=reason,
        )


def _tool(item: Any) -> dict[str, Any] | str:
    """A listed tool with the keys that we read, or what is wrong with it."""
    if not isinstance(item, dict) or not isinstance(item.get("name"), str) or not item["name"]:
        return f"a tool without a name: {str(item)[:_SHOWN]}"
    name, description, schema = item["name"], item.get("description"), item.get("inputSchema")
    if description is not None and not isinstance(description, str):
        return f"tool {name[:_SHOWN]!r}: its description is not text"
    if not isinstance(schema, dict) or not _is_of_object(schema):
        return f"tool {name[:_SHOWN]!r}: its inputSchema is no schema of an object"
    tool: dict[str, Any] = {"name": name, "inputSchema": schema}
    if description is not None:
        tool["description"] = description
    annotations = item.get("annotations")
    if isinstance(annotations, dict):
        hint = annotations.get("destructiveHint")
        tool["annotations"] = {"destructiveHint": hint} if isinstance(hint, bool) else {}
    return tool


def _is_of_object(schema: dict[str, Any]) -> bool:
    """Whether the library takes this schema; one bad schema would cost the whole list."""
    properties, required = schema.get("properties"), schema.get("required")
    return (
        schema.setdefault("type", "object") == "object"
        and isinstance(schema.get("$schema", ""), str)
        and (properties is None or isinstance(properties, dict))
        and all(isinstance(each, dict | bool) for each in (properties or {}).values())
        and (required is None or isinstance(required, list))
        and all(isinstance(each, str) for each in required or [])
    )
