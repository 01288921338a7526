"""Lark text for the calls of some tools: a file under grammars/tools with the tools written in.

Knows the files' notation and how schemas enter it. Does not know vocabularies' ids, matchers or
streams.

A file is Lark text in which a rule whose name ends in `@` is written once and copied for every
tool, and inside a tool for every part of its arguments that needs one. `json@function` in an
ordinary rule stands for any of the copies for the tools of that set (`function`, `builtin`,
`code`); an alternative on a line of its own is left out when its set is empty. Slots, all about
the tool or the part of its arguments that the copy is for:

    @NAME               the tool's name
    @SCHEMA             the arguments as one JSON object
    @KEYWORDS           the arguments of a built-in tool as key="value"
    @PARAMETERS("sep")  copies of `parameter@` for an object's properties, in any order
    @KEY, @SAME_KEY     a property's name
    @VALUE              a value by its type: copies of `string@`, `object@`, `array@`, `boolean@`
                        and `null@` where the file has them, else `other@` or JSON
    @TEXT("end", ...)   a string's characters as they are, in which no `end` (or the part STOP)
                        appears
    @QUOTED("quote")    the inside of a Python string; escapes only where any string may stand
    @STRING, @JSON      a string, or any value, as JSON writes it
    @ITEMS("sep")       an array's items, by `@VALUE`

Any other slot is one of the style's `parts`. A string or `<marker>` that is the text of a control
token of the vocabulary, or of one of the family's markers, stands for that token.

Captures: `name`, `id`, `code`; `arguments` (JSON); or, in other notations, `object` around an
object or the parameters, `array`, `key`, and for values `text` (characters as they are), `json`,
`quoted` (the inside of a Python string), `python` (any Python literal) and `any` (JSON, else text).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from engine.errors import GrammarError, SchemaError
from engine.grammar import lark_json
from engine.grammar.kinds import Root, kinds_of
from engine.grammar.shape import check_shape
from engine.messages import ToolSpec

ToolSet = Literal["function", "builtin", "code"]
MAX_PARAMETERS: Final = 60  # of one object; the core tells this many apart in any order
MAX_NESTING: Final = 32  # of objects, lists and alternatives that are written by @VALUE
MAX_VALUES: Final = 5000  # written by @VALUE, over all tools

_ARGUMENTS: Final = r'\((?:\s*"(?:\\.|[^"\\])*"\s*,?)*\)'
_TOKEN = re.compile(
    r"""(?P<string>"(?:\\.|[^"\\])*"i?)|(?P<comment>//[^\n]*)|(?P<regex>/(?:\\.|[^/\\\n])+/)"""
    r"""|(?P<marker><[^<>\s"]+>)|(?P<use>\b\w+@\w*)"""
    rf"""|(?P<slot>@[A-Z][A-Z_]*(?:{_ARGUMENTS})?)"""
)
_RULE = re.compile(r"^(\w+@?)(\[[^\]]*\])?\s*:(.*(?:\n[ \t]+.*)*)", re.MULTILINE)
_ANY_NAME: Final = r"/[A-Za-z_][A-Za-z0-9_.-]*/"
_PLAIN_VALUE: Final = r'/[^"\n]*/'
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


