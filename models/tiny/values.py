"""Draw values: cities, names, numbers, file paths, made-up words; each with the words a user says.

Knows the kinds of the training data and the banks in values.toml. Does not know domains, tools,
conversations or the model. A kind is text: `city`, `int:1:100`, `enum:on=켜기|off=끄기/turn off`,
`list:food`.

Names are real four times out of seven and otherwise invented, so that a model learns to copy a name
and not to remember it.
"""

import random
import re
import string
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

Language = Literal["en", "ko"]
Json = str | int | float | bool | list["Json"] | None
Value = tuple[Json, str]
"""The value as JSON has it, and as the user says it."""

_BANKS = Path(__file__).with_name("values.toml")
_INVENTED = 0.42  # of the names in a bank that has patterns for invented ones
_PARTS = {"adj", "noun", "onset", "vowel", "coda", "syllable", "rude", "airline"}  # not kinds
_KOREAN = 0.75  # of the names in Korean conversations; the others are in Latin letters


class UnknownKind(ValueError):
    """A kind that neither values.toml nor this module has."""


@dataclass(frozen=True, slots=True)
class Bank:
    """The names of one kind in one language. `patterns` alternate literal text and slot."""

    real: tuple[str, ...]
    patterns: tuple[tuple[str, ...], ...]
    invented: float


def draw(kind: str, rng: random.Random, language: Language) -> Value:
    """One value of `kind`. The same `rng` state gives the same value. Costs microseconds."""
    name, _, rest = kind.partition(":")
    if name in _SHAPED:
        text = _SHAPED[name](rng, language)
        return text, text
    if name in _NUMBERS:
        number = _NUMBERS[name](rng, language, rest)
        return number, str(number)
    if name in ("enum", "choice"):
        return _choice(rest, rng, language)
    if name == "say":  # a choice whose value is what the user says
        text = _choice(rest, rng, language)[1]
        return text, text
    if name == "list":
        return _list(rest, rng, language)
    if name == "flag":
        flag = rng.random() < 0.5
        return flag, "true" if flag else "false"
    text = _named(name, rng, language)
    return text, text


def kinds() -> list[str]:
    """Every kind, those with parameters as an example."""
    shown = ["int:1:100", "float:0:10:2", "price", "percent", "flag", "list:food"]
    shown += ["enum:on=켜기|off=끄기/turn off", "choice:sunny=맑음|rainy=비"]
    return sorted((set(_banks()) | set(_SHAPED)) - _PARTS) + shown


# --- names ---------------------------------------------------------------------------------------


@cache
def _banks() -> dict[str, dict[Language, Bank]]:
    banks: dict[str, dict[Language, Bank]] = {}
    for kind, table in tomllib.loads(_BANKS.read_text(encoding="utf-8")).items():
        share = float(table.get("invented", _INVENTED))
        banks[kind] = {
            "en": _bank(table["en"], table.get("invent_en", ""), share),
            "ko": _bank(table.get("ko", table["en"]), table.get("invent_ko", ""), share),
        }
    return banks


def _bank(real: str, patterns: str, share: float) -> Bank:
    split = tuple(tuple(re.split(r"\{(\w+)\}", pattern)) for pattern in _items(patterns))
    return Bank(tuple(_items(real)), split, share if split else 0.0)


def _items(text: str) -> list[str]:
    return [item for part in text.split(",") if (item := " ".join(part.split()))]


def _part(name: str) -> tuple[str, ...]:
    return _banks()[name]["en"].real


def _named(kind: str, rng: random.Random, language: Language) -> str:
    if kind not in _banks():
        raise UnknownKind(f"unknown kind {kind!r}; there are {', '.join(kinds())}")
    if language == "ko" and rng.random() > _KOREAN:
        language = "en"
    return _from_bank(kind, rng, language)


def _from_bank(kind: str, rng: random.Random, language: Language) -> str:
    bank = _banks()[kind][language]
    if rng.random() >= bank.invented:
        return rng.choice(bank.real)
    pieces = rng.choice(bank.patterns)
    return "".join(
        piece if index % 2 == 0 else _slot(piece, rng, language)
        for index, piece in enumerate(pieces)
    )


