"""models/README.md shows how to add a family: its blocks as they are make one that works."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fakes import byte_vocab, scripted_model
from families import pieces

import engine
from engine.events import Control, ToolCall
from engine.families import detect, profiles
from engine.family_file import read_profile
from engine.probing import recognise
from engine.profile import Profile
from engine.vocab import Vocab

README = Path(__file__).parents[1] / "models" / "README.md"


def block(kind: str) -> str:
    """The README's one block of this kind."""
    found = re.findall(rf"^```{kind}\n(.*?)^```$", README.read_text("utf-8"), re.M | re.S)
    assert len(found) == 1, kind
    return found[0]


@pytest.fixture
def aurora(tmp_path) -> Profile:
    (tmp_path / "aurora.lark").write_text(block("lark"), encoding="utf-8")
    (tmp_path / "aurora.toml").write_text(block("toml"), encoding="utf-8")
    return read_profile(tmp_path / "aurora.toml")


def vocab_for(family: Profile) -> Vocab:
    return byte_vocab(sorted(family.markers), ends=sorted(family.ends))


def test_the_new_family_is_recognised_among_the_others(aurora):
    vocab = vocab_for(aurora)
    found = detect(vocab, block("jinja"), [*profiles().values(), aurora])
    assert found.profile is aurora and "<|use|>" in found.reason
    # Step 1: without the file, the form of such calls is read off the template.
    assert "as its template writes them" in recognise(vocab, block("jinja")).reason


@pytest.mark.parametrize("is_known", [True, False])
def test_a_conversation_goes_as_the_page_shows_it(aurora, is_known):
    """Also without the family's file, by what is read off the template."""
    vocab, flow = vocab_for(aurora), block("text")
    family = aurora if is_known else recognise(vocab, block("jinja")).profile
    model = scripted_model(vocab, block("jinja"), family=family)
    for said in re.findall(r"(?<=<\|turn\|>assistant\n).*?(?:<\|end\|>|<\|wait\|>)", flow, re.S):
        model.backend.say(pieces(vocab, said))
    degrees = {"Seoul": 21, "Busan": 24}

    def get_weather(city: str) -> str:
        """The weather in a city."""
        return f"{degrees[city]} degrees in {city}"

    chat = model.chat(tools=[get_weather], sampling=engine.Sampling(temperature=0))
    events = list(chat.stream("Warmer in Seoul or in Busan?"))
    calls = [(e.name, dict(e.arguments)) for e in events if isinstance(e, ToolCall)]
    assert calls == [("get_weather", {"city": city}) for city in degrees]
    ends = [e.name for e in events if isinstance(e, Control) and e.name in family.ends]
    assert ends == ["<|wait|>", "<|end|>"] and chat.messages[-1].text == "Busan."
    told = vocab.bytes_of(chat.sequence.ids).decode()
    assert told.startswith("<|turn|>tools\n") and told.endswith(flow.rstrip("\n"))


@pytest.mark.parametrize(
    "change, key",
    [
        (("title =", "titel ="), "titel"),
        (('"aurora.lark"', '"aurore.lark"'), "styles.calls.grammar"),
        (('parts = { ARROW = " <- " }\n', ""), "styles.calls.parts.ARROW"),
        (('"<|done|>" = "end of a tool call"\n', ""), "control.<|done|>"),
        (('separator = "\\n"', "separator = 3"), "styles.calls.separator"),
    ],
)
def test_the_mistakes_that_the_page_names_are_errors(aurora, tmp_path, change, key):
    changed = block("toml").replace('"<|use|>", "<|done|>"', '"<|use|>"').replace(*change)
    (tmp_path / "aurora.toml").write_text(changed, encoding="utf-8")
    with pytest.raises(engine.EngineError, match=re.escape(f"aurora.toml: {key}: ")):
        read_profile(tmp_path / "aurora.toml")
