"""Files that are their owner's alone: written whole or not at all.

Knows names, modes and bytes. Does not know what is in a file.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


def make_folder(folder: Path) -> None:
    """Make a folder that only its owner may enter, where there is none. Raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file (0600) to be written in the place of `path`. Raises OSError.

    What is there stays until the new one is whole and on disk; where writing fails, Ctrl-C
    included, it stays for good and nothing else is left. The new file's first name can't be
    foreseen, and no link in its place is followed.
    """
    stem = os.fsencode(path.name)[:150].decode("utf-8", "ignore")  # long names get longer here
    part = path.with_name(f".{stem}.{secrets.token_hex(16)}.part")
    try:
        with open(part, "xb", opener=open_private) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def open_private(name: str, flags: int) -> int:
    """For `open(opener=)`: made with mode 0600, and no link is followed."""
    return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
