"""Arguments as they stream: JSON text that only grows, the same however the bytes are cut."""

from __future__ import annotations

import ast
import json
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from families import pieces, turn_of, vocab_of
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import Sampling
from engine.callreader import CallReader, python_value
from engine.dialect import Dialect
from engine.errors import GrammarError
from engine.events import Event, Text, ToolCall, ToolCallDelta
from engine.families import profile
from engine.messages import ToolSpec
from engine.sampler import Sampler
from engine.toolcall import Turn
from engine.vocab import NORMAL, Vocab

LONGEST = 9  # bytes of a token
TOOL = ToolSpec(
    "note",
    "Write it down.",
    {
        "type": "object",
        "properties": {
            "text": {"type": "string"},
            "days": {"type": "integer"},
            "ok": {"type": "boolean"},
            "parts": {"type": "array", "items": {"type": "string"}},
            "deep": {"type": "object", "properties": {"x": {"type": "number"}}},
        },
        "required": ["text"],
        "additionalProperties": False,
    },
)
PLAIN = "서울 <b>&amp; 둘\n 😀, x=1; end"
SAID = {"text": PLAIN, "days": 3, "ok": False, "parts": ["가", "b c"], "deep": {"x": 1.5}}
JSON = json.dumps(SAID, ensure_ascii=False)
REST = {key: json.dumps(SAID[key], ensure_ascii=False) for key in ("days", "ok", "parts", "deep")}


@dataclass(frozen=True)
class Wire:
    family: str
    text: str
    end: str


def tags(begin: str, between: str, end: str, text: str = PLAIN) -> str:
    items = {"text": text, **REST}
    return "".join(f"{begin}{key}{between}{value}{end}" for key, value in items.items())


def typed(form: str) -> str:
    kinds = {"text": "string", "days": "number", "ok": "boolean", "parts": "array"}
    items = {"text": PLAIN, **REST}
    return "".join(
        form.format(k, v, kinds.get(k, "object"), "true" if k == "text" else "false")
        for k, v in items.items()
    )


D, B, C, S = "｜DSML｜", "<|open|>", "<|close|>", "<|sep|>"
Q, M = '<|"|>', "]<]minimax[>["
PYTHON = json.dumps(PLAIN, ensure_ascii=False)
WIRES = {
    "JSON": Wire(
        "hermes",
        f'<tool_call>\n{{"name": "note", "arguments": {JSON}}}\n</tool_call>',
        "<|im_end|>",
    ),
    "a name and JSON": Wire("mistral-v13", f"[TOOL_CALLS]note[ARGS]{JSON}", "</s>"),
    "tags": Wire(
        "qwen3-coder",
        "<tool_call>\n<function=note>\n"
        + tags("<parameter=", ">\n", "\n</parameter>\n")
        + "</function>\n</tool_call>",
        "<|im_end|>",
    ),
    "tags that are tokens": Wire(
        "glm4.5",
        "<tool_call>note\n"
        + tags("<arg_key>", "</arg_key>\n<arg_value>", "</arg_value>\n")
        + "</tool_call>",
        "<|user|>",
    ),
    "CDATA": Wire(
        "minicpm5",
        '<function name="note">'
        + tags('<param name="', '">', "</param>", f"<![CDATA[{PLAIN}]]>")
        + "</function>",
        "<|im_end|>",
    ),
    "tags with types": Wire(
        "deepseek-v3.2",
        f'<{D}function_calls>\n<{D}invoke name="note">\n'
        + typed(f'<{D}parameter name="{{0}}" string="{{3}}">{{1}}</{D}parameter>\n')
        + f"</{D}invoke>\n</{D}function_calls>",
        "<｜end▁of▁sentence｜>",
    ),
    "sections with types": Wire(
        "kimi-k3",
        f'{B}tools{S}{B}call tool="note" index="1"{S}'
        + typed(f'{B}argument key="{{0}}" type="{{2}}"{S}{{1}}{C}argument{S}')
        + f"{C}call{S}{C}tools{S}",
        "<|end_of_msg|>",
    ),
    "Python": Wire(
        "lfm2",
        f"<|tool_call_start|>[note(text={PYTHON}, days=3, ok=False, "
        'parts=["가", "b c"], deep={"x": 1.5})]<|tool_call_end|>',
        "<|im_end|>",
    ),
    "Gemma": Wire(
        "gemma4",
        f"<|tool_call>call:note{{text:{Q}{PLAIN}{Q},days:3,ok:false,"
        f"parts:[{Q}가{Q},{Q}b c{Q}],deep:{{x:1.5}}}}<tool_call|>",
        "<turn|>",
    ),
    "tags inside tags": Wire(
        "minimax-m3",
        f'{M}<tool_call>\n{M}<invoke name="note">{M}<text>{PLAIN}{M}</text>{M}<days>3{M}</days>'
        f"{M}<ok>false{M}</ok>{M}<parts>{M}<item>가{M}</item>{M}<item>b c{M}</item>{M}</parts>"
        f"{M}<deep>{M}<x>1.5{M}</x>{M}</deep>{M}</invoke>\n{M}</tool_call>",
        "[e~[",
    ),
}


