"""JSON Schema keywords: what is valid can be generated, what isn't can't, the rest is refused."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
import walks
from fakes import byte_vocab

from engine import Grammar
from engine.errors import GrammarError, SchemaError
from engine.vocab import Vocab

FREE = {"any_order": True, "escapes": "any", "whitespace": "flexible"}


@cache
def vocab() -> Vocab:
    return byte_vocab()


def accepts(schema: Any, text: str, **options: Any) -> bool:
    matcher = Grammar.from_schema(schema, **options).constraint(vocab())
    try:
        for byte in text.encode():
            matcher.advance(byte)
    except GrammarError:
        return False
    return matcher.is_accepting


def valid(schema: Any, value: Any) -> bool:
    return accepts(schema, json.dumps(value, ensure_ascii=False), **FREE)


def shape(key: str, *more: str) -> dict[str, Any]:
    return {"type": "object", "properties": {"k": {"const": key}}, "required": ["k", *more]}


NAMES = {f"p{i}": {"type": "integer"} for i in range(300)}
TREE = {
    "type": "object",
    "properties": {"v": {"type": "number"}, "c": {"items": {"$ref": "#"}, "type": "array"}},
    "required": ["v"],
}
LIST_OF = {
    "$id": "https://example.com/strings",
    "$ref": "list",
    "$defs": {
        "item": {"$dynamicAnchor": "item", "type": "string"},
        "list": {
            "$id": "list",
            "type": "array",
            "items": {"$dynamicRef": "#item"},
            "$defs": {"any": {"$dynamicAnchor": "item"}},
        },
    },
}

CASES: list[tuple[Any, list[Any], list[Any]]] = [
    ({"type": "integer"}, [1, -3, 1.0], [1.5, "1", None]),
    ({"type": ["string", "null"]}, ["", None], [1, False]),
    ({"minimum": -1.5, "exclusiveMaximum": 10}, [-1.5, 9.99, "x"], [-1.51, 10, 11]),
    ({"multipleOf": 0.01}, [0, 19.99, -3], [19.999]),
    ({"minLength": 2, "maxLength": 3, "type": "string"}, ["ab", "äöü"], ["a", "abcd"]),
    ({"pattern": "^a+$", "type": "string"}, ["a", "aaa"], ["", "ab"]),
    ({"pattern": "^\\p{Lu}$", "type": "string"}, ["A", "Ä"], ["a", "AB"]),
    ({"format": "date", "type": "string"}, ["2024-02-29"], ["2023-02-29", "x"]),
    ({"format": "hostname", "type": "string"}, ["a.b-c.d"], ["-a", "a" * 64]),
    ({"format": "regex", "type": "string"}, ["^(a|b)*[x-z]{2,3}$"], ["*", "(", "[z-a]", "a{3,2}"]),
    ({"enum": ["a", 1, [2], {"b": 3}]}, ["a", 1.0, [2], {"b": 3}], ["b", 2, [], [2, 2]]),
    ({"const": {"a": 1, "b": [1]}}, [{"b": [1], "a": 1}], [{"a": 1}, {"a": 1, "b": [2]}]),
    ({"prefixItems": [{"const": 1}], "items": {"type": "string"}}, [[], [1, "a"]], [[2], [1, 1]]),
    ({"minItems": 1, "maxItems": 2, "type": "array"}, [[1], [1, 2]], [[], [1, 2, 3]]),
    ({"contains": {"const": 1}, "maxContains": 2}, [[1], [0, 1, 1]], [[], [0], [1, 1, 1]]),
    ({"additionalProperties": False, "properties": {"a": True}}, [{}, {"a": 1}], [{"b": 1}]),
    ({"patternProperties": {"^x": {"type": "null"}}}, [{"x": None, "y": 1}], [{"xy": 1}]),
    ({"propertyNames": {"maxLength": 2}}, [{"ab": 1}], [{"abc": 1}]),
    ({"minProperties": 1, "maxProperties": 2}, [{"a": 1}], [{}, {"a": 1, "b": 1, "c": 1}]),
    ({"dependentRequired": {"a": ["b"]}}, [{}, {"b": 1}, {"b": 1, "a": 1}], [{"a": 1}]),
    ({"dependentSchemas": {"a": {"minProperties": 2}}}, [{"b": 1}], [{"a": 1}]),
    ({"not": {"type": ["array", "integer"]}}, ["a", 1.5, {}], [1, []]),
    ({"not": {"properties": {"a": {"const": 1}}, "required": ["a"]}}, [{}, {"a": 2}], [{"a": 1}]),
    ({"anyOf": [{"minimum": 5}, {"type": "string"}]}, [5, "a"], [4]),
    ({"oneOf": [{"minimum": 5}, {"maximum": 7}]}, [4, 8], [5, 6, 7]),
    (
        {"anyOf": [{"pattern": "^a"}, {"pattern": "z$"}, {"minLength": 4}], "type": "string"},
        ["ab", "xz", "bbbb"],
        ["bb", "", 1],
    ),
    (
        {"oneOf": [{"pattern": "^a"}, {"pattern": "z$"}, {"type": ["null", "integer"]}]},
        ["ab", "bz"],
        ["az", "bb", None, 1, 1.5],
    ),
    (
        {"oneOf": [{"type": "string", "pattern": "^a"}, {"type": "string", "pattern": "z$"},
                   {"type": ["null", "boolean"]}]},
        ["ab", "bz", None, True],
        ["az", "bb", 1],
    ),
    (
        {"not": {"allOf": [{"type": "string"}, {"pattern": "a"}, {"not": {"enum": ["ab", "b"]}}]}},
        [1, None, "b", "ab", "xyz", {}],
        ["ba", "a"],
    ),
    (
        {"if": {"pattern": "^a"}, "then": {"maxLength": 2}, "else": {"minLength": 3},
         "type": "string"},
        ["ab", "bcd"],
        ["abc", "bc", 1],
    ),
    (
        {"propertyNames": {"anyOf": [{"pattern": "^a"}, {"maxLength": 1}]}},
        [{"ab": 1, "b": 1}],
        [{"bb": 1}],
    ),
    (
        {"anyOf": [{"type": "string", "pattern": "^a"}, {"type": "object", "required": ["k"]},
                   {"type": ["string", "null"], "maxLength": 1}]},
        ["ab", "b", None, {"k": 1}],
        ["bb", {}, 1],
    ),
    (
        {"allOf": [{"anyOf": [{"pattern": "^a"}, {"pattern": "^b"}, {"pattern": "^c"}]},
                   {"anyOf": [{"not": {"pattern": "^[ab]"}}, {"pattern": "x$"}]},
                   {"anyOf": [{"not": {"pattern": "x$"}}, {"pattern": "11"}]},
                   {"minLength": 3}, {"maxLength": 5}], "type": "string"},
        ["c22", "a11x", "cxy"],
        ["a22", "d22", "a22x", "c2", "c22x", "a1111x"],
    ),
    ({"oneOf": [shape("a", "x"), shape("b")]}, [{"k": "a", "x": 1}, {"k": "b"}], [{"k": "a"}]),
    ({"oneOf": [{"const": "a"}, {"const": "b"}, {"enum": ["b", "c"]}]}, ["a", "c"], ["b", "d"]),
    (
        {"if": {"properties": {"a": {"const": 1}}, "required": ["a"]}, "then": {"required": ["b"]}},
        [{}, {"a": 2}, {"a": 1, "b": 0}],
        [{"a": 1}],
    ),
    (
        {"properties": {"a": True}, "anyOf": [{"properties": {"b": {"const": 1}}}, True],
         "unevaluatedProperties": False},
        [{"a": 1, "b": 1}],
        [{"b": 2}, {"c": 1}],
    ),
    (
        {"prefixItems": [True], "contains": {"type": "string"}, "unevaluatedItems": False},
        [[1, "a", "b"]],
        [[1, 2], [1, "a", 2]],
    ),
    ({"type": "array", "items": {"type": "string"}, "uniqueItems": True},
     [[], ["a", "ab", "b"]], [["a", "a"], ["a", "b", "a"]]),
    ({"items": {"enum": [1, 2, "x"]}, "uniqueItems": True, "minItems": 2},
     [[1, "x", 2]], [[1], [1, 1.0]]),
    ({"items": {"type": ["number", "boolean", "null"]}, "uniqueItems": True},
     [[None, True, False, 1, 10]], [[None, None], [1.5, 1.50, 2], [0, 1e0, 1]]),
    (LIST_OF, [["a"], []], [[1]]),
    (TREE, [{"v": 1, "c": [{"v": 2, "c": []}]}], [{"v": 1, "c": [{"c": []}]}]),
    (
        {"not": {"propertyNames": {"not": {"pattern": "a"}}}, "maxProperties": 1,
         "allOf": [{"not": {"propertyNames": {"not": {"pattern": "b"}}}}]},
        [{"ab": 1}],
        [{}, {"a": 1}, {"a": 1, "b": 1}],
    ),
]  # fmt: skip


@pytest.mark.parametrize("schema, good, bad", CASES)
def test_what_is_valid_matches_and_nothing_else(
    schema: Any, good: list[Any], bad: list[Any]
) -> None:
    assert [value for value in good if not valid(schema, value)] == []
    assert [value for value in bad if valid(schema, value)] == []


REFUSED: list[tuple[Any, str, str | None]] = [
    ({"properties": {"a": {"type": "strin"}}}, "/properties/a", "type"),
    ({"items": {"pattern": "(a"}}, "/items", "pattern"),
    ({"properties": {"a/b": {"minLength": -1}}}, "/properties/a~1b", "minLength"),
    ({"properties": ["a"]}, "", "properties"),
    ({"anyOf": {"a": True}}, "", "anyOf"),
    ({"required": "a"}, "", "required"),
    ({"enum": "a"}, "", "enum"),
    ({"items": 5}, "/items", None),
    ({"multipleOf": 0}, "", "multipleOf"),
    ({"$ref": "#/$defs/no"}, "", "$ref"),
    ({"$ref": "https://example.com/other.json"}, "", "$ref"),
    ({"$ref": "#"}, "", None),
    ({"anyOf": [{"$ref": "#"}, {"type": "integer"}]}, "", None),
    ({"not": {}}, "", None),
    ({"type": "array", "uniqueItems": True, "items": {"type": "object"}}, "", "uniqueItems"),
    ({"items": {"enum": [1, 2]}, "uniqueItems": True, "minItems": 3}, "", "uniqueItems"),
    ({"allOf": [{"not": {"unevaluatedItems": False}}]}, "/allOf/0/not", "unevaluatedItems"),
]


@pytest.mark.parametrize("schema, pointer, keyword", REFUSED)
def test_what_cannot_be_enforced_is_refused_by_place_and_keyword(
    schema: Any, pointer: str, keyword: str | None
) -> None:
    with pytest.raises(SchemaError) as caught:
        Grammar.from_schema(schema, name="t").constraint(vocab())
    assert (caught.value.pointer, caught.value.keyword) == (pointer, keyword)
    assert caught.value.message.startswith("t: ")


def test_best_effort_weakens_instead_of_refusing() -> None:
    schema = {"type": "array", "items": {"type": "object"}, "uniqueItems": True, "maxItems": 2}
    assert accepts(schema, "[{}, {}]", best_effort=True)
    assert not accepts(schema, "[{}, {}, {}]", best_effort=True)


@pytest.mark.parametrize(
    "schema",
    [
        {"const": {"a": 3, "b": {"d": 1, "c": 2}}},
        {"enum": [{"a": 3, "b": {"d": 1, "c": 2}}, {"b": 1, "a": 2}]},
    ],
)
def test_a_constant_is_written_in_its_own_order(schema: Any) -> None:
    assert accepts(schema, '{"a": 3, "b": {"d": 1, "c": 2}}')
    assert not accepts(schema, '{"b": {"d": 1, "c": 2}, "a": 3}')
    assert accepts(schema, '{"b": {"c": 2, "d": 1}, "a": 3}', any_order=True)


@pytest.mark.parametrize(
    "schema",
    [
        {"allOf": [{"properties": {"a": True}}, {"properties": {"b": True}}]},
        {"required": ["a", "b"]},
        {"properties": {"a": True}, "$ref": "#/$defs/b", "$defs": {"b": {"required": ["b"]}}},
        {"anyOf": [{"required": ["a", "b"]}, {"required": ["c"], "minProperties": 2}]},
    ],
)
def test_names_stand_in_the_order_in_which_a_schema_has_them(schema: Any) -> None:
    assert accepts({"type": "object", **schema}, '{"a": 1, "b": 2}')
    assert not accepts({"type": "object", **schema}, '{"b": 2, "a": 1}')


def test_properties_come_in_the_schemas_order_unless_any_order() -> None:
    schema = {"properties": {"a": True, "b": True}, "type": "object"}
    assert accepts(schema, '{"a": 1, "b": 2, "c": 3}')
    assert not accepts(schema, '{"b": 2, "a": 1}')
    assert accepts(schema, '{"b": 2, "c": 3, "a": 1}', any_order=True)
    assert not accepts(schema, '{"a": 1, "a": 2}', any_order=True)


@pytest.mark.parametrize(
    "whitespace, text",
    [
        ("compact", '{"a":[1,2]}'),
        ("json.dumps", '{"a": [1, 2]}'),
        ("flexible", '{ "a"\n:[1 ,2]\t}'),
    ],
)
def test_whitespace_is_as_asked(whitespace: str, text: str) -> None:
    schema = {"properties": {"a": {"type": "array"}}, "type": "object"}
    assert accepts(schema, text, whitespace=whitespace)
    others = {"compact", "json.dumps"} - {whitespace}
    assert not any(accepts(schema, text, whitespace=other) for other in others)


def test_escapes_are_only_those_needed_unless_any() -> None:
    assert not accepts({"const": "a"}, '"\\u0061"')
    assert accepts({"const": "a"}, '"\\u0061"', escapes="any")
    assert accepts({"type": "string"}, '"\\n\\u0001\\""')
    assert not accepts({"type": "string"}, '"\n"', escapes="any")


def test_equal_items_are_equal_in_any_spelling() -> None:
    schema = {"type": "array", "items": {"type": "string"}, "uniqueItems": True}
    assert accepts(schema, '["a", "\\u0062"]', escapes="any")
    assert not accepts(schema, '["a", "\\u0061"]', escapes="any")


LARGE: list[tuple[Any, Any, Any]] = [
    ({"enum": [f"word {i}" for i in range(10_000)]}, "word 9999", "word x"),
    ({"type": "string", "maxLength": 100_000}, "a" * 2000, 1),
    ({"oneOf": [{"const": f"v{i}"} for i in range(500)]}, "v7", "v"),
    ({"oneOf": [shape(f"v{i}") for i in range(60)]}, {"k": "v3"}, {"k": "z"}),
    (
        {"properties": NAMES, "required": ["p0", "p299"], "additionalProperties": False},
        {"p299": 1, "p7": 7, "p0": 0},
        {"p0": 0, "p1": 1},
    ),
    (
        {"$ref": "#/$defs/d0", "$defs": {
            **{f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}]} for i in range(1000)},
            "d1000": {"type": "integer"}}},
        1,
        "a",
    ),
]  # fmt: skip


@pytest.mark.parametrize("schema, good, bad", LARGE)
def test_large_schemas_work(schema: Any, good: Any, bad: Any) -> None:
    assert valid(schema, good)
    assert not valid(schema, bad)


def test_recursion_may_go_deep() -> None:
    schema = {"type": "object", "properties": {"c": {"$ref": "#"}}, "additionalProperties": False}
    text = '{"c": ' * 200 + "{}" + "}" * 200
    assert accepts(schema, text)
    assert not accepts(schema, text[:-1])


@pytest.mark.parametrize(
    "schema",
    [
        {"allOf": [{"anyOf": [{"multipleOf": 9 * i + j + 2} for j in range(9)]} for i in range(9)]},
        {"pattern": "a" * 70_000},
        {"patternProperties": {f"{i}.*{i}": True for i in range(9)}, "minProperties": 1},
    ],
)
def test_what_is_too_complex_is_an_error_with_a_type(schema: Any) -> None:
    with pytest.raises(SchemaError):
        Grammar.from_schema(schema).constraint(vocab())


DEAD_ENDS: list[tuple[Any, str, str]] = [
    (
        {"prefixItems": [True], "items": {"type": "number"}, "contains": {"type": "string"}},
        '["a", ',
        "[1, ",
    ),
    (
        {"maxItems": 2, "allOf": [{"contains": {"const": 1}}, {"contains": {"const": 2}}]},
        "[1, 2",
        "[1, 3",
    ),
    ({"items": {"enum": ["a", "b"]}, "uniqueItems": True, "minItems": 2}, '["a", "b', '["a", "a'),
    (
        {"properties": {"a": {"not": {}}, "b": True}, "required": ["b"], "maxProperties": 1},
        '{"b',
        '{"a',
    ),
]


@pytest.mark.parametrize("schema, open_ended, dead", DEAD_ENDS)
def test_a_beginning_that_nothing_can_complete_is_refused(
    schema: Any, open_ended: str, dead: str
) -> None:
    def takes(text: str) -> bool:
        matcher = Grammar.from_schema(schema, any_order=True).constraint(vocab())
        for byte in text.encode():
            if not matcher.allows(byte):
                return False
            matcher.advance(byte)
        return True

    assert takes(open_ended)
    assert not takes(dead)


def test_a_long_format_beside_a_bound_on_its_length_is_not_searched_to_that_length() -> None:
    place = walks.schema({"type": "string", "minLength": 1, "maxLength": 65536, "format": "uri"})
    assert place.advance_bytes(b'"https://example.com/a')
    walks.check_mask(place)
    assert place.advance_bytes(b'?q=1"') and place.is_accepting
