"""Calls that wait for their results, and where the results belong.

Knows messages. Does not know tools, tokens or turns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from engine.errors import UsageError
from engine.messages import JSON, Call, Message

T = TypeVar("T")


def pending(messages: Sequence[Message]) -> tuple[Call, ...]:
    """The calls of the last message that has any, as far as they have no result."""
    for index in range(len(messages) - 1, -1, -1):
        if messages[index].calls:
            answered = {m.call_id for m in messages[index + 1 :] if m.role == "tool"}
            return tuple(call for call in messages[index].calls if call.id not in answered)
    return ()


def check_results(calls: Sequence[Call], results: Mapping[str, T]) -> dict[str, T]:
    """The results by the engine's ids; those of the family are understood as well.

    Raises UsageError naming calls without a result and results without a call.
    """
    if not calls:
        raise UsageError("no call waits for a result")
    wire = {call.wire_id: call.id for call in calls if call.wire_id is not None}
    known = {call.id for call in calls}
    given = {key if key in known else wire.get(key, key): value for key, value in results.items()}
    names = {call.id: f"{call.id} ({call.name})" for call in calls}
    if unknown := sorted(given.keys() - known):
        raise UsageError(
            f"no call {unknown[0]!r} waits for a result; waiting: {', '.join(names.values())}"
        )
    if missing := [names[key] for key in names if key not in given]:
        raise UsageError(f"results are missing for {', '.join(missing)}")
    return given


def put_results(messages: list[Message], results: Sequence[Message]) -> None:
    """Put results behind the message that called, all of them in the order of its calls."""
    index = max(place for place, message in enumerate(messages) if message.calls)
    order = {call.id: place for place, call in enumerate(messages[index].calls)}
    end = index + 1
    while end < len(messages) and messages[end].role == "tool":
        end += 1
    found = [*messages[index + 1 : end], *results]
    # What answers no call, such as the word on one that could not be read, stays behind.
    found.sort(key=lambda message: order.get(message.call_id or "", len(order)))
    messages[index + 1 : end] = found


def abandon(messages: list[Message]) -> None:
    """Give every call a result, also where the reader went away before its tool had run."""
    gone: JSON = {"error": {"type": "Cancelled", "message": "the call was abandoned"}}
    calls = pending(messages)
    if calls:
        put_results(
            messages,
            [Message("tool", gone, call_id=call.id, name=call.name) for call in calls],
        )
