"""Rules without left recursion, matching the same texts.

The matcher goes from left to right and would call such a rule for ever. A rule `a: a x | y` becomes
`a: y x*`; where rules begin with each other, one is written into the other first (Paull 1963; Aho,
Sethi and Ullman, section 4.3). How a text is parsed changes, which texts match does not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from engine.grammar.syntax import (
    Choice,
    Item,
    Literal,
    Name,
    Repeat,
    Rule,
    Sequence,
)

Parts = tuple[Item, ...]  # of a sequence

MAX_ALTERNATIVES = 2000


class LeftRecursion(Exception):
    """A left recursion that can't be removed: the rule and why."""

    def __init__(self, rule: Rule, why: str) -> None:
        super().__init__(why)
        self.rule = rule


@dataclass
class Rules:
    """The rules of a grammar by name. `nullable_words` are terminals that match nothing at all."""

    rules: Mapping[str, Rule]
    nullable_words: frozenset[str]
    nullable: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        self.nullable = self.nullable_words
        while True:
            found = {name for name, rule in self.rules.items() if self.is_nullable(rule.body)}
            if found <= self.nullable:
                return
            self.nullable = self.nullable | found

    def is_nullable(self, item: Item) -> bool:
        match item:
            case Literal(text):
                return not text
            case Name(name):
                return name in self.nullable
            case Sequence(parts):
                return all(map(self.is_nullable, parts))
            case Choice(parts):
                return any(map(self.is_nullable, parts))
            case Repeat(part, least):
                return least == 0 or self.is_nullable(part)
        return False

    def beginnings(self, item: Item) -> Iterator[str]:
        """The rules that a text of `item` may begin with."""
        match item:
            case Name(name) if name in self.rules:
                yield name
            case Sequence(parts):
                for part in parts:
                    yield from self.beginnings(part)
                    if not self.is_nullable(part):
                        return
            case Choice(parts):
                for part in parts:
                    yield from self.beginnings(part)
            case Repeat(part):
                yield from self.beginnings(part)


def without_left_recursion(
    rules: Mapping[str, Rule], nullable_words: frozenset[str] = frozenset()
) -> dict[str, Rule]:
    """Raises LeftRecursion where it can't be done."""
    known = Rules(rules, nullable_words)
    out = dict(rules)
    for group in _groups({name: set(known.beginnings(rule.body)) for name, rule in rules.items()}):
        for name in group:
            if rules[name].attributes:
                raise LeftRecursion(rules[name], "a left-recursive rule can't have attributes")
        _remove(out, group, known)
    return out


def _groups(edges: Mapping[str, set[str]]) -> list[list[str]]:
    """Rules that begin with each other, or each with itself, in the order of the text."""
    reach: dict[str, set[str]] = {}
    for name in edges:
        seen: set[str] = set()
        open_ = list(edges[name])
        while open_:
            other = open_.pop()
            if other not in seen:
                seen.add(other)
                open_ += edges.get(other, ())
        reach[name] = seen
    groups: list[list[str]] = []
    done: set[str] = set()
    for name in edges:
        if name in done or name not in reach[name]:
            continue
        group = [other for other in edges if other in reach[name] and name in reach[other]]
        done.update(group)
        groups.append(group)
    return groups


def _remove(out: dict[str, Rule], group: list[str], known: Rules) -> None:
    for i, name in enumerate(group):
        rule = out[name]
        alternatives = _led(rule.body, frozenset(group), known, rule)
        for earlier in group[:i]:
            replaced: list[Parts] = []
            for parts in alternatives:
                if parts and isinstance(parts[0], Name) and parts[0].name == earlier:
                    for front in _led(out[earlier].body, frozenset(group), known, rule):
                        replaced.append(front + parts[1:])
                else:
                    replaced.append(parts)
            if len(replaced) > MAX_ALTERNATIVES:
                raise LeftRecursion(rule, f"more than {MAX_ALTERNATIVES} alternatives")
            alternatives = replaced
        again: list[Item] = []
        first: list[Item] = []
        for parts in alternatives:
            if parts and isinstance(parts[0], Name) and parts[0].name == name:
                if parts[1:]:  # a: a says nothing
                    again.append(Sequence(parts[1:]))
            else:
                first.append(Sequence(parts))
        body: Item = Choice(tuple(first))
        if again:
            body = Sequence((body, Repeat(Choice(tuple(again)), 0, None)))
        out[name] = Rule(name, body, rule.place)


def _led(item: Item, group: frozenset[str], known: Rules, rule: Rule) -> list[Parts]:
    """`item` as alternatives, each of which begins with a rule of the group itself or with none."""
    out: list[Parts] = []
    open_: list[Parts] = [(item,)]
    steps = 0
    while open_:
        steps += 1
        if steps > MAX_ALTERNATIVES * 4:
            raise LeftRecursion(rule, "a rule that repeats itself without any text")
        parts = open_.pop(0)
        if not parts:
            out.append(parts)
            continue
        head, rest = parts[0], parts[1:]
        leads = any(name in group for name in known.beginnings(head))
        hides = known.is_nullable(head) and any(
            name in group for name in known.beginnings(Sequence(rest))
        )
        if isinstance(head, Name) and head.name in group:
            out.append(parts)
            if known.is_nullable(head):
                open_.append(rest)
        elif not leads and not hides:
            out.append(parts)
        else:
            open_ = [front + rest for front in _opened(head, rule)] + open_
    return out


def _opened(item: Item, rule: Rule) -> list[Parts]:
    """One step of writing out the front of a sequence."""
    match item:
        case Sequence(parts):
            return [parts]
        case Choice(parts):
            return [(part,) for part in parts]
        case Repeat(part, least, most):
            fewer = Repeat(part, max(0, least - 1), None if most is None else most - 1)
            front: list[Parts] = [] if most == 0 else [(part, fewer)]
            return front + ([()] if least == 0 else [])
        case Literal(""):
            return [()]
    raise LeftRecursion(rule, "left recursion behind something that may be empty")

