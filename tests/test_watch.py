"""Spans of a token stream: what is text, thinking or a call, whatever the tokens' borders."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from fakes import byte_vocab
from hypothesis import given
from hypothesis import strategies as st

from engine.events import Control, Text, Thinking
from engine.profile import Header
from engine.utf8 import Utf8
from engine.watch import CallStart, Marker, Watch

KOREAN = "서울은 맑고 22도입니다. 👨‍👩‍👧 e\u0301"
CALL = Marker("call", "<tool_call>", None)
START = Marker("call", '{"name":', None, "start")
THINK = (Marker("think_open", "<think>", None), Marker("think_close", "</think>", None))


def pieces_of(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in pairwise(places)]


def watch_pieces(pieces: list[bytes], *markers: Marker) -> tuple[Watch, list]:
    """A watch over a vocabulary whose tokens are exactly these pieces."""
    vocab = byte_vocab()
    first = vocab.n_vocab
    object.__setattr__(vocab, "tokens", [*vocab.tokens, *pieces])
    object.__setattr__(vocab, "texts", [*vocab.texts, *map(repr, pieces)])
    kinds = np.concatenate([vocab.kinds, np.ones(len(pieces), dtype=np.uint8)])
    object.__setattr__(vocab, "kinds", kinds)
    watch = Watch(vocab, markers, {"<|im_end|>": "end of the turn"})
    return watch, list(range(first, first + len(pieces)))


def text_of(events, kind=Text) -> str:
    return "".join(event.text for event in events if isinstance(event, kind))


@given(st.lists(st.integers(0, 10_000), max_size=30))
def test_korean_and_emoji_stream_as_whole_characters_however_they_are_split(cuts):
    watch, ids = watch_pieces(pieces_of(KOREAN.encode(), cuts))
    pieces = [text_of(watch.feed(token)) for token in ids]
    assert "".join(pieces) + text_of(watch.finish()) == KOREAN
    assert not any("\ufffd" in piece for piece in pieces)


def test_a_character_that_a_limit_cut_off_is_not_said_and_one_that_the_model_left_is():
    watch, ids = watch_pieces(["날씨".encode()[:4]])
    said = text_of(watch.feed(ids[0]))
    assert said + text_of(watch.finish(is_cut=True)) == "날"
    watch, ids = watch_pieces(["날씨".encode()[:4]])
    said = text_of(watch.feed(ids[0]))
    assert said + text_of(watch.finish()) == "날\ufffd"


def test_invalid_bytes_become_replacement_characters_and_never_raise():
    decoder = Utf8()
    assert decoder.feed(b"\xec\x84") == ""
    assert decoder.feed(b"A") == "\ufffdA"
    assert decoder.feed(b"\xf0\x9f") + decoder.flush() == "\ufffd"


@given(st.lists(st.integers(0, 10_000), max_size=20))
def test_thinking_marks_in_text_split_the_stream_under_every_chunking(cuts):
    whole = "<think>생각 < 중</think>답 <thin"
    watch, ids = watch_pieces(pieces_of(whole.encode(), cuts), *THINK)
    events = [event for token in ids for event in watch.feed(token)] + watch.finish()
    assert text_of(events, Thinking) == "생각 < 중"
    assert text_of(events) == "답 <thin"


@given(st.lists(st.integers(0, 10_000), max_size=20))
def test_a_text_opener_is_found_under_every_chunking_and_its_bytes_are_not_said(cuts):
    watch, ids = watch_pieces(pieces_of(b"Hi <tool <tool_call>{", cuts), CALL)
    events = []
    for token in ids:
        start = watch.begins_call(token)
        if start is not None:
            events += watch.open_call(start)
        events += watch.feed(token)
    assert text_of(events) == "Hi <tool "
    assert watch.span == "call" and watch.finish() == []


def test_an_opener_inside_a_longer_word_of_prose_is_not_one():
    watch, ids = watch_pieces(
        [b"<function", b"ality>", b" is fine"], Marker("call", "<function=", None)
    )
    assert [watch.begins_call(token) for token in ids] == [None] * 3
    assert text_of([e for t in ids for e in watch.feed(t)]) == "<functionality> is fine"


@pytest.mark.parametrize(
    "pieces, opens_at",
    [
        ([b'{"', b"name", b'":', b' "f"'], 2),
        ([b" {\n", b' "name"', b" :"], 2),
        ([b'{"nam', b'": 1}'], None),
        ([b"Sure: ", b'{"name":'], None),
    ],
)
def test_a_start_opener_counts_only_at_the_message_start(pieces, opens_at):
    watch, ids = watch_pieces(pieces, START)
    found = None
    for index, token in enumerate(ids):
        if watch.begins_call(token) is not None:
            found = index
            break
        watch.feed(token)
    assert found == opens_at


def test_text_held_back_for_an_opener_that_never_came_is_said_at_the_end():
    watch, ids = watch_pieces([b'{"na'], START)
    assert watch.feed(ids[0]) == []
    assert text_of(watch.finish()) == '{"na'


def test_bytes_of_the_first_token_before_the_opener_are_named():
    watch, ids = watch_pieces([b"ok. <tool", b"_call>"], CALL)
    said = watch.feed(ids[0])
    assert text_of(said) == "ok. "
    assert watch.begins_call(ids[1]) == CallStart((ids[0],), b"ok. ", 4)


def test_control_tokens_are_named_and_never_part_of_the_text():
    watch, ids = watch_pieces([b"ab"])
    end = watch._vocab.find("<|im_end|>")
    events = watch.feed(ids[0]) + watch.feed(end)
    assert events == [Text("ab"), Control(end, "<|im_end|>", "end of the turn")]


def header_watch(pieces: list[bytes], *markers: Marker) -> tuple[Watch, list[int], dict[str, int]]:
    """A watch of a family with headers, whose first one is open; the ids of its control texts."""
    watch, ids = watch_pieces(pieces, *markers)
    vocab = byte_vocab(("<|start|>", "<|channel|>", "<|message|>", "<|end|>"), ends=["<|end|>"])
    spans = {"analysis": "thinking"}
    headers = (
        Header("<|start|>", "<|message|>", spans, is_open=True),
        Header("<|channel|>", "<|message|>", spans),
    )
    watch = Watch(vocab, markers, {}, span="header", headers=headers)
    return watch, ids, dict(vocab.ids)


def test_a_header_is_not_said_and_tells_what_follows():
    watch, _, ids = header_watch([])
    events = []
    for part in (
        "<|channel|>",
        "analysis",
        "<|message|>",
        "음",
        "<|end|>",
        "<|start|>",
        "assistant",
    ):
        for token in [ids[part]] if part in ids else list(part.encode()):
            events += watch.feed(token)
    assert watch.span == "header"
    for part in ("<|channel|>", "final", "<|message|>", "답"):
        for token in [ids[part]] if part in ids else list(part.encode()):
            events += watch.feed(token)
    assert text_of(events, Thinking) == "음"
    assert text_of(events) == "답"


def test_an_opener_in_a_header_is_one_only_there():
    marker = Marker("call", " to=functions.", None, "header")
    watch, _, ids = header_watch([], marker)
    for token in [ids["<|channel|>"], *b"final", ids["<|message|>"], *b"mail to=functions"]:
        assert watch.begins_call(token) is None
        watch.feed(token)
    assert watch.begins_call(ord(".")) is None
    watch, _, ids = header_watch([], marker)
    for token in [ids["<|channel|>"], *b"commentary to=functions"]:
        assert watch.begins_call(token) is None
        watch.feed(token)
    start = watch.begins_call(ord("."))
    assert start is not None and len(start.held) == len(" to=functions")


def test_a_start_opener_counts_behind_the_thinking_too():
    watch, ids = watch_pieces(
        [b"<think>", b"x", b"</think>", b"\n\n", b'{"name', b'":'], START, *THINK
    )
    for token in ids[:-1]:
        assert watch.begins_call(token) is None
        watch.feed(token)
    assert watch.begins_call(ids[-1]) is not None
