"""Families are data: read strictly, and recognised by vocabulary and template."""

from __future__ import annotations

import re

import pytest
from fakes import byte_vocab

from engine import gguf
from engine.errors import ProfileError, UsageError
from engine.families import detect, profile, profiles
from engine.family_file import read_profile
from engine.resources import resource
from engine.vocab import Vocab

GOOD = """
title = "Test"
[detect]
tokens = ["<|im_start|>"]
template = []
[ends]
"<|im_end|>" = "turn_end"
[styles.only]
grammar = "generic.lark"
triggers = [{ text = "<call>" }]
"""


def test_every_shipped_family_reads_and_its_grammars_exist():
    assert {"llama3", "hermes", "generic"} <= set(profiles())
    for item in profiles().values():
        for style in item.styles.values():
            assert resource("grammars", "tools", style.grammar).is_file()


@pytest.mark.parametrize(
    "change, key",
    [
        ('title = "x"\ntitel = 1', "titel"),
        ("[detekt]\n", "detekt"),
        ('[ends]\n"<a>" = "stop"', "ends.<a>"),
        ('[result]\nrole = "nobody"', "result.role"),
        ('[result]\nforn = "text"', "result.forn"),
        ('[styles.x]\ngrammar = "g"', "styles.x"),
        ('[styles.x]\ngrammar = "g"\ntriggers = [{ txt = "a" }]', "styles.x.triggers"),
        ("ends = 3", "ends"),
    ],
)
def test_a_mistake_in_a_family_s_file_names_file_and_key(tmp_path, change, key):
    path = tmp_path / "test.toml"
    path.write_text(
        change
        if "styles" in change
        else change + '\n[styles.y]\ngrammar = "g"\ntriggers = [{ text = "a" }]\n'
    )
    with pytest.raises(ProfileError, match=rf"^test\.toml: {re.escape(key)}") as caught:
        read_profile(path)
    assert caught.value.key == key


def test_a_syntax_error_is_one_line_with_the_file(tmp_path):
    path = tmp_path / "test.toml"
    path.write_text("title = \n")
    with pytest.raises(ProfileError, match=r"test\.toml: .*line 1"):
        read_profile(path)


@pytest.mark.parametrize(
    "template, family",
    [
        ("meta-llama-Llama-3.1-8B-Instruct", "llama3"),
        ("meta-llama-Llama-3.2-3B-Instruct", "llama3"),
        ("meta-llama-Llama-3.3-70B-Instruct", "llama3"),
    ],
)
def test_llama_templates_on_the_llama_vocabulary(shared_data, template, family):
    vocab = Vocab.from_header(gguf.read_header(shared_data / "vocab" / "llama-3.1.gguf"))
    text = (shared_data / "templates" / f"{template}.jinja").read_text(encoding="utf-8")
    found = detect(vocab, text)
    assert found.profile.name == family and "<|python_tag|>" in found.reason


@pytest.mark.parametrize(
    "template",
    [
        "Qwen-Qwen2.5-7B-Instruct",
        "Qwen-Qwen3-0.6B",
        "Qwen-QwQ-32B",
        "NousResearch-Hermes-3-Llama-3.1-8B-tool_use",
    ],
)
def test_hermes_and_qwen_templates_on_a_chatml_vocabulary(shared_data, template):
    text = (shared_data / "templates" / f"{template}.jinja").read_text(encoding="utf-8")
    assert detect(byte_vocab(), text).profile.name == "hermes"


def test_what_no_family_claims_is_generic_and_says_why():
    found = detect(byte_vocab(), "{{ messages }}")
    assert found.profile.name == "generic" and "no known family" in found.reason


def test_unknown_families_and_styles_are_refused_with_those_there_are():
    with pytest.raises(
        UsageError, match="unknown model family 'llama9'; known are generic, hermes"
    ):
        profile("llama9")
    with pytest.raises(UsageError, match="no tool style 'xml'; it has json, function_tag"):
        profile("llama3").style("xml")


def test_end_meanings_hold_the_vocabulary_s_own_ends_too(tmp_path):
    path = tmp_path / "test.toml"
    path.write_text(GOOD)
    vocab = byte_vocab(("<|im_start|>", "<|im_end|>", "<|stop|>"), ends=("<|im_end|>", "<|stop|>"))
    meanings = read_profile(path).end_meanings(vocab)
    assert meanings == {vocab.find("<|im_end|>"): "turn_end", vocab.find("<|stop|>"): "turn_end"}
