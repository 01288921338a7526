"""Conversations as training data: who says what, which tools are there, what they return.

Knows skills, small talk and the shapes that a conversation takes. Does not know templates, tokens
or the model. Everything is drawn from one `random.Random`: the same seed, the same conversations.
"""

from __future__ import annotations

import random
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

from engine.messages import JSON, Call, Message, ToolSpec
from models.tiny import chains
from models.tiny.composed import compose, family
from models.tiny.skills import Given, Request, Skill, as_text, domains, fill
from models.tiny.values import Language, draw

Style = Literal["json", "function_tag"]

# Of these only one may be offered: they do the same, or share a name.
_SAME: Final = (
    {"weather", "example_get_weather"},
    {"show_file", "example_read_file"},
    {"list_files", "example_list_dir"},
    {"count_lines", "example_repo_stats"},
)
_SYSTEM: Final = {
    "en": (
        "You are a helpful assistant.",
        "Be brief.",
        "You are a helpful assistant with tool calling capabilities.",
        "Answer in one sentence.",
        "You help people with their work.",
        "Use the functions where they help.",
        "You are an assistant. Be polite and short.",
        "Answer in English.",
    ),
    "ko": (
        "당신은 친절한 도우미입니다.",
        "짧게 답하세요.",
        "한국어로 답하세요.",
        "필요하면 함수를 호출하세요.",
        "You are a helpful assistant.",
        "Answer in Korean.",
        "당신은 일을 돕는 비서입니다. 간단히 답하세요.",
    ),
}
_ERRORS: Final = (
    ("ValueError", "unknown {madeup}"),
    ("ValueError", "{madeup} is not a valid name"),
    ("KeyError", "no entry for {word}"),
    ("FileNotFoundError", "there is no file named {path}"),
    ("PermissionError", "access to {path} was denied"),
    ("Timeout", "the tool took longer than {int:2:90} s"),
    ("ConnectionError", "cannot reach {url}"),
    ("ConnectionError", "the server did not answer"),
    ("RuntimeError", "{word} is out of service until {date}"),
    ("RuntimeError", "code {int:100:999}: {phrase}"),
    ("LookupError", "nothing was found for {madeup}"),
    ("RuntimeError", "{sentence}"),
    ("ServiceUnavailable", "the service is down, try again in {int:2:60} minutes"),
    ("ValueError", "{person}(은/는) 등록되어 있지 않습니다"),
    ("ValueError", "{madeup}(을/를) 찾을 수 없습니다"),
    ("RuntimeError", "서버가 응답하지 않습니다"),
    ("RuntimeError", "권한이 없습니다: {word}"),
    ("Timeout", "{int:2:90}초 안에 끝나지 않았습니다"),
)
_THEN: Final = {
    "en": ("{a}, then {b}", "{a} and then {b}", "First {a}. Then {b}", "{a}. After that, {b}",
           "{a}; {b}"),
    "ko": ("{a} 그리고 {b}", "{a} 그다음 {b}", "먼저 {a} 그런 다음 {b}", "{a} 그러고 나서 {b}"),
}  # fmt: skip
_THAT: Final = {
    "en": ("it", "that", "the result", "the {key}", "that {key}", "the {key} you find"),
    "ko": ("그것", "그 결과", "그 값", "나온 {key}", "찾은 {key}"),
}
_WOLFRAM: Final = {
    "en": ("solve {x}", "What is {x}?", "integrate {x}", "Use Wolfram Alpha for {x}", "plot {x}",
           "Can you help me solve {x}", "compute {x} exactly", "differentiate {x}"),
    "ko": ("{x} 풀어 줘", "{x} 계산해 줘", "울프럼 알파로 {x} 풀어 줘", "{x}의 해를 구해 줘"),
}  # fmt: skip
_SEARCH: Final = {
    "en": ("Search the web for {x}", "search for {x}", "Look up {x} online", "google {x}",
           "find news about {x}",
           "What does the internet say about {x}?", "Find {x} on the web", "web search: {x}",
           "Search: {x}",
           "Please search for {x}.", "Can you look up {x}?",
           "I want to know the latest about {x}"),
    "ko": ("{x} 검색해 줘", "인터넷에서 {x} 찾아 줘", "{x} 웹 검색", "{x}에 대해 검색해 주세요",
           "{x} 좀 찾아봐",
           "{x} 최신 소식 알려 줘", "웹에서 {x}(을/를) 검색해 줘", "구글에서 {x} 찾아봐"),
}  # fmt: skip


