"""The append-only list of tokens that is a conversation, mirrored by the KV cache.

Knows ids, origins, positions and what the cache holds. Does not know text or templates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from collections.abc import Sequence as Many
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.backend import Backend
from engine.errors import Cancelled, ContextFull, UsageError
from engine.events import Origin

ORIGINS: Final[tuple[Origin, ...]] = (
    "template",
    "content",
    "sampled",
    "forced",
    "draft",
    "tool",
)
_CODES: Final = {name: code for code, name in enumerate(ORIGINS)}
_CODE_BYTES: Final = {name: bytes((code,)) for name, code in _CODES.items()}


@dataclass(frozen=True, slots=True)
class Counts:
    """What was computed since the sequence began, in tokens.

    `again` counts tokens that the cache had held at the same place behind the same prefix and
    lost to a rewind: 0 is the goal.
    """

    computed: int = 0
    again: int = 0


class Sequence:
    """Token ids and their place in one backend's cache.

    Use one per conversation. Two sequences of one model share the backend under different
    `slot` numbers; only the one decoded last has logits.
    """

    def __init__(self, backend: Backend, slot: int = 0) -> None:
        self._backend = backend
        self.slot = slot
        self._ids: list[int] = []
        self._origins = bytearray()
        self._stale = False  # the backend's logits belong to tokens that a rewind dropped
        # Ctrl-C may raise between any two lines. `_ids` and `_computed` are what counts: origins
        # too many are dropped, and a cache that is not in step is cut back before it is used.
        self._is_in_step = True
        self._computed = 0  # how many of _ids the cache holds; the rest waits for `logits`
        self._lost: list[int] = []  # ids that a rewind dropped, from position _computed on
        self._again = 0
        self._done = 0

    @property
    def counts(self) -> Counts:
        return Counts(self._done, self._again)

    @property
    def ids(self) -> tuple[int, ...]:
        return tuple(self._ids)

    @property
    def origins(self) -> tuple[Origin, ...]:
        return tuple(ORIGINS[code] for code in self._origins[: len(self._ids)])

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def n_ctx(self) -> int:
        return self._backend.n_ctx

    @property
    def room(self) -> int:
        """How many tokens still fit."""
        return self._backend.n_ctx - len(self._ids)

    @property
    def is_full(self) -> bool:
        return self.room <= 0

    @property
    def can_rewind(self) -> bool:
        return self._backend.can_rewind

    @property
    def computed(self) -> int:
        """How many of the tokens the cache holds."""
        return self._computed

    def recent(self, count: int) -> NDArray[np.int32]:
        """The last `count` ids (fewer where there are fewer), for repetition penalties."""
        return np.asarray(self._ids[-count:] if count else [], dtype=np.int32)

    def logits(self) -> NDArray[np.float32]:
        """The logits after the last token, shape (n_vocab,). A view: valid until the next call.

        Computes what `push` left waiting, and the last token again after a rewind or when another
        sequence was computed in between.
        """
        is_stale = self._stale or self._backend.owner is not self
        if is_stale and self._computed and self._computed == len(self._ids):
            self._forget(self._computed - 1)
        if len(self._ids) != self._computed:
            self.compute()
        return self._backend.logits()

    def append(
        self,
        ids: Many[int],
        origin: Origin | Many[Origin],
        *,
        on_progress: Callable[[int, int], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> None:
        """Put `ids` behind what is there and compute them.

        `origin` is one for all or one for each; see `compute` for the rest. Raises ContextFull
        before anything is changed.
        """
        self.extend(ids, origin)
        self.compute(on_progress=on_progress, cancelled=cancelled)

    def extend(self, ids: Many[int], origin: Origin | Many[Origin]) -> None:
        """Put `ids` behind what is there; they are computed later. Raises ContextFull."""
        total = len(ids)
        if total > self.room:
            raise ContextFull(
                f"{len(self._ids)} tokens are in the context and {total} more do not fit in "
                f"{self.n_ctx}; load with --ctx-size {len(self._ids) + total} or more, "
                "or shorten the history",
                need=len(self._ids) + total,
                n_ctx=self.n_ctx,
            )
        codes = self._codes(origin, total)
        self._origins[len(self._ids) :] = codes
        self._ids.extend(ids)

    def push(self, token: int, origin: Origin) -> None:
        """Put one token behind what is there: the hot path. The caller has checked `is_full`.

        It is computed by the next `logits`, so an end token costs nothing until it is needed.
        """
        self._origins[len(self._ids) :] = _CODE_BYTES[origin]
        self._ids.append(token)

    def compute(
        self,
        *,
        on_progress: Callable[[int, int], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> None:
        """Bring the cache up to the last token, in chunks.

        `on_progress` gets (done, total) after each chunk. Raises Cancelled when `cancelled`
        answers True: chunks done until then stay, and the next call goes on behind them.
        """
        total = len(self._ids) - self._computed
        for done in self.chunks(cancelled=cancelled):
            if on_progress is not None:
                on_progress(done, total)

    def chunks(
        self, *, border: int = 0, cancelled: Callable[[], bool] | None = None
    ) -> Iterator[int]:
        """`compute`, a chunk a step: yields how many of the waiting tokens are done.

        No chunk reaches over the position `border`: what is before it can be saved there, and the
        tokens behind it are computed in the same chunks whether or not it was restored.
        """
        if not self._is_in_step:
            if not self._backend.forget(self._computed, seq=self.slot):
                self._backend.forget(0, seq=self.slot)
                self._computed = 0
            self._is_in_step = True
        first, total = self._computed, len(self._ids) - self._computed
        while (start := self._computed - first) < total:
            if cancelled is not None and cancelled():
                raise Cancelled(f"stopped after {start} of {total} prompt tokens", done=start)
            end = self._computed + self._backend.n_batch
            if self._computed < border:
                end = min(end, border)
            chunk = self._ids[self._computed : end]
            self._is_in_step, self._stale = False, True
            self._backend.decode(chunk, self._computed, seq=self.slot, cancelled=cancelled)
            self._count(chunk)
            self._is_in_step, self._stale = True, False
            yield start + len(chunk)

    def forget_waiting(self) -> None:
        """Drop the tokens that are not computed yet."""
        del self._ids[self._computed :]
        del self._origins[self._computed :]

    @staticmethod
    def _codes(origin: Origin | Many[Origin], total: int) -> bytes:
        if isinstance(origin, str):
            return bytes((_CODES[origin],)) * total
        codes = bytes(_CODES[name] for name in origin)
        if len(codes) != total:
            raise UsageError(f"{total} tokens came with {len(codes)} origins")
        return codes

    def _count(self, chunk: Many[int]) -> None:
        again = 0
        if self._lost:
            while again < min(len(chunk), len(self._lost)) and chunk[again] == self._lost[again]:
                again += 1
            self._lost = self._lost[again:] if again == len(chunk) else []
        self._computed += len(chunk)
        self._backend.owner = self
        self._done += len(chunk)
        self._again += again

    def rewind(self, count: int) -> None:
        """Forget the last `count` tokens. O(count); the next `logits` computes one token again.

        Raises UsageError for more than there are, or where the model's memory can't be rewound
        (recurrent and hybrid models): then `clear` and append anew.
        """
        if not 0 <= count <= len(self._ids):
            raise UsageError(f"can't rewind {count} tokens of {len(self._ids)}")
        if count:
            self._cut(len(self._ids) - count)

    def _cut(self, length: int) -> None:
        self._forget(length)
        del self._ids[length:]
        del self._origins[length:]

    def _forget(self, length: int) -> None:
        if length >= self._computed:
            return
        before = self._lost, self._computed, self._is_in_step, self._stale
        self._is_in_step, self._stale = False, True
        self._lost = self._ids[length : self._computed] + self._lost
        self._computed = length
        if not self._backend.forget(length, seq=self.slot):
            self._lost, self._computed, self._is_in_step, self._stale = before
            raise UsageError(
                f"this model's memory can't be rewound to token {length} of {len(self._ids)}; "
                "clear the chat instead"
            )
        self._is_in_step = True

    def clear(self) -> None:
        """Forget everything. Works for every kind of memory."""
        if self._ids:
            self._cut(0)

    def match_prefix(self, ids: Many[int]) -> int:
        """How many of `ids`, from the first on, are this sequence's own first tokens."""
        limit = min(len(ids), len(self._ids))
        for index in range(limit):
            if ids[index] != self._ids[index]:
                return index
        return limit

    def keep_prefix(self, ids: Many[int]) -> int:
        """Rewind to the longest common prefix with `ids`; answers its length.

        One token fewer when `ids` is wholly contained: the logits of the last must be recomputed.
        Where the memory can't be rewound that far, the sequence is cleared.
        """
        length = self.match_prefix(ids)
        if length == len(ids) and length:
            length -= 1
        if length < len(self._ids):
            if not self.can_rewind:
                length = 0
            self._cut(length)
        return length

    def fork(self, slot: int) -> Sequence:
        """A second sequence with the same tokens under another `slot`; cells are shared.

        The copy has no logits of its own until something is appended to it.
        """
        if not 0 <= slot < self._backend.n_seq or slot == self.slot:
            raise UsageError(
                f"slot {slot} is not free; slots 0 to {self._backend.n_seq - 1} exist "
                f"and this sequence has {self.slot}"
            )
        self.compute()
        self._backend.copy(self.slot, slot)
        twin = Sequence(self._backend, slot)
        twin._computed = self._computed
        twin._stale = True
        twin._ids = self._ids.copy()
        twin._origins = self._origins.copy()
        return twin

    def take_prefix(self, other: Sequence, length: int) -> None:
        """Become the first `length` tokens of another sequence; the cells are shared.

        Raises UsageError where that isn't possible: see `can_take`.
        """
        if other is self or not other.can_take(length):
            raise UsageError(f"the first {length} tokens of that sequence can't be shared")
        self.clear()
        self._backend.copy(other.slot, self.slot)
        if length < other._computed:
            self._backend.forget(length, seq=self.slot)
        self._ids = other._ids[:length]
        self._origins = other._origins[:length]
        self._computed = length
        self._lost = []
        self._stale = True

    def can_take(self, length: int) -> bool:
        """Whether another sequence can share the first `length` tokens: they are computed, and
        this memory can be cut there."""
        if not self._is_in_step:
            return False
        return length == self._computed or (length < self._computed and self.can_rewind)

    def save(self, length: int | None = None) -> bytes:
        """The cache's state for these tokens; with `ids` it restores the sequence by `load`.

        `length` is for a sequence that is being computed: the state of the tokens so far. A state
        holds all that the cache does, so UsageError is raised where that is more or less.
        """
        if length is None:
            self.compute()
        elif length != self._computed:
            raise UsageError(f"the cache holds {self._computed} tokens, not {length}")
        return self._backend.save(seq=self.slot)

    def load(self, state: bytes | memoryview, ids: Many[int], origins: Many[Origin]) -> None:
        """Restore what `save` gave. Raises StorageError and leaves the sequence empty on misfit."""
        self.clear()
        self._is_in_step = False
        try:
            self._backend.load(state, seq=self.slot)
        except BaseException:
            self._backend.forget(0, seq=self.slot)
            raise
        self._ids = list(ids)
        self._origins = bytearray(self._codes(origins, len(ids)))
        self._computed = len(ids)
        self._lost = []
        self._is_in_step, self._stale = True, True
