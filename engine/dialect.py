"""One family's way of writing tool calls, as a grammar for the tools at hand.

Knows grammars/tools/*.lark and how tools enter them. Does not know streams or how tools run.

A file under grammars/tools is Lark text in which a rule whose name ends in `@` is written once
and copied for every tool. `json@function` in an ordinary rule stands for any of the copies for
the tools of that set (`function`, `builtin`, `code`); an alternative on a line of its own is left
out when its set is empty. In a copied rule `@NAME` is the tool's name, `@SCHEMA` its arguments as
JSON, `@KEYWORDS` its arguments as key="value". `<marker>` is the token of that text, or the plain
text where the vocabulary has no such token. Captures are called `name`, `arguments`, `code`, and
`argument_KEY` for keywords.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from engine.constraint import Constraint, Encode, Terminals
from engine.errors import GrammarError, SchemaError
from engine.grammar import Grammar, lark_json
from engine.messages import JSON, ToolSpec
from engine.profile import Profile, Style
from engine.resources import read_text
from engine.vocab import Vocab

ToolSet = Literal["function", "builtin", "code"]

_TOKEN = re.compile(
    r"""(?P<string>"(?:\\.|[^"\\])*")|(?P<comment>//[^\n]*)|(?P<regex>/(?:\\.|[^/\\\n])+/)"""
    r"""|(?P<marker><[^<>\s"]+>)|(?P<use>\b\w+@\w*)|(?P<slot>@[A-Z]+)"""
)
_RULE = re.compile(r"^(\w+@?)(\[[^\]]*\])?\s*:(.*(?:\n[ \t]+.*)*)", re.MULTILINE)
_ANY_NAME: Final = r"/[A-Za-z_][A-Za-z0-9_.-]*/"
_PLAIN_VALUE: Final = r'/[^"\n]*/'


@dataclass(frozen=True, slots=True)
class ParsedCall:
    """A call as it was written: the name and the arguments, not yet validated."""

    name: str
    arguments: Mapping[str, JSON]


@dataclass(frozen=True, slots=True)
class Dialect:
    """A family's style over one vocabulary."""

    profile: Profile
    style: Style
    vocab: Vocab
    encode: Encode | None = None
    _terminals: list[Terminals] = field(default_factory=list, compare=False, repr=False)

    def terminals(self) -> Terminals:
        """This family's end tokens and markers, as the matcher wants them."""
        if not self._terminals:
            found = (self.vocab.find(text) for text in self.profile.markers)
            base = Terminals.of(self.vocab, [token for token in found if token is not None])
            ends = frozenset(self.profile.end_meanings(self.vocab))
            self._terminals.append(Terminals(ends, base.special | ends))
        return self._terminals[0]

    def grammar(
        self,
        tools: Sequence[ToolSpec],
        *,
        prefix: bytes = b"",
        loose: bool = False,
        or_answer: bool = False,
        again: bool = False,
    ) -> Grammar:
        """The grammar of a call, from its trigger to its end.

        `prefix` is text that the token with the trigger's first byte brings along. `loose` allows
        any name and any JSON object: for following a model that is not constrained. `or_answer`
        allows the style's `answer` word instead, at which the grammar is complete. `again` is for
        behind a call: one more, or nothing.
        """
        source = read_text("grammars", "tools", self.style.grammar)
        answer = self.style.answer if or_answer else ""
        separator = self.style.separator if again else None
        text = _Assembly(self, tools, loose).text(source, prefix, answer, separator)
        return Grammar.from_lark(text, self.style.grammar)

    def matcher(
        self,
        tools: Sequence[ToolSpec],
        *,
        prefix: bytes = b"",
        loose: bool = False,
        or_answer: bool = False,
        again: bool = False,
    ) -> Constraint:
        """A fresh matcher for `grammar`."""
        grammar = self.grammar(tools, prefix=prefix, loose=loose, or_answer=or_answer, again=again)
        return self.constraint(grammar)

    def answer_matcher(self) -> Constraint:
        """A matcher for the style's `answer` word alone."""
        return self.constraint(Grammar.from_lark(f"start: {_literal(self.style.answer)}\n"))

    def constraint(self, grammar: Grammar) -> Constraint:
        """A fresh matcher for any grammar, with this family's ends and markers."""
        return grammar.constraint(self.vocab, self.terminals())

    def set_of(self, tool: str) -> ToolSet:
        """Which set of the grammar a tool belongs to, by its name."""
        builtins = self.profile.builtins
        if tool == builtins.code:
            return "code"
        return "builtin" if tool in builtins.tools else "function"

    def check(self, tools: Sequence[ToolSpec]) -> list[tuple[ToolSpec, SchemaError]]:
        """The tools whose arguments can't be enforced, each with the reason."""
        refused = []
        for tool in tools:
            try:
                self.matcher([tool])
            except GrammarError as error:
                reason = error.message.split(": ", 1)[-1]
                keyword = error.data.get("keyword")
                refused.append(
                    (
                        tool,
                        SchemaError(
                            f"tool {tool.name!r}: its arguments {reason}",
                            tool=tool.name,
                            keyword=keyword,
                        ),
                    )
                )
        return refused

    def calls(self, captures: Sequence[tuple[str, bytes]]) -> list[ParsedCall]:
        """The calls in a finished match, in order.

        Raises GrammarError where arguments are not JSON, which only a loose grammar lets through.
        """
        calls: list[tuple[str, dict[str, JSON]]] = []
        for name, data in captures:
            text = data.decode("utf-8", "replace")
            if name == "name":
                calls.append((text, {}))
            elif name == "code":
                calls.append((self.profile.builtins.code or "code", {"code": text}))
            elif name == "arguments":
                calls[-1][1].update(_object(text, calls[-1][0]))
            elif name.startswith("argument_"):
                calls[-1][1][name.removeprefix("argument_")] = text
        return [ParsedCall(name, arguments) for name, arguments in calls]


