"""Signed files: what was not written whole, by this user, under this label, is not read."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from engine.errors import StorageError
from engine.signed import Signer

LABEL = b"test 1\n"
CONTENT = bytes(range(200))


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    return Signer(tmp_path / "data" / "key")


@pytest.fixture
def path(signer: Signer, tmp_path: Path) -> Path:
    signer.write(tmp_path / "files" / "one", LABEL, [CONTENT[:50], CONTENT[50:]])
    return tmp_path / "files" / "one"


def read(signer: Signer, path: Path, label: bytes = LABEL, max_bytes: int = 10**6) -> bytes:
    return bytes(signer.read(path, label, max_bytes=max_bytes))


def refusal(signer: Signer, path: Path, **more: object) -> str:
    with pytest.raises(StorageError) as caught:
        read(signer, path, **more)  # type: ignore[arg-type]
    assert caught.value.path == str(path)
    return str(caught.value.reason)


def test_what_was_written_is_read_and_only_its_owner_may(signer, path, tmp_path):
    assert read(signer, path) == CONTENT
    assert read(Signer(tmp_path / "data" / "key"), path) == CONTENT, "the next process's"
    for file in (path, signer.key_file):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert [file.name for file in path.parent.iterdir()] == ["one"]


def test_every_truncation_is_refused(signer, path):
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert refusal(signer, path) in ("size", "signature")


def test_every_changed_byte_is_refused(signer, path):
    whole = path.read_bytes()
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1 << place % 8
        path.write_bytes(changed)
        assert refusal(signer, path) == "signature"


def test_another_label_key_or_place_in_the_file_is_refused(signer, path, tmp_path):
    assert refusal(signer, path, label=b"test 2\n") == "signature"
    assert refusal(Signer(tmp_path / "other"), path) == "signature"
    assert refusal(signer, path, max_bytes=len(CONTENT)) == "size"
    path.write_bytes(path.read_bytes() + b"x")
    assert refusal(signer, path) == "signature"


@pytest.mark.parametrize("what", ["link", "pipe", "folder", "nothing"])
def test_what_is_no_plain_file_is_refused_and_never_waited_for(what, signer, path):
    target = path.with_name("target")
    path.rename(target)
    if what == "link":
        path.symlink_to(target)
    elif what == "pipe":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    assert refusal(signer, path) == ("missing" if what == "nothing" else "unreadable")


@pytest.mark.parametrize("damage", ["readable", "short", "link"])
def test_a_key_that_others_may_know_is_not_used(damage, signer, path):
    if damage == "readable":
        signer.key_file.chmod(0o644)
    elif damage == "short":
        signer.key_file.write_bytes(b"x" * 31)
    else:
        moved = signer.key_file.rename(signer.key_file.with_name("moved"))
        signer.key_file.symlink_to(moved)
    with pytest.raises(StorageError, match=str(signer.key_file)):
        read(signer, path)
    with pytest.raises(StorageError, match=str(signer.key_file)):
        signer.write(path, LABEL, [b"new"])


def test_a_write_that_is_broken_off_leaves_the_old_file_and_nothing_else(signer, path):
    def parts():
        yield b"new"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        signer.write(path, LABEL, parts())
    assert read(signer, path) == CONTENT
    assert len(list(path.parent.iterdir())) == 1


def test_a_folder_that_can_t_be_written_is_an_error_with_its_name(signer, path):
    with pytest.raises(StorageError, match="one/under"):
        signer.write(path / "under", LABEL, [b"x"])


def test_processes_that_start_at_once_agree_on_one_key(tmp_path):
    """Threads stand for processes: each has its own Signer, and only the file in common."""
    barrier, seen = threading.Barrier(8), []

    def start(number: int) -> None:
        mine = Signer(tmp_path / "data" / "key")
        barrier.wait()
        mine.write(tmp_path / f"file{number}", LABEL, [b"%d" % number])
        seen.append(number)

    threads = [threading.Thread(target=start, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == list(range(8))
    signer = Signer(tmp_path / "data" / "key")
    assert [read(signer, tmp_path / f"file{n}") for n in range(8)] == [b"%d" % n for n in range(8)]
    assert [file.name for file in (tmp_path / "data").iterdir()] == ["key"]
