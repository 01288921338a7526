"""Whether a transcript is right: the tool, its arguments, the answer. See `MEASURES`.

Knows cases and what came of them. Does not know how models are asked.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bench.tiny_cases import LANGUAGES, Case, Expected
from engine.events import Event, Finish, Notice, Text, ToolCall, ToolCallStart, Usage
from engine.messages import JSON

Score = dict[str, bool]

# name: (what it says, the goal). A measure counts only the cases that it applies to.
MEASURES: Final[Mapping[str, tuple[str, float | None]]] = {
    "tool": ("right tool called first, of cases that need one", 0.9),
    "arguments": ("... and all its arguments exactly right", 0.8),
    "answer": ("answer says the result, of cases that get one", 0.9),
    "answer_if_called": ("... of those whose tools were called", None),
    "no_call": ("no call where no tool fits", None),
    "error": ("answer says what went wrong", None),
    "chain": ("both calls of a chain right, arguments too", None),
    "builtin": ("built-in tool right, query too", None),
    "function_tag": ("<function=...> call right, arguments too", None),
    "whole": ("everything right: calls, nothing extra, answer", None),
    "free_called": ("a call is begun, of cases that need one", None),
    "free_valid": ("calls parse, name a tool, fit its schema; of cases with a call", None),
    "free_tool": ("right tool", None),
    "free_arguments": ("... and all its arguments exactly right", None),
}


# What happened


@dataclass(slots=True)
class Transcript:
    """What came of one request. `begun` counts calls, those that could not be read too."""

    calls: list[tuple[str, dict[str, JSON]]] = field(default_factory=list)
    begun: int = 0
    answer: str = ""
    finish: str = ""
    notices: list[str] = field(default_factory=list)
    usage: Usage = Usage()


def read(events: Iterable[Event]) -> Transcript:
    """A stream of events as a transcript; the answer is the text behind the last call."""
    seen = Transcript()
    for event in events:
        if isinstance(event, Text):
            seen.answer += event.text
        elif isinstance(event, ToolCallStart):
            seen.begun += 1
            seen.answer = ""
        elif isinstance(event, ToolCall):
            seen.calls.append((event.name, dict(event.arguments)))
        elif isinstance(event, Notice):
            seen.notices.append(event.text)
        elif isinstance(event, Finish):
            seen.finish, seen.usage = event.reason, event.usage
    return seen


# Judging


def score(case: Case, seen: Transcript) -> Score:
    """The constrained run's measures, those that apply to this case."""
    if case.kind == "none":
        right = not seen.calls and not seen.begun
        return {"no_call": right, "whole": right and bool(seen.answer.strip())}
    first = case.calls[0]
    out: Score = {"tool": bool(seen.calls) and seen.calls[0][0] == first.name}
    out["arguments"] = bool(seen.calls) and is_right_call(case, first, seen.calls[0])
    are_called = [name for name, _ in seen.calls][: len(case.calls)] == [
        call.name for call in case.calls
    ]
    are_right = len(seen.calls) >= len(case.calls) and all(
        is_right_call(case, call, made) for call, made in zip(case.calls, seen.calls, strict=False)
    )
    if case.kind == "error":
        assert case.failure is not None
        says = are_called and reports(seen.answer, case.failure.keys)
        out["error"] = says
    else:
        says = are_called and all(is_said(value, seen.answer) for value in case.calls[-1].says)
        out["answer"] = says
        if are_called:
            out["answer_if_called"] = says
    measure = {"chain": "chain", "builtin": "builtin", "tag": "function_tag"}.get(case.kind)
    if measure is not None:
        out[measure] = are_right
    out["whole"] = says and are_right and seen.begun == len(case.calls)
    return out


def score_free(case: Case, seen: Transcript) -> Score:
    """The unconstrained run's measures. A call that was begun and can't be read is not valid."""
    out: Score = {}
    if case.kind != "none":
        out["free_called"] = seen.begun > 0
        out["free_tool"] = bool(seen.calls) and seen.calls[0][0] == case.calls[0].name
        out["free_arguments"] = bool(seen.calls) and is_right_call(
            case, case.calls[0], seen.calls[0]
        )
    if seen.begun:
        out["free_valid"] = len(seen.calls) == seen.begun and all(
            name in case.specs and fits(arguments, case.specs[name].parameters)
            for name, arguments in seen.calls
        )
    return out