@dataclass(slots=True)
class Conversation:
    """What one training example is made of. `steps` in `messages` follow the engine's own order."""

    language: Language
    system: str | None = None
    tools: list[ToolSpec] = field(default_factory=list)
    style: Style = "json"
    messages: list[Message] = field(default_factory=list)

    def say(self, text: str) -> None:
        self.messages.append(Message("user", text))

    def answer(self, text: str) -> None:
        self.messages.append(Message("assistant", text))

    def call(self, name: str, arguments: Mapping[str, JSON], result: JSON) -> None:
        identity = f"call_{len(self.messages)}"
        self.messages.append(Message("assistant", calls=(Call(identity, name, arguments),)))
        self.messages.append(Message("tool", result, call_id=identity, name=name))


@cache
def phrase_book() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("talk.toml").read_text("utf-8"))


def conversation(rng: random.Random) -> Conversation:
    """Draw one conversation."""
    language: Language = "en" if rng.random() < 0.5 else "ko"
    talk = Conversation(language)
    if rng.random() < 0.35:
        talk.system = rng.choice(_SYSTEM[language])
    kind = rng.random()
    if kind < 0.07:
        _without_tools(talk, rng)
        return talk
    skills = _toolbox(rng, language)
    linked = chains.draw(rng, skills, language) if rng.random() < 0.12 else None
    skills = linked.skills if linked else skills
    builtins = [rng.choice(("brave_search", "wolfram_alpha"))] if kind < 0.17 else []
    if builtins and rng.random() < 0.5:
        builtins = ["brave_search", "wolfram_alpha"]
    if builtins and not linked and rng.random() < 0.5:
        skills = skills[: rng.randint(0, 2)]
    talk.style = "function_tag" if 0.17 <= kind < 0.24 else "json"
    talk.tools = [skill.spec for skill in skills]
    talk.tools += [ToolSpec(name, "", {"type": "object", "properties": {}}) for name in builtins]
    turns = rng.choice((1, 2, 3, 3, 4, 4, 5, 6))
    first = rng.randrange(turns)
    for turn in range(turns):
        if linked and turn == first:
            _linked(talk, linked, rng)
        else:
            _turn(talk, skills, builtins, rng)
    return talk


def _toolbox(rng: random.Random, language: Language) -> list[Skill]:
    """One to five tools; half of the boxes with tools that are easily confused."""
    if rng.random() < 0.12:
        chosen = [d for d in domains() if str(d["id"]).startswith("example_")]
        rng.shuffle(chosen)
        return [Skill(each, rng, language) for each in chosen]
    count = rng.choice((1, 2, 2, 3, 3, 3, 4, 5))
    if rng.random() < 0.6:
        chosen = rng.sample(list(domains()), count)
    elif rng.random() < 0.35:
        chosen = list(family(rng, language, min(count, 3)))
    else:
        chosen = [compose(rng, language) for _ in range(count)]
    chosen += [compose(rng, language)] if rng.random() < 0.2 and len(chosen) < 5 else []
    chosen += [rng.choice(domains())] if rng.random() < 0.2 and len(chosen) < 5 else []
    out: list[Skill] = []
    for each in chosen:
        skill = Skill(each, rng, language)
        identity = str(each.get("id"))
        if all(_fit(skill, identity, other) for other in out):
            out.append(skill)
    rng.shuffle(out)
    return out


def _fit(skill: Skill, identity: str, other: Skill) -> bool:
    theirs = str(other.domain.get("id"))
    if skill.spec.name == other.spec.name or identity == theirs:
        return False
    return not any(identity in group and theirs in group for group in _SAME)


def _turn(
    talk: Conversation, skills: Sequence[Skill], builtins: Sequence[str], rng: random.Random
) -> None:
    kind = rng.random()
    if builtins and (kind < 0.5 or not skills):
        _builtin(talk, rng.choice(builtins), rng)
    elif kind < 0.07:
        _small_talk(talk, rng)
    elif kind < 0.20:
        _nothing_fits(talk, skills, builtins, rng)
    elif kind < 0.27 and len(skills) > 1:
        _chain(talk, skills, rng)
    else:
        _use(talk, rng.choice(skills), rng)


