"""Grammars on the compiled core: the default Constraint.

Knows vocabularies, grammars and matchers. Does not know logits, dialects or tools.
"""

from __future__ import annotations

import sys
import threading
import unicodedata
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from engine import _native
from engine.constraint import Encode, Mask, Terminals
from engine.errors import GrammarError, SchemaError
from engine.grammar import gbnf, lark
from engine.grammar.excerpt import check_text
from engine.grammar.lower import lower
from engine.vocab import UNUSED, Vocab

if TYPE_CHECKING:
    from engine.grammar import Grammar

COMPACT: Final = ("", "", ",", ":")
JSON_DUMPS: Final = ("", "", ", ", ": ")  # as `json.dumps` writes: what models were trained on
FLEXIBLE: Final = tuple(rf"[ \t\n\r]*{mark}[ \t\n\r]*" for mark in ("", "", ",", ":"))
SPACINGS: Final[Mapping[str, tuple[str, ...]]] = {
    "compact": COMPACT,
    "json.dumps": JSON_DUMPS,
    "flexible": FLEXIBLE,
}
MAX_FORCED: Final = 4096  # bytes that `forced` looks ahead

_vocabularies: WeakKeyDictionary[Vocab, dict[Terminals, _native.Vocabulary]] = WeakKeyDictionary()
_grammars: WeakKeyDictionary[Vocab, dict[tuple[Grammar, Terminals], _native.Grammar]] = (
    WeakKeyDictionary()
)
_lock = threading.Lock()
MAX_GRAMMARS: Final = 256  # that stay compiled, for each vocabulary


def vocabulary(vocab: Vocab, terminals: Terminals) -> _native.Vocabulary:
    """A vocabulary made ready, once per process: token bytes without control and unused tokens."""
    with _lock:
        known = _vocabularies.setdefault(vocab, {})
        if terminals not in known:
            tokens = list(vocab.tokens)
            for index in np.flatnonzero(vocab.kinds == UNUSED).tolist():
                tokens[index] = b""
            for index in terminals.special:
                tokens[index] = b""
            offsets = np.cumsum([0, *map(len, tokens)]).astype(np.uint64)
            known[terminals] = _native.Vocabulary(b"".join(tokens), offsets, sorted(terminals.ends))
        return known[terminals]


def compiled(grammar: Grammar, vocab: Vocab, terminals: Terminals) -> _native.Grammar:
    """A grammar compiled for a vocabulary; kept, so that its masks serve all that use it."""
    ready = vocabulary(vocab, terminals)
    key = grammar, terminals
    with _lock:
        known = _grammars.setdefault(vocab, {})
        found = known.pop(key, None)
        if found is not None:
            known[key] = found  # the latest used stands last
            return found
    made = _compile(grammar, vocab, ready)
    with _lock:
        known[key] = made
        while len(known) > MAX_GRAMMARS:
            del known[next(iter(known))]
    return made


def _compile(grammar: Grammar, vocab: Vocab, ready: _native.Vocabulary) -> _native.Grammar:
    made = _native.Grammar(
        ready,
        spacing=list(SPACINGS[grammar.whitespace]),
        any_order=grammar.any_order,
        escapes=grammar.escapes,
        best_effort=grammar.best_effort,
        property=_property,
    )
    check_text(grammar.source)
    try:
        if grammar.kind == "json_schema":
            made.finish(made.schema(grammar.source))
        elif grammar.kind == "regex":
            made.finish(made.word(made.pattern(grammar.source, rust=True, property=_property)))
        else:
            parse = lark.parse if grammar.kind == "lark" else gbnf.parse
            lower(parse(grammar.source), grammar.source, made, vocab)
    except GrammarError as error:
        raise _named(error, grammar.name) from error
    except _native.SchemaError as error:
        message, pointer, keyword = error.args
        place = f"{pointer}/{keyword}".rstrip("/") if pointer or keyword else "the schema"
        raise SchemaError(
            f"{grammar.name}: can't be enforced: {place}: {message}",
            keyword=keyword or None,
            pointer=pointer,
        ) from error
    except _native.PatternError as error:
        message, offset = error.args
        excerpt = f"{grammar.source}\n{' ' * offset}^"
        raise GrammarError(
            f"{grammar.name}:1:{offset + 1}: {message}", line=1, column=offset + 1, excerpt=excerpt
        ) from error
    except (_native.TooComplex, _native.JsonError) as error:
        kind = SchemaError if grammar.kind == "json_schema" else GrammarError
        raise kind(f"{grammar.name}: {error.args[0]}") from error
    except ValueError as error:  # nothing matches
        raise GrammarError(f"{grammar.name}: {error}") from error
    return made


def _named(error: GrammarError, name: str) -> GrammarError:
    """The same error with the grammar's name in place of `grammar`."""
    message = error.message
    if message.startswith("grammar:"):
        message = name + message.removeprefix("grammar")
    return type(error)(message, **error.data)


