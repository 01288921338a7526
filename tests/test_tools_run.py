"""Running tool calls: order, errors, limits, progress."""

from __future__ import annotations

import asyncio
import json
import os
import pathlib
import sys
import threading
import time
from typing import Any

import pytest

from engine.events import ToolProgress, ToolResult
from engine.messages import Call
from engine.tools import Tool, as_tool, run_calls, tool, tools_by_name


def run(*functions: Any, calls: list[tuple[str, dict[str, Any]]], **options: Any) -> list[Any]:
    tools = tools_by_name(functions)
    made = [Call(f"c{index}", name, given) for index, (name, given) in enumerate(calls)]
    return list(run_calls(made, tools, **options))


def result_of(function: Any, **arguments: Any) -> ToolResult:
    name = as_tool(function).name
    return run(function, calls=[(name, arguments)])[-1]


def error_of(result: ToolResult) -> dict[str, str]:
    assert result.is_error
    assert isinstance(result.content, dict)
    error = result.content["error"]
    assert isinstance(error, dict) and set(error) == {"type", "message"}
    assert len(error["message"]) <= 500
    return error


# --- order and concurrency


def test_results_come_in_call_order_whatever_finishes_first() -> None:
    second_is_done = threading.Event()

    def slow() -> str:
        assert second_is_done.wait(10)
        return "slow"

    def fast() -> str:
        second_is_done.set()
        return "fast"

    results = run(slow, fast, calls=[("slow", {}), ("fast", {})])
    assert [(r.id, r.content) for r in results] == [("c0", "slow"), ("c1", "fast")]


def test_calls_run_side_by_side() -> None:
    barrier = threading.Barrier(5, timeout=10)

    def meet() -> int:
        return barrier.wait()

    results = run(meet, calls=[("meet", {})] * 5)
    assert sorted(r.content for r in results) == [0, 1, 2, 3, 4]


def test_more_calls_than_threads_all_get_their_own_answer() -> None:
    def double(n: int) -> int:
        return 2 * n

    results = run(double, calls=[("double", {"n": n}) for n in range(100)])
    assert [r.content for r in results] == [2 * n for n in range(100)]


def test_one_failing_call_leaves_the_others_alone() -> None:
    def good(n: int) -> int:
        return n

    def bad() -> None:
        raise KeyError("gone")

    results = run(good, bad, calls=[("good", {"n": 1}), ("bad", {}), ("good", {"n": 2})])
    assert [r.is_error for r in results] == [False, True, False]
    assert [r.content for r in results][::2] == [1, 2]


def test_no_calls_give_no_results() -> None:
    assert run(calls=[]) == []


def test_async_tools_run_and_context_variables_reach_them() -> None:
    import contextvars

    user = contextvars.ContextVar("user", default="nobody")
    user.set("somebody")

    async def whoami() -> str:
        await asyncio.sleep(0)
        return user.get()

    assert result_of(whoami).content == "somebody"


