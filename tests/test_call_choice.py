"""Which calls a message may have: the choice by mask, other forms than the family's, prose."""

from __future__ import annotations

import pytest
from families import NOTHING, WEATHER, Played, pieces, play, turn_of, vocab_for, wander
from families import NOW as CLOCK

from engine.dialect import Dialect
from engine.errors import UsageError
from engine.events import Notice, Text, ToolCallStart
from engine.families import profile, profiles
from engine.messages import ToolSpec
from engine.profile import Profile
from engine.toolcall import ToolChoice, Turn
from engine.vocab import Vocab

TOOLS = [
    WEATHER,
    CLOCK,
    ToolSpec("browser_open", "Open.", NOTHING),
    ToolSpec("browser_shut", "Shut.", NOTHING),
]
STYLES = [(name, style) for name, item in profiles().items() for style in item.styles]


def span_of(item: Profile) -> str:
    return "header" if any(header.is_open for header in item.headers) else "text"


def turn_for(name: str, style: str | None, vocab: Vocab, **options) -> Turn:
    item = profile(name)
    return turn_of(item, vocab, TOOLS, style=style, span=span_of(item), **options)


def begun(played: Played) -> list[str]:
    return [event.name for event in played.events if isinstance(event, ToolCallStart)]


@pytest.mark.parametrize("name, style", STYLES)
def test_required_begins_with_the_family_s_own_form_from_the_first_token(name, style):
    item = profile(name)
    vocab = vocab_for(name)
    turn = turn_for(name, style, vocab, choice="required")
    assert turn.constraint is not None
    if any(t.kind == "header" for t in item.style(style).triggers) and span_of(item) == "text":
        allowed = {vocab.ids[item.headers[0].open]}
    else:
        matcher = Dialect(item, item.style(style), vocab).matcher(TOOLS)
        allowed = {token for token in range(vocab.n_vocab) if matcher.allows(token)}
    assert allowed == {token for token in range(vocab.n_vocab) if turn.constraint.allows(token)}
    assert name == "gigachat3" or not allowed & vocab.eog  # where a call begins with an end
    assert all(chr(token) in "<[{fAnbg> " for token in allowed if token < 256)


@pytest.mark.parametrize("name, style", STYLES)
@pytest.mark.parametrize(
    "choice, names",
    [("required", 4), ("now", 1), ("get_weather,now", 2), ("browser_*", 2)],
)
def test_a_choice_calls_what_it_names_and_nothing_else(name, style, choice, names):
    vocab = vocab_for(name)
    chosen = ToolChoice.parse(choice, [tool.name for tool in TOOLS]).names
    assert len(chosen) == names
    found = set()
    for seed in range(3):
        played = wander(turn_for(name, style, vocab, choice=choice), vocab, seed, limit=400)
        found |= set(begun(played))
        assert begun(played), "no call"
    assert found <= set(chosen)


@pytest.mark.parametrize("name, style", STYLES)
def test_under_none_no_opener_can_come(name, style):
    item, vocab = profile(name), vocab_for(name)
    for trigger in item.style(style).triggers:
        if style == "function_tag" and trigger.kind == "token":
            continue  # in front of built-in tools alone
        text = trigger.text.replace("{name}", "now")
        header = item.headers[0].open if item.headers and span_of(item) == "text" else ""
        ids = pieces(vocab, header if trigger.kind == "header" else "")
        ids += list(text.encode()) if trigger.kind == "text" else pieces(vocab, text)
        refused = play(turn_for(name, style, vocab, choice="none"), vocab, ids)
        assert refused.masked is not None, trigger
        allowed = play(turn_for(name, style, vocab), vocab, ids)
        assert allowed.masked is None and allowed.turn.is_in_call, trigger


@pytest.mark.parametrize("name, style", STYLES)
def test_under_none_a_model_that_says_anything_calls_nothing(name, style):
    vocab = vocab_for(name)
    played = wander(turn_for(name, style, vocab, choice="none"), vocab, 7, limit=150)
    assert not begun(played) and not played.turn.is_in_call