def is_right_call(case: Case, wanted: Expected, made: tuple[str, Mapping[str, JSON]]) -> bool:
    """The same tool with the same arguments; a built-in's query may differ in case and quotes."""
    name, arguments = made
    if name != wanted.name or arguments.keys() != wanted.arguments.keys():
        return False
    is_loose = case.kind == "builtin"
    return all(
        is_same(value, arguments[key], loose=is_loose) for key, value in wanted.arguments.items()
    )


def is_same(wanted: JSON, got: JSON, *, loose: bool = False) -> bool:
    """Equal as JSON: 21 and 21.0 are, true and 1 or "21" and 21 are not.

    Text is compared in NFC without outer blanks and a leading "the"; `loose` also drops case,
    and quotes and marks around it.
    """
    if isinstance(wanted, list) and isinstance(got, list):
        return len(wanted) == len(got) and all(map(is_same, wanted, got))
    if isinstance(wanted, str) and isinstance(got, str):
        return _plain(wanted, loose=loose) == _plain(got, loose=loose)
    if isinstance(wanted, bool) or isinstance(got, bool):
        return wanted is got
    return isinstance(wanted, int | float) and isinstance(got, int | float) and wanted == got


def _plain(text: str, *, loose: bool) -> str:
    text = " ".join(unicodedata.normalize("NFC", text).split())
    text = re.sub(r"^[Tt]he ", "", text)
    return text.strip("\"'‘’“”.?! ").casefold() if loose else text


_NUMBER = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?")


def is_said(value: JSON, text: str) -> bool:
    """Whether a text names a value: a number as a number (1,234.50 is 1234.5), words as they are.

    Neither counts as part of a longer number or Latin word; Korean particles may follow.
    """
    text = " ".join(unicodedata.normalize("NFC", text).split()).casefold()
    if isinstance(value, int | float) and not isinstance(value, bool):
        said = (float(found.replace(",", "")) for found in _NUMBER.findall(text))
        return any(math.isclose(number, value) for number in said)
    words = _plain(str(value), loose=False).casefold()
    before = "(?<![0-9a-z])" if re.match("[0-9a-z]", words) else ""
    after = "(?![0-9a-z])" if re.search("[0-9a-z]$", words) else ""
    return re.search(before + re.escape(words) + after, text) is not None


def reports(text: str, keys: Sequence[Sequence[str]]) -> bool:
    """Whether a text has one word of each list."""
    text = unicodedata.normalize("NFC", text).casefold().replace("’", "'")
    return all(any(word.casefold() in text for word in words) for words in keys)


_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}


def fits(value: JSON, schema: Mapping[str, Any]) -> bool:
    """Whether a value is valid under a schema, as far as the schemas of tiny_cases go."""
    kind = schema["type"]
    if isinstance(value, bool) != (kind == "boolean") or not isinstance(value, _TYPES[kind]):
        return kind == "integer" and isinstance(value, float) and value.is_integer()
    if "enum" in schema and value not in schema["enum"]:
        return False
    if isinstance(value, list):
        return all(fits(item, schema["items"]) for item in value)
    if isinstance(value, dict):
        properties = schema["properties"]
        return all(key in value for key in schema.get("required", ())) and all(
            key in properties and fits(item, properties[key]) for key, item in value.items()
        )
    return True


def wilson(right: int, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share; (0, 1) where nothing was counted."""
    if count == 0:
        return 0.0, 1.0
    z, share = 1.959964, right / count
    middle = share + z * z / (2 * count)
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    whole = 1 + z * z / count
    return max(0.0, (middle - spread) / whole), min(1.0, (middle + spread) / whole)


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """For each measure, per language and in total: how many, of how many, share, interval."""
    out: dict[str, dict[str, Any]] = {}
    for name in MEASURES:
        out[name] = {}
        for language in (*LANGUAGES, "all"):
            found = [
                row["score"][name]
                for row in rows
                if name in row["score"] and language in (row["language"], "all")
            ]
            right, count = sum(found), len(found)
            share = right / count if count else None
            interval = list(wilson(right, count))
            out[name][language] = {
                "right": right,
                "of": count,
                "share": share,
                "interval": interval,
            }
    return out
