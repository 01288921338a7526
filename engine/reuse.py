"""Where a prompt's first tokens come from: this chat's cache, another chat's, the disk.

Knows sequences and saved prefixes. Does not know messages or templates.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Sequence as Many
from dataclasses import dataclass, field

from engine.errors import StorageError
from engine.events import Notice
from engine.prefixes import MIN_TOKENS, PrefixStore, Restored
from engine.sequence import Sequence


@dataclass(frozen=True, slots=True)
class Beginning:
    """The `reused` tokens that a sequence begins with; at `border` its state is worth keeping."""

    reused: int
    border: int = 0
    restored: Restored = field(default_factory=Restored)
    store: PrefixStore | None = None

    def notices(self) -> Iterator[Notice]:
        """What came from disk, and what could not be used."""
        found = self.restored
        for problem in found.problems:
            text = f"a saved prefix was not used, its tokens are computed: {problem.message}"
            yield Notice(text, problem.data)
        if found.tokens:
            yield Notice(
                f"{found.tokens} tokens of the prompt came from disk in {found.seconds:.2f} s; "
                f"that saved {found.saved_seconds:.2f} s",
                {
                    "tokens": found.tokens,
                    "seconds": found.seconds,
                    "prefill_seconds": found.prefill_seconds,
                    "saved_seconds": found.saved_seconds,
                },
                is_warning=False,
            )

    def keep(self, sequence: Sequence, seconds: float) -> Iterator[Notice]:
        """Save the prefix once the sequence has reached the border, `seconds` after the start."""
        if self.store is None or not self.border or sequence.computed != self.border:
            return
        seconds += self.restored.prefill_seconds
        try:
            self.store.save(sequence, self.border, prefill_seconds=seconds)
        except StorageError as error:
            yield Notice(f"the prefix could not be saved: {error.message}", error.data)


def begin(
    sequence: Sequence,
    ids: Many[int],
    *,
    others: Iterable[Sequence] = (),
    store: PrefixStore | None = None,
    pinned: int = 0,
) -> Beginning:
    """Make `sequence` begin with as much of `ids` as there is anywhere; the last is never reused.

    `others` are sequences of the same model: their cells are shared, which costs nothing. The disk
    is asked where it has more. The first `pinned` ids stay the same from chat to chat.
    """
    reused = sequence.keep_prefix(ids)
    best = max(others, key=lambda other: _shared(sequence, other, ids), default=sequence)
    if (length := _shared(sequence, best, ids)) > reused:
        sequence.take_prefix(best, length)
        reused = length
    if store is None:
        return Beginning(reused)
    restored = Restored()
    if store.longest(ids[:-1]) > reused:
        sequence.clear()
        restored = store.restore(sequence, ids[:-1])
        if not restored.tokens and best is not sequence and length:
            sequence.take_prefix(best, length)
        reused = len(sequence)
    is_worth_it = pinned >= MIN_TOKENS and reused < pinned < len(ids)
    return Beginning(reused, pinned if is_worth_it else 0, restored, store)


def _shared(sequence: Sequence, other: Sequence, ids: Many[int]) -> int:
    """How many tokens the sequence could take from another."""
    length = min(other.match_prefix(ids), other.computed, len(ids) - 1)
    return length if other is not sequence and other.can_take(length) else 0
