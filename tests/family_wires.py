"""What models of each family say in rendered conversations, in tokens cut at any place."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

from conversations import template
from fakes import ByteTokenizer
from families import Played, play, turn_of, vocab_of, wire_of

from engine.encoding import Specials
from engine.events import Notice, Text, Thinking, ToolCallDelta
from engine.families import profiles
from engine.messages import Call, Message, ToolSpec
from engine.profile import Profile
from engine.prompt import Prompt
from engine.vocab import Vocab

# Every family with each of its published templates.
RENDERED = [(name, each) for name, item in profiles().items() for each in item.checked.templates]


def declared(name: str, properties: Mapping[str, dict], required: Sequence[str] = ()) -> ToolSpec:
    """A tool with every part described, as some templates want it."""
    schema = {
        "type": "object",
        "properties": {key: {"description": f"The {key}.", **p} for key, p in properties.items()},
        "required": list(required),
        "additionalProperties": False,
    }
    return ToolSpec(name, f"The tool {name}.", schema)


@dataclass(frozen=True)
class Said:
    """A message: control texts as text, all else as bytes; and the span that it begins in."""

    parts: tuple[str | bytes, ...]
    span: str

    @property
    def text(self) -> str:
        parts = (p.decode() if isinstance(p, bytes) else p for p in self.parts)
        return "".join(parts)


def said_in(
    name: str,
    profile: Profile,
    tools: Sequence[ToolSpec],
    calls: Sequence[Call],
    text: str = "",
) -> Said:
    """The model's part of a conversation as the template writes it, or else the engine."""
    prompt, calls = prompt_of(name, profile.name), numbered(profile, calls)
    vocab, found = prompt.vocab, prompt.template
    messages = [Message("user", "QUESTION"), Message("assistant", text, calls=tuple(calls))]
    if prompt._writes_calls:
        whole, span = prompt._written(messages[-1]).text, "text"
        content = list(_places(whole, calls))
    else:
        wire = wire_of(found, profile, tools, calls, text)
        whole, span = wire.text, wire.span
        rendered = found.render(messages, tools=tools, add_generation_prompt=False)
        begin = len(rendered.text) - len(whole)
        content = [(max(a - begin, 0), b - begin) for a, b in rendered.content if b > begin]
    parts: list[str | bytes] = []
    for piece in Specials(vocab, vocab.control).cut(whole, content):
        stretch = whole[piece.start : piece.end]
        if parts and profile.control.get(stretch) == "a turn follows":
            break  # the template says no end
        parts.append(stretch.encode() if piece.id is None else vocab.texts[piece.id])
    return Said((*parts, next(iter(profile.ends))), span)


@cache
def prompt_of(name: str, family: str) -> Prompt:
    item = profiles()[family]
    vocab = vocab_of(item)
    return Prompt(template(name), ByteTokenizer(vocab), vocab, item, item.style())


def numbered(profile: Profile, calls: Sequence[Call]) -> list[Call]:
    """The calls with the ids that the family would write."""
    if not profile.call_ids:
        return list(calls)
    return [
        replace(call, wire_id=profile.call_ids.format(n=i + 1, n0=i, name=call.name))
        for i, call in enumerate(calls)
    ]


def _places(text: str, calls: Sequence[Call]) -> Iterator[tuple[int, int]]:
    """Where the arguments' texts stand in what the engine wrote."""
    values = {v for call in calls for v in call.arguments.values() if isinstance(v, str) and v}
    for value in sorted(values, key=len, reverse=True):
        if (place := text.find(value)) >= 0:
            yield place, place + len(value)


class Chunking:
    """One message in tokens of many lengths, over one vocabulary that has them all."""

    def __init__(self, profile: Profile, said: Said, seeds: Sequence[int]) -> None:
        pieces: dict[bytes, int] = {}
        cut = [list(_cut(said, random.Random(seed))) for seed in seeds]
        cut.append(list(said.parts))
        for part in (part for each in cut for part in each):
            if isinstance(part, bytes) and len(part) > 1:
                pieces.setdefault(part, 256 + len(pieces))
        names = [f"piece {place}" for place in range(len(pieces))]
        vocab = vocab_of(profile, words=names)
        tokens = [*vocab.tokens[:256], *pieces, *vocab.tokens[256 + len(pieces) :]]
        self.vocab: Vocab = replace(vocab, tokens=tokens)
        known = {part: vocab.ids[part] for part in said.parts if isinstance(part, str) and part}
        known |= pieces | {bytes([byte]): byte for byte in range(256)}
        self.of_bytes = [i for p in said.parts for i in ([known[p]] if isinstance(p, str) else p)]
        self.others = [[known[part] for part in each] for each in cut]


def _cut(said: Said, chance: random.Random) -> Iterator[str | bytes]:
    """Cuts at any byte, inside characters too; longer and shorter pieces by the seed."""
    longest = chance.choice((2, 5, 12, 40))
    for part in said.parts:
        if isinstance(part, str):
            yield part
            continue
        place = 0
        while place < len(part):
            size = chance.randint(1, longest)
            yield part[place : place + size]
            place += size


@dataclass(frozen=True)
class Reading:
    """What became of a message, without where its tokens end."""

    calls: list[tuple[str, dict]]
    arguments: list[str]  # of each call, the JSON that its pieces join to
    text: str
    thinking: str
    masked: str | None
    notices: tuple[str, ...]
    broken: str | None
    is_over: bool


def read(
    profile: Profile,
    said: Said,
    tools: Sequence[ToolSpec],
    vocab: Vocab,
    ids: Sequence[int],
    *,
    constrain: bool,
    style: str | None = None,
) -> Reading:
    turn = turn_of(profile, vocab, tools, span=said.span, constrain=constrain, style=style)
    return reading(play(turn, vocab, ids))


def reading(played: Played) -> Reading:
    pieces: dict[str, str] = {}
    for event in played.events:
        if isinstance(event, ToolCallDelta):
            pieces[event.id] = pieces.get(event.id, "") + event.text
    return Reading(
        played.calls,
        list(pieces.values()),
        "".join(e.text for e in played.events if isinstance(e, Text)),
        "".join(e.text for e in played.events if isinstance(e, Thinking)),
        played.masked,
        tuple(e.text for e in played.events if isinstance(e, Notice)),
        played.turn.result.broken,
        played.turn.is_over,
    )
