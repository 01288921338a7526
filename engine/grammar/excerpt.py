"""Mistakes in a grammar's text: the place, the line and a caret under it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from engine.errors import GrammarError
from engine.grammar.syntax import Place


def mistake(
    text: str, place: Place, what: str, name: str = "grammar", **data: object
) -> GrammarError:
    """An error that shows the line. `name` is the file's or the grammar's."""
    lines = text.splitlines() or [""]
    line = lines[min(place.line, len(lines)) - 1]
    excerpt = f"{line}\n{' ' * (place.column - 1)}^"
    return GrammarError(
        f"{name}:{place.line}:{place.column}: {what}",
        line=place.line,
        column=place.column,
        excerpt=excerpt,
        **data,
    )


def place_at(text: str, offset: int) -> Place:
    """The line and column of a character."""
    before = text[:offset]
    return Place(before.count("\n") + 1, offset - before.rfind("\n"))


def check_text(text: str) -> None:
    """Raises GrammarError for half a pair of surrogates, which UTF-8 can't hold."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        place = place_at(text, error.start)
        raise mistake(text, place, f"{text[error.start]!r} is not a character") from error


def suggestion(name: str, known: Iterable[str]) -> str:
    """`; did you mean X?`, or nothing."""
    close = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {close[0]}?" if close else ""
