"""The vocabulary: byte-level BPE in Llama 3's form, cut so that what is copied stays the same.

Knows how merges are learned and written into a GGUF. Does not know conversations' meaning.

A model this small copies a name only where the name's tokens are the same in the user's sentence
(` Seoul`) and in the call (`"Seoul"`). So no merge joins a blank, a quote or a bracket with a
letter, none joins digits, and none joins Hangul syllables, except in words that are never copied:
those of our own phrases, listed by `phrases`. Llama 3's pre-tokeniser (`llama-bpe`), with which
llama.cpp applies the merges, cuts more coarsely, so the cuts here hold there as well.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import gguf
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

CONTROL: Final = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|finetune_right_pad_id|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eom_id|>",
    "<|eot_id|>",
    "<|python_tag|>",
)
_CUTS: Final = (
    r"[A-Z]?[a-z]+|[A-Z]+|[가-힣]|\p{L}|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_PLACE: Final = re.compile(r"\{\w+\}(\(\S+?/\S+?\))?")
_WORD: Final = re.compile(r"[가-힣]{2,4}(?![가-힣])|(?<= )(?:[a-z]{2}|[A-Za-z][a-z]{2,})(?![a-z])")
_NORMAL, _CONTROL = 1, 3  # GGUF token types


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Tokens in byte-level letters, merges in order of rank; control tokens come last."""

    tokens: list[str]
    merges: list[tuple[str, str]]

    @property
    def size(self) -> int:
        return len(self.tokens)

    def id(self, text: str) -> int:
        return self.tokens.index(text)

    def write(self, writer: gguf.GGUFWriter, template: str) -> None:
        """Put the vocabulary and the chat template into a GGUF's metadata."""
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("llama-bpe")
        writer.add_token_list(self.tokens)
        plain = self.size - len(CONTROL)
        writer.add_token_types([_NORMAL] * plain + [_CONTROL] * len(CONTROL))
        writer.add_token_merges([f"{left} {right}" for left, right in self.merges])
        writer.add_bos_token_id(self.id("<|begin_of_text|>"))
        writer.add_eos_token_id(self.id("<|eot_id|>"))
        writer.add_eot_token_id(self.id("<|eot_id|>"))
        writer.add_eom_token_id(self.id("<|eom_id|>"))
        writer.add_pad_token_id(self.id("<|finetune_right_pad_id|>"))
        writer.add_add_bos_token(True)
        writer.add_chat_template(template)


def learn(texts: Iterable[str], phrases: Sequence[str], size: int) -> Vocabulary:
    """Learn merges from `texts`, then add whole words of `phrases` up to `size` tokens in all."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_CUTS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=size - len(CONTROL) - size // 8,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    state: dict[str, Any] = _state(tokenizer)
    tokens = sorted(state["vocab"], key=state["vocab"].__getitem__)
    merges = [(left, right) for left, right in state["merges"]]
    known = set(tokens)
    for word in _common_words(phrases):
        parts = _parts(tokenizer, word)
        for length in range(2, len(parts) + 1):
            left, right = "".join(parts[: length - 1]), parts[length - 1]
            if left + right not in known and len(tokens) < size - len(CONTROL):
                known.add(left + right)
                tokens.append(left + right)
                merges.append((left, right))
    return Vocabulary([*tokens, *CONTROL], merges)


def _state(tokenizer: Tokenizer) -> dict[str, Any]:
    model: dict[str, Any] = json.loads(tokenizer.to_str())["model"]
    return model


def _parts(tokenizer: Tokenizer, word: str) -> list[str]:
    """The tokens of a word, the blank before it (if any) joined last: it is the rarest merge."""
    parts: list[str] = tokenizer.encode(word.lstrip(" ")).tokens
    return parts if not word.startswith(" ") else ["Ġ", "".join(parts)]


def _common_words(phrases: Sequence[str]) -> list[str]:
    """Words of our own phrases by how often they come, each without and with a blank before it."""
    counts: Counter[str] = Counter()
    for phrase in phrases:
        for piece in _PLACE.split(phrase):
            counts.update(_WORD.findall(piece or ""))
    out = []
    for word, count in counts.most_common(700):
        if count >= 3:
            out += [word, " " + word]
    return out


def write_vocabulary(vocabulary: Vocabulary, template: str, path: Path) -> None:
    """A GGUF without weights, for tokenising with the engine's own tokeniser."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny-tools vocabulary")
    vocabulary.write(writer, template)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
