"""Templates render what Hugging Face renders, or say why not."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

import pytest
from conversations import (
    CALL,
    CALLING,
    CONVERSATIONS,
    NO_ARGUMENTS,
    NOW,
    RESULT,
    SYSTEM,
    TEMPLATES,
    THANKS,
    USER,
    WEATHER,
    forms,
    source_of,
    template,
)
from hugging_face import apply_chat_template

from engine.errors import TemplateError
from engine.messages import Call, Message, ToolSpec
from engine.template import ChatTemplate

GEMMA_2, LLAMA = "google-gemma-2-2b-it", "only supports single tool-calls at once"
# Conversations that a template has no words for, and what it says to them.
REFUSALS = {
    (GEMMA_2, "plain"): "System role not supported",
    (GEMMA_2, "thinking"): "System role not supported",
    (GEMMA_2, "call"): "System role not supported",
    (GEMMA_2, "two calls"): "System role not supported",
    (GEMMA_2, "call, answered"): "roles must alternate",
    (GEMMA_2, "object as result"): "roles must alternate",
    ("meta-llama-Llama-3.1-8B-Instruct", "two calls"): LLAMA,
    ("meta-llama-Llama-3.2-3B-Instruct", "two calls"): LLAMA,
    ("meta-llama-Llama-3.3-70B-Instruct", "two calls"): LLAMA,
}
# Where Hugging Face's own rendering is a fault of its filters, not what the family was trained on.
LENIENT = {
    "meetkai-functionary-medium-v3.1": "`'...'|safe + x` escapes the tools' JSON as HTML",
    "llama-cpp-deepseek-r1": "`tools|map(...)|tojson` fails on a generator",
}


def test_all_seventy_templates_are_here(shared_data: Any) -> None:
    assert len(TEMPLATES) == 70


@pytest.mark.parametrize("conversation", CONVERSATIONS)
@pytest.mark.parametrize("name", TEMPLATES)
def test_text_is_what_hugging_face_renders(name: str, conversation: str) -> None:
    messages = CONVERSATIONS[conversation]
    for tools, prompt in (((), True), ((WEATHER,), True), ((WEATHER, NO_ARGUMENTS), False)):
        listed = [tool.to_template() for tool in tools]
        expected = [
            _hugging_face(name, form, given, prompt)
            for form in forms(messages)
            for given in ([listed] if tools else [None, []])
        ]
        if (name, conversation) in REFUSALS:
            with pytest.raises(TemplateError, match=REFUSALS[name, conversation]) as refused:
                template(name).render(messages, tools=tools, add_generation_prompt=prompt)
            assert str(refused.value).startswith(f"{name}:") and refused.value.refused
            assert not any(isinstance(text, str) for text in expected)
            continue
        rendered = template(name).render(messages, tools=tools, add_generation_prompt=prompt)
        assert rendered.text in expected
        usual = expected[0]
        if isinstance(usual, str) and not any(message.calls for message in messages):
            assert rendered.text == usual


def _hugging_face(name: str, messages: list[dict[str, Any]], tools: Any, prompt: bool) -> Any:
    try:
        return apply_chat_template(
            source_of(name),
            messages,
            tools,
            add_generation_prompt=prompt,
            is_lenient=name in LENIENT,
            functions=json.dumps(tools or [], indent=4, ensure_ascii=False),
            datetime=NOW.strftime("%b %d %Y"),
        )
    except Exception as error:  # any fault of a template's is a refusal
        return error


@pytest.mark.parametrize("name", LENIENT)
def test_lenience_is_needed_where_it_is_granted(name: str, shared_data: Any) -> None:
    form = next(forms([USER]))
    try:
        strict = apply_chat_template(source_of(name), form, [WEATHER.to_template()])
    except TypeError:
        return
    assert "&#34;" in strict


# How calls, results and tools look once they are in the prompt: read off the families' own papers.
@pytest.mark.parametrize(
    "name, piece",
    [
        ("Qwen-Qwen3-0.6B", '<tool_call>\n{"name": "get_weather", "arguments": {"city": "서울 '),
        ("meta-llama-Llama-3.1-8B-Instruct", '{"name": "get_weather", "parameters": {"city": "'),
        ("deepseek-ai-DeepSeek-R1-Distill-Qwen-32B", 'get_weather\n```json\n{"city": "서울 '),
        ("meetkai-functionary-medium-v3.2", '>>>get_weather\n{"city": "서울 \\"Seoul\\""'),
        ("Qwen3-Coder", '<function=get_weather>\n<parameter=city>\n서울 "Seoul"\n</parameter>'),
        ("Kimi-K2-Instruct", "functions.get_weather:0<|tool_call_argument_begin|>"),
        ("fireworks-ai-llama-3-firefunction-v2", 'functools[{"name": "get_weather", "arguments"'),
        ("fireworks-ai-llama-3-firefunction-v2", "Today is Mar 01 2025."),
    ],
)
def test_calls_look_as_the_family_writes_them(name: str, piece: str, shared_data: Any) -> None:
    assert piece in template(name).render([USER, CALLING, RESULT], tools=[WEATHER]).text


def test_firefunction_is_given_the_tools_as_text(shared_data: Any) -> None:
    text = template("fireworks-ai-llama-3-firefunction-v2").render([USER], tools=[WEATHER]).text
    assert '"name": "get_weather"' in text and "도시의 날씨" in text


@pytest.mark.parametrize(
    "source, expected",
    [
        ("{{ tools is none }}{{ documents is none }}", "TrueTrue"),
        ("{{ bos_token }}|{{ eos_token }}", "<s>|</s>"),
        ("{{ add_generation_prompt }}", "True"),
        ("{% if x %}\n  y\n{% endif %}\nz", "z"),  # trim_blocks
        ("a\n   {% set y = 1 %}\nz", "a\nz"),  # lstrip_blocks
        ("{% for i in range(9) %}{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}", "012"),
        ("{% for i in [1, 2] %}{% continue %}x{% endfor %}.", "."),
        ("{% generation %}{{ 1 + 1 }}{% endgeneration %}", "2"),
        ("{{ strftime_now('%Y-%m-%d') }}", "2025-03-01"),
        ("{{ strftime_now is defined }}{{ raise_exception is defined }}", "TrueTrue"),
        ("{{ missing }}|{{ missing is defined }}", "|False"),
        ("{{ date_string is defined }}", "False"),
        ("{{ {'a': '<&가'}|tojson }}", '{"a": "<&가"}'),
        ("{{ ['가']|tojson(ensure_ascii=true) }}", '["\\uac00"]'),
        ("{{ {'b': 1, 'a': [2]}|tojson(indent=2, sort_keys=true) }}", None),
        ("{{ {'b': 1}|tojson(separators=(',', ':')) }}", '{"b":1}'),
        ("{{ [none, true, 1.0, {}, [], (1,)]|tojson }}", "[null, true, 1.0, {}, [], [1]]"),
        ("{{ {1: 2, none: 3, true: 4, 1.5: 5}|tojson }}", None),
        ("{{ [none, true, 'a', {'b': (1,)}, (), {}] }}", "[None, True, 'a', {'b': (1,)}, (), {}]"),
        ("{{ {'a': 1}.items() }}{{ {'a': 1}.keys() }}", "dict_items([('a', 1)])dict_keys(['a'])"),
        ("{{ '%s|%5.1f|%(x)s'|replace('%(x)s', '%%') % ('a', 2) }}", "a|  2.0|%"),
        ("{{ '{} {0[k]} {x!r:>5}'.replace('{} ', '').format({'k': 1}, x='y') }}", "1   'y'"),
        ("{{ '{}-{}'.format(1, 'b') }}{{ '%(a)s' % {'a': 3} }}{{ '%s'|format('c') }}", "1-b3c"),
        ("{{ 'a' ~ 1 ~ none ~ [2] }}", "a1None[2]"),
        ("{{ [1, 'b', none]|join('-') }}", "1-b-None"),
        ("{{ [{'n': 'x'}, {'n': 'y'}]|join('+', attribute='n') }}", "x+y"),
        ("{{ 'ab' * 3 }}{{ 2 * 'c' }}{{ 'd' * 0 }}{{ [1] * 2 }}", "abababcc[1, 1]"),
        ("{{ 7 // 2 }} {{ 7 % 4 }} {{ 2 ** 10 }} {{ 1 / 4 }} {{ -3 }}", "3 3 1024 0.25 -3"),
        ("{{ 1 < 2 < 3 }} {{ 3 > 2 > 2 }} {{ 'a' in 'cab' }} {{ [1] not in [[1]] }}", None),
        ("{{ 'abc'[1:] }} {{ 'abc'[::-1] }} {{ [1, 2, 3][-2:] }} {{ 'abc'[0] }}", None),
        ("{{ 'a\nb\n\nc'|indent(2) }}|{{ 'a\nb'|indent('>', true) }}", None),
        ("{{ '<a href=\"x\">'|e }}", "&lt;a href=&#34;x&#34;&gt;"),
        ("{{ 'x'|safe + '<' }}", "x<"),
        ("{{ '42'|int + '4.9'|int + 'z'|int(5) + '0x1f'|int(base=16) }}", None),
        ("{{ 'hello world'|title }} {{ 'a'|center(5) }}| {{ ' x '|trim }}", None),
        ("{{ [3, 1, 2]|sort|list }} {{ ['b', 'A']|sort|join }} {{ [1, 1]|unique|list }}", None),
        ("{{ {'b': 1, 'a': 2}|dictsort }} {{ [1, 2, 3]|batch(2)|list }} {{ [1, 2]|sum }}", None),
        ("{{ ['a', 'b']|map('upper')|list }} {{ [0, 1]|select|list }} {{ 2.5|round }}", None),
        ("{{ [{'r': 1}, {'r': 2}]|selectattr('r', 'eq', 2)|map(attribute='r')|list }}", "[2]"),
        ("{{ 'a b'.split() }} {{ 'a,b'.split(',') }} {{ 'A'.lower() }}{{ 'x'.isupper() }}", None),
        ("{% set x %}a{% raw %}{{{% endraw %}{% endset %}{{ x }}", "a{{"),
        ("{% macro m(a, b=2) %}{{ a }}{{ b }}{{ kwargs }}{% endmacro %}{{ m(1, c=3) }}", None),
        (
            "{% macro m() %}[{{ caller('x') }}]{% endmacro %}{% call(y) m() %}{{ y }}{% endcall %}",
            None,
        ),
        ("{% for a in [1, 2] recursive %}{{ a }}{{ loop.index }}{{ loop.last }}{% endfor %}", None),
        ("{% for a in [] %}{% else %}none{% endfor %}{% with q = 1 %}{{ q }}{% endwith %}", None),
        ("{% set ns = namespace(a=1) %}{% set ns.a = ns.a + 1 %}{{ ns.a }}", "2"),
        ("{% set l = [1] %}{% set _ = l.append(2) %}{{ l.pop(0) }}{{ l }}", "1[2]"),
        ("{{ ('{\"a\": [1]}'|from_json).a }}", "[1]"),
        ("{{ cycler('a', 'b').next() }}{{ dict(a=1) }}{{ joiner(',')() }}", None),
    ],
)
def test_what_templates_may_use(source: str, expected: str | None) -> None:
    """Expected None: whatever Hugging Face's sandbox gives."""
    text = ChatTemplate(source, bos="<s>", eos="</s>", now=lambda: NOW).render([USER]).text
    assert text == (apply_chat_template(source, []) if expected is None else expected)