def _slot(slot: str, rng: random.Random, language: Language) -> str:
    if slot == "Word":
        return invented_word(rng, language).capitalize()
    if slot == "word":
        return invented_word(rng, language)
    if slot == "n":
        return str(_digits(rng, rng.choice((1, 1, 2, 2, 3))))
    if slot == "N":
        return str(
            rng.choice((rng.randint(2, 20), rng.randint(1, 99) * 10, rng.randint(1, 9) * 100))
        )
    if slot == "L":
        return rng.choice("ABCDEFGHJKLMNPQRSTUVWXZ")
    if slot in _SHAPED:
        return _SHAPED[slot](rng, language)
    if slot == "Noun":
        return rng.choice(_banks()["noun"][language].real).capitalize()
    if slot == "Adj":
        return rng.choice(_banks()["adj"][language].real).capitalize()
    return rng.choice(_banks()[slot][language].real)


def invented_word(rng: random.Random, language: Language) -> str:
    """A pronounceable word that does not exist (or only by accident), in lower case."""
    while True:
        word = _korean_word(rng) if language == "ko" else _latin_word(rng)
        if not any(rude in word for rude in _part("rude")):
            return word


def _korean_word(rng: random.Random) -> str:
    count = rng.choice((2, 2, 2, 3, 3, 3, 4))
    return "".join(
        # One syllable in eight from the whole of Hangul's plain part: copying is for all of it.
        rng.choice(_part("syllable")) if rng.random() > 0.12 else _any_syllable(rng)
        for _ in range(count)
    )


def _latin_word(rng: random.Random) -> str:
    count = rng.choice((1, 2, 2, 2, 2, 3, 3))
    word = "".join(rng.choice(_part("onset")) + rng.choice(_part("vowel")) for _ in range(count))
    if count > 1 and rng.random() < 0.25:
        return word
    return word + rng.choice(_part("coda"))


def _any_syllable(rng: random.Random) -> str:
    initial = rng.choice((0, 2, 3, 5, 6, 7, 9, 11, 12, 14, 15, 16, 17, 18))
    medial = rng.choice((0, 1, 2, 4, 5, 6, 8, 9, 12, 13, 14, 16, 17, 18, 20))
    final = rng.choice((0, 0, 0, 1, 4, 8, 16, 17, 21))
    return chr(0xAC00 + (initial * 21 + medial) * 28 + final)


# --- values with a shape -------------------------------------------------------------------------


def _date(rng: random.Random, _: Language) -> str:
    year = rng.choice((2024, 2025, 2026, 2026, 2027, 2028, rng.randint(1950, 2040)))
    return f"{year}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"


def _time(rng: random.Random, _: Language) -> str:
    minute = rng.choice((0, 0, 15, 30, 30, 45, rng.randint(0, 59), rng.randint(0, 59)))
    return f"{rng.randint(0, 23):02}:{minute:02}"


def _year(rng: random.Random, _: Language) -> str:
    return str(rng.choice((rng.randint(2015, 2030), rng.randint(1900, 2040))))


def _plain(kind: str, rng: random.Random) -> str:
    """A word for addresses and paths: lower-case Latin letters without spaces."""
    if rng.random() < 0.35:
        return invented_word(rng, "en")
    return rng.choice(_banks()[kind]["en"].real).lower().replace(" ", rng.choice("_-"))


def _email(rng: random.Random, _: Language) -> str:
    first = _plain("noun", rng) if rng.random() < 0.3 else _plain("person", rng).replace("-", ".")
    tail = rng.choice(("", "", str(rng.randint(1, 99))))
    host = rng.choice(("example.com", "mail.com", "mail.kr", f"{_plain('noun', rng)}.com"))
    return f"{first}{tail}@{host}"


def _url(rng: random.Random, _: Language) -> str:
    host = f"{_plain('noun', rng)}.{rng.choice(('com', 'org', 'net', 'io', 'kr', 'dev'))}"
    start = rng.choice(("https://", "https://", "http://", "https://www.", ""))
    tail = rng.choice(
        ("", f"/{_plain('noun', rng)}", f"/{_plain('noun', rng)}/{rng.randint(1, 999)}")
    )
    return f"{start}{host}{tail}"


