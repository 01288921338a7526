"""An argument's schema as Lark text: the alternatives of a value, an object's and an array's parts.

Knows schemas and which parts of a notation a file writes in its own way. Does not know the files'
text, sets of tools or vocabularies.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from engine.errors import SchemaError
from engine.grammar import lark_json
from engine.grammar.kinds import Root, kinds_of
from engine.grammar.shape import check_shape
from engine.messages import ToolSpec

MAX_PARAMETERS: Final = 60  # of one object; the core tells this many apart in any order
MAX_NESTING: Final = 32  # of objects, lists and alternatives that are written by @VALUE
MAX_VALUES: Final = 5000  # written by @VALUE, over all tools

ANY_NAME: Final = r"/[A-Za-z_][A-Za-z0-9_.-]*/"
_ANYTHING: Final = r"/(?s:.*)/"
_BY_KIND: Final = ("object", "array", "boolean", "null")  # that a file may write in its own way
_OBJECT_WORDS: Final = {"type", "properties", "required", "additionalProperties"}
_ARRAY_WORDS: Final = {"type", "items", "minItems", "maxItems"}
_SILENT: Final = {"title", "description", "default", "examples", "$schema", "$id", "$comment"} | {
    "$defs",
    "definitions",
    "deprecated",
    "readOnly",
    "writeOnly",
}


@dataclass(frozen=True, slots=True)
class Scope:
    """What a copy is for: a tool, and the part of its arguments at `pointer`."""

    tool: int
    schema: Any
    pointer: str = ""
    key: str | None = None  # None for items, "" for keys that no property names
    known: tuple[str, ...] = ()  # keys that such a one is not


class Rules(Protocol):
    """Where the rules are written."""

    def has(self, rule: str) -> bool:
        """Whether the file writes such parts in its own way."""

    def copy(self, rule: str, scope: Scope) -> str:
        """The name of a rule's copy for a part of the arguments."""

    def rule(self, rule: str, tool: int, body: str, capture: str = "") -> str:
        """The name of a rule of its own; in capitals a terminal."""


