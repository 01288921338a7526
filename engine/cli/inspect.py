"""`engine inspect`: what a model file is, needs and says, from its header alone.

Knows which facts matter to a person. Loads no weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from engine.families import Detection
    from engine.fit import Memory
    from engine.gguf import Header
    from engine.profile import EndMeaning, Profile
    from engine.vocab import Vocab

DEFAULT_CTX = 8192


@dataclass(frozen=True, slots=True)
class ControlToken:
    id: int
    text: str
    meaning: str


def inspect(
    model: Annotated[str, typer.Argument(help="A path, or a name of `engine models`.")],
    ctx_size: Annotated[
        int,
        typer.Option(
            "-c",
            "--ctx-size",
            min=0,
            max=1 << 30,
            help="Context to reckon the memory for; 0: the model's own, at most 8192.",
            show_default=False,
        ),
    ] = 0,
    family: Annotated[
        str | None,
        typer.Option(
            "--family", help="Show it as this family instead of detecting it.", show_default=False
        ),
    ] = None,
    all_tokens: Annotated[
        bool, typer.Option("--all", help="Show control tokens without a known meaning as well.")
    ] = False,
    metadata: Annotated[bool, typer.Option("--metadata", help="Show every key.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Write one JSON object.")] = False,
) -> None:
    """Show what a model file holds, which family it is, and the memory that it needs."""
    from engine.cli.table import labelled, print_json, print_notes, print_rows
    from engine.errors import EngineError
    from engine.fit import check_suitable, memory
    from engine.gguf import read_header
    from engine.store import find

    header = read_header(find(model))
    notes = list(header.notes)
    try:
        check_suitable(header)
    except EngineError as error:
        notes.append(error.message)
    needed = memory(header, ctx_size or min(header.n_ctx_train or DEFAULT_CTX, DEFAULT_CTX))
    notes.extend(needed.notes)
    vocab, detection, problem = _vocabulary(header, family)
    notes.extend(problem)
    sha256, problem = _template_hash(header)
    notes.extend(problem)
    notes.extend(_missing(header, vocab))
    control = _control_tokens(header, vocab, detection)
    if json:
        facts = _facts(header, needed, vocab, detection, sha256)
        if metadata:
            facts["metadata"] = {key: _brief(value) for key, value in header.metadata.items()}
        tokens = [{"id": t.id, "text": t.text, "meaning": t.meaning} for t in control]
        print_json(**facts, control_tokens=tokens, notes=notes)
        return
    print_rows(labelled(_labels(header, needed, vocab, detection, sha256)))
    hidden = _print_tokens(control, all_tokens)
    if metadata:
        print("\nmetadata")
        print_rows([(k, header.types[k], _brief_text(v)) for k, v in header.metadata.items()], "  ")
    if hidden:
        notes.append(f"control tokens without a known meaning, shown with --all: {hidden}")
    print_notes(notes)


def _print_tokens(control: list[ControlToken], all_tokens: bool) -> int:
    """The control tokens worth a line; answers how many were left out."""
    from engine.cli.table import print_rows

    shown = [token for token in control if all_tokens or token.meaning]
    if shown:
        print("\ncontrol tokens")
        print_rows([(str(token.id), token.text, token.meaning) for token in shown], "  ")
    return len(control) - len(shown)


def _vocabulary(
    header: Header, family: str | None
) -> tuple[Vocab | None, Detection | None, list[str]]:
    """The vocabulary and the family, or why there are none: a projector is inspected too."""
    from engine.errors import ModelError
    from engine.model import family_of
    from engine.vocab import Vocab

    if "tokenizer.ggml.tokens" not in header.metadata:
        return None, None, []
    try:
        vocab = Vocab.from_header(header)
    except ModelError as error:
        return None, None, [error.message]
    return vocab, family_of(vocab, header.chat_template, family), []


def _missing(header: Header, vocab: Vocab | None) -> list[str]:
    """What a conversation would miss."""
    notes = []
    if header.has_weights and header.chat_template is None:
        notes.append(
            "no chat template: probably a base model; chat with an instruct model, or give a "
            "template with --chat-template FILE"
        )
    if vocab is not None and not vocab.eog:
        notes.append("no token ends an answer: only a limit on its length will")
    return notes


def _template_hash(header: Header) -> tuple[str, list[str]]:
    """The template's fingerprint, and what is wrong with it."""
    from engine.errors import TemplateError
    from engine.template import ChatTemplate

    if header.chat_template is None:
        return "", []
    try:
        return ChatTemplate(header.chat_template, name=header.path.name).sha256, []
    except TemplateError as error:
        return "", [f"the chat template can't be used: {error.message}"]


def _control_tokens(
    header: Header, vocab: Vocab | None, detection: Detection | None
) -> list[ControlToken]:
    """Every control token, and the texts of this family that are tokens, by id."""
    if vocab is None or detection is None:
        return []
    meanings = detection.profile.meanings(vocab)
    texts = vocab.control_texts(header.chat_template or "", detection.profile.markers)
    roles = {
        vocab.bos: "begins the text" if vocab.add_bos else "beginning of text, not added",
        vocab.eos: "the file's end token",
    }
    return [
        ControlToken(
            index,
            text,
            "; ".join(dict.fromkeys(m for m in (meanings.get(text), roles.get(index)) if m)),
        )
        for text, index in sorted(texts.items(), key=lambda item: item[1])
    ]


