"""What a repository of the Hugging Face hub holds, and which of it a person means.

Knows names of repositories, files and quantisations. Does not know the network.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from engine.errors import ModelNotFound, UsageError
from engine.gguf import split_parts_of
from engine.store.places import is_companion, quantisation_in_name

# Without a wish, the first of these that a repository has.
PREFERRED = ("Q4_K_M", "Q4_K_S", "IQ4_XS", "Q4_0", "Q5_K_M", "MXFP4", "Q8_0")
_REPOSITORY = re.compile(r"^[\w][\w.-]*/[\w][\w.-]*$")


@dataclass(frozen=True, slots=True)
class Reference:
    """What a person asked for: `ORG/REPO`, with a quantisation or file, at a revision."""

    repository: str
    wanted: str = ""
    revision: str = "main"


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """`sha256` is None for a file that the hub keeps in git itself."""

    name: str
    size: int
    sha256: str | None


@dataclass(frozen=True, slots=True)
class Variant:
    """One model of a repository: one file, or all parts of a split one."""

    quantisation: str
    files: tuple[RemoteFile, ...]

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def label(self) -> str:
        return self.quantisation or self.files[0].name


def parse_reference(text: str) -> Reference:
    """Read `ORG/REPO[@REVISION][:QUANT | /FILE.gguf]` or an address of the hub."""
    rest = text.strip()
    for prefix in (os.environ.get("HF_ENDPOINT", "").rstrip("/"), "https://huggingface.co"):
        rest = rest.removeprefix(prefix + "/") if prefix else rest
    rest = rest.removeprefix("https://hf.co/").removeprefix("hf.co/").removeprefix("hf:")
    if match := re.match(r"^([^/]+/[^/]+)/(?:blob|resolve|tree)/([^/?]+)/?([^?]*)", rest):
        repository, revision, wanted = match[1], unquote(match[2]), unquote(match[3])
    else:
        parts = rest.split("/", 2)
        head, wanted = "/".join(parts[:2]), parts[2] if len(parts) == 3 else ""
        if not wanted:
            head, _, wanted = head.partition(":")
        repository, _, revision = head.partition("@")
    if not _REPOSITORY.match(repository) or ".." in repository or "--" in repository:
        raise UsageError(
            f"{text[:200]!a} names no repository; write ORG/REPO or ORG/REPO:QUANT, "
            "such as bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_K_M",
            name=text,
        )
    return Reference(repository, wanted, revision or "main")


def variants_of(files: Iterable[RemoteFile]) -> list[Variant]:
    """The models among a repository's files, smallest first: parts together, no projectors."""
    groups: dict[str, list[RemoteFile]] = {}
    for file in files:
        folder, _, name = file.name.rpartition("/")
        if name.lower().endswith(".gguf") and not is_companion(name):
            split = split_parts_of(Path(file.name))
            key = f"{folder}/{split[0]}-of-{split[2]}" if split else file.name
            groups.setdefault(key, []).append(file)
    variants = [
        Variant(
            quantisation_in_name(group[0].name.rpartition("/")[2])
            or quantisation_in_name(key.rpartition("/")[0]),
            tuple(sorted(group, key=lambda file: file.name)),
        )
        for key, group in groups.items()
    ]
    return sorted(variants, key=lambda variant: variant.size)


def choose(reference: Reference, variants: Sequence[Variant]) -> Variant:
    """The variant that the reference names; without a name the only one, else the best known."""
    wanted = reference.wanted.casefold()
    if wanted.endswith(".gguf"):
        matches = [v for v in variants if any(wanted in _file_names(file) for file in v.files)]
    elif wanted:
        matches = [v for v in variants if v.quantisation.casefold() == wanted]
    elif len(variants) == 1:
        return variants[0]
    else:
        present = {v.quantisation for v in variants}
        best = next((name for name in PREFERRED if name in present), None)
        matches = [v for v in variants if best is not None and v.quantisation == best]
    if len(matches) == 1:
        return matches[0]
    repository = reference.repository
    if matches:
        names = ", ".join(v.files[0].name for v in matches)
        raise ModelNotFound(
            f"{repository} has {len(matches)} models of {matches[0].label}: {names}; "
            f"name one as {repository}/FILE",
            name=repository,
            available=[v.files[0].name for v in matches],
        )
    labels = [v.label for v in variants]
    what = f"no {reference.wanted}" if wanted else "several models, none of a common quantisation"
    raise ModelNotFound(
        f"{repository} has {what}; it has {', '.join(labels)}; write {repository}:{labels[0]}",
        name=repository,
        available=labels,
    )


def _file_names(file: RemoteFile) -> tuple[str, str]:
    return file.name.casefold(), file.name.rpartition("/")[2].casefold()
