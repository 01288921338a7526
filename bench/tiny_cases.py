"""Cases for bench/tiny_tools.py, made from a seed out of tiny_cases.toml.

Knows requests, tools and what is expected. Does not know models or how answers are judged.
The first cases of a language are the same whatever the count.
"""

from __future__ import annotations

import itertools
import random
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

from engine.messages import JSON, ToolSpec
from engine.tools import Tool

Language = Literal["en", "ko"]
Kind = Literal["call", "none", "error", "chain", "builtin", "tag"]
LANGUAGES: Final[tuple[Language, ...]] = ("en", "ko")
# 20 cases: 9 calls, 3 without a tool that fits, 2 each of the rest; the first 10 have all kinds.
PATTERN: Final[tuple[Kind, ...]] = (
    *("call", "none", "chain", "call", "error", "builtin", "call", "tag", "call", "none"),
    *("call", "chain", "call", "error", "call", "builtin", "call", "tag", "call", "none"),
)

_PLACE = re.compile(r"\{(\w+)(?:=(true|false)\|([^{}:]*))?(?::([가-힣]+))?\}")
_MADE = re.compile(r"\{(!?)([^{}]+)\}")


@dataclass(frozen=True, slots=True)
class Failure:
    """The exception a tool raises. A report of it has one word of each tuple of `keys`."""

    type: str
    message: str
    keys: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Offered:
    """A tool as the model is offered it: it gives its result whatever it is called with."""

    spec: ToolSpec
    result: JSON
    failure: Failure | None = None

    def tool(self) -> Tool:
        def function(**arguments: JSON) -> JSON:
            if self.failure is not None:
                raise _EXCEPTIONS[self.failure.type](self.failure.message)
            return self.result

        spec = self.spec
        return Tool.from_schema(spec.name, spec.description, spec.parameters, function)


@dataclass(frozen=True, slots=True)
class Expected:
    """A call to be made. `says` are the values of its result that an answer must name."""

    name: str
    arguments: Mapping[str, JSON]
    result: JSON
    says: tuple[JSON, ...] = ()


@dataclass(frozen=True, slots=True)
class Case:
    """One request. `witnesses` are the words of it that stand for truth values."""

    id: str
    language: Language
    kind: Kind
    request: str
    offered: tuple[Offered, ...]
    calls: tuple[Expected, ...] = ()
    system: str | None = None
    described_in: Language = "en"
    witnesses: Mapping[str, str] | None = None

    @property
    def failure(self) -> Failure | None:
        return next((tool.failure for tool in self.offered if tool.failure), None)

    @property
    def specs(self) -> dict[str, ToolSpec]:
        return {tool.spec.name: tool.spec for tool in self.offered}


_EXCEPTIONS: Final[Mapping[str, type[Exception]]] = {
    kind.__name__: kind
    for kind in (TimeoutError, PermissionError, LookupError, RuntimeError)
    + (ConnectionError, ValueError, OSError)
}


@cache
def data() -> dict[str, Any]:
    """What tiny_cases.toml says."""
    text = Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def make_cases(language: Language, count: int, seed: int = 0) -> list[Case]:
    """The first `count` cases of a language and a seed."""
    maker = _Maker(language, seed)
    return [maker.case(index) for index in range(count)]


# Values


