"""What a tool returned, as a JSON value that is safe and short enough to show to a model.

Knows Python values, JSON and bytes. Does not know tools, calls or models.
"""

from __future__ import annotations

import codecs
import dataclasses
import datetime
import enum
import json
import math
import os
import re
import uuid
from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet
from decimal import Decimal
from fractions import Fraction
from typing import Any

from engine.messages import JSON
from engine.tools.spill import MAX_FILE_BYTES, SpillFile, holds

MAX_DEPTH = 64
MAX_WALK_BYTES = MAX_FILE_BYTES  # a value with more JSON than this is not walked to its end
_CHUNK = 64 * 1024

# C0 and C1 controls except tab, newline and return, DEL, and lone surrogates: terminals obey
# the first (ESC, the 8-bit CSI), encoders fail on the last.
_UNSAFE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_AS_TEXT = (os.PathLike, uuid.UUID, Decimal, Fraction, datetime.timedelta, complex)
_DATES = (datetime.date, datetime.time)
# A note as `_Capped` writes it, where there is a file.
_NOTE = re.compile(
    r"\n\[\.\.\. truncated, (?:over )?[0-9]+ bytes, "
    r"((?:its beginning in )?)file (/[^\n]+) \.\.\.\]\n"
)
_BROKEN = 3  # bytes at most of a character that was cut in two
_quoted = json.JSONEncoder(ensure_ascii=False).encode  # of a str: straight to C


@dataclasses.dataclass(frozen=True, slots=True)
class Failure:
    """What a tool returns to say that it failed, in its own words: the result is an error."""

    content: Any


def clean(text: str) -> str:
    """Text without control characters and lone surrogates; each becomes U+FFFD."""
    return _UNSAFE.sub("\ufffd", text)


def safe_repr(value: object) -> str:
    """`repr` that never raises, without memory addresses."""
    try:
        return clean(_ADDRESS.sub("", repr(value)))
    except Exception as error:  # a user's __repr__ may do anything
        return f"<{type(value).__name__}, whose repr raised {type(error).__name__}>"


def content_of(value: object, max_bytes: int, *, spill: bool = False) -> JSON:
    """The value as JSON, or as text with its middle cut out where it is longer than `max_bytes`.

    Never raises. Text stays text; what JSON can't say (NaN, cycles, arbitrary objects) becomes
    its repr in place. A long value is not copied whole: only `max_bytes` of it are held. With
    `spill`, what was cut can be read in a file, which the text names.
    """
    if value is None:
        return None
    sink = _Capped(max_bytes, spill)
    try:
        return _content(sink, value)
    except Exception:  # iteration ran a user's code, or another thread changed the value
        sink.discard()
        sink = _Capped(max_bytes, spill)
        _write_text(sink, safe_repr(value))
        return sink.text()


def _content(sink: _Capped, value: object) -> JSON:
    try:
        if isinstance(value, str):
            _write_text(sink, value)
            return sink.text()
        if isinstance(value, bytes | bytearray | memoryview):
            _write_bytes(sink, value)
            return sink.text()
        _Writer(sink).write_all(value)
        if not sink.is_cut:
            content: JSON = json.loads(sink.text())
            return content
    except _Enough:
        sink.is_unfinished = True
    return sink.text()


def file_of(content: object) -> tuple[str, bool] | None:
    """The file that the note in a cut result names, and whether all of it is there.

    What a tool wrote to look like a note is none: ours stands in the middle, between equal parts,
    and names a file of this process that is there.
    """
    if not isinstance(content, str):
        return None
    for found in _NOTE.finditer(content):
        head, tail = content[: found.start()], content[found.end() :]
        if abs(len(head.encode()) - len(tail.encode())) <= _BROKEN and holds(found[2]):
            return found[2], not found[1]
    return None


class _Enough(Exception):
    """MAX_WALK_BYTES have been written; the rest would be cut anyway."""


class _Capped:
    """Keeps the first and last bytes of what is written, `limit` in all, and counts the rest.

    With `spill`, all of it goes to a file as soon as it is too much to be kept.
    """

    def __init__(self, limit: int, spill: bool = False) -> None:
        self._limit = limit
        self._spills = spill
        self._file: SpillFile | None = None
        self._head = bytearray()
        self._tail = bytearray()
        self.total = 0
        self.is_unfinished = False

    @property
    def is_cut(self) -> bool:
        return self.total > self._limit

    def write(self, text: str) -> None:
        data = text.encode("utf-8")
        self.total += len(data)
        room = self._limit - len(self._head)
        if self._spills and self.is_cut:
            if self._file is None:
                self._file = SpillFile()
                self._file.write(self._head)
            self._file.write(data)
        self._head += data[:room]
        self._tail += data[room:]
        if len(self._tail) > 2 * self._limit + _CHUNK:
            del self._tail[: -self._limit]

    def text(self) -> str:
        if not self.is_cut:
            return self._head.decode("utf-8")
        note = self._note()
        half = max(0, self._limit - len(note.encode())) // 2
        head, tail = self._head[:half], (self._head + self._tail)[-half:] if half else b""
        # A character cut in two is dropped: the source was valid UTF-8.
        return head.decode("utf-8", "ignore") + note + tail.decode("utf-8", "ignore")

    def _note(self) -> str:
        over = "over " if self.is_unfinished else ""
        place = ""
        if self._file is not None:
            self._file.close()
            if self._file.path is not None:
                is_whole = self._file.is_whole and not self.is_unfinished
                place = f", {'' if is_whole else 'its beginning in '}file {self._file.path}"
        note = f"\n[... truncated, {over}{self.total} bytes{place} ...]\n"
        if len(note.encode()) > self._limit // 2 and place:  # a folder with a very long name
            return note.replace(place, "")
        return note

    def discard(self) -> None:
        """Leave no file behind."""
        if self._file is not None:
            self._file.discard()


