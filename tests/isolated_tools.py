"""Tools that a child process runs, for the tests: it finds them here by name."""

from __future__ import annotations

import asyncio
import atexit
import ctypes
import dataclasses
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

from engine.tools import Failure, Field, report, tool


@tool(isolate=True)
def add(a: Annotated[int, Field(ge=0)], b: int = 1) -> int:
    return a + b


@tool(isolate=True)
def surroundings() -> dict[str, Any]:
    """Who the process is, and what it was given."""
    return {
        "pid": os.getpid(),
        "parent": os.getppid(),
        "group": os.getpgid(0),
        "session": os.getsid(0),
        "folder": os.getcwd(),
        "stdin": sys.stdin.read(),
        "environment": dict(os.environ),
        "llama": sorted(name for name, module in sys.modules.items() if "llama" in name and module),
        "argv": sys.argv,
    }


@tool(isolate=True, env=["SECRET_TOKEN"])
def secret() -> str:
    return os.environ["SECRET_TOKEN"]


@dataclasses.dataclass
class Point:
    x: int
    y: int


@tool(isolate=True, result_converter=lambda point: {"sum": point.x + point.y})
def move(point: Point, by: int = 1) -> Point:
    return Point(point.x + by, point.y + by)


@tool(isolate=True)
async def wait_for(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "waited"


@tool(isolate=True)
def steps(to: int) -> Iterator[Any]:
    for n in range(to):
        yield f"step {n}"
    return {"steps": to}


@tool(isolate=True)
async def pages(to: int) -> AsyncIterator[int]:
    for n in range(to):
        yield n


@tool(isolate=True)
def reports() -> str:
    report({"half": True})
    return "done"


@tool(isolate=True)
def fail(message: str) -> None:
    print("printed before it failed")
    raise LookupError(message)


@tool(isolate=True)
def fail_in_words() -> Failure:
    return Failure({"code": 7})


@tool(isolate=True)
def say(text: str, count: int = 1) -> str:
    """Print to both streams, also past Python's own."""
    print(text * count)
    print(text * count, file=sys.stderr)
    os.write(1, b"raw\n")
    subprocess.run(["echo", "from a child"], check=True)
    return "said"


@tool(isolate=True, max_output=2000)
def long_text(size: int) -> str:
    return "abcdefgh" * (size // 8)


@tool(isolate=True)
def die(how: str) -> None:
    """End the process in one of many ways."""
    print(f"about to die of {how}")
    match how:
        case "SIGKILL":
            os.kill(os.getpid(), signal.SIGKILL)
        case "group":
            os.killpg(0, signal.SIGKILL)
        case "segfault":
            ctypes.string_at(0)
        case "abort":
            os.abort()
        case "exit":
            os._exit(3)
        case "exit 0":
            os._exit(0)
        case "close and exit":
            os.closerange(3, 256)
            os._exit(4)
        case "fork and exit":  # a fork keeps our descriptors
            if os.fork() == 0:
                threading.Event().wait(60)
            os._exit(5)


@tool(isolate=True, timeout=0.5)
def hang(how: str, file: str = "") -> None:
    """Never return, deaf in some way; write the pids that are involved to a file."""
    pids = [os.getpid()]
    match how:
        case "deaf":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        case "stubborn":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            child = subprocess.Popen(["sh", "-c", "trap '' TERM HUP; sleep 300 & wait"])
            pids.append(child.pid)
        case "parent":
            pids.append(subprocess.Popen(["sleep", "300"]).pid)
    if file:
        with open(f"{file}.new", "w") as out:
            out.write(" ".join(map(str, pids)))
        os.rename(f"{file}.new", file)
    if how == "native":  # holds the interpreter lock: no Python code runs beside it
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        ctypes.PyDLL(None).sleep(300)
    while True:
        threading.Event().wait(300)


@tool(isolate=True, timeout=0.5)
def tidy(file: str) -> None:
    try:
        threading.Event().wait(300)
    finally:
        with open(file, "w") as out:
            out.write("tidied up")


@tool(isolate=True)
def leave_behind(file: str) -> str:
    """Answer, and leave a process running."""
    child = subprocess.Popen(["sleep", "300"])
    with open(file, "w") as out:
        out.write(f"{os.getpid()} {child.pid}")
    return "answered"


@tool(isolate=True)
def say_goodbye(file: str) -> str:
    """Answer, and write a file when the process ends."""
    atexit.register(lambda: os.rename(f"{file}.new", file))
    with open(f"{file}.new", "w") as out:
        out.write("goodbye")
    return "answered"


@tool(isolate=True)
def chatter() -> Iterator[str]:
    while True:
        yield "still here"


@tool(isolate=True)
def use_a_model() -> None:
    import engine

    engine.load()


@tool(dangerous=True)
def danger() -> int:
    return os.getpid()


def plain(n: int) -> int:
    return n + 1


made_apart = tool(name="made_apart", isolate=True, result_converter=str)(plain)


class Shelf:
    @staticmethod
    @tool(isolate=True)
    def count(n: int) -> int:
        return n


@tool(isolate=True)
def odd_value(kind: str) -> Any:
    """Values that JSON can't say."""
    cyclic: list[Any] = [1]
    cyclic.append(cyclic)
    values = {
        "nan": float("nan"),
        "cycle": cyclic,
        "object": object(),
        "set": {3, 1},
        "keys": {(1, 2): 3},
    }
    return values[kind]


@tool(isolate=True)
def blob(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


@tool(isolate=True)
def speak(text: str) -> str:
    """Print a text, and return it."""
    print(text)
    return text
