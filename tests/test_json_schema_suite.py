"""The official JSON Schema test suite, draft 2020-12, required tests.

Each instance is written as JSON and fed byte by byte to a matcher that takes keys in any order and
every spelling. A group that is not right must be listed, with its reason, in the file beside this
one; none may be wrong silently: what can't be enforced is refused.
"""

from __future__ import annotations

import json
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from fakes import byte_vocab

from engine import _native
from engine.constraint import Terminals
from engine.grammar import native

LISTED = Path(__file__).with_name("json_schema_not_right.toml")
REMOTES = "http://localhost:1234/"


@cache
def ready() -> _native.Vocabulary:
    vocab = byte_vocab()
    return native.vocabulary(vocab, Terminals.of(vocab))


def compiled(schema: Any, remotes: dict[str, str]) -> _native.Grammar:
    """As the suite has it: formats are only notes, and some documents are known by their URI."""
    grammar = _native.Grammar(
        ready(),
        spacing=list(native.FLEXIBLE),
        any_order=True,
        escapes="any",
        checks_formats=False,
        property=native._property,
    )
    if REMOTES in json.dumps(schema):
        for uri, document in remotes.items():
            grammar.add_resource(uri, document)
    grammar.finish(grammar.schema(json.dumps(schema)))
    return grammar


def accepts(grammar: _native.Grammar, text: str) -> bool:
    matcher = _native.Matcher(grammar)
    return all(matcher.advance(byte) for byte in text.encode()) and matcher.is_accepting


def judge(group: dict[str, Any], remotes: dict[str, str]) -> str | None:
    """None if the group is right, else `refused: KEYWORD` or `wrong: TEST`."""
    try:
        grammar = compiled(group["schema"], remotes)
    except _native.SchemaError as error:
        message, _, keyword = error.args
        # A schema that nothing is valid for is refused with just this message: it is understood.
        if message == "no JSON value is valid" and not any(t["valid"] for t in group["tests"]):
            return None
        return f"refused: {keyword or message}"
    except _native.TooComplex as error:
        return f"refused: {error.args[0]}"
    for test in group["tests"]:
        if accepts(grammar, json.dumps(test["data"], ensure_ascii=False)) != test["valid"]:
            return f"wrong: {test['description']}"
    return None


@pytest.fixture(scope="module")
def judged(shared_data: Path) -> dict[tuple[str, str], str | None]:
    folder = shared_data / "json-schema-test-suite"
    remotes = {
        REMOTES + path.relative_to(folder / "remotes").as_posix(): path.read_text()
        for path in sorted((folder / "remotes").rglob("*.json"))
    }
    out = {}
    for path in sorted((folder / "tests" / "draft2020-12").glob("*.json")):
        for group in json.loads(path.read_text()):
            out[path.name, group["description"]] = judge(group, remotes)
    return out


def listed() -> dict[tuple[str, str], dict[str, str]]:
    groups = tomllib.loads(LISTED.read_text())["group"]
    return {(group["file"], group["description"]): group for group in groups}


def test_no_group_is_wrong_silently(judged: dict[tuple[str, str], str | None]) -> None:
    assert not [item for item in judged.items() if (item[1] or "").startswith("wrong")]


def test_the_list_of_groups_that_are_not_right_is_true(
    judged: dict[tuple[str, str], str | None],
) -> None:
    refused = {key: verdict.removeprefix("refused: ") for key, verdict in judged.items() if verdict}
    assert refused == {key: group["refused"] for key, group in listed().items()}


def test_nearly_all_groups_are_right(judged: dict[tuple[str, str], str | None]) -> None:
    assert len(judged) >= 383
    assert sum(verdict is None for verdict in judged.values()) >= 340


def test_every_listed_group_has_a_reason() -> None:
    assert all(len(group["reason"]) > 20 for group in listed().values())
