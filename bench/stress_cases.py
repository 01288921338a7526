"""Grammars and texts that go wrong where a mask's cost grows with what was written before it.

Knows schemas, Lark and JSON. Does not know backends.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bench.backends import Kind

WORDS = (
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa",
    "lambda", "mu", "nu", "xi", "omicron",
)  # fmt: skip
ARITHMETIC = r"""
start: sum
sum: product | sum ("+" | "-") product
product: atom | product ("*" | "/") atom
atom: NUMBER | "-" atom | "(" sum ")"
NUMBER: /[0-9]+(\.[0-9]+)?/
"""


@dataclass(frozen=True, slots=True)
class Case:
    """A grammar and one long text of it."""

    name: str
    kind: Kind
    source: str
    text: str


def _case(name: str, schema: Any, value: Any) -> Case:
    return Case(name, "json_schema", json.dumps(schema), json.dumps(value))


def _words(count: int) -> str:
    chance = random.Random(count)
    return " ".join(chance.choice(WORDS) for _ in range(count))


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def weather() -> Case:
    call = _object({"city": {"type": "string"}, "unit": {"enum": ["celsius", "fahrenheit"]}})
    calls = [{"city": _words(1 + i % 4), "unit": "celsius"} for i in range(150)]
    return _case("the weather tool", {"type": "array", "items": call}, calls)


def hundred_tools() -> Case:
    tools = [
        _object(
            {
                "name": {"const": f"tool_{i}_{WORDS[i % len(WORDS)]}"},
                "arguments": _object(
                    {
                        f"{WORDS[i % 7]}_id": {"type": "integer", "minimum": 0},
                        "note": {"type": "string", "maxLength": 40 + i},
                    }
                ),
            }
        )
        for i in range(100)
    ]
    calls = [
        {
            "name": f"tool_{i}_{WORDS[i % len(WORDS)]}",
            "arguments": {f"{WORDS[i % 7]}_id": i, "note": "as asked"},
        }
        for i in (n * 37 % 100 for n in range(150))
    ]
    return _case("100 tools", {"type": "array", "items": {"anyOf": tools}}, calls)


def large_enum() -> Case:
    chance = random.Random(1)
    values = [f"{chance.choice(WORDS)}-{chance.choice(WORDS)}-{i:05}" for i in range(10_000)]
    schema = {"type": "array", "items": {"enum": values}}
    return _case("an enum of 10,000", schema, [chance.choice(values) for _ in range(300)])


def long_string() -> Case:
    text = _words(20_000)[:100_000]
    return _case("maxLength 100,000", {"type": "string", "maxLength": 100_000}, text)


def many_properties() -> Case:
    names = [f"{WORDS[i % len(WORDS)]}_{i}" for i in range(300)]
    random.Random(2).shuffle(names)
    schema = _object({name: {"type": "integer"} for name in sorted(names)})
    return _case("300 properties, any order", schema, {name: i for i, name in enumerate(names)})


def ordered_properties() -> Case:
    names = [f"{WORDS[i % len(WORDS)]}_{i}" for i in range(300)]
    schema = _object({name: {"type": "integer"} for name in names})
    return _case("300 properties, in order", schema, {name: i for i, name in enumerate(names)})


def deep() -> Case:
    schema = _object(
        {"name": {"type": "string"}, "child": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}
    )
    value: Any = None
    for i in range(200):
        value = {"name": f"level {i}", "child": value}
    return _case("recursion 200 deep", schema, value)


def patterns() -> Case:
    properties = {
        "inside": {"type": "string", "pattern": "ab+c|[0-9]{3}-[0-9]{4}"},
        "nested": {"type": "string", "pattern": "(a+)+b"},
        "counted": {"type": "string", "pattern": "^([a-z]{1,2000}){1,2000}$"},
    }
    value = {"inside": _words(10) + " 555-0199 " + _words(10), "nested": "a" * 60 + "b"}
    value["counted"] = _words(40).replace(" ", "")
    return _case(
        "unanchored patterns", {"type": "array", "items": _object(properties)}, [value] * 30
    )


def uris() -> Case:
    schema = {"type": "array", "items": {"type": "string", "format": "uri"}}
    values = [
        f"https://user@{WORDS[i % 15]}.example.org:80{i:02}/a/b%20c?q={i}#x" for i in range(99)
    ]
    return _case("format uri", schema, values)


def branches() -> Case:
    def choice(depth: int, mark: str) -> dict[str, Any]:
        if depth == 0:
            return {"type": "string", "maxLength": 20}
        inner = [
            _object({"kind": {"const": f"{mark}{i}"}, "value": choice(depth - 1, f"{mark}{i}")})
            for i in range(3)
        ]
        return {("anyOf", "oneOf")[depth % 2]: [*inner, {"type": "integer"}]}

    def value(i: int) -> Any:
        a, b, c = i % 3, i // 3 % 3, i // 9 % 3
        inner = {"kind": f"k{a}{b}{c}", "value": "text"}
        return {"kind": f"k{a}", "value": {"kind": f"k{a}{b}", "value": inner}}

    schema = {"type": "array", "items": choice(3, "k")}
    return _case("nested anyOf and oneOf", schema, [value(i) for i in range(120)])


def arithmetic() -> Case:
    chance = random.Random(3)
    terms = [f"{chance.randrange(1000)}*({i}-{chance.randrange(9)}.5)" for i in range(1000)]
    text = terms[0] + "".join(chance.choice("+-") + term for term in terms[1:])
    return Case("1,000 terms, left-recursive", "lark", ARITHMETIC, text)


CASES: list[Callable[[], Case]] = [
    weather,
    hundred_tools,
    large_enum,
    long_string,
    many_properties,
    ordered_properties,
    deep,
    patterns,
    uris,
    branches,
    arithmetic,
]
