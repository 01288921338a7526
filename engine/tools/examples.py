"""Useful tools to start with: `engine chat MODEL --tools engine.tools.examples`.

Knows files below one root, arithmetic and clocks. Does not know models or how tools are run.
The root is the current folder, or ENGINE_TOOLS_ROOT where that is set.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import re
import stat
import time
import unicodedata
import zoneinfo
from collections import Counter
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Annotated, Any

from engine.tools import arithmetic
from engine.tools.declare import Field, tool
from engine.tools.rooted import Root

__all__ = ["calculate", "current_time", "list_dir", "read_file", "repo_stats"]

MAX_READ_BYTES = 16 * 1024 * 1024
MAX_SHOWN_BYTES = 48 * 1024  # below a tool's output cap, so that the note at the end survives
MAX_ENTRIES = 500
MAX_FILES = 20_000
MAX_FILE_BYTES = 8 * 1024 * 1024
MAX_SECONDS = 20.0
_MAX_OFFSET_MINUTES = 14 * 60
_SNIFFED = 8192  # a NUL in the first bytes means that a file is not text
_SKIPPED = frozenset(
    {".git", ".hg", ".svn", "node_modules", "__pycache__", ".venv", ".tox", ".nox", ".cache"}
    | {".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis"}
)
# A folder with one of these is an environment, a build or a cache, whatever its name.
_MARKS = ("pyvenv.cfg", "CMakeCache.txt", "CACHEDIR.TAG")
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_OFFSET = re.compile(r"(?:UTC|GMT)?\s*([+-])(\d{1,2})(?::?([0-5]\d))?", re.IGNORECASE)


def _root() -> Root:
    return Root(os.environ.get("ENGINE_TOOLS_ROOT") or os.getcwd())


@tool
def read_file(
    path: Annotated[str, "Path of the file, relative to the root folder, such as src/main.py"],
    start_line: Annotated[int, Field(ge=1), "First line to read, counted from 1"] = 1,
    max_lines: Annotated[int, Field(ge=1, le=5000), "How many lines to read at most"] = 500,
) -> str:
    """Read a text file and return its lines; a note at the end says when there are more."""
    root = _root()
    with os.fdopen(root.open_file(path), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        data = file.read(MAX_READ_BYTES)
    if b"\0" in data[:_SNIFFED] and not data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ValueError(f"{path!r} is not text ({size} bytes of binary data)")
    text, encoding = _decoded(data)
    lines = text.replace("\r\n", "\n").removesuffix("\n").split("\n") if text else []
    if start_line > max(1, len(lines)):
        raise ValueError(f"{path!r} has {len(lines)} lines, so start_line can't be {start_line}")
    shown = _fitting(lines[start_line - 1 : start_line - 1 + max_lines])
    notes = []
    last = start_line - 1 + len(shown)
    if not lines:
        notes.append("the file is empty")
    elif start_line > 1 or last < len(lines):
        notes.append(f"lines {start_line}-{last} of {len(lines)}")
    if last < len(lines):
        notes.append(f"go on with start_line={last + 1}")
    if size > len(data):
        notes.append(f"only the first {len(data)} of {size} bytes were looked at")
    if encoding != "utf-8":
        notes.append(f"decoded as {encoding}")
    return "\n".join([*shown, f"[{'; '.join(notes)}]"] if notes else shown)


@tool
def list_dir(
    path: Annotated[str, "Path of the folder, relative to the root folder; . is the root"] = ".",
) -> dict[str, Any]:
    """List a folder: the folders in it, and the files with their sizes in bytes."""
    folder = _root().open_folder(path)
    try:
        with os.scandir(folder) as entries:
            found = sorted(
                (_shown(entry.name), entry.stat(follow_symlinks=False)) for entry in entries
            )
    finally:
        os.close(folder)
    listed: dict[str, Any] = {"path": path, "folders": [], "files": {}}
    for name, info in found[:MAX_ENTRIES]:
        if stat.S_ISDIR(info.st_mode):
            listed["folders"].append(name)
        elif stat.S_ISREG(info.st_mode):
            listed["files"][name] = info.st_size
        else:
            listed.setdefault("links_and_devices", []).append(name)
    if len(found) > MAX_ENTRIES:
        listed["left_out"] = len(found) - MAX_ENTRIES
    return listed


@tool
def repo_stats(
    path: Annotated[str, "Folder to count, relative to the root folder; . is the root"] = ".",
) -> dict[str, Any]:
    """Count files and lines of code by file extension in a folder and all folders below it.

    Version control, installed packages, build folders, caches and binary files are left out.
    """
    folder = _root().open_folder(path)
    counts: dict[str, Counter[str]] = {}
    skipped: Counter[str] = Counter()
    ends_at = time.monotonic() + MAX_SECONDS
    files, stopped = 0, ""
    try:
        for name, data in _source_files(folder, skipped):
            files += 1
            extension = os.path.splitext(name)[1].lower() or "(none)"
            lines = data.count(b"\n") + (not data.endswith(b"\n") and data != b"")
            blank = sum(not line.strip() for line in data.removesuffix(b"\n").split(b"\n"))
            counts.setdefault(extension, Counter()).update(
                files=1, lines=lines, blank=blank if data else 0
            )
            if files >= MAX_FILES or time.monotonic() > ends_at:
                stopped = f"stopped after {files} files; count a smaller folder"
                break
    finally:
        os.close(folder)
    by_lines = sorted(counts.items(), key=lambda item: (-item[1]["lines"], item[0]))
    result: dict[str, Any] = {
        "path": path,
        "files": files,
        "lines": sum(count["lines"] for count in counts.values()),
        "by_extension": {extension: dict(count) for extension, count in by_lines},
    }
    if skipped:
        result["skipped"] = dict(sorted(skipped.items()))
    if stopped:
        result["incomplete"] = stopped
    return result


@tool
def calculate(
    expression: Annotated[str, "Such as 2 * (3 + 4) ** 2, sqrt(2), or 15 / 100 * 80"],
) -> int | float:
    """Work out an arithmetic expression: + - * / // % **, brackets, and functions like sqrt."""
    return arithmetic.evaluate(expression)


