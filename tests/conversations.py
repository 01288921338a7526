"""Conversations and tools that the template tests share, and the 70 templates by name."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import product
from typing import Any

from conftest import SHARED

from engine.messages import Call, Message, ToolSpec
from engine.template import ChatTemplate

NOW = datetime.datetime(2025, 3, 1, 12, 30)
TEMPLATES = sorted(path.stem for path in (SHARED / "templates").glob("*.jinja"))

WEATHER = ToolSpec(
    "get_weather",
    "Current weather in a city. 도시의 날씨",
    {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "City <b> & 'x' \"y\""},
            "days": {"type": "integer", "description": "How many", "default": 3},
            "unit": {"type": "string", "description": "unit", "enum": ["celsius", "fahrenheit"]},
            "tags": {"type": "array", "description": "tags", "items": {"type": "string"}},
        },
        "required": ["city"],
    },
)
NO_ARGUMENTS = ToolSpec("no_args", "Nothing.")

SYSTEM = Message("system", 'Be brief. "quoted"')
USER = Message("user", "서울 날씨?\n```py\nx = {'a': 1}\n```")
ANSWER = Message("assistant", "맑음 😀")
THANKS = Message("user", "  thanks\n<b> & \n")
CALL = Call(
    "abc123def",
    "get_weather",
    {
        "city": '서울 "Seoul"',
        "days": 3,
        "f": 1.5,
        "ok": True,
        "nothing": None,
        "deep": {"a": ["x"]},
    },
)
SECOND_CALL = Call("abc123deg", "no_args", {})
CALLING = Message("assistant", "", calls=(CALL,))
RESULT = Message("tool", '{"t": 21}', call_id="abc123def", name="get_weather")
RESULT_OBJECT = Message("tool", {"t": 21, "sky": "맑음"}, call_id="abc123def", name="get_weather")
CALLING_TWICE = Message(
    "assistant", "Let me see.", thinking="Hmm, weather.", calls=(CALL, SECOND_CALL)
)
SECOND_RESULT = Message("tool", "plain text", call_id="abc123deg", name="no_args")
THOUGHT = Message("assistant", "<think>\nold thought\n</think>\n\nanswer")
THOUGHT_APART = Message("assistant", "answer 2", thinking="I think")

CONVERSATIONS: dict[str, list[Message]] = {
    "question": [USER],
    "plain": [SYSTEM, USER, ANSWER, THANKS],
    "no system": [USER, ANSWER, THANKS],
    "thinking": [SYSTEM, USER, THOUGHT, THANKS, THOUGHT_APART, USER],
    "call": [SYSTEM, USER, CALLING, RESULT],
    "call, answered": [USER, CALLING, RESULT, ANSWER, THANKS],
    "object as result": [USER, CALLING, RESULT_OBJECT],
    "two calls": [SYSTEM, USER, CALLING_TWICE, RESULT, SECOND_RESULT, ANSWER, THANKS],
}


def source_of(name: str) -> str:
    return (SHARED / "templates" / f"{name}.jinja").read_text("utf-8")


@cache
def template(name: str) -> ChatTemplate:
    return ChatTemplate(source_of(name), name=name, bos="<s>", eos="</s>", now=lambda: NOW)


def forms(messages: Sequence[Message]) -> Iterator[list[dict[str, Any]]]:
    """The dicts that Hugging Face's users hand over for one conversation, the usual form first."""
    for no_content, text_arguments, text_results in product((False, True), repeat=3):
        out = []
        for message in messages:
            data = message.to_template()
            if text_results:
                data["content"] = message.text
            for call in data.get("tool_calls", ()) if text_arguments else ():
                function = call["function"]
                function["arguments"] = json.dumps(function["arguments"], ensure_ascii=False)
            if no_content and "tool_calls" in data and not data["content"]:
                data["content"] = None
            out.append(data)
        yield out
