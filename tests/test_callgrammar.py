"""Tools' schemas in every notation: what can't be enforced is refused by keyword and place."""

from __future__ import annotations

import pytest
from fakes import scripted_model
from families import (
    NOTHING,
    NOW,
    SEOUL_CALLS,
    WEATHER,
    Played,
    end_of,
    pieces,
    play,
    turn_of,
    vocab_of,
    wander,
)

import engine
from engine.dialect import Dialect
from engine.errors import SchemaError
from engine.events import Notice, ToolCall, ToolResult
from engine.families import profile
from engine.messages import ToolSpec
from engine.tools import Tool

OBJECT = "object"
NOTATIONS = ["hermes", "qwen3-coder", "gemma4", "lfm2", "minicpm5", "minimax-m3", "deepseek-v3.2"]
TEMPLATE = """
{%- for message in messages %}{{ message.role + ': ' + message.content + '\\n' }}{% endfor %}
{%- if add_generation_prompt %}{{- 'assistant: ' }}{% endif %}
"""


def walk(name: str, tools: list[ToolSpec], seed: int, limit: int = 2500) -> Played:
    """A call by random logits that prefer what ends a text."""
    item = profile(name)
    vocab = vocab_of(item)
    turn = turn_of(item, vocab, tools, choice="required")
    return wander(turn, vocab, seed, limit)


# One bad schema among fifty tools

OBJECT = "object"
HOSTILE = [
    ({"type": OBJECT, "patternProperties": {"^a": {}}, "properties": {}}, "patternProperties", ""),
    (
        {"type": OBJECT, "properties": {"x": {"type": "array", "uniqueItems": True}}},
        "uniqueItems",
        "/x",
    ),
    ({"type": OBJECT, "properties": {"x": {"type": "string", "pattern": "("}}}, "pattern", "/x"),
    ({"type": OBJECT, "properties": {"x": {"$ref": "http://a.b/c"}}}, "$ref", "/x"),
    ({"type": OBJECT, "properties": {"x": {"$ref": "#/$defs/none"}}}, "$ref", "/x"),
    ({"type": OBJECT, "properties": {"x": {"type": "txt"}}}, "type", "/x"),
    ({"type": OBJECT, "properties": {"x": {"type": ["string", 5]}}}, "type", "/x"),
    ({"type": OBJECT, "properties": {"x": {"enum": 3}}}, "enum", "/x"),
    ({"type": OBJECT, "properties": {"x": {"anyOf": {"type": "string"}}}}, "anyOf", "/x"),
    ({"type": OBJECT, "properties": {"x": {"minItems": "3", "type": "array"}}}, "minItems", "/x"),
    ({"type": OBJECT, "properties": {"x": 3}}, None, None),
    ({"type": OBJECT, "properties": 3}, "properties", ""),
    ({"type": OBJECT, "properties": {"x": {}}, "required": 3}, "required", ""),
    ({"type": OBJECT, "properties": {"x": False}, "required": ["x"]}, None, None),
    ({"type": "string"}, None, ""),
    ({"type": OBJECT, "properties": {"\ud800": {}}}, "properties", ""),
    ({"type": OBJECT, "properties": {"x": {"enum": ["\udc00"]}}}, "enum", "/x"),
]


def nested(depth: int, *, word: str = "properties") -> dict:
    schema: dict = {"type": "string"}
    for _ in range(depth):
        schema = (
            {"type": OBJECT, "properties": {"a": schema}}
            if word == "properties"
            else {"type": "array", "items": schema}
        )
    return schema


def laughing(levels: int) -> dict:
    """Alternatives of alternatives: two to the power of `levels` of them."""
    defs: dict = {"a0": {"type": ["string", "integer"]}}
    for level in range(1, levels):
        defs[f"a{level}"] = {"anyOf": [{"$ref": f"#/$defs/a{level - 1}"}] * 2}
    return {"type": OBJECT, "properties": {"x": {"$ref": f"#/$defs/a{levels - 1}"}}, "$defs": defs}


