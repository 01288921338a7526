"""What templates are given: messages and tools as marked dicts, in the forms that families expect.

Knows messages, tools and origins. Does not know Jinja, tokens or how rendering works.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Final

from engine.messages import ROLES, Message, ToolSpec
from engine.template.limits import Budget, Limits
from engine.template.writing import mark_all, to_json

_FIRST_MESSAGE: Final = 2  # origins 0 and 1 are the template and content in general
MESSAGE_TEXT: Final = 0  # each message has an origin for its content
CALL_NAME: Final = 1  # and one for the names of its calls


@dataclass(frozen=True, slots=True)
class Form:
    """How calls, results and tools are handed over: families differ, and only trying tells."""

    results_as_text: bool = False  # a result that is an object as JSON text
    arguments_as_text: bool = False
    no_content_with_calls: bool = False  # None instead of ""
    no_tools_as_list: bool = False  # [] instead of None: templates made for tool use alone


def forms(messages: Sequence[Message], with_tools: bool) -> Iterator[tuple[Form, ...]]:
    """The forms worth trying, the usual one first; a later group only where all before failed."""
    with_calls = (False, True) if any(message.calls for message in messages) else (False,)
    with_objects = any(not isinstance(message.content, str) for message in messages)
    results = (False, True) if with_objects else (False,)
    for as_list in (False,) if with_tools else (False, True):
        yield tuple(
            Form(as_text, arguments, no_content, as_list)
            for no_content, arguments, as_text in product(with_calls, with_calls, results)
        )


def origin(index: int, part: int) -> str:
    """The origin of message `index`'s content (MESSAGE_TEXT) or call names (CALL_NAME)."""
    return chr(_FIRST_MESSAGE + 2 * index + part)


def message_dict(message: Message, index: int, form: Form) -> dict[str, Any]:
    """The dict that templates expect, its strings marked as content of message `index`."""
    given = message.to_template()
    out = {name: mark_all(value) for name, value in given.items() if name != "tool_calls"}
    if message.role in ROLES:
        out["role"] = message.role
    content = message.text if form.results_as_text else given["content"]
    out["content"] = mark_all(content, origin(index, MESSAGE_TEXT))
    if message.calls:
        calls = given["tool_calls"]
        out["tool_calls"] = [_call_dict(call, index, form) for call in calls]
        if form.no_content_with_calls and out["content"] == "":
            out["content"] = None
    return out


def _call_dict(call: Mapping[str, Any], index: int, form: Form) -> dict[str, Any]:
    function = call["function"]
    arguments = function["arguments"]
    return {
        **call,
        "id": mark_all(call["id"]),
        "function": {
            "name": mark_all(function["name"], origin(index, CALL_NAME)),
            "arguments": json_text(arguments) if form.arguments_as_text else mark_all(arguments),
        },
    }


def tool_dict(tool: ToolSpec) -> dict[str, Any]:
    """The dict that templates expect, its strings marked: names, descriptions, the whole schema."""
    given = tool.to_template()
    return {**given, "function": {key: mark_all(part) for key, part in given["function"].items()}}


def json_text(value: Any, indent: int | None = None) -> str:
    """A JSON value as text, the strings in it marked as content."""
    return to_json(Budget(Limits()), mark_all(value), indent=indent)


def objects(message: Mapping[str, Any]) -> Iterator[Any]:
    """What a template should write as JSON, not in Python's notation."""
    if message["role"] == "tool":
        yield message["content"]
    for call in message.get("tool_calls", ()):
        yield call["function"]["arguments"]


def missing(messages: Sequence[Message], origins: set[str], part: int) -> tuple[int, ...]:
    """Messages whose content (or calls) should have left a trace in the text and have not."""
    return tuple(
        index
        for index, message in enumerate(messages)
        if origin(index, part) not in origins
        and (
            _has_text(message.content)
            if part == MESSAGE_TEXT
            else any(call.name for call in message.calls)
        )
    )


def _has_text(value: Any) -> bool:
    if isinstance(value, str):
        return bool(value.strip())
    if isinstance(value, Mapping):
        return any(map(_has_text, (*value, *value.values())))
    return isinstance(value, list | tuple) and any(map(_has_text, value))
