"""Prefixes on disk: the cache's state for the first tokens of a prompt, for the next process.

Knows sequences, ids and signed files. Does not know prompts, or where the tokens come from.
llama.cpp reads a state without distrust (CVE-2026-43629): it is given only what this user's engine
wrote for this model, build and parameters. Everything else is a problem to report, never an error:
the tokens are computed then.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Sequence as Many
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from engine.errors import StorageError, UsageError
from engine.events import Origin
from engine.filehash import FileHashes
from engine.messages import JSON
from engine.sequence import ORIGINS, Sequence
from engine.signed import Signer

FORMAT: Final = 1
MAX_BYTES: Final = 4 << 30
MIN_TOKENS: Final = 32  # fewer are computed about as fast as they are read
_LABEL: Final = b"engine prefix %d\n" % FORMAT
_NAME: Final = re.compile(r"^([0-9a-f]{16})-(\d{8})-([0-9a-f]{32})\.kv$")
_PART: Final = re.compile(r"^\.[0-9a-f]{16}-\d{8}-[0-9a-f]{32}\.kv\..*\.part$")
_ABANDONED_SECONDS: Final = 3600  # a file still in the making after that has lost its maker


@dataclass(frozen=True, slots=True)
class Setting:
    """All that a state depends on besides its tokens; states of another setting are not used.

    The length of the context isn't part of it: a state fits into any that holds its tokens.
    """

    model_sha256: str
    build: str
    parameters: Mapping[str, JSON] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "model_sha256": self.model_sha256,
            "build": self.build,
            "parameters": dict(self.parameters),
        }

    @property
    def name(self) -> str:
        text = json.dumps(self.to_json(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Restored:
    """What `restore` did: `tokens` came from disk in `seconds`; computing them took
    `prefill_seconds` when they were saved. `problems` are files that were not used."""

    tokens: int = 0
    seconds: float = 0.0
    prefill_seconds: float = 0.0
    problems: tuple[StorageError, ...] = ()

    @property
    def saved_seconds(self) -> float:
        return max(0.0, self.prefill_seconds - self.seconds)


@dataclass(frozen=True, slots=True)
class PrefixStore:
    """A folder of saved prefixes for one setting, at most `max_bytes` large in all.

    Several processes may use one folder. Which state fits is told by its name, what is in it by
    its signed header.
    """

    folder: Path
    key_file: Path
    setting: Setting
    max_bytes: int = MAX_BYTES

    def longest(self, ids: Many[int]) -> int:
        """How many of `ids` the longest saved prefix seems to hold; reads names, not files."""
        return next((length for length, _ in self._found(ids)), 0)

    def restore(self, sequence: Sequence, ids: Many[int]) -> Restored:
        """Put the longest saved prefix of `ids` into an empty sequence; nothing is computed.

        Raises UsageError where the sequence is not empty. Never raises for what is on disk.
        """
        if len(sequence):
            raise UsageError(f"a prefix needs an empty sequence, this one has {len(sequence)} ids")
        problems: list[StorageError] = []
        for length, path in self._found(ids):
            if length > sequence.n_ctx or (length == len(ids) and not sequence.can_rewind):
                continue  # no room, or no way to the logits of the last token
            begun = time.perf_counter()
            try:
                header, state = self._read(path)
                origins, seconds = self._checked(header, path, ids[:length])
                sequence.load(state, ids[:length], origins)
            except StorageError as error:
                if error.data.get("reason") != "missing":  # trimmed by another process meanwhile
                    problems.append(error)
                continue
            with contextlib.suppress(OSError):
                os.utime(path)
            return Restored(length, time.perf_counter() - begun, seconds, tuple(problems))
        return Restored(problems=tuple(problems))

    def save(self, sequence: Sequence, length: int, *, prefill_seconds: float = 0.0) -> Path:
        """Keep the state of the sequence's first `length` tokens, those that are computed so far.

        Oldest use goes first where the folder grows too large. Raises StorageError.
        """
        ids = sequence.ids[:length]
        state = sequence.save(length)
        header = json.dumps(
            {
                "setting": self.setting.to_json(),
                "ids": ids,
                "origins": _runs(sequence.origins[:length]),
                "prefill_seconds": prefill_seconds,
            }
        ).encode()
        path = self.folder / f"{self.setting.name}-{length:08d}-{_digest(ids)}.kv"
        size = len(header) + len(state)
        if size > self.max_bytes:
            raise StorageError(
                f"the state of {length} tokens has {size} bytes, the folder of prefixes holds "
                f"{self.max_bytes}; it is not saved",
                path=str(path),
            )
        parts = (len(header).to_bytes(8, "big"), header, state)
        Signer(self.key_file).write(path, _LABEL, parts)
        self._trim(path)
        return path

    def _found(self, ids: Many[int]) -> Iterator[tuple[int, Path]]:
        """Files whose names say that they hold the beginning of `ids`, the longest first."""
        names = []
        for name in _names(self.folder):
            match = _NAME.match(name)
            if match and match[1] == self.setting.name and 0 < int(match[2]) <= len(ids):
                names.append((int(match[2]), match[3], name))
        for length, digest, name in sorted(names, reverse=True):
            if digest == _digest(ids[:length]):
                yield length, self.folder / name

    def _read(self, path: Path) -> tuple[Any, memoryview]:
        content = Signer(self.key_file).read(path, _LABEL, max_bytes=self.max_bytes + (1 << 20))
        size = int.from_bytes(content[:8], "big")
        try:
            return json.loads(bytes(content[8 : 8 + size])), content[8 + size :]
        except ValueError as error:  # signed by us, and no header: another version's
            raise _refused(path, "has no header") from error

    def _checked(self, header: Any, path: Path, ids: Many[int]) -> tuple[list[Origin], float]:
        """The origins and the time of a state, where its header says that it is the one named."""
        if not isinstance(header, dict) or header.get("setting") != self.setting.to_json():
            raise _refused(path, "belongs to another model, build or parameters")
        if header.get("ids") != list(ids):
            raise _refused(path, "holds other tokens than its name says")
        try:
            origins = [name for name, count in header["origins"] for _ in range(count)]
            seconds = float(header["prefill_seconds"])
        except (KeyError, TypeError, ValueError) as error:
            raise _refused(path, "has a header of another form") from error
        if len(origins) != len(ids) or not set(origins) <= set(ORIGINS):
            raise _refused(path, "has a header of another form")
        return origins, seconds

    def _trim(self, newest: Path) -> None:
        """Keep the folder within its bounds. What another process removes first is gone as well."""
        sizes = []
        for name in _names(self.folder):
            path = self.folder / name
            with contextlib.suppress(OSError):
                status = path.lstat()
                if _NAME.match(name):
                    sizes.append((path == newest, status.st_mtime_ns, status.st_size, path))
                elif _PART.match(name) and time.time() - status.st_mtime > _ABANDONED_SECONDS:
                    path.unlink()
        total = sum(size for _, _, size, _ in sizes)
        for is_newest, _, size, path in sorted(sizes):
            if total <= self.max_bytes or is_newest:
                return
            with contextlib.suppress(OSError):
                path.unlink()
            total -= size


def open_store(
    place: bool | str | Path,
    files: Many[Path],
    libraries: Many[Path],
    *,
    on_progress: Callable[[float], bool] | None = None,
) -> Callable[[Mapping[str, JSON]], PrefixStore]:
    """The store of a model in these files: in the folder `place`, or True for the user's own.

    The files are hashed, once; the parameters of the context may come later. Raises StorageError,
    and Cancelled where `on_progress` answers False.
    """
    from platformdirs import user_cache_path, user_data_path

    data = user_data_path("engine", appauthor=False)
    default = user_cache_path("engine", appauthor=False) / "prefixes"
    key_file = data / "prefixes.key"
    hashes = FileHashes(data / "hashes.json", Signer(key_file))
    model = hashes.sha256(files, on_progress=on_progress)
    build = hashes.sha256(libraries)
    folder = default if isinstance(place, bool) else Path(place).expanduser()
    return lambda parameters: PrefixStore(folder, key_file, Setting(model, build, parameters))


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:  # there is none yet, or it can't be read: nothing is found there
        return []


def _digest(ids: Many[int]) -> str:
    data = np.asarray(ids, dtype="<i4").tobytes()
    return hashlib.sha256(data).hexdigest()[:32]


def _runs(origins: Many[Origin]) -> list[tuple[Origin, int]]:
    runs: list[tuple[Origin, int]] = []
    for origin in origins:
        if runs and runs[-1][0] == origin:
            runs[-1] = (origin, runs[-1][1] + 1)
        else:
            runs.append((origin, 1))
    return runs


def _refused(path: Path, why: str) -> StorageError:
    return StorageError(f"{path}: it {why}; it is not used", path=str(path), reason="content")
