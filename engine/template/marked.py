"""Text that remembers which of its characters are content.

Knows strings and, for each character, where it came from. Does not know Jinja, messages or tokens.

Every operation gives exactly the text that `str` gives, so a template that looks into content
(`endswith('/nothink')`, `split('</think>')`, `content[0]`) does what it does with plain strings.
Where the origin of single characters can't be told, the whole result counts as content.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Final

from engine.template.limits import Budget, Refused

TEMPLATE: Final = "\0"  # the origin of a character that the template wrote itself
CONTENT: Final = "\1"  # the origin of content that nobody needs to tell apart
_LINE_ENDS: Final = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"  # what `splitlines` splits at
_CONTENT_RUN = re.compile("[^\0]+")


class Marked(str):
    """A `str` of which some characters are content.

    `_origin` has one character for each of the text's: TEMPLATE, or any other for content. Plain
    `str` stands for a text without content. The name starts with `_` to be out of templates' reach.
    """

    __slots__ = ("_origin",)
    _origin: str

    def __new__(cls, text: str, origin: str) -> Marked:
        self = super().__new__(cls, text)
        self._origin = origin
        return self

    def __str__(self) -> str:
        return self  # `str(x)` in compiled templates must keep the marks

    def __getitem__(self, index: Any) -> str:
        return marked(str.__getitem__(self, index), self._origin[index])

    def __iter__(self) -> Iterator[str]:
        return map(marked, str.__iter__(self), self._origin)


def marked(text: str, origin: str) -> str:
    """`text` with these origins; a plain `str` when none of them is content."""
    if origin.count(TEMPLATE) == len(origin):
        return plain(text)
    if len(origin) != len(text):  # a mistake of ours must not free content from its marks
        return Marked(text, first_origin(origin) * len(text))
    return Marked(text, origin)


def all_content(text: str, origin: str = CONTENT) -> str:
    """`text`, every character of it content."""
    return Marked(text, origin * len(text)) if text else text


def plain(text: str) -> str:
    """`text` as an exact `str`, without marks."""
    return str.__str__(text)


def origin_of(text: str) -> str:
    return text._origin if isinstance(text, Marked) else TEMPLATE * len(text)


def first_origin(origin: str) -> str:
    """The first content origin in `origin`, or TEMPLATE."""
    found = _CONTENT_RUN.search(origin)
    return found.group()[0] if found else TEMPLATE


def content_ranges(text: str) -> tuple[tuple[int, int], ...]:
    """The stretches of content as [start, end), sorted and disjoint."""
    return tuple(run.span() for run in _CONTENT_RUN.finditer(origin_of(text)))


def tainted(text: str, *sources: Any) -> str:
    """`text` as the result of an unknown operation: all content if any source holds content."""
    for source in sources:
        code = _origin_within(source)
        if code != TEMPLATE:
            return all_content(plain(text), code)
    return text


def _origin_within(value: Any, depth: int = 8) -> str:
    if isinstance(value, Marked):
        return first_origin(value._origin)
    if depth and isinstance(value, Mapping):
        value = [*value, *value.values()]
    if depth and isinstance(value, list | tuple):
        for item in value:
            code = _origin_within(item, depth - 1)
            if code != TEMPLATE:
                return code
    return TEMPLATE if depth or not isinstance(value, list | tuple | Mapping) else CONTENT


def join(budget: Budget, pieces: Iterable[str]) -> str:
    """The pieces as one text. The iterable is left off as soon as the text gets too long."""
    parts: list[str] = []
    length, has_content = 0, False
    limit = budget.limits.output
    for piece in pieces:
        budget.step()
        length += len(piece)
        if length > limit:
            break
        parts.append(piece)
        has_content = has_content or isinstance(piece, Marked)
    budget.grow(length)
    text = "".join(parts)
    return Marked(text, "".join(map(origin_of, parts))) if has_content else text


def _strip(budget: Budget, text: str, chars: str | None = None) -> str:
    start = len(text) - len(str.lstrip(text, chars))
    return _part(budget, text, start, max(start, len(str.rstrip(text, chars))))


def _lstrip(budget: Budget, text: str, chars: str | None = None) -> str:
    return _part(budget, text, len(text) - len(str.lstrip(text, chars)), len(text))


def _rstrip(budget: Budget, text: str, chars: str | None = None) -> str:
    return _part(budget, text, 0, len(str.rstrip(text, chars)))


def _removeprefix(budget: Budget, text: str, prefix: str) -> str:
    return _part(budget, text, len(prefix) if text.startswith(prefix) else 0, len(text))


def _removesuffix(budget: Budget, text: str, suffix: str) -> str:
    cut = len(suffix) if suffix and text.endswith(suffix) else 0
    return _part(budget, text, 0, len(text) - cut)


def _part(budget: Budget, text: str, start: int, end: int) -> str:
    budget.grow(end - start)
    return text[start:end]


def _places(text: str, pieces: Iterable[str], gap: int | None) -> list[str]:
    """Find the pieces again in the text they were cut from, `gap` characters apart if known."""
    if not isinstance(text, Marked):
        return list(pieces)
    at, out = 0, []
    for piece in pieces:
        if gap is None:
            at = str.find(text, piece, at)
        out.append(text[at : at + len(piece)])
        at += len(piece) + (gap or 0)
    return out


def _splitting(cut: Callable[..., list[str]]) -> Callable[..., list[str]]:
    def split(budget: Budget, text: str, sep: str | None = None, maxsplit: int = -1) -> list[str]:
        budget.grow(len(text))
        if sep:  # split() without one makes at most as many pieces as there are characters
            pieces_expected = text.count(sep) + 1
            budget.hold(pieces_expected if maxsplit < 0 else min(pieces_expected, maxsplit + 1))
        elif maxsplit < 0 and len(text) > budget.limits.items:
            words = islice(re.finditer(r"\S+", text), budget.limits.items + 1)
            budget.hold(sum(1 for _ in words))
        return _places(text, cut(text, sep, maxsplit), len(sep) if sep else None)

    return split


def _splitlines(budget: Budget, text: str, keepends: bool = False) -> list[str]:
    budget.grow(len(text))
    budget.hold(sum(map(text.count, _LINE_ENDS)))
    lines = str.splitlines(text, True)
    whole = _places(text, lines, 0)
    if keepends:
        return whole
    return [line[: len(bare)] for line, bare in zip(whole, str.splitlines(text), strict=True)]


def _partition(budget: Budget, text: str, sep: str) -> tuple[str, ...]:
    budget.grow(len(text))
    return tuple(_places(text, str.partition(text, sep), 0))


def _rpartition(budget: Budget, text: str, sep: str) -> tuple[str, ...]:
    budget.grow(len(text))
    return tuple(_places(text, str.rpartition(text, sep), 0))


def replace(budget: Budget, text: str, old: str, new: str, count: int = -1) -> str:
    found = text.count(old)
    found = found if count < 0 else min(found, count)
    budget.grow(len(text) + found * max(0, len(new) - len(old)))
    if not found:
        return text
    if not isinstance(text, Marked) and not isinstance(new, Marked):
        return str.replace(text, old, new, count)
    if not old:
        return tainted(str.replace(text, old, new, count), text, new)
    budget.hold(found)
    pieces: list[str] = []
    at = 0
    for _ in range(found):
        place = str.find(text, old, at)
        pieces += (text[at:place], new)
        at = place + len(old)
    pieces.append(text[at:])
    return join(budget, pieces)


def _joining(budget: Budget, text: str, items: Iterable[str]) -> str:
    def pieces() -> Iterator[str]:
        for index, item in enumerate(items):
            budget.step()
            if not isinstance(item, str):
                raise TypeError(
                    f"sequence item {index}: expected str instance, {type(item).__name__} found"
                )
            if index:
                yield text
            yield item

    return join(budget, pieces())


def _recasing(change: Callable[[str], str]) -> Callable[[Budget, str], str]:
    def recase(budget: Budget, text: str) -> str:
        budget.grow(len(text))
        out = change(text)
        if not isinstance(text, Marked):
            return out
        origin = text._origin
        if len(out) != len(text):  # 'ß' becomes 'SS'
            wide = (
                code * len(change(char)) for char, code in zip(plain(text), origin, strict=True)
            )
            origin = "".join(wide)
        return marked(out, origin)

    return recase


def _padding(pad: Callable[..., str]) -> Callable[..., str]:
    def padded(budget: Budget, text: str, width: int, *fill: str) -> str:
        budget.grow(max(len(text), budget.number(width, "a width")))
        out = pad(text, width, *fill)
        if len(out) == len(text):
            return text
        return tainted(out, text, *fill)

    return padded


def _expandtabs(budget: Budget, text: str, tabsize: int = 8) -> str:
    budget.grow(len(text) + text.count("\t") * max(0, budget.number(tabsize, "a tab size")))
    return tainted(str.expandtabs(text, tabsize), text)


# Methods of `str` that answer with neither text nor bytes: nothing to keep, nothing to bound.
QUESTIONS: Final = frozenset(  # a table reads better than 19 quoted words
    [
        "startswith",
        "endswith",
        "find",
        "rfind",
        "index",
        "rindex",
        "count",
        "isalnum",
        "isalpha",
        "isascii",
        "isdecimal",
        "isdigit",
        "isidentifier",
        "islower",
        "isnumeric",
        "isprintable",
        "isspace",
        "istitle",
        "isupper",
    ]
)

METHODS: dict[str, Callable[..., Any]] = {
    "strip": _strip,
    "lstrip": _lstrip,
    "rstrip": _rstrip,
    "removeprefix": _removeprefix,
    "removesuffix": _removesuffix,
    "split": _splitting(str.split),
    "rsplit": _splitting(str.rsplit),
    "splitlines": _splitlines,
    "partition": _partition,
    "rpartition": _rpartition,
    "replace": replace,
    "join": _joining,
    "upper": _recasing(str.upper),
    "lower": _recasing(str.lower),
    "casefold": _recasing(str.casefold),
    "swapcase": _recasing(str.swapcase),
    "capitalize": _recasing(str.capitalize),
    "title": _recasing(str.title),
    "center": _padding(str.center),
    "ljust": _padding(str.ljust),
    "rjust": _padding(str.rjust),
    "zfill": _padding(str.zfill),
    "expandtabs": _expandtabs,
}


def call_method(budget: Budget, text: str, name: str, args: Any, kwargs: Any) -> Any:
    """`text.name(*args, **kwargs)` for a template. Refuses what would lose the marks (`encode`)."""
    method = METHODS.get(name)
    if method is not None:
        return method(budget, text, *args, **kwargs)
    if name in QUESTIONS:
        budget.weigh(text)
        return getattr(str, name)(text, *args, **kwargs)
    raise Refused(f"templates have no str.{name}")