def test_variables_reach_the_template() -> None:
    chat = ChatTemplate("{{ enable_thinking }} {{ builtin_tools|join(' ') }} {{ bos_token }}")
    variables = {"enable_thinking": False, "builtin_tools": ["a", "b"], "bos_token": "B"}
    assert chat.render([USER], variables=variables).text == "False a b B"


@pytest.mark.parametrize(
    "source, line, words",
    [
        ("{{ 1 }}\n{{ raise_exception('no\n  tools') }}", 2, "refuses this conversation: no tools"),
        ("a\nb\n{{ messages[0].content.nope.nope }}", 3, "no attribute 'nope'"),
        ("\n{% for m in messages %}\n{{ 1 / 0 }}{% endfor %}", 3, "division by zero"),
        ("\n\n{% if %}", 3, "Expected an expression"),
        ("\n{{ 'x'|nofilter }}", 2, "nofilter"),
        ("{% macro m() %}\n\n{{ 1 + 'a' }}{% endmacro %}\n{{ m() }}", 3, "unsupported operand"),
        ("\n{{ messages[0].content + 1 }}", 2, "str"),
        ("\n{{ namespace(a=1) }}", 2, "which is not text"),
    ],
)
def test_errors_name_the_template_and_the_line(source: str, line: int, words: str) -> None:
    with pytest.raises(TemplateError) as caught:
        ChatTemplate(source, name="mine.jinja").render([USER])
    assert str(caught.value).startswith(f"mine.jinja:{line}: ")
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert caught.value.line == line and caught.value.name == "mine.jinja"


