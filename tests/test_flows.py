"""Llama 3.1's three ways of calling tools, token for token on its real vocabulary.

The flow files lost the blank lines that the official template writes; `restored` puts them back.
The model's part is scripted; prompts, results, roles and ends are the engine's.
"""

from __future__ import annotations

import json
import re
from typing import Annotated

import pytest
from fakes import ScriptedBackend

import engine
from engine import gguf
from engine.events import Control, Finish, Text, Token, ToolCall, ToolResult
from engine.families import detect, profile
from engine.llama import LlamaVocab
from engine.model import Model
from engine.template import ChatTemplate
from engine.tokenizer import HeaderTokenizer, LlamaTokenizer
from engine.vocab import Vocab

GREEDY = engine.Sampling(temperature=0)
HEADER = re.compile(r"(<\|start_header_id\|>\w+<\|end_header_id\|>)\n+")


@pytest.fixture(scope="module")
def llama31(shared_data):
    header = gguf.read_header(shared_data / "vocab" / "llama-3.1.gguf")
    vocab = Vocab.from_header(header)
    native = LlamaVocab(header.path)
    yield header, vocab, native
    native.close()


@pytest.fixture
def model(llama31):
    return made(llama31, None)


def made(llama31, template: str | None) -> Model:
    header, vocab, native = llama31
    source = template or header.chat_template
    return Model(
        name="llama-3.1",
        vocab=vocab,
        backend=ScriptedBackend(vocab.n_vocab, n_batch=256),
        tokenizer=LlamaTokenizer(vocab, native.tokenize),
        template=ChatTemplate(source, bos="<|begin_of_text|>", eos="<|eot_id|>"),
        detection=detect(vocab, source),
    )


def restored(text: str) -> str:
    """The flow with the blank lines that the official template writes, and no line after it."""
    text = HEADER.sub(r"\1\n\n", text.rstrip("\n"))
    text = text.replace("<|eot_id|>\n<|start_header_id|>", "<|eot_id|><|start_header_id|>")
    text = text.replace(
        "Tools: brave_search, wolfram_alpha\n", "Tools: brave_search, wolfram_alpha\n\n"
    )
    return re.sub(r"(Today Date: .*)\n", r"\1\n\n", text)


def spoken(text: str) -> list[str]:
    """The assistant's messages, end tokens included."""
    return re.findall(
        r"<\|start_header_id\|>assistant<\|end_header_id\|>\n\n(.*?<\|eo[mt]_id\|>)", text, re.S
    )


def message(text: str, role: str) -> str:
    found = re.search(
        rf"<\|start_header_id\|>{role}<\|end_header_id\|>\n\n(.*?)<\|eot_id\|>", text, re.S
    )
    assert found is not None
    return found.group(1)


def script(model: Model, llama31, text: str) -> list[int]:
    """Put the assistant's messages of a flow into the backend's mouth; answers the flow's ids."""
    native = llama31[2]
    for said in spoken(text):
        model.backend.say(native.tokenize(said.encode(), True))
    return native.tokenize(text.encode(), True)


def ends_of(events) -> list[str]:
    return [event.name for event in events if isinstance(event, Control) and "end" in event.meaning]


def test_built_in_tools_end_with_eom_and_go_on_after_the_result(model, llama31, shared_data):
    flow = restored((shared_data / "flows" / "llama31-builtin.txt").read_text(encoding="utf-8"))
    expected = script(model, llama31, flow)
    result = message(flow, "ipython")

    def wolfram_alpha(query: str) -> dict:
        """Ask Wolfram Alpha."""
        assert query == "solve x^3 - 4x^2 + 6x - 24 = 0"
        return {"is": "replaced"}

    def brave_search(query: str) -> dict:
        """Search the web."""
        raise AssertionError("not called")

    chat = model.chat(
        "You are a helpful assistant.",
        tools=[brave_search, wolfram_alpha],
        sampling=GREEDY,
        variables={"date_string": "23 July 2024", "tools_in_user_message": False},
    )
    events = list(chat.stream(message(flow, "user")))
    assert next(e for e in events if isinstance(e, ToolCall)).name == "wolfram_alpha"
    assert ends_of(events) == ["<|eom_id|>", "<|eot_id|>"]
    python_tag = llama31[1].find("<|python_tag|>")
    assert any(isinstance(e, Token) and e.id == python_tag == 128010 for e in events)
    # The flow's result has "..." in it, so it is no JSON: it is compared as what the tool gave.
    ours = llama31[1].bytes_of(chat.sequence.ids).decode()
    assert ours.replace('{"is": "replaced"}', result) == flow
    before = ours.index('{"is"')
    prefix = llama31[2].tokenize(ours[:before].encode(), True)
    assert list(chat.sequence.ids[: len(prefix) - 1]) == expected[: len(prefix) - 1]


