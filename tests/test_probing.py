"""Unknown templates: what is read off them reads their calls; what is unclear is refused."""

from __future__ import annotations

import pytest
from conversations import source_of
from fakes import ByteTokenizer, byte_vocab
from families import pieces, play, turn_of, vocab_of, wire_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.families import profile, profiles
from engine.framing import Unclear
from engine.messages import Call, Message, ToolSpec
from engine.probing import DERIVED, derive, recognise
from engine.profile import Profile
from engine.prompt import Prompt
from engine.template import ChatTemplate
from engine.vocab import Vocab

TOOLS = [
    ToolSpec(
        "get_weather",
        "Current weather",
        {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "City"},
                "days": {"type": "integer", "description": "Days"},
                "more": {
                    "type": "object",
                    "description": "More",
                    "properties": {"deep": {"type": "array", "items": {"type": "boolean"}}},
                },
            },
            "required": ["city"],
        },
    ),
    ToolSpec("now", "Time", {"type": "object", "properties": {"zone": {"type": "string"}}}),
]
CALLS = [
    Call("abcdefgh1", "get_weather", {"city": '"x" <b>\n', "days": 3, "more": {"deep": [True]}}),
    Call("abcdefgh2", "now", {"zone": "KST"}),
]
# The published templates whose calls are read off them: what opens a call, and how many there are.
READ_OFF = {
    "Apertus-8B-Instruct": ("<|tools_prefix|>", 2),
    "Bielik-11B-v3.0-Instruct": ("<tool_call>", 2),
    "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B": ("<｜tool▁calls▁begin｜>", 2),
    "llama-cpp-deepseek-r1": ("<｜tool▁calls▁begin｜>", 2),
    "deepseek-ai-DeepSeek-V3.1": ("<｜tool▁calls▁begin｜>", 2),
    "meetkai-functionary-medium-v3.1": ("<function={name}>", 2),
    "GigaChat3.1-10B-A1.8B": ("<|function_call|>", 1),
    "ibm-granite-granite-4.0": ("<tool_call>", 2),
    "ibm-granite-granite-4.1": ("<tool_call>", 2),
    "NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use": ("<tool_call>", 2),
    "NousResearch-Hermes-3-Llama-3.1-8B-tool_use": ("<tool_call>", 2),
    "Qwen-Qwen2.5-7B-Instruct": ("<tool_call>", 2),
    "Qwen-Qwen3-0.6B": ("<tool_call>", 2),
    "Qwen-QwQ-32B": ("<tool_call>", 2),
    "MiMo-VL": ("<tool_call>", 2),
    "meta-llama-Llama-3.1-8B-Instruct": ('{"name": "{name}", "parameters":', 1),
    "meta-llama-Llama-3.2-3B-Instruct": ('{"name": "{name}", "parameters":', 1),
    "meta-llama-Llama-3.3-70B-Instruct": ('{"name": "{name}", "parameters":', 1),
    "MiniMax-M1": ("<tool_calls>", 2),
    "Mistral-Small-3.2-24B-Instruct-2506": ("[TOOL_CALLS]", 2),
    "unsloth-mistral-Devstral-Small-2507": ("[TOOL_CALLS]", 2),
    "mistralai-Ministral-3-14B-Reasoning-2512": ("[TOOL_CALLS]", 2),
    "mistralai-Mistral-Nemo-Instruct-2407": ("[TOOL_CALLS]", 2),
    "NVIDIA-Nemotron-Nano-v2": ("<TOOLCALL>", 2),
    "Reka-Edge": ("<tool_call>", 2),
    "upstage-Solar-Open-100B": ("<|tool_calls|>", 2),
}
# Those that JSON arguments alone don't settle, with the reason that is given.
NOT_JSON = "the arguments are not one JSON object"
REFUSED = {
    "Apriel-1.6-15b-Thinker-fixed": "what closes a call depends on what follows it",
    "unsloth-Apriel-1.5": "what closes a call depends on what follows it",
    "Cohere2MoE": "begins in another way than an answer",
    "CohereForAI-c4ai-command-r-plus-tool_use": "what closes a call depends on",
    "CohereForAI-c4ai-command-r7b-12-2024-tool_use": "its calls are numbered",
    "Kimi-K2-Instruct": "its calls are numbered",
    "Kimi-K2-Thinking": "its calls are numbered",
    "moonshotai-Kimi-K2": "its calls are numbered",
    "deepseek-ai-DeepSeek-R1-Distill-Llama-8B": "what ends a call's message",
    "fireworks-ai-llama-3-firefunction-v2": "might be prose",
    "meetkai-functionary-medium-v3.2": "nothing opens a call",
    "openai-gpt-oss-120b": "might be prose",
    "google-gemma-2-2b-it": "a call's name is not shown",
    "ibm-granite-granite-3.3-2B-Instruct": "a call's name is not shown",
    "LFM2-8B-A1B": "a call's name is not shown",
    "LFM2.5-Instruct": "a call's name is not shown",
    "microsoft-Phi-3.5-mini-instruct": "a call's name is not shown",
    "HuggingFaceTB-SmolLM3-3B": "a call's name is not shown",
    "GigaChat3-10B-A1.8B": "a call is a message of its own",
    "muse-glimmer": "a call's name is shown 2 times",
}
CHECKED = [(name, each) for name, item in profiles().items() for each in item.checked.templates]


