"""Whether a JSON Schema is one, as far as those must know who take it apart.

Knows what each keyword's value must look like. Does not know grammars or tools.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from engine.errors import SchemaError
from engine.grammar.limits import Limits, deep_pointer

TYPES: Final = ("object", "array", "string", "number", "integer", "boolean", "null")
_Parts = Iterator[tuple[str, Any]]


def check_shape(schema: Any) -> None:
    """Raises SchemaError with keyword and pointer for what is no schema, or is too deep."""
    most = Limits().depth
    pointer = deep_pointer(schema, most)
    if pointer is not None:
        what = f"more than {most} brackets inside each other; the limit `depth` is {most}"
        raise _mistake(pointer, None, what)
    unseen = [("", schema)]
    while unseen:
        pointer, part = unseen.pop()
        if isinstance(part, bool):
            continue
        if not isinstance(part, Mapping):
            raise _mistake(pointer, None, "a schema must be an object or a boolean")
        for keyword, value in part.items():
            check = _CHECKS.get(keyword)
            if check is not None and (problem := check(value)):
                raise _mistake(pointer, keyword, problem)
            if problem := _unwritable(keyword, value):
                raise _mistake(pointer, str(keyword), problem)
            unseen += _parts(f"{pointer}/{keyword}", keyword, value)


def _mistake(pointer: str, keyword: str | None, what: str) -> SchemaError:
    at = f"{pointer}/{keyword}" if keyword else pointer
    return SchemaError(f"{at or 'the schema'}: {what}", keyword=keyword, pointer=pointer)


def _parts(pointer: str, keyword: str, value: Any) -> _Parts:
    """The schemas in a keyword's value."""
    if keyword in _MAPS:
        for key, part in value.items():
            yield f"{pointer}/{key.replace('~', '~0').replace('/', '~1')}", part
    elif keyword in ("anyOf", "oneOf", "allOf"):
        yield from ((f"{pointer}/{index}", part) for index, part in enumerate(value))
    elif keyword in ("items", "additionalProperties"):
        yield pointer, value


def _is_map(value: Any) -> str:
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return ""
    return "must be an object whose values are schemas"


def _is_list(value: Any) -> str:
    return "" if isinstance(value, list | tuple) else "must be a list"


def _is_list_of_names(value: Any) -> str:
    return _is_list(value) or (
        "" if all(isinstance(each, str) for each in value) else "must list strings"
    )


def _is_type(value: Any) -> str:
    named = value if isinstance(value, list | tuple) else [value]
    unknown = [each for each in named if each not in TYPES]
    return f"the unknown type {unknown[0]}" if unknown else ""


def _is_count(value: Any) -> str:
    is_count = isinstance(value, int | float) and not isinstance(value, bool)
    is_count = is_count and value >= 0 and value == int(value)
    return "" if is_count else "must be a whole number of at least 0"


def _is_text(value: Any) -> str:
    return "" if isinstance(value, str) else "must be a text"


def _unwritable(keyword: Any, value: Any) -> str:
    """Texts with half of a character: no model can say them."""
    texts = [keyword, *(value if keyword in _MAPS or keyword in ("enum", "required") else ())]
    texts += [value] if keyword == "const" else []
    for text in texts:
        if isinstance(text, str) and any(0xD800 <= ord(each) < 0xE000 for each in text):
            return f"{text[:40]!r} is no text: it has half of a character"
    return ""


_MAPS: Final = ("properties", "$defs", "definitions")
_CHECKS: Final[Mapping[str, Callable[[Any], str]]] = {
    **dict.fromkeys(_MAPS, _is_map),
    **dict.fromkeys(("anyOf", "oneOf", "allOf", "enum"), _is_list),
    **dict.fromkeys(("minItems", "maxItems", "minLength", "maxLength"), _is_count),
    "required": _is_list_of_names,
    "type": _is_type,
    "$ref": _is_text,
}
