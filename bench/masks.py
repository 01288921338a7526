"""All grammar backends side by side on JSONSchemaBench: every mask of every text, timed.

    python bench/masks.py [--data FILE] [--vocab GGUF ...] [--backends engine,llguidance,...]
                          [--counts engine=0,xgrammar=300,...] [--minutes M] [--limit S]
                          [--seed N] [--show N] [--json FILE]

Each schema's texts are tokenised once and walked: every mask is computed and timed (thread CPU
time), the next token looked up in it, taken, and at the end an end token must be allowed. `cold` is
the first walk of a text, in a fresh matcher of a freshly compiled grammar, `first text` the first
text of each schema alone; `warm` is a second round. What a backend keeps for all grammars of a
process, as ours does the masks of words, stays from schema to schema. The backends take turns
schema by schema, each in a process of its own, on one thread. The schemas are shuffled; each
backend gets as many of them as `--counts` says (0: all), or fewer when its `--minutes` are over.

Needs a GGUF file (its header is enough) and lines of {"name", "schema", "tests": [{"valid",
"data"}]}. Ends with one JSON line; --json writes every time as well.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import random
import signal
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))  # for `python bench/...`

from bench.backends import BACKENDS, missing
from bench.machine import machine
from bench.mask_figures import both, figures, ratios, table
from bench.mask_walk import Job, Row, Text, Worker, clock
from engine import gguf
from engine.tokenizer import HeaderTokenizer
from engine.vocab import Vocab

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
COUNTS = {"engine": 0, "llguidance": 0}  # of the fast: all schemas
SAMPLE = 300


def read_rows(path: Path, seed: int) -> list[dict[str, Any]]:
    """The schemas in an order that follows from the seed: the first n are a sample."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    random.Random(seed).shuffle(rows)
    return rows


def jobs_of(rows: Sequence[Mapping[str, Any]], tokenizer: HeaderTokenizer) -> list[Job]:
    """Texts as `json.dumps` writes them, keys in the instance's own order."""
    out = []
    for row in rows:
        texts = [
            Text(
                tokenizer.encode_inside(json.dumps(test["data"], ensure_ascii=False)), test["valid"]
            )
            for test in row["tests"]
        ]
        out.append(Job(row["name"], "json_schema", json.dumps(row["schema"]), texts))
    return out


def counts_of(text: str) -> dict[str, int]:
    """`xgrammar=300,gbnf=50`."""
    pairs = (part.split("=") for part in text.split(","))
    return {name: int(count) for name, count in pairs}


def run(
    workers: Mapping[str, Worker], jobs: Sequence[Job], counts: Mapping[str, int], minutes: float
) -> dict[str, dict[str, Row]]:
    """Every backend's rows by the job's id, of as many jobs as `counts` says; 0: all.

    The backends take turns, so that the machine's noise hits them alike. One that has used up its
    minutes gets no more.
    """
    rows: dict[str, dict[str, Row]] = {name: {} for name in workers}
    spent = dict.fromkeys(workers, 0.0)
    for index, job in enumerate(jobs):
        for name, worker in workers.items():
            if (not counts[name] or index < counts[name]) and spent[name] < 60 * minutes:
                begun = time.monotonic()
                rows[name][job.id] = worker.ask(job)
                spent[name] += time.monotonic() - begun
        if sys.stderr.isatty() or index % 20 == 19:
            told = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in spent.items())
            print(f"{index + 1} of {len(jobs)} schemas: {told}", end="\r", file=sys.stderr)
    return rows


def summary(workers: Mapping[str, Worker], jobs: Sequence[Job], rows: Any) -> dict[str, Any]:
    """The figures of each backend, and ours beside each peer's."""
    by_id = {job.id: job for job in jobs}
    entries = {}
    for name, worker in workers.items():
        assert worker.setup is not None
        entries[name] = {"setup": asdict(worker.setup), **figures(by_id, rows[name])}
    peers = [name for name in rows if name != "engine"] if "engine" in rows else []
    return {
        "backends": entries,
        "pairs": {name: both(rows["engine"], rows[name]) for name in peers},
    }


def slowest(rows: Mapping[str, Row], count: int) -> list[str]:
    """The masks that took longest in the first walks: schema, text, step."""
    found = [
        (ns, row.id, text, step)
        for row in rows.values()
        for text, one in enumerate(row.cold)
        for step, ns in enumerate(one.masks)
    ]
    return [
        f"  {ns / 1e3:10,.1f} us  {id} text {text} step {step}"
        for ns, id, text, step in sorted(found, reverse=True)[:count]
    ]


