"""How well a tiny model calls tools: right tool, right arguments, an answer with the result.

    python bench/tiny_tools.py [--model PATH] [--json FILE] [--seed N] [--count N] [--show N]

Each case (see tiny_cases.py; --count of them per language) is asked greedily through
`Model.chat`, once with the mask and once without it. What is measured is at `MEASURES` in
tiny_scores.py; figures have Wilson's 95 % intervals. Ends with one JSON line; --json writes the raw
rows as well.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))  # for `python bench/...`

import engine
from bench.machine import machine
from bench.tiny_cases import LANGUAGES, Case, make_cases
from bench.tiny_scores import MEASURES, Transcript, read, score, score_free, summary
from engine.errors import EngineError
from engine.messages import JSON
from engine.model import Model

MAX_STEPS = 4
MAX_TOKENS = 160  # of one message


# Asking


def ask(model: Model, case: Case, *, constrain: bool) -> Transcript:
    """One request in a chat of its own. What the engine raises is the transcript's finish."""
    # Without the mask only the calls count: the answer behind them need not be generated.
    stop = None if constrain else engine.steps(max(1, len(case.calls)))
    try:
        with model.chat(
            case.system,
            [offered.tool() for offered in case.offered],
            sampling=engine.Sampling(temperature=0),
            constrain=constrain,
            max_steps=MAX_STEPS,
            style="function_tag" if case.kind == "tag" else None,
        ) as chat:
            return read(chat.stream(case.request, max_tokens=MAX_TOKENS, stop=stop))
    except EngineError as error:
        return Transcript(finish="error", notices=[f"{error.kind}: {error.message}"])


def row_of(case: Case, masked: Transcript, free: Transcript) -> dict[str, Any]:
    """One case as a JSON row: what was asked, expected and got."""
    return {
        "id": case.id,
        "language": case.language,
        "kind": case.kind,
        "described_in": case.described_in,
        "system": case.system,
        "request": case.request,
        "tools": list(case.specs),
        "expected": {
            "calls": [asdict(call) for call in case.calls],
            "error": None if case.failure is None else asdict(case.failure),
        },
        "got": asdict(masked),
        "got_free": asdict(free),
        "score": score(case, masked) | score_free(case, free),
    }


def run(
    model: Model, cases: Sequence[Case], told: Callable[[int], None] = lambda _: None
) -> list[dict[str, Any]]:
    """Ask every case twice. Tagged cases are left out where the family has no such style."""
    rows = []
    for index, case in enumerate(cases):
        if case.kind != "tag" or "function_tag" in model.profile.styles:
            masked = ask(model, case, constrain=True)
            rows.append(row_of(case, masked, ask(model, case, constrain=False)))
        told(index + 1)
    return rows


def speed(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Tokens per second over all runs, generating and prefilling apart."""
    usages = [row[run]["usage"] for row in rows for run in ("got", "got_free")]

    def rate(tokens: str, seconds: str) -> float:
        spent = sum(usage[seconds] for usage in usages)
        return sum(usage[tokens] for usage in usages) / spent if spent else 0.0

    return {
        "tokens_per_second": rate("completion_tokens", "decode_seconds"),
        "prefill_per_second": rate("prefilled", "prefill_seconds"),
    }


# Showing


def table(result: Mapping[str, Any]) -> str:
    lines = [f"{'':18}{'English':>24}{'Korean':>24}{'both':>24}   goal"]
    for name, (what, goal) in MEASURES.items():
        if name == "free_called":
            lines.append("without the mask:")
        cells = "".join(_cell(result["measures"][name][key]) for key in (*LANGUAGES, "all"))
        wanted = "" if goal is None else f">= {goal:.0%}"
        lines.append(f"{name:18}{cells}   {wanted:7} {what}")
    return "\n".join(lines)


def _cell(figure: Mapping[str, Any]) -> str:
    if not figure["of"]:
        return f"{'-':>24}"
    low, high = (f"{100 * bound:.0f}" for bound in figure["interval"])
    right = f"{figure['right']}/{figure['of']}"
    return f"{right:>9} {100 * figure['share']:5.1f}% {low:>3}-{high:<3}"


def shown(row: Mapping[str, Any]) -> str:
    """A row that failed, for reading."""
    failed = [name for name, is_right in row["score"].items() if not is_right]
    lines = [f"--- {row['id']} {row['kind']}: not right: {', '.join(failed)}"]
    if row["system"]:
        lines.append(f"system    {row['system']}")
    lines += [f"request   {row['request']}", f"tools     {', '.join(row['tools'])}"]
    for call in row["expected"]["calls"]:
        lines.append(f"expected  {_call(call['name'], call['arguments'])}")
        if call["says"]:
            lines.append(f"          result {_json(call['result'])}, to say: {_json(call['says'])}")
    if row["expected"]["error"]:
        lines.append(f"          error {row['expected']['error']['message']}")
    for title, key in (("got", "got"), ("unmasked", "got_free")):
        got = row[key]
        said = [_call(name, arguments) for name, arguments in got["calls"]]
        lines += [f"{title:10}{call}" for call in said]
        lines.append(f"{title:10}{got['answer']!r} [{got['finish']}] {' '.join(got['notices'])}")
    return "\n".join(lines)


def _call(name: str, arguments: Mapping[str, JSON]) -> str:
    return f"{name}({', '.join(f'{key}={_json(value)}' for key, value in arguments.items())})"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _digest(path: Path | None) -> str | None:
    if path is None:
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _told(done: int) -> None:
    print(f"{done} cases", end="\r", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", help="a path or a name; none: the embedded model")
    parser.add_argument("--count", type=int, default=300, help="cases per language")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--ctx-size", type=int, default=0, help="0: the model's own")
    parser.add_argument("--show", type=int, default=0, metavar="N", help="print N failures")
    parser.add_argument("--json", type=Path, help="write figures and raw rows")
    options = parser.parse_args()
    cases = [
        case for language in LANGUAGES for case in make_cases(language, options.count, options.seed)
    ]
    begun = time.perf_counter()
    try:
        loaded = engine.load(
            options.model, threads=options.threads, n_ctx=options.ctx_size, n_seq=1
        )
    except EngineError as error:
        raise SystemExit(error.message) from error
    with loaded as model:
        rows = run(model, cases, _told)
        path = model.path
    result = {
        "bench": "tiny_tools",
        "version": 1,
        "date": time.strftime("%Y-%m-%d"),
        "model": path.name if path else model.name,
        "model_sha256": _digest(path),
        "count": options.count,
        "seed": options.seed,
        "cases": len(rows),
        "left_out": len(cases) - len(rows),
        "errors": sum(row[run]["finish"] == "error" for row in rows for run in ("got", "got_free")),
        "seconds": time.perf_counter() - begun,
        **speed(rows),
        "measures": summary(rows),
        "machine": machine(),
    }
    failures = [row for row in rows if not all(row["score"].values())]
    for row in failures[: options.show]:
        print(shown(row), end="\n\n")
    print(table(result))
    print(
        f"{result['model']}: {len(rows)} cases twice in {result['seconds']:.1f} s, "
        f"{result['tokens_per_second']:.0f} tokens/s, prefill {result['prefill_per_second']:.0f}/s"
    )
    if result["left_out"]:
        print(f"{result['left_out']} cases left out: this family has no style function_tag")
    if result["errors"]:
        print(f"{result['errors']} runs ended in an error of the engine: see --show and --json")
    print(_json(result))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(_json({**result, "rows": rows}) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
