"""Prefixes on disk: what was saved is restored exactly, and nothing else reaches llama.cpp."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import ScriptedBackend
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.errors import StorageError, UsageError
from engine.prefixes import PrefixStore, Setting, _digest
from engine.sequence import Sequence
from engine.signed import Signer

SETTING = Setting("ab" * 32, "build 1", {"type_k": 1})
IDS = list(range(60, 100))


class Backend(ScriptedBackend):
    """Counts what it is asked to load."""

    def __init__(self) -> None:
        super().__init__(300, n_ctx=200, n_batch=16)
        self.loads = 0

    def load(self, state: bytes | memoryview, *, seq: int = 0) -> None:
        self.loads += 1
        super().load(state, seq=seq)


@pytest.fixture
def backend() -> Backend:
    return Backend()


@pytest.fixture
def store(tmp_path: Path) -> PrefixStore:
    return PrefixStore(tmp_path / "prefixes", tmp_path / "data" / "key", SETTING)


def computed(backend: ScriptedBackend, ids: list[int], slot: int = 0) -> Sequence:
    sequence = Sequence(backend, slot)
    sequence.append(ids, ["template", *["content"] * (len(ids) - 1)])
    return sequence


def saved(backend: ScriptedBackend, store: PrefixStore, ids: list[int] = IDS) -> Path:
    sequence = computed(backend, ids)
    path = store.save(sequence, len(ids), prefill_seconds=2.5)
    sequence.clear()
    return path


def test_the_next_process_has_ids_origins_and_cache_and_computes_nothing(backend, store):
    saved(backend, store)
    other = Backend()
    sequence = Sequence(other, 2)
    restored = store.restore(sequence, [*IDS, 7, 8])
    assert (restored.tokens, restored.prefill_seconds) == (len(IDS), 2.5)
    assert restored.saved_seconds == pytest.approx(2.5 - restored.seconds)
    assert sequence.ids == tuple(IDS) and other.cells[2] == IDS
    assert sequence.origins == ("template", *["content"] * (len(IDS) - 1))
    assert other.computed == [] and sequence.counts.computed == 0
    sequence.append([7, 8], "content")
    assert other.computed == [(40, 7), (41, 8)]


def test_the_longest_prefix_wins_and_another_beginning_is_none(backend, store):
    saved(backend, store, IDS[:20])
    saved(backend, store, IDS)
    sequence = Sequence(backend)
    assert store.longest([*IDS, 1]) == 40
    assert store.restore(sequence, [*IDS, 1]).tokens == 40
    for ids, length in [(IDS[:39], 20), ([*IDS[:25], 1, 2], 20), ([1, *IDS], 0), ([], 0)]:
        sequence.clear()
        assert store.longest(ids) == store.restore(sequence, ids).tokens == length
        assert sequence.ids == tuple(ids[:length])


def test_a_prefix_of_all_ids_needs_a_memory_that_can_be_rewound(backend, store):
    saved(backend, store)
    assert store.restore(Sequence(backend), IDS).tokens == 40
    backend.can_rewind = False
    assert store.restore(Sequence(backend, 1), IDS).tokens == 0
    assert store.restore(Sequence(backend, 1), [*IDS, 1]).tokens == 40


def test_what_is_saved_is_just_the_prefix(backend, store):
    sequence = computed(backend, IDS)
    with pytest.raises(UsageError, match="holds 40 tokens, not 30"):
        store.save(sequence, 30)
    with pytest.raises(UsageError, match="empty sequence"):
        store.restore(sequence, IDS)


def test_the_tokens_behind_a_border_are_computed_in_the_same_chunks_with_and_without(backend):
    sequence = Sequence(backend)
    sequence.extend([*IDS, *range(40)], "content")
    ends = [sequence.computed for _ in sequence.chunks(border=40)]
    assert ends == [16, 32, 40, 56, 72, 80]


# -- files of others -----------------------------------------------------------------------------

MUTATIONS = st.one_of(
    st.tuples(st.just("cut"), st.floats(0, 1), st.integers(0, 7)),
    st.tuples(st.just("flip"), st.floats(0, 1), st.integers(0, 7)),
    st.tuples(st.just("drop"), st.floats(0, 1), st.integers(1, 40)),
    st.tuples(st.just("add"), st.floats(0, 1), st.integers(1, 40)),
    st.tuples(st.just("zero"), st.floats(0, 1), st.integers(1, 40)),
    st.tuples(st.just("repeat"), st.floats(0, 1), st.integers(1, 40)),
)


def mutated(data: bytes, kind: str, share: float, count: int) -> bytes:
    place = min(int(share * len(data)), len(data) - 1)
    head, tail = data[:place], data[place:]
    if kind == "cut":
        return head
    if kind == "flip":
        return head + bytes([tail[0] ^ 1 << count]) + tail[1:]
    if kind == "drop":
        return head + tail[count:]
    if kind == "add":
        return head + b"\xff" * count + tail
    if kind == "zero":
        return head + bytes(len(tail[:count])) + tail[count:]
    return head + tail[:count] + tail


@given(st.lists(MUTATIONS, min_size=1, max_size=3))
@settings(
    max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
def test_no_mutation_reaches_the_backend(backend, store, changes):
    path = saved(backend, store)
    whole = data = path.read_bytes()
    for change in changes:
        data = mutated(data, *change) or b"\0"
    path.write_bytes(data)
    sequence, loads = Sequence(backend, 1), backend.loads
    restored = store.restore(sequence, [*IDS, 1])
    if data == whole:  # such as zeros over zeros
        assert restored.tokens == 40
        return
    assert backend.loads == loads and len(sequence) == 0
    assert restored.tokens == 0 and len(restored.problems) == 1
    assert restored.problems[0].path == str(path)


def test_files_cut_at_every_place_never_reach_the_backend(backend, store):
    path = saved(backend, store)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert len(store.restore(Sequence(backend), [*IDS, 1]).problems) == 1
    assert backend.loads == 0


@pytest.mark.parametrize(
    "change",
    [
        {"model_sha256": "cd" * 32},
        {"build": "build 2"},
        {"parameters": {"type_k": 8}},
        {"parameters": {"type_k": 1, "flash_attention": "on"}},
    ],
)
def test_another_model_build_or_parameter_has_other_prefixes(change, backend, store):
    path = saved(backend, store)
    other = replace(store, setting=replace(SETTING, **change))
    assert other.restore(Sequence(backend), [*IDS, 1]).tokens == 0
    # The same file under the name that the other would look for: its header tells.
    path.rename(path.with_name(path.name.replace(SETTING.name, other.setting.name)))
    restored = other.restore(Sequence(backend), [*IDS, 1])
    assert restored.problems[0].reason == "content" and backend.loads == 0


def test_a_file_under_the_name_of_other_tokens_is_refused(backend, store):
    path = saved(backend, store)
    others = [5] * 40
    path.rename(path.with_name(f"{SETTING.name}-00000040-{_digest(others)}.kv"))
    restored = store.restore(Sequence(backend), [*others, 1])
    assert "other tokens" in restored.problems[0].message and backend.loads == 0


def test_another_user_s_key_is_refused_and_saving_again_heals(backend, store, tmp_path):
    saved(backend, store)
    other = replace(store, key_file=tmp_path / "other" / "key")
    assert other.restore(Sequence(backend), [*IDS, 1]).problems[0].reason == "signature"
    assert backend.loads == 0
    saved(backend, other)
    assert other.restore(Sequence(backend), [*IDS, 1]).tokens == 40


@pytest.mark.parametrize(
    "header", [b"", b"[]", b"{}", b"\xff", b'{"setting": null, "ids": 1}', b"1" * 5000]
)
def test_a_signed_file_without_our_header_is_refused(header, backend, store):
    path = saved(backend, store)
    label = b"engine prefix 1\n"
    for size in (len(header), 2**63):
        parts = [size.to_bytes(8, "big"), header, b"state"]
        Signer(store.key_file).write(path, label, parts)
        restored = store.restore(Sequence(backend), [*IDS, 1])
        assert restored.problems[0].reason == "content" and backend.loads == 0


def test_a_state_that_the_backend_refuses_leaves_an_empty_sequence(backend, store, monkeypatch):
    saved(backend, store)
    saved(backend, store, IDS[:20])
    load = backend.load

    def refuse(state, *, seq=0):
        load(state, seq=seq)
        if len(backend.cells[seq]) == 40:
            raise StorageError("does not fit")

    monkeypatch.setattr(backend, "load", refuse)
    sequence = Sequence(backend, 1)
    restored = store.restore(sequence, [*IDS, 1])
    assert (restored.tokens, len(restored.problems)) == (20, 1)
    assert backend.cells[1] == IDS[:20]


# -- the folder ----------------------------------------------------------------------------------


def test_the_folder_is_bounded_and_what_was_used_longest_ago_goes_first(backend, store):
    paths = [saved(backend, store, [first, *IDS]) for first in (1, 2, 3)]
    for age, path in enumerate(paths):
        os.utime(path, (1000 + age, 1000 + age))
    store.restore(Sequence(backend, 1), [1, *IDS, 9])
    small = replace(store, max_bytes=int(paths[0].stat().st_size * 3.5))
    newest = saved(backend, small, [4, *IDS])
    assert {path.name for path in store.folder.iterdir()} == {
        path.name for path in (paths[0], paths[2], newest)
    }


def test_a_state_larger_than_the_folder_is_not_saved(backend, store):
    with pytest.raises(StorageError, match="holds 100; it is not saved"):
        saved(backend, replace(store, max_bytes=100))
    assert not store.folder.exists()


def test_only_abandoned_files_in_the_making_are_removed_and_no_stranger_s(backend, store):
    path = saved(backend, store)
    names = [f".{path.name}.1.aa.part", f".{path.name}.2.bb.part", "mine.txt", ".x.kv.part"]
    for name in names:
        (store.folder / name).write_text("x")
        os.utime(store.folder / name, (1000, 1000))
    os.utime(store.folder / names[1])
    saved(backend, store, IDS[:20])
    left = {file.name for file in store.folder.iterdir()}
    assert set(names[1:]) <= left and names[0] not in left


def test_a_folder_that_is_none_is_a_miss_for_readers_and_an_error_for_writers(backend, store):
    store.folder.parent.mkdir(exist_ok=True)
    store.folder.write_text("a file")
    assert store.restore(Sequence(backend), IDS).tokens == 0
    with pytest.raises(StorageError, match="prefixes"):
        saved(backend, store)


def test_processes_that_share_a_small_folder_never_see_half_a_file(store):
    """Threads stand for processes: each has its own backend, and only the folder in common."""
    small, faults = replace(store, max_bytes=6000), []

    def work(number: int) -> None:
        backend = Backend()
        for turn in range(15):
            ids = [(number + turn) % 3, *IDS]
            restored = small.restore(Sequence(backend, 1), [*ids, 1])
            if restored.problems or restored.tokens not in (0, len(ids)):
                faults.append(restored)
            if restored.tokens and backend.cells[1] != ids:
                faults.append(backend.cells[1])
            backend.forget(0, seq=1)
            saved(backend, small, ids)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert all(path.suffix == ".kv" for path in store.folder.iterdir())


def test_a_file_that_another_process_removes_meanwhile_is_no_problem(backend, store, monkeypatch):
    path = saved(backend, store)
    found = list(store._found([*IDS, 1]))
    path.unlink()
    monkeypatch.setattr(PrefixStore, "_found", lambda self, ids: iter(found))
    assert store.restore(Sequence(backend), [*IDS, 1]).problems == ()
