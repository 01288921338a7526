"""What may go wrong around calls: thinking, forms of the answer, limits, NaN, hostile schemas."""

from __future__ import annotations

import json

import numpy as np
import pytest
from fakes import byte_vocab, scripted_model
from families import NOW, SEOUL_CALLS, WEATHER, Played, end_of, pieces, play, turn_of, vocab_for

import engine
from engine.errors import DeadEnd, NonFiniteLogits, UsageError
from engine.events import Finish, Notice, Text, Thinking, ToolCall, ToolCallDelta, ToolResult
from engine.families import profile, profiles
from engine.grammar import Grammar
from engine.messages import ToolSpec
from engine.toolcall import Turn
from engine.tools import Tool
from engine.vocab import UNUSED, Vocab

GREEDY = engine.Sampling(temperature=0)
THINKING = [name for name, item in profiles().items() if item.thinking is not None]


def start(name: str, text: str, span: str = "text", **options) -> Played:
    vocab = vocab_for(name)
    turn = turn_of(profile(name), vocab, [WEATHER, NOW], span=span, **options)
    return play(turn, vocab, pieces(vocab, text))


def said(played: Played, kind: type) -> str:
    return "".join(event.text for event in played.events if isinstance(event, kind))


# Thinking


def think(turn: Turn, text: str, limit: int = 50) -> list:
    """Let a model think without an end; what is forced comes first, as in the loop."""
    events, forced, said = [], [], iter(text.encode() * limit)
    for _ in range(limit):
        forced = forced or turn.forced()
        events += turn.feed(forced.pop(0) if forced else next(said))
    return events


@pytest.mark.parametrize("budget", [1, 7, 20])
@pytest.mark.parametrize("name", THINKING)
def test_thinking_ends_when_its_budget_of_tokens_is_used_up(name, budget):
    vocab = vocab_for(name)
    turn = turn_of(profile(name), vocab, [NOW], span="thinking", thinking_budget=budget)
    events = think(turn, "a")
    thought = "".join(event.text for event in events if isinstance(event, Thinking))
    answer = "".join(event.text for event in events if isinstance(event, Text))
    assert thought == "a" * budget and set(answer) == {"a"}


@pytest.mark.parametrize("name", THINKING)
def test_a_budget_that_is_not_used_up_forces_nothing(name):
    vocab = vocab_for(name)
    turn = turn_of(profile(name), vocab, [NOW], span="thinking", thinking_budget=40)
    close = profile(name).thinking.close
    for token in pieces(vocab, "hm" + close + "yes"):
        assert turn.forced() == []
        turn.feed(token)


@pytest.mark.parametrize("name", THINKING)
def test_a_call_begins_inside_thinking_only_where_the_family_has_that(name):
    item = profile(name)
    trigger = item.style().triggers[0]
    opener = trigger.text.replace("{name}", "now")
    played = start(name, "So: " + opener, "thinking")
    has_calls = item.thinking.has_calls and trigger.kind in ("token", "text")
    assert (played.turn.is_in_call, played.masked) == (has_calls, None)
    assert said(played, Text) == ""
    assert said(played, Thinking).startswith("So: ")


@pytest.mark.parametrize("name", THINKING)
def test_thinking_that_is_never_closed_ends_with_the_message(name):
    played = start(name, "So" + end_of(name) if profile(name).ends else "So<|im_end|>", "thinking")
    assert played.turn.is_over and played.masked is None
    assert (said(played, Thinking), said(played, Text), played.calls) == ("So", "", [])


CALLS = {
    "hermes": '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>',
    "qwen3-coder": "<tool_call>\n<function=now>\n</function>\n</tool_call>",
    "glm4.5": "<tool_call>now\n</tool_call>",
    "mistral-v13": "[TOOL_CALLS]now[ARGS]{}",
    "lfm2": "<|tool_call_start|>[now()]<|tool_call_end|>",
    "gemma4": "<|tool_call>call:now{}<tool_call|>",
    "llama3": '{"name": "now", "parameters": {}}',
    "minicpm5": '<function name="now"></function>',
}


