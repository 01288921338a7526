"""Lark grammars: which texts match, masks against brute force, captures, errors with a place."""

from __future__ import annotations

import random
import time

import pytest
import walks
from walks import END, VOCAB, accepts, check_mask, lark, mask

from engine import gguf
from engine.errors import GrammarError, SchemaError
from engine.grammar import Grammar
from engine.vocab import Vocab

LIMIT_S = 20  # far above what any hostile text takes; a hang is what it is about


@pytest.mark.parametrize(
    "text, yes, no",
    [
        ('start: "a"+ "b"?\n', ["a", "aab"], ["", "b", "abb"]),
        ('start: "a"~2..3\n', ["aa", "aaa"], ["a", "aaaa"]),
        ('start: "a"{2} "b"{,2} "c"{1,}\n', ["aac", "aabbcc"], ["ac", "aabbbc", "aa"]),
        ('start: ["a"] "b"\n', ["ab", "b"], ["a", "aab"]),
        ('start: "x".."z" "0".."1"\n', ["x0", "z1"], ["w0", "x2"]),
        ('start: "straße"i\n', ["STRAßE", "straße"], ["STRASSE"]),
        (r'start: "\x41\\x41\"\n\q"' + "\n", ['A\\x41"\nq'], ['AA"\nq']),
        ("start: /a.c/ /d.f/s\n", ["abcd\nf", "a\rcdef"], ["a\ncdef"]),
        ("start: /(?i:ab)c/ /[xy]/i\n", ["ABcX", "abcy"], ["abCx"]),
        (
            "start: WORD & ~KEY\nWORD: /[a-z]+/\nKEY: /if|in/\n",
            ["i", "ifs", "x"],
            ["if", "in", ""],
        ),
        ('start: A\nA: B & /.{2,3}/ | "!"\nB: /a+/\n', ["aa", "aaa", "!"], ["a", "aaaa"]),
        ('start: a\n  | b // one\n\n  | "c" # two\na: "x"\nb: "y"\n', ["x", "y", "c"], ["xy"]),
        ('?start: !a\n!a: "x"\n', ["x"], [""]),
        ("%import common.INT\nstart: INT\n", ["12"], ["x"]),
        ("%import common (INT, WORD)\nstart: INT WORD\n", ["1a"], ["a1"]),
        ("%import common.SIGNED_NUMBER->N\nstart: N\n", ["-1.5e3", ".5"], ["e3"]),
        ("%import common.ESCAPED_STRING -> S\nstart: S\n", [r'"a\"b"'], ['"a', '"a\nb"']),
        (
            '%ignore /[ \\t]+/\nstart: "a" n\nn: /[0-9]+/ ("," n)?\n',
            ["a1", " a 1 , 2 "],
            ["a1 2"],
        ),
        (
            '%ignore " "\nstart: N "!"\nN: "1" "2"\n',
            ["12!", "12 !"],
            ["1 2!"],  # a terminal is one word
        ),
        ('start: %json {"type": "integer"} "!"\n', ["12!"], ["1.5!"]),
        ('%ignore " "\nstart: %json {"const": [1]} "!"\n', ["[1] !", " [1]!"], ["[ 1]!"]),
        (
            'start: %regex {"substring_chunks": ["ab", "c", "de"]}\n',
            ["", "ab", "cde", "abcde"],
            ["a", "abde"],
        ),
        ('start: %regex {"substring_words": "a bc"}\n', ["a bc", " bc", "bc"], ["b", "abc"]),
        ('start: %regex {"substring_chars": "aba"}\n', ["", "ab", "ba"], ["aa"]),
        ('start: w "!"\nw[lazy]: /.*;/\n', ["ab;!", ";!"], ["a;b;!", "a!"]),
        ('start: w "!"\nw[suffix="--"]: /(?s:.*)/\n', ["a--!", "-a--!"], ["a---!", "a--b--!"]),
        ('start: w\nw[suffix="aa"]: /[ab]*/\n', ["aa", "baa"], ["aaa", "a"]),
        ('start: "a" | "b" start\n', ["a", "bba"], ["", "b"]),
        ('start.2: "a"\n', ["a"], []),
        ('%llguidance {"no_forcing": true}\nstart: "a"\n', ["a"], []),
        ("start:\n", [""], ["a"]),
    ],
)
def test_texts_that_match_and_texts_that_do_not(text, yes, no):
    start = lark(text)
    assert [each for each in yes if not accepts(start, each)] == []
    assert [each for each in no if accepts(start, each)] == []


