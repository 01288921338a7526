"""Which of many texts stands in bytes, and whether one may be about to.

Knows bytes. Does not know what the texts mean. What a search costs does not depend on how many
texts there are.
"""

from __future__ import annotations

import re
from functools import lru_cache


class Needles:
    """Texts to look for. Where several begin at one place, the one given first is meant."""

    def __init__(self, texts: tuple[bytes, ...]) -> None:
        self._index = {text: index for index, text in reversed(list(enumerate(texts)))}
        self._beginnings = frozenset(
            text[:size] for text in texts for size in range(1, len(text) + 1)
        )
        self._most = max(map(len, texts), default=1) - 1  # that may be the beginning of one
        firsts = b"".join(re.escape(text[:1]) for text in self._index)
        self._first = re.compile(b"[" + firsts + b"]") if firsts else None

    def find(self, data: bytes, begin: int) -> tuple[int, int] | None:
        """The first place of a text from `begin` on, and which of them it is."""
        if self._first is None:
            return None
        for match in self._first.finditer(data, begin):
            place = match.start()
            found = []
            for end in range(place + 1, len(data) + 1):
                piece = data[place:end]
                if piece not in self._beginnings:
                    break
                if piece in self._index:
                    found.append(self._index[piece])
            if found:
                return place, min(found)
        return None

    def which(self, data: bytes) -> int | None:
        """The text with which the data begins."""
        found = self._first and self._first.match(data) and self.find(data, 0)
        return found[1] if found and found[0] == 0 else None

    def is_beginning(self, data: bytes) -> bool:
        """Whether a text begins with all of the data, be it the whole text or nothing."""
        return data in self._beginnings or (not data and self._first is not None)

    def held(self, data: bytes) -> int:
        """How many of the last bytes may be the beginning of a text.

        They may be one of the shorter texts as a whole; those are looked for with `find`.
        """
        if self._first is None:
            return 0
        for match in self._first.finditer(data, max(0, len(data) - self._most)):
            if data[match.start() :] in self._beginnings:
                return len(data) - match.start()
        return 0


@lru_cache(maxsize=64)
def needles(texts: tuple[bytes, ...]) -> Needles:
    """Needles made once for all messages that look for the same; 50 tools' take about 1 ms."""
    return Needles(texts)
