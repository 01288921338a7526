"""What an answer may look like, and what became of it: formats, stop conditions, the result.

Knows response formats and events. Does not know how answers are generated.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from engine.errors import UsageError
from engine.events import Finish
from engine.grammar import Grammar
from engine.messages import Call


@dataclass(frozen=True, slots=True)
class Answer:
    """A finished answer: its text, what it parses to where a format was asked for, and the end."""

    text: str
    parsed: Any
    finish: Finish


@dataclass(frozen=True, slots=True)
class Progress:
    """Where an answer stands, for stop conditions: `step` model turns are done."""

    step: int
    calls: tuple[Call, ...]


StopCondition = Callable[[Progress], bool]


def steps(count: int) -> StopCondition:
    """Stop after `count` turns of the model, tool results included."""
    return lambda progress: progress.step >= count


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
