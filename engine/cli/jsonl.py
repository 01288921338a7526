"""Events and errors as JSON lines: what `--json` writes.

Every line is an object with `version` and `type`; the other keys are the event's own fields.
Knows the values of engine.events. Does not know who asked for them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Final, TextIO

from engine.errors import EngineError
from engine.events import Event, Finish, Step, Token

VERSION: Final = 1


def event_record(event: Event) -> dict[str, Any]:
    """`ToolCallStart(id="1")` as `{"version": 1, "type": "tool_call_start", "id": "1"}`.

    A token's bytes are hexadecimal in `data`, and in `text` as far as they are UTF-8.
    """
    kind = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(event).__name__).lower()
    record: dict[str, Any] = {"version": VERSION, "type": kind}
    record |= {item.name: getattr(event, item.name) for item in fields(event)}
    if isinstance(event, Token):
        record |= {"data": event.data.hex(), "text": event.data.decode("utf-8", "replace")}
    elif isinstance(event, Finish | Step):
        usage = event.usage
        record["usage"] = {item.name: getattr(usage, item.name) for item in fields(usage)} | {
            "tokens_per_second": usage.tokens_per_second,
            "prefill_per_second": usage.prefill_per_second,
            "reuse_ratio": usage.reuse_ratio,
        }
    return record


def error_record(error: Exception, message: str, exit_code: int) -> dict[str, Any]:
    """An error with its type, message, exit code and the data that it carries."""
    inner = {"type": type(error).__name__, "message": message, "exit_code": exit_code}
    if isinstance(error, EngineError):
        inner = {**error.data, **inner}
    return {"version": VERSION, "type": "error", "error": inner}


def write_record(stream: TextIO, record: Mapping[str, Any]) -> None:
    """Write one line and flush it: readers act on events as they come."""
    is_utf8 = (stream.encoding or "").lower().replace("-", "") == "utf8"
    text = json.dumps(record, ensure_ascii=not is_utf8, default=_plain)
    if is_utf8 and not text.isprintable():
        # Lone surrogates can't be written, and control characters that JSON lets through
        # (DEL, C1) would reach a terminal.
        text = json.dumps(record, default=_plain)
    stream.write(text + "\n")
    stream.flush()


def _plain(value: object) -> object:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=str)
    if isinstance(value, Mapping):
        return dict(value)
    return repr(value)