def test_no_text_names_our_own_types(shared_data: Any) -> None:
    with pytest.raises(TemplateError, match="'str object' has no attribute"):
        ChatTemplate("{{ messages[0].content.nope.nope }}").render([USER])


def test_a_left_out_message_is_told() -> None:
    only_last = ChatTemplate("{{ messages[-1].content }}")
    assert only_last.render([SYSTEM, USER, THANKS]).dropped == (0, 1)
    assert only_last.render([Message("user", " \n"), THANKS]).dropped == ()
    assert only_last.render([THANKS]).dropped == ()


def test_a_left_out_call_is_told(shared_data: Any) -> None:
    rendered = template("LFM2-8B-A1B").render([USER, CALLING, RESULT], tools=[WEATHER])
    assert rendered.dropped_calls == (1,)
    rendered = template("Qwen-Qwen3-0.6B").render([USER, CALLING, RESULT], tools=[WEATHER])
    assert rendered.dropped_calls == ()


def test_the_same_template_has_the_same_fingerprint() -> None:
    assert ChatTemplate("a").sha256 == ChatTemplate("a", name="other").sha256
    assert ChatTemplate("a").sha256 != ChatTemplate("b").sha256


def test_rendering_is_quick(shared_data: Any) -> None:
    """Llama 3.1 with three tools: under 3 ms, the best of some runs on a busy machine."""
    tools = [ToolSpec(f"tool_{index}", WEATHER.description, WEATHER.parameters) for index in "abc"]
    chat = template("meta-llama-Llama-3.1-8B-Instruct")
    times = []
    for _ in range(20):
        started = time.perf_counter()
        chat.render(CONVERSATIONS["plain"], tools=tools)
        times.append(time.perf_counter() - started)
    assert min(times) < 0.003


