"""What the well-known keys of a GGUF header must look like before C++ may see the file.

Knows key names, the types that llama.cpp reads them as, and the values that make it abort the
process (its asserts can't be caught). Does not read files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import numpy as np

MAX_LAYERS = 512  # LLAMA_MAX_LAYERS
MAX_EXPERTS = 1024  # LLAMA_MAX_EXPERTS
MAX_EMBEDDING = 1 << 20
MAX_HEADS = 1 << 16

Fail = Callable[[str, str], NoReturn]

_TOKENIZER = "tokenizer.ggml."
_PER_LAYER = ("u32", "arr[u32]", "arr[i32]", "arr[bool]")

_TYPES: dict[str, tuple[str, ...]] = {
    "general.architecture": ("str",),
    "general.type": ("str",),
    "general.name": ("str",),
    "general.alignment": ("u32",),
    "general.file_type": ("u32",),
    "split.no": ("u16",),
    "split.count": ("u16",),
    "split.tensors.count": ("i32",),
    "tokenizer.chat_template": ("str",),
    _TOKENIZER + "model": ("str",),
    _TOKENIZER + "pre": ("str",),
    _TOKENIZER + "tokens": ("arr[str]",),
    _TOKENIZER + "merges": ("arr[str]",),
    _TOKENIZER + "scores": ("arr[f32]", "arr[i32]"),
    _TOKENIZER + "token_type": ("arr[i32]",),
    _TOKENIZER + "suppress_tokens": ("arr[i32]",),
    _TOKENIZER + "precompiled_charsmap": ("arr[i8]", "arr[u8]"),
    _TOKENIZER + "add_bos_token": ("bool",),
    _TOKENIZER + "add_eos_token": ("bool",),
    _TOKENIZER + "add_sep_token": ("bool",),
    _TOKENIZER + "add_space_prefix": ("bool",),
    _TOKENIZER + "remove_extra_whitespaces": ("bool",),
}
_MODEL_TYPES: dict[str, tuple[str, ...]] = {
    "block_count": ("u32",),
    "context_length": ("u32",),
    "embedding_length": ("u32",),
    "vocab_size": ("u32",),
    "expert_count": ("u32",),
    "expert_used_count": _PER_LAYER,
    "expert_group_count": ("u32",),
    "expert_group_used_count": ("u32",),
    "nextn_predict_layers": ("u32",),
    "pooling_type": ("u32",),
    "feed_forward_length": _PER_LAYER,
    "attention.head_count": _PER_LAYER,
    "attention.head_count_kv": _PER_LAYER,
    "attention.key_length": ("u32",),
    "attention.value_length": ("u32",),
    "attention.causal": ("bool",),
    "attention.layer_norm_epsilon": ("f32",),
    "attention.layer_norm_rms_epsilon": ("f32",),
    "rope.scaling.type": ("str",),
}
# A turn cannot end where these are wrong; the others llama.cpp replaces by its defaults.
_NEEDED_IDS = ("bos", "eos", "eot", "eom")
_ROPE_SCALINGS = ("none", "linear", "yarn", "longrope")


# llama.cpp multiplies by no such matrix: it crashes in the first decode, on every backend.
_NOT_WEIGHTS = frozenset({"Q8_1", "Q8_K", "I8", "I16", "I32", "I64", "F64"})


def tensor_type_fault(name: str, n_dimensions: int, type_name: str) -> str | None:
    """Why a tensor of this type would crash llama.cpp, or None. Tables of ids may be integers."""
    if not name.endswith((".weight", ".bias")) or "tid2eid" in name:
        return None
    if n_dimensions <= 1 or name.endswith("_norm.weight"):
        return None if type_name == "F32" else f"is {type_name}; norms and biases must be F32"
    return f"{type_name} can't hold weights" if type_name in _NOT_WEIGHTS else None


def check_metadata(
    metadata: Mapping[str, Any], types: Mapping[str, str], fail: Fail
) -> tuple[str, ...]:
    """Call `fail(key, reason)` for the first rule broken; answer notes on tolerated oddities."""
    _check_types(types, _TYPES, "", fail)
    architecture = metadata.get("general.architecture", "")
    if architecture:
        _check_types(types, _MODEL_TYPES, architecture + ".", fail)
        _check_model(metadata, architecture + ".", fail)
    _check_split(metadata, fail)
    return _check_vocabulary(metadata, types, fail)


def _check_types(
    types: Mapping[str, str], allowed: Mapping[str, tuple[str, ...]], prefix: str, fail: Fail
) -> None:
    for suffix, names in allowed.items():
        key = prefix + suffix
        if key in types and types[key] not in names:
            fail(key, f"must be of type {' or '.join(names)}, is {types[key]}")


def _check_model(metadata: Mapping[str, Any], prefix: str, fail: Fail) -> None:
    n_layer = metadata.get(prefix + "block_count")
    if n_layer is not None and not 1 <= n_layer <= MAX_LAYERS:
        fail(prefix + "block_count", f"{n_layer} layers; llama.cpp takes 1 to {MAX_LAYERS}")
    width = metadata.get(prefix + "embedding_length")
    if width is not None and not 1 <= width <= MAX_EMBEDDING:
        fail(prefix + "embedding_length", f"{width} is not in 1..{MAX_EMBEDDING}")
    for suffix, names in _MODEL_TYPES.items():
        value = metadata.get(prefix + suffix)
        if names is _PER_LAYER and isinstance(value, np.ndarray):
            if n_layer is None or len(value) != n_layer:
                fail(prefix + suffix, f"{len(value)} values for {n_layer} layers")
            if value.dtype.kind == "i" and value.min(initial=0) < 0:
                fail(prefix + suffix, f"negative value {value.min()}")
    if metadata.get(prefix + "nextn_predict_layers", 0) > (n_layer or 0):
        fail(prefix + "nextn_predict_layers", f"more than the model's {n_layer} layers")
    scaling = metadata.get(prefix + "rope.scaling.type", "none")
    if scaling not in _ROPE_SCALINGS:
        fail(prefix + "rope.scaling.type", f"{scaling[:40]!a}; one of {', '.join(_ROPE_SCALINGS)}")
    for name in ("layer_norm_epsilon", "layer_norm_rms_epsilon"):
        epsilon = metadata.get(f"{prefix}attention.{name}", 0.0)
        if not 0 <= epsilon <= 1:  # NaN is refused too
            fail(f"{prefix}attention.{name}", f"{epsilon} is not in 0..1")
    _check_heads(metadata, prefix, fail)
    _check_experts(metadata, prefix, fail)


def _check_heads(metadata: Mapping[str, Any], prefix: str, fail: Fail) -> None:
    """Key-value heads share query heads evenly; products of these sizes must not wrap in C++."""
    heads = np.asarray(metadata.get(prefix + "attention.head_count", 0), np.int64)
    shared = np.asarray(metadata.get(prefix + "attention.head_count_kv", heads), np.int64)
    if heads.max(initial=0) > MAX_HEADS:
        fail(prefix + "attention.head_count", f"{heads.max()} is above the limit of {MAX_HEADS}")
    if np.any((shared > 0) & (heads > 0) & (heads % np.maximum(shared, 1) != 0)):
        fail(
            prefix + "attention.head_count_kv",
            f"{shared.max()} key-value heads do not divide {heads.max()} heads",
        )
    for suffix in ("attention.key_length", "attention.value_length"):
        if metadata.get(prefix + suffix, 0) > MAX_EMBEDDING:
            fail(prefix + suffix, f"{metadata[prefix + suffix]} is above {MAX_EMBEDDING}")


def _check_experts(metadata: Mapping[str, Any], prefix: str, fail: Fail) -> None:
    """The asserts of llama_model_base::load_hparams on mixtures of experts."""
    count = metadata.get(prefix + "expert_count", 0)
    used = int(np.max(metadata.get(prefix + "expert_used_count", 0), initial=0))
    groups = metadata.get(prefix + "expert_group_count", 0)
    groups_used = metadata.get(prefix + "expert_group_used_count", 0)
    if count > MAX_EXPERTS:
        fail(prefix + "expert_count", f"{count} experts; llama.cpp takes at most {MAX_EXPERTS}")
    if prefix.startswith(("hunyuan-dense.", "hunyuan_vl.")) and count <= 1:
        return
    if used > count or (count and not used):
        fail(prefix + "expert_used_count", f"{used} of {count} experts used")
    if groups and groups >= count:
        fail(prefix + "expert_group_count", f"{groups} groups of {count} experts")
    if groups > 1 and (count % groups or not 0 < groups_used < groups):
        fail(
            prefix + "expert_group_count",
            f"{groups_used} of {groups} groups used, of {count} experts",
        )


def _check_split(metadata: Mapping[str, Any], fail: Fail) -> None:
    count, number = metadata.get("split.count", 1), metadata.get("split.no", 0)
    if number >= max(count, 1):
        fail("split.no", f"part {number} (from 0) of {count}")


def _check_vocabulary(
    metadata: Mapping[str, Any], types: Mapping[str, str], fail: Fail
) -> tuple[str, ...]:
    tokens = metadata.get(_TOKENIZER + "tokens")
    if tokens is None:
        return ()
    count = len(tokens)
    for name in ("scores", "token_type"):
        values = metadata.get(_TOKENIZER + name)
        if values is not None and len(values) != count:
            fail(_TOKENIZER + name, f"{len(values)} values for {count} tokens")
    kinds = metadata.get(_TOKENIZER + "token_type")
    if kinds is not None and count and not 0 <= kinds.min() <= kinds.max() <= 6:
        fail(_TOKENIZER + "token_type", f"types {kinds.min()}..{kinds.max()}; 0 to 6 are known")
    notes = _check_ids(metadata, types, count, fail)
    if isinstance(tokens, list):
        _check_tokens(tokens, metadata, fail)
    return notes


def _check_ids(
    metadata: Mapping[str, Any], types: Mapping[str, str], count: int, fail: Fail
) -> tuple[str, ...]:
    notes = []
    for key, value in metadata.items():
        if not (key.startswith(_TOKENIZER) and key.endswith("_token_id")):
            continue
        if types[key] != "u32":
            fail(key, f"must be of type u32, is {types[key]}")
        if value < count:
            continue
        what = f"token {value} is outside the vocabulary of {count}"
        if key.removeprefix(_TOKENIZER).removesuffix("_token_id") in _NEEDED_IDS:
            fail(key, what)
        notes.append(f"{key}: {what}; llama.cpp ignores it")
    return tuple(notes)


def _check_tokens(tokens: list[str], metadata: Mapping[str, Any], fail: Fail) -> None:
    """llama.cpp aborts on tokens that occur twice, and when it meets a byte that has no token."""
    unique = {text or f"[EMPTY_{index}]" for index, text in enumerate(tokens)}
    if len(unique) != len(tokens):
        seen: set[str] = set()
        for index, text in enumerate(tokens):
            if (text or f"[EMPTY_{index}]") in seen:
                fail(_TOKENIZER + "tokens", f"token {index}, {text[:40]!a}, occurs twice")
            seen.add(text or f"[EMPTY_{index}]")
    model = metadata.get(_TOKENIZER + "model")
    if model in ("gpt2", "gemma4") and _TOKENIZER + "merges" not in metadata:
        fail(_TOKENIZER + "merges", f"missing; a {model} vocabulary needs them")
    if model == "llama":
        for byte in range(256):
            raw = bytes([byte]).decode("utf-8", "surrogateescape")
            if f"<0x{byte:02X}>" not in unique and (not byte or raw not in unique):
                fail(_TOKENIZER + "tokens", f"no token stands for byte 0x{byte:02X}")
