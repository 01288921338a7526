"""Open files and folders below one root, and nothing outside it.

Knows directory descriptors and names. Does not know tools or what is read. A path is taken apart
here and opened part by part without following links, so nothing can change between a check and
its use. Needs a POSIX system.
"""

from __future__ import annotations

import os
import stat
import unicodedata
from difflib import get_close_matches
from pathlib import Path

_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)
# Without O_NONBLOCK, opening a pipe would wait for its writer.
_FILE = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
_NO_LINKS = getattr(os, "O_NOFOLLOW", 0)


class Root:
    """A folder whose inside may be read. Links in paths are refused, wherever they lead."""

    def __init__(self, path: str | Path) -> None:
        if not _NO_LINKS or os.open not in os.supports_dir_fd:
            raise OSError("this system can't open files relative to a folder without links")
        self._given = os.path.abspath(path)
        self._path = os.path.realpath(path)

    def parts(self, path: str) -> list[str]:
        """The names from the root down to `path`, `..` resolved.

        Raises PermissionError for a path that leaves the root on its way. An absolute path counts
        when it starts with the root's own.
        """
        if "\0" in path:
            raise ValueError("a path can't contain a NUL character")
        rest = path
        if path.startswith("/"):
            inside = [
                root for root in (self._given, self._path) if f"{path}/".startswith(f"{root}/")
            ]
            if not inside:
                raise PermissionError(f"{path[:200]!r} is outside the root; give a relative path")
            rest = path[len(inside[0]) :]
        parts: list[str] = []
        for part in rest.split("/"):
            if part == ".." and not parts:
                raise PermissionError(f"{path[:200]!r} leads outside the root")
            if part == "..":
                parts.pop()
            elif part not in ("", "."):
                parts.append(part)
        return parts

    def open_folder(self, path: str) -> int:
        """A descriptor of the folder, for the caller to close."""
        return self._descend(self.parts(path), path)

    def open_file(self, path: str) -> int:
        """A descriptor of the regular file, for the caller to close."""
        parts = self.parts(path)
        if not parts:
            raise IsADirectoryError(f"{path!r} is a folder, not a file")
        folder = self._descend(parts[:-1], path)
        try:
            descriptor = _open_at(folder, parts[-1], _FILE, path)
        finally:
            os.close(folder)
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISREG(mode):
            return descriptor
        os.close(descriptor)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(f"{path!r} is a folder, not a file")
        raise PermissionError(f"{path!r} is not a regular file")

    def _descend(self, parts: list[str], path: str) -> int:
        try:
            folder = os.open(self._path, _FOLDER)
        except OSError as error:
            reason = error.strerror
            raise NotADirectoryError(
                f"the root {self._given!r} can't be opened ({reason})"
            ) from error
        for part in parts:
            try:
                inner = _open_at(folder, part, _FOLDER, path)
            finally:
                os.close(folder)
            folder = inner
        return folder


def _open_at(folder: int, name: str, flags: int, path: str) -> int:
    """Open one name in a folder. The error names what is near, for a model to mend its call."""
    try:
        return os.open(name, flags | _NO_LINKS, dir_fd=folder)
    except FileNotFoundError as error:
        names = os.listdir(folder)
        # macOS stores 글 as three letters, and what is typed has one: the same name to people.
        wanted = unicodedata.normalize("NFC", name)
        same = [item for item in names if unicodedata.normalize("NFC", item) == wanted]
        if same and same[0] != name:
            return _open_at(folder, same[0], flags, path)
        close = get_close_matches(name, names, 3)
        hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
        raise FileNotFoundError(f"{path!r}: there is no {name!r}{hint}") from error
    except OSError as error:
        if _is_link(folder, name):
            raise PermissionError(
                f"{path!r}: {name!r} is a link; links are not followed"
            ) from error
        reason = error.strerror
        if isinstance(error, NotADirectoryError):
            raise NotADirectoryError(f"{path!r}: {name!r} is a file, not a folder") from error
        raise PermissionError(f"{path[:200]!r} can't be opened ({reason})") from error


def _is_link(folder: int, name: str) -> bool:
    try:
        return stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except OSError:
        return False
