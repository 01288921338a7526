"""The matcher: what is taken back, forked, forgotten and shared leaves no trace."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator

import numpy as np
import pytest
import walks
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from walks import END, VOCAB, check_mask, lark, mask, regex, schema

from engine import _native, gguf
from engine.constraint import Terminals
from engine.grammar import Grammar, native
from engine.grammar.native import compiled, vocabulary
from engine.vocab import Vocab

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 4, "pattern": "^[^1]*$"},
        "age": {"type": "integer", "minimum": 0, "maximum": 130},
        "tags": {"type": "array", "items": {"enum": ["a", "ab", 1, None]}, "maxItems": 2},
    },
    "required": ["name"],
    "additionalProperties": False,
}
CALLS = (
    'start: (call | text)* <|im_end|>\ntext: /[^{]/\ncall: "{" name ":" args "}"\n'
    'name[capture]: /[a-z]{1,5}/\nargs[capture]: %json {"type": ["object", "number"]}\n'
)
GRAMMARS = [
    Grammar.from_schema(PERSON),
    Grammar.from_schema(PERSON, any_order=True, whitespace="flexible", escapes="any"),
    Grammar.from_schema(True),
    Grammar.from_lark(CALLS),
    Grammar.from_lark('start: start /[-+]/ term | term\nterm: "(" start ")" | /[a1]+/\n'),
    Grammar.from_lark('start: w+\nw[capture, suffix="ab"]: /(?s:.){0,6}/\n'),
    Grammar.from_regex(r"(?=.*1)(?!.*ba)[ab1 ]{3,9}\.?"),
]


@pytest.mark.parametrize("grammar", GRAMMARS)
def test_masks_equal_brute_force(grammar):
    for seed in range(3):
        for place in walks.random_walk(walks.matcher(grammar), random.Random(seed), 20):
            assert check_mask(place) or place.is_done


def test_masks_equal_brute_force_over_128_thousand_tokens(shared_data):
    vocab = Vocab.from_header(gguf.read_header(shared_data / "vocab" / "llama-bpe.gguf"))
    chance = random.Random(5)
    for grammar in GRAMMARS[:3]:
        walk = walks.matcher(grammar, vocab)
        for place in walks.random_walk(walk, chance, 4, vocab):
            check_mask(place, vocab)


class Walk(RuleBasedStateMachine):
    """A matcher against the list of what it took: every state is one that a fresh one reaches."""

    grammar: Grammar

    @initialize(which=st.sampled_from(GRAMMARS))
    def begin(self, which: Grammar) -> None:
        self.grammar = which
        self.place = walks.matcher(which)
        self.taken: list[int | bytes] = []
        self.forks: list[tuple[_native.Matcher, list[int | bytes]]] = []

    def again(self) -> _native.Matcher:
        fresh = walks.matcher(self.grammar)
        for each in self.taken:
            assert fresh.advance(each) if isinstance(each, int) else fresh.advance_bytes(each)
        return fresh

    @rule(pick=st.randoms(use_true_random=False))
    def advance(self, pick: random.Random) -> None:
        allowed = sorted(mask(self.place))
        if allowed:
            token = pick.choice(allowed)
            assert self.place.allows(token) and self.place.advance(token)
            self.taken.append(token)
        else:
            assert self.place.is_done

    @rule(data=st.binary(max_size=3) | st.sampled_from([b"a", b"1", b'"', b"{", b"}", b"ab"]))
    def advance_bytes(self, data: bytes) -> None:
        before = mask(self.place), self.place.captures()
        if self.place.advance_bytes(data):
            self.taken.append(data)
        else:
            assert (mask(self.place), self.place.captures()) == before

    @rule(token=st.integers(-2, VOCAB.n_vocab + 1))
    def advance_any(self, token: int) -> None:
        allowed = self.place.allows(token)
        assert self.place.advance(token) == allowed
        if allowed:
            self.taken.append(token)

    @precondition(lambda self: self.taken)
    @rule(pick=st.randoms(use_true_random=False))
    def rewind(self, pick: random.Random) -> None:
        count = pick.randint(1, len(self.taken))
        self.place.rewind(count)
        del self.taken[-count:]

    @rule()
    def fork(self) -> None:
        self.forks.append((self.place.fork(), list(self.taken)))

    @precondition(lambda self: self.forks)
    @rule()
    def swap(self) -> None:
        fork, taken = self.forks.pop()
        self.forks.append((self.place, self.taken))
        self.place, self.taken = fork, taken

    @rule()
    def ask(self) -> None:
        """Questions change nothing, and have the answers of a matcher that comes straight here."""
        fresh = self.again()
        assert len(self.place) == len(self.taken)
        assert self.place.captures() == fresh.captures()
        assert self.place.progress() == fresh.progress()
        assert self.place.forced(20) == fresh.forced(20)
        assert self.place.is_done == fresh.is_done
        assert self.place.is_accepting == fresh.is_accepting
        assert self.place.first_bytes() == fresh.first_bytes()
        assert self.place.allowed_summary() == fresh.allowed_summary()
        assert mask(self.place) == mask(fresh)


Walk.TestCase.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
TestWalk = Walk.TestCase


def test_more_cannot_be_taken_back_than_was_taken():
    place = regex("a+")
    place.advance_bytes(b"aa")
    with pytest.raises(IndexError):
        place.rewind(2)
    place.rewind(1)
    assert mask(place) == mask(regex("a+"))


def test_an_end_token_ends_and_is_taken_back():
    place = regex("a+")
    assert not place.allows(END) and place.advance_bytes(b"a") and place.advance(END)
    assert place.is_done and mask(place) == frozenset() and not place.advance_bytes(b"a")
    place.rewind(1)
    assert mask(place) == {ord("a"), END} and not place.is_done


def test_a_mask_of_another_size_is_refused():
    with pytest.raises(ValueError, match="words"):
        regex("a").mask(np.zeros(3, dtype=np.uint32))


def built() -> Iterator[_native.Grammar]:
    ready = vocabulary(VOCAB, Terminals.of(VOCAB))
    while True:
        yield _native.Grammar(ready)


def test_a_grammar_that_no_text_matches_or_that_is_not_whole_is_refused():
    grammars = built()
    dead = next(grammars)
    rule_ = dead.declare()
    dead.define(rule_, dead.sequence([dead.word(dead.literal(b"x")), dead.rule(rule_)]))
    with pytest.raises(ValueError, match="no text matches"):
        dead.finish(dead.rule(rule_))
    with pytest.raises(ValueError, match="not finished"):
        _native.Matcher(next(grammars))
    for node in (99, 0):
        broken = next(grammars)
        broken.choice([77])
        with pytest.raises(ValueError, match="isn't there"):
            broken.finish(node)
    with pytest.raises(ValueError, match="not declared"):
        next(grammars).define(3, 0)


def fresh(grammar: Grammar, **limits: int) -> _native.Grammar:
    """A compiled grammar of its own, which no other test has warmed."""
    made = next(built())
    made.finish(made.schema(grammar.source))
    for name, value in limits.items():
        setattr(made, name, value)
    return made


def test_bounded_memory_forgets_and_finds_the_same_masks_again():
    """Two matchers over one grammar, whose limit is just above what one walk needs."""
    free = fresh(GRAMMARS[0])
    bounded = fresh(GRAMMARS[0])
    chance = random.Random(7)
    trace = []
    truth = _native.Matcher(free)
    for place in walks.random_walk(truth, chance, 15):
        trace.append((mask(place), place.captures(), place.forced(30)))
    one, other = _native.Matcher(bounded), _native.Matcher(bounded)
    least = bounded.memory_bytes
    walk = walks.random_walk(_native.Matcher(free), random.Random(7), 15)
    tokens = [set(mask(place)) for place in walk]
    assert tokens == [each[0] for each in trace]
    forgotten = 0
    for step in range(len(trace)):
        for place in (one, other):
            bounded.memory_limit = least + 40_000 if step % 2 else 1 << 28
            before = bounded.memory_bytes
            assert (mask(place), place.captures(), place.forced(30)) == trace[step]
            forgotten += bounded.memory_bytes < before
        bounded.memory_limit = 1 << 28
        if step + 1 < len(trace):
            token = next(
                token
                for token in sorted(trace[step][0])
                if (twin := _taken(one, token)) and mask(twin) == trace[step + 1][0]
            )
            assert one.advance(token) and other.advance(token)
    assert forgotten > 0


def masks_on_walk(made: _native.Grammar) -> list[frozenset[int]]:
    return [mask(each) for each in walks.random_walk(_native.Matcher(made), random.Random(3), 25)]


def test_a_grammar_finds_the_masks_of_words_that_another_has_left():
    """What the vocabulary keeps doesn't grow with it, and no mask tells whether it was there."""
    ready = vocabulary(VOCAB, Terminals.of(VOCAB))
    ready.forget()
    empty = ready.memory_bytes
    first = masks_on_walk(fresh(GRAMMARS[0]))
    filled = ready.memory_bytes
    assert filled > empty
    assert masks_on_walk(fresh(GRAMMARS[0])) == first
    assert ready.memory_bytes == filled
    ready.forget()
    assert ready.memory_bytes == empty
    assert masks_on_walk(fresh(GRAMMARS[0])) == first


