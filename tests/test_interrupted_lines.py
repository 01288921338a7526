"""KeyboardInterrupt at any line of the engine, as a program of one's own meets it.

Such a program has no handler of ours: Ctrl-C raises wherever Python is. Whatever line that is, the
chat goes on: its tokens and its cache agree, and the next answer is that of a fresh chat which
read the same tokens. By default every 7th line; ENGINE_TESTS=full takes them all.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from fakes import scripted_model

import engine
from engine.errors import UsageError
from engine.events import Text
from engine.model import Model

FULL = os.environ.get("ENGINE_TESTS") == "full"
STRIDE = 1 if FULL else 7
GREEDY = engine.Sampling(temperature=0)
# The state of a conversation is in these; the rest computes from what it is given.
STATEFUL = {"chat.py", "turns.py", "feed.py", "sequence.py", "decode.py", "course.py", "pending.py"}
ENGINE = str(Path(engine.__file__).parent)
CALL = json.dumps({"name": "double", "arguments": {"n": 4}})


def double(n: int) -> int:
    """Twice a number."""
    return 2 * n


class Interruption:
    """Counts the lines that the stateful modules run, and raises at one of them."""

    def __init__(self, at: int | None = None) -> None:
        self.at, self.count, self.where = at, 0, ""

    def __enter__(self) -> Interruption:
        self._before = sys.gettrace()
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)

    def _trace(self, frame: FrameType, event: str, argument: object) -> Any:
        path = Path(frame.f_code.co_filename)
        is_ours = path.name in STATEFUL and str(path.parent) == ENGINE
        return self._line if is_ours else None

    def _line(self, frame: FrameType, event: str, argument: object) -> Any:
        if event == "line":
            self.count += 1
            if self.count == self.at:
                self.where = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
                raise KeyboardInterrupt
        return self._line


def answering() -> Model:
    """A model that says a word, calls, and says what came of it."""
    model = scripted_model(family="hermes")
    for text in (f"Hm.<tool_call>\n{CALL}\n</tool_call>", "It is 8."):
        model.backend.say([*model.encode(text), model.vocab.find("<|im_end|>")])
    return model


def next_answer(model: Model, chat: engine.Chat) -> str:
    """What it says next, whatever the interrupted answer left of the script."""
    backend = model.backend
    backend._script.clear()
    backend._place = 0
    backend.say([*model.encode("Yes."), model.vocab.find("<|im_end|>")])
    events = list(chat.stream("Still there?"))
    assert events[-1].reason == "end_turn"
    return "".join(event.text for event in events if isinstance(event, Text))


def lines() -> int:
    model = answering()
    with model.chat("Be brief.", tools=[double], sampling=GREEDY) as chat, Interruption() as all_:
        list(chat.stream("Twice four?"))
    return all_.count


def test_an_interrupt_at_any_line_leaves_a_chat_that_goes_on() -> None:
    total, places = lines(), set()
    assert total > 500
    for at in range(1, total, STRIDE):
        model = answering()
        with model.chat("Be brief.", tools=[double], sampling=GREEDY) as chat:
            with Interruption(at) as struck:
                stream = chat.stream("Twice four?")
                with pytest.raises(KeyboardInterrupt):
                    list(stream)
                del stream
            places.add(struck.where)
            assert next_answer(model, chat) == "Yes.", struck.where
            check(model, chat, struck.where)
    assert len(places) > (100 if FULL else 50)


def check(model: Model, chat: engine.Chat, where: str) -> None:
    """Messages, tokens and cache tell the same story, and every call in it has its result."""
    ids, sequence = list(chat.sequence.ids), chat.sequence
    cells = model.backend.cells[sequence.slot]
    assert cells == ids[: len(cells)] and len(ids) - len(cells) <= 1, where
    assert len(sequence.origins) == len(ids), where
    said = model.vocab.bytes_of(ids).decode()
    assert said.count("<|im_start|>system") == 1, where
    assert "Still there?<|im_end|>\n<|im_start|>assistant\nYes." in said, where
    asked = [message.text for message in chat.messages if message.role == "user"]
    assert said.count("<|im_start|>user\n") - said.count("<tool_response>") == len(asked), where
    calls = [call.id for message in chat.messages for call in message.calls]
    results = [message.call_id for message in chat.messages if message.role == "tool"]
    assert calls == results and said.count("<tool_call>\n{") == len(calls), where
    assert chat.pending == (), where


def test_an_interrupted_chat_can_be_closed_and_its_slot_used_again() -> None:
    model = answering()
    with model.chat(sampling=GREEDY) as chat, Interruption(200), pytest.raises(KeyboardInterrupt):
        list(chat.stream("Twice four?"))
    with pytest.raises(UsageError, match="closed"):
        list(chat.stream("Still there?"))
    with model.chat(sampling=GREEDY) as chat:
        assert next_answer(model, chat) == "Yes."