@dataclass
class CallGrammar:
    """Writes one tool grammar's text. Copied rules are made on first use."""

    name: str
    source: str
    tools: Sequence[ToolSpec]
    set_of: Callable[[str], ToolSet]
    token_of: Callable[[str], int | None]  # of a control text
    parts: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    keywords: Mapping[str, Sequence[str]] = field(default_factory=dict)  # of built-in tools
    is_loose: bool = False

    def __post_init__(self) -> None:
        self._templates: dict[str, tuple[str, str]] = {}
        self._copies: dict[str, str] = {}
        self._names: dict[tuple[str, int, str, str | None], str] = {}
        self._plain: list[tuple[str, str, str]] = []
        for name, attributes, body in _RULE.findall(self.source):
            if name.endswith("@"):
                self._templates[name.removesuffix("@")] = (attributes, body)
            else:
                self._plain.append((name, attributes, body))
        self._roots = [Root(tool.parameters) for tool in self.tools]
        self._n_values = self._nesting = 0
        for index in range(len(self.tools)):
            if not self._is_open(index):
                self._check_tool(index)

    def _check_tool(self, index: int) -> None:
        try:
            check_shape(self.tools[index].parameters)
        except SchemaError as error:
            message = f"{self.name}: {error.message}"
            raise SchemaError(message, **{**error.data, "tool": self.tools[index].name}) from error
        if "object" not in kinds_of(self.tools[index].parameters, self._roots[index]):
            raise self._refusal(self._root(index), None, "arguments are an object, it allows none")

    def text(self, prefix: bytes = b"", answer: str = "") -> str:
        """The grammar. `prefix` comes before the call, `answer` may come instead of it.

        Raises SchemaError for a schema that this notation can't hold the model to.
        """
        lines = [f"{name}{attrs}: {self._alternatives(body)}" for name, attrs, body in self._plain]
        if prefix or answer:
            lines[0] = lines[0].replace("start:", "calls:", 1)
            start = f"start: {literal(prefix.decode('utf-8', 'replace'))} calls"
            lines.insert(0, start + (f" | {literal(answer)}" if answer else ""))
        return "\n".join([*lines, *self._copies.values()]) + "\n"

    # Rules

    def _members(self, which: str) -> list[int]:
        found = [i for i, tool in enumerate(self.tools) if self.set_of(tool.name) == which]
        # A loose grammar has one copy for all functions: it allows any name.
        return found[:1] if self.is_loose and which == "function" else found

    def _alternatives(self, body: str) -> str:
        kept = []
        for line in re.split(r"\n\s*\|", body):
            sets = re.findall(r"\w+@(\w+)", line)
            if all(self._members(which) for which in sets):
                kept.append(self._expand(line.strip(), None))
        if not kept:
            raise GrammarError(f"{self.name}: no tool fits this style")
        return "\n   | ".join(kept)

    def _expand(self, text: str, scope: Scope | None) -> str:
        def one(match: re.Match[str]) -> str:
            kind, found = match.lastgroup, match.group()
            if kind in ("marker", "string"):
                return self._string(found if kind == "marker" else json.loads(found), found)
            if kind == "use":
                rule, _, which = found.partition("@")
                if scope is not None:
                    return self._copy(rule, scope)
                copies = [self._copy(rule, self._root(i)) for i in self._members(which)]
                return "(" + " | ".join(copies) + ")"
            if kind == "slot":
                slot, _, given = found.partition("(")
                return self._slot(slot, json.loads(f"[{given[:-1]}]") if given else [], scope)
            return "" if kind == "comment" else found

        return _TOKEN.sub(one, text)

    def _string(self, text: str, written: str) -> str:
        token = self.token_of(text)
        if token is not None:
            return f"<[{token}]>"
        return written if written.startswith('"') else literal(text)

    def _root(self, tool: int) -> Scope:
        return Scope(tool, True if self._is_open(tool) else self.tools[tool].parameters)

    def _is_open(self, tool: int) -> bool:
        return self.is_loose and self.set_of(self.tools[tool].name) == "function"

    def _copy(self, rule: str, scope: Scope) -> str:
        key = (rule, scope.tool, scope.pointer, scope.key)
        if key not in self._names:
            if rule not in self._templates:
                raise GrammarError(f"{self.name}: no rule {rule}@")
            attributes, body = self._templates[rule]
            name = self._new(rule, scope.tool)
            self._names[key] = name
            self._copies[name] = ""  # holds the place, should the rule use itself
            self._copies[name] = f"{name}{attributes}: {self._expand(body.strip(), scope)}"
        return self._names[key]

    def _new(self, rule: str, tool: int) -> str:
        return f"{rule}_{tool}_{len(self._copies)}"

    def _rule(self, rule: str, tool: int, body: str, capture: str = "") -> str:
        """A rule of its own; in capitals a terminal."""
        name = self._new(rule, tool)
        attributes = f'[capture="{capture}"]' if capture else ""
        self._copies[name] = f"{name}{attributes}: {body}"
        return name

    # Slots

    def _slot(self, slot: str, given: list[str], scope: Scope | None) -> str:
        part = self.parts.get(slot.removeprefix("@"))
        if part is not None:
            return self._part(part)
        if scope is None:
            raise GrammarError(f"{self.name}: {slot} is not one of the style's parts")
        match slot:
            case "@NAME":
                return _ANY_NAME if self._is_open(scope.tool) else literal(self._name(scope))
            case "@SCHEMA":
                if self.is_loose:
                    return lark_json({"type": "object"})
                return lark_json(self._part_of(scope, {"object"}))
            case "@KEYWORDS":
                return self._keywords(scope)
            case "@PARAMETERS":
                return self._parameters(scope, self._part(given[:1]))
            case "@KEY" | "@SAME_KEY":
                return self._key(scope)
            case "@VALUE":
                return self._value(scope)
            case "@TEXT":
                return self._text(scope, given or [str(self.parts.get("STOP", ""))])
            case "@QUOTED":
                return self._quoted(scope, given[0])
            case "@STRING":
                return lark_json(self._part_of(scope, {"string"}))
            case "@JSON":
                return lark_json(self._roots[scope.tool].whole(scope.schema))
            case "@ITEMS":
                return self._items(scope, self._part(given[:1]))
        raise GrammarError(f"{self.name}: unknown slot {slot}")

    def _part(self, part: str | Sequence[str]) -> str:
        texts = [part] if isinstance(part, str) else part
        found = " ".join(self._string(text, literal(text)) for text in texts)
        return f"({found})" if len(texts) > 1 else found or '""'

    def _name(self, scope: Scope) -> str:
        return self.tools[scope.tool].name

    def _keywords(self, scope: Scope) -> str:
        parts = []
        for key in self.keywords[self._name(scope)]:
            name = self._rule("key", scope.tool, literal(key), "key")
            value = self._rule("text", scope.tool, _PLAIN_VALUE, "text")
            parts.append(f'{name} "=" "\\"" {value} "\\""')
        return self._rule("keywords", scope.tool, ' ", " '.join(parts), "object")

    def _key(self, scope: Scope) -> str:
        if scope.key:
            return literal(scope.key)
        if not scope.known:
            return _ANY_NAME
        known = " | ".join(literal(key) for key in scope.known)
        return self._rule("KEY", scope.tool, f"{_ANY_NAME} & ~({known})")

    def _text(self, scope: Scope, ends: Sequence[str]) -> str:
        parts = ["%text " + json.dumps(self._part_of(scope, {"string"}))]
        parts += [f"~({_ANYTHING} {literal(end)} {_ANYTHING})" for end in ends if end]
        return self._rule("TEXT", scope.tool, " & ".join(parts))

    def _quoted(self, scope: Scope, quote: str) -> str:
        schema, _ = self._roots[scope.tool].resolved(scope.schema, scope.pointer)
        if isinstance(schema, Mapping) and set(schema) - _SILENT - {"type"}:
            return self._text(scope, (quote, "\\"))  # what the schema counts has no escapes in it
        inside = rf"[^\\{quote}]|\\[\\'\"abfnrtv]|\\x[01][0-9a-fA-F]"
        return self._rule("TEXT", scope.tool, f"/(?:{inside})*/")

    # Values

    def _part_of(self, scope: Scope, kinds: AbstractSet[str]) -> Any:
        """The part of a scope's schema that is of these kinds, with what it refers to."""
        root = self._roots[scope.tool]
        if kinds_of(scope.schema, root) <= kinds:
            return root.whole(scope.schema)
        narrowed = {"allOf": [scope.schema, {"type": sorted(kinds)}]}
        return root.whole(narrowed if scope.schema is not True else {"type": sorted(kinds)})

    def _value(self, scope: Scope) -> str:
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
        own = [kind for kind in _BY_KIND if kind in self._templates]
        if inner and any(kind in own for kind in ("object", "array")):
            word, branches = inner
            parts = [
                self._value(Scope(scope.tool, each, f"{pointer}/{word}/{index}"))
                for index, each in enumerate(branches)
            ]
            return "(" + " | ".join(parts) + ")"
        is_any = schema is True or schema == {}
        # All parts of which nothing is said are one, so that rules end.
        scope = Scope(scope.tool, True, "*") if is_any else Scope(scope.tool, schema, pointer)
        kinds = kinds_of(schema, self._roots[scope.tool])
        if "any" in self._templates and is_any:
            return self._copy("any", scope)
        if isinstance(schema, Mapping) and not {"enum", "const"}.isdisjoint(schema):
            own = []
        own = [kind for kind in own if kind in kinds]
        apart = {*own, *({"string"} if "string" in self._templates else ())}
        parts = [self._copy(kind, scope) for kind in own]
        if kinds - apart:
            rest = replace(scope, schema=self._part_of(scope, kinds - apart))
            if "other" in self._templates:
                parts.append(self._copy("other", replace(rest, key="other")))
            else:
                parts.append(self._rule("json", scope.tool, lark_json(rest.schema), "json"))
        if "string" in kinds and "string" in self._templates:
            parts.append(self._copy("string", scope))
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

    def _parameters(self, scope: Scope, separator: str) -> str:
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
            parts.append(self._copy("parameter", inner) + ("" if key in required else "?"))
        others = given.get("additionalProperties", (not properties and pointer != "") or not given)
        if others is not False:
            inner = Scope(
                scope.tool, others, f"{pointer}/additionalProperties", "", tuple(properties)
            )
            parts.append(self._copy("parameter", inner) + "*")
        return f"%any_order({', '.join([separator, *parts])})" if parts else '""'

    def _items(self, scope: Scope, separator: str) -> str:
        schema, pointer = self._roots[scope.tool].resolved(scope.schema, scope.pointer)
        self._check(schema, _ARRAY_WORDS, scope, pointer, "array")
        given = schema if isinstance(schema, Mapping) else {}
        inner = Scope(scope.tool, given.get("items", True), f"{pointer}/items")
        item = self._copy("item", inner) if "item" in self._templates else self._value(inner)
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
            f"{self.name}: {at}: {what}",
            tool=self._name(scope),
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


def slots_of(source: str) -> Iterator[str]:
    """The slots that a file uses, without `@` and arguments."""
    for match in _TOKEN.finditer(source):
        if match.lastgroup == "slot":
            yield match.group().removeprefix("@").partition("(")[0]
