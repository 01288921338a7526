"""Headers: sound ones are read whole, all others end in one typed error."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import random
import re
import struct
import subprocess
import sys
import time
import tracemalloc
from collections import deque
from pathlib import Path

import numpy as np
import pytest
from gguf_files import (
    data_size,
    entry,
    header,
    llama_metadata,
    llama_tensors,
    string,
    write_model,
    write_vocabulary,
)

from engine import fit
from engine.errors import GGUFError, ModelError, ModelNotFound, UnsuitableModel
from engine.fit import check_suitable, memory
from engine.gguf import Skipped, check_complete, read_header
from engine.gguf.types import TENSOR_TYPES
from engine.loading import LoadOptions

HEAD = len(header(llama_metadata(), llama_tensors()))


def put(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def refused(path: Path) -> GGUFError:
    """Read a damaged file: the error names file, field and offset in one short line."""
    with pytest.raises(GGUFError) as caught:
        read_header(path)
    error = caught.value
    assert str(path) in error.message and "\n" not in error.message and len(error.message) < 400
    assert error.message.isprintable()
    assert error.path == path and error.field and 0 <= error.offset <= path.stat().st_size + 2**40
    return error


@pytest.fixture(scope="session")
def ggml() -> ctypes.CDLL:
    """llama.cpp's own GGUF reader, the truth that ours is held to."""
    spec = importlib.util.find_spec("llama_cpp")
    if spec is None or spec.origin is None:
        pytest.skip("llama-cpp-python is not installed")
    found = sorted(Path(spec.origin).parent.glob("lib/*ggml-base.*"))
    if not found:
        pytest.skip("this build of llama-cpp-python has no separate ggml-base library")
    library = ctypes.CDLL(str(found[0]))
    for name, result, arguments in (
        ("gguf_init_from_file", ctypes.c_void_p, [ctypes.c_char_p, ctypes.c_bool * 16]),
        ("gguf_free", None, [ctypes.c_void_p]),
        ("gguf_get_n_kv", ctypes.c_int64, [ctypes.c_void_p]),
        ("gguf_get_key", ctypes.c_char_p, [ctypes.c_void_p, ctypes.c_int64]),
        ("gguf_get_data_offset", ctypes.c_size_t, [ctypes.c_void_p]),
        ("gguf_get_n_tensors", ctypes.c_int64, [ctypes.c_void_p]),
        ("gguf_get_tensor_name", ctypes.c_char_p, [ctypes.c_void_p, ctypes.c_int64]),
        ("gguf_get_tensor_offset", ctypes.c_size_t, [ctypes.c_void_p, ctypes.c_int64]),
        ("gguf_get_tensor_size", ctypes.c_size_t, [ctypes.c_void_p, ctypes.c_int64]),
        ("ggml_type_name", ctypes.c_char_p, [ctypes.c_int]),
        ("ggml_type_size", ctypes.c_size_t, [ctypes.c_int]),
        ("ggml_blck_size", ctypes.c_int64, [ctypes.c_int]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    # struct gguf_init_params {bool no_alloc; ggml_context ** ctx} is 16 bytes, passed by value.
    library.gguf_init_from_file.argtypes = [ctypes.c_char_p, _InitParams]
    quiet = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *_: None)
    library.ggml_log_set(quiet, None)
    library.quiet = quiet  # ctypes callbacks must outlive their last call
    return library


class _InitParams(ctypes.Structure):
    _fields_ = (("no_alloc", ctypes.c_bool), ("ctx", ctypes.c_void_p))


def test_a_header_is_read_as_it_was_written(tmp_path):
    kinds = {
        "x.u8": ("u8", 255),
        "x.i8": ("i8", -128),
        "x.u16": ("u16", 65535),
        "x.i16": ("i16", -2),
        "x.i32": ("i32", -(1 << 31)),
        "x.u64": ("u64", (1 << 64) - 1),
        "x.i64": ("i64", -(1 << 63)),
        "x.f64": ("f64", 0.1),
        "x.true": ("bool", True),
        "x.text": ("str", "서울\n🙂"),
        "x.empty": ("arr[str]", []),
        "x.shorts": ("arr[i16]", [1, -1]),
        "x.flags": ("arr[bool]", [True, False]),
    }
    path = put(tmp_path / "a.gguf", header(kinds))
    found = read_header(path)
    assert found.version == 3 and found.file_size == path.stat().st_size
    assert found.types == {key: kind for key, (kind, _) in kinds.items()}
    for key, (_, value) in kinds.items():
        got = found.metadata[key]
        assert (got.tolist() if isinstance(got, np.ndarray) else got) == value
        assert type(got) in (int, float, bool, str, list, np.ndarray)


def test_bytes_that_are_not_utf8_survive(tmp_path):
    head = header({"x": ("raw", struct.pack("<I", 8) + string(b"a\xff\xfeb"))})
    text = read_header(put(tmp_path / "a.gguf", head)).metadata["x"]
    assert text.encode("utf-8", "surrogateescape") == b"a\xff\xfeb"


def test_properties_of_a_whole_model(tmp_path):
    found = read_header(write_model(tmp_path / "tiny.gguf"))
    assert (found.architecture, found.name, found.quantisation) == ("llama", "Tiny", "F32")
    assert (found.n_layer, found.n_embd, found.n_head, found.n_head_kv) == (1, 32, 4, 2)
    assert (found.n_vocab, found.n_ctx_train, found.has_weights) == (267, 64, True)
    assert found.n_params == 267 * 32 + 2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 32 + 3 * 32
    assert found.weight_bytes == 4 * found.n_params
    # 256 cells of padding, 2 heads of 8 numbers for K and V each, 2 bytes a number.
    assert found.kv_bytes(100) == 256 * 2 * (8 + 8) * 2
    assert found.kv_bytes(257, "q8_0") == 512 * 2 * (8 + 8) * 34 // 32


def test_the_type_tables_are_those_of_the_installed_ggml(ggml):
    for number in range(43):
        block, size = ggml.ggml_blck_size(number), ggml.ggml_type_size(number)
        name = ggml.ggml_type_name(number).decode().upper()
        assert TENSOR_TYPES.get(number, (name, 0, 0)) == (name, block, size)


def agrees(ggml: ctypes.CDLL, path: Path) -> bool:
    """Whether llama.cpp reads the file too; where it does, keys, tensors and offsets agree."""
    context = ggml.gguf_init_from_file(os.fsencode(path), _InitParams(True, None))
    if not context:
        return False
    found = read_header(path)
    n_keys, n_tensors = ggml.gguf_get_n_kv(context), ggml.gguf_get_n_tensors(context)
    keys = [ggml.gguf_get_key(context, i).decode() for i in range(n_keys)]
    tensors = [
        (
            ggml.gguf_get_tensor_name(context, i).decode(),
            ggml.gguf_get_tensor_offset(context, i),
            ggml.gguf_get_tensor_size(context, i),
        )
        for i in range(n_tensors)
    ]
    assert keys == list(found.metadata)
    assert tensors == [(t.name, t.offset, t.n_bytes) for t in found.tensors]
    assert ggml.gguf_get_data_offset(context) == found.data_offset
    ggml.gguf_free(context)
    return True


def test_real_files_are_read_as_llama_cpp_reads_them(ggml, shared_data):
    for path in sorted((shared_data / "vocab").glob("*.gguf")):
        assert agrees(ggml, path), path


def test_large_vocabularies_are_read_fast(shared_data):
    best = {}
    for tokens in (True, False):
        times = []
        for _ in range(3):
            start = time.perf_counter()
            found = read_header(shared_data / "vocab" / "qwen2.gguf", tokens=tokens)
            times.append(time.perf_counter() - start)
        best[tokens] = min(times)
        assert found.n_vocab == 151_936
    assert isinstance(found.metadata["tokenizer.ggml.tokens"], Skipped)
    assert best[True] < 0.5 and best[False] < 0.25, best  # 0.12 and 0.04 s on two slow cores


def test_a_truncated_header_is_refused_at_every_length(tmp_path):
    data = write_model(tmp_path / "whole.gguf").read_bytes()
    lengths = sorted({*range(40), *random.Random(1).sample(range(40, HEAD), 200)})
    for length in lengths:
        error = refused(put(tmp_path / "cut.gguf", data[:length]))
        assert error.offset <= length


def test_missing_weights_are_refused(tmp_path):
    data = write_model(tmp_path / "whole.gguf").read_bytes()
    assert "incomplete" in refused(put(tmp_path / "cut.gguf", data[:-200])).message


def mutated(rng: random.Random, data: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 8])):
        at = rng.randrange(HEAD)
        kind = rng.random()
        if kind < 0.5:
            out[at] = rng.choice([rng.randrange(256), 0, 1, 127, 128, 255])
        elif kind < 0.7:
            out[at] ^= 1 << rng.randrange(8)
        else:
            size = rng.choice([2, 4, 8])
            out[at : at + size] = rng.choice([b"\0" * size, b"\xff" * size, rng.randbytes(size)])
    return bytes(out)


