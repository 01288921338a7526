"""Messages between the engine and the child process of a tool: JSON behind its length.

Knows sockets and bytes. Does not know what the messages mean.
"""

from __future__ import annotations

import json
import socket
from typing import Any

MAX_FRAME_BYTES = 256 * 1024 * 1024
_LENGTH = 4


def encode(message: dict[str, Any]) -> bytes:
    """Raises TypeError, ValueError or RecursionError for what is no JSON."""
    data = json.dumps(message).encode("ascii")  # lone surrogates travel as escapes
    return len(data).to_bytes(_LENGTH, "big") + data


def receive(channel: socket.socket) -> dict[str, Any] | None:
    """The next message; None where the other side has gone. Waits."""
    reader = Reader()
    while (message := reader.next()) is None:
        data = channel.recv(reader.missing)
        if not data:
            return None
        reader.feed(data)
    return message


class Reader:
    """Puts messages together from the bytes that have come. Raises ValueError for nonsense."""

    def __init__(self, max_bytes: int = MAX_FRAME_BYTES) -> None:
        self._max_bytes = max_bytes
        self._data = bytearray()

    @property
    def missing(self) -> int:
        """How many bytes the next message lacks, as far as is known."""
        return max(self._needed() - len(self._data), 1)

    def feed(self, data: bytes) -> None:
        self._data += data

    def next(self) -> dict[str, Any] | None:
        needed = self._needed()
        if len(self._data) <= _LENGTH or len(self._data) < needed:
            return None
        message = json.loads(self._data[_LENGTH:needed])
        del self._data[:needed]
        if not isinstance(message, dict):
            raise ValueError("a message must be an object")
        return message

    def _needed(self) -> int:
        if len(self._data) < _LENGTH:
            return _LENGTH
        length = int.from_bytes(self._data[:_LENGTH], "big")
        if length > self._max_bytes:
            raise ValueError(f"a message of {length} bytes; {self._max_bytes} at most")
        return _LENGTH + length
