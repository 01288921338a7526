"""A chat that makes room: what the model said goes along token by token, and counts are true."""

from __future__ import annotations

import pytest
from fakes import byte_vocab, scripted_model
from test_chat import GREEDY, one, say, stream_text, text_of
from test_chat_loop import CLIENT, call

import engine
from engine.errors import ContextFull, UsageError
from engine.events import Finish, Notice, Step, ToolResult
from engine.messages import Message

CALL = '<tool_call>{"name": "look", "arguments": {"at": %d}}</tool_call>'
SYSTEM = "Be brief."


def look(at: int) -> str:
    """Look."""
    return f"{at} sees " + "much " * 60


def notices(events):
    return [event for event in events if isinstance(event, Notice)]


def talk(model, chat, count: int, width: int = 40) -> list:
    """Messages and answers that differ; all their events."""
    events = []
    for number in range(count):
        say(model, f"Answer {number} " + "a" * width)
        events += chat.stream(f"question {number} " + "q" * width)
    return events


def test_without_a_policy_a_chat_that_is_too_long_is_refused():
    model = scripted_model(n_ctx=600)
    with model.chat(SYSTEM, sampling=GREEDY) as chat, pytest.raises(ContextFull):
        talk(model, chat, 20)


def test_old_turns_go_and_the_chat_never_ends():
    model = scripted_model(n_ctx=600)
    with model.chat(SYSTEM, sampling=GREEDY, compaction="turns") as chat:
        events = talk(model, chat, 20)
        assert {event.reason for event in events if isinstance(event, Finish)} == {"end_turn"}
        stream = stream_text(model, chat)
        assert stream.startswith(f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\nquest")
        for number in (18, 19):
            assert f"question {number} " in stream and f"Answer {number} " in stream
        assert "question 0 " not in stream and chat.messages[0].role == "user"
        made = notices(events)
        assert 2 < len(made) < 15, "room for several turns is made at once"
        for notice in made:
            assert notice.data["tokens_after"] <= 0.6 * 600 < notice.data["tokens_before"]
            assert notice.data["dropped"] % 2 == 0 and notice.data["results"] == 0


def test_the_stream_is_what_the_template_writes_of_the_messages_that_stayed():
    model = scripted_model(n_ctx=600)
    with model.chat(SYSTEM, sampling=GREEDY, compaction="turns") as chat:
        talk(model, chat, 12)
        system = Message("system", SYSTEM)
        whole = model.prompt().opening([system, *chat.messages])[1].ids
        text = model.vocab.bytes_of(whole).decode()
        assert text.startswith(stream_text(model, chat)) and len(chat.messages) > 4


def test_the_cache_mirrors_the_stream_and_the_counts_are_true():
    model = scripted_model(n_ctx=600)
    with model.chat(SYSTEM, sampling=GREEDY, compaction="turns") as chat:
        for number in range(12):
            model.backend.computed.clear()
            events = talk(model, chat, 1, 40 + number)
            usage = one(events, Finish).usage
            generated = usage.completion_tokens - 1  # the end token waits
            assert usage.prefilled == len(model.backend.computed) - generated
            assert usage.prompt_tokens == usage.kv_reused + usage.prefilled
            assert usage.prompt_tokens + usage.completion_tokens == len(chat.sequence)
            assert usage.prefilled_again == 0
            assert model.backend.cells[chat.sequence.slot] == list(chat.sequence.ids[:-1])
            for notice in notices(events):
                assert 0 < notice.data["computed_again"] < usage.prefilled


def test_what_the_model_said_is_taken_over_token_by_token():
    """Its own spelling, which no tokenizer would choose, survives."""
    word = "answer"
    model = scripted_model(byte_vocab(words=[word]), n_ctx=600)
    odd = [ord(letter) for letter in word]  # the tokenizer has one token for it
    assert model.encode(word) != odd
    with model.chat(SYSTEM, sampling=GREEDY, compaction="turns") as chat:
        seen = 0
        for number in range(14):
            model.backend.say([*odd, model.vocab.find("<|im_end|>")])
            seen += len(notices(list(chat.stream(f"{number} " + "q" * 60))))
        assert seen > 1
        count = sum(message.role == "assistant" for message in chat.messages)
        stream = bytes(token for token in chat.sequence.ids if token < 256)
        assert stream.count(word.encode()) == count > 2
        origins = dict(zip(chat.sequence.ids, chat.sequence.origins, strict=True))
        assert origins[odd[-1]] == "sampled"


def test_old_results_become_notes_in_the_middle_of_an_agent_s_work():
    model = scripted_model(n_ctx=2400)
    with model.chat(SYSTEM, [look], sampling=GREEDY, compaction="results") as chat:
        events = []
        for number in range(6):
            say(model, CALL % number, "<answer>noted")
            events += chat.stream(f"look at {number}")
        assert {event.reason for event in events if isinstance(event, Finish)} == {"end_turn"}
        made = notices(events)
        assert made and all(n.data["results"] and not n.data["dropped"] for n in made)
        stream = stream_text(model, chat)
        assert "0 sees" not in stream and "[result of look left out to save room" in stream
        assert "5 sees" in stream and stream.count("<tool_call>") >= 6
        assert [e.is_error for e in events if isinstance(e, ToolResult)] == [False] * 6


@pytest.mark.parametrize("how", ["results", "turns", "both"])
def test_one_message_may_take_more_calls_than_the_context_holds(how):
    """Room is made between the steps of one answer, and the person's message stays."""
    model, count = scripted_model(n_ctx=2400), {"results": 8}.get(how, 24)
    say(model, CALL % 0, *(f"<answer>{CALL % number}" for number in range(1, count)))
    say(model, "<answer>Seen all.")
    settings = {"max_steps": count + 1, "compaction": how}
    with model.chat(SYSTEM, [look], sampling=GREEDY, **settings) as chat:
        events = list(chat.stream("Look at everything."))
        finish = one(events, Finish)
        assert (finish.reason, finish.usage.steps) == ("end_turn", count + 1)
        assert text_of(events) == "Seen all." and notices(events)
        assert chat.messages[0].text == "Look at everything."
        stream = stream_text(model, chat)
        assert stream.count("Look at everything.") == 1 and f"{count - 1} sees" in stream
        assert "0 sees" not in stream.replace("10 sees", "").replace("20 sees", "")
        if how != "both":
            assert ("[result of look left out" in stream) == (how == "results")
        say(model, "<answer>Again.")
        assert text_of(chat.retry(stop=engine.steps(1))).startswith("Again")
        cells = model.backend.cells[chat.sequence.slot]
        assert cells == list(chat.sequence.ids[:-1])


def test_a_message_that_would_not_fit_makes_room_first():
    model = scripted_model(n_ctx=600)
    policy = engine.Compaction("turns", at=1.0, keep_turns=1)
    with model.chat(SYSTEM, sampling=GREEDY, compaction=policy) as chat:
        talk(model, chat, 3)
        say(model, "OK")
        events = list(chat.stream("long " * 50))
        assert text_of(events) == "OK" and one(events, Notice).data["tokens_after"] < 600
        with pytest.raises(ContextFull, match="do not fit in 600"):
            list(chat.stream("long " * 150))
        assert chat.messages[-1].text == "OK"
        say(model, "still here")
        assert text_of(chat.stream("short")) == "still here"


def test_nothing_is_computed_anew_for_too_little_gain():
    model = scripted_model(n_ctx=600)
    with model.chat(SYSTEM, sampling=GREEDY, compaction="results") as chat:  # no results here
        events = talk(model, chat, 4)
        assert not notices(events)
        with pytest.raises(ContextFull):
            talk(model, chat, 4)


def test_a_prompt_stopped_while_it_makes_room_leaves_a_chat_that_goes_on():
    model = scripted_model(n_ctx=600)
    with model.chat(SYSTEM, sampling=GREEDY, compaction="turns") as chat:
        talk(model, chat, 4)
        seen = []
        for event in chat.stream("stop " * 20, cancelled=lambda: bool(notices(seen))):
            seen.append(event)
        assert one(seen, Finish).reason == "cancelled" and one(seen, Notice)
        assert chat.messages[-1].role == "assistant"
        assert "stop" not in stream_text(model, chat)
        talk(model, chat, 3)
        assert model.backend.cells[chat.sequence.slot] == list(chat.sequence.ids[:-1])


@pytest.mark.parametrize("turns", [4, 5, 6, 7])
def test_retry_after_room_was_made_answers_the_same_message(turns):
    model = scripted_model(n_ctx=600)
    with model.chat(SYSTEM, sampling=GREEDY, compaction="turns") as chat:
        talk(model, chat, turns)
        asked, before = chat.messages[-2], chat.sequence.ids
        say(model, "Another answer")
        assert text_of(chat.retry()) == "Another answer"
        assert chat.messages[-2] == asked and chat.messages[-1].text == "Another answer"
        same = model.vocab.bytes_of(before).decode().rpartition("Answer")[0]
        assert stream_text(model, chat).startswith(same)


def test_a_function_may_put_a_summary_in_place_of_everything_old():
    model = scripted_model(n_ctx=600)

    def summary(messages):
        return [Message("user", "So far: much."), Message("assistant", "Yes."), *messages[-3:]]

    with model.chat(SYSTEM, sampling=GREEDY, compaction=summary) as chat:
        events = talk(model, chat, 8)
        assert notices(events)
        assert stream_text(model, chat).count("So far: much.") == 1


def test_a_memory_that_can_t_be_rewound_is_computed_anew():
    model = scripted_model(n_ctx=600)
    model.backend.can_rewind = False
    with model.chat(SYSTEM, sampling=GREEDY, compaction="turns") as chat:
        events = talk(model, chat, 8)
        assert notices(events)
        assert model.backend.cells[chat.sequence.slot] == list(chat.sequence.ids[:-1])


def test_a_loaded_chat_that_is_too_long_makes_room_when_it_is_opened():
    model = scripted_model(n_ctx=600)
    with model.chat(SYSTEM, sampling=GREEDY, compaction="turns") as chat:
        for number in range(8):
            chat.messages.append(Message("user", f"question {number} " + "q" * 40))
            chat.messages.append(Message("assistant", f"Answer {number} " + "a" * 40))
        events = talk(model, chat, 3)
        assert one(events[:20], Notice).data["dropped"] >= 6
        assert [event.number for event in events if isinstance(event, Step)] == [1, 1, 1]


def test_an_unknown_policy_is_refused():
    with pytest.raises(UsageError, match="'results', 'turns', 'both' or a function"):
        scripted_model().chat(compaction="everything")


def test_results_that_older_messages_made_room_for_stay_where_the_prompt_is_stopped():
    """The old messages are gone for good: the chat goes on from what it has."""
    model = scripted_model(n_ctx=1200, family="hermes")
    with model.chat(SYSTEM, [CLIENT], sampling=GREEDY, compaction="turns") as chat:
        talk(model, chat, 4, 60)
        say(model, call("look", n=1))
        list(chat.stream("look"))
        before, made = list(chat.messages), []
        given = {chat.pending[0].id: "z" * 400}
        for event in chat.resume(given, cancelled=lambda: bool(notices(made))):
            made.append(event)  # as they come: the notice is what stops it
        assert made[-1].reason == "cancelled" and notices(made)
        assert chat.messages[-1].text.startswith("z") and not chat.pending
        assert len(chat.messages) < len(before)
        say(model, "<answer>seen")
        assert one(list(chat.go_on()), Finish).reason == "end_turn"
        assert stream_text(model, chat).count("question 0 ") == 0
