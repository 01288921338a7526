"""Text as UTF-8 that comes in pieces: whole characters out of bytes cut anywhere.

Knows UTF-8. Does not know tokens or where the bytes come from.
"""

from __future__ import annotations

import codecs


class Utf8:
    """Bytes in, whole characters out; invalid bytes become U+FFFD, as every decoder does."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, data: bytes) -> str:
        return self._decoder.decode(data)

    def flush(self) -> str:
        """What was held back of a character that never ended."""
        rest = self._decoder.decode(b"", True)
        self._decoder.reset()
        return rest


def is_inside(byte: bytes) -> bool:
    """Whether a byte is inside a character, not its first."""
    return b"\x80" <= byte < b"\xc0"


def cut_off(data: bytes) -> int:
    """How many of the last bytes begin a character whose end is yet to come."""
    for size in range(1, min(3, len(data)) + 1):
        first = data[-size:][:1]
        if not is_inside(first):
            return size if first >= (b"\xc0", b"\xe0", b"\xf0")[size - 1] else 0
    return 0
