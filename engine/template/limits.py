"""What a template may spend: time, steps, characters, items and depth.

Knows counters. Does not know Jinja, messages or what the counted work is for.

Everything a template can do passes through `Budget` before it is done, so a limit holds although
Python can't interrupt a running C function: no operation is let through that could take long.
"""

from __future__ import annotations

from collections.abc import ItemsView, KeysView, Mapping, ValuesView
from contextvars import ContextVar
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Final

_MAX_NESTING: Final = 500
_CONTAINERS: Final = (list, tuple, set, frozenset, KeysView, ValuesView, ItemsView)


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on one rendering. A conversation near them is refused, never cut.

    `work` counts every character that any operation produces (a list's item counts as sixteen).
    """

    seconds: float = 2.0
    output: int = 4 * 2**20  # characters of any one string, the prompt included
    work: int = 64 * 2**20
    steps: int = 1_000_000
    items: int = 100_000  # of any one list, range or split
    depth: int = 64  # macros within macros
    source: int = 64 * 1024  # characters of the template itself: compiling them may take 2 s


class Refused(Exception):
    """A template asked for something that it may not have. One line, for people."""


@dataclass(slots=True)
class Budget:
    """What is left of `limits` in one rendering."""

    limits: Limits
    steps: int = 0
    work: int = 0
    depth: int = 0
    deadline: float = 0.0
    printed: set[int] = field(
        default_factory=set
    )  # id() of containers written in Python's notation

    def __post_init__(self) -> None:
        self.deadline = monotonic() + self.limits.seconds

    def step(self) -> None:
        """Count one operation, loop turn or call; look at the clock. 0.1 us."""
        self.steps += 1
        if self.steps > self.limits.steps:
            raise Refused(f"it takes more than {self.limits.steps:,} steps")
        if monotonic() > self.deadline:
            raise Refused(f"it takes more than {self.limits.seconds:g} s")

    def grow(self, length: int) -> None:
        """Announce a string of `length` characters, before it is made."""
        if length > self.limits.output:
            raise Refused(
                f"it writes a text of {length:,} characters; the limit is {self.limits.output:,}"
            )
        self.work += length
        if self.work > self.limits.work:
            raise Refused(f"it copies more than {self.limits.work:,} characters")

    def hold(self, items: int) -> None:
        """Announce a list of `items`, before it is made."""
        if items > self.limits.items:
            raise Refused(f"it makes a list of {items:,} items; the limit is {self.limits.items:,}")
        self.work += 16 * items
        if self.work > self.limits.work:
            raise Refused(f"it holds more than {self.limits.work // 16:,} list items")

    def number(self, value: int, what: str) -> int:
        """A width, precision or count that a template gave. Returns it when it is sane."""
        if abs(value) > self.limits.items:
            raise Refused(f"{what} is {value:.0e}; the limit is {self.limits.items:,}")
        return value

    def weigh(self, *values: Any) -> int:
        """Count the parts of nested values, shared ones as often as they are reached.

        Comparing, hashing, sorting or printing a list of lists visits each; twenty doublings of
        `x = [x, x]` make a million of them out of nothing. Hashing a tuple recurses in C without a
        guard, so depth counts too. Returns the number of characters in all texts.
        """
        parts = characters = depth = 0
        level = list(values)
        while level:
            parts += len(level)
            depth += 1
            if parts > self.limits.items or depth > _MAX_NESTING:
                raise Refused(
                    f"it compares or prints a value of over {self.limits.items:,} parts"
                    f" or nested over {_MAX_NESTING} deep"
                )
            below: list[Any] = []
            for value in level:
                if isinstance(value, str):
                    characters += len(value)
                elif isinstance(value, Mapping):
                    below += value
                    below += value.values()
                elif isinstance(value, _CONTAINERS):
                    below += value
                    if len(below) > self.limits.items:
                        break  # refused in the next turn
            level = below
        self.work += parts + characters // 16
        if self.work > self.limits.work:
            raise Refused(f"it compares more than {self.limits.work:,} characters")
        return characters


CURRENT: ContextVar[Budget] = ContextVar("engine_template_budget")
