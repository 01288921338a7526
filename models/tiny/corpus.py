"""Conversations as token ids, with a weight on what the model is to learn to say.

Knows how the engine renders and encodes a prompt: its own classes do it here too, so training sees
exactly the ids that `engine chat` makes. Does not know the model.
"""

from __future__ import annotations

import multiprocessing
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine import gguf
from engine.families import profile
from engine.messages import Message
from engine.prompt import Prompt
from engine.template import ChatTemplate
from engine.tokenizer import HeaderTokenizer
from engine.vocab import Vocab
from models.tiny.conversations import Conversation, conversation, phrase_book
from models.tiny.skills import domains

# A call has one right form, an answer many: much of what an answer could teach is chance.
ANSWER, CALL = 1, 2

HERE = Path(__file__).parent
TEMPLATE = HERE / "template.jinja"


@dataclass(frozen=True, slots=True)
class Corpus:
    """Token ids of all conversations one after the other; `weights` mark the assistant's own.

    Conversation i is `ids[starts[i]:starts[i + 1]]`. A weight is 0 for what others say, else ANSWER
    or CALL.
    """

    ids: NDArray[np.uint16]
    weights: NDArray[np.uint8]
    starts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts) - 1


def texts(seed: int, count: int) -> Iterator[str]:
    """Rendered conversations without control tokens, for learning the vocabulary."""
    template = ChatTemplate(TEMPLATE.read_text("utf-8"), bos="")
    rng = random.Random(seed)
    for _ in range(count):
        talk = conversation(rng)
        text = template.render(_messages(talk), tools=talk.tools).text
        yield from (part for part in _cut(text) if part)


def phrases() -> list[str]:
    """All sentences with placeholders, values left out: words that are never copied."""
    out = []
    for each in (
        *domains(),
        *phrase_book()["talk"],
        *(phrase_book()[k] for k in ("about", "no_tool", "error", "generic")),
    ):
        for key in ("asks", "asks_ko", "answers", "answers_ko", "describe", "describe_ko"):
            out += [" " + text for text in each.get(key, ())]
    return out


def encode(vocabulary: Path, seed: int, count: int, longest: int, processes: int = 2) -> Corpus:
    """`count` conversations drawn from `seed`; those over `longest` tokens are left out.

    The result does not depend on `processes`: each thousand has a seed of its own.
    """
    jobs = [
        (str(vocabulary), seed * 1_000_003 + index, min(1000, count - start), longest)
        for index, start in enumerate(range(0, count, 1000))
    ]
    if processes > 1:
        with multiprocessing.get_context("spawn").Pool(processes) as pool:
            parts = pool.starmap(_encode_some, jobs)
    else:
        parts = [_encode_some(*job) for job in jobs]
    rows = [row for part in parts for row in part]
    lengths = np.array([len(ids) for ids, _ in rows], dtype=np.int64)
    return Corpus(
        np.concatenate([ids for ids, _ in rows]),
        np.concatenate([weights for _, weights in rows]),
        np.concatenate([[0], np.cumsum(lengths)]),
    )


def _encode_some(vocabulary: str, seed: int, count: int, longest: int) -> list[Any]:
    rng = random.Random(seed)
    rows = []
    for _ in range(count):
        ids = ids_of(Path(vocabulary), conversation(rng))
        if len(ids) <= longest:
            rows.append((ids, _weights(Path(vocabulary), ids)))
    return rows


@cache
def prompt(vocabulary: Path, style: str) -> Prompt:
    """The engine's own way from messages to ids, for this vocabulary."""
    vocab = Vocab.from_header(gguf.read_header(vocabulary))
    template = ChatTemplate(TEMPLATE.read_text("utf-8"), bos="<|begin_of_text|>")
    family = profile("llama3")
    return Prompt(template, _tokenizer(vocabulary), vocab, family, family.style(style), {})


@cache
def _tokenizer(vocabulary: Path) -> HeaderTokenizer:
    return HeaderTokenizer(Vocab.from_header(gguf.read_header(vocabulary)))


def ids_of(vocabulary: Path, talk: Conversation) -> NDArray[np.uint16]:
    encoding = prompt(vocabulary, talk.style).opening(_messages(talk), talk.tools)[1]
    return np.array(encoding.ids, dtype=np.uint16)


def _weights(vocabulary: Path, ids: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Above zero for each token that the model itself must produce, the end token included."""
    tokenizer = _tokenizer(vocabulary)
    names = tokenizer.vocab.texts
    header = [names.index("<|start_header_id|>"), *tokenizer.encode("assistant")]
    header += [names.index("<|end_header_id|>"), *tokenizer.encode("\n\n")]
    ends = (names.index("<|eot_id|>"), names.index("<|eom_id|>"))
    calls = [tokenizer.encode(text)[0] for text in ('{"name"', "<function")]
    calls.append(names.index("<|python_tag|>"))
    weights = np.zeros(len(ids), dtype=np.uint8)
    windows = np.lib.stride_tricks.sliding_window_view(ids, len(header))
    begins = np.flatnonzero((windows == header).all(axis=1)) + len(header)
    stops = np.flatnonzero(np.isin(ids, ends))
    for begin in begins:
        after = stops[stops >= begin]
        if len(after):  # the last header has nothing behind it: the model is to speak there
            weights[begin : after[0] + 1] = CALL if ids[begin] in calls else ANSWER
    return weights


def _messages(talk: Conversation) -> list[Message]:
    system = [Message("system", talk.system)] if talk.system else []
    return [*system, *talk.messages]


def _cut(text: str) -> list[str]:
    return re.split(r"<\|[a-z_]+\|>", text)
