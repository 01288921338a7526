"""What the rows of the mask bench come to: percentiles, judgements, ratios, a table.

Knows rows and numbers. Does not know backends or processes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from bench.mask_walk import Job, Row, Walk

Rows = Mapping[str, Row]  # by the job's id
PERCENTILES = {"p50": 50, "p90": 90, "p99": 99, "p99.9": 99.9}
STATES = ("compiled", "refused", "timed out", "crashed")


def spread(times_ns: Iterable[int]) -> dict[str, float]:
    """Count, average, percentiles and maximum in microseconds; only the count where it is 0."""
    us = np.fromiter(times_ns, dtype=np.float64) / 1e3
    if not us.size:
        return {"n": 0}
    out = {"n": int(us.size), "avg": float(us.mean())}
    for name, percent in PERCENTILES.items():
        out[name] = float(np.percentile(us, percent, method="higher"))
    out["max"] = float(us.max())
    return {name: round(value, 3) for name, value in out.items()}


def masks(walks: Iterable[Walk]) -> Iterator[int]:
    for walk in walks:
        yield from walk.masks


def judgements(jobs: Mapping[str, Job], rows: Rows) -> dict[str, Any]:
    """Texts judged wrongly, and schemas whose texts were all judged right."""
    wrong: dict[str, list[list[Any]]] = {"valid_rejected": [], "invalid_accepted": []}
    right, texts, inconsistent = 0, 0, 0
    for row in rows.values():
        is_right = row.state == "compiled"
        for index, (text, walk) in enumerate(zip(jobs[row.id].texts, row.cold, strict=False)):
            texts += 1
            if walk.verdict == "inconsistent":
                inconsistent += 1
                is_right = False
            elif walk.verdict == "rejected" and text.is_valid:
                wrong["valid_rejected"].append([row.id, index, len(walk.masks) - 1])
                is_right = False
            elif walk.verdict == "taken" and text.is_valid is False:
                wrong["invalid_accepted"].append([row.id, index])
                is_right = False
        right += is_right
    return {"texts": texts, "right": right, "inconsistent": inconsistent, **wrong}


def figures(jobs: Mapping[str, Job], rows: Rows) -> dict[str, Any]:
    """All figures of one backend."""
    states = Counter(row.state for row in rows.values())
    compiled = [row for row in rows.values() if row.state == "compiled"]
    walked = [row for row in rows.values() if row.cold]
    return {
        "schemas": len(rows),
        **{state: states[state] for state in STATES},
        **judgements(jobs, rows),
        "cold": spread(masks(walk for row in walked for walk in row.cold)),
        "first_text": spread(masks(walk for row in walked for walk in row.cold[:1])),
        "warm": spread(masks(walk for row in walked for walk in row.warm)),
        "advance": spread(ns for row in walked for walk in row.cold for ns in walk.advances),
        "compile": spread(row.compile_ns for row in compiled),
        "compile_first": spread(row.first_ns for row in compiled),
        "memory": max((row.memory for row in rows.values()), default=0),
        "resident": max((row.resident for row in rows.values()), default=0),
    }


def both(ours: Rows, theirs: Rows) -> dict[str, Any]:
    """Our average and a peer's over the schemas that both compiled, and their ratio.

    Of each text, the steps that both took: one may have refused it sooner.
    """
    common = [id for id, row in ours.items() if _compiled(row) and _compiled(theirs.get(id))]
    out: dict[str, Any] = {"schemas": len(common)}
    passes: dict[str, Callable[[Row], Sequence[Walk]]] = {
        "cold": lambda row: row.cold,
        "first_text": lambda row: row.cold[:1],
        "warm": lambda row: row.warm,
    }
    for name, part in passes.items():
        sums, steps = np.zeros(2), 0
        for id in common:
            for a, b in zip(part(ours[id]), part(theirs[id]), strict=False):
                shared = min(len(a.masks), len(b.masks))
                sums += sum(a.masks[:shared]) / 1e3, sum(b.masks[:shared]) / 1e3
                steps += shared
        out[name] = _ratio(sums / max(steps, 1)) | {"n": steps}
    firsts = np.array([[rows[id].first_ns for id in common] for rows in (ours, theirs)]) / 1e3
    for name in ("p50", "p99"):
        percent = PERCENTILES[name]
        here = np.percentile(firsts, percent, axis=1, method="higher") if common else np.zeros(2)
        out[f"compile_first_{name}"] = _ratio(here)
    return out


def _compiled(row: Row | None) -> bool:
    return row is not None and row.state == "compiled"


def _ratio(pair: Any) -> dict[str, float | None]:
    ours, theirs = (round(float(value), 3) for value in pair)
    return {"ours": ours, "theirs": theirs, "ratio": round(ours / theirs, 4) if theirs else None}


# Showing


def _count(name: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda entry: str(entry[name])


def _listed(name: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda entry: str(len(entry[name]))


def _time(part: str, name: str, unit: float = 1.0) -> Callable[[Mapping[str, Any]], str]:
    return lambda entry: number(entry[part].get(name), unit)


def number(value: float | None, unit: float = 1.0) -> str:
    if value is None:
        return "-"
    value /= unit
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


LINES: list[tuple[str, Callable[[Mapping[str, Any]], str]]] = [
    ("schemas", _count("schemas")),
    *((f"  {state}", _count(state)) for state in STATES),
    ("  all texts right", _count("right")),
    ("valid rejected", _listed("valid_rejected")),
    ("invalid accepted", _listed("invalid_accepted")),
    *((f"mask cold, us, {name}", _time("cold", name)) for name in ("avg", *PERCENTILES, "max")),
    ("first text alone, avg", _time("first_text", "avg")),
    *((f"mask warm, us, {name}", _time("warm", name)) for name in ("avg", *PERCENTILES, "max")),
    ("advance, us, avg", _time("advance", "avg")),
    *(
        (f"compile + first, ms, {name}", _time("compile_first", name, 1e3))
        for name in ("p50", "p90", "p99", "max")
    ),
    ("vocabulary, ms", lambda entry: number(entry["setup"]["ns"], 1e6)),
    ("vocabulary, MiB", lambda entry: number(entry["setup"]["memory"], 1 << 20)),
    ("a grammar, MiB, max", lambda entry: number(entry["memory"], 1 << 20)),
    ("the process, MiB, max", lambda entry: number(entry["resident"], 1 << 20)),
]


def table(entries: Mapping[str, Mapping[str, Any]]) -> str:
    """A line for each figure, a column for each backend."""
    lines = [f"{'':26}" + "".join(f"{name:>12}" for name in entries)]
    for title, cell in LINES:
        lines.append(f"{title:26}" + "".join(f"{cell(entry):>12}" for entry in entries.values()))
    return "\n".join(lines)


def ratios(pairs: Mapping[str, Mapping[str, Any]]) -> str:
    """Ours beside each peer's, over what both compiled."""
    lines = []
    for name, pair in pairs.items():
        lines.append(f"engine and {name}: {pair['schemas']} schemas that both compiled")
        for title, part in pair.items():
            if isinstance(part, Mapping):
                ours, theirs = number(part["ours"]), number(part["theirs"])
                lines.append(
                    f"  {title:20}{ours:>12} us of {theirs:>12} us: {number(part['ratio'])}"
                )
    return "\n".join(lines)
