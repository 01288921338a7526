"""Docstrings of three styles say the same of a function and its arguments."""

from __future__ import annotations

import pytest

from engine.tools.docstring import parse

GOOGLE = """Find a train.
    It may be late.

    More about trains.

    Args:
        start (str, optional): Where it: starts,
            with a second line.
        end: Where it ends.

    Returns:
        dict: not an argument
    """
NUMPY = """Find a train.
    It may be late.

    Parameters
    ----------
    start : str, optional
        Where it: starts,
        with a second line.
    end
        Where it ends.

    Returns
    -------
    other : dict
        not an argument
    """
SPHINX = """
    Find a train.
    It may be late.

    :param str start: Where it: starts,
        with a second line.
    :param end: Where it ends.
    :type end: str
    :returns: not an argument
    """
TIGHT = """Find a train. It may be late.
    Args:
      start: Where it: starts, with a second line.

      end: Where it ends.
    Raises:
      other: not an argument"""


@pytest.mark.parametrize("text", [GOOGLE, NUMPY, SPHINX, TIGHT])
def test_three_styles_say_the_same(text: str) -> None:
    found = parse(text)
    assert found.summary == "Find a train. It may be late."
    assert found.arguments == {
        "start": "Where it: starts, with a second line.",
        "end": "Where it ends.",
    }


@pytest.mark.parametrize(
    "text, summary",
    [
        (None, ""),
        ("", ""),
        ("   \n\n ", ""),
        ("도시의 날씨.", "도시의 날씨."),
        ("Args:\n    x: y", ""),
        ("Returns the sum: always.", "Returns the sum: always."),
        ("Note that it is slow.\n\nArgs:", "Note that it is slow."),
        (":param x: y", ""),
    ],
)
def test_the_summary_is_the_first_paragraph(text: str | None, summary: str) -> None:
    assert parse(text).summary == summary
