"""Many texts in bytes, looked for at once: as looking for each of them by itself would have it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.needles import Needles, needles

BYTES = st.lists(st.sampled_from([b"<", b"a", b"]", b"^", b"\xec"]), max_size=8).map(b"".join)
TEXTS = st.lists(BYTES.filter(bool), max_size=6).map(tuple)


@given(TEXTS, BYTES, st.integers(0, 8))
def test_the_first_place_is_found_and_the_text_given_first_wins_there(texts, data, begin):
    begin = min(begin, len(data))
    each = ((data.find(text, begin), index) for index, text in enumerate(texts))
    expected = min((found for found in each if found[0] >= 0), default=None)
    assert Needles(texts).find(data, begin) == expected


@given(TEXTS, BYTES)
def test_the_text_that_data_begins_with_is_the_first_of_those(texts, data):
    expected = next((i for i, text in enumerate(texts) if data.startswith(text)), None)
    assert Needles(texts).which(data) == expected


@given(TEXTS, BYTES)
def test_data_is_a_beginning_where_a_text_begins_with_it(texts, data):
    assert Needles(texts).is_beginning(data) == any(text.startswith(data) for text in texts)


@given(TEXTS, BYTES)
def test_what_is_held_is_the_longest_end_that_may_become_a_text(texts, data):
    longest = max(map(len, texts), default=1)
    sizes = range(min(longest - 1, len(data)), 0, -1)
    ends = (size for size in sizes if any(text.startswith(data[-size:]) for text in texts))
    assert Needles(texts).held(data) == next(ends, 0)


@pytest.mark.parametrize("texts", [(), (b"<tool_call>", b"<tool_call>")])
def test_the_same_texts_are_made_ready_once(texts):
    assert needles(texts) is needles(tuple(texts))