def test_mutated_headers_are_refused_or_sound(tmp_path, ggml):
    """Never another exception, never slow, never much memory; and what we accept ggml accepts."""
    resource = pytest.importorskip("resource")
    data = write_model(tmp_path / "whole.gguf").read_bytes()
    rng = random.Random(7)
    counts = {"accepted": 0, "refused": 0}
    path = tmp_path / "mutated.gguf"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(3000):
        put(path, mutated(rng, data))
        start = time.perf_counter()
        try:
            read_header(path)
        except GGUFError as error:
            counts["refused"] += 1
            assert error.message.isprintable() and error.field is not None
        else:
            counts["accepted"] += 1
            assert agrees(ggml, path)
        assert time.perf_counter() - start < 1.0
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < (64 << 20 if sys.platform == "darwin" else 64 << 10)  # bytes there, kB here
    assert min(counts.values()) > 100, counts


# Loads each file named on stdin, tokenizes and decodes; a crash leaves the last line unanswered.
CHILD = """
import sys, llama_cpp
quiet = llama_cpp.llama_log_callback(lambda *a: None)
llama_cpp.llama_log_set(quiet, None)
params, options = llama_cpp.llama_model_default_params(), llama_cpp.llama_context_default_params()
params.n_gpu_layers, options.n_ctx, options.n_batch = 0, 64, 64
options.n_threads = options.n_threads_batch = 1
text, ids = " the sea\\n바é".encode(), (llama_cpp.llama_token * 64)()
for path in sys.stdin.read().split("\\0"):
    model = llama_cpp.llama_model_load_from_file(path.encode(), params)
    context = llama_cpp.llama_init_from_model(model, options) if model else None
    if context:
        vocab = llama_cpp.llama_model_get_vocab(model)
        n = llama_cpp.llama_tokenize(vocab, text, len(text), ids, 64, True, False)
        llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(ids, n))
        llama_cpp.llama_free(context)
    if model:
        llama_cpp.llama_model_free(model)
    print("loaded" if context else "refused", path, flush=True)
"""


