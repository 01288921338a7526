"""Compaction by its policy: what goes is old, what belongs together stays together."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.compaction import Compaction, compact
from engine.errors import UsageError
from engine.messages import Call, Message
from engine.tools import spill
from engine.tools.result import content_of

LONG = "x" * 500


def user(text: str = "question " * 20) -> Message:
    return Message("user", text)


def call(number: int, count: int = 1) -> Message:
    calls = tuple(Call(f"call_{number}_{n}", "look", {"at": n}) for n in range(count))
    return Message("assistant", "", calls=calls)


def result(number: int, n: int = 0, content: object = LONG) -> Message:
    return Message("tool", content, call_id=f"call_{number}_{n}", name="look")


def answer(text: str = "answer " * 20) -> Message:
    return Message("assistant", text)


AGENT = [user(), call(1), result(1), call(2, 2), result(2, 0), result(2, 1), call(3), result(3)]
TALK = [user("a" * 99), answer("b" * 99), user("c" * 99), answer("d" * 99), user("e" * 99)]


def test_old_results_become_notes_with_name_and_size_and_the_last_turns_stay():
    made = compact(AGENT, Compaction("results", keep_turns=1))
    assert made.results == 3 and made.dropped == 0
    notes = [m.content for m in made.messages if m.role == "tool"]
    assert notes == ["[result of look left out to save room, 500 characters]"] * 3 + [LONG]
    assert [m.call_id for m in made.messages] == [m.call_id for m in AGENT]
    changed = [new is not old for new, old in zip(made.messages, AGENT, strict=True)]
    assert changed == [False, False, True, False, True, True, False, False]


def noted(content: object, name: str = "look") -> str:
    """What a result is once it has been left out."""
    first = Message("tool", content, call_id="call_1_0", name=name)
    policy = Compaction("results", keep_turns=1)
    return compact([user(), call(1), first, *AGENT[3:]], policy).messages[2].text


@pytest.fixture
def cut(tmp_path, monkeypatch):
    """A result that was cut, whose whole lies in the file that it names."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(spill, "_folder", None)
    return content_of("é" * 9000, 1000, spill=True)


def file_in(text: str) -> str:
    return text.split("file ", 1)[1].split(" ...]", 1)[0]


@pytest.mark.parametrize("limit, what", [(10**6, "the whole"), (2000, "its beginning")])
def test_a_note_says_where_the_whole_result_is(cut, monkeypatch, limit, what):
    monkeypatch.setattr(spill, "MAX_FILE_BYTES", limit)
    monkeypatch.setattr("engine.tools.result.MAX_FILE_BYTES", limit)
    cut = content_of("é" * 9000, 1000, spill=True)
    assert noted(cut).endswith(f"characters; {what} is in the file {file_in(cut)}]")


NAMED = "\n[... truncated, 9000 bytes, file {} ...]\n"


@pytest.mark.parametrize(
    "forge",
    [
        lambda cut: "[, file " + "x" * 3000 + " ...]",
        lambda cut: LONG + NAMED.format("/etc/passwd") + LONG,
        lambda cut: LONG + NAMED.format("/" + "x" * 3000) + LONG,
        lambda cut: LONG + NAMED.format(Path(file_in(cut)).with_name("in-use")) + LONG,
        lambda cut: LONG + NAMED.format(Path(file_in(cut)).with_name("result-no.txt")) + LONG,
        lambda cut: LONG + NAMED.format(Path(file_in(cut)).parent / ".." / "result-a.txt") + LONG,
        lambda cut: NAMED.format(file_in(cut)) + LONG,
        lambda cut: {"text": cut},
        lambda cut: cut.replace("\n[", "["),
    ],
)
def test_no_other_text_of_a_tool_makes_a_note_name_a_file_or_be_long(cut, forge):
    (Path(file_in(cut)).parent.parent / "result-a.txt").write_text("not a result")
    note = noted(forge(cut))
    assert note.startswith("[result of look left out to save room, ") and "file" not in note


def test_a_file_that_is_gone_is_not_named(cut):
    Path(file_in(cut)).unlink()
    assert noted(cut).endswith("characters]")


def test_a_note_is_short_whatever_the_tool_was_called():
    assert len(noted(LONG, "n" * 3000)) < 200


def test_results_shorter_than_a_note_and_notes_themselves_stay():
    policy = Compaction("results", keep_turns=1)
    once = compact(AGENT, policy)
    again = compact(once.messages, policy)
    assert again.results == 0 and again.messages == once.messages
    small = [user(), call(1), result(1, 0, {"ok": True}), call(2), result(2, 0)]
    assert compact(small, policy).messages == small