def timer_us() -> float:
    """What reading the clock adds to every time."""
    readings = [clock() for _ in range(2001)]
    steps = [b - a for a, b in pairwise(readings)]
    return statistics.median(steps) / 1e3


def measure(path: Path, options: argparse.Namespace) -> tuple[dict[str, Any], Any]:
    """One vocabulary: the result, and the rows behind it."""
    header = gguf.read_header(path)
    vocab = Vocab.from_header(header)
    counts = {name: options.counts.get(name, SAMPLE) for name in options.backends}
    rows = read_rows(options.data, options.seed)
    most = len(rows) if 0 in counts.values() else max(counts.values())
    jobs = jobs_of(rows[:most], HeaderTokenizer(vocab))
    workers = {}
    for name in options.backends:
        if reason := missing(name):
            print(f"{name} is left out: {reason}", file=sys.stderr)
            continue
        workers[name] = Worker(name, vocab, path, limit_s=options.limit)
    load = os.getloadavg()[0]
    begun = time.monotonic()
    try:
        for worker in workers.values():
            worker.start()
        found = run(workers, jobs, counts, options.minutes)
    finally:
        for worker in workers.values():
            worker.close()
    result = {
        "vocab": path.name,
        "n_vocab": vocab.n_vocab,
        "seconds": round(time.monotonic() - begun, 1),
        "load": [round(load, 2), round(os.getloadavg()[0], 2)],
        **summary(workers, jobs, found),
    }
    return result, found


def shown(result: Mapping[str, Any], rows: Any, show: int) -> str:
    """The table of one vocabulary, with what went wrong and what was slow."""
    lines = [
        f"{result['vocab']}: {result['n_vocab']:,} tokens, {result['seconds']:.0f} s, load average "
        f"{result['load'][0]} before and {result['load'][1]} after on {os.cpu_count()} cores",
        f"reading the clock is {timer_us():.2g} us of every time",
        table(result["backends"]),
        ratios(result["pairs"]),
    ]
    for name, entry in result["backends"].items() if show else ():
        lines.append(f"{name}: slowest masks")
        lines += slowest(rows[name], show)
        for verdict in ("valid_rejected", "invalid_accepted"):
            lines += [f"  {verdict}: {case}" for case in entry[verdict][:show]]
        for state in ("refused", "timed out", "crashed"):
            found = [row for row in rows[name].values() if row.state == state]
            lines += [f"  {state}: {row.id}: {row.reason}" for row in found[:show]]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=DATA / "jsonschemabench" / "dev.jsonl.gz")
    parser.add_argument(
        "--vocab", type=Path, nargs="+", default=[DATA / "vocab" / "llama-bpe.gguf"]
    )
    parser.add_argument("--backends", default=",".join(BACKENDS), help="commas between them")
    parser.add_argument(
        "--counts", type=counts_of, default=COUNTS, help="NAME=N,...: schemas for each; 0: all"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=20.0, help="seconds for a schema")
    parser.add_argument("--minutes", type=float, default=60.0, help="for a backend in all")
    parser.add_argument("--show", type=int, default=0, metavar="N", help="print N bad cases each")
    parser.add_argument("--json", type=Path, help="write figures and every time")
    options = parser.parse_args()
    options.backends = options.backends.split(",")
    options.counts = COUNTS | options.counts
    if unknown := set(options.backends) - set(BACKENDS):
        parser.error(f"unknown backends: {', '.join(sorted(unknown))}; there are {list(BACKENDS)}")
    results, raw = [], {}
    for path in options.vocab:
        result, rows = measure(path, options)
        print(shown(result, rows, options.show), end="\n\n")
        results.append(result)
        raw[path.name] = {
            name: [asdict(row) for row in found.values()] for name, found in rows.items()
        }
    line = {
        "bench": "masks",
        "version": 1,
        "date": time.strftime("%Y-%m-%d"),
        "data": options.data.name,
        "data_sha256": hashlib.sha256(options.data.read_bytes()).hexdigest(),
        "seed": options.seed,
        "limit_s": options.limit,
        "minutes": options.minutes,
        "timer_us": timer_us(),
        "vocabularies": results,
        "machine": machine(),
    }
    print(json.dumps(line))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({**line, "rows": raw}) + "\n", encoding="utf-8")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the processes end too
    main()
