"""llama.cpp's GBNF to a `GrammarText` (grammars/README.md there).

Knows the syntax. Does not know tokens or matching.
"""

from __future__ import annotations

import re
import sys
from typing import Final

from engine.errors import GrammarError
from engine.grammar.excerpt import check_text, mistake
from engine.grammar.syntax import (
    MAX_DEPTH,
    Choice,
    GrammarText,
    Item,
    Literal,
    Name,
    Pattern,
    Place,
    Repeat,
    Rule,
    Sequence,
    Special,
)

MAX_MARKS: Final = 8  # repetitions of repetitions, without groups
MAX_DIGITS: Final = 9  # of a count
_BLANK: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_INLINE_BLANK: Final = re.compile(r"(?:[ \t]|#[^\n]*)*")
_NAME: Final = re.compile(r"[A-Za-z0-9-]+")
_BOUNDS: Final = re.compile(r"\{\s*(\d*)\s*(,?)\s*(\d*)\s*\}")
_ESCAPE: Final = re.compile(
    r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.S
)
_LETTERS: Final = {"n": "\n", "r": "\r", "t": "\t"}


def parse(text: str) -> GrammarText:
    """Raises GrammarError with line, column and the line itself. The start is `root`."""
    check_text(text)
    parser = _Parser(text)
    rules = []
    parser.skip()
    while parser.at < len(text):
        rules.append(parser.rule())
    return GrammarText(tuple(rules), start="root")


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.depth = 0

    def place(self, at: int | None = None) -> Place:
        at = self.at if at is None else at
        before = self.text[:at]
        return Place(before.count("\n") + 1, at - (before.rfind("\n") + 1) + 1)

    def fail(self, what: str, at: int | None = None) -> GrammarError:
        return mistake(self.text, self.place(at), what)

    def skip(self, lines: bool = True) -> None:
        match = (_BLANK if lines or self.depth else _INLINE_BLANK).match(self.text, self.at)
        assert match is not None
        self.at = match.end()

    def take(self, what: str) -> bool:
        found = self.text.startswith(what, self.at)
        self.at += len(what) if found else 0
        return found

    def rule(self) -> Rule:
        match = _NAME.match(self.text, self.at)
        if match is None:
            raise self.fail("a rule's name expected here")
        place = self.place()
        self.at = match.end()
        self.skip()
        if not self.take("::="):
            raise self.fail("::= expected here")
        self.skip()
        body = self.choice()
        if self.at < len(self.text) and self.text[self.at] not in "\r\n":
            raise self.fail(f"unexpected {self.text[self.at]!r}")
        self.skip()
        return Rule(match.group(), body, place)

    def choice(self) -> Item:
        parts = [self.sequence()]
        while self.more():
            parts.append(self.sequence())
        return parts[0] if len(parts) == 1 else Choice(tuple(parts))

    def more(self) -> bool:
        """Whether another alternative follows, on the next line perhaps."""
        back = self.at
        self.skip()
        if not self.take("|"):
            self.at = back
            return False
        self.skip()
        return True

    def sequence(self) -> Item:
        parts: list[Item] = []
        while True:
            self.skip(lines=False)
            if self.at >= len(self.text) or self.text[self.at] in "|)\r\n":
                break
            parts.append(self.repeated(self.item()))
        return parts[0] if len(parts) == 1 else Sequence(tuple(parts))

    def repeated(self, item: Item) -> Item:
        for marks in range(len(self.text)):
            begin = self.at
            if self.at == len(self.text):
                break
            if self.take("*"):
                item = Repeat(item, 0, None)
            elif self.take("+"):
                item = Repeat(item, 1, None)
            elif self.take("?"):
                item = Repeat(item, 0, 1)
            elif match := _BOUNDS.match(self.text, self.at):
                low, comma, high = match.groups()
                if max(len(low), len(high)) > MAX_DIGITS:
                    raise self.fail("a count that is too large")
                least = int(low or 0)
                most = (int(high) if high else None) if comma else least
                if (not low and not comma) or (most is not None and most < least):
                    raise self.fail("bounds out of order")
                self.at = match.end()
                item = Repeat(item, least, most)
            else:
                break
            if marks >= MAX_MARKS:
                raise self.fail("too many repetitions in a row", begin)
        return item

    def item(self) -> Item:
        begin = self.at
        if self.take('"'):
            return Literal(self.literal(begin))
        if self.take("["):
            return self.characters(begin)
        if self.take("."):
            return Pattern(".", self.place(begin), dot_all=True)
        if self.take("("):
            return self.group(begin)
        if self.take("<"):
            end = self.text.find(">", self.at)
            if end < 0:
                raise self.fail("a token without its >", begin)
            self.at = end + 1
            return Special(self.text[begin : self.at], self.place(begin))
        match = _NAME.match(self.text, self.at)
        if match is None:
            raise self.fail(f"unexpected {self.text[self.at]!r}")
        self.at = match.end()
        return Name(match.group(), self.place(begin))

    def group(self, begin: int) -> Item:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.fail(f"groups nested deeper than {MAX_DEPTH}")
        self.skip()
        body = self.choice()
        self.skip()
        if not self.take(")"):
            raise self.fail("a group without its )", begin)
        self.depth -= 1
        return body

    def character(self, begin: int) -> str:
        if self.at >= len(self.text):
            raise self.fail("it has no end", begin)
        match = _ESCAPE.match(self.text, self.at)
        if match is None:
            self.at += 1
            return self.text[self.at - 1]
        self.at = match.end()
        digits = match.group(1) or match.group(2) or match.group(3)
        if digits:
            point = int(digits, 16)
            if point > sys.maxunicode or 0xD800 <= point <= 0xDFFF:
                raise self.fail(f"{match.group()} is not a character", match.start())
            return chr(point)
        return _LETTERS.get(match.group(4), match.group(4))

    def literal(self, begin: int) -> str:
        out = []
        while not self.take('"'):
            out.append(self.character(begin))
        return "".join(out)

    def characters(self, begin: int) -> Item:
        is_not = self.take("^")
        parts = []
        while not self.take("]"):
            low = high = self.character(begin)
            if self.text.startswith("-", self.at) and not self.text.startswith("-]", self.at):
                self.at += 1
                high = self.character(begin)
            if high < low:
                raise self.fail("a range whose ends are out of order", begin)
            parts.append(f"\\u{{{ord(low):x}}}-\\u{{{ord(high):x}}}")
        if not parts:
            raise self.fail("no characters", begin)
        return Pattern(f"[{'^' if is_not else ''}{''.join(parts)}]", self.place(begin))
