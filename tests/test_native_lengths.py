"""Counted patterns beside bounds on the length, and long words: masks equal brute force."""

from __future__ import annotations

import itertools
import random
import re

import pytest
import walks
from fakes import byte_vocab

from engine.grammar import Grammar

LONG = ["x" * n for n in (17, 18, 30, 40, 64, 70)]
LONG += ["a b " * n for n in (5, 9, 17)] + [" a" * n + '"' for n in (1, 8, 10, 11, 20)]
LONG += [" " * 20, "y" * 33 + " ", "\\u0041" * 6, "\\n" * 12 + "z", "서울 " * 8, "a@b", ".gov"]
VOCAB = byte_vocab(words=[*walks.WORDS, *LONG])
MOST_WORDS, LONGEST = 20, 60
WORDS = r"^(?:\S+\s+){0,19}\S+$"


def words_may_begin(written: str) -> bool:
    """Whether a text that begins like this, as it is written without escapes, may be completed."""
    body, quote, behind = written.partition('"')
    count = len(body.split())
    if quote:
        return not behind and re.match(WORDS, body) is not None and len(body) <= LONGEST
    if body[:1].isspace():
        return False
    needs_more = int(not body or body[-1].isspace())
    return count + needs_more <= MOST_WORDS and len(body) + needs_more <= LONGEST


def words(chance: random.Random, length: int, n_words: int) -> str:
    """A text of about that length in so many words."""
    most = max(1, length // n_words - 1)
    return " ".join("w" * chance.randint(1, most) for _ in range(n_words))[:length]


@pytest.mark.parametrize("shortest", [0, 1])
def test_words_are_counted_beside_a_bound_on_the_length(shortest: int) -> None:
    limits = {"minLength": shortest, "maxLength": LONGEST}
    grammar = Grammar.from_schema({"type": "string", "pattern": WORDS, **limits}, escapes="any")
    start = walks.matcher(grammar, VOCAB)
    chance = random.Random(7)
    plain = [i for i, text in enumerate(VOCAB.tokens) if text.isascii() and text.isalnum()]
    plain += [i for i, text in enumerate(VOCAB.tokens) if re.fullmatch(rb"[xyab ]+\"?", text)]
    for _ in range(60):
        text = words(chance, chance.randint(1, LONGEST), chance.randint(1, MOST_WORDS))
        place = start.fork()
        assert place.advance_bytes(b'"' + text.encode()) == words_may_begin(text)
        allowed = walks.mask(place, VOCAB.n_vocab)
        for token in plain:
            expected = words_may_begin(text + VOCAB.tokens[token].decode())
            assert (token in allowed) == expected, (text, VOCAB.tokens[token])


@pytest.mark.parametrize(
    ("pattern", "shortest", "longest", "text"),
    [
        (WORDS, 1, 60, "a b서울c \\u0041d"),
        (WORDS, 1, 500, "a " * 17),
        (WORDS, 25, 60, "abc d"),
        (r"^[^@\s]+@[^@.\s]+(\.[^@.\s]*)*.gov.uk", 5, 50, "me@here.gov"),
        (r"^[a-z]+@[a-z]+\.[a-z.]+$", 5, 30, "me@here.gov"),
        (r"[0-9]{4}-[0-9]{2}", 0, 40, "on 2024-"),
    ],
)
def test_masks_near_a_bound_equal_brute_force(
    pattern: str, shortest: int, longest: int, text: str
) -> None:
    limits = {"minLength": shortest, "maxLength": longest}
    grammar = Grammar.from_schema({"type": "string", "pattern": pattern, **limits}, escapes="any")
    start = walks.matcher(grammar, VOCAB)
    assert start.advance_bytes(b'"')
    for upto in range(0, len(text) + 1, 3):
        place = start.fork()
        if place.advance_bytes(text[:upto].encode()):
            walks.check_mask(place, VOCAB)
    for seed in range(3):
        for place in walks.random_walk(start.fork(), random.Random(seed), 15, VOCAB):
            assert walks.check_mask(place, VOCAB) or place.is_done


@pytest.mark.parametrize(
    "pattern", [r"^(?:[^*]|\*[ab])*$", r"^[^나*]*$", r"^(?!.*다가.*\*)\S*$", r"^[가-다]{1,3}b?$"]
)
def test_words_beyond_ascii_equal_brute_force(pattern: str) -> None:
    letters = ["가", "나", "다", "é", "a", "*"]
    words = ["".join(each) for n in (2, 3, 4) for each in itertools.product(letters, repeat=n)]
    vocab = byte_vocab(words=[*words, "가\u3000", "\u2028", '다"'])
    start = walks.matcher(
        Grammar.from_schema({"type": "string", "pattern": pattern}, escapes="any"), vocab
    )
    assert start.advance_bytes(b'"')
    for seed in range(3):
        for place in walks.random_walk(start.fork(), random.Random(seed), 10, vocab):
            assert walks.check_mask(place, vocab) or place.is_done