def _ends(vocab: Vocab | None, detection: Detection | None) -> dict[str, EndMeaning]:
    """The tokens of this vocabulary that end a message, and what each says."""
    if vocab is None or detection is None:
        return {}
    meanings = detection.profile.end_meanings(vocab)
    return {vocab.texts[token]: meaning for token, meaning in sorted(meanings.items())}


def _style_facts(profile: Profile) -> list[dict[str, Any]]:
    """How the family writes calls, its default style first."""
    return [
        {
            "name": style.name,
            "grammar": style.grammar,
            "triggers": [{trigger.kind: trigger.text} for trigger in style.triggers],
            "deviations": [other.name for other in style.deviations],
        }
        for style in profile.styles.values()
    ]


def _calls_text(profile: Profile) -> str:
    """What opens a call, by style: `token <tool_call>`."""
    return "; ".join(
        f"{style.name} opened by "
        + " or ".join(f"{each.kind} {each.text!r}" for each in style.triggers)
        for style in profile.styles.values()
    )


def _facts(
    header: Header,
    needed: Memory,
    vocab: Vocab | None,
    detection: Detection | None,
    template_sha256: str,
) -> dict[str, Any]:
    return {
        "name": header.name,
        "path": str(header.path),
        "architecture": header.architecture,
        "parameters": header.n_params,
        "quantisation": header.quantisation,
        "weight_bytes": header.weight_bytes,
        "parts": header.split_count,
        "n_ctx_train": header.n_ctx_train,
        "n_layer": header.n_layer,
        "n_embd": header.n_embd,
        "n_head": header.n_head,
        "n_head_kv": header.n_head_kv,
        "n_vocab": header.n_vocab,
        "chat_template_sha256": template_sha256 or None,
        "chat_templates": sorted(header.chat_templates),
        "family": detection.profile.name if detection else None,
        "family_reason": detection.reason if detection else None,
        "styles": _style_facts(detection.profile) if detection else [],
        "ends": _ends(vocab, detection),
        "memory": {
            "n_ctx": needed.n_ctx,
            "weights": needed.weights,
            "kv": needed.kv,
            "compute": needed.compute,
            "total": needed.total,
        },
    }


def _labels(
    header: Header,
    needed: Memory,
    vocab: Vocab | None,
    detection: Detection | None,
    sha256: str,
) -> dict[str, str]:
    from engine.cli.table import count_text, size_text
    from engine.profile import IN_WORDS

    template = f"sha256 {sha256}" if sha256 else "none"
    ends = _ends(vocab, detection)
    if header.chat_templates:
        template += f"; also {', '.join(sorted(header.chat_templates))}"
    parts = f" in {header.split_count} files" if header.split_count > 1 else ""
    weights = f"{size_text(header.weight_bytes)}{parts}" if header.has_weights else "none"
    return {
        "name": header.name,
        "file": str(header.path),
        "architecture": header.architecture or "not given",
        "parameters": count_text(header.n_params) if header.has_weights else "",
        "quantisation": header.quantisation if header.has_weights else "",
        "weights": weights,
        "shape": f"{header.n_layer} layers of {header.n_embd}, {header.n_head} heads, "
        f"{header.n_head_kv} for keys and values"
        if header.n_layer
        else "",
        "context": f"{header.n_ctx_train} tokens in training" if header.n_ctx_train else "",
        "vocabulary": f"{vocab.n_vocab} tokens, {vocab.model} ({vocab.pre})" if vocab else "none",
        "template": template,
        "family": f"{detection.profile.title} ({detection.reason})" if detection else "",
        "calls": _calls_text(detection.profile) if detection else "",
        "ends": ", ".join(f"{text} {IN_WORDS[how]}" for text, how in ends.items()),
        "memory": f"about {size_text(needed.total)} for {needed.n_ctx} tokens: weights "
        f"{size_text(needed.weights)}, cache {size_text(needed.kv)}, "
        f"compute {size_text(needed.compute)}"
        if header.has_weights
        else "",
    }


def _brief(value: Any) -> Any:
    """A metadata value for people and JSON: arrays by their length and first elements."""
    if isinstance(value, (str, int, float, bool)):
        return value if not isinstance(value, float) or value == value else "NaN"
    return {"length": len(value), "first": [_plain(item) for item in value[:8]]}


def _plain(item: Any) -> Any:
    return item.item() if hasattr(item, "item") else item


def _brief_text(value: Any) -> str:
    if isinstance(value, str):
        return value if len(value) <= 100 else f"{value[:100]}… ({len(value)} characters)"
    if isinstance(value, (int, float, bool)):
        return str(value)
    first = ", ".join(str(_plain(item)) for item in value[:6])
    return f"{len(value)}: {first}{', …' if len(value) > 6 else ''}"
