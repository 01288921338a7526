"""What a grammar's text says, whichever dialect it was written in.

Plain values; no parsing, no tokens. `line` and `column` count from 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

MAX_DEPTH: Final = 64  # of groups inside groups


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the text something stands."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Literal:
    """Exactly this text; `ignore_case` is about ASCII's letters."""

    text: str
    ignore_case: bool = False


@dataclass(frozen=True, slots=True)
class Pattern:
    """A regular expression in Rust's dialect, which Lark grammars use."""

    source: str
    place: Place
    dot_all: bool = False
    ignore_case: bool = False


@dataclass(frozen=True, slots=True)
class Name:
    """A rule or a terminal by its name."""

    name: str
    place: Place


@dataclass(frozen=True, slots=True)
class Special:
    """A token by its text, `<|eot_id|>`, or by ids, `<[128009]>`; `[^...]` is all others."""

    text: str
    place: Place


@dataclass(frozen=True, slots=True)
class Json:
    """JSON that a schema allows; `source` is the schema's text."""

    source: str
    place: Place


@dataclass(frozen=True, slots=True)
class Text:
    """The characters of the JSON strings that a schema allows: no quotes, no escapes."""

    source: str
    place: Place


@dataclass(frozen=True, slots=True)
class Chunks:
    """Any run of neighbours among these texts, joined; none is a run too."""

    parts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sequence:
    parts: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    parts: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    part: Item
    least: int
    most: int | None


@dataclass(frozen=True, slots=True)
class Both:
    """Texts that all parts match: for terminals only."""

    parts: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """Texts that the part doesn't match: for terminals only."""

    part: Item


@dataclass(frozen=True, slots=True)
class AnyOrder:
    """Parts in any order, `separator` between neighbours. By its kind a part comes at most once
    (0), exactly once (1) or any number of times (2)."""

    parts: tuple[Item, ...]
    kinds: tuple[int, ...]
    separator: Item
    place: Place = Place(1, 1)


Item = (
    Literal
    | Pattern
    | Name
    | Special
    | Json
    | Text
    | Chunks
    | Sequence
    | Choice
    | Repeat
    | Both
    | Not
    | AnyOrder
)


def leaves(item: Item) -> Iterator[Item]:
    """What an item is made of, in the order of the text; an `AnyOrder` comes before its parts."""
    unseen = [item]
    while unseen:
        item = unseen.pop()
        match item:
            case Sequence(parts) | Choice(parts) | Both(parts):
                unseen += reversed(parts)
            case Repeat(part) | Not(part):
                unseen.append(part)
            case AnyOrder(parts, _, separator):
                yield item
                unseen += [separator, *reversed(parts)]
            case _:
                yield item


def names(item: Item) -> Iterator[Name]:
    """The rules and terminals that an item refers to."""
    return (leaf for leaf in leaves(item) if isinstance(leaf, Name))


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule; a terminal is one word, which nothing ignored interrupts."""

    name: str
    body: Item
    place: Place
    attributes: Mapping[str, str | int | float | bool | Item] = field(default_factory=dict)
    is_terminal: bool = False


@dataclass(frozen=True, slots=True)
class GrammarText:
    """All rules of a text, in order, and what may stand between any two words."""

    rules: tuple[Rule, ...]
    ignored: tuple[Item, ...] = ()
    start: str = "start"
