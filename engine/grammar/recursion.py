"""Rules without left recursion, matching the same texts.

The matcher goes from left to right and would call such a rule for ever. A rule `a: a x | y` becomes
`a: y x*`. Rules that begin with each other get rules for what may stand behind each of them (the
left-corner transform: Rosenkrantz and Lewis 1970; Johnson 1998). What may be empty before a rule is
taken in two: some text there, or none at all. How a text is parsed changes, which texts match does
not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Sequence as Listed
from typing import Final

from engine.grammar.syntax import (
    AnyOrder,
    Both,
    Choice,
    Item,
    Json,
    Literal,
    Name,
    Not,
    Repeat,
    Rule,
    Sequence,
    Special,
    names,
)

Parts = tuple[Item, ...]  # of a sequence

MAX_ALTERNATIVES: Final = 5000  # that the rules of one recursion may have


class LeftRecursion(Exception):
    """A left recursion that can't be removed: the rule and why."""

    def __init__(self, rule: Rule, why: str) -> None:
        super().__init__(why)
        self.rule = rule


def without_left_recursion(
    rules: Mapping[str, Rule], is_empty_word: Callable[[Item], bool]
) -> dict[str, Rule]:
    """Raises LeftRecursion where it can't be done. `is_empty_word` is about patterns and names of
    terminals: whether they match nothing at all."""
    grammar = _Grammar(rules, is_empty_word)
    begins = {name: sorted(set(grammar.beginnings(rule.body))) for name, rule in rules.items()}
    for group in groups(begins):
        if len(group) > 1 or group[0] in begins[group[0]]:
            grammar.rewrite(group)
    grammar.write_nonempty()
    return grammar.out


