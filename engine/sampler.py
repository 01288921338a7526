"""Which of the allowed tokens comes next.

Knows sampling parameters, logits and masks. Does not know where masks come from. The chain itself
is native (`engine/native/sample.h`) and means what llama.cpp's samplers mean.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine import _native
from engine.errors import DeadEnd, NonFiniteLogits, UsageError


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling parameters, with llama.cpp's defaults.

    `temperature` 0 is greedy; `top_k` 0, `top_p` 1, `min_p` 0 and `repeat_penalty` 1 are off.
    Penalties look at the last `repeat_last_n` tokens. `seed` None takes a random one.
    """

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    repeat_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    repeat_last_n: int = 64
    seed: int | None = None

    @property
    def has_penalties(self) -> bool:
        penalties = (self.frequency_penalty, self.presence_penalty)
        return self.repeat_penalty != 1.0 or any(penalties)


class Sampler:
    """Draws tokens for one answer. `history` are the recent ids that penalties count.

    `seed` is the one in use, also where none was given: with it the draw can be repeated.
    Raises UsageError for a parameter that makes no sense.
    """

    def __init__(self, sampling: Sampling) -> None:
        self.sampling = sampling
        self.seed = secrets.randbits(32) if sampling.seed is None else sampling.seed
        self.window = sampling.repeat_last_n if sampling.has_penalties else 0
        self.history: NDArray[np.int32] = np.empty(0, dtype=np.int32)
        try:
            self._native = _native.Sampler(
                self.seed,
                temperature=sampling.temperature,
                top_k=sampling.top_k,
                top_p=sampling.top_p,
                min_p=sampling.min_p,
                repeat=sampling.repeat_penalty,
                frequency=sampling.frequency_penalty,
                presence=sampling.presence_penalty,
            )
        except (ValueError, TypeError) as error:
            reason = str(error) if isinstance(error, ValueError) else "a number is out of range"
            raise UsageError(f"sampling: {reason}") from error

    def sample(
        self, logits: NDArray[np.float32], mask: NDArray[np.uint32] | None
    ) -> tuple[int, int | None]:
        """The next token's id, and how many tokens the mask allows (None without a mask).

        Raises NonFiniteLogits for NaN among the allowed logits, or when no logit is finite;
        DeadEnd where the mask allows nothing.
        """
        recent = self.history if self.window else None
        token, status = self._native.sample(logits, mask, recent)
        if status == _native.Status.ok:
            return token, None if mask is None else _native.count_allowed(mask, len(logits))
        if status == _native.Status.nan:
            raise NonFiniteLogits("the model computed NaN: the file is damaged or not supported")
        if mask is not None and not _native.count_allowed(mask, len(logits)):
            raise DeadEnd("the grammar allows no token here")
        raise NonFiniteLogits("every token that may come next has probability zero")