@dataclass(slots=True)
class _Values:
    """Makes values of one language, none of them twice in a case."""

    language: Language
    rng: random.Random
    taken: list[JSON]

    def pool(self, name: str) -> list[str]:
        pools = data()["pools"]
        found: list[str] = pools[self.language].get(name) or pools["any"][name]
        return found

    def make(self, maker: str) -> JSON:
        kind, _, rest = maker.partition(":")
        if kind == "list":
            items = self.rng.sample(self.pool(rest), self.rng.choice([2, 3]))
            return list[JSON](items)
        for _ in range(20):
            value = self._one(kind, rest)
            if value not in self.taken:
                break
        self.taken.append(value)
        return value

    def _one(self, kind: str, rest: str) -> JSON:
        if kind == "pool":
            return self.rng.choice(self.pool(rest))
        if kind == "code":
            digits = re.sub("#", lambda _: self.rng.choice("123456789"), rest)
            return re.sub("@", lambda _: self.rng.choice("ABCDEFGHJKLMNPRTUVWX"), digits)
        low, high, *more = (int(part) for part in rest.split(":"))
        if kind == "int":
            return self.rng.randint(low, high)
        # Never a whole number: 21.0 is written as 21 as well.
        whole, step = self.rng.randint(low, high), int(10 ** more[0])
        return round(whole + self.rng.randint(1, step - 1) / step, more[0])

    def filled(self, form: Any, arguments: Mapping[str, JSON]) -> tuple[JSON, tuple[JSON, ...]]:
        """A result from its form, and the values of it that count."""
        says: list[JSON] = []
        if isinstance(form, Mapping):
            return {key: self._text(item, arguments, says) for key, item in form.items()}, (*says,)
        return self._text(form, arguments, says), (*says,)

    def _text(self, form: Any, arguments: Mapping[str, JSON], says: list[JSON]) -> JSON:
        if not isinstance(form, str):
            return bool(form)  # `true` is the only other value in the file

        def value(match: re.Match[str]) -> JSON:
            mark, what = match.groups()
            found = arguments[what] if what in arguments else self._made(what, arguments)
            if mark:
                says.append(found)
            return found

        whole = _MADE.fullmatch(form)
        return value(whole) if whole else _MADE.sub(lambda match: str(value(match)), form)

    def _made(self, what: str, arguments: Mapping[str, JSON]) -> JSON:
        if not what.startswith("pair:"):
            return self.make(what)
        asked, told, argument = what.split(":")[1:]  # the entry at the same place of another pool
        return self.pool(told)[self.pool(asked).index(str(arguments[argument]))]


def schema_of(tool: Mapping[str, Any], described_in: Language, language: Language) -> JSON:
    """The JSON Schema of a tool's parameters; enums are in the language of the request."""
    properties: dict[str, JSON] = {}
    for name, parameter in tool["parameters"].items():
        kind = parameter["make"].partition(":")[0]
        types = {"int": "integer", "num": "number", "bool": "boolean", "list": "array"}
        entry: dict[str, JSON] = {"type": types.get(kind, "string")}
        entry["description"] = parameter[described_in]
        if kind == "list":
            entry["items"] = {"type": "string"}
        if kind == "enum":
            entry["enum"] = enum_of(parameter, language)
        properties[name] = entry
    return {
        "type": "object",
        "properties": properties,
        "required": list(tool.get("required", tool["parameters"])),
        "additionalProperties": False,
    }


def enum_of(parameter: Mapping[str, Any], language: Language) -> list[JSON]:
    return list(parameter.get("enum") or parameter[f"enum_{language}"])


def _is_in_one_language(tool: Mapping[str, Any]) -> bool:
    return any("enum_ko" in parameter for parameter in tool["parameters"].values())


# Words


def with_particle(text: str, particle: str) -> str:
    """The Korean particle in the form that fits the text's end; `particle` is the closed form."""
    closed = _final(text)
    if particle == "으로":
        return text + ("으로" if closed not in (0, 8) else "로")
    opened = {"은": "는", "이": "가", "을": "를", "과": "와", "이라는": "라는", "이야": "야"}
    return text + (particle if closed else opened[particle])


def _final(text: str) -> int:
    """The last syllable's final consonant as in Unicode: 0 none, 8 rieul."""
    last = text.rstrip("'\").")[-1]
    if "가" <= last <= "힣":
        return (ord(last) - 0xAC00) % 28
    # Digits and letters by how they are read: 1 일, 7 칠, 8 팔, L 엘, R 알; 0 영, 3 삼, 6 육.
    spoken = {**dict.fromkeys("178", 8), **dict.fromkeys("036", 1)}
    if re.search(r"(?:^|[^A-Za-z])[A-Z]+$", text):  # read letter by letter
        spoken |= {**dict.fromkeys("LR", 8), **dict.fromkeys("MN", 1)}
    return spoken.get(last, _READ.get(re.split(r"[^A-Za-z]", text)[-1], 0))


# Words in Latin letters that end in a consonant as they are read: 마일, 풋, 이펍, 닷컴, ...
_READ: Final = {"mile": 8, "foot": 1, "EPUB": 1, "bak": 1, "zip": 1, "com": 1, "kr": 8, "heron": 1}


