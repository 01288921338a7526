"""Download models from the Hugging Face hub into its own cache.

Knows repositories, quantisations and how to resume and verify a file. Does not know what is in the
file. The only importer of huggingface_hub, whose client, cache layout and tokens it uses; the
transfer itself is ours, because hf_hub_download starts a broken-off file anew.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from huggingface_hub import (
    HfApi,
    constants,
    get_hf_file_metadata,
    get_token,
    hf_hub_download,
    hf_hub_url,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import (  # type: ignore[attr-defined]
    WeakFileLock,
    build_hf_headers,
    hf_raise_for_status,
    http_stream_backoff,
)

from engine.errors import EngineError, ModelError, ModelNotFound, StorageError
from engine.gguf import split_parts_of
from engine.repository import Reference, RemoteFile, Variant, choose, parse_reference, variants_of
from engine.store.places import hugging_face_cache

LARGEST_FILE = 50 * 1000**3  # the hub serves larger ones by its xet protocol only
RETRIES = 5  # without a byte between them
_BUSY = (408, 429, 500, 502, 503, 504)
_CHUNK = 1 << 20
_TIMEOUT = 30.0

# The HTTP library's base error, whichever library this version of huggingface_hub stands on.
_NETWORK_ERROR: type[Exception] = HfHubHTTPError.__mro__[1]

Progress = Callable[[str, int, int], None]  # file name, bytes on disk, bytes in all

_HASH = re.compile(r"^[0-9a-f]{40}(?:[0-9a-f]{24})?$")


@dataclass(frozen=True, slots=True)
class Pulled:
    """A model on disk. `fetched` counts the bytes that came over the network this time."""

    path: Path
    repository: str
    commit: str
    variant: Variant
    fetched: int


def pull(
    reference: Reference | str,
    *,
    progress: Progress | None = None,
    cache: Path | None = None,
) -> Pulled:
    """Download a model, verify its hash, and put it where the cache has it.

    An interrupted download goes on where it stopped when it is asked for again. Raises
    ModelNotFound, ModelError (access, network, wrong hash) or StorageError (disk).
    """
    if isinstance(reference, str):
        reference = parse_reference(reference)
    commit, variants = list_variants(reference)
    variant = choose(reference, variants)
    download = _Download(reference, commit, cache or hugging_face_cache(), progress)
    split = split_parts_of(Path(variant.files[0].name))
    if split and split[2] != len(variant.files):
        raise ModelError(
            f"{reference.repository} holds {len(variant.files)} of the {split[2]} parts of "
            f"{variant.label}; pull another quantisation or from another repository",
            name=reference.repository,
        )
    for file in variant.files:
        if file.size > LARGEST_FILE:
            raise ModelError(
                f"{file.name} has {file.size / 1e9:.0f} GB, the hub serves at most "
                f"{LARGEST_FILE / 1e9:.0f} GB this way; run `hf download {reference.repository} "
                f"{file.name}`, engine finds it in the cache",
                name=file.name,
            )
    download.check_space(variant)
    paths = [download.file(file) for file in variant.files]
    return Pulled(paths[0], reference.repository, commit, variant, download.fetched)


def list_variants(reference: Reference) -> tuple[str, list[Variant]]:
    """The commit and the models that a repository holds, smallest first."""
    with _typed_errors(reference):
        info = HfApi(endpoint=_endpoint()).model_info(
            reference.repository,
            revision=None if reference.revision == "main" else reference.revision,
            files_metadata=True,
            timeout=_TIMEOUT,
        )
    if not _HASH.match(info.sha or ""):
        raise ModelError(f"{_endpoint()} does not answer like the Hugging Face hub (no commit)")
    variants = variants_of(
        RemoteFile(item.rfilename, item.size or 0, item.lfs.sha256 if item.lfs else None)
        for item in info.siblings or ()
    )
    if not variants:
        raise ModelNotFound(
            f"{reference.repository} holds no GGUF file; look for a repository of the same model "
            "whose name ends in -GGUF",
            name=reference.repository,
            looked_in=[_endpoint()],
        )
    return str(info.sha), variants


def _endpoint() -> str:
    return (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")


@contextmanager
def _typed_errors(reference: Reference, name: str = "") -> Iterator[None]:
    """Turn what the hub's client raises into one line of ours."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise ModelError("HF_HUB_OFFLINE is set, so nothing is downloaded; unset it to pull")
    repository = reference.repository
    try:
        yield
    except EngineError:
        raise
    except GatedRepoError as error:
        raise ModelError(
            f"{repository} is gated: accept its terms at {_endpoint()}/{repository}, then log in "
            "with `hf auth login` or set HF_TOKEN",
            name=repository,
        ) from error
    except RepositoryNotFoundError as error:
        raise _not_found(repository) from error
    except RevisionNotFoundError as error:
        raise ModelNotFound(
            f"{repository} has no revision {reference.revision!a}", name=repository
        ) from error
    except EntryNotFoundError as error:
        raise ModelNotFound(f"{repository} has no file {name!a}", name=repository) from error
    except OfflineModeIsEnabled as error:
        raise ModelError("the hub's client is in offline mode; unset HF_HUB_OFFLINE") from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status == 401 and not get_token():  # the hub's answer to strangers for what isn't there
            raise _not_found(repository) from error
        advice = "; renew the token (`hf auth login` or HF_TOKEN)" if status == 401 else ""
        advice = advice or ("; try again later" if status in _BUSY else "")
        raise ModelError(
            f"{_endpoint()} answered {status} for {name or repository}{advice}", status=status
        ) from error
    except (_NETWORK_ERROR, ConnectionError, TimeoutError) as error:
        raise ModelError(
            f"{_endpoint()} can't be reached ({type(error).__name__}); check the connection, or "
            "HF_ENDPOINT; what was downloaded is kept and the next pull goes on there",
            name=repository,
        ) from error


