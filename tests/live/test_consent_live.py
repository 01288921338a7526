"""A person at a terminal who is asked before a call runs; the embedded model makes the calls."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.terminal import CTRL_C, REAL, ROOT, Terminal

pytestmark = pytest.mark.live

TOOLS = """
from pathlib import Path
from engine import tool

@tool(approve="ask")
def get_weather(city: str) -> dict:
    \"\"\"Current weather in a city.\"\"\"
    with Path(__file__).with_name("ran").open("a") as file:
        file.write(city + "\\n")
    return {"city": city, "temperature": 21}
"""
QUESTION = "What's the weather in Paris?"


@pytest.fixture
def tools(tmp_path) -> Path:
    path = tmp_path / "tools.py"
    path.write_text(TOOLS)
    return path


def ran(tools: Path) -> int:
    file = tools.with_name("ran")
    return len(file.read_text().splitlines()) if file.exists() else 0


def chat(tools: Path, *options: str) -> Terminal:
    return Terminal("chat", "--tools", str(tools), *options, home=tools.parent, program=REAL)


def ask(terminal: Terminal, key: str) -> None:
    terminal.say(QUESTION)
    terminal.expect("get_weather wants to run (the tool itself)")
    terminal.expect("city: Paris")
    terminal.expect("[n] no")
    terminal.type(key)


def test_once_asks_again_and_in_this_chat_does_not(tiny_path, tools):
    with chat(tools) as terminal:
        ask(terminal, "y")
        terminal.expect("KV reused")
        ask(terminal, "ㅊ")  # the key of c on a Korean keyboard
        terminal.expect("KV reused")
        terminal.say(QUESTION)
        terminal.expect("-> {")
        terminal.expect("KV reused")
        terminal.say("/quit")
        assert terminal.wait() == 0 and terminal.has_first_modes()
    assert ran(tools) == 3


def test_always_lasts_until_the_tool_changes(tiny_path, tools):
    with chat(tools) as terminal:
        ask(terminal, "a")
        terminal.expect("KV reused")
    with chat(tools) as terminal:
        terminal.say(QUESTION)
        assert "wants to run" not in terminal.expect("KV reused")
    tools.write_text(TOOLS.replace("21", "22"))
    with chat(tools) as terminal:
        ask(terminal, "n")
        terminal.expect("the user did not allow this call")
    assert ran(tools) == 2


@pytest.mark.parametrize("key", ["n", "\r", "\x1b", "\x04"])
def test_no_is_the_default_and_the_model_is_told(tiny_path, tools, key):
    with chat(tools, "--max-steps", "1") as terminal:
        ask(terminal, key)
        terminal.expect("Denied")
        terminal.say("/quit")
        assert terminal.wait() == 0
    assert ran(tools) == 0


def test_ctrl_c_at_the_question_stops_the_answer_and_keeps_the_chat(tiny_path, tools):
    with chat(tools) as terminal:
        ask(terminal, CTRL_C)
        terminal.expect("(stopped)")
        ask(terminal, "y")
        terminal.expect("KV reused")
    assert ran(tools) == 1


def test_what_was_typed_ahead_answers_no_question(tiny_path, tools):
    with chat(tools) as terminal:
        terminal.expect(">>> ")
        terminal.type(QUESTION + "\ryyyy")
        terminal.expect("[n] no")
        terminal.type("n")
        terminal.expect("did not allow")
    assert ran(tools) == 0


@pytest.mark.parametrize(
    "options, runs",
    [
        ([], 0),
        (["--allow", "get_*"], 1),
        (["--allow", "get_*", "--deny", "get_weather"], 0),
        (["--rules", "rules.toml"], 1),
    ],
)
def test_without_a_terminal_what_would_ask_is_denied(tiny_path, tools, options, runs):
    (tools.parent / "rules.toml").write_text("[tools]\nget_weather = 'allow'\n")
    done = subprocess.run(
        [sys.executable, "-m", "engine", "run", str(tiny_path), QUESTION, "--json"]
        + ["--tools", str(tools), *options],
        capture_output=True,
        check=False,
        cwd=tools.parent,
        env={"PATH": "", "HOME": str(tools.parent), "PYTHONPATH": str(ROOT)},
        timeout=120,
    )
    records = [json.loads(line) for line in done.stdout.splitlines()]
    denied = [record for record in records if record["type"] == "approval"]
    assert ran(tools) == runs
    assert [record["is_allowed"] for record in denied] == ([] if runs else [False] * len(denied))
    assert bool(denied) is not bool(runs)
