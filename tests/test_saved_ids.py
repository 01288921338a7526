"""A saved chat goes on with the ids that its family writes."""

from __future__ import annotations

import pytest
from conversations import template
from fakes import scripted_model
from families import pieces, vocab_of

from engine.chat import Chat
from engine.families import profile
from engine.saved import SavedChat, write_chat

ROLES = ["user", "assistant", "tool", "assistant", "user", "assistant"]


def clock() -> dict[str, int]:
    """The time."""
    return {"hour": 7}


@pytest.mark.parametrize(
    ("family", "published", "call", "wire_id"),
    [
        (
            "mistral-v3",
            "mistralai-Mistral-Nemo-Instruct-2407",
            '[TOOL_CALLS][{"name": "clock", "arguments": {}, "id": "abcDEF123"}]</s>',
            "abcDEF123",
        ),
        (
            "mistral-v11",
            "Mistral-Small-3.2-24B-Instruct-2506",
            "[TOOL_CALLS]clock[CALL_ID]abcDEF123[ARGS]{}</s>",
            "abcDEF123",
        ),
        (
            "kimi-k2",
            "Kimi-K2-Instruct",
            "<|tool_calls_section_begin|><|tool_call_begin|>functions.clock:0"
            "<|tool_call_argument_begin|>{}<|tool_call_end|><|tool_calls_section_end|><|im_end|>",
            "functions.clock:0",
        ),
    ],
)
def test_a_loaded_chat_has_its_results_under_the_ids_of_their_calls(
    family, published, call, wire_id, tmp_path
):
    vocab = vocab_of(profile(family))
    model = scripted_model(vocab, template(published).source, family=family, n_ctx=20000)
    said = pieces(vocab, call)
    with model.chat(tools=[clock]) as chat:
        model.backend.say([*said, *b"Seven.", said[-1]])
        list(chat.stream("QUESTION"))
        chat.save(tmp_path / "chat.json")
    loaded = Chat.load(tmp_path / "chat.json", model, [clock])
    model.backend.say([*b"Yes.", said[-1]])
    list(loaded.stream("NEXT"))
    assert [m.role for m in loaded.messages] == ROLES
    assert loaded.messages[2].call_id == loaded.messages[1].calls[0].wire_id == wire_id


def test_a_saved_chat_is_its_owner_s_alone_and_no_link_is_followed(tmp_path):
    import stat

    victim = tmp_path / "victim"
    victim.write_text("mine")
    path = tmp_path / "chat.json"
    (tmp_path / "chat.json.part").symlink_to(victim)
    write_chat(path, SavedChat("m", None, []))
    assert victim.read_text() == "mine"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(item.name for item in tmp_path.iterdir()) == [
        "chat.json",
        "chat.json.part",
        "victim",
    ]
