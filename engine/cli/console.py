"""Where a command writes: stdout for the model, stderr for people, and what a terminal may show.

Knows terminals, colour and control characters. Does not know models or events.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from dataclasses import dataclass, field
from typing import Final, TextIO
from unicodedata import east_asian_width

# Text of a model or a tool may hold escape sequences that repaint the screen, set the clipboard or
# hide what was run. C0, DEL, C1 and the bidirectional overrides are shown, never executed.
_CONTROLS: Final = (*range(0x20), 0x7F, *range(0x80, 0xA0))
_BIDI: Final = (*range(0x202A, 0x202F), *range(0x2066, 0x206A))
_ESCAPES: Final[dict[int, str]] = {
    **{code: f"\\x{code:02x}" for code in _CONTROLS if code not in b"\n\t"},
    **{code: f"\\u{code:04x}" for code in _BIDI},
}
_LINE_ESCAPES: Final[dict[int, str]] = {**_ESCAPES, 0x0A: "\\n", 0x09: "\\t"}
STYLES: Final = {"dim": "\x1b[2m", "red": "\x1b[31m", "cyan": "\x1b[36m", "bold": "\x1b[1m"}


def printable(text: str) -> str:
    """`text` with control characters but newline and tab as visible escapes, such as `\\x1b`."""
    return text.translate(_ESCAPES)


def printable_line(text: str) -> str:
    """As `printable`, on one line: newlines and tabs are escaped as well."""
    return text.translate(_LINE_ESCAPES)


def clip(text: str, width: int) -> str:
    """The start of a one-line `text` that fits `width` columns; wide characters take two."""
    used = 0
    for index, char in enumerate(text):
        used += 2 if east_asian_width(char) in "WF" else 1
        if used > width:
            kept = text[:index]
            while kept and display_width(kept) > width - 1:
                kept = kept[:-1]
            return kept + "…"
    return text


def clip_start(text: str, width: int) -> str:
    """The end of a one-line `text` that fits `width` columns."""
    return clip(text[::-1], width)[::-1]


def display_width(text: str) -> int:
    """Terminal columns, wide characters counted as two."""
    return sum(2 if east_asian_width(char) in "WF" else 1 for char in text)


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


@dataclass(slots=True)
class Console:
    """The two streams, and what each of them is.

    `mid_line` tells on which stream a line was left unfinished, so that the other one never
    begins in the middle of it on a shared screen.
    """

    out: TextIO = field(default_factory=lambda: sys.stdout)
    err: TextIO = field(default_factory=lambda: sys.stderr)
    mid_line: TextIO | None = None
    _transient: bool = False
    _carriage: bool = False

    @property
    def out_is_terminal(self) -> bool:
        return _is_terminal(self.out)

    @property
    def err_is_terminal(self) -> bool:
        return _is_terminal(self.err) and os.environ.get("TERM") != "dumb"

    @property
    def has_colour(self) -> bool:
        return self.err_is_terminal and not os.environ.get("NO_COLOR")

    def answer(self, text: str) -> None:
        """Write a piece of the model's answer to stdout, escaped where that is a terminal."""
        self.wipe()
        if self.mid_line is self.err:
            self.end_line()
        if self.out_is_terminal:
            text = self._printable_piece(text)
        self._put(self.out, text)

    def _printable_piece(self, text: str) -> str:
        """Escape a piece, taking `\\r\\n` for a newline even where pieces part it."""
        if self._carriage:
            text = "\r" + text
        self._carriage = text.endswith("\r")
        if self._carriage:
            text = text[:-1]
        return printable(text.replace("\r\n", "\n"))

    def note(self, text: str, style: str = "") -> None:
        """Write a whole line for people to stderr. `text` must be printable."""
        self.end_line()
        self._put(self.err, self.styled(text, style) + "\n")

    def aside(self, text: str, style: str = "dim") -> None:
        """Write a piece of running text, such as thinking, to stderr, escaped."""
        self.wipe()
        if self.mid_line is self.out:
            self.end_line()
        self._put(self.err, self.styled(printable(text), style), text)

    def end_line(self) -> None:
        """Begin a new line on whichever stream has an unfinished one."""
        self.wipe()
        if self._carriage:
            self._carriage = False
            self._put(self.out, "\\x0d")
        if self.mid_line is not None:
            self._put(self.mid_line, "\n")

    def styled(self, text: str, style: str) -> str:
        if not style or not text or not self.has_colour:
            return text
        return f"{STYLES[style]}{text}\x1b[0m"

    def transient(self, text: str) -> None:
        """Show a line on stderr that the next output takes the place of. Terminals only."""
        if not self.err_is_terminal:
            return
        if not self._transient:
            self.end_line()
        columns = shutil.get_terminal_size().columns
        self.err.write(f"\r\x1b[K{self.styled(clip(text, columns - 1), 'dim')}")
        self.err.flush()
        self._transient = True

    def wipe(self) -> None:
        """Remove the transient line, where there is one."""
        if self._transient:
            self.err.write("\r\x1b[K")
            self.err.flush()
            self._transient = False

    def _put(self, stream: TextIO, text: str, plain: str | None = None) -> None:
        if not text:
            return
        stream.write(text)
        stream.flush()
        self.mid_line = None if (plain or text).endswith("\n") else stream


class Progress:
    """A bar on a terminal's stderr for work that turns out to take over a second."""

    PATIENCE: Final = 1.0
    WIDTH: Final = 24

    def __init__(self, console: Console, title: str) -> None:
        self._console = console
        self._title = title
        self._began = time.monotonic()
        self._shown = ""

    def update(self, share: float) -> None:
        """Show that `share` (0 to 1) is done. Cheap when nothing visible changed."""
        if time.monotonic() - self._began < self.PATIENCE:
            return
        full = round(self.WIDTH * share)
        bar = "#" * full + "-" * (self.WIDTH - full)
        line = f"{self._title} [{bar}] {share:4.0%}"
        if line != self._shown:
            self._console.transient(line)
            self._shown = line

    def close(self) -> None:
        self._console.wipe()
