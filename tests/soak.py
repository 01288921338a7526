"""Many tool turns with the embedded model in one process, and what the process holds after each.

`python tests/soak.py TURNS` prints one JSON line: per sample the turns done so far, the resident
bytes (/proc/self/statm, on other systems what `ps` says), open files, threads and children; and
how often each kind of tool ran. The kinds take turns: sync, async, generator, failing, timing out
(sync and async), denied, and a result of a megabyte. Every kind's chat serves five turns, cleared
after each, then makes room for a new one.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import engine
from engine.events import Finish, ToolResult
from engine.tools import isolated, tool
from engine.tools.approval import Approvals, Rule, Rules

SAMPLES = 20
CITIES = ("Paris", "Oslo", "Rome", "Lima", "Cairo", "Quito", "Delhi", "Bern", "Seoul", "Minsk")
TIMEOUT = 0.02
never = asyncio.Event  # made inside the loop of each call


def sync(city: str) -> dict[str, Any]:
    """Current weather in a city."""
    return {"city": city, "temperature": 21}


async def asynchronous(city: str) -> dict[str, Any]:
    """Current weather in a city."""
    await asyncio.sleep(0)
    return {"city": city, "temperature": 21}


def generator(city: str) -> Iterator[str]:
    """Current weather in a city."""
    yield "looking"
    yield f"21 degrees in {city}"


def failing(city: str) -> str:
    """Current weather in a city."""
    raise ConnectionError(f"the station of {city} did not answer")


def late(city: str) -> str:
    """Current weather in a city."""
    threading.Event().wait(5 * TIMEOUT)  # given up by then; its thread ends by itself
    return city


async def hanging(city: str) -> None:
    """Current weather in a city."""
    await never().wait()


def denied(city: str) -> str:
    """Current weather in a city."""
    raise AssertionError("a denied call ran")


def large(city: str) -> str:
    """Current weather in a city."""
    return f"{city}: 21 degrees\n" * (2**20 // 16)


def apart(city: str) -> dict[str, Any]:
    """Current weather in a city."""
    return {"city": city, "pid": os.getpid()}


KINDS: dict[str, tuple[Callable[..., Any], str | None]] = {
    "sync": (sync, None),
    "async": (asynchronous, None),
    "generator": (generator, None),
    "failing": (failing, "ConnectionError"),
    "late": (late, "Timeout"),
    "hanging": (hanging, "Timeout"),
    "denied": (denied, "Denied"),
    "large": (large, None),
    "isolated": (apart, None),
}


def open_chat(model: engine.Model, kind: str) -> engine.Chat:
    function = KINDS[kind][0]
    limit = TIMEOUT if kind in ("late", "hanging") else None
    return model.chat(
        tools=[tool(name="get_weather", timeout=limit, isolate=kind == "isolated")(function)],
        tool_choice="required",
        sampling=engine.Sampling(temperature=0),
        approvals=Approvals(Rules([Rule("deny", "get_weather")])) if kind == "denied" else None,
        max_steps=2,
    )


def turn(chat: engine.Chat, kind: str, number: int) -> bool:
    """One message; whether its call was made and came to what it should."""
    city = CITIES[number % len(CITIES)]
    events = list(chat.stream(f"What's the weather in {city}?", max_tokens=64))
    assert isinstance(events[-1], Finish)
    results = [event for event in events if isinstance(event, ToolResult)]
    for result in results:
        error = result.content["error"]["type"] if result.is_error else None
        assert error == KINDS[kind][1], (kind, result)
    return bool(results)


def held() -> dict[str, int]:
    """What this process holds now, garbage collected."""
    gc.collect()
    pid = str(os.getpid())
    ps = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid=,rss="], capture_output=True, text=True, check=True
    )
    rows = [line.split() for line in ps.stdout.splitlines()]
    children = [row for row in rows if row[1] == pid]
    if os.path.exists("/proc/self/statm"):
        with open("/proc/self/statm", encoding="ascii") as file:
            resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    else:
        resident = next(int(row[2]) for row in rows if row[0] == pid) * 1024
    return {
        "bytes": resident,
        "files": len(os.listdir("/dev/fd")),
        "threads": threading.active_count(),
        "children": len(children) - 1,  # `ps` itself
    }


def main() -> None:
    turns = int(sys.argv[1])
    samples, calls = [], Counter[str]()
    kinds = list(KINDS)
    with engine.load(n_ctx=2048, threads=1) as model:
        chat, kind = open_chat(model, kinds[0]), kinds[0]
        for number in range(turns):
            calls[kind] += turn(chat, kind, number)
            chat.clear()
            if number % 5 == 4:
                chat.close()
                kind = kinds[(number // 5 + 1) % len(kinds)]
                chat = open_chat(model, kind)
            if (number + 1) % max(1, turns // SAMPLES) == 0:
                for thread in threading.enumerate():  # tools that were given up end by themselves
                    if thread.name.startswith("tool-"):
                        thread.join(10)
                isolated.close()  # the process that waits for the next call
                samples.append({"turns": number + 1, **held()})
        chat.close()
    print(json.dumps({"turns": turns, "calls": calls, "samples": samples}))


if __name__ == "__main__":
    main()
