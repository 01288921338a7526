"""A model's vocabulary: what each token id stands for, and which ids steer the conversation.

Knows GGUF's tokenizer metadata and llama.cpp's rules for reading it, so that bytes, kinds and ends
of generation are those of the running model. Does not know how text becomes tokens.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from engine import special, tokenbytes
from engine.errors import UnsuitableModel
from engine.pretokenizers import PRETOKENIZERS

if TYPE_CHECKING:
    from engine.gguf import Header

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
KINDS = ("undefined", "normal", "unknown", "control", "user-defined", "unused", "byte")

# Tokenizer models that llama.cpp generates text with, and their ids where the file names none.
_DEFAULTS: Mapping[str, Mapping[str, int]] = {
    "llama": {"bos": 1, "eos": 2, "unk": 0},
    "gpt2": {"bos": 11, "eos": 11},
    "gemma4": {},
    "hybriddna": {"bos": 11, "eos": 11},
    "whitespace": {"bos": 11, "eos": 11},
    "bert": {"bos": 101, "unk": 100, "sep": 102, "pad": 0, "mask": 103},
    "t5": {"eos": 1, "unk": 2, "pad": 0},
    "rwkv": {},
    "plamo2": {"bos": 1, "eos": 2, "unk": 0, "pad": 3},
}
_BYTE_PAIR = frozenset({"gpt2", "gemma4", "hybriddna", "whitespace"})
_ROLE_KEYS = {
    "bos": "bos_token_id",
    "eos": "eos_token_id",
    "eot": "eot_token_id",
    "eom": "eom_token_id",
    "unk": "unknown_token_id",
    "sep": "seperator_token_id",  # GGUF's own spelling
    "pad": "padding_token_id",
    "mask": "mask_token_id",
    "fim_pre": "fim_pre_token_id",
    "fim_suf": "fim_suf_token_id",
    "fim_mid": "fim_mid_token_id",
    "fim_pad": "fim_pad_token_id",
    "fim_rep": "fim_rep_token_id",
    "fim_sep": "fim_sep_token_id",
}
_OLD_ROLE_KEYS = {
    "fim_pre": "prefix_token_id",
    "fim_suf": "suffix_token_id",
    "fim_mid": "middle_token_id",
}
# User-defined tokens that no ordinary text contains: `<|YES_TOKEN|>`, gemma's `<|"|>`, and the
# `[PAD151646]` rows with which conversion fills a vocabulary up.
_MARKER = re.compile(r"<\||\|>|<｜|｜>|^\[PAD\d+\]$")


@dataclass(frozen=True, eq=False)
class Vocab:
    """The vocabulary of one model. Immutable; shared by everything that handles its tokens.

    `tokens[id]` are the bytes that the id adds to the output; a control token's are its text.
    `texts[id]` is the text stored in the file, in the file's own spelling (`Ġthe`, `▁the`).
    `kinds[id]` is one of the constants above, after llama.cpp's corrections by name.
    """

    tokens: Sequence[bytes]
    texts: Sequence[str]
    kinds: NDArray[np.uint8]
    model: str = "gpt2"
    pre: str = "default"
    bos: int | None = None
    eos: int | None = None
    eot: int | None = None
    eom: int | None = None
    eog: frozenset[int] = frozenset()
    add_bos: bool = False
    add_space_prefix: bool = False
    spaces_escaped: bool = False  # texts spell a space as U+2581
    merges: Sequence[str] = ()
    scores: NDArray[np.float32] | None = None
    lstrip: frozenset[int] = frozenset()  # ids that swallow the white space before them,
    rstrip: frozenset[int] = frozenset()  # and after them, as Phi-3's do

    @classmethod
    def from_header(cls, header: Header) -> Vocab:
        """Read the vocabulary of a GGUF file. About 0.2 s for 150,000 tokens.

        Raises UnsuitableModel for a file without a vocabulary or with a tokenizer unknown to us.
        """
        return _Reader(header).vocab()

    @property
    def n_vocab(self) -> int:
        return len(self.tokens)

    @cached_property
    def ids(self) -> Mapping[str, int]:
        """The id of each stored text."""
        return {text: index for index, text in enumerate(self.texts)}

    @cached_property
    def control(self) -> Mapping[str, int]:
        """The texts of all control tokens (kind 3), with their ids."""
        return MappingProxyType(self._texts_of(CONTROL))

    def control_texts(
        self, template_source: str = "", markers: Iterable[str] = ()
    ) -> dict[str, int]:
        """The texts that must never come from content, with their ids.

        Every control and unknown token; and every user-defined token that a profile names in
        `markers`, that the template's source contains, or that looks like nothing but a marker.
        User-defined white space and bare words, which llama.cpp parses in any text, are not.
        """
        named = frozenset(markers)
        out = self._texts_of(UNKNOWN, CONTROL)
        for text, index in self._texts_of(USER_DEFINED).items():
            is_plain = len(text) < 2 or text.isalnum() or not text.replace("▁", " ").strip()
            if text in named or (
                not is_plain and (text in template_source or _MARKER.search(text))
            ):
                out[text] = index
        return out

    def _texts_of(self, *kinds: int) -> dict[str, int]:
        return {self.texts[i]: i for i in np.flatnonzero(np.isin(self.kinds, kinds)).tolist()}

    def find(self, text: str) -> int | None:
        """The id whose stored text is exactly `text`."""
        return self.ids.get(text)

    def is_control(self, index: int) -> bool:
        """Whether the id is a control or an unknown token: never part of ordinary text."""
        return index in self._controls

    @cached_property
    def _controls(self) -> frozenset[int]:
        """The ids of control and unknown tokens: a set, since every token is looked up in it."""
        return frozenset(np.flatnonzero(np.isin(self.kinds, (CONTROL, UNKNOWN))).tolist())

    def data(self, index: int) -> bytes:
        """The bytes that the id stands for."""
        return self.tokens[index]

    def bytes_of(self, ids: Iterable[int]) -> bytes:
        """The bytes of a run of tokens; they may end within a character."""
        return b"".join([self.tokens[index] for index in ids])

    def name(self, index: int) -> str:
        """The token as a person would read it: its text, bytes that are none as `\\xNN`."""
        return self.tokens[index].decode("utf-8", "backslashreplace")


class _Reader:
    """Makes a Vocab of a header's tokenizer metadata, whose types `read_header` has checked."""

    def __init__(self, header: Header) -> None:
        self.header = header
        self.model = self.text("tokenizer.ggml.model")
        if "tokenizer.ggml.tokens" not in header.metadata:
            raise self.unsuitable("it holds no vocabulary (tokenizer.ggml.tokens)")
        if self.model not in _DEFAULTS:
            known = ", ".join(_DEFAULTS)
            raise self.unsuitable(f"its tokenizer {self.model!r} is none that we know ({known})")
        self.pre = "gemma4" if self.model == "gemma4" else self.text("tokenizer.ggml.pre")
        self.rules = PRETOKENIZERS.get(self.pre) if self.model in _BYTE_PAIR else None

    def vocab(self) -> Vocab:
        texts = [text or f"[EMPTY_{index}]" for index, text in enumerate(self.get("tokens", []))]
        ids = dict(zip(texts, range(len(texts)), strict=True))
        fixed = special.correct(self.kinds(len(texts)), ids, self.roles(len(texts)))
        escaped = self.model in ("llama", "t5", "bert") or (
            self.rules is not None and not self.rules.byte_level
        )
        try:
            tokens = tokenbytes.decode(texts, fixed.kinds, self.model, spaces_escaped=escaped)
        except ValueError as error:
            raise self.unsuitable(f"a token of its vocabulary can't be read ({error})") from error
        lstrip, rstrip = special.white_space_swallowers(
            fixed.kinds,
            ids,
            name=self.text("general.name"),
            pre=self.text("tokenizer.ggml.pre"),
            architecture=self.text("general.architecture"),
        )
        scores = self.get("scores")
        vocab = Vocab(
            tokens=tokens,
            texts=texts,
            kinds=fixed.kinds,
            model=self.model,
            pre=self.pre or "default",
            bos=fixed.roles.get("bos"),
            eos=fixed.roles.get("eos"),
            eot=fixed.roles.get("eot"),
            eom=fixed.roles.get("eom"),
            eog=fixed.eog,
            add_bos=self.add_bos(),
            add_space_prefix=self.model == "llama" and self.get("add_space_prefix", True),
            spaces_escaped=escaped,
            merges=self.get("merges", ()),
            scores=None if scores is None else scores.astype(np.float32),
            lstrip=lstrip,
            rstrip=rstrip,
        )
        vocab.__dict__["ids"] = ids
        return vocab

    def get(self, key: str, default: Any = None) -> Any:
        return self.header.metadata.get(f"tokenizer.ggml.{key}", default)

    def text(self, key: str) -> str:
        return str(self.header.metadata.get(key, ""))

    def kinds(self, count: int) -> NDArray[np.uint8]:
        found = self.get("token_type")
        return np.full(count, NORMAL, np.uint8) if found is None else found.astype(np.uint8)

    def roles(self, count: int) -> dict[str, int]:
        """The ids that the file names, or its tokenizer model's defaults, where in range."""
        out = {role: index for role, index in _DEFAULTS[self.model].items() if index < count}
        if self.rules is not None and not self.rules.has_bos:
            out.pop("bos", None)
        for role, key in (*_ROLE_KEYS.items(), *_OLD_ROLE_KEYS.items()):
            index = self.get(key)
            if index is not None and index < count:
                out[role] = int(index)
        return out

    def add_bos(self) -> bool:
        by_model = self.rules.add_bos if self.rules else self.model in ("llama", "bert")
        return self.pre == "gemma4" or bool(self.get("add_bos_token", by_model))

    def unsuitable(self, what: str) -> UnsuitableModel:
        path = self.header.path
        return UnsuitableModel(
            f"{path}: {what}; use a GGUF that was converted for text generation",
            path=str(path),
            tokenizer=self.model,
        )
