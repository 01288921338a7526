"""docs/faults.md: every test that it names is there; and the endless loops of row T11, exactly."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from fakes import scripted_model

import engine
from engine.chat import ChatOptions
from engine.events import Finish, ToolResult

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
FAULTS = PAGE.partition("## How long it takes")[0]
ROWS = [line for line in FAULTS.splitlines() if line.startswith("|")][2:]
TESTS = {
    name
    for path in (ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"(?m)^(?:async )?def (test_\w+)\(", path.read_text(encoding="utf-8"))
}


@pytest.mark.parametrize("row", ROWS, ids=[row[:60] for row in ROWS])
def test_each_row_names_tests_that_exist_or_says_that_there_are_none(row: str) -> None:
    named = row.rstrip("| ").rpartition("|")[2].strip()
    found = re.findall(r"`(\w+)`", named)
    assert found or named.startswith("none")
    assert set(found) <= TESTS


@pytest.mark.parametrize(
    "row",
    [f"S{n}" for n in range(1, 10)]
    + [f"T{n}" for n in range(1, 12)]
    + [f"M{n}" for n in range(1, 7)]
    + ["K1", "K2", "K3"],
)
def test_each_fault_has_a_row(row: str) -> None:
    assert any(line.startswith((f"| {row} ", f"| {row}-")) for line in ROWS)


def test_the_times_in_the_page_are_those_of_the_committed_run() -> None:
    run = json.loads((ROOT / "bench" / "results" / "interrupts.json").read_text(encoding="utf-8"))
    for stage, times in run["stages"].items():
        assert f"| {stage} | {times['p50_ms']:.0f} ms | {times['p99_ms']:.0f} ms |" in PAGE
    for stage, goal in run["goals_ms"].items():
        assert run["stages"][stage]["p99_ms"] <= goal


def test_a_model_that_only_calls_is_stopped_after_ten_steps() -> None:
    model = scripted_model(family="hermes")
    for n in range(11):  # another argument each time: none is a repetition
        call = json.dumps({"name": "double", "arguments": {"n": n}})
        ids = model.encode(f"<tool_call>\n{call}\n</tool_call>")
        model.backend.say([*ids, model.vocab.find("<|im_end|>")])

    def double(n: int) -> int:
        """Twice a number."""
        return 2 * n

    assert ChatOptions().max_steps == 10
    with model.chat(tools=[double], sampling=engine.Sampling(temperature=0)) as chat:
        events = list(chat.stream("?"))
    last = events[-1]
    assert isinstance(last, Finish) and last.reason == "step_limit" and "10 steps" in last.message
    results = [event.content for event in events if isinstance(event, ToolResult)]
    assert results == [2 * n for n in range(10)]
