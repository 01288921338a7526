"""What a server says of its tools, made into Tools: safe names, visible text, no more trust.

Knows names, descriptions and schemas. Does not know connections.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from engine.errors import ToolDefinitionError
from engine.events import Notice
from engine.tools.mcp.config import ServerConfig
from engine.tools.tool import MAX_OUTPUT_BYTES, Policy, Tool
from engine.visible import hidden_in, visible

SEPARATOR: Final = "__"
MAX_NAME: Final = 64
MAX_DESCRIPTION: Final = 16_384  # characters; the rest is cut
_HASH: Final = 8  # characters of the hash that ends a name cut short

_BAD = re.compile(r"[^A-Za-z0-9_.-]")
_VALUES: Final = ("const", "default", "enum", "examples")
_TEXTS: Final = ("description", "title", "$comment")  # of a schema: read, but never matched


def server_part(name: str) -> str:
    """A server's name as its tools' names begin: no `__` in it, so that names can't be forged."""
    part = re.sub("__+", "_", _BAD.sub("_", name)).strip("_.-") or "server"
    return part if part[0].isalpha() else f"s{part}"


def tool_name(server: str, name: str) -> str:
    """`server__tool`, of characters that every model can write. At most MAX_NAME of them.

    What is too long is cut, and ends with a hash of the whole.
    """
    full = server_part(server) + SEPARATOR + _BAD.sub("_", name)
    if len(full) <= MAX_NAME:
        return full
    digest = hashlib.sha256(f"{server}\0{name}".encode("utf-8", "replace")).hexdigest()
    return f"{full[: MAX_NAME - _HASH - 1]}_{digest[:_HASH]}"


@dataclass(frozen=True, slots=True)
class Offer:
    """The tools of one server, and what a person should know of them."""

    tools: tuple[Tool, ...] = ()
    notices: tuple[Notice, ...] = ()


def tools_of(
    config: ServerConfig,
    definitions: Sequence[Mapping[str, Any]],
    function_of: Callable[[str], Callable[..., Any]],
) -> Offer:
    """Tools from a server's list, by its order. One that can't be used is left out with a Notice.

    `function_of` gives the function that calls the server's tool of a name. The server's own hints
    never make a tool more trusted: `destructiveHint` makes it ask, the others are not read.
    """
    tools: dict[str, Tool] = {}
    notices: list[Notice] = []

    def tell(text: str, name: str, **data: Any) -> None:
        where = {"server": config.name, "tool": visible(name), **data}
        notices.append(Notice(f"MCP server {config.name!r}: {text}", where))

    for definition in definitions:
        remote = str(definition["name"])
        name = tool_name(config.name, remote)
        shown = visible(remote)[:MAX_NAME]
        if name in tools:
            tell(f"tool {shown!r} would take the name {name} of another; it is left out", remote)
            continue
        try:
            tools[name] = _tool(config, name, definition, function_of(remote))
        except ToolDefinitionError as error:
            tell(f"{error.message}; the tool is left out", remote)
            continue
        except RecursionError:
            tell(f"the schema of tool {shown!r} is nested too deep; it is left out", remote)
            continue
        if hidden := hidden_in("".join(_strings(definition))):
            listed = ", ".join(hidden[:5])
            tell(
                f"tool {shown!r} holds characters that can't be seen: {listed}",
                remote,
                hidden=hidden,
            )
    return Offer(tuple(tools.values()), tuple(notices))


def _tool(
    config: ServerConfig, name: str, definition: Mapping[str, Any], function: Callable[..., Any]
) -> Tool:
    annotations = definition.get("annotations") or {}
    asks: Policy | None = "ask" if annotations.get("destructiveHint") is True else None
    description = visible(str(definition.get("description") or ""))
    if len(description) > MAX_DESCRIPTION:
        description = description[: MAX_DESCRIPTION - 1] + "…"
    return Tool.from_schema(
        name,
        description,
        _closed(_visible_schema(definition["inputSchema"])),
        function,
        timeout=config.timeout_seconds,
        max_output=MAX_OUTPUT_BYTES,
        approve=asks,
        server=config.name,
        origin=config.consent_hash,
        remote=str(definition["name"]),
    )


def _closed(schema: Any) -> Any:
    """The schema without arguments that it doesn't name, unless it says that there are some.

    By the letter it would take any; what servers mean is the list that they wrote.
    """
    if isinstance(schema, dict) and "properties" in schema:
        opened = {"additionalProperties", "unevaluatedProperties", "patternProperties", "allOf"}
        opened |= {"anyOf", "oneOf", "$ref", "if", "dependentSchemas"}
        if not opened & schema.keys():
            return {**schema, "additionalProperties": False}
    return schema


def _visible_schema(schema: Any) -> Any:
    """The schema with its descriptions made visible. What arguments must match stays as it is."""
    if isinstance(schema, list):
        return [_visible_schema(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: visible(value)
        if key in _TEXTS and isinstance(value, str)
        else value
        if key in _VALUES
        else _visible_schema(value)
        for key, value in schema.items()
    }


def _strings(value: Any) -> list[str]:
    """Every text of a definition, keys included."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [text for pair in value.items() for item in pair for text in _strings(item)]
    if isinstance(value, list):
        return [text for item in value for text in _strings(item)]
    return []
