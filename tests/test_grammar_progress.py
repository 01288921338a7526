"""Captures while the text is being written: what is certain, and up to where."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
import walks
from walks import END, VOCAB, lark

from engine import _native
from engine.constraint import Terminals
from engine.errors import GrammarError
from engine.grammar import Grammar

START = VOCAB.find("<|im_start|>")
TAG = 'start: v ";"*\nv: "<p>" val "</p>"\nval[capture="val"]: /[^<]*(<[^\\/][^<]*)*/\n'
CALL = (
    'start: (text call)* text\ntext: /[^{]*/\ncall[capture]: "{" name %any_order("", x, y*) "}"\n'
    'name[capture]: /[a-z]+/\nx: ",x=" value\ny: ",y=" %json {"type": ["string", "integer"]}\n'
    "value[capture]: VALUE & ~(/.*/ /,y=|[}]/ /.*/)\nVALUE: %text {}\n"
)
LAZY = 'start: (w | v)*\nw[capture, suffix="ab", stop_capture="end"]: /[abc]*/\nv[capture]: "c;"\n'
EITHER = 'start: (x | y) "z"?\nx[capture="v"]: a "1"?\ny[capture="v"]: a "2"?\na[capture]: "a"\n'
TEXTS = [
    (TAG, "<p>a<b>c<d></p>;;"),
    (TAG, "<p></p>"),
    (CALL, "so {go,x=a,y,y=1}{f,y=12,x=<b>}"),
    (CALL, '{a,y="서,x=",x=서울,y=-1} '),
    (LAZY, "aabcabc;ccab"),
    (EITHER, "a2z"),
    ('start: a* b?\na[capture]: "x"\nb[capture]: "xx"\n', "xxxx"),
    ('start[capture]: %json {"type": "array"}\n', '[1, [2, "]"]]'),
]


def read(grammar: str, text: bytes, cuts: list[int]) -> _native.Matcher:
    walk = lark(grammar)
    for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        assert walk.advance_bytes(text[begin:end])
    return walk


def test_a_mark_is_certain_when_all_ways_of_reading_have_it():
    walk = lark(TAG)
    seen = []
    for byte in b"<p>ab</p>;":
        assert walk.advance_bytes(bytes([byte]))
        seen.append(walk.progress())
    begin, end = ("val", 3, False), ("val", 5, True)
    assert seen == [
        ([], 1),
        ([], 2),
        ([begin], 3),
        ([begin], 4),
        ([begin], 5),
        ([begin], 5),  # behind `<` the value may have ended before it
        ([begin, end], 7),
        ([begin, end], 8),
        ([begin, end], 9),
        ([begin, end], 10),
    ]


@pytest.mark.parametrize("grammar, text", TEXTS)
def test_what_is_certain_stays_and_does_not_depend_on_how_the_text_was_cut(grammar, text):
    data, chance = text.encode(), random.Random(text)
    single = lark(grammar)
    steps = [single.progress()]
    for byte in data:
        assert single.advance_bytes(bytes([byte]))
        steps.append(single.progress())
    check_steps(steps)
    assert all(place <= at for at, (_, place) in enumerate(steps))
    for _ in range(10):
        cuts = sorted(chance.sample(range(1, len(data)), chance.randint(0, len(data) - 1)))
        assert read(grammar, data, cuts).progress() == steps[-1]
        for cut in cuts:
            assert read(grammar, data[:cut], [c for c in cuts if c < cut]).progress() == steps[cut]
    assert single.advance(END)
    marks, place = single.progress()
    assert place == len(data) and marks[: len(steps[-1][0])] == steps[-1][0]
    assert spans(marks, data) == sorted(single.captures())
    single.rewind(1)
    assert single.progress() == steps[-1]


@pytest.mark.parametrize("grammar, text", TEXTS)
def test_what_was_told_can_be_left_out_and_the_rest_stays_the_same(grammar, text):
    single, told = lark(grammar), 0
    for byte in text.encode():
        assert single.advance_bytes(bytes([byte]))
        marks, place = single.progress()
        for skip in range(told + 1):
            assert single.progress(skip) == (marks[skip:], place)
        told = len(marks)
    assert single.progress(told)[0] == single.progress(told + 9)[0] == []
    assert single.advance(END)
    marks, place = single.progress()
    assert single.progress(told) == (marks[told:], place)


@pytest.mark.parametrize("grammar", sorted({grammar for grammar, _ in TEXTS}))
def test_what_was_told_can_be_left_out_on_random_walks(grammar):
    chance, told = random.Random(grammar), 0
    for place in walks.random_walk(lark(grammar), chance, 60):
        marks, certain = place.progress()
        assert place.progress(told) == (marks[told:], certain)
        told = len(marks)


def check_steps(steps: list[tuple[list[tuple[str, int, bool]], int]]) -> None:
    """What was certain stays, and what comes is behind the place."""
    for (marks, place), (later, further) in pairwise(steps):
        assert later[: len(marks)] == marks and place <= further
        assert all(mark[1] >= place for mark in later[len(marks) :])
        assert marks == sorted(marks, key=lambda mark: mark[1])


def spans(marks: list[tuple[str, int, bool]], text: bytes) -> list[tuple[str, bytes]]:
    out, begins = [], []
    for name, place, is_end in marks:
        if is_end:
            begun, begin = begins.pop()
            assert begun == name
            out.append((name, text[begin:place]))
        else:
            begins.append((name, place))
    assert not begins
    return sorted(out)


@pytest.mark.parametrize("grammar", sorted({grammar for grammar, _ in TEXTS}))
def test_what_is_certain_stays_on_random_walks(grammar):
    chance = random.Random(grammar)
    for _ in range(6):
        check_steps([place.progress() for place in walks.random_walk(lark(grammar), chance, 25)])


def test_captures_of_one_name_are_certain_whichever_it_is():
    walk = lark(EITHER)
    begins = [("v", 0, False), ("a", 0, False)]
    assert walk.progress() == (begins, 0)
    assert walk.advance_bytes(b"a")
    assert walk.progress() == ([*begins, ("a", 1, True)], 1)
    assert walk.advance_bytes(b"z")
    assert walk.progress()[0][-1] == ("v", 1, True)


def test_a_token_stands_at_the_texts_length():
    walk = lark('start: "ab" t "c"\nt[capture]: <|im_start|> "d"\n')
    assert walk.advance_bytes(b"ab") and walk.advance(START)
    assert walk.progress() == ([("t", 2, False)], 2)
    assert walk.advance_bytes(b"dc")
    assert walk.progress() == ([("t", 2, False), ("t", 3, True)], 4)
    walk.rewind(2)
    assert walk.progress() == ([("t", 2, False)], 2)  # nothing else can come
    walk.rewind(1)
    assert walk.progress() == ([], 0)


def test_without_captures_the_whole_text_is_certain():
    walk = lark("start: /a*/\n")
    assert walk.advance_bytes(b"aaa") and walk.progress() == ([], 3)


def test_a_constraint_says_it_and_has_a_typed_error_where_it_is_too_much():
    grammar = Grammar.from_lark(TAG)
    constraint = grammar.constraint(VOCAB, Terminals.of(VOCAB))
    for byte in b"<p>a":
        constraint.advance(byte)
    assert constraint.progress() == ([("val", 3, False)], 4)
    constraint.rewind(1)
    assert constraint.progress() == ([("val", 3, False)], 3)
    hostile = 'start[capture]: s\ns: "x" s? s?\n'
    constraint = Grammar.from_lark(hostile).constraint(VOCAB, Terminals.of(VOCAB))
    with pytest.raises(GrammarError, match="ways to read"):
        for _ in range(50):
            constraint.advance(ord("x"))
            constraint.progress()
