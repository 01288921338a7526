"""What the grammars generate at random is read back, is valid, and survives the templates.

Random logits and the mask write messages of calls for every family and style. By default a sample;
`ENGINE_TESTS=full` makes 10,000 messages (minutes).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from functools import cache

import jsonschema
import numpy as np
import pytest
from conversations import TEMPLATES
from fakes import byte_vocab
from families import Played, control_texts, play, turn_of, vocab_of
from family_wires import RENDERED, Chunking, declared, read, reading, said_in

from engine import Sampling
from engine.families import profiles
from engine.messages import Call
from engine.profile import Profile, Span
from engine.resources import read_text
from engine.sampler import Sampler
from engine.vocab import Vocab

FULL = os.environ.get("ENGINE_TESTS") == "full"
STYLES = [(name, style) for name, item in profiles().items() for style in item.styles]
N_WALKS = -(-10_000 // len(STYLES)) if FULL else 5
MOST_TOKENS = 2000

STRING, INTEGER, BOOLEAN = {"type": "string"}, {"type": "integer"}, {"type": "boolean"}
TOOLS = [
    declared("scalars", {"text": STRING, "n": INTEGER, "x": {"type": "number"}, "ok": BOOLEAN}),
    declared(
        "bounded",
        {
            "short": {"type": "string", "minLength": 1, "maxLength": 6},
            "unit": {"type": "string", "enum": ["celsius", "화씨", 'a "b"']},
            "n": {"type": "integer", "minimum": -5, "maximum": 120},
            "either": {"type": ["integer", "boolean"]},
        },
        ["unit", "n"],
    ),
    declared(
        "nested",
        {
            "words": {"type": "array", "items": STRING},
            "deep": {
                "type": "object",
                "properties": {"ok": BOOLEAN, "list": {"type": "array", "items": INTEGER}},
                "additionalProperties": False,
            },
            "none": {"type": "null"},
        },
        ["deep"],
    ),
    declared("no_arguments", {}),
]


@cache
def walking_vocab(family: str, style: str) -> Vocab:
    """Bytes, the family's control texts, and as words what its grammar says."""
    item = profiles()[family]
    found = item.style(style)
    texts = re.findall(r'"(?:\\.|[^"\\])*"', read_text("grammars", "tools", found.grammar))
    words = {json.loads(text) for text in texts}
    for part in found.parts.values():
        words |= {part} if isinstance(part, str) else set(part)
    words |= {'": ', '", "', '"}', "true", "null"}
    words = {word for word in words - set(control_texts(item)) if len(word) > 1}
    return vocab_of(item, sorted(words)) if item.ends else byte_vocab(words=sorted(words))


@cache
def liking(vocab: Vocab) -> tuple[np.ndarray, np.ndarray]:
    """How likely tokens are, and how much likelier with every step: so that texts end."""
    base = np.zeros(vocab.n_vocab, dtype=np.float32)
    growth = np.zeros(vocab.n_vocab, dtype=np.float32)
    base[128:256], base[:32] = -2, -1
    base[256:], growth[256:] = 3, 0.04
    for byte in b"\"'}])":
        base[byte], growth[byte] = 3, 0.04
    return base, growth


def span_of(item: Profile) -> Span:
    """What a message begins in."""
    return "header" if any(header.is_open for header in item.headers) else "text"


def walk(item: Profile, style: str, seed: int) -> tuple[Vocab, Played, list[int]]:
    vocab = walking_vocab(item.name, style)
    base, growth = liking(vocab)
    turn = turn_of(item, vocab, TOOLS, span=span_of(item), style=style, choice="required")
    chance = np.random.default_rng(seed)
    sampler = Sampler(Sampling(temperature=1, top_k=0, top_p=1, min_p=0, seed=seed))
    played, ids = Played(turn), []
    for step in range(MOST_TOKENS):
        noise = chance.normal(size=vocab.n_vocab).astype(np.float32)
        token, _ = turn.choose(noise + base + growth * step, sampler)
        played.events += turn.feed(token)
        ids.append(token)
        if turn.is_over:
            break
    return vocab, played, ids


def is_beyond_json(played: Played) -> bool:
    """A number like 1e999, which the grammar of numbers allows; the call is refused by name."""
    return "no number that JSON has" in (played.turn.result.broken or "")


@pytest.mark.parametrize("family, style", STYLES)
def test_what_a_grammar_generates_is_valid_and_is_read_back(family, style):
    item, known = profiles()[family], {tool.name: tool for tool in TOOLS}
    for seed in range(N_WALKS):
        vocab, played, ids = walk(item, style, seed)
        said = vocab.bytes_of(ids)
        assert played.turn.is_over, said
        if is_beyond_json(played):
            continue
        assert played.calls, said
        for name, arguments in played.calls:
            jsonschema.validate(arguments, dict(known[name].parameters))
        masked = reading(played)
        assert [json.loads(each) for each in masked.arguments] == [a for _, a in played.calls]
        free = turn_of(item, vocab, TOOLS, span=span_of(item), style=style, constrain=False)
        followed = reading(play(free, vocab, ids))
        assert (followed.calls, followed.notices) == (masked.calls, ()), said


def texts_in(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    if isinstance(value, dict):
        value = list(value.values())
    for part in value if isinstance(value, list) else ():
        yield from texts_in(part)


def has(*signs: str) -> Callable[[Call], bool]:
    return lambda call: any(sign in text for text in texts_in(call.arguments) for sign in signs)


# Calls that a template can't show, with the reason.
UNSHOWN: dict[str, Callable[[Call], bool]] = {
    # It never ends for a tool with a parameter of type null.
    "CohereForAI-c4ai-command-r-plus-tool_use": lambda call: call.name == "nested",
    "NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use": lambda call: call.name == "nested",
    "NousResearch-Hermes-3-Llama-3.1-8B-tool_use": lambda call: call.name == "nested",
    # It leaves the end of the section out behind a lone call.
    "deepseek-ai-DeepSeek-R1-Distill-Llama-8B": lambda call: True,
    # It puts text between quotes as it is.
    "LFM2.5-8B-A1B": has("'", "\\"),
    # It wraps text in CDATA, also text that has CDATA's end in it, and writes lists as Python does.
    "openbmb-MiniCPM5-1B": has("]]>", "<![CDATA[", "</param>"),
    # It writes lists as Python does, in which a closer is one.
    "ByteDance-Seed-OSS": has("</parameter>"),
    # It leaves null out.
    "MiniMax-M3": lambda call: None in call.arguments.values(),
}


@pytest.mark.skipif(not TEMPLATES, reason="the templates are not beside the project")
@pytest.mark.parametrize("family, template", RENDERED)
def test_what_a_grammar_generates_survives_the_template(family, template):
    item, is_unshown = profiles()[family], UNSHOWN.get(template, lambda call: False)
    tools = [tool for tool in TOOLS if not is_unshown(Call("1", tool.name, {}))]
    for seed in range(N_WALKS):
        _, played, _ = walk(item, item.style().name, seed)
        for name, arguments in played.calls[:1]:
            call = Call("1", name, arguments)
            if is_unshown(call):
                continue
            said = said_in(template, item, tools, [call])
            chunks = Chunking(item, said, [])
            found = read(item, said, tools, chunks.vocab, chunks.of_bytes, constrain=False)
            assert found.calls == [(name, arguments)], said.text