@pytest.mark.parametrize(
    "text, yes, no",
    [
        ('start: start "+" n | n\nn: "1"\n', ["1", "1+1+1"], ["+1", "1+"]),
        (
            'start: e\ne: e "+" t | t\nt: t "*" f | f\nf: "(" e ")" | /[0-9]/\n',
            ["1+2*(3+4)"],
            ["1+", "(1", "()"],
        ),
        ('start: a\na: b "x" | "1"\nb: a "y" | "2"\n', ["1", "2x", "1yx", "2xyx"], ["1x", "2"]),
        ('start: opt start "x" | "y"\nopt: "a"?\n', ["y", "aaayxxx", "ayx"], ["ay", "yxa"]),
        ('start: /z*/ start "x" | "y"\n', ["y", "zyx", "zzyxx"], ["zy"]),
        ('start: start start | "x" | ""\n', ["", "x", "xxx"], ["y"]),
        ('start: a\na: b\nb: c\nc: a | "x"\n', ["x"], ["", "xx"]),
        ('start: a*\na: start "x" | "y"\n', ["", "x", "yx", "yxxy"], ["z"]),
    ],
)
def test_left_recursion_matches_the_same_texts(text, yes, no):
    start = lark(text)
    assert [each for each in yes if not accepts(start, each)] == []
    assert [each for each in no if accepts(start, each)] == []


@pytest.mark.parametrize("seed", range(60))
def test_random_grammars_agree_with_a_table_of_all_parses(seed):
    """Both ways: what is taken can be completed, what can be completed is taken."""
    rules = walks.random_rules(random.Random(seed))
    text = walks.as_lark(rules)
    if "S" not in walks.productive(rules):
        with pytest.raises(GrammarError, match="no text matches"):
            lark(text)
        return
    open_ = [("", lark(text))]
    while open_:
        read, place = open_.pop()
        assert place.is_accepting == walks.is_sentence(rules, read), (read, text)
        for letter in "abc" if len(read) < 4 else "":
            twin = place.fork()
            taken = twin.advance_bytes(letter.encode())
            assert taken == walks.is_beginning(rules, read + letter), (read + letter, text)
            if taken:
                open_.append((read + letter, twin))


GRAMMARS = [
    'start: "a" (b | "}")*\nb: "b" "c"?\n',
    'start: e\ne: e "+" t | t\nt: "(" e ")" | /[0-9]+/ | %json {"type": "string"}\n',
    '%ignore /[ \\n]+/\nstart: "{" pair ("," pair)* "}"\npair: /"[a-z]*"/ ":" /[0-9a]+/\n',
    "start: <|im_start|> /(?s:.*)/ <|im_end|>\n",
    'start: (f | g)* /(?s:.*)/\nf: h "ab" /[0-9]/\ng: h "ba" %json {"type": "boolean"}\n'
    'h[lazy]: /(?s:.*)/ "{"\n',
    'start: (/[^"]*서[^"]*/ & ~/.*ab.*/) "\\""\n',
    'start: %regex {"substring_words": "ab abc true 서울  a"} "x"\n',
]


@pytest.mark.parametrize("text", GRAMMARS)
def test_masks_equal_brute_force_and_every_place_has_a_completion(text):
    chance = random.Random(text)
    for _ in range(3):
        for place in walks.random_walk(lark(text), chance, 12):
            allowed = check_mask(place)
            assert allowed or place.is_done
            if "<|" not in text:
                alphabet = '"서\n' if "서" in text else '"a1}+;x):'
                assert walks.completion(place, alphabet.encode(), 30_000) is not None


def test_masks_equal_brute_force_over_128_thousand_tokens(shared_data):
    vocab = Vocab.from_header(gguf.read_header(shared_data / "vocab" / "llama-bpe.gguf"))
    text = GRAMMARS[1].replace("start: e", "start: e /[^a]{2,9}/ <|end_of_text|>")
    place = walks.matcher(Grammar.from_lark(text), vocab)
    chance = random.Random(1)
    for read in ('12+"a b', '"+(3', ")", "-서-"):
        assert place.advance_bytes(read.encode())
        check_mask(place, vocab)
    allowed = sorted(mask(place, vocab.n_vocab))
    assert place.advance(chance.choice(allowed))


def test_control_tokens_come_by_name_or_id_and_never_as_text():
    start, end = VOCAB.find("<|im_start|>"), END
    by_name = lark("start: <|im_start|> /[a-z<>|_]+/ <|im_end|>\n")
    by_id = lark(f"start: <[{start}]> /[a-z<>|_]+/ <[{end},{end}-{end}]>\n")
    for place in (by_name, by_id):
        assert mask(place) == {start}
        assert place.advance(start) and not place.allows(start) and not place.allows(end)
        assert place.advance_bytes(b"<|im_start|>") and not place.allows(start)
        assert place.allows(end) and place.advance(end) and place.is_accepting
        assert place.captures() == []


