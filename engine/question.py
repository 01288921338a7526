"""A Python question that C asks.

Knows exceptions and when to stop. Does not know what asks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Question:
    """A Python question asked from C, where an exception would be lost: it is kept, and stops."""

    def __init__(self, ask: Callable[[Any], bool]) -> None:
        self._ask = ask
        self._error: BaseException | None = None
        self.is_stopped = False

    def says_stop(self, value: Any) -> bool:
        if not self.is_stopped:
            try:
                self.is_stopped = self._ask(value)
            except BaseException as error:  # raised again by `settle`
                self._error, self.is_stopped = error, True
        return self.is_stopped

    def settle(self) -> None:
        """Raise what the question raised."""
        if self._error is not None:
            raise self._error