def _use(talk: Conversation, skill: Skill, rng: random.Random) -> None:
    request = skill.request(rng, talk.language)
    talk.say(request.text)
    if rng.random() < 0.08:
        talk.call(skill.spec.name, request.arguments, _failed(talk, rng))
        talk.answer(_told(talk, rng))
        return
    talk.call(skill.spec.name, request.arguments, request.result)
    if rng.random() < 0.12:
        talk.answer(_generic(talk, request, rng))
    else:
        talk.answer(request.answer)


def _failed(talk: Conversation, rng: random.Random) -> JSON:
    kind, form = rng.choice(_ERRORS)
    message = _drawn(form, rng, talk.language)
    return {"error": {"type": kind, "message": message}}


def _told(talk: Conversation, rng: random.Random) -> str:
    result: Any = talk.messages[-1].content
    message = str(result["error"]["message"])
    return fill(rng.choice(_phrases("error", "answers", talk)), {"message": message})


def _drawn(form: str, rng: random.Random, language: Language) -> str:
    """Fill places that name a kind: `{int:2:90}`."""
    out, rest = "", form
    while "{" in rest:
        before, _, rest = rest.partition("{")
        kind, _, rest = rest.partition("}")
        out += before + str(draw(kind, rng, language)[1])
    return fill(out + rest, {})


def _generic(talk: Conversation, request: Request, rng: random.Random) -> str:
    """An answer that knows nothing of the tool: the values, in their order."""
    result = request.result
    if isinstance(result, dict):
        fields = _phrases("generic", "field", talk)
        form = rng.choice(fields)
        text = ", ".join(fill(form, {"key": k, "value": as_text(v)}) for k, v in result.items())
    else:
        text = as_text(result)
    return fill(rng.choice(_phrases("generic", "answers", talk)), {"value": text})


def _phrases(table: str, name: str, talk: Conversation) -> Sequence[str]:
    bank: Sequence[str] = phrase_book()[table][name + ("_ko" if talk.language == "ko" else "")]
    return bank


def _small_talk(talk: Conversation, rng: random.Random) -> None:
    suffix = "_ko" if talk.language == "ko" else ""
    entry = phrase_book()["about"] if rng.random() < 0.3 else rng.choice(phrase_book()["talk"])
    talk.say(rng.choice(entry["asks" + suffix]))
    talk.answer(rng.choice(entry["answers" + suffix]))


def _nothing_fits(
    talk: Conversation, skills: Sequence[Skill], builtins: Sequence[str], rng: random.Random
) -> None:
    """A request that no tool here can fulfil; most of them another tool could."""
    if rng.random() < 0.4 or "brave_search" in builtins:
        talk.say(rng.choice(_phrases("no_tool", "asks", talk)))
    else:
        used = {str(skill.domain.get("id")) for skill in skills}
        while True:
            bank = rng.random() < 0.6
            domain = rng.choice(domains()) if bank else compose(rng, talk.language)
            other = Skill(domain, rng, talk.language)
            identity = str(domain.get("id"))
            words = set(identity.replace("example_", "").split("_"))
            if all(not words & set(each.split("_")) for each in used):
                break
        talk.say(other.request(rng, talk.language).text)
    talk.answer(rng.choice(_phrases("no_tool", "answers", talk)))


def _without_tools(talk: Conversation, rng: random.Random) -> None:
    for _ in range(rng.randint(1, 4)):
        if rng.random() < 0.75:
            _small_talk(talk, rng)
        else:
            _nothing_fits(talk, (), (), rng)