def test_no_accepted_header_kills_llama_cpp(tmp_path):
    pytest.importorskip("llama_cpp")
    data = write_model(tmp_path / "whole.gguf").read_bytes()
    rng = random.Random(11)
    accepted = [str(tmp_path / "whole.gguf")]
    while len(accepted) < 150:
        path = put(tmp_path / f"{len(accepted)}.gguf", mutated(rng, data))
        try:
            check_suitable(read_header(path))
        except ModelError:
            continue
        accepted.append(str(path))
    child = subprocess.run(
        [sys.executable, "-c", CHILD],
        input="\0".join(accepted),
        capture_output=True,
        text=True,
        check=False,
    )
    answers = child.stdout.splitlines()
    assert answers[0].startswith("loaded"), child.stderr
    assert child.returncode == 0, f"{accepted[len(answers)]}: {child.stderr[-2000:]}"
    assert len(answers) == len(accepted)


def corrupt(**changes):
    return header(llama_metadata(**changes), llama_tensors()) + bytes(
        32 + data_size(llama_tensors())
    )


BIG = 1 << 60
HOSTILE = {
    "no magic": (b"GGML" + bytes(40), "magic"),
    "empty": (b"", "magic"),
    "a web page": (b"<!DOCTYPE html>" + bytes(40), "web page"),
    "git lfs": (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
    "version 1": (header({}, version=1), "convert the model anew"),
    "version 4": (header({}, version=4), "versions 2 and 3"),
    "2^60 keys": (header({}, n_keys=BIG), "key count"),
    "2^60 tensors": (header({}, n_tensors=BIG), "tensor count"),
    "many tensors in no bytes": (header({}, n_tensors=1000), "tensor count"),
    "2^63 long key": (header({}, n_keys=1) + struct.pack("<Q", 1 << 63), "key 0"),
    "empty key": (header([("", ("u8", 1))]), "key 0"),
    "key of control characters": (header([("a\x1b[2J", ("u8", 1))]), "not a name"),
    "duplicate key": (header([("a", ("u8", 1)), ("a", ("u8", 1))]), "occurs twice"),
    "2^60 strings": (
        header({"a": ("raw", struct.pack("<IIQ", 9, 8, BIG))}) + bytes(4096),
        "elements",
    ),
    "2^60 floats": (header({"a": ("raw", struct.pack("<IIQ", 9, 6, BIG))}), "elements"),
    "2^60 long string": (header({"a": ("raw", struct.pack("<IQ", 8, BIG))}), "limit"),
    "nested array": (
        header({"a": ("raw", struct.pack("<IIQ", 9, 9, 1) + entry("arr[u8]", [1])[4:])}),
        "nested",
    ),
    "unknown type": (header({"a": ("raw", struct.pack("<I", 13))}), "type 13"),
    "alignment 2^31": (header({"general.alignment": ("u32", 1 << 31)}), "power of two"),
    "alignment 0": (header({"general.alignment": ("u32", 0)}), "power of two"),
    "alignment 24": (header({"general.alignment": ("u32", 24)}), "power of two"),
    "alignment as i32": (header({"general.alignment": ("i32", 32)}), "u32"),
    "alignment as text": (header({"general.alignment": ("str", "32")}), "u32"),
    "tokens as numbers": (corrupt(tokenizer__ggml__tokens=("arr[u32]", [1])), "arr[str]"),
    "tokens as text": (corrupt(tokenizer__ggml__tokens=("str", "a b")), "arr[str]"),
    "tokens twice": (
        corrupt(tokenizer__ggml__tokens=("arr[str]", ["a"] * 267)),
        "occurs twice",
    ),
    "too few tokens": (corrupt(tokenizer__ggml__tokens=("arr[str]", ["a"])), "267 values"),
    "no byte tokens": (
        corrupt(tokenizer__ggml__tokens=("arr[str]", [f"t{i}" for i in range(267)])),
        "byte 0x00",
    ),
    "scores as text": (corrupt(tokenizer__ggml__scores=("arr[str]", [""] * 267)), "arr[f32]"),
    "token types as bytes": (
        corrupt(tokenizer__ggml__token_type=("arr[u8]", [1] * 267)),
        "arr[i32]",
    ),
    "token type 9": (corrupt(tokenizer__ggml__token_type=("arr[i32]", [9] * 267)), "0 to 6"),
    "eos outside": (corrupt(tokenizer__ggml__eos_token_id=("u32", 267)), "outside"),
    "eos negative": (corrupt(tokenizer__ggml__eos_token_id=("i32", -1)), "u32"),
    "no merges": (corrupt(tokenizer__ggml__model=("str", "gpt2")), "merges"),
    "0 layers": (corrupt(llama__block_count=("u32", 0)), "0 layers"),
    "513 layers": (corrupt(llama__block_count=("u32", 513)), "513 layers"),
    "layers as text": (corrupt(llama__block_count=("str", "1")), "u32"),
    "heads for other layers": (
        corrupt(llama__attention__head_count=("arr[i32]", [4, 4])),
        "2 values for 1 layers",
    ),
    "uneven heads": (corrupt(llama__attention__head_count_kv=("u32", 3)), "divide"),
    "NaN epsilon": (
        corrupt(llama__attention__layer_norm_rms_epsilon=("f32", float("nan"))),
        "0..1",
    ),
    "experts": (corrupt(llama__expert_used_count=("u32", 2)), "2 of 0 experts"),
    "rope scaling": (corrupt(llama__rope__scaling__type=("str", "x")), "yarn"),
    "part 3 of 2": (corrupt(split__count=("u16", 2), split__no=("u16", 3)), "part 3"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_headers_are_refused(name, tmp_path):
    data, expected = HOSTILE[name]
    tracemalloc.start()
    start = time.perf_counter()
    error = refused(put(tmp_path / "bad.gguf", data))
    seconds, peak = time.perf_counter() - start, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert expected in error.message
    assert seconds < 1 and peak < 8 << 20


TENSORS = {
    "five dimensions": ([("a", (1, 1, 1, 1, 1), 0, 0)], "5 dimensions"),
    "negative dimension": ([("a", (-1, 2), 0, 0)], "shape"),
    "no elements": ([("a", (0, 4), 0, 0)], "no elements"),
    "overflowing product": ([("a", (1 << 32, 1 << 32), 0, 0)], "too many"),
    "overflowing bytes": ([("a", ((1 << 62),), 0, 0)], "incomplete"),
    "removed type": ([("a", (32,), 4, 0)], "type 4"),
    "unknown type": ([("a", (32,), 1 << 31, 0)], "type"),
    "broken block": ([("a", (33,), 2, 0)], "multiple"),
    "far offset": ([("a", (32,), 0, 1 << 62)], "offset"),
    "overlap": ([("a", (32,), 0, 0), ("b", (32,), 0, 0)], "expected 128"),
    "same name": ([("a", (32,), 0, 0), ("a", (32,), 0, 128)], "taken"),
    "long name": ([("a" * 64, (32,), 0, 0)], "limit of 63"),
    "name with NUL": ([("a\0b", (32,), 0, 0)], "not a name"),
    "integer weights": ([("blk.0.attn_q.weight", (32, 32), 26, 0)], "can't hold weights"),
    "half norm": ([("blk.0.attn_norm.weight", (32,), 1, 0)], "must be F32"),
    "past the end": ([("a", (1 << 20,), 0, 0)], "incomplete"),
}


@pytest.mark.parametrize("name", TENSORS)
def test_hostile_tensors_are_refused(name, tmp_path):
    tensors, expected = TENSORS[name]
    error = refused(put(tmp_path / "bad.gguf", header({}, tensors) + bytes(4096)))
    assert expected in error.message


def test_an_unused_id_outside_the_vocabulary_is_a_note(tmp_path):
    change = {"tokenizer__ggml__padding_token_id": ("u32", (1 << 32) - 1)}
    (note,) = read_header(write_vocabulary(tmp_path / "a.gguf", **change)).notes
    assert "padding_token_id" in note


def test_what_is_no_file_is_named(tmp_path):
    write_model(tmp_path / "inside.gguf")
    with pytest.raises(ModelNotFound, match="no such file"):
        read_header(tmp_path / "missing.gguf")
    with pytest.raises(ModelNotFound, match=r"directory.*inside\.gguf"):
        read_header(tmp_path)
    with pytest.raises(ModelError, match="can't be read"):
        read_header(tmp_path / "nul\0.gguf")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(GGUFError, match="not a regular file"):
            read_header(tmp_path / "pipe")


def write_parts(folder: Path, count: int = 3) -> list[Path]:
    """The tiny model's tensors dealt out to `count` files."""
    tensors = [(name, shape) for name, shape, _, _ in llama_tensors()]
    paths = []
    for number in range(count):
        split = {"split.no": ("u16", number), "split.count": ("u16", count)}
        split["split.tensors.count"] = ("i32", len(tensors))
        metadata = llama_metadata() | split if number == 0 else split
        mine, offset = [], 0
        for name, shape in tensors[number::count]:
            mine.append((name, shape, 0, offset))
            offset += -(-4 * int(np.prod(shape)) // 32) * 32
        head = header(metadata, mine)
        path = folder / f"tiny-{number + 1:05d}-of-{count:05d}.gguf"
        paths.append(put(path, head + bytes(-len(head) % 32 + data_size(mine))))
    return paths


def test_a_split_model_counts_all_its_parts(tmp_path):
    whole = read_header(write_model(tmp_path / "whole.gguf"))
    first, second, third = write_parts(tmp_path)
    found = read_header(first)
    check_complete(found)
    assert (found.n_params, found.weight_bytes) == (whole.n_params, whole.weight_bytes)
    assert found.parts == (first, second, third) and found.missing_parts == ()


def test_an_incomplete_split_model_names_what_is_missing(tmp_path):
    first, second, third = write_parts(tmp_path)
    with pytest.raises(GGUFError, match="name the first, tiny-00001-of-00003"):
        check_complete(read_header(second))
    first_bytes = first.read_bytes()
    put(third, second.read_bytes())
    with pytest.raises(GGUFError, match="says it is part 2, not 3"):
        check_complete(read_header(first))
    third.unlink()
    with pytest.raises(GGUFError, match=r"1 of 3 parts are missing: tiny-00003-of-00003\.gguf"):
        check_complete(read_header(first))
    put(second, second.read_bytes()[:60])
    put(third, b"")
    with pytest.raises(GGUFError, match="00002"):
        check_complete(read_header(first))
    renamed = put(tmp_path / "renamed.gguf", first_bytes)
    with pytest.raises(GGUFError, match="restore its original name"):
        check_complete(read_header(renamed))


UNSUITABLE = {
    "vocabulary only": ({}, False, "no weights"),
    "embedding": ({"llama__pooling_type": ("u32", 1)}, True, "embedding"),
    "not causal": ({"llama__attention__causal": ("bool", False)}, True, "both directions"),
    "adapter": ({"general__type": ("str", "adapter")}, True, "base model"),
    "projector": ({"general__type": ("str", "mmproj")}, True, "mmproj"),
    "imatrix": ({"general__type": ("str", "imatrix")}, True, "importance matrix"),
    "no architecture": ({"general__architecture": None}, True, "general.architecture"),
    "no vocabulary": ({"tokenizer__ggml__model": ("str", "no_vocab")}, True, "no_vocab"),
}


@pytest.mark.parametrize("kind", UNSUITABLE)
def test_files_that_cannot_generate_say_what_they_are(kind, tmp_path):
    changes, whole, expected = UNSUITABLE[kind]
    write = write_model if whole else write_vocabulary
    found = read_header(write(tmp_path / "a.gguf", **changes))
    with pytest.raises(UnsuitableModel, match=expected) as caught:
        check_suitable(found)
    assert caught.value.reason == kind and "\n" not in caught.value.message


@pytest.mark.parametrize("architecture", ["bert", "clip", "t5", "eagle3", "qwen3tts"])
def test_architectures_that_do_not_converse_are_refused(architecture, tmp_path):
    path = put(
        tmp_path / "a.gguf",
        header(llama_metadata(architecture), llama_tensors())
        + bytes(32 + data_size(llama_tensors())),
    )
    with pytest.raises(UnsuitableModel):
        check_suitable(read_header(path))


def test_a_whole_model_is_suitable(tmp_path):
    check_suitable(read_header(write_model(tmp_path / "a.gguf")))


def test_the_memory_estimate_adds_up_and_knows_its_limits(tmp_path):
    found = read_header(write_model(tmp_path / "a.gguf"))
    small, large = memory(found, 64), memory(found, 4096)
    assert small.total == small.weights + small.kv + small.compute
    assert large.kv == 16 * memory(found, 256).kv and large.weights == small.weights
    assert small.notes == () and "trained for 64" in large.notes[0]


@pytest.mark.live
@pytest.mark.parametrize("n_ctx", [512, 2000])
def test_the_memory_estimate_is_what_llama_cpp_allocates(n_ctx, smollm2_path, monkeypatch):
    llama = pytest.importorskip("engine.llama")
    found = memory(read_header(smollm2_path), n_ctx)
    log = llama.start()
    monkeypatch.setattr(log, "lines", deque())  # all of them
    llama.LlamaBackend(smollm2_path, LoadOptions(n_ctx=n_ctx, gpu_layers=0)).close()
    text = " ".join(log.lines)
    mib = {
        kind: sum(float(size) for size in re.findall(rf"{kind} buffer size =\s*([\d.]+) MiB", text))
        for kind in ("KV", "compute")
    }
    assert fit.N_UBATCH == llama.CHUNK
    assert found.kv == pytest.approx(mib["KV"] * 2**20, rel=0.01)
    assert found.compute == pytest.approx(mib["compute"] * 2**20, rel=0.05)
