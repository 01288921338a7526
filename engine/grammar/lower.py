"""A `GrammarText` as the compiled core's grammar.

Knows names, attributes and tokens. Does not know any dialect's syntax or how matching works.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from engine import _native
from engine.errors import GrammarError, SchemaError
from engine.grammar.excerpt import mistake, suggestion
from engine.grammar.limits import Limits, too_complex
from engine.grammar.recursion import LeftRecursion, without_left_recursion
from engine.grammar.syntax import (
    AnyOrder,
    Both,
    Choice,
    Chunks,
    GrammarText,
    Item,
    Json,
    Literal,
    Name,
    Not,
    Pattern,
    Place,
    Repeat,
    Rule,
    Sequence,
    Special,
    Text,
    leaves,
    names,
)
from engine.vocab import Vocab

_ID_RANGE: Final = re.compile(r"\*|(\d{1,9})(?:-(\d{1,9}))?", re.ASCII)
MAX_CHAIN: Final = 256  # of terminals, or of rules without recursion, inside each other
MAX_ANY_ORDER: Final = 62  # parts of one %any_order
MAX_TOKEN_IDS: Final = 4096  # that one <[...]> may name
_ATTRIBUTES: Final = ("capture", "lazy", "suffix", "stop_capture")
_UNSUPPORTED: Final = ("stop", "temperature", "max_tokens")


@dataclass
class Lowering:
    """Fills and finishes `grammar` with `text`, whose places are in `source`."""

    text: GrammarText
    source: str
    grammar: _native.Grammar
    vocab: Vocab
    limits: Limits

    def __post_init__(self) -> None:
        self.rules: dict[str, Rule] = {}
        self.terminals: dict[str, Rule] = {}
        self.expressions: dict[str, int] = {}  # of terminals and regular rules, by name
        self.patterns: dict[tuple[str, bool, bool], int] = {}
        self.texts: dict[str, int] = {}  # expressions, by their schemas
        self.numbers: dict[str, int] = {}
        self.ignored: int | None = None

    def mistake(self, place: Place, what: str, **data: object) -> GrammarError:
        return mistake(self.source, place, what, "grammar", **data)

    def check_limit(self, option: str, found: int, what: str, place: Place) -> None:
        if excess := self.limits.excess(option, found, what):
            raise self.mistake(place, excess, **self.limits.facts(option, found))

    def run(self) -> None:
        """Raises GrammarError with the place in the source."""
        try:
            self._run()
        except RecursionError as error:  # not by depth alone: the caller may stand deep already
            raise GrammarError("grammar: nested too deeply") from error

    def _run(self) -> None:
        if given := self.text.rules:
            first = given[min(self.limits.rules, len(given) - 1)]  # of those that are too many
            self.check_limit("rules", len(given), "rules and terminals", first.place)
        for rule in given:
            self.collect(rule)
        if self.text.start not in self.rules:
            hint = suggestion(self.text.start, self.rules)
            raise self.mistake(Place(1, 1), f"no rule {self.text.start}{hint}")
        self.check_names()
        for name in self.in_order_of_use():
            self.expressions[name] = self.expression(self.terminals[name].body)
        if not self.text.ignored:
            self.find_regular()
        try:
            rules = self.rules = without_left_recursion(self.rules, self.is_empty_word)
        except LeftRecursion as error:
            raise self.mistake(error.rule.place, f"{error.rule.name}: {error}") from error
        if self.text.ignored:
            skipped = self.grammar.either([self.expression(item) for item in self.text.ignored])
            self.ignored = self.grammar.word(self.grammar.repeat(skipped, 0))
        else:
            self.find_regular()
        for name in rules:
            self.numbers[name] = self.grammar.declare()
        for name, body in rules.items():
            self.grammar.define(self.numbers[name], self.rule(body))
        start = self.grammar.rule(self.numbers[self.text.start])
        if self.ignored is not None:
            start = self.grammar.sequence([self.ignored, start])
        try:
            self.grammar.finish(start)
        except ValueError as error:
            place = rules[self.text.start].place
            raise self.mistake(place, f"{self.text.start}: {error}") from error

    def collect(self, rule: Rule) -> None:
        table = self.terminals if rule.is_terminal else self.rules
        if rule.name in table:
            raise self.mistake(rule.place, f"{rule.name} is defined twice")
        table[rule.name] = rule
        for attribute in rule.attributes:
            if attribute in _UNSUPPORTED:
                raise self.mistake(rule.place, f"{rule.name}: {attribute} is not supported")
            if attribute not in _ATTRIBUTES:
                hint = suggestion(attribute, _ATTRIBUTES)
                raise self.mistake(rule.place, f"unknown attribute {attribute}{hint}")
            if rule.is_terminal:
                raise self.mistake(
                    rule.place, f"{rule.name}: a terminal has no attributes; a rule may have them"
                )
        for attribute in ("capture", "suffix", "stop_capture"):
            value = rule.attributes.get(attribute, "x")
            is_text = isinstance(value, str) and value != ""
            if not is_text and not (attribute == "capture" and value is True):
                raise self.mistake(rule.place, f"{rule.name}: {attribute} must be a text")
        if "stop_capture" in rule.attributes and "suffix" not in rule.attributes:
            raise self.mistake(rule.place, f"{rule.name}: stop_capture needs a suffix")

    def check_names(self) -> None:
        bodies = [rule.body for rule in self.text.rules]
        for part in (part for body in (*bodies, *self.text.ignored) for part in names(body)):
            if part.name not in self.rules and part.name not in self.terminals:
                hint = suggestion(part.name, [*self.terminals, *self.rules])
                raise self.mistake(part.place, f"no rule or terminal {part.name}{hint}")

    def in_order_of_use(self) -> Iterator[str]:
        """The terminals, each behind those that it refers to."""
        done: set[str] = set()
        for root in self.terminals:
            path = [(root, self.used_terminals(root))]
            while path and root not in done:
                name, used = path[-1]
                part = next((part for part in used if part.name not in done), None)
                if part is None:
                    done.add(name)
                    path.pop()
                    yield name
                elif any(part.name == open_ for open_, _ in path):
                    raise self.mistake(part.place, f"the terminal {part.name} refers to itself")
                elif len(path) > MAX_CHAIN:
                    raise self.mistake(
                        part.place, f"more than {MAX_CHAIN} terminals inside each other"
                    )
                else:
                    path.append((part.name, self.used_terminals(part.name)))

    def used_terminals(self, name: str) -> Iterator[Name]:
        return (part for part in names(self.terminals[name].body) if part.name in self.terminals)

    def find_regular(self) -> None:
        for name in _regular(self.rules, self.expressions):
            if name not in self.expressions:
                self.expressions[name] = self.expression(self.rules[name].body)

    def is_empty_word(self, item: Item) -> bool:
        return self.grammar.is_nullable(self.expression(item))

    # Rules

    def rule(self, rule: Rule) -> int:
        attributes = rule.attributes
        if "suffix" in attributes:
            return self.rule_with_suffix(rule)
        if "lazy" in attributes:
            node = self.grammar.word(self.shortest(self.expression(rule.body)))
        elif "capture" in attributes:
            node = self.node(rule.body, is_bare=True)
        else:
            return self.node(rule.body)
        return self.then_ignored(self.captured(rule, "capture", node))

    def rule_with_suffix(self, rule: Rule) -> int:
        suffix = str(rule.attributes["suffix"])
        front = self.grammar.word(self.before(self.expression(rule.body), suffix))
        end = self.grammar.word(self.grammar.literal(suffix.encode()))
        parts = [self.captured(rule, "capture", front), self.captured(rule, "stop_capture", end)]
        return self.then_ignored(self.grammar.sequence(parts))

    def captured(self, rule: Rule, attribute: str, node: int) -> int:
        name = rule.attributes.get(attribute)
        if name is None:
            return node
        return self.grammar.capture(rule.name if name is True else str(name), node)

    def shortest(self, body: int) -> int:
        """The texts of which no beginning matches too."""
        more = self.grammar.concat([body, self.anything(1)])
        return self.grammar.both([body, self.grammar.negate(more)])

    def before(self, body: int, suffix: str) -> int:
        """The texts of `body` behind which `suffix` comes for the first time."""
        end = self.grammar.literal(suffix.encode())
        anything = self.anything(0)
        unwanted = [self.grammar.concat([anything, end, anything])]
        for shift in range(1, len(suffix)):
            if suffix[shift:] == suffix[:-shift]:  # the suffix would begin before its place
                front = self.grammar.literal(suffix[:shift].encode())
                unwanted.append(self.grammar.concat([anything, front]))
        return self.grammar.both([body, *(self.grammar.negate(each) for each in unwanted)])

    def anything(self, least: int) -> int:
        return self.grammar.repeat(self.grammar.pattern(".", dot_all=True, rust=True), least)

    def then_ignored(self, node: int) -> int:
        return node if self.ignored is None else self.grammar.sequence([node, self.ignored])

    def node(self, item: Item, is_bare: bool = False) -> int:
        """`is_bare` leaves out what is ignored behind the last word, where that is in reach."""
        if self.ignored is None and _is_regular(item, self.expressions):
            return self.grammar.word(self.expression(item))
        match item:
            case Name(name) if name in self.numbers:
                return self.grammar.rule(self.numbers[name])
            case Sequence(parts) if parts:
                nodes = [self.node(part) for part in parts[:-1]]
                return self.grammar.sequence([*nodes, self.node(parts[-1], is_bare)])
            case Choice(parts):
                return self.grammar.choice([self.node(part, is_bare) for part in parts])
            case Repeat(part, least, most):
                return self.grammar.times(self.node(part), least, most)
            case AnyOrder():
                return self.any_order(item)
            case Special(text, place):
                tokens = [self.grammar.token(token) for token in self.token_ids(text, place)]
                node = self.grammar.choice(tokens)
            case Json(source, place):
                node = self.schema(source, place)
            case _:
                node = self.grammar.word(self.expression(item))
        return node if is_bare else self.then_ignored(node)

    def any_order(self, item: AnyOrder) -> int:
        if len(item.parts) > MAX_ANY_ORDER:
            raise self.mistake(item.place, f"more than {MAX_ANY_ORDER} parts in any order")
        parts = [self.node(part) for part in item.parts]
        is_empty = item.separator == Literal("")
        separator = self.grammar.sequence([]) if is_empty else self.node(item.separator)
        return self.grammar.unordered(parts, list(item.kinds), separator)

    def schema(self, source: str, place: Place, is_text: bool = False) -> int:
        """The node of its values, or the expression of its strings."""
        try:
            return self.grammar.schema_text(source) if is_text else self.grammar.schema(source)
        except _native.SchemaError as error:
            message, pointer, keyword = error.args
            where = f"{pointer}/{keyword}".rstrip("/") or "the schema"
            raise SchemaError(
                f"grammar:{place.line}:{place.column}: {where}: {message}",
                keyword=keyword or None,
                pointer=pointer,
            ) from error
        except _native.JsonError as error:
            raise SchemaError(
                f"grammar:{place.line}:{place.column}: {error.args[0]}", keyword=None
            ) from error
        except _native.TooComplex as error:
            at = f"grammar:{place.line}:{place.column}"
            raise too_complex(
                error, at, SchemaError, line=place.line, column=place.column
            ) from error

    def token_ids(self, text: str, place: Place) -> list[int]:
        if not text.startswith("<["):
            token = self.vocab.find(text)
            if token is None:
                raise self.mistake(place, f"the vocabulary has no token {text}")
            return [token]
        body = text[2:-2]
        is_not = body.startswith("^")
        ids: set[int] = set()
        n_vocab = self.vocab.n_vocab
        for part in body.removeprefix("^").split(","):
            match = _ID_RANGE.fullmatch(part)
            if match is None:
                raise self.mistake(place, f"{text}: ids and ranges of ids")
            low = int(match[1] or 0)
            high = int(match[2] or low) if match[1] else n_vocab - 1
            if not low <= high < n_vocab:
                raise self.mistake(place, f"{text}: ids from 0 to {n_vocab - 1}")
            ids.update(range(low, high + 1))
        if is_not:
            ids = set(range(n_vocab)) - ids
        if not ids:
            raise self.mistake(place, f"{text}: no token is left")
        if len(ids) > MAX_TOKEN_IDS:
            raise self.mistake(place, f"{text}: more than {MAX_TOKEN_IDS} tokens")
        return sorted(ids)

    # Terminals

    def expression(self, item: Item) -> int:
        grammar = self.grammar
        match item:
            case Literal(text, False):
                return grammar.literal(text.encode())
            case Literal(text, True):
                return self.pattern(
                    "".join(f"\\u{{{ord(c):x}}}" for c in text), Place(1, 1), i=True
                )
            case Pattern(source, place, dot_all, ignore_case):
                return self.pattern(source, place, s=dot_all, i=ignore_case)
            case Name(name, place):
                if name not in self.expressions:
                    raise self.mistake(place, f"{name}: a rule can't be a part of one word")
                return self.expressions[name]
            case Text(source, place):
                if source not in self.texts:
                    self.texts[source] = self.schema(source, place, is_text=True)
                return self.texts[source]
            case Chunks(parts):
                return self.chunks(parts)
            case Sequence(parts):
                return grammar.concat([self.expression(part) for part in parts])
            case Choice(parts):
                return grammar.either([self.expression(part) for part in parts])
            case Both(parts):
                return grammar.both([self.expression(part) for part in parts])
            case Not(part):
                return grammar.negate(self.expression(part))
            case Repeat(part, least, most):
                return grammar.repeat(self.expression(part), least, most)
            case AnyOrder(_, _, _, place):
                raise self.mistake(place, "%any_order: not inside a terminal")
            case Special(text, place) | Json(text, place):
                raise self.mistake(place, f"{text[:40]}: not inside a terminal")
        raise TypeError(item)

    def pattern(self, source: str, place: Place, s: bool = False, i: bool = False) -> int:
        length = len(source.encode())
        self.check_limit("pattern_length", length, "bytes of a pattern", place)
        known = self.patterns.get((source, s, i))
        if known is not None:
            return known
        try:
            made = self.grammar.pattern(source, dot_all=s, ignore_case=i, rust=True)
        except _native.PatternError as error:
            message, offset = error.args
            before = source.encode()[:offset].decode(errors="ignore")
            at = Place(place.line, place.column + 1 + len(before))
            raise self.mistake(at, f"/{source}/: {message}") from error
        self.patterns[source, s, i] = made
        return made

    def chunks(self, parts: tuple[str, ...]) -> int:
        """Neighbours, joined: from the last part on, what may follow it."""
        grammar = self.grammar
        empty = grammar.literal(b"")
        behind, anywhere = empty, [empty]
        for part in reversed(parts):
            behind = grammar.either(
                [empty, grammar.concat([grammar.literal(part.encode()), behind])]
            )
            anywhere.append(behind)
        return grammar.either(anywhere)


def _is_regular(item: Item, known: Container[str]) -> bool:
    return all(
        leaf.name in known
        if isinstance(leaf, Name)
        else not isinstance(leaf, (Special, Json, AnyOrder))
        for leaf in leaves(item)
    )


def _regular(rules: Mapping[str, Rule], known: Container[str]) -> Iterable[str]:
    """Rules without attributes that lead to no recursion, token or schema: words like terminals.

    Each comes behind those that it refers to, and none is more than MAX_CHAIN deep.
    """
    users: dict[str, list[str]] = {name: [] for name in rules}
    waiting: dict[str, int] = {}
    for name, rule in rules.items():
        parts = [part.name for part in names(rule.body) if part.name in rules]
        waiting[name] = len(parts)
        for part in parts:
            users[part].append(name)
    depth = dict.fromkeys(rules, 0)
    ready = [name for name in rules if waiting[name] == 0]
    while ready:
        name = ready.pop()
        is_word = name in known or not rules[name].attributes
        if not is_word or depth[name] > MAX_CHAIN or not _is_regular(rules[name].body, known):
            continue
        yield name
        for user in users[name]:
            waiting[user] -= 1
            depth[user] = max(depth[user], depth[name] + 1)
            if waiting[user] == 0:
                ready.append(user)
