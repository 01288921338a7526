"""Calls on real weights over many tools: every one that is made is valid for its tool's schema.

A call that runs into the limit of tokens is none: it is dropped, and another is asked for.

Five for each model by default; ENGINE_TESTS=full makes 200 for each.
"""

from __future__ import annotations

import gzip
import json
import os

import pytest

import engine
from engine.events import Finish, ToolCall

jsonschema = pytest.importorskip("jsonschema")
pytestmark = pytest.mark.live
FULL = os.environ.get("ENGINE_TESTS") == "full"
N_TOOLS, N_CALLS = 50, 200 if FULL else 5


@pytest.fixture(scope="module")
def tools(shared_data) -> list[engine.Tool]:
    """Fifty tools with the schemas of real function calls."""
    found: list[engine.Tool] = []
    with gzip.open(shared_data / "jsonschemabench" / "dev.jsonl.gz", "rt") as lines:
        for line in lines:
            row = json.loads(line)
            is_tool = row["subset"] == "Glaiveai2K" and row["schema"].get("type") == "object"
            name = row["name"].removeprefix("Glaiveai2K---")
            if is_tool and row["schema"] not in [tool.spec.parameters for tool in found]:
                about = name.rsplit("_", 1)[0].replace("_", " ")
                found.append(engine.Tool.from_schema(name, about, row["schema"], dict))
            if len(found) == N_TOOLS:
                break
    assert len(found) == N_TOOLS
    return found


@pytest.mark.parametrize("weights", ["tiny", "smollm2"])
def test_every_call_is_valid_for_its_tool(weights, tools, request):
    model, n_calls, n_cut = request.getfixturevalue(weights), 0, 0
    while n_calls < N_CALLS:
        seed = n_calls + n_cut
        tool = tools[seed % N_TOOLS]
        assert n_cut <= 3 * N_CALLS, "small models run on inside strings, but not always"
        with model.chat(
            tools=[tool],
            tool_choice="required",
            sampling=engine.Sampling(temperature=0.8, seed=seed),
            max_steps=1,
        ) as chat:
            events = list(chat.stream(f"Please {tool.spec.description}.", max_tokens=200))
        calls = [event for event in events if isinstance(event, ToolCall)]
        finish = next(event for event in events if isinstance(event, Finish))
        if finish.reason == "length":  # cut off inside a string: dropped, and never run
            assert calls == []
            n_cut += 1
            continue
        assert [call.name for call in calls] == [tool.name] * len(calls) and calls
        for call in calls:
            jsonschema.validate(dict(call.arguments), dict(tool.spec.parameters))
        n_calls += 1
    print(f"{weights}: {n_calls} messages with valid calls; {n_cut} more were cut off")