@pytest.mark.parametrize("name", ["hermes", "qwen3-coder", "gemma4", "lfm2", "gpt-oss"])
def test_after_a_call_a_demanded_one_is_not_demanded_again(name):
    vocab = vocab_for(name)
    played = wander(turn_for(name, None, vocab, choice="now"), vocab, 1, limit=400)
    assert set(begun(played)) == {"now"}


@pytest.mark.parametrize(
    "choice, message",
    [
        ("later", "unknown tool 'later'"),
        ("web_*", "unknown tool 'web_.'"),
        (["now", "later"], "unknown tool 'later'"),
        ("", "unknown tool ''"),
        ([], "no tool to require"),
    ],
)
def test_a_choice_of_what_is_not_there_names_what_is(choice, message):
    with pytest.raises(UsageError, match=message + ".*get_weather, now, browser_open"):
        ToolChoice.parse(choice, [tool.name for tool in TOOLS])


def test_a_required_call_without_tools_is_a_usage_error():
    with pytest.raises(UsageError, match="no tools were given"):
        ToolChoice.parse("required", [])


# Other forms than the family's own

CALL = '{"name": "get_weather", "arguments": {"city": "서울"}}'
SEOUL = ("get_weather", {"city": "서울"})
NOW = ("now", {})
JSON_FAMILIES = [
    "hermes",
    "mistral-v13",
    "deepseek-v3.1",
    "granite4",
    "phi4-mini",
    "nemotron-nano-v2",
]
DEVIATIONS = [
    ("bare JSON", CALL, [SEOUL]),
    ("bare JSON", CALL.replace("arguments", "parameters"), [SEOUL]),
    ("bare JSON", CALL.replace(', "', ',"').replace('e": ', 'e":'), [SEOUL]),
    ("bare JSON", f"[{CALL}]", [SEOUL]),
    ("bare JSON", f'[{CALL}, {{"name": "now", "arguments": {{}}}}]', [SEOUL, NOW]),
    ("bare JSON", f'{CALL}; {{"name": "now", "parameters": {{}}}}', [SEOUL, NOW]),
    ("bare JSON", f'{CALL}\n{{"name": "now", "arguments": {{}}}}', [SEOUL, NOW]),
    ("bare JSON", f"\n {CALL}", [SEOUL]),
    ("JSON in a fence", f"```json\n{CALL}\n```", [SEOUL]),
    ("JSON in a fence", f"```\n{CALL}\n```", [SEOUL]),
    ("JSON in a fence", f"Here it is:\n```json\n{CALL}\n```", [SEOUL]),
    ("JSON in a fence", f"```json\n[{CALL}]\n```", [SEOUL]),
    (
        "JSON in a fence",
        '```json\n{\n  "name": "get_weather",\n  "arguments": {"city": "서울"}\n}\n```',
        [SEOUL],
    ),
]
TAG = "<function=get_weather>\n<parameter=city>\n서울\n</parameter>\n</function>"
DEVIATING = [(name, *row) for name in JSON_FAMILIES for row in DEVIATIONS] + [
    ("qwen3-coder", "function tag alone", TAG, [SEOUL]),
    ("qwen3-coder", "function tag alone", "I look.\n" + TAG, [SEOUL]),
    ("qwen3-coder", "function tag alone", TAG + "\n<function=now>\n</function>", [SEOUL, NOW]),
    ("step3.5", "function tag alone", TAG, [SEOUL]),
    ("granite3", "list behind a tag", f"<tool_call>[{CALL}]", [SEOUL]),
]


def message(name: str, text: str, **options) -> Played:
    vocab = vocab_for(name)
    end = next(iter(profile(name).ends))
    turn = turn_for(name, None, vocab, **options)
    return play(turn, vocab, pieces(vocab, text + end))


def deviations_in(played: Played) -> list[str]:
    notices = [event for event in played.events if isinstance(event, Notice)]
    return [n.data["deviation"] for n in notices if n.data.get("kind") == "deviation"]


def words(played: Played) -> str:
    return "".join(event.text for event in played.events if isinstance(event, Text))


