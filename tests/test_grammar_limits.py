"""Limits of grammars: what is larger is refused by name, with its place."""

from __future__ import annotations

from dataclasses import fields
from functools import cache
from typing import Any

import pytest
from fakes import byte_vocab

from engine.errors import GrammarError, SchemaError, UsageError
from engine.grammar import Grammar, Limits
from engine.vocab import Vocab


@cache
def vocab() -> Vocab:
    return byte_vocab()


def refusal(grammar: Grammar) -> GrammarError:
    with pytest.raises(GrammarError) as caught:
        grammar.constraint(vocab())
    assert "\n" not in caught.value.message
    return caught.value


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(depth):
        schema = {"properties": {"a": schema}}
    return schema


WAYS = {"allOf": [{"anyOf": [{"minimum": i}, {"multipleOf": i + 2}]} for i in range(6)]}
NAMES = {f"p{i}": True for i in range(7)}

OF_SCHEMAS: list[tuple[Any, dict[str, int], str, int]] = [
    ({"title": "x" * 100}, {"source_bytes": 50}, "", 113),
    (nested(3), {"depth": 5}, "/properties/a/properties/a/properties", 6),
    ({"items": {"properties": NAMES}}, {"properties": 6}, "/items/properties", 7),
    ({"required": sorted(NAMES)}, {"properties": 6}, "/required", 7),
    ({"$defs": {"a/b": {"enum": [1, 2, 3]}}}, {"enum_values": 2}, "/$defs/a~1b/enum", 3),
    ({"not": {"pattern": "abcd"}}, {"pattern_length": 3}, "/not/pattern", 4),
    (
        {"patternProperties": {"abcd": True}},
        {"pattern_length": 3},
        "/patternProperties",
        4,
    ),
    ({"properties": {"a": WAYS}}, {"branches": 20}, "/properties/a", 21),
    ({"properties": {"a": WAYS}}, {"steps": 60}, "/properties/a", 61),
]


@pytest.mark.parametrize("schema, limits, pointer, found", OF_SCHEMAS)
def test_a_schema_beyond_a_limit_is_refused_by_pointer_and_option(
    schema: Any, limits: dict[str, int], pointer: str, found: int
) -> None:
    error = refusal(Grammar.from_schema(schema, "s", limits=Limits(**limits)))
    [(option, most)] = limits.items()
    assert isinstance(error, SchemaError)
    assert (error.limit, error.most, error.found) == (option, most, found)
    assert error.pointer == pointer
    assert error.message.startswith("s: ") and f"the limit `{option}` is {most}" in error.message
    Grammar.from_schema(schema).constraint(vocab())


OF_TEXTS: list[tuple[Grammar, str, tuple[int, int]]] = [
    (Grammar.from_lark('start: b\nb: "c"\n\nC: "d"\n', limits=Limits(rules=2)), "rules", (4, 1)),
    (Grammar.from_gbnf('root ::= b\nb ::= "c"\n', limits=Limits(rules=1)), "rules", (2, 1)),
    (
        Grammar.from_lark("start: /ab/ /abcd/\n", limits=Limits(pattern_length=3)),
        "pattern_length",
        (1, 13),
    ),
    (Grammar.from_regex("abcd", limits=Limits(pattern_length=3)), "pattern_length", (1, 4)),
    (Grammar.from_regex("abcd", limits=Limits(source_bytes=2)), "source_bytes", (1, 3)),
    (
        Grammar.from_lark('start: "a"\n// more\n', limits=Limits(source_bytes=12)),
        "source_bytes",
        (2, 2),
    ),
]


@pytest.mark.parametrize("grammar, option, place", OF_TEXTS)
def test_a_text_beyond_a_limit_is_refused_by_line_and_option(
    grammar: Grammar, option: str, place: tuple[int, int]
) -> None:
    error = refusal(grammar)
    assert (error.limit, error.most) == (option, getattr(grammar.limits, option))
    assert (error.line, error.column) == place
    assert error.message.startswith(f"{grammar.name}:{place[0]}:{place[1]}: ")


def test_a_schema_inside_a_text_has_both_places() -> None:
    text = 'start: "a"\n  | %json {"enum": [1, 2, 3]}\n'
    error = refusal(Grammar.from_lark(text, limits=Limits(enum_values=2)))
    assert (error.line, error.pointer, error.limit) == (2, "/enum", "enum_values")


def test_a_schema_too_deep_for_json_is_refused_by_pointer() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(SchemaError) as caught:
        Grammar.from_schema({"const": deep}).constraint(vocab())
    assert caught.value.limit == "depth"
    assert caught.value.pointer == "/const" + "/0" * 255
    while deep:  # so that nothing calls itself to free it
        deep = deep.pop()


@pytest.mark.parametrize("option", [field.name for field in fields(Limits)])
def test_a_limit_is_a_whole_number_above_0(option: str) -> None:
    for value in (0, -1, 1.5, True, None):
        with pytest.raises(UsageError, match=option):
            Limits(**{option: value})  # type: ignore[arg-type]


def test_a_depth_that_the_compiler_cannot_go_is_no_limit() -> None:
    with pytest.raises(UsageError, match="at most 1000"):
        Limits(depth=1001)


@pytest.mark.parametrize("pattern, text", [("(a+)+b", "aaab"), ("([a-z]{1,2000}){1,2000}", "xyz")])
def test_repetitions_of_repetitions_cost_nothing_special(pattern: str, text: str) -> None:
    limits = Limits(steps=1000)
    for grammar, quote in (
        (Grammar.from_regex(pattern, limits=limits), ""),
        (Grammar.from_schema({"type": "string", "pattern": f"^{pattern}$"}, limits=limits), '"'),
    ):
        matcher = grammar.constraint(vocab())
        for byte in f"{quote}{text}{quote}".encode():
            assert matcher.mask()[byte >> 5] >> (byte & 31) & 1
            matcher.advance(byte)
        assert matcher.is_accepting
