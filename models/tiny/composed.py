"""Compose tools that no file lists: verb, noun and parameters make a name, a schema and requests.

Knows how a request, a description and an answer are put together from the words of composed.toml.
Does not know conversations, nor how a placeholder is filled. What it gives has the shape of one
`[[domain]]` of domains/*.toml.

A request shares the noun, and mostly the verb, with the tool's description, and introduces each
value with a word of its parameter ("for customer {customer}"): words decide, not memory.
"""

import random
import re
from collections.abc import Sequence
from typing import Any

from models.tiny.composed_words import (
    Noun,
    Param,
    Verb,
    article,
    cap,
    commands,
    frames,
    join,
    join_ko,
    make_param,
    noun_en,
    noun_ko,
    nouns,
    own_param,
    particle,
    qualifiers,
    results,
    say,
    split,
    table,
    verbs_for,
)
from models.tiny.values import Language, invented_word

_INVENTED_NOUNS = 0.35
_ANY_KINDS = ("int:1:9999", "percent", "price", "date", "madeup", "word", "city", "float:0:99:1")

_OPENING = re.compile(r"[!:]|\. |^now|^Hey")  # requests that do not follow "For customer X,"

_READ = {"get", "find", "check", "list"}

Domain = dict[str, Any]


def compose(rng: random.Random, language: Language) -> Domain:
    """One tool. Its requests are mostly in `language`, a few in the other. About 0.2 ms."""
    verb, noun = _pair(rng, language)
    return _domain(verb, noun, rng, language)


def family(rng: random.Random, language: Language, count: int) -> list[Domain]:
    """Up to `count` tools that are easily confused: the same noun, or the same verb and field."""
    verb, noun = _pair(rng, language)
    pairs = [(verb, noun)]
    if noun.type != "i" and rng.random() < 0.5:
        # "Show me the order" is said to all that read: one of them is enough, or none can be right.
        others = [other for other in verbs_for(noun.type) if other.id not in _READ]
        if verb.id not in _READ:
            others = [other for other in others if other != verb]
        rng.shuffle(others)
        pairs += [(other, noun) for other in others[: max(0, count - 1)]]
    else:
        near = [
            other
            for other in nouns()
            if other.field == noun.field and other.type in verb.takes and other.en != noun.en
        ]
        rng.shuffle(near)
        pairs += [(verb, other) for other in near[: max(0, count - 1)]]
    return [_domain(verb, noun, rng, language) for verb, noun in pairs]


def _pair(rng: random.Random, language: Language) -> tuple[Verb, Noun]:
    noun = rng.choice(nouns())
    if rng.random() < _INVENTED_NOUNS:
        en = invented_word(rng, "en")
        # Mostly the Latin word in both languages: a Korean one shares nothing with the tool's name.
        ko = invented_word(rng, "ko") if language == "ko" and rng.random() < 0.3 else en
        kind = rng.choice(_ANY_KINDS) if noun.type == "i" else ""
        noun = Noun(en, ko, noun.type, kind, noun.field)
    if rng.random() < 0.2 and noun.type != "i":
        qualifier = rng.choice(qualifiers())
        noun = Noun(noun.en, noun.ko, noun.type, noun.kind, noun.field, qualifier)
    return rng.choice(verbs_for(noun.type)), noun


def _selected_ko(noun: Noun, params: Sequence[Param], rng: random.Random) -> str:
    """The noun with what selects it before it: `고객 {customer}의 주문`."""
    pieces = [param for param in params if param.role == "of"]
    rng.shuffle(pieces)
    said = [say(param, rng, "ko", len(pieces) == 1) for param in pieces]
    text = ""
    for index, piece in enumerate(said):
        more = any(not later.endswith("~") for later in said[index + 1 :])
        text += piece[:-1] + " " if piece.endswith("~") else piece + (", " if more else "의 ")
    for param in params:
        if param.role == "own":
            text += say(param, rng, "ko", True).removesuffix("~") + " "
    return text + noun_ko(noun)


