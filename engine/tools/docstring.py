"""What a docstring says of a function and of its arguments.

Knows the Google, NumPy and Sphinx styles. Does not know functions, types or schemas.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_SECTION = re.compile(
    r"(?:Args|Arguments|Params|Parameters|Other Parameters|Keyword Args|Keyword Arguments|"
    r"Returns?|Yields?|Raises|Examples?|Notes?|See Also|References|Warnings?|Attributes):?\s*$"
)
_ARGUMENTS = re.compile(
    r"(?:Args|Arguments|Params|Parameters|Other Parameters|Keyword Args|Keyword Arguments):?\s*$"
)
_RULE = re.compile(r"-{3,}\s*$")
_GOOGLE = re.compile(r"\*{0,2}(\w+)\s*(?:\(.*?\))?\s*:(?!:)\s*(.*)")
_NUMPY = re.compile(r"(\*{0,2}\w+(?:\s*,\s*\*{0,2}\w+)*)\s*(?::.*)?$")
_SPHINX = re.compile(
    r":(?:param|parameter|arg|argument|key|keyword)\s+(?:[^:]*\s)?\*{0,2}(\w+):(.*)"
)
_FIELD = re.compile(r":\w[^:]*:")


@dataclass(frozen=True, slots=True)
class Docstring:
    """`summary` is the first paragraph on one line; `arguments` maps names to descriptions."""

    summary: str = ""
    arguments: dict[str, str] = field(default_factory=dict)


def parse(text: str | None) -> Docstring:
    """Read a docstring of any of the three styles; the styles may be mixed. Never fails."""
    lines = inspect.cleandoc(text or "").splitlines()
    arguments: dict[str, list[str]] = {}
    for names, words in _entries(lines):
        for name in names:
            arguments.setdefault(name, []).append(words)
    joined = {name: _one_line(parts) for name, parts in arguments.items()}
    return Docstring(_summary(lines), {name: words for name, words in joined.items() if words})


def _summary(lines: list[str]) -> str:
    paragraph: list[str] = []
    for index, line in enumerate(lines):
        if not line.strip() or _FIELD.match(line) or _is_section(lines, index):
            break
        paragraph.append(line)
    return _one_line(paragraph)


def _entries(lines: list[str]) -> Iterator[tuple[list[str], str]]:
    """(names, a line of their description), in order; continuation lines come as further pairs."""
    index = 0
    while index < len(lines):
        line = lines[index]
        if match := _SPHINX.match(line):
            yield [match[1]], match[2]
            index += 1
            while index < len(lines) and lines[index][:1].isspace():
                yield [match[1]], lines[index]
                index += 1
        elif _ARGUMENTS.match(line) and _is_section(lines, index):
            is_numpy = index + 1 < len(lines) and _RULE.match(lines[index + 1]) is not None
            body = _section_body(lines, index + 1 + is_numpy, indented=not is_numpy)
            yield from _numpy(body) if is_numpy else _google(body)
            index += 1 + is_numpy + len(body)
        else:
            index += 1


def _is_section(lines: list[str], index: int) -> bool:
    """A Google header ends in a colon, a NumPy header is underlined."""
    if not _SECTION.match(lines[index]):
        return False
    underlined = index + 1 < len(lines) and _RULE.match(lines[index + 1]) is not None
    return underlined or lines[index].rstrip().endswith(":")


def _section_body(lines: list[str], start: int, *, indented: bool) -> list[str]:
    end = start
    while end < len(lines):
        line = lines[end]
        if line.strip() and not line[0].isspace() and (indented or _is_section(lines, end)):
            break
        end += 1
    return lines[start:end]


def _google(body: list[str]) -> Iterator[tuple[list[str], str]]:
    filled = [line for line in body if line.strip()]
    indent = min((_indent(line) for line in filled), default=0)
    names: list[str] = []
    for line in filled:
        match = _GOOGLE.match(line.strip()) if _indent(line) == indent else None
        if match:
            names = [match[1]]
        yield names, match[2] if match else line


def _numpy(body: list[str]) -> Iterator[tuple[list[str], str]]:
    names: list[str] = []
    for line in body:
        if line.strip() and _indent(line) == 0:
            match = _NUMPY.match(line)
            names = [name.strip().lstrip("*") for name in match[1].split(",")] if match else []
        else:
            yield names, line


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _one_line(lines: list[str]) -> str:
    return " ".join(" ".join(lines).split())
