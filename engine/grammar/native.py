"""Grammars on the compiled core: the default Constraint.

Knows vocabularies, grammars and matchers. Does not know logits, dialects or tools.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import time
import unicodedata
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from engine import _native
from engine.constraint import Encode, Mask, Terminals
from engine.errors import GrammarError, SchemaError
from engine.grammar import gbnf, lark
from engine.grammar.excerpt import check_text, mistake, place_at
from engine.grammar.limits import too_complex
from engine.grammar.lower import Lowering
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
SLOW_MASK: Final = 300e-6  # seconds from which working a mask out ahead is worth a thread's turn

_vocabularies: WeakKeyDictionary[Vocab, dict[Terminals, _native.Vocabulary]] = WeakKeyDictionary()
_grammars: WeakKeyDictionary[Vocab, dict[tuple[Grammar, Terminals], _native.Grammar]] = (
    WeakKeyDictionary()
)
_lock = threading.Lock()
# What stays compiled for each vocabulary; the grammar used least recently goes first.
MAX_GRAMMARS: Final = 256
MAX_BYTES: Final = 512 << 20


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
        _make_room(known)
    return made


def _make_room(known: dict[tuple[Grammar, Terminals], _native.Grammar]) -> None:
    """Forget all but the latest grammars. Who still uses one keeps it."""
    room, kept = MAX_BYTES, 0
    for key in reversed(list(known)):
        room -= known[key].memory_bytes
        if kept and (room < 0 or kept >= MAX_GRAMMARS):
            del known[key]
        else:
            kept += 1


def _compile(grammar: Grammar, vocab: Vocab, ready: _native.Vocabulary) -> _native.Grammar:
    made = _native.Grammar(
        ready,
        spacing=list(SPACINGS[grammar.whitespace]),
        any_order=grammar.any_order,
        escapes=grammar.escapes,
        best_effort=grammar.best_effort,
        property=_property,
        limits=grammar.limits.of_core(),
    )
    try:
        _check_size(grammar)
        check_text(grammar.source)
        if grammar.kind == "json_schema":
            made.finish(made.schema(grammar.source))
        elif grammar.kind == "regex":
            made.finish(made.word(made.pattern(grammar.source, rust=True, property=_property)))
        else:
            parse = lark.parse if grammar.kind == "lark" else gbnf.parse
            text = parse(grammar.source)
            Lowering(text, grammar.source, made, vocab, grammar.limits).run()
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
    except _native.TooComplex as error:
        raise too_complex(error, grammar.name, _kind_of(grammar)) from error
    except _native.JsonError as error:
        raise _kind_of(grammar)(f"{grammar.name}: {error.args[0]}") from error
    except ValueError as error:  # nothing matches
        raise GrammarError(f"{grammar.name}: {error}") from error
    return made


def _kind_of(grammar: Grammar) -> type[GrammarError]:
    return SchemaError if grammar.kind == "json_schema" else GrammarError


# Where a rule begins: at the start of a line, with its attributes.
_RULE: Final = {
    "lark": re.compile(r"^[ \t]*[!?]?[A-Za-z_][\w-]*(?:\.-?\d+)?(?:\[[^\n\]]*\])?[ \t]*:", re.M),
    "gbnf": re.compile(r"^[ \t]*[A-Za-z0-9-]+[ \t]*::=", re.M),
}


def _check_size(grammar: Grammar) -> None:
    """Raises GrammarError before anything reads a text that is too long."""
    source, limits = grammar.source, grammar.limits
    size = len(source.encode(errors="surrogatepass"))

    def check(option: str, found: int, what: str, at: int) -> None:
        excess = limits.excess(option, found, what)
        if excess is None:
            return
        facts = limits.facts(option, found)
        if grammar.kind == "json_schema":
            raise SchemaError(f"grammar: {excess}", keyword=None, pointer="", **facts)
        raise mistake(source[: at + 80], place_at(source, at), excess, **facts)

    check("source_bytes", size, "bytes", limits.source_bytes)
    if grammar.kind == "regex":
        check("pattern_length", size, "bytes of a pattern", limits.pattern_length)
    if grammar.kind in _RULE:
        rules = [match.start() for match in _RULE[grammar.kind].finditer(source)]
        at = rules[min(limits.rules, len(rules) - 1)] if rules else 0
        check("rules", len(rules), "rules and terminals", at)


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


@cache
def _worker() -> ThreadPoolExecutor:
    """The thread that works masks out ahead: one for the process, since each takes a core."""
    return ThreadPoolExecutor(1, "engine-mask")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_worker.cache_clear)  # a fork has no such thread

_TOKENS: Final = re.compile(r"(?:<\[\d+\]>(?:, | or |$))+")
_TOKEN: Final = re.compile(r"<\[(\d+)\]>")


class NativeConstraint:
    """A matcher of the compiled core. See `engine.constraint.Constraint`.

    For one thread at a time; `prepare` uses another, and what is called after it waits where it
    must.
    """

    def __init__(self, grammar: Grammar, vocab: Vocab, terminals: Terminals) -> None:
        self._grammar = grammar
        self._vocab = vocab
        self._ready = vocabulary(vocab, terminals)
        self._matcher = _native.Matcher(compiled(grammar, vocab, terminals))
        self._mask: NDArray[np.uint32] = np.zeros((vocab.n_vocab + 31) // 32, dtype=np.uint32)
        self._prepared: Future[None] | None = None  # of the mask here
        self._is_slow = False  # the last mask that was asked of the core took long

    def _limited(self, error: Exception) -> GrammarError:
        """What the core finds only when a match comes to it: a limit, mostly."""
        if isinstance(error, _native.TooComplex):
            return too_complex(error, self._grammar.name, _kind_of(self._grammar))
        return GrammarError(f"{self._grammar.name}: {error.args[0]}")

    def mask(self) -> Mask:
        try:
            if self._prepared is None:
                self._work_out()
            else:
                self._prepared.result()
        except _LATE as error:
            self._prepared = None
            raise self._limited(error) from error
        self._prepared = None  # not after a Ctrl-C: who moves on still waits for the other thread
        return self._mask

    def _work_out(self) -> None:
        """Time is that of whichever thread does it: what it waits for others is not the mask's."""
        begin = time.thread_time()
        self._matcher.mask(self._mask)
        self._is_slow = time.thread_time() - begin > SLOW_MASK

    def prepare(self) -> None:
        """Begin to work out the mask of this place in another thread; `mask` waits for it.

        Does nothing where that costs more than it saves: where the mask is known, and as long as
        masks take less than a thread's turn. Writes over the mask that was given last.
        """
        if self._is_slow and self._prepared is None:
            try:
                is_known = self._matcher.knows_mask
            except _LATE:  # `mask` will say it
                return
            if not is_known:
                self._prepared = _worker().submit(self._work_out)

    def _leave(self) -> None:
        """The matcher is about to move, or to be copied: nobody else may be at work in it."""
        prepared, self._prepared = self._prepared, None
        if prepared is not None and not prepared.cancel():
            prepared.exception()

    def allows(self, token: int) -> bool:
        try:
            return self._matcher.allows(token)
        except _LATE as error:
            raise self._limited(error) from error

    def advance(self, token: int) -> None:
        self._leave()
        try:
            taken = self._matcher.advance(token)
        except _LATE as error:
            raise self._limited(error) from error
        if not taken:
            raise GrammarError(f"{self._grammar.name}: {self.explain(token)}", token=token)

    def rewind(self, count: int) -> None:
        self._leave()
        self._matcher.rewind(count)

    def fork(self) -> NativeConstraint:
        """Another walk that stands at the same place."""
        self._leave()
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

    def allowed_summary(self) -> str:
        """What may come next, in words for people: `a string or 'null'`."""
        try:
            return self._in_words(self._matcher.allowed_summary())
        except _LATE as error:
            raise self._limited(error) from error

    def _in_words(self, summary: str) -> str:
        """The core's words, with special tokens by their texts; they stand in front."""
        tokens = _TOKENS.match(summary)
        if tokens is None:
            return summary
        named = _TOKEN.sub(lambda found: self._vocab.texts[int(found[1])], tokens[0])
        return named + summary[tokens.end() :]

    def explain(self, token: int) -> str:
        """Why a token is refused: the byte at which it dies, and what was expected there."""
        if not 0 <= token < self._vocab.n_vocab:
            return f"token {token} is not in the vocabulary, which has {self._vocab.n_vocab}"
        data = self._vocab.data(token)
        name = f"token {token} ({data!r})"
        if self.allows(token):
            return f"{name} is allowed"
        try:
            taken, _, expected = self._matcher.explain(token)
        except _LATE:  # to say more would take too long
            return f"{name} is not allowed"
        expected = self._in_words(expected)
        if taken == 0:
            return f"{name} is not allowed: expected {expected}"
        if taken == len(data):  # an end token whose bytes are text, or no token of its own
            return f"{name} is not allowed here"
        return (
            f"{name} is not allowed: behind {data[:taken]!r} comes {data[taken : taken + 1]!r}, "
            f"expected {expected}"
        )

    def captures(self) -> list[tuple[str, bytes]]:
        return self._matcher.captures()

    def progress(self, skip: int = 0) -> tuple[list[tuple[str, int, bool]], int]:
        try:
            return self._matcher.progress(skip)
        except _LATE as error:
            raise self._limited(error) from error

    def text(self, begin: int, end: int) -> bytes:
        return self._matcher.text(begin, end)
