"""The families that ship with the engine, and which of them a model is.

Knows models/*.toml as a folder, and detection. Does not know what a family is for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

from engine.errors import UsageError
from engine.family_file import read_profile
from engine.profile import Profile
from engine.resources import resource_files
from engine.vocab import Vocab

GENERIC: Final = "generic"


@dataclass(frozen=True, slots=True)
class Detection:
    """Which family a model is taken for, and why."""

    profile: Profile
    reason: str


@cache
def profiles() -> Mapping[str, Profile]:
    """All families that ship with the engine, by name."""
    files = sorted(path for path in resource_files("models") if path.suffix == ".toml")
    return {path.stem: read_profile(path) for path in files}


def profile(name: str) -> Profile:
    """One family by name. Raises UsageError naming those there are."""
    known = profiles()
    if name not in known:
        raise UsageError(f"unknown model family {name!r}; known are {', '.join(known)}")
    return known[name]


def detect(
    vocab: Vocab, template: str | None, candidates: Iterable[Profile] | None = None
) -> Detection:
    """Which family a vocabulary and a chat template belong to.

    Every token that a profile names must be in the vocabulary and every text in the template
    (where there is one); of several that fit, the one with more evidence wins.
    """
    fitting: list[tuple[int, Profile, list[str]]] = []
    for item in profiles().values() if candidates is None else candidates:
        if not item.tokens and not item.template_marks:
            continue
        if any(vocab.find(text) is None for text in item.tokens):
            continue
        if template is not None and any(mark not in template for mark in item.template_marks):
            continue
        if template is not None and any(mark in template for mark in item.not_in_template):
            continue
        evidence = [*item.tokens, *(item.template_marks if template is not None else ())]
        fitting.append((len(evidence), item, evidence))
    if not fitting:
        return Detection(profile(GENERIC), "no known family's tokens and template marks are there")
    _, best, evidence = max(fitting, key=lambda entry: entry[0])
    return Detection(best, "has " + ", ".join(dict.fromkeys(evidence)))