def test_masks_of_words_are_right_behind_any_other_grammar():
    """The same words with other things behind them, in grammars that follow each other."""
    word = {"type": "string", "pattern": "^a?b", "maxLength": 3}
    schemas = [
        {"type": "array", "items": word},
        {"type": "object", "additionalProperties": word},
        {"type": "object", "properties": {"ab": word}},
        {"type": "object", "properties": {"ba": word, "ab": word}, "minProperties": 2},
        {"enum": ["ab", "abc", ["ab"]]},
        {"enum": ["ab", "abd", ["ab"]]},
        {"type": ["string", "array"], "items": word, "uniqueItems": True},
    ]
    vocabulary(VOCAB, Terminals.of(VOCAB)).forget()
    for each in schemas + schemas[::-1]:
        for seed in range(2):
            walk = walks.schema(each, whitespace="flexible", any_order=True)
            for place in walks.random_walk(walk, random.Random(seed), 15):
                assert check_mask(place) or place.is_done


KEYED = [
    {
        "properties": {"a": {}, "ab": {}, "abc": {}, "ba": {}, 'a"': {}},
        "additionalProperties": False,
    },
    {"properties": {"a": {}, "ab": {}, "ba": {}, "서": {}}, "required": ["ab"], "maxProperties": 2},
    {"properties": {"ab": {"type": "null"}}, "patternProperties": {"ab": {}, "^b": {"enum": [1]}}},
    {"patternProperties": {"ab": {}, "ba": {"type": "null"}, "c": False, "울": {"const": 1}}},
    {
        "anyOf": [
            {"properties": {"ab": {}, "aab": {}}, "additionalProperties": False},
            {"properties": {"ab": {}, "ba": {}}, "additionalProperties": False, "minProperties": 2},
        ]
    },
    {"items": {"properties": {"ab": {}, "abc": {}}}, "type": ["array", "object"]},
]


