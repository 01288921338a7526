"""The compiled core against slow truths: Python loops for the trie, numpy for logits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine import _native
from engine._native import Needle, Status, TokenTrie

# Few bytes and short tokens, so that prefixes, duplicates and borders meet often.
VOCABS = st.lists(st.binary(max_size=5).map(lambda b: bytes(x % 3 + 97 for x in b)), max_size=60)
TEXTS = st.binary(max_size=8).map(lambda b: bytes(x % 3 + 97 for x in b))


def trie_of(tokens: Sequence[bytes]) -> TokenTrie:
    offsets = np.zeros(len(tokens) + 1, np.uint64)
    np.cumsum([len(token) for token in tokens], out=offsets[1:])
    return TokenTrie(b"".join(tokens), offsets)


def mask_for(n_vocab: int, fill: int = 0) -> NDArray[np.uint32]:
    return np.full(_native.mask_words(n_vocab), fill, np.uint32)


def mask_of(ids: Sequence[int], n_vocab: int) -> NDArray[np.uint32]:
    mask = mask_for(n_vocab)
    for token in ids:
        mask[token // 32] |= np.uint32(1 << token % 32)
    return mask


def ids_in(mask: NDArray[np.uint32]) -> list[int]:
    return np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little")).tolist()


# --- the trie ------------------------------------------------------------------------------------


@given(VOCABS)
def test_every_token_is_found_by_its_bytes_and_by_no_others(tokens: list[bytes]) -> None:
    trie = trie_of(tokens)
    for data in set(tokens):
        want = [i for i, token in enumerate(tokens) if token == data and data]
        assert trie.ids_of(data).tolist() == want
    prefixes = {token[:n] for token in tokens for n in range(1, len(token) + 1)}
    assert trie.n_nodes == len(prefixes)
    assert trie.n_vocab == len(tokens)
    assert trie.ids_of(b"\xff").tolist() == []


@given(VOCABS, TEXTS)
def test_the_mask_of_a_prefix_holds_exactly_the_tokens_that_begin_with_it(
    tokens: list[bytes], prefix: bytes
) -> None:
    mask = mask_for(len(tokens), 0xFFFFFFFF)  # what was there must not stay
    count = trie_of(tokens).mask_of_prefix(prefix, mask)
    want = [i for i, token in enumerate(tokens) if token and token.startswith(prefix)]
    assert ids_in(mask) == want
    assert count == len(want)


def test_nodes_with_many_nodes_below_find_their_children_and_no_others() -> None:
    """They are looked up in a table; those with few are compared one by one."""
    tokens = [bytes([x, y]) for x in range(40) for y in range(0, 2 * x, 2)]
    tokens += [bytes([x, y, x ^ y]) for x in range(30, 40) for y in range(1, 2 * x, 3)]
    trie = trie_of(tokens)
    for x in range(40):
        for y in range(256):
            mask = mask_for(len(tokens))
            trie.mask_of_prefix(bytes([x, y]), mask)
            want = [i for i, token in enumerate(tokens) if token[:2] == bytes([x, y])]
            assert ids_in(mask) == want


@given(VOCABS, TEXTS)
def test_the_longest_match_is_the_longest_and_the_lowest_id(
    tokens: list[bytes], text: bytes
) -> None:
    matches = [(len(t), -i) for i, t in enumerate(tokens) if t and text.startswith(t)]
    length, minus_id = max(matches, default=(0, 1))
    assert trie_of(tokens).longest_match(text) == (-minus_id, length)


@given(VOCABS, TEXTS.filter(bool), TEXTS)
def test_tokens_containing_are_those_that_complete_the_needle(
    tokens: list[bytes], needle_text: bytes, before: bytes
) -> None:
    needle = Needle(needle_text)
    # Text that ends in the middle of the needle, never after it.
    if needle_text in before:
        before = before[: before.find(needle_text) + len(needle_text) - 1]
    state = needle.advance(0, before)
    mask = mask_for(len(tokens), 0xFFFFFFFF)
    count = trie_of(tokens).tokens_containing(needle, state, mask)
    want = [i for i, token in enumerate(tokens) if token and needle_text in before + token]
    assert ids_in(mask) == want
    assert count == len(want)


@given(TEXTS.filter(bool), st.lists(TEXTS))
def test_a_needle_is_found_however_the_stream_is_cut(text: bytes, pieces: list[bytes]) -> None:
    needle, state, stream = Needle(text), 0, b""
    for piece in pieces:
        state = needle.advance(state, piece)
        stream += piece
        if text in stream:
            assert state == len(needle)
        else:
            assert stream.endswith(text[:state])
            longer = range(state + 1, len(text))
            assert not any(stream.endswith(text[:n]) for n in longer)


@pytest.mark.parametrize(
    "data, offsets",
    [
        (b"abc", [0, 1]),  # bytes that belong to no token
        (b"abc", [0, 4]),  # beyond the end
        (b"abc", [1, 3]),
        (b"abc", [0, 2, 1, 3]),
        (b"", []),
    ],
)
def test_offsets_that_do_not_fit_the_bytes_are_refused(data: bytes, offsets: list[int]) -> None:
    with pytest.raises(ValueError, match="offsets must rise"):
        TokenTrie(data, np.array(offsets, np.uint64))


def test_a_mask_of_another_size_or_type_is_refused_and_not_copied() -> None:
    trie = trie_of([b"a"] * 33)
    with pytest.raises(ValueError, match="33 tokens has 2 words, this one has 1"):
        trie.mask_of_prefix(b"a", np.zeros(1, np.uint32))
    for wrong in (np.zeros(2, np.int64), np.zeros(2, np.float64), np.zeros(4, np.uint32)[::2]):
        with pytest.raises(TypeError):
            trie.mask_of_prefix(b"a", wrong)
    frozen = np.zeros(2, np.uint32)
    frozen.flags.writeable = False
    with pytest.raises(TypeError):
        trie.mask_of_prefix(b"a", frozen)


def test_an_empty_needle_and_a_state_beyond_the_needle_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one byte"):
        Needle(b"")
    with pytest.raises(ValueError, match="beyond"):
        Needle(b"ab").advance(3, b"")
    with pytest.raises(ValueError, match="already complete"):
        trie_of([b"a"]).tokens_containing(Needle(b"ab"), 2, mask_for(1))


def test_the_real_vocabulary_goes_in_and_comes_out_whole(shared_data: Path) -> None:
    from engine.gguf import read_header
    from engine.vocab import Vocab

    tokens = list(Vocab.from_header(read_header(shared_data / "vocab" / "llama-3.1.gguf")).tokens)
    trie = trie_of(tokens)
    by_bytes: dict[bytes, list[int]] = {}
    for i, token in enumerate(tokens):
        by_bytes.setdefault(token, []).append(i)
    assert trie.n_vocab == 128_256
    assert all(trie.ids_of(data).tolist() == ids for data, ids in by_bytes.items() if data)
    assert trie.memory_bytes < 10_000_000

    mask = mask_for(len(tokens))
    needle = Needle(b"<|eot_id|>")
    for before in (b"", b"<|", b"<|eot_id", b"x<|eot_id|"):
        trie.tokens_containing(needle, needle.advance(0, before), mask)
        want = [i for i, token in enumerate(tokens) if needle.text in before + token]
        assert ids_in(mask) == want


# --- logits --------------------------------------------------------------------------------------

# Few different values, so that ties are common; sizes around the 32 and 2,048 of the kernels.
LOGITS = st.sampled_from([-math.inf, -80.0, -2.0, -1.0, 0.0, 0.5, 1.0, 30.0])
SIZES = st.one_of(st.integers(1, 100), st.sampled_from([2047, 2048, 2049, 4100]))


@st.composite
def scores(draw: st.DrawFn) -> tuple[NDArray[np.float32], NDArray[np.uint32] | None]:
    size, seed = draw(SIZES), draw(st.integers(0, 2**32))
    rng = np.random.default_rng(seed)
    values = np.array(draw(st.lists(LOGITS, min_size=1, max_size=6)), np.float32)
    logits = rng.choice(values, size)
    density = draw(st.sampled_from([None, 0.0, 0.01, 0.5, 1.0]))
    if density is None:
        return logits, None
    return logits, mask_of(np.flatnonzero(rng.random(size) < density).tolist(), size)


def allowed(logits: NDArray[np.float32], mask: NDArray[np.uint32] | None) -> list[int]:
    candidates = range(len(logits)) if mask is None else ids_in(mask)
    return [i for i in candidates if logits[i] > -math.inf]


@given(scores())
def test_argmax_is_the_lowest_of_the_best_allowed(case) -> None:  # type: ignore[no-untyped-def]
    logits, mask = case
    want = max(allowed(logits, mask), key=lambda i: (logits[i], -i), default=-1)
    got, status = _native.argmax(logits, mask)
    assert got == want
    assert status == (Status.none if want == -1 else Status.ok)


@given(scores(), st.integers(0, 400))
def test_top_k_is_the_head_of_the_sorted_vocabulary(case, k: int) -> None:  # type: ignore[no-untyped-def]
    logits, mask = case
    want = sorted(allowed(logits, mask), key=lambda i: (-logits[i], i))[:k]
    ids, values = _native.top_k(logits, k, mask)
    assert ids.tolist() == want
    assert values.tolist() == logits[want].tolist()


@given(scores())
def test_gather_gives_every_allowed_token_in_order(case) -> None:  # type: ignore[no-untyped-def]
    logits, mask = case
    ids, values = _native.gather(logits, mask)
    assert ids.tolist() == allowed(logits, mask)
    assert values.tolist() == logits[ids].tolist()


@given(scores())
def test_log_sum_exp_makes_probabilities_that_add_up_to_one(case) -> None:  # type: ignore[no-untyped-def]
    logits, mask = case
    total, status = _native.log_sum_exp(logits, mask)
    ids = allowed(logits, mask)
    if not ids:
        assert (total, status) == (-math.inf, Status.none)
        return
    assert status == Status.ok
    assert np.exp(logits[ids].astype(np.float64) - total).sum() == pytest.approx(1, abs=1e-5)


@settings(max_examples=20)
@given(st.integers(1, 5000), st.integers(0, 2**32))
def test_top_k_agrees_with_a_sort_on_untied_logits(size: int, seed: int) -> None:
    logits = np.random.default_rng(seed).normal(0, 5, size).astype(np.float32)
    want = np.argsort(-logits, kind="stable")
    for k in (1, 40, size // 2, size + 1):
        assert _native.top_k(logits, k)[0].tolist() == want[:k].tolist()


@pytest.mark.parametrize("place", [0, 31, 32, 2047, 2048, 4099])
@pytest.mark.parametrize("bad", [math.nan, -math.nan, math.inf])
def test_numbers_that_are_none_are_reported_where_allowed_and_only_there(
    place: int, bad: float
) -> None:
    logits = np.zeros(4100, np.float32)
    logits[place] = bad
    assert _native.argmax(logits) == (-1, Status.nan)
    assert _native.log_sum_exp(logits)[1] == Status.nan
    assert _native.Sampler(1).sample(logits) == (-1, Status.nan)

    others = mask_for(4100, 0xFFFFFFFF)
    others[place // 32] &= ~np.uint32(1 << place % 32)
    first = 1 if place == 0 else 0
    assert _native.argmax(logits, others) == (first, Status.ok)
    assert _native.log_sum_exp(logits, others)[0] == pytest.approx(math.log(4099), abs=1e-6)
    assert _native.Sampler(1).sample(logits, others)[1] == Status.ok


def test_bits_beyond_the_vocabulary_are_ignored() -> None:
    logits = np.arange(33, dtype=np.float32)
    mask = mask_for(33, 0xFFFFFFFF)
    assert _native.count_allowed(mask, 33) == 33
    assert _native.argmax(logits, mask) == (32, Status.ok)
    assert _native.gather(logits, mask)[0].tolist() == list(range(33))


@pytest.mark.parametrize("wrong", [np.ones(40, np.bool_), np.ones(2, np.int32)])
def test_a_mask_that_is_no_bit_mask_is_refused(wrong: NDArray[np.generic]) -> None:
    with pytest.raises(TypeError):
        _native.argmax(np.zeros(40, np.float32), wrong)  # type: ignore[arg-type]


def test_a_mask_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(ValueError, match="40 tokens has 2 words, this one has 3"):
        _native.argmax(np.zeros(40, np.float32), np.ones(3, np.uint32))
