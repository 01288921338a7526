"""Names, descriptions and results of MCP tools, as values."""

from __future__ import annotations

import re
from typing import Any

import pytest

from engine.tools import Failure
from engine.tools.mcp.config import ServerConfig
from engine.tools.mcp.definitions import server_part, tool_name, tools_of
from engine.tools.mcp.results import value_of
from engine.tools.tool import NAME
from engine.visible import hidden_in, visible


@pytest.mark.parametrize(
    "server, tool, name",
    [
        ("files", "read_file", "files__read_file"),
        ("git-hub.io", "list-all", "git-hub.io__list-all"),
        ("my files", "lies mich", "my_files__lies_mich"),
        ("a__b", "c", "a_b__c"),
        ("a", "b__c", "a__b__c"),
        ("a_", "_b", "a___b"),
        ("파일", "읽기", "server____"),
        ("1password", "get", "s1password__get"),
        ("", "x", "server__x"),
    ],
)
def test_names_are_made_safe_for_models(server: str, tool: str, name: str) -> None:
    assert tool_name(server, tool) == name
    assert NAME.fullmatch(name)
    assert name.partition("__")[0] == server_part(server)  # no server can take another's names


def test_long_names_are_cut_and_stay_different() -> None:
    names = {tool_name("s" * 30, "t" * 60 + end) for end in ("1", "2")}
    assert len(names) == 2
    assert all(len(name) == 64 and NAME.fullmatch(name) for name in names)


@pytest.mark.parametrize(
    "text, shown",
    [
        ("plain, 한국어, é, 🙂\n\ttabs", "plain, 한국어, é, 🙂\n\ttabs"),
        ("a\r\nb", "a\nb"),
        ("\x1b[2J", "\\u001b[2J"),
        ("\u202eevil", "\\u202eevil"),
        ("\u2066x\u2069", "\\u2066x\\u2069"),
        ("a\u200bb\u200d\ufeff", "a\\u200bb\\u200d\\ufeff"),
        ("\U000e0041\U000e0001", "\\U000e0041\\U000e0001"),
        ("\u3164\u2800\u00ad", "\\u3164\\u2800\\u00ad"),
        ("\x85\u2028\u2029", "\\u0085\\u2028\\u2029"),
        ("\ud800", "\\ud800"),
        ("❤️", "❤️"),
    ],
)
def test_what_a_person_can_not_see_is_escaped_and_nothing_else(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert bool(hidden_in(text)) == (shown != text.replace("\r\n", "\n"))


def made(definition: dict[str, Any]) -> Any:
    offer = tools_of(ServerConfig("s", command="c"), [definition], lambda remote: lambda **_: 0)
    return offer.tools[0]


def test_what_arguments_must_match_is_not_rewritten() -> None:
    given = {"enum": ["\u200b"], "description": "\u200b", "const": {"title": "\x1b"}}
    schema = {"properties": {"a": given}}
    found = made({"name": "t", "inputSchema": schema}).parameters["properties"]["a"]
    assert found == {"enum": ["\u200b"], "description": "\\u200b", "const": {"title": "\x1b"}}


@pytest.mark.parametrize(
    "change",
    [
        {"name": "u"},
        {"description": "other"},
        {"inputSchema": {"properties": {"a": {}}}},
        {"inputSchema": {"properties": {}, "required": ["a"]}},
    ],
)
def test_a_changed_definition_has_another_hash(change: dict[str, Any]) -> None:
    base = {"name": "t", "description": "d", "inputSchema": {"properties": {}}}
    assert made(base).definition_hash == made(dict(base)).definition_hash
    assert made(base).definition_hash != made(base | change).definition_hash


def test_a_description_has_an_end() -> None:
    found = made({"name": "t", "description": "x" * 10**6, "inputSchema": {}})
    assert re.fullmatch("x+…", found.description) and len(found.description) == 16_384


def text(*parts: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": part} for part in parts]


@pytest.mark.parametrize(
    "result, value",
    [
        ({"content": []}, ""),
        ({"content": text("a", "b")}, "a\nb"),
        ({"content": [], "structuredContent": {"a": 1}}, {"a": 1}),
        ({"content": text('{"a": 1}'), "structuredContent": {"a": 1}}, {"a": 1}),
        ({"content": text("hi"), "structuredContent": {"content": "hi"}}, "hi"),
        (
            {"content": text("a") + text("b"), "structuredContent": {"result": ["a", "b"]}},
            ["a", "b"],
        ),
        ({"content": text("1"), "structuredContent": {"result": [1]}}, [1]),
        (
            {"content": text("one"), "structuredContent": {"a": 1}},
            {"text": "one", "structured": {"a": 1}},
        ),
        ({"content": text("no"), "isError": True}, Failure("no")),
        ({"content": [{"type": "audio", "mimeType": "audio/wav", "data": "AAAAAA=="}]}, None),
        ({"content": [{"type": "resource", "resource": {"uri": "a:b", "blob": "AAAA"}}]}, None),
        ({"content": [{"type": "hologram"}]}, "[hologram]"),
    ],
)
def test_a_result_becomes_what_a_model_can_read(result: dict[str, Any], value: Any) -> None:
    found = value_of(result)
    if value is None:
        assert re.fullmatch(r"\[(audio audio/wav, 4|resource a:b, 3) bytes\]", found)
    else:
        assert found == value


@pytest.mark.parametrize(
    "schema, is_open",
    [
        ({"type": "object", "properties": {}}, False),
        ({"type": "object", "properties": {"a": {"type": "string"}}}, False),
        ({"type": "object"}, True),
        ({"type": "object", "properties": {}, "additionalProperties": True}, True),
        ({"type": "object", "properties": {}, "patternProperties": {"^x": {}}}, True),
    ],
)
def test_arguments_that_a_server_does_not_name_are_closed_unless_it_says_otherwise(schema, is_open):
    found = made({"name": "t", "inputSchema": schema}).parameters
    assert (found.get("additionalProperties", True) is not False) is is_open
