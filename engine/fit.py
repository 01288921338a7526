"""Say whether a GGUF file can hold a conversation, and how much memory one needs.

Knows headers and what llama.cpp allocates for them. Does not load anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

from engine.errors import UnsuitableModel
from engine.gguf import Header, check_complete

N_UBATCH = 256  # tokens computed at once, engine.llama.CHUNK; they size llama.cpp's compute buffer

_EMBEDDING = frozenset(
    {
        "bert",
        "modern-bert",
        "nomic-bert",
        "nomic-bert-moe",
        "neo-bert",
        "jina-bert-v2",
        "jina-bert-v3",
        "eurobert",
        "gemma-embedding",
        "llama-embed",
        "t5encoder",
    }
)
_SPEECH = frozenset({"wavtokenizer-dec", "qwen3tts", "pockettts"})
_DRAFT = frozenset({"eagle3", "dflash", "gemma4-assistant"})
_POOLING = {1: "mean", 2: "cls", 3: "last", 4: "rank"}


@dataclass(frozen=True, slots=True)
class Memory:
    """An estimate in bytes. `notes` say where it is only a bound."""

    n_ctx: int
    weights: int
    kv: int
    compute: int
    notes: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        return self.weights + self.kv + self.compute


def memory(header: Header, n_ctx: int, *, kv_type: str = "f16", n_ubatch: int = N_UBATCH) -> Memory:
    """What a context of `n_ctx` tokens needs, with flash attention.

    The compute buffer is what llama.cpp allocated for SmolLM2 and Gemma 3 to the byte: one batch
    of logits and two of embeddings, or the attention mask where that is larger.
    """
    logits = 4 * (header.n_vocab + 2 * header.n_embd)
    return Memory(
        n_ctx=n_ctx,
        weights=header.weight_bytes,
        kv=header.kv_bytes(n_ctx, kv_type),
        compute=n_ubatch * max(logits, 2 * n_ctx),
        notes=tuple(_memory_notes(header, n_ctx)),
    )


def _memory_notes(header: Header, n_ctx: int) -> list[str]:
    notes = []
    window = header.get("attention.sliding_window")
    if isinstance(window, int) and 0 < window < n_ctx:
        notes.append(f"some layers see only the last {window} tokens: the cache may be smaller")
    if header.get("ssm.state_size") or header.architecture.startswith(("rwkv", "arwkv")):
        notes.append("layers with a recurrent state keep no cache: it may be smaller")
    if header.n_ctx_train and n_ctx > header.n_ctx_train:
        notes.append(f"the model was trained for {header.n_ctx_train} tokens")
    if header.missing_parts:
        notes.append(f"{len(header.missing_parts)} parts are missing: their weights are not in it")
    return notes


def check_suitable(header: Header) -> None:
    """Raise UnsuitableModel, with the next step, for a sound file that can't generate text.

    Call it before llama.cpp loads the file: some of these abort the process there. A split model
    must be whole, and every part sound: else GGUFError.
    """
    check_complete(header)
    reason = _unsuitable_kind(header) or _unsuitable_vocabulary(header)
    if reason is not None:
        _refuse(header, *reason)


def _refuse(header: Header, kind: str, what: str, remedy: str) -> NoReturn:
    raise UnsuitableModel(
        f"{header.path}: {what}; {remedy}", path=header.path, reason=kind, name=header.name
    )


def _unsuitable_kind(header: Header) -> tuple[str, str, str] | None:
    """(kind, what the file is, what to do)."""
    kind, architecture = header.metadata.get("general.type", "model"), header.architecture
    if kind == "adapter" or "adapter.type" in header.metadata:
        return "adapter", "is a LoRA adapter, not a model", "name the base model it was made for"
    if kind == "mmproj" or architecture == "clip":
        return (
            "projector",
            "is a vision or audio projector (mmproj), not a language model",
            "name the model's own .gguf, which lies beside it",
        )
    if kind == "imatrix" or "imatrix.datasets" in header.metadata:
        return "imatrix", "is an importance matrix for quantising, not a model", "name a model"
    if not architecture:
        return (
            "no architecture",
            "has no general.architecture, so nothing says how to run it",
            "convert the model anew or download another file",
        )
    if architecture in _EMBEDDING:
        return _embedding(f"architecture {architecture}")
    if architecture in _SPEECH:
        return "speech", f"makes sound ({architecture}), not text", "name a language model"
    if architecture in _DRAFT:
        return "draft", f"is a draft model ({architecture})", "name the model that it drafts for"
    if architecture == "t5":
        return (
            "encoder-decoder",
            "is an encoder-decoder model (t5), which a conversation can't run on",
            "name a decoder-only model",
        )
    pooling = header.get("pooling_type")
    if pooling in _POOLING:
        return _embedding(f"pooling {_POOLING[pooling]}")
    if header.get("classifier.output_labels") is not None:
        return _embedding("it has classifier labels")
    if header.get("attention.causal") is False:
        return (
            "not causal",
            "reads text in both directions (attention.causal is false): it can't write one token "
            "after another",
            "name a causal language model",
        )
    return None


def _embedding(why: str) -> tuple[str, str, str]:
    return (
        "embedding",
        f"is an embedding or reranking model ({why}), it does not generate text",
        "name a chat or instruct model",
    )


def _unsuitable_vocabulary(header: Header) -> tuple[str, str, str] | None:
    if not header.all_tensors:
        return (
            "vocabulary only",
            "holds a vocabulary and no weights",
            "`engine tokens` works with it; name a whole model to generate",
        )
    model = header.metadata.get("tokenizer.ggml.model", "none")
    if header.n_vocab == 0 or "tokenizer.ggml.tokens" not in header.metadata:
        return "no vocabulary", "has no vocabulary", "convert the model anew with its tokenizer"
    if model in ("none", "no_vocab", "bert"):
        return (
            "no vocabulary",
            f"has a vocabulary of type {model!r}, which generates no text",
            "name a chat or instruct model",
        )
    return None