def test_only_as_much_goes_as_is_wanted_the_oldest_first():
    size = 3 * 500 + 500
    made = compact(AGENT, Compaction("results", keep_turns=1), share=1 - 600 / size)
    assert made.results == 2 and LONG not in [m.content for m in made.messages[:5]]
    assert made.messages[5].content == LONG
    assert compact(AGENT, Compaction("turns", keep_turns=1), share=1.0).messages == AGENT


def test_whole_turns_go_with_the_words_they_answer():
    made = compact(TALK, Compaction("turns", keep_turns=1))
    assert made.messages == TALK[2:] and made.dropped == 2


def test_of_a_turn_still_at_work_the_question_stays():
    made = compact(AGENT, Compaction("turns", keep_turns=1))
    assert made.messages == [AGENT[0], *AGENT[6:]] and made.dropped == 5


@pytest.mark.parametrize("share, results, dropped", [(0.9, 1, 0), (0.7, 2, 0), (0.3, 3, 5)])
def test_both_leaves_turns_out_only_where_notes_are_not_enough(share, results, dropped):
    made = compact(AGENT, Compaction("both", keep_turns=1), share)
    assert (made.results, made.dropped) == (results, dropped)


@pytest.mark.parametrize("how", ["results", "turns", "both"])
def test_what_is_kept_stays_the_same_object(how):
    made = compact([*AGENT, answer(), *TALK], Compaction(how, keep_turns=2))
    ours = {id(message) for message in [*AGENT, *TALK]}
    assert sum(id(message) in ours for message in made.messages) >= 5


@st.composite
def conversations(draw):
    messages, number = [], 0
    for _ in range(draw(st.integers(1, 4))):
        messages.append(user("q" * draw(st.integers(0, 300))))
        for _ in range(draw(st.integers(0, 3))):
            number += 1
            count = draw(st.integers(1, 3))
            messages.append(call(number, count))
            messages += [result(number, n, "r" * draw(st.integers(0, 300))) for n in range(count)]
            if draw(st.booleans()):
                messages.append(Message("tool", {"error": "unreadable"}, name="error"))
        if draw(st.booleans()):
            messages.append(answer("a" * draw(st.integers(0, 300))))
    return messages


@given(
    conversations(),
    st.sampled_from(["results", "turns", "both"]),
    st.integers(1, 3),
    st.floats(0, 1),
)
def test_calls_and_results_are_never_parted_and_the_last_turns_never_touched(
    messages, how, keep_turns, share
):
    made = compact(messages, Compaction(how, keep_turns=keep_turns), share).messages
    calls = [c.id for m in made for c in m.calls]
    results = [m.call_id for m in made if m.role == "tool" and m.call_id]
    assert calls == results
    said = [m for m in messages if m.role == "assistant"][-keep_turns:]
    tail = messages[messages.index(said[0]) :] if said else messages
    assert [id(m) for m in made[-len(tail) :]] == [id(m) for m in tail]
    asked = [m for m in messages if m.role == "user"]
    assert made[0].role == "user" and (made[0] is asked[-1] or any(made[0] is m for m in asked))
    roles = [m.role for m in made]
    assert all(roles[at - 1] != "user" or role != "tool" for at, role in enumerate(roles) if at)


def test_a_function_may_write_a_summary():
    def summary(messages):
        return [Message("user", "So far: much."), *messages[-1:]]

    made = compact(TALK, Compaction(summary))
    assert [m.text for m in made.messages] == ["So far: much.", "e" * 99]
    assert made.dropped == 4


@pytest.mark.parametrize(
    "rewrite, why",
    [
        (lambda messages: [], "at least one"),
        (lambda messages: ["text"], "Messages"),
        (lambda messages: messages[:-1], "keeps the last message"),
        (lambda messages: [m for m in messages if m.role != "assistant"], "parts the call"),
        (lambda messages: [*messages[:2], *messages[3:]], "parts the call 'call_1_0'"),
    ],
)
def test_a_function_that_breaks_the_conversation_is_refused(rewrite, why):
    with pytest.raises(UsageError, match=why):
        compact([*AGENT, user()], Compaction(rewrite))


@pytest.mark.parametrize(
    "settings", [{"how": "magic"}, {"at": 1.5}, {"at": 0.4}, {"to": 0}, {"keep_turns": 0}]
)
def test_a_policy_that_makes_no_sense_is_refused(settings):
    with pytest.raises(UsageError):
        Compaction(**settings)