END_TOKENS = """
<|eot_id|> <|eom_id|> <|im_end|> <|end_of_text|> <|END_OF_TURN_TOKEN|> [e~[ <|call|> <|return|>
<|calls|> <|flush|> <|end|> <|end_of_msg|> <|tool_response> <turn|> </s> <|eot|> <|eom|>
<end_of_turn> <|assistant_end|> <｜end▁of▁sentence｜>
"""
ENDS = END_TOKENS.split()
# Templates that don't show what follows a call: they write no end after it, or no result.
NO_END_AFTER_CALLS = {
    "CohereForAI-c4ai-command-r-plus-tool_use",
    "deepseek-ai-DeepSeek-R1-Distill-Llama-8B",
}
NO_RESULTS = {
    GEMMA_2: "roles must alternate",
    "llama-cpp-rwkv-world": "is left out",
    "microsoft-Phi-3.5-mini-instruct": "is left out",
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_suffix_of_a_question_is_the_end_of_the_whole(name: str) -> None:
    head = [USER] if name == GEMMA_2 else [SYSTEM, USER]
    answer, question = Message("assistant", "Sunny."), Message("user", "And tomorrow?")
    whole = template(name).render([*head, answer, question], tools=[WEATHER]).text
    for history in (head, [*head, answer]):
        suffix = template(name).render_suffix(history, [question], tools=[WEATHER])
        assert whole.endswith("Sunny." + suffix.text)
        assert [suffix.text[slice(*part)] for part in suffix.content][-1] == "And tomorrow?"


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_suffix_of_a_result_is_the_end_of_the_whole(name: str) -> None:
    head = [USER] if name == GEMMA_2 else [SYSTEM, USER]
    call = Call("abc123def", "get_weather", {"city": "Seoul", "days": 2})
    result = Message("tool", "21 degrees", call_id="abc123def", name="get_weather")

    def suffix() -> str:
        chat = template(name)
        return chat.render_suffix(head, [result], tools=[WEATHER], calls=(call,), ends=ENDS).text

    if name in NO_RESULTS:
        with pytest.raises(TemplateError, match=NO_RESULTS[name]):
            suffix()
        return
    messages = [*head, Message("assistant", "", calls=(call,)), result]
    whole = template(name).render(messages, tools=[WEATHER]).text
    assert whole.endswith(suffix()) == (name not in NO_END_AFTER_CALLS)
    assert suffix().count("21 degrees") == 1 and "Seoul" not in suffix()


@pytest.mark.parametrize(
    "name, suffix",
    [
        ("Qwen-Qwen3-0.6B", "<|im_end|>\n<|im_start|>user\n<tool_response>\n21\n</tool_response>"),
        (
            "meetkai-functionary-medium-v3.1",
            "<|eom_id|><|start_header_id|>ipython<|end_header_id|>",
        ),
        ("google-gemma-4-31B-it", '<|tool_response>response:get_weather{value:<|"|>21<|"|>}'),
        (
            "upstage-Solar-Open-100B",
            "<|calls|><|begin|>tool<|tool_response|><|tool_response:begin|>",
        ),
        ("openai-gpt-oss-120b", "<|call|><|start|>functions.get_weather to=assistant"),
        ("MiniMax-M2", "[e~[\n]~b]tool\n<response>21</response>[e~[\n]~b]ai\n<think>\n"),
    ],
)
def test_the_suffix_begins_with_the_end_of_the_answer(
    name: str, suffix: str, shared_data: Any
) -> None:
    result = Message("tool", "21", call_id="abc123def", name="get_weather")
    rendered = template(name).render_suffix(
        [USER], [result], tools=[WEATHER], calls=(CALL,), ends=ENDS
    )
    assert rendered.text.startswith(suffix)


def test_words_of_tools_variables_and_the_template_are_not_taken_for_the_answer() -> None:
    """The stand-in for the answer begins with `standin`, which is part of these words."""
    words = ["standin", "outstanding", "standingq", "notwithstandinqq"]
    loop = "{% for m in messages %}<{{ m.role }}>{{ m.content }}<end>{% endfor %}"
    chat = ChatTemplate(f"{words[0]}{{{{ note }}}}{{{{ tools[0].function.description }}}}{loop}")
    tool = replace(WEATHER, description=" ".join(words[1:]))
    rendered = chat.render_suffix(
        [USER], [THANKS], tools=[tool], variables={"note": words[3]}, ends=["<end>"]
    )
    assert rendered.text.startswith("<end><user>")


def test_a_suffix_that_cannot_be_told_is_an_error() -> None:
    for source in (
        "{{ messages[-1].content }}",
        "{% for m in messages %}{{ m.content * 2 }}{% endfor %}",
    ):
        with pytest.raises(TemplateError, match="no suffix can be told"):
            ChatTemplate(source).render_suffix([USER], [THANKS])
