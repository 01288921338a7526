"""Requests that need two tools, the second with a value that the first returned.

Knows the pairs of chains.toml. Does not know conversations, templates or tokens.
"""

from __future__ import annotations

import random
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from models.tiny.skills import Given, Request, Skill, as_text, domains, fill
from models.tiny.values import Language

_PLACE: Final = re.compile(r"\{(first|second)\.(\w+)\}")
_MOST: Final = 5  # tools in a conversation


@dataclass(frozen=True, slots=True)
class Step:
    """What the user says, both uses, and what is answered at the end."""

    text: str
    one: Request
    two: Request
    answer: str


@dataclass(frozen=True, slots=True)
class Linked:
    """A pair of tools among those that a conversation offers."""

    pair: Mapping[str, Any]
    first: Skill
    second: Skill
    skills: list[Skill]

    def request(self, rng: random.Random, language: Language) -> Step:
        """Draw both uses: `value` of the first's result goes `into` a parameter of the second."""
        suffix = "_ko" if language == "ko" else ""
        ask = rng.choice(self.pair["asks" + suffix])
        one = self.first.use(_places(ask, "first"), rng, language)
        result = one.result
        value = result[self.pair["value"]] if isinstance(result, dict) else result
        into = self.pair["into"]
        places = f"{_places(ask, 'second')} {{{into}}}"
        two = self.second.use(places, rng, language, {into: Given(value, "")})
        words = {f"first_{key}": word for key, word in one.words.items()}
        words |= {f"second_{key}": word for key, word in two.words.items()}
        words["value"] = as_text(value)
        answers = [_flat(each) for each in self.pair["answers" + suffix]]
        known = [each for each in answers if set(re.findall(r"\{(\w+)\}", each)) <= set(words)]
        return Step(
            fill(_flat(ask), words),
            one,
            two,
            fill(rng.choice(known), words) if known else f"{one.answer} {two.answer}",
        )


def draw(rng: random.Random, others: Sequence[Skill], language: Language) -> Linked:
    """A pair, and of the other tools those that neither replaces."""
    pair = rng.choice(pairs())
    by_id = _domains_by_id()
    while True:
        first, second = (Skill(by_id[pair[key]], rng, language) for key in ("first", "second"))
        if first.spec.name != second.spec.name:
            break
    taken = {first.spec.name, second.spec.name}
    ids = {pair["first"], pair["second"]}
    rest = [s for s in others if s.spec.name not in taken and s.domain.get("id") not in ids]
    skills = [first, second, *rest[: rng.randint(0, _MOST - 2)]]
    rng.shuffle(skills)
    return Linked(pair, first, second, skills)


@cache
def pairs() -> Sequence[Mapping[str, Any]]:
    """All that chains.toml holds."""
    text = Path(__file__).with_name("chains.toml").read_text("utf-8")
    chains: Sequence[Mapping[str, Any]] = tomllib.loads(text)["chain"]
    return chains


@cache
def _domains_by_id() -> Mapping[str, Mapping[str, Any]]:
    return {str(domain["id"]): domain for domain in domains()}


def _places(ask: str, which: str) -> str:
    return " ".join(f"{{{key}}}" for part, key in _PLACE.findall(ask) if part == which)


def _flat(text: str) -> str:
    """`{first.name}` as `{first_name}`, which `fill` knows."""
    return _PLACE.sub(r"{\1_\2}", text)
