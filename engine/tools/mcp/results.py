"""What an MCP tool answered, as a value for the model.

Knows the parts that a result may have, as plain values. Does not know connections.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from engine.tools.result import Failure


def value_of(result: Mapping[str, Any]) -> Any:
    """Texts joined; structured content as JSON; a Failure where the server says `isError`.

    Pictures, sounds and files are named, not shown: `[image image/png, 1234 bytes]`. Where the
    texts only say the structured content again, as the protocol asks servers to, it is given once.
    """
    parts = [_part(part) for part in result.get("content", [])]
    text = "\n".join(parts)
    structured = result.get("structuredContent")
    value: Any = text
    if (items := _wrapped_list(structured, parts)) is not None:
        value = items
    elif structured is not None and not _only_holds(structured, text):
        said_again = not text or all(_json_of(part) == structured for part in parts)
        value = structured if said_again else {"text": text, "structured": structured}
    return Failure(value) if result.get("isError") else value


def _only_holds(structured: Any, text: str) -> bool:
    """Whether it is `{"content": text}`, as servers wrap a result that is text by nature."""
    return isinstance(structured, dict) and list(structured.values()) == [text]


def _wrapped_list(structured: Any, parts: list[str]) -> list[Any] | None:
    """The list in `{"result": [...]}` where each item is a text of its own as well."""
    values = list(structured.values()) if isinstance(structured, dict) else []
    if len(values) != 1 or not isinstance(values[0], list) or len(values[0]) != len(parts):
        return None
    said = zip(values[0], parts, strict=True)
    return values[0] if all(item == part or item == _json_of(part) for item, part in said) else None


def _part(part: Mapping[str, Any]) -> str:
    match part.get("type"):
        case "text":
            return str(part.get("text", ""))
        case "image" | "audio" as kind:
            return f"[{kind} {part.get('mimeType', '')}, {_size(part.get('data', ''))} bytes]"
        case "resource_link":
            kind = f" {part['mimeType']}" if "mimeType" in part else ""
            return f"[resource {part.get('name', '')} {part.get('uri', '')}{kind}]"
        case "resource":
            return _resource(part.get("resource", {}))
        case other:
            return f"[{other}]"


def _resource(resource: Mapping[str, Any]) -> str:
    kind = f" {resource['mimeType']}" if "mimeType" in resource else ""
    head = f"[resource {resource.get('uri', '')}{kind}"
    if "text" in resource:
        return f"{head}]\n{resource['text']}"
    return f"{head}, {_size(resource.get('blob', ''))} bytes]"


def _size(base64: str) -> int:
    """Bytes that a Base64 text stands for."""
    return len(base64.rstrip("=")) * 3 // 4


def _json_of(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
