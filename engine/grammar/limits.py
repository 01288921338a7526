"""How large a grammar may be: what is larger is refused at once, by name.

Knows numbers. Does not know what is counted, or how.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Final

from engine.errors import GrammarError, SchemaError, UsageError

MAX_DEPTH: Final = 1000  # of a schema: the compiler calls itself for what stands inside


@dataclass(frozen=True, slots=True)
class Limits:
    """What a grammar may have at most; `Grammar.from_...(..., limits=Limits(rules=500))`.

    A grammar beyond one is refused with an error whose `limit` is the option's name, `most` its
    value and `found` what was there, beside the place: JSON pointer, or line and column.
    """

    source_bytes: int = 1 << 20
    """Of the text, in UTF-8."""
    depth: int = 256
    """Brackets of a schema inside each other; at most 1,000."""
    properties: int = 10_000
    """In one `properties`, `required` and the like."""
    enum_values: int = 100_000
    """In one `enum`."""
    pattern_length: int = 65_536
    """Bytes of one regular expression."""
    rules: int = 10_000
    """Of Lark and GBNF, terminals among them."""
    branches: int = 2_000
    """Combinations of `anyOf`, `oneOf`, `not` and `if` that one value may come to."""
    steps: int = 1_500_000
    """Steps to work those out, and of one search for a text that matches."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if type(value) is not int or value < 1:
                raise UsageError(f"limits: {field.name} is a whole number above 0, not {value!r}")
        if self.depth > MAX_DEPTH:
            raise UsageError(f"limits: depth is at most {MAX_DEPTH}, not {self.depth}")

    def of_core(self) -> dict[str, int]:
        """Those that the compiled core watches over."""
        names = ("depth", "properties", "enum_values", "pattern_length", "branches", "steps")
        return {name: getattr(self, name) for name in names}

    def excess(self, option: str, found: int, what: str) -> str | None:
        """What to say where `found` is beyond the limit."""
        most = getattr(self, option)
        if found <= most:
            return None
        return f"{found} {what}; the limit `{option}` is {most}"

    def facts(self, option: str, found: int) -> dict[str, Any]:
        """The same for programs."""
        return {"limit": option, "most": getattr(self, option), "found": found}


def deep_pointer(schema: object, most: int) -> str | None:
    """Where a value is nested deeper than `most`, as a JSON pointer."""
    unseen: list[tuple[object, tuple[Any, ...] | None, int]] = [(schema, None, 1)]
    while unseen:
        value, path, depth = unseen.pop()
        if not isinstance(value, (dict, list, tuple)):
            continue
        if depth > most:
            parts = []
            while path is not None:
                path, key = path
                parts.append(str(key).replace("~", "~0").replace("/", "~1"))
            return "".join(f"/{part}" for part in reversed(parts))
        items = value.items() if isinstance(value, dict) else enumerate(value)
        unseen += [(item, (path, key), depth + 1) for key, item in items]
    return None


def too_complex(
    error: Exception, prefix: str, kind: type[GrammarError], **data: object
) -> GrammarError:
    """A limit of the core as a typed error; that of an option says which."""
    message, *facts = error.args
    if not facts:
        return kind(f"{prefix}: {message}", **data)
    option, most, found, pointer = facts
    if issubclass(kind, SchemaError):
        data |= {"pointer": pointer, "keyword": None}
        prefix = f"{prefix}: {pointer}" if pointer else prefix
    return kind(f"{prefix}: {message}", limit=option, most=most, found=found, **data)
