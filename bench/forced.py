"""A tool call with forced runs against the same tokens without a mask.

    python bench/forced.py [--model smollm2] [--rounds 5] [--json FILE]

Each call is written twice in every round: by the engine, constrained, where text that the grammar
leaves no choice about is decoded in one batch; and token for token, as a model without a mask would
write the very same call: logits, a choice, one token a batch. The figure is the median of the
ratios of tokens per second within a round. `--no-force` of the command line is the engine's third
way, constrained without forced runs; it is measured beside the two.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))  # for `python bench/...`

import engine
from bench.machine import machine, publish
from engine.decode import Limits, generate
from engine.messages import ToolSpec
from engine.model import Model
from engine.sampler import Sampler, Sampling
from engine.toolcall import ToolChoice, Turn, TurnOptions
from engine.watch import Watch, markers_for

# The weather tool, and the forms of five calls that are common in tool-calling data.
CASES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("get_weather", "What is the weather in Seoul in celsius?",
     {"city": {"type": "string", "maxLength": 40}, "unit": {"enum": ["celsius", "fahrenheit"]}}),
    ("convert_currency", "Convert 500 US dollars to euros.",
     {"amount": {"type": "integer"}, "from_currency": {"enum": ["USD", "EUR", "GBP"]},
      "to_currency": {"enum": ["USD", "EUR", "GBP"]}}),
    ("calculate_tip", "The bill is 60 dollars, I want to tip 15 percent.",
     {"bill_amount": {"type": "integer"}, "tip_percentage": {"type": "integer"}}),
    ("create_calendar_event", "Create a meeting with Ann on 2026-05-04 at 10:00.",
     {"title": {"type": "string", "maxLength": 40}, "date": {"type": "string", "format": "date"},
      "start_time": {"type": "string", "pattern": "^[0-2][0-9]:[0-5][0-9]$"}}),
    ("calculate_distance", "How far is it from Berlin to Paris?",
     {"start_location": {"type": "string", "maxLength": 40},
      "end_location": {"type": "string", "maxLength": 40}, "unit": {"enum": ["km", "miles"]}}),
    ("search_movies", "Find comedies from 2019.",
     {"genre": {"enum": ["comedy", "drama", "action"]}, "year": {"type": "integer"},
      "include_ratings": {"type": "boolean"}}),
)  # fmt: skip


def constrained(model: Model, prompt: list[int], spec: ToolSpec, force: bool) -> tuple[Any, float]:
    """The call's tokens, how many of them were forced, and the seconds."""
    dialect = model.dialect()
    sequence = engine.Sequence(model.backend)
    model.backend.forget(0)
    sequence.append(prompt, "template")
    turn = Turn(
        Watch(model.vocab, markers_for(model.vocab, model.profile, dialect.style), {}),
        model.profile.end_meanings(model.vocab),
        dialect=dialect,
        tools=[spec],
        options=TurnOptions(ToolChoice("required", (spec.name,)), forces=force),
    )
    sampler = Sampler(Sampling(temperature=0))
    begun = time.perf_counter()
    for _ in generate(sequence, turn, sampler, model.vocab, Limits(max_tokens=160)):
        pass
    sequence.compute()
    seconds = time.perf_counter() - begun
    forced = sum(origin == "forced" for origin in sequence.origins[len(prompt) :])
    return (list(sequence.ids[len(prompt) :]), forced), seconds


def free(model: Model, prompt: list[int], call: list[int]) -> float:
    """Seconds for the same tokens, each asked of the model without a mask."""
    sequence = engine.Sequence(model.backend)
    model.backend.forget(0)
    sequence.append(prompt, "template")
    sampler = Sampler(Sampling(temperature=0))
    begun = time.perf_counter()
    for token in call:
        sampler.sample(sequence.logits(), None)
        sequence.push(token, "sampled")
    sequence.compute()
    return time.perf_counter() - begun


def measure(model: Model, rounds: int) -> list[dict[str, Any]]:
    rows = []
    for name, request, properties in CASES:
        schema = {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }
        spec = ToolSpec(name, name.replace("_", " ").capitalize() + ".", schema)
        prompt = model.prompt().opening([engine.Message("user", request)], [spec])[1].ids
        (call, forced), _ = constrained(model, prompt, spec, True)  # warms grammar and cache
        against_free, against_asked = [], []
        for _ in range(rounds):
            (again, _), with_force = constrained(model, prompt, spec, True)
            (asked, _), without_force = constrained(model, prompt, spec, False)
            assert again == call
            against_free.append(free(model, prompt, call) / with_force)
            against_asked.append(without_force / len(asked) * len(call) / with_force)
        rows.append(
            {
                "tool": name,
                "tokens": len(call),
                "forced": forced,
                "text": b"".join(map(model.vocab.data, call)).decode("utf-8", "replace"),
                "against_free": statistics.median(against_free),
                "against_constrained_without": statistics.median(against_asked),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with engine.load(options.model, n_ctx=2048) as model:
        rows = measure(model, options.rounds)
        name = model.path.name if model.path else model.name
    print(f"{'tool':24}{'tokens':>8}{'forced':>8}{'x free':>9}{'x asked':>9}")
    for row in rows:
        print(
            f"{row['tool']:24}{row['tokens']:8}{row['forced']:8}{row['against_free']:9.2f}"
            f"{row['against_constrained_without']:9.2f}"
        )
    result = {
        "bench": "forced",
        "version": 1,
        "date": time.strftime("%Y-%m-%d"),
        "model": name,
        "rounds": options.rounds,
        "median_against_free": statistics.median(row["against_free"] for row in rows),
        "calls": rows,
        "machine": machine(),
    }
    print(f"median: {result['median_against_free']:.2f} times the tokens per second")
    publish(result, options.json)


if __name__ == "__main__":
    main()
