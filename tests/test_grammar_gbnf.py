"""llama.cpp's GBNF: which texts match, masks, and errors with a place."""

from __future__ import annotations

import random

import pytest
import walks
from walks import accepts, check_mask, gbnf

from engine.errors import GrammarError

LIST = r"""
# a list of things
root ::= item ("," ws item)*   # one at least
item ::= [a-z]+ | "\"" [^"\\\x00-\x1F]* "\"" |
         number
number ::= "-"? ("0" | [1-9] [0-9]{0,3})
ws ::= " "?
"""


@pytest.mark.parametrize(
    "text, yes, no",
    [
        (LIST, ["a", 'ab, "x y",-12', "0,0", "9999"], ["", "a,", "01", "12345", '"']),
        ('root ::= (\n "a"\n | "b"\n)\n', ["a", "b"], ["ab"]),
        ('root ::= "a"{2} "b"{1,2} "c"{,1} "d"{2,}\n', ["aabdd", "aabbcddd"], ["abdd", "aabd"]),
        (r'root ::= "\x41\u00e9\U0001F600\n\t\""' + "\n", ['Aé😀\n\t"'], ["A"]),
        ("root ::= [^a-c\\]]+ [-x]\n", ["d-", "-x"], ["a-", "]x"]),
        ("root ::= . .\n", ["é\n"], ["é", "abc"]),
        ('root ::= root "x" | "y"\n', ["y", "yxx"], ["x"]),
        ('root ::= a-b\na-b ::= "x"\n', ["x"], [""]),
        ('root ::= "a"+?\n', ["", "aa"], ["b"]),
    ],
)
def test_texts_that_match_and_texts_that_do_not(text, yes, no):
    start = gbnf(text)
    assert [each for each in yes if not accepts(start, each)] == []
    assert [each for each in no if accepts(start, each)] == []


def test_masks_equal_brute_force():
    for place in walks.random_walk(gbnf(LIST), random.Random(3), 25):
        check_mask(place)


@pytest.mark.parametrize(
    "text, message",
    [
        (
            "root ::= foo\nfooo ::= [a]\n",
            r"^grammar:1:10: no rule or terminal .*; did you mean fooo",
        ),
        ('a ::= "x"\n', r":1:1: no rule root"),
        ("", r":1:1: no rule root"),
        ("root ::= (" + "(" * 5000, r":1:\d+: groups nested deeper than 64"),
        ('root ::= "a"' + "*" * 100_000, r":1:21: too many repetitions in a row"),
        ('root ::= "\\uD800"\n', r":1:11: .* is not a character"),
        ('root ::= "\\U00110000"\n', r":1:11: .* is not a character"),
        ('root ::= "a"{99999999999999999999}\n', r":1:13: a count that is too large"),
        ('root ::= "a"{3,2}\n', r":1:13: bounds out of order"),
        ('root ::= "abc', r":1:10: it has no end"),
        ("root ::= [z-a]\n", r":1:10: a range whose ends are out of order"),
        ("root ::= []\n", r":1:10: no characters"),
        ('root ::= ("a"\n', r":1:10: a group without its \)"),
        ('root ::= "a"\n)', r":2:1: a rule's name expected"),
        ('root = "a"\n', r":1:6: ::= expected"),
        ("root ::= <|nope|>\n", r"no token <\|nope\|>"),
        ('root ::= "a" root\n', r"no text matches"),
    ],
)
def test_errors_have_a_place(text, message):
    with pytest.raises(GrammarError, match=message) as caught:
        gbnf(text)
    assert caught.value.excerpt.endswith("^")
