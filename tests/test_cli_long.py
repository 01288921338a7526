"""What the command line shows of long runs: steps, time saved, and the options that ask for it."""

from __future__ import annotations

import io

import pytest

from engine.cli.console import Console
from engine.cli.draw import ScreenDrawer
from engine.cli.jsonl import event_record
from engine.events import Event, Notice, Step, Text, Usage
from tests.test_cli_run import engine

COUNTS = Usage(prompt_tokens=10, kv_reused=8, prefilled=2, completion_tokens=5, kv_restored=6)


def drawn(*events: Event, verbose: bool = False) -> str:
    """What goes to stderr."""
    console = Console(io.StringIO(), io.StringIO())
    drawer = ScreenDrawer(console, verbose=verbose)
    for event in events:
        drawer.draw(event)
    assert isinstance(console.err, io.StringIO)
    return console.err.getvalue()


def test_a_step_s_counts_show_only_with_verbose() -> None:
    assert drawn(Text("a"), Step(2, COUNTS)) == ""
    line = "[step 2: 5 tokens, 0.0/s | prefill 2 tokens, 0/s | KV reused 80% of 10 | 6 from disk]"
    assert line in drawn(Text("a"), Step(2, COUNTS), verbose=True)


def test_a_step_is_a_record_with_all_its_counts() -> None:
    record = event_record(Step(2, COUNTS))
    assert (record["type"], record["number"]) == ("step", 2)
    assert record["usage"]["kv_restored"] == 6 and record["usage"]["reuse_ratio"] == 0.8


def test_good_news_looks_like_no_warning() -> None:
    assert drawn(Notice("time saved", is_warning=False)) == "time saved\n"
    assert drawn(Notice("a tool is left out")) == "! a tool is left out\n"


@pytest.mark.parametrize("how", ["results", "turns", "both"])
def test_how_room_is_made_reaches_the_chat(how: str) -> None:
    assert (
        f"('compaction', Compaction(how={how!r},"
        in engine("run", "x", "settings", "--compact", how).stdout
    )


def test_room_is_made_and_prefixes_are_kept_only_when_asked_for() -> None:
    assert "('compaction', None)" in engine("run", "x", "settings").stdout
    done = engine("run", "x", "settings", "--compact", "everything")
    assert done.returncode == 2 and "results" in done.stderr