def _joined(values: Sequence[JSON], language: Language, rng: random.Random) -> str:
    words = [str(value) for value in values]
    if language == "en" and rng.random() < 0.7:
        return f"{', '.join(words[:-1])} and {words[-1]}"
    if language == "ko" and len(words) == 2 and rng.random() < 0.6:
        return f"{with_particle(words[0], '과')} {words[1]}"
    return ", ".join(words)


# Cases


class _Maker:
    """The cases of one language, one after the other."""

    def __init__(self, language: Language, seed: int) -> None:
        self.language, self.seed = language, seed
        self.tools = {tool["name"]: tool for tool in data()["tool"]}
        self.asked = self._deck([tool for tool in self.tools.values() if "ask" in tool])
        self.chains = self._deck(data()["chain"])
        self.builtins = self._deck(data()["builtin"])
        self.errors = self._deck(data()["error"])
        self.small_talk = self._deck(data()["small_talk"][language])
        self.is_small_talk = itertools.cycle([True, False])

    def _deck(self, cards: Sequence[Any]) -> Iterator[Any]:
        """All of them in a shuffled order, again and again: each is asked about equally often."""
        rng = random.Random(f"{self.seed}:{self.language}:{len(cards)}")
        return itertools.cycle(rng.sample(list(cards), len(cards)))

    def case(self, index: int) -> Case:
        rng = random.Random(f"{self.seed}:{self.language}:case {index}")
        # A third of the Korean cases have tools described in English.
        described: Language = "en" if self.language == "en" or index % 3 == 1 else "ko"
        request = _Request(self, rng, described)
        kind = PATTERN[index % len(PATTERN)]
        case = {
            "call": request.call,
            "tag": request.call,
            "none": request.none,
            "error": request.error,
            "chain": request.chain,
            "builtin": request.builtin,
        }[kind]()
        system = rng.choice(data()["system"][self.language]) if rng.random() < 0.2 else None
        return replace(case, id=f"{self.language}-{index:03}", kind=kind, system=system)


