"""Regular expressions mean what Python's `re` says, where both have the same syntax."""

from __future__ import annotations

import random
import re

import pytest
import walks
from walks import accepts, check_mask, mask, regex, schema

from engine.errors import GrammarError, SchemaError

ALPHABET = "ab1_ -é"


class Patterns:
    """Random patterns of the syntax that ECMA-262, Rust and Python share."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance

    def choice(self, depth: int = 2) -> str:
        n = self.chance.choice([1, 1, 1, 2, 3])
        return "|".join(self.sequence(depth) for _ in range(n))

    def sequence(self, depth: int) -> str:
        return "".join(self.repeated(depth) for _ in range(self.chance.randint(1, 4)))

    def repeated(self, depth: int) -> str:
        kind = self.chance.random()
        if kind < 0.1:
            if depth > 0 and kind < 0.05:
                return self.chance.choice(["(?=", "(?!"]) + self.choice(depth - 1) + ")"
            return self.chance.choice([r"\b", r"\B", "^", "$"])
        marks = ["*", "+", "?", "{2}", "{1,2}", "{0,3}", "*?", "+?", "{2,}"]
        mark = self.chance.choice(marks) if self.chance.random() < 0.35 else ""
        return self.atom(depth) + mark

    def atom(self, depth: int) -> str:
        kind = self.chance.random()
        if depth > 0 and kind < 0.25:
            return self.chance.choice(["(", "(?:"]) + self.choice(depth - 1) + ")"
        if kind < 0.7:
            return self.chance.choice(["a", "b", "1", "_", " ", "-", "é"])
        if kind < 0.85:
            return self.chance.choice([r"\d", r"\w", r"\s", r"\D", r"\W", r"\S", "."])
        return self.chance.choice(["[ab]", "[^ab]", "[a-b1]", r"[\d_]", r"[^\w]", "[-a]", "[é-ü]"])

    def text(self) -> str:
        return "".join(self.chance.choice(ALPHABET) for _ in range(self.chance.randint(0, 6)))


@pytest.mark.parametrize("searches", [False, True], ids=["whole", "search"])
@pytest.mark.parametrize("seed", range(80))
def test_random_patterns_match_what_pythons_do(seed, searches):
    """A JSON Schema's pattern searches; a grammar's is about the whole text."""
    patterns = Patterns(random.Random(seed))
    pattern = patterns.choice()
    truth = re.compile(pattern.replace("$", r"\Z"), re.ASCII)
    try:
        start = schema({"type": "string", "pattern": pattern}) if searches else regex(pattern)
    except (GrammarError, ValueError) as error:
        if "an assertion inside a repetition" in str(error):
            return  # the one thing that is refused
        assert re.search("no text|no JSON", str(error)), pattern
        start = None
    for _ in range(40):
        text = patterns.text()
        if r"\B" in pattern and not text:
            continue  # before 3.14 Python has it wrong
        found = truth.search(text) if searches else truth.fullmatch(text)
        written = f'"{text}"' if searches else text
        taken = start is not None and accepts(start, written)
        assert taken == bool(found), (pattern, text)


@pytest.mark.parametrize(
    "pattern, yes, no",
    [
        (r"(?=.*\d)(?!.*aa)\w{3}", ["a1b", "1ab"], ["aa1", "abc"]),
        (r"a$|b^c|^d", ["a", "d"], ["bc", "ad"]),
        (r"\bfoo\b.*", ["foo", "foo bar"], ["foobar", " foo"]),
        (r"a\B.\Bb", ["axb"], ["a-b"]),
        (r"[]", [], ["", "a"]),
        (r"\u{1F600}é\x41\cJ\t", ["😀éA\n\t"], []),
        (r"(?i)ab|C", ["AB", "c"], ["d"]),
        (r"a{,2}b", ["b", "aab"], ["aaab", "a{,2}b"]),
        (r"\p{Lu}\P{L}", ["A1", "É "], ["aA"]),
        (r"[^\n]*", ["a\r", "서"], ["\n"]),
    ],
)
def test_particular_patterns(pattern, yes, no):
    if pattern == "[]":
        start = schema({"type": "string", "pattern": "^(a|[])$"})
        assert accepts(start, '"a"') and not accepts(start, '""')
        return
    start = regex(pattern)
    assert [each for each in yes if not accepts(start, each)] == []
    assert [each for each in no if accepts(start, each)] == []


@pytest.mark.parametrize("seed", range(12))
def test_masks_equal_brute_force_and_what_is_alive_ends(seed):
    chance = random.Random(seed)
    while True:
        try:
            start = regex(Patterns(chance).choice(0))
            break
        except (GrammarError, ValueError):
            continue
    for place in walks.random_walk(start, chance, 8):
        check_mask(place)
        assert walks.completion(place, "a1_ -é".encode(), 30_000) is not None


@pytest.mark.parametrize(
    "pattern", ["(a+)+b", "([a-z]{1,2000}){1,2000}", "(a|a)*(a|a)*c", "a?" * 9000]
)
def test_hostile_patterns_cost_nothing_special(pattern):
    """Few states, whatever the length of the text."""
    place = regex(pattern)
    mask(place)
    for _ in range(300):
        assert place.advance_bytes(b"a")
    mask(place)


@pytest.mark.parametrize(
    "pattern, offset, message",
    [
        ("(" * 5000 + "a", 201, "groups nested deeper than 200"),
        ("(a+", 1, r"a group without its \)"),
        ("a)", 2, r"an unmatched \)"),
        ("é[", 2, r"a \[ without its \]"),
        ("a" + "*" * 60_000, None, "nothing to repeat"),
        ("*a", 1, "nothing to repeat"),
        ("a" * 100_000, None, "the limit `pattern_length` is 65536"),
        ("a{2,1}", 2, "bounds are out of order"),
        ("a{1,99999999999}", None, "a repetition count that is too large"),
        (r"(a)\1", 4, "a back-reference"),
        ("(?<=a)b", 1, "look-behind"),
        (r"\p{Foo}", None, "unknown Unicode property Foo"),
        (r"\y", None, r"the unknown escape \\y"),
        ("[b-a]", None, "a range whose ends are out of order"),
        (r"(?:^a)*", 1, "an assertion inside a repetition"),
    ],
)
def test_errors_have_a_place(pattern, offset, message):
    with pytest.raises(GrammarError, match=message) as caught:
        regex(pattern)
    if offset is not None:
        assert caught.value.column in (offset, offset + 1)  # bytes; a character may have two


def test_a_pattern_in_a_schema_is_refused_by_its_keyword():
    with pytest.raises(SchemaError) as caught:
        schema({"type": "string", "pattern": r"(a)\1"})
    assert caught.value.keyword == "pattern"
