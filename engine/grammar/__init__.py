"""Grammars: Lark text, JSON Schema, regular expressions, GBNF.

Knows what a person writes and the options that go with it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from engine.constraint import Constraint, Terminals
from engine.errors import SchemaError
from engine.grammar.limits import Limits as Limits
from engine.grammar.limits import deep_pointer
from engine.grammar.native import NativeConstraint
from engine.vocab import Vocab


@dataclass(frozen=True, slots=True)
class Grammar:
    """A grammar as a person writes it. Cheap to make; `constraint` compiles it.

    `from_lark` takes the Lark dialect that llguidance documents (`<|token|>`, `<[id]>`,
    `%json {...}`, `rule[capture="name"]`), `from_gbnf` llama.cpp's.

    The other fields are about JSON. `whitespace` between its parts: `compact`, as `json.dumps`
    writes it (what models were trained on), or `flexible`. Properties come in the schema's order,
    other keys behind them, unless `any_order`. With `escapes="any"` strings may be written in every
    way that JSON has and numbers too, else characters are escaped only where they must be and
    exponents have at most two digits. `best_effort` weakens what can't be enforced instead of
    refusing it; the matcher's `weakened` says what. `limits` say how large a grammar may be.
    """

    kind: Literal["lark", "json_schema", "regex", "gbnf"]
    source: str
    name: str = field(default="grammar", compare=False)
    whitespace: Literal["compact", "json.dumps", "flexible"] = "json.dumps"
    any_order: bool = False
    escapes: Literal["needed", "any"] = "needed"
    best_effort: bool = False
    limits: Limits = field(default_factory=Limits)

    @classmethod
    def from_lark(cls, text: str, name: str = "grammar", **options: Any) -> Grammar:
        return cls("lark", text, name, **options)

    @classmethod
    def from_gbnf(cls, text: str, name: str = "grammar", **options: Any) -> Grammar:
        return cls("gbnf", text, name, **options)

    @classmethod
    def from_schema(
        cls, schema: Mapping[str, Any] | bool, name: str = "schema", **options: Any
    ) -> Grammar:
        """JSON that is valid for `schema`. Raises SchemaError where it is not JSON itself."""
        try:
            return cls("json_schema", json.dumps(schema), name, **options)
        except RecursionError as error:
            limits = options.get("limits", Limits())
            pointer = deep_pointer(schema, limits.depth) or ""
            what = limits.excess("depth", limits.depth + 1, "brackets inside each other")
            facts = limits.facts("depth", limits.depth + 1)
            raise SchemaError(
                f"{name}: {pointer}: {what}", keyword=None, pointer=pointer, **facts
            ) from error
        except (TypeError, ValueError) as error:
            raise SchemaError(f"{name}: not a JSON value ({error})", keyword=None) from error

    @classmethod
    def from_regex(cls, pattern: str, name: str = "pattern", **options: Any) -> Grammar:
        return cls("regex", pattern, name, **options)

    def constraint(self, vocab: Vocab, terminals: Terminals | None = None) -> Constraint:
        """A fresh matcher over `vocab`.

        Vocabulary and grammar are made ready once per process and kept. Raises GrammarError with
        line and column, SchemaError naming the keyword.
        """
        return NativeConstraint(self, vocab, terminals or Terminals.of(vocab))


def lark_json(schema: Mapping[str, Any]) -> str:
    """`%json {...}` for a Lark text."""
    return "%json " + json.dumps(schema)