@tool
def current_time(
    timezone: Annotated[str, "IANA name of the time zone, such as Asia/Seoul"] = "UTC",
) -> dict[str, str]:
    """Tell the current date, time and weekday in a time zone."""
    zone, name = _zone(timezone)
    now = datetime.datetime.now(zone)
    return {
        "timezone": name,
        "date": now.date().isoformat(),
        "time": now.time().isoformat("seconds"),
        "weekday": _WEEKDAYS[now.weekday()],  # strftime's names change with the locale
        "utc_offset": now.isoformat()[-6:],
    }


def _shown(name: str) -> str:
    """A file's name as people type it: macOS stores Korean syllables taken apart."""
    return unicodedata.normalize("NFC", name)


def _decoded(data: bytes) -> tuple[str, str]:
    """Text and the encoding it turned out to have; older Korean files are CP949."""
    encodings = ["utf-16"] if data.startswith((b"\xff\xfe", b"\xfe\xff")) else ["utf-8", "cp949"]
    for encoding in encodings:
        try:
            return data.decode(encoding).removeprefix("\ufeff"), encoding
        except UnicodeDecodeError as error:
            # The last character may have been cut by MAX_READ_BYTES.
            if len(data) == MAX_READ_BYTES and error.start > len(data) - 4:
                return data[: error.start].decode(encoding), encoding
    return data.decode("utf-8", "replace"), "utf-8, with damaged characters replaced"


