"""The tool-calling bench: its cases, and how it judges what came of them. No weights."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from fakes import ScriptedBackend

sys.path.append(str(Path(__file__).parents[1]))

from bench import tiny_scores as judge
from bench import tiny_tools as bench
from bench.tiny_cases import LANGUAGES, PATTERN, Case, data, make_cases, with_particle
from bench.tiny_scores import Transcript
from engine import gguf
from engine.events import Finish, Notice, Text, ToolCall, ToolCallStart, ToolResult, Usage
from engine.families import detect
from engine.llama import LlamaVocab
from engine.model import Model
from engine.template import ChatTemplate
from engine.tokenizer import LlamaTokenizer
from engine.vocab import Vocab

COUNT = 200
ALL = [
    case for seed in (0, 7) for language in LANGUAGES for case in make_cases(language, COUNT, seed)
]


def first(kind: str, language: str = "en") -> Case:
    return next(case for case in ALL if (case.kind, case.language) == (kind, language))


def perfect(case: Case) -> Transcript:
    """What a model that does everything right leaves behind."""
    calls = [(call.name, dict(call.arguments)) for call in case.calls]
    if case.failure is not None:
        answer = " ".join(words[0] for words in case.failure.keys)
    else:
        answer = " and ".join(map(str, case.calls[-1].says)) if calls else "I have no tool for it."
    return Transcript(calls, begun=len(calls), answer=answer, finish="end_turn")


# Cases


def test_cases_follow_from_language_and_seed_and_begin_alike_whatever_the_count() -> None:
    for language in LANGUAGES:
        assert make_cases(language, 40) == make_cases(language, COUNT)[:40]
        assert make_cases(language, 40) != make_cases(language, 40, seed=1)


def test_there_are_at_least_40_tools_and_all_are_asked_for() -> None:
    asked = {call.name for case in ALL for call in case.calls}
    assert {tool["name"] for tool in data()["tool"]} <= asked
    assert len(asked) >= 40


@pytest.mark.parametrize("language", LANGUAGES)
def test_requests_are_many_and_kinds_are_as_in_the_pattern(language: str) -> None:
    cases = [case for case in ALL[: 2 * COUNT] if case.language == language]
    assert len({case.request for case in cases}) > 0.95 * len(cases)
    assert [case.kind for case in cases[:20]] == list(PATTERN)
    in_english = sum(case.described_in == "en" for case in cases)
    assert in_english == (COUNT if language == "en" else 67)


def test_every_argument_stands_in_the_request_or_in_the_result_before() -> None:
    for case in ALL:
        said = case.request
        for call in case.calls:
            for name, value in call.arguments.items():
                words = case.witnesses[name] if isinstance(value, bool) else value
                for part in words if isinstance(words, list) else [words]:
                    assert str(part) in said, (case.id, case.request, name)
            said += json.dumps(call.result, ensure_ascii=False)


def test_what_an_answer_must_say_stands_in_the_result() -> None:
    for case in ALL:
        if case.calls and case.failure is None:
            assert case.calls[-1].says, case.id
            told = json.dumps(case.calls[-1].result, ensure_ascii=False)
            assert all(judge.is_said(value, told) for value in case.calls[-1].says), case.id


def test_errors_are_reported_by_repeating_them() -> None:
    for case in ALL:
        if case.kind == "error":
            assert case.failure is not None
            assert judge.reports(case.failure.message, case.failure.keys), case.failure.message


def test_one_to_five_tools_are_offered_the_wanted_ones_among_them_and_no_group_twice() -> None:
    groups = {tool["name"]: tool.get("group", tool["name"]) for tool in data()["tool"]}
    for case in ALL:
        names = [tool.spec.name for tool in case.offered]
        assert 1 <= len(names) <= 5 and len(set(names)) == len(names), case.id
        assert {call.name for call in case.calls} <= set(names)
        wanted = {groups.get(call.name) for call in case.calls}
        others = [groups[name] for name in names if name in groups]
        others = [name for name in others if name not in wanted]
        assert len(set(others)) == len(others), case.id


def test_expected_arguments_are_valid_and_wrong_ones_are_seen_as_jsonschema_sees_them() -> None:
    for case in ALL[:COUNT]:
        for call in case.calls:
            schema, right = case.specs[call.name].parameters, dict(call.arguments)
            key = next(iter(right))
            wrong = [{}, right | {"extra": 1}, *(right | {key: bad} for bad in ("x", 1, 1.5, True))]
            wrong += [right | {key: bad} for bad in (2.0, None, ["x"], [1], {})]
            for arguments in (right, *wrong):
                expected = jsonschema.Draft202012Validator(schema).is_valid(arguments)
                assert judge.fits(arguments, schema) is expected, (schema, arguments)
            assert judge.fits(right, schema)


@pytest.mark.parametrize(
    "word, particle, expected",
    [
        ("강릉", "은", "강릉은"),
        ("제주", "은", "제주는"),
        ("서울", "으로", "서울로"),
        ("춘천", "으로", "춘천으로"),
        ("tmp/a.zip", "을", "tmp/a.zip을"),
        ("a@b.com", "으로", "a@b.com으로"),
        ("PDF", "으로", "PDF로"),
        ("HTML", "을", "HTML을"),
        ("21.3", "을", "21.3을"),
        ("1492", "이", "1492가"),
    ],
)
def test_korean_particles_fit_the_word_before(word: str, particle: str, expected: str) -> None:
    assert with_particle(word, particle) == expected


# Judging


def test_a_perfect_transcript_is_right_in_every_measure() -> None:
    for case in ALL:
        seen = perfect(case)
        scores = judge.score(case, seen) | judge.score_free(case, seen)
        assert all(scores.values()), (case.id, scores)


def test_a_wrong_argument_spoils_the_arguments_only() -> None:
    case = first("call")
    name, arguments = perfect(case).calls[0]
    key = next(iter(arguments))
    seen = replace(perfect(case), calls=[(name, arguments | {key: "something else"})])
    scores = judge.score(case, seen)
    assert scores["tool"] and scores["answer"]
    assert not scores["arguments"] and not scores["whole"]


def test_an_answer_counts_only_behind_the_right_tool() -> None:
    case = first("call")
    scores = judge.score(case, replace(perfect(case), calls=[("other", {})]))
    assert not scores["tool"] and not scores["answer"] and "answer_if_called" not in scores
    scores = judge.score(case, replace(perfect(case), answer="Done."))
    assert scores["tool"] and not scores["answer"] and not scores["answer_if_called"]


def test_a_chain_needs_both_calls_in_order() -> None:
    case = first("chain")
    both = perfect(case).calls
    for calls in (both[:1], both[::-1]):
        scores = judge.score(case, replace(perfect(case), calls=calls, begun=len(calls)))
        assert not scores["chain"] and not scores["answer"]
    assert judge.score(case, replace(perfect(case), calls=both[:1]))["tool"]


def test_a_call_too_many_spoils_the_whole_only() -> None:
    case = first("call", "ko")
    seen = perfect(case)
    scores = judge.score(case, replace(seen, calls=seen.calls * 2, begun=2))
    assert [name for name, is_right in scores.items() if not is_right] == ["whole"]


@pytest.mark.parametrize("begun, calls", [(1, [("x", {})]), (1, [])])
def test_any_call_is_wrong_where_no_tool_fits(begun: int, calls: list) -> None:
    seen = Transcript(calls, begun, "Sorry.")
    assert judge.score(first("none"), seen) == {"no_call": False, "whole": False}


def test_an_unmasked_call_must_parse_name_a_tool_and_fit_its_schema() -> None:
    case = first("call")
    name, arguments = perfect(case).calls[0]
    for calls, begun, is_valid in [
        ([(name, arguments)], 1, True),
        ([(name, {**arguments, "more": 1})], 1, False),
        ([("no_such_tool", arguments)], 1, False),
        ([], 1, False),  # begun, and could not be read
    ]:
        assert judge.score_free(case, Transcript(calls, begun))["free_valid"] is is_valid
    assert "free_valid" not in judge.score_free(case, Transcript(answer="No."))


@pytest.mark.parametrize(
    "wanted, got, is_same",
    [
        (21, 21.0, True),
        (21, "21", False),
        (1, True, False),
        (True, True, True),
        ("Oak Street", "Oak Street", True),
        ("Oak Street", "oak street", False),
        ("the Odeon", "Odeon", True),
        ("Café", "Cafe\u0301", True),
        (["a", "b"], ["a", "b"], True),
        (["a", "b"], ["b", "a"], False),
        (["a"], "a", False),
    ],
)
def test_arguments_are_equal_as_json_is(wanted: object, got: object, is_same: bool) -> None:
    assert judge.is_same(wanted, got) is is_same


def test_a_builtin_query_may_differ_in_case_and_quotes() -> None:
    assert judge.is_same("sqrt(7056)", '"Sqrt(7056)".', loose=True)
    assert not judge.is_same("sqrt(7056)", "sqrt(706)", loose=True)


@pytest.mark.parametrize(
    "value, text, is_said",
    [
        (21, "It is 21 degrees.", True),
        (21, "강릉은 지금 21도입니다.", True),
        (21, "It is 21.5 degrees.", False),
        (21, "It is 121 degrees.", False),
        (1234.5, "The total is 1,234.50 dollars.", True),
        (8517, "8,517줄입니다.", True),
        (8517, "8517.", True),
        ("light rain", "Light rain, I fear.", True),
        ("흐림", "하늘은 흐림이에요", True),
        ("14:10", "at 14:10", True),
        ("14:10", "at 14:105", False),
        ("R-42", "BR-42", False),
        ("R-42", "R-42입니다", True),
        ("1-7", "They lost 1-7.", True),
        ("84", "It is 842", False),
        ("", "", True),
    ],
)
def test_a_value_is_said_as_a_number_or_as_whole_words(
    value: object, text: str, is_said: bool
) -> None:
    assert judge.is_said(value, text) is is_said


@pytest.mark.parametrize(
    "right, count, low, high",
    [(0, 0, 0.0, 1.0), (0, 10, 0.0, 0.2775), (9, 10, 0.5958, 0.9821), (180, 200, 0.8506, 0.9344)],
)
def test_wilson_interval(right: int, count: int, low: float, high: float) -> None:
    assert judge.wilson(right, count) == pytest.approx((low, high), abs=1e-4)


def test_a_transcript_holds_the_calls_and_the_text_behind_the_last() -> None:
    usage = Usage(completion_tokens=3)
    events = [
        Text("Let me see."),
        ToolCallStart("1", "look"),
        ToolCall("1", "look", {"at": "sky"}),
        ToolResult("1", "look", {"sky": "clear"}),
        Text("It is "),
        Text("clear."),
        Notice("hm"),
        Finish("end_turn", usage),
    ]
    assert judge.read(events) == Transcript(
        [("look", {"at": "sky"})], 1, "It is clear.", "end_turn", ["hm"], usage
    )


def test_rows_are_summed_per_language_shown_and_json() -> None:
    rows = [bench.row_of(case, perfect(case), Transcript()) for case in ALL[:COUNT]]
    rows += [bench.row_of(case, Transcript(), perfect(case)) for case in make_cases("ko", 20)]
    measures = judge.summary(rows)
    assert measures["tool"]["en"]["share"] == 1 and measures["tool"]["ko"]["share"] == 0
    assert measures["tool"]["all"]["of"] == 170 + 17
    assert measures["free_valid"]["en"]["of"] == 0 and measures["free_valid"]["ko"]["share"] == 1
    assert len(bench.table({"measures": measures}).splitlines()) == len(judge.MEASURES) + 2
    assert all(row["request"] in bench.shown(row) for row in rows)
    assert json.loads(json.dumps(rows))[0]["request"] == rows[0]["request"]


# Asking: Llama 3.1's vocabulary and protocol, and a model that does everything right


@pytest.fixture(scope="module")
def llama31(shared_data: Path):
    header = gguf.read_header(shared_data / "vocab" / "llama-3.1.gguf")
    native = LlamaVocab(header.path)
    yield header, Vocab.from_header(header), native
    native.close()


def spoken(case: Case) -> list[str]:
    """The messages of a perfect model, in Llama 3.1's own words."""
    said = []
    for call in case.calls:
        arguments = json.dumps(call.arguments, ensure_ascii=False)
        if case.kind == "builtin":
            form = f'<|python_tag|>{call.name}.call(query="{call.arguments["query"]}")<|eom_id|>'
        elif case.kind == "tag":
            form = f"<function={call.name}>{arguments}</function><|eom_id|>"
        else:
            form = f'{{"name": "{call.name}", "parameters": {arguments}}}<|eot_id|>'
        said.append(form)
    return said


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_perfect_llama_has_full_marks_in_a_real_chat(llama31, language) -> None:
    header, vocab, native = llama31
    for case in make_cases(language, 10):
        model = Model(
            name="llama-3.1",
            vocab=vocab,
            backend=ScriptedBackend(vocab.n_vocab, n_batch=256),
            tokenizer=LlamaTokenizer(vocab, native.tokenize),
            template=ChatTemplate(header.chat_template, bos="<|begin_of_text|>", eos="<|eot_id|>"),
            detection=detect(vocab, header.chat_template),
        )
        answer = perfect(case).answer + "<|eot_id|>"
        # The run without the mask stops behind its calls.
        for text in [*spoken(case), answer, *(spoken(case) or [answer])]:
            model.backend.say(native.tokenize(text.encode(), True))
        (row,) = bench.run(model, [case])
        assert all(row["score"].values()), bench.shown(row)
        assert len(row["score"]) >= 2
