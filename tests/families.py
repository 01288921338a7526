"""The shipped families on vocabularies of bytes and marks, and messages played to them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from fakes import byte_vocab

from engine import Sampling
from engine.dialect import Dialect
from engine.events import Event, ToolCall
from engine.families import profile
from engine.messages import Call, Message, ToolSpec
from engine.profile import Profile
from engine.sampler import Sampler
from engine.template import ChatTemplate
from engine.toolcall import ToolChoice, Turn, TurnOptions
from engine.vocab import Vocab
from engine.watch import Watch, markers_for

NOTHING = {"type": "object", "properties": {}, "additionalProperties": False}
WEATHER = ToolSpec(
    "get_weather",
    "Weather.",
    {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city"],
        "additionalProperties": False,
    },
)
NOW = ToolSpec("now", "Time.", NOTHING)
# A call of `get_weather`, as some families write it.
SEOUL_CALLS = {
    "hermes": '<tool_call>\n{"name": "get_weather", "arguments": {"city": "서울"}}\n</tool_call>',
    "qwen3-coder": "<tool_call>\n<function=get_weather>\n<parameter=city>\n서울\n</parameter>\n"
    "</function>\n</tool_call>",
    "lfm2": "<|tool_call_start|>[get_weather(city='서울')]<|tool_call_end|>",
    "gemma4": '<|tool_call>call:get_weather{city:<|"|>서울<|"|>}<tool_call|>',
    "mistral-v13": '[TOOL_CALLS]get_weather[ARGS]{"city": "서울"}',
    "llama3": '{"name": "get_weather", "parameters": {"city": "서울"}}',
}


def control_texts(profile: Profile) -> list[str]:
    return sorted({*profile.markers, *profile.tokens} - _plain_texts(profile))


def _plain_texts(profile: Profile) -> set[str]:
    """Thinking marks of more than one token."""
    marks = profile.thinking
    return {text for text in ((marks.open, marks.close) if marks else ()) if "\n" in text}


def vocab_of(profile: Profile, words: Sequence[str] = ()) -> Vocab:
    texts = control_texts(profile)
    ends = [
        text for text in profile.ends if text in texts and profile.ends[text] != "keep_sampling"
    ]
    return byte_vocab(texts, words=words, ends=ends)


def vocab_for(name: str) -> Vocab:
    """The same by the family's name, with ends for one that has none of its own."""
    item = profile(name)
    return vocab_of(item) if item.ends else byte_vocab()


def end_of(name: str) -> str:
    """What ends a message of a family."""
    return next(text for text, what in profile(name).ends.items() if what != "keep_sampling")


@dataclass
class Played:
    """What became of a message: its events, its turn, and the first token that was masked."""

    turn: Turn
    events: list[Event] = field(default_factory=list)
    masked: str | None = None

    @property
    def calls(self) -> list[tuple[str, dict]]:
        return [(e.name, dict(e.arguments)) for e in self.events if isinstance(e, ToolCall)]


def pieces(vocab: Vocab, text: str) -> list[int]:
    """The ids of a text: control texts as their tokens, words where there are some, else bytes."""
    known = [t for t, i in vocab.ids.items() if i >= 256]
    if not known:
        return list(text.encode())
    pattern = "|".join(map(re.escape, sorted(known, key=len, reverse=True)))
    out: list[int] = []
    for part in re.split(f"({pattern})", text):
        token = vocab.ids.get(part) if part else None
        out += [token] if token is not None and token >= 256 else list(part.encode())
    return out


def turn_of(
    profile: Profile,
    vocab: Vocab,
    tools: Sequence[ToolSpec],
    *,
    span: str = "text",
    style: str | None = None,
    constrain: bool = True,
    choice: str = "auto",
    is_strict: bool = False,
    **options: object,
) -> Turn:
    dialect = Dialect(profile, profile.style(style), vocab, lambda text: list(text.encode()))
    names = [tool.name for tool in tools]
    in_thinking = profile.thinking is not None and profile.thinking.has_calls
    watch = Watch(
        vocab,
        markers_for(vocab, profile, dialect.style, names, is_strict=is_strict),
        profile.meanings(vocab),
        span=span,
        headers=profile.headers,
        calls_in=("text", "header", "thinking") if in_thinking else ("text", "header"),
    )
    made = iter(range(1, 100))
    return Turn(
        watch,
        profile.end_meanings(vocab),
        dialect=dialect,
        tools=tools,
        options=TurnOptions(ToolChoice.parse(choice, names), constrain, **options),
        new_id=lambda name: (f"call_{next(made)}", None),
    )


def play(turn: Turn, vocab: Vocab, ids: Sequence[int]) -> Played:
    """The model says these tokens; where one is masked it stops."""
    sampler, played = Sampler(Sampling(temperature=0)), Played(turn)
    for index, token in enumerate(ids):
        logits = np.full(vocab.n_vocab, -10, dtype=np.float32)
        logits[token] = 10
        chosen, _ = turn.choose(logits, sampler)
        if chosen != token:
            before = vocab.bytes_of(ids[max(0, index - 60) : index]).decode(errors="replace")
            expected = turn.constraint.allowed_summary() if turn.constraint else "anything"
            played.masked = f"{vocab.data(token)!r} behind {before!r}: allowed is {expected}"
            return played
        played.events += turn.feed(token)
        if turn.is_over:
            break
    return played


def wander(turn: Turn, vocab: Vocab, seed: int, limit: int) -> Played:
    """A model with random logits, that prefers what is not the inside of a text."""
    chance, played = np.random.default_rng(seed), Played(turn)
    sampler = Sampler(Sampling(seed=seed))
    for _ in range(limit):
        logits = chance.normal(size=vocab.n_vocab).astype(np.float32)
        logits[[*b"\"<>}])'"]] += 4
        logits[256:] += 4
        token, _ = turn.choose(logits, sampler)
        played.events += turn.feed(token)
        if turn.is_over:
            break
    return played


@dataclass(frozen=True)
class Wire:
    """What the model says in a rendered conversation, and where it begins to."""

    text: str
    span: str


def wire_of(
    template: ChatTemplate,
    profile: Profile,
    tools: Sequence[ToolSpec],
    calls: Sequence[Call],
    text: str = "",
) -> Wire:
    """Cut a message with calls out of the conversation as the template writes it."""
    user = Message("user", "QUESTION")
    prompt = template.render([user], tools=tools).text
    said = Message("assistant", text, calls=tuple(calls))
    whole = template.render([user, said], tools=tools, add_generation_prompt=False).text
    same = next(
        (i for i, (a, b) in enumerate(zip(prompt, whole, strict=False)) if a != b), len(prompt)
    )
    same = min(same, len(whole))
    # Not inside a control text.
    for mark in sorted(control_texts(profile), key=len, reverse=True):
        for size in range(len(mark) - 1, 0, -1):
            if whole[:same].endswith(mark[:size]) and whole[same - size :].startswith(mark):
                same -= size
                break
    opened = whole.rfind("<", 0, same)  # nor inside a tag
    if opened >= 0 and ">" not in whole[opened:same]:
        same = opened
    marks = profile.thinking
    is_thinking = marks is not None and whole[:same].rstrip().endswith(marks.open.rstrip())
    span = "thinking" if is_thinking else "text"
    if any(header.is_open for header in profile.headers):
        span = "header"
    return Wire(whole[same:], span)
