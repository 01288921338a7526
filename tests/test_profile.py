"""Families are data: read strictly, and recognised by vocabulary and template.

`test_families.py` recognises every published template.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fakes import byte_vocab

from engine import gguf
from engine.errors import ProfileError, UsageError
from engine.families import detect, profile, profiles
from engine.family_file import read_profile
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
STYLE = """
[styles.x]
grammar = "named-json.lark"
triggers = [{ token = "<|c|>" }]
"""
PARTS = 'parts = { OPEN = "<|c|>", BEFORE = "", BETWEEN = " ", AFTER = "", CLOSE = "" }'


def test_every_shipped_family_reads_with_its_grammars():
    assert {"llama3", "hermes", "generic"} <= set(profiles())
    for item in profiles().values():
        assert all("start:" in style.source for style in item.styles.values())


@pytest.mark.parametrize(
    "text, key",
    [
        ('titel = "x"', "titel"),
        ("title = 3", "title"),
        ("[detekt]", "detekt"),
        ('detect = "<|c|>"', "detect"),
        ("[detect]\ntokens = [1]", "detect.tokens"),
        ("[detect]\nvocab = []", "detect.vocab"),
        ("ends = 3", "ends"),
        ('[ends]\n"<a>" = "stop"', "ends.<a>"),
        ('[control]\n"<a>" = 1', "control.<a>"),
        ('[thinking]\nopen = "<think>"', "thinking"),
        ('[thinking]\nopen = "a"\nclose = "b"\noff = false', "thinking.off"),
        ('[[headers]]\nopen = "<|h|>"', "headers.0"),
        ("headers = [1]", "headers.0"),
        (
            '[[headers]]\nopen = "a"\nclose = "b"\nspans = { tool = "calls" }',
            "headers.0.spans.tool",
        ),
        ('[result]\nrole = "nobody"', "result.role"),
        ('[result]\nform = "xml"', "result.form"),
        ('[result]\nforn = "text"', "result.forn"),
        ("[builtins]\ntools = { search = 1 }", "builtins.tools.search"),
        ('[sampling]\ntemperature = "hot"', "sampling.temperature"),
        ("[sampling]\ntop_k = true", "sampling.top_k"),
        ('[checked]\nweights = "none"', "checked.weights"),
        ('call_ids = "{number}"', "call_ids"),
        ('template = "{{ messages }}"', "template"),
    ],
)
def test_a_mistake_in_a_family_s_file_names_file_and_key(tmp_path, text, key):
    refused(tmp_path, f"{text}\n{STYLE}{PARTS}", key)


@pytest.mark.parametrize(
    "style, key",
    [
        ('[styles.x]\ngrammar = "generic.lark"', "styles.x"),
        ('[styles.x]\ntriggers = [{ token = "<|c|>" }]', "styles.x"),
        ("[styles]\nx = 1", "styles.x"),
        ("", "styles"),
        (f"{STYLE}{PARTS}\ngrammer = 1", "styles.x.grammer"),
        (f"{STYLE}{PARTS}\nseparator = 3", "styles.x.separator"),
        (f'{STYLE}{PARTS}\ndeviations = ["haste"]', "styles.x.deviations"),
        (STYLE.replace("token =", "tokn ="), "styles.x.triggers"),
        (STYLE.replace('"<|c|>"', "3"), "styles.x.triggers"),
        (STYLE.replace('"<|c|>"', '""'), "styles.x.triggers"),
        (STYLE.replace('[{ token = "<|c|>" }]', '["<|c|>"]'), "styles.x.triggers"),
        (STYLE.replace("named-json", "named-jsn"), "styles.x.grammar"),
        (STYLE.replace("named-json.lark", "../tools/named-json.lark"), "styles.x.grammar"),
        (STYLE, "styles.x.parts.AFTER"),
        (STYLE + PARTS.replace(" BETWEEN =", " BTWEEN ="), "styles.x.parts.BETWEEN"),
        (STYLE + PARTS.replace("{ ", '{ MORE = "", '), "styles.x.parts.MORE"),
        (STYLE + PARTS.replace('" "', "3"), "styles.x.parts.BETWEEN"),
        (STYLE + PARTS.replace('" "', '["a", 3]'), "styles.x.parts.BETWEEN"),
        (STYLE.replace("named-json", "solar"), "control.<|tool_calls|>"),
        (STYLE.replace("named-json", "mistral-v11"), "control.[TOOL_CALLS]"),
    ],
)
def test_a_mistake_in_a_style_names_file_and_key(tmp_path, style, key):
    refused(tmp_path, style, key)


def refused(folder: Path, text: str, key: str) -> None:
    (folder / "test.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ProfileError, match=rf"^test\.toml: {re.escape(key)}: ") as caught:
        read_profile(folder / "test.toml")
    assert caught.value.key == key


def test_a_mistake_says_what_is_possible(tmp_path):
    path = tmp_path / "test.toml"
    path.write_text(STYLE.replace("named-json", "named-jsn"))
    with pytest.raises(ProfileError, match=r"no 'named-jsn\.lark'.*named-json\.lark"):
        read_profile(path)
    path.write_text(f"{STYLE}{PARTS}\ngrammer = 1")
    with pytest.raises(ProfileError, match=r"unknown key; known are .*grammar"):
        read_profile(path)


def test_a_grammar_beside_the_file_comes_before_a_shipped_one(tmp_path):
    own = 'start: call@function\ncall@: "@@" name@ arguments@\n'
    (tmp_path / "named-json.lark").write_text(own)
    (tmp_path / "test.toml").write_text(STYLE)
    assert read_profile(tmp_path / "test.toml").style().source == own
    (tmp_path / "named-json.lark").write_bytes(b"\xff")
    refused(tmp_path, STYLE, "styles.x.grammar")


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
    assert detect(byte_vocab(), None, candidates=()).profile.name == "generic"


def test_unknown_families_and_styles_are_refused_with_those_there_are():
    with pytest.raises(
        UsageError, match="unknown model family 'llama9'; known are .*generic.*, hermes, "
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
