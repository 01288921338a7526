"""Answers that are stopped, cut off or run out of room, on real weights, over many seeds.

No partial call is run, what is left is the stream before it, and the next answer is, token by
token, the one of a fresh session with the same history. Docs: docs/faults.md, rows S and K.
"""

from __future__ import annotations

import os
import random
from typing import Any

import pytest

import engine
from engine.errors import ContextFull
from engine.events import Finish, Notice, Token, ToolCall, ToolResult

pytestmark = pytest.mark.live
FULL = os.environ.get("ENGINE_TESTS") == "full"
SEEDS, SLOW_SEEDS = 20, 20 if FULL else 2
GREEDY = engine.Sampling(temperature=0)
ran: list[str] = []


def get_weather(city: str) -> dict[str, Any]:
    """Current weather in a city."""
    ran.append(city)
    return {"city": city, "temperature": 21}


def tokens_of(events: list[Any]) -> list[int]:
    return [event.id for event in events if isinstance(event, Token)]


def twin(model: engine.Model, chat: engine.Chat, **options: Any) -> engine.Chat:
    """A fresh session after the same history: another slot, all of it computed anew."""
    other = model.chat(chat.system, list(chat.tools), **options)
    other.sequence.append(chat.sequence.ids, chat.sequence.origins)
    other.messages[:] = chat.messages
    other._feed.go_back(chat._feed.fed, len(other.sequence))
    other._turns.calls_made = chat._turns.calls_made
    return other


def next_is_that_of_a_fresh_session(
    model: engine.Model, chat: engine.Chat, text: str, limit: int, **options: Any
) -> bool:
    chat.sampling = GREEDY
    with twin(model, chat, **options | {"sampling": GREEDY}) as fresh:
        wanted = tokens_of(list(fresh.stream(text, max_tokens=limit)))
    return bool(wanted) and tokens_of(list(chat.stream(text, max_tokens=limit))) == wanted


class Asked:
    """A `cancelled` that says yes when it is asked for the n-th time, and counts."""

    def __init__(self, at: float = float("inf")) -> None:
        self.count, self.at = 0, at

    def __call__(self) -> bool:
        self.count += 1
        return self.count >= self.at


@pytest.mark.parametrize(
    "weights, message, limit, seeds",
    [
        ("tiny", "Some words. " * 150 + "What's the weather in Paris?", 40, SEEDS),
        ("smollm2", "Some words. " * 60 + "What's the weather in Paris?", 8, SLOW_SEEDS),
    ],
)
def test_wherever_an_answer_is_stopped_the_next_is_that_of_a_fresh_session(
    weights: str, message: str, limit: int, seeds: int, request: pytest.FixtureRequest
) -> None:
    model = request.getfixturevalue(weights)
    options: dict[str, Any] = {"sampling": GREEDY, "max_steps": 2}
    whole, n_prompt = Asked(), 0
    with model.chat(tools=[get_weather], **options) as chat:
        for event in chat.stream(message, max_tokens=limit, cancelled=whole):
            if isinstance(event, Token) and not n_prompt:
                n_prompt = whole.count
    where: dict[str, int] = {"in the prompt": 0, "behind it": 0}
    for seed in range(seeds):
        # Almost all questions come from the prompt's graph nodes: every other stop is behind it.
        first, last = (1, n_prompt - 1) if seed % 2 else (n_prompt + 1, whole.count - 1)
        stop = Asked(random.Random(seed).randint(first, last))
        with model.chat(tools=[get_weather], **options) as chat:
            events = list(chat.stream(message, max_tokens=limit, cancelled=stop))
            assert events[-1].reason == "cancelled", seed
            where["behind it" if chat.messages else "in the prompt"] += 1
            assert next_is_that_of_a_fresh_session(model, chat, "Oslo?", 12, **options), seed
    assert all(where.values())


def cut_off(chat: engine.Chat, message: str, reason: str, **limits: Any) -> None:
    """An answer that ends for `reason` inside its call: nothing of the call is left."""
    before = len(ran)
    events = list(chat.stream(message, **limits))
    [notice] = [event for event in events if isinstance(event, Notice)]
    first = next(event for event in events if isinstance(event, Token))
    assert events[-1].reason == reason and "cut off" in notice.text
    assert not [event for event in events if isinstance(event, ToolCall | ToolResult)]
    assert len(ran) == before
    assert len(chat.sequence) == first.position, "rewound to before the call"
    assert chat.messages[-1].role == "assistant" and chat.messages[-1].calls == ()
    assert chat.pending == ()


def required(seed: int, **more: Any) -> dict[str, Any]:
    sampling = engine.Sampling(temperature=0.7, seed=seed)
    return {"tool_choice": "required", "sampling": sampling, "max_steps": 1, **more}


def call_length(model: engine.Model, message: str, options: dict[str, Any]) -> int:
    """How many tokens the model's call takes that this seed makes."""
    with model.chat(tools=[get_weather], **options) as chat:
        return len(tokens_of(list(chat.stream(message, max_tokens=64))))


@pytest.mark.parametrize("weights, seeds", [("tiny", SEEDS), ("smollm2", SLOW_SEEDS)])
def test_a_limit_inside_a_call_runs_nothing_and_the_next_message_works(
    weights: str, seeds: int, request: pytest.FixtureRequest
) -> None:
    model, message = request.getfixturevalue(weights), "What's the weather in Paris?"
    for seed in range(seeds):
        options = required(seed)
        limit = random.Random(seed).randint(1, call_length(model, message, options) - 2)
        with model.chat(tools=[get_weather], **options) as chat:
            cut_off(chat, message, "length", max_tokens=limit)
            assert next_is_that_of_a_fresh_session(model, chat, "And in Oslo?", 64, **options)


def test_the_context_s_end_inside_a_call_runs_nothing_and_the_chat_stays_usable(
    tiny_path: Any, tiny: engine.Model
) -> None:
    message, short = "word " * 60 + "What's the weather in Paris?", "Oslo weather?"
    for seed in range(SEEDS):
        options = required(seed)
        with tiny.chat(tools=[get_weather], **options) as chat:
            events = list(chat.stream(message, max_tokens=64))
            prompt = next(event.position for event in events if isinstance(event, Token))
            length = len(tokens_of(events))
        n_ctx = prompt + random.Random(seed).randint(1, length - 2)
        with (
            engine.load(tiny_path, n_ctx=n_ctx, threads=1) as model,
            model.chat(tools=[get_weather], **options) as chat,
        ):
            cut_off(chat, message, "context_full")
            history = list(chat.messages)
            with pytest.raises(ContextFull) as full:  # before anything is computed: K1
                list(chat.stream(short * 20))
            assert full.value.n_ctx == n_ctx < full.value.need
            assert chat.messages == history
            chat.clear()
            begun = len(ran)
            last = list(chat.stream(short, max_tokens=64))[-1]
            assert isinstance(last, Finish) and last.reason == "step_limit"
            assert len(ran) > begun
