"""What follows a message of the model: its end once, and the mark of what comes next."""

from __future__ import annotations

import pytest
from conversations import template
from fakes import scripted_model
from families import pieces, vocab_of

from engine.families import profile
from engine.messages import Call, Message


def after(family: str, published: str, said: str, new: list[Message], calls=()) -> str:
    """What is prefilled behind a message of the model."""
    vocab = vocab_of(profile(family))
    model = scripted_model(vocab, template(published).source, family=family)
    history = [Message("user", "QUESTION")]
    _, encoding = model.prompt().following(history, new, calls=calls, said=pieces(vocab, said))
    return vocab.bytes_of(encoding.ids).decode()


@pytest.mark.parametrize(
    ("family", "published", "said", "begins"),
    [
        (
            "command-r7b",
            "CohereForAI-c4ai-command-r7b-12-2024-tool_use",
            "<|START_RESPONSE|>Yes.<|END_RESPONSE|><|END_OF_TURN_TOKEN|>",
            "<|START_OF_TURN_TOKEN|>",
        ),
        (
            "kimi-k3",
            "Kimi-K3",
            "Yes.<|close|>response<|sep|><|close|>message<|sep|><|end_of_msg|>",
            "<|open|>message",
        ),
        ("apriel", "Apriel-1.6-15b-Thinker-fixed", "Yes.<|end|>", "\n<|begin_user|>"),
        ("laguna-xs", "poolside-Laguna-XS.2", "Yes.\n</assistant>", "\n<user>"),
        ("nemotron-nano-v2", "NVIDIA-Nemotron-Nano-v2", "Yes.<SPECIAL_12>", "\n<SPECIAL_11>User"),
        ("hermes", "Qwen-Qwen3-0.6B", "Yes.<|im_end|>", "\n<|im_start|>user"),
        ("qwen3-coder", "Qwen3-Coder", "Yes.<|endoftext|>", "\n<|im_start|>user"),
        ("glm4.5", "GLM-4.6", "Yes.<|user|>", "\nNEXT"),
        ("glm4.5", "GLM-4.6", "Yes.<|endoftext|>", "<|user|>\nNEXT"),
        ("glm4.7", "GLM-4.7-Flash", "Yes.<|endoftext|>", "<|user|>NEXT"),
        ("hermes", "Qwen-Qwen3-0.6B", "Yes", "<|im_end|>\n<|im_start|>user"),
    ],
)
def test_a_message_ends_once_and_the_next_one_begins_with_its_mark(family, published, said, begins):
    assert after(family, published, said, [Message("user", "NEXT")]).startswith(begins)


@pytest.mark.parametrize(
    ("family", "published", "said", "begins"),
    [
        ("glm4.5", "GLM-4.6", "<|observation|>", "\n<tool_response>"),
        ("glm4.5", "GLM-4.6", "<|user|>", "<|observation|>\n<tool_response>"),
        ("gemma4", "google-gemma-4-31B-it", "<|tool_response>", "response:f{"),
        ("gemma4", "google-gemma-4-31B-it", "<turn|>", "<|tool_response>response:f{"),
        (
            "functionary-v3.1",
            "meetkai-functionary-medium-v3.1",
            "<|eot_id|>",
            "<|start_header_id|>ipython",
        ),
    ],
)
def test_a_result_begins_with_its_mark_whichever_token_ended_the_call(
    family, published, said, begins
):
    call = Call("call_1", "f", {"x": 1})
    result = Message("tool", {"y": 2}, call_id="call_1", name="f")
    assert after(family, published, said, [result], calls=(call,)).startswith(begins)


@pytest.mark.parametrize(
    ("family", "published"),
    [
        ("gemma4", "google-gemma-4-31B-it"),
        ("gpt-oss", "openai-gpt-oss-120b"),
        ("hermes", "Qwen-Qwen3-0.6B"),
        ("minimax-m2", "MiniMax-M2"),
        ("minimax-m3", "MiniMax-M3"),
        ("mistral-v3", "mistralai-Mistral-Nemo-Instruct-2407"),
        ("mistral-v11", "Mistral-Small-3.2-24B-Instruct-2506"),
        ("solar-open", "upstage-Solar-Open-100B"),
    ],
)
def test_the_model_is_told_of_a_call_that_could_not_be_read(family, published):
    error = Message("tool", {"error": {"message": "PROBLEM"}}, name="error")
    assert "PROBLEM" in after(family, published, "{", [error])


def test_arguments_that_look_like_a_place_to_fill_in_stay_what_they_are():
    vocab = vocab_of(profile("gemma3"))
    model = scripted_model(vocab, template("google-gemma-2-2b-it").source, family="gemma3")
    call = Call("call_1", "f", {"x": "{arguments} {name}"})
    messages = [Message("user", "a"), Message("assistant", calls=(call,)), Message("user", "b")]
    rendered, _ = model.prompt().opening(messages)
    assert "[f(x='{arguments} {name}')]" in rendered.text
