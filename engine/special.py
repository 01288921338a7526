"""Which tokens are special: llama.cpp's corrections by name, and the ends of generation.

Knows the token texts that llama.cpp singles out (src/llama-vocab.cpp, build of llama-cpp-python
0.3.36). Does not know bytes, files or families: what an end *means* is the profile's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)

# Where a file names no such token, the first of these that the vocabulary holds. llama.cpp takes
# whichever its hash table gives first; we take a fixed order, so that two runs agree.
BY_NAME: Mapping[str, tuple[str, ...]] = {
    "eot": (
        "<|eot_id|>",
        "<|im_end|>",
        "<|end|>",
        "<end_of_turn>",
        "<|endoftext|>",
        "<|end_of_text|>",
        "<EOT>",
        "_<EOT>",
        "[EOT]",
        "<｜end▁of▁sentence｜>",
        "<end_of_utterance>",
    ),
    "eom": ("<|eom_id|>",),
    "fim_pre": (
        "<|fim_prefix|>",
        "<fim-prefix>",
        "<fim_prefix>",
        "<｜fim▁begin｜>",
        "<PRE>",
        "▁<PRE>",
        "<|code_prefix|>",
        "<|prefix|>",
    ),
    "fim_suf": (
        "<|fim_suffix|>",
        "<fim-suffix>",
        "<fim_suffix>",
        "<｜fim▁hole｜>",
        "<SUF>",
        "▁<SUF>",
        "<|code_suffix|>",
        "<|suffix|>",
    ),
    "fim_mid": (
        "<|fim_middle|>",
        "<fim-middle>",
        "<fim_middle>",
        "<｜fim▁end｜>",
        "<MID>",
        "▁<MID>",
        "<|code_middle|>",
        "<|middle|>",
    ),
    "fim_pad": ("<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"),
    "fim_rep": ("<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"),
    "fim_sep": ("<|file_sep|>",),
}

ENDS = (
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
)

HARMONY_TEXT = ("<|channel|>", "<|message|>", "<|start|>", "<|constrain|>")


@dataclass(frozen=True, slots=True)
class Special:
    """The kinds after correction, the ids by role (`bos`, `eot`, `fim_pad`, ...) and the ends."""

    kinds: NDArray[np.uint8]
    roles: Mapping[str, int]
    eog: frozenset[int]


def correct(kinds: NDArray[np.uint8], ids: Mapping[str, int], roles: Mapping[str, int]) -> Special:
    """Apply llama.cpp's corrections: `ids` maps texts to ids, `roles` what the file names."""
    kinds = kinds.copy()
    found = dict(roles)
    for role, names in BY_NAME.items():
        if role in found:
            continue
        for name in names:
            if name in ids:
                found[role] = ids[name]
                kinds[ids[name]] = CONTROL
                break

    ends = {found[role] for role in ("fim_pad", "fim_rep", "fim_sep") if role in found}
    for name in ENDS:
        if name in ids:
            ends.add(ids[name])
            kinds[ids[name]] = CONTROL
    for name in HARMONY_TEXT:
        if name in ids:
            kinds[ids[name]] = USER_DEFINED
    ends.update(found[role] for role in ("eos", "eot", "eom") if role in found)

    def ends_with(*names: str) -> bool:
        return all(ids.get(name) in ends for name in names)

    # Harmony and Solar end messages with <|end|> and turns with other tokens.
    call = ends_with("<|call|>") or ends_with("<|calls|>")
    if call and ends_with("<|end|>") and (ends_with("<|return|>") or ends_with("<|flush|>")):
        ends.discard(ids["<|end|>"])
        kinds[ids["<|end|>"]] = USER_DEFINED
    # For gemma-4 and PLaMo, </s> is a word like any other.
    if ends_with("</s>") and (ends_with("<|tool_response>") or ends_with("<|plamo:eos|>")):
        ends.discard(ids["</s>"])
        kinds[ids["</s>"]] = NORMAL
    return Special(kinds, found, frozenset(ends))


def white_space_swallowers(
    kinds: NDArray[np.uint8], ids: Mapping[str, int], *, name: str, pre: str, architecture: str
) -> tuple[frozenset[int], frozenset[int]]:
    """The ids that swallow white space before them, and after them, in text that is parsed.

    GGUF doesn't carry these attributes; llama.cpp goes by the model's name, and so do we.
    """

    def contains(text: str, parts: Iterable[str]) -> bool:
        return any(part in text for part in parts)

    def those(*names: str) -> set[int]:
        return {ids[text] for text in names if text in ids}

    if contains(pre, ("jina-v2-de", "jina-v2-es", "jina-v2-code")) or contains(
        architecture, ("nomic-bert-moe", "jina-bert-v3")
    ):
        return frozenset(those("<mask>")), frozenset()
    name = name.lower()
    if contains(name, ("phi-3", "phi3")):
        special = np.flatnonzero(np.isin(kinds, (UNKNOWN, CONTROL, USER_DEFINED)))
        after = set(special.tolist()) | those("</s>")
        return frozenset(), frozenset(after - those("<unk>", "<s>", "<|endoftext|>"))
    if "modern-bert" in name:
        return frozenset(those("[MASK]")), frozenset()
    return frozenset(), frozenset()