def _not_found(repository: str) -> ModelNotFound:
    return ModelNotFound(
        f"{repository}: no such repository at {_endpoint()}, or it is private; check the "
        "spelling, or log in with `hf auth login` or HF_TOKEN",
        name=repository,
        looked_in=[_endpoint()],
    )


class _Download:
    """The files of one commit on their way into the cache."""

    def __init__(
        self, reference: Reference, commit: str, cache: Path, progress: Progress | None
    ) -> None:
        self.reference = reference
        self.commit = commit
        self.cache = cache
        self.folder = cache / ("models--" + reference.repository.replace("/", "--"))
        self.progress = progress or (lambda name, done, total: None)
        self.fetched = 0

    def check_space(self, variant: Variant) -> None:
        """Refuse before the first byte what will not fit."""
        need = sum(file.size - self.on_disk(file) for file in variant.files)
        folder = next(path for path in (self.cache, *self.cache.parents) if path.exists())
        free = shutil.disk_usage(folder).free
        if need > free:
            raise StorageError(
                f"{variant.label} needs {need / 1e9:.2f} GB more on disk, {folder} has "
                f"{free / 1e9:.2f} GB; free some, or point HF_HUB_CACHE at another disk",
                path=folder,
                need=need,
                free=free,
            )

    def on_disk(self, file: RemoteFile) -> int:
        if self.pointer(file).is_file():
            return file.size
        partial = self.partial(file.sha256) if file.sha256 else None
        return min(partial.stat().st_size, file.size) if partial and partial.is_file() else 0

    def pointer(self, file: RemoteFile) -> Path:
        return self.folder / "snapshots" / self.commit / file.name

    def partial(self, etag: str) -> Path:
        # Not huggingface_hub's own name: it may delete or append to that one.
        return self.folder / "blobs" / f"{etag}.engine.incomplete"

    def file(self, file: RemoteFile) -> Path:
        """Fetch one file unless it is there. The pointer exists only for verified content."""
        pointer = self.pointer(file)
        if pointer.is_file() and pointer.stat().st_size == file.size:
            self.progress(file.name, file.size, file.size)
            return pointer
        with _typed_errors(self.reference, file.name):
            metadata = get_hf_file_metadata(
                hf_hub_url(
                    self.reference.repository,
                    file.name,
                    revision=self.commit,
                    endpoint=_endpoint(),
                ),
                timeout=_TIMEOUT,
            )
        etag = metadata.etag or ""
        if not _HASH.match(etag) or (file.sha256 and etag != file.sha256):
            raise ModelError(
                f"{file.name}: the hub gives two different hashes ({etag[:12]!a} and "
                f"{str(file.sha256)[:12]}); try again later",
                name=file.name,
            )
        headers = build_hf_headers()
        if urlsplit(metadata.location).netloc != urlsplit(_endpoint()).netloc:
            headers.pop("authorization", None)  # a token is for the hub, not for its storage
        headers["Accept-Encoding"] = "identity"
        try:
            self.blob(file, etag, metadata.location, headers)
            return self.link(file)
        except OSError as error:
            if isinstance(error, _NETWORK_ERROR):
                raise
            raise StorageError(
                f"{self.folder}: can't be written: {error.strerror or error}", path=self.folder
            ) from error

    def blob(self, file: RemoteFile, etag: str, url: str, headers: dict[str, str]) -> None:
        blob, partial = self.folder / "blobs" / etag, self.partial(etag)
        lock = self.cache / ".locks" / self.folder.name / f"{etag}.lock"
        for folder in (blob.parent, lock.parent):
            folder.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(lock):
            if blob.is_file() and blob.stat().st_size == file.size:
                return
            with partial.open("ab") as out:
                transfer = _Transfer(out, partial, file, self.progress)
                with _typed_errors(self.reference, file.name):
                    transfer.run(url, headers)
                out.flush()
                os.fsync(out.fileno())
            self.fetched += transfer.fetched
            found = transfer.digest.hexdigest()
            if file.sha256 and found != file.sha256:
                partial.unlink()
                raise ModelError(
                    f"{file.name}: sha256 is {found}, the hub says {file.sha256}; the download "
                    "was deleted, pull it again",
                    name=file.name,
                    expected=file.sha256,
                    found=found,
                )
            os.replace(partial, blob)

    def link(self, file: RemoteFile) -> Path:
        """Let huggingface_hub link the blob into the snapshot, as after its own download."""
        with _typed_errors(self.reference, file.name):
            path = hf_hub_download(
                self.reference.repository,
                file.name,
                revision=self.commit,
                cache_dir=self.cache,
                endpoint=_endpoint(),
            )
        ref = self.folder / "refs" / self.reference.revision
        if not _HASH.match(self.reference.revision) and ".." not in self.reference.revision:
            ref.parent.mkdir(parents=True, exist_ok=True)
            ref.write_text(self.commit, encoding="utf-8")
        return Path(path)