def refusal(name: str, schema: object) -> SchemaError | None:
    item = profile(name)
    tool = ToolSpec("bad", "", schema)
    refused = Dialect(item, item.style(), vocab_of(profile(name))).check([WEATHER, tool, NOW])
    assert [spec.name for spec, _ in refused] in ([], ["bad"])
    return refused[0][1] if refused else None


@pytest.mark.parametrize("schema, keyword, place", HOSTILE)
@pytest.mark.parametrize("name", NOTATIONS)
def test_a_hostile_schema_is_refused_by_keyword_and_pointer(name, schema, keyword, place):
    error = refusal(name, schema)
    if name == "hermes" and keyword == "patternProperties":
        return  # JSON can be held to it
    assert error is not None and error.tool == "bad"
    if place is not None:
        wanted = place and f"/properties{place}"
        assert (error.keyword, error.pointer) == (keyword, wanted)
    assert "\n" not in error.message and "'bad'" in error.message


@pytest.mark.parametrize("name", NOTATIONS)
@pytest.mark.parametrize(
    "schema",
    [
        nested(1000),
        nested(1000, word="items"),
        nested(128),
        laughing(60),
        {"$ref": "#/properties/x"},
    ],
    ids=["objects", "lists", "just too deep", "alternatives", "a ring"],
)
def test_a_schema_that_grows_without_end_is_refused_and_no_recursion_error(name, schema):
    error = refusal(
        name,
        {"type": OBJECT, "properties": {"x": schema}}
        | {key: schema[key] for key in ("$defs",) if key in schema},
    )
    assert error is not None and error.tool == "bad"


@pytest.mark.parametrize("name", NOTATIONS)
def test_a_schema_that_refers_to_itself_is_no_hostile_one(name):
    tree = {
        "type": OBJECT,
        "properties": {"v": {"type": "string"}, "kids": {"type": "array", "items": {"$ref": "#"}}},
    }
    assert refusal(name, tree) is None


@pytest.mark.parametrize("name", ["hermes", "qwen3-coder", "gemma4", "lfm2"])
def test_of_fifty_tools_with_one_hostile_schema_forty_nine_work(name):
    def tool(index: int, schema: dict) -> Tool:
        return Tool.from_schema(f"tool_{index}", "Does it.", schema, lambda **given: "done")

    good = {"type": OBJECT, "properties": {"city": {"type": "string"}, "n": {"type": "integer"}}}
    bad = {"type": OBJECT, "properties": {"x": {"type": "array", "uniqueItems": True}}}
    tools = [tool(index, bad if index == 17 else good) for index in range(50)]
    model = scripted_model(vocab_of(profile(name)), TEMPLATE, family=name, n_ctx=1 << 16)
    with model.chat(tools=tools, sampling=engine.Sampling(temperature=0)) as chat:
        assert len(chat.tools) == 49 and "tool_17" not in [each.name for each in chat.tools]
        for index in (0, 49):
            text = SEOUL_CALLS[name].replace("get_weather", f"tool_{index}")
            model.backend.say(pieces(model.vocab, text + end_of(name) + "ok" + end_of(name)))
            events = list(chat.stream("?"))
            assert next(e for e in events if isinstance(e, ToolResult)).content == "done"
            notices = [event for event in events if isinstance(event, Notice)]
            if index == 0:
                data = notices.pop().data
                assert (data["tool"], data["keyword"]) == ("tool_17", "uniqueItems")
                assert data["pointer"] == "/properties/x"
            assert not notices


@pytest.mark.parametrize("schema", [row[0] for row in HOSTILE])
@pytest.mark.parametrize("name", ["hermes", "qwen3-coder", "gemma4", "lfm2"])
def test_unconstrained_a_hostile_schema_disturbs_no_call(name, schema):
    vocab = vocab_of(profile(name))
    tools = [ToolSpec("bad", "", schema), WEATHER]
    for called in ("get_weather", "bad"):
        turn = turn_of(profile(name), vocab, tools, constrain=False)
        text = SEOUL_CALLS[name].replace("get_weather", called)
        played = play(turn, vocab, pieces(vocab, text + end_of(name)))
        assert played.calls == [(called, {"city": "서울"})]


