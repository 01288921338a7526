"""The words of composed.toml, and how English and Korean join them.

Knows verbs, nouns, parameters and a little grammar. Does not know tools, requests or conversations.
"""

import random
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

_WORDS = Path(__file__).with_name("composed.toml")
_TEXTS = {"sentence", "phrase", "title"}  # kinds too long for a Korean particle to follow
_BARE = {"{x}", "in {x}", "at {x}", "in the {x}", "of the {x}", "by {x}", "{x}에 있는~"}
_NAMES = {"id": ("id", "number", "no"), "email": ("email", "address")}


@dataclass(frozen=True, slots=True)
class Verb:
    """English words, Korean forms (request, statement, before a noun, before 싶어), noun types."""

    id: str
    tools: tuple[str, ...]
    en: tuple[str, ...]
    past: str
    ko: tuple[tuple[str, str, str, str], ...]
    past_ko: str
    takes: str


@dataclass(frozen=True, slots=True)
class Noun:
    """A thing that tools are about. `type` is one of i, t, b, d; `kind` is an i's value."""

    en: str
    ko: str
    type: str
    kind: str
    field: str
    qualifier: tuple[str, str] = ("", "")

    @property
    def many(self) -> str:
        return plural(self.en)


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter with its kind drawn. `say` and `say_ko` introduce `{x}` in a request."""

    key: str
    en: str
    ko: str
    kind: str
    names: tuple[str, ...]
    say: tuple[str, ...]
    say_ko: tuple[str, ...]
    about: tuple[str, ...]
    role: str  # of: selects; own: is the noun's own number or name; with: is given to it

    @property
    def is_text(self) -> bool:
        return self.kind in _TEXTS


@cache
def table() -> dict[str, Any]:
    return tomllib.loads(_WORDS.read_text(encoding="utf-8"))


def split(text: str) -> tuple[str, ...]:
    return tuple(text.split(", "))


@cache
def verbs() -> tuple[Verb, ...]:
    found = []
    for key, row in table()["verb"].items():
        forms = []
        for form in split(row["ko"]):
            asked, said, before, wish = form.split("/")
            forms.append((asked, said, before, wish))
        words = (key, split(row["tools"]), split(row["en"]), row["past"])
        found.append(Verb(*words, tuple(forms), row["past_ko"], row["to"]))
    return tuple(found)


@cache
def nouns() -> tuple[Noun, ...]:
    found = []
    for field, row in table()["field"].items():
        for item in split(row["nouns"]):
            en, _, rest = item.partition("=")
            ko, kind_of, kind = (rest.split(":", 2) + [""])[:3]
            found.append(Noun(en, ko, kind_of, kind, field))
    return tuple(found)


@cache
def verbs_for(kind_of: str) -> tuple[Verb, ...]:
    return tuple(verb for verb in verbs() if kind_of in verb.takes)


@cache
def qualifiers() -> tuple[tuple[str, str], ...]:
    pairs = (item.partition("=") for item in split(table()["qualifier"]["words"]))
    return tuple((en, ko) for en, _, ko in pairs)


@cache
def frames(name: str) -> tuple[str, ...]:
    """The forms of a request."""
    return tuple(table()["frame"][name])


@cache
def commands() -> tuple[str, ...]:
    """Those that a verb like `show me` fits: not `I want to show me`."""
    return tuple(form for form in frames("do") if not re.search("to {vp}|Let|Help|My boss", form))


@cache
def results(group: str) -> tuple[tuple[str, str, str, str], ...]:
    """Key, English label, Korean label, kind."""
    rows = []
    for item in split(table()["result"][group]):
        key, _, rest = item.partition("=")
        labels, _, kind = rest.partition(":")
        en, _, ko = labels.partition("/")
        rows.append((key, en, ko, kind))
    return tuple(rows)


def make_param(key: str, role: str, rng: random.Random) -> Param:
    row = table()["param"][key]
    kind = rng.choice(row["kinds"])
    en = row.get("en", key.replace("_", " "))
    endings = _NAMES.get(kind, ("name",) if kind in ("person", "city", "company", "team") else ())
    names = tuple(row.get("names", (key, key, *(f"{key}_{ending}" for ending in endings))))
    ko = str(row["ko"])
    say_ko = [f"{ko} {{x}}", f"{{x}} {ko}"]
    if role == "with":
        x = '"{x}"' if kind in _TEXTS else "{x}"
        say = [f"with {en} {x}", f"with the {en} {x}", f"and {en} {x}", f"with {en}: {x}"]
    elif kind == "id":
        say = [f"for {en} {{x}}", f"for {en} number {{x}}"]
        say_ko = [f"{ko} {{x}}", f"{ko} 번호 {{x}}"]
    else:
        say = [f"for {en} {{x}}", f"of {en} {{x}}", f"for the {en} {{x}}"]
    say, say_ko = row.get("say", say), row.get("say_ko", say_ko)
    about = tuple(row.get("about") or _about(en, kind))
    return Param(key, en, ko, kind, names, tuple(say), tuple(say_ko), about, role)


def _about(en: str, kind: str) -> tuple[str, ...]:
    first = en[0].upper() + en[1:]
    if kind == "id":
        return (f"Number of the {en}", f"The {en} number", f"ID of the {en}")
    if kind in ("person", "company", "city", "team", "school", "place"):
        return (f"Name of the {en}", f"The {en}", f"The {en}'s name")
    return (f"The {en}", first, f"The {en} to use")


def own_param(noun: Noun, rng: random.Random) -> Param:
    """The parameter that is the noun's own number (a record) or name (a device)."""
    snake = noun.en.replace(" ", "_")
    about: tuple[str, ...]
    if noun.type == "d":
        kind, en, ko = rng.choice(("madeup", "device", "id")), f"{noun.en} name", f"{noun.ko} 이름"
        names = (f"{snake}_name", "name", snake)
        say: tuple[str, ...] = ("{x}", "named {x}", "called {x}")
        say_ko: tuple[str, ...] = ("{x}~", "이름이 {x}인~")
        about = (f"Name of the {noun.en}", f"The {noun.en}'s name")
    else:
        kind, en, ko = "id", f"{noun.en} number", f"{noun.ko} 번호"
        names = (f"{snake}_id", "id", f"{snake}_number")
        say = ("{x}", "with ID {x}", "number {x}", "with the number {x}")
        say_ko = ("{x}번~", "번호가 {x}인~", "{x}~", "ID가 {x}인~")
        about = (f"ID of the {noun.en}", f"The {noun.en} number", f"Number of the {noun.en}")
    return Param(f"{snake}_own", en, ko, kind, names, say, say_ko, about, "own")


