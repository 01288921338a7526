"""Parse the bytes of a GGUF header, in bounds.

Knows the file format. Does not know what keys mean (`rules`) or what a model is (`Header`).
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, NoReturn

import numpy as np

from engine.errors import GGUFError, ModelNotFound
from engine.gguf.rules import check_metadata, tensor_type_fault
from engine.gguf.types import SCALAR_TYPES, TENSOR_TYPES

MAX_HEADER = 256 << 20  # the largest header met is 16 MB (Gemma 4, 262k tokens)
MAX_KEYS = 65_536
MAX_KEY_LENGTH = 65_535
MAX_STRING = 16 << 20
MAX_STRINGS = 8 << 20  # strings of all arrays together; today's largest files have 0.8 million
MAX_TENSORS = 131_072
MAX_DIMENSIONS = 4
MAX_TENSOR_NAME = 63
MAX_ALIGNMENT = 1 << 20
_CHUNK = 1 << 20
_SKIP_ABOVE = 1024  # with tokens=False, longer string arrays are counted, not kept
_INT64_MAX = (1 << 63) - 1

_STRING, _ARRAY = 8, 9
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor's description; `offset` is counted from the header's `data_offset`."""

    name: str
    shape: tuple[int, ...]
    type_name: str
    offset: int
    n_bytes: int

    @property
    def n_elements(self) -> int:
        n = 1
        for size in self.shape:
            n *= size
        return n


@dataclass(frozen=True, slots=True)
class Skipped:
    """Stands for a string array that `tokens=False` counted and did not keep."""

    count: int

    def __len__(self) -> int:
        return self.count


class RawHeader(NamedTuple):
    """What a header holds, in the order of `Header`'s fields."""

    version: int
    metadata: Mapping[str, Any]
    types: Mapping[str, str]
    tensors: tuple[TensorInfo, ...]
    data_offset: int
    file_size: int
    alignment: int
    notes: tuple[str, ...]


def parse(path: Path, *, tokens: bool) -> RawHeader:
    """Read and check one file's header. Raises ModelNotFound, or GGUFError."""
    with _open_regular(path) as file:
        return _Reader(file, path, os.fstat(file.fileno()).st_size, tokens).header()


def _open_regular(path: Path) -> BinaryIO:
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            inside = sorted(item.name for item in path.glob("*.gguf"))[:3]
            hint = f"; name a file in it: {', '.join(inside)}" if inside else ""
            raise ModelNotFound(
                f"{path}: is a directory, not a GGUF file{hint}", name=str(path), looked_in=[path]
            )
        if not stat.S_ISREG(mode):  # opening a FIFO would wait for ever
            raise GGUFError(
                f"{path}: not a regular file; give a GGUF file", path=path, field="file", offset=0
            )
        return path.open("rb")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ModelNotFound(
            f"{path}: no such file", name=str(path), looked_in=[path.parent]
        ) from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise GGUFError(
            f"{_show(str(path))}: can't be read: {reason}", path=path, field="file", offset=0
        ) from error


def _show(text: str) -> str:
    """Text of the file for an error line: escaped, and short enough to read."""
    return ascii(text if len(text) <= 60 else text[:57] + "...")


