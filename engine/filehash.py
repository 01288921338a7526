"""The SHA-256 of large files, computed once and remembered while they stay as they are.

Knows files and their times. Does not know what is in them.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from engine.errors import Cancelled, StorageError
from engine.signed import Signer

_LABEL: Final = b"engine file hashes 1\n"
_MAX_BYTES: Final = 1 << 20
_MAX_FILES: Final = 500
_BLOCK: Final = 1 << 22
_SETTLED_NS: Final = 2_000_000_000  # a file this young may change again within one tick


@dataclass(frozen=True, slots=True)
class FileHashes:
    """Hashes, remembered in a signed file by device, inode, size, and the times of the last
    change of content (mtime) and of anything (ctime).

    A model of 40 GB takes a minute to hash, so not each start can. It is fine to go by these: an
    ordinary change of a file shows in them, the signature keeps others from writing the list, and
    ctime, unlike mtime, is set by the system alone. Who can turn the clock back and rewrite a
    model in place owns what it says anyway.
    """

    path: Path
    signer: Signer

    def sha256(
        self, files: Sequence[Path], *, on_progress: Callable[[float], bool] | None = None
    ) -> str:
        """One hash of all the files in this order. Raises StorageError, and Cancelled where
        `on_progress`, given the share done, answers False.

        A list that can't be read or written is made anew, or done without.
        """
        known = self._read()
        total = sum(_status(file).st_size for file in files) or 1
        done, hashes, is_new = 0, [], False
        for file in files:
            key = _key(_status(file))
            if key not in known:
                begun = done

                def told(count: int, begun: int = begun) -> bool:
                    return on_progress is None or on_progress((begun + count) / total)

                digest, is_settled = _hash(file, told)
                is_new = is_new or is_settled
                known |= {key: digest} if is_settled else {}
            else:
                digest = known[key]
            hashes.append(digest)
            done += _status(file).st_size
        if is_new:
            self._write(known)
        return hashes[0] if len(hashes) == 1 else _of("\n".join(hashes).encode())

    def _read(self) -> dict[str, str]:
        try:
            known: Any = json.loads(
                bytes(self.signer.read(self.path, _LABEL, max_bytes=_MAX_BYTES))
            )
        except (StorageError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}

    def _write(self, known: dict[str, str]) -> None:
        last = dict(list(known.items())[-_MAX_FILES:])
        try:
            self.signer.write(self.path, _LABEL, [json.dumps(last).encode()])
        except StorageError:
            return  # the next start hashes again


def _of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _status(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}", path=str(path)) from error


def _key(status: os.stat_result) -> str:
    parts = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return " ".join(map(str, parts))


def _hash(path: Path, told: Callable[[int], bool]) -> tuple[str, bool]:
    """A file's hash, and whether the file stayed the same meanwhile and is old enough to."""
    digest, count = hashlib.sha256(), 0
    try:
        with path.open("rb") as file:
            before = os.fstat(file.fileno())
            while block := file.read(_BLOCK):
                digest.update(block)
                count += len(block)
                if not told(count):
                    raise Cancelled(f"reading {path.name} was stopped")
            after = os.fstat(file.fileno())
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}", path=str(path)) from error
    changed_ns = max(after.st_mtime_ns, after.st_ctime_ns)
    is_settled = _key(before) == _key(after) and time.time_ns() - changed_ns > _SETTLED_NS
    return digest.hexdigest(), is_settled