def _builtin(talk: Conversation, name: str, rng: random.Random) -> None:
    searches = name == "brave_search"
    if searches:
        kind = rng.choice(
            ("topic", "phrase", "person", "movie", "company", "product", "place", "madeup", "title")
        )
        query = str(draw(kind, rng, talk.language)[1])
        if rng.random() < 0.4:
            query += " " + str(draw(rng.choice(("word", "topic", "year")), rng, talk.language)[1])
    else:
        query = _equation(rng)
    query = query.replace('"', "")
    forms = (_SEARCH if searches else _WOLFRAM)[talk.language]
    talk.say(fill(rng.choice(forms), {"x": query}))
    if rng.random() < 0.07:
        talk.call(name, {"query": query}, _failed(talk, rng))
        talk.answer(_told(talk, rng))
        return
    found = _found(searches, rng, talk.language)
    result: JSON = found
    if searches and rng.random() < 0.5:
        result = {"query": query, "top_k": [{"title": query, "snippet": found}]}
    talk.call(name, {"query": query}, result)
    talk.answer(fill(rng.choice(_phrases("generic", "answers", talk)), {"value": found}))


def _found(searches: bool, rng: random.Random, language: Language) -> str:
    if searches:
        return str(draw(rng.choice(("sentence", "phrase")), rng, language)[1])
    return rng.choice(("x = {a}", "{a}", "x = {a}, x = {b}", "{a} x + {b}")).format(
        a=rng.randint(-99, 99), b=rng.randint(1, 999)
    )


def _equation(rng: random.Random) -> str:
    a, b, c = (rng.randint(1, 99) for _ in range(3))
    forms = (f"{a}x + {b} = {c}", f"x^2 - {a}x + {b} = 0", f"x^3 - {a}x^2 + {b}x - {c} = 0",
             f"sin({a}x)", f"{a}x^2 + {b}x", f"{a}! / {b}!", f"sqrt({a}) + {b}",
             f"e^({a}x)")  # fmt: skip
    return rng.choice(forms)


def _chain(talk: Conversation, skills: Sequence[Skill], rng: random.Random) -> None:
    """Two requests in one message, the second about the result of the first."""
    first, second = rng.sample(list(skills), 2)
    one = first.request(rng, talk.language)
    key, value = _short_value(one.result, rng)
    place = _place_for(value, second, rng)
    ends: Callable[[str], str] = lambda text: text.rstrip(" .?!")  # noqa: E731
    if place is None:
        two = second.request(rng, talk.language)
    else:
        that = rng.choice(_THAT[talk.language]).replace("{key}", key.replace("_", " "))
        two = second.request(rng, talk.language, {place: Given(value, that)})
    joined = rng.choice(_THEN[talk.language])
    a, b = ends(one.text), _lower_first(two.text)
    talk.say(joined.replace("{a}", a).replace("{b}", b))
    talk.call(first.spec.name, one.arguments, one.result)
    talk.call(second.spec.name, two.arguments, two.result)
    both = f"{one.answer} {two.answer}"
    talk.answer(two.answer if rng.random() < 0.4 else both)


def _linked(talk: Conversation, linked: chains.Linked, rng: random.Random) -> None:
    """Two calls for one natural request. At times the first fails, and that is the end of it."""
    step = linked.request(rng, talk.language)
    talk.say(step.text)
    if rng.random() < 0.06:
        talk.call(linked.first.spec.name, step.one.arguments, _failed(talk, rng))
        talk.answer(_told(talk, rng))
        return
    talk.call(linked.first.spec.name, step.one.arguments, step.one.result)
    talk.call(linked.second.spec.name, step.two.arguments, step.two.result)
    talk.answer(step.answer)


def _short_value(result: JSON, rng: random.Random) -> tuple[str, JSON]:
    items = list(result.items()) if isinstance(result, dict) else [("result", result)]
    short = [(k, v) for k, v in items if isinstance(v, str | int | float) and len(str(v)) < 40]
    return rng.choice(short) if short else ("result", None)


def _place_for(value: JSON, skill: Skill, rng: random.Random) -> str | None:
    """A parameter that can take the value, so that the answer uses it in its own words."""
    wanted = {str: "string", int: "integer", float: "number"}.get(type(value), "")
    params = skill.domain.get("params", {})
    properties = skill.spec.parameters["properties"]
    fits = [
        key
        for key in params
        if (schema := properties.get(skill.names[key]))
        and schema.get("type") == wanted
        and "enum" not in schema
        and not params[key]["kind"].startswith(("enum:", "expression", "say:"))
        and not str(skill.domain.get("id")).startswith("example_")
    ]
    return rng.choice(fits) if fits else None


def _lower_first(text: str) -> str:
    return text[0].lower() + text[1:] if text[:1].isupper() and text[1:2].islower() else text