@pytest.mark.parametrize("source", KEYED, ids=range(len(KEYED)))
def test_masks_of_keys_equal_brute_force_whatever_keys_came_before(source):
    start = {"type": "object"} | source
    for seed in range(12):
        begun = walks.schema(start, any_order=True, whitespace="flexible", escapes="any")
        assert begun.advance_bytes(b"[{" if seed % 2 and "items" in source else b"{")
        for place in walks.random_walk(begun, random.Random(seed), 25):
            assert check_mask(place) or place.is_done


@pytest.mark.parametrize("whitespace", ["flexible", "compact", "json.dumps"])
def test_empty_containers_may_be_spaced_as_others_are(whitespace):
    start = walks.schema({"type": ["array", "object"]}, whitespace=whitespace)
    for opening, closing in ((b"[", b"]"), (b"{", b"}")):
        place = start.fork()
        assert place.advance_bytes(opening)
        check_mask(place)
        assert place.fork().advance_bytes(closing)
        assert place.fork().advance_bytes(b" \n \t" + closing) is (whitespace == "flexible")


def _taken(place: _native.Matcher, token: int) -> _native.Matcher:
    twin = place.fork()
    assert twin.advance(token)
    return twin


def test_matchers_in_threads_find_what_one_alone_finds():
    """Over one grammar, cold, with so little memory that they keep making each other forget."""
    walked = []
    for seed in range(4):
        place = _native.Matcher(fresh(GRAMMARS[0]))
        steps = [
            (mask(each), each.is_accepting)
            for each in walks.random_walk(place, random.Random(seed), 25)
        ]
        walked.append(steps)
    shared = fresh(GRAMMARS[0])
    shared.memory_limit = shared.memory_bytes + 300_000
    found: list[list[tuple[frozenset[int], bool]]] = [[] for _ in range(4)]

    def work(seed: int) -> None:
        for place in walks.random_walk(_native.Matcher(shared), random.Random(seed), 25):
            found[seed].append((mask(place), place.is_accepting))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == walked


