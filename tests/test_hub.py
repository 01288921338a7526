"""`engine pull` against a hub of our own: whole files, broken connections, refusals."""

from __future__ import annotations

import hashlib
import json
import os
import random
from pathlib import Path

import pytest
from fake_hub import COMMIT, FakeHub

from engine import hub
from engine.errors import ModelError, ModelNotFound, StorageError, UsageError
from engine.repository import Reference, RemoteFile, choose, parse_reference, variants_of
from engine.store import find, list_models

DATA = random.Random(5).randbytes(3_000_000)
NAME = "Tiny-Q4_K_M.gguf"


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """A hub with one file, and a cache of its own."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "OLLAMA_MODELS", "ENGINE_MODELS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(hub, "_pause", lambda seconds: None)
    with FakeHub(files={NAME: DATA, "README.md": b"# Tiny"}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        yield server


class Interrupted(Exception):
    pass


def interrupt_after(size: int):
    def progress(name: str, done: int, total: int) -> None:
        if done >= size:
            raise KeyboardInterrupt

    return progress


def test_a_pulled_file_is_whole_and_where_the_cache_has_it(fake, tmp_path):
    seen = []
    pulled = hub.pull("org/Tiny-GGUF:q4_k_m", progress=lambda *args: seen.append(args))
    folder = tmp_path / "cache" / "models--org--Tiny-GGUF"
    assert pulled.path == folder / "snapshots" / COMMIT / NAME
    assert pulled.path.read_bytes() == DATA
    assert pulled.fetched == len(DATA) and pulled.commit == COMMIT
    assert [p.name for p in (folder / "blobs").iterdir()] == [hashlib.sha256(DATA).hexdigest()]
    assert (folder / "refs" / "main").read_text() == COMMIT
    assert seen[0] == (NAME, 0, len(DATA)) and seen[-1] == (NAME, len(DATA), len(DATA))
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)


def test_a_pulled_model_is_found_by_its_name(fake):
    path = hub.pull("org/Tiny-GGUF").path
    assert find("org/Tiny-GGUF:Q4_K_M") == find("hf:tiny") == path
    assert [m.source for m in list_models() if m.path == path] == ["Hugging Face cache"]


def test_a_file_that_is_there_is_not_fetched_again(fake):
    first = hub.pull("org/Tiny-GGUF")
    again = hub.pull("org/Tiny-GGUF")
    assert again.path == first.path and again.fetched == 0
    assert len(fake.transfers) == 1


def test_an_interrupted_download_goes_on_where_it_stopped(fake, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        hub.pull("org/Tiny-GGUF", progress=interrupt_after(1_500_000))
    (partial,) = (tmp_path / "cache").glob("*/blobs/*")
    kept = partial.stat().st_size
    assert 1_500_000 <= kept < len(DATA)
    assert {m.source for m in list_models()} <= {"embedded", "Python package"}
    pulled = hub.pull("org/Tiny-GGUF")
    assert pulled.path.read_bytes() == DATA
    assert fake.transfers[-1].range == f"bytes={kept}-"
    assert pulled.fetched == len(DATA) - kept
    assert not partial.exists()


def test_a_broken_connection_is_taken_up_again(fake):
    fake.break_after = [1_000_000, 500_000, 0, 0]
    assert hub.pull("org/Tiny-GGUF").path.read_bytes() == DATA
    starts = [int((r.range or "bytes=0-")[6:-1]) for r in fake.transfers]
    assert len(starts) == 5 and starts == sorted(starts) and starts[-1] > 1_000_000


def test_a_connection_that_never_moves_on_is_given_up(fake):
    fake.break_after = [1_200_000] + [0] * 50
    with pytest.raises(ModelError, match="can't be reached") as caught:
        hub.pull("org/Tiny-GGUF")
    assert "kept" in caught.value.message
    assert len(fake.transfers) == 1 + hub.RETRIES
    fake.break_after = []
    assert hub.pull("org/Tiny-GGUF").fetched < len(DATA)


def test_storage_that_is_busy_is_asked_again(fake):
    fake.storage_status = [503, 429, 200]
    assert hub.pull("org/Tiny-GGUF").path.read_bytes() == DATA


def test_storage_that_refuses_is_not(fake):
    fake.storage_status = [403] * 9
    with pytest.raises(ModelError, match="403"):
        hub.pull("org/Tiny-GGUF")
    assert len(fake.transfers) == 1


def test_a_server_without_ranges_sends_all_again(fake):
    with pytest.raises(KeyboardInterrupt):
        hub.pull("org/Tiny-GGUF", progress=interrupt_after(1_500_000))
    fake.ignores_range = True
    pulled = hub.pull("org/Tiny-GGUF")
    assert pulled.path.read_bytes() == DATA and pulled.fetched == len(DATA)


def test_a_wrong_hash_deletes_the_download(fake, tmp_path):
    fake.corrupt = True
    with pytest.raises(ModelError, match="sha256") as caught:
        hub.pull("org/Tiny-GGUF")
    assert caught.value.expected == hashlib.sha256(DATA).hexdigest() != caught.value.found
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.is_file() and p.suffix != ".lock"]
    fake.corrupt = False
    assert hub.pull("org/Tiny-GGUF").path.read_bytes() == DATA


def test_a_partial_file_of_garbage_is_caught_by_the_hash(fake, tmp_path):
    blobs = tmp_path / "cache" / "models--org--Tiny-GGUF" / "blobs"
    blobs.mkdir(parents=True)
    partial = blobs / f"{hashlib.sha256(DATA).hexdigest()}.engine.incomplete"
    partial.write_bytes(bytes(1000))
    with pytest.raises(ModelError, match="sha256"):
        hub.pull("org/Tiny-GGUF")
    partial.write_bytes(bytes(len(DATA) + 1))
    assert hub.pull("org/Tiny-GGUF").path.read_bytes() == DATA


def test_a_token_goes_to_the_hub_and_not_to_its_storage(fake, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.pull("org/Tiny-GGUF")
    for request in fake.requests:
        expected = None if request.path.startswith("/storage/") else "Bearer hf_secret"
        assert request.token == expected, request


REFUSALS = {
    "missing repository": (
        {"status": 404, "error_code": "RepoNotFound"},
        ModelNotFound,
        "spelling",
    ),
    "private repository": ({"status": 401}, ModelNotFound, "HF_TOKEN"),
    "gated repository": ({"gated": True}, ModelError, "accept its terms"),
    "rejected token": ({"status": 401, "token": "hf_old"}, ModelError, "renew the token"),
    "forbidden": ({"status": 403}, ModelError, "403"),
    "server down": ({"status": 503}, ModelError, "try again later"),
    "no GGUF": ({"files": {"model.safetensors": b"x"}}, ModelNotFound, "no GGUF file"),
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_refusals_are_typed_and_say_what_to_do(kind, fake, monkeypatch):
    changes, error, expected = REFUSALS[kind]
    for name, value in changes.items():
        if name == "token":
            monkeypatch.setenv("HF_TOKEN", value)
        setattr(fake, name, value)
    with pytest.raises(error, match=expected) as caught:
        hub.pull("org/Tiny-GGUF")
    assert "\n" not in caught.value.message and caught.value.exit_code == 3


def test_an_unknown_revision_is_named(fake):
    with pytest.raises(ModelNotFound, match="no revision 'v9'"):
        hub.pull("org/Tiny-GGUF@v9")


def test_no_connection_is_a_typed_error(fake, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelError, match="can't be reached"):
        hub.pull("org/Tiny-GGUF")


def test_offline_mode_is_obeyed(fake, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE"):
        hub.pull("org/Tiny-GGUF")
    assert fake.requests == []


def test_a_full_disk_is_found_out_before_the_first_byte(fake, monkeypatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(hub.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(StorageError, match="HF_HUB_CACHE") as caught:
        hub.pull("org/Tiny-GGUF")
    assert (caught.value.need, caught.value.free) == (len(DATA), 1000)
    assert fake.transfers == []


@pytest.mark.skipif(os.name == "nt", reason="needs a folder that can't be written")
def test_a_cache_that_is_a_file_is_a_storage_error(fake, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "file"))
    with pytest.raises(StorageError, match="can't be written"):
        hub.pull("org/Tiny-GGUF")


def test_all_parts_of_a_split_model_are_pulled(fake):
    parts = {f"Q8_0/Tiny-Q8_0-{n:05d}-of-00003.gguf": DATA[: n * 1000] for n in (1, 2, 3)}
    fake.files = {NAME: DATA} | parts
    pulled = hub.pull("org/Tiny-GGUF:Q8_0")
    assert pulled.path.name == "Tiny-Q8_0-00001-of-00003.gguf"
    for name, data in parts.items():
        assert (pulled.path.parent.parent / name).read_bytes() == data
    del fake.files["Q8_0/Tiny-Q8_0-00002-of-00003.gguf"]
    with pytest.raises(ModelError, match="2 of the 3 parts"):
        hub.pull("org/Tiny-GGUF:Q8_0")


def test_xet_is_neither_asked_for_nor_needed(fake, monkeypatch):
    monkeypatch.setattr("huggingface_hub.file_download.xet_get", None)
    hub.pull("org/Tiny-GGUF")
    assert not any("xet" in request.path for request in fake.requests)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("org/repo", Reference("org/repo")),
        ("org/repo:Q4_K_M", Reference("org/repo", "Q4_K_M")),
        ("hf:org/repo:q8_0", Reference("org/repo", "q8_0")),
        ("hf.co/org/repo:q8_0", Reference("org/repo", "q8_0")),
        ("org/repo@v1:Q4_0", Reference("org/repo", "Q4_0", "v1")),
        ("org/repo/a-Q8_0.gguf", Reference("org/repo", "a-Q8_0.gguf")),
        ("org/repo/sub/a.gguf", Reference("org/repo", "sub/a.gguf")),
        ("https://huggingface.co/org/repo", Reference("org/repo")),
        ("https://huggingface.co/org/repo/tree/main", Reference("org/repo")),
        (
            "https://huggingface.co/org/repo/blob/v1/sub/a.gguf?download=true",
            Reference("org/repo", "sub/a.gguf", "v1"),
        ),
    ],
)
def test_references_are_read_as_people_write_them(text, expected, monkeypatch):
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    assert parse_reference(text) == expected


@pytest.mark.parametrize("text", ["", "repo", "../x", "a/..", "a b/c", "org--x/y", "/a/b", "a/\0"])
def test_what_names_no_repository_is_refused(text):
    with pytest.raises(UsageError, match="ORG/REPO"):
        parse_reference(text)


def files(*names: str) -> list[RemoteFile]:
    return [RemoteFile(name, 100 + len(name), None) for name in names]


@pytest.mark.parametrize(
    "wanted, names, chosen",
    [
        ("", ["a.gguf"], "a.gguf"),
        ("", ["a-Q8_0.gguf", "a-Q4_K_M.gguf", "mmproj-F16.gguf"], "a-Q4_K_M.gguf"),
        ("", ["a-Q8_0.gguf", "a-IQ4_XS.gguf", "a-Q2_K.gguf"], "a-IQ4_XS.gguf"),
        ("q8_0", ["a-Q8_0.gguf", "a-Q4_K_M.gguf"], "a-Q8_0.gguf"),
        ("f16", ["a-Q8_0.gguf", "a.f16.gguf"], "a.f16.gguf"),
        ("A-Q8_0.gguf", ["a-Q8_0.gguf", "sub/b-Q8_0.gguf"], "a-Q8_0.gguf"),
        ("b-q8_0.gguf", ["a-Q8_0.gguf", "sub/b-Q8_0.gguf"], "sub/b-Q8_0.gguf"),
        ("BF16", ["a-Q8_0.gguf", "BF16/a-00001-of-00001.gguf"], "BF16/a-00001-of-00001.gguf"),
    ],
)
def test_the_right_file_is_chosen(wanted, names, chosen):
    variant = choose(Reference("org/repo", wanted), variants_of(files(*names)))
    assert variant.files[0].name == chosen


@pytest.mark.parametrize(
    "wanted, names, available",
    [
        ("Q5_K_M", ["a-Q8_0.gguf", "a-Q4_K_M.gguf"], ["Q8_0", "Q4_K_M"]),
        ("", ["a-Q2_K.gguf", "a-IQ1_S.gguf"], ["Q2_K", "IQ1_S"]),
        ("Q8_0", ["a-Q8_0.gguf", "b2-Q8_0.gguf"], ["a-Q8_0.gguf", "b2-Q8_0.gguf"]),
        ("x.gguf", ["a-Q8_0.gguf", "b.gguf"], ["b.gguf", "Q8_0"]),
    ],
)
def test_a_wish_that_cannot_be_met_lists_what_exists(wanted, names, available):
    with pytest.raises(ModelNotFound) as caught:
        choose(Reference("org/repo", wanted), variants_of(files(*names)))
    assert caught.value.available == available
    assert all(name in caught.value.message for name in available)


def test_a_hub_that_gives_no_commit_is_no_hub(fake, monkeypatch):
    monkeypatch.setattr(
        FakeHub, "listing", lambda self: json.dumps({"id": "x", "siblings": []}).encode()
    )
    with pytest.raises(ModelError, match="does not answer like"):
        hub.pull("org/Tiny-GGUF")


def test_a_hostile_file_name_stays_inside_the_cache(fake, tmp_path):
    fake.files = {"../../../evil-Q4_K_M.gguf": DATA}
    with pytest.raises((ModelError, StorageError)):
        hub.pull("org/Tiny-GGUF")
    assert not list(Path(tmp_path).rglob("evil*"))