def read_back(item: Profile, vocab: Vocab, template: ChatTemplate, calls: list[Call]) -> list:
    """The calls that a message of the template's is read as, while it is masked."""
    wire = wire_of(template, item, TOOLS, calls)
    end = next(vocab.texts[token] for token in item.end_meanings(vocab))
    turn = turn_of(item, vocab, TOOLS, span=wire.span)
    played = play(turn, vocab, pieces(vocab, wire.text + end))
    assert played.masked is None and turn.is_over, (played.masked, wire.text)
    return played.calls


@pytest.mark.parametrize("family, name", CHECKED, ids=[name for _, name in CHECKED])
def test_a_published_template_without_its_family_is_read_off_or_refused(shared_data, family, name):
    vocab, source = vocab_of(profile(family)), source_of(name)
    found = recognise(vocab, source, candidates=())
    if name not in READ_OFF:
        assert found.profile.name == "generic"
        assert REFUSED.get(name, NOT_JSON) in found.reason
        return
    opener, count = READ_OFF[name]
    style = found.profile.style()
    assert found.profile.name == DERIVED and "as its template writes them" in found.reason
    assert [trigger.text for trigger in style.triggers] == [opener]
    assert (style.separator is None) == (count == 1)


@pytest.mark.parametrize("family, name", [c for c in CHECKED if c[1] in READ_OFF], ids=str)
def test_what_is_read_off_reads_the_calls_that_the_family_reads(shared_data, family, name):
    own = profile(family)
    vocab, source = vocab_of(own), source_of(name)
    template = ChatTemplate(source, bos="<s>", eos=next(iter(own.ends), "</s>"))
    derived = recognise(vocab, source, candidates=()).profile
    for calls in (CALLS[:1], CALLS[: READ_OFF[name][1]]):
        wanted = [(call.name, dict(call.arguments)) for call in calls]
        assert read_back(derived, vocab, template, calls) == wanted
        assert read_back(own, vocab, template, calls) == wanted


# Invented families

CHAT = """
{%- if tools %}<|start|>system
LISTED{% endif %}
{%- for m in messages %}<|start|>{{ m.role }}
{% if m.tool_calls %}CALLS{% else %}{{ m.content }}{% endif %}<|end|>
{% endfor %}
{%- if add_generation_prompt %}<|start|>assistant
{% endif %}"""
EACH = "{% for c in m.tool_calls %}CALL{% endfor %}"
ONE = "{% if m.tool_calls | length > 1 %}{{ raise_exception('one call') }}{% endif %}" + EACH
LIST = "{% for c in m.tool_calls %}{% if not loop.first %}, {% endif %}CALL{% endfor %}"
NINE = "{% if c.id | length != 9 %}{{ raise_exception('nine') }}{% endif %}"
OBJECT = '{"tool": {{ c.function.name | tojson }}, "input": {{ c.function.arguments | tojson }}}'
TWICE = "{{ c.function.name }} {{ c.function.arguments | tojson | tojson }}"
PAIRS = "{{ c.function.name }} {{ c.function.arguments.items() | list | tojson }}"
NAMED = ("{{ c.function.name }}", "{{ c.function.arguments | tojson }}")


def chat(calls: str, listed: str = "Tools: {{ tools | tojson }}") -> str:
    return CHAT.replace("LISTED", listed + "<|end|>\n").replace("CALLS", calls)


def invented(*control: str, ends: tuple[str, ...] = ("<|end|>",)) -> Vocab:
    return byte_vocab(("<|start|>", "<|end|>", *control), ends=ends)


