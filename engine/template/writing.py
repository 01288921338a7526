"""Write values as text that keeps its marks: JSON, Python's notation, `%` and `format`.

Knows how Python writes values. Does not know Jinja, messages or tokens.
Each writer gives the same text as the function it stands for; only the marks are added.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from string import Formatter
from typing import Any, Final

from engine.template.limits import Budget, Refused
from engine.template.marked import (
    CONTENT,
    Marked,
    all_content,
    first_origin,
    join,
    tainted,
)

_WIDEST_INDENT: Final = 100


def text_of(budget: Budget, value: Any) -> str:
    """What `str(value)` gives in Jinja, marks kept. Refuses objects, which are not text."""
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, bool | int | float):
        return str(value)
    if is_undefined(value):
        return str(value)
    budget.printed.add(id(value))
    budget.weigh(value)
    return join(budget, _notation(value))


def is_undefined(value: Any) -> bool:
    """Is this Jinja's stand-in for a missing variable? Told by its make: Jinja isn't known here."""
    return hasattr(type(value), "_fail_with_undefined_error")


def _notation(value: Any) -> Iterator[str]:
    """`repr(value)` in pieces."""
    if isinstance(value, str):
        quoted = repr(str.__str__(value))
        yield quoted[0]
        yield _as_whole(quoted[1:-1], value)
        yield quoted[0]
    elif isinstance(value, dict):
        yield from _bracketed("{", value.items(), "}", _pair_notation)
    elif isinstance(value, list):
        yield from _bracketed("[", value, "]", _notation)
    elif isinstance(value, tuple):
        yield from _bracketed("(", value, ",)" if len(value) == 1 else ")", _notation)
    elif isinstance(value, type({}.keys()) | type({}.values())):
        yield f"{type(value).__name__}("
        yield from _bracketed("[", value, "]", _notation)
        yield ")"
    elif isinstance(value, type({}.items())):
        yield "dict_items("
        yield from _bracketed("[", list(value), "]", _notation)
        yield ")"
    elif value is None or isinstance(value, bool | int | float | range):
        yield repr(value)
    elif is_undefined(value):
        yield "Undefined"
    else:
        raise Refused(f"it prints a {type(value).__name__}, which is not text")


def _bracketed(
    opening: str, items: Any, closing: str, write: Callable[[Any], Iterator[str]]
) -> Iterator[str]:
    yield opening
    for index, item in enumerate(items):
        if index:
            yield ", "
        yield from write(item)
    yield closing


def _pair_notation(pair: tuple[Any, Any]) -> Iterator[str]:
    yield from _notation(pair[0])
    yield ": "
    yield from _notation(pair[1])


def _as_whole(written: str, source: str) -> str:
    """`written` stands for `source`, character places lost: content if any of `source` is."""
    if isinstance(source, Marked):
        return all_content(written, first_origin(source._origin))
    return written


def to_json(
    budget: Budget,
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: Sequence[str] | None = None,
    sort_keys: bool = False,
) -> str:
    """`json.dumps` with the defaults of Hugging Face's `tojson`: no escapes of HTML or Korean."""
    budget.weigh(value)
    if indent is not None:
        width = indent if isinstance(indent, int) else len(indent)
        if width > _WIDEST_INDENT:
            raise Refused(f"it indents JSON by {width:,}; the limit is {_WIDEST_INDENT}")
        indent = " " * indent if isinstance(indent, int) else indent
    between, after_key = separators or ("," if indent is not None else ", ", ": ")
    writer = _Json(ensure_ascii, indent, (between, after_key), sort_keys)
    return join(budget, writer.pieces(value, ""))