# --- joining words -------------------------------------------------------------------------------


def plural(noun: str) -> str:
    if noun.endswith("z"):
        return noun + "zes"
    if noun.endswith(("s", "x", "ch", "sh")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


def article(words: str) -> str:
    return ("an " if words[0] in "aeio" else "a ") + words


def particle(word: str, pair: str) -> str:
    """`word` with the one of `은/는` that its last sound wants; Latin words as they are spelled."""
    with_final, without = pair.split("/")
    last = word[-1]
    if "가" <= last <= "힣":
        return word + (with_final if (ord(last) - 0xAC00) % 28 else without)
    return word + (with_final if last.lower() in "lmn" or word.endswith("ng") else without)


def join(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def join_ko(words: Sequence[str]) -> str:
    return "".join(particle(word, "과/와") + " " for word in words[:-1]) + words[-1]


def cap(text: str) -> str:
    return text[:1].upper() + text[1:]


def say(param: Param, rng: random.Random, language: str, alone: bool) -> str:
    """How a request introduces the value; with a word of the parameter unless it is `alone`."""
    phrases = param.say if language == "en" else param.say_ko
    if not alone and param.role == "of":
        phrases = tuple(phrase for phrase in phrases if phrase not in _BARE)
    return rng.choice(phrases).replace("{x}", f"{{{param.key}}}")


def noun_en(noun: Noun, verb: Verb) -> str:
    word = noun.many if verb.id in ("list", "count") else noun.en
    word = f"{noun.qualifier[0]} {word}".strip()
    if verb.id in ("create", "book"):
        return article(word)
    return f"the {word}"


def noun_ko(noun: Noun) -> str:
    return f"{noun.qualifier[1]} {noun.ko}".strip()
