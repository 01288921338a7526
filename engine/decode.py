"""The hot loop: logits, mask, sample, events, one token at a time.

Knows the order of the stages. What each does is in `sequence`, `toolcall` and `sampler`.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from engine.errors import UsageError
from engine.events import Event, FinishReason, Origin, Token
from engine.sampler import Sampler
from engine.sequence import Sequence
from engine.vocab import Vocab


class Message(Protocol):
    """What the loop asks of a message in the making; `engine.toolcall.Turn` is one."""

    def choose(self, logits: NDArray[np.float32], sampler: Sampler) -> tuple[int, int | None]: ...

    def forced(self) -> list[int]: ...

    def prepare(self) -> None: ...

    def feed(self, token: int) -> list[Event]: ...

    def cut(self) -> list[Event]: ...

    @property
    def is_over(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """When to stop a message that does not end by itself.

    `deadline` is in seconds of `time.monotonic`; `cancelled` is asked before every token.
    Raises UsageError for a `max_tokens` below 1.
    """

    max_tokens: int | None = None
    deadline: float | None = None
    cancelled: Callable[[], bool] | None = None

    def __post_init__(self) -> None:
        if self.max_tokens is not None and self.max_tokens < 1:
            raise UsageError(f"max_tokens is at least 1, not {self.max_tokens}")

    @property
    def is_late(self) -> bool:
        return self.deadline is not None and time.monotonic() >= self.deadline

    def says_stop(self) -> bool:
        """Whether work that is under way is to be stopped: the reader's wish, or the deadline."""
        return self.is_late or (self.cancelled is not None and self.cancelled())

    def reached(self, count: int, sequence: Sequence) -> FinishReason | None:
        if self.cancelled is not None and self.cancelled():
            return "cancelled"
        if self.is_late:
            return "deadline"
        if self.max_tokens is not None and count >= self.max_tokens:
            return "length"
        return "context_full" if sequence.is_full else None


def generate(
    sequence: Sequence, message: Message, sampler: Sampler, vocab: Vocab, limits: Limits
) -> Generator[Event, None, FinishReason | None]:
    """Generate one message behind `sequence`; returns the limit that cut it off, None at its end.

    The last token is in the sequence but not computed: the next `append` takes it along.
    """
    count = 0
    waiting: deque[int] = deque()  # tokens that the grammar leaves no choice about
    while not message.is_over:
        reason = limits.reached(count, sequence)
        if reason is not None:
            yield from message.cut()
            return reason
        if not waiting:
            waiting.extend(message.forced())
        allowed: int | None = 1
        if waiting:
            token = waiting.popleft()
        else:
            message.prepare()
            logits = sequence.logits()  # computes the forced ones too, in one batch
            if sampler.window:
                sampler.history = sequence.recent(sampler.window)
            token, allowed = message.choose(logits, sampler)
        origin: Origin = "forced" if allowed == 1 else "sampled"
        events = message.feed(token)
        sequence.push(token, origin)
        yield Token(token, vocab.data(token), origin, len(sequence) - 1, allowed)
        yield from events
        count += 1
    return None