def _folder(rng: random.Random, _: Language) -> str:
    parts = [_plain("folder", rng) for _ in range(rng.choice((1, 1, 2, 3)))]
    start = rng.choice(("", "", "", "~/", "/", "./", "/home/"))
    return start + "/".join(parts) + rng.choice(("", "", "/"))


def _file(rng: random.Random, language: Language) -> str:
    if language == "ko" and rng.random() < 0.4:
        stem = rng.choice(_banks()["noun"]["ko"].real)
    else:
        stem = _plain("file", rng)
    mark = rng.choice(("", "", "", f"_{rng.randint(1, 99)}", f"-{rng.randint(2015, 2030)}", "_v2"))
    if rng.random() < 0.1:
        stem, mark = f"{rng.randint(2018, 2030)}-{rng.randint(1, 12):02}", ""
    return f"{stem}{mark}.{rng.choice(_part('extension'))}"


def _path(rng: random.Random, language: Language) -> str:
    if rng.random() < 0.2:
        return _file(rng, language)
    return _folder(rng, language).rstrip("/") + "/" + _file(rng, language)


def _id(rng: random.Random, _: Language) -> str:
    letters = "".join(rng.choices(string.ascii_uppercase, k=rng.choice((1, 2, 3, 3))))
    prefix = rng.choice((letters, letters, "ORD", "INV", "TKT", "REF", "CUS", "PKG"))
    digits = str(_digits(rng, rng.randint(3, 6)))
    form = rng.random()
    if form < 0.62:
        return f"{prefix}-{digits}"
    if form < 0.76:
        return f"{prefix}{digits}"
    if form < 0.88:
        return digits
    return f"{prefix}-{rng.randint(2020, 2030)}-{rng.randint(1, 999)}"


def _phone(rng: random.Random, language: Language) -> str:
    last = f"{rng.randint(0, 9999):04}"
    if language == "ko":
        middle = rng.randint(2000, 9999)
        return rng.choice((f"010-{middle}-{last}", f"010{middle}{last}", f"02-{middle}-{last}"))
    area, middle = rng.randint(201, 989), rng.randint(200, 999)
    return rng.choice((f"{area}-{middle}-{last}", f"+1 {area} {middle} {last}", f"{middle}-{last}"))


def _flight(rng: random.Random, _: Language) -> str:
    airline = rng.choice(_part("airline"))
    return f"{airline}{rng.choice(('', ' '))}{rng.randint(1, 1999)}"


def _stock(rng: random.Random, language: Language) -> str:
    if language == "ko" and rng.random() < 0.2:
        return f"{rng.randint(1, 99) * 1010:06}"
    if rng.random() < 0.4:
        return "".join(rng.choices(string.ascii_uppercase, k=rng.choice((3, 3, 4, 4, 5))))
    return rng.choice(_banks()["stock"]["en"].real)


def _hex(rng: random.Random, _: Language) -> str:
    digits = "".join(rng.choices("0123456789abcdef", k=rng.choice((2, 4, 6, 6, 8, 12))))
    return rng.choice(("", "", "0x", "#")) + digits


def _madeup(rng: random.Random, language: Language) -> str:
    if language == "ko" and rng.random() < 0.6:
        return invented_word(rng, "ko")
    word, form = invented_word(rng, "en"), rng.random()
    if form < 0.45:
        return word
    if form < 0.65:
        return word.capitalize()
    if form < 0.75:
        return word.upper()
    if form < 0.88:
        return f"{word}{rng.choice('-_')}{invented_word(rng, 'en')}"
    return f"{word}{rng.choice(('', '-', '_'))}{_digits(rng, rng.randint(1, 4))}"


