"""Tool grammars from data: what each style accepts, and what it reads back."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fakes import byte_vocab
from families import WEATHER

from engine import dialect as dialect_module
from engine.callreader import CallReader
from engine.dialect import Dialect, Written
from engine.errors import GrammarError
from engine.families import profile
from engine.grammar import Grammar
from engine.messages import ToolSpec

ADD = ToolSpec(
    "add",
    "Add.",
    {
        "type": "object",
        "properties": {"a": {"type": "number"}, "b": {"type": "number"}},
        "required": ["a", "b"],
        "additionalProperties": False,
    },
)
SEARCH = ToolSpec(
    "brave_search", "Search.", {"type": "object", "properties": {"query": {"type": "string"}}}
)
CODE = ToolSpec(
    "code_interpreter", "Run.", {"type": "object", "properties": {"code": {"type": "string"}}}
)
TAG = "<|python_tag|>"
ENDS = ("<|eot_id|>", "<|eom_id|>")


def dialect(family: str, style: str | None = None) -> Dialect:
    vocab = byte_vocab(
        (*ENDS, TAG, "<|start_header_id|>", "<|end_header_id|>"), ends=ENDS, user_defined=()
    )
    item = profile(family)
    return Dialect(item, item.style(style), vocab)


def match(found: Dialect, tools, text: str, **options):
    """Play `text` (control texts as control tokens); answers the matcher."""
    matcher = found.matcher(tools, **options)
    for part in text.replace(TAG, f"\0{TAG}\0").split("\0"):
        token = found.vocab.find(part)
        ids = [token] if token is not None else list(part.encode())
        for each in ids:
            matcher.advance(each)
    return matcher


def read(matcher) -> tuple[str, dict]:
    """The one call that a matcher's captures tell."""
    reader = CallReader(lambda name: "call_1", "code_interpreter")
    reader.take(matcher)
    (call,) = reader.calls
    return call.name, call.arguments()


JSON_CALL = '{"name": "get_weather", "parameters": {"city": "서울", "days": 2}}'


@pytest.mark.parametrize(
    "family, style, tools, text, name, arguments",
    [
        ("llama3", "json", [WEATHER], JSON_CALL, "get_weather", {"city": "서울", "days": 2}),
        ("llama3", "json", [WEATHER], TAG + JSON_CALL, "get_weather", {"city": "서울", "days": 2}),
        (
            "llama3",
            "json",
            [WEATHER, SEARCH],
            TAG + 'brave_search.call(query="날씨 {x}")',
            "brave_search",
            {"query": "날씨 {x}"},
        ),
        (
            "llama3",
            "json",
            [CODE],
            TAG + "print(1)\nx = 2",
            "code_interpreter",
            {"code": "print(1)\nx = 2"},
        ),
        (
            "llama3",
            "function_tag",
            [ADD, WEATHER],
            '<function=add>{"a": 1.5, "b": -2}</function>',
            "add",
            {"a": 1.5, "b": -2},
        ),
        (
            "hermes",
            None,
            [ADD],
            '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call>',
            "add",
            {"a": 1, "b": 2},
        ),
        (
            "generic",
            None,
            [ADD],
            '<tool_call>{"name": "add", "arguments": {"a": 1, "b": 2}}</tool_call>',
            "add",
            {"a": 1, "b": 2},
        ),
    ],
)
def test_a_call_in_the_family_s_form_is_accepted_and_read_back(
    family, style, tools, text, name, arguments
):
    found = dialect(family, style)
    matcher = match(found, tools, text)
    assert matcher.is_accepting
    matcher.advance(min(found.vocab.eog))
    assert read(matcher) == (name, arguments)


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "get_wether"',  # no such tool
        '{"name": "get_weather", "parameters": {"days"',  # a required one is missing
        '{"name": "get_weather", "parameters": {"city": 1',  # wrong type
        '{"name": "get_weather", "parameters": {"city": "x", "nope"',  # no such argument
        '{"name": "add", "parameters"',  # another tool's name, not offered here
        TAG + "brave_search.call(",  # a built-in that is not offered
        TAG + "print(1)",  # code, without a code tool
    ],
)
def test_what_the_tools_do_not_allow_is_refused(text):
    with pytest.raises(GrammarError):
        match(dialect("llama3", "json"), [WEATHER], text)


