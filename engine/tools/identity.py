"""What code a function is: the bytes of its file and what is bound to it, for consents to hold to.

Knows functions, files and hashes. Does not know tools or who may run what. Names no memory
address, so that the same code is the same in another process. Modules that a file imports are
not followed: what one agrees to is this file.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import hashlib
import inspect
import os
import re
import sys
import threading
import types
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from engine.tools.signature import plain_function

RAN: Final = "__engine_sha256__"  # in a module that we ran ourselves: the hash of those bytes
MAX_FILE_BYTES: Final = 64 * 1024 * 1024  # extension modules too; past this nothing is known
_DEEPEST: Final = 8  # objects inside objects; past this nothing is known

_State = tuple[str, int, int, int]  # path, mtime, size, inode
_files: dict[_State, str] = {}
# A function's file as it was when the function was first seen: it may change under a process.
_noted: weakref.WeakKeyDictionary[types.FunctionType, str] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def code_of(function: Callable[..., Any] | None) -> tuple[list[Any], bool]:
    """What is run, as JSON, and whether that is all of it.

    False where source is not to be had (typed in, made by `exec`, built in), or where something
    is bound to the function whose state has no plain form.
    """
    walk = _Walk()
    found = walk.value(function, 0)
    return [found], walk.is_whole


def file_hash(path: str) -> str | None:
    """SHA-256 in hex of a file's bytes; None for what is no readable file."""
    try:
        status = os.stat(path)
        state = (path, status.st_mtime_ns, status.st_size, status.st_ino)
        with _lock:
            if state in _files:
                return _files[state]
        if not Path(path).is_file() or status.st_size > MAX_FILE_BYTES:
            return None
        digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except (OSError, ValueError):
        return None
    with _lock:
        _files[state] = digest
    return digest


def loaded_hash(function: types.FunctionType) -> str | None:
    """The hash of the file that a function was made from, as it was when first asked for."""
    with _lock:
        known = _noted.get(function)
    if known is not None:
        return known
    file = function.__code__.co_filename
    names = function.__globals__
    ran = names.get(RAN) if names.get("__file__") == file else None
    digest = ran if isinstance(ran, str) else file_hash(os.path.realpath(file))
    if digest is not None:
        with _lock:
            _noted[function] = digest
    return digest


def noted_hash(function: Callable[..., Any], file: str | None) -> str | None:
    """The hash of `file`; where the function comes from it, as `loaded_hash` has it."""
    if file is None:
        return None
    plain = plain_function(function)
    path = os.path.realpath(file)
    if isinstance(plain, types.FunctionType) and path == os.path.realpath(
        plain.__code__.co_filename
    ):
        return loaded_hash(plain)
    return file_hash(path)


class _Plain:
    """An object with nothing but a `__dict__`: its size tells others like it."""


class _Walk:
    """One look at a function and all that it holds on to."""

    def __init__(self) -> None:
        self.is_whole = True
        self._seen: dict[int, int] = {}  # id to place: what holds itself is named by its place

    def value(self, item: Any, depth: int) -> Any:
        if item is None or isinstance(item, bool | int | float | complex | str | bytes):
            return [type(item).__name__, repr(item)]
        if id(item) in self._seen:
            return ["seen", self._seen[id(item)]]
        if depth > _DEEPEST:
            return self._unknown(item)
        self._seen[id(item)] = len(self._seen)
        return self._compound(item, depth + 1)

    def _compound(self, item: Any, depth: int) -> Any:
        if isinstance(item, types.FunctionType):
            return self._function(item, depth)
        if isinstance(item, functools.partial):
            bound = [self.value(part, depth) for part in (item.func, item.args, item.keywords)]
            return ["partial", *bound]
        if isinstance(item, types.MethodType):
            return ["method", self.value(item.__func__, depth), self.value(item.__self__, depth)]
        if isinstance(item, types.ModuleType):
            return ["module", item.__name__, self._module(item.__name__)]
        if isinstance(item, type):
            return self._class(item)
        if isinstance(item, list | tuple):
            return [type(item).__name__, *[self.value(part, depth) for part in item]]
        if isinstance(item, set | frozenset):
            return [type(item).__name__, *sorted(repr(self.value(part, depth)) for part in item)]
        if isinstance(item, dict):
            pairs = [[self.value(part, depth) for part in pair] for pair in item.items()]
            return ["dict", *pairs]
        if isinstance(item, Path | enum.Enum):
            return [type(item).__qualname__, str(item)]
        if isinstance(item, re.Pattern):
            return ["pattern", repr(item.pattern), item.flags]
        return self._object(item, depth)

    def _function(self, item: types.FunctionType, depth: int) -> Any:
        digest = loaded_hash(item)
        self.is_whole &= digest is not None
        code = item.__code__
        cells = []
        for cell in item.__closure__ or ():
            try:
                cells.append(self.value(cell.cell_contents, depth))
            except ValueError:  # not assigned yet
                cells.append("empty")
        layers = [self.value(item.__wrapped__, depth)] if hasattr(item, "__wrapped__") else []
        defaults = [item.__defaults__ or (), item.__kwdefaults__ or {}]
        where = os.path.realpath(code.co_filename) if digest else code.co_filename
        return [
            "function",
            [where, digest, item.__qualname__, code.co_firstlineno],
            [code.co_name, list(code.co_freevars), cells],
            [self.value(part, depth) for part in defaults],
            layers,
        ]

    def _object(self, item: Any, depth: int) -> Any:
        """An object by its class and its state, where it has one that can be read."""
        known = inspect.getattr_static(item, "definition_hash", None)
        if isinstance(known, str):  # a tool inside a tool
            return ["tool", known]
        kind = type(item)
        if dataclasses.is_dataclass(item):
            state = {part.name: getattr(item, part.name, None) for part in dataclasses.fields(item)}
        elif kind.__basicsize__ == _Plain.__basicsize__ and hasattr(item, "__dict__"):
            state = dict(vars(item))
        else:  # its state lies in slots, or where only C can see it
            return self._unknown(item)
        called = vars(kind).get("__call__")
        parts = [self.value(part, depth) for part in (called, dict(sorted(state.items())))]
        return ["object", self._class(kind), *parts]

    def _class(self, kind: type) -> Any:
        bases = [base for base in kind.__mro__ if base is not object]
        return ["class", [[f"{c.__module__}.{c.__qualname__}", self._of_class(c)] for c in bases]]

    def _of_class(self, kind: type) -> str | None:
        """The file of a class, by one of its own functions where it has any."""
        for item in vars(kind).values():
            is_own = isinstance(item, types.FunctionType) and item.__module__ == kind.__module__
            if is_own and (digest := loaded_hash(item)) is not None:
                return digest
        return self._module(kind.__module__)

    def _module(self, name: str) -> str | None:
        module = sys.modules.get(name)
        ran = getattr(module, RAN, None)
        if isinstance(ran, str):
            return ran
        if name in sys.builtin_module_names:
            return "built in"
        file = getattr(module, "__file__", None)
        digest = file_hash(os.path.realpath(file)) if isinstance(file, str) else None
        self.is_whole &= digest is not None
        return digest

    def _unknown(self, item: Any) -> Any:
        self.is_whole = False
        name = getattr(item, "__qualname__", "")
        return ["unknown", type(item).__qualname__, name if isinstance(name, str) else ""]