class Values:
    """The values of some tools' arguments. `name` is the grammar's, for errors."""

    def __init__(self, name: str, tools: Sequence[ToolSpec], rules: Rules) -> None:
        self._name = name
        self._tools = tools
        self._rules = rules
        self._roots = [Root(tool.parameters) for tool in tools]
        self._n_values = self._nesting = 0

    def check_tool(self, index: int) -> None:
        """Raises SchemaError where a tool's schema can't be read or has no object."""
        try:
            check_shape(self._tools[index].parameters)
        except SchemaError as error:
            message = f"{self._name}: {error.message}"
            raise SchemaError(message, **{**error.data, "tool": self._tools[index].name}) from error
        if "object" not in kinds_of(self._tools[index].parameters, self._roots[index]):
            scope = Scope(index, self._tools[index].parameters)
            raise self._refusal(scope, None, "arguments are an object, it allows none")

    def key(self, scope: Scope) -> str:
        """A property's name: the scope's, or any that is not known."""
        if scope.key:
            return literal(scope.key)
        if not scope.known:
            return ANY_NAME
        known = " | ".join(literal(key) for key in scope.known)
        return self._rules.rule("KEY", scope.tool, f"{ANY_NAME} & ~({known})")

    def text(self, scope: Scope, ends: Sequence[str]) -> str:
        """A string's characters as they are, without any of `ends`."""
        parts = ["%text " + json.dumps(self.part_of(scope, {"string"}))]
        parts += [f"~({_ANYTHING} {literal(end)} {_ANYTHING})" for end in ends if end]
        return self._rules.rule("TEXT", scope.tool, " & ".join(parts))

    def quoted(self, scope: Scope, quote: str) -> str:
        """The inside of a Python string."""
        schema, _ = self._roots[scope.tool].resolved(scope.schema, scope.pointer)
        if isinstance(schema, Mapping) and set(schema) - _SILENT - {"type"}:
            return self.text(scope, (quote, "\\"))  # what the schema counts has no escapes in it
        inside = rf"[^\\{quote}]|\\[\\'\"abfnrtv]|\\x[01][0-9a-fA-F]"
        return self._rules.rule("TEXT", scope.tool, f"/(?:{inside})*/")

    def whole(self, scope: Scope) -> Any:
        """A scope's schema, with what it refers to."""
        return self._roots[scope.tool].whole(scope.schema)

    def part_of(self, scope: Scope, kinds: AbstractSet[str]) -> Any:
        """The part of a scope's schema that is of these kinds, with what it refers to."""
        root = self._roots[scope.tool]
        if kinds_of(scope.schema, root) <= kinds:
            return root.whole(scope.schema)
        narrowed = {"allOf": [scope.schema, {"type": sorted(kinds)}]}
        return root.whole(narrowed if scope.schema is not True else {"type": sorted(kinds)})

    def value(self, scope: Scope) -> str:
        """A value by its type: the file's own way for those it has one for, else JSON."""
        self._n_values += 1
        if self._nesting >= MAX_NESTING or self._n_values > MAX_VALUES:
            most = MAX_NESTING if self._nesting >= MAX_NESTING else MAX_VALUES
            what = f"more than {most} values {'inside each other' * (most == MAX_NESTING)}"
            raise self._refusal(scope, None, what.rstrip())
        self._nesting += 1
        try:
            return self._written(scope)
        finally:
            self._nesting -= 1

    def _written(self, scope: Scope) -> str:
        schema, pointer = self._roots[scope.tool].resolved(scope.schema, scope.pointer)
        inner = self._branches(schema)
        own = [kind for kind in _BY_KIND if self._rules.has(kind)]
        if inner and any(kind in own for kind in ("object", "array")):
            word, branches = inner
            parts = [
                self.value(Scope(scope.tool, each, f"{pointer}/{word}/{index}"))
                for index, each in enumerate(branches)
            ]
            return "(" + " | ".join(parts) + ")"
        is_any = schema is True or schema == {}
        # All parts of which nothing is said are one, so that rules end.
        scope = Scope(scope.tool, True, "*") if is_any else Scope(scope.tool, schema, pointer)
        kinds = kinds_of(schema, self._roots[scope.tool])
        if self._rules.has("any") and is_any:
            return self._rules.copy("any", scope)
        if isinstance(schema, Mapping) and not {"enum", "const"}.isdisjoint(schema):
            own = []
        own = [kind for kind in own if kind in kinds]
        apart = {*own, *({"string"} if self._rules.has("string") else ())}
        parts = [self._rules.copy(kind, scope) for kind in own]
        if kinds - apart:
            rest = replace(scope, schema=self.part_of(scope, kinds - apart))
            if self._rules.has("other"):
                parts.append(self._rules.copy("other", replace(rest, key="other")))
            else:
                parts.append(self._rules.rule("json", scope.tool, lark_json(rest.schema), "json"))
        if "string" in kinds and self._rules.has("string"):
            parts.append(self._rules.copy("string", scope))
        if not parts:
            raise self._refusal(scope, None, "allows no value")
        return "(" + " | ".join(parts) + ")"

    def _branches(self, schema: Any) -> tuple[str, Sequence[Any]] | None:
        """The alternatives of a schema that says nothing else."""
        for word in ("anyOf", "oneOf"):
            if (
                isinstance(schema, Mapping)
                and word in schema
                and not set(schema) - _SILENT - {word}
            ):
                return word, schema[word]
        return None

    def parameters(self, scope: Scope, separator: str) -> str:
        """An object's properties, in any order."""
        schema, pointer = self._roots[scope.tool].resolved(scope.schema, scope.pointer)
        self._check(schema, _OBJECT_WORDS, scope, pointer, "object")
        given = schema if isinstance(schema, Mapping) else {}
        properties: Mapping[str, Any] = given.get("properties", {})
        required = given.get("required", ())
        if len(properties) > MAX_PARAMETERS:
            what = f"has more than {MAX_PARAMETERS} properties"
            raise self._refusal(scope, "properties", what, pointer)
        if missing := [key for key in required if key not in properties]:
            what = f"requires {missing[0]!r}, which is no property"
            raise self._refusal(scope, "required", what, pointer)
        parts = []
        for key, value in properties.items():
            if not kinds_of(value, self._roots[scope.tool]):
                if key in required:
                    raise self._refusal(scope, "required", f"{key!r} allows no value", pointer)
                continue
            inner = Scope(scope.tool, value, f"{pointer}/properties/{_escaped(key)}", key)
            parts.append(self._rules.copy("parameter", inner) + ("" if key in required else "?"))
        others = given.get("additionalProperties", (not properties and pointer != "") or not given)
        if others is not False:
            inner = Scope(
                scope.tool, others, f"{pointer}/additionalProperties", "", tuple(properties)
            )
            parts.append(self._rules.copy("parameter", inner) + "*")
        return f"%any_order({', '.join([separator, *parts])})" if parts else '""'

    def items(self, scope: Scope, separator: str) -> str:
        """An array's items."""
        schema, pointer = self._roots[scope.tool].resolved(scope.schema, scope.pointer)
        self._check(schema, _ARRAY_WORDS, scope, pointer, "array")
        given = schema if isinstance(schema, Mapping) else {}
        inner = Scope(scope.tool, given.get("items", True), f"{pointer}/items")
        item = self._rules.copy("item", inner) if self._rules.has("item") else self.value(inner)
        least, most = given.get("minItems", 0), given.get("maxItems")
        if most == 0:
            return '""'
        high = "" if most is None else str(most - 1)
        some = f"{item} ({separator} {item}){{{max(least - 1, 0)},{high}}}"
        return some if least else f"({some})?"

    def _check(self, schema: Any, words: set[str], scope: Scope, pointer: str, kind: str) -> None:
        """That a schema says only what this notation can hold the model to."""
        for word in schema if isinstance(schema, Mapping) else ():
            if word not in words | _SILENT and not _is_about_others(word, kind):
                what = f"can't be enforced in this family's notation of an {kind}"
                raise self._refusal(scope, word, what, pointer)

    def _refusal(
        self, scope: Scope, keyword: str | None, what: str, pointer: str | None = None
    ) -> SchemaError:
        where = scope.pointer if pointer is None else pointer
        at = f"{where}/{keyword}" if keyword else where or "the schema"
        return SchemaError(
            f"{self._name}: {at}: {what}",
            tool=self._tools[scope.tool].name,
            keyword=keyword,
            pointer=where,
        )


_ABOUT: Final = {
    "object": ("minLength", "maxLength", "pattern", "format", "minimum", "maximum", "multipleOf")
    + ("exclusiveMinimum", "exclusiveMaximum", "items", "minItems", "maxItems"),
    "array": ("minLength", "maxLength", "pattern", "format", "minimum", "maximum", "multipleOf")
    + ("exclusiveMinimum", "exclusiveMaximum", "properties", "required", "additionalProperties"),
}


def _is_about_others(word: str, kind: str) -> bool:
    """Whether a keyword says nothing about values of `kind`."""
    return word in _ABOUT[kind]


def literal(text: str) -> str:
    """A Lark string. Lark's escapes are a subset of JSON's, so JSON writes it."""
    return json.dumps(text, ensure_ascii=False)


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