@cache
def _property(name: str) -> list[tuple[int, int]]:
    """The characters of a Unicode property as ranges; none where it isn't known.

    General categories by their short and long names, as Python's `unicodedata` has them.
    """
    prefix, _, value = name.rpartition("=")
    if prefix not in ("", "General_Category", "gc"):
        return []
    short = _CATEGORIES.get(value, value)
    if short == "Any":
        return [(0, sys.maxunicode)]
    ranges: list[tuple[int, int]] = []
    for point in range(sys.maxunicode + 1):
        if unicodedata.category(chr(point)).startswith(short):
            if ranges and ranges[-1][1] == point - 1:
                ranges[-1] = ranges[-1][0], point
            else:
                ranges.append((point, point))
    return ranges


_CATEGORIES: Final = {
    "Letter": "L", "Cased_Letter": "L", "Uppercase_Letter": "Lu", "Lowercase_Letter": "Ll",
    "Titlecase_Letter": "Lt", "Modifier_Letter": "Lm", "Other_Letter": "Lo", "Mark": "M",
    "Nonspacing_Mark": "Mn", "Spacing_Mark": "Mc", "Enclosing_Mark": "Me", "Number": "N",
    "Decimal_Number": "Nd", "digit": "Nd", "Letter_Number": "Nl", "Other_Number": "No",
    "Punctuation": "P", "punct": "P", "Connector_Punctuation": "Pc", "Dash_Punctuation": "Pd",
    "Open_Punctuation": "Ps", "Close_Punctuation": "Pe", "Initial_Punctuation": "Pi",
    "Final_Punctuation": "Pf", "Other_Punctuation": "Po", "Symbol": "S", "Math_Symbol": "Sm",
    "Currency_Symbol": "Sc", "Modifier_Symbol": "Sk", "Other_Symbol": "So", "Separator": "Z",
    "Space_Separator": "Zs", "Line_Separator": "Zl", "Paragraph_Separator": "Zp", "Other": "C",
    "Control": "Cc", "cntrl": "Cc", "Format": "Cf", "Surrogate": "Cs", "Private_Use": "Co",
    "Unassigned": "Cn",
}  # fmt: skip


_LATE: Final = (
    _native.TooComplex,
    _native.SchemaError,
    _native.JsonError,
    _native.PatternError,
)


class NativeConstraint:
    """A matcher of the compiled core. See `engine.constraint.Constraint`."""

    def __init__(self, grammar: Grammar, vocab: Vocab, terminals: Terminals) -> None:
        self._grammar = grammar
        self._vocab = vocab
        self._ready = vocabulary(vocab, terminals)
        self._matcher = _native.Matcher(compiled(grammar, vocab, terminals))
        self._mask: NDArray[np.uint32] = np.zeros((vocab.n_vocab + 31) // 32, dtype=np.uint32)

    def _limited(self, error: Exception) -> GrammarError:
        """What the core finds only when a match comes to it: a limit, mostly."""
        return GrammarError(f"{self._grammar.name}: {error.args[0]}")

    def mask(self) -> Mask:
        try:
            self._matcher.mask(self._mask)
        except _LATE as error:
            raise self._limited(error) from error
        return self._mask

    def allows(self, token: int) -> bool:
        try:
            return self._matcher.allows(token)
        except _LATE as error:
            raise self._limited(error) from error

    def advance(self, token: int) -> None:
        try:
            taken = self._matcher.advance(token)
        except _LATE as error:
            raise self._limited(error) from error
        if not taken:
            raise GrammarError(
                f"{self._grammar.name}: token {token} ({self._vocab.data(token)!r}) is not allowed",
                token=token,
            )

    def rewind(self, count: int) -> None:
        self._matcher.rewind(count)

    def fork(self) -> NativeConstraint:
        """Another walk that stands at the same place."""
        twin = object.__new__(NativeConstraint)
        twin.__dict__.update(self.__dict__)
        twin._matcher = self._matcher.fork()
        twin._mask = self._mask.copy()
        return twin

    @property
    def is_accepting(self) -> bool:
        return self._matcher.is_accepting

    @property
    def is_done(self) -> bool:
        return self._matcher.is_done

    def forced(self, encode: Encode) -> list[int]:
        try:
            forced = self._matcher.forced(MAX_FORCED)
        except _LATE as error:
            raise self._limited(error) from error
        try:
            text = forced.decode()
        except UnicodeDecodeError as error:  # within a character, or up to one that is open
            text = forced[: error.start].decode()
        tokens, end = encode(text) if text else [], b""
        while tokens:
            end = self._vocab.data(tokens[-1]) + end
            if not self._ready.is_extended(end):
                break
            tokens.pop()
        return tokens

    def explain(self, token: int) -> tuple[int, bytes]:
        """How many of a token's bytes may come, and the bytes that may stand behind those."""
        return self._matcher.explain(token)

    def captures(self) -> list[tuple[str, bytes]]:
        return self._matcher.captures()