class _Request:
    """One case in the making."""

    def __init__(self, maker: _Maker, rng: random.Random, described_in: Language) -> None:
        self.maker, self.rng, self.described_in = maker, rng, described_in
        self.language = maker.language
        self.values = _Values(self.language, rng, [])
        self.witnesses: dict[str, str] = {}

    # Kinds

    def call(self) -> Case:
        tool = self._asked()
        text, expected = self._ask(tool)
        offered = self._offer(tool, expected)
        return self._case(text, [offered, *self._others([tool], (0, 4))], [expected])

    def error(self) -> Case:
        tool = self._asked()
        text, expected = self._ask(tool)
        texts = [value for value in expected.arguments.values() if isinstance(value, str)]
        entry = next(self.maker.errors)
        while not self._can_fail(tool, entry, texts):
            entry = next(self.maker.errors)
        said = entry[self.language]
        message = said["message"].replace("{value}", texts[0] if texts else "")
        failure = Failure(entry["type"], message, tuple(map(tuple, said["keys"])))
        offered = replace(self._offer(tool, expected), failure=failure)
        expected = replace(expected, result=None, says=())
        return self._case(text, [offered, *self._others([tool], (0, 3))], [expected])

    def none(self) -> Case:
        if next(self.maker.is_small_talk):
            return self._case(next(self.maker.small_talk), self._others([], (1, 5)), [])
        tool = self._asked()
        text, _ = self._ask(tool)
        return self._case(text, self._others([tool], (1, 4), stranger=True), [])

    def chain(self) -> Case:
        chain = next(self.maker.chains)
        tools = [self.maker.tools[chain[which]] for which in ("first", "second")]
        while self.described_in != self.language and any(map(_is_in_one_language, tools)):
            chain = next(self.maker.chains)
            tools = [self.maker.tools[chain[which]] for which in ("first", "second")]
        template = self.rng.choice(chain["ask"][self.language])
        text, arguments = self._fill(template, tools[0]["parameters"] | tools[1]["parameters"])
        first = self._expected(tools[0], arguments)
        assert isinstance(first.result, Mapping)
        linked = {there: first.result[here] for here, there in chain["link"].items()}
        second = self._expected(tools[1], {**linked, **arguments})
        calls = [first, second]
        offered = [self._offer(tool, call) for tool, call in zip(tools, calls, strict=True)]
        return self._case(text, [*offered, *self._others(tools, (0, 2))], calls)

    def builtin(self) -> Case:
        tool = next(self.maker.builtins)
        text, expected = self._ask(tool)
        offered = [self._offer(tool, expected)]
        for other in data()["builtin"]:
            if other is not tool and self.rng.random() < 0.7:
                offered.append(self._distractor(other))
        return self._case(text, [*offered, *self._others([], (0, 2))], [expected])

    # Parts

    def _can_fail(
        self, tool: Mapping[str, Any], entry: Mapping[str, Any], texts: Sequence[str]
    ) -> bool:
        """Whether this error makes sense for the call: a disk is full for files, a name unknown."""
        if "{value}" in entry[self.language]["message"]:
            return bool(texts) and re.search(r"\d:\d", texts[0]) is None
        return "areas" not in entry or tool["area"] in entry["areas"]

    def _case(self, text: str, offered: list[Offered], calls: list[Expected]) -> Case:
        self.rng.shuffle(offered)
        return Case(
            id="",
            language=self.language,
            kind="call",
            request=text,
            offered=tuple(offered),
            calls=tuple(calls),
            described_in=self.described_in,
            witnesses=dict(self.witnesses),
        )

    def _asked(self) -> Mapping[str, Any]:
        tool: Mapping[str, Any] = next(self.maker.asked)
        while self.described_in != self.language and _is_in_one_language(tool):
            tool = next(self.maker.asked)
        return tool

    def _ask(self, tool: Mapping[str, Any]) -> tuple[str, Expected]:
        template = self.rng.choice(tool["ask"][self.language])
        text, arguments = self._fill(template, tool["parameters"])
        return text, self._expected(tool, arguments)

    def _fill(self, template: str, parameters: Mapping[str, Any]) -> tuple[str, dict[str, JSON]]:
        """The request's words, and the arguments that they name."""
        arguments: dict[str, JSON] = {}

        def words(match: re.Match[str]) -> str:
            name, truth, said, particle = match.groups()
            if truth:
                arguments[name], self.witnesses[name] = truth == "true", said
                return str(said)
            value = arguments[name] = self._value(parameters[name])
            several = value if isinstance(value, list) else None
            text = _joined(several, self.language, self.rng) if several else str(value)
            return with_particle(text, particle) if particle else text

        return _PLACE.sub(words, template), arguments

    def _value(self, parameter: Mapping[str, Any]) -> JSON:
        if parameter["make"] == "enum":
            choices = enum_of(parameter, self.language)
            return choices[self.rng.randrange(len(choices))]
        if parameter["make"] == "bool":
            return self.rng.choice([True, False])
        return self.values.make(parameter["make"])

    def _expected(self, tool: Mapping[str, Any], arguments: Mapping[str, JSON]) -> Expected:
        own = {name: arguments[name] for name in tool["parameters"] if name in arguments}
        form = tool["result"]
        if self.language == "ko":
            form = tool.get("result_ko", form)
        result, says = self.values.filled(form, own)
        return Expected(tool["name"], own, result, says)

    def _offer(self, tool: Mapping[str, Any], call: Expected) -> Offered:
        schema = schema_of(tool, self.described_in, self.language)
        assert isinstance(schema, dict)
        return Offered(ToolSpec(tool["name"], tool[self.described_in], schema), call.result)

    def _distractor(self, tool: Mapping[str, Any]) -> Offered:
        arguments = {name: self._value(item) for name, item in tool["parameters"].items()}
        return self._offer(tool, self._expected(tool, arguments))

    def _others(
        self, wanted: Sequence[Mapping[str, Any]], count: tuple[int, int], stranger: bool = False
    ) -> list[Offered]:
        """Tools that don't fit the request: neighbours of the wanted ones by preference, or, for
        `stranger`, none of their area."""
        groups = {tool.get("group", tool["name"]) for tool in wanted}
        areas = {tool["area"] for tool in wanted}
        pool = list(self.maker.tools.values())
        self.rng.shuffle(pool)
        if self.rng.random() < 0.5:
            pool.sort(key=lambda tool: tool["area"] not in areas)
        chosen: list[Offered] = []
        wish = self.rng.randint(*count)
        for tool in pool:
            group = tool.get("group", tool["name"])
            if len(chosen) < wish and group not in groups:
                if stranger and tool["area"] in areas:
                    continue
                groups.add(group)
                chosen.append(self._distractor(tool))
        return chosen
