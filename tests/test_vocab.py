"""The vocabulary is llama.cpp's: bytes, kinds and ends of every token; damage is a typed error."""

from __future__ import annotations

import ctypes
import time
from pathlib import Path

import llama_cpp
import numpy as np
import pytest
from gguf_files import Entry, write_vocabulary
from vocabularies import NAMES, Pair, open_pair

from engine.errors import UnsuitableModel
from engine.gguf import read_header
from engine.tokenbytes import byte_alphabet
from engine.vocab import BYTE, CONTROL, NORMAL, UNKNOWN, UNUSED, USER_DEFINED, Vocab

UNKNOWN_BIT, UNUSED_BIT, NORMAL_BIT, CONTROL_BIT, USER_BIT, BYTE_BIT = (1 << n for n in range(6))
LSTRIP_BIT, RSTRIP_BIT = 1 << 7, 1 << 8
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def kind_of(attributes: int) -> int:
    """llama.cpp's bits as one kind; where several are set, the one that decides."""
    for bit, kind in (
        (CONTROL_BIT, CONTROL),
        (UNKNOWN_BIT, UNKNOWN),
        (USER_BIT, USER_DEFINED),
        (BYTE_BIT, BYTE),
        (NORMAL_BIT, NORMAL),
        (UNUSED_BIT, UNUSED),
    ):
        if attributes & bit:
            return kind
    return 0


def differences(pair: Pair) -> list[str]:
    """Where llama.cpp disagrees with us. Asks it directly: a million tokens in a few seconds."""
    vocab, theirs = pair.vocab, pair.llama._vocab
    buffer = ctypes.create_string_buffer(1024)
    view = memoryview(buffer)
    attributes = [llama_cpp.llama_vocab_get_attr(theirs, i) for i in range(pair.llama.n_vocab)]
    pieces = []
    for index in range(pair.llama.n_vocab):
        size = llama_cpp.llama_token_to_piece(theirs, index, buffer, len(buffer), 0, True)
        pieces.append(bytes(view[:size]))
    ends = {i for i in range(len(pieces)) if llama_cpp.llama_vocab_is_eog(theirs, i)}
    known = {bits: kind_of(bits) for bits in set(attributes)}
    rows = zip(pieces, vocab.tokens, attributes, vocab.kinds.tolist(), strict=True)
    out = [
        f"{index}: {piece!r} {ours!r} {bits} {kind}"
        for index, (piece, ours, bits, kind) in enumerate(rows)
        if piece != ours or known[bits] != kind
    ]
    for mine, bit in ((vocab.lstrip, LSTRIP_BIT), (vocab.rstrip, RSTRIP_BIT)):
        swallow = {index for index, bits in enumerate(attributes) if bits & bit}
        out += [f"swallows: {index}" for index in swallow ^ mine]
    return out + [f"ends: {index} {vocab.texts[index]}" for index in ends ^ vocab.eog]


@pytest.mark.parametrize("name", NAMES)
def test_every_token_is_what_llama_cpp_says(name: str, shared_data: Path):
    assert differences(open_pair(shared_data / "vocab" / f"{name}.gguf"))[:5] == []


@pytest.mark.live
def test_every_token_of_a_model_with_weights_is_what_llama_cpp_says(smollm2_path: Path):
    assert differences(open_pair(smollm2_path))[:5] == []


def small(path: Path, texts: dict[str, int], **changes: Entry) -> Pair:
    """A SentencePiece file with these further tokens of these kinds."""
    tokens = {"<unk>": UNKNOWN, "<s>": CONTROL, **dict.fromkeys(BYTES, BYTE), **texts}
    return open_pair(
        write_vocabulary(
            path / "small.gguf",
            tokenizer__ggml__tokens=("arr[str]", list(tokens)),
            tokenizer__ggml__token_type=("arr[i32]", list(tokens.values())),
            tokenizer__ggml__scores=("arr[f32]", [0.0] * len(tokens)),
            **{"tokenizer__ggml__eos_token_id": ("u32", 1), **changes},
        )
    )


