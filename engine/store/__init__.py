"""Find a model by name in the places where other programs keep theirs. Read only.

Knows names and folders. Does not read headers and does not download.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from engine.errors import ModelError, ModelNotFound, UsageError
from engine.store.places import PREFIXES, Place, StoredModel, Survey, embedded_path, survey

__all__ = ["Place", "StoredModel", "Survey", "find", "list_models", "survey"]

_EXPLICIT = re.compile(r"^(?:[./~\\]|[A-Za-z]:[\\/])")
_SEPARATORS = re.compile(r"[^\w.]+|_")


def list_models() -> list[StoredModel]:
    """Every model in every store, sorted by source and name; split models once."""
    return list(survey().models)


def find(name: str | None) -> Path:
    """The file that a person means: a path, or a name in a store; None is the embedded model.

    Names need not be whole: `qwen2.5 7b` finds `Qwen/Qwen2.5-7B-Instruct-GGUF:Q4_K_M` as long as
    nothing else fits. `hf:`, `ollama:`, `lmstudio:`, `pypi:`, `folder:` or `embedded:` in front
    narrow it down.
    Raises ModelNotFound with the nearest names, ModelError with the candidates when several fit.
    """
    if name is None:
        return embedded_path()
    if not name.strip():
        raise UsageError("the model's name is empty; give a path or a name (`engine models`)")
    path = Path(os.path.expanduser(name))  # leaves `~nobody` as it is where Path.expanduser raises
    if os.path.isfile(path):
        return path
    if _EXPLICIT.match(name):
        return _no_such_path(name, path)
    found = survey()
    prefix, rest = _split_prefix(name)
    models = [m for m in found.models if prefix is None or m.source == PREFIXES[prefix]]
    # The embedded model answers to its whole name only: nobody means it by half a word.
    others = [m for m in models if m.source != "embedded" or prefix is not None]
    for matches in (_exact(models, rest), _fuzzy(others, rest)):
        distinct = _distinct(matches)
        if len(distinct) == 1:
            return distinct[0].path
        if distinct:
            raise _ambiguous(name, distinct)
    if os.path.isdir(path):
        return _no_such_path(name, path)
    raise _not_found(name, rest, models, found)


def _split_prefix(name: str) -> tuple[str | None, str]:
    head, colon, rest = name.partition(":")
    return (head.casefold(), rest) if colon and head.casefold() in PREFIXES else (None, name)


def _exact(models: Iterable[StoredModel], name: str) -> list[StoredModel]:
    wanted = name.casefold()
    return [m for m in models if wanted in (alias.casefold() for alias in (m.name, *m.aliases))]


def _fuzzy(models: Iterable[StoredModel], name: str) -> list[StoredModel]:
    """Models one of whose names holds every word of `name`, each from a word's beginning on."""
    words = [_from_a_beginning(w) for w in _SEPARATORS.split(name.casefold()) if w]
    return [
        model
        for model in models
        if words
        and any(
            all(word.search(alias.casefold()) for word in words)
            for alias in (model.name, *model.aliases)
        )
    ]


def _from_a_beginning(word: str) -> re.Pattern[str]:
    """`7b` begins a word of `qwen2.5-7b` and `3.2` one of `llama3.2`; `lama` begins none."""
    before = r"(?<![\d.])" if word[0].isdigit() else r"(?<![^\W\d_])"
    return re.compile(before + re.escape(word))


def _distinct(models: Sequence[StoredModel]) -> list[StoredModel]:
    """One of each: the same file name and size in two stores is the same model."""
    seen: dict[tuple[str, int], StoredModel] = {}
    for model in models:
        seen.setdefault((model.file_name.casefold(), model.size), model)
    return list(seen.values())


def _ambiguous(name: str, models: Sequence[StoredModel]) -> ModelError:
    names = sorted(f"{model.prefix}:{model.name}" for model in models)
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    return ModelError(
        f"{name!r} fits {len(names)} models: {shown}; name one of them", name=name, candidates=names
    )


def _not_found(
    name: str, wanted: str, models: Sequence[StoredModel], found: Survey
) -> ModelNotFound:
    aliases = {alias.casefold(): m for m in models for alias in (m.name, *m.aliases)}
    near = difflib.get_close_matches(wanted.casefold(), list(aliases), n=4, cutoff=0.5)
    names = list(dict.fromkeys(aliases[alias].name for alias in near))[:3]
    guess = f"; did you mean {' or '.join(repr(item) for item in names)}?" if names else ""
    present = [place for place in found.looked_in if place.exists]
    places = ", ".join(f"{place.source} ({place.path})" for place in present)
    looked = f"looked for a file of that name and in {places}" if places else "no store is here"
    return ModelNotFound(
        f"no model answers to {name!r}{guess or ';'} {looked}; `engine models` lists what is here, "
        "`engine pull ORG/REPO:QUANT` downloads",
        name=name,
        looked_in=[str(place.path) for place in found.looked_in],
        suggestions=names,
    )


def _no_such_path(name: str, path: Path) -> Path:
    if os.path.isdir(path):
        inside = sorted(item.name for item in path.glob("*.gguf"))[:3]
        hint = f"name a file in it: {', '.join(inside)}" if inside else "there is no .gguf in it"
        raise ModelNotFound(f"{name}: is a directory; {hint}", name=name, looked_in=[str(path)])
    raise ModelNotFound(f"{name}: no such file", name=name, looked_in=[str(path.parent)])
