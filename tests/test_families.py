"""Every family with its published templates: recognised, and calls read back from what they write.

A template renders a conversation with calls; the model's part is cut out and played, constrained
and not. The same calls come back, however the bytes fall into tokens. `ENGINE_TESTS=full` cuts
each message in many more ways (minutes).
"""

from __future__ import annotations

import json
import os
import zlib
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import pytest
from conversations import TEMPLATES, source_of
from families import control_texts, vocab_of
from family_wires import RENDERED, Chunking, Reading, Said, declared, read, said_in

from engine import gguf
from engine.errors import TemplateError
from engine.families import detect, profile
from engine.messages import Call
from engine.profile import Profile
from engine.vocab import Vocab

FULL = os.environ.get("ENGINE_TESTS") == "full"
SEEDS = range(40 if FULL else 3)
pytestmark = pytest.mark.skipif(not TEMPLATES, reason="the templates are not beside the project")

STRING, INTEGER, BOOLEAN = {"type": "string"}, {"type": "integer"}, {"type": "boolean"}
TEXTS = {
    "plain": "서울 날씨 😀",
    "padded": " x ",
    "lines": "one\n\n  two\ttab",
    "framed": "\nx\n",
    "number": "3",
    "true": "true",
    "none": "None",
    "json": '{"a": [1, "b"]}',
    "empty": "",
    "tags": "<b>&amp; </b> <x y=1>",
    "braces": "{{ x }} {% y %} ${z}",
}
ESCAPES = {"quotes": 'say "hi" to \'em', "path": 'C:\\new\\"x\\" \\u0041 \\'}
SCALARS = declared(
    "scalars",
    {"text": STRING, "count": INTEGER, "ratio": {"type": "number"}, "flag": BOOLEAN},
    ["text"],
)
NULL = declared("nullable", {"nothing": {"type": "null"}, "flag": BOOLEAN})
NESTED = declared(
    "nested",
    {
        "words": {"type": "array", "items": STRING},
        "deep": {
            "type": "object",
            "properties": {"flag": BOOLEAN, "pairs": {"type": "array", "items": INTEGER}},
            "additionalProperties": STRING,
        },
    },
)
SAY = declared("say", dict.fromkeys([*TEXTS, *ESCAPES, "marks"], STRING))
SCALAR_CALL = Call("1", "scalars", {"text": "서울", "count": -3, "ratio": 1.5, "flag": False})
CASES = {
    "scalars": [SCALAR_CALL],
    "null": [Call("1", "nullable", {"nothing": None, "flag": True})],
    "nested": [
        Call(
            "1",
            "nested",
            {"words": ["a", "둘"], "deep": {"flag": True, "pairs": [1, 2], "more": "x"}},
        )
    ],
    "text": [Call("1", "say", TEXTS)],
    "escapes": [Call("1", "say", ESCAPES)],
    "no arguments": [Call("1", "say", {})],
    "two": [SCALAR_CALL, Call("2", "say", {"plain": "y"})],
    "behind text": [SCALAR_CALL],
}
WORDS = "Look at this: 날씨"

# What templates don't show as a constrained model says it, by template and case. `read`: all the
# same it is read, unconstrained; `lost`: it can't be read back, because it isn't there.
NULL_KILLS = "lost", "the template never ends for a tool with a parameter of type null"
NO_NULL = "lost", "the template leaves null out"
PYTHON = "read", "lists and objects are written as Python does"
UNESCAPED = "lost", "text is put between quotes as it is"
ESCAPED = "read", "every character beyond ASCII is written as an escape"
INDENTED = "read", "the arguments are indented"
ONE = "lost", "the first call alone is kept"
REFUSES = "lost", "the template raises for a second call"
ONE_EACH = "read", "the style has one call a message"
NO_CALL = "lost", "beside text, calls are left out"
NO_END = "lost", "behind a lone call the end of the section is left out"
APART = "lost", "text and call are two messages, and the first one's end is the turn's"
BEHIND = "read", "the text is written behind the call"
AT_START = "lost", "a call counts at the message's start alone"
LONE = ("scalars", "null", "nested", "text", "escapes", "marks", "no arguments")
DEFECTS: dict[str, dict[str, tuple[str, str]]] = {
    "CohereForAI-c4ai-command-r-plus-tool_use": {
        **dict.fromkeys([*CASES, "marks"], INDENTED),
        "null": NULL_KILLS,
        "no arguments": ("same", ""),
    },
    "NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use": {"null": NULL_KILLS},
    "NousResearch-Hermes-3-Llama-3.1-8B-tool_use": {"null": NULL_KILLS},
    "MiniMax-M3": {"null": NO_NULL},
    "google-gemma-2-2b-it": {"nested": PYTHON, "behind text": AT_START},
    "LFM2-8B-A1B": {"nested": PYTHON},
    "LFM2.5-Instruct": {"nested": PYTHON},
    "LFM2.5-8B-A1B": {"nested": PYTHON, "escapes": UNESCAPED},
    "openbmb-MiniCPM5-1B": {"nested": PYTHON},
    "ByteDance-Seed-OSS": {"nested": PYTHON},
    "Reka-Edge": dict.fromkeys(("scalars", "nested", "text", "two", "behind text"), ESCAPED),
    "GigaChat3.1-10B-A1.8B": {"two": ONE},
    "GigaChat3-10B-A1.8B": {"two": ONE, "behind text": APART},
    "openai-gpt-oss-120b": {"two": ONE},
    "meta-llama-Llama-3.1-8B-Instruct": {"two": REFUSES},
    "meta-llama-Llama-3.2-3B-Instruct": {"two": REFUSES},
    "meta-llama-Llama-3.3-70B-Instruct": {"two": REFUSES},
    "microsoft-Phi-3.5-mini-instruct": {"two": ONE_EACH},
    "deepseek-ai-DeepSeek-R1-Distill-Llama-8B": {
        **dict.fromkeys(LONE, NO_END),
        "behind text": NO_CALL,
    },
    "llama-cpp-deepseek-r1": {"behind text": NO_CALL},
    "NVIDIA-Nemotron-Nano-v2": {"behind text": APART},
    "google-gemma-4-31B-it": {"behind text": BEHIND},
    "google-gemma-4-31B-it-interleaved": {"behind text": BEHIND},
}
# The families' own vocabularies, where there are files of them.
REAL = {
    "llama3": "llama-3.1",
    "hermes": "qwen2",
    "qwen3-coder": "qwen2",
    "gemma4": "gemma-4",
    "command-r-plus": "command-r",
}