@dataclass(frozen=True)
class Read:
    """What was said of the arguments after each byte, and the whole."""

    said: dict[int, str]
    call: ToolCall
    text: str


@cache
def vocab_for(name: str) -> Vocab:
    """Every stretch of the wire between control texts is a token, up to LONGEST bytes."""
    wire = WIRES[name]
    base = vocab_of(profile(wire.family))
    stretches = {
        stretch[at : at + size]
        for stretch in plain_stretches(base, wire.text)
        for at in range(len(stretch))
        for size in range(2, LONGEST + 1)
    }
    added = sorted(stretches)
    return Vocab(
        tokens=[*base.tokens, *added],
        texts=[*base.texts, *(f"#{index}" for index in range(len(added)))],
        kinds=np.concatenate([base.kinds, np.full(len(added), NORMAL, dtype=np.uint8)]),
        model="byte",
        eos=base.eos,
        eog=base.eog,
    )


def plain_stretches(vocab: Vocab, text: str) -> list[bytes]:
    out = [b""]
    for token in pieces(vocab, text):
        if token < 256:
            out[-1] += bytes([token])
        else:
            out.append(b"")
    return out


def cut(name: str, sizes: list[int]) -> list[int]:
    """The wire's ids, its plain stretches cut into tokens of these sizes, over and over."""
    vocab, wire = vocab_for(name), WIRES[name]
    base = vocab_of(profile(wire.family))
    known = {data: token for token, data in enumerate(vocab.tokens) if vocab.kinds[token] == NORMAL}
    out, held, turn = [], b"", 0
    for token in [*pieces(base, wire.text), -1]:
        if 0 <= token < 256:
            held += bytes([token])
            continue
        while held:
            size = sizes[turn % len(sizes)]
            turn += 1
            out.append(known[held[:size]])
            held = held[size:]
        out += [token] if token >= 0 else []
    return [*out, vocab.ids[wire.end]]


def read(name: str, sizes: list[int], *, constrain: bool) -> Read:
    vocab = vocab_for(name)
    item = profile(WIRES[name].family)
    turn = turn_of(item, vocab, [TOOL], constrain=constrain)
    said, joined, texts, calls, place = {0: ""}, "", "", [], 0
    for token in cut(name, sizes):
        events = _feed(turn, vocab, token)
        joined += "".join(e.text for e in events if isinstance(e, ToolCallDelta))
        texts += "".join(e.text for e in events if isinstance(e, Text))
        calls += [e for e in events if isinstance(e, ToolCall)]
        place += len(vocab.tokens[token])
        said[place] = joined
    assert turn.result.broken is None, turn.result.broken
    (call,) = calls
    return Read(said, call, texts)


