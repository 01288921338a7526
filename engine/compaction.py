"""Make a long conversation shorter by a stated policy: messages in, messages out.

Knows messages, and which file a cut result names. Does not know tokens, templates or the cache
(see `restream`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from engine.errors import UsageError
from engine.messages import Message
from engine.tools.result import file_of

How = Literal["results", "turns", "both"]
Rewrite = Callable[[list[Message]], Sequence[Message]]

_NAME = 64  # characters of a tool's name in a note


@dataclass(frozen=True, slots=True)
class Compaction:
    """When and how a chat's older messages make room. A turn is one message of the model with the
    results of its calls.

    Before a prompt that would take the context over the share `at`, the oldest go until about the
    share `to` is left; the last `keep_turns` turns and every message of a person that they answer
    stay as they are. `how`: "results" puts a short note in place of old results of tools, "turns"
    leaves whole turns out, never a call without its result; "both" does the second where the first
    is not enough. Notes and calls add up, so with "results" alone a chat gets full in the end. A
    function is given all messages (the
    system message is not among them) and answers with those to go on with, the last one among them.
    """

    how: How | Rewrite = "results"
    at: float = 0.8
    to: float = 0.5
    keep_turns: int = 2

    def __post_init__(self) -> None:
        if not callable(self.how) and self.how not in ("results", "turns", "both"):
            raise UsageError(
                f"compaction is 'results', 'turns', 'both' or a function, not {self.how!r}"
            )
        if not 0 < self.to <= self.at <= 1:
            raise UsageError(
                f"a compaction goes from the share `at` of the context down to `to`, both between "
                f"0 and 1; found at={self.at}, to={self.to}"
            )
        if self.keep_turns < 1:
            raise UsageError(f"keep_turns is at least 1, not {self.keep_turns}")

    @staticmethod
    def of(given: Compaction | How | Rewrite | None) -> Compaction | None:
        """A policy from what a caller may give for one."""
        return given if given is None or isinstance(given, Compaction) else Compaction(given)


@dataclass(frozen=True, slots=True)
class Compacted:
    """The messages to go on with; what is unchanged is the same object as before.

    `results` were replaced by notes, `dropped` messages left out.
    """

    messages: list[Message]
    results: int = 0
    dropped: int = 0


def compact(messages: Sequence[Message], policy: Compaction, share: float = 0.0) -> Compacted:
    """Shorten a conversation to about `share` of its size in characters, as far as the policy lets.

    Raises UsageError for a function that answers with what can't be gone on with.
    """
    if callable(policy.how):
        return _rewritten(messages, policy.how)
    turns = _turns(messages)
    excess = sum(map(_size, messages)) * (1 - share)
    old = [turn for turn in turns if turn.said][: -policy.keep_turns]
    results = dropped = 0
    if policy.how != "turns":
        results, excess = _shorten_results(old, excess)
    if policy.how != "results":
        turns, dropped = _without_turns(turns, old, excess)
    made = [message for turn in turns for message in (*turn.asked, *turn.said)]
    return Compacted(made, results, dropped)


@dataclass(slots=True)
class _Turn:
    """Messages of a person, and the model's one with its results; `said` is empty while the last
    message waits for its answer."""

    asked: list[Message] = field(default_factory=list)
    said: list[Message] = field(default_factory=list)


def _turns(messages: Sequence[Message]) -> list[_Turn]:
    turns = [_Turn()]
    for message in messages:
        if message.role != "tool" and turns[-1].said:
            turns.append(_Turn())
        is_asked = message.role != "assistant" and not turns[-1].said
        (turns[-1].asked if is_asked else turns[-1].said).append(message)
    return turns


def _shorten_results(old: list[_Turn], excess: float) -> tuple[int, float]:
    """How many results became notes, the oldest first, and what is too much still."""
    count = 0
    for turn in old:
        for place, message in enumerate(turn.said):
            if excess <= 0:
                break
            if message.role != "tool":
                continue
            short = replace(message, content=_note(message))
            if 2 * _size(short) <= _size(message):
                turn.said[place] = short
                excess -= _size(message) - _size(short)
                count += 1
    return count, excess


def _without_turns(turns: list[_Turn], old: list[_Turn], excess: float) -> tuple[list[_Turn], int]:
    """The turns that are left, the oldest having gone, and how many messages went."""
    left, count = list(turns), 0
    for turn in old:
        if excess <= 0:
            break
        following = left[1]
        gone = list(turn.said)
        if following.asked:
            gone += turn.asked
        else:  # the model is at work for that message still
            following.asked = turn.asked
        excess -= sum(map(_size, gone))
        count += len(gone)
        left.pop(0)
    return left, count


def _rewritten(messages: Sequence[Message], rewrite: Rewrite) -> Compacted:
    made = list(rewrite(list(messages)))
    if not made or not all(isinstance(message, Message) for message in made):
        raise UsageError("the compaction function answers with Messages, and at least one")
    if messages and made[-1] != messages[-1]:
        raise UsageError("the compaction function keeps the last message: it is to be answered")
    parted = _pairs(messages) & (_calls(made) ^ _results(made))
    if parted or _results(made) - _calls(made):
        name = min(parted or _results(made) - _calls(made))
        raise UsageError(f"the compaction function parts the call {name!r} from its result")
    kept = {id(message) for message in made}
    return Compacted(made, dropped=sum(id(message) not in kept for message in messages))


def _calls(messages: Sequence[Message]) -> set[str]:
    return {call.id for message in messages for call in message.calls}


def _results(messages: Sequence[Message]) -> set[str]:
    return {message.call_id for message in messages if message.role == "tool" and message.call_id}


def _pairs(messages: Sequence[Message]) -> set[str]:
    return _calls(messages) & _results(messages)


def _note(message: Message) -> str:
    """What stands for a result: what it was of, its size, and where the whole of it is.

    Short whatever a model called or a tool answered; a file only where that saves room still.
    """
    name = f"result of {message.name[:_NAME]}" if message.name else "result"
    note = f"{name} left out to save room, {len(message.text)} characters"
    if (found := file_of(message.content)) is not None:
        path, is_whole = found
        place = f"[{note}; {'the whole' if is_whole else 'its beginning'} is in the file {path}]"
        if 2 * len(place) <= len(message.text):
            return place
    return f"[{note}]"


def _size(message: Message) -> int:
    calls = sum(
        len(call.name) + len(json.dumps(call.arguments, ensure_ascii=False, default=repr))
        for call in message.calls
    )
    return len(message.text) + len(message.thinking) + calls
