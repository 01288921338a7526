"""Parts in any order: which texts match, masks against brute force, captures, errors."""

from __future__ import annotations

import random

import pytest
import walks
from walks import END, VOCAB, accepts, check_mask, lark, mask

from engine import _native
from engine.constraint import Terminals
from engine.errors import GrammarError
from engine.grammar.native import vocabulary


@pytest.mark.parametrize(
    "text, yes, no",
    [
        (
            'start: "<" %any_order(",", a, b?, c*) ">"\na: "a"\nb: "b"\nc: /c[0-9]/\n',
            ["<a>", "<a,b>", "<b,a>", "<c1,a,c2,b,c3>"],
            ["<>", "<b>", "<a,a>", "<a,b,b>", "<a,>", "<,a>", "<ab>"],
        ),
        (
            'start: %any_order("", a?, "b"?, (c d)*)\na: "a"\nc: "c"\nd: "d"\n',
            ["", "a", "ba", "cdacdbcd"],
            ["aa", "c", "bab"],
        ),
        ('start: %any_order(SEP, "a", "b")\nSEP: / *;/\n', ["a  ;b", "b;a"], ["a", "ab", "a;a"]),
        (
            '%ignore " "\nstart: %any_order(",",\n  a, b) "!"\na: "a"\nb: "b"\n',
            ["a,b!", " b , a !"],
            ["a!", "a b!"],
        ),
        ('start: %any_order("")\n', [""], ["a"]),
        (
            'start: x\nx: %any_order(",", x?, "b"*) "!"\n',
            ["!", "b!", "!,b,b!", "b,!!"],
            [",!", "b,"],
        ),
        (
            'start: %any_order("", %json {"const": 1}?, (<|im_start|> | "x"), ("y" "z"))\n',
            ["1xyz", "yzx", "xyz1"],
            ["xx", "1yz", "xy1z"],
        ),
        # What no text matches never comes: a part, or another part behind a separator.
        ('start: %any_order(",", dead?, "a"?)\ndead: "d" dead\n', ["", "a"], ["d"]),
        ('start: %any_order(dead, "a", "b"?)\ndead: "d" dead\n', ["a"], ["", "b"]),
        ('start: %any_order(dead, "a"?, "b"*)\ndead: "d" dead\n', ["a", "", "b"], ["bb"]),
    ],
)
def test_texts_that_match_and_texts_that_do_not(text, yes, no):
    start = lark(text)
    assert [each for each in yes if not accepts(start, each)] == []
    assert [each for each in no if accepts(start, each)] == []
    for each in yes:  # and nothing is begun that can't be completed
        walk = start.fork()
        for byte in each.encode():
            assert walk.advance_bytes(bytes([byte]))
            assert walks.completion(walk, b"ab1xyz,;!>") is not None


def spelled(chance: random.Random, symbols: str, free: str) -> tuple[str, dict[str, list[str]]]:
    """A random %any_order in Lark, and its texts by rules with a letter of `free` each: the first
    for all of it, the others for what may stand behind parts that came."""
    parts = [chance.choice(symbols) for _ in range(chance.randint(1, 3))]
    kinds = [chance.randint(0, 2) for _ in parts]
    separator = chance.choice(["", "c", *symbols])

    def rule(seen: int, glue: str) -> list[str]:
        must = any(kind == 1 and not seen >> i & 1 for i, kind in enumerate(kinds))
        left = [i for i in range(len(parts)) if not seen >> i & 1]
        behind = {i: free[1 + (seen | (1 << i if kinds[i] < 2 else 0))] for i in left}
        return [""] * (not must) + [glue + parts[i] + behind[i] for i in left]

    def symbol(each: str) -> str:
        return f"r{each.lower()}" if each.isupper() else f'"{each}"'

    marks = ("?", "", "*")
    marked = [symbol(part) + marks[kind] for part, kind in zip(parts, kinds, strict=True)]
    rules = {free[0]: rule(0, "")}
    rules |= {free[1 + seen]: rule(seen, separator) for seen in range(1 << len(parts))}
    return f"%any_order({', '.join([symbol(separator), *marked])})", rules


@pytest.mark.parametrize("seed", range(150))
def test_random_grammars_agree_with_a_table_of_all_parses(seed):
    """Among rules with every kind of recursion, that through the parts and separators included."""
    chance = random.Random(seed)
    rules = dict(walks.random_rules(chance))
    text, more = spelled(chance, "".join(rules) + "ab", "EFGHIJKLM")
    rules[min(rules)] = (*rules[min(rules)], chance.choice(["", "a"]) + "E")
    written = walks.as_lark(rules).replace("re", text)
    rules |= {name: tuple(each) for name, each in more.items()}
    if "S" not in walks.productive(rules):
        with pytest.raises(GrammarError, match="no text matches"):
            lark(written)
        return
    open_ = [("", lark(written))]
    while open_:
        read, place = open_.pop()
        assert place.is_accepting == walks.is_sentence(rules, read), (read, written)
        for letter in "abc" if len(read) < 4 else "":
            twin = place.fork()
            taken = twin.advance_bytes(letter.encode())
            assert taken == walks.is_beginning(rules, read + letter), (read + letter, written)
            if taken:
                open_.append((read + letter, twin))