def test_ranges_of_tokens_and_all_others():
    n = VOCAB.n_vocab
    assert mask(lark("start: <[1-3,7]>\n")) == {1, 2, 3, 7}
    assert mask(lark(f"start: <[^3-{n - 1}]>\n")) == {0, 1, 2}
    assert mask(lark("start: <[*]>\n")) == set(range(n))


@pytest.mark.parametrize(
    "text, read, captures",
    [
        (
            'start: n " " t\nn[capture]: /[0-9]+/\nt[capture="text"]: /[a-z0-9]+/\n',
            "12 3a",
            [("n", "12"), ("text", "3a")],
        ),
        (
            "start: n t\nn[capture]: /[0-9]+/\nt[capture]: /[a-z0-9]+/\n",
            "123a",
            [("n", "123"), ("t", "a")],
        ),
        ('start: t\nt[capture, suffix="</x>"]: /(?s:.*)/\n', "ab<</x>", [("t", "ab<")]),
        (
            'start: t "!"\nt[capture, suffix="aa", stop_capture="end"]: /(?s:.*)/\n',
            "bbaa!",
            [("t", "bb"), ("end", "aa")],
        ),
        (
            "start: item+\nitem[capture]: /[a-z]/\n",
            "abc",
            [("item", "a"), ("item", "b"), ("item", "c")],
        ),
        (
            'start: item ("," item)*\nitem[capture]: /[a-z]*/\n',
            "ab,,d",
            [("item", "ab"), ("item", ""), ("item", "d")],
        ),
        (
            'start: o\no[capture]: "(" i ")"\ni[capture]: /x+/\n',
            "(xx)",
            [("o", "(xx)"), ("i", "xx")],
        ),
        (
            'start: a\na[capture]: "(" a ")" | "x"\n',
            "((x))",
            [("a", "((x))"), ("a", "(x)"), ("a", "x")],
        ),
        ("start: w+\nw[capture, lazy]: /.*;/\n", "ab;c;", [("w", "ab;"), ("w", "c;")]),
        (
            '%ignore " "\nstart: w w\nw[capture]: /[a-z]+/\n',
            "ab   cd ",
            [("w", "ab"), ("w", "cd")],
        ),
        ('start: j "!"\nj[capture]: %json {"type": "number"}\n', "-12.5e3!", [("j", "-12.5e3")]),
        (
            "start: <|im_start|> w <|im_end|>\nw[capture]: /[a-z]+/\n",
            ["<|im_start|>", "ab", "c", "<|im_end|>"],
            [("w", "abc")],
        ),
        (
            'start: a b\na[capture]: opt "x"\nopt: "("?\nb: ")"?\n',
            "(x)",
            [("a", "(x")],
        ),
    ],
)
def test_captures_are_one_reading_of_the_text_the_longest_words_first(text, read, captures):
    place = lark(text)
    for piece in [read] if isinstance(read, str) else read:
        token = VOCAB.find(piece) if piece.startswith("<|") else None
        assert place.advance(token) if token is not None else place.advance_bytes(piece.encode())
        place.captures()  # asked for on the way, it is the same in the end
    assert place.is_accepting
    place.advance(END)
    assert [(name, data.decode()) for name, data in place.captures()] == captures


def test_a_capture_is_complete_when_no_reading_goes_on_inside_it():
    place = lark("start: n t\nn[capture]: /[0-9]+/\nt: /[a-z]*/\n")
    place.advance_bytes(b"12")
    assert place.captures() == []
    place.advance_bytes(b"a")
    assert place.captures() == [("n", b"12")]
    place.rewind(1)
    assert place.captures() == []
    place.advance(END)
    assert place.captures() == [("n", b"12")]


