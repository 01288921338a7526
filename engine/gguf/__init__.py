"""Read the header of a GGUF file without trusting it.

Knows metadata, tensor descriptions and where the weights lie. Does not know tokens, templates or
llama.cpp, and never reads weights. What a header means for a person (is it suitable, how much
memory) is in `engine.fit`.

What passes here passes llama.cpp's own reader; we refuse more (limits in `reader`), never less. A
count is believed only as far as the file has bytes for it, so a hostile header costs no memory.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from engine.errors import GGUFError
from engine.gguf.reader import Skipped, TensorInfo, parse
from engine.gguf.types import FILE_TYPES, TENSOR_TYPES

__all__ = [
    "Header",
    "Skipped",
    "TensorInfo",
    "check_complete",
    "read_header",
    "split_parts_of",
]

_SPLIT_NAME = re.compile(r"^(?P<stem>.+)-(?P<no>\d{5})-of-(?P<count>\d{5})\.gguf$")
_BLOCKS = {name: (block, size) for name, block, size in TENSOR_TYPES.values()}


@dataclass(frozen=True, eq=False)
class Header:
    """A GGUF file's header. `metadata` holds Python scalars, `list[str]` and numpy arrays.

    Strings that are not UTF-8 keep their bytes by `surrogateescape`. `types` names each key's
    stored type ("u32", "arr[str]"). `notes` are oddities that llama.cpp tolerates as well.
    """

    path: Path
    version: int
    metadata: Mapping[str, Any]
    types: Mapping[str, str]
    tensors: tuple[TensorInfo, ...]
    data_offset: int
    file_size: int
    alignment: int
    notes: tuple[str, ...] = ()

    def get(self, suffix: str, default: Any = None) -> Any:
        """The value of `<architecture>.<suffix>`."""
        return self.metadata.get(f"{self.architecture}.{suffix}", default)

    def _int(self, suffix: str) -> int:
        """A number, or the largest of a per-layer array; 0 when absent."""
        value = self.get(suffix, 0)
        if isinstance(value, np.ndarray):
            return int(value.max(initial=0))
        return int(value) if isinstance(value, int) else 0

    def per_layer(self, suffix: str, default: int = 0) -> list[int]:
        """One number per layer, whether the file gives one for all or an array."""
        value = self.get(suffix, default)
        if isinstance(value, np.ndarray):
            return [int(item) for item in value]
        return [int(value)] * self.n_layer

    @property
    def architecture(self) -> str:
        return str(self.metadata.get("general.architecture", ""))

    @property
    def name(self) -> str:
        return str(self.metadata.get("general.name") or self.path.stem)

    @property
    def n_ctx_train(self) -> int:
        return self._int("context_length")

    @property
    def n_layer(self) -> int:
        return self._int("block_count")

    @property
    def n_embd(self) -> int:
        return self._int("embedding_length")

    @property
    def n_head(self) -> int:
        return self._int("attention.head_count")

    @property
    def n_head_kv(self) -> int:
        return self._int("attention.head_count_kv") or self.n_head

    @property
    def n_vocab(self) -> int:
        tokens = self.metadata.get("tokenizer.ggml.tokens")
        return len(tokens) if tokens is not None else self._int("vocab_size")

    @property
    def n_params(self) -> int:
        """Weights of all parts present; a split model's missing parts count nothing."""
        return sum(tensor.n_elements for tensor in self.all_tensors)

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights of all parts present."""
        return sum(tensor.n_bytes for tensor in self.all_tensors)

    @property
    def has_weights(self) -> bool:
        return bool(self.tensors) or (self.split_count > 1 and bool(self.all_tensors))

    @property
    def quantisation(self) -> str:
        """As the file says ("Q4_K_M"), else the type that holds most of the weights' bytes."""
        file_type = self.metadata.get("general.file_type")
        if file_type in FILE_TYPES:
            return FILE_TYPES[file_type]
        sizes: Counter[str] = Counter()
        for tensor in self.all_tensors:
            sizes[tensor.type_name] += tensor.n_bytes
        return max(sizes, key=lambda name: sizes[name]) if sizes else "none"

    @property
    def chat_template(self) -> str | None:
        template = self.metadata.get("tokenizer.chat_template")
        return template if isinstance(template, str) else None

    @property
    def chat_templates(self) -> dict[str, str]:
        """The named templates (`tool_use`, `rag`); the unnamed one is `chat_template`."""
        prefix = "tokenizer.chat_template."
        return {
            key.removeprefix(prefix): value
            for key, value in self.metadata.items()
            if key.startswith(prefix) and isinstance(value, str)
        }

    @property
    def split_count(self) -> int:
        """How many files the model is spread over; 1 for most."""
        return max(1, int(self.metadata.get("split.count", 1)))

    @property
    def split_no(self) -> int:
        """This file's place among them, from 0."""
        return int(self.metadata.get("split.no", 0))

    @property
    def parts(self) -> tuple[Path, ...]:
        """The files of the model by name, present or not; just this one when it is not split."""
        match = _SPLIT_NAME.match(self.path.name)
        if self.split_count == 1 or match is None:
            return (self.path,)
        stem, count = match["stem"], self.split_count
        return tuple(
            self.path.with_name(f"{stem}-{number:05d}-of-{count:05d}.gguf")
            for number in range(1, count + 1)
        )

    @property
    def missing_parts(self) -> tuple[Path, ...]:
        return tuple(part for part in self.parts if not part.is_file())

    @cached_property
    def all_tensors(self) -> tuple[TensorInfo, ...]:
        """The tensors of every part present. Reads the other parts' headers, once."""
        tensors = list(self.tensors)
        for part in self.parts:
            if part != self.path and part.is_file():
                tensors.extend(read_header(part, tokens=False).tensors)
        return tuple(tensors)

    def kv_bytes(self, n_ctx: int, type: str = "f16") -> int:
        """Bytes of the key-value cache, every layer holding the whole context.

        An upper bound where layers use a sliding window or keep a recurrent state instead.
        """
        block, size = _BLOCKS[type.upper()]
        cells = -(-n_ctx // 256) * 256  # llama.cpp pads the cache to 256 cells
        head = self.n_embd // self.n_head if self.n_head else 0
        key = self._int("attention.key_length") or head
        value = self._int("attention.value_length") or head
        if self.get("attention.key_length_mla") is not None:
            value = 0  # latent attention stores one compressed row and derives V from it
        heads = sum(self.per_layer("attention.head_count_kv", self.n_head))
        return cells * heads * (key + value) * size // block


def read_header(path: str | Path, *, tokens: bool = True) -> Header:
    """Read and check a GGUF file's header: 0.2 s for a vocabulary of 150,000, without it 0.05 s.

    With `tokens=False` the long string arrays (tokens, merges) are counted, not kept or checked:
    for listings, not before loading. Raises ModelNotFound, or GGUFError naming field and offset.
    """
    path = Path(path)
    return Header(path, *parse(path, tokens=tokens))


def split_parts_of(path: Path) -> tuple[str, int, int] | None:
    """(stem, number from 1, count) when a file is named like a part of a split model."""
    match = _SPLIT_NAME.match(path.name)
    return (match["stem"], int(match["no"]), int(match["count"])) if match else None


def check_complete(header: Header) -> None:
    """Check that a split model's parts are all there and sound; GGUFError names what is missing.

    llama.cpp reads every part when it is given the first: none of them goes there unchecked.
    """
    if header.split_count == 1:
        return

    def fail(field: str, text: str) -> NoReturn:
        raise GGUFError(
            f"{header.path}: {text}", path=header.path, field=field, offset=header.data_offset
        )

    if split_parts_of(header.path) is None:
        fail(
            "split.count",
            f"is part of a model in {header.split_count} files but not named "
            f"'NAME-00001-of-{header.split_count:05d}.gguf'; restore its original name",
        )
    if header.split_no != 0:
        fail(
            "split.no",
            f"is part {header.split_no + 1} of {header.split_count}; name the first, "
            f"{header.parts[0].name}",
        )
    if header.missing_parts:
        names = ", ".join(part.name for part in header.missing_parts[:4])
        more = len(header.missing_parts) - 4
        fail(
            "split.count",
            f"{len(header.missing_parts)} of {header.split_count} parts are missing: {names}"
            f"{f' and {more} more' if more > 0 else ''}; put them into {header.path.parent}",
        )
    seen = {tensor.name for tensor in header.tensors}
    for number, part in enumerate(header.parts[1:], start=1):
        other = read_header(part, tokens=False)
        if "split.no" not in other.metadata or other.split_no != number:
            fail("split.no", f"{part.name} says it is part {other.split_no + 1}, not {number + 1}")
        for tensor in other.tensors:
            if tensor.name in seen:
                fail("tensors", f"tensor {tensor.name} of {part.name} occurs twice")
            seen.add(tensor.name)
    expected = int(header.metadata.get("split.tensors.count", -1))
    if expected != len(seen):
        fail("split.tensors.count", f"says {expected} tensors, the parts hold {len(seen)}")
