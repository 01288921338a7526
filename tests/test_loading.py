"""How a model is to be loaded, and what C may ask meanwhile."""

from __future__ import annotations

import pytest

from engine.errors import UsageError
from engine.loading import LoadOptions
from engine.question import Question


@pytest.mark.parametrize(
    "options, reason",
    [
        ({"n_ctx": -1}, "n_ctx is between 0 and 16777216, not -1"),
        ({"n_ctx": 2**24 + 1}, "n_ctx is between"),
        ({"threads": 513}, "threads is between 0 and 512"),
        ({"n_seq": 0}, "n_seq is between 1 and 64"),
        ({"gpu_layers": "most"}, "a number or 'all', not 'most'"),
        ({"flash_attention": "yes"}, "one of auto, on, off, not 'yes'"),
    ],
)
def test_numbers_that_llama_cpp_would_wrap_around_or_abort_on_are_refused(options, reason):
    with pytest.raises(UsageError, match=reason):
        LoadOptions(**options).checked()


@pytest.mark.parametrize("options", [{}, {"n_ctx": 2**24, "threads": 512, "n_seq": 64}])
def test_options_within_the_limits_are_taken_as_they_are(options):
    assert LoadOptions(**options).checked() == LoadOptions(**options)


def test_what_a_question_raises_stops_c_and_comes_out_when_it_is_settled():
    asked = []

    def ask(value: int) -> bool:
        asked.append(value)
        raise KeyboardInterrupt

    question = Question(ask)
    assert question.says_stop(1) and question.says_stop(2)
    assert asked == [1]
    with pytest.raises(KeyboardInterrupt):
        question.settle()


def test_a_question_that_was_answered_with_stop_is_not_asked_again():
    answers = iter([False, True])
    question = Question(lambda _: next(answers))
    assert [question.says_stop(None) for _ in range(4)] == [False, True, True, True]
    question.settle()