@pytest.mark.parametrize(
    "texts, ends",
    [
        (["<|eot_id|>", "<|eom_id|>", "plain"], ["<|eot_id|>", "<|eom_id|>"]),
        (["<|im_end|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<|fim_prefix|>"],
         ["<|im_end|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"]),
        (["<|end|>", "<|return|>", "<|channel|>"], ["<|end|>", "<|return|>"]),
        (["<|end|>", "<|return|>", "<|call|>", "<|start|>", "<|message|>", "<|channel|>",
          "<|constrain|>"], ["<|return|>", "<|call|>"]),
        (["<|end|>", "<|flush|>", "<|calls|>"], ["<|flush|>", "<|calls|>"]),
        (["</s>", "<end_of_turn>"], ["</s>", "<end_of_turn>"]),
        (["</s>", "<|tool_response>", "<turn|>", "<eos>"],
         ["<|tool_response>", "<turn|>", "<eos>"]),
        (["[EOT]", "[EOS]", "[PAD]"], ["[EOT]", "[EOS]", "[PAD]"]),
        (["<｜end▁of▁sentence｜>", "[e~[", "<|unused_7|>"], ["<｜end▁of▁sentence｜>", "[e~["]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", [NORMAL, CONTROL, USER_DEFINED])
def test_ends_and_kinds_by_name_are_llama_cpp_s(
    texts: list[str], ends: list[str], kind: int, tmp_path: Path
):
    pair = small(tmp_path, dict.fromkeys(texts, kind))
    assert {pair.vocab.texts[index] for index in pair.vocab.eog} == {"<s>", *ends}
    assert differences(pair) == []


def test_ends_that_the_file_names_are_ends(tmp_path: Path):
    pair = small(
        tmp_path,
        {"over": NORMAL, "and out": NORMAL, "pad": NORMAL},
        tokenizer__ggml__eot_token_id=("u32", 258),
        tokenizer__ggml__eom_token_id=("u32", 259),
        tokenizer__ggml__fim_pad_token_id=("u32", 260),
    )
    assert (pair.vocab.eot, pair.vocab.eom) == (258, 259)
    assert pair.vocab.eog == {1, 258, 259, 260}
    assert differences(pair) == []


def test_phi_3_tokens_swallow_white_space_as_llama_cpp_has_it(tmp_path: Path):
    texts = {"</s>": CONTROL, "<|endoftext|>": CONTROL, "<|user|>": CONTROL, "<|x|>": USER_DEFINED}
    pair = small(tmp_path, texts, general__name=("str", "Phi-3 mini"))
    assert {pair.vocab.texts[index] for index in pair.vocab.rstrip} == {"</s>", "<|user|>", "<|x|>"}
    assert differences(pair) == []


@pytest.mark.parametrize(
    "model, tokens",
    [
        ("rwkv", {"<s>": CONTROL, "a\\tb": NORMAL, "\\n": NORMAL, "\\x0a\\xff": NORMAL,
                  "\\\\": NORMAL}),
        ("plamo2", {"<|plamo:unk|>": CONTROL, "▁a": NORMAL, "\n": NORMAL, "</s>": NORMAL,
                    **dict.fromkeys(BYTES, BYTE)}),
        ("t5", {"<pad>": CONTROL, "</s>": CONTROL, "<unk>": UNKNOWN, "▁the": NORMAL,
                "<extra_0>": USER_DEFINED, **dict.fromkeys(BYTES, BYTE)}),
        ("bert", {"[PAD]": CONTROL, "[UNK]": CONTROL, "▁the": NORMAL, "ing": NORMAL}),
        ("llama", {"<unk>": UNKNOWN, "<s>": CONTROL, "▁▁x": USER_DEFINED, "▁y": UNUSED,
                   "t\u0085": NORMAL, "": NORMAL, **dict.fromkeys(BYTES, BYTE)}),
    ],
)  # fmt: skip
def test_bytes_of_every_tokenizer_model_are_llama_cpp_s(
    model: str, tokens: dict[str, int], tmp_path: Path
):
    path = write_vocabulary(
        tmp_path / "model.gguf",
        tokenizer__ggml__model=("str", model),
        tokenizer__ggml__tokens=("arr[str]", list(tokens)),
        tokenizer__ggml__token_type=("arr[i32]", list(tokens.values())),
        tokenizer__ggml__scores=("arr[f32]", [0.0] * len(tokens)),
    )
    assert differences(open_pair(path)) == []


@pytest.mark.parametrize(
    "pre, texts",
    [
        ("llama-bpe", ["Ġthe", "Ã¬ķĪ", "안녕", "Ċ", "<0x41>"]),
        ("gemma4", ["▁the", "안녕", "\n", "Ġthe"]),
    ],
)
def test_byte_pair_words_become_the_bytes_of_llama_cpp(pre: str, texts: list[str], tmp_path: Path):
    tokens = {**dict.fromkeys(byte_alphabet().values(), NORMAL), **dict.fromkeys(texts, NORMAL)}
    tokens["<0x41>"] = BYTE
    path = write_vocabulary(
        tmp_path / "bpe.gguf",
        tokenizer__ggml__model=("str", "gpt2"),
        tokenizer__ggml__pre=("str", pre),
        tokenizer__ggml__tokens=("arr[str]", list(tokens)),
        tokenizer__ggml__token_type=("arr[i32]", list(tokens.values())),
        tokenizer__ggml__merges=("arr[str]", ["t h"]),
        tokenizer__ggml__scores=("arr[f32]", [0.0] * len(tokens)),
    )
    assert differences(open_pair(path)) == []


def test_the_byte_alphabet_is_one_to_one():
    alphabet = byte_alphabet()
    assert sorted(alphabet) == list(range(256))
    assert len(set(alphabet.values())) == 256
    assert (alphabet[0x20], alphabet[0x0A], alphabet[ord("a")]) == ("Ġ", "Ċ", "a")


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"tokenizer__ggml__tokens": None}, "no vocabulary"),
        ({"tokenizer__ggml__model": ("str", "klingon")}, "'klingon' is none that we know"),
        ({"tokenizer__ggml__model": ("str", "rwkv"),
          "tokenizer__ggml__tokens": ("arr[str]", [f"{i} \\xz" for i in range(267)])}, "be read"),
    ],
)  # fmt: skip
def test_a_vocabulary_that_we_cannot_follow_is_one_typed_line(
    changes: dict[str, Entry], says: str, tmp_path: Path
):
    path = write_vocabulary(tmp_path / "bad.gguf", **changes)
    with pytest.raises(UnsuitableModel, match=says) as caught:
        Vocab.from_header(read_header(path))
    assert str(path) in caught.value.message
    assert "\n" not in caught.value.message


