"""The engine's loop against a bare `llama_decode` loop: same model, prompt, tokens, same run.

    python bench/loop.py [--model smollm2] [--tokens 128] [--rounds 9] [--json FILE]

Both are greedy and start from the same prefilled prompt; the bare loop is ctypes calls and one
argmax in native code, nothing else. Rounds alternate, so that the machine's noise hits both; the
figure is the median of the ratios within a round, with its quartiles. Ours is timed as a library
user sees it, events and all, free and under a JSON Schema (which may end sooner: figures are per
token).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))  # for `python bench/...`

import engine
from bench.machine import machine, publish
from engine import _native
from engine.decode import Limits, generate
from engine.llama import LlamaBackend
from engine.model import Model
from engine.sampler import Sampler, Sampling
from engine.toolcall import Turn, TurnOptions
from engine.watch import Watch

PROMPT = "Write a long story about a lighthouse keeper who collects old radios."
SCHEMA = {
    "type": "object",
    "properties": {"story": {"type": "string"}},
    "required": ["story"],
    "additionalProperties": False,
}


def bare(backend: LlamaBackend, prompt: list[int], count: int) -> tuple[list[int], float]:
    """The least that a greedy loop can do through ctypes: a batch of one token, decode, argmax."""
    import llama_cpp.llama_cpp as ll

    context, batch = backend._context, ll.llama_batch_init(1, 0, 1)
    batch.n_tokens, batch.n_seq_id[0], batch.seq_id[0][0], batch.logits[0] = 1, 1, 0, 1
    prefill(backend, prompt)
    out: list[int] = []
    begun = time.perf_counter()
    for position in range(len(prompt), len(prompt) + count):
        token = _native.argmax(backend.logits())[0]
        out.append(token)
        batch.token[0], batch.pos[0] = token, position
        if ll.llama_decode(context, batch):
            raise SystemExit("llama_decode failed")
    seconds = time.perf_counter() - begun
    ll.llama_batch_free(batch)
    return out, seconds


def prefill(backend: LlamaBackend, prompt: list[int]) -> None:
    backend.forget(0)
    for start in range(0, len(prompt), backend.n_batch):
        backend.decode(prompt[start : start + backend.n_batch], start)


def ours(model: Model, prompt: list[int], count: int, schema: Any) -> tuple[list[int], float]:
    """The engine's own loop: sequence, sampler, watch and events; `schema` adds the mask."""
    dialect = model.dialect()
    response = None if schema is None else engine.Grammar.from_schema(schema)
    sequence = engine.Sequence(model.backend)
    model.backend.forget(0)
    sequence.append(prompt, "template")
    turn = Turn(
        Watch(model.vocab, [], {}),
        # Without a schema no token ends the message: both loops make the same number.
        {} if schema is None else model.profile.end_meanings(model.vocab),
        dialect=dialect,
        options=TurnOptions(response=response),
    )
    sampler = Sampler(Sampling(temperature=0))
    begun = time.perf_counter()
    for _ in generate(sequence, turn, sampler, model.vocab, Limits(max_tokens=count)):
        pass
    sequence.compute()  # the bare loop computes its last token too
    return list(sequence.ids[len(prompt) :]), time.perf_counter() - begun


def measure(model: Model, count: int, rounds: int) -> dict[str, Any]:
    messages = [engine.Message("user", PROMPT)]
    prompt = model.prompt().opening(messages)[1].ids
    backend = model.backend
    assert isinstance(backend, LlamaBackend)
    ways: dict[str, Callable[[], tuple[list[int], float]]] = {
        "bare": lambda: bare(backend, prompt, count),
        "engine": lambda: ours(model, prompt, count, None),
        "engine, JSON Schema": lambda: ours(model, prompt, count, SCHEMA),
    }
    if ways["bare"]()[0] != ways["engine"]()[0]:  # also the warm-up
        raise SystemExit("the two loops chose different tokens: they are not comparable")
    ways["engine, JSON Schema"]()
    per_token: dict[str, list[float]] = {name: [] for name in ways}
    for index in range(rounds):
        names = list(ways) if index % 2 == 0 else list(reversed(ways))
        for name in names:
            ids, seconds = ways[name]()
            per_token[name].append(seconds / len(ids))
        print(f"round {index + 1} of {rounds}", end="\r", file=sys.stderr)
    out: dict[str, Any] = {}
    for name, times in per_token.items():
        ratios = [a / b for a, b in zip(per_token["bare"], times, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        out[name] = {
            "tokens_per_second": 1 / statistics.median(times),
            "ratio_to_bare": middle,
            "ratio_quartiles": [low, high],
            "seconds_per_token": times,
        }
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with engine.load(options.model, n_ctx=2048) as model:
        result = {
            "bench": "loop",
            "version": 1,
            "date": time.strftime("%Y-%m-%d"),
            "model": model.path.name if model.path else model.name,
            "tokens": options.tokens,
            "rounds": options.rounds,
            "ways": measure(model, options.tokens, options.rounds),
            "machine": machine(),
        }
    print(f"{'loop':24}{'tokens/s':>10}{'of bare':>10}   quartiles")
    for name, way in result["ways"].items():
        low, high = way["ratio_quartiles"]
        rate, ratio = way["tokens_per_second"], way["ratio_to_bare"]
        print(f"{name:24}{rate:10.1f}{ratio:10.3f}   {low:.3f} to {high:.3f}")
    publish(result, options.json)


if __name__ == "__main__":
    main()
