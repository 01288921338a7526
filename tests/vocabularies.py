"""Vocabularies for tests: the real ones beside the project, and small ones made to measure.

Each comes twice, as our Vocab and loaded by llama.cpp, so that the two can be compared.
"""

from __future__ import annotations

import functools
import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf_files import Entry, write_vocabulary

from engine.encoding import whole_characters
from engine.gguf import Header, read_header
from engine.llama import LlamaVocab
from engine.tokenizer import HeaderTokenizer, LlamaTokenizer
from engine.vocab import BYTE, CONTROL, NORMAL, UNKNOWN, USER_DEFINED, Vocab

NAMES = ("command-r", "gemma-4", "llama-3.1", "llama-bpe", "llama-spm", "qwen2")
WORDS = [
    *("안녕", "하세요", "대한민국", "👩‍👩‍👧", "🦙", "é", "e\u0301", "ß", "İ", "ǅ", "𝒳", "日本"),
    *("カナ", "ไทย", "हिन्दी", "кирил", "’s", "'s", "'LL", "don't", "I'M", "a", "B", "Zz", "_"),
    *("#", "//", "->", "  ", "   ", "\n", "\n\n", "\r\n", "\t", " ", "\u00a0", "\u3000"),
    *("\u2003", "\x0b", "\x1c", "\x85", "\x00", "\x7f", "123", "4567", "²³", "½", "٣", "Ⅷ"),
    *("def f(x):", "{", "}", "...", "!!", "==", "ʼ", "—", "“", "\ufffd", "\u200b", "\u200d"),
    *("\ufeff", "\U000e0001", "\u0378", "\ue000", "\U0001fae9", "\U00013eb1", "\u0897", "㋿"),
    *("▁", "Ġ", "</", "s>", "<|", "|>", "[", "]", "<0x0A>"),
]
CONTROL_LIKE = [
    "</s>",
    "<s>",
    "<unk>",
    "<|im_end|>",
    "<|eot_id|>",
    "<tool_call>",
    "[INST]",
    "<bos>",
]


@dataclass(frozen=True)
class Pair:
    """A vocabulary as we read it and as llama.cpp does."""

    path: Path
    header: Header
    vocab: Vocab

    @functools.cached_property
    def llama(self) -> LlamaVocab:
        return LlamaVocab(self.path)

    @functools.cached_property
    def by_llama(self) -> LlamaTokenizer:
        return LlamaTokenizer(self.vocab, self.llama.tokenize)

    @functools.cached_property
    def by_header(self) -> HeaderTokenizer:
        return HeaderTokenizer(self.vocab)


@functools.cache
def open_pair(path: Path) -> Pair:
    header = read_header(path)
    return Pair(path, header, Vocab.from_header(header))


def some_text(rng: random.Random, words: Sequence[str] = (*WORDS, *CONTROL_LIKE)) -> str:
    """Korean, emoji, code, white space, digits, control-like text; at times any characters."""
    match rng.randrange(10):
        case 0 | 1:
            tops = (0x7F, 0x2FFF, 0xFFFF, 0x10FFFF)
            return "".join(chr(rng.randint(0, rng.choice(tops))) for _ in range(rng.randint(1, 12)))
        case 2:
            return "".join(rng.choice(words) * rng.randint(1, 20) for _ in range(rng.randint(1, 4)))
        case _:
            return "".join(rng.choice(words) for _ in range(rng.randint(1, 14)))


@functools.cache
def learned_merges() -> tuple[list[str], list[str]]:
    """A byte-level vocabulary whose merges cross every boundary that a pre-tokenizer can draw."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    rng = random.Random(7)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    trainer = trainers.BpeTrainer(
        vocab_size=4000,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
        max_token_length=12,
    )
    corpus = [whole_characters(some_text(rng)) for _ in range(3000)]
    tokenizer.train_from_iterator(corpus, trainer)
    model: dict[str, Any] = json.loads(tokenizer.to_str())["model"]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    return sorted(model["vocab"], key=model["vocab"].get), merges


def write_byte_pair(
    path: Path, pre: str, special: Mapping[str, int] | None = None, **changes: Entry
) -> Path:
    """A small byte-pair vocabulary; `special` maps further texts to their kinds."""
    words, merges = learned_merges()
    special = {text: kind for text, kind in (special or {}).items() if text not in set(words)}
    texts = [*words, *special]
    return write_vocabulary(
        path,
        tokenizer__ggml__model=("str", "gpt2"),
        tokenizer__ggml__pre=("str", pre),
        tokenizer__ggml__tokens=("arr[str]", texts),
        tokenizer__ggml__merges=("arr[str]", merges),
        tokenizer__ggml__token_type=(
            "arr[i32]",
            [NORMAL] * len(words) + list(special.values()),
        ),
        tokenizer__ggml__scores=("arr[f32]", [0.0] * len(texts)),
        **{"tokenizer__ggml__add_bos_token": ("bool", False), **changes},
    )


def write_sentence_piece(
    path: Path, special: Mapping[str, int] | None = None, **changes: Entry
) -> Path:
    """A small SentencePiece vocabulary whose words also spell `</s>` and parts of markers."""
    words = sorted({word.replace(" ", "▁") for word in WORDS if word not in ("\x00", "<0x0A>")})
    pieces = {
        piece: None
        for word in [*words, "▁the", "▁tool_call", "im_end", "s>", "</s", "<s", "nk>", "<u"]
        for size in range(1, len(word) + 1)
        for piece in (word[:size], word[-size:])
    }
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    head = {"<unk>": UNKNOWN, "<s>": CONTROL, "</s>": CONTROL}
    kinds = {
        **head,
        **dict.fromkeys(bytes_, BYTE),
        **{piece: NORMAL for piece in pieces if piece not in head},
        **{text: kind for text, kind in (special or {}).items() if text not in head},
    }
    scores = [0.0 if kind != NORMAL else -float(i) for i, kind in enumerate(kinds.values())]
    return write_vocabulary(
        path,
        tokenizer__ggml__tokens=("arr[str]", list(kinds)),
        tokenizer__ggml__token_type=("arr[i32]", list(kinds.values())),
        tokenizer__ggml__scores=("arr[f32]", scores),
        **changes,
    )


_MARK = re.compile(
    r"<\|[^|<>'\"{}\s]{1,40}\|?>|<[\w/]{1,30}\|?>|<｜[^｜<>'\"{}]{1,40}｜>|\[/?[A-Z_]{3,30}\]"
    r"|</?[a-z_]{3,30}>|\]<\]\w+\[>\[|\[e~\[|\]~\w*\]"
)


def marks_of(source: str) -> list[str]:
    """What looks like a control text in a chat template's source."""
    return sorted(set(_MARK.findall(source)))


def fitting_kinds(source: str) -> dict[str, int]:
    """The template's marks as special tokens, every other one user-defined as Qwen's are."""
    return {
        mark: CONTROL if index % 2 else USER_DEFINED for index, mark in enumerate(marks_of(source))
    }
