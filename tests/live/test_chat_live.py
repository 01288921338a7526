"""The library on real weights: the embedded model by default, SmolLM2 where the family matters."""

from __future__ import annotations

import json
from typing import Literal

import pytest

import engine
from engine import _native
from engine.errors import Cancelled, ContextFull, UsageError
from engine.events import Finish, Text, Token, ToolCall, ToolResult
from engine.llama import LlamaBackend
from engine.loading import LoadOptions

pytestmark = pytest.mark.live
GREEDY = engine.Sampling(temperature=0)


def get_weather(city: str, unit: Literal["celsius", "fahrenheit"] = "celsius") -> dict:
    """Current weather in a city."""
    return {"city": city, "temperature": 21, "unit": unit}


def text_of(events) -> str:
    return "".join(event.text for event in events if isinstance(event, Text))


def finish_of(events) -> Finish:
    return next(event for event in events if isinstance(event, Finish))


@pytest.mark.parametrize("weights", ["tiny", "smollm2"])
def test_the_loop_chooses_what_a_bare_decode_and_argmax_loop_chooses(weights, request):
    model = request.getfixturevalue(weights)
    with model.chat(sampling=GREEDY) as chat:
        events = list(chat.stream("Count to ten.", max_tokens=24))
        ours = [event.id for event in events if isinstance(event, Token)]
        prompt = chat.sequence.ids[: -len(ours)]
    backend = model.backend
    backend.decode(list(prompt), 0)
    bare = []
    for position in range(len(prompt), len(prompt) + len(ours)):
        bare.append(_native.argmax(backend.logits())[0])
        backend.decode([bare[-1]], position)
    backend.forget(0)
    assert ours == bare


def test_a_korean_conversation_streams_whole_characters_and_prefills_nothing_twice(smollm2):
    with smollm2.chat("Answer in Korean.", sampling=GREEDY) as chat:
        for text in ("안녕하세요?", "서울은 어떤 도시인가요?", "고마워요 👋"):
            events = list(chat.stream(text, max_tokens=24))
            usage = finish_of(events).usage
            assert usage.prefilled_again == 0
            assert usage.prompt_tokens == usage.kv_reused + usage.prefilled
            pieces = [event.text for event in events if isinstance(event, Text)]
            assert not any("\ufffd" in piece for piece in pieces[:-1])
        assert chat.sequence.counts.again == 0


def test_ten_turns_with_tools_compute_every_position_once(smollm2, monkeypatch):
    computed = []
    decode = smollm2.backend.decode
    monkeypatch.setattr(
        smollm2.backend,
        "decode",
        lambda ids, at, **more: (
            computed.extend(range(at, at + len(ids))),
            decode(ids, at, **more),
        ),
    )
    with smollm2.chat(
        tools=[get_weather], sampling=GREEDY, tool_choice="required", max_steps=2
    ) as chat:
        for turn in range(10):
            events = list(chat.stream(f"Weather in city {turn}?", max_tokens=32))
            assert finish_of(events).usage.prefilled_again == 0
    assert len(computed) == len(set(computed))


def test_a_required_call_is_valid_run_and_answered(smollm2):
    with smollm2.chat(tools=[get_weather], sampling=GREEDY, tool_choice="required") as chat:
        events = list(chat.stream("What is the weather in Seoul?", max_tokens=48))
        call = next(event for event in events if isinstance(event, ToolCall))
        assert call.arguments.get("unit", "celsius") in ("celsius", "fahrenheit")
        assert isinstance(call.arguments["city"], str)
        result = next(event for event in events if isinstance(event, ToolResult))
        assert result.content["temperature"] == 21 and not result.is_error
        assert text_of(events)
        assert [m.role for m in chat.messages] == ["user", "assistant", "tool", "assistant"]


def test_structured_output_is_valid_json_for_its_schema(tiny):
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer"}},
        "required": ["name", "age"],
        "additionalProperties": False,
    }
    with tiny.chat(sampling=GREEDY) as chat:
        answer = chat.run("Invent a person.", response_format=schema, max_tokens=80)
        assert answer.finish.reason == "end_turn"
        assert set(json.loads(answer.text)) == {"name", "age"} and answer.parsed["age"] == int(
            answer.parsed["age"]
        )


def test_after_a_cancelled_answer_the_next_equals_a_fresh_chat_s_with_the_same_history(tiny):
    with tiny.chat(sampling=GREEDY) as chat:
        seen = []
        for event in chat.stream("Tell me about the sea.", cancelled=lambda: len(seen) > 12):
            seen.append(event)
        assert seen[-1].reason == "cancelled"
        after = text_of(chat.stream("And the moon?", max_tokens=16))
        ids = chat.sequence.ids
    with tiny.chat(sampling=GREEDY) as fresh:
        count = len(tiny.encode(after))
        fresh.sequence.append(list(ids[:-count]), "template")
        assert _native.argmax(fresh.sequence.logits())[0] == ids[-count]


def test_cancel_in_a_prompt_is_seen_inside_a_chunk_and_the_chat_stays_usable(tiny):
    asked = 0

    def cancelled() -> bool:
        nonlocal asked
        asked += 1
        return asked > 40  # ggml asks before each graph node: this is within the first chunk

    with tiny.chat(sampling=GREEDY) as chat:
        events = list(chat.stream("word " * 900, cancelled=cancelled))
        assert events[-1].reason == "cancelled" and chat.messages == []
        assert asked < 2000
        assert text_of(chat.stream("Hi", max_tokens=5))


def test_a_prompt_larger_than_the_context_is_refused_with_numbers(tiny):
    with tiny.chat() as chat, pytest.raises(ContextFull, match="do not fit in 4096"):
        list(chat.stream("word " * 5000))


def test_saved_cache_state_gives_the_same_next_token(tiny):
    with tiny.chat(sampling=GREEDY) as chat:
        list(chat.stream("One two three", max_tokens=8))
        sequence = chat.sequence
        expected = _native.argmax(sequence.logits())[0]
        state, ids, origins = sequence.save(), sequence.ids, sequence.origins
        sequence.clear()
        sequence.load(state, ids, origins)
        assert _native.argmax(sequence.logits())[0] == expected


def test_forks_share_the_past_and_go_their_own_ways(tiny):
    sequence = tiny.sequence()
    sequence.append(tiny.encode("The capital of France is"), "content")
    twin = sequence.fork(3)
    twin.append(tiny.encode(" not"), "content")
    one = _native.argmax(twin.logits())[0]
    sequence.append(tiny.encode(" not"), "content")
    assert _native.argmax(sequence.logits())[0] == one
    twin.clear()
    tiny.release(sequence)


def test_bad_batches_are_refused_before_llama_cpp_sees_them(tiny):
    backend = tiny.backend
    with pytest.raises(UsageError, match="outside 0 to"):
        backend.decode([10**6], 0)
    with pytest.raises(UsageError, match="a batch holds"):
        backend.decode([1] * (backend.n_batch + 1), 0)


def test_a_load_can_be_cancelled_and_closing_twice_is_fine(tiny_path):
    with pytest.raises(Cancelled, match="was stopped"):
        LlamaBackend(tiny_path, LoadOptions(n_ctx=256), on_progress=lambda share: False)
    backend = LlamaBackend(tiny_path, LoadOptions(n_ctx=256))
    backend.close()
    backend.close()