class _Grammar:
    def __init__(self, rules: Mapping[str, Rule], is_empty_word: Callable[[Item], bool]) -> None:
        self.rules = rules
        self.out = dict(rules)
        self.is_empty_word = is_empty_word
        self.nullable: set[str] = set()
        self.full_names: dict[str, str] = {}  # of rules for what is left without the empty text
        self.unwritten: list[str] = []
        self._find_nullable()

    # What may be empty, and what a text may begin with

    def _find_nullable(self) -> None:
        users: dict[str, list[str]] = {name: [] for name in self.rules}
        for name, rule in self.rules.items():
            for part in names(rule.body):
                if part.name in users:
                    users[part.name].append(name)
        unseen = list(self.rules)
        while unseen:
            name = unseen.pop()
            if name not in self.nullable and self._is_nullable_rule(self.rules[name]):
                self.nullable.add(name)
                unseen += users[name]

    def _is_nullable_rule(self, rule: Rule) -> bool:
        return "suffix" not in rule.attributes and self.is_nullable(rule.body)

    def is_nullable(self, item: Item) -> bool:
        match item:
            case Literal(text):
                return not text
            case Name(name) if name in self.rules:
                return name in self.nullable
            case Sequence(parts):
                return all(map(self.is_nullable, parts))
            case Choice(parts):
                return any(map(self.is_nullable, parts))
            case Repeat(part, least):
                return least == 0 or self.is_nullable(part)
            case AnyOrder(parts, kinds, separator):
                required = [part for part, kind in zip(parts, kinds, strict=True) if kind == 1]
                glue = [separator] if len(required) > 1 else []
                return all(map(self.is_nullable, required + glue))
            case Special() | Json():
                return False
        return self.is_empty_word(item)

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
            case Repeat(part, _, most) if most != 0:
                yield from self.beginnings(part)
            case AnyOrder(parts, _, separator):
                for part in parts:
                    yield from self.beginnings(part)
                if any(map(self.is_nullable, parts)):
                    yield from self.beginnings(separator)

    # Rules without the empty text

    def full_name(self, name: str) -> str:
        """The rule for the texts of another one that are not empty."""
        if name not in self.nullable:
            return name
        if name not in self.full_names:
            self.full_names[name] = f"{name} (not empty)"
            self.unwritten.append(name)
        return self.full_names[name]

    def write_nonempty(self) -> None:
        while self.unwritten:
            name = self.unwritten.pop()
            full = self.full_names[name]
            if full in self.out:  # one of those that were rewritten
                continue
            rule = self.rules[name]
            if "lazy" in rule.attributes:  # what is empty at once is never more
                body: Item = Choice(())
            else:
                body = _choice(self.heads((rule.body,), frozenset(), rule))
            attributes = dict(rule.attributes)
            if attributes.get("capture") is True:
                attributes["capture"] = name
            self.out[full] = Rule(full, body, rule.place, attributes)

    def heads(self, parts: Parts, group: frozenset[str], rule: Rule) -> list[Parts]:
        """The texts of `parts` but the empty one, as sequences whose first part is not empty.

        A first part that is a rule of `group` keeps its name, which stands for its texts but the
        empty one.
        """
        out: list[Parts] = []
        unseen: list[Parts] = [parts]
        while unseen:
            if len(out) + len(unseen) > MAX_ALTERNATIVES:
                raise LeftRecursion(rule, f"more than {MAX_ALTERNATIVES} alternatives")
            parts = unseen.pop()
            if not parts:
                continue
            head, rest = parts[0], parts[1:]
            is_nullable = self.is_nullable(head)
            leads = not group.isdisjoint(self.beginnings(head))
            if isinstance(head, Name) and head.name in group:
                out.append(parts)
            elif not is_nullable and not leads:
                out.append(parts)
                continue
            elif isinstance(head, Sequence):
                unseen.append(head.parts + rest)
                continue
            elif isinstance(head, Choice):
                unseen += [(part, *rest) for part in reversed(head.parts)]
                continue
            elif isinstance(head, Repeat):
                out += [front + rest for front in self._repeated(head, group, rule)]
            elif isinstance(head, AnyOrder):
                out += [front + rest for front in self._any_order(head, group, rule)]
            elif isinstance(head, Name) and head.name in self.rules:
                out.append((Name(self.full_name(head.name), head.place), *rest))
            elif not isinstance(head, Literal):
                out.append((Both((head, Not(Literal("")))), *rest))
            if is_nullable:
                unseen.append(rest)
        return out

    def _repeated(self, item: Repeat, group: frozenset[str], rule: Rule) -> Iterable[Parts]:
        if item.most == 0:
            return
        least = 0 if self.is_nullable(item.part) else max(0, item.least - 1)
        more = Repeat(item.part, least, None if item.most is None else item.most - 1)
        for front in self.heads((item.part,), group, rule):
            yield (*front, more)

    def _any_order(self, item: AnyOrder, group: frozenset[str], rule: Rule) -> Iterable[Parts]:
        """By the part that comes first, or by the separator behind parts that are empty. Which of
        the parts were empty need not be known: they may as well be empty in the end."""
        for i, part in enumerate(item.parts):
            for front in self.heads((part,), group, rule):
                yield (*front, _behind_part(item, i))
        empty = [i for i, part in enumerate(item.parts) if self.is_nullable(part)]
        for i in empty:
            left = _behind_part(item, i)
            others = [
                Sequence((part.parts[1], _behind_part(left, j)))
                for j, part in enumerate(left.parts)
                if isinstance(part, Sequence)
            ]
            for front in self.heads((item.separator,), group, rule):
                yield (*front, Choice(tuple(others)))

    # Groups of rules that begin with each other

    def rewrite(self, group: Listed[str]) -> None:
        members = frozenset(group)
        for name in group:
            if self.rules[name].attributes:
                raise LeftRecursion(self.rules[name], "a left-recursive rule can't have attributes")
        first: dict[str, list[Parts]] = {}
        behind: dict[str, list[tuple[str, Parts]]] = {name: [] for name in group}
        for name in group:
            rule = self.rules[name]
            first[name] = []
            for parts in self.heads((rule.body,), members, rule):
                head = parts[0]
                if isinstance(head, Name) and head.name in members:
                    behind[head.name].append((name, parts[1:]))
                else:
                    first[name].append(parts)
        if len(group) == 1:
            self._rewrite_one(group[0], first[group[0]], behind[group[0]])
        else:
            self._rewrite_corners(group, first, behind)

    def _write(self, name: str, body: Item) -> None:
        rule = self.rules[name]
        full = self.full_name(name)
        self.out[full] = Rule(full, body, rule.place)
        if full != name:
            both = Choice((Name(full, rule.place), Sequence(())))
            self.out[name] = Rule(name, both, rule.place)

    def _rewrite_one(self, name: str, first: list[Parts], behind: list[tuple[str, Parts]]) -> None:
        rule = self.rules[name]
        again = [more for _, rest in behind for more in self.heads(rest, frozenset(), rule)]
        body = _choice(first)
        self._write(name, Sequence((body, Repeat(_choice(again), 0, None))) if again else body)

    def _rewrite_corners(
        self,
        group: Listed[str],
        first: Mapping[str, list[Parts]],
        behind: Mapping[str, list[tuple[str, Parts]]],
    ) -> None:
        """A rule `a behind b` for what may stand behind a `b` with which an `a` begins."""
        size = 0
        for name in group:
            rule = self.rules[name]
            alternatives = []
            for corner in group:
                rest = Name(f"{name} behind {corner}", rule.place)
                alternatives += [(*parts, rest) for parts in first[corner]]
                body = self._behind(name, corner, behind)
                self.out[rest.name] = Rule(rest.name, _choice(body), rule.place)
                size += len(body)
                if size + len(alternatives) > MAX_ALTERNATIVES:
                    raise LeftRecursion(rule, f"more than {MAX_ALTERNATIVES} alternatives")
            self._write(name, _choice(alternatives))

    def _behind(
        self, name: str, corner: str, behind: Mapping[str, list[tuple[str, Parts]]]
    ) -> list[Parts]:
        reached, unseen = {corner}, [corner]  # rules that the corner may be all of
        out: list[Parts] = []
        while unseen:
            part = unseen.pop()
            if part == name:
                out.append(())
            for whole, rest in behind[part]:
                more = Name(f"{name} behind {whole}", self.rules[name].place)
                heads = self.heads(rest, frozenset(), self.rules[name])
                out += [(*parts, more) for parts in heads]
                if whole not in reached and all(map(self.is_nullable, rest)):
                    reached.add(whole)
                    unseen.append(whole)
        return out