# --- errors


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    "raised, kind",
    [
        (ValueError("bad value"), "ValueError"),
        (ValueError("x" * 100_000), "ValueError"),
        (ValueError("\x1b[31m\x00\ud800"), "ValueError"),
        (SystemExit(3), "SystemExit"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (asyncio.CancelledError(), "CancelledError"),
        (GeneratorExit(), "GeneratorExit"),
        (StopIteration(1), "StopIteration"),
        (MemoryError(), "MemoryError"),
        (Unprintable(), "Unprintable"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else value,
)
def test_whatever_a_tool_raises_becomes_its_result(raised: BaseException, kind: str) -> None:
    def fail() -> None:
        raise raised

    error = error_of(result_of(fail))
    assert error["type"] == kind
    assert json.dumps(error, ensure_ascii=False).encode() and "\x1b" not in error["message"]


def test_endless_recursion_in_a_tool_is_an_error_result() -> None:
    def dive(n: int) -> int:
        return dive(n + 1)

    assert error_of(result_of(dive, n=0))["type"] == "RecursionError"


def test_unknown_tool_lists_the_tools_there_are() -> None:
    def get_weather() -> None: ...
    def get_time() -> None: ...

    [result] = run(get_weather, get_time, calls=[("get_wether", {})])
    error = error_of(result)
    assert error["type"] == "UnknownTool"
    assert "did you mean 'get_weather'" in error["message"]
    assert "get_weather, get_time" in error["message"]


def test_invalid_arguments_name_each_argument_and_do_not_run_the_tool() -> None:
    ran = []

    def add(a: int, b: int) -> int:
        ran.append(1)
        return a + b

    error = error_of(result_of(add, a="x", c=1))
    assert error["type"] == "InvalidArguments"
    for part in ("'a'", "'b' is missing", "no argument 'c'"):
        assert part in error["message"]
    assert not ran


def test_a_tool_error_inside_a_tool_is_not_taken_for_bad_arguments_of_the_outer_one() -> None:
    @tool
    def inner(n: int) -> int:
        return n

    def outer() -> Any:
        return inner.call({"n": "x"})

    assert error_of(result_of(outer))["type"] == "ToolArgumentError"


# --- limits


def hanging() -> tuple[Any, threading.Event]:
    release = threading.Event()

    @tool(timeout=0.1)
    def hang() -> None:
        release.wait(30)

    return hang, release


def test_a_hanging_tool_is_given_up_at_its_timeout_and_late_results_are_dropped() -> None:
    hang, release = hanging()

    def quick() -> str:
        return "quick"

    started = time.monotonic()
    results = run(hang, quick, calls=[("hang", {}), ("quick", {})])
    release.set()
    assert time.monotonic() - started < 5
    assert error_of(results[0]) == {"type": "Timeout", "message": "timeout after 0.1 s"}
    assert results[1].content == "quick"
    assert 0.1 <= results[0].seconds < 5


def test_hung_tools_hold_no_place_of_waiting_calls() -> None:
    hang, release = hanging()

    def quick(n: int) -> int:
        return n

    calls = [("hang", {})] * 20 + [("quick", {"n": 7})]
    results = run(hang, quick, calls=calls)
    release.set()
    assert [r.is_error for r in results] == [True] * 20 + [False]


def test_cancel_ends_the_wait_at_once_and_keeps_what_was_done() -> None:
    release, cancelled = threading.Event(), threading.Event()

    @tool(timeout=None)
    def hang() -> None:
        cancelled.set()
        release.wait(30)

    def quick() -> str:
        return "quick"

    tools = tools_by_name([hang, quick])
    stream = run_calls([Call("a", "quick", {}), Call("b", "hang", {})], tools,
                       cancelled=cancelled.is_set)  # fmt: skip
    started = time.monotonic()
    results = list(stream)
    release.set()
    assert time.monotonic() - started < 5
    assert error_of(results[1])["type"] == "Cancelled"


def test_cancel_before_the_start_runs_nothing() -> None:
    ran = []

    def act() -> None:
        ran.append(1)

    results = run(act, calls=[("act", {})] * 3, cancelled=lambda: True)
    assert [error_of(r)["type"] for r in results] == ["Cancelled"] * 3
    assert not ran


def test_a_deadline_ends_all_calls() -> None:
    hang, release = hanging()
    results = run(hang, calls=[("hang", {})], deadline=time.monotonic() - 1)
    release.set()
    assert error_of(results[0])["type"] == "Deadline"


def test_an_async_tool_is_cancelled_at_its_timeout() -> None:
    ended = threading.Event()

    @tool(timeout=0.05)
    async def sleepy() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    assert error_of(result_of(sleepy))["type"] == "Timeout"
    assert ended.wait(5)


def test_a_generator_is_closed_when_it_is_given_up() -> None:
    ended = threading.Event()

    @tool(timeout=0.05)
    def chatter() -> Any:
        try:
            while True:
                yield "still here"
        finally:
            ended.set()

    assert error_of(result_of(chatter))["type"] == "Timeout"
    assert ended.wait(5)


def test_a_slow_reader_does_not_turn_a_finished_call_into_a_timeout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def talk() -> Any:
        yield "one"

    reader_has_the_progress = threading.Event()

    def work() -> str:
        assert reader_has_the_progress.wait(10)
        return "worked"

    tools = tools_by_name([talk, work])
    stream = run_calls([Call("a", "talk", {}), Call("b", "work", {})], tools)
    assert next(stream) == ToolProgress("a", "one")
    reader_has_the_progress.set()
    for thread in threading.enumerate():
        if thread.name == "tool-b":
            thread.join(10)
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 1000)  # the reader was busy for long
    assert [event.content for event in stream if isinstance(event, ToolResult)][-1] == "worked"


def test_what_a_call_says_once_it_is_given_up_changes_nothing() -> None:
    """The answer comes between the look for answers and the look at limits."""
    may_answer, is_over = threading.Event(), threading.Event()

    @tool(timeout=0.3)
    def late() -> str:
        assert may_answer.wait(10)
        return "late"

    def last() -> str:
        assert is_over.wait(10)
        return "last"

    looks = 0

    def cancelled() -> bool:
        nonlocal looks
        looks += 1
        if looks == 2:  # both run: past the limit by the next look
            threading.Event().wait(0.4)
        elif looks == 3:
            may_answer.set()
            for thread in threading.enumerate():
                if thread.name == "tool-c1":
                    thread.join(10)
        elif looks == 5:  # the late answer has been found
            is_over.set()
        return False

    first, second = run(last, late, calls=[("last", {}), ("late", {})], cancelled=cancelled)
    assert first.content == "last" and error_of(second)["type"] == "Timeout"


def test_leaving_early_stops_the_tools() -> None:
    ended = threading.Event()

    def chatter() -> Any:
        try:
            while True:
                yield "still here"
        finally:
            ended.set()

    stream = run_calls([Call("a", "chatter", {})], tools_by_name([chatter]))
    assert next(stream) == ToolProgress("a", "still here")
    stream.close()  # type: ignore[attr-defined]
    assert ended.wait(5)


def test_a_hung_tool_does_not_keep_the_process_from_ending(tmp_path: pathlib.Path) -> None:
    import subprocess

    script = tmp_path / "hung.py"
    script.write_text(
        "import threading\n"
        "from engine.messages import Call\n"
        "from engine.tools import run_calls, tool, tools_by_name\n"
        "@tool(timeout=0.1)\n"
        "def hang() -> None:\n    threading.Event().wait(300)\n"
        "print(list(run_calls([Call('a', 'hang', {})], tools_by_name([hang])))[0].content)\n"
    )
    root = str(pathlib.Path(__file__).parents[1])
    env = os.environ | {"PYTHONPATH": root}
    done = subprocess.run(
        [sys.executable, str(script)],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "timeout after 0.1 s" in done.stdout


# --- progress


def test_a_generator_tells_its_progress_and_its_return_value_is_the_result() -> None:
    def steps(n: int) -> Any:
        for i in range(n):
            yield f"step {i}"
        return {"steps": n}

    events = run(steps, calls=[("steps", {"n": 3})])
    assert events[:3] == [ToolProgress("c0", f"step {i}") for i in range(3)]
    assert events[3].content == {"steps": 3} and not events[3].is_error


def test_without_a_return_value_the_last_thing_yielded_is_the_result() -> None:
    def plain() -> Any:
        yield 1
        yield {"two": 2}

    async def asynchronous() -> Any:
        yield 1
        yield {"two": 2}

    for function in (plain, asynchronous):
        *progress, result = run(function, calls=[(function.__name__, {})])
        assert result.content == {"two": 2}
        assert [event.text for event in progress] == ["1", '{"two": 2}']


def test_a_generator_that_raises_after_some_steps_is_an_error() -> None:
    def steps() -> Any:
        yield "one"
        raise OSError("disk")

    progress, result = run(steps, calls=[("steps", {})])
    assert progress.text == "one"
    assert error_of(result) == {"type": "OSError", "message": "disk"}


# --- output caps


def test_structures_over_the_cap_become_cut_json_text() -> None:
    @tool(max_output=1000)
    def rows() -> list[dict[str, int]]:
        return [{"row": n} for n in range(10_000)]

    content = result_of(rows).content
    whole = json.dumps([{"row": n} for n in range(10_000)])
    assert isinstance(content, str) and len(content.encode()) <= 1000
    assert content.startswith(whole[:300]) and content.endswith(whole[-300:])
    assert f"truncated, {len(whole)} bytes" in content


def test_the_caller_can_lower_the_cap_and_not_raise_it() -> None:
    @tool(max_output=1000)
    def long() -> str:
        return "x" * 5000

    for given_cap, size in ((None, 1000), (300, 300), (4000, 1000)):
        [result] = run(long, calls=[("long", {})], max_output_bytes=given_cap)
        assert size - 1 <= len(result.content) <= size


def test_raw_tools_run_like_typed_ones() -> None:
    schema = {"properties": {"n": {"type": "integer"}}, "required": ["n"]}
    double = Tool.from_schema("double", "Twice.", schema, lambda n: 2 * n)
    good, bad = run(double, calls=[("double", {"n": 4}), ("double", {"n": "4"})])
    assert good.content == 8
    assert error_of(bad)["type"] == "InvalidArguments"
