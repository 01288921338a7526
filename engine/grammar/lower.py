"""A `GrammarText` as the compiled core's grammar.

Knows names, attributes and tokens. Does not know any dialect's syntax or how matching works.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from engine import _native
from engine.errors import GrammarError, SchemaError
from engine.grammar.excerpt import mistake, suggestion
from engine.grammar.recursion import LeftRecursion, without_left_recursion
from engine.grammar.syntax import (
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
)
from engine.vocab import Vocab

MAX_TOKEN_IDS: Final = 4096  # that one <[...]> may name
_ATTRIBUTES: Final = ("capture", "lazy", "suffix", "stop", "temperature", "max_tokens")


def lower(text: GrammarText, source: str, grammar: _native.Grammar, vocab: Vocab) -> None:
    """Fills and finishes `grammar`. Raises GrammarError with the place in `source`."""
    _Lowering(text, source, grammar, vocab).run()


class _Lowering:
    def __init__(
        self, text: GrammarText, source: str, grammar: _native.Grammar, vocab: Vocab
    ) -> None:
        self.text = text
        self.source = source
        self.grammar = grammar
        self.vocab = vocab
        self.rules: dict[str, Rule] = {}
        self.terminals: dict[str, Rule] = {}
        self.expressions: dict[str, int | None] = {}  # None while it is being made
        self.numbers: dict[str, int] = {}
        self.ignored: int | None = None
        self.regular: frozenset[str] = frozenset()  # rules that are as good as terminals

    def mistake(self, place: Place, what: str) -> GrammarError:
        return mistake(self.source, place, what)

    def run(self) -> None:
        for rule in self.text.rules:
            table = self.terminals if rule.is_terminal else self.rules
            if rule.name in table:
                raise self.mistake(rule.place, f"{rule.name} is defined twice")
            for attribute in rule.attributes:
                if attribute not in _ATTRIBUTES:
                    hint = suggestion(attribute, _ATTRIBUTES)
                    raise self.mistake(rule.place, f"unknown attribute {attribute}{hint}")
            table[rule.name] = rule
        if self.text.start not in self.rules:
            hint = suggestion(self.text.start, self.rules)
            raise self.mistake(Place(1, 1), f"no rule {self.text.start}{hint}")
        nullable = frozenset(
            name for name in self.terminals if self.grammar.is_nullable(self.terminal(name))
        )
        try:
            rules = self.rules = without_left_recursion(self.rules, nullable)
        except LeftRecursion as error:
            raise self.mistake(error.rule.place, f"{error.rule.name}: {error}") from error
        if self.text.ignored:
            skipped = self.grammar.either([self.expression(item) for item in self.text.ignored])
            self.ignored = self.grammar.word(self.grammar.repeat(skipped, 0))
        self.regular = _regular(rules) if self.ignored is None else frozenset()
        for name in rules:
            self.numbers[name] = self.grammar.declare()
        for name, rule in rules.items():
            self.grammar.define(self.numbers[name], self.rule(rule))
        start = self.grammar.rule(self.numbers[self.text.start])
        if self.ignored is not None:
            start = self.grammar.sequence([self.ignored, start])
        try:
            self.grammar.finish(start)
        except ValueError as error:
            raise GrammarError(f"grammar: {error}") from error

    # Rules

    def rule(self, rule: Rule) -> int:
        attributes = rule.attributes
        for name in ("max_tokens", "temperature", "stop"):
            if name in attributes:
                raise self.mistake(rule.place, f"{rule.name}: {name} is not supported")
        capture = attributes.get("capture")
        name = rule.name if capture is True else str(capture)
        if "lazy" not in attributes and "suffix" not in attributes:
            node = self.node(rule.body)
            return node if capture is None else self.grammar.capture(name, node)
        body = self.expression(rule.body)
        suffix = attributes.get("suffix")
        if suffix is None:
            node = self.word(self.shortest(body))
            return node if capture is None else self.grammar.capture(name, node)
        if not isinstance(suffix, str) or not suffix:
            raise self.mistake(rule.place, f"{rule.name}: the suffix must be a text")
        node = self.grammar.word(self.before(body, suffix))
        if capture is not None:
            node = self.grammar.capture(name, node)
        return self.grammar.sequence([node, self.word(self.grammar.literal(suffix.encode()))])

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

    def word(self, expression: int) -> int:
        node = self.grammar.word(expression)
        return node if self.ignored is None else self.grammar.sequence([node, self.ignored])

    def node(self, item: Item) -> int:
        if self.ignored is None and _is_regular(item, self.rules, self.regular):
            return self.grammar.word(self.expression(item))
        match item:
            case Name(name, place):
                if name in self.numbers:
                    return self.grammar.rule(self.numbers[name])
                return self.word(self.terminal(name, place))
            case Special(text, place):
                ids = self.token_ids(text, place)
                nodes = [self.grammar.token(token) for token in ids]
                return nodes[0] if len(nodes) == 1 else self.grammar.choice(nodes)
            case Json(source, place):
                return self.schema(source, place)
            case Sequence(parts):
                return self.grammar.sequence([self.node(part) for part in parts])
            case Choice(parts):
                return self.grammar.choice([self.node(part) for part in parts])
            case Repeat(part, least, most):
                return self.grammar.times(self.node(part), least, most)
        return self.word(self.expression(item))

    def schema(self, source: str, place: Place) -> int:
        try:
            return self.grammar.schema(source)
        except _native.SchemaError as error:
            message, pointer, keyword = error.args
            where = f"{pointer}/{keyword}".rstrip("/") or "the schema"
            raise SchemaError(
                f"grammar:{place.line}:{place.column}: {where}: {message}",
                keyword=keyword or None,
                pointer=pointer,
            ) from error
        except (_native.TooComplex, _native.JsonError) as error:
            raise SchemaError(
                f"grammar:{place.line}:{place.column}: {error.args[0]}", keyword=None
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
        for part in body.removeprefix("^").split(","):
            low, _, high = part.partition("-")
            try:
                if part != "*":
                    ids.update(range(int(low), int(high or low) + 1))
                else:
                    ids.update(range(self.vocab.n_vocab))
            except ValueError:
                raise self.mistake(place, f"{text}: ids and ranges of ids") from None
        if is_not:
            ids = set(range(self.vocab.n_vocab)) - ids
        if not ids or max(ids) >= self.vocab.n_vocab or min(ids) < 0:
            raise self.mistake(place, f"{text}: the vocabulary has {self.vocab.n_vocab} tokens")
        if len(ids) > MAX_TOKEN_IDS:
            raise self.mistake(place, f"{text}: more than {MAX_TOKEN_IDS} tokens")
        return sorted(ids)

    # Terminals

    def terminal(self, name: str, place: Place = Place(1, 1)) -> int:
        if name in self.expressions:
            known = self.expressions[name]
            if known is None:
                raise self.mistake(place, f"the terminal {name} refers to itself")
            return known
        if name not in self.terminals:
            hint = suggestion(name, [*self.terminals, *self.rules])
            raise self.mistake(place, f"no rule or terminal {name}{hint}")
        self.expressions[name] = None
        made = self.expression(self.terminals[name].body)
        self.expressions[name] = made
        return made

    def regular_rule(self, name: str) -> int:
        known = self.expressions.get(name)
        if known is None:
            known = self.expressions[name] = self.expression(self.rules[name].body)
        return known

    def expression(self, item: Item) -> int:
        grammar = self.grammar
        match item:
            case Literal(text, False):
                return grammar.literal(text.encode())
            case Literal(text, True):
                return self.pattern("".join(f"\\u{{{ord(c):x}}}" for c in text), Place(1, 1), i=True)
            case Pattern(source, place, dot_all, ignore_case):
                return self.pattern(source, place, s=dot_all, i=ignore_case)
            case Name(name, place):
                if name in self.regular:
                    return self.regular_rule(name)
                if name in self.rules:
                    raise self.mistake(place, f"a terminal can't refer to the rule {name}")
                return self.terminal(name, place)
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
            case Special(text, place) | Json(text, place):
                raise self.mistake(place, f"{text[:40]}: not inside a terminal")
        raise TypeError(item)

    def pattern(self, source: str, place: Place, s: bool = False, i: bool = False) -> int:
        try:
            return self.grammar.pattern(source, dot_all=s, ignore_case=i, rust=True)
        except _native.PatternError as error:
            message, offset = error.args
            at = Place(place.line, place.column + 1 + offset)
            raise self.mistake(at, f"/{source}/: {message}") from error

    def chunks(self, parts: tuple[str, ...]) -> int:
        """Neighbours, joined: from the last part on, what may follow it."""
        grammar = self.grammar
        empty = grammar.literal(b"")
        behind, anywhere = empty, [empty]
        for part in reversed(parts):
            behind = grammar.either([empty, grammar.concat([grammar.literal(part.encode()), behind])])
            anywhere.append(behind)
        return grammar.either(anywhere)


def _is_regular(item: Item, rules: Mapping[str, Rule], regular: frozenset[str]) -> bool:
    match item:
        case Special() | Json():
            return False
        case Name(name):
            return name not in rules or name in regular
        case Sequence(parts) | Choice(parts) | Both(parts):
            return all(_is_regular(part, rules, regular) for part in parts)
        case Repeat(part) | Not(part):
            return _is_regular(part, rules, regular)
    return True


def _regular(rules: Mapping[str, Rule]) -> frozenset[str]:
    """Rules without attributes that lead to no recursion, token or schema."""
    found: frozenset[str] = frozenset()
    while True:
        more = frozenset(
            name
            for name, rule in rules.items()
            if not rule.attributes and _is_regular(rule.body, rules, found)
        )
        if more == found:
            return found
        found = more
