"""Which tokens may come next: the Constraint protocol.

Knows tokens and masks. Does not know grammars, how masks are computed, logits or tools.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from engine.vocab import Vocab

Mask = NDArray[np.uint32]
Encode = Callable[[str], list[int]]  # text inside a message to tokens, without a space in front


class Constraint(Protocol):
    """One walk through a grammar, a token at a time."""

    def mask(self) -> Mask:
        """One bit a token, bit `id % 32` of word `id // 32`: set where the grammar goes on.

        A view that the next call overwrites; shape ((n_vocab + 31) // 32,). End tokens are set
        where the grammar may end. Raises GrammarError when a limit of the matcher was hit.
        """

    def prepare(self) -> None:
        """A mask is wanted here soon: it may be worked out meanwhile, in another thread.

        Writes over the mask that was given last. What goes wrong, `mask` raises.
        """

    def allows(self, token: int) -> bool:
        """Whether `mask` has this token's bit, without computing the rest. Changes nothing."""

    def advance(self, token: int) -> None:
        """Take a token. Raises GrammarError, and changes nothing, where it is refused."""

    def rewind(self, count: int) -> None:
        """Undo the last `count` advances."""

    @property
    def is_accepting(self) -> bool:
        """Whether the text so far is a whole sentence of the grammar."""

    @property
    def is_done(self) -> bool:
        """Whether nothing but an end token may follow, or one was taken."""

    def forced(self, encode: Encode) -> list[int]:
        """The tokens that must come next, as `encode` writes the bytes that leave no choice.

        What a longer token could still swallow together with the bytes behind is left out.
        """

    def allowed_summary(self) -> str:
        """What may come next, in words for people: `a string or 'null'`."""

    def explain(self, token: int) -> str:
        """Why a token is refused: the byte at which it dies, and what was expected there."""

    def captures(self) -> list[tuple[str, bytes]]:
        """Name and bytes of each captured span that is complete, in order of appearance."""

    def progress(self, skip: int = 0) -> tuple[list[tuple[str, int, bool]], int]:
        """Where captures begin and end, as far as that is certain.

        (name, place, is_end) in the text's order: those that all ways of reading the text so far
        have in common; and the place up to which they agree. Places count the bytes of `text`.
        Both only ever grow, until a `rewind`. The first `skip` are left out: who has taken them
        asks for what is new, at a cost that does not depend on how many they are.
        """

    def text(self, begin: int, end: int) -> bytes:
        """A stretch of the text so far; special tokens have no bytes in it."""


@dataclass(frozen=True, slots=True)
class Terminals:
    """The tokens that are more than their bytes.

    `ends` may follow where a grammar is complete. `special` can appear only where a grammar names
    them, never inside text: control tokens, and a family's markers.
    """

    ends: frozenset[int]
    special: frozenset[int]

    @classmethod
    def of(cls, vocab: Vocab, markers: Collection[int] = ()) -> Terminals:
        """End tokens as the vocabulary has them; all control tokens, and `markers`, are special."""
        control = {int(i) for i in np.flatnonzero((vocab.kinds == 3) | (vocab.kinds == 2))}
        return cls(frozenset(vocab.eog), frozenset(control | set(markers) | vocab.eog))


def either(*parts: Constraint) -> Constraint:
    """What any of `parts` allows. Those that refuse a token are out from then on."""
    return _Either(parts)


class _Either:
    """Several walks side by side. What a single walk tells is told by the last one left."""

    def __init__(self, parts: tuple[Constraint, ...]) -> None:
        self._left = parts
        self._before: list[tuple[Constraint, ...]] = []  # those left before each token

    def mask(self) -> Mask:
        if len(self._left) == 1:
            return self._left[0].mask()
        joined: Mask = np.bitwise_or.reduce([part.mask() for part in self._left])
        return joined

    def prepare(self) -> None:
        for part in self._left:
            part.prepare()

    def allows(self, token: int) -> bool:
        return any(part.allows(token) for part in self._left)

    def advance(self, token: int) -> None:
        going_on = tuple(part for part in self._left if part.allows(token))
        if not going_on:
            self._left[-1].advance(token)  # raises, with its reason
        for part in going_on:
            part.advance(token)
        self._before.append(self._left)
        self._left = going_on

    def rewind(self, count: int) -> None:
        for _ in range(count):
            for part in self._left:
                part.rewind(1)
            self._left = self._before.pop()

    @property
    def is_accepting(self) -> bool:
        return any(part.is_accepting for part in self._left)

    @property
    def is_done(self) -> bool:
        return all(part.is_done for part in self._left)

    def forced(self, encode: Encode) -> list[int]:
        return self._left[0].forced(encode) if len(self._left) == 1 else []

    def allowed_summary(self) -> str:
        return " or ".join(part.allowed_summary() for part in self._left)

    def explain(self, token: int) -> str:
        return self._left[-1].explain(token)

    def captures(self) -> list[tuple[str, bytes]]:
        return self._left[-1].captures()

    def progress(self, skip: int = 0) -> tuple[list[tuple[str, int, bool]], int]:
        return self._left[-1].progress(skip)

    def text(self, begin: int, end: int) -> bytes:
        return self._left[-1].text(begin, end)
