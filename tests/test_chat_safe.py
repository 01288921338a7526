"""What an answer under way is safe from, and what stays as it was said, asked and written."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fakes import scripted_model
from test_chat_loop import CLIENT, GREEDY, call, double, end, errors, model, of, say

import engine
from engine.errors import UsageError
from engine.events import Text, ToolCall, ToolResult
from engine.tools import Tool
from engine.tools.approval import Approvals, Request, Rule, Rules

__all__ = ["model"]


def test_nothing_is_taken_away_from_an_open_stream(model):
    say(model, "one two three", "four")
    with model.chat(sampling=GREEDY) as chat:
        events = chat.stream("?")
        while not isinstance(next(events), Text):
            pass
        for wrong in (
            lambda: list(chat.retry()),
            chat.clear,
            lambda: setattr(chat, "messages", []),
            lambda: list(chat.stream("!")),
        ):
            with pytest.raises(UsageError, match="answering already"):
                wrong()
        rest = list(events)
        assert end(rest).reason == "end_turn" and end(rest).usage.completion_tokens > 5
        assert [m.role for m in chat.messages] == ["user", "assistant"]


def test_closing_a_chat_ends_its_open_stream_and_harms_no_other(model):
    say(model, "one two three")
    chat = model.chat(sampling=GREEDY)
    events = chat.stream("?")
    while not isinstance(next(events), Text):
        pass
    chat.close()
    assert list(events) == []
    model.backend._script.clear()
    model.backend._place = 0
    say(model, "fresh")
    with model.chat(sampling=GREEDY) as other:
        assert other.run("?").text == "fresh"


def test_a_retry_that_generates_nothing_keeps_the_old_answer(model):
    say(model, "first", "second")
    with model.chat(sampling=GREEDY) as chat:
        chat.run("?")
        before = list(chat.messages)
        assert end(list(chat.retry(cancelled=lambda: True))).reason == "cancelled"
        assert chat.messages == before
        assert chat.run("and?").text == "second"
        assert [m.text for m in chat.messages] == ["?", "first", "and?", "second"]


def test_ids_of_calls_are_not_used_twice_after_loading(model, tmp_path):
    say(model, call("double", n=1), "ok", call("double", n=1), "ok", call("double", n=2), "ok")
    with model.chat(tools=[double], sampling=GREEDY) as chat:
        chat.run("?")
        list(chat.retry())
        chat.save(tmp_path / "chat.json")
    with engine.Chat.load(tmp_path / "chat.json", model, [double]) as chat:
        chat.sampling = GREEDY
        chat.run("more")
        ids = [item.id for message in chat.messages for item in message.calls]
        assert len(ids) == len(set(ids)) == 2


def test_messages_edited_in_place_are_what_the_model_reads(model):
    say(model, "one", "two", "three")
    with model.chat(sampling=GREEDY) as chat:
        chat.run("a secret")
        chat.messages[0] = engine.Message("user", "nothing")
        chat.run("b")
        text = model.vocab.bytes_of(chat.sequence.ids).decode()
        assert "secret" not in text and "nothing" in text
        chat.messages.clear()
        chat.run("c")
        assert "nothing" not in model.vocab.bytes_of(chat.sequence.ids).decode()


def test_whoever_reads_or_is_asked_changes_no_arguments(model):
    ran: list[Any] = []

    def keep(items: list[int]) -> int:
        """Keep."""
        ran.append(list(items))
        items.clear()
        return 1

    schema = {
        "type": "object",
        "properties": {"items": {"type": "array", "items": {"type": "integer"}}},
        "required": ["items"],
    }

    def ask(request: Request) -> Any:
        request.call.arguments["items"].append(9)
        return "once"

    say(model, call("keep", items=[1]), "ok")
    tools = [Tool.from_schema("keep", "Keep.", schema, keep, approve="ask")]
    with model.chat(tools=tools, sampling=GREEDY, approvals=Approvals(ask=ask)) as chat:
        for event in chat.stream("?"):
            if isinstance(event, ToolCall):
                event.arguments["items"].append(8)
        assert ran == [[1]]
        assert chat.messages[1].calls[0].arguments == {"items": [1]}


def test_what_a_rule_denies_is_not_the_caller_s_to_run(model):
    say(model, call("look", n=1) + call("double", n=2), "ok")
    approvals = Approvals(Rules([Rule("deny", "look")]))
    with model.chat(tools=[CLIENT, double], sampling=GREEDY, approvals=approvals) as chat:
        events = list(chat.stream("?", run_tools=False))
        assert end(events).reason == "tool_use"
        assert errors(events) == ["Denied"]
        assert [item.name for item in chat.pending] == ["double"]


def test_results_of_one_message_share_a_quarter_of_the_room():
    model = scripted_model(family="hermes", n_ctx=6000)

    def big(n: int) -> str:
        """Big."""
        return "x" * 5000

    say(model, "".join(call("big", n=n) for n in range(6)), "ok")
    with model.chat(tools=[big], sampling=GREEDY) as chat:
        room = chat.sequence.room
        events = list(chat.stream("?"))
        sizes = [len(result.content) for result in of(events, ToolResult)]
        assert len(sizes) == 6 and sum(sizes) <= room * 3 // 4
        assert end(events).reason == "end_turn"


def test_a_demand_for_a_call_holds_behind_a_result_too(model):
    say(model, call("look", n=1), call("look", n=2), "ok")
    with model.chat(tools=[CLIENT], sampling=GREEDY) as chat:
        list(chat.stream("?"))
        events = list(chat.resume({"call_1": 1}, tool_choice="required"))
        assert end(events).reason == "tool_use"


@pytest.mark.parametrize("deadline", [0, -1, float("nan")])
def test_a_deadline_that_is_none_is_refused(model, deadline):
    with model.chat() as chat, pytest.raises(UsageError, match="deadline"):
        list(chat.stream("?", deadline=deadline))


def test_context_variables_reach_tools_of_an_async_stream(model):
    import contextvars

    user = contextvars.ContextVar("user", default="nobody")

    def whoami(n: int) -> str:
        """Who."""
        return user.get()

    async def main() -> Any:
        user.set("somebody")
        with model.chat(tools=[whoami], sampling=GREEDY) as chat:
            return (await chat.arun("?")).results[0].content

    say(model, call("whoami", n=1), "ok")
    assert asyncio.run(main()) == "somebody"
