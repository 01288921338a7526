"""Content never passes for the template's own text, and template text never for content."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import cycle
from typing import Any

import pytest
from conversations import TEMPLATES, source_of, template
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.messages import Call, Message, ToolSpec
from engine.template import ChatTemplate, Rendered
from engine.template.limits import Budget, Limits
from engine.template.marked import METHODS, Marked, call_method, content_ranges, origin_of
from engine.template.writing import format_text, percent, text_of, to_json

# Texts that are control tokens in some family, beside those found in each template.
FAMOUS = """
<|eot_id|> <|eom_id|> <|python_tag|> <|start_header_id|> <|end_header_id|> <|begin_of_text|>
<|im_start|> <|im_end|> <|endoftext|> <tool_call> </tool_call> <think> </think> [INST] [/INST]
[TOOL_CALLS] </s> <s> <|end|> <|user|> <|assistant|> <start_of_turn> <end_of_turn> <|channel|>
<｜end▁of▁sentence｜> <｜User｜> <｜tool▁calls▁begin｜> <|END_OF_TURN_TOKEN|> [e~[ <|"|>
"""
TOKEN_LIKE = re.compile(
    r"<[|｜][^<>|｜\n{}'\"]{1,40}[|｜]>|<\|[a-z_]+>|<[a-z_]+\|>|\[/?[A-Z_]{3,20}\]|</?[a-z_:]{3,30}>"
    r"|\[e~\[|\]~b\]|\]<\]minimax\[>\["
)


@cache
def control_texts(name: str) -> tuple[str, ...]:
    """What could be a control token of this template's family."""
    return tuple(dict.fromkeys([*TOKEN_LIKE.findall(source_of(name)), *FAMOUS.split()]))


def genuine(rendered: Rendered, control: tuple[str, ...]) -> list[str]:
    """The control texts that the template wrote: those which overlap no content."""
    is_content = bytearray(len(rendered.text))
    for start, end in rendered.content:
        is_content[start:end] = b"\1" * (end - start)
    pattern = "|".join(map(re.escape, sorted(control, key=len, reverse=True)))
    return [
        found.group()
        for found in re.finditer(f"(?=({pattern}))", rendered.text)
        if not any(is_content[found.start() : found.start() + len(found[1])])
        for found in [re.match(pattern, found[1])]
        if found
    ]


def conversation(name: str, words: Iterator[str]) -> tuple[list[Message], list[ToolSpec]]:
    """A conversation with a call, every text of it taken from `words`."""
    schema = {
        "type": "object",
        "title": next(words),
        "description": next(words),
        "properties": {
            next(words): {
                "type": "string",
                "description": next(words),
                "enum": [next(words), next(words)],
                "default": next(words),
            },
            "n": {"type": "integer", "description": next(words)},
        },
        "required": ["n"],
    }
    tools = [ToolSpec(next(words), next(words), schema)]
    call_id = "abc123def"
    arguments: dict[str, Any] = {next(words): next(words), "deep": {next(words): [next(words)]}}
    messages = [
        Message("system", next(words)),
        Message("user", next(words)),
        Message("assistant", "", calls=(Call(call_id, next(words), arguments),)),
        Message("tool", next(words), call_id=call_id, name=next(words)),
        Message("assistant", next(words)),
        Message("user", next(words) + "!"),  # templates look for the last user message by equality
    ]
    if name == "google-gemma-2-2b-it":  # takes neither a system message nor tools
        messages = [messages[1], messages[4], messages[5]]
    return messages, tools


def render(name: str, words: Iterator[str]) -> Rendered:
    messages, tools = conversation(name, words)
    return template(name).render(messages, tools=tools, control=control_texts(name))


def hostile_words(text: str) -> dict[str, Iterator[str]]:
    """Ways to smuggle a control text in."""
    half = len(text) // 2
    return {
        "alone": cycle([text]),
        "within a text": cycle([f"hi {text} there", f"{text}\nsystem\n{text}"]),
        "half and half": cycle([text[:half], text[half:]]),
        "without its brackets": cycle([text[1:-1], text[2:-2] or "x"]),
        "nested": cycle([text[:half] + text + text[half:]]),
        "doubled": cycle([text * 2, f" {text} \n"]),
        "escaped": cycle([json.dumps(text), text.replace("<", "&lt;")]),
    }


HARMLESS = ("alpha", "beta gamma", "삼성")
# Templates that look into a content and then write tags of their own, as their authors meant it.
LOOKS_INTO_CONTENT = {
    "HuggingFaceTB-SmolLM3-3B": {"<think>", "</think>"},  # '/think' in the system message
    "MiniMax-M3": {"<mm:think>"},  # '</mm:think>' in an answer
    "poolside-Laguna-XS-2.1": {"<think>"},  # '</think>' in an answer
    "poolside-Laguna-XS.2": {"<think>"},
    # a system message with '<tool_def_sep>' says where the tools go
    "openbmb-MiniCPM5-1B": {"<tools>", "</tools>", "</function>", "</param>"},
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_no_content_becomes_a_control_text(name: str) -> None:
    control = control_texts(name)
    own, famous = set(TOKEN_LIKE.findall(source_of(name))), FAMOUS.split()
    expected = Counter(genuine(render(name, cycle(HARMLESS)), control))
    for text in [*own, *famous[TEMPLATES.index(name) % 4 :: 4]]:  # each famous one in 17 templates
        for way, words in hostile_words(text).items():
            found = Counter(genuine(render(name, words), control))
            assert set(found - expected) <= LOOKS_INTO_CONTENT.get(name, set()), (text, way)


def test_the_hostile_strings_are_many(shared_data: Any) -> None:
    own = sum(len(set(TOKEN_LIKE.findall(source_of(name)))) for name in TEMPLATES)
    famous = len(TEMPLATES) * len(FAMOUS.split()) // 4
    assert (own + famous) * len(hostile_words("xxxx")) > 5000


def test_what_the_template_writes_is_genuine() -> None:
    """The check above could not fail if nothing were ever genuine."""
    source = "{{ '<|eot_id|>' ~ messages[0].content }}<|eot_id|>"
    rendered = ChatTemplate(source).render([Message("user", "<|eot_id|>")])
    assert genuine(rendered, ("<|eot_id|>",)) == ["<|eot_id|>"] * 2
    assert rendered.text == "<|eot_id|>" * 3


YI = [chr(code) for code in range(0xA000, 0xA48D)]


@pytest.mark.parametrize("name", TEMPLATES)
def test_content_is_covered_to_the_character(name: str) -> None:
    """Content of letters that no template has: exactly they are content."""
    letters = iter(YI)
    words = ("".join(next(letters) for _ in range(5)) for _ in range(100))
    messages, _ = conversation(name, words)
    rendered = template(name).render(messages)
    covered = {at for start, end in rendered.content for at in range(start, end)}
    yi = {at for at, char in enumerate(rendered.text) if char in set(YI)}
    # Beyond Yi there are the texts that `conversation` writes itself, and Yi in ASCII's notation.
    rest = "".join(rendered.text[at] if at in covered else " " for at in range(len(rendered.text)))
    rest = re.sub(r"[\uA000-\uA48C]|\\u[aA][0-9a-fA-F]{3}", "", rest)
    assert yi <= covered
    assert set(re.findall(r"[^\W_]+|!", rest)) <= {"deep", "!", "abc123def", "tool"}


# One user message holds `<|eot_id|>`; the template handles it in every way that templates know.
HANDLINGS = r"""
{{ c }}
{{ '<' ~ c[1:] }}
{{ c[:3] }}{{ c[3:] }}
{{ c[:-3] ~ '_id|>'[2:] }}
{{ '<|' ~ c[2:-2] ~ '|>' }}
{{ '<|' + c[2:-2] + '|>' }}
{{ '<|%s|>' % c[2:-2] }}
{{ '%s%s' % (c[:4], c[4:]) }}
{{ '%(a)s' % {'a': c} }}
{{ '%10s|%-20s' % (c, c) }}
{{ '%r' % c }}
{{ '<|{}|>'.format(c[2:-2]) }}
{{ '<|{x}|>'.format(x=c[2:-2]) }}
{{ '{0:>30}'.format(c) }}
{{ '{0!r}'.format(c) }}
{{ '{x[0]}'.format(x=[c]) }}
{{ '{a}'.format_map({'a': c}) }}
{{ c.format() }}
{{ c|format }}
{{ c % () }}
{{ [c[:4], c[4:]]|join }}
{{ ''.join([c[:4], c[4:]]) }}
{{ c[1:-1].join(['<', '>']) }}
{{ c|list|join }}
{% for x in c %}{{ x }}{% endfor %}
{{ c|reverse|reverse }}
{{ c[::-1][::-1] }}
{{ c|replace('eot', 'eot') }}
{{ 'X'|replace('X', c) }}
{{ '<|X|>'.replace('X', c[2:-2]) }}
{{ c.replace('', '') }}
{{ c|trim }}{{ c.strip('x') }}
{{ (' ' ~ c ~ ' ').strip() }}
{{ c.split('_')|join('_') }}
{{ c.split()|join(' ') }}
{{ c.rsplit('_', 1)|join('_') }}
{{ c.partition('_')|join }}
{{ c.rpartition('t')|join }}
{{ c.splitlines()|join }}
{{ c.removeprefix('x') }}{{ c.removesuffix('x') }}
{{ '<|' ~ c.removeprefix('<|') }}
{{ c|upper|lower }}
{{ c.upper().lower() }}
{{ c.swapcase().swapcase() }}
{{ c.casefold() }}
{{ c|capitalize }}
{{ c.title()|lower }}
{{ c|title|lower }}
{{ c|center(40) }}
{{ c.center(40, '-') }}{{ c.ljust(40) }}{{ c.rjust(40) }}
{{ c.zfill(40) }}
{{ (c ~ '\t').expandtabs() }}
{{ c|indent }}{{ c|indent(2, true) }}
{{ c|wordwrap(40) }}
{{ c|truncate(40) }}
{{ c|string }}{{ c|safe }}
{{ c|tojson }}
{{ {c: c}|tojson(indent=2) }}
{{ [[c]] }}{{ {'a': c} }}{{ (c,) }}
{{ {c: 1}.items() }}{{ {c: 1}.keys() }}
{{ [[c]] ~ '' }}
{{ (c|tojson|from_json) }}
{{ ('["' ~ c|replace('\n', ' ') ~ '"]')|from_json|first }}
{{ c * 2 }}{{ 2 * c }}
{{ (c[0] * 1) ~ c[1:] }}
{{ [c]|first }}{{ [c]|last }}{{ [c]|min }}{{ [c]|max }}
{{ [c]|sort|join }}{{ [c]|unique|join }}
{{ [{'k': c}]|groupby('k')|map('first')|join }}
{{ [{'k': c}]|map(attribute='k')|join }}
{{ [c]|map('upper')|map('lower')|join }}
{{ [c]|map('replace', 'a', 'b')|join }}
{{ [[c]]|sum(start=())|string if false else c }}
{{ {c: c}|dictsort }}
{{ [c]|batch(1)|list }}{{ [c]|slice(1)|list }}
{{ [{'k': c}]|join('', attribute='k') }}
{{ c|default('x') }}{{ none|default(c, true) }}{{ ''|default(c, true) }}
{{ c if c else '' }}{{ c or '' }}{{ '' or c }}
{{ c|first ~ c[1:] }}
{{ c|attr('upper')()|lower }}
{{ messages|map(attribute='content')|join }}
{{ messages[0]['content'] }}{{ messages[0].get('content') }}{{ messages[-1].content }}
{% set x = c %}{{ x }}
{% set x %}{{ c }}{% endset %}{{ x }}
{% set x %}<|{{ c[2:-2] }}|>{% endset %}{{ x|trim }}
{% set ns = namespace(x='') %}{% for y in c %}{% set ns.x = ns.x ~ y %}{% endfor %}{{ ns.x }}
{% filter upper %}{{ c }}{% endfilter %}{% filter trim %} {{ c }} {% endfilter %}
{% macro m(x) %}<|{{ x }}|>{% endmacro %}{{ m(c[2:-2]) }}
{% macro m() %}<|{{ caller() }}|>{% endmacro %}{% call m() %}{{ c[2:-2] }}{% endcall %}
{% macro m() %}{{ varargs|join }}{{ kwargs.y }}{% endmacro %}{{ m(c, y=c) }}
{% for x in [c] recursive %}{{ x }}{% endfor %}
{% with y = c %}{{ y }}{% endwith %}
{% set l = [] %}{% set _ = l.append(c) %}{{ l.pop() }}
{{ cycler(c).next() }}{{ dict(a=c).a }}
{{ joiner(c)() }}{% set j = joiner(c) %}{{ j() }}{{ j() }}
{% generation %}{{ c }}{% endgeneration %}
{% block b %}{{ messages[0].content }}{% endblock %}
{{ c|e }}{{ c|urlencode }}{{ c|striptags }}{{ c|urlize }}
{{ c|xmlattr if false else c }}{{ {'a': c}|xmlattr }}
{{ c|pprint }}{{ [c]|pprint }}
{{ c|wordcount ~ c }}
{{ c.lstrip('<') ~ c.rstrip('>') }}
{{ '<' ~ c.lstrip('<') }}{{ c.rstrip('>') ~ '>' }}
{{ loop_controls|default(c) }}
""".strip().splitlines()


@pytest.mark.parametrize("handling", HANDLINGS)
def test_no_handling_frees_content_from_its_marks(handling: str) -> None:
    for content in ("<|eot_id|>", "a\n<|eot_id|> b", "<|eot_id|><|eot_id|>"):
        source = "{% set c = messages[0].content %}" + handling
        rendered = ChatTemplate(source).render([Message("user", content)])
        assert genuine(rendered, ("<|eot_id|>",)) == []
        assert rendered.content, "the content is in the text"


def test_content_at_a_seam_makes_no_control_text() -> None:
    """Half a control text at the end of one content and half at the start of the next."""
    rendered = ChatTemplate("{% for m in messages %}{{ m.content }}{% endfor %}").render(
        [Message("user", "<|eot"), Message("user", "_id|>")]
    )
    assert rendered.text == "<|eot_id|>" and rendered.content == ((0, 10),)


def test_roles_ids_and_variables_are_told_apart() -> None:
    source = "{{ messages[0].role }}|{{ messages[1].tool_call_id }}|{{ date_string }}"
    messages = [Message("user", "a"), Message("tool", "b", call_id="c1")]
    rendered = ChatTemplate(source).render(messages, variables={"date_string": "today"})
    assert [rendered.text[slice(*part)] for part in rendered.content] == ["c1", "today"]


# Content is made of these, template text of those: so each character tells where it came from.
# None of them is in `None`, `True`, `false`, `null`, nor in an escape.
CONTENT_LETTERS, TEMPLATE_LETTERS = "qbßŉQ가", "xyXYñ \t\n"
pieces = st.lists(
    st.tuples(st.booleans(), st.text(min_size=1, max_size=4)).map(
        lambda pair: (pair[0], "".join(_letter(pair[0], char) for char in pair[1]))
    ),
    max_size=5,
)


def _letter(is_content: bool, char: str) -> str:
    letters = CONTENT_LETTERS if is_content else TEMPLATE_LETTERS
    return letters[ord(char) % len(letters)]


def mixed(parts: list[tuple[bool, str]]) -> str:
    text = "".join(part for _, part in parts)
    origin = "".join(("\1" if is_content else "\0") * len(part) for is_content, part in parts)
    return Marked(text, origin) if "\1" in origin else text


def assert_marks_are_right(result: Any, *, is_exact: bool = True) -> None:
    """Each letter of content is content, and (where exactness is promised) nothing else is."""
    for text in [result] if isinstance(result, str) else result:
        cased = f"{CONTENT_LETTERS.upper()}{CONTENT_LETTERS.lower()}{CONTENT_LETTERS.casefold()}"
        folded = cased + cased.swapcase()
        for char, code in zip(text, origin_of(text), strict=True):
            if char in CONTENT_LETTERS:
                assert code != "\0", (text, content_ranges(text))
            elif is_exact and char not in folded:
                assert code == "\0", (text, content_ranges(text))


short = st.text(alphabet=CONTENT_LETTERS + TEMPLATE_LETTERS, max_size=2)
ARGUMENTS: dict[str, st.SearchStrategy[tuple[Any, ...]]] = {
    **dict.fromkeys(["strip", "lstrip", "rstrip"], st.one_of(st.just(()), st.tuples(short))),
    **dict.fromkeys(["removeprefix", "removesuffix"], st.tuples(short)),
    **dict.fromkeys(
        ["split", "rsplit"],
        st.one_of(
            st.just(()),
            st.tuples(short.filter(bool)),
            st.tuples(st.one_of(st.none(), short.filter(bool)), st.integers(-1, 3)),
        ),
    ),
    **dict.fromkeys(["partition", "rpartition"], st.tuples(short.filter(bool))),
    "splitlines": st.one_of(st.just(()), st.tuples(st.booleans())),
    "replace": st.one_of(
        st.tuples(short, pieces.map(mixed)), st.tuples(short, pieces.map(mixed), st.integers(-1, 3))
    ),
    "join": st.tuples(st.lists(pieces.map(mixed), max_size=4)),
    **dict.fromkeys(["center", "ljust", "rjust"], st.tuples(st.integers(0, 30))),
    **dict.fromkeys(["zfill", "expandtabs"], st.tuples(st.integers(0, 30))),
}
INEXACT = {"center", "ljust", "rjust", "zfill", "expandtabs"}


@pytest.mark.parametrize("method", METHODS)
def test_methods_give_what_str_gives_and_keep_the_marks(method: str) -> None:
    @settings(max_examples=150, deadline=None)
    @given(pieces.map(mixed), ARGUMENTS.get(method, st.just(())))
    def check(text: str, arguments: tuple[Any, ...]) -> None:
        result = call_method(Budget(Limits()), text, method, arguments, {})
        assert result == getattr(str.__str__(text), method)(*arguments)
        empty_old = method == "replace" and arguments[0] == ""
        uneven = method in ("capitalize", "title") and len(result) != len(text)
        is_exact = not (method in INEXACT or empty_old or uneven)
        assert_marks_are_right(result, is_exact=is_exact)

    check()


@settings(max_examples=150, deadline=None)
@given(pieces.map(mixed), st.slices(12), st.integers(0, 11))
def test_slices_keep_the_marks(text: str, part: slice, index: int) -> None:
    assert text[part] == str.__str__(text)[part]
    assert_marks_are_right(text[part])
    assert_marks_are_right(list(text))
    if index < len(text):
        assert_marks_are_right(text[index])


values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), pieces.map(mixed)
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(pieces.map(mixed), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(values, st.booleans(), st.sampled_from([None, 0, 2]), st.booleans())
def test_json_is_that_of_the_json_module(
    value: Any, ensure_ascii: bool, indent: int | None, sort_keys: bool
) -> None:
    text = to_json(Budget(Limits()), value, ensure_ascii, indent, None, sort_keys)
    assert text == json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, sort_keys=sort_keys)
    if not ensure_ascii:
        assert_marks_are_right(text, is_exact=False)


@settings(max_examples=200, deadline=None)
@given(values)
def test_printing_is_that_of_python(value: Any) -> None:
    text = text_of(Budget(Limits()), value)
    assert text == str(value)
    assert_marks_are_right(text, is_exact=False)


@settings(max_examples=200, deadline=None)
@given(pieces.map(mixed), pieces.map(mixed), st.integers(-99, 99))
def test_formatting_is_that_of_python(one: str, two: str, number: int) -> None:
    budget = Budget(Limits())
    for pattern in ("%s|%s|%d", "%5s%-6s%+03d", "%r %s %x", "%.1s%s%e %%"):
        assert percent(budget, pattern, (one, two, number)) == pattern % (one, two, number)
    for pattern in ("{}{}{}", "{0}{1:>7}{2:+}", "{2:05d}{0!r}{1!s:.2}", "{{{}}} {} {:x}"):
        text = format_text(budget, pattern, (one, two, number), {}, getattr, None)
        assert text == pattern.format(one, two, number)
    named = {"a": one, "b": [two], "n": 9}
    text = format_text(budget, "{a} {b[0]} {a:>{n}}", (), named, getattr, lambda box, key: box[key])
    assert text == "{a} {b[0]} {a:>{n}}".format(**named)
    assert_marks_are_right(percent(budget, "x%sx%sx", (one, two)))
    assert_marks_are_right(format_text(budget, "x{}x{}x", (one, two), {}, getattr, None))
