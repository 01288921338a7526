"""Masks agree with brute force, refusals change nothing, and errors name their place."""

from __future__ import annotations

import numpy as np
import pytest
from fakes import ByteTokenizer, byte_vocab

from engine import gguf
from engine.constraint import Terminals
from engine.errors import GrammarError, SchemaError
from engine.grammar import Grammar, lark_json
from engine.tokenizer import HeaderTokenizer
from engine.vocab import Vocab

WORDS = ['{"', '": ', "ab", "abc", "서", "}", "true", '"}']
VOCAB = byte_vocab(words=WORDS)
END = VOCAB.find("<|im_end|>")
ENCODE = ByteTokenizer(VOCAB).encode
SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "string", "maxLength": 3}},
    "required": ["a"],
    "additionalProperties": False,
}


def allowed(constraint) -> set[int]:
    mask = constraint.mask()
    return {i for i in range(VOCAB.n_vocab) if mask[i >> 5] >> np.uint32(i & 31) & 1}


def feed(constraint, text: str) -> None:
    for token in ENCODE(text):
        constraint.advance(token)


@pytest.mark.parametrize(
    "grammar, texts",
    [
        (Grammar.from_regex("[ab]+c?"), ["", "ab", "abc"]),
        (Grammar.from_regex("서울|서(산|초)"), ["", "서"]),
        (Grammar.from_lark('start: "a" (b | "}")*\nb: "b" "c"?\n'), ["", "a", "ab", "a}"]),
        (Grammar.from_schema(SCHEMA), ["{", '{"a": "', '{"a": "ab']),
    ],
)
def test_masks_equal_brute_force(grammar, texts):
    for text in texts:
        constraint = grammar.constraint(VOCAB)
        feed(constraint, text)
        found = allowed(constraint)
        brute = {token for token in range(VOCAB.n_vocab) if constraint.allows(token)}
        assert found == brute, text


def test_end_tokens_are_allowed_exactly_where_the_grammar_may_end():
    constraint = Grammar.from_schema(SCHEMA).constraint(VOCAB)
    for token in ENCODE('{"a": "x"}'):
        assert not constraint.allows(END) and not constraint.is_accepting
        constraint.advance(token)
    assert constraint.allows(END) and allowed(constraint) == {END}
    constraint.advance(END)
    assert constraint.is_done and allowed(constraint) == set()


def test_a_refused_token_leaves_the_state_unchanged():
    constraint = Grammar.from_schema(SCHEMA).constraint(VOCAB)
    feed(constraint, '{"a": "a')
    before = allowed(constraint)
    for token in (END, ENCODE("\n")[0]):
        with pytest.raises(GrammarError, match="not allowed"):
            constraint.advance(token)
    assert allowed(constraint) == before
    feed(constraint, 'b"}')
    assert constraint.is_accepting


def test_rewind_undoes_advances_end_tokens_included():
    constraint = Grammar.from_regex("[abc]+").constraint(VOCAB)
    feed(constraint, "a")
    before = allowed(constraint)
    constraint.advance(VOCAB.find("ab"))
    constraint.advance(END)
    constraint.rewind(2)
    assert allowed(constraint) == before


def test_control_tokens_are_terminals_of_their_own_and_never_text():
    start = VOCAB.find("<|im_start|>")
    constraint = Grammar.from_lark(f"start: <[{start}]> /[a-z<>|_]+/\n").constraint(VOCAB)
    assert allowed(constraint) == {start}
    constraint.advance(start)
    assert start not in allowed(constraint) and END not in allowed(constraint)


def test_markers_given_as_special_cannot_appear_inside_a_string():
    vocab = byte_vocab(user_defined=["<tool_call>"])
    marker = vocab.find("<tool_call>")
    grammar = Grammar.from_lark("start: /[a-z<>_]+/\n")
    plain = grammar.constraint(vocab, Terminals.of(vocab))
    special = grammar.constraint(vocab, Terminals.of(vocab, [marker]))
    assert plain.allows(marker) and not special.allows(marker)


def test_captures_give_names_and_bytes_in_order():
    grammar = Grammar.from_lark(
        'start: n ":" v\nn[capture="name"]: /[a-z]+/\nv[capture="value"]: ' + lark_json(SCHEMA)
    )
    constraint = grammar.constraint(VOCAB)
    feed(constraint, 'f:{"a": "서"}')
    assert constraint.captures() == [("name", b"f"), ("value", '{"a": "서"}'.encode())]


def test_schemas_are_written_as_json_dumps_writes():
    constraint = Grammar.from_schema(SCHEMA).constraint(VOCAB)
    with pytest.raises(GrammarError):
        feed(constraint, '{"a":"x"}')


@pytest.mark.parametrize("name", ["llama-spm", "gemma-4", "qwen2", "llama-3.1"])
def test_forced_text_is_spelled_without_a_space_of_the_tokenizer_s_own(shared_data, name):
    """SentencePiece puts a space before a text; in the middle of a message there is none."""
    vocab = Vocab.from_header(gguf.read_header(shared_data / "vocab" / f"{name}.gguf"))
    encode = HeaderTokenizer(vocab).encode_inside
    constraint = Grammar.from_lark('start: "<tool_call>" /[0-9]+/\n').constraint(vocab)
    tokens = constraint.forced(encode)
    assert b"".join(map(vocab.data, tokens)) in (b"<tool_call>", b"<tool_call")
    for token in tokens:
        constraint.advance(token)


def test_nothing_is_forced_inside_a_character():
    constraint = Grammar.from_lark('start: "서울" | "ab"\n').constraint(VOCAB)
    first, *rest = "서울".encode()
    constraint.advance(VOCAB.find(bytes([first]).decode("latin-1")) or first)
    assert constraint.forced(ENCODE) == []
    for byte in rest:
        constraint.advance(byte)
    assert constraint.is_done


def test_forced_tokens_hold_back_what_a_longer_token_may_swallow():
    """After `{"a": ` comes a quote, but `"x` and the like would be tokens as well as `"`."""
    vocab = byte_vocab(words=['{"a"', ": ", '"x', '"'])
    encode = ByteTokenizer(vocab).encode
    constraint = Grammar.from_schema(SCHEMA).constraint(vocab)
    forced = b"".join(map(vocab.data, constraint.forced(encode)))
    assert forced == b'{"a": '


@pytest.mark.parametrize(
    "grammar, message",
    [
        (Grammar.from_lark("start: foo\n", "calc.lark"), r"^calc\.lark:1:8: .* foo"),
        (Grammar.from_lark('start: "a" (\n', "calc.lark"), r"^calc\.lark:2:1: unexpected the end"),
        (Grammar.from_regex("a\ud800", "pattern"), "is not a character"),
        (Grammar.from_regex("a(?!.*)b", "pattern"), "pattern: "),
        (Grammar.from_regex("(a+", "pattern"), r"^pattern:1:1: a group without its \)"),
    ],
)
def test_grammar_errors_name_file_line_and_column_in_one_line(grammar, message):
    with pytest.raises(GrammarError, match=message) as caught:
        grammar.constraint(VOCAB)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    "schema, keyword",
    [
        ({"type": "strin"}, "type"),
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"type": "object", "patternProperties": {"(a)\\1": {}}}, "patternProperties"),
        ({"type": "string", "pattern": "(?<=a)b"}, "pattern"),
    ],
)
def test_schemas_that_cannot_be_enforced_are_refused_by_keyword(schema, keyword):
    with pytest.raises(SchemaError) as caught:
        Grammar.from_schema(schema).constraint(VOCAB)
    assert caught.value.keyword == keyword and "\n" not in caught.value.message