def _given_ko(params: Sequence[Param], rng: random.Random) -> tuple[str, str]:
    """What is given: the part before the verb, and the part after the sentence (long texts)."""
    given = [param for param in params if param.role == "with"]
    rng.shuffle(given)
    short = [f"{param.ko} {{{param.key}}}" for param in given if not param.is_text]
    long = [f"{param.ko}: {{{param.key}}}" for param in given if param.is_text]
    return (", ".join(short) + "(으로/로) " if short else ""), "".join(f" {text}" for text in long)


# --- requests ------------------------------------------------------------------------------------


def _ask_en(verb: Verb, noun: Noun, params: Sequence[Param], rng: random.Random) -> str:
    own = "".join(f" {say(param, rng, 'en', True)}" for param in params if param.role == "own")
    alone = sum(param.role == "of" for param in params) == 1
    others = [param for param in params if param.role != "own"]
    rng.shuffle(others)
    others.sort(key=lambda param: param.is_text)
    phrases = [say(param, rng, "en", alone) for param in others]
    if phrases and phrases[0].startswith("and "):
        phrases[0] = "with " + phrases[0][4:]
    lead = ""
    if phrases and others[0].role == "of" and rng.random() < 0.12:
        lead = cap(phrases.pop(0)) + ", "
    tail = own + "".join(f" {phrase}" for phrase in phrases)
    words = noun_en(noun, verb)
    many = f"{noun.qualifier[0]} {noun.many}".strip() + tail
    if verb.id in ("get", "find", "check") and rng.random() < 0.55 and noun.type == "i":
        np = words + tail
        bare = np.removeprefix("the ")
        frame = rng.choice(frames("ask"))
        text = frame.replace("{np}", np).replace("{bare}", bare).replace("{Bare}", cap(bare))
    elif verb.id == "list" and rng.random() < 0.5:
        text = rng.choice(frames("list")).replace("{many}", many)
    elif verb.id == "count" and rng.random() < 0.75:
        text = rng.choice(frames("count")).replace("{many}", many)
    else:
        vp = f"{rng.choice(verb.en)} {words}{tail}"
        forms = commands() if " me" in vp[:8] else frames("do")
        text = rng.choice(forms).replace("{vp}", vp).replace("{Vp}", cap(vp))
    if not lead:
        return text
    if _OPENING.search(text):
        text = f"{rng.choice(verb.en)} {words}{tail}"
    return lead + (text if text[:2] in ("I ", "I'") else text[0].lower() + text[1:])


def _ask_ko(verb: Verb, noun: Noun, params: Sequence[Param], rng: random.Random) -> str:
    selected = _selected_ko(noun, params, rng)
    given, tail = _given_ko(params, rng)
    if verb.id in ("get", "find", "check") and rng.random() < 0.55 and noun.type == "i":
        frame = rng.choice(frames("ask_ko"))
    elif verb.id == "list" and rng.random() < 0.6:
        frame = rng.choice(frames("list_ko"))
    elif verb.id == "count" and rng.random() < 0.8:
        frame = rng.choice(frames("count_ko"))
    else:
        frame = rng.choice(frames("do_ko"))
    form = rng.choice(verb.ko)
    if verb.id == "count" and frame in frames("do_ko") and form[0] != "세어":
        selected += " 개수"
    parts = {
        "v": form[0],
        "w": form[3],
        "g": given,
        "n": selected,
        "o": particle(selected, "을/를"),
    }
    parts |= {"t": particle(selected, "은/는"), "s": particle(selected, "이/가")}
    text = _fill(frame, parts)
    if tail and text[-1] not in ".?!":
        text += "."
    return text + tail


# --- the domain ----------------------------------------------------------------------------------


def _domain(verb: Verb, noun: Noun, rng: random.Random, language: Language) -> Domain:
    params, optional = _params(verb, noun, rng)
    required = [param for param in params if param is not optional]
    asked = {"en": _ask_en, "ko": _ask_ko}

    def asks(spoken: Language) -> list[str]:
        texts = [asked[spoken](verb, noun, required, rng)]
        for index in range(4 if spoken == language else 1):
            chosen = params if index % 2 else required
            texts.append(asked[spoken](verb, noun, chosen, rng))
        return texts

    result, answers, answers_ko = _result(verb, noun, required, rng)
    describe, describe_ko = _describe(verb, noun, required, rng)
    return {
        "id": f"composed_{verb.id}_{noun.en.replace(' ', '_')}",
        "tools": list(dict.fromkeys(_tool_name(verb, noun, params, rng) for _ in range(4))),
        "describe": describe,
        "describe_ko": describe_ko,
        "asks": asks("en"),
        "asks_ko": asks("ko"),
        "answers": answers,
        "answers_ko": answers_ko,
        "params": {param.key: _described(param, noun) for param in params},
        "result": result,
    }


