"""Two tokenizers agree with llama.cpp and with each other, and never yield a control token.

The truth is llama.cpp: its own expected ids (`.inp`/`.out`), and `llama_tokenize` on whole texts.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np
import pytest
from gguf_files import Entry, write_vocabulary
from hypothesis import given, settings
from hypothesis import strategies as st
from vocabularies import (
    CONTROL_LIKE,
    NAMES,
    WORDS,
    Pair,
    open_pair,
    some_text,
    write_byte_pair,
    write_sentence_piece,
)

from engine.encoding import spans, whole_characters
from engine.errors import UnsuitableModel, UsageError
from engine.pretokenizers import PRETOKENIZERS
from engine.tokenizer import HeaderTokenizer, LlamaTokenizer
from engine.vocab import CONTROL, NORMAL, USER_DEFINED, Vocab

FULL = os.environ.get("ENGINE_TESTS") == "full"
SEPARATOR = "\n__ggml_vocab_test__\n"


def vocabulary(name: str, shared_data: Path) -> Pair:
    return open_pair(shared_data / "vocab" / f"{name}.gguf")


@pytest.mark.parametrize("name", [name for name in NAMES if name != "llama-3.1"])
def test_both_give_the_ids_that_llama_cpp_s_tests_expect(name: str, shared_data: Path):
    pair = vocabulary(name, shared_data)
    source = pair.path.with_name(f"{name}.gguf.inp").read_bytes().decode()
    texts = source.removesuffix(SEPARATOR).split(SEPARATOR)
    lines = pair.path.with_name(f"{name}.gguf.out").read_text().splitlines()
    expected = [[int(number) for number in line.split()] for line in lines]
    assert len(texts) == len(expected) > 40
    assert [pair.by_llama.encode(text) for text in texts] == expected
    assert [pair.by_header.encode(text) for text in texts] == expected


texts_of_all_kinds = st.lists(
    st.one_of(st.sampled_from([*WORDS, *CONTROL_LIKE]), st.text(max_size=6)), max_size=12
).map("".join)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=150, deadline=None)
@given(text=texts_of_all_kinds, continues=st.booleans())
def test_both_agree_and_give_the_text_back(
    name: str, text: str, continues: bool, shared_data: Path
):
    pair = vocabulary(name, shared_data)
    ids = pair.by_llama.encode(text, continues=continues)
    assert pair.by_header.encode(text, continues=continues) == ids
    given_back = pair.vocab.bytes_of(ids).decode()
    expected = whole_characters(text)
    if pair.vocab.spaces_escaped:
        expected = expected.replace("▁", " ")
    if pair.vocab.add_space_prefix and not continues and text:
        expected = " " + expected
    assert given_back == expected


@pytest.mark.parametrize("name", NAMES)
def test_plain_text_is_what_llama_cpp_makes_of_it(name: str, shared_data: Path):
    pair = vocabulary(name, shared_data)
    rng = random.Random(1)
    for _ in range(300):
        text = whole_characters(some_text(rng, WORDS))
        plain = pair.llama.tokenize(text.encode(), False)
        assert pair.by_llama.encode(text) == plain, ascii(text)


DISTINCT_PRE = {
    (pre.patterns, pre.ignore_merges): name
    for name, pre in PRETOKENIZERS.items()
    if pre.byte_level  # the others are gemma-4's, checked with its own vocabulary
}


@pytest.mark.parametrize("pre", sorted(DISTINCT_PRE.values()))
def test_every_pre_tokenizer_splits_as_llama_cpp_does(
    pre: str, tmp_path_factory: pytest.TempPathFactory
):
    pair = open_pair(write_byte_pair(tmp_path_factory.mktemp("pre") / f"{pre}.gguf", pre))
    rng = random.Random(f"{pre} 3")
    for _ in range(5000 if FULL else 150):
        text = some_text(rng)
        assert pair.by_header.encode(text) == pair.by_llama.encode(text), ascii(text)


def test_names_of_one_rule_share_it():
    assert PRETOKENIZERS["llama-bpe"] is PRETOKENIZERS["llama3"]
    assert len(PRETOKENIZERS) > 2 * len(DISTINCT_PRE)


@pytest.mark.parametrize("special", [{}, {"<tool_call>": USER_DEFINED, "▁▁": USER_DEFINED}])
@pytest.mark.parametrize("prefix", [True, False])
def test_small_sentence_piece_vocabularies_agree(
    special: dict[str, int], prefix: bool, tmp_path: Path
):
    changes: dict[str, Entry] = {"tokenizer__ggml__add_space_prefix": ("bool", prefix)}
    pair = open_pair(write_sentence_piece(tmp_path / "spm.gguf", special, **changes))
    rng = random.Random(2)
    for _ in range(400):
        text, continues = some_text(rng), rng.random() < 0.3
        ids = pair.by_llama.encode(text, continues=continues)
        assert pair.by_header.encode(text, continues=continues) == ids, ascii(text)


def test_merges_that_spell_a_control_token_are_broken_up(tmp_path: Path):
    pair = open_pair(write_sentence_piece(tmp_path / "spm.gguf"))
    end = pair.vocab.ids["</s>"]
    assert end in pair.llama.tokenize(b"so</s>", False)  # llama.cpp itself falls for it
    for tokenizer in (pair.by_llama, pair.by_header):
        ids = tokenizer.encode("so</s></s>")
        assert end not in ids
        assert pair.vocab.bytes_of(ids) == b" so</s></s>"


@pytest.mark.parametrize("name", NAMES)
def test_spans_tile_the_text(name: str, shared_data: Path):
    pair = vocabulary(name, shared_data)
    rng = random.Random(4)
    for _ in range(200):
        text = whole_characters(some_text(rng))
        ids = pair.by_header.encode(text)
        found = spans(text, ids, pair.vocab)
        assert len(found) == len(ids)
        assert (found[0][0], found[-1][1]) == (0, len(text))
        for (start, end), (after, _), index in zip(found, found[1:], ids, strict=False):
            assert start <= after <= end  # neighbours meet, or share one character
            assert end - after <= 1
            piece = pair.vocab.tokens[index]
            covered = (
                text[start:end].replace("▁", " ") if pair.vocab.spaces_escaped else text[start:end]
            )
            assert piece.removeprefix(b" ") in b" " + covered.encode()


@pytest.mark.parametrize("name", ["llama-bpe", "qwen2"])
def test_spans_are_those_of_the_tokenizers_library(name: str, shared_data: Path):
    pair = vocabulary(name, shared_data)
    rng = random.Random(5)
    for _ in range(200):
        text = whole_characters(some_text(rng))
        theirs = pair.by_header._merge.tokenizer.encode(text, add_special_tokens=False)
        assert spans(text, theirs.ids, pair.vocab) == theirs.offsets, ascii(text)


def test_text_that_a_normaliser_rewrote_is_covered_whole():
    vocab = Vocab(tokens=[b"the", b" sea"], texts=["the", "▁sea"], kinds=np.array([1, 1], np.uint8))
    assert spans("The sea", [0, 1], vocab) == [(0, 7), (0, 7)]


def test_half_surrogates_become_replacement_characters(shared_data: Path):
    pair = vocabulary("qwen2", shared_data)
    for tokenizer in (pair.by_llama, pair.by_header):
        assert tokenizer.encode("a\ud83eb") == tokenizer.encode("a\ufffdb")


@pytest.mark.parametrize(
    "pre, sent", [("tekken", False), ("gpt-4o", False), ("deepseek-v3", False), ("llama-bpe", True)]
)
def test_long_runs_never_reach_the_regex_that_overflows_the_stack(
    pre: str, sent: bool, tmp_path: Path
):
    pair = open_pair(write_byte_pair(tmp_path / "long.gguf", pre))
    seen: list[int] = []

    def tokenize(text: bytes, parse_special: bool) -> list[int]:
        seen.append(len(text))
        return pair.llama.tokenize(text, parse_special)

    text = "a" * 60_000
    ids = LlamaTokenizer(pair.vocab, tokenize).encode(text)
    assert pair.vocab.bytes_of(ids) == text.encode()
    assert seen == ([60_000] if sent else [])


def test_long_text_for_an_unknown_pre_tokenizer_is_refused_with_the_limit():
    vocab = Vocab(
        tokens=[b"a"], texts=["a"], kinds=np.array([1], np.uint8), pre="next-year", merges=["a a"]
    )
    tokenizer = LlamaTokenizer(vocab, lambda text, special: [0] * len(text))
    assert tokenizer.encode("aa") == [0, 0]
    with pytest.raises(UsageError, match=r"4000 characters .* 'next-year'"):
        tokenizer.encode("a" * 5000)


@pytest.mark.parametrize(
    "model, pre, says",
    [("gpt2", "next-year", "pre-tokenizer 'next-year'"), ("t5", "", "no tokenizer for 't5'")],
)
def test_a_tokenizer_that_needs_llama_cpp_says_so(model: str, pre: str, says: str):
    vocab = Vocab(tokens=[b"a"], texts=["a"], kinds=np.array([1], np.uint8), model=model, pre=pre)
    with pytest.raises(UnsuitableModel, match=says) as caught:
        HeaderTokenizer(vocab)
    assert "load the model itself" in caught.value.message


def test_a_control_token_of_one_character_in_content_is_refused(tmp_path: Path):
    pair = open_pair(write_byte_pair(tmp_path / "one.gguf", "llama-bpe", {"⏎": USER_DEFINED}))
    index = pair.vocab.ids["⏎"]
    assert pair.by_header.encode("a⏎b").count(index) == 1
    with pytest.raises(UnsuitableModel, match="only write as control token"):
        pair.by_header.encode("a⏎b", forbidden=[index])


def test_a_trie_that_holds_control_tokens_is_kept_from_them(tmp_path: Path):
    words = ["<s>", "\\n", "<", "s", ">", "s>", "a"]
    pair = open_pair(
        write_vocabulary(
            tmp_path / "rwkv.gguf",
            tokenizer__ggml__model=("str", "rwkv"),
            tokenizer__ggml__tokens=("arr[str]", words),
            tokenizer__ggml__token_type=("arr[i32]", [CONTROL, *[NORMAL] * 6]),
            tokenizer__ggml__scores=("arr[f32]", [0.0] * len(words)),
        )
    )
    assert pair.llama.tokenize(b"a<s>", False) == [6, 0]
    assert pair.by_llama.encode("a<s>") == [6, 2, 5]
    with pytest.raises(UnsuitableModel, match="no tokens for a part of 'b'"):
        pair.by_llama.encode("b")
