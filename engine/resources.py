"""Find the files that ship with the engine: grammars, models, the bench.

Knows where they lie in a wheel and in a checkout. Does not know what is in them.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Literal

from engine.errors import InternalError

Folder = Literal["grammars", "models", "bench"]


@cache
def _root(folder: Folder) -> Path:
    """Beside this file in a wheel, one level up in a checkout, where editable installs run too."""
    package = Path(__file__).resolve().parent
    if (package / folder).is_dir():
        return package / folder
    # Above a wheel's package lie other people's packages, and one of them might be called `bench`.
    if (package.parent / "pyproject.toml").is_file() and (package.parent / folder).is_dir():
        return package.parent / folder
    raise InternalError(
        f"{folder}/ is missing beside {package}: the installation is damaged; install again",
        folder=folder,
    )


def resource(folder: Folder, *parts: str) -> Path:
    """The path of a shipped file or folder. Raises InternalError where it is missing."""
    path = _root(folder).joinpath(*parts)
    if not path.exists():
        name = "/".join((folder, *parts))
        raise InternalError(f"{name} is missing: the installation is damaged; install again")
    return path


def resource_files(folder: Folder) -> Iterator[Path]:
    """The files directly in a shipped folder."""
    return (path for path in _root(folder).iterdir() if path.is_file())


def read_text(folder: Folder, *parts: str) -> str:
    """A shipped text file's contents."""
    return resource(folder, *parts).read_text(encoding="utf-8")