def expected(template: str, case: str) -> str:
    return DEFECTS.get(template, {}).get(case, ("same", ""))[0]


def marks_of(item: Profile) -> str:
    """The family's control texts one behind the other, but for those that no text can hold."""
    stops = {style.parts.get("STOP") for style in item.styles.values()} | {"]<]minimax[>["}
    return "".join(text for text in control_texts(item) if text not in stops) + " x"


def message(family: str, template: str, case: str) -> tuple[Said, list, list[Call]]:
    """What the model says in a case, with the tools and the calls that it holds."""
    item = profile(family)
    calls = CASES.get(case) or [Call("1", "say", {"marks": marks_of(item)})]
    tools = [SCALARS, SAY, *{"null": [NULL], "nested": [NESTED]}.get(case, [])]
    words = WORDS if case == "behind text" else ""
    return said_in(template, item, tools, calls, words), tools, calls


@cache
def real_vocab(path: Path) -> Vocab:
    return Vocab.from_header(gguf.read_header(path))


@pytest.mark.parametrize("family, template", RENDERED)
def test_a_template_is_recognised_on_its_family_s_tokens(shared_data, family, template):
    found = detect(vocab_of(profile(family)), source_of(template))
    assert found.profile.name == family and found.reason.startswith("has ")
    if family in REAL and not template.startswith("NousResearch"):
        real = real_vocab(shared_data / "vocab" / f"{REAL[family]}.gguf")
        assert detect(real, source_of(template)).profile.name == family


def test_every_template_at_hand_belongs_to_one_family():
    claimed = [template for _, template in RENDERED]
    assert sorted([*claimed, "llama-cpp-rwkv-world"]) == TEMPLATES  # which has no tools


def outcome(said: Said, item: Profile, tools: list, calls: list[Call]) -> str:
    """`same`, `read` or `lost`: see DEFECTS."""
    wanted = [(call.name, dict(call.arguments)) for call in calls]
    chunks = Chunking(item, said, [])
    masked = read(item, said, tools, chunks.vocab, chunks.of_bytes, constrain=True)
    free = read(item, said, tools, chunks.vocab, chunks.of_bytes, constrain=False)
    if free.calls != wanted or not free.is_over:
        return "lost"
    assert free.text.strip() in ("", WORDS) and free.broken is None
    return "same" if masked.calls == wanted and masked.is_over and not masked.notices else "read"


@pytest.mark.parametrize("case", [*CASES, "marks"])
@pytest.mark.parametrize("family, template", RENDERED)
def test_calls_come_back_from_what_the_template_writes(family, template, case):
    if DEFECTS.get(template, {}).get(case) in (NULL_KILLS, REFUSES):
        with pytest.raises(TemplateError):
            message(family, template, case)
        return
    said, tools, calls = message(family, template, case)
    assert outcome(said, profile(family), tools, calls) == expected(template, case), said.text


def with_thinking(said: Said, item: Profile) -> Said:
    """Behind some thinking, where the family has marks for it."""
    marks = item.thinking
    if marks is None or said.span == "header":
        return said
    known = vocab_of(item).ids
    begun = () if said.span == "thinking" else (marks.open,)
    parts = (*begun, "생각 <b>\n", marks.close)
    cut = (part if part in known else part.encode() for part in parts)
    return Said((*cut, *said.parts), said.span)


@pytest.mark.parametrize("family, template", RENDERED)
def test_how_the_bytes_fall_into_tokens_changes_nothing(family, template):
    item = profile(family)
    for case in ("text", "two", "behind text"):
        if DEFECTS.get(template, {}).get(case) == ONE_EACH or expected(template, case) == "lost":
            continue
        said, tools, calls = message(family, template, case)
        said = with_thinking(said, item)
        chunks = Chunking(item, said, [hash_of(template, case, seed) for seed in SEEDS])
        for constrain in (True, False) if expected(template, case) == "same" else (False,):
            told = partial(read, item, said, tools, chunks.vocab, constrain=constrain)
            by_bytes = told(chunks.of_bytes)
            assert by_bytes.calls == [(call.name, dict(call.arguments)) for call in calls]
            assert [json.loads(each) for each in by_bytes.arguments] == [
                call.arguments for call in calls
            ]
            assert not by_bytes.notices or expected(template, case) == "read"
            for ids in chunks.others:
                assert without_notices(told(ids)) == without_notices(by_bytes)


def hash_of(*parts: object) -> int:
    return zlib.crc32(repr(parts).encode())


def without_notices(found: Reading) -> Reading:
    """Notices name tokens, so they differ."""
    return replace(found, notices=(), masked=None)
