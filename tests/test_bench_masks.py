"""The mask bench: its arithmetic, its processes, and every backend's adapter on two schemas."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from fakes import byte_vocab

sys.path.append(str(Path(__file__).parents[1]))

from bench import mask_figures as sums
from bench import masks as bench
from bench import stress
from bench.backends import BACKENDS, Refused, backend, missing
from bench.mask_walk import Job, Row, Text, Walk, Worker, measure, walk
from bench.stress_cases import CASES
from engine import gguf
from engine.tokenizer import HeaderTokenizer
from engine.vocab import Vocab

FOREVER = 1 << 62
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
CHOICE = {"type": "array", "items": {"enum": ["red", "green"]}, "maxItems": 2}
TEXTS = {
    "person": [('{"name": "Ada", "age": 36}', True), ('{"name": "Ada", "age": "36"}', False)],
    "choice": [('["red", "green"]', True), ('["red", "red", "red"]', False), ("[]", True)],
}


def jobs(encode=lambda text: list(text.encode())) -> list[Job]:
    return [
        Job(name, "json_schema", json.dumps(schema), [Text(encode(t), ok) for t, ok in TEXTS[name]])
        for name, schema in (("person", PERSON), ("choice", CHOICE))
    ]


def row(id: str, *walks: tuple[str, Sequence[int]], state="compiled", first_ns=0) -> Row:
    cold = [Walk(verdict, list(masks)) for verdict, masks in walks]
    return Row(id, state, cold=cold, warm=cold, first_ns=first_ns)


# Arithmetic


def test_percentiles_are_times_that_occurred_in_microseconds() -> None:
    out = sums.spread(range(1_000, 101_000, 1_000))
    assert out == {
        "n": 100,
        "avg": 50.5,
        "p50": 51,
        "p90": 91,
        "p99": 100,
        "p99.9": 100,
        "max": 100,
    }
    assert sums.spread([]) == {"n": 0}


def test_judgements_name_the_text_and_the_step() -> None:
    by_id = {job.id: job for job in jobs()}
    rows = {
        "person": row("person", ("rejected", [1, 1, 1]), ("taken", [1])),
        "choice": row("choice", ("taken", [1]), ("rejected", [1]), ("inconsistent", [1])),
    }
    out = sums.judgements(by_id, rows)
    assert out["valid_rejected"] == [["person", 0, 2]]
    assert out["invalid_accepted"] == [["person", 1]]
    assert (out["texts"], out["right"], out["inconsistent"]) == (5, 0, 1)
    right = {"person": row("person", ("taken", [1]), ("rejected", [1]))}
    assert sums.judgements(by_id, right)["right"] == 1
    late = {"person": row("person", ("taken", [1]), state="timed out")}
    assert sums.judgements(by_id, late)["right"] == 0


def test_peers_are_compared_over_the_steps_that_both_took() -> None:
    ours = {
        "a": row("a", ("taken", [1_000, 3_000, 90_000]), first_ns=2_000),
        "b": row("b", ("taken", [70_000])),
        "c": row("c", ("taken", [50_000])),
    }
    theirs = {
        "a": row("a", ("rejected", [6_000, 10_000]), first_ns=8_000),
        "b": row("b", state="refused"),
    }
    out = sums.both(ours, theirs)
    assert out["schemas"] == 1
    assert out["cold"] == {"ours": 2, "theirs": 8, "ratio": 0.25, "n": 2}
    assert out["compile_first_p50"]["ratio"] == 0.25
    assert sums.both(ours, {})["cold"]["ratio"] is None


def test_growth_compares_the_last_tenth_with_the_first() -> None:
    steps = [10] * 15 + [99] * 100 + [30] * 15
    assert stress.growth(Walk("taken", steps, [0] * len(steps))) == 3
    assert stress.growth(Walk("taken", [10] * 19, [0] * 19)) is None


def test_states_and_times_fill_the_table() -> None:
    rows = {
        "person": row("person", ("taken", [2_000_000])),
        "choice": row("choice", state="crashed"),
    }
    entry = sums.figures({job.id: job for job in jobs()}, rows)
    shown = sums.table({"x": {"setup": {"ns": 5_000_000, "memory": 1 << 20}, **entry}})
    cells = {line[:26].strip(): line[26:].strip() for line in shown.splitlines()}
    assert (cells["compiled"], cells["crashed"], cells["all texts right"]) == ("1", "1", "1")
    assert (cells["mask cold, us, avg"], cells["vocabulary, ms"]) == ("2,000", "5")


# Walks


class Counting:
    """Allows the numbers in order, then the end, 9."""

    def __init__(self, refuses: int | None = None) -> None:
        self.place, self.masks, self.refuses = 0, 0, refuses

    def mask(self) -> None:
        self.masks += 1

    def allows(self, token: int) -> bool:
        return token == (9 if self.place == 3 else self.place)

    def advance(self, token: int) -> bool:
        self.place += 1
        return token != self.refuses


@pytest.mark.parametrize(
    "ids, deadline, refuses, verdict, masks",
    [
        ([0, 1, 2], FOREVER, None, "taken", 4),
        ([0, 1], FOREVER, None, "rejected", 3),  # the end is not allowed yet
        ([0, 2, 1], FOREVER, None, "rejected", 2),
        ([0, 1, 2], FOREVER, 1, "inconsistent", 2),
        ([0, 1, 2], 0, None, "late", 1),
    ],
)
def test_a_walk_ends_where_a_token_or_the_end_is_refused(ids, deadline, refuses, verdict, masks):
    matcher = Counting(refuses)
    out = walk(matcher, ids, [8, 9], deadline)
    assert (out.verdict, len(out.masks), matcher.masks) == (verdict, masks, masks)


class Failing:
    packages, policy = (), ""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def setup(self) -> None: ...

    def compile(self, kind, source):
        raise self.error


@pytest.mark.parametrize(
    "error, state, reason",
    [
        (Refused("no\n such  keyword"), "refused", "no such keyword"),
        (OSError("x"), "crashed", "OSError: x"),
    ],
)
def test_what_a_backend_says_of_a_grammar_is_kept_in_one_line(error, state, reason) -> None:
    out = measure(Failing(error), jobs()[0], [], 1.0)
    assert (out.state, out.reason, out.cold) == (state, reason, [])
    assert out.compile_ns > 0


# Backends


def test_our_backend_judges_right_and_times_every_step() -> None:
    vocab = byte_vocab()
    ours = backend("engine", vocab, None)
    ours.setup()
    rows = {job.id: measure(ours, job, sorted(vocab.eog), 60.0) for job in jobs()}
    out = sums.figures({job.id: job for job in jobs()}, rows)
    assert (out["compiled"], out["right"], out["texts"]) == (2, 2, 5)
    cold = rows["person"].cold
    assert len(cold[0].masks) == len(TEXTS["person"][0][0]) + 1 == len(cold[0].advances) + 1
    assert [len(w.masks) for w in rows["person"].warm] == [len(w.masks) for w in cold]
    assert rows["person"].first_ns >= rows["person"].compile_ns + cold[0].masks[0]


def test_our_backend_refuses_what_it_cannot_enforce() -> None:
    ours = backend("engine", byte_vocab(), None)
    ours.setup()
    for kind, source in (("json_schema", '{"type": "no such type"}'), ("lark", "start: nothing")):
        assert measure(ours, Job("x", kind, source, []), [], 60.0).state == "refused"


def test_a_process_that_died_is_started_anew() -> None:
    worker = Worker("engine", byte_vocab(), limit_s=60.0)
    first, second = jobs()
    try:
        assert worker.ask(first).state == "compiled"
        worker._process.kill()
        worker._process.join()
        assert worker.ask(second).state == "crashed"
        again = worker.ask(second)
    finally:
        worker.close()
    assert [one.verdict for one in again.cold] == ["taken", "rejected", "taken"]
    assert worker.setup is not None and worker.setup.ns > 0


def test_a_walk_past_its_time_is_a_result() -> None:
    worker = Worker("engine", byte_vocab(), limit_s=0.0)
    try:
        out = worker.ask(jobs()[0])
    finally:
        worker.close()
    assert out.state == "timed out"


def test_a_vocabulary_that_a_backend_cannot_use_is_told() -> None:
    if reason := missing("gbnf"):
        pytest.skip(reason)
    worker = Worker("gbnf", byte_vocab())
    with pytest.raises(RuntimeError, match="GGUF files only"):
        worker.start()


@pytest.mark.parametrize("name", [name for name in BACKENDS if name != "engine"])
def test_peers_take_what_is_valid(name: str, shared_data: Path) -> None:
    if reason := missing(name):
        pytest.skip(reason)
    path = shared_data / "vocab" / "llama-spm.gguf"
    vocab = Vocab.from_header(gguf.read_header(path))
    worker = Worker(name, vocab, path, limit_s=60.0)
    try:
        rows = [worker.ask(job) for job in jobs(HeaderTokenizer(vocab).encode_inside)]
    finally:
        worker.close()
    assert [one.state for one in rows] == ["compiled", "compiled"]
    for one in rows:
        valid = [ok for _, ok in TEXTS[one.id]]
        assert [found.verdict == "taken" for found in one.cold] == valid, one


def test_the_command_ends_with_its_json(shared_data, tmp_path, monkeypatch, capsys) -> None:
    data, out = tmp_path / "data.jsonl", tmp_path / "deep" / "out.json"
    tests = [{"valid": ok, "data": json.loads(text)} for text, ok in TEXTS["person"]]
    data.write_text(json.dumps({"name": "person", "schema": PERSON, "tests": tests}) + "\n")
    vocab = str(shared_data / "vocab" / "llama-spm.gguf")
    arguments = ["--data", str(data), "--vocab", vocab, "--backends", "engine", "--show", "1"]
    monkeypatch.setattr(sys, "argv", ["masks.py", *arguments, "--json", str(out)])
    bench.main()
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    (result,) = line["vocabularies"]
    assert result["backends"]["engine"]["right"] == 1 and result["n_vocab"] == 32_000
    (written,) = json.loads(out.read_text())["rows"]["llama-spm.gguf"]["engine"]
    assert len(written["cold"]) == 2


@pytest.mark.parametrize("make", CASES, ids=lambda make: make.__name__)
def test_every_stress_case_is_taken_whole(make) -> None:
    case, vocab = make(), byte_vocab()
    ours = backend("engine", vocab, None)
    ours.setup()
    text = case.text if len(case.text) < 30_000 else case.text[:10_000] + '"'
    job = Job(case.name, case.kind, case.source, [Text(list(text.encode()), True)])
    entry = stress.entry(case.name, measure(ours, job, sorted(vocab.eog), 60.0))
    assert (entry["state"], entry["verdict"], entry["reason"]) == ("compiled", "taken", "")
    assert case.name in stress.table([entry])
