"""Grammar backends side by side: what the bench asks of each, one adapter file each.

Knows the protocol. Does not know any backend's library: adapters are imported by name, in a
process of their own.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Literal, Protocol

from engine.vocab import Vocab

Kind = Literal["json_schema", "lark"]

# Name of the adapter, and of the module that must be there for it.
BACKENDS = {
    "engine": "engine",
    "llguidance": "llguidance",
    "xgrammar": "xgrammar",
    "outlines": "outlines_core",
    "lmfe": "lmformatenforcer",
    "gbnf": "llama_cpp",
}


class Refused(Exception):
    """The backend says that it can't enforce this grammar. The argument is its reason."""


class Matcher(Protocol):
    """One walk through a grammar, in a backend's own terms."""

    def mask(self) -> None:
        """Compute which tokens may come, in the form that the backend hands to a sampler. Timed."""

    def allows(self, token: int) -> bool:
        """Whether the mask computed last has this token. Not timed."""

    def advance(self, token: int) -> bool:
        """Take a token that the mask allows; False if the backend refuses it all the same. Timed.

        Asked of tokens that the mask has, only: llama.cpp aborts at others.
        """


class Compiled(Protocol):
    """A grammar ready for use."""

    def matcher(self) -> Matcher:
        """A walk that stands at the start. What earlier walks left in caches stays."""


class Backend(Protocol):
    """A library that masks tokens by a grammar, in a process of its own.

    Made with a vocabulary and its GGUF file, where it has one. That is not timed, and brings what a
    program has anyway: a tokenizer.
    """

    packages: tuple[str, ...]  # distributions whose versions belong to the figures
    policy: str  # white space, order of keys, and what else differs, in a few words

    def setup(self) -> None:
        """Make the vocabulary ready for grammars. Timed."""

    def compile(self, kind: Kind, source: str) -> Compiled:
        """Make a grammar ready: JSON text of a schema, or Lark text. Timed. Raises Refused."""


def missing(name: str) -> str | None:
    """Why a backend can't be measured here; None where it can."""
    module = BACKENDS[name]
    if importlib.util.find_spec(module) is None:
        return f"{module} is not installed"
    return None


def backend(name: str, vocab: Vocab, path: Path | None) -> Backend:
    made: Backend = importlib.import_module(f"bench.backends.{name}").make(vocab, path)
    return made
