"""Operators and filters of chat templates, bounded and with marks kept.

Knows what Jinja's operators and filters give. Does not know Jinja itself, messages or tokens.
"""

from __future__ import annotations

import datetime
import html
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Final

from engine.template.limits import Budget, Refused
from engine.template.marked import METHODS, join, marked, origin_of, replace, tainted
from engine.template.writing import from_json, percent, text_of, to_json

_INTEGER_BITS: Final = 4096
_SMALL_TEXT: Final = 16 * 1024  # for filters whose time grows faster than their text
_SHORT_ARGUMENT: Final = 200

_COMPARING_TESTS = "in eq == equalto ne != lt < lessthan le <= gt > greaterthan ge >="
_NUMBER_TESTS: Final = frozenset({"odd", "even", "divisibleby"})
_COMPARING_FILTERS: Final = frozenset(
    {"sort", "unique", "groupby", "min", "max", "dictsort", "pprint"}
)
_SLOW_FILTERS: Final = frozenset(
    {
        "pprint",
        "striptags",
        "title",
        "truncate",
        "urlencode",
        "urlize",
        "wordcount",
        "wordwrap",
        "xmlattr",
    }
)
_SIZED_FILTERS: Final = frozenset({"batch", "round", "slice", "truncate", "wordwrap"})

_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": operator.pow,
}

_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "lteq": operator.le,
    "gt": operator.gt,
    "gteq": operator.ge,
    "in": lambda left, right: left in right,
    "notin": lambda left, right: left not in right,
}


def binary(budget: Budget, symbol: str, left: Any, right: Any) -> Any:
    """`left symbol right` for any operator of Jinja's."""
    budget.step()
    if isinstance(left, str):
        if symbol == "+" and isinstance(right, str):
            return join(budget, (left, right))
        if symbol == "%":
            return percent(budget, left, right)
    if symbol == "*":
        return _times(budget, left, right)
    if symbol == "**":
        return _power(left, right)
    if symbol == "+" and isinstance(left, list | tuple):
        budget.hold(len(left) + len(right))
    elif not isinstance(left, int | float):
        budget.weigh(left, right)  # dict views subtract by hashing
    return _bounded(_ARITHMETIC[symbol](left, right))


def _times(budget: Budget, left: Any, right: Any) -> Any:
    if isinstance(left, int) and not isinstance(right, int | float):
        left, right = right, left
    if isinstance(right, int) and isinstance(left, str):
        if right * len(left) > 0:
            budget.grow(right * len(left))
        return marked(str.__mul__(left, right), origin_of(left) * right)
    if isinstance(right, int) and isinstance(left, list | tuple):
        budget.hold(max(0, right) * len(left))
    if isinstance(left, int) and isinstance(right, int):
        _bounded(left)
        _bounded(right)
    return _bounded(left * right)


def _power(left: Any, right: Any) -> Any:
    integers = isinstance(left, int) and isinstance(right, int)
    if integers and left.bit_length() * right > _INTEGER_BITS:
        raise Refused(f"it computes a number of over {_INTEGER_BITS:,} bits")
    return left**right


def _bounded(value: Any) -> Any:
    if isinstance(value, int) and value.bit_length() > _INTEGER_BITS:
        raise Refused(f"it computes a number of over {_INTEGER_BITS:,} bits")
    return value


def held(budget: Budget, value: Any) -> Any:
    """`value`, the room it takes counted if it is a list."""
    if isinstance(value, list | tuple | dict | set):
        budget.hold(len(value))
    return value


