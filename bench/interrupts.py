"""Ctrl-C to prompt: how long each stage of an answer goes on after the signal.

    python bench/interrupts.py [--model smollm2] [--count 50] [--json FILE]

For every stage, `count` times: work is begun, SIGINT comes a random time after the stage began, and
the clock runs until the work has come back to where a chat would ask for the next message (the
prompt's own drawing is not in it). `quit` is a process of its own that does not hear: from the
second SIGINT to its end.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))  # for `python bench/...`

import engine
from bench.machine import machine, publish
from engine.cli.interrupts import Interrupts
from engine.errors import Cancelled
from engine.model import Model

GREEDY = engine.Sampling(temperature=0)
GOALS = {"decode": 500, "prefill": 2000, "tool": 2500, "async tool": 2500, "quit": 1000}  # ms
DEAF = """
import sys, threading
from engine.cli.interrupts import Interrupts
with Interrupts() as interrupts, interrupts.working():
    print("working", flush=True)
    while not interrupts.cancelled():
        threading.Event().wait(0.01)
    print("deaf", flush=True)
    threading.Event().wait()
"""
# About a second: a template that is slow, but within its limits.
SLOW = "{% for i in range(400) %}{% for j in range(700) %}{% set x = i %}{% endfor %}{% endfor %}"
Begin = Callable[[], None]  # work calls it where its stage begins


def interrupted(work: Callable[[Interrupts, Begin], None], delay: float) -> float:
    """Milliseconds from the signal to the end of `work`, or NaN where it ended before."""
    begun, struck = threading.Event(), [float("nan")]
    is_over = threading.Event()

    def strike() -> None:
        begun.wait()
        if not is_over.wait(delay):
            struck[0] = time.perf_counter()
            os.kill(os.getpid(), signal.SIGINT)

    striker = threading.Thread(target=strike)
    striker.start()
    with Interrupts() as interrupts:
        interrupts._last = float("-inf")  # no strike is the second one
        try:
            with interrupts.working():
                work(interrupts, begun.set)
        except Cancelled:
            pass  # what a load says that was stopped
        ended = time.perf_counter()
        is_over.set()
        begun.set()
        striker.join()
    return (ended - struck[0]) * 1000 if struck[0] <= ended else float("nan")


def strikes(
    work: Callable[[Interrupts, Begin], None], within: float, count: int, chance: random.Random
) -> list[float]:
    """`count` interrupts that came while the work was under way; earlier ends are tried anew."""
    found: list[float] = []
    for _ in range(5 * count):
        took = interrupted(work, chance.uniform(0, within))
        if took == took:  # not NaN
            found.append(took)
        if len(found) == count:
            return found
    raise SystemExit(f"only {len(found)} of {count} signals came in time")


def answering(chat: engine.Chat, text: str, stage: str) -> Callable[[Interrupts, Begin], None]:
    """An answer whose stage begins with its first event of that kind."""
    first = {"prefill": engine.Prefill, "decode": engine.Text, "tool": engine.ToolCall}.get(stage)

    def work(interrupts: Interrupts, begin: Begin) -> None:
        chat.clear()
        if stage == "prefill":
            chat.sequence.clear()  # nothing of the last round is reused
        if first is None:
            begin()
        for event in chat.stream(text, cancelled=interrupts.cancelled, max_tokens=400):
            if first is not None and isinstance(event, first):
                begin()

    return work


def hang(city: str) -> str:
    """Current weather in a city."""
    threading.Event().wait()
    return city


async def hang_async(city: str) -> None:
    """Current weather in a city."""
    await asyncio.Event().wait()


def many_tools(turn: int) -> list[engine.Tool]:
    """Fifty tools of twenty arguments; other ones each turn, or they would be known already."""
    kinds: list[dict[str, Any]] = [
        {"type": "string", "maxLength": 40},
        {"type": "integer", "minimum": turn},
        {"enum": [f"a{turn}", "b", "c"]},
        {"type": "array", "items": {"type": "number"}, "maxItems": 9},
    ]
    return [
        engine.Tool.from_schema(
            f"tool_{number}",
            "One of many.",
            {"type": "object", "properties": {f"p{n}": kinds[n % 4] for n in range(20)}},
            dict,
        )
        for number in range(50)
    ]


def loading(path: Path) -> Callable[[Interrupts, Begin], None]:
    def work(interrupts: Interrupts, begin: Begin) -> None:
        begin()
        engine.load(path, n_ctx=2048, on_progress=lambda _: not interrupts.cancelled()).close()

    return work


def compiling(model: Model, turn: list[int]) -> Callable[[Interrupts, Begin], None]:
    def work(interrupts: Interrupts, begin: Begin) -> None:
        turn[0] += 1
        tools = many_tools(turn[0])
        begin()
        model.chat(tools=tools).close()

    return work


def quits(count: int) -> list[float]:
    """From the second SIGINT to the end of a process whose work does not hear."""
    root = str(Path(__file__).resolve().parents[1])
    found = []
    for _ in range(count):
        process = subprocess.Popen(
            [sys.executable, "-c", DEAF],
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": root},
        )
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        process.stdout.readline()
        began = time.perf_counter()
        process.send_signal(signal.SIGINT)
        code = process.wait()
        found.append((time.perf_counter() - began) * 1000)
        process.stdout.close()
        if code != 130:
            raise SystemExit(f"the second Ctrl-C ended with {code}, not 130")
    return found


def stages(model: Model) -> Iterator[tuple[str, Callable[[Interrupts, Begin], None], float]]:
    """Each stage: its work, and the seconds within which the signal comes."""
    assert model.path is not None
    yield "load", loading(model.path), 0.3
    slow_template = SLOW + "{{ messages[-1].content }}"
    with (
        engine.load(chat_template=slow_template, threads=1) as slow,
        slow.chat(sampling=GREEDY) as chat,
    ):
        yield "template", answering(chat, "Hello", "template"), 0.5
    yield "grammar", compiling(model, [0]), 0.1
    with model.chat(sampling=GREEDY) as chat:
        yield "prefill", answering(chat, "one two three four five " * 300, "prefill"), 1.0
        yield "decode", answering(chat, "Count to a hundred.", "decode"), 0.5
    for name, function in (("tool", hang), ("async tool", hang_async)):
        tools = [engine.tool(name="get_weather")(function)]
        with engine.load(threads=1) as tiny, tiny.chat(tools=tools, sampling=GREEDY) as chat:
            yield name, answering(chat, "What's the weather in Paris?", "tool"), 0.3


def figures(times: list[float]) -> dict[str, Any]:
    cuts = statistics.quantiles(times, n=100, method="inclusive")
    return {"n": len(times), "p50_ms": cuts[49], "p99_ms": cuts[98], "max_ms": max(times)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    chance, found = random.Random(6), {}
    with engine.load(options.model, n_ctx=4096) as model:
        print(f"{'stage':14}{'n':>5}{'p50 ms':>9}{'p99 ms':>9}{'max ms':>9}   goal")
        for name, work, within in stages(model):
            found[name] = figures(strikes(work, within, options.count, chance))
            show(name, found[name])
        name = model.path.name if model.path else model.name
    found["quit"] = figures(quits(options.count))
    show("quit", found["quit"])
    result = {
        "bench": "interrupts",
        "version": 1,
        "date": time.strftime("%Y-%m-%d"),
        "model": name,
        "stages": found,
        "goals_ms": GOALS,
        "machine": machine(),
    }
    publish(result, options.json)


def show(name: str, way: dict[str, Any]) -> None:
    goal = f"{GOALS[name]} ms" if name in GOALS else ""
    times = "".join(f"{way[key]:9.1f}" for key in ("p50_ms", "p99_ms", "max_ms"))
    print(f"{name:14}{way['n']:5}{times}   {goal}", flush=True)


if __name__ == "__main__":
    main()
