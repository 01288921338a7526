"""A chat's first tokens: from its own cache, another chat's or the disk; counts of each step."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fakes import ScriptedBackend, scripted_model
from test_chat import CALL, GREEDY, get_weather, one, say, stream_text, text_of

from engine.errors import TemplateError
from engine.events import Finish, Notice, Prefill, Step, Usage
from engine.messages import Message
from engine.prefixes import MIN_TOKENS, PrefixStore, Setting
from engine.reuse import begin

SYSTEM = "You are the guide of a small museum; be brief and kind."


@pytest.fixture
def model():
    return scripted_model()


def cached(tmp_path: Path) -> object:
    """A model in a process of its own: nothing but the folder is shared."""
    model = scripted_model()
    model.prefixes = PrefixStore(tmp_path / "prefixes", tmp_path / "key", Setting("m", "b"))
    return model


def ask(model, text: str = "Who are you?", answer: str = "Hello.", **settings):
    say(model, answer)
    with model.chat(SYSTEM, sampling=GREEDY, **settings) as chat:
        events = list(chat.stream(text))
        return events, one(events, Finish).usage, stream_text(model, chat)


def saved_ids(tmp_path: Path) -> list[int]:
    """The tokens of the one saved prefix, as its header says."""
    [path] = (tmp_path / "prefixes").iterdir()
    data = path.read_bytes()
    return json.loads(data[data.index(b"{") : data.index(b"}", data.index(b'"ids"')) + 1])["ids"]


# -- on disk -------------------------------------------------------------------------------------


def test_the_next_process_computes_only_what_is_behind_system_and_tools(tmp_path):
    settings = {"tools": [get_weather], "tool_choice": "none"}
    first, before, stream = ask(cached(tmp_path), "서울", **settings)
    model = cached(tmp_path)
    second, after, other = ask(model, "부산", **settings)
    assert (before.kv_restored, before.kv_reused) == (0, 0)
    head = stream[: stream.index("서울")]
    assert other.startswith(head)
    assert after.kv_restored == after.kv_reused > len(SYSTEM)
    assert model.backend.computed[0][0] == after.kv_restored
    assert model.vocab.bytes_of(saved_ids(tmp_path)).decode() == head
    assert after.prefilled == after.prompt_tokens - after.kv_restored < before.prefilled
    assert after.prefilled_again == 0
    assert not [event for event in first if isinstance(event, Notice)]
    notice = one(second, Notice)
    assert not notice.is_warning and notice.data["tokens"] == after.kv_restored
    assert notice.data["saved_seconds"] >= 0
    assert next(e for e in second if isinstance(e, Prefill)).reused == after.kv_restored


def test_without_the_option_no_file_is_written_or_read(model, tmp_path, monkeypatch):
    monkeypatch.setattr(ScriptedBackend, "save", None)
    ask(model)
    assert model.prefixes is None


def test_a_prefix_is_saved_once_and_holds_nothing_of_what_was_said(tmp_path):
    model = cached(tmp_path)
    for text in ("first secret", "second secret"):
        ask(model, text)
    ask(cached(tmp_path), "third secret")
    [path] = (tmp_path / "prefixes").iterdir()
    cells = path.read_bytes()
    assert b"secret" not in cells.replace(b"\0", b"")
    assert int(path.name.split("-")[1]) >= MIN_TOKENS


def test_a_short_beginning_is_not_worth_a_file(tmp_path):
    model = cached(tmp_path)
    say(model, "Hello.")
    with model.chat(sampling=GREEDY) as chat:
        list(chat.stream("Hi " * 100))
    assert not (tmp_path / "prefixes").exists()


def test_another_system_message_has_another_prefix(tmp_path):
    model = cached(tmp_path)
    ask(model)
    say(model, "Yes.", "No.")
    with model.chat(SYSTEM.replace("museum", "castle"), sampling=GREEDY) as chat:
        assert one(list(chat.stream("Hi")), Finish).usage.kv_restored == 0
        chat.clear(system=SYSTEM)
        usage = one(list(chat.stream("Hi")), Finish).usage
        assert usage.kv_restored > MIN_TOKENS and usage.prefilled < 40
    assert len(list((tmp_path / "prefixes").iterdir())) == 2


def test_a_damaged_prefix_is_computed_and_said_and_made_anew(tmp_path):
    ask(cached(tmp_path))
    [path] = (tmp_path / "prefixes").iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    events, usage, _ = ask(cached(tmp_path))
    notice = one(events, Notice)
    assert notice.is_warning and str(path) in notice.text and usage.kv_restored == 0
    assert text_of(events) == "Hello."
    assert ask(cached(tmp_path))[1].kv_restored


def test_a_prefix_that_can_t_be_saved_is_said_and_the_answer_comes(tmp_path):
    (tmp_path / "prefixes").write_text("no folder")
    events, _, _ = ask(cached(tmp_path))
    assert "could not be saved" in one(events, Notice).text and text_of(events) == "Hello."


def test_a_prompt_stopped_behind_its_prefix_has_saved_it(tmp_path):
    model, seen = cached(tmp_path), []
    say(model, "never said")
    with model.chat(SYSTEM, sampling=GREEDY) as chat:
        events = chat.stream("word " * 50, cancelled=lambda: len(seen) > 3)
        for event in events:
            seen.append(event)
        assert seen[-1].reason == "cancelled" and chat.messages == []
    assert ask(cached(tmp_path))[1].kv_restored


def test_a_loaded_chat_s_prefix_is_that_of_a_new_one(tmp_path):
    ask(cached(tmp_path))
    model = cached(tmp_path)
    say(model, "And you?")
    with model.chat(SYSTEM, sampling=GREEDY) as chat:
        chat.messages += [Message("user", "Hi"), Message("assistant", "Hello.")]
        assert one(list(chat.stream("Well?")), Finish).usage.kv_restored > MIN_TOKENS


def test_a_memory_that_can_t_be_rewound_has_prefixes_too(tmp_path):
    model = cached(tmp_path)
    model.backend.can_rewind = False
    ask(model)
    model = cached(tmp_path)
    model.backend.can_rewind = False
    assert ask(model)[1].kv_restored


def test_the_pinned_part_ends_where_messages_begin(model):
    prompt = model.prompt()
    system = [Message("system", SYSTEM)]
    for text in ("x", "x1", "1", "가나다", "", "<|im_end|>"):
        ids = prompt.opening([*system, Message("user", text)])[1].ids
        head = f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n"
        assert model.vocab.bytes_of(ids[: prompt.pinned(ids, system)]).decode() == head


def test_a_template_that_takes_no_lone_message_has_nothing_pinned(model, monkeypatch):
    prompt = model.prompt()

    def refuse(*_):
        raise TemplateError("no")

    ids = prompt.opening([Message("user", "Hi")])[1].ids
    monkeypatch.setattr(type(prompt), "opening", refuse)
    assert prompt.pinned(ids, []) == 0


# -- among chats ---------------------------------------------------------------------------------


def test_a_second_chat_of_a_model_takes_what_both_begin_with_from_the_first(model):
    say(model, "one", "two", "three")
    with model.chat(SYSTEM, sampling=GREEDY) as first, model.chat(SYSTEM, sampling=GREEDY) as other:
        list(first.stream("Hi"))
        usage = one(list(other.stream("Ho")), Finish).usage
        assert usage.kv_reused > len(SYSTEM) and usage.prefilled < 40
        assert usage.prefilled_again == usage.kv_restored == 0
        list(first.stream("On"))
        assert stream_text(model, first).endswith(
            "On<|im_end|>\n<|im_start|>assistant\nthree<|im_end|>"
        )
        for chat in (first, other):
            waiting = 1  # an end token is computed when it is needed
            cells = model.backend.cells[chat.sequence.slot]
            assert cells == list(chat.sequence.ids[:-waiting])


def test_a_memory_that_can_t_be_rewound_is_shared_only_as_a_whole(model):
    model.backend.can_rewind = False
    say(model, "one", "two")
    with model.chat(SYSTEM, sampling=GREEDY) as first, model.chat(SYSTEM, sampling=GREEDY) as other:
        list(first.stream("Hi"))
        assert one(list(other.stream("Ho")), Finish).usage.kv_reused == 0


@pytest.mark.parametrize("change", ["clear", "retry", "set_tools"])
def test_the_prefix_stays_cached(change, model):
    """Of the second answer's prompt, no token of system message and tools is computed."""
    say(model, "one", "two")
    with model.chat(SYSTEM, [get_weather], tool_choice="none", sampling=GREEDY) as chat:
        list(chat.stream("Hi"))
        ids = chat.sequence.ids
        pinned = model.prompt().pinned(
            ids, [Message("system", SYSTEM)], [tool.spec for tool in chat.tools]
        )
        assert pinned > 100
        model.backend.computed.clear()
        if change == "clear":
            chat.clear()
        elif change == "set_tools":
            chat.set_tools([get_weather])
        list(chat.retry() if change == "retry" else chat.stream("Hi"))
        assert min(position for position, _ in model.backend.computed) >= pinned


