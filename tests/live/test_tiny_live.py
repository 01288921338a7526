"""The embedded model at work: Llama 3.1's protocol with real logits, in seconds."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import engine
from engine.events import Control, Finish, Text, Token, ToolCall, ToolResult
from tests.terminal import REAL, Terminal

pytestmark = pytest.mark.live


def get_weather(city: str) -> dict:
    """Current weather in a city."""
    return {"city": city, "temperature": 21}


def send_email(to: str, subject: str) -> str:
    """Send an email to a person."""
    return f"sent to {to}"


def broken(city: str) -> str:
    """Current weather in a city."""
    raise ConnectionError("the station did not answer")


def text_of(events) -> str:
    return "".join(event.text for event in events if isinstance(event, Text))


def names_of(events) -> list[str]:
    return [event.name for event in events if isinstance(event, Control)]


@pytest.mark.parametrize(
    "request_, city",
    [
        ("What's the weather in Paris?", "Paris"),
        ("서울 날씨 어때?", "서울"),
        ("Tell me the weather in Trakovia.", "Trakovia"),
        ("트라코비아 날씨 어때?", "트라코비아"),
    ],
)
def test_a_city_is_copied_into_the_call_and_the_result_into_the_answer(tiny, request_, city):
    with tiny.chat(tools=[get_weather, send_email]) as chat:
        events = list(chat.stream(request_, max_tokens=64))
    [call] = [event for event in events if isinstance(event, ToolCall)]
    assert (call.name, dict(call.arguments)) == ("get_weather", {"city": city})
    assert "21" in text_of(events)
    assert events[-1].reason == "end_turn"


def test_a_json_call_and_an_answer_both_end_with_eot(tiny):
    with tiny.chat(tools=[get_weather]) as chat:
        events = list(chat.stream("What is the weather in Paris?", max_tokens=64))
    assert names_of(events) == ["<|eot_id|>", "<|eot_id|>"]


def test_a_built_in_call_follows_python_tag_and_ends_with_eom(tiny):
    def brave_search(query: str) -> str:
        """Search the web."""
        return f"nothing about {query}"

    with tiny.chat(tools=[brave_search]) as chat:
        events = list(chat.stream("Search the web for Korean pottery", max_tokens=64))
    assert names_of(events) == ["<|python_tag|>", "<|eom_id|>", "<|eot_id|>"]
    [call] = [event for event in events if isinstance(event, ToolCall)]
    assert call.name == "brave_search" and "pottery" in call.arguments["query"]


def test_the_function_tag_style_is_spoken_without_a_mask_too(tiny):
    with tiny.chat(tools=[get_weather], style="function_tag", constrain=False) as chat:
        events = list(chat.stream("What's the weather in Paris?", max_tokens=64))
    said = b"".join(event.data for event in events if isinstance(event, Token))
    assert b'<function=get_weather>{"city": "Paris"}</function>' in said
    assert [event.name for event in events if isinstance(event, ToolResult)] == ["get_weather"]


def test_small_talk_calls_nothing(tiny):
    with tiny.chat(tools=[get_weather, send_email]) as chat:
        for text in ("Hello!", "고마워"):
            events = list(chat.stream(text, max_tokens=64))
            assert not any(isinstance(event, ToolCall) for event in events) and text_of(events)


def test_a_tool_s_error_is_told(tiny):
    tool = engine.tool(name="get_weather")(broken)
    with tiny.chat(tools=[tool]) as chat:
        events = list(chat.stream("What's the weather in Paris?", max_tokens=64))
    assert any(event.is_error for event in events if isinstance(event, ToolResult))
    assert "did not answer" in text_of(events)


def test_ten_turns_with_tools_compute_every_position_once(tiny):
    with tiny.chat(tools=[get_weather, send_email], max_steps=2) as chat:
        for city in ("Paris", "Oslo", "Rome", "Lima", "Cairo", "Quito", "Delhi", "Bern"):
            events = list(chat.stream(f"Weather in {city}?", max_tokens=48))
            usage = next(event for event in events if isinstance(event, Finish)).usage
            assert usage.prefilled_again == 0 and usage.steps == 2
        assert chat.sequence.counts.again == 0
        assert chat.sequence.counts.computed <= len(chat.sequence)


def test_engine_chat_without_a_model_opens_it_and_calls_a_tool(tmp_path: Path) -> None:
    begun = time.monotonic()
    with Terminal("chat", home=tmp_path, program=REAL) as terminal:
        terminal.expect("tiny-tools, a demo model")
        terminal.expect("try: ")
        terminal.say("What's the weather in Paris?")
        terminal.expect('get_weather(city="Paris")')
        terminal.expect("KV reused")
        terminal.say("/quit")
        assert terminal.wait() == 0
    print(f"start to end: {time.monotonic() - begun:.1f} s")
