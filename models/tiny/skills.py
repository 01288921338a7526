"""Tools with everything that is said around them: requests, arguments, results, answers.

Knows domains (those of domains/*.toml and composed ones) and how their placeholders are filled.
Does not know conversations, templates or tokens.
"""

from __future__ import annotations

import datetime
import json
import random
import re
import tomllib
import zoneinfo
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from engine.messages import JSON, ToolSpec
from engine.tools import arithmetic
from engine.tools.load import load_tools
from models.tiny.composed_words import particle
from models.tiny.values import Language, choices, draw

Domain = Mapping[str, Any]

_PLACEHOLDER: Final = re.compile(r"\{(\w+)\}")
_PARTICLE: Final = re.compile(r"(?<=(\S))\((\w+/\w+)\)")
_MAX_ENUM: Final = 8  # more values than that are not listed in the schema
_DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_DAYS_KO: Final = ("월요일", "화요일", "수요일", "목요일", "금요일", "토요일", "일요일")
_TYPES: Final = {"int": "integer", "float": "number", "price": "number",
                 "percent": "number", "flag": "boolean"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Request:
    """One use of a tool: what the user says, the call, what comes back and what is answered."""

    text: str
    arguments: dict[str, JSON]
    result: JSON
    answer: str
    words: dict[str, str]  # for parameters and result, by the domain's names for them


@dataclass(frozen=True, slots=True)
class Given:
    """A parameter's value that comes from elsewhere, and what the user calls it."""

    value: JSON
    asked: str


class Skill:
    """One tool as a conversation offers it: a domain with its names and descriptions drawn."""

    def __init__(self, domain: Domain, rng: random.Random, language: Language) -> None:
        self.domain = domain
        suffix = "_ko" if language == "ko" and rng.random() < 0.7 else ""
        params = domain.get("params", {})
        self.names = {key: rng.choice(param["names"]) for key, param in params.items()}
        if len(set(self.names.values())) < len(self.names):
            self.names = {key: param["names"][0] for key, param in params.items()}
        self.spec = _real_spec(domain) or self._spec(rng, suffix)

    def _spec(self, rng: random.Random, suffix: str) -> ToolSpec:
        params = self.domain.get("params", {})
        asks = [*self.domain["asks"], *self.domain["asks_ko"]]
        properties = {}
        for key, param in params.items():
            schema: dict[str, Any] = _schema(param["kind"])
            if rng.random() < 0.85:
                schema["description"] = rng.choice(param["describe" + suffix])
            properties[self.names[key]] = schema
        required = [self.names[key] for key in params if all(f"{{{key}}}" in ask for ask in asks)]
        parameters: dict[str, Any] = {"type": "object", "properties": properties}
        if required:
            parameters["required"] = required
        description = rng.choice(self.domain["describe" + suffix])
        return ToolSpec(rng.choice(self.domain["tools"]), description, parameters)

    def request(
        self, rng: random.Random, language: Language, given: Mapping[str, Given] | None = None
    ) -> Request:
        """Draw a use of the tool, with a request that names all that is `given`."""
        asks = self.domain["asks_ko" if language == "ko" else "asks"]
        asks = [a for a in asks if all(f"{{{key}}}" in a for key in given or ())] or asks
        return self.use(rng.choice(asks), rng, language, given)

    def use(
        self,
        ask: str,
        rng: random.Random,
        language: Language,
        given: Mapping[str, Given] | None = None,
    ) -> Request:
        """Draw values for the places of `ask`, a result and an answer."""
        given = given or {}
        arguments: dict[str, JSON] = {}
        words: dict[str, str] = {}
        asked: dict[str, str] = {}
        used = set(_PLACEHOLDER.findall(ask))
        for key in (key for key in self.domain.get("params", {}) if key in used):
            if key in given:
                value, text = given[key].value, as_text(given[key].value)
            else:
                value, text = self._drawn(key, rng, language)
            arguments[key], words[key] = value, text
            asked[key] = given[key].asked if key in given else text
        result, said = _result(self.domain.get("result", {}), arguments, words, rng, language)
        known = words | said
        answers = self.domain["answers_ko" if language == "ko" else "answers"]
        bare = list(result) == ["output"]
        return Request(
            fill(_casual(ask, rng), asked),
            {self.names[key]: value for key, value in arguments.items()},
            result["output"] if bare else result,
            fill(rng.choice([a for a in answers if _known(a, known)]), known),
            known,
        )

    def _drawn(self, key: str, rng: random.Random, language: Language) -> tuple[JSON, str]:
        kind = self.domain["params"][key]["kind"]
        value, text = draw(kind, rng, language)
        is_literal = kind.startswith("enum:") and rng.random() < 0.15
        return value, str(value) if is_literal else text  # type: ignore[return-value]


def _casual(ask: str, rng: random.Random) -> str:
    """People leave out the capital and the full stop; neither may decide what is called."""
    if rng.random() < 0.15 and ask[:1].isupper() and ask[1:2].islower():
        ask = ask[0].lower() + ask[1:]
    if rng.random() < 0.2:
        ask = ask.rstrip(".?")
    return ask


def _known(text: str, words: Mapping[str, str]) -> bool:
    return all(key in words for key in _PLACEHOLDER.findall(text))


def fill(text: str, words: Mapping[str, str]) -> str:
    """Put words in their places, and choose Korean particles by the letter before them."""
    filled = _PLACEHOLDER.sub(lambda match: words[match[1]], text)
    return _PARTICLE.sub(lambda match: _particle(match[1], match[2]), filled)


@cache
def _particle(letter: str, pair: str) -> str:
    """`(으로/로)` and the like, by the last sound; ㄹ takes 로."""
    if pair == "으로/로" and "가" <= letter <= "힣" and (ord(letter) - ord("가")) % 28 == 8:
        return "로"
    return particle(letter, pair)[1:]


def _schema(kind: str) -> dict[str, Any]:
    name, _, rest = kind.partition(":")
    if name == "list":
        return {"type": "array", "items": _schema(rest)}
    if name == "enum":
        values = [value for value, *_ in choices(rest)]
        return {"type": "string"} | ({"enum": values} if len(values) <= _MAX_ENUM else {})
    return {"type": _TYPES.get(name, "string")}


@cache
def _real_specs() -> dict[str, ToolSpec]:
    return {tool.spec.name: tool.spec for tool in load_tools("engine.tools.examples")}


def _real_spec(domain: Domain) -> ToolSpec | None:
    """The engine's own example tools are shown exactly as `engine chat` shows them."""
    is_example = str(domain.get("id", "")).startswith("example_")
    return _real_specs().get(domain["tools"][0]) if is_example else None


# Results


def _result(
    kinds: Mapping[str, str],
    arguments: Mapping[str, JSON],
    words: Mapping[str, str],
    rng: random.Random,
    language: Language,
) -> tuple[dict[str, JSON], dict[str, str]]:
    values: dict[str, JSON] = {}
    said: dict[str, str] = {}
    later = [key for key, kind in kinds.items() if kind.startswith("total:")]
    for key in [*(key for key in kinds if key not in later), *later]:
        values[key], said[key] = _one(kinds[key], values, arguments, words, rng, language)
    return {key: values[key] for key in kinds}, said


def _one(
    kind: str,
    values: Mapping[str, JSON],
    arguments: Mapping[str, JSON],
    words: Mapping[str, str],
    rng: random.Random,
    language: Language,
) -> tuple[JSON, str]:
    """A value and its words. Some kinds look at the call or at other values of the result."""
    name, _, rest = kind.partition(":")
    if name == "echo":
        param, _, default = rest.partition("|")
        return arguments.get(param, default), words.get(param, default)
    if name == "computed":
        value: Any = _evaluate(str(arguments[rest]))
        return value, str(value)
    if name == "clock":
        text = f"{rng.randrange(24):02}:{rng.randrange(60):02}:{rng.randrange(60):02}"
        return text, text
    if name == "weekday_of":
        day = datetime.date.fromisoformat(str(values[rest])).weekday()
        return _DAYS[day], _DAYS_KO[day] if language == "ko" else _DAYS[day]
    if name == "offset_of":
        zone = zoneinfo.ZoneInfo(str(arguments.get(rest, "UTC")))
        moment = datetime.datetime.fromisoformat(str(values["date"])).replace(tzinfo=zone)
        return moment.isoformat()[-6:], moment.isoformat()[-6:]
    if name == "total":
        key, _, inner = rest.partition(":")
        rows: Any = values[key]
        total = sum(row[inner] for row in rows.values())
        return total, str(total)
    if name in _TABLES:
        return _TABLES[name](rng, language)
    drawn, text = draw(kind, rng, language)
    return drawn, text  # type: ignore[return-value]


def _evaluate(expression: str) -> JSON:
    try:
        value: Any = arithmetic.evaluate(expression)
    except (ValueError, ArithmeticError):
        return "division by zero"
    return value


def _sizes(rng: random.Random, language: Language) -> tuple[JSON, str]:
    names = sorted({str(draw("file", rng, language)[0]) for _ in range(rng.randint(1, 4))})
    return {name: rng.randrange(30000) for name in names}, ", ".join(names)


def _line_counts(rng: random.Random, _: Language) -> tuple[JSON, str]:
    endings = rng.sample([".py", ".md", ".toml", ".c", ".js", ".rs", ".txt", ".json"], 2)
    lines = sorted((rng.randint(1, 10 ** rng.randint(1, 5)) for _ in endings), reverse=True)
    rows = {
        ending: {"files": rng.randint(1, 60), "lines": count, "blank": count // rng.randint(4, 9)}
        for ending, count in zip(endings, lines, strict=True)
    }
    return rows, ", ".join(f"{ending} {row['lines']}" for ending, row in rows.items())


def _text_lines(rng: random.Random, language: Language) -> tuple[JSON, str]:
    kinds = ("sentence", "phrase", "madeup")
    count = rng.randint(1, 4)
    text = "\n".join(str(draw(rng.choice(kinds), rng, language)[0]) for _ in range(count))
    return text, text


_TABLES: Final = {"sizes": _sizes, "line_counts": _line_counts, "text_lines": _text_lines}


@cache
def domains() -> Sequence[Domain]:
    """All that the files hold."""
    files = sorted(Path(__file__).with_name("domains").glob("*.toml"))
    return [each for file in files for each in tomllib.loads(file.read_text("utf-8"))["domain"]]


def as_text(value: JSON) -> str:
    """A value as an answer writes it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
