"""`engine chat` with SmolLM2 at a terminal: talk, Korean, a tool call, Ctrl-C in the prompt."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.terminal import CTRL_C, REAL, ROOT, Terminal

pytestmark = pytest.mark.live

TOOLS = '''
from engine import tool

@tool
def get_weather(city: str) -> dict:
    """Current weather in a city."""
    return {"city": city, "temperature": 21}
'''


def test_a_conversation_streams_in_english_and_in_korean(
    smollm2_path: Path, tmp_path: Path
) -> None:
    model = str(smollm2_path)
    with Terminal("chat", model, "--temp", "0", home=tmp_path, program=REAL) as terminal:
        terminal.say("/set max-tokens 8")
        terminal.say("Hello!")
        terminal.expect("KV reused 0% of")
        terminal.say("한국의 수도는 어디입니까?")
        terminal.expect("[8 tokens")
        counts = terminal.expect("\r\n")
        assert "KV reused 0%" not in counts and "KV reused" in counts
        terminal.say("/stats")
        terminal.expect(" 0 of them twice")
        # Only the cut after 8 tokens may part a character, never the stream.
        assert "\ufffd" not in terminal.text.replace("\ufffd\r\n(cut off", "")
        terminal.say("/quit")
        assert terminal.wait() == 0


def test_a_required_call_is_made_run_and_answered(smollm2_path: Path, tmp_path: Path) -> None:
    tools = tmp_path / "weather.py"
    tools.write_text(TOOLS)
    flags = ["--tools", str(tools), "--tool-choice", "get_weather", "--max-steps", "1"]
    flags += ["--temp", "0", "-n", "64", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "engine", "run", str(smollm2_path), "Seoul weather?", *flags],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    records = [json.loads(line) for line in done.stdout.splitlines()]
    [call] = [record for record in records if record["type"] == "tool_call"]
    [result] = [record for record in records if record["type"] == "tool_result"]
    assert call["name"] == "get_weather" and isinstance(call["arguments"]["city"], str)
    assert result["content"] == {"city": call["arguments"]["city"], "temperature": 21}
    assert result["id"] == call["id"] and not result["is_error"]
    assert done.returncode == 6 and records[-1]["reason"] == "step_limit"


def test_ctrl_c_in_a_long_prompt_keeps_the_chat(smollm2_path: Path, tmp_path: Path) -> None:
    model = str(smollm2_path)
    with Terminal("chat", model, "--temp", "0", home=tmp_path, program=REAL) as terminal:
        terminal.say("/set max-tokens 4")
        terminal.expect(">>> ")
        terminal.type("\x1b[200~" + "one two three four five\n" * 900 + "\x1b[201~\r")
        terminal.expect("reading: ")
        terminal.type(CTRL_C)
        terminal.expect("(stopped")
        terminal.say("Hello!")
        terminal.expect("[4 tokens")
        terminal.say("/quit")
        assert terminal.wait() == 0