def test_a_loose_grammar_takes_any_name_and_any_object_but_no_broken_json():
    found = dialect("generic")
    text = '<tool_call>{"name": "nope.x", "arguments": {"k": [1, {"z": null}]}}</tool_call>'
    assert read(match(found, [ADD], text, is_loose=True)) == ("nope.x", {"k": [1, {"z": None}]})
    with pytest.raises(GrammarError):
        match(found, [ADD], '<tool_call>{"name": "add", "arguments": {a', is_loose=True)


def test_markers_are_tokens_where_the_vocabulary_has_them_and_text_elsewhere():
    item = profile("hermes")
    token_vocab = byte_vocab(user_defined=["<tool_call>", "</tool_call>"])
    with_tokens = Dialect(item, item.style(), token_vocab)
    assert with_tokens.matcher([ADD]).allows(token_vocab.find("<tool_call>"))
    assert not with_tokens.matcher([ADD]).allows(ord("<"))
    text_vocab = byte_vocab()
    with_text = Dialect(item, item.style(), text_vocab)
    assert with_text.matcher([ADD]).allows(ord("<"))


def test_one_bad_schema_is_reported_alone_with_tool_and_keyword():
    bad = ToolSpec(
        "bad", "", {"type": "object", "properties": {"x": {"type": "array", "uniqueItems": True}}}
    )
    refused = dialect("generic").check([ADD, bad, WEATHER])
    assert [(spec.name, error.tool, error.keyword) for spec, error in refused] == [
        ("bad", "bad", "uniqueItems")
    ]


def test_a_prefix_that_came_along_with_the_opener_is_swallowed():
    found = dialect("generic")
    matcher = found.matcher([ADD], prefix="음. ".encode())
    for (
        byte
    ) in '음. <tool_call>{"name": "add", "arguments": {"a": 1, "b": 2}}</tool_call>'.encode():
        matcher.advance(byte)
    assert matcher.is_accepting


def test_a_grammar_is_written_once_for_all_dialects_of_a_vocabulary_and_equal_tools():
    found = dialect("qwen3-coder")
    first = found.grammar([WEATHER, ADD], prefix=b"so ")
    again = replace(found, encode=None).grammar([replace(WEATHER), replace(ADD)], prefix=b"so ")
    assert again is first


@pytest.mark.parametrize(
    "change",
    [
        {"tools": [ADD, WEATHER]},
        {"tools": [replace(WEATHER, name="get")]},
        {"prefix": b"so "},
        {"is_loose": True},
        {"is_lenient": True},
        {"or_answer": True},
        {"style": profile("llama3").style("function_tag")},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_a_grammar_depends_on_makes_it_another(change):
    given = {"tools": [WEATHER, ADD]}
    found = dialect("generic")
    found = replace(found, style=replace(found.style, answer="no"))
    plain = found.grammar(**given)
    assert found.grammar(**{**given, **change}) != plain
    assert found.grammar(**given) is plain


def test_a_schema_that_was_written_into_makes_another_grammar():
    properties = {"a": {"const": 1}, "b": {"type": "string"}}
    tool = ToolSpec("f", "", {"type": "object", "properties": properties})
    found = dialect("generic")
    seen = [found.grammar([tool])]
    properties["a"] = {"const": True}  # equal to 1 in Python
    seen.append(found.grammar([tool]))
    properties["a"] = properties.pop("a")  # the order in which they have to come
    seen.append(found.grammar([tool]))
    assert len({grammar.source for grammar in seen}) == 3


@pytest.mark.parametrize("limit, kept", [("MAX_WRITTEN", 3), ("MAX_CHARACTERS", 3 * 10)])
def test_of_many_grammars_those_used_last_stay_written(monkeypatch, limit, kept):
    monkeypatch.setattr(dialect_module, limit, kept)
    written, made = Written(), []

    def grammar(key: int) -> Grammar:
        def write() -> Grammar:
            made.append(key)
            return Grammar.from_lark("x" * 10)

        return written.grammar(key, None, write)

    for key in (1, 2, 3, 1, 4, 5, 1):
        grammar(key)
    assert made == [1, 2, 3, 4, 5] and len(written) == 3
    grammar(2)
    assert made[-1] == 2
