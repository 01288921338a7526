"""Something that turns tokens into logits, as a Protocol.

Knows token ids, positions and logits. Does not know text, vocabularies or llama.cpp.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Backend(Protocol):
    """A model with a key-value cache of `n_seq` independent sequences.

    Implementations: `engine.llama.LlamaBackend`, and the scripted one that tests use.
    """

    n_vocab: int
    n_ctx: int
    n_seq: int
    owner: object | None  # whose token was computed last; `Sequence` keeps it
    can_rewind: bool  # False for recurrent memory: only `clear` forgets

    def decode(
        self,
        tokens: Sequence[int],
        position: int,
        *,
        seq: int = 0,
        cancelled: Callable[[], bool] | None = None,
    ) -> None:
        """Compute `tokens` at `position` and on; afterwards `logits` is the last one's.

        At most one chunk long (`n_batch` tokens). Raises DecodeFailed; Cancelled when `cancelled`
        answered True, the cache then holding none of `tokens`.
        """

    @property
    def n_batch(self) -> int:
        """The most tokens that one `decode` takes."""

    def logits(self) -> NDArray[np.float32]:
        """The logits of the last token decoded, shape (n_vocab,).

        A view of the backend's memory: valid until the next `decode` or `close`.
        """

    def forget(self, start: int, *, seq: int = 0) -> bool:
        """Remove positions `start` and on. False, and nothing changed, where this memory can't."""

    def copy(self, source: int, target: int) -> None:
        """Make sequence `target` a copy of `source`; the cells are shared where llama.cpp can."""

    def save(self, *, seq: int = 0) -> bytes:
        """The state of a sequence, as bytes that only the same model and build can read."""

    def load(self, state: bytes | memoryview, *, seq: int = 0) -> None:
        """Restore what `save` gave. Raises StorageError when the state doesn't fit."""

    def close(self) -> None:
        """Free everything. Closing twice is fine."""
