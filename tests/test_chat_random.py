"""Anything may happen to a chat that makes room, in any order: the cache and the stream agree.

Each seed is a chat of 30 random moves: answers, calls (ours and the caller's), retries, other
tools, readers who go away, answers that are cancelled, policies of every kind.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import pytest
from fakes import scripted_model
from test_chat_loop import CLIENT, GREEDY, call, say

from engine import Chat, Compaction, Model
from engine.errors import ContextFull, UsageError
from engine.messages import Message

SEEDS, IN_ONE, COUNT = 50, 10, 30
CONTEXTS = (700, 1000, 1500)


def rewriter(chance: random.Random) -> Callable[[list[Message]], Sequence[Message]]:
    """A policy as a caller may write one: turns go at random, others are made anew."""

    def rewrite(messages: list[Message]) -> Sequence[Message]:
        mode = chance.randrange(5)
        if mode == 0:
            is_asked = messages[-1].role == "user"
            return [Message("user", "SUM"), messages[-1]] if is_asked else messages
        last = max((n for n, m in enumerate(messages) if m.role == "assistant"), default=0)
        made: list[Message] = []
        place = 0
        while place < len(messages):
            end = place + 1
            message = messages[place]
            if message.role == "assistant" and place < last:
                while messages[end].role == "tool":
                    end += 1
                if chance.random() >= 0.6:
                    made += [changed(m, mode) for m in messages[place:end]]
            elif not (
                message.role == "user"
                and end < len(messages)
                and mode == 3
                and chance.random() < 0.5
            ):
                made.append(message)
            place = end
        return made

    def changed(message: Message, mode: int) -> Message:
        if mode == 2 and message.role == "tool":
            return replace(message, content="cut")
        return replace(message) if mode == 1 else message

    return rewrite


def book(n: int) -> str:
    """Book."""
    return "w " * (60 if n % 2 else 1)


class Trial:
    """One chat, and what may happen to it."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.model: Model = scripted_model(family="hermes", n_ctx=self.chance.choice(CONTEXTS))
        how: Any = self.chance.choice(["turns", "results", "both", None, None])
        policy = Compaction(
            how or rewriter(self.chance), at=0.75, to=0.4, keep_turns=self.chance.choice([1, 2])
        )
        self.chat: Chat = self.model.chat(tools=[book, CLIENT], sampling=GREEDY, compaction=policy)

    def move(self) -> str:
        """Do something; answers what."""
        name = self.chance.choice(list(MOVES))
        backend: Any = self.model.backend
        backend._script.clear()
        backend._place = 0
        try:
            MOVES[name](self)
        except (UsageError, ContextFull):
            pass
        except AssertionError as error:
            if "the script is over" not in str(error):  # a call was not made: no room, no tool
                raise
        return name

    def answer(self) -> None:
        say(self.model, "a" * self.chance.choice([1, 80]))
        list(self.chat.stream("q" * self.chance.choice([1, 90, 300])))

    def call(self) -> None:
        say(self.model, self._call("book"), "fin")
        list(self.chat.stream("t"))

    def calls(self) -> None:
        say(self.model, self._call("book") + self._call("book"), self._call("book"), "fin")
        list(self.chat.stream("t"))

    def ask_caller(self) -> None:
        say(self.model, self._call("look") + self._call("book"), "fin", "fin")
        list(self.chat.stream("t"))
        then = self.chance.random()
        if then < 0.5 and self.chat.pending:
            text = "z" * self.chance.choice([1, 100])
            list(self.chat.resume({call.id: text for call in self.chat.pending}))
        elif then < 0.7 and self.chat.pending:
            list(self.chat.retry(run_tools=False))

    def retry(self) -> None:
        say(self.model, "again")
        list(self.chat.retry())

    def other_tools(self) -> None:
        self.chat.set_tools(self.chance.choice([[book], [book, CLIENT], []]))

    def leave(self) -> None:
        say(self.model, self._call("book"), "fin")
        list(islice(self.chat.stream("br"), self.chance.randrange(40)))

    def cancel(self) -> None:
        say(self.model, "long answer here", "x")
        left = iter(range(self.chance.randrange(30)))
        list(self.chat.stream("w" * 150, cancelled=lambda: next(left, None) is None))

    def _call(self, name: str) -> str:
        return call(name, n=self.chance.randrange(10))


MOVES: dict[str, Callable[[Trial], None]] = {
    "answer": Trial.answer,
    "answer too": Trial.answer,
    "call": Trial.call,
    "calls": Trial.calls,
    "ask caller": Trial.ask_caller,
    "retry": Trial.retry,
    "other tools": Trial.other_tools,
    "leave": Trial.leave,
    "cancel": Trial.cancel,
}


def check(trial: Trial, where: object) -> None:
    chat, backend = trial.chat, trial.model.backend
    sequence = chat.sequence
    assert backend.cells[sequence.slot] == list(sequence.ids[: sequence.computed]), where
    assert len(sequence.origins) == len(sequence.ids), where
    known: set[str] = set()
    for message in chat.messages:
        if message.role == "tool" and message.call_id:
            assert message.call_id in known, (where, "a result without its call")
        known |= {call.id for call in message.calls}
    fed = chat._feed.fed
    assert fed <= len(chat.messages), where
    if chat.messages[-1:] and chat.messages[-1].role == "assistant" and fed == len(chat.messages):
        stream = trial.model.vocab.bytes_of(sequence.ids).decode()
        place = 0
        for message in chat.messages:
            if message.role == "user":
                place = stream.find(f"<|im_start|>user\n{message.text}<|im_end|>", place) + 1
                assert place, (where, "a message is not in the stream", message.text)


@pytest.mark.parametrize("start", range(0, SEEDS, IN_ONE))
def test_after_any_moves_cells_are_the_stream_s_tokens_and_the_stream_has_the_messages(start):
    for seed in range(start, start + IN_ONE):
        trial = Trial(seed)
        with trial.chat:
            for number in range(COUNT):
                check(trial, (seed, number, trial.move()))
