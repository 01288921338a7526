"""What a person agreed to for good, on disk: tools by their definition, servers' tools as pinned.

Knows hashes and one JSON file, version 1. Does not know rules or how a person is asked.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from engine.errors import StorageError
from engine.tools.tool import Tool

VERSION: Final = 1
_Data = dict[str, dict[str, Any]]


class Consents:
    """Consents in a file that several processes may share; in memory alone where `path` is None.

    The file is written whole under a lock, readable by its owner only. Raises StorageError where
    it can't be read or written, or is not ours: nothing is agreed to by a damaged file.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._data: _Data = {"always": {}, "pins": {}}
        if path is not None:
            self._data = _read(path)

    def has(self, key: str) -> bool:
        """Whether this was agreed to for good."""
        return key in self._data["always"]

    def add(self, key: str, tool: Tool) -> None:
        with self._changing() as data:
            data["always"][key] = {"tool": tool.name, "server": tool.server, "at": _now()}

    def knows(self, server: str) -> bool:
        """Whether any tool of this server is pinned."""
        return server in self._data["pins"]

    def pinned(self, tool: Tool) -> str | None:
        """The hash of the definition that was agreed to under this tool's name."""
        found: str | None = self._data["pins"].get(tool.server, {}).get(tool.name)
        return found

    def pin(self, tools: Iterable[Tool]) -> None:
        """Take these definitions for the ones that were agreed to."""
        tools = list(tools)
        if not tools:
            return
        with self._changing() as data:
            for tool in tools:
                data["pins"].setdefault(tool.server, {})[tool.name] = tool.definition_hash

    @contextlib.contextmanager
    def _changing(self) -> Iterator[_Data]:
        """The file's present content, to be changed and written; others wait."""
        if self._path is None:
            yield self._data
            return
        path = self._path
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with path.with_name(path.name + ".lock").open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                data = _read(path)
                yield data
                _write(path, data)
        except OSError as error:
            raise StorageError(f"{path}: {error.strerror}", path=str(path)) from error
        self._data = data


def _read(path: Path) -> _Data:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {"always": {}, "pins": {}}
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"not JSON ({error})"
        raise StorageError(f"{path}: {reason}", path=str(path)) from error
    parts = [data.get(key) if isinstance(data, dict) else None for key in ("always", "pins")]
    is_whole = all(
        isinstance(part, dict) and all(isinstance(item, dict) for item in part.values())
        for part in parts
    )
    if not is_whole or data.get("version") != VERSION:
        raise StorageError(
            f"{path}: not a file of consents that this version wrote; remove it to be asked anew",
            path=str(path),
        )
    return {"always": data["always"], "pins": data["pins"]}


def _write(path: Path, data: _Data) -> None:
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump({"version": VERSION, **data}, file, ensure_ascii=True, indent=1)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
