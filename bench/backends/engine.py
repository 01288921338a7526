"""Our own grammars."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bench.backends import Kind, Refused
from engine import _native
from engine.constraint import Terminals
from engine.errors import GrammarError
from engine.grammar import Grammar, native
from engine.vocab import Vocab


class Matcher:
    def __init__(self, grammar: _native.Grammar, n_vocab: int) -> None:
        self._matcher = _native.Matcher(grammar)
        self._mask = np.zeros(_native.mask_words(n_vocab), dtype=np.uint32)
        self.advance = self._matcher.advance

    def mask(self) -> None:
        self._matcher.mask(self._mask)

    def allows(self, token: int) -> bool:
        return bool(self._mask[token // 32] >> np.uint32(token % 32) & 1)


class Compiled:
    def __init__(self, grammar: _native.Grammar, n_vocab: int) -> None:
        self._grammar = grammar
        self._n_vocab = n_vocab

    def matcher(self) -> Matcher:
        return Matcher(self._grammar, self._n_vocab)


class Engine:
    packages = ("engine-gguf",)
    policy = "[ \\t\\n\\r]* between all parts, keys in any order, every JSON escape"

    def __init__(self, vocab: Vocab, path: Path | None) -> None:
        self._vocab = vocab

    def setup(self) -> None:
        self._terminals = Terminals.of(self._vocab)
        native.vocabulary(self._vocab, self._terminals)

    def compile(self, kind: Kind, source: str) -> Compiled:
        grammar = Grammar(kind, source, whitespace="flexible", any_order=True, escapes="any")
        try:
            made = native.compiled(grammar, self._vocab, self._terminals)
        except GrammarError as error:
            raise Refused(error.message) from error
        return Compiled(made, self._vocab.n_vocab)


make = Engine
