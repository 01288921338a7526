"""Which tokens may come next: the Constraint protocol, and grammars on llguidance.

The only module that imports llguidance. Knows grammar text, token bytes and masks. Does not know
logits, dialects or tools.
"""

from __future__ import annotations

import inspect
import json
import re
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol, cast
from weakref import WeakKeyDictionary, WeakMethod

import llguidance
import numpy as np
from numpy.typing import NDArray

from engine.errors import GrammarError, InternalError, SchemaError
from engine.tokenizer import HeaderTokenizer
from engine.vocab import Vocab

Mask = NDArray[np.uint32]
Encode = Callable[[str], list[int]]

# As `json.dumps` writes: what models were trained on, and it leaves a lost model no endless blanks.
JSON_STYLE: Final[Mapping[str, Any]] = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
}
MAX_REASON: Final = 600  # characters of llguidance's own words

_JSON_OPTIONS: Final = cast("Any", dict(JSON_STYLE))


class Constraint(Protocol):
    """One walk through a grammar, a token at a time."""

    def mask(self) -> Mask:
        """One bit a token, bit `id % 32` of word `id // 32`: set where the grammar goes on.

        A view that the next call overwrites; shape ((n_vocab + 31) // 32,). End tokens are set
        where the grammar may end. Raises GrammarError when a limit of the matcher was hit.
        """

    def allows(self, token: int) -> bool:
        """Whether `mask` has this token's bit, without computing the rest. Changes nothing."""

    def advance(self, token: int) -> None:
        """Take a token. Raises GrammarError, and changes nothing, where it is refused."""

    def rewind(self, count: int) -> None:
        """Undo the last `count` advances."""

    @property
    def is_accepting(self) -> bool:
        """Whether the text so far is a whole sentence of the grammar."""

    @property
    def is_done(self) -> bool:
        """Whether nothing but an end token may follow, or one was taken."""

    def captures(self) -> list[tuple[str, bytes]]:
        """Name and bytes of each captured span that is complete, in order of appearance."""


@dataclass(frozen=True, slots=True)
class Terminals:
    """The tokens that are more than their bytes.

    `ends` may follow where a grammar is complete. `special` can appear only where a grammar names
    them, never inside text: control tokens, and a family's markers.
    """

    ends: frozenset[int]
    special: frozenset[int]

    @classmethod
    def of(cls, vocab: Vocab, markers: Collection[int] = ()) -> Terminals:
        """End tokens as the vocabulary has them; all control tokens, and `markers`, are special."""
        control = {int(i) for i in np.flatnonzero((vocab.kinds == 3) | (vocab.kinds == 2))}
        return cls(frozenset(vocab.eog), frozenset(control | set(markers) | vocab.eog))


@dataclass(frozen=True, slots=True)
class Grammar:
    """A grammar as a person writes it. Cheap to make; `constraint` compiles it.

    `from_lark` takes the Lark dialect that llguidance documents (`<|token|>`, `<[id]>`,
    `%json {...}`, `rule[capture="name"]`).
    """

    kind: Literal["lark", "json_schema", "regex"]
    source: str
    name: str = field(default="grammar", compare=False)

    @classmethod
    def from_lark(cls, text: str, name: str = "grammar") -> Grammar:
        return cls("lark", text, name)

    @classmethod
    def from_schema(cls, schema: Mapping[str, Any] | bool, name: str = "schema") -> Grammar:
        """JSON as `json.dumps` writes it that is valid for `schema`, keys in the schema's order."""
        try:
            return cls("json_schema", json.dumps(schema), name)
        except (TypeError, ValueError, RecursionError) as error:
            raise SchemaError(f"{name}: not a JSON value ({error})", keyword=None) from error

    @classmethod
    def from_regex(cls, pattern: str, name: str = "pattern") -> Grammar:
        return cls("regex", pattern, name)

    def constraint(
        self,
        vocab: Vocab,
        terminals: Terminals | None = None,
        encode: Encode | None = None,
    ) -> Constraint:
        """A fresh matcher over `vocab`.

        Where the grammar leaves no choice, the mask has the one token that `encode` writes first
        (default: the tokenizer made from the vocabulary; it must add no space in front). The
        vocabulary is set up once per process and kept (about a second for 150,000 tokens). Raises
        GrammarError with line and column, SchemaError naming the keyword.
        """
        terminals = terminals or Terminals.of(vocab)
        tokenizer = _tokenizer(vocab, terminals, encode)
        matcher = llguidance.LLMatcher(tokenizer, self._text(), log_level=0)
        return _Matcher(matcher, self, vocab, terminals.ends)

    def _text(self) -> str:
        matcher = llguidance.LLMatcher
        if self.kind == "lark":
            return matcher.grammar_from_lark(self.source)
        if self.kind == "regex":
            return matcher.grammar_from_regex(self.source)
        try:
            return matcher.grammar_from_json_schema(self.source, defaults=_JSON_OPTIONS)
        except ValueError as error:
            raise SchemaError(f"{self.name}: {error}", keyword=None) from error


def lark_json(schema: Mapping[str, Any]) -> str:
    """`%json {...}` for a Lark text, in the style of `JSON_STYLE`."""
    return "%json " + json.dumps({**schema, "x-guidance": dict(JSON_STYLE)})