def _feed(turn: Turn, vocab: Vocab, token: int) -> list[Event]:
    logits = np.full(vocab.n_vocab, -10, dtype=np.float32)
    logits[token] = 10
    chosen, _ = turn.choose(logits, Sampler(Sampling(temperature=0)))
    assert chosen == token, (vocab.tokens[token], turn.constraint.allowed_summary())
    return turn.feed(token)


@cache
def by_bytes(name: str, constrain: bool) -> Read:
    return read(name, [1], constrain=constrain)


@pytest.mark.parametrize("constrain", [True, False])
@pytest.mark.parametrize("name", WIRES)
def test_the_pieces_are_the_call_s_arguments_as_json(name, constrain):
    found = by_bytes(name, constrain)
    assert dict(found.call.arguments) == SAID
    assert json.loads(list(found.said.values())[-1]) == SAID
    assert found.text == ""


@pytest.mark.parametrize("constrain", [True, False])
@pytest.mark.parametrize("name", WIRES)
@settings(max_examples=12, deadline=None)
@given(sizes=st.lists(st.integers(1, LONGEST), min_size=1, max_size=12))
def test_what_is_said_at_a_place_does_not_depend_on_how_the_bytes_were_cut(name, constrain, sizes):
    single, found = by_bytes(name, constrain), read(name, sizes, constrain=constrain)
    assert found.said.items() <= single.said.items()
    assert found.call == single.call


@pytest.mark.parametrize("name", WIRES)
def test_a_text_is_said_while_it_is_written_and_whole_characters_only(name):
    steps = list(dict.fromkeys(by_bytes(name, True).said.values()))
    assert all(later.startswith(before) for before, later in pairwise(steps))
    assert not any("�" in step for step in steps)
    inside = [step for step in steps if "서" in step and "end" not in step]
    assert len(inside) > 10


# The reader alone: captures in, JSON out

ESCAPES = ["a", "서", "😀", "7", '"', "'"]
ESCAPES += ["\\'", "\\n", "\\\\", "\\x41", "\\u00e9", "\\101", "\\7", "\\U0001F600"]


@dataclass
class Told:
    """What a matcher tells of a text."""

    marks: list[tuple[str, int, bool]]
    whole: bytes
    certain: int

    def progress(self, skip: int = 0) -> tuple[list[tuple[str, int, bool]], int]:
        return self.marks[skip:], self.certain

    def text(self, begin: int, end: int) -> bytes:
        return self.whole[begin:end]


def streamed(kind: str, inside: bytes, cuts: list[int]) -> str:
    """What a reader says of one value of this kind, as the text is certain up to each cut."""
    text = b"f" + inside
    begun = [("name", 0, False), ("name", 1, True), ("object", 1, False)]
    begun += [("key", 0, False), ("key", 1, True), (kind, 1, False)]
    reader, out, steps = CallReader(lambda name: "1"), "", sorted({*cuts, len(text)})
    for step in steps:
        ended = [(kind, step, True), ("object", step, True)] if step == len(text) else []
        events = reader.take(Told([*begun, *ended], text, step))
        out += "".join(event.text for event in events if isinstance(event, ToolCallDelta))
    assert json.loads(out) == reader.calls[0].arguments()
    return out


@settings(max_examples=150, deadline=None)
@given(parts=st.lists(st.sampled_from(ESCAPES), max_size=12), data=st.data())
def test_a_python_string_is_read_as_python_does_wherever_it_is_cut(parts, data):
    inside = "".join(parts)
    cuts = data.draw(st.lists(st.integers(1, len(inside.encode()) + 1), max_size=8))
    said = streamed("quoted", inside.encode(), cuts)
    wanted = ast.literal_eval('"""' + inside.replace('"', '\\"') + '"""')
    assert json.loads(said) == {"f": wanted}