CALL = (
    'start: "f" %any_order(", ", x, y?, z*) ";"\nx: "x=" v\ny: "y=" %json {"type": "boolean"}\n'
    'z: /[a-b]{1,3}/ "=" v\nv[capture]: /[^,;]+(, [^xyab,;][^,;]*)*/\n'
)


@pytest.mark.parametrize(
    "text",
    [
        CALL,
        'start: %any_order("", /[ab]+/, "ab"?, "abc"*, <|im_start|>?)\n',
        'start: %any_order(/ ?/, %json {"type": "string"}, "true", x?)\nx: "x" x?\n',
    ],
)
def test_masks_equal_brute_force(text):
    chance = random.Random(text)
    for _ in range(4):
        for place in walks.random_walk(lark(text), chance, 14):
            assert check_mask(place) or place.is_done


@pytest.mark.parametrize(
    "text, read, captures",
    [
        (CALL, "fx=1, ab=2, y=true, b=3;", [("v", "1"), ("v", "2"), ("v", "3")]),
        (CALL, "fy=false, x=1, 2;", [("v", "1, 2")]),
        (
            'start: %any_order("", a, b?, c*)\na[capture]: "a" w\nb[capture]: "b" w\n'
            "c[capture]: /[cd]/\nw[capture]: /[0-9]*/\n",
            "cb12da3",
            [("c", "c"), ("b", "b12"), ("w", "12"), ("c", "d"), ("a", "a3"), ("w", "3")],
        ),
        # The parts stand in the grammar's order of preference, and go on as long as can be.
        (
            'start: %any_order("", p?, q?)\np[capture]: "x"\nq[capture]: "x"\n',
            "xx",
            [("p", "x"), ("q", "x")],
        ),
        (
            'start: o r?\no[capture]: %any_order(",", "a"?, "b"*)\nr[capture]: /[,b]+/\n',
            "b,b,a",
            [("o", "b,b,a")],
        ),
        (
            'start: o\no[capture]: %any_order("", s*, "b"?)\ns[capture]: ""\n',
            "b",
            [("s", ""), ("o", "b")],
        ),
    ],
)
def test_captures_are_those_of_the_parts(text, read, captures):
    place = lark(text)
    for piece in read:
        assert place.advance_bytes(piece.encode())
    whole = lark(text)
    assert whole.advance_bytes(read.encode())
    for each in place, whole:
        each.advance(END)
        found = [(name, data.decode()) for name, data in each.captures()]
        assert sorted(found) == sorted(captures)


def test_a_part_that_came_is_not_offered_again():
    start = lark('start: %any_order(" ", "ab", "ba"?, "x)"*)\n')
    offered = []
    for word in (None, "ba", " ", "x)", " ", "ab"):
        if word is not None:
            assert start.advance_bytes(word.encode())
        offered.append({VOCAB.tokens[token].decode() for token in mask(start)})
    assert [each & {"ab", "ba", "x)"} for each in offered[:5:2]] == [
        {"ab", "ba", "x)"},
        {"ab", "x)"},
        {"ab", "x)"},
    ]
    assert offered[-1] >= {" ", "<|im_end|>"}


@pytest.mark.parametrize(
    "text, message",
    [
        ('start: A\nA: %any_order("", "a")\n', r":2:4: %any_order: not inside a terminal"),
        ('start: %any_order("", "a") & "a"\n', r":1:8: %any_order: not inside a terminal"),
        ('start: %any_order("", "a"+)\n', r":1:26: a part is required, optional"),
        ('start: "x"\n | %any_order("", ' + ", ".join(['"a"'] * 63) + ")\n", r":2:4: more than 62"),
        ('start: %any_order("", a, b)\na: "a" a\nb: "b"\n', r"no text matches"),
        ('start: %any_order("", aa)\n', r":1:23: no rule or terminal aa"),
    ],
)
def test_errors_have_a_place(text, message):
    with pytest.raises(GrammarError, match=message):
        lark(text)


def test_sixty_two_parts_come_in_any_order():
    words = [f"<{n}>" for n in range(62)]
    start = lark('start: %any_order("", ' + ", ".join(f'"{word}"' for word in words) + ")\n")
    for seed in range(3):
        random.Random(seed).shuffle(words)
        assert accepts(start, "".join(words)) and not accepts(start, "".join(words[1:]))
        assert not accepts(start, "".join([*words, words[0]]))


def test_the_core_refuses_what_it_cannot_hold():
    grammar = _native.Grammar(vocabulary(VOCAB, Terminals.of(VOCAB)))
    word, nothing = grammar.word(grammar.literal(b"a")), grammar.sequence([])
    assert isinstance(grammar.unordered([word] * 62, [1] * 62, nothing), int)
    for parts, kinds in ([word] * 63, [1] * 63), ([word], [1, 1]), ([word], [3]):
        with pytest.raises(ValueError):
            grammar.unordered(parts, kinds, nothing)
    with pytest.raises(ValueError, match="isn't there"):
        grammar.finish(grammar.unordered([word], [1], 99))
