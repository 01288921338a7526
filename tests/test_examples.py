"""docs/examples/*.py run: on the embedded model, or scripted where that isn't clever enough."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from fakes import scripted_model

import engine
from engine.course import error_kind

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "docs" / "examples").glob("*.py"))
TESTED = {"agent", "direct", "own_tools", "streaming_agent", "structured", "weather"}


def load(name: str) -> ModuleType:
    path = ROOT / "docs" / "examples" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"docs_examples_{name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # Pydantic looks annotations up there
    spec.loader.exec_module(module)
    return module


def test_every_example_has_its_test() -> None:
    assert {path.stem for path in EXAMPLES} == TESTED


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_says_how_it_is_run_and_does_nothing_when_imported(path: Path) -> None:
    module = load(path.stem)
    assert f"python docs/examples/{path.name} [MODEL] [QUESTION]" in (module.__doc__ or "")
    assert callable(module.main)


def results(events: list[engine.Event]) -> list[engine.ToolResult]:
    """The results, after checking that each answers a call, in order, and all came to an end."""
    calls = [event for event in events if isinstance(event, engine.ToolCall)]
    found = [event for event in events if isinstance(event, engine.ToolResult)]
    assert calls and [call.id for call in calls] == [result.id for result in found]
    finish = events[-1]
    assert isinstance(finish, engine.Finish) and finish.usage.prefilled_again == 0
    return found


@pytest.mark.live
def test_the_streaming_agent_counts_lines(
    tiny_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("ENGINE_TOOLS_ROOT", raising=False)
    first = results(load("streaming_agent").main())[0]
    assert first.name == "repo_stats" and not first.is_error and isinstance(first.content, dict)
    python = first.content["by_extension"][".py"]
    folder = ROOT / "docs"
    assert first.content["path"] == "docs"
    assert python["files"] == len(list(folder.rglob("*.py")))
    assert python["lines"] == sum(file.read_bytes().count(b"\n") for file in folder.rglob("*.py"))
    assert '{"path": "docs"} -> repo_stats' in capsys.readouterr().out


@pytest.mark.live
def test_the_weather_of_a_city_is_looked_up(tiny_path: Path) -> None:
    events = load("weather").main()
    first = results(events)[0]
    assert first.content == {"city": "서울", "temperature": 21}
    assert events[-1].usage.steps <= 5


def scripted(monkeypatch: pytest.MonkeyPatch, *messages: str) -> Any:
    model = scripted_model(family="hermes")
    for text in messages:
        model.backend.say([*model.encode(text), model.vocab.find("<|im_end|>")])
    monkeypatch.setattr(engine, "load", lambda name: model)
    return model


def call(name: str, **arguments: Any) -> str:
    body = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
    return f"<tool_call>\n{body}\n</tool_call>"


def test_two_cities_are_compared_with_a_calculator(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    both = call("get_weather", city="서울") + "\n" + call("get_weather", city="부산")
    scripted(
        monkeypatch,
        both,
        call("calculate", expression="24 - 21"),
        "부산이 3도 더 따뜻해요.",
    )
    events = load("weather").main(max_tokens=1000)  # of a byte each
    assert [result.content for result in results(events)] == [
        {"city": "서울", "temperature": 21},
        {"city": "부산", "temperature": 24},
        3,
    ]
    assert (events[-1].reason, events[-1].usage.steps) == ("end_turn", 3)
    assert "부산이 3도 더 따뜻해요." in capsys.readouterr().out


def test_five_turns_are_the_most(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, *[call("calculate", expression=f"{n} + 1") for n in range(9)])
    events = load("weather").main(max_tokens=1000)
    assert (events[-1].reason, len(results(events))) == ("stop", 5)


@pytest.mark.live
def test_a_direct_result_ends_the_answer_after_one_turn(tiny_path: Path) -> None:
    answer = load("direct").main()
    assert (answer.text, answer.finish.usage.steps) == ("Paris: 21 °C", 1)


@pytest.mark.live
def test_a_client_runs_the_tools_itself(
    tiny_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, last = load("own_tools").main()
    assert (first.finish.reason, last.finish.reason) == ("tool_use", "end_turn")
    assert "21" in last.text
    assert "call_1: get_weather({'city': 'Paris'})" in capsys.readouterr().out


@pytest.mark.live
def test_ten_requests_with_a_server_a_failure_a_timeout_and_a_denial(
    tiny_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("mcp", reason="the extra mcp is not installed")
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("ENGINE_TOOLS_ROOT", raising=False)
    agent = load("agent")
    steps = agent.main(prefix_cache=str(tmp_path))
    assert [step.results[0].name for step in steps] == [tool for _, tool in agent.PLAN]
    assert [step.usage.prefilled_again for step in steps] == [0] * 10
    kinds = [error_kind(step.results[0].content) for step in steps[7:]]
    assert kinds == ["ValueError", "Timeout", "Denied"]
    assert not any(step.results[0].is_error for step in steps[:7])
    assert "buy milk" in steps[6].results[0].content[0], "what the sixth request left there"
    assert steps[0].usage.kv_restored == 0

    capsys.readouterr()
    again = agent.main(prefix_cache=str(tmp_path))  # what the next process would do
    assert again[0].usage.kv_restored > 200
    assert again[0].usage.prefilled < steps[0].usage.prefilled - 200
    assert "came from disk" in capsys.readouterr().out
    assert [step.text for step in again[:3]] == [step.text for step in steps[:3]]


@pytest.mark.live
def test_a_structured_answer_is_an_instance(smollm2_path: Path) -> None:
    module = load("structured")
    city = module.main(str(smollm2_path))
    assert isinstance(city, module.City) and len(city.landmarks) <= 2
