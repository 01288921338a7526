"""The append-only list of tokens that is a conversation, mirrored by the KV cache.

Knows ids, origins, positions and what the cache holds. Does not know text or templates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from collections.abc import Sequence as Many
from dataclasses import dataclass, replace
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
        self._slot = slot
        self._ids: list[int] = []
        self._origins = bytearray()
        self._lost: list[int] = []  # ids that a rewind dropped, from position len(_ids) on
        self.counts = Counts()

    @property
    def ids(self) -> tuple[int, ...]:
        return tuple(self._ids)

    @property
    def origins(self) -> tuple[Origin, ...]:
        return tuple(ORIGINS[code] for code in self._origins)

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

    def recent(self, count: int) -> NDArray[np.int32]:
        """The last `count` ids (fewer where there are fewer), for repetition penalties."""
        return np.asarray(self._ids[-count:] if count else [], dtype=np.int32)

    def logits(self) -> NDArray[np.float32]:
        """The logits after the last token, shape (n_vocab,). A view: valid until the next append."""
        return self._backend.logits()

    def append(
        self,
        ids: Many[int],
        origin: Origin | Many[Origin],
        *,
        on_progress: Callable[[int, int], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> None:
        """Compute `ids` behind what is there, in chunks; afterwards `logits` is the last one's.

        `origin` is one for all or one for each. `on_progress` gets (done, total) after each chunk.
        Raises ContextFull before anything is computed; Cancelled when `cancelled` answers True:
        the chunks done until then stay in the sequence, so that nothing has to be done again.
        """
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
        step = self._backend.n_batch
        for start in range(0, total, step):
            if cancelled is not None and cancelled():
                raise Cancelled(f"stopped after {start} of {total} prompt tokens", done=start)
            chunk = ids[start : start + step]
            self._backend.decode(chunk, len(self._ids), seq=self._slot, cancelled=cancelled)
            self._record(chunk, codes[start : start + step])
            if on_progress is not None:
                on_progress(start + len(chunk), total)

    def push(self, token: int, origin: Origin) -> None:
        """Append one token: the hot path of generation. The caller has checked `is_full`."""
        self._backend.decode((token,), len(self._ids), seq=self._slot)
        self._record((token,), bytes((_CODES[origin],)))

    @staticmethod
    def _codes(origin: Origin | Many[Origin], total: int) -> bytes:
        if isinstance(origin, str):
            return bytes((_CODES[origin],)) * total
        codes = bytes(_CODES[name] for name in origin)
        if len(codes) != total:
            raise UsageError(f"{total} tokens came with {len(codes)} origins")
        return codes

    def _record(self, ids: Iterable[int], codes: bytes) -> None:
        again = 0
        for token in ids:
            if self._lost and self._lost[0] == token:
                again += 1
                del self._lost[0]
            else:
                self._lost.clear()
            self._ids.append(token)
        self._origins += codes
        self.counts = replace(
            self.counts,
            computed=self.counts.computed + len(codes),
            again=self.counts.again + again,
        )

    def rewind(self, count: int) -> None:
        """Forget the last `count` tokens. The logits are stale until the next append.

        Raises UsageError for more than there are, or where the model's memory can't be rewound
        (recurrent and hybrid models): then `clear` and append anew.
        """
        if not 0 <= count <= len(self._ids):
            raise UsageError(f"can't rewind {count} tokens of {len(self._ids)}")
        if count:
            self._cut(len(self._ids) - count)

    def _cut(self, length: int) -> None:
        if not self._backend.forget(length, seq=self._slot):
            raise UsageError(
                f"this model's memory can't be rewound to token {length} of {len(self._ids)}; "
                "clear the chat instead"
            )
        self._lost = self._ids[length:] + self._lost
        del self._ids[length:]
        del self._origins[length:]

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
        if not 0 <= slot < self._backend.n_seq or slot == self._slot:
            raise UsageError(
                f"slot {slot} is not free; slots 0 to {self._backend.n_seq - 1} exist "
                f"and this sequence has {self._slot}"
            )
        self._backend.copy(self._slot, slot)
        twin = Sequence(self._backend, slot)
        twin._ids = self._ids.copy()
        twin._origins = self._origins.copy()
        return twin

    def save(self) -> bytes:
        """The cache's state for these tokens; with `ids` it restores the sequence by `load`."""
        return self._backend.save(seq=self._slot)

    def load(self, state: bytes, ids: Many[int], origins: Many[Origin]) -> None:
        """Restore what `save` gave. Raises StorageError and leaves the sequence empty on misfit."""
        self.clear()
        self._backend.load(state, seq=self._slot)
        self._ids = list(ids)
        self._origins = bytearray(self._codes(origins, len(ids)))
        self._lost = []
