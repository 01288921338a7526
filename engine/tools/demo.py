"""What the embedded model is given besides the example tools: a weather that is invented.

Knows nothing of the sky. `engine chat` without a model says so at its start.
"""

from __future__ import annotations

import datetime
import hashlib
import unicodedata
from typing import Annotated

from engine.tools.declare import tool

__all__ = ["get_weather"]


@tool
def get_weather(city: Annotated[str, "Name of the city"]) -> dict[str, str | int]:
    """Current weather in a city."""
    # The same all day for a city, and without a network.
    day = datetime.datetime.now(datetime.UTC).date().isoformat()
    place = unicodedata.normalize("NFC", city).casefold()
    digest = hashlib.sha256(f"{place} {day}".encode()).digest()
    return {"city": city, "temperature": digest[0] % 40 - 8}
