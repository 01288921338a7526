"""What a model takes from its file's header."""

from __future__ import annotations

import pytest
from gguf_files import write_vocabulary

from engine import gguf
from engine.chat import Chat
from engine.model import recommended_sampling
from engine.sampler import Sampling
from tests.fakes import scripted_model


def recommended(tmp_path, **entries) -> Sampling:
    entries = {f"general__sampling__{name}": entry for name, entry in entries.items()}
    return recommended_sampling(gguf.read_header(write_vocabulary(tmp_path / "m.gguf", **entries)))


def test_a_file_s_recommended_sampling_is_read(tmp_path):
    sampling = recommended(tmp_path, temp=("f32", 0.5), top_k=("i32", 7), penalty_last_n=("i32", 9))
    assert (sampling.temperature, sampling.top_k, sampling.repeat_last_n) == (0.5, 7, 9)
    assert sampling.top_p == Sampling().top_p


@pytest.mark.parametrize(
    "name, entry",
    [
        ("temp", ("str", "hot")),
        ("temp", ("f32", float("nan"))),
        ("temp", ("bool", True)),
        ("top_p", ("f32", 7.0)),
        ("top_k", ("f32", 4.0)),
        ("penalty_last_n", ("i32", -64)),
    ],
)
def test_a_recommendation_without_sense_counts_as_none(tmp_path, name, entry):
    assert recommended(tmp_path, **{name: entry}) == Sampling()


def test_every_way_to_a_chat_takes_the_model_s_sampling():
    model = scripted_model()
    model.sampling = Sampling(temperature=0.25)
    for chat in (model.chat(), Chat(model)):
        assert chat.sampling.temperature == 0.25
        chat.close()
    with model.chat(sampling=Sampling(temperature=1.0)) as chat:
        assert chat.sampling.temperature == 1.0
