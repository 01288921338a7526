"""Walks through grammars, and slow truths to compare them with."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from fakes import byte_vocab

from engine import _native
from engine.constraint import Terminals
from engine.grammar import Grammar
from engine.grammar.native import compiled
from engine.vocab import Vocab

WORDS = [
    '{"',
    '": ',
    '"}',
    '", "',
    "ab",
    "abc",
    "aab",
    "ba",
    "서",
    "울 ",
    "true",
    " ",
    "  a",
    "1.",
    "x)",
]
VOCAB = byte_vocab(words=WORDS)
END = VOCAB.find("<|im_end|>")


def matcher(grammar: Grammar, vocab: Vocab = VOCAB) -> _native.Matcher:
    return _native.Matcher(compiled(grammar, vocab, Terminals.of(vocab)))


def lark(text: str, **options: Any) -> _native.Matcher:
    return matcher(Grammar.from_lark(text, **options))


def gbnf(text: str) -> _native.Matcher:
    return matcher(Grammar.from_gbnf(text))


def regex(pattern: str) -> _native.Matcher:
    return matcher(Grammar.from_regex(pattern))


def schema(schema: Any, **options: Any) -> _native.Matcher:
    return matcher(Grammar.from_schema(schema, **options))


def accepts(start: _native.Matcher, text: str | bytes) -> bool:
    """Whether `text` is a whole sentence from here. The matcher stays where it is."""
    walk = start.fork()
    data = text.encode() if isinstance(text, str) else text
    return walk.advance_bytes(data) and walk.is_accepting


def mask(walk: _native.Matcher, n_vocab: int = VOCAB.n_vocab) -> frozenset[int]:
    words = np.zeros(_native.mask_words(n_vocab), dtype=np.uint32)
    walk.mask(words)
    return frozenset(
        np.flatnonzero(np.unpackbits(words.view(np.uint8), bitorder="little")).tolist()
    )


def takes(walk: _native.Matcher, token: int, vocab: Vocab = VOCAB) -> bool:
    """Whether a text token may come, a byte at a time."""
    twin = walk.fork()
    return all(twin.advance_bytes(bytes([byte])) for byte in vocab.tokens[token])


def check_mask(walk: _native.Matcher, vocab: Vocab = VOCAB) -> frozenset[int]:
    """The mask, after a comparison with every token fed one by one."""
    found = mask(walk, vocab.n_vocab)
    assert found == {token for token in range(vocab.n_vocab) if walk.allows(token)}
    special = Terminals.of(vocab).special
    texts = [i for i in range(vocab.n_vocab) if vocab.tokens[i] and i not in special]
    assert found - special == {i for i in texts if takes(walk, i, vocab)}
    return found


def random_walk(
    walk: _native.Matcher, chance: random.Random, steps: int = 30, vocab: Vocab = VOCAB
) -> Iterator[_native.Matcher]:
    """The matcher at each place of a walk, its start included; words are likelier than bytes."""
    yield walk
    for _ in range(steps):
        allowed = mask(walk, vocab.n_vocab)
        if not allowed:
            return
        long = [token for token in allowed if token >= 256]
        pool = long if long and chance.random() < 0.5 else sorted(allowed)
        assert walk.advance(chance.choice(sorted(pool)))
        yield walk


def completion(walk: _native.Matcher, alphabet: bytes = b'"a1]}', most: int = 3000) -> bytes | None:
    """Bytes with which the text ends, found breadth first; None if `most` places hold none.

    Where bytes of the alphabet may come, no others are tried.
    """
    open_ = [(walk.fork(), b"")]
    for place, text in open_:
        if place.is_accepting:
            return text
        choices = place.first_bytes()
        for byte in [byte for byte in alphabet if byte in choices] or choices[:4]:
            twin = place.fork()
            assert twin.advance_bytes(bytes([byte]))
            open_.append((twin, text + bytes([byte])))
        if len(open_) > most:
            return None
    return None


# A context-free grammar over single characters, recognised by filling a table until nothing is new.

Rules = Mapping[str, Sequence[str]]  # of a capital letter: alternatives, each a string of symbols


def as_lark(rules: Rules) -> str:
    def alternative(symbols: str) -> str:
        return " ".join(f"r{s.lower()}" if s.isupper() else f'"{s}"' for s in symbols) or '""'

    lines = ["start: rs\n"]
    for name, alternatives in rules.items():
        lines.append(f"r{name.lower()}: {' | '.join(map(alternative, alternatives))}\n")
    return "".join(lines)


def productive(rules: Rules) -> frozenset[str]:
    """The rules that some text matches."""
    found: frozenset[str] = frozenset()
    while True:
        more = frozenset(
            name
            for name, alternatives in rules.items()
            if any(all(not s.isupper() or s in found for s in each) for each in alternatives)
        )
        if more == found:
            return found
        found = more


@cache
def _verdict(rules: tuple[tuple[str, tuple[str, ...]], ...], text: str) -> tuple[bool, bool]:
    table = dict(rules)
    ends = productive(table)
    n = len(text)
    whole: dict[tuple[str, int], frozenset[int]] = {}
    begun: set[tuple[str, int]] = set()  # of rules that what is left of the text begins

    def may_begin(symbol: str, at: int) -> bool:
        if not symbol.isupper():
            return at == n
        return (symbol, at) in begun or (at == n and symbol in ends)

    def after(symbol: str, at: int) -> frozenset[int]:
        if symbol.isupper():
            return whole.get((symbol, at), frozenset())
        return frozenset({at + 1} if text[at : at + 1] == symbol else ())

    changed = True
    while changed:
        changed = False
        for name, alternatives in table.items():
            for at in range(n + 1):
                found = whole.get((name, at), frozenset())
                is_begun = (name, at) in begun
                for each in alternatives:
                    places = frozenset({at})
                    for i, symbol in enumerate(each):
                        rest = all(not s.isupper() or s in ends for s in each[i + 1 :])
                        is_begun |= rest and any(may_begin(symbol, p) for p in places)
                        places = frozenset().union(*(after(symbol, p) for p in places))
                    found |= places
                    is_begun |= n in places
                if found != whole.get((name, at), frozenset()):
                    whole[name, at] = found
                    changed = True
                if is_begun and (name, at) not in begun:
                    begun.add((name, at))
                    changed = True
    return n in whole.get(("S", 0), frozenset()), ("S", 0) in begun


def is_sentence(rules: Rules, text: str) -> bool:
    return _verdict(tuple((k, tuple(v)) for k, v in rules.items()), text)[0]


def is_beginning(rules: Rules, text: str) -> bool:
    """Whether some sentence begins with `text`."""
    return _verdict(tuple((k, tuple(v)) for k, v in rules.items()), text)[1]


def random_rules(chance: random.Random) -> Rules:
    """Left, right and hidden recursion, rules without an end, and empty alternatives included."""
    names = "SABCD"[: chance.randint(1, 5)]
    symbols = names + "abc"
    return {
        name: tuple(
            "".join(chance.choice(symbols) for _ in range(chance.choice((0, 1, 1, 2, 2, 3, 4))))
            for _ in range(chance.randint(1, 3))
        )
        for name in names
    }