@pytest.mark.parametrize(
    "grammar, read, words",
    [
        (Grammar.from_schema(PERSON), "", '\'{"name": "\''),
        (Grammar.from_schema(PERSON), '{"name": "a"', "', \"' or '}'"),
        (Grammar.from_schema(PERSON), '{"name": "a", "', "'age\": ' or 'tags\": ['"),
        (Grammar.from_schema(PERSON), '{"name": "a", "age": ', "a number"),
        (Grammar.from_schema({"enum": ["a", 1, None]}), "", "'\"a\"', '1' or 'null'"),
        (Grammar.from_schema({"type": "string"}), "", "a string"),
        (Grammar.from_schema({"type": "string"}), '"', "'\"', '\\\\' or any text"),
        (Grammar.from_regex("[0-9a-f]{2}"), "", "one of [0-9a-f]"),
        (Grammar.from_regex("get_(weather|time)|play"), "", "'get_' or 'play'"),
        (Grammar.from_regex("get_(weather|time)|play"), "get_", "'time' or 'weather'"),
        (Grammar.from_regex("서울|부산"), "", "'부산' or '서울'"),
        (Grammar.from_regex("a+\n"), "a", "'\\n' or 'a'"),
        (Grammar.from_regex("a+"), "a", "'a' or the end"),
        (Grammar.from_regex("[é-ü]"), "", "a character beyond ASCII"),
        (Grammar.from_regex("a"), "a", "the end"),
        (
            Grammar.from_lark('start: <|im_start|> | "a"\n'),
            "",
            f"<[{VOCAB.find('<|im_start|>')}]> or 'a'",
        ),
    ],
)
def test_what_may_come_next_in_words(grammar, read, words):
    walk = walks.matcher(grammar)
    assert walk.advance_bytes(read.encode())
    assert walk.allowed_summary() == words


def test_a_refused_token_is_explained_by_the_byte_it_dies_at():
    place = schema(PERSON)
    place.advance_bytes(b'{"name": "')
    behind = place_after(place, b'"}').first_bytes()
    assert place.explain(VOCAB.find('"}')) == (2, behind, "the end")
    taken, allowed, words = place.explain(VOCAB.find("1."))
    assert taken == 0 and ord("1") not in allowed and ord("a") in allowed
    assert place.explain(-1) == (0, allowed, words) == place.explain(10**6)


def place_after(place: _native.Matcher, data: bytes) -> _native.Matcher:
    twin = place.fork()
    assert twin.advance_bytes(data)
    return twin


@pytest.mark.parametrize(
    "text, yes, no",
    [
        (r'{"const": "\ud83d\ude00\ud800\u0041"}', ['"😀\ufffdA"'], ['"😀\ufffd"']),
        ('{"const": {"a": 1, "a": 3}}', ['{"a": 3}'], ['{"a": 1}']),
        ('{"const": 1, "const": 2}', ["2"], ["1"]),
    ],
)
def test_json_with_half_pairs_and_equal_keys(text, yes, no):
    grammar = next(built())
    grammar.finish(grammar.schema(text))
    start = _native.Matcher(grammar)
    read = [each.replace(": ", ":").replace(", ", ",") for each in yes + no]
    assert [walks.accepts(start, each) for each in read] == [True] * len(yes) + [False] * len(no)


UNCOMPLETABLE = [
    ({"additionalProperties": False, "minProperties": 4}, "{"),
    (
        {
            "anyOf": [
                {"not": {"patternProperties": {"a": True}}, "required": ["name"]},
                {"type": ["number", "array"]},
            ]
        },
        "{",
    ),
    (
        {
            "patternProperties": {"^^": {"allOf": [{"pattern": "b"}, {"not": True}]}},
            "required": ["name"],
        },
        "{",
    ),
    (
        {
            "properties": {"a": True, "b": {"not": {}}},
            "dependentRequired": {"a": ["b"]},
            "additionalProperties": False,
            "minProperties": 1,
        },
        "{",
    ),
    ({"prefixItems": [True, {"not": {}}], "minItems": 2}, "["),
    ({"items": {"type": "number"}, "contains": {"type": "string"}}, "["),
    ({"items": {"const": 1}, "contains": {"const": 1}, "maxContains": 1, "minItems": 2}, "["),
    (
        {
            "allOf": [
                {"contains": {"const": 1}, "maxContains": 1},
                {"contains": {"const": 1}, "minContains": 2},
            ]
        },
        "[",
    ),
    (
        {
            "$ref": "#/$defs/a",
            "$defs": {
                "a": {"items": {"$ref": "#/$defs/b"}, "minItems": 1},
                "b": {"type": "array", "items": {"$ref": "#/$defs/b"}, "minItems": 1},
            },
        },
        "[",
    ),
]


