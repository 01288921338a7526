"""How a model is to be loaded.

Knows the options and their limits. Does not know llama.cpp.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

from engine.errors import UsageError

FlashAttention = Literal["auto", "on", "off"]
FLASH_ATTENTION: Final[tuple[str, ...]] = get_args(FlashAttention)
MAX_DEFAULT_CTX: Final = 8192


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How to load: the defaults are meant to be right for one interactive user.

    `n_ctx` 0 takes the model's own training context, at most `MAX_DEFAULT_CTX`.
    `threads` 0 takes the fast cores.
    """

    n_ctx: int = 0
    gpu_layers: int | Literal["all"] = "all"
    threads: int = 0
    flash_attention: FlashAttention = "auto"
    n_seq: int = 4
    use_mmap: bool = True

    def checked(self) -> LoadOptions:
        """The same. Raises UsageError for numbers that llama.cpp would wrap around or abort on."""
        if self.flash_attention not in FLASH_ATTENTION:
            known = ", ".join(FLASH_ATTENTION)
            raise UsageError(f"flash_attention is one of {known}, not {self.flash_attention!r}")
        if self.gpu_layers != "all" and not isinstance(self.gpu_layers, int):
            raise UsageError(f"gpu_layers is a number or 'all', not {self.gpu_layers!r}")
        limits = {"n_ctx": (0, 2**24), "threads": (0, 512), "n_seq": (1, 64)}
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise UsageError(f"{name} is between {low} and {high}, not {value}")
        return self
