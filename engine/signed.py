"""Files that only this user's engine can have written: signed with a key, checked before use.

Knows a key, bytes and files. Does not know what the bytes mean. A file that was cut, changed or
signed with another key is refused as a whole: no part of it reaches its reader.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import io
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engine.errors import StorageError
from engine.private import make_folder, open_private, replacing

KEY_BYTES: Final = 32
_SIGNATURE_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Signer:
    """Writes and reads signed files. `key_file` is made when it is first needed.

    The key is 32 random bytes in a file that only its owner may read. Whoever can read it can do
    everything that this user can.
    """

    key_file: Path

    def write(self, path: Path, label: bytes, parts: Iterable[bytes | memoryview]) -> None:
        """Write a file that `read` accepts under the same label.

        An old file stays until the new one is whole.
        The label says what kind of file it is: a file of one kind never passes for another.
        Raises StorageError.
        """
        with _told(path):
            signature = self._signature(label)
            make_folder(path.parent)
            with replacing(path) as file:
                file.write(label)
                for each in parts:
                    signature.update(each)
                    file.write(each)
                file.write(signature.digest())

    def read(self, path: Path, label: bytes, *, max_bytes: int) -> memoryview:
        """What was written under the label. The bytes that were checked are those that you get.

        Raises StorageError with `reason`: "missing", "unreadable", "size" or "signature".
        """
        with _told(path), _opened(path) as (file, status):
            least = len(label) + _SIGNATURE_BYTES
            if not least <= status.st_size <= max_bytes:
                raise StorageError(
                    f"{path}: {status.st_size} bytes, between {least} and {max_bytes} were "
                    "expected; it is not used",
                    path=str(path),
                    reason="size",
                )
            data, count = bytearray(status.st_size), 0
            raw = io.FileIO(file, closefd=False)  # one call reads at most 2 GB
            while more := raw.readinto(memoryview(data)[count:]):
                count += more
        signature = self._signature(label)
        content = memoryview(data)[len(label) : -_SIGNATURE_BYTES]
        signature.update(content)
        is_ours = data.startswith(label) and count == len(data)
        if not hmac.compare_digest(signature.digest(), data[-_SIGNATURE_BYTES:]) or not is_ours:
            raise StorageError(
                f"{path}: it was changed, is not whole or was written with another key; "
                "it is not used",
                path=str(path),
                reason="signature",
            )
        return content

    def _signature(self, label: bytes) -> hmac.HMAC:
        return hmac.new(self._key(), label, hashlib.sha256)

    def _key(self) -> bytes:
        """The key; made where there is none, by one of several processes that start at once."""
        with _told(self.key_file):
            with contextlib.suppress(FileNotFoundError):
                return self._read_key()
            make_folder(self.key_file.parent)
            part = self.key_file.with_name(f".{self.key_file.name}.{secrets.token_hex(8)}.part")
            try:
                with open(part, "xb", opener=open_private) as file:
                    file.write(secrets.token_bytes(KEY_BYTES))
                    file.flush()
                    os.fsync(file.fileno())
                with contextlib.suppress(FileExistsError):
                    os.link(part, self.key_file)  # unlike a rename it never replaces a key
            finally:
                part.unlink(missing_ok=True)
            return self._read_key()

    def _read_key(self) -> bytes:
        with _opened(self.key_file) as (file, status):
            if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
                raise StorageError(
                    f"{self.key_file}: others may read or write this key; delete it, and a new "
                    "one is made",
                    path=str(self.key_file),
                    reason="unreadable",
                )
            key = os.read(file, KEY_BYTES + 1)
        if len(key) != KEY_BYTES:
            raise StorageError(
                f"{self.key_file}: a key has {KEY_BYTES} bytes, this file {status.st_size}; delete "
                "it, and a new one is made",
                path=str(self.key_file),
                reason="unreadable",
            )
        return key


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[int, os.stat_result]]:
    """A plain file, open for reading: no link, and no pipe that would block."""
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise StorageError(f"{path}: not a file", path=str(path), reason="unreadable")
        yield file, status
    finally:
        os.close(file)


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """What the system says of a file, as StorageError."""
    try:
        yield
    except OSError as error:
        reason = "missing" if isinstance(error, FileNotFoundError) else "unreadable"
        raise StorageError(f"{path}: {error.strerror}", path=str(path), reason=reason) from error
