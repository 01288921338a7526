"""Chats on disk: the messages as JSON, readable by people and by the next process.

Knows the file's form, version 1. Does not know models or tokens.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from engine.errors import StorageError, UsageError
from engine.messages import Message, message_from_dict
from engine.private import replacing

VERSION = 1


@dataclass(frozen=True, slots=True)
class SavedChat:
    """What a file keeps of a chat. `model` is the name of the one that spoke."""

    model: str
    system: str | None
    messages: Sequence[Message]


def write_chat(path: Path, chat: SavedChat) -> None:
    """Write a chat; an old file stays whole until the new one is. Raises StorageError."""
    data = {
        "version": VERSION,
        "model": chat.model,
        "system": chat.system,
        "messages": [message.to_openai() for message in _by_wire_id(chat.messages)],
    }
    text = json.dumps(data, ensure_ascii=False, indent=1).encode("utf-8", "replace")
    try:
        with replacing(path) as file:
            file.write(text)
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}", path=str(path)) from error


def _by_wire_id(messages: Sequence[Message]) -> Iterator[Message]:
    """Results under the ids that their calls are written with."""
    wire: dict[str | None, str] = {}
    for message in messages:
        wire |= {call.id: call.wire_id or call.id for call in message.calls}
        yield replace(message, call_id=wire.get(message.call_id, message.call_id))


def read_chat(path: Path) -> SavedChat:
    """Read what `write_chat` wrote. Raises StorageError naming what is wrong with the file."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"not JSON ({error})"
        raise StorageError(f"{path}: {reason}", path=str(path)) from error
    version = data.get("version") if isinstance(data, dict) else None
    if version != VERSION or isinstance(version, bool):
        raise StorageError(f"{path}: not a chat saved by this version", path=str(path))
    system, items = data.get("system"), data.get("messages")
    if not isinstance(system, str | None) or not isinstance(items, list):
        raise StorageError(f"{path}: system must be text and messages a list", path=str(path))
    try:
        messages = [
            message_from_dict(item, f"messages[{index}]") for index, item in enumerate(items)
        ]
    except UsageError as error:
        raise StorageError(f"{path}: {error.message}", path=str(path)) from error
    return SavedChat(str(data.get("model", "")), system, messages)
