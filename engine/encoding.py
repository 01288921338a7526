"""Text to tokens without letting content steer: control texts cut out, content kept plain.

Knows which characters came from content, control texts, and a tokenizer for the stretches between
them. Does not know templates, how a tokenizer works, or llama.cpp.

    rendered text -> genuine control texts | stretches -> ids, origins, offsets
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from engine.errors import UnsuitableModel
from engine.vocab import CONTROL, UNKNOWN, Vocab

if TYPE_CHECKING:
    from engine.template import Rendered

_WHITE_SPACE = " \t\n\v\f\r"  # C's isspace, which is what llama.cpp asks
_SURROGATES = dict.fromkeys(range(0xD800, 0xE000), "\ufffd")


class Tokenizer(Protocol):
    """Plain text to ids. The ids never hold a control token, whatever the text says."""

    vocab: Vocab

    def encode(
        self, text: str, *, forbidden: Collection[int] | None = None, continues: bool = False
    ) -> list[int]:
        """The ids of `text`, without BOS: llama.cpp's, wherever no token of `forbidden` comes up.

        `forbidden` defaults to the vocabulary's control and unknown tokens. `continues` says that
        other text precedes: then SentencePiece's leading space is left out.
        """


@dataclass(frozen=True, slots=True)
class Encoding:
    """Ids, where each came from, and which characters of the text it covers.

    Offsets are [start, end) in characters. Tokens that share a character overlap; a BOS that the
    text doesn't spell out covers nothing.
    """

    ids: list[int]
    origins: list[Literal["template", "content"]]
    offsets: list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a text: one special token, or (`id` None) the text between two."""

    start: int
    end: int
    id: int | None = None


class Specials:
    """Texts that stand for one token each, found as llama.cpp finds them: longest text first."""

    def __init__(self, vocab: Vocab, ids: Mapping[str, int]) -> None:
        self._vocab = vocab
        self._ids = sorted(ids.items(), key=lambda item: -len(item[0].encode("utf-8", "replace")))

    def cut(self, text: str, content: Sequence[tuple[int, int]] = ()) -> list[Piece]:
        """`text` in pieces. An occurrence that touches a range of `content` is no special token."""
        if not text:
            return []
        mask = bytearray(len(text))
        for start, end in content:
            mask[start:end] = b"\1" * (end - start)
        present = set(text)
        pieces = [Piece(0, len(text))]
        for special, index in self._ids:
            if special[0] in present and special[-1] in present and special in text:
                pieces = [
                    part
                    for piece in pieces
                    for part in (
                        self._split(text, mask, piece, special, index)
                        if piece.id is None
                        else (piece,)
                    )
                ]
        return pieces

    def _split(
        self, text: str, mask: bytearray, piece: Piece, special: str, index: int
    ) -> Iterator[Piece]:
        start = at = piece.start
        while (at := text.find(special, at, piece.end)) >= 0:
            end = at + len(special)
            if mask.find(1, at, end) >= 0:
                at += 1
                continue
            left = at
            if index in self._vocab.lstrip:
                while left > start and text[left - 1] in _WHITE_SPACE:
                    left -= 1
            if left > start:
                yield Piece(start, left)
            yield Piece(at, end, index)
            if index in self._vocab.rstrip:
                while end < piece.end and text[end] in _WHITE_SPACE:
                    end += 1
            start = at = end
        if start < piece.end:
            yield Piece(start, piece.end)


