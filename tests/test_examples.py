"""docs/examples/*.py run on SmolLM2: calls are made, valid, run and answered; answers parse."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

import engine

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "docs" / "examples").glob("*.py"))
TESTED = {"streaming_agent", "structured", "weather"}


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
    smollm2_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("ENGINE_TOOLS_ROOT", raising=False)
    first = results(load("streaming_agent").main(str(smollm2_path)))[0]
    assert not first.is_error and isinstance(first.content, dict)
    folder = ROOT / str(first.content["path"])
    python = first.content["by_extension"][".py"]
    assert python["files"] == len(list(folder.rglob("*.py")))
    assert python["lines"] == sum(file.read_bytes().count(b"\n") for file in folder.rglob("*.py"))
    assert "-> count_lines({" in capsys.readouterr().out


@pytest.mark.live
def test_the_weather_of_a_city_is_looked_up(smollm2_path: Path) -> None:
    module = load("weather")
    events = module.main(str(smollm2_path))
    first = results(events)[0]
    assert first.name == "get_weather" and not first.is_error and isinstance(first.content, dict)
    assert first.content["celsius"] == module.CELSIUS[first.content["city"]]
    assert events[-1].usage.steps <= 5


@pytest.mark.live
def test_a_structured_answer_is_an_instance(smollm2_path: Path) -> None:
    module = load("structured")
    city = module.main(str(smollm2_path))
    assert isinstance(city, module.City) and len(city.landmarks) <= 2
