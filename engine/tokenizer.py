"""Two tokenizers that agree: llama.cpp's, and one built from a GGUF header without weights.

Knows llama.cpp's `llama_tokenize` as a function, and the `tokenizers` library. Does not know
templates or which text is content; `engine.encoding` does, and its names are also here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from heapq import heappop, heappush

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
            ids = self._tokenize(text.encode(), False)
            if ids and min(ids) < 0:  # RWKV's way to say that there is no token
                raise UnsuitableModel(
                    f"this model's vocabulary has no tokens for a part of {text[:40]!r}; "
                    "use one that covers all bytes"
                )
            return ids
        # llama.cpp puts a space before every text it is given. A character that merges with
        # nothing keeps that space away from ours.
        ids = self._tokenize((self._wall + text).encode(), False)
        wall = _byte_tokens(self.vocab.ids, self._wall)
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
        self._merge: Callable[[str], list[int]]
        if vocab.model == "llama":
            self._merge = _SentencePiece(vocab)
        elif vocab.model in ("gpt2", "gemma4"):
            self._merge = _BytePair(vocab)
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
            ids += self._merge(part)
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


class _BytePair:
    """Splitting and merging by the `tokenizers` library."""

    def __init__(self, vocab: Vocab) -> None:
        import tokenizers
        from tokenizers import Regex, models, normalizers, pre_tokenizers

        pre = _pretokenizer(vocab)
        ids = _utf8_only(vocab)
        model = models.BPE(
            ids,
            _merges(vocab, ids),
            ignore_merges=pre.ignore_merges,
            byte_fallback=not pre.byte_level,
        )
        steps: list[pre_tokenizers.PreTokenizer] = [
            pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in pre.expressions
        ]
        self.tokenizer = tokenizers.Tokenizer(model)
        if pre.byte_level:
            steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False))
        else:
            self.tokenizer.normalizer = normalizers.Replace(" ", "▁")
        self.tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)

    def __call__(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids


def _merges(vocab: Vocab, ids: Mapping[str, int]) -> list[tuple[str, str]]:
    """The merges that lead to a token, best first; of equal ones the first counts."""
    pairs: dict[tuple[str, str], None] = {}
    for merge in vocab.merges:
        at = merge.find(" ", 1)
        left, right = merge[:at], merge[at + 1 :]
        if at > 0 and left in ids and right in ids and left + right in ids:
            pairs.setdefault((left, right))
    return list(pairs)


class _SentencePiece:
    """SentencePiece's merging as llama.cpp does it: of all neighbours, those whose joint text
    scores best are joined first, the leftmost of equals. What is no token in the end is bytes.

    In Python, since `tokenizers` ranks pairs and not texts. 100 KB take about half a second.
    """

    def __init__(self, vocab: Vocab) -> None:
        self._ids = vocab.ids
        self._scores = [0.0] * vocab.n_vocab if vocab.scores is None else vocab.scores.tolist()

    def __call__(self, text: str) -> list[int]:
        parts = list(text.replace(" ", "▁"))
        before = list(range(-1, len(parts) - 1))
        after = [*range(1, len(parts)), -1]
        queue: list[tuple[float, int, int, int]] = []  # negative score, left, right, length

        def offer(left: int, right: int) -> None:
            if left < 0 or right < 0:
                return
            joined = parts[left] + parts[right]
            if (index := self._ids.get(joined)) is not None:
                heappush(queue, (-self._scores[index], left, right, len(joined)))

        for right in range(1, len(parts)):
            offer(right - 1, right)
        while queue:
            _, left, right, length = heappop(queue)
            is_stale = not parts[left] or not parts[right]
            if is_stale or len(parts[left]) + len(parts[right]) != length:
                continue
            parts[left] += parts[right]
            parts[right] = ""
            after[left] = after[right]
            if after[right] >= 0:
                before[after[right]] = left
            offer(before[left], left)
            offer(left, after[left])
        return [index for part in parts if part for index in self._tokens(part)]

    def _tokens(self, part: str) -> list[int]:
        index = self._ids.get(part)
        return [index] if index is not None else _byte_tokens(self._ids, part)


def _byte_tokens(ids: Mapping[str, int], text: str) -> list[int]:
    """The byte tokens of `text`. llama.cpp aborts where one is missing; headers are checked."""
    return [ids[f"<0x{byte:02X}>"] for byte in text.encode()]


def _utf8_only(vocab: Vocab) -> dict[str, int]:
    """The texts that text can contain at all: without those that are no UTF-8."""
    if "".join(vocab.texts).isascii():
        return dict(vocab.ids)
    return {
        text: index
        for text, index in vocab.ids.items()
        if not any("\ud800" <= char <= "\udfff" for char in text)
    }
