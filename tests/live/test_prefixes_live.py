"""Prefixes on disk with real weights: another process begins where one ended, in the same words."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.cli.jsonl import VERSION
from tests.terminal import ROOT

pytestmark = pytest.mark.live

Run = Callable[..., dict[str, Any]]
TOOLS = '''
from engine import tool

@tool
def get_weather(city: str) -> dict:
    """Current weather in a city."""
    return {"city": city, "temperature": 21}
'''


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """`engine run` in a process of its own; they share a home unless told otherwise."""
    tools = tmp_path / "weather.py"
    tools.write_text(TOOLS)

    def run(
        model: str, prompt: str, system: str, *flags: str, home: str = "home"
    ) -> dict[str, Any]:
        names = ("HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME")
        homes = {name: str(tmp_path / home) for name in names}
        options = ["--system", system, "--tools", str(tools), "--tool-choice", "none"]
        options += ["--temp", "0", "-n", "12", "-t", "1", "--json", *flags]
        done = subprocess.run(
            [sys.executable, "-m", "engine", "run", model, prompt, *options],
            cwd=ROOT,
            env=os.environ | homes,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.stderr == "" and done.returncode == 0, done.stderr
        records = [json.loads(line) for line in done.stdout.splitlines()]
        assert {record["version"] for record in records} == {VERSION}
        [finish] = [record for record in records if record["type"] == "finish"]
        return {
            "text": "".join(r["text"] for r in records if r["type"] == "text"),
            "notices": [record for record in records if record["type"] == "notice"],
            **finish["usage"],
        }

    return run


def files(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "home").rglob("*.kv"))


@pytest.mark.parametrize("weights, rules", [("tiny_path", 40), ("smollm2_path", 3)])
def test_the_second_process_restores_and_answers_as_a_fresh_one(
    weights: str, rules: int, run: Run, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    model = str(request.getfixturevalue(weights))
    system = " ".join(f"Rule {n}: guests of house {n} are greeted by name." for n in range(rules))
    asked = "Who is greeted in house 3?"
    without = run(model, asked, system)
    assert without["notices"] == [] and not files(tmp_path)
    # Chunks end where the prefix does only with the option: without it sums are rounded otherwise.
    fresh = run(model, asked, system, "--prefix-cache", home="another")
    assert without["prefilled"] == fresh["prefilled"]
    first = run(model, "Say hello.", system, "--prefix-cache")
    assert first["kv_restored"] == 0 and first["notices"] == []
    second = run(model, asked, system, "--prefix-cache")
    assert second["text"] == fresh["text"] != ""
    assert second["kv_restored"] > 0.8 * fresh["prompt_tokens"]
    assert second["prefilled"] == fresh["prefilled"] - second["kv_restored"]
    [notice] = second["notices"]
    assert not notice["is_warning"] and notice["data"]["tokens"] == second["kv_restored"]
    assert notice["data"]["saved_seconds"] > 0


def test_a_state_of_another_model_or_a_changed_one_is_never_used(
    run: Run, tmp_path: Path, tiny_path: Path
) -> None:
    system = "Guests are greeted by name. " * 20
    before = run(str(tiny_path), "Hello", system, "--prefix-cache")
    copy = tmp_path / "copy.gguf"
    weights = bytearray(tiny_path.read_bytes())
    weights[-1] ^= 1  # one bit of the last tensor
    copy.write_bytes(weights)
    other = run(str(copy), "Hello", system, "--prefix-cache")
    assert other["kv_restored"] == 0 and len(files(tmp_path)) == 2
    for path in files(tmp_path):
        state = bytearray(path.read_bytes())
        state[len(state) // 2] ^= 1
        path.write_bytes(state)
    again = run(str(tiny_path), "Hello", system, "--prefix-cache")
    assert again["kv_restored"] == 0 and again["text"] == before["text"]
    [notice] = again["notices"]
    assert notice["is_warning"] and notice["data"]["reason"] == "signature"
    assert run(str(tiny_path), "Hello", system, "--prefix-cache")["kv_restored"] > 0