class _Transfer:
    """One file's bytes: appended to what is there, hashed on the way."""

    def __init__(self, out: BinaryIO, path: Path, file: RemoteFile, progress: Progress) -> None:
        self.out = out
        self.file = file
        self.progress = progress
        self.digest = hashlib.sha256()
        self.done = 0
        self.fetched = 0
        with path.open("rb") as existing:
            while chunk := existing.read(_CHUNK):
                self.digest.update(chunk)
                self.done += len(chunk)
        if self.done > file.size:
            self.restart()

    def restart(self) -> None:
        self.out.seek(0)
        self.out.truncate()
        self.digest = hashlib.sha256()
        self.done = 0

    def run(self, url: str, headers: dict[str, str]) -> None:
        """Fetch until all is there; a broken connection is taken up again where it broke."""
        failures = 0
        self.progress(self.file.name, self.done, self.file.size)
        while self.done < self.file.size:
            before = self.done
            try:
                self.stream(url, headers)
            except _NETWORK_ERROR as error:
                status = getattr(getattr(error, "response", None), "status_code", 503)
                failures = 0 if self.done > before else failures + 1
                if failures >= RETRIES or status not in _BUSY:
                    raise
            else:
                # A server that closes early without saying so must not keep us here for ever.
                failures = 0 if self.done > before else failures + 1
                if failures >= RETRIES:
                    raise TimeoutError
            if self.done < self.file.size:
                _pause(min(2.0**failures, 16.0))

    def stream(self, url: str, headers: dict[str, str]) -> None:
        asked = {**headers, "Range": f"bytes={self.done}-"} if self.done else headers
        with http_stream_backoff(
            "GET",
            url,
            headers=asked,
            timeout=_TIMEOUT,
            max_retries=0,
            retry_on_exceptions=(),
            retry_on_status_codes=(),
        ) as response:
            hf_raise_for_status(response)
            if self.done and response.status_code != 206:
                self.restart()  # the server sends the whole file whatever was asked
            # In pieces as they come: a piece size would hold back, and lose, what it waits for.
            for chunk in response.iter_bytes():
                if self.done + len(chunk) > self.file.size:
                    raise ModelError(
                        f"{self.file.name}: the server sends more than the "
                        f"{self.file.size} bytes that it announced; try again later"
                    )
                self.out.write(chunk)
                self.digest.update(chunk)
                self.done += len(chunk)
                self.fetched += len(chunk)
                self.progress(self.file.name, self.done, self.file.size)


_pause = time.sleep