@settings(max_examples=100, deadline=None)
@given(inside=st.binary(max_size=12), cuts=st.lists(st.integers(1, 12), max_size=6))
@pytest.mark.parametrize("kind", ["text", "quoted"])
def test_any_bytes_become_the_same_text_wherever_they_are_cut(kind, inside, cuts):
    cuts = [cut for cut in cuts if cut <= len(inside)]
    said = streamed(kind, inside, cuts)
    assert said == streamed(kind, inside, []) == streamed(kind, inside, [*range(1, len(inside))])
    said.encode()


@pytest.mark.parametrize(
    "text, value",
    [
        ("True", True),
        ("none", None),
        ("[1,\n 2.5, 'a\nb']", [1, 2.5, "a\nb"]),
        ("{'a': (1, [])}", {"a": [1, []]}),
        ("-007", -7),
        ("'007 \\x1'", "007 \\x1"),
        ("'\\ud83d\\ude00 \\ud83d'", "😀 \ufffd"),
    ],
)
def test_python_literals_are_json_values(text, value):
    assert python_value(text) == value


@pytest.mark.parametrize(
    "text", ["x", "f()", "1 + 1", "1e999", "1j", "b'x'", "{1, 2}", "", "[" * 500]
)
def test_what_is_no_value_that_json_has_is_refused(text):
    with pytest.raises(GrammarError, match="no Python literal"):
        python_value(text)


@pytest.mark.parametrize("kind", ["python", "any"])
@pytest.mark.parametrize("text", ["1e999", "nope", "NaN", "[" * 100_000, "9" * 5000])
def test_a_value_that_can_t_be_read_stays_text(kind, text):
    said = streamed(kind, text.encode(), [])
    assert json.loads(said) == {"f": text}


@pytest.mark.parametrize("text", ["[1]", "3", "", '{"a": 1e999}', "[" * 100_000, '{"a": 1'])
def test_arguments_that_are_no_json_object_are_a_grammar_error(text):
    reader = CallReader(lambda name: "1")
    begun = [("name", 0, False), ("name", 1, True), ("arguments", 1, False)]
    whole = b"f" + text.encode()
    reader.take(Told([*begun, ("arguments", len(whole), True)], whole, len(whole)))
    if text:
        with pytest.raises(GrammarError, match="'f'"):
            reader.calls[0].arguments()
    else:
        assert reader.calls[0].arguments() == {}


def test_halves_of_characters_do_not_reach_a_tool():
    text = b'{"\\ud83d": ["\\ud83d\\ude00", "\\ude00"]}'
    reader = CallReader(lambda name: "1")
    marks = [("name", 0, False), ("name", 0, True), ("arguments", 0, False)]
    reader.take(Told([*marks, ("arguments", len(text), True)], text, len(text)))
    assert reader.calls[0].arguments() == {"\ufffd": ["😀", "\ufffd"]}


def test_each_mark_of_a_long_list_is_told_once():
    item = profile("gemma4")
    vocab, quote = vocab_of(item), '<|"|>'
    schema = {"type": "object", "properties": {"l": {"type": "array", "items": {"type": "string"}}}}
    matcher = Dialect(item, item.style(), vocab).matcher([ToolSpec("f", "", schema)])
    told: list[tuple[str, int, bool]] = []
    reader = CallReader(lambda name: "1")

    class Heard:
        text = matcher.text

        def progress(self, skip: int = 0) -> tuple[list[tuple[str, int, bool]], int]:
            marks, certain = matcher.progress(skip)
            told.extend(marks)
            return marks, certain

    items = [f"{index}" for index in range(300)]
    wire = ",".join(f"{quote}{each}{quote}" for each in items)
    for token in pieces(vocab, f"<|tool_call>call:f{{l:[{wire}]}}<tool_call|>"):
        matcher.advance(token)
        reader.take(Heard())
    assert told == matcher.progress()[0] and len(told) > 2 * len(items)
    assert reader.calls[0].arguments() == {"l": items}