def a_vocab(**kinds: int) -> Vocab:
    texts = list(kinds)
    return Vocab(
        tokens=[text.encode() for text in texts],
        texts=texts,
        kinds=np.array(list(kinds.values()), dtype=np.uint8),
    )


def test_control_texts_are_what_content_must_never_become():
    vocab = a_vocab(
        **{
            "word": NORMAL, "<unk>": UNKNOWN, "<end>": CONTROL, "<tool_call>": USER_DEFINED,
            "<think>": USER_DEFINED, "<table>": USER_DEFINED, "<|NO|>": USER_DEFINED,
            "[PAD7]": USER_DEFINED, "\n\n": USER_DEFINED, "▁▁": USER_DEFINED, "is": USER_DEFINED,
            "=": USER_DEFINED, "<off>": UNUSED,
        }
    )  # fmt: skip
    assert set(vocab.control) == {"<end>"}
    always = {"<unk>", "<end>", "<|NO|>", "[PAD7]"}
    assert set(vocab.control_texts()) == always
    source = "{% if x is y %}<think>\n\n{% endif %}▁▁"
    assert set(vocab.control_texts(source)) == always | {"<think>"}
    found = vocab.control_texts(source, markers=["<tool_call>", "word"])
    assert set(found) == always | {"<think>", "<tool_call>"}
    assert all(vocab.texts[index] == text for text, index in found.items())


def test_names_and_bytes_of_tokens():
    vocab = Vocab(
        tokens=[b"a", b"\xec\x95", b"\x88", "녕".encode()],
        texts=["a", "ìķ", "Ī", "ëħķ"],
        kinds=np.array([NORMAL, NORMAL, NORMAL, CONTROL], dtype=np.uint8),
    )
    assert vocab.bytes_of([0, 1, 2, 3]).decode() == "a안녕"
    assert [vocab.name(index) for index in range(4)] == ["a", "\\xec\\x95", "\\x88", "녕"]
    assert (vocab.find("Ī"), vocab.find("녕"), vocab.data(2)) == (2, None, b"\x88")
    assert [vocab.is_control(index) for index in range(4)] == [False, False, False, True]


def test_a_quarter_of_a_million_tokens_are_set_up_in_half_a_second(shared_data: Path):
    header = read_header(shared_data / "vocab" / "command-r.gguf")
    times = []
    for _ in range(3):
        start = time.process_time()
        Vocab.from_header(header)
        times.append(time.process_time() - start)
    assert min(times) < 0.5