def _expression(rng: random.Random, _: Language) -> str:
    def number() -> str:
        if rng.random() < 0.1:
            return str(round(rng.uniform(0, 100), rng.choice((1, 1, 2))))
        return str(_digits(rng, rng.choice((1, 1, 2, 2, 2, 3, 3, 4, 5, 6))))

    def operator() -> str:
        return rng.choice(("+", "+", "-", "-", "*", "*", "*", "/", "/", "%", "**", "//"))

    def pair() -> str:
        sign = operator()
        if sign == "**":  # keeps the answer short
            return f"{rng.randint(2, 20)} ** {rng.randint(2, 5)}"
        return f"{number()} {sign} {number()}"

    form = rng.random()
    if form < 0.5:
        text = pair()
    elif form < 0.65:
        text = f"{number()} {rng.choice('+-*')} {number()} {rng.choice('+-*')} {number()}"
    elif form < 0.78:
        text = f"({number()} {rng.choice('+-')} {number()}) {rng.choice('*/+-')} {number()}"
    elif form < 0.86:
        text = f"{number()} {rng.choice('*/+-')} ({number()} {rng.choice('+-')} {number()})"
    else:
        text = f"sqrt({rng.choice((rng.randint(1, 40) ** 2, rng.randint(2, 9999)))})"
    return text.replace(" ", "") if rng.random() < 0.25 else text


_SHAPED: dict[str, Callable[[random.Random, Language], str]] = {
    "date": _date, "time": _time, "year": _year, "email": _email, "url": _url, "path": _path,
    "folder": _folder, "file": _file, "id": _id, "phone": _phone,
    "flight": _flight, "stock": _stock, "hex": _hex, "madeup": _madeup, "expression": _expression,
}  # fmt: skip


# --- numbers, choices, lists ---------------------------------------------------------------------


def _digits(rng: random.Random, count: int) -> int:
    return rng.randint(10 ** (count - 1), 10**count - 1)


def _int(rng: random.Random, _: Language, rest: str) -> int:
    low, high = (int(part) for part in rest.split(":"))
    if high - low > 2000 and rng.random() < 0.6:  # else nearly all would have the most digits
        wanted = _digits(rng, rng.randint(1, len(str(high))))
        return min(max(wanted, low), high) if low >= 0 else max(-wanted, low)
    return rng.randint(low, high)


def _float(rng: random.Random, _: Language, rest: str) -> float:
    low, high, digits = rest.split(":")
    if digits == "0":
        return rng.randint(round(float(low)), round(float(high)))
    return round(rng.uniform(float(low), float(high)), int(digits))


def _price(rng: random.Random, language: Language, _: str) -> float:
    if language == "ko":
        unit = rng.choice((10, 100, 100, 500, 1000))
        return rng.randint(1, rng.choice((99, 999))) * unit
    whole = _digits(rng, rng.choice((1, 2, 2, 3, 4)))
    return whole if rng.random() < 0.4 else round(whole + rng.choice((0.5, 0.99, 0.25, 0.49)), 2)


def _percent(rng: random.Random, _: Language, __: str) -> float:
    return rng.choice((rng.randint(0, 100), rng.randint(1, 20) * 5, round(rng.uniform(0, 100), 1)))


_NUMBERS: dict[str, Callable[[random.Random, Language, str], float]] = {
    "int": _int, "float": _float, "price": _price, "percent": _percent,
}  # fmt: skip


@cache
def choices(rest: str) -> tuple[tuple[str, str, str], ...]:
    """The items of `a=가|b=나/bee`: value, English words, Korean words."""
    items = []
    for item in rest.split("|"):
        value, _, words = item.partition("=")
        korean, _, english = words.partition("/")
        items.append(
            (value.strip(), english.strip() or value.strip(), korean.strip() or value.strip())
        )
    return tuple(items)


def _choice(rest: str, rng: random.Random, language: Language) -> Value:
    value, english, korean = rng.choice(choices(rest))
    return value, korean if language == "ko" else english


def _list(kind: str, rng: random.Random, language: Language) -> Value:
    drawn: dict[str, Json] = {}
    count = rng.choice((2, 2, 3, 3, 4))
    for _ in range(count + 8):  # a few more for repeated ones
        if len(drawn) == count:
            break
        value, text = draw(kind, rng, language)
        drawn.setdefault(text, value)
    texts = list(drawn)
    if language == "ko" or len(texts) == 1:
        return list(drawn.values()), ", ".join(texts)
    return list(drawn.values()), f"{', '.join(texts[:-1])} and {texts[-1]}"
