"""Masks under stress: large grammars and long texts, and whether anything grows with the text.

    python bench/stress.py [--vocab GGUF] [--backends engine,llguidance,xgrammar] [--limit S]
                          [--json FILE]

Every case (stress_cases.py) has a process of its own, so that memory is the case's. `cold` is the
first walk, `warm` the second. A step is a mask and taking the token; `growth` is the median step in
the last tenth of the text over that in the first tenth, in the second walk: 1 where a step costs
the same however much was written. Times are thread CPU time. Ends with one JSON line.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1]))  # for `python bench/...`

from bench.backends import BACKENDS, missing
from bench.machine import machine, publish
from bench.mask_figures import number, spread
from bench.mask_walk import Job, Row, Text, Walk, Worker
from bench.stress_cases import CASES, Case
from engine import gguf
from engine.tokenizer import HeaderTokenizer
from engine.vocab import Vocab

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def growth(walk: Walk) -> float | None:
    """The median step of the last tenth over that of the first; None for under 20 steps."""
    steps = [a + b for a, b in zip(walk.masks, walk.advances, strict=False)]
    tenth = len(steps) // 10
    if tenth < 2:
        return None
    first, last = (float(np.median(part)) for part in (steps[:tenth], steps[-tenth:]))
    return round(last / first, 2) if first else None


def entry(name: str, row: Row) -> dict[str, Any]:
    """The figures of one case."""
    return {
        "case": name,
        "state": row.state,
        "reason": row.reason,
        "verdict": row.cold[0].verdict if row.cold else None,
        "compile_us": row.compile_ns / 1e3,
        "first_us": row.first_ns / 1e3,
        "cold": spread(row.cold[0].masks if row.cold else ()),
        "warm": spread(row.warm[0].masks if row.warm else ()),
        "advance": spread(row.cold[0].advances if row.cold else ()),
        "growth": growth(row.warm[0]) if row.warm else None,
        "memory": row.memory,
    }


def measure(
    name: str, cases: Sequence[Case], vocab: Vocab, path: Path, limit_s: float
) -> list[dict[str, Any]]:
    tokenizer = HeaderTokenizer(vocab)
    out = []
    for case in cases:
        job = Job(
            case.name, case.kind, case.source, [Text(tokenizer.encode_inside(case.text), True)]
        )
        worker = Worker(name, vocab, path, limit_s=limit_s)
        try:
            out.append(entry(case.name, worker.ask(job)))
        finally:
            worker.close()
        print(f"{name}: {case.name}", end="\x1b[K\r", file=sys.stderr)
    return out


def table(entries: Sequence[Mapping[str, Any]]) -> str:
    titles = ("compile", "+ first", "steps", "cold avg", "max", "warm avg", "max", "growth", "MiB")
    lines = [f"{'us':28}" + "".join(f"{title:>10}" for title in titles)]
    for one in entries:
        if not one["cold"]["n"]:
            lines.append(f"{one['case']:28}  {one['state']}: {one['reason'][:90]}")
            continue
        cells = [one["compile_us"], one["first_us"], one["cold"]["n"]]
        cells += [one[part].get(key) for part in ("cold", "warm") for key in ("avg", "max")]
        cells += [one["growth"], one["memory"] / (1 << 20)]
        line = f"{one['case']:28}" + "".join(f"{number(cell):>10}" for cell in cells)
        told = " ".join(x for x in (one["verdict"], one["state"]) if x not in ("taken", "compiled"))
        lines.append(line + ("  " + told if told else ""))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--vocab", type=Path, default=DATA / "vocab" / "qwen2.gguf")
    parser.add_argument("--backends", default="engine", help="commas between them")
    parser.add_argument("--limit", type=float, default=30.0, help="seconds for a case")
    parser.add_argument("--json", type=Path, help="write the JSON line to a file")
    options = parser.parse_args()
    names = options.backends.split(",")
    if unknown := set(names) - set(BACKENDS):
        parser.error(f"unknown backends: {', '.join(sorted(unknown))}; there are {list(BACKENDS)}")
    vocab = Vocab.from_header(gguf.read_header(options.vocab))
    cases = [make() for make in CASES]
    found = {}
    load = os.getloadavg()[0]
    for name in names:
        if reason := missing(name):
            print(f"{name} is left out: {reason}", file=sys.stderr)
            continue
        found[name] = measure(name, cases, vocab, options.vocab, options.limit)
        print(f"{name}\n{table(found[name])}\n")
    result = {
        "bench": "stress",
        "version": 1,
        "date": time.strftime("%Y-%m-%d"),
        "vocab": options.vocab.name,
        "load": [round(load, 2), round(os.getloadavg()[0], 2)],
        "limit_s": options.limit,
        "backends": found,
        "machine": machine(),
    }
    publish(result, options.json)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the processes end too
    main()
