"""Compaction with real weights: a chat goes on far beyond its context, and its counts are true."""

from __future__ import annotations

import pytest

import engine
from engine import _native
from engine.events import Finish, Notice, ToolCall, ToolResult

pytestmark = pytest.mark.live
GREEDY = engine.Sampling(temperature=0)


def read_page(number: int) -> str:
    """Read a page of the book."""
    return f"Page {number}: " + "the sea was calm and the ship went on. " * 12


@pytest.mark.parametrize("how, rounds", [("results", 7), ("turns", 40), ("both", 40)])
def test_a_long_run_stays_within_the_context_and_its_counts_are_true(how, rounds, tiny_path):
    with (
        engine.load(tiny_path, n_ctx=1024, threads=1) as model,
        model.chat(
            "Read pages.",
            [read_page],
            sampling=GREEDY,
            tool_choice="required",
            max_steps=1,
            compaction=how,
        ) as chat,
    ):
        total, notices, results = 0, [], []
        for number in range(rounds):
            again = chat.sequence.counts
            events = list(chat.stream(f"Read page {number}.", max_tokens=48))
            finish = next(event for event in events if isinstance(event, Finish))
            assert finish.reason in ("step_limit", "end_turn"), finish
            usage = finish.usage
            assert usage.prompt_tokens == usage.kv_reused + usage.prefilled
            assert usage.prefilled_again == chat.sequence.counts.again - again.again == 0
            notices += [event for event in events if isinstance(event, Notice)]
            results += [event for event in events if isinstance(event, ToolResult)]
            assert any(isinstance(event, ToolCall) for event in events)
            total += usage.prefilled + usage.completion_tokens
        assert total > rounds / 10 * model.n_ctx and len(chat.sequence) <= model.n_ctx
        assert len(notices) >= rounds / 10 and len(results) == rounds
        for notice in notices:
            data = notice.data
            assert data["tokens_after"] < data["tokens_before"]
            assert how == "both" or bool(data["results"]) == (how == "results")
        # What the cache holds behind all the edits gives the same as computing it anew.
        ids, ours = chat.sequence.ids, _native.argmax(chat.sequence.logits())[0]
        chat.sequence.clear()
        chat.sequence.append(ids, "template")
        assert _native.argmax(chat.sequence.logits())[0] == ours
