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

    def progress(self) -> tuple[list[tuple[str, int, bool]], int]:
        """Where captures begin and end: what can be told of a text that is still being written.

        The begins and ends (name, place in bytes from where the match began, whether it is an end)
        that all ways of reading the text have in common, in order of the text; and the place up to
        which that is all: from there on other ones may still turn out. Cheap after each token.
        """


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
