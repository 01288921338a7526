"""`prepare`: the mask is worked out by another thread, and is the same in every order of events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fakes import byte_vocab

from engine import _native
from engine.errors import GrammarError
from engine.grammar import Grammar, native

VOCAB = byte_vocab()
GRAMMAR = Grammar.from_regex(r"(a|bc?)*[0-9]{2,5}")


class Job:
    """A future that does its work when somebody waits for it."""

    def __init__(self, work: Callable[..., None], *arguments: Any) -> None:
        self.work, self.arguments = work, arguments
        self.has_begun = False
        self.is_cancelled = self.is_done = False
        self.error: Exception | None = None

    def cancel(self) -> bool:
        self.is_cancelled = not self.has_begun
        return self.is_cancelled

    def exception(self) -> Exception | None:
        assert not self.is_cancelled
        try:
            self.work(*self.arguments)
        except Exception as error:
            self.error = error
        self.is_done = True
        return self.error

    def result(self) -> None:
        if (error := self.exception()) is not None:
            raise error


class Worker(list[Job]):
    def submit(self, work: Callable[..., None], *arguments: Any) -> Job:
        self.append(Job(work, *arguments))
        return self[-1]


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Worker:
    """Takes every mask for a slow one, and hands it over to nobody."""
    made = Worker()
    monkeypatch.setattr(native, "SLOW_MASK", -1.0)
    monkeypatch.setattr(native, "_worker", lambda: made)
    monkeypatch.setattr(native, "_grammars", type(native._grammars)())  # no mask is known
    return made


def matcher(text: str = "") -> native.NativeConstraint:
    made = GRAMMAR.constraint(VOCAB)
    assert isinstance(made, native.NativeConstraint)
    for byte in text.encode():
        made.advance(byte)
    return made


def ready() -> native.NativeConstraint:
    """One that has met a slow mask."""
    made = matcher()
    made.mask()
    return made


def tokens(mask: np.ndarray[Any, Any]) -> list[int]:
    return np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little")).tolist()


def test_a_prepared_mask_is_the_mask(worker: Worker) -> None:
    constraint = ready()
    constraint.advance(ord("b"))
    constraint.prepare()
    constraint.prepare()
    assert len(worker) == 1
    found = tokens(constraint.mask())
    assert worker[0].is_done and found == [*range(ord("0"), ord("9") + 1), *map(ord, "abc")]
    assert tokens(constraint.mask()) == found


def test_what_is_known_or_quick_is_not_prepared(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    constraint = ready()
    constraint.prepare()  # its mask was just given
    assert not worker
    monkeypatch.setattr(native, "SLOW_MASK", 3600.0)
    constraint.advance(ord("7"))
    constraint.mask()
    constraint.advance(ord("7"))
    constraint.prepare()
    assert not worker


def test_a_prepared_mask_that_was_quick_is_the_last_prepared(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    constraint = ready()
    constraint.advance(ord("b"))
    constraint.prepare()
    monkeypatch.setattr(native, "SLOW_MASK", 3600.0)
    constraint.mask()
    constraint.advance(ord("c"))
    constraint.prepare()
    assert len(worker) == 1


@pytest.mark.parametrize("has_begun", [False, True])
@pytest.mark.parametrize(
    "move, text",
    [
        (lambda constraint: constraint.advance(ord("c")), "bc"),
        (lambda constraint: constraint.rewind(1), ""),
    ],
)
def test_moving_on_waits_for_the_mask_or_calls_it_off(
    worker: Worker, has_begun: bool, move: Callable[[Any], None], text: str
) -> None:
    constraint = ready()
    constraint.advance(ord("b"))
    constraint.prepare()
    worker[0].has_begun = has_begun
    move(constraint)
    assert worker[0].is_done is has_begun and worker[0].is_cancelled is not has_begun
    assert tokens(constraint.mask()) == tokens(matcher(text).mask())


def test_a_fork_has_a_mask_of_its_own(worker: Worker) -> None:
    constraint = ready()
    constraint.advance(ord("b"))
    constraint.prepare()
    twin = constraint.fork()
    twin.advance(ord("c"))
    assert tokens(constraint.mask()) == tokens(matcher("b").mask())
    assert tokens(twin.mask()) == tokens(matcher("bc").mask())


def test_what_goes_wrong_is_said_by_mask_and_only_there(worker: Worker) -> None:
    def fail(*arguments: Any) -> None:
        raise _native.TooComplex("too many states")

    constraint = ready()
    constraint.advance(ord("b"))
    constraint.prepare()
    worker[0].work = fail
    with pytest.raises(GrammarError, match="pattern: too many states"):
        constraint.mask()
    constraint.prepare()
    worker[1].work, worker[1].has_begun = fail, True
    constraint.advance(ord("c"))
    assert tokens(constraint.mask()) == tokens(matcher("bc").mask())


def test_the_real_thread_gives_the_same_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "SLOW_MASK", -1.0)
    text = "abcab12"
    expected = [tokens(matcher(text[:i]).mask()) for i in range(len(text))]
    monkeypatch.setattr(native, "_grammars", type(native._grammars)())
    constraint = ready()
    for byte, mask in zip(text.encode(), expected, strict=True):
        constraint.prepare()
        assert tokens(constraint.mask()) == mask
        constraint.advance(byte)
        constraint.prepare()
        constraint.rewind(1)
        constraint.advance(byte)