def _params(verb: Verb, noun: Noun, rng: random.Random) -> tuple[list[Param], Param | None]:
    """One to four parameters, and the one of them that a request may leave out."""
    field = table()["field"][noun.field]
    taken: list[Param] = []
    own = 0.0 if noun.type == "i" or verb.id in ("list", "count", "create", "book") else 0.6
    if rng.random() < own:
        taken.append(own_param(noun, rng))
    wanted = rng.choice((0, 0, 1)) if taken else rng.choice((1, 1, 1, 2, 2, 3))
    of = split(field["of"])
    keys = rng.sample(of, wanted)
    if not taken and wanted > 1 and rng.random() < 0.5:
        keys[:2] = _alike(of) or keys[:2]
    taken += [make_param(key, "of", rng) for key in dict.fromkeys(keys)]
    given = {"create": (0, 1, 1, 2), "update": (1, 1, 2), "book": (0, 0, 1), "send": (0, 1)}
    count = rng.choice(given.get(verb.id, (0,)))
    taken += [make_param(key, "with", rng) for key in rng.sample(split(field["with"]), count)]
    taken = taken[:4]
    rng.shuffle(taken)
    optional = rng.choice(taken) if len(taken) > 1 and rng.random() < 0.25 else None
    if optional and (optional.role == "own" or (verb.id == "update" and optional.role == "with")):
        optional = None
    return taken, optional


def _alike(keys: Sequence[str]) -> list[str]:
    """Two parameters of a field that take values of one kind, if it has them."""
    pairs = (("from_city", "to_city"), ("sender", "receiver"), ("home_team", "away_team"))
    more = (
        ("patient", "doctor"),
        ("student", "teacher"),
        ("customer", "bank"),
        ("animal", "plant"),
    )
    for first, second in pairs + more:
        if first in keys and second in keys:
            return [first, second]
    return []


def _described(param: Param, noun: Noun) -> dict[str, Any]:
    number = {"id": f"{param.ko} 번호"}.get(param.kind, param.ko)
    if param.role == "own":
        number = param.ko
    korean = [number, f"{particle(number, '을/를')} 적습니다", f"사용할 {number}"]
    names, about = list(dict.fromkeys(param.names)), list(param.about)
    if len(names) < 3 and param.role != "own":
        names.append(f"{noun.en.replace(' ', '_')}_{param.key}")
    return {
        "kind": param.kind,
        "names": names,
        "describe": about,
        "describe_ko": korean,
    }


def _tool_name(verb: Verb, noun: Noun, params: Sequence[Param], rng: random.Random) -> str:
    word = noun.many if verb.id in ("list", "count") else noun.en
    word = f"{noun.qualifier[0]} {word}".strip().replace(" ", "_")
    start, first = rng.choice(verb.tools), params[0]
    form = rng.random()
    name = f"{start}_{word}"
    if form < 0.12 and first.role == "of":
        name = f"{start}_{word}_by_{first.key}"
    elif form < 0.2 and first.role == "of":
        name = f"{start}_{first.key}_{word}"
    elif form < 0.28:
        name = f"{word}_{start}"
    if rng.random() < 0.15:
        head, *rest = name.split("_")
        return head + "".join(part.capitalize() for part in rest)
    return name