def test_a_schema_that_only_one_notation_can_t_hold_is_refused_there_alone():
    inner = {"type": OBJECT, "properties": {"x": {"type": OBJECT, "patternProperties": {"^a": {}}}}}
    assert refusal("hermes", inner) is None and refusal("qwen3-coder", inner) is None
    error = refusal("gemma4", inner)
    assert (error.keyword, error.pointer) == ("patternProperties", "/properties/x")
    assert "can't be enforced in this family's notation" in error.message
    many = {"type": OBJECT, "properties": {f"p{index}": {"type": "string"} for index in range(61)}}
    assert refusal("hermes", many) is None
    assert refusal("qwen3-coder", many).keyword == "properties"


def test_text_that_would_end_its_tag_is_never_required():
    value = {"const": "a</parameter>b"}
    schema = {"type": OBJECT, "properties": {"x": value}, "required": ["x"]}
    assert refusal("hermes", schema) is None
    assert "no text matches" in refusal("qwen3-coder", schema).message
    either = {"enum": ["a</parameter>b", "z"]}
    assert refusal("qwen3-coder", {**schema, "properties": {"x": either}}) is None


def test_arguments_are_an_object_though_the_schema_allows_more():
    for schema in ({}, {"type": [OBJECT, "null"]}, {"anyOf": [NOTHING, {"type": "null"}]}):
        item = profile("hermes")
        dialect = Dialect(item, item.style(), vocab_of(item))
        matcher = dialect.matcher([ToolSpec("f", "", schema)])
        for token in pieces(dialect.vocab, '<tool_call>\n{"name": "f", "arguments": '):
            matcher.advance(token)
        assert [b for b in range(256) if matcher.allows(b)] == [ord("{")]


@pytest.mark.parametrize("name", NOTATIONS)
def test_tools_of_which_one_s_name_begins_the_other_s_are_told_apart(name):
    tools = [ToolSpec(each, "", NOTHING) for each in ("now", "now_then", "now.then-2")]
    for tool in tools:
        played = walk(name, [tool, *(t for t in tools if t is not tool)], len(tool.name))
        assert {call for call, _ in played.calls} <= {each.name for each in tools}
        alone = walk(name, [tool], 1)
        assert {call for call, _ in alone.calls} == {tool.name}


KEYS = [
    "a b",
    'q"q',
    "x=y",
    "it's",
    "</parameter>",
    "</param>",
    "<|im_end|>",
    "한",
    "a\nb",
    "a:b",
    "\\",
]


@pytest.mark.parametrize("name", NOTATIONS)
@pytest.mark.parametrize("key", KEYS)
def test_an_argument_of_any_name_is_written_and_read_back(name, key):
    schema = {
        "type": OBJECT,
        "properties": {key: {"enum": ["x", "서"]}, "n": {"type": "boolean"}},
        "required": [key],
        "additionalProperties": False,
    }
    for seed in range(3):
        played = walk(name, [ToolSpec("f", "", schema)], seed)
        assert played.turn.result.broken is None
        calls = [event for event in played.events if isinstance(event, ToolCall)]
        assert calls and all(call.arguments[key] in ("x", "서") for call in calls)


@pytest.mark.parametrize("name", NOTATIONS)
def test_what_nothing_is_said_of_is_written_and_read_back_without_an_error(name):
    schema = {"type": OBJECT, "properties": {"x": {}, "y": True}, "required": ["x"]}
    for seed in range(8):
        played = walk(name, [ToolSpec("f", "", schema)], seed, limit=300)
        assert played.turn.result.broken is None
        assert all("x" in arguments for _, arguments in played.calls)