def _behind_part(item: AnyOrder, first: int) -> AnyOrder:
    """What may stand behind that part: the others, each with the separator in front of it."""
    parts, kinds = [], []
    for i, (part, kind) in enumerate(zip(item.parts, item.kinds, strict=True)):
        if i != first or kind == 2:
            parts.append(Sequence((item.separator, part)))
            kinds.append(kind)
    return AnyOrder(tuple(parts), tuple(kinds), Literal(""), item.place)


def _choice(alternatives: Iterable[Parts]) -> Item:
    return Choice(tuple(Sequence(parts) for parts in alternatives))


def groups(edges: Mapping[str, Listed[str]]) -> list[list[str]]:
    """The strongly connected components of a graph (Tarjan 1972), each after those it leads to."""
    out: list[list[str]] = []
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    is_open: set[str] = set()
    for root in edges:
        path = [(root, 0)] if root not in number else []
        while path:
            name, at = path.pop()
            if at == 0:
                number[name] = low[name] = len(number)
                stack.append(name)
                is_open.add(name)
            else:
                low[name] = min(low[name], low[edges[name][at - 1]])
            for i in range(at, len(edges[name])):
                other = edges[name][i]
                if other not in number:
                    path += [(name, i + 1), (other, 0)]
                    break
                if other in is_open:
                    low[name] = min(low[name], number[other])
            else:
                if low[name] == number[name]:
                    group = stack[stack.index(name) :] if stack[-1] != name else [name]
                    del stack[-len(group) :]
                    is_open.difference_update(group)
                    out.append(group)
    return out
