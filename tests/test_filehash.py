"""Hashes of models: right always, computed once for a file that stays as it is."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from engine.errors import Cancelled, StorageError
from engine.filehash import FileHashes
from engine.signed import Signer

OLD = 1_000_000_000


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"weights" * 1000)
    return path


@pytest.fixture
def hashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FileHashes:
    """The clock stands long after the files were written."""
    monkeypatch.setattr("time.time_ns", lambda: 2**62)
    return FileHashes(tmp_path / "hashes", Signer(tmp_path / "key"))


def reads(hashes: FileHashes, *files: Path) -> tuple[str, int]:
    """The hash, and how often the reader said how far it is: never where nothing was read."""
    told = []
    digest = hashes.sha256(files, on_progress=lambda share: told.append(share) or True)
    return digest, len(told)


def test_the_hash_is_sha_256_and_the_file_is_read_once(hashes, model):
    expected = hashlib.sha256(model.read_bytes()).hexdigest()
    assert reads(hashes, model) == (expected, 1)
    assert reads(hashes, model) == (expected, 0)


def test_parts_have_one_hash_in_their_order(hashes, model, tmp_path):
    other = tmp_path / "part2"
    other.write_bytes(b"more")
    both, count = reads(hashes, model, other)
    assert count == 2
    assert reads(hashes, model, other) == (both, 0)
    assert reads(hashes, other, model)[0] != both != reads(hashes, model)[0]


def test_a_file_changed_in_place_with_its_size_and_time_set_back_is_read_again(hashes, model):
    before, status = reads(hashes, model), model.stat()
    with model.open("r+b") as file:
        file.write(b"WEIGHTS")
    os.utime(model, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert model.stat().st_mtime_ns == status.st_mtime_ns
    after = reads(hashes, model)
    assert after == (hashlib.sha256(model.read_bytes()).hexdigest(), 1) != before


def test_a_file_that_may_still_change_is_not_remembered(hashes, model, monkeypatch):
    monkeypatch.setattr("time.time_ns", lambda: model.stat().st_mtime_ns)
    assert reads(hashes, model)[1] == reads(hashes, model)[1] == 1


@pytest.mark.parametrize("damage", ["forged", "cut", "key"])
def test_a_list_that_someone_else_wrote_is_not_believed(damage, hashes, model, tmp_path):
    right, _ = reads(hashes, model)
    listed = hashes.path.read_bytes()
    if damage == "forged":
        hashes.path.write_bytes(listed.replace(right.encode(), b"0" * 64))
    elif damage == "cut":
        hashes.path.write_bytes(listed[:-1])
    else:
        forger = FileHashes(hashes.path, Signer(tmp_path / "their key"))
        forger.signer.write(hashes.path, b"engine file hashes 1\n", [b"{}"])
    assert reads(hashes, model) == (right, 1)


def test_a_list_that_can_t_be_written_costs_time_and_nothing_else(model, tmp_path):
    hashes = FileHashes(model / "under a file", Signer(tmp_path / "key"))
    assert reads(hashes, model)[0] == hashlib.sha256(model.read_bytes()).hexdigest()


def test_a_missing_file_is_named_and_reading_can_be_stopped(hashes, model, tmp_path):
    with pytest.raises(StorageError, match="gone"):
        hashes.sha256([tmp_path / "gone"])
    with pytest.raises(Cancelled, match=r"model\.gguf was stopped"):
        hashes.sha256([model], on_progress=lambda share: False)