def _write_text(sink: _Capped, text: str) -> None:
    for start in range(0, len(text), _CHUNK):
        sink.write(clean(text[start : start + _CHUNK]))


def _write_bytes(sink: _Capped, data: bytes | bytearray | memoryview) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    view = memoryview(data)
    view = view.cast("B") if view.c_contiguous else memoryview(view.tobytes())
    for start in range(0, len(view), _CHUNK):
        sink.write(clean(decoder.decode(bytes(view[start : start + _CHUNK]))))
    sink.write(decoder.decode(b"", final=True))


class _Writer:
    """Writes a value as JSON text, container by container."""

    def __init__(self, sink: _Capped) -> None:
        self._sink = sink
        self._open: set[int] = set()  # ids of the containers being written
        self._pieces: list[str] = []
        self._size = 0  # of the pieces, in characters

    def write_all(self, value: Any) -> None:
        self.write(value, 0)
        self._flush()

    def _put(self, text: str) -> None:
        self._pieces.append(text)
        self._size += len(text)
        if self._size > _CHUNK:
            self._flush()
            if self._sink.total > MAX_WALK_BYTES:
                raise _Enough

    def _flush(self) -> None:
        self._sink.write("".join(self._pieces))
        self._pieces.clear()
        self._size = 0

    def write(self, value: Any, depth: int) -> None:
        if isinstance(value, enum.Enum):
            value = value.value
        if value is None or isinstance(value, bool):
            self._put({None: "null", True: "true", False: "false"}[value])
        elif isinstance(value, str):
            self._string(value)
        elif isinstance(value, int):
            self._integer(value)
        elif isinstance(value, float):
            finite = math.isfinite(value)
            self._put(float.__repr__(value) if finite else f'"{float.__repr__(value)}"')
        elif isinstance(value, bytes | bytearray):
            self._string(value.decode("utf-8", "replace"))
        elif isinstance(value, _DATES):
            self._string(value.isoformat())
        elif isinstance(value, _AS_TEXT):
            self._string(str(value))
        else:
            self._container(value, depth)

    def _container(self, value: Any, depth: int) -> None:
        if id(value) in self._open:
            self._string(f"<cycle: this {type(value).__name__} again>")
            return
        plain = _as_container(value) if depth < MAX_DEPTH else None
        if plain is None:
            self._string(safe_repr(value))
            return
        self._open.add(id(value))
        if isinstance(plain, Mapping):
            self._object(plain, depth + 1)
        elif isinstance(plain, Collection) and not isinstance(plain, str):
            self._array(plain, depth + 1)
        else:
            self.write(plain, depth + 1)  # a scalar, as numpy's `tolist` gives it
        self._open.discard(id(value))

    def _object(self, items: Mapping[Any, Any], depth: int) -> None:
        separator = "{"
        for key, value in items.items():
            self._put(separator)
            self._string(_key(key))
            self._put(": ")
            self.write(value, depth)
            separator = ", "
        self._put("}" if items else "{}")

    def _array(self, items: Collection[Any], depth: int) -> None:
        separator = "["
        for value in items:
            self._put(separator)
            self.write(value, depth)
            separator = ", "
        self._put("]" if items else "[]")

    def _string(self, text: str) -> None:
        if len(text) <= _CHUNK:
            self._put(_quoted(clean(text)))
            return
        self._put('"')
        for start in range(0, len(text), _CHUNK):
            self._put(_quoted(clean(text[start : start + _CHUNK]))[1:-1])
        self._put('"')

    def _integer(self, value: int) -> None:
        try:
            self._put(int.__repr__(value))
        except ValueError:  # Python refuses to print more than 4300 digits
            self._string(f"<an integer of {value.bit_length()} bits>")


def _as_container(value: Any) -> Any:
    """A mapping or collection of the value's parts; None where it has no such form."""
    if isinstance(value, Mapping | list):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: getattr(value, item.name) for item in dataclasses.fields(value)}
    if isinstance(value, type):
        return None
    if hasattr(value, "model_dump"):  # a Pydantic model, which only `declare` may import
        return value.model_dump(mode="json")
    if hasattr(value, "_asdict"):  # a named tuple
        return value._asdict()
    if isinstance(value, tuple):
        return value
    if hasattr(value, "tolist"):  # a numpy array or scalar
        return value.tolist()
    if isinstance(value, AbstractSet):
        return sorted(value, key=safe_repr)  # the same result on every run
    return value if isinstance(value, Collection) else None


def _key(key: object) -> str:
    if isinstance(key, enum.Enum):
        key = key.value
    if isinstance(key, str):
        return key
    if key is None or isinstance(key, bool):
        return {None: "null", True: "true", False: "false"}[key]
    return safe_repr(key) if not isinstance(key, _AS_TEXT + _DATES) else str(key)