@pytest.mark.parametrize("name", ["qwen3-coder", "mistral-v13"])
def test_a_call_inside_thinking_is_held_to_its_schema_and_made(name):
    played = start(name, "Hm. " + CALLS[name] + end_of(name), "thinking")
    assert (played.calls, said(played, Thinking)) == ([("now", {})], "Hm. ")
    assert start(name, CALLS[name].replace("now", "later"), "thinking").masked is not None


# The form of the answer

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
FORMS = {
    "schema": (Grammar.from_schema(PERSON), '{"name": "서연", "age": 3}', '{"name": "서연", "a!'),
    "regex": (Grammar.from_regex("[가-힣]{2,4} [0-9]+"), "서울 21", "서울 x"),
    "lark": (Grammar.from_lark('start: "yes" | "no" "!"*'), "no!!", "maybe"),
    "gbnf": (Grammar.from_gbnf('root ::= ("a" | "b")+ "."'), "abba.", "abc"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("choice", ["none", "auto"])
def test_an_answer_has_its_form_alone_and_beside_tools(name, form, choice):
    grammar, good, bad = FORMS[form]
    played = start(name, good + end_of(name), choice=choice, response=grammar)
    assert (played.masked, said(played, Text), played.calls) == (None, good, [])
    assert played.turn.is_over
    assert start(name, bad, choice=choice, response=grammar).masked is not None
    assert start(name, end_of(name), choice=choice, response=grammar).masked is not None


@pytest.mark.parametrize("constrain", [True, False])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", CALLS)
def test_instead_of_an_answer_in_its_form_a_call_may_come(name, form, constrain):
    grammar = FORMS[form][0]
    text = CALLS[name] + end_of(name)
    played = start(name, text, response=grammar, constrain=constrain)
    assert (played.masked, played.calls, said(played, Text)) == (None, [("now", {})], "")
    deltas = "".join(e.text for e in played.events if isinstance(e, ToolCallDelta))
    assert json.loads(deltas or "{}") == {}
    assert start(name, text, response=grammar, choice="none").masked is not None


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["hermes", "qwen3-coder", "mistral-v13", "glm4.5"])
def test_an_answer_in_its_form_comes_after_thinking_whoever_opens_it(name, form):
    grammar, good, bad = FORMS[form]
    marks = profile(name).thinking
    for span, opener in (("thinking", ""), ("text", marks.open)):
        before = opener + "Well: {" + marks.close
        played = start(name, before + good + end_of(name), span, response=grammar)
        assert (played.masked, said(played, Text)) == (None, good)
        assert said(played, Thinking) == "Well: {"
        assert start(name, before + bad, span, response=grammar).masked is not None
        called = start(name, before + CALLS[name] + end_of(name), span, response=grammar)
        assert (called.masked, called.calls) == (None, [("now", {})])


def test_an_answer_that_begins_as_a_call_does_is_held_back_until_it_is_clear():
    grammar = FORMS["schema"][0]
    shared = '{"name": "'
    undecided = start("llama3", shared, response=grammar)
    assert said(undecided, Text) == "" and not undecided.turn.is_in_call
    answer = start("llama3", shared + "x", response=grammar)
    assert said(answer, Text) == shared + "x"
    call = start("llama3", shared + 'get_weather", "p', response=grammar)
    assert said(call, Text) == "" and call.turn.is_in_call
    assert call.turn.call_length == len(shared + 'get_weather", "p')
    assert undecided.turn.cut() and not call.turn.cut()


# Limits and broken logits, through a chat

TEMPLATE = """
{%- for message in messages %}
{%- set said = message.content if message.content is string else message.content | tojson %}
{{- message.role + ': ' + said + '\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- 'assistant: ' }}{% endif %}
"""


class Told:
    """A chat of one family, the tool that it may call, and what was called."""

    def __init__(self, name: str, *, vocab: Vocab | None = None, n_ctx: int = 4096, **options):
        self.name, self.runs = name, []
        self.model = scripted_model(vocab or vocab_for(name), TEMPLATE, family=name, n_ctx=n_ctx)
        tool = Tool.from_schema(
            "get_weather",
            "Weather.",
            WEATHER.parameters,
            lambda city, days=1: self.runs.append(city) or "맑음",
        )
        self.chat = self.model.chat(tools=[tool], sampling=GREEDY, **options)

    def say(self, *messages: str) -> None:
        for message in messages:
            ids = pieces(self.model.vocab, message + end_of(self.name))
            self.model.backend.say(ids)

    def prefer(self, *choices: tuple[bytes | str, float]) -> None:
        """From now on the model wants these tokens, whatever comes."""
        logits = np.linspace(0, -1, self.model.vocab.n_vocab, dtype=np.float32)
        for what, weight in choices:
            token = what[0] if isinstance(what, bytes) else self.model.vocab.ids[what]
            logits[token] = weight
        self.model.backend.logits_at = lambda step: logits


def one(events: list, kind: type):
    (found,) = [event for event in events if isinstance(event, kind)]
    return found


@pytest.mark.parametrize("name", SEOUL_CALLS)
def test_a_call_is_made_and_answered_in_every_notation(name):
    told = Told(name)
    told.say("Let me see. " * (name != "llama3") + SEOUL_CALLS[name], "좋아요")
    events = list(told.chat.stream("?"))
    assert one(events, ToolCall).arguments == {"city": "서울"}
    assert (told.runs, one(events, Finish).reason) == (["서울"], "end_turn")


@pytest.mark.parametrize("name", SEOUL_CALLS)
def test_a_model_that_wants_to_end_at_every_token_of_a_call_ends_behind_it(name):
    told = Told(name, tool_choice="required", force=False)
    vocab, ids = told.model.vocab, pieces(told.model.vocab, SEOUL_CALLS[name])

    def logits(step: int) -> np.ndarray:
        found = np.linspace(0, -1, vocab.n_vocab, dtype=np.float32)
        found[ids[step] if step < len(ids) else 0] = 20.0
        found[vocab.ids[end_of(name)]] = 30.0
        return found

    told.model.backend.logits_at = logits
    events = list(told.chat.stream("?", max_tokens=300))
    assert one(events, ToolCall).arguments == {"city": "서울"}
    assert (told.runs, one(events, Finish).reason) == (["서울"], "end_turn")


@pytest.mark.parametrize("name", SEOUL_CALLS)
def test_a_call_cut_off_anywhere_by_max_tokens_is_never_run(name):
    text = "So " * (name != "llama3") + SEOUL_CALLS[name]
    length = len(pieces(vocab_for(name), text))
    held = 9 if name == "llama3" else 0  # what is said before the call is known as one
    for limit in range(4 + held, length, 5):
        told = Told(name)
        told.say(text)
        before = len(told.chat.sequence)
        events = list(told.chat.stream("?", max_tokens=limit))
        finish = one(events, Finish)
        assert (finish.reason, told.runs) == ("length", [])
        assert not [e for e in events if isinstance(e, ToolCall | ToolResult)]
        assert "cut off (length)" in one(events, Notice).text
        kept = told.model.vocab.bytes_of(told.chat.sequence.ids[before:]).decode()
        assert kept.endswith("assistant: So " if name != "llama3" else "assistant: ")


@pytest.mark.parametrize("name", SEOUL_CALLS)
def test_the_context_s_end_inside_a_call_drops_it_and_the_chat_goes_on(name):
    whole = Told(name)
    whole.say("hm")
    list(whole.chat.stream("?"))
    length = len(pieces(whole.model.vocab, SEOUL_CALLS[name]))
    told = Told(name, n_ctx=len(whole.chat.sequence) - 3 + length - 2)
    told.say(SEOUL_CALLS[name])
    events = list(told.chat.stream("?"))
    assert (one(events, Finish).reason, told.runs) == ("context_full", [])
    assert "dropped" in one(events, Notice).text


@pytest.mark.parametrize("value, error", [(np.nan, NonFiniteLogits), (-np.inf, NonFiniteLogits)])
@pytest.mark.parametrize("name", SEOUL_CALLS)
def test_logits_without_a_number_inside_a_call_are_an_error_and_leave_no_call(name, value, error):
    told = Told(name, force=False)
    told.say(SEOUL_CALLS[name])
    bad = np.full(told.model.vocab.n_vocab, value, dtype=np.float32)
    if value == -np.inf:
        bad[told.model.vocab.ids[end_of(name)]] = 20.0  # the end is all that it wants
    told.model.backend.logits_at = lambda step: bad if step == 20 else None
    with pytest.raises(error):
        list(told.chat.stream("?"))
    assert told.runs == []
    assert told.model.vocab.bytes_of(told.chat.sequence.ids).decode().endswith("assistant: ")
    told.model.backend._script.clear()
    told.model.backend._place = 0
    told.say("네")
    assert told.chat.run("?").text == "네"


def test_a_grammar_that_the_vocabulary_can_t_go_on_with_is_a_dead_end():
    vocab = vocab_for("hermes")
    vocab.kinds[ord("}")] = UNUSED
    told = Told("hermes", vocab=vocab, tool_choice="required", force=False)
    told.prefer((b'"', 5.0), (b"x", 4.0))
    with pytest.raises(DeadEnd):
        list(told.chat.stream("?", max_tokens=200))
    assert told.runs == []


def test_a_whole_call_is_run_though_one_behind_it_is_broken():
    told = Told("hermes", constrain=False)
    call = SEOUL_CALLS["hermes"]
    told.say(call + "\nand\n" + call.replace('"city"', "city"), "ok")
    events = list(told.chat.stream("?"))
    assert told.runs == ["서울"] and one(events, Finish).reason == "end_turn"
    told_model = [message for message in told.chat.messages if message.role == "tool"]
    assert [message.name for message in told_model] == ["get_weather", "error"]
    assert "leaves its form" in told_model[1].text


@pytest.mark.parametrize("name", ["hermes", "qwen3-coder", "lfm2", "gemma4"])
def test_bytes_that_are_no_text_can_t_come_inside_a_call(name):
    text, _, rest = SEOUL_CALLS[name].partition("서울")
    vocab = vocab_for(name)
    for wrong in (b"\xff", b"\xc3<", "서".encode()[:2] + b"a"):
        for constrain in (True, False):
            turn = turn_of(profile(name), vocab, [WEATHER], constrain=constrain)
            ids = [*pieces(vocab, text), *wrong, *pieces(vocab, rest + end_of(name))]
            played = play(turn, vocab, ids)
            "".join(e.text for e in played.events if isinstance(e, ToolCallDelta)).encode()
            assert played.masked if constrain else turn.result.broken or played.calls


@pytest.mark.parametrize("name", ["hermes", "qwen3-coder"])
def test_characters_split_over_tokens_are_said_whole(name):
    played = start(name, "서울 😀 " + SEOUL_CALLS[name] + end_of(name))
    assert said(played, Text) == "서울 😀 "
    assert all("\ufffd" not in getattr(event, "text", "") for event in played.events)
    assert played.calls == [("get_weather", {"city": "서울"})]


@pytest.mark.parametrize("owed", ["call", "answer"])
def test_a_message_can_t_end_in_thinking_while_a_call_or_an_answer_is_owed(owed):
    item, vocab = profile("hermes"), vocab_for("hermes")
    options = (
        {"choice": "required"}
        if owed == "call"
        else {"response": Grammar.from_schema({"type": "integer"})}
    )
    end = vocab.find("<|im_end|>")
    turn = turn_of(item, vocab, [WEATHER], span="thinking", **options)
    played = play(turn, vocab, [*b"hm", end])
    assert played.masked is not None and not turn.is_over
    free = turn_of(item, vocab, [WEATHER], span="thinking")
    assert play(free, vocab, [*b"hm", end]).masked is None and free.is_over


@pytest.mark.parametrize(
    "number, is_allowed", [("1e99", True), ("-2.5E-07", True), ("1e100", False)]
)
def test_numbers_in_calls_stay_in_a_double_s_range(number, is_allowed):
    tool = ToolSpec("f", "", {"type": "object", "properties": {"x": {"type": "number"}}})
    vocab = vocab_for("hermes")
    turn = turn_of(profile("hermes"), vocab, [tool])
    text = f'<tool_call>\n{{"name": "f", "arguments": {{"x": {number}}}}}\n</tool_call><|im_end|>'
    played = play(turn, vocab, pieces(vocab, text))
    assert (played.masked is None) == is_allowed
    assert played.calls == ([("f", {"x": float(number)})] if is_allowed else [])


@pytest.mark.parametrize("budget", [0, -1])
def test_a_budget_below_one_is_a_mistake(budget):
    model = scripted_model(byte_vocab())
    with pytest.raises(UsageError, match="thinking_budget is at least 1"):
        model.chat(thinking_budget=budget)
