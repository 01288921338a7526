"""The token stream and the cache hold the same, and nothing is computed twice."""

from __future__ import annotations

import pytest
from fakes import ScriptedBackend
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import Cancelled, ContextFull, UsageError
from engine.sequence import Sequence


@pytest.fixture
def backend() -> ScriptedBackend:
    return ScriptedBackend(300, n_ctx=100, n_batch=8)


def test_append_computes_in_chunks_and_reports_each(backend):
    sequence, seen = Sequence(backend), []
    sequence.append(
        range(20), "template", on_progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(8, 20), (16, 20), (20, 20)]
    assert backend.cells[0] == list(range(20))
    assert sequence.ids == tuple(range(20))
    assert set(sequence.origins) == {"template"}


def test_pushed_tokens_are_computed_only_when_logits_are_wanted(backend):
    sequence = Sequence(backend)
    backend.say([9])
    sequence.append([1, 2], "content")
    sequence.push(3, "sampled")
    assert backend.cells[0] == [1, 2]
    sequence.logits()
    assert backend.cells[0] == [1, 2, 3]
    assert sequence.origins == ("content", "content", "sampled")


def test_a_prompt_that_does_not_fit_changes_nothing_and_names_the_numbers(backend):
    sequence = Sequence(backend)
    sequence.append([1] * 90, "template")
    with pytest.raises(ContextFull, match="90 tokens .* 11 more do not fit in 100") as caught:
        sequence.append([2] * 11, "content")
    assert (caught.value.need, caught.value.n_ctx) == (101, 100)
    assert len(sequence) == 90 == len(backend.cells[0])


def test_cancel_keeps_finished_chunks_and_the_next_call_goes_on_behind_them(backend):
    sequence, asked = Sequence(backend), iter([False, False, True])
    with pytest.raises(Cancelled):
        sequence.append(range(20), "template", cancelled=lambda: next(asked))
    assert backend.cells[0] == list(range(8))
    sequence.compute()
    assert backend.cells[0] == list(range(20))
    assert sequence.counts.computed == 20


def test_logits_after_a_rewind_belong_to_the_new_last_token(backend):
    sequence = Sequence(backend)
    backend.say([7, 8])
    sequence.append([1, 2, 3], "content")
    sequence.logits()
    sequence.rewind(1)
    backend.computed.clear()
    sequence.logits()
    assert backend.computed == [(1, 2)]


def test_rewind_then_other_tokens_is_not_counted_as_computed_again(backend):
    sequence = Sequence(backend)
    sequence.append([1, 2, 3, 4], "content")
    sequence.rewind(2)
    sequence.append([9, 4], "content")
    assert sequence.counts.again == 0
    sequence.rewind(2)
    sequence.append([9, 5], "content")
    assert sequence.counts.again == 1


def test_keep_prefix_reuses_the_longest_common_prefix(backend):
    sequence = Sequence(backend)
    sequence.append([1, 2, 3, 4], "content")
    assert sequence.match_prefix([1, 2, 9]) == 2
    assert sequence.keep_prefix([1, 2, 9]) == 2
    assert sequence.ids == (1, 2)


def test_a_wholly_contained_prompt_computes_its_last_token_for_the_logits(backend):
    sequence = Sequence(backend)
    sequence.append([1, 2, 3], "content")
    assert sequence.keep_prefix([1, 2]) == 1


def test_fork_shares_the_past_and_not_the_future(backend):
    sequence = Sequence(backend)
    sequence.append([1, 2, 3], "content")
    twin = sequence.fork(1)
    twin.append([4], "sampled")
    sequence.append([5], "sampled")
    assert (sequence.ids, twin.ids) == ((1, 2, 3, 5), (1, 2, 3, 4))
    assert backend.cells[0][-1] == 5 and backend.cells[1][-1] == 4
    with pytest.raises(UsageError, match="slot 0 is not free"):
        sequence.fork(0)


def test_save_and_load_restore_ids_and_cache(backend):
    sequence = Sequence(backend)
    sequence.append([1, 2, 3], "content")
    state, ids, origins = sequence.save(), sequence.ids, sequence.origins
    sequence.append([4], "content")
    sequence.load(state, ids, origins)
    assert sequence.ids == (1, 2, 3) and backend.cells[0] == [1, 2, 3]


@given(
    st.lists(st.one_of(st.integers(0, 6), st.lists(st.integers(0, 3), max_size=20)), max_size=30)
)
def test_the_cache_always_mirrors_the_computed_tokens(actions):
    backend = ScriptedBackend(10, n_ctx=60, n_batch=7)
    sequence, expected = Sequence(backend), []
    for action in actions:
        if isinstance(action, int):
            count = min(action, len(expected))
            sequence.rewind(count)
            expected = expected[: len(expected) - count]
        elif len(expected) + len(action) <= 60:
            sequence.append(action, "content")
            expected = expected + action
        assert list(sequence.ids) == expected
        assert backend.cells[0] == expected
    lost = len(backend.computed) - sequence.counts.computed
    assert lost == 0