def test_custom_tools_as_json_end_with_eot_and_are_answered(llama31, shared_data):
    flow = restored((shared_data / "flows" / "llama31-json.txt").read_text(encoding="utf-8"))
    # Meta's page has no date and no `Environment: ipython`: the family's plain template is used,
    # and the caller's own words tell the model of its tool.
    plain = profile("llama3").template
    model = made(llama31, plain)
    expected = script(model, llama31, flow)
    result = json.loads(message(flow, "ipython"))

    def run(location: str, unit: str) -> dict:
        assert (location, unit) == ("San Francisco, CA", "Fahrenheit")
        return result

    told = json.loads(
        re.search(r"\n(\{\n\"type\": \"function\".*\n\})\nQuestion", flow, re.S).group(1)
    )
    function = told["function"]
    tool = engine.Tool.from_schema(
        function["name"], function["description"], function["parameters"], run
    )
    chat = model.chat(message(flow, "system"), tools=[tool], sampling=GREEDY)
    events = list(chat.stream(message(flow, "user")))
    assert next(e for e in events if isinstance(e, ToolCall)).name == "get_current_conditions"
    assert ends_of(events) == ["<|eot_id|>", "<|eot_id|>"]
    assert list(chat.sequence.ids) == expected


def test_function_tags_come_from_our_tool_prompt_in_the_official_template(
    model, llama31, shared_data
):
    flow = restored(
        (shared_data / "flows" / "llama31-function-tag.txt").read_text(encoding="utf-8")
    )
    expected = script(model, llama31, flow)
    songs = json.loads(message(flow, "ipython"))

    def spotify_trending_songs(n: Annotated[int, "Number of trending songs to get"]) -> list:
        """Get top trending songs on Spotify"""
        assert n == 5  # the flow gives the text "5": it is converted
        return songs

    def brave_search(query: str) -> str:
        """Search."""
        raise AssertionError("not called")

    def wolfram_alpha(query: str) -> str:
        """Compute."""
        raise AssertionError("not called")

    chat = model.chat(
        "You are a helpful assistant.",
        tools=[brave_search, wolfram_alpha, spotify_trending_songs],
        sampling=GREEDY,
        style="function_tag",
        constrain=False,  # under the mask a number would be a number
        variables={"date_string": "23 July 2024"},
    )
    events = list(chat.stream(message(flow, "user")))
    assert next(e for e in events if isinstance(e, ToolCall)).arguments == {"n": "5"}
    assert not any(isinstance(e, ToolResult) and e.is_error for e in events)
    assert ends_of(events) == ["<|eom_id|>", "<|eot_id|>"]
    assert list(chat.sequence.ids) == expected


def test_text_before_no_call_is_plain_text_and_eot_ends_it(model, llama31):
    model.backend.say(llama31[2].tokenize("{ 이것은 call이 아닙니다 }<|eot_id|>".encode(), True))

    def nothing(x: int) -> str:
        """Nothing."""
        return ""

    events = list(model.chat(tools=[nothing], sampling=GREEDY).stream("?"))
    assert "".join(e.text for e in events if isinstance(e, Text)) == "{ 이것은 call이 아닙니다 }"
    assert next(e for e in events if isinstance(e, Finish)).reason == "end_turn"


def test_both_tokenizers_give_the_same_prompt(model, llama31, shared_data):
    from dataclasses import replace

    for name in ("llama31-builtin", "llama31-json", "llama31-function-tag"):
        text = (shared_data / "flows" / f"{name}.txt").read_text(encoding="utf-8")
        prompt = model.prompt()
        other = replace(prompt, tokenizer=HeaderTokenizer(llama31[1]))
        messages = [engine.Message("user", text)]
        assert prompt.opening(messages)[1].ids == other.opening(messages)[1].ids