class PlainTokenizer(ABC):
    """What all tokenizers share: text is broken up where it would become a forbidden token.

    llama.cpp parses user-defined tokens in any text (Qwen's `<tool_call>`), and merges can end in
    a control token (SentencePiece makes `</s>` of its letters). Where that happens, the text is
    cut in the middle of the token and the halves are encoded on their own.
    """

    def __init__(self, vocab: Vocab) -> None:
        self.vocab = vocab
        never = np.isin(vocab.kinds, (UNKNOWN, CONTROL))
        self._never = frozenset(np.flatnonzero(never).tolist())

    @abstractmethod
    def parse(self, text: str, *, continues: bool) -> list[int]:
        """The ids llama.cpp gives with `parse_special=false`: user-defined tokens are parsed."""

    def encode_inside(self, text: str) -> list[int]:
        """The ids of a text that stands behind other text."""
        return self.encode(text, continues=True)

    def encode(
        self, text: str, *, forbidden: Collection[int] | None = None, continues: bool = False
    ) -> list[int]:
        never = self._never if forbidden is None else self._never.union(forbidden)
        out: list[int] = []
        todo = [(whole_characters(text), continues)] if text else []
        while todo:
            part, follows = todo.pop()
            ids = self.parse(part, continues=follows)
            cuts = [] if never.isdisjoint(ids) else self._cuts(part, ids, never)
            if not cuts:
                out += ids
                continue
            bounds = [0, *cuts, len(part)]
            halves = [(part[a:b], follows or a > 0) for a, b in pairwise(bounds)]
            todo += reversed(halves)
        return out

    def _cuts(self, text: str, ids: Sequence[int], never: frozenset[int]) -> list[int]:
        cuts = set()
        for index, (start, end) in zip(ids, spans(text, ids, self.vocab), strict=True):
            if index not in never:
                continue
            if end - start >= 2:
                cuts.add((start + end) // 2)
            elif self.vocab.kinds[index] != UNKNOWN:
                raise UnsuitableModel(
                    f"the text contains {text[start:end]!r}, which this model's vocabulary can "
                    f"only write as control token {index}; remove it from the text",
                    token=index,
                )
        return sorted(cuts)


def whole_characters(text: str) -> str:
    """`text` with half surrogate pairs replaced: they are no characters and have no UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.translate(_SURROGATES)
    return text


def spans(text: str, ids: Sequence[int], vocab: Vocab) -> list[tuple[int, int]]:
    """The characters that each token of `text` covers.

    Where a tokenizer rewrites text (T5's normaliser), every token is said to cover all of it.
    """
    if vocab.spaces_escaped:
        text = text.replace("▁", " ")  # in such vocabularies the two are one
    data = text.encode("utf-8", "replace")
    pieces = [vocab.tokens[index] for index in ids]
    if b"".join(pieces) != data:
        without_spaces = _without_added_spaces(pieces, data) if vocab.add_space_prefix else None
        if without_spaces is None:
            return [(0, len(text))] * len(ids)
        pieces = without_spaces
    ends = list(accumulate(map(len, pieces)))
    starts = [0, *ends[:-1]]
    if len(data) == len(text):
        return list(zip(starts, ends, strict=True))
    begun = [0]  # how many characters have begun before each byte
    begun += accumulate((byte & 0xC0) != 0x80 for byte in data)
    return [
        (begun[a + 1] - 1 if a < b else begun[b], begun[b])
        for a, b in zip(starts, ends, strict=True)
    ]


def _without_added_spaces(pieces: Iterable[bytes], data: bytes) -> list[bytes] | None:
    """The pieces, less the spaces that SentencePiece put before words. None: they don't fit."""
    out = []
    at = 0
    for piece in pieces:
        kept = piece if data.startswith(piece, at) else piece.removeprefix(b" ")
        if not data.startswith(kept, at):
            return None
        out.append(kept)
        at += len(kept)
    return out if at == len(data) else None


def encode_rendered(
    rendered: Rendered,
    tokenizer: Tokenizer,
    control: Mapping[str, int],
    *,
    add_bos: bool,
    continues: bool = False,
) -> Encoding:
    """The tokens of a rendered prompt. Only the template's own text yields ids of `control`.

    For content without control texts the ids are those of llama.cpp for the whole string with
    special tokens parsed. `add_bos` puts BOS in front unless the template wrote it. `continues`
    says that the prompt follows ordinary text in the stream.
    """
    vocab = tokenizer.vocab
    text = whole_characters(rendered.text)
    forbidden = frozenset(control.values())
    ids: list[int] = []
    offsets: list[tuple[int, int]] = []
    for piece in Specials(vocab, control).cut(text, rendered.content):
        if piece.id is not None:
            ids.append(piece.id)
            offsets.append((piece.start, piece.end))
            continue
        # Encode each stretch between control tokens whole: encode(a) + encode(b) != encode(a + b).
        stretch = text[piece.start : piece.end]
        found = tokenizer.encode(
            stretch, forbidden=forbidden, continues=continues and piece.start == 0
        )
        ids += found
        offsets += [
            (piece.start + start, piece.start + end) for start, end in spans(stretch, found, vocab)
        ]
    if add_bos and vocab.bos is not None and ids[:1] != [vocab.bos]:
        ids.insert(0, vocab.bos)
        offsets.insert(0, (0, 0))
    return Encoding(ids, _origins(len(text), rendered.content, offsets), offsets)


def _origins(
    length: int, content: Sequence[tuple[int, int]], offsets: Sequence[tuple[int, int]]
) -> list[Literal["template", "content"]]:
    mask = bytearray(length)
    for start, end in content:
        mask[start:end] = b"\1" * (end - start)
    return ["content" if mask.find(1, a, b) >= 0 else "template" for a, b in offsets]