def _object(text: str, tool: str) -> dict[str, JSON]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise GrammarError(f"arguments of {tool!r} are not JSON: {error}") from error
    if not isinstance(value, dict):
        raise GrammarError(f"arguments of {tool!r} are not a JSON object")
    return value


class _Assembly:
    """Writes a tool grammar's text. Copied rules are made on first use."""

    def __init__(self, dialect: Dialect, tools: Sequence[ToolSpec], loose: bool) -> None:
        self.dialect = dialect
        self.loose = loose
        self.tools = list(tools)
        self.templates: dict[str, tuple[str, str]] = {}
        self.copies: dict[str, str] = {}

    def members(self, which: str) -> list[int]:
        found = [i for i, tool in enumerate(self.tools) if self.dialect.set_of(tool.name) == which]
        # A loose grammar has one copy for all functions: it allows any name.
        return found[:1] if self.loose and which == "function" else found

    def text(self, source: str, prefix: bytes, answer: str, separator: str | None) -> str:
        plain = []
        for name, attributes, body in _RULE.findall(source):
            if name.endswith("@"):
                self.templates[name] = (attributes, body)
            else:
                plain.append((name, attributes, body))
        lines = [f"{name}{attrs}: {self.alternatives(body)}" for name, attrs, body in plain]
        if prefix or answer:
            lines[0] = lines[0].replace("start:", "calls:", 1)
            start = f"start: {_literal(prefix.decode('utf-8', 'replace'))} calls"
            lines.insert(0, start + (f" | {_literal(answer)}" if answer else ""))
        if separator is not None:
            lines[0] = lines[0].replace("start:", "calls:", 1)
            optional = f"{_literal(separator)}? " if separator else ""
            lines.insert(0, f"start: ({optional}calls)?")
        return "\n".join([*lines, *self.copies.values()]) + "\n"

    def alternatives(self, body: str) -> str:
        kept = []
        for line in re.split(r"\n\s*\|", body):
            sets = re.findall(r"\w+@(\w+)", line)
            if all(self.members(which) for which in sets):
                kept.append(self.expand(line.strip(), None))
        if not kept:
            raise GrammarError(f"{self.dialect.style.grammar}: no tool fits this style")
        return "\n   | ".join(kept)

    def expand(self, text: str, tool: int | None) -> str:
        def one(match: re.Match[str]) -> str:
            kind, found = match.lastgroup, match.group()
            if kind == "marker":
                token = self.dialect.vocab.find(found)
                return _literal(found) if token is None else f"<[{token}]>"
            if kind == "use":
                rule, _, which = found.partition("@")
                indices = self.members(which) if tool is None else [tool]
                return "(" + " | ".join(self.copy(rule, i) for i in indices) + ")"
            if kind == "slot" and tool is not None:
                return self.slot(found, tool)
            return "" if kind == "comment" else found

        return _TOKEN.sub(one, text)

    def copy(self, rule: str, tool: int) -> str:
        name = f"{rule}_{tool}"
        if name not in self.copies:
            if f"{rule}@" not in self.templates:
                raise GrammarError(f"{self.dialect.style.grammar}: no rule {rule}@")
            attributes, body = self.templates[f"{rule}@"]
            self.copies[name] = ""  # holds the place, should the rule use itself
            self.copies[name] = f"{name}{attributes}: {self.expand(body.strip(), tool)}"
        return name

    def slot(self, slot: str, tool: int) -> str:
        spec = self.tools[tool]
        if slot == "@NAME":
            is_open = self.loose and self.dialect.set_of(spec.name) == "function"
            return _ANY_NAME if is_open else _literal(spec.name)
        if slot == "@SCHEMA":
            return '%json {"type": "object"}' if self.loose else lark_json(spec.parameters)
        if slot == "@KEYWORDS":
            return self.keywords(spec, tool)
        raise GrammarError(f"{self.dialect.style.grammar}: unknown slot {slot}")

    def keywords(self, spec: ToolSpec, tool: int) -> str:
        parts = []
        for key in self.dialect.profile.builtins.tools[spec.name]:
            name = f"argument_{tool}_{key}"
            self.copies[name] = f'{name}[capture="argument_{key}"]: {_PLAIN_VALUE}'
            parts.append(f'{_literal(key + "=")} "\\"" {name} "\\""')
        return ' ", " '.join(parts)


def _literal(text: str) -> str:
    """A Lark string. Lark's escapes are a subset of JSON's, so JSON writes it."""
    return json.dumps(text, ensure_ascii=False)
