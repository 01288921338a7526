"""Unconstrained: planted mistakes, the token that is blamed for each, and what becomes of the call.

`✖` stands before the token that leaves the grammar. What becomes of the call is its arguments as
the loose grammar reads them, or BROKEN where it is given back to the model with the reason.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest
from families import NOW, Played, pieces, play, turn_of, vocab_of
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.events import Notice, Text, ToolCall, ToolCallStart
from engine.families import profile
from engine.messages import ToolSpec
from engine.vocab import Vocab

WEATHER = ToolSpec(
    "get_weather",
    "Weather.",
    {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer"},
            "unit": {"enum": ["C", "F"]},
        },
        "required": ["city"],
        "additionalProperties": False,
    },
)
BROKEN = None
CITY = {"city": "서울"}
BOTH = {"city": "서울", "days": 2}


@dataclass(frozen=True)
class Form:
    """How a family writes a call of «name» with the arguments «args», and how its message ends."""

    family: str
    call: str
    end: str
    style: str | None = None
    good: str = ""  # arguments without a mistake

    def text(self, args: str | None = None, name: str = "get_weather") -> str:
        args = self.good if args is None else args
        return self.call.replace("«name»", name).replace("«args»", args)


J, P = '"city": "서울"', "city='서울'"
G = 'city:<|"|>서울<|"|>'
DSK = "<｜tool▁call▁begin｜>«name»<｜tool▁sep｜>{«args»}<｜tool▁call▁end｜>"
FORMS = {
    "hermes": Form(
        "hermes",
        '<tool_call>\n{"name": "«name»", "arguments": {«args»}}\n</tool_call>',
        "<|im_end|>",
        good=J,
    ),
    "llama3": Form("llama3", '{"name": "«name»", "parameters": {«args»}}', "<|eot_id|>", good=J),
    "function tag": Form(
        "llama3", "<function=«name»>{«args»}</function>", "<|eom_id|>", "function_tag", good=J
    ),
    "mistral": Form("mistral-v13", "[TOOL_CALLS]«name»[ARGS]{«args»}", "</s>", good=J),
    "deepseek": Form(
        "deepseek-v3.1",
        f"<｜tool▁calls▁begin｜>{DSK}<｜tool▁calls▁end｜>",
        "<｜end▁of▁sentence｜>",
        good=J,
    ),
    "lfm2": Form(
        "lfm2", "<|tool_call_start|>[«name»(«args»)]<|tool_call_end|>", "<|im_end|>", good=P
    ),
    "gemma": Form("gemma4", "<|tool_call>call:«name»{«args»}<tool_call|>", "<turn|>", good=G),
    "qwen3-coder": Form(
        "qwen3-coder",
        "<tool_call>\n<function=«name»>\n«args»</function>\n</tool_call>",
        "<|im_end|>",
        good="<parameter=city>\n서울\n</parameter>\n",
    ),
    "glm": Form(
        "glm4.5",
        "<tool_call>«name»\n«args»</tool_call>",
        "<|observation|>",
        good="<arg_key>city</arg_key>\n<arg_value>서울</arg_value>\n",
    ),
    "minicpm5": Form(
        "minicpm5",
        '<function name="«name»">«args»</function>',
        "<|im_end|>",
        good='<param name="city">서울</param>',
    ),
}
JSON_FORMS = ("hermes", "llama3", "function tag", "mistral", "deepseek")

# Mistake, arguments, what was allowed (a part of it), what becomes of the call.
IN_JSON = [
    ("wrong type", '"city": ✖3', "a string", {"city": 3}),
    ("text for a number", J + ', "days": ✖"2"', "a number", {"city": "서울", "days": "2"}),
    ("missing quote", '"city": "서울, "✖days": 2', "','", BROKEN),
    ("trailing comma", J + ",✖", "'\"'", BROKEN),
    ("unknown argument", J + ', "✖nope": 1', "days", {"city": "서울", "nope": 1}),
    ("missing argument", '"days": 2✖', "','", {"days": 2}),
    ("bad enum value", J + ', "unit": "✖K"', "[CF]", {"city": "서울", "unit": "K"}),
    ("doubled key", J + ', "✖city": "부산"', "unit", {"city": "부산"}),
    ("no JSON", J + ', "days": ✖True', "a number", BROKEN),
    ("no integer", J + ', "days": 2.✖5', "'0'", {"city": "서울", "days": 2.5}),
    ("single quotes", "✖'city': '서울'", "'\"'", BROKEN),
    ("the wrong kind", '"city": ✖["서울"]', "a string", {"city": ["서울"]}),
]
IN_PYTHON = [
    ("wrong type", "city=✖3", "a string", {"city": 3}),
    ("text for a number", P + ", days=✖'2'", "a number", {"city": "서울", "days": "2"}),
    ("trailing comma", P + ",✖", "days", BROKEN),
    ("unknown argument", "✖nope=1", "city", {"nope": 1}),
    ("missing argument", "days=2✖", "', '", {"days": 2}),
    ("bad enum value", P + ", unit='✖K'", "C", {"city": "서울", "unit": "K"}),
    ("doubled key", P + ", ✖city='부산'", "days", {"city": "부산"}),
    ("a word", "city=✖x", "a string", BROKEN),
    ("by place", "✖'서울'", "city=", BROKEN),
    ("no value", "city=✖", "a string", BROKEN),
]
IN_GEMMA = [
    ("wrong type", "city:✖3", '<|"|>', {"city": 3}),
    ("text for a number", G + ',days:✖<|"|>2<|"|>', "a number", {"city": "서울", "days": "2"}),
    ("missing quote", "city:✖서울", '<|"|>', BROKEN),
    ("another quote", 'city:✖"서울"', '<|"|>', BROKEN),
    ("trailing comma", G + ",✖", "days:", BROKEN),
    ("unknown argument", G + ",✖nope:1", "unit:", {"city": "서울", "nope": 1}),
    ("missing argument", "days:2✖", "','", {"days": 2}),
    ("bad enum value", G + ',unit:<|"|>✖K<|"|>', "'C' or 'F'", {"city": "서울", "unit": "K"}),
    ("doubled key", G + ',✖city:<|"|>부산<|"|>', "days:", {"city": "부산"}),
]


def in_tags(form: Form, begin: str, between: str, end: str) -> list[tuple]:
    """The mistakes of a notation with a tag for each argument."""

    def tag(key: str, value: str) -> str:
        return begin + key + between + value + end

    city = tag("city", "서울")
    return [
        ("text for a number", city + tag("days", "✖many"), "a number", CITY | {"days": "many"}),
        ("unknown argument", city + tag("✖nope", "1"), "days", CITY | {"nope": 1}),
        ("bad enum value", city + tag("unit", "✖K"), "C", CITY | {"unit": "K"}),
        ("doubled key", city + tag("✖city", "부산"), "unit", {"city": "부산"}),
        ("no JSON", city + tag("days", "2✖,"), "[0-9Ee]", CITY | {"days": "2,"}),
    ]


NOW_DSK = DSK.replace("«name»", "now").replace("«args»", "")
# Family, text, what was allowed, what becomes of the call.
AROUND = [
    ("hermes", '<tool_call>\n{"name": "get_we✖ther", "arguments": {}}\n</tool_call>', "ather", {}),
    ("hermes", '<tool_call>\n{"name": "get_weather", "arguments": {"city": "서✖', "'\"'", BROKEN),
    ("hermes", f'<tool_call>\n{{"name": "now", "arguments": {{✖{J}}}}}\n</tool_call>', "}}", CITY),
    ("hermes", '<tool_call>\n{"name": "now", "arguments": {}✖\n</tool_call>', "'}'", BROKEN),
    ("hermes", '<tool_call>\n{"name": "now", "arguments": {}}✖', "</tool_call>", BROKEN),
    ("hermes", '<tool_call>\n✖"name"', "{", BROKEN),
    (
        "hermes",
        '<tool_call>\n{"name": "now", "arguments": {}}\n✖</tool_response>',
        "</tool",
        BROKEN,
    ),
    ("llama3", '{"name": "now", "✖arguments": {}}', "parameters", BROKEN),
    ("llama3", '{"name": "✖later", "parameters": {}}', "now", {}),
    ("llama3", '{"name": "now", "parameters": {}✖', "'}'", BROKEN),
    ("function tag", "<function=now>{}</✖tool>", "function>", BROKEN),
    ("function tag", "<function=✖later>{}</function>", "now", {}),
    ("mistral", "[TOOL_CALLS]✖later[ARGS]{}", "now", {}),
    ("mistral", "[TOOL_CALLS]now✖{}", "[ARGS]", BROKEN),
    ("mistral", '[TOOL_CALLS]get_weather[ARGS]{"city": "서울"✖', "'}'", BROKEN),
    ("deepseek", "<｜tool▁calls▁begin｜>" + NOW_DSK + "✖", "<｜tool▁calls▁end｜>", BROKEN),
    (
        "deepseek",
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>✖later<｜tool▁sep｜>{}",
        "now",
        BROKEN,
    ),
    ("deepseek", "<｜tool▁calls▁begin｜>✖now", "<｜tool▁call▁begin｜>", BROKEN),
    ("lfm2", "<|tool_call_start|>[✖later()]<|tool_call_end|>", "now", {}),
    ("lfm2", "<|tool_call_start|>[now()✖<|tool_call_end|>", "]", BROKEN),
    ("lfm2", "<|tool_call_start|>✖now()<|tool_call_end|>", "[", BROKEN),
    ("lfm2", "<|tool_call_start|>[get_weather(city='서✖", "any text", BROKEN),
    ("lfm2", "<|tool_call_start|>[get_weather(city='서울)]✖<|tool_call_end|>", "any text", BROKEN),
    ("gemma", "<|tool_call>call:✖later{}<tool_call|>", "now", {}),
    ("gemma", "<|tool_call>call:now{}✖", "<tool_call|>", BROKEN),
    ("gemma", "<|tool_call>✖now{}<tool_call|>", "call:", BROKEN),
    ("gemma", '<|tool_call>call:get_weather{city:<|"|>서울}✖<tool_call|>', '<|"|>', BROKEN),
    ("qwen3-coder", "<tool_call>\n<function=✖later>\n</function>\n</tool_call>", "now", {}),
    ("qwen3-coder", "<tool_call>\n<function=get_weather>\n<✖/function>\n</tool_call>", "city", {}),
    ("qwen3-coder", "<tool_call>\n<function=now>\n✖</tool_call>", "</function>", BROKEN),
    ("qwen3-coder", "<tool_call>\n<function=now>\n</function>\n✖", "</tool_call>", BROKEN),
    ("qwen3-coder", "<tool_call>\n✖{", "<function=", BROKEN),
    ("glm", "<tool_call>✖later\n</tool_call>", "now", {}),
    ("glm", "<tool_call>get_weather\n✖</tool_call>", "<arg_key>", {}),
    ("glm", "<tool_call>get_weather\n<arg_key>city✖</arg_value>", "</arg_key>", BROKEN),
    ("glm", "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>서✖", "</arg_val", BROKEN),
    ("minicpm5", '<function name="✖later"></function>', "now", {}),
    ("minicpm5", '<function name="now">✖', "</function>", BROKEN),
    ("minicpm5", '<function name="now"></✖tool>', "function>", BROKEN),
]
TAGS = {
    "qwen3-coder": ("<parameter=", ">\n", "\n</parameter>\n"),
    "glm": ("<arg_key>", "</arg_key>\n<arg_value>", "</arg_value>\n"),
    "minicpm5": ('<param name="', '">', "</param>"),
}


def _table() -> list:
    rows = [(name, *row) for name in JSON_FORMS for row in IN_JSON]
    rows += [("lfm2", *row) for row in IN_PYTHON] + [("gemma", *row) for row in IN_GEMMA]
    rows += [(name, *row) for name, tags in TAGS.items() for row in in_tags(FORMS[name], *tags)]
    found = [
        pytest.param(form, FORMS[form].text(args), allowed, outcome, id=f"{form}: {what}")
        for form, what, args, allowed, outcome in rows
    ]
    return found + [pytest.param(*row, id=f"{row[0]}: {row[1]}") for row in AROUND]


MISTAKES = _table()


def said(form: Form, text: str, tools=(WEATHER, NOW), **options) -> tuple[Played, Vocab, list[int]]:
    item = profile(form.family)
    vocab = vocab_of(item)
    ids = pieces(vocab, text + form.end)
    turn = turn_of(item, vocab, tools, style=form.style, constrain=False, **options)
    return play(turn, vocab, ids), vocab, ids


def notices(played: Played, kind: str) -> list[Notice]:
    return [e for e in played.events if isinstance(e, Notice) and e.data.get("kind") == kind]


def test_at_least_a_hundred_mistakes_are_planted():
    assert len(MISTAKES) >= 100
    assert [row.id for row in MISTAKES if row.values[1].count("✖") != 1] == []


@pytest.mark.parametrize("name, text, allowed, outcome", MISTAKES)
def test_the_first_token_that_leaves_the_grammar_is_named_with_what_was_allowed(
    name, text, allowed, outcome
):
    form = FORMS[name]
    before, _, behind = text.partition("✖")
    played, vocab, ids = said(form, before + behind)
    place = len(pieces(vocab, before))
    (found,) = notices(played, "departure")
    assert (found.data["index"], found.data["token"]) == (place, ids[place])
    assert allowed in found.data["allowed"]
    result = played.turn.result
    assert played.turn.is_over
    if outcome is BROKEN:
        assert played.calls == [] and result.calls == []
        assert result.broken and len(notices(played, "broken")) == 1
    else:
        assert [arguments for _, arguments in played.calls] == [outcome]
        assert result.broken is None and not notices(played, "broken")


@pytest.mark.parametrize("name", FORMS)
def test_prose_after_the_call_leaves_the_grammar_and_stays_text(name):
    form = FORMS[name]
    played, vocab, ids = said(form, form.text() + "☞ done")
    text = "".join(event.text for event in played.events if isinstance(event, Text))
    assert (played.calls, text) == ([("get_weather", CITY)], "☞ done")
    if not profile(form.family).style(form.style).has_text_after:
        (found,) = notices(played, "departure")
        place = len(pieces(vocab, form.text()))
        assert (found.data["index"], found.data["token"]) == (place, ids[place])
        assert "the end" in found.data["allowed"]


@pytest.mark.parametrize("name", FORMS)
def test_a_call_without_a_mistake_has_no_notice(name):
    form = FORMS[name]
    played, _, _ = said(form, form.text())
    assert played.calls == [("get_weather", CITY)]
    assert not [event for event in played.events if isinstance(event, Notice)]


@pytest.mark.parametrize(
    "args",
    [
        '"days": 2, "city": "서울"',
        '\n  "city" : "서울" ,\n  "days":2\n',
        '"city": "\\uC11C울", "days": 2.0',
        '"city": "\\uc11c\\uc6b8", "days": 2',
    ],
)
def test_any_way_of_writing_the_same_json_is_no_mistake(args):
    played, _, _ = said(FORMS["hermes"], FORMS["hermes"].text(args))
    assert played.calls == [("get_weather", BOTH)] and not notices(played, "departure")


@pytest.mark.parametrize("name", ["hermes", "mistral", "qwen3-coder", "glm"])
def test_tokens_are_counted_over_all_calls_and_a_broken_one_voids_those_before_it(name):
    form = FORMS[name]
    between = "" if name == "mistral" else "\n"
    first = form.text() + between
    second = form.text(name="now", args="!")
    played, vocab, ids = said(form, first + second)
    (found,) = notices(played, "departure")
    place = len(pieces(vocab, first + second.partition("!")[0]))
    assert (found.data["index"], found.data["token"]) == (place, ids[place])
    assert played.calls == [] and "(get_weather) are not run" in played.turn.result.broken


def test_tokens_are_counted_from_the_one_that_begins_the_opener():
    item = profile("generic")
    words = ["Well. <tool", '_call>{"', 'name": "', "now", "then", '", "arg']
    vocab = vocab_of(item, words)
    turn = turn_of(item, vocab, [WEATHER, NOW], constrain=False)
    ids = [vocab.ids[word] for word in [*words[:3], words[4], words[5]]]
    rest = 'uments": {}}</tool_call>'
    played = play(turn, vocab, [*b"Hm. ", *ids, *rest.encode()])
    (found,) = notices(played, "departure")
    assert (found.data["index"], found.data["token"]) == (3, vocab.ids["then"])
    assert "now" in found.data["allowed"]


@pytest.mark.parametrize(
    "schema, raw, value",
    [
        ({"type": "integer"}, "True", "True"),
        ({"type": "boolean"}, "True", True),
        ({"type": "boolean"}, "yes", "yes"),
        ({"type": "string"}, "12", "12"),
        ({"type": "string"}, "[1]", "[1]"),
        ({"type": ["string", "null"]}, "null", None),
        ({"type": "null"}, "None", None),
        ({"type": "array"}, "['a', 1]", ["a", 1]),
        ({"type": "array"}, "a, b", "a, b"),
        ({"type": "object"}, "{'a': True}", {"a": True}),
        ({"type": "object"}, "{'a'}", "{'a'}"),
        ({"type": "integer"}, "2,", "2,"),
        ({"enum": ["1", "2"]}, "3", "3"),
        ({"$ref": "#/nowhere"}, "x", "x"),
    ],
)
def test_raw_text_is_repaired_by_what_the_schema_wants(schema, raw, value):
    tool = ToolSpec("f", "", {"type": "object", "properties": {"x": schema}})
    text = (
        f"<tool_call>\n<function=f>\n<parameter=x>\n{raw}\n</parameter>\n</function>\n</tool_call>"
    )
    played, _, _ = said(FORMS["qwen3-coder"], text, [tool])
    assert played.calls == [("f", {"x": value})]


@pytest.mark.parametrize("name", FORMS)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_whatever_follows_the_opener_is_an_answer_and_no_exception(name, data):
    form = FORMS[name]
    parts = [part for part in re.split(r"(\W)", form.text()) if part]
    kept = data.draw(st.integers(1, len(parts)))
    garbage = data.draw(st.lists(st.sampled_from([*parts, "\\", '"', "x", "\n", "3"]), max_size=8))
    played, _, _ = said(form, "".join([*parts[:kept], *garbage]))
    assert played.turn.is_over and played.masked is None
    begun = {event.id for event in played.events if isinstance(event, ToolCallStart)}
    ended = {event.id for event in played.events if isinstance(event, ToolCall)}
    is_told = played.turn.result.broken is not None
    assert is_told == bool(notices(played, "broken"))
    assert is_told or begun == ended