class _Wrapper:
    """What llguidance wants to know of a vocabulary."""

    is_tokenizer_wrapper = True
    bos_token_id = None

    def __init__(self, vocab: Vocab, terminals: Terminals, encode: Encode) -> None:
        # Weak: llguidance's object is kept for as long as the vocabulary lives, and Python's
        # collector can't see through it.
        self._encode = WeakMethod(encode) if inspect.ismethod(encode) else lambda: encode
        self.eos_token_id = min(terminals.ends)
        self.special_token_ids = sorted(terminals.special)
        tokens = list(vocab.tokens)
        for unused in np.flatnonzero(vocab.kinds == 5).tolist():
            tokens[unused] = b""  # never allowed
        for index in self.special_token_ids:
            tokens[index] = b"\xff" + tokens[index]
        self.tokens = tokens

    @property
    def is_alive(self) -> bool:
        """Whether the tokenizer is still there."""
        return self._encode() is not None

    def __call__(self, text: str | bytes) -> list[int]:
        encode = self._encode()
        if encode is None:
            raise InternalError("the model behind this grammar is gone")
        return encode(text if isinstance(text, str) else text.decode("utf-8", "replace"))


def _own_tokenizer(vocab: Vocab) -> HeaderTokenizer:
    """The tokenizer made from the vocabulary alone, which keeps it."""
    own = vars(vocab).get("_own_tokenizer")
    if not isinstance(own, HeaderTokenizer):
        own = HeaderTokenizer(vocab)
        object.__setattr__(vocab, "_own_tokenizer", own)
    return own


_tokenizers: WeakKeyDictionary[Vocab, dict[Terminals, tuple[_Wrapper, llguidance.LLTokenizer]]] = (
    WeakKeyDictionary()
)
_lock = threading.Lock()


def _tokenizer(vocab: Vocab, terminals: Terminals, encode: Encode | None) -> llguidance.LLTokenizer:
    if not terminals.ends:
        raise GrammarError("this vocabulary has no end-of-generation token to end a grammar with")
    with _lock:
        known = _tokenizers.setdefault(vocab, {})
        if terminals in known and not known[terminals][0].is_alive:
            del known[terminals]
        if terminals not in known:
            wrapper = _Wrapper(vocab, terminals, encode or _own_tokenizer(vocab).encode_inside)
            tokenizer = llguidance.LLTokenizer(
                cast("Any", wrapper), n_vocab=vocab.n_vocab, eos_token=sorted(terminals.ends)
            )
            known[terminals] = wrapper, tokenizer
        return known[terminals][1]


class _Matcher:
    """An LLMatcher that takes end tokens itself: it refuses them once nothing else may follow."""

    def __init__(
        self, matcher: llguidance.LLMatcher, grammar: Grammar, vocab: Vocab, ends: frozenset[int]
    ) -> None:
        self._matcher = matcher
        self._grammar = grammar
        self._vocab = vocab
        self._ends = ends
        self._ended = False
        self._told = False  # the matcher took the end token too: rewinding must tell it
        self._mask = np.zeros((vocab.n_vocab + 31) // 32, dtype=np.uint32)
        self._check()

    def _check(self) -> None:
        if self._matcher.is_error():
            raise _typed(self._grammar, self._matcher.get_error())

    def mask(self) -> Mask:
        if self._ended:
            self._mask[:] = 0
            return self._mask
        self._matcher.unsafe_compute_mask_ptr(self._mask.ctypes.data, self._mask.nbytes)
        self._check()
        return self._mask

    def allows(self, token: int) -> bool:
        if self._ended or token in self._ends:
            return not self._ended and self._matcher.is_accepting()
        return self._matcher.validate_tokens([token]) == 1

    def advance(self, token: int) -> None:
        if token in self._ends and self.allows(token):
            self._ended = True
            # An open-ended last part, such as code, is captured only when the matcher sees its end.
            self._told = self._matcher.try_consume_tokens([token]) == 1
        elif self._ended or self._matcher.try_consume_tokens([token]) != 1:
            self._check()
            raise GrammarError(
                f"{self._grammar.name}: token {token} ({self._vocab.data(token)!r}) is not allowed",
                token=token,
            )

    def rewind(self, count: int) -> None:
        if not count:
            return
        if self._ended and not self._told:
            count -= 1
        self._ended = self._told = False
        if count and not self._matcher.rollback(count):
            self._check()

    @property
    def is_accepting(self) -> bool:
        return self._matcher.is_accepting()

    @property
    def is_done(self) -> bool:
        return self._ended or self._matcher.is_stopped()

    def captures(self) -> list[tuple[str, bytes]]:
        return list(self._matcher.get_captures())


_PLACE = re.compile(r"^(?:at )?(\d+)\((\d+)\): ")
_UNIMPLEMENTED = re.compile(r'Unimplemented keys: \["([^"]+)"')


def _typed(grammar: Grammar, text: str) -> GrammarError:
    """llguidance's message as our error: first line, place, and the keyword where one is named."""
    text = text[:MAX_REASON]  # a matcher that hits a limit prints its whole state
    place = _PLACE.match(text)
    rest = text[place.end() :] if place else text
    keyword = _UNIMPLEMENTED.search(rest)
    if grammar.kind == "json_schema" or keyword or "compile JSON schema" in rest:
        reason = rest.split("\n   ")[0].replace("failed to compile JSON schema: ", "")
        reason = " ".join(reason.split())
        return SchemaError(
            f"{grammar.name}: can't be enforced: {reason}",
            keyword=keyword.group(1) if keyword else None,
        )
    if place is None:
        return GrammarError(f"{grammar.name}: {' '.join(rest.split())}")
    line, column = int(place.group(1)), int(place.group(2))
    head, _, excerpt = rest.partition("\n")
    return GrammarError(
        f"{grammar.name}:{line}:{column}: {head}", line=line, column=column, excerpt=excerpt
    )