class _Json:
    """The pieces of a JSON text. A class only to carry the settings down the recursion."""

    def __init__(
        self, ensure_ascii: bool, indent: str | None, separators: tuple[str, str], sort_keys: bool
    ) -> None:
        encoder = json.encoder
        self.quote = encoder.encode_basestring_ascii if ensure_ascii else encoder.encode_basestring
        self.indent = indent
        self.between, self.after_key = separators
        self.sort_keys = sort_keys

    def pieces(self, value: Any, margin: str) -> Iterator[str]:
        if isinstance(value, str):
            yield from self._string(value)
        elif isinstance(value, dict):
            keys = sorted(value) if self.sort_keys else value
            yield from self._many("{", [(key, value[key]) for key in keys], "}", margin, self._pair)
        elif isinstance(value, list | tuple):
            yield from self._many("[", value, "]", margin, self.pieces)
        else:
            # Also raises TypeError for what JSON has no word for, as json.dumps would.
            yield json.dumps(value)

    def _string(self, value: str) -> Iterator[str]:
        quoted = self.quote(str.__str__(value))
        yield '"'
        yield _as_whole(quoted[1:-1], value)
        yield '"'

    def _pair(self, pair: tuple[Any, Any], margin: str) -> Iterator[str]:
        key, value = pair
        if isinstance(key, str):
            yield from self._string(key)
        elif key is None or isinstance(key, bool | int | float):
            yield f'"{json.dumps(key)}"'
        else:
            raise TypeError(f"keys must be str, int, float, bool or None, not {type(key).__name__}")
        yield self.after_key
        yield from self.pieces(value, margin)

    def _many(
        self,
        opening: str,
        items: Sequence[Any],
        closing: str,
        margin: str,
        write: Callable[[Any, str], Iterator[str]],
    ) -> Iterator[str]:
        if not items:
            yield opening + closing
            return
        inner = margin + (self.indent if self.indent is not None else "")
        line = "\n" + inner if self.indent is not None else ""
        yield opening + line
        for index, item in enumerate(items):
            if index:
                yield self.between + line
            yield from write(item, inner)
        yield ("\n" + margin if self.indent is not None else "") + closing


def from_json(budget: Budget, text: str) -> Any:
    """The value of a JSON text; strings in it are content where any of the text was."""
    budget.grow(len(text))
    plain = str.__str__(text)
    budget.hold(sum(map(plain.count, "[{,")))  # `[],[],[]` takes forty times the room of its text
    value = json.loads(plain)
    return mark_all(value, first_origin(text._origin)) if isinstance(text, Marked) else value


