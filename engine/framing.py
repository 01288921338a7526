"""What stands around calls, told apart from one message with one call and one with several.

Knows names, arguments, ids and the text between them. Does not know templates or vocabularies.
"""

from __future__ import annotations

import json
import re
from collections.abc import Container
from dataclasses import dataclass
from typing import Final

from engine.profile import Part, Trigger, TriggerKind

NAME, ARGUMENTS, ID = "\0name", "\0arguments", "\0id"  # what is not framing
_TAG = re.compile(r"<[^<>\s\"'=]{2,}>|\[[^\[\]\s\"'{]{2,}\]")
_SAYS_CALL = re.compile(r"tool|call|func|action|invoke|plugin", re.IGNORECASE)
_JSON_OPENER = re.compile(r'[\[\s]*\{\s*"\w+"\s*:\s*"')
_ID_FORM: Final = "[a-zA-Z0-9_-]{1,40}"
_STRICT_ID_FORM: Final = "[a-zA-Z0-9]{9}"  # Mistral's, whose templates refuse others
_PROMPT: Final = """
You can use these tools:
{% for tool in tools %}
- {{ tool.function.name }}: {{ tool.function.description }}
  Arguments: {{ tool.function.parameters | tojson }}
{% endfor %}
To call one, write: {{ EXAMPLE }}
"""


class Unclear(Exception):
    """Why calls can't be told, in words."""


Pieces = tuple[str, ...]  # control texts and what is not framing whole, else single characters


@dataclass(frozen=True, slots=True)
class Framing:
    """What stands around the parts of calls. `separator` is None where a message holds one call."""

    open: Pieces
    before: Pieces
    between: Pieces
    after: Pieces
    close: Pieces
    separator: Pieces | None


def framing_of(one: Pieces, several: Pieces | None) -> Framing:
    """Take one call and three calls apart into what each has and what they share."""
    lead, between, tail = _split(one)
    if several is None:
        return Framing((), lead, between, tail, (), None)
    call = (NAME, *between, ARGUMENTS)
    gap = several[len(lead) + len(call) :]
    gap = gap[: gap.index(NAME)] if NAME in gap else ()
    if (*lead, *call, *gap, *call, *gap, *call, *tail) != several:
        raise Unclear("its calls are numbered, or several are framed in another way than one")
    n_before = _common(lead[::-1], gap[::-1])
    n_after = _common(tail, gap[: len(gap) - n_before])
    framing = Framing(
        lead[: len(lead) - n_before],
        lead[len(lead) - n_before :],
        between,
        tail[:n_after],
        tail[n_after:],
        gap[n_after : len(gap) - n_before],
    )
    if ID in (*framing.open, *framing.close, *(framing.separator or ())):
        raise Unclear("an id stands outside of its call")
    return framing


def _split(one: Pieces) -> tuple[Pieces, Pieces, Pieces]:
    name, arguments = one.index(NAME), one.index(ARGUMENTS)
    if arguments < name:
        raise Unclear("a call's arguments come before its name")
    return one[:name], one[name + 1 : arguments], one[arguments + 1 :]


def _common(one: Pieces, other: Pieces) -> int:
    """How many pieces two begin with alike."""
    both = zip(one, other, strict=False)
    return next((n for n, (a, b) in enumerate(both) if a != b), min(len(one), len(other)))


def trigger_of(framing: Framing, control: Container[str]) -> Trigger:
    """What opens a call: a control token, a tag that says so, or text with the tool's name.

    Text that might be prose is refused: it must begin with a mark and have three characters.
    """
    lead = (*framing.open, *framing.before)
    if len(lead[0] if lead else "") > 1 and lead[0] in control:
        return Trigger("token", lead[0])
    text = "".join(_text_before_marks(lead))
    if not lead:
        raise Unclear("nothing opens a call")
    tag = _TAG.match(text)
    if tag and _SAYS_CALL.search(tag.group()):
        return Trigger("text", tag.group())
    is_whole = len(text) == len("".join(lead))
    if not is_whole and text[:1] in ("<", "[") and _SAYS_CALL.search(text):
        return Trigger("text", text.rstrip())  # `<tool_call id="` before an id
    if not is_whole or len(text.strip()) < 3 or text[0].isalnum():
        raise Unclear(f"what opens a call, {text!r}, might be prose")
    ahead = "".join(_text_before_marks(framing.between)).rstrip()
    kind: TriggerKind = "start" if _JSON_OPENER.fullmatch(text) else "text"
    return Trigger(kind, f"{text}{{name}}{ahead}")


def _text_before_marks(pieces: Pieces) -> Pieces:
    """The pieces that are single characters, up to the first other."""
    return pieces[: next((n for n, each in enumerate(pieces) if len(each) > 1), len(pieces))]


def grammar_of(framing: Framing, has_strict_ids: bool) -> tuple[str, str, dict[str, Part]]:
    """The name of a grammar, its text unless it is a shipped one, and its parts."""
    parts: dict[str, Part] = {}

    def slot(name: str, pieces: Pieces) -> str:
        if ID not in pieces:
            parts[name] = _runs(pieces)
            return f"@{name}"
        place = pieces.index(ID)
        rest = slot(f"{name}_REST", pieces[place + 1 :])
        return f"{slot(name, pieces[:place])} id {rest}"

    before, between, after = (
        slot(name, getattr(framing, name.lower())) for name in ("BEFORE", "BETWEEN", "AFTER")
    )
    parts |= {"OPEN": _runs(framing.open), "CLOSE": _runs(framing.close)}
    if framing.separator is not None:
        parts["SEPARATOR"] = _runs(framing.separator)
    call = f"{before} name@ {between} arguments@ {after}"
    has_ids = " id " in call
    if framing.separator is not None and not has_ids:
        return "named-json.lark", "", parts
    more = "" if framing.separator is None else " (@SEPARATOR call@function){0,7}"
    lines = [
        f"start: @OPEN call@function{more} @CLOSE",
        f"call@: {call}",
        'name@[capture="name"]: @NAME',
        'arguments@[capture="arguments"]: @SCHEMA',
    ]
    if has_ids:
        lines.append(f'id[capture="id"]: /{_STRICT_ID_FORM if has_strict_ids else _ID_FORM}/')
    return "derived.lark", "\n".join(lines) + "\n", parts


def _runs(pieces: Pieces) -> tuple[str, ...]:
    """Control texts apart, other text in one."""
    runs: list[str] = []
    for index, piece in enumerate(pieces):
        if index and len(piece) == len(pieces[index - 1]) == 1:
            runs[-1] += piece
        else:
            runs.append(piece)
    return tuple(runs)


def prompt_of(framing: Framing) -> str:
    """For a template that shows calls but no tools: the tools and how they are called."""
    call = (*framing.before, "NAME", *framing.between, '{"KEY": "VALUE"}', *framing.after)
    whole = (*framing.open, *call, *framing.close)
    text = "".join("ID" if piece == ID else piece for piece in whole)
    return _PROMPT.strip("\n").replace("EXAMPLE", json.dumps(text, ensure_ascii=False))
