"""Where the files are that ship with the engine: grammars/, models/ and bench/.

Knows that a wheel and an editable install carry them inside the package, and that a source
checkout has them at its top.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from engine.errors import InternalError

Folder = Literal["grammars", "models", "bench"]


def resource(folder: Folder, *parts: str) -> Path:
    """The path of a shipped file or folder. Raises InternalError where it is missing."""
    package = Path(__file__).parent
    for base in (package, package.parent):
        path = base.joinpath(folder, *parts)
        if path.exists():
            return path
    raise InternalError(
        f"{'/'.join((folder, *parts))} is missing: the installation is damaged; install again"
    )


def resource_files(folder: Folder) -> Iterator[Path]:
    """The files directly in a shipped folder."""
    return (path for path in resource(folder).iterdir() if path.is_file())


def read_text(folder: Folder, *parts: str) -> str:
    """A shipped text file's contents."""
    return resource(folder, *parts).read_text(encoding="utf-8")
