"""What tools return, as JSON: every value, bounded, and safe to show to a model."""

from __future__ import annotations

import dataclasses
import enum
import json
import pathlib
from collections import namedtuple
from datetime import date
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from engine.tools.result import MAX_DEPTH, clean, content_of


@dataclasses.dataclass
class Point:
    x: int
    y: float


class Model(BaseModel):
    city: str
    when: date


class Colour(enum.Enum):
    RED = "red"


Pair = namedtuple("Pair", "left right")


class Broken:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class BrokenMapping(dict):  # type: ignore[type-arg]
    def items(self) -> Any:
        raise OSError("no items")


@pytest.mark.parametrize(
    "value, content",
    [
        (None, None),
        (True, True),
        (5, 5),
        (2.5, 2.5),
        ("글", "글"),
        ([1, "a", None], [1, "a", None]),
        ((1, 2), [1, 2]),
        ({3, 1, 2}, [1, 2, 3]),
        ({"a": {"b": []}}, {"a": {"b": []}}),
        ({1: "a", None: "b"}, {"1": "a", "null": "b"}),
        ({True: 1, 2.5: 2, Colour.RED: 3}, {"true": 1, "2.5": 2, "red": 3}),
        ({(1, 2): 3}, {"(1, 2)": 3}),
        (Point(1, 2.0), {"x": 1, "y": 2.0}),
        ([Model(city="부산", when=date(2024, 2, 3))], [{"city": "부산", "when": "2024-02-03"}]),
        (Colour.RED, "red"),
        (Pair(1, 2), {"left": 1, "right": 2}),
        (b"caf\xc3\xa9 \xff", "café \ufffd"),
        (memoryview(b"abcd")[::2], "ac"),
        (Decimal("1.10"), "1.10"),
        (date(2024, 1, 2), "2024-01-02"),
        (pathlib.PurePosixPath("/a/b"), "/a/b"),
        (range(3), [0, 1, 2]),
        (np.arange(3), [0, 1, 2]),
        (np.float32(0.5), 0.5),
        (np.int64(7), 7),
        (float("nan"), "nan"),
        ([float("inf"), -float("inf")], ["inf", "-inf"]),
        (object(), "<object object>"),
        (Broken(), "<Broken, whose repr raised RuntimeError>"),
        (BrokenMapping(a=1), "{'a': 1}"),
        (10**5000, "<an integer of 16610 bits>"),
        (Point, f"<class '{__name__}.Point'>"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_any_value_becomes_json(value: Any, content: Any) -> None:
    found = content_of(value, 100_000)
    assert found == content and type(found) is type(content)
    json.dumps(found, allow_nan=False)


def test_cycles_are_named_and_shared_parts_are_not_cycles() -> None:
    cyclic: list[Any] = [1]
    cyclic.append({"again": cyclic})
    assert content_of(cyclic, 1000) == [1, {"again": "<cycle: this list again>"}]
    shared = [1]
    assert content_of([shared, shared], 1000) == [[1], [1]]


def test_depth_is_bounded() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    content = content_of(deep, 10_000)
    depth = 0
    while isinstance(content, list):
        content, depth = content[0], depth + 1
    assert depth == MAX_DEPTH and isinstance(content, str)
    while deep:  # or the interpreter recurses when it frees the list
        deep = deep[0]


@given(st.text(alphabet=st.characters(codec=None)) | st.binary(max_size=200))
def test_no_text_reaches_a_model_with_controls_or_surrogates(value: str | bytes) -> None:
    for content in (content_of(value, 10_000), content_of([value], 10_000)):
        text = content if isinstance(content, str) else content[0]  # type: ignore[index]
        assert isinstance(text, str)
        text.encode("utf-8")
        assert not [c for c in text if (ord(c) < 32 and c not in "\t\n\r") or 127 <= ord(c) < 160]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs", "Cc"])),
    lambda inner: st.lists(inner) | st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs", "Cc"])), inner),
)  # fmt: skip


@given(json_values)
def test_json_values_come_through_unchanged(value: Any) -> None:
    assert content_of(value, 1_000_000) == value


def test_clean_text_is_untouched_but_for_what_terminals_obey() -> None:
    assert clean("a\tb\r\n글 👩‍👩‍👧 <|eot_id|>") == "a\tb\r\n글 👩‍👩‍👧 <|eot_id|>"
    assert clean("\x1b[31mred\x9b0m\x00\ud83d") == "\ufffd[31mred\ufffd0m\ufffd\ufffd"


@given(st.text(max_size=3000), st.integers(256, 600))
def test_long_text_keeps_head_and_tail_within_the_cap(text: str, limit: int) -> None:
    full = clean(text)
    content = content_of(text, limit)
    assert isinstance(content, str)
    size = len(full.encode())
    if size <= limit:
        assert content == full
        return
    assert len(content.encode()) <= limit
    head, rest = content.split("\n[... truncated, ", 1)
    count, tail = rest.split(" bytes ...]\n", 1)
    assert full.startswith(head) and full.endswith(tail) and int(count) == size
    assert len((head + tail).encode()) >= limit - 60


def test_a_hundred_megabytes_are_cut_without_a_second_copy() -> None:
    import tracemalloc

    text = "가나다라" * (25 * 1024 * 1024 // 3)
    tracemalloc.start()
    content = content_of(text, 64 * 1024)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(content, str) and len(content.encode()) <= 64 * 1024
    assert peak < 4 * 1024 * 1024


def test_a_value_too_long_to_walk_is_left_before_its_end() -> None:
    content = content_of(range(10**12), 1000)
    assert isinstance(content, str) and "truncated, over " in content
