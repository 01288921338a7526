"""What an answer may look like, and what became of it: formats and the result.

Knows response formats and events. Does not know how answers are generated.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from engine.errors import UsageError
from engine.events import Event, Finish, Text, ToolResult, Usage
from engine.grammar import Grammar


@dataclass(frozen=True, slots=True)
class Answer:
    """A finished answer: its text, what it parses to where a format was asked for, and the end.

    `results` are those of the tools that were run on the way.
    """

    text: str
    parsed: Any
    finish: Finish
    results: tuple[ToolResult, ...] = ()


def grammar_of(form: Any) -> Grammar:
    """A response format as a grammar: a Grammar, a JSON Schema, or a class with one (Pydantic)."""
    if isinstance(form, Grammar):
        return form
    if isinstance(form, Mapping | bool):
        return Grammar.from_schema(form)
    if hasattr(form, "model_json_schema"):
        return Grammar.from_schema(form.model_json_schema(), name=form.__name__)
    raise UsageError(
        f"response_format: expected a schema, a Pydantic model or a Grammar, "
        f"found {type(form).__name__}"
    )


def parsed(text: str, form: Any) -> Any:
    """The text as what its format says: None without one, JSON, or a Pydantic object."""
    if form is None or (isinstance(form, Grammar) and form.kind != "json_schema"):
        return None if form is None else text
    if hasattr(form, "model_validate_json"):
        return form.model_validate_json(text)
    return json.loads(text)


def answer_of(events: Iterable[Event], form: Any = None) -> Answer:
    """Read a stream to its end."""
    pieces: list[str] = []
    results: list[ToolResult] = []
    finish = Finish("end_turn", Usage())
    for event in events:
        if isinstance(event, Text):
            pieces.append(event.text)
        elif isinstance(event, ToolResult):
            results.append(event)
        elif isinstance(event, Finish):
            finish = event
    text = "".join(pieces)
    value = parsed(text, form) if finish.reason == "end_turn" else None
    return Answer(text, value, finish, tuple(results))