def _fitting(lines: list[str]) -> list[str]:
    """As many of the lines as MAX_SHOWN_BYTES hold; a first line that is too long is cut."""
    room = MAX_SHOWN_BYTES
    for index, line in enumerate(lines):
        room -= len(line.encode("utf-8", "replace")) + 1
        if room < 0 and index == 0:
            kept = line.encode("utf-8", "replace")[:MAX_SHOWN_BYTES].decode("utf-8", "ignore")
            return [f"{kept} [line cut: it has {len(line)} characters]"]
        if room < 0:
            return lines[:index]
    return lines


def _source_files(folder: int, skipped: Counter[str]) -> Iterator[tuple[str, bytes]]:
    """(name, content) of every text file at and below a folder; what is left out is counted."""
    for _, folders, names, here in os.fwalk(".", dir_fd=folder, onerror=None):
        for name in list(folders):
            if reason := _why_skipped(name, here):
                folders.remove(name)
                skipped[reason] += 1
        folders.sort()
        for name in sorted(names):
            reason, data = _content(name, here)
            if reason:
                skipped[reason] += 1
            else:
                yield name, data


def _why_skipped(name: str, parent: int) -> str:
    """The reason for not going into a folder, or nothing."""
    if stat.S_ISLNK(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
        return "links and unreadable files"
    if name in _SKIPPED:
        return "folders"
    for mark in _MARKS:
        with contextlib.suppress(OSError):
            os.stat(f"{name}/{mark}", dir_fd=parent, follow_symlinks=False)
            return "folders"
    return ""


def _content(name: str, folder: int) -> tuple[str, bytes]:
    """("", content), or the reason for leaving the file out."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    except OSError:
        return "links and unreadable files", b""
    with os.fdopen(descriptor, "rb") as file:
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode):
            return "links and unreadable files", b""
        if info.st_size > MAX_FILE_BYTES:
            return f"files over {MAX_FILE_BYTES // 1024**2} MiB", b""
        data = file.read(MAX_FILE_BYTES)
    return ("binary files", b"") if b"\0" in data[:_SNIFFED] else ("", data)


def _zone(name: str) -> tuple[datetime.tzinfo, str]:
    if name.strip().upper() in ("UTC", "Z", "GMT"):
        return datetime.UTC, "UTC"
    if offset := _OFFSET.fullmatch(name.strip()):
        minutes = int(offset[2]) * 60 + int(offset[3] or 0)
        if minutes <= _MAX_OFFSET_MINUTES:
            delta = datetime.timedelta(minutes=minutes if offset[1] == "+" else -minutes)
            return datetime.timezone(delta), str(datetime.timezone(delta))
    # Etc/GMT+9 means nine hours behind: better not offered, nor asked for.
    known = {key for key in zoneinfo.available_timezones() if not key.startswith("Etc/")}
    if not known:
        raise ValueError("this system has no time zone data; run: pip install tzdata")
    wanted = name.strip().replace(" ", "_").casefold()
    found = next((key for key in known if key.casefold() == wanted), None)
    if found is not None:
        return zoneinfo.ZoneInfo(found), found
    near = _near_zones(wanted, known)
    hint = f"did you mean {' or '.join(near)}?" if near else "names look like Asia/Seoul"
    raise ValueError(f"there is no time zone {name[:80]!r}; {hint}")


def _near_zones(wanted: str, known: set[str]) -> list[str]:
    """Zones of that city, else of that abbreviation (KST), else of a similar name."""
    lower = {key.casefold(): key for key in sorted(known)}
    by_city = [key for low, key in lower.items() if low.rpartition("/")[2] == wanted]
    if by_city:
        return by_city[:3]
    if wanted.isalpha() and len(wanted) <= 5:
        now = datetime.datetime.now(datetime.UTC)
        names = ((key, now.astimezone(zoneinfo.ZoneInfo(key)).tzname()) for key in sorted(known))
        by_name = [key for key, short in names if "/" in key and (short or "").lower() == wanted]
        if by_name:
            return by_name[:3]
    cities = {low.rpartition("/")[2]: low for low in lower}
    close = get_close_matches(wanted, [*lower, *cities], 3)
    return list(dict.fromkeys(lower[cities.get(low, low)] for low in close))
