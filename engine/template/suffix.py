"""What a conversation appends after an answer whose own tokens are in the stream already.

Knows messages and how to find a stand-in in a rendered text. Does not know Jinja or tokens.

The answer is replaced by a stand-in; what follows the stand-in is the suffix. After calls, only a
stand-in that calls is followed by what the family really writes (call ids and tool names in the
results, `<|eom_id|>` or `<|eot_id|>`), but the closing of the call follows it too; the end token
that the model may have written there tells where that closing ends.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from engine.errors import TemplateError
from engine.messages import JSON, Call, Message
from engine.template.given import MESSAGE_TEXT, missing
from engine.template.marked import TEMPLATE, origin_of

Render = Callable[[Sequence[Message], bool], str]


class NoSuffix(Exception):
    """This template doesn't show where an answer ends."""


def suffix_after(
    render: Render,
    history: Sequence[Message],
    new: Sequence[Message],
    calls: tuple[Call, ...],
    ends: Collection[str],
    add_generation_prompt: bool,
    taken: str,
) -> tuple[str, int]:
    """The marked text after the answer, and how many messages come before `new` in its origins.

    `taken` is what else `render` may write: the stand-in for the answer is none of its words.
    Begins with the end-of-answer text. Raises NoSuffix or TemplateError.
    """
    head = list(history)
    while head and head[-1].role == "assistant":
        head.pop()
    start = len(head) + 1
    stand_in = _unused_word(repr((head, new, calls)) + taken)
    plain_error: TemplateError | NoSuffix | None = None
    after_text = ""
    try:
        answer = Message("assistant", stand_in)
        after_text = _after(render([*head, answer, *new], add_generation_prompt), stand_in)
        _check_nothing_dropped(after_text, new, start)
    except (TemplateError, NoSuffix) as error:
        plain_error = error
    if calls:
        answer = Message("assistant", "", calls=_speaking(calls, stand_in))
        after_call = _after_call(
            render, [*head, answer], new, stand_in, ends, add_generation_prompt
        )
        if after_call is not None:
            return after_call, start
    if plain_error is not None:
        raise plain_error
    return after_text, start


def _after_call(
    render: Render,
    head: list[Message],
    new: Sequence[Message],
    stand_in: str,
    ends: Collection[str],
    add_generation_prompt: bool,
) -> str | None:
    """What follows the call's own closing. None where the template doesn't tell."""
    try:
        alone = _after(render(head, False), stand_in)
        whole = _after(render([*head, *new], add_generation_prompt), stand_in)
        _check_nothing_dropped(whole, new, len(head))
    except (TemplateError, NoSuffix):
        return None
    # What follows the call whatever comes next: an end token beyond that belongs to `new`.
    shared = next(
        (at for at, pair in enumerate(zip(alone, whole, strict=False)) if pair[0] != pair[1]), None
    )
    end = _first_end(whole[: len(alone) if shared is None else shared], ends)
    return None if end is None else whole[end:]


def _first_end(closing: str, ends: Collection[str]) -> int | None:
    """Where the first end token stands that the template wrote itself."""
    if not any(ends):
        return None
    longest_first = sorted(filter(None, ends), key=len, reverse=True)
    for found in re.finditer("|".join(map(re.escape, longest_first)), closing):
        if not set(origin_of(closing)[slice(*found.span())]) - {TEMPLATE}:
            return found.start()
    return None


def _after(text: str, stand_in: str) -> str:
    if text.count(stand_in) != 1:
        raise NoSuffix(f"the stand-in for the answer appears {text.count(stand_in)} times in it")
    return text[text.index(stand_in) + len(stand_in) :]


def _check_nothing_dropped(text: str, new: Sequence[Message], start: int) -> None:
    padding = [Message("user", "")] * start
    lost = missing([*padding, *new], set(origin_of(text)), MESSAGE_TEXT)
    if lost:
        raise NoSuffix(f"new message {lost[0] - start} ({new[lost[0] - start].role}) is left out")


def _speaking(calls: tuple[Call, ...], stand_in: str) -> tuple[Call, ...]:
    """The calls with `stand_in` as the last argument's value."""
    last = calls[-1]
    arguments: Mapping[str, JSON] = last.arguments or {"x": ""}
    spoken: dict[str, Any] = {**arguments, list(arguments)[-1]: stand_in}
    return (*calls[:-1], replace(last, arguments=spoken))


def _unused_word(text: str) -> str:
    word = "standin"
    while word in text:
        word += "q"
    return word
