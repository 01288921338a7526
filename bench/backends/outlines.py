"""outlines-core: a schema as one regular expression, its automaton over the whole vocabulary."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from outlines_core import Guide, Index, Vocabulary
from outlines_core.json_schema import build_regex_from_schema

from bench.backends import Kind, Refused
from engine.constraint import Terminals
from engine.vocab import UNUSED, Vocab


class Matcher:
    def __init__(self, index: Index, n_vocab: int) -> None:
        self._guide = Guide(index)
        self._mask = np.zeros((n_vocab + 31) // 32, dtype=np.uint32)

    def mask(self) -> None:
        self._guide.write_mask_into(self._mask.ctypes.data, len(self._mask), 4)

    def allows(self, token: int) -> bool:
        return bool(self._mask[token // 32] >> np.uint32(token % 32) & 1)

    def advance(self, token: int) -> bool:
        try:
            self._guide.advance(token, return_tokens=False)
        except ValueError:
            return False
        return True


class Compiled:
    def __init__(self, index: Index, n_vocab: int) -> None:
        self._index = index
        self._n_vocab = n_vocab

    def matcher(self) -> Matcher:
        return Matcher(self._index, self._n_vocab)


class Outlines:
    packages = ("outlines-core",)
    policy = "[ \\t\\n\\r]* where it puts white space, keys in the schema's order"

    def __init__(self, vocab: Vocab, path: Path | None) -> None:
        self._vocab = vocab

    def setup(self) -> None:
        vocab = self._vocab
        terminals = Terminals.of(vocab)
        unused = set(np.flatnonzero(vocab.kinds == UNUSED).tolist())
        tokens: dict[bytes, list[int]] = {}
        for index, token in enumerate(vocab.tokens):
            if token and index not in terminals.special and index not in unused:
                tokens.setdefault(token, []).append(index)
        self._n_vocab = vocab.n_vocab
        self.end = min(terminals.ends)
        self._vocabulary = Vocabulary(self.end, tokens)

    def compile(self, kind: Kind, source: str) -> Compiled:
        if kind != "json_schema":
            raise Refused("no Lark grammars")
        try:
            pattern = build_regex_from_schema(source, whitespace_pattern=r"[ \t\n\r]*")
            return Compiled(Index(pattern, self._vocabulary), self._n_vocab)
        except Exception as error:
            raise Refused(str(error)) from error


make = Outlines
