"""What a person agreed to for good, on disk: tools by their definition, servers' tools as pinned.

Knows hashes and one JSON file, version 1. Does not know rules or how a person is asked. The file
is read again when it has changed: who removes it takes back what was agreed to, at once.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import stat
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from engine.errors import StorageError
from engine.private import make_folder, replacing
from engine.tools.tool import Tool

VERSION: Final = 1
_HASH: Final = re.compile("[0-9a-f]{64}")
_Data = dict[str, dict[str, Any]]
_State = tuple[int, int, int] | None  # of the file, as it was read last


class Consents:
    """Consents in a file that several processes may share; in memory alone where `path` is None.

    The file is written whole under a lock, readable by its owner only. Raises StorageError where
    it can't be read or written, or is not ours: nothing is agreed to by a damaged file, by a link
    or by one that others may write.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._data: _Data = {"always": {}, "pins": {}}
        self._state: _State = None
        self._refresh()

    def has(self, key: str) -> bool:
        """Whether this was agreed to for good."""
        return key in self._refresh()["always"]

    def add(self, key: str, tool: Tool) -> None:
        with self._changing() as data:
            data["always"][key] = {"tool": tool.name, "server": tool.server, "at": _now()}

    def knows(self, server: str) -> bool:
        """Whether any tool of this server is pinned."""
        return server in self._refresh()["pins"]

    def pinned(self, tool: Tool) -> str | None:
        """The hash of the definition that was agreed to under this tool's name."""
        found: str | None = self._refresh()["pins"].get(tool.server, {}).get(tool.name)
        return found

    def pin(self, tools: Iterable[Tool]) -> None:
        """Take these definitions for the ones that were agreed to."""
        tools = list(tools)
        if not tools:
            return
        with self._changing() as data:
            for tool in tools:
                data["pins"].setdefault(tool.server, {})[tool.name] = tool.definition_hash

    def _refresh(self) -> _Data:
        """What the file says now."""
        if self._path is not None and (state := _state_of(self._path)) != self._state:
            # Its state is taken first: a change in between is seen the next time.
            self._data, self._state = _read(self._path), state
        return self._data

    @contextlib.contextmanager
    def _changing(self) -> Iterator[_Data]:
        """The file's present content, to be changed and written; others wait."""
        if self._path is None:
            yield self._data
            return
        path = self._path
        try:
            make_folder(path.parent)
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
            lock = os.open(path.with_name(path.name + ".lock"), flags, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
                data = _read(path)
                yield data
                _write(path, data)
            finally:
                os.close(lock)
        except OSError as error:
            raise StorageError(f"{path}: {error.strerror}", path=str(path)) from error
        self._data, self._state = data, None


def _state_of(path: Path) -> _State:
    try:
        found = path.lstat()
    except OSError:
        return (0, 0, 0)
    return (found.st_ino, found.st_mtime_ns, found.st_size)


def _read(path: Path) -> _Data:
    try:
        text = _text(path)
        if text is None:
            return {"always": {}, "pins": {}}
        data = json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"not JSON ({error})"
        raise StorageError(f"{path}: {reason}", path=str(path)) from error
    if not _is_ours(data):
        raise StorageError(
            f"{path}: not a file of consents that this version wrote; remove it to be asked anew",
            path=str(path),
        )
    return {"always": data["always"], "pins": data["pins"]}


def _text(path: Path) -> str | None:
    """The file's text; None where there is none. Raises StorageError for what others may write."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    with os.fdopen(file, encoding="utf-8") as opened:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
            raise StorageError(
                f"{path}: not a file that only you can write; remove it to be asked anew",
                path=str(path),
            )
        return opened.read()


def _is_ours(data: Any) -> bool:
    if not isinstance(data, dict) or data.keys() != {"version", "always", "pins"}:
        return False
    if type(data["version"]) is not int or data["version"] != VERSION:
        return False
    return all(
        isinstance(part, dict)
        and all(
            isinstance(item, dict) and all(isinstance(value, str) for value in item.values())
            for item in part.values()
        )
        for part in (data["always"], data["pins"])
    ) and all(_HASH.fullmatch(value) for pins in data["pins"].values() for value in pins.values())


def _write(path: Path, data: _Data) -> None:
    text = json.dumps({"version": VERSION, **data}, ensure_ascii=True, indent=1)
    with replacing(path) as file:
        file.write(text.encode())


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
