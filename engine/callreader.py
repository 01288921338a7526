"""What a call says, read from the captures of the matcher that follows it.

Knows a matcher's captures and how each notation writes values. Does not know grammars, tokens or
tools.

The arguments come out as JSON text piece by piece, whatever the notation on the wire: what is
certain of JSON and of a string as it comes, other values when they are complete. The pieces only
ever grow, so they don't depend on how the bytes fall into tokens.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from engine.constraint import Constraint
from engine.errors import GrammarError
from engine.events import Event, ToolCallDelta, ToolCallStart
from engine.messages import JSON
from engine.utf8 import cut_off

_RAW: Final = ("arguments", "json")  # JSON on the wire already
_STREAMED: Final = (*_RAW, "text", "quoted", "code")
_PYTHON_NAMES: Final = {"true": True, "false": False, "null": None, "none": None}
_ESCAPE: Final = re.compile(
    r"""\\(?:x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-7]{1,3}|.)""", re.DOTALL
)
_ESCAPES: Final = dict(zip("abfnrtv\\'\"\n", "\a\b\f\n\r\t\v\\'\"\0", strict=True)) | {"\n": ""}
# What may become an escape, or with the next one a character in two halves.
_OPEN_ESCAPE: Final = re.compile(
    rb"""(?:\\u[dD][89abAB][0-9a-fA-F]{2})?
    \\(?:x[0-9a-fA-F]{0,2}|u[0-9a-fA-F]{0,4}|U[0-9a-fA-F]{0,8}|[0-7]{1,3}|.)?""",
    re.DOTALL | re.VERBOSE,
)
_PYTHON: Final = re.compile(
    r"""(?P<text>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')|(?<![\w.])0+(?=[0-9])""", re.DOTALL
)


@dataclass(slots=True)
class ReadCall:
    """A call as it was written. `raw` has the wire text of values that may be text or JSON."""

    id: str
    name: str
    wire_id: str | None = None
    pieces: list[str] = field(default_factory=list)
    raw: dict[str, str] = field(default_factory=dict)

    def arguments(self) -> dict[str, JSON]:
        """The arguments. Raises GrammarError where they are no JSON object."""
        text = "".join(self.pieces)
        try:
            value = _whole_json(json.loads(text, parse_float=_finite) if text.strip() else {})
        except (ValueError, RecursionError) as error:
            raise GrammarError(f"arguments of {self.name!r} are not JSON: {error}") from error
        if not isinstance(value, dict):
            raise GrammarError(f"arguments of {self.name!r} are not a JSON object")
        return value


@dataclass(slots=True)
class _Container:
    closer: str
    count: int = 0
    key: str = ""


class CallReader:
    """Follows one match. `take` what its matcher tells after every token."""

    def __init__(self, new_id: Callable[[str], str], code_tool: str = "code") -> None:
        self.calls: list[ReadCall] = []
        self._new_id = new_id
        self._code_tool = code_tool
        self._wire_id: str | None = None  # of the next call
        self._n_taken = 0
        self._begins: list[tuple[str, int]] = []  # captures that are open
        self._said = 0  # up to where the streamed value is said
        self._containers: list[_Container] = []

    def take(self, matcher: Constraint) -> list[Event]:
        """What is new in the match."""
        out: list[Event] = []
        events, certain = matcher.progress(self._n_taken)
        self._n_taken += len(events)
        text = matcher.text
        for name, place, is_end in events:
            out += self._end(name, place, text) if is_end else self._begin(name, place)
        if self._begins and self._begins[-1][0] in _STREAMED:
            out += self._stream(self._begins[-1][0], certain, text, is_end=False)
        return out

    def _begin(self, name: str, place: int) -> list[Event]:
        self._begins.append((name, place))
        self._said = place
        match name:
            case "code":
                return [*self._start(self._code_tool), *self._write('{"code": "')]
            case "text" | "quoted":
                return self._write(self._comma() + '"')
            case "json":
                return self._write(self._comma())
            case "object" | "array":
                opener = self._comma() + ("{" if name == "object" else "[")
                self._containers.append(_Container("}" if name == "object" else "]"))
                return self._write(opener)
        return []

    def _end(self, name: str, place: int, text: Callable[[int, int], bytes]) -> list[Event]:
        _, begin = self._begins.pop()
        match name:
            case "name":
                return self._start(_decoded(text(begin, place)))
            case "id":
                return self._take_id(_decoded(text(begin, place)))
            case "arguments" | "json":
                return self._stream(name, place, text, is_end=True)
            case "text" | "quoted" | "code":
                rest = self._stream(name, place, text, is_end=True)
                return [*rest, *self._write('"}' if name == "code" else '"')]
            case "object" | "array":
                return self._write(self._containers.pop().closer)
            case "key":
                top = self._containers[-1]
                top.key = _decoded(text(begin, place))
                top.count += 1
                return self._write(", " * (top.count > 1) + _json(top.key) + ": ")
            case "python" | "any":
                return self._value(name, _decoded(text(begin, place)))
        return []

    def _start(self, name: str) -> list[Event]:
        call = ReadCall(self._new_id(name), name, self._wire_id)
        self._wire_id = None
        self._containers.clear()
        self.calls.append(call)
        return [ToolCallStart(call.id, name)]

    def _take_id(self, wire_id: str) -> list[Event]:
        """An id may come before its call's name, behind it or around it."""
        if self.calls and self.calls[-1].wire_id is None:
            self.calls[-1].wire_id = wire_id
        else:
            self._wire_id = wire_id
        return []

    def _comma(self) -> str:
        """What stands before a value here."""
        if not self._containers or self._containers[-1].closer == "}":
            return ""
        self._containers[-1].count += 1
        return ", " if self._containers[-1].count > 1 else ""

    def _value(self, name: str, text: str) -> list[Event]:
        before = self._comma()
        if name == "python":
            try:
                return self._write(before + _json(python_value(text)))
            except GrammarError:
                return self._write(before + _json(text))  # the tool's own check will say it
        if len(self._containers) == 1 and self.calls:
            self.calls[-1].raw[self._containers[0].key] = text
        try:
            json.loads(text, parse_float=_finite, parse_constant=_finite)
        except (ValueError, RecursionError):
            text = _json(text)
        return self._write(before + text)

    def _stream(
        self, name: str, end: int, text: Callable[[int, int], bytes], *, is_end: bool
    ) -> list[Event]:
        data = text(self._said, end)
        said = len(data) if is_end else len(data) - cut_off(data)
        if name == "quoted":
            said = said if is_end else _whole_escapes(data[:said])
            piece = _json(_unescaped(_decoded(data[:said])))[1:-1]
        else:
            piece = _decoded(data[:said])
            piece = piece if name in _RAW else _json(piece)[1:-1]
        self._said += said
        return self._write(piece)

    def _write(self, piece: str) -> list[Event]:
        if not piece or not self.calls:
            return []
        call = self.calls[-1]
        call.pieces.append(piece)
        return [ToolCallDelta(call.id, piece)]


