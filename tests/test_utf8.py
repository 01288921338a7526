"""Whole characters out of bytes cut anywhere."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.utf8 import Utf8, cut_off


@given(st.text(max_size=6), st.integers(0, 24))
def test_what_is_cut_off_of_a_text_is_what_is_no_whole_character(text, size):
    data = text.encode()[:size]
    whole = len(data) - cut_off(data)
    assert data[:whole].decode() == data.decode("utf-8", "ignore")


@given(st.binary(max_size=8), st.binary(max_size=4))
def test_any_bytes_read_the_same_when_they_are_parted_before_what_is_cut_off(before, after):
    at = len(before) - cut_off(before)
    parted = [before[:at], before[at:] + after]
    assert "".join(part.decode("utf-8", "replace") for part in parted) == (before + after).decode(
        "utf-8", "replace"
    )


@given(st.lists(st.binary(max_size=4), max_size=6))
def test_pieces_read_as_the_whole_does(pieces):
    decoder = Utf8()
    said = "".join(map(decoder.feed, pieces)) + decoder.flush()
    assert said == b"".join(pieces).decode("utf-8", "replace")
