"""Lark text for the calls of some tools: a file under grammars/tools with the tools written in.

Knows the files' notation. Does not know how schemas are read (`callvalues`), vocabularies' ids,
matchers or streams.

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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from engine.callvalues import ANY_NAME, Scope, Values, literal
from engine.errors import GrammarError
from engine.grammar import lark_json
from engine.messages import ToolSpec

ToolSet = Literal["function", "builtin", "code"]

_ARGUMENTS: Final = r'\((?:\s*"(?:\\.|[^"\\])*"\s*,?)*\)'
_TOKEN = re.compile(
    r"""(?P<string>"(?:\\.|[^"\\])*"i?)|(?P<comment>//[^\n]*)|(?P<regex>/(?:\\.|[^/\\\n])+/)"""
    r"""|(?P<marker><[^<>\s"]+>)|(?P<use>\b\w+@\w*)"""
    rf"""|(?P<slot>@[A-Z][A-Z_]*(?:{_ARGUMENTS})?)"""
)
_RULE = re.compile(r"^(\w+@?)(\[[^\]]*\])?\s*:(.*(?:\n[ \t]+.*)*)", re.MULTILINE)
_PLAIN_VALUE: Final = r'/[^"\n]*/'


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
        self._values = Values(self.name, self.tools, self)
        for index in range(len(self.tools)):
            if not self._is_open(index):
                self._values.check_tool(index)

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
                    return self.copy(rule, scope)
                copies = [self.copy(rule, self._root(i)) for i in self._members(which)]
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

    def has(self, rule: str) -> bool:
        return rule in self._templates

    def copy(self, rule: str, scope: Scope) -> str:
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

    def rule(self, rule: str, tool: int, body: str, capture: str = "") -> str:
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
                return ANY_NAME if self._is_open(scope.tool) else literal(self._name(scope))
            case "@SCHEMA":
                if self.is_loose:
                    return lark_json({"type": "object"})
                return lark_json(self._values.part_of(scope, {"object"}))
            case "@KEYWORDS":
                return self._keywords(scope)
            case "@PARAMETERS":
                return self._values.parameters(scope, self._part(given[:1]))
            case "@KEY" | "@SAME_KEY":
                return self._values.key(scope)
            case "@VALUE":
                return self._values.value(scope)
            case "@TEXT":
                return self._values.text(scope, given or [str(self.parts.get("STOP", ""))])
            case "@QUOTED":
                return self._values.quoted(scope, given[0])
            case "@STRING":
                return lark_json(self._values.part_of(scope, {"string"}))
            case "@JSON":
                return lark_json(self._values.whole(scope))
            case "@ITEMS":
                return self._values.items(scope, self._part(given[:1]))
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
            name = self.rule("key", scope.tool, literal(key), "key")
            value = self.rule("text", scope.tool, _PLAIN_VALUE, "text")
            parts.append(f'{name} "=" "\\"" {value} "\\""')
        return self.rule("keywords", scope.tool, ' ", " '.join(parts), "object")
