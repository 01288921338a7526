"""Text as a person can see all of it: what would be invisible stands there as an escape.

Knows characters. Does not know terminals or who wrote a text.
"""

from __future__ import annotations

import unicodedata
from typing import Final

# Steer a terminal or the order of letters, or can't be seen at all: controls, format characters
# (bidi, zero width, tags), lone surrogates, line separators, blanks that pass for letters.
_HIDDEN_KINDS: Final = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
_HIDDEN_LETTERS: Final = frozenset("\u115f\u1160\u3164\uffa0\u2800\u034f\u17b4\u17b5")
_IGNORED: Final = range(0xE0000, 0xE1000)  # tags, selectors, and what is reserved to be like them


def is_hidden(char: str) -> bool:
    """Whether a person who reads a text can't see this character of it."""
    if char in "\n\t":
        return False
    if "\ufe00" <= char <= "\ufe0e" or char in _HIDDEN_LETTERS or ord(char) in _IGNORED:
        return True
    return unicodedata.category(char) in _HIDDEN_KINDS


def visible(text: str) -> str:
    """The text with each character that can't be seen as an escape: `\\u202e`."""
    if text.isascii() and text.isprintable():
        return text
    text = text.replace("\r\n", "\n")
    return "".join(_escape(char) if is_hidden(char) else char for char in text)


def visible_line(text: str) -> str:
    """As `visible`, on one line: newlines and tabs are escaped as well."""
    return visible(text).replace("\n", "\\n").replace("\t", "\\t")


def _escape(char: str) -> str:
    code = ord(char)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def hidden_in(text: str) -> list[str]:
    """The names of the characters of a text that can't be seen, each once."""
    found = dict.fromkeys(char for char in text.replace("\r\n", "\n") if is_hidden(char))
    return [unicodedata.name(char, f"U+{ord(char):04X}") for char in found]