class _Reader:
    """Reads forward through one file; `data` holds the bytes met so far, `pos` is the next one."""

    def __init__(self, file: BinaryIO, path: Path, size: int, tokens: bool) -> None:
        self.file = file
        self.path = path
        self.size = size
        self.tokens = tokens
        self.data = b""
        self.pos = 0
        self.n_strings = 0

    def fail(self, field: str, text: str, offset: int | None = None) -> NoReturn:
        at = self.pos if offset is None else offset
        raise GGUFError(
            f"{self.path}: {field} at byte {at}: {text}", path=self.path, field=field, offset=at
        )

    def require(self, count: int, field: str) -> None:
        """Have `count` bytes from `pos` on in memory. Checks the file's size before it reads."""
        missing = count - (len(self.data) - self.pos)
        if missing <= 0:
            return
        end = self.pos + count
        if end > self.size:
            self.fail(
                field,
                f"needs {count} bytes, the file ends at {self.size}: it is truncated or damaged; "
                "download it again",
            )
        if end > MAX_HEADER:
            self.fail(field, f"the header is longer than the limit of {MAX_HEADER} bytes")
        try:
            # Doubling keeps the copying linear; a typical header comes in four reads.
            self.data += self.file.read(max(missing, _CHUNK, len(self.data)))
        except OSError as error:
            self.fail(field, f"can't be read: {error.strerror or error}")
        if end > len(self.data):
            self.fail(field, "the file became shorter while it was read; try again")

    def u32(self, field: str) -> int:
        self.require(4, field)
        (value,) = _U32.unpack_from(self.data, self.pos)
        self.pos += 4
        return int(value)

    def u64(self, field: str) -> int:
        self.require(8, field)
        (value,) = _U64.unpack_from(self.data, self.pos)
        self.pos += 8
        return int(value)

    def string(self, field: str, limit: int = MAX_STRING) -> str:
        length = self.u64(field)
        if length > limit:
            self.fail(field, f"length {length} is above the limit of {limit}", self.pos - 8)
        self.require(length, field)
        text = self.data[self.pos : self.pos + length].decode("utf-8", "surrogateescape")
        self.pos += length
        return text

    def strings(self, count: int, field: str) -> list[str] | Skipped:
        """An array of strings: the one loop here that runs a million times."""
        self.check_count(count, 8, field)
        self.n_strings += count
        if self.n_strings > MAX_STRINGS:
            self.fail(field, f"more than {MAX_STRINGS} strings in arrays", self.pos - 8)
        keep = self.tokens or count <= _SKIP_ABOVE
        out: list[str] = []
        done = 0
        length_at = _U64.unpack_from
        while done < count:
            data, pos, end = self.data, self.pos, len(self.data)
            for _ in range(count - done):
                if pos + 8 > end:
                    break
                stop = pos + 8 + length_at(data, pos)[0]
                if stop > end:
                    break
                if keep:
                    out.append(data[pos + 8 : stop].decode("utf-8", "surrogateescape"))
                pos = stop
                done += 1
            self.pos = pos
            if done < count:  # one string the careful way: it reads on, or fails with its name
                text = self.string(f"{field}[{done}]")
                done += 1
                if keep:
                    out.append(text)
        return out if keep else Skipped(count)

    def check_count(self, count: int, size: int, field: str) -> None:
        """Refuse a count that the rest of the file has no bytes for."""
        if count > (self.size - self.pos) // size:
            self.fail(
                field,
                f"{count} elements of {size} bytes or more, the file has {self.size - self.pos} "
                "bytes left: it is truncated or damaged",
                self.pos - 8,
            )

    def value(self, field: str) -> tuple[Any, str]:
        """A metadata value and the name of its type."""
        kind = self.u32(field)
        if kind == _STRING:
            return self.string(field), "str"
        if kind == _ARRAY:
            return self.array(field)
        scalar = SCALAR_TYPES.get(kind)
        if scalar is None:
            self.fail(field, f"unknown value type {kind}", self.pos - 4)
        self.require(scalar.size, field)
        value = np.frombuffer(self.data, scalar.dtype, 1, self.pos)[0].item()
        self.pos += scalar.size
        return (value != 0 if scalar.name == "bool" else value), scalar.name

    def array(self, field: str) -> tuple[Any, str]:
        kind = self.u32(field)
        count = self.u64(field)
        if kind == _STRING:
            return self.strings(count, field), "arr[str]"
        scalar = SCALAR_TYPES.get(kind)
        if scalar is None:
            what = "nested arrays are not allowed" if kind == _ARRAY else f"unknown type {kind}"
            self.fail(field, f"array elements: {what}", self.pos - 12)
        self.check_count(count, scalar.size, field)
        self.require(count * scalar.size, field)
        values = np.frombuffer(self.data, scalar.dtype, count, self.pos).copy()
        self.pos += count * scalar.size
        return (values != 0 if scalar.name == "bool" else values), f"arr[{scalar.name}]"

    def header(self) -> RawHeader:
        version = self.magic_and_version()
        n_tensors, n_keys = self.u64("tensor count"), self.u64("key count")
        if n_tensors > MAX_TENSORS:
            self.fail("tensor count", f"{n_tensors} is above the limit of {MAX_TENSORS}", 8)
        if n_keys > MAX_KEYS:
            self.fail("key count", f"{n_keys} is above the limit of {MAX_KEYS}", 16)
        metadata: dict[str, Any] = {}
        types: dict[str, str] = {}
        offsets: dict[str, int] = {}
        for index in range(n_keys):
            start = self.pos
            key = self.key(index, metadata)
            metadata[key], types[key] = self.value(_show(key)[1:-1])
            offsets[key] = start
        notes = check_metadata(
            metadata, types, lambda key, text: self.fail(key, text, offsets.get(key, 24))
        )
        alignment = metadata.get("general.alignment", 32)
        if not 0 < alignment <= MAX_ALIGNMENT or alignment & (alignment - 1):
            self.fail(
                "general.alignment",
                f"{alignment} is not a power of two from 1 to {MAX_ALIGNMENT}",
                offsets["general.alignment"],
            )
        tensors = tuple(self.tensors(n_tensors, alignment))
        data_offset = -(-self.pos // alignment) * alignment if n_tensors else self.pos
        self.check_data(tensors, data_offset)
        return RawHeader(
            version, metadata, types, tensors, data_offset, self.size, alignment, notes
        )

    def magic_and_version(self) -> int:
        self.require(4, "magic")
        if self.data[:4] != b"GGUF":
            kind = _known_format(self.data)
            self.fail("magic", f"not a GGUF file{kind}: it starts with {self.data[:4]!a}")
        self.pos = 4
        version = self.u32("version")
        if version in (2, 3):
            return version
        if version & 0xFFFF == 0 and version:
            self.fail(
                "version",
                "the file is big-endian; convert it for this machine "
                "(llama.cpp's gguf_convert_endian.py) or download the little-endian one",
                4,
            )
        advice = "; convert the model anew" if version < 2 else "; this engine may be too old"
        self.fail("version", f"{version}; versions 2 and 3 can be read{advice}", 4)

    def key(self, index: int, seen: Mapping[str, Any]) -> str:
        start = self.pos
        key = self.string(f"key {index}", MAX_KEY_LENGTH)
        if not key or not key.isprintable():  # surrogates of broken UTF-8 are not printable
            self.fail(f"key {index}", f"{_show(key)} is not a name", start)
        if key in seen:
            self.fail(_show(key)[1:-1], f"key {index} occurs twice", start)
        return key

    def tensors(self, count: int, alignment: int) -> Iterator[TensorInfo]:
        self.check_count(count, 24, "tensor count")
        names: set[str] = set()
        expected = 0
        for index in range(count):
            start = self.pos
            name = self.string(f"tensor {index} name", MAX_TENSOR_NAME)
            field = f"tensor {_show(name)}"
            if not name or not name.isprintable():
                self.fail(f"tensor {index} name", f"{_show(name)} is not a name", start)
            if name in names:
                self.fail(field, f"tensor {index} has a name that is taken", start)
            names.add(name)
            shape = self.shape(field)
            type_name, n_bytes = self.tensor_type(field, shape)
            fault = tensor_type_fault(name, len(shape), type_name)
            if fault is not None:
                self.fail(field, fault, self.pos - 4)
            offset = self.u64(field)
            if offset != expected:
                self.fail(field, f"offset {offset}, expected {expected}", self.pos - 8)
            expected += -(-n_bytes // alignment) * alignment
            yield TensorInfo(name, shape, type_name, offset, n_bytes)

    def shape(self, field: str) -> tuple[int, ...]:
        n = self.u32(field)
        if n > MAX_DIMENSIONS:
            self.fail(field, f"{n} dimensions, at most {MAX_DIMENSIONS} are allowed", self.pos - 4)
        start = self.pos
        shape = tuple(self.u64(field) for _ in range(n))
        elements = 1
        for size in shape:
            elements *= size
        if not 0 < elements <= _INT64_MAX:
            self.fail(field, f"shape {list(shape)}: no elements, or too many to count", start)
        return shape

    def tensor_type(self, field: str, shape: tuple[int, ...]) -> tuple[str, int]:
        kind = self.u32(field)
        if kind not in TENSOR_TYPES:
            self.fail(field, f"type {kind} is unknown or was removed from llama.cpp", self.pos - 4)
        name, block, size = TENSOR_TYPES[kind]
        if (shape[0] if shape else 1) % block:
            self.fail(field, f"rows of {shape[0]} elements are no multiple of {name}'s {block}")
        elements = 1
        for dimension in shape:
            elements *= dimension
        return name, elements // block * size

    def check_data(self, tensors: tuple[TensorInfo, ...], data_offset: int) -> None:
        """Every tensor's bytes must be in the file."""
        for tensor in tensors:
            end = data_offset + tensor.offset + tensor.n_bytes
            if end > self.size:
                self.fail(
                    f"tensor {_show(tensor.name)}",
                    f"its {tensor.n_bytes} bytes end at {end}, the file ends at {self.size}: "
                    "the download is incomplete; get the file again",
                    data_offset + tensor.offset,
                )


def _known_format(data: bytes) -> str:
    """What else the file may be, as ' (...)'."""
    for magic, name in (
        (b"PK\x03\x04", "a zip archive or PyTorch file"),
        (b"version https://git-lfs", "a Git LFS pointer; run `git lfs pull`"),
        (b"<!DOCTYPE", "a web page"),
        (b"<html", "a web page"),
        (b"tjgg", "the older GGJT format; convert the model anew"),
        (b"lmgg", "the older GGML format; convert the model anew"),
        (b"FUGG", "a GGUF file of the other byte order; download the little-endian one"),
    ):
        if data.startswith(magic):
            return f" but {name}"
    return " but probably safetensors; convert it first" if data[8:9] == b"{" else ""