@pytest.mark.parametrize(
    "calls, control, opener, count",
    [
        (EACH.replace("CALL", f"<use_tool>{OBJECT}</use_tool>\n"), (), "<use_tool>", 2),
        (EACH.replace("CALL", f"<use_tool>{OBJECT}</use_tool>"), ("<use_tool>",), "<use_tool>", 2),
        (f"<calls>[{LIST.replace('CALL', OBJECT)}]</calls>", (), "<calls>", 2),
        (f"[{LIST.replace('CALL', OBJECT)}]", (), '[{"tool": "{name}", "input":', 2),
        (ONE.replace("CALL", OBJECT), (), '{"tool": "{name}", "input":', 1),
        (EACH.replace("CALL", "<fn={}> {}</fn>".format(*NAMED)), (), "<fn={name}>", 2),
        (EACH.replace("CALL", "```tool\n{}\n{}\n```\n".format(*NAMED)), (), "```tool\n{name}", 2),
        (EACH.replace("CALL", "@@call {} {};".format(*NAMED)), (), "@@call {name}", 2),
        (EACH.replace("CALL", "<|c|>{}<|a|>{}".format(*NAMED)), ("<|c|>", "<|a|>"), "<|c|>", 2),
        (
            EACH.replace("CALL", "<|c|>{{ c.function.name }}({{ c.function.arguments }})"),
            ("<|c|>",),
            "<|c|>",
            2,
        ),
        (
            EACH.replace("CALL", '<call id="{{{{ c.id }}}}" of={}>{}</call>'.format(*NAMED)),
            (),
            '<call id="',
            2,
        ),
    ],
)
def test_an_invented_form_of_calls_is_read_off(calls, control, opener, count):
    vocab, source = invented(*control), chat(calls)
    found = recognise(vocab, source)
    assert found.profile.name == DERIVED, found.reason
    assert [trigger.text for trigger in found.profile.style().triggers] == [opener]
    for some in (CALLS[:1], CALLS[:count]):
        wanted = [(call.name, dict(call.arguments)) for call in some]
        assert read_back(found.profile, vocab, ChatTemplate(source), some) == wanted


def test_an_end_of_calls_that_is_not_the_end_of_an_answer_awaits_a_result():
    source = chat(EACH.replace("CALL", f"<|c|>{OBJECT}") + "<|calls|>{% continue %}")
    vocab = invented("<|c|>", "<|calls|>", ends=("<|end|>", "<|calls|>"))
    item, _ = derive(vocab, "{%- set x = 1 %}" + source)
    assert item.ends == {"<|end|>": "turn_end", "<|calls|>": "tool_call"}


def test_ids_of_nine_characters_are_asked_for_where_the_template_refuses_others():
    source = chat(EACH.replace("CALL", f"{NINE}<|c|>{{{{ c.id }}}} {OBJECT}"))
    vocab = invented("<|c|>")
    item, _ = derive(vocab, source)
    assert item.call_ids.format(n=7, n0=6, name="x") == "call00007"
    assert "{9}" in item.style().source
    loose, _ = derive(vocab, source.replace(NINE, ""))
    assert loose.call_ids == "" and "{9}" not in loose.style().source


@pytest.mark.parametrize(
    "calls, reason",
    [
        (EACH.replace("CALL", f"<tool>{OBJECT}</tool>{OBJECT}"), "name is shown 2 times"),
        (EACH.replace("CALL", "<tool>{}{}{}".format(*NAMED, NAMED[1])), "arguments are shown 2"),
        (EACH.replace("CALL", "<tool>{{ c.function.arguments | tojson }}"), "name is not shown"),
        (EACH.replace("CALL", "<tool>{{ c.function.name }}"), "arguments are not shown"),
        ("", "name is not shown"),
        (EACH.replace("CALL", "{{ raise_exception('no calls') }}"), "refuses this conversation"),
        (EACH.replace("CALL", "{{ c.nothing.at.all }}"), "chat template"),
        (EACH.replace("CALL", f"<tool>{TWICE}"), "JSON inside a JSON text"),
        (EACH.replace("CALL", f"<tool>{PAIRS}"), NOT_JSON),
        (EACH.replace("CALL", "<tool>{1} to {0}".format(*NAMED)), "come before its name"),
        (EACH.replace("CALL", "I call {} with {}.".format(*NAMED)), "might be prose"),
        (EACH.replace("CALL", "- {} {}\n".format(*NAMED)), "might be prose"),
        (EACH.replace("CALL", "{} {}\n".format(*NAMED)), "nothing opens a call"),
        (EACH.replace("CALL", f"<tool nr={{{{ loop.index }}}}>{OBJECT}"), "numbered"),
        (f"<|end|>\n<|start|>tool_call\n{ONE.replace('CALL', OBJECT)}", "a message of its own"),
        ("{% for i in range(10 ** 12) %}x{% endfor %}", "not rendered"),
        ("{% for i in range(30000) %}x{% endfor %}" + EACH.replace("CALL", OBJECT), "too long"),
    ],
)
def test_what_is_not_clear_is_refused_with_a_reason(calls, reason):
    found = recognise(invented(), chat(calls))
    assert found.profile.name == "generic"
    assert "its template's calls can't be told" in found.reason and reason in found.reason