@pytest.mark.parametrize("constrain", [True, False])
@pytest.mark.parametrize("name, deviation, text, calls", DEVIATING)
def test_a_call_in_another_form_is_read_and_said_to_be_one(name, deviation, text, calls, constrain):
    played = message(name, text, constrain=constrain)
    assert played.masked is None and played.turn.is_over
    assert played.calls == calls
    assert deviations_in(played) == [deviation]
    assert words(played).strip() == text[: text.find("\n") if text[0] in "HI" else 0].strip()


@pytest.mark.parametrize("name, deviation, text, calls", DEVIATING)
def test_with_a_strict_format_the_same_is_text(name, deviation, text, calls):
    played = message(name, text, is_strict=True)
    assert (played.calls, words(played)) == ([], text)
    assert deviations_in(played) == []


@pytest.mark.parametrize(
    "name, text",
    [
        ("hermes", '{"name": "get_weather", "arguments": {"city": 3'),
        ("hermes", '{"name": "get_weather", "arguments": {"town'),
        ("hermes", '{"name": "get_weather", "argument"'),
        ("hermes", '```json\n{"name": "now", "arguments": {"'),
        ("hermes", f"[{CALL}}}"),
        ("qwen3-coder", "<function=get_weather>\n</"),
        ("qwen3-coder", "<function=now>\n<"),
    ],
)
def test_another_form_is_constrained_from_its_opener_on(name, text):
    assert message(name, text).masked is not None
    followed = message(name, text, constrain=False)
    assert followed.masked is None and followed.turn.result.broken


PROSE = [
    '{"name": "Bob"}',
    '{"name": "Bob", "age": 3}',
    '[{"name": "Bob"}, {"name": "now"}]',
    '{"names": ["get_weather"]}',
    '{"tool": "get_weather", "arguments": {}}',
    'A call looks like {"name": "get_weather", "arguments": {"city": "x"}}, you see.',
    'Say `{"name": "now"}`.',
    "[]",
    "{}",
    "{",
    "[1, 2, 3]",
    '{"name": "get_weather_of_tomorrow", "arguments": {}}',
    '```json\n{"name": "Bob"}\n```',
    '```json\n{"city": "서울"}\n```',
    "```json\n[1, 2]\n```",
    "```python\nget_weather(city='서울')\n```",
    "```\nnow\n```",
    "The word <function in functional programming",
    "A function=get_weather is functional",
    "<functional>",
    "`<function=NAME>` is the form",
    'I would call get_weather(city="서울"), but I can\'t.',
    "tool_call",
    "<tool",
    "< tool_call >",
    'The JSON is: {"name": "get_weather"',
    "a < b and b > c",
    "한국어 문장입니다. 😀",
]


@pytest.mark.parametrize("text", PROSE)
@pytest.mark.parametrize("name", [*JSON_FAMILIES, "qwen3-coder", "llama3", "minicpm5", "lfm2"])
def test_prose_about_calls_stays_text(name, text):
    if name == "llama3" and text.startswith('{"name":'):
        pytest.skip("in this family's own form a message that begins so is a call")
    played = message(name, text)
    assert played.masked is None and played.turn.is_over
    assert (played.calls, words(played)) == ([], text)
    assert not [event for event in played.events if isinstance(event, Notice)]


def test_a_demanded_call_waits_for_thinking_to_end_and_for_its_header():
    """Kimi K3 names every section in a header, also the end of its thinking."""
    vocab = vocab_for("kimi-k3")
    call = '<|open|>call tool="now" index="1"<|sep|><|close|>call<|sep|><|close|>tools<|sep|>'
    before = "hm<|close|>think<|sep|>"
    texts = {"<|open|>tools<|sep|>" + call: False, "<|open|>r": True, "x": True}
    for text, is_masked in texts.items():
        turn = turn_of(profile("kimi-k3"), vocab, TOOLS, span="thinking", choice="now")
        played = play(turn, vocab, pieces(vocab, before + text + "<|end_of_msg|>"))
        assert (played.masked is not None) == is_masked
        assert played.calls == ([] if is_masked else [NOW])
