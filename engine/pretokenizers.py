"""How each `tokenizer.ggml.pre` name splits text into words before merging: a table.

Knows the names and expressions of llama.cpp (src/llama-vocab.cpp and src/unicode.cpp as of
llama-cpp-python 0.3.36), written as the regular expressions that `tokenizers` runs. Does not know
vocabularies or merges.

The expressions say what llama.cpp *does*, which is not always what its own list of expressions
says: it replaces the usual ones by hand-written code, collapses `\\p{Lu}` and its kin to `\\p{L}`,
and hides white space beyond ASCII from ranges. A differential test runs every name here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

# Assigned by Unicode 16, which `tokenizers` knows. To llama.cpp (Unicode 15) these are of no class.
_NEW = (
    r"\x{897}\x{1B4E}-\x{1B4F}\x{1B7F}\x{1C89}-\x{1C8A}\x{2427}-\x{2429}\x{31E4}-\x{31E5}"
    r"\x{A7CB}-\x{A7CD}\x{A7DA}-\x{A7DC}\x{105C0}-\x{105F3}\x{10D40}-\x{10D8F}"
    r"\x{10EC2}-\x{10EFC}\x{11380}-\x{113E2}\x{116D0}-\x{116E3}\x{11BC0}-\x{11BF9}\x{11F5A}"
    r"\x{13460}-\x{143FA}\x{16100}-\x{16139}\x{16D40}-\x{16D79}\x{18CFF}\x{1CC00}-\x{1CEB3}"
    r"\x{1E5D0}-\x{1E5FF}\x{1F8B2}-\x{1F8C1}\x{1FA89}-\x{1FA8F}\x{1FABE}\x{1FAC6}"
    r"\x{1FADC}-\x{1FADF}\x{1FAE9}\x{1FBCB}-\x{1FBEF}"
)
_CLASS = re.compile(r"\\([pP])\{(\w)\}")


@dataclass(frozen=True, slots=True)
class PreTokenizer:
    """Expressions applied in turn, each to the pieces that the one before left.

    What an expression doesn't match between two matches is a piece of its own.
    """

    patterns: tuple[str, ...]
    ignore_merges: bool = False  # a word that is a token is that token, merges or not
    add_bos: bool = False  # unless the file says
    has_bos: bool = True  # False: no default id for BOS
    byte_level: bool = True  # False: spaces become U+2581, and bytes <0xNN>
    recursive: bool = False  # llama.cpp runs std::regex: a run of 30,000 letters kills the process

    @property
    def expressions(self) -> tuple[str, ...]:
        """The patterns, with the classes of characters that llama.cpp knows."""
        return tuple(_CLASS.sub(_as_llama_cpp_knows, pattern) for pattern in self.patterns)


def _as_llama_cpp_knows(match: re.Match[str]) -> str:
    without, name = match.groups()
    return rf"[\P{{{name}}}{_NEW}]" if without == "P" else rf"[\p{{{name}}}&&[^{_NEW}]]"


_SUFFIX = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
_LEAD = r"[^\r\n\p{L}\p{N}]?"
_SPACE = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_SIGNS = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
_SIGNS_SLASH = r" ?[^\s\p{L}\p{N}]+[\r\n/]*"
_UPPER, _LOWER = r"(?:(?=\p{L})[^a-z])", r"(?:(?=\p{L})[^A-Z])"
_UPPER_M, _LOWER_M = r"(?:(?=[\p{L}\p{M}])[^a-z])", r"(?:(?=[\p{L}\p{M}])[^A-Z])"
_ASCII_SIGN = r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]"
_HAN = (
    "[\u4e00-\u9fff\u3400-\u4dbf\U00020000-\U0002a6df\U0002a700-\U0002ebef"
    "\uf900-\ufaff\U0002f800-\U0002fa1f]"
)
_HAN_KANA = "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"
_DEEPSEEK_CJK = r"(?:(?!\s)" "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff])+"
_NO_PUNCTUATION = " ?[^(\\s|.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c)]+"
_LINES = r"[^\n]+|\n+"
# Groups of three digits, counted from the right; llama.cpp leaves what stands before the first
# group joined to it. `(?>...)` and `\z` keep text without digits from being scanned over again.
_DIGITS_FROM_RIGHT = r"(?>\P{N}*)(?:\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))|\z)"

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3 = rf"{_SUFFIX}|{_LEAD}\p{{L}}+|\p{{N}}{{1,3}}|{_SIGNS}|{_SPACE}"
_QWEN2 = rf"{_SUFFIX}|{_LEAD}\p{{L}}+|\p{{N}}|{_SIGNS}|{_SPACE}"
_QWEN35 = (
    rf"{_SUFFIX}|{_LEAD}[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_SPACE}"
)
_DEEPSEEK3_WORD = rf"{_ASCII_SIGN}[A-Za-z]+|[^\r\n\p{{L}}\p{{P}}\p{{S}}]?[\p{{L}}\p{{M}}]+"
_DEEPSEEK3 = rf"{_DEEPSEEK3_WORD}| ?[\p{{P}}\p{{S}}]+[\r\n]*|{_SPACE}"
_TEKKEN = (
    rf"{_LEAD}{_UPPER}*{_LOWER}+|{_LEAD}{_UPPER}+{_LOWER}*|\p{{N}}|{_SIGNS_SLASH}|{_SPACE}"
)  # fmt: skip
_GPT4O = (
    rf"{_LEAD}{_UPPER}*{_LOWER}+{_SUFFIX}?|{_LEAD}{_UPPER}+{_LOWER}*{_SUFFIX}?"
    rf"|\p{{N}}{{1,3}}|{_SIGNS_SLASH}|{_SPACE}"
)
_GRANITE_EMBED = _GPT4O.replace(_UPPER, _UPPER_M).replace(_LOWER, _LOWER_M)
_LETTERS_MARKS = rf"{_LEAD}[\p{{L}}\p{{M}}]+{_SUFFIX}?"
_DEEPSEEK_LETTERS = (
    "A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af"
    "\u0370-\u0373\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-"
    "\u03f5\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-"
    "\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-"
    "\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc"
    "\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-"
    "\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-"
    "\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-"
    "\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-"
    "\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f\U000104b0-"
    "\U000104d3\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2\U000118a0-"
    "\U000118df\U0001e900-\U0001e943"
)


def _same(pre: PreTokenizer, names: str) -> dict[str, PreTokenizer]:
    return dict.fromkeys(names.split(), pre)


PRETOKENIZERS: Mapping[str, PreTokenizer] = {
    "default": PreTokenizer(
        (r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", "[0-9][0-9][0-9]"), recursive=True
    ),
    **_same(
        PreTokenizer((_LLAMA3,), ignore_merges=True, add_bos=True),
        "llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano",
    ),
    **_same(PreTokenizer((_LLAMA3,)), "dbrx smaug-bpe"),
    "chatglm-bpe": PreTokenizer((_LLAMA3,), has_bos=False),
    **_same(PreTokenizer((_LLAMA3,), ignore_merges=True, has_bos=False), "glm4 glm5"),
    "minicpm5": PreTokenizer(
        (r"\p{N}{1,3}", rf"{_SUFFIX}|{_LEAD}\p{{L}}+|\p{{N}}+|{_SIGNS}|{_SPACE}"),
        ignore_merges=True,
        recursive=True,
    ),
    "jais-2": PreTokenizer(
        (
            rf"{_SUFFIX}|{_LEAD}\p{{L}}+|\p{{N}}{{1,3}}|{_SIGNS}|\s*[\r\n]+"
            + "".join(rf"|\s{{{count}}}(?!\S)" for count in (512, 256, 128, 64, 32, 16, 8, 4))
            + r"|\s{1,2}(?!\S)|\s",
        ),
        recursive=True,
    ),
    "deepseek-llm": PreTokenizer(
        (
            r"[\r\n]",
            rf"\s?[{_DEEPSEEK_LETTERS}]+",
            "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3001-\u3002]+",
            r"\s+\z",
            _DEEPSEEK_CJK,
            r"\p{N}+",
        ),
        recursive=True,
    ),
    "deepseek-coder": PreTokenizer(
        (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _DEEPSEEK_CJK, r"\p{N}"), recursive=True
    ),
    **_same(
        PreTokenizer((r"\p{N}{1,3}", _HAN_KANA, _DEEPSEEK3), recursive=True),
        "deepseek-v3 hunyuan-dense joyai-llm hy_v4",
    ),
    "spark2_5": PreTokenizer(
        (
            r"\p{N}{1,3}",
            _HAN_KANA,
            rf"{_DEEPSEEK3_WORD}| ?[\p{{P}}\p{{S}}]+|[\r\n]|\s+(?!\S)|\s+",
            r"\p{N}",
        ),
        recursive=True,
    ),
    "afmoe": PreTokenizer(
        (
            _DIGITS_FROM_RIGHT,
            "[\u4e00-\u9fff\u3400-\u4dbf\u8c48-\ufaff\u3040-\u309f\u30a0-\u30ff\uff65-\uff9f"
            "\u2f00-\u2fdf\u0e40-\u0e7f\u0e80-\u0eff\u1780-\u17ff\u1000-\u109f\uaa60-\uaa7f"
            "\ua9e0-\ua9ff\uac00-\ud7af\u1100-\u11ff]+",
            _DEEPSEEK3,
        ),
        recursive=True,
    ),
    "youtu": PreTokenizer(
        (
            "[\uac00-\ud7a3\u3131-\u318e]+|[\uff01\u2026\u201c\u201d\u2018\u2019\u2014\uff1a\uff1b"
            "\uff0c\u3001-\u303f\ufe30-\ufe4f]+|[\u3105-\u312f]+|" + _HAN_KANA,
            rf"{_LETTERS_MARKS}|\p{{N}}|{_SIGNS_SLASH}|{_SPACE}",
        ),
        ignore_merges=True,
        recursive=True,
    ),
    "falcon": PreTokenizer((r"[\p{P}\$\+<=>\^~\|`]+", _GPT2, "[0-9][0-9][0-9]"), recursive=True),
    **_same(
        PreTokenizer((r"\p{N}", _GPT2)),
        "starcoder refact command-r smollm codeshell exaone minerva-7b mellum2",
    ),
    **_same(
        PreTokenizer((_GPT2,)),
        "gpt-2 mpt olmo jais trillion granite-docling phi-2 jina-es jina-de gigachat jina-v2-es "
        "jina-v2-de a.x-4.0 mellum modern-bert jina-v1-en jina-v2-code roberta-bpe exaone4",
    ),
    **_same(
        PreTokenizer((_QWEN2,)),
        "stablelm2 qwen2 deepseek-r1-qwen kormo f2llmv2 megrez hunyuan solar-open grok-2",
    ),
    "qwen35": PreTokenizer((_QWEN35,)),
    "ufakzeka": PreTokenizer((rf"{_LEAD}\p{{L}}+|\p{{N}}|{_SIGNS}|{_SPACE}",), recursive=True),
    **_same(PreTokenizer((_NO_PUNCTUATION,), recursive=True), "poro-chat bloom gpt3-finnish"),
    "viking": PreTokenizer((_NO_PUNCTUATION, r"\p{N}"), recursive=True),
    "tekken": PreTokenizer((_TEKKEN,), ignore_merges=True, add_bos=True, recursive=True),
    "chameleon": PreTokenizer(
        (
            "<sentinel:[0-9]+>",
            "IMGIMG[A-I]{1,4}Z",
            r"[\t\n]|    |  ",
            r"\p{N}",
            r"[\p{P}!-/:-@\[-`{-~]",
            _GPT2,
        ),
        add_bos=True,
        recursive=True,
    ),
    **_same(PreTokenizer((_GPT4O,), recursive=True), "gpt-4o llama4 kanana2 talkie minimax-m2"),
    "granite-embed-multi-97m": PreTokenizer((_GRANITE_EMBED,), ignore_merges=True, recursive=True),
    **_same(
        PreTokenizer(
            (
                _DIGITS_FROM_RIGHT,
                rf"{_LETTERS_MARKS}|\p{{N}}{{1,3}}|{_SIGNS_SLASH}|{_SPACE}",
            ),
            recursive=True,
        ),
        "tiny_aya cohere2moe",
    ),
    "superbpe": PreTokenizer((r"\p{N}+", "(?=(?:[0-9]{3})+(?![0-9]))"), recursive=True),
    **_same(
        PreTokenizer(
            (
                r"'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])"
                rf"|{_LEAD}\p{{L}}+|\p{{N}}|{_SIGNS}|\s*[\r\n]|\s+(?!\S)|\s+",
            ),
            recursive=True,
        ),
        "bailingmoe bailingmoe2 llada-moe",
    ),
    "seed-coder": PreTokenizer(
        (rf"{_SUFFIX}|{_LEAD}\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|{_SPACE}",),
        recursive=True,
    ),
    "kimi-k2": PreTokenizer(
        (rf"{_HAN}+|{_LEAD}(?:(?!{_HAN})\p{{L}})+{_SUFFIX}?|\p{{N}}{{1,3}}|{_SIGNS}|{_SPACE}",)
    ),
    "laguna": PreTokenizer((_LINES, _QWEN2)),
    "exaone-moe": PreTokenizer(
        (
            rf"{_SUFFIX}|{_LEAD}(?:\p{{L}}\p{{M}}*(?: \p{{L}}\p{{M}}*)*)+|\p{{N}}"
            rf"| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+",
        ),
        recursive=True,
    ),
    **_same(
        PreTokenizer((_LINES,), byte_level=False), "gemma4 granite-embed-multi-311m sarvam-moe"
    ),
}
