"""Of which JSON types a schema's values can be.

Knows the keywords that decide it. Does not know grammars. What it finds is an upper bound: a type
may be ruled out by a keyword that is not looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from engine.errors import SchemaError

ALL: Final = frozenset(("object", "array", "string", "number", "boolean", "null"))
MAX_CHAIN: Final = 64  # of references to references


class Root:
    """A whole schema, to which the references in its parts point."""

    def __init__(self, schema: Any) -> None:
        self.schema = schema
        self.kinds: dict[str, frozenset[str]] = {}  # of references that were followed

    def whole(self, part: Any) -> Any:
        """`part` as a schema of its own, with the definitions that it may refer to."""
        if not isinstance(part, Mapping) or part is self.schema:
            return part
        above = self.schema if isinstance(self.schema, Mapping) else {}
        shared = {key: above[key] for key in ("$defs", "definitions") if key in above}
        return {**part, **shared}

    def resolved(self, schema: Any, pointer: str) -> tuple[Any, str]:
        """What a reference refers to, and where that is; any other schema as it is.

        Raises SchemaError for a reference out of the schema, or in a ring.
        """
        for _ in range(MAX_CHAIN):
            target = schema.get("$ref") if isinstance(schema, Mapping) else None
            if target is None:
                return schema, pointer
            schema, pointer = self._at(str(target), pointer), str(target).removeprefix("#")
        raise SchemaError(f"{pointer}/$ref: refers to itself", keyword="$ref", pointer=pointer)

    def _at(self, target: str, pointer: str) -> Any:
        found: Any = self.schema
        for part in target.removeprefix("#").split("/")[1:]:
            name = part.replace("~1", "/").replace("~0", "~")
            if isinstance(found, list) and name.isdecimal() and int(name) < len(found):
                found = found[int(name)]
            elif isinstance(found, Mapping) and name in found:
                found = found[name]
            else:
                found = None
                break
        if found is None or not target.startswith("#"):
            raise SchemaError(
                f"{pointer}/$ref: nothing at {target!r}", keyword="$ref", pointer=pointer
            )
        return found


def kinds_of(schema: Any, root: Root, depth: int = 0) -> frozenset[str]:
    """The types, `integer` being a `number`. No value at all is the empty set."""
    if schema is True:
        return ALL
    if schema is False or not isinstance(schema, Mapping):
        return frozenset()
    if depth > MAX_CHAIN:
        return ALL
    if "$ref" in schema:
        target, name = root.resolved(schema, "")
        if name not in root.kinds:
            root.kinds[name] = ALL  # of one that comes back to itself
            root.kinds[name] = kinds_of(target, root, depth + 1)
        return root.kinds[name]
    found = ALL
    if "type" in schema:
        named = schema["type"]
        found &= {_NAMED.get(name, name) for name in ([named] if isinstance(named, str) else named)}
    if "const" in schema:
        found &= {kind_of(schema["const"])}
    if "enum" in schema:
        found &= {kind_of(value) for value in schema["enum"]}
    for word in ("anyOf", "oneOf"):
        if word in schema:
            parts = [kinds_of(part, root, depth + 1) for part in schema[word]]
            found &= frozenset().union(*parts)
    for part in schema.get("allOf", ()):
        found &= kinds_of(part, root, depth + 1)
    return found


_NAMED: Final = {"integer": "number"}


def kind_of(value: Any) -> str:
    """The type of one value."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case str():
            return "string"
        case int() | float():
            return "number"
        case Mapping():
            return "object"
        case _:
            return "array"
