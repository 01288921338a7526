"""Rows, sizes and notes of the commands that report something: inspect, models, pull, doctor.

Knows column widths and units. Does not know what is shown.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from engine.cli.console import display_width, printable_line
from engine.cli.jsonl import VERSION, write_record


def size_text(size: int) -> str:
    """Bytes in powers of 1024, as operating systems report memory: `92.1 MiB`."""
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def count_text(count: int) -> str:
    """A number of parameters as models are named after: `135 M`, `7.62 B`."""
    for limit, unit in ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K")):
        if count >= limit:
            return f"{count / limit:.3g} {unit}"
    return str(count)


def print_rows(rows: Iterable[Sequence[str]], indent: str = "") -> None:
    """Columns on stdout, each as wide as its widest cell; all text is made safe for a terminal."""
    safe = [[printable_line(cell) for cell in row] for row in rows]
    widths: dict[int, int] = {}
    for row in safe:
        for column, cell in enumerate(row[:-1]):  # the last cell of a row may be as long as it is
            widths[column] = max(widths.get(column, 0), display_width(cell))
    for row in safe:
        padded = [
            cell + " " * (widths.get(column, 0) - display_width(cell))
            for column, cell in enumerate(row[:-1])
        ]
        print((indent + "  ".join([*padded, row[-1]])).rstrip())


def print_json(**values: Any) -> None:
    """The command's result as one JSON object with a version."""
    write_record(sys.stdout, {"version": VERSION, **values})


def print_notes(notes: Iterable[str]) -> None:
    """Things to know that are not the result, on stderr."""
    for note in notes:
        print(f"note: {printable_line(note)}", file=sys.stderr)


def labelled(values: Mapping[str, str]) -> list[tuple[str, str]]:
    """The rows of a mapping, without those that have nothing to say."""
    return [(label, text) for label, text in values.items() if text]
