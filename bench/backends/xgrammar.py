"""xgrammar."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import xgrammar

from bench.backends import Kind, Refused
from engine.constraint import Terminals
from engine.vocab import UNUSED, Vocab


class Matcher:
    def __init__(self, compiled: xgrammar.CompiledGrammar, n_vocab: int) -> None:
        self._matcher = xgrammar.GrammarMatcher(compiled)
        self._mask = xgrammar.allocate_token_bitmask(1, n_vocab)
        self._words = self._mask.numpy()[0].view(np.uint32)
        self.advance = self._matcher.accept_token

    def mask(self) -> None:
        self._matcher.fill_next_token_bitmask(self._mask)

    def allows(self, token: int) -> bool:
        return bool(self._words[token // 32] >> np.uint32(token % 32) & 1)


class Compiled:
    def __init__(self, compiled: xgrammar.CompiledGrammar, n_vocab: int) -> None:
        self._compiled = compiled
        self._n_vocab = n_vocab

    def matcher(self) -> Matcher:
        return Matcher(self._compiled, self._n_vocab)


class XGrammar:
    packages = ("xgrammar", "torch")
    policy = "any_whitespace, strict_mode off, keys in the schema's order, one thread, no cache"

    def __init__(self, vocab: Vocab, path: Path | None) -> None:
        self._vocab = vocab

    def setup(self) -> None:
        vocab = self._vocab
        torch.set_num_threads(1)
        terminals = Terminals.of(vocab)
        tokens: list[str | bytes] = list(vocab.tokens)
        for index in [*np.flatnonzero(vocab.kinds == UNUSED).tolist(), *terminals.special]:
            tokens[index] = b""  # xgrammar never allows an empty token
        self._n_vocab = vocab.n_vocab
        info = xgrammar.TokenizerInfo(
            tokens, vocab_size=vocab.n_vocab, stop_token_ids=sorted(terminals.ends)
        )
        self._compiler = xgrammar.GrammarCompiler(info, max_threads=1, cache_enabled=False)

    def compile(self, kind: Kind, source: str) -> Compiled:
        try:
            if kind == "json_schema":
                made = self._compiler.compile_json_schema(
                    source, any_whitespace=True, strict_mode=False
                )
            else:
                made = self._compiler.compile_lark(source)
        except Exception as error:
            raise Refused(str(error)) from error
        return Compiled(made, self._n_vocab)


make = XGrammar
