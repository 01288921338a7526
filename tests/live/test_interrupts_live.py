"""Ctrl-C at each stage of an answer, with the embedded model at a terminal: the chat goes on.

`tests/stages.py` holds the command at a stage until the signal has come, so that it comes exactly
there; see docs/faults.md, rows S1 to S9.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.terminal import CTRL_C, REAL, ROOT, Terminal

pytestmark = pytest.mark.live

QUESTION, NEXT = "What's the weather in Paris?", "What is the weather in Oslo?"
FLAGS = ("--tools", "engine.tools.demo", "--tools", "engine.tools.examples", "--temp", "0")
LOADING = ("header", "weights", "context")
UNSAID = ("template", "prefill")  # nothing was generated: the message is not part of the chat
BEGUN = ("grammar", "decode", "drawing")
HANG = {
    "sync": "def get_weather(city: str) -> str:\n    {about}\n    {say}\n    Event().wait()",
    "async": "async def get_weather(city: str) -> str:\n    {about}\n    {say}\n"
    "    await asyncio.Event().wait()",
    "generator": "def get_weather(city: str):\n    {about}\n    {say}\n    while True:\n"
    "        yield 'still looking'\n        Event().wait(0.01)",
}


def held(stage: str) -> tuple[str, ...]:
    """The real command, held at a stage; the stage with `!` never goes on."""
    return (str(ROOT / "tests" / "stages.py"), stage)


def chat(home: Path, program: tuple[str, ...] = REAL, *flags: str) -> Terminal:
    return Terminal("chat", *(flags or FLAGS), home=home, program=program)


def hanging_tool(home: Path, kind: str) -> tuple[str, ...]:
    """Flags for a tool that says `at tool` and never ends."""
    source = HANG[kind].format(
        about='"""Current weather in a city."""',
        say="print('at tool', file=sys.stderr, flush=True)",
    )
    path = home / "hanging.py"
    path.write_text(f"import asyncio, sys\nfrom threading import Event\n\n{source}\n")
    return ("--tools", str(path), "--temp", "0")


def interrupt(terminal: Terminal, stage: str) -> None:
    """Ask, press Ctrl-C where the answer is held, and see the prompt again."""
    terminal.say(QUESTION)
    terminal.expect(f"at {stage}")
    terminal.type(CTRL_C)
    terminal.expect("(stopped")


def saved(terminal: Terminal, path: Path) -> Any:
    terminal.say(f"/save {path}")
    terminal.expect("saved to")
    return json.loads(path.read_text())["messages"]


def answer(terminal: Terminal, home: Path) -> Any:
    """The conversation once NEXT is answered; the terminal is left as it was found."""
    terminal.say(NEXT)
    terminal.expect("KV reused")
    messages = saved(terminal, home / "after.json")
    terminal.say("/quit")
    assert terminal.wait() == 0
    assert terminal.has_first_modes() and "Traceback" not in terminal.text
    return messages


def fresh_answer(home: Path, before: Path, *flags: str) -> Any:
    """The same in a new process, after the same history."""
    with chat(home, REAL, *flags) as terminal:
        terminal.say(f"/load {before}")
        terminal.expect("messages,")
        return answer(terminal, home)


@pytest.mark.parametrize("stage", [*UNSAID, *BEGUN])
def test_after_ctrl_c_the_next_answer_is_that_of_a_fresh_session(
    tiny_path: Path, tmp_path: Path, stage: str
) -> None:
    with chat(tmp_path, held(stage)) as terminal:
        interrupt(terminal, stage)
        history = saved(terminal, tmp_path / "before.json")
        interrupted = answer(terminal, tmp_path)
    assert [message["role"] for message in history] == (
        [] if stage in UNSAID else history and ["user", *(m["role"] for m in history[1:])]
    )
    assert interrupted == fresh_answer(tmp_path, tmp_path / "before.json")


@pytest.mark.parametrize("kind", HANG)
def test_ctrl_c_in_a_tool_cancels_the_call_and_the_model_is_told(
    tiny_path: Path, tmp_path: Path, kind: str
) -> None:
    flags = hanging_tool(tmp_path, kind)
    with chat(tmp_path, REAL, *flags) as terminal:
        interrupt(terminal, "tool")
        history = saved(terminal, tmp_path / "before.json")
        terminal.say("/quit")
        assert terminal.wait() == 0 and terminal.has_first_modes()
    assert [message["role"] for message in history] == ["user", "assistant", "tool"]
    assert history[-1]["content"]["error"]["type"] == "Cancelled"


def test_ctrl_c_as_an_answer_ends_leaves_the_chat_at_its_prompt(
    tiny_path: Path, tmp_path: Path
) -> None:
    with chat(tmp_path, held("ending")) as terminal:
        terminal.say("Hello!")
        terminal.expect("at ending")
        terminal.type(CTRL_C)
        terminal.say(NEXT)
        terminal.expect("KV reused")
        terminal.say("/quit")
        assert terminal.wait() == 0
