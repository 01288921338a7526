"""The embedded model's file and its training data: what they promise, without running the model."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from engine import gguf
from engine.families import detect, profile
from engine.messages import Call, Message, ToolSpec
from engine.prompt import Prompt
from engine.store import find
from engine.template import ChatTemplate
from engine.tokenizer import HeaderTokenizer
from engine.vocab import CONTROL, Vocab
from models.tiny import chains, corpus
from models.tiny.conversations import Conversation, conversation
from models.tiny.skills import Skill, domains
from models.tiny.values import Language, draw, kinds

WEATHER = ToolSpec(
    "get_weather",
    "Current weather in a city.",
    {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
SEARCH = ToolSpec("brave_search", "", {"type": "object", "properties": {}})


@pytest.fixture(scope="module")
def header() -> gguf.Header:
    return gguf.read_header(find(None))


@pytest.fixture(scope="module")
def prompt(header: gguf.Header) -> Prompt:
    vocab = Vocab.from_header(header)
    assert header.chat_template is not None
    template = ChatTemplate(header.chat_template, bos="<|begin_of_text|>")
    family = profile("llama3")
    return Prompt(template, HeaderTokenizer(vocab), vocab, family, family.style("json"), {})


def rendered(prompt: Prompt, messages: list[Message], *tools: ToolSpec) -> str:
    return prompt.opening(messages, list(tools))[0].text


def calling(name: str, **arguments: str) -> list[Message]:
    return [
        Message("user", "?"),
        Message("assistant", calls=(Call("call_1", name, arguments),)),
        Message("tool", {"temperature": 21}, call_id="call_1", name=name),
    ]


# The file


def test_the_file_is_small_and_has_the_long_context(header: gguf.Header) -> None:
    assert header.file_size <= 8 * 2**20
    assert header.n_ctx_train == 4096
    assert header.architecture == "llama"
    assert 1_000_000 < header.n_params < 10_000_000


def test_it_is_detected_as_llama_3_by_tokens_and_template(header: gguf.Header) -> None:
    detection = detect(Vocab.from_header(header), header.chat_template)
    assert detection.profile.name == "llama3"


def test_its_vocabulary_is_llama_3_s_in_form(header: gguf.Header) -> None:
    vocab = Vocab.from_header(header)
    assert header.metadata["tokenizer.ggml.pre"] == "llama-bpe"
    assert 4000 <= len(vocab.tokens) <= 8000
    for name in ("begin_of_text", "start_header_id", "end_header_id", "eom_id", "eot_id"):
        assert vocab.kinds[vocab.texts.index(f"<|{name}|>")] == CONTROL
    singles = {vocab.data(index) for index in range(len(vocab.tokens))}
    assert {bytes([byte]) for byte in range(256)} <= singles


@pytest.mark.parametrize("word", ["Seoul", "서울", "Trakovia", "2026-03-14", "notes/a_b.txt", "42"])
def test_a_value_has_the_same_tokens_in_a_sentence_and_in_a_call(prompt: Prompt, word: str) -> None:
    encode = prompt.tokenizer.encode
    alone = encode(word)
    for before, after in ((" ", " ?"), ('"', '"}}'), (": ", "\n")):
        text = encode(before + word + after)
        places = range(len(text) - len(alone) + 1)
        assert any(text[at : at + len(alone)] == alone for at in places), before


def test_korean_takes_about_a_token_a_syllable(prompt: Prompt) -> None:
    text = "내일 오후 세 시에 부산에서 회의가 있는데 날씨를 알려 주시겠어요?"
    assert len(prompt.tokenizer.encode(text)) < 1.25 * len(text)


# The template


def test_built_in_tools_are_listed_and_called_as_llama_3_1_does(prompt: Prompt) -> None:
    text = rendered(prompt, calling("brave_search", query="서울"), SEARCH)
    assert "Environment: ipython\nTools: brave_search\n" in text
    assert '<|python_tag|>brave_search.call(query="서울")<|eom_id|>' in text
    assert '<|start_header_id|>ipython<|end_header_id|>\n\n{"temperature": 21}<|eot_id|>' in text


def test_custom_tools_are_called_in_json_and_end_the_turn(prompt: Prompt) -> None:
    text = rendered(prompt, calling("get_weather", city="Seoul"), WEATHER)
    assert '{"name": "get_weather", "parameters": {"city": "Seoul"}}<|eot_id|>' in text
    assert text.count("Current weather in a city.") == 1
    assert text.endswith("<|start_header_id|>assistant<|end_header_id|>\n\n")


def test_beside_built_in_tools_custom_calls_end_the_message_only(prompt: Prompt) -> None:
    text = rendered(prompt, calling("get_weather", city="Seoul"), WEATHER, SEARCH)
    assert '"parameters": {"city": "Seoul"}}<|eom_id|>' in text


# The data


def some(count: int, seed: int = 5) -> list[Conversation]:
    rng = random.Random(seed)
    return [conversation(rng) for _ in range(count)]


def test_the_same_seed_gives_the_same_conversations() -> None:
    assert some(40) == some(40)
    assert some(40) != some(40, seed=6)


def test_both_languages_both_styles_and_every_shape_come_up() -> None:
    talks = some(400)
    assert min(Counter(talk.language for talk in talks).values()) > 150
    assert Counter(talk.style for talk in talks)["function_tag"] > 10
    names = Counter(call.name for talk in talks for m in talk.messages for call in m.calls)
    assert names["brave_search"] and names["wolfram_alpha"] and len(names) > 300
    roles = {tuple(m.role for m in talk.messages[:6]) for talk in talks}
    assert ("user", "assistant", "tool", "assistant", "tool", "assistant") in roles  # a chain
    errors = [m for talk in talks for m in talk.messages if "error" in str(m.content)[:9]]
    assert len(errors) > 10


def test_every_call_names_an_offered_tool_and_its_parameters() -> None:
    for talk in some(400):
        specs = {tool.name: tool for tool in talk.tools}
        for call in (call for message in talk.messages for call in message.calls):
            if call.name in ("brave_search", "wolfram_alpha"):
                assert list(call.arguments) == ["query"]
                continue
            schema = specs[call.name].parameters
            assert set(schema.get("required", ())) <= set(call.arguments)
            order = [key for key in schema["properties"] if key in call.arguments]
            assert list(call.arguments) == order  # as the mask has them


def test_text_arguments_stand_in_what_was_said_before() -> None:
    """Copying is all that the model is asked to do."""
    told, all_ = 0, 0
    for talk in some(400):
        said = ""
        for message in talk.messages:
            said += message.text
            for call in message.calls:
                spec = next((tool for tool in talk.tools if tool.name == call.name), SEARCH)
                for name, value in call.arguments.items():
                    schema = spec.parameters["properties"].get(name, {})
                    if isinstance(value, str) and "enum" not in schema:
                        all_ += 1
                        told += value in said
    assert told / all_ > 0.97  # the others are time zones, said by their cities


@pytest.mark.parametrize("language", ["en", "ko"])
def test_every_domain_can_be_drawn_whole(language: str) -> None:
    rng = random.Random(3)
    for domain in domains():
        for _ in range(5):
            request = Skill(domain, rng, language).request(rng, language)  # type: ignore[arg-type]
            assert request.text and request.answer
            assert "{" not in request.text and "(은/는)" not in request.text + request.answer


def test_calls_weigh_double_and_what_others_say_nothing() -> None:
    data = corpus.encode(find(None), 5, 60, 1152, processes=1)
    vocab = Vocab.from_header(gguf.read_header(find(None)))
    edges = np.flatnonzero(np.diff(data.weights)) + 1
    openers = (b'{"name"', b"<function=", b"<|python_tag|>")
    seen: Counter[tuple[int, bool]] = Counter()
    for ids, weights in zip(np.split(data.ids, edges), np.split(data.weights, edges), strict=True):
        text = b"".join(vocab.data(int(token)) for token in ids)
        is_said = (
            text.endswith((b"<|eot_id|>", b"<|eom_id|>")) and b"<|start_header_id|>" not in text
        )
        assert is_said == (weights[0] > 0), text
        seen[int(weights[0]), text.startswith(openers)] += 1
    assert set(seen) == {(0, False), (corpus.ANSWER, False), (corpus.CALL, True)}
    assert corpus.CALL == 2 * corpus.ANSWER


@pytest.mark.parametrize("language", ["en", "ko"])
@pytest.mark.parametrize("pair", chains.pairs(), ids=lambda p: f"{p['first']}-{p['second']}")
def test_a_chain_hands_a_result_on_and_says_what_else_it_needs(
    pair: Mapping[str, Any], language: Language
) -> None:
    by_id = {domain["id"]: domain for domain in domains()}
    rng = random.Random(7)
    for _ in range(12):
        first, second = (Skill(by_id[pair[key]], rng, language) for key in ("first", "second"))
        step = chains.Linked(pair, first, second, [first, second]).request(rng, language)
        result = step.one.result
        value = result[pair["value"]] if isinstance(result, dict) else result
        assert step.two.arguments[second.names[pair["into"]]] == value
        assert "{" not in step.text + step.answer
        for skill, use in ((first, step.one), (second, step.two)):
            required = skill.spec.parameters.get("required", [])
            assert set(required) <= set(use.arguments), (step.text, required)
            jsonschema.validate(use.arguments, skill.spec.parameters)


@pytest.mark.parametrize("kind", kinds())
def test_every_kind_is_drawn_in_both_languages(kind: str) -> None:
    rng = random.Random(4)
    whole = {"int": "int:1:9", "float": "float:1:9:1", "list": "list:city"}.get(kind, kind)
    if kind in ("enum", "choice", "say"):
        whole = f"{kind}:on=켜기|off=끄기"
    for language in ("en", "ko"):
        value, text = draw(whole, rng, language)  # type: ignore[arg-type]
        assert value is not None and text


def test_the_shipped_template_is_the_one_in_the_file(header: gguf.Header) -> None:
    source = Path(__file__).parents[1] / "models" / "tiny" / "template.jinja"
    assert header.chat_template == source.read_text("utf-8")