def checked(
    budget: Budget, name: str, value: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    """`value` for one of Jinja's own filters. Refuses what would keep that filter busy for long."""
    if name in _COMPARING_FILTERS:
        if isinstance(value, Iterator):
            value = _as_list(budget, value)
        budget.weigh(value, args)
    if name == "attr":
        budget.weigh(args)
    if name in _SLOW_FILTERS:
        characters = budget.weigh(value)
        if characters > _SMALL_TEXT:
            raise Refused(
                f"it gives {name!r} {characters:,} characters; the limit is {_SMALL_TEXT:,}"
            )
        if budget.weigh(args, list(kwargs.values())) > _SHORT_ARGUMENT:
            raise Refused(f"it gives {name!r} an argument of over {_SHORT_ARGUMENT} characters")
    if name in _SIZED_FILTERS:
        for argument in (*args, *kwargs.values()):
            if isinstance(argument, int):
                budget.number(argument, f"an argument of {name!r}")
    if name == "sum" and not isinstance(
        kwargs.get("start", args[1] if len(args) > 1 else 0), int | float
    ):
        raise Refused("it sums up what are not numbers")
    return value


def call_on_list(
    budget: Budget, owner: list[Any], method: Callable[..., Any], args: tuple[Any, ...]
) -> Any:
    """`owner.method(*args)`: the one kind of object that a template may change."""
    budget.weigh(args)
    if method.__name__ in ("index", "count", "remove"):
        budget.weigh(owner)
    before = len(owner)
    if method.__name__ == "extend":
        args = tuple(_as_list(budget, values) for values in args)
    out = method(*args)
    budget.hold(max(0, len(owner) - before))
    if len(owner) > budget.limits.items:
        budget.hold(len(owner))
    return out


def bounded_tests(
    tests: Mapping[str, Any], filters: Mapping[str, Any], current: Callable[[], Budget]
) -> dict[str, Callable[..., bool]]:
    """Those of Jinja's tests that compare, hash, print or calculate: what they get is counted."""

    def counted(function: Callable[..., bool], takes: type | None) -> Callable[..., bool]:
        def run(*args: Any) -> bool:
            current().weigh(args)
            if takes is not None and not all(isinstance(arg, takes) for arg in args):
                raise TypeError(f"the test is for {takes.__name__} values")
            return function(*args)

        return run

    return {
        **{name: counted(tests[name], None) for name in _COMPARING_TESTS.split()},
        **{name: counted(tests[name], int) for name in _NUMBER_TESTS},
        **{name: counted(tests[name], None) for name in ("upper", "lower")},
        "filter": counted(lambda name: name in filters, None),
        "test": counted(lambda name: name in tests, None),
    }


def _compare(budget: Budget, left: Any, symbol: str, right: Any) -> Any:
    budget.step()
    if not isinstance(left, bool | int | float) and not isinstance(right, bool | int | float):
        budget.weigh(left, right)
    return _COMPARE[symbol](left, right)


def _iterate(budget: Budget, value: Any) -> Any:
    if isinstance(value, str):
        budget.hold(len(value))
    return value


def _slice(budget: Budget, value: Any, start: Any, stop: Any, step: Any) -> Any:
    part = value[slice(start, stop, step)]
    if isinstance(part, str):
        budget.grow(len(part))
    return part


def _key(budget: Budget, value: Any) -> Any:
    budget.weigh(value)
    return value


def _as_list(budget: Budget, value: Iterable[Any]) -> list[Any]:
    out = list(islice(value, budget.limits.items + 1))
    budget.hold(len(out))
    return out


def join_filter(budget: Budget, value: Iterable[Any], d: Any = "") -> str:
    between = text_of(budget, d)

    def pieces() -> Iterator[str]:
        for index, item in enumerate(value):
            budget.step()
            if index and between:
                yield between
            yield text_of(budget, item)

    return join(budget, pieces())


def _replace(budget: Budget, value: Any, old: Any, new: Any, count: int | None = None) -> str:
    text, old, new = (text_of(budget, item) for item in (value, old, new))
    return replace(budget, text, old, new, -1 if count is None else count)


def _trim(budget: Budget, value: Any, chars: str | None = None) -> str:
    out: str = METHODS["strip"](budget, text_of(budget, value), chars)
    return out


def _cased(name: str) -> Callable[[Budget, Any], str]:
    def recase(budget: Budget, value: Any) -> str:
        out: str = METHODS[name](budget, text_of(budget, value))
        return out

    return recase


def _center(budget: Budget, value: Any, width: int = 80) -> str:
    out: str = METHODS["center"](budget, text_of(budget, value), width)
    return out


def _indent(
    budget: Budget, s: Any, width: int | str = 4, first: bool = False, blank: bool = False
) -> str:
    margin = width if isinstance(width, str) else " " * budget.number(width, "an indent")
    text = text_of(budget, s)
    lines: list[str] = METHODS["splitlines"](budget, join(budget, (text, "\n")))
    budget.grow(len(text) + len(margin) * len(lines))
    out: list[str] = [margin] if first else []
    for index, line in enumerate(lines):
        if index:
            out.append("\n")
            if blank or line:
                out.append(margin)
        out.append(line)
    return join(budget, out)


def _escape(budget: Budget, value: Any) -> str:
    text = text_of(budget, value)
    budget.grow(5 * len(text))
    return tainted(html.escape(text).replace("&quot;", "&#34;").replace("&#x27;", "&#39;"), text)


def _int(budget: Budget, value: Any, default: Any = 0, base: int = 10) -> Any:
    if isinstance(value, str):
        if len(value) > _INTEGER_BITS:
            return default
        try:
            return int(value, base)
        except ValueError:
            pass
    try:
        return _bounded(int(float(value) if isinstance(value, str) else value))
    except (TypeError, ValueError, OverflowError):
        return default


def _format(budget: Budget, value: Any, *args: Any, **kwargs: Any) -> str:
    if args and kwargs:
        raise TypeError("can't handle positional and keyword arguments at the same time")
    return percent(budget, text_of(budget, value), kwargs or args)


def _to_json(budget: Budget, value: Any, *args: Any, **kwargs: Any) -> str:
    if isinstance(value, Iterator):  # `tools | map(attribute='function') | tojson`
        value = _as_list(budget, value)
    return to_json(budget, value, *args, **kwargs)


def bounded_range(budget: Budget, *args: int) -> range:
    numbers = range(*args)
    try:
        budget.number(len(numbers), "the length of a range")
    except OverflowError as error:
        raise Refused("it makes a range beyond all limits") from error
    return numbers


def new_dict(*args: Any, **kwargs: Any) -> dict[str, Any]:
    """`dict` as a function: the type itself has methods that write to other dicts."""
    return dict(*args, **kwargs)


def strftime(budget: Budget, moment: datetime.datetime, pattern: str) -> str:
    """The time now. Widths (`%10000d` is legal in glibc) and long patterns are refused."""
    if len(pattern) > 200 or re.search(r"%[-_0^#]*\d", pattern):
        raise Refused("it asks for the time in an outsized pattern")
    return moment.strftime(pattern)


FILTERS: dict[str, Callable[..., Any]] = {
    "·tick": lambda budget, value: value,
    "·iterate": _iterate,
    "·concat": lambda budget, values: join(budget, [text_of(budget, value) for value in values]),
    "·slice": _slice,
    "·compare": _compare,
    "·key": _key,
    "·hold": lambda budget, value: value,
    "tojson": _to_json,
    "from_json": from_json,
    "format": _format,
    "string": text_of,
    "safe": text_of,
    "replace": _replace,
    "trim": _trim,
    "upper": _cased("upper"),
    "lower": _cased("lower"),
    "capitalize": _cased("capitalize"),
    "center": _center,
    "indent": _indent,
    "list": _as_list,
    "int": _int,
    "escape": _escape,
    "e": _escape,
    "forceescape": _escape,
}