def _describe(
    verb: Verb, noun: Noun, params: Sequence[Param], rng: random.Random
) -> tuple[list[str], list[str]]:
    words, korean = noun_en(noun, verb), noun_ko(noun)
    of = [param for param in params if param.role == "of"]
    of_en = f" for {join([article(param.en) for param in of])}" if of else ""
    by_en = f" by {join([param.en for param in params])}"
    said = verb.en[0].removesuffix(" me")
    other = rng.choice(verb.en).removesuffix(" me")
    english = [
        f"{cap(said)} {words}{of_en}.",
        f"{cap(other)} {words}{of_en}.",
        f"Use this tool to {said} {words}{of_en}.",
        f"{cap(said)} {words}{by_en if of else ''}",
        f"Can {said} {words}{of_en}.",
    ]
    of_ko = f"{join_ko([param.ko for param in of])}의 " if of else ""
    form, second = verb.ko[0], rng.choice(verb.ko)
    if verb.id in ("list", "count"):
        korean += " 목록" if verb.id == "list" else " 개수"
    thing = particle(of_ko + korean, "을/를")
    plain = [
        f"{thing} {form[1]}.",
        f"{thing} {second[1]}.",
        f"{thing} {second[2]} 도구",
        f"{thing} {form[2]} 도구입니다.",
    ]
    return english, plain


def _result(
    verb: Verb, noun: Noun, params: Sequence[Param], rng: random.Random
) -> tuple[dict[str, str], list[str], list[str]]:
    """The result's kinds, and answers in both languages that say all of it."""
    group, rows = _rows(verb, noun, params, rng)
    korean = _selected_ko(noun, params, rng)
    facts = [f"the {en} is {{{key}}}" for key, en, _, _ in rows]
    topics = [f"{particle(ko, '은/는')} {{{key}}}입니다." for key, _, ko, _ in rows]
    words = {
        "x": f"{{{rows[0][0]}}}",
        "said": _said(noun, params, rng),
        "noun": noun.en,
        "many": noun.many,
        "past": verb.past,
        "all": join(facts),
        "short": ", ".join(f"{en} {{{key}}}" for key, en, _, _ in rows),
        "korean": korean,
        "t": particle(korean, "은/는"),
        "o": particle(korean, "을/를"),
        "past_ko": verb.past_ko,
        "marks": ", ".join(f"{ko} {{{key}}}" for key, _, ko, _ in rows),
        "last": " ".join(topics),
    }
    words |= {"Said": cap(words["said"]), "All": cap(words["all"])}
    english, plain = table()["answer"][group], table()["answer"][f"{group}_ko"]
    result = {key: kind for key, _, _, kind in rows}
    return result, [_fill(text, words) for text in english], [_fill(text, words) for text in plain]


def _rows(
    verb: Verb, noun: Noun, params: Sequence[Param], rng: random.Random
) -> tuple[str, list[tuple[str, str, str, str]]]:
    """The group of answers; of each part of the result: key, English and Korean word, kind."""
    if noun.type == "i":
        key = rng.choice((noun.en.replace(" ", "_"), "value", "output", "output", "result"))
        return "info", [(key, noun.en, noun.ko, noun.kind)]
    if verb.id == "count":
        return "count", [(rng.choice(("output", "count", "total")), "", "개수", "int:0:999")]
    if verb.id == "list":
        items = rng.choice(split(table()["field"][noun.field]["items"]))
        return "list", [(rng.choice(("output", "items", "found")), "", "목록", f"list:{items}")]
    group = "about" if verb.id in ("get", "find", "check", "track") else "act"
    drawn = [rng.choice(results(group)) for _ in range(rng.choice((1, 1, 2, 3)))]
    rows = list({row[0]: row for row in drawn}.values())
    taken = {param.key for param in params}
    if len(rows) == 1 and rng.random() < 0.4:
        rows = [("output", *rows[0][1:])]
    return group, [
        (f"{key}_value" if key in taken else key, en, ko, _kind(kind, rng))
        for key, en, ko, kind in rows
    ]


def _kind(kind: str, rng: random.Random) -> str:
    kinds = table()["result"].get(kind)
    return str(rng.choice(kinds)) if kinds else kind


def _said(noun: Noun, params: Sequence[Param], rng: random.Random) -> str:
    chosen = [param for param in params if param.role == "own"]
    chosen = chosen or [param for param in params if param.role == "of"][:2]
    phrases = "".join(f" {say(param, rng, 'en', len(chosen) == 1)}" for param in chosen)
    return f"the {f'{noun.qualifier[0]} {noun.en}'.strip()}{phrases}"


def _fill(frame: str, words: dict[str, str]) -> str:
    """`frame` with its words; what they contain in braces is for the generator and stays."""
    return _SLOT.sub(lambda found: words[found[1]], frame)


_SLOT = re.compile(r"\{(\w+)\}")