@pytest.mark.parametrize("source, opening", UNCOMPLETABLE)
def test_a_container_that_nothing_can_complete_is_never_begun(source, opening):
    """Scalars may come, and the other container."""
    start = schema(source)
    first = {bytes(VOCAB.tokens[token][:1]) for token in check_mask(start)}
    assert opening.encode() not in first
    assert {b"1", {"{": b"[", "[": b"{"}[opening]} <= first
    items = {key: value for key, value in source.items() if key != "$defs"}
    inside = schema({"items": items, "$defs": source.get("$defs", {})})
    assert inside.advance_bytes(b"[")
    assert opening.encode() not in {bytes(VOCAB.tokens[t][:1]) for t in check_mask(inside)}


def test_an_item_is_only_announced_where_one_may_come():
    """All that may count have come, and every item counts."""
    source = {"items": {"const": 1}, "contains": {"const": 1}, "maxContains": 2}
    walk = schema(source)
    assert walk.advance_bytes(b"[1, 1")
    assert {bytes(VOCAB.tokens[token]) for token in check_mask(walk)} == {b"]"}


def test_a_token_may_be_meant_by_its_id_and_as_text():
    """Both readings go on, until what follows tells which it was."""
    (a,) = (i for i in range(256) if VOCAB.tokens[i] == b"a")
    start = lark(f'start: <[{a}]> "x" | "ab" | kept\nkept[capture]: <[{a}]> "y"\n')
    assert check_mask(start) == {a, VOCAB.find("ab")}
    assert start.advance(a)
    assert set(start.first_bytes()) == set(b"xby")
    for rest, captures in (b"x", []), (b"b", []), (b"y", [("kept", b"ay")]):
        walk = start.fork()
        assert walk.advance_bytes(rest) and walk.is_accepting
        assert walk.advance(END) and walk.captures() == captures
    assert walk.rewind(2) is None and set(walk.first_bytes()) == set(b"xby")


def test_schemas_may_refer_to_each_other_deeper_than_the_stack_is():
    """In a thread with a megabyte of it: whether any value is valid is no recursion."""
    definitions: dict[str, object] = {"d5000": {"const": 1}}
    for i in range(5000):
        inner = {"properties": {"a": {"$ref": f"#/$defs/d{i + 1}"}}, "required": ["a"]}
        definitions[f"d{i}"] = {"type": "object", **inner}
    found = []

    def work() -> None:
        found.append(bytes(schema({"$ref": "#/$defs/d0", "$defs": definitions}).first_bytes()))

    usual = threading.stack_size(1 << 20)
    try:
        thread = threading.Thread(target=work)
        thread.start()
    finally:
        threading.stack_size(usual)
    thread.join()
    assert found == [b"{"]


def test_grammars_beyond_the_room_are_forgotten_the_least_recently_used_first(monkeypatch):
    """What stays compiled is bounded; a grammar that is used again counts as new."""
    made = [Grammar.from_regex(f"room{n}") for n in range(3)]
    ends = Terminals.of(VOCAB)
    first, second = (compiled(grammar, VOCAB, ends) for grammar in made[:2])
    assert compiled(made[0], VOCAB, ends) is first
    monkeypatch.setattr(native, "MAX_GRAMMARS", 2)
    third = compiled(made[2], VOCAB, ends)
    assert compiled(made[2], VOCAB, ends) is third
    assert compiled(made[0], VOCAB, ends) is first
    assert compiled(made[1], VOCAB, ends) is not second
    again = compiled(made[0], VOCAB, ends)
    monkeypatch.setattr(native, "MAX_GRAMMARS", 256)
    monkeypatch.setattr(native, "MAX_BYTES", 1)
    last = compiled(Grammar.from_regex("room3"), VOCAB, ends)  # the latest always has room
    assert compiled(Grammar.from_regex("room3"), VOCAB, ends) is last
    assert compiled(made[0], VOCAB, ends) is not again
