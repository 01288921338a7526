"""What a step costs outside `llama_decode`, at a large vocabulary.

    python bench/step.py --vocab qwen2.gguf [--rounds 5] [--json FILE]

The file needs no weights: logits are noise in which the next token of a written answer stands out.
The answer is some free text and a tool call; every token of it is asked for (no forced runs). The
time is from one token to the next as the loop gives them (mask, choice, watching, parsing, events),
less what the stand-in for the model took; of the thread's CPU, so that other work counts less. Cold
is a grammar's first call in a process, warm the same call again.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.append(str(Path(__file__).resolve().parents[1]))  # for `python bench/...`

import engine
from bench.forced import CASES
from bench.machine import machine, publish
from engine import gguf
from engine.decode import Limits, generate
from engine.dialect import Dialect
from engine.events import Token
from engine.families import profile
from engine.messages import ToolSpec
from engine.sampler import Sampler, Sampling
from engine.tokenizer import HeaderTokenizer
from engine.toolcall import ToolChoice, Turn, TurnOptions
from engine.vocab import Vocab
from engine.watch import Watch, markers_for

TEXT = "I will look that up for you, just a moment. 서울의 지금 날씨를 알아볼게요. "
ARGUMENTS: dict[str, dict[str, Any]] = {
    "get_weather": {"city": "서울특별시", "unit": "celsius"},
    "convert_currency": {"amount": 500, "from_currency": "USD", "to_currency": "EUR"},
    "calculate_tip": {"bill_amount": 60, "tip_percentage": 15},
    "create_calendar_event": {"title": "Call Ann", "date": "2026-05-04", "start_time": "10:00"},
    "calculate_distance": {"start_location": "Berlin", "end_location": "Paris", "unit": "km"},
    "search_movies": {"genre": "comedy", "year": 2019, "include_ratings": True},
}


class Noise:
    """A backend whose logits are noise with the script's next token above it. It times itself."""

    can_rewind = True
    owner: object | None = None
    n_batch = 512
    n_ctx = 8192
    n_seq = 1

    def __init__(self, n_vocab: int, script: Sequence[int]) -> None:
        self.n_vocab = n_vocab
        self.inside = 0.0
        self._noise = np.random.default_rng(0).normal(0, 3, n_vocab).astype(np.float32)
        self._script = script
        self._next = 0

    def decode(
        self,
        tokens: Sequence[int],
        position: int,
        *,
        seq: int = 0,
        cancelled: Callable[[], bool] | None = None,
    ) -> None:
        pass

    def logits(self) -> NDArray[np.float32]:
        begun = time.thread_time()
        logits = self._noise.copy()
        logits[self._script[self._next]] = 60
        self._next += 1
        self.inside += time.thread_time() - begun
        return logits

    def forget(self, start: int, *, seq: int = 0) -> bool:
        return True

    def copy(self, source: int, target: int) -> None: ...

    def save(self, *, seq: int = 0) -> bytes:
        return b""

    def load(self, state: bytes, *, seq: int = 0) -> None: ...

    def close(self) -> None: ...


def steps(
    vocab: Vocab, dialect: Dialect, spec: ToolSpec, script: list[int], temperature: float
) -> list[float]:
    """Microseconds of each step of one answer."""
    backend = Noise(vocab.n_vocab, script)
    sequence = engine.Sequence(backend)
    turn = Turn(
        Watch(vocab, markers_for(vocab, dialect.profile, dialect.style), {}),
        dialect.profile.end_meanings(vocab),
        dialect=dialect,
        tools=[spec],
        options=TurnOptions(ToolChoice("auto", (spec.name,)), forces=False),
    )
    sampler = Sampler(Sampling(temperature=temperature, seed=1))
    out: list[float] = []
    last, inside = time.thread_time(), 0.0
    for event in generate(sequence, turn, sampler, vocab, Limits(max_tokens=len(script))):
        if isinstance(event, Token):
            now = time.thread_time()
            out.append((now - last - (backend.inside - inside)) * 1e6)
            inside = backend.inside
            last = time.thread_time()
    if list(sequence.ids) != script:
        raise SystemExit(f"{spec.name}: the script was not taken")
    return out


def measure(path: Path, rounds: int) -> list[dict[str, Any]]:
    vocab = Vocab.from_header(gguf.read_header(path))
    tokenizer = HeaderTokenizer(vocab)
    family = profile("hermes")
    dialect = Dialect(family, family.style(None), vocab, tokenizer.encode)
    end = next(iter(family.end_meanings(vocab)))
    rows = []
    for temperature in (0.0, 0.8):
        cold: list[float] = []
        warm: list[float] = []
        for name, _, properties in CASES:
            schema = {"type": "object", "properties": properties, "required": list(properties),
                      "additionalProperties": False, "title": f"{name} {temperature}"}  # fmt: skip
            spec = ToolSpec(name, "", schema)
            call = json.dumps({"name": name, "arguments": ARGUMENTS[name]}, ensure_ascii=False)
            script = tokenizer.encode(TEXT)
            script += tokenizer.encode("<tool_call>\n" + call + "\n</tool_call>")
            script.append(end)
            cold += steps(vocab, dialect, spec, script, temperature)
            for _ in range(rounds):
                warm += steps(vocab, dialect, spec, script, temperature)
        for kind, times in (("cold", cold), ("warm", warm)):
            p50, p90, p99 = np.percentile(times, (50, 90, 99)).round(1).tolist()
            row = {"temperature": temperature, "kind": kind, "steps": len(times)}
            rows.append(row | {"p50": p50, "p90": p90, "p99": p99, "max": round(max(times), 1)})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--vocab", type=Path, required=True, help="a GGUF of a family with ChatML")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = measure(options.vocab, options.rounds)
    print(f"{'temperature':>12}{'':6}{'steps':>8}{'p50':>8}{'p90':>8}{'p99':>8}{'max':>9}   us")
    for row in rows:
        print(
            f"{row['temperature']:12}  {row['kind']:4}{row['steps']:8}{row['p50']:8}{row['p90']:8}"
            f"{row['p99']:8}{row['max']:9}"
        )
    result = {"bench": "step", "version": 1, "date": time.strftime("%Y-%m-%d"),
              "vocabulary": options.vocab.name, "rows": rows, "machine": machine()}  # fmt: skip
    publish(result, options.json)


if __name__ == "__main__":
    main()
