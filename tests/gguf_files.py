"""Write small GGUF files for tests: sound ones, and ones that lie.

Knows the file format, from its specification and not from `engine.gguf`, so that the two check
each other.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

CODES = {
    "u8": (0, "<B"),
    "i8": (1, "<b"),
    "u16": (2, "<H"),
    "i16": (3, "<h"),
    "u32": (4, "<I"),
    "i32": (5, "<i"),
    "f32": (6, "<f"),
    "bool": (7, "<?"),
    "str": (8, ""),
    "u64": (10, "<Q"),
    "i64": (11, "<q"),
    "f64": (12, "<d"),
}
Entry = tuple[str, Any]  # ("u32", 5), ("arr[str]", [...]), ("raw", bytes of type and value)


def string(value: str | bytes) -> bytes:
    data = value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape")
    return struct.pack("<Q", len(data)) + data


def value(kind: str, item: Any) -> bytes:
    """A value's bytes without its type."""
    return string(item) if kind == "str" else struct.pack(CODES[kind][1], item)


def entry(kind: str, item: Any) -> bytes:
    """A value's bytes with its type."""
    if kind == "raw":
        return bytes(item)
    if kind.startswith("arr["):
        inner = kind[4:-1]
        head = struct.pack("<IIQ", 9, CODES[inner][0], len(item))
        return head + b"".join(value(inner, one) for one in item)
    return struct.pack("<I", CODES[kind][0]) + value(kind, item)


def header(
    metadata: Mapping[str, Entry] | Iterable[tuple[str, Entry]],
    tensors: Iterable[tuple[str, tuple[int, ...], int, int]] = (),
    *,
    magic: bytes = b"GGUF",
    version: int = 3,
    n_keys: int | None = None,
    n_tensors: int | None = None,
) -> bytes:
    """A header; tensors are (name, shape, type number, offset)."""
    items = list(metadata.items()) if isinstance(metadata, Mapping) else list(metadata)
    infos = list(tensors)
    out = [
        magic,
        struct.pack("<I", version),
        struct.pack("<Q", len(infos) if n_tensors is None else n_tensors),
        struct.pack("<Q", len(items) if n_keys is None else n_keys),
    ]
    for key, (kind, item) in items:
        out += [string(key), entry(kind, item)]
    for name, shape, kind_number, offset in infos:
        out += [string(name), struct.pack("<I", len(shape))]
        out += [struct.pack("<Q", size % (1 << 64)) for size in shape]
        out += [struct.pack("<IQ", kind_number, offset)]
    return b"".join(out)


def llama_metadata(architecture: str = "llama", **changes: Entry) -> dict[str, Entry]:
    """A one-layer model with an SPM vocabulary of 3 control tokens, 256 bytes and a few words.

    `changes` are keys with `__` for `.`; a value of None leaves the key out.
    """
    words = ["▁the", "▁sea", "t", "h", "e", "▁", "바", "다"]
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    tokens = ["<unk>", "<s>", "</s>", *bytes_, *words]
    kinds = [2, 3, 3] + [6] * 256 + [1] * len(words)
    a = architecture
    out: dict[str, Entry] = {
        "general.architecture": ("str", a),
        "general.type": ("str", "model"),
        "general.name": ("str", "Tiny"),
        "general.file_type": ("u32", 0),
        f"{a}.block_count": ("u32", 1),
        f"{a}.context_length": ("u32", 64),
        f"{a}.embedding_length": ("u32", 32),
        f"{a}.feed_forward_length": ("u32", 32),
        f"{a}.attention.head_count": ("u32", 4),
        f"{a}.attention.head_count_kv": ("u32", 2),
        f"{a}.attention.layer_norm_rms_epsilon": ("f32", 1e-5),
        f"{a}.rope.dimension_count": ("u32", 8),
        f"{a}.vocab_size": ("u32", len(tokens)),
        "tokenizer.ggml.model": ("str", "llama"),
        "tokenizer.ggml.tokens": ("arr[str]", tokens),
        "tokenizer.ggml.scores": ("arr[f32]", [-float(i) for i in range(len(tokens))]),
        "tokenizer.ggml.token_type": ("arr[i32]", kinds),
        "tokenizer.ggml.bos_token_id": ("u32", 1),
        "tokenizer.ggml.eos_token_id": ("u32", 2),
        "tokenizer.ggml.add_bos_token": ("bool", True),
        "tokenizer.chat_template": (
            "str",
            "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}",
        ),
    }
    for key, change in changes.items():
        name = key.replace("__", ".")
        if change is None:
            out.pop(name)
        else:
            out[name] = change
    return out


def llama_tensors(
    n_vocab: int = 267, n_embd: int = 32, n_kv: int = 16, n_ff: int = 32
) -> list[tuple[str, tuple[int, ...], int, int]]:
    """The tensors of `llama_metadata`'s model, all F32, one after the other."""
    shapes: list[tuple[str, tuple[int, ...]]] = [
        ("token_embd.weight", (n_embd, n_vocab)),
        ("output_norm.weight", (n_embd,)),
        ("blk.0.attn_norm.weight", (n_embd,)),
        ("blk.0.attn_q.weight", (n_embd, n_embd)),
        ("blk.0.attn_k.weight", (n_embd, n_kv)),
        ("blk.0.attn_v.weight", (n_embd, n_kv)),
        ("blk.0.attn_output.weight", (n_embd, n_embd)),
        ("blk.0.ffn_norm.weight", (n_embd,)),
        ("blk.0.ffn_gate.weight", (n_embd, n_ff)),
        ("blk.0.ffn_up.weight", (n_embd, n_ff)),
        ("blk.0.ffn_down.weight", (n_ff, n_embd)),
    ]
    out, offset = [], 0
    for name, shape in shapes:
        out.append((name, shape, 0, offset))
        size = 4
        for n in shape:
            size *= n
        offset += -(-size // 32) * 32
    return out


def data_size(tensors: Iterable[tuple[str, tuple[int, ...], int, int]]) -> int:
    """Bytes of F32 tensors, padded."""
    total = 0
    for _, shape, _, offset in tensors:
        size = 4
        for n in shape:
            size *= n
        total = max(total, offset + -(-size // 32) * 32)
    return total


def write_model(path: Path, **changes: Entry) -> Path:
    """A whole tiny model: small weights that differ from each other, loadable by llama.cpp."""
    tensors = llama_tensors()
    head = header(llama_metadata(**changes), tensors)
    head += bytes(-len(head) % 32)
    count = data_size(tensors) // 4
    weights = struct.pack(f"<{count}f", *(((i * 7919) % 211 - 105) / 1000 for i in range(count)))
    path.write_bytes(head + weights)
    return path


def write_vocabulary(path: Path, **changes: Entry) -> Path:
    """The same without weights."""
    path.write_bytes(header(llama_metadata(**changes)))
    return path
