"""Two tokenizers that agree: llama.cpp's, and one built from a GGUF header without weights.

Knows llama.cpp's `llama_tokenize` as a function, and the `tokenizers` library. Does not know
templates or which text is content; `engine.encoding` does, and its names are also here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from engine.encoding import (
    Encoding,
    PlainTokenizer,
    Specials,
    Tokenizer,
    encode_rendered,
    spans,
)
from engine.errors import UnsuitableModel, UsageError
from engine.pretokenizers import PRETOKENIZERS, PreTokenizer
from engine.vocab import USER_DEFINED, Vocab

if TYPE_CHECKING:
    import tokenizers

__all__ = [
    "Encoding",
    "HeaderTokenizer",
    "LlamaTokenizer",
    "Tokenizer",
    "encode_rendered",
    "spans",
]

# std::regex, with which llama.cpp splits for some vocabularies, recurses once a character: a run
# of 30,000 letters overflowed an 8 MiB stack, 20,000 did not. Threads may have smaller stacks.
_SAFE_CHARACTERS = 4_000


class LlamaTokenizer(PlainTokenizer):
    """llama.cpp's own tokeniser, in process.

    `tokenize(text, parse_special)` is `llama_tokenize` without BOS. Long texts that could overflow
    llama.cpp's stack go to a HeaderTokenizer, which gives the same ids; its first use costs up to
    a second.
    """

    def __init__(self, vocab: Vocab, tokenize: Callable[[bytes, bool], list[int]]) -> None:
        super().__init__(vocab)
        self._tokenize = tokenize
        pre = PRETOKENIZERS.get(vocab.pre)
        self._is_recursive = vocab.model == "gpt2" and (pre is None or pre.recursive)

    def parse(self, text: str, *, continues: bool) -> list[int]:
        if self._is_recursive and len(text) > _SAFE_CHARACTERS:
            return self._for_long_texts.parse(text, continues=continues)
        if not (continues and self.vocab.add_space_prefix):
            return self._tokenize(text.encode(), False)
        # llama.cpp puts a space before every text it is given. A character that merges with
        # nothing keeps that space away from ours.
        ids = self._tokenize((self._wall + text).encode(), False)
        wall = [self.vocab.ids[f"<0x{byte:02X}>"] for byte in self._wall.encode()]
        at = next(i for i in range(len(ids)) if ids[i : i + len(wall)] == wall)
        return ids[at + len(wall) :]

    @cached_property
    def _for_long_texts(self) -> HeaderTokenizer:
        try:
            return HeaderTokenizer(self.vocab)
        except UnsuitableModel as error:
            raise UsageError(
                f"a stretch of text is longer than the {_SAFE_CHARACTERS} characters that can be "
                f"split safely for pre-tokenizer {self.vocab.pre!r}; break it into messages",
                limit=_SAFE_CHARACTERS,
            ) from error

    @cached_property
    def _wall(self) -> str:
        """A private-use character that no token's text contains."""
        used = set("".join(self.vocab.texts))
        return next(char for char in map(chr, range(0xE000, 0xF8FF)) if char not in used)


class HeaderTokenizer(PlainTokenizer):
    """A tokenizer built from the vocabulary alone: no weights, no llama.cpp.

    For byte-pair vocabularies, gemma-4's and SentencePiece's. Takes up to a second to build.
    Raises UnsuitableModel for others, and for a pre-tokenizer that llama.cpp names and we don't.
    """

    def __init__(self, vocab: Vocab) -> None:
        super().__init__(vocab)
        user_defined = np.flatnonzero(vocab.kinds == USER_DEFINED).tolist()
        self._user_defined = Specials(vocab, {vocab.texts[i]: i for i in user_defined})
        if vocab.model == "llama":
            self._tokenizer = _sentence_piece(vocab)
        elif vocab.model in ("gpt2", "gemma4"):
            self._tokenizer = _byte_pair(vocab)
        else:
            raise UnsuitableModel(
                f"no tokenizer for {vocab.model!r} vocabularies without llama.cpp; load the model "
                "itself (gpt2, gemma4 and llama vocabularies work without weights)",
                tokenizer=vocab.model,
            )

    def parse(self, text: str, *, continues: bool) -> list[int]:
        ids: list[int] = []
        for piece in self._user_defined.cut(text):
            if piece.id is not None:
                ids.append(piece.id)
                continue
            part = text[piece.start : piece.end]
            if self.vocab.add_space_prefix and not (continues and piece.start == 0):
                part = " " + part
            ids += self._tokenizer.encode(part, add_special_tokens=False).ids
        return ids


def _pretokenizer(vocab: Vocab) -> PreTokenizer:
    found = PRETOKENIZERS.get(vocab.pre)
    if found is None:
        raise UnsuitableModel(
            f"pre-tokenizer {vocab.pre!r} is unknown here ({len(PRETOKENIZERS)} are known); "
            "load the model itself: llama.cpp in process may know it",
            pre=vocab.pre,
        )
    return found


def _byte_pair(vocab: Vocab) -> tokenizers.Tokenizer:
    import tokenizers
    from tokenizers import Regex, models, normalizers, pre_tokenizers

    pre = _pretokenizer(vocab)
    ids = _utf8_only(vocab)
    pairs: dict[tuple[str, str], None] = {}
    for merge in vocab.merges:
        at = merge.find(" ", 1)
        left, right = merge[:at], merge[at + 1 :]
        if at > 0 and left in ids and right in ids and left + right in ids:
            pairs.setdefault((left, right))
    out = tokenizers.Tokenizer(
        models.BPE(
            ids,
            list(pairs),
            ignore_merges=pre.ignore_merges,
            byte_fallback=not pre.byte_level,
        )
    )
    steps: list[pre_tokenizers.PreTokenizer] = [
        pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in pre.expressions
    ]
    if pre.byte_level:
        steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False))
    else:
        out.normalizer = normalizers.Replace(" ", "▁")
    out.pre_tokenizer = pre_tokenizers.Sequence(steps)
    return out


def _sentence_piece(vocab: Vocab) -> tokenizers.Tokenizer:
    """SentencePiece's merging, as llama.cpp does it: the best-scoring pair first."""
    import tokenizers
    from tokenizers import models, normalizers

    _check_bytes(vocab)
    ids = _utf8_only(vocab)
    scores = np.zeros(vocab.n_vocab) if vocab.scores is None else vocab.scores
    best_first = sorted(ids.items(), key=lambda item: (-scores[item[1]], item[1]))
    pairs = [
        (text[:at], text[at:])
        for text, _ in best_first
        for at in range(1, len(text))
        if text[:at] in ids and text[at:] in ids
    ]
    out = tokenizers.Tokenizer(models.BPE(ids, pairs, byte_fallback=True))
    out.normalizer = normalizers.Replace(" ", "▁")
    return out


def _utf8_only(vocab: Vocab) -> dict[str, int]:
    """The texts that text can contain at all: without those that are no UTF-8."""
    if "".join(vocab.texts).isascii():
        return dict(vocab.ids)
    return {
        text: index
        for text, index in vocab.ids.items()
        if not any("\ud800" <= char <= "\udfff" for char in text)
    }


def _check_bytes(vocab: Vocab) -> None:
    for byte in range(256):
        if f"<0x{byte:02X}>" not in vocab.ids:
            raise UnsuitableModel(
                f"the vocabulary has no token for byte 0x{byte:02X}, so it can't write every "
                "text; use a conversion with byte tokens",
                byte=byte,
            )
