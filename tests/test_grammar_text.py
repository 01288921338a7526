"""%text: the strings that a schema allows, as they are."""

from __future__ import annotations

import itertools
import json
import random

import pytest
import walks
from walks import VOCAB, accepts, check_mask, lark

from engine import _native
from engine.constraint import Terminals
from engine.errors import GrammarError, SchemaError
from engine.grammar.limits import Limits
from engine.grammar.native import vocabulary

SCHEMAS: list[object] = [
    True,
    {"type": "string"},
    {"type": ["string", "null"], "minLength": 1, "maxLength": 2},
    {"pattern": "^[ab]", "not": {"pattern": 'b"?$'}},
    {"enum": ["a", "ab", 'a"', "\n", 1, None, ["b"], "서"]},
    {"not": {"enum": ["a", "ab", 'a"', "\\", 3]}},
    {"not": {"const": "a"}, "maxLength": 2},
    {"const": 'b"'},
    {"anyOf": [{"maxLength": 1}, {"$ref": "#/$defs/b"}], "$defs": {"b": {"pattern": "^b+$"}}},
    {"oneOf": [{"minLength": 2}, {"pattern": "a"}]},
    {"if": {"pattern": "^a"}, "then": {"minLength": 2}, "else": {"maxLength": 1}},
    {"allOf": [{"type": "string"}, {"properties": {"a": {"type": "string"}}}, {"minLength": 1}]},
    {"items": {"uniqueItems": True}, "uniqueItems": True, "maxLength": 1},
]


@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_text_is_taken_just_where_its_json_string_is(schema):
    plain = lark(f"start: %text {json.dumps(schema)}\n")
    definitions = schema.get("$defs", {}) if isinstance(schema, dict) else {}
    string = {"type": "string", "allOf": [schema], "$defs": definitions}
    in_json = lark(f"start: %json {json.dumps(string)}\n")
    texts = ["".join(each) for n in range(4) for each in itertools.product('ab"\\\n서', repeat=n)]
    found = {text for text in texts if accepts(plain, text)}
    assert found == {
        text for text in texts if accepts(in_json, json.dumps(text, ensure_ascii=False))
    }
    assert found


@pytest.mark.parametrize("schema", SCHEMAS)
@pytest.mark.parametrize("around", ["%s", '"x" %s "}"', "(%s /[;]/)+"])
def test_masks_equal_brute_force_and_every_place_has_a_completion(schema, around):
    text = f"start: {around % ('%text ' + json.dumps(schema))}\n"
    chance = random.Random(text)
    for place in walks.random_walk(lark(text), chance, 10):
        assert check_mask(place) or place.is_done
        assert walks.completion(place, 'ab";}서'.encode()) is not None


@pytest.mark.parametrize(
    "text, yes, no",
    [
        (
            'start: "<p>" VALUE "</p>"\n'
            'VALUE: %text {"type": "string", "maxLength": 5} & ~(/(.|\\n)*/ "</p>" /(.|\\n)*/)\n',
            ["<p></p>", "<p>a\n</p</p>", "<p>서울서울서</p>"],
            ["<p>abcdef</p>", "<p></p></p>", "<p>a</p>b</p>"],
        ),
        (
            'start: /a+/ & ~(%text {"minLength": 3}) | "<" %text {"format": "date"} ">"\n',
            ["a", "aa", "<2024-02-29>"],
            ["aaa", "<2023-02-29>", "<a>"],
        ),
        ('start: A{2}\nA: "-" %text {"enum": ["a", "b"]}?\n', ["-a-", "--b", "-a-a"], ["-ab-"]),
        ('start: "x" | %text {"type": "integer"} "y"\n', ["x"], ["1y", "y"]),
        ('%ignore " "\nstart: %text {"const": "a b"} "!"\n', ["a b !"], ["a  b!"]),
        ('start: start %text {"maxLength": 1} "." | "."\n', ["..", ".a.b."], [".ab."]),
    ],
)
def test_it_is_a_part_of_rules_and_terminals(text, yes, no):
    start = lark(text)
    assert [each for each in yes if not accepts(start, each)] == []
    assert [each for each in no if accepts(start, each)] == []


@pytest.mark.parametrize(
    "schema, pointer, keyword, where",
    [
        ({"items": {"type": "strin"}}, "/items", "type", r":2:9: /items/type: "),
        ({"allOf": [{"pattern": "(a"}]}, "/allOf/0", "pattern", r":2:9: /allOf/0/pattern: "),
        ({"$ref": "#/nope"}, "", "$ref", r":2:9: /\$ref: "),
    ],
)
def test_a_schema_is_refused_with_its_place_and_keyword(schema, pointer, keyword, where):
    with pytest.raises(SchemaError, match=where) as caught:
        lark(f'start: "a"\n | %text {json.dumps(schema)}\n')
    assert (caught.value.pointer, caught.value.keyword) == (pointer, keyword)


def test_limits_and_what_is_no_json_are_refused():
    deep = 'start: %text {"not": {"not": {"not": {}}}}\n'
    with pytest.raises(SchemaError, match=r"limit `depth` is 2") as caught:
        lark(deep, limits=Limits(depth=2))
    assert caught.value.data["limit"] == "depth"
    with pytest.raises(GrammarError, match=":1:13: JSON expected"):
        lark("start: %text {1}\n")
    with pytest.raises(GrammarError, match="no text matches"):
        lark('start: %text {"type": "integer"}\n')


def test_the_core_gives_the_empty_language_and_reports_what_it_weakened():
    grammar = _native.Grammar(vocabulary(VOCAB, Terminals.of(VOCAB)), best_effort=True)
    assert grammar.is_dead(grammar.schema_text('{"type": "integer"}'))
    assert grammar.is_dead(grammar.schema_text('{"maxLength": 1, "minLength": 2}'))
    assert not grammar.is_dead(grammar.schema_text('{"pattern": "(?<=a)b"}'))
    assert ("", "pattern") in grammar.weakened
