"""llama.cpp's grammar sampler, with llama-cpp-python's conversion of schemas to GBNF."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import llama_cpp.llama_cpp as ll
import numpy as np
from llama_cpp.llama_grammar import json_schema_to_gbnf

from bench.backends import Kind, Refused
from engine.llama import LlamaVocab
from engine.vocab import Vocab

_CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])


class Matcher:
    def __init__(self, sampler: Any, n_vocab: int) -> None:
        self._sampler = sampler
        self._all = np.zeros(n_vocab, dtype=_CANDIDATE)
        self._all["id"] = np.arange(n_vocab)
        self._now = self._all.copy()
        pointer = ctypes.cast(self._now.ctypes.data, ctypes.POINTER(ll.llama_token_data))
        self._array = ll.llama_token_data_array(
            data=pointer, size=n_vocab, selected=-1, sorted=False
        )

    def mask(self) -> None:
        self._now[:] = self._all
        ll.llama_sampler_apply(self._sampler, ctypes.byref(self._array))

    def allows(self, token: int) -> bool:
        return bool(self._now["logit"][token] == 0)

    def advance(self, token: int) -> bool:
        ll.llama_sampler_accept(self._sampler, token)
        return True

    def __del__(self) -> None:
        ll.llama_sampler_free(self._sampler)


class Compiled:
    def __init__(self, sampler: Any, n_vocab: int) -> None:
        self._sampler = sampler
        self._n_vocab = n_vocab

    def matcher(self) -> Matcher:
        return Matcher(ll.llama_sampler_clone(self._sampler), self._n_vocab)

    def __del__(self) -> None:
        ll.llama_sampler_free(self._sampler)


class Gbnf:
    packages = ("llama-cpp-python",)
    policy = "one space, or up to two line breaks and 20 spaces; keys in the schema's order"

    def __init__(self, vocab: Vocab, path: Path | None) -> None:
        self._path = path

    def setup(self) -> None:
        if self._path is None:
            raise Refused("llama.cpp reads vocabularies from GGUF files only")
        self._vocab = LlamaVocab(self._path)

    def compile(self, kind: Kind, source: str) -> Compiled:
        if kind != "json_schema":
            raise Refused("no Lark grammars")
        try:
            text = json_schema_to_gbnf(source)
        except Exception as error:
            raise Refused(f"{type(error).__name__}: {error}") from error
        sampler = ll.llama_sampler_init_grammar(self._vocab._vocab, text.encode(), b"root")
        if not sampler:
            raise Refused("llama.cpp can't read the GBNF that the schema was turned into")
        return Compiled(sampler, self._vocab.n_vocab)


make = Gbnf
