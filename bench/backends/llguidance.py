"""llguidance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import llguidance
import numpy as np

from bench.backends import Kind, Refused
from engine.constraint import Terminals
from engine.errors import UnsuitableModel
from engine.tokenizer import HeaderTokenizer
from engine.vocab import UNUSED, Vocab

Encode = Callable[[str], list[int]]


class _Tokens:
    """What llguidance wants to know of a vocabulary."""

    is_tokenizer_wrapper = True
    bos_token_id = None

    def __init__(self, vocab: Vocab, terminals: Terminals, encode: Encode) -> None:
        self._encode = encode
        self.eos_token_id = min(terminals.ends)
        self.special_token_ids: Sequence[int] = sorted(terminals.special)
        tokens = list(vocab.tokens)
        for index in np.flatnonzero(vocab.kinds == UNUSED).tolist():
            tokens[index] = b""
        for index in self.special_token_ids:
            tokens[index] = b"\xff" + tokens[index]
        self.tokens = tokens

    def __call__(self, text: str | bytes) -> list[int]:
        return self._encode(text if isinstance(text, str) else text.decode(errors="replace"))


def _encode(vocab: Vocab) -> Encode:
    """Where the grammar leaves one text, llguidance's mask has only the canonical token of it."""
    try:
        return HeaderTokenizer(vocab).encode_inside
    except UnsuitableModel:
        ids = {token: index for index, token in enumerate(vocab.tokens)}
        return lambda text: [ids[bytes([byte])] for byte in text.encode()]


class Matcher:
    def __init__(self, matcher: Any, n_vocab: int) -> None:
        self._matcher = matcher
        self._mask = np.zeros((n_vocab + 31) // 32, dtype=np.uint32)
        self._place = self._mask.ctypes.data, self._mask.nbytes
        self.advance = matcher.consume_token

    def mask(self) -> None:
        self._matcher.unsafe_compute_mask_ptr(*self._place)

    def allows(self, token: int) -> bool:
        if self._matcher.is_error():
            raise RuntimeError(self._matcher.get_error().splitlines()[0])
        return bool(self._mask[token // 32] >> np.uint32(token % 32) & 1)


class Compiled:
    """Reset instead of copied between walks: a reset matcher keeps its lexer's automaton."""

    def __init__(self, matcher: Any, n_vocab: int) -> None:
        self._matcher = matcher
        self._n_vocab = n_vocab

    def matcher(self) -> Matcher:
        self._matcher.reset()
        return Matcher(self._matcher, self._n_vocab)


class LLGuidance:
    packages = ("llguidance",)
    policy = "[ \\t\\n\\r]* between all parts, keys in the schema's order"

    def __init__(self, vocab: Vocab, path: Path | None) -> None:
        self._vocab = vocab
        self._encode = _encode(vocab)

    def setup(self) -> None:
        terminals = Terminals.of(self._vocab)
        tokens: Any = _Tokens(self._vocab, terminals, self._encode)
        self._n_vocab = self._vocab.n_vocab
        self._tokenizer = llguidance.LLTokenizer(
            tokens, n_vocab=self._n_vocab, eos_token=sorted(terminals.ends)
        )

    def compile(self, kind: Kind, source: str) -> Compiled:
        if kind == "json_schema":
            grammar = llguidance.LLMatcher.grammar_from_json_schema(
                source, overrides={"whitespace_flexible": True}
            )
        else:
            grammar = llguidance.LLMatcher.grammar_from_lark(source)
        matcher = llguidance.LLMatcher(self._tokenizer, grammar, log_level=0)
        if matcher.is_error():
            raise Refused(matcher.get_error())
        return Compiled(matcher, self._n_vocab)


make = LLGuidance
