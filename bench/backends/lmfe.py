"""lm-format-enforcer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from lmformatenforcer import JsonSchemaParser, TokenEnforcer, TokenEnforcerTokenizerData

from bench.backends import Kind, Refused
from engine.constraint import Terminals
from engine.vocab import UNUSED, Vocab


class Matcher:
    """It keeps every text it has seen, and is asked for the whole text each time."""

    def __init__(self, enforcer: TokenEnforcer) -> None:
        self._enforcer = enforcer
        self._ids: list[int] = []

    def mask(self) -> None:
        self._allowed = self._enforcer.get_allowed_tokens(self._ids)

    def allows(self, token: int) -> bool:
        return bool(self._allowed.is_token_allowed(token))

    def advance(self, token: int) -> bool:
        self._ids.append(token)
        return True


class Compiled:
    """Texts and masks are forgotten between walks, or a second one would only look them up."""

    def __init__(self, parser: JsonSchemaParser, data: TokenEnforcerTokenizerData) -> None:
        self._enforcer = TokenEnforcer(data, parser)

    def matcher(self) -> Matcher:
        self._enforcer.prefix_states.clear()
        return Matcher(self._enforcer)


class LMFormatEnforcer:
    packages = ("lm-format-enforcer",)
    policy = "at most 12 white-space characters in a row, keys in any order"

    def __init__(self, vocab: Vocab, path: Path | None) -> None:
        self._vocab = vocab

    def setup(self) -> None:
        vocab = self._vocab
        terminals = Terminals.of(vocab)
        unused = set(np.flatnonzero(vocab.kinds == UNUSED).tolist())
        tokens = [
            (index, token.decode(errors="replace"), False)
            for index, token in enumerate(vocab.tokens)
            if token and index not in terminals.special and index not in unused
        ]

        def text(ids: list[int]) -> str:
            return b"".join(vocab.tokens[index] for index in ids).decode(errors="replace")

        self._data = TokenEnforcerTokenizerData(
            tokens, text, sorted(terminals.ends), use_bitmask=False, vocab_size=vocab.n_vocab
        )

    def compile(self, kind: Kind, source: str) -> Compiled:
        if kind != "json_schema":
            raise Refused("no Lark grammars")
        try:
            return Compiled(JsonSchemaParser(json.loads(source)), self._data)
        except Exception as error:
            raise Refused(f"{type(error).__name__}: {error}") from error


make = LMFormatEnforcer
