"""Whole results in files, where a model is given only their heads and tails.

Knows one private folder of temporary files, which goes when the process ends. Does not know what
results are. A child process writes into its parent's folder (`use`) and leaves it in place.
The folder of a process that was killed is removed by the next one that makes its own.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import logging
import os
import shutil
import tempfile
import threading
from pathlib import Path

MAX_FILE_BYTES = 10 * 1024 * 1024
MAX_FOLDER_BYTES = 100 * 1024 * 1024  # the oldest files go first

_PREFIX = "engine-results-"
_LOCK = "in-use"  # locked as long as the folder's process lives
_RESULT, _SUFFIX = "result-", ".txt"

_log = logging.getLogger("engine.tools")
_lock = threading.Lock()
_folder: Path | None = None


def folder() -> Path:
    """This process's folder, made (0700) when first asked for. Raises OSError."""
    global _folder
    with _lock:
        if _folder is None:
            _sweep(Path(tempfile.gettempdir()))
            _folder = _made()
            atexit.register(_remove, _folder, os.getpid())
        return _folder


def _made() -> Path:
    """A new folder, locked before it has the name by which others find it."""
    unnamed = Path(tempfile.mkdtemp(prefix="engine-"))
    lock = os.open(unnamed / _LOCK, os.O_CREAT | os.O_RDWR, 0o600)  # closed with the process
    fcntl.flock(lock, fcntl.LOCK_EX)
    named = unnamed.with_name(_PREFIX + unnamed.name.removeprefix("engine-"))
    unnamed.rename(named)
    return named


def _sweep(where: Path) -> None:
    """Remove the folders that nobody has locked any more."""
    for path in where.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # another user's, or in use
            lock = os.open(path / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(lock)


def holds(path: str) -> bool:
    """Whether a result of this process lies in that file still."""
    file = Path(path)
    is_ours = file.parent == _folder and file.match(f"{_RESULT}*{_SUFFIX}")
    return is_ours and file.is_file()


def use(path: str) -> None:
    """Write into this folder, which belongs to another process."""
    global _folder
    _folder = Path(path)


def _remove(path: Path, owner: int) -> None:
    if os.getpid() == owner:  # not in a fork of it
        shutil.rmtree(path, ignore_errors=True)


class SpillFile:
    """A file that takes the first MAX_FILE_BYTES of what is written to it.

    A disk that is full costs the file and nothing else: `path` is then None.
    """

    def __init__(self) -> None:
        self.path: Path | None = None
        self.is_whole = True
        self._room = MAX_FILE_BYTES
        self._descriptor = -1
        try:
            self._descriptor, name = tempfile.mkstemp(_SUFFIX, _RESULT, folder())  # 0600
            self.path = Path(name)
        except OSError as error:
            self._give_up(error)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        view = memoryview(data)[: self._room]
        self.is_whole = self.is_whole and len(view) == len(data)
        self._room -= len(view)
        try:
            while view and self._descriptor >= 0:
                view = view[os.write(self._descriptor, view) :]
        except OSError as error:
            self._give_up(error)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            with contextlib.suppress(OSError):  # somebody removed the folder
                _make_room(folder())

    def discard(self) -> None:
        """Close and remove it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        if self.path is not None:
            self.path.unlink(missing_ok=True)
            self.path = None

    def _give_up(self, error: OSError) -> None:
        _log.debug("a result could not be kept in a file", exc_info=error)
        self.discard()


def _make_room(where: Path) -> None:
    """Remove the oldest files until the rest fit MAX_FOLDER_BYTES."""
    found = []
    for path in where.glob(f"{_RESULT}*"):
        with contextlib.suppress(OSError):  # another call removed it
            info = path.stat()
            found.append((info.st_mtime_ns, info.st_size, path))
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= MAX_FOLDER_BYTES:
            return
        path.unlink(missing_ok=True)
        total -= size