def mark_all(value: Any, origin: str = CONTENT) -> Any:
    """A deep copy of a JSON value, all strings in it (keys too) marked as content."""
    if isinstance(value, str):
        return all_content(str.__str__(value), origin)
    if isinstance(value, Mapping):
        return {mark_all(key, origin): mark_all(item, origin) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [mark_all(item, origin) for item in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    raise TypeError(f"{type(value).__name__} is not a JSON value")


_DIRECTIVE = re.compile(
    r"%(?:\((?P<key>[^)]{0,200})\))?(?P<flags>[#0\- +]*)"
    r"(?P<width>\*|\d+)?(?:\.(?P<precision>\*|\d*))?[hlL]?(?P<kind>.)",
    re.DOTALL,
)


def percent(budget: Budget, template: str, values: Any) -> str:
    """`template % values`. Widths and precisions are bounded, and `*` for one is refused."""
    budget.grow(len(template))
    return join(budget, _percent_pieces(budget, template, values))


def _percent_pieces(budget: Budget, template: str, values: Any) -> Iterator[str]:
    at, taken, named = 0, 0, False
    arguments = values if isinstance(values, tuple) else (values,)
    for found in _DIRECTIVE.finditer(template):
        budget.step()
        yield template[at : found.start()]
        at = found.end()
        key, width, precision = found["key"], found["width"], found["precision"]
        if "*" in (width, precision):
            raise Refused("it takes a width from an argument of '%'")
        for number in (width, precision):
            if number:
                budget.number(_size(number), "a width")
        if found["kind"] == "%":
            yield found.group() % ()
            continue
        if key is not None:
            named = True
            argument = values[key]
        elif taken < len(arguments):
            argument = arguments[taken]
            taken += 1
        else:
            raise TypeError("not enough arguments for format string")
        directive = found.group().replace(f"({key})", "", 1) if key is not None else found.group()
        yield _one_percent(budget, template, directive, found["kind"], argument)
    if "%" in template[at:]:
        raise ValueError("incomplete format")
    yield template[at:]
    if not named and taken < len(arguments) and not isinstance(values, Mapping):
        raise TypeError("not all arguments converted during string formatting")


def _one_percent(budget: Budget, template: str, directive: str, kind: str, argument: Any) -> str:
    if kind == "a":
        raise Refused("templates have no '%a'")
    if kind == "r":
        budget.weigh(argument)
        argument, directive = join(budget, _notation(argument)), directive[:-1] + "s"
    elif kind == "s":
        argument = text_of(budget, argument)
    if directive == "%s":
        return str(argument)
    return tainted(directive % (argument,), template, argument)


def _size(digits: str) -> int:
    return int(digits) if len(digits) < 20 else 10**20


def format_text(
    budget: Budget,
    template: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    getattr_: Callable[[Any, str], Any],
    getitem: Callable[[Any, Any], Any],
) -> str:
    """`template.format(*args, **kwargs)`, attributes looked up by the sandbox's rules."""
    budget.grow(len(template))
    formatter = _Format(budget, getattr_, getitem)
    pieces = formatter.pieces(template, args, kwargs)
    if isinstance(template, Marked):
        return tainted(join(budget, pieces), template)
    return join(budget, pieces)


class _Format(Formatter):
    """`str.format` in pieces."""

    def __init__(
        self,
        budget: Budget,
        getattr_: Callable[[Any, str], Any],
        getitem: Callable[[Any, Any], Any],
    ) -> None:
        self.budget = budget
        self.attribute = getattr_
        self.item = getitem
        self.next_index = 0

    def pieces(
        self, template: str, args: Sequence[Any], kwargs: Mapping[str, Any], nesting: int = 2
    ) -> Iterator[str]:
        if nesting == 0:
            raise ValueError("Max string recursion exceeded")
        for literal, name, spec, conversion in self.parse(str.__str__(template)):
            self.budget.step()
            yield literal
            if name is None:
                continue
            value = self._value(name, args, kwargs)
            inner = spec or ""
            if "{" in inner:
                inner = join(self.budget, self.pieces(inner, args, kwargs, nesting - 1))
            for digits in re.findall(r"\d+", inner):
                self.budget.number(_size(digits), "a width")
            yield self._formatted(value, inner, conversion)

    def _value(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        first = re.split(r"[.\[]", name, maxsplit=1)[0]
        if not first:
            name, self.next_index = f"{self.next_index}{name}", self.next_index + 1
        head, rest = _field_path(name)
        value: Any = args[head] if isinstance(head, int) else kwargs[head]
        for is_attribute, key in rest:
            value = self.attribute(value, str(key)) if is_attribute else self.item(value, key)
        return value

    def _formatted(self, value: Any, spec: str, conversion: str | None) -> str:
        if conversion == "a":
            raise Refused("templates have no '{!a}'")
        if conversion == "r":
            self.budget.weigh(value)
            value = join(self.budget, _notation(value))
        elif conversion == "s" or not isinstance(value, bool | int | float):
            value = text_of(self.budget, value)
        if not spec:
            return text_of(self.budget, value)
        return tainted(format(plain_or_number(value), spec), value, spec)


def plain_or_number(value: Any) -> Any:
    return str.__str__(value) if isinstance(value, str) else value


_FIELD = re.compile(r"([^.\[\]]*)((?:\.[^.\[\]]+|\[[^\]]+\])*)")


def _field_path(name: str) -> tuple[int | str, list[tuple[bool, str | int]]]:
    """Split `a.b[c]` as `str.format` does: the head, then (is attribute, key) pairs."""
    whole = _FIELD.fullmatch(name)
    if whole is None:
        raise ValueError(f"unreadable replacement field {name!r}")
    rest: list[tuple[bool, str | int]] = [
        (True, attribute) if attribute else (False, int(key) if key.isdecimal() else key)
        for attribute, key in re.findall(r"\.([^.\[\]]+)|\[([^\]]+)\]", whole[2])
    ]
    return (int(whole[1]) if whole[1].isdecimal() else whole[1]), rest