@pytest.mark.parametrize(
    "text, message",
    [
        ("start: foo\nfooo: /a/\n", r"c\.lark:1:8: no rule or terminal foo; did you mean fooo\?"),
        ('start[captur]: "a"\n', r":1:1: unknown attribute captur; did you mean capture\?"),
        ('start: "a"\n  | "\\u12"\n', r":2:5: a string with a bad escape"),
        ('start: "\\ud800"\n', r":1:8: a string with a bad escape"),
        ('start: "\ud800"\n', r":1:9: '\\ud800' is not a character"),
        ('start: ("a"\n', r":2:1: unexpected the end of a rule"),
        ('start: "a")\n', r":1:11: unexpected '\)'"),
        ('star: "a"\n', r":1:1: no rule start; did you mean star\?"),
        ('start: "a"\nstart: "b"\n', r":2:1: start is defined twice"),
        ("start: /é(/\n", r":1:10: /é\(/: a group without its \)"),
        ("start: /a/x\n", r":1:8: the flag x"),
        ('start: A\nA: "x" B\nB: A\n', r":3:4: the terminal A refers to itself"),
        ('start: A\nA: b\nb: "(" b ")" | "x"\n', r":2:4: b: a rule can't be a part of one word"),
        ('start: "a"{3,2}\n', r":1:12: bounds out of order"),
        ('start: "a"{99999999999}\n', r":1:12: a count from 0"),
        ('start: "b".."a"\n', r":1:8: a range is of two characters"),
        ("start: <|nope|>\n", r":1:8: the vocabulary has no token <\|nope\|>"),
        ("start: <[5-99999]>\n", r":1:8: .*ids from 0 to"),
        ("start: <[0-9999999999]>\n", r":1:8: .*ids and ranges"),
        ('start: %json {"a" 1}\n', r":1:13: JSON expected"),
        ('start: "a"\n  | %regex [1]\n', r":2:11: %regex takes"),
        ("%import common.INTT\nstart: INTT\n", r":1:16: no terminal common.INTT; did you mean INT"),
        ("%declare X\nstart: X\n", r":1:1: unknown %declare"),
        ("start[capture=foo]: /a/\n", r":1:1: start: capture must be a text"),
        ("start: A\nA[lazy]: /a/\n", r":2:1: A: a terminal has no attributes"),
        ('start[stop="x"]: /a+/\n', r":1:1: start: stop is not supported"),
        ("start[max_tokens=5]: /a+/\n", r"max_tokens is not supported"),
        ("start[temperature=0.5]: /a+/\n", r"temperature is not supported"),
        ('start[stop_capture="x"]: /a+/\n', r"stop_capture needs a suffix"),
        ('start[capture]: start "a" | "b"\n', r"a left-recursive rule can't have attributes"),
        ('start: "x" start\n', r":1:1: start: no text matches"),
        ("start: /a/ & /b/\n", r":1:1: start: no text matches"),
        (
            "start: " + "(" * 5000 + '"a"' + ")" * 5000 + "\n",
            r":1:72: groups nested deeper than 64",
        ),
        ("start: %json " + "[" * 99999, r":1:13: JSON (nested too deeply|expected)"),
        ("~" * 100_000, r":1:1: unexpected '~'"),
        ("start: A0\n" + "".join(f"A{i}: A{i + 1}\n" for i in range(5000)), r"no rule or terminal"),
        (
            "start: A0\n" + "".join(f"A{i}: A{i + 1}\n" for i in range(5000)) + "A5000: /a/\n",
            r"more than 256 terminals inside each other",
        ),
    ],
)
def test_errors_have_a_place_and_come_soon(text, message):
    begin = time.perf_counter()
    with pytest.raises(GrammarError, match=message) as caught:
        lark(text, name="c.lark")
    assert time.perf_counter() - begin < LIMIT_S
    assert "\n" not in caught.value.message and caught.value.excerpt.endswith("^")


def test_a_schema_in_a_grammar_is_refused_with_its_place_and_keyword():
    with pytest.raises(SchemaError, match=r":2:9: .*strin") as caught:
        lark('start: "a"\n | %json\n{"items": {"type": "strin"}}\n')
    assert caught.value.keyword == "type"


@pytest.mark.parametrize(
    "text, read",
    [
        ("start: a0\n" + "".join(f"a{i}: a{i + 1}\n" for i in range(4000)) + 'a4000: "x"\n', "x"),
        ("start: " + " | ".join(f'"w{i}"' for i in range(4000)) + "\n", "w3999"),
        ("start: " + " ".join('"a"?' for _ in range(4000)) + "\n", "a" * 4000),
        ('start: "' + "a" * 50_000 + '"\n', "a" * 50_000),
        (
            "start: a0\n"
            + "".join(f'a{i}: "(" a{i + 1} ")" | "y"\n' for i in range(1000))
            + "a1000: start\n",
            "(" * 1500 + "y" + ")" * 1500,
        ),
    ],
)
def test_large_grammars_work(text, read):
    assert accepts(lark(text), read)


def test_a_rule_without_an_end_leaves_the_others_alone():
    place = lark('start: "x" | "a" dead | ("b" dead)* "c"\ndead: "d" dead\n')
    assert mask(place) == {ord("x"), ord("c")}