# -- counts of each step -------------------------------------------------------------------------


def test_each_message_of_the_model_ends_with_its_own_counts_that_add_up(model):
    say(model, CALL, "<answer>done")
    with model.chat(tools=[get_weather], sampling=GREEDY) as chat:
        events = list(chat.stream("Go"))
    steps = [event for event in events if isinstance(event, Step)]
    assert [step.number for step in steps] == [1, 2]
    assert [step.usage.steps for step in steps] == [1, 1]
    total = one(events, Finish).usage
    for name in ("prompt_tokens", "kv_reused", "prefilled", "completion_tokens", "forced_tokens"):
        assert sum(getattr(step.usage, name) for step in steps) == getattr(total, name)
    assert steps[0].usage.prefilled > steps[1].usage.prefilled > 0
    names = [type(event).__name__ for event in events]
    assert names.index("Step") < names.index("ToolResult"), "before the calls are run"


def test_counts_since_an_earlier_moment():
    assert Usage(5, 4, 3, decode_seconds=2.5) - Usage(1, 1, 1, decode_seconds=0.5) == Usage(
        4, 3, 2, decode_seconds=2.0
    )


def test_a_cancelled_prompt_is_no_step(model):
    say(model, "never")

    with model.chat(sampling=GREEDY) as chat:
        events = list(chat.stream("word " * 50, cancelled=lambda: True))
    assert [type(event) for event in events if isinstance(event, Step | Finish)] == [Finish]


def test_what_is_there_already_is_not_saved_again(tmp_path):
    model = cached(tmp_path)
    ask(model)
    pinned = len(saved_ids(tmp_path))
    with model.chat(SYSTEM, sampling=GREEDY) as chat:
        for text, border in (("a", 0), ("b", 0)):
            ids = model.prompt().opening([Message("system", SYSTEM), Message("user", text)])[1].ids
            start = begin(chat.sequence, ids, store=model.prefixes, pinned=pinned)
            assert (start.reused, start.border) == (pinned, border)
