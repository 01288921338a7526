"""Make a generated JSON Schema short enough for a model to read, without changing its meaning.

Knows the shape of JSON Schema as Pydantic writes it. Does not know Pydantic, types or tools.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

# Shared definitions are written out where they are used, unless that makes more nodes than this.
MAX_INLINED_NODES = 2_000

_NOISE = frozenset({"title", "discriminator", "$defs"})
_SCHEMA_MAPS = frozenset({"properties", "patternProperties", "dependentSchemas"})
_SCHEMA_LISTS = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
_SCHEMAS = frozenset({"items", "additionalProperties", "propertyNames", "not", "contains"})
_ORDER = ("type", "description", "enum", "const", "anyOf", "properties", "items", "required")
# Others ("path", "binary", "password") describe Python types and constrain nothing.
_FORMATS = frozenset(
    {"date-time", "date", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uri", "uuid"}
)


class _TooLarge(Exception):
    """Writing out all shared definitions would pass MAX_INLINED_NODES."""


def clean(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Drop titles and noise, write out definitions that aren't recursive, close objects.

    Sets lose `uniqueItems`: a repeated item is accepted and dropped when the set is made.
    """
    definitions = dict(schema.get("$defs", {}))
    kept = {name for name in definitions if name in _reachable(definitions[name], definitions)}
    try:
        return _Cleaner(definitions, kept).run(schema)
    except _TooLarge:
        return _Cleaner(definitions, set(definitions)).run(schema)


def has_open_object(schema: Any) -> bool:
    """Whether some object has named properties and takes others as well."""
    if isinstance(schema, Mapping):
        is_open = isinstance(schema.get("properties"), Mapping) and schema.get(
            "additionalProperties", False
        )
        return bool(is_open) or any(map(has_open_object, schema.values()))
    return isinstance(schema, list) and any(map(has_open_object, schema))


def _reachable(schema: Any, definitions: Mapping[str, Any]) -> set[str]:
    seen: set[str] = set()
    pending = [schema]
    while pending:
        node = pending.pop()
        if isinstance(node, Mapping):
            name = _definition_name(node)
            if name is not None and name not in seen:
                seen.add(name)
                pending.append(definitions.get(name))
            pending.extend(node.values())
        elif isinstance(node, list):
            pending.extend(node)
    return seen


def _definition_name(node: Mapping[str, Any]) -> str | None:
    ref = node.get("$ref")
    return ref.removeprefix("#/$defs/") if isinstance(ref, str) else None


class _Cleaner:
    def __init__(self, definitions: Mapping[str, Any], kept: set[str]) -> None:
        self._definitions = definitions
        self._kept = kept
        self._used: set[str] = set()
        self._nodes = 0

    def run(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        out: dict[str, Any] = self._schema(schema)
        shared: dict[str, Any] = {}
        while missing := sorted(self._used - shared.keys()):
            shared[missing[0]] = self._schema(self._definitions[missing[0]])
        if shared:
            out["$defs"] = {name: shared[name] for name in self._definitions if name in shared}
        return out

    def _schema(self, node: Any) -> Any:  # a schema may be True or False
        if not isinstance(node, Mapping):
            return node
        self._nodes += 1
        if self._nodes > MAX_INLINED_NODES and len(self._kept) < len(self._definitions):
            raise _TooLarge
        name = _definition_name(node)
        if name is not None and name in self._kept:
            self._used.add(name)
        elif name is not None:
            siblings = {key: value for key, value in node.items() if key != "$ref"}
            node = {**self._definitions[name], **siblings}
        out = {key: self._keyword(key, value) for key, value in node.items() if key not in _NOISE}
        return _ordered(_closed(_nullable(out)))

    def _keyword(self, key: str, value: Any) -> Any:
        if key in _SCHEMA_MAPS:
            return {name: self._schema(item) for name, item in value.items()}
        if key in _SCHEMA_LISTS:
            return [self._schema(item) for item in value]
        return self._schema(value) if key in _SCHEMAS else value


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    """`anyOf: [X, null]` as `{"type": [X, "null"]}`, where X is a plain type."""
    options = schema.get("anyOf")
    if not isinstance(options, list) or len(options) != 2 or {"type": "null"} not in options:
        return schema
    other = options[0] if options[1] == {"type": "null"} else options[1]
    rest = {key: value for key, value in schema.items() if key != "anyOf"}
    clash = (other.keys() & rest.keys()) - {"description"}
    if not isinstance(other.get("type"), str) or "const" in other or clash:
        return schema
    merged = {**other, **rest, "type": [other["type"], "null"]}
    if "enum" in other:
        merged["enum"] = [*other["enum"], None]
    return merged


def _closed(schema: dict[str, Any]) -> dict[str, Any]:
    names = schema.get("propertyNames", {}).get("enum")
    if names is not None and "properties" not in schema:  # dict[Literal["a", "b"], int]
        del schema["propertyNames"]
        schema["properties"] = dict.fromkeys(names, schema.pop("additionalProperties", True))
    if "properties" in schema:
        schema.setdefault("additionalProperties", False)
    if not schema.get("required", True):
        del schema["required"]
    schema.pop("uniqueItems", None)
    if schema.get("format", "date") not in _FORMATS:
        del schema["format"]
    if not _is_json(schema.get("default")):  # NaN
        del schema["default"]
    return schema


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return True


def _ordered(schema: dict[str, Any]) -> dict[str, Any]:
    first = {key: schema[key] for key in _ORDER if key in schema}
    return first | {key: value for key, value in schema.items() if key not in first}