def _decoded(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text} is no number that JSON has")
    return value


def _whole_json(value: Any) -> Any:
    """A value without halves of characters, which nothing could write down again."""
    if isinstance(value, dict):
        return {_whole(key): _whole_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole_json(item) for item in value]
    return _whole(value) if isinstance(value, str) else value


def _whole_escapes(data: bytes) -> int:
    """How many of the bytes don't end inside an escape of a Python string, or a pair of them."""
    at = 0
    while (place := data.find(b"\\", at)) >= 0:
        if _OPEN_ESCAPE.fullmatch(data, place):
            return place
        at = place + 2
    return len(data)


def _unescaped(text: str) -> str:
    """The inside of a Python string literal, as the string it stands for.

    Two halves of a character, as JSON writes them, are one; half of one alone is U+FFFD. What is no
    escape is a backslash.
    """
    return _whole(_ESCAPE.sub(_escape, text))


def _escape(match: re.Match[str]) -> str:
    found = match.group()[1:]
    if found[0] in "xuU" and len(found) > 1:
        code = int(found[1:], 16)
        return chr(code) if code <= 0x10FFFF else "\ufffd"
    if found[0] in "01234567":
        return chr(int(found, 8))
    return _ESCAPES.get(found, "\\" + found)


def _whole(text: str) -> str:
    if text.isascii() or not any(0xD800 <= ord(each) < 0xE000 for each in text):
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def python_value(text: str) -> JSON:
    """A Python literal, or JSON's words for the same, as a JSON value.

    Raises GrammarError for anything else, and for numbers that JSON doesn't have.
    """
    # What Python's parser refuses is read all the same: line breaks in strings, zeros that lead.
    plain = _PYTHON.sub(lambda m: repr(_unescaped(m.group()[1:-1])) if m["text"] else "", text)
    try:
        return _of_node(ast.parse(plain.strip(), mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise GrammarError(f"{text[:80]!r} is no Python literal") from error


def _of_node(node: ast.AST) -> JSON:
    match node:
        case ast.Constant(value=bool() | int() | str() | None as value):
            return value
        case ast.Constant(value=float() as value) if math.isfinite(value):
            return value
        case ast.Name(id=name) if name.lower() in _PYTHON_NAMES:
            return _PYTHON_NAMES[name.lower()]
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            return [_of_node(part) for part in parts]
        case ast.Dict(keys=keys, values=values):
            pairs = zip(keys, values, strict=True)
            return {str(ast.literal_eval(key or "")): _of_node(value) for key, value in pairs}
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float())):
            found = _of_node(node.operand)
            assert isinstance(found, int | float)
            return -found
    raise ValueError(f"not a literal: {type(node).__name__}")