def test_a_message_of_its_own_is_refused_though_its_end_is_no_token():
    source = chat(f"<|end|>\n<|start|>tool_call\n{ONE.replace('CALL', OBJECT)}")
    with pytest.raises(Unclear, match="a message of its own"):
        derive(byte_vocab((), ends=()), source)


@pytest.mark.parametrize("source", ["{{", "", "{{ messages }}", "{% include 'x' %}", "x" * 70_000])
def test_a_template_that_is_none_is_no_family(source):
    assert recognise(invented(), source).profile.name == "generic"


def test_a_list_of_tools_between_the_marks_of_calls_misleads_nobody():
    listed = "{% for t in tools %}<use_tool>{{ t.function | tojson }}</use_tool>{% endfor %}"
    example = '<use_tool>{"tool": "NAME", "input": {}}</use_tool>'
    calls = EACH.replace("CALL", f"<use_tool>{OBJECT}</use_tool>")
    plain, _ = derive(invented(), chat(calls))
    assert derive(invented(), chat(calls, listed + example))[0] == plain


@pytest.mark.parametrize("is_listed", [True, False])
def test_a_template_that_prints_no_tools_gets_a_section_with_the_form_of_calls(is_listed):
    calls = EACH.replace("CALL", f"<use_tool>{OBJECT}</use_tool>{{%s")
    calls = calls.replace("{%s", "{{ '{{' }}")  # braces as in Jinja stay text
    source = chat(calls) if is_listed else chat(calls, "")
    vocab = invented()
    item, _ = derive(vocab, source)
    prompt = Prompt(ChatTemplate(source), ByteTokenizer(vocab), vocab, item, item.style())
    rendered, encoding = prompt.opening([Message("user", "Hi")], TOOLS)
    form = '<use_tool>{"tool": "NAME", "input": {"KEY": "VALUE"}}</use_tool>{{'
    assert (form in rendered.text) == (not is_listed)
    assert all(tool.name in rendered.text for tool in TOOLS)
    assert vocab.bytes_of(encoding.ids).decode() == rendered.text


PROSE = [
    'A call would be {"tool": "get_weather"} or [{"tool": "get_weather", "input": {}}].',
    '{"tool": "get_weather", "description": "Current weather", "input": {}}',
    '{"type": "function", "function": {"name": "get_weather", "description": "Current weather"}}',
    '```json\n{"city": "Seoul"}\n```\nand ```tool\nothers```',
    "call get_weather; @@ call; # get_weather now, use_tool, <b>calls</b>, [1], <fn> <function>",
    "<|c|> and <use-tool> and < use_tool > and </use_tool> and [calls]",
]


@pytest.mark.parametrize(
    "call",
    [f"<use_tool>{OBJECT}</use_tool>", OBJECT, "<fn={}> {}</fn>".format(*NAMED)]
    + ["```tool\n{}\n{}\n```".format(*NAMED), "@@call {} {};".format(*NAMED)]
    + ["<|c|>{} {}".format(*NAMED)],
)
@pytest.mark.parametrize("text", PROSE)
def test_prose_and_quoted_tools_open_no_call(call, text):
    vocab = invented("<|c|>")
    item, _ = derive(vocab, chat(ONE.replace("CALL", call)))
    turn = turn_of(item, vocab, TOOLS)
    played = play(turn, vocab, [*text.encode(), vocab.ids["<|end|>"]])
    assert played.masked is None and turn.is_over and not turn.result.broken
    assert "".join(e.text for e in played.events if hasattr(e, "text")) == text


MARKS = st.sampled_from(
    ["", " ", "\n", "<|c|>", "<|d|>", "[", "]", "<tool>", "</tool>", "call", "@@", "```", '{"n": "']
)
WEAVE = st.lists(MARKS, max_size=3).map("".join)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(opens=WEAVE, before=WEAVE, between=WEAVE, after=WEAVE, close=WEAVE, gap=WEAVE)
def test_whatever_is_read_off_reads_what_the_template_writes(
    opens, before, between, after, close, gap
):
    call = "{{% if not loop.first %}}{}{{% endif %}}{}{}{}{}{}".format(
        *(gap.replace("{", "{{'{'}}"), before.replace("{", "{{'{'}}"), NAMED[0]),
        *(between.replace("{", "{{'{'}}"), NAMED[1], after.replace("{", "{{'{'}}")),
    )
    source = chat(
        opens.replace("{", "{{'{'}}") + EACH.replace("CALL", call) + close.replace("{", "{{'{'}}")
    )
    vocab = invented("<|c|>", "<|d|>")
    try:
        item, _ = derive(vocab, source)
    except Unclear:
        return
    for some in (CALLS[:1], CALLS):
        wanted = [(call.name, dict(call.arguments)) for call in some]
        assert read_back(item, vocab, ChatTemplate(source), some) == wanted
