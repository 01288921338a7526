"""`engine tokens`: a text or a conversation as the model would get it, token by token.

Knows files of messages and how to show tokens. Loads no weights; files with only a vocabulary do.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from engine.families import Detection
    from engine.gguf import Header
    from engine.messages import Message, ToolSpec
    from engine.template import Rendered
    from engine.tokenizer import Encoding, Tokenizer
    from engine.vocab import Vocab


@dataclass(frozen=True, slots=True)
class _Opened:
    """What a file says without its weights."""

    header: Header
    vocab: Vocab
    tokenizer: Tokenizer
    detection: Detection
    template: str | None  # given on the command line
    notes: list[str]


def tokens(
    model: Annotated[str, typer.Argument(help="A path, or a name of `engine models`.")],
    text: Annotated[
        str | None,
        typer.Argument(help="The text; - or none reads it from stdin.", show_default=False),
    ] = None,
    messages: Annotated[
        str | None,
        typer.Option(
            "--messages",
            metavar="FILE",
            help="Render this JSON through the chat template: a list of messages, or an object "
            'with "messages" and "tools"; - reads stdin.',
        ),
    ] = None,
    special: Annotated[
        bool, typer.Option("--special", help="Take control texts in TEXT for control tokens.")
    ] = False,
    family: Annotated[
        str | None,
        typer.Option("--family", help="Take the model for this family instead of detecting it."),
    ] = None,
    chat_template: Annotated[
        str | None,
        typer.Option("--chat-template", metavar="FILE", help="Use this Jinja template."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Write one JSON object.")] = False,
) -> None:
    """Show a text or a conversation as tokens: ids, bytes, what each means and comes from.

    Only what the template writes can become control tokens; content never does.
    """
    from engine.cli.table import print_json, print_notes, print_rows
    from engine.errors import UsageError

    if messages is not None and (text is not None or special):
        raise UsageError(
            "--messages excludes TEXT and --special: the template says what is special"
        )
    conversation = None if messages is None else read_conversation(messages)
    opened = _open(model, family, chat_template)
    if conversation is None:
        rendered, encoding = _encode_text(opened, _text(text), special)
    else:
        rendered, encoding = _encode_conversation(opened, *conversation)
    records = _records(opened, encoding)
    if json:
        print_json(
            model=str(opened.header.path),
            family=opened.detection.profile.name,
            text=rendered.text,
            content=rendered.content,
            tokens=records,
            notes=opened.notes,
        )
        return
    print_rows([_row(number, record) for number, record in enumerate(records)])
    print_notes([*opened.notes, _summary(records)])


def _open(model: str, family: str | None, chat_template: str | None) -> _Opened:
    from engine.cli.opening import read_template
    from engine.errors import UnsuitableModel
    from engine.gguf import read_header
    from engine.model import family_of
    from engine.store import find
    from engine.tokenizer import HeaderTokenizer, LlamaTokenizer
    from engine.vocab import Vocab

    source = None if chat_template is None else read_template(chat_template)
    header = read_header(find(model))
    vocab = Vocab.from_header(header)
    notes = []
    tokenizer: Tokenizer
    try:
        tokenizer = HeaderTokenizer(vocab)
    except UnsuitableModel as error:
        from engine.llama import LlamaVocab

        tokenizer = LlamaTokenizer(vocab, LlamaVocab(header.path).tokenize)
        notes.append(f"llama.cpp tokenises: {error.message}")
    detection = family_of(vocab, source or header.chat_template, family)
    return _Opened(header, vocab, tokenizer, detection, source, notes)


def _text(text: str | None) -> str:
    from engine.cli.prompt import check_text, read_text

    if text is None or text == "-":
        return read_text(sys.stdin.read)
    return check_text(text, "TEXT")


def _encode_text(opened: _Opened, text: str, special: bool) -> tuple[Rendered, Encoding]:
    from engine.template import Rendered
    from engine.tokenizer import encode_rendered

    rendered = Rendered(text, () if special or not text else ((0, len(text)),))
    return rendered, encode_rendered(rendered, opened.tokenizer, _control(opened), add_bos=False)


def _encode_conversation(
    opened: _Opened, messages: Sequence[Message], tools: Sequence[ToolSpec]
) -> tuple[Rendered, Encoding]:
    """As a chat would open with these messages, up to where the model answers."""
    from engine.model import template_for
    from engine.prompt import Prompt

    profile = opened.detection.profile
    template = template_for(opened.header, opened.vocab, profile, opened.template)
    prompt = Prompt(template, opened.tokenizer, opened.vocab, profile, profile.style(None))
    return prompt.opening(messages, tools)


def _control(opened: _Opened) -> dict[str, int]:
    source = opened.template or opened.header.chat_template or ""
    return opened.vocab.control_texts(source, opened.detection.profile.markers)


def read_conversation(path: str) -> tuple[list[Message], list[ToolSpec]]:
    """The messages and tools of a JSON file. Raises UsageError naming the file and the place."""
    import json

    from engine.cli.prompt import read_text
    from engine.errors import UsageError
    from engine.messages import message_from_dict

    name = "stdin" if path == "-" else path
    try:
        source = Path(path).expanduser().read_text(encoding="utf-8") if path != "-" else ""
        data = json.loads(source if path != "-" else read_text(sys.stdin.read))
    except OSError as error:
        raise UsageError(f"--messages {name}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"--messages {name}: not JSON: {error}") from error
    if isinstance(data, list):
        data = {"messages": data}
    if not isinstance(data, dict) or not isinstance(data.get("messages"), list):
        raise UsageError(f'--messages {name}: expected a list, or an object with "messages"')
    tools = data.get("tools")
    tools = [] if tools is None else tools
    if not isinstance(tools, list):
        raise UsageError(f"--messages {name}: tools: expected a list")
    return (
        [
            message_from_dict(item, f"{name}: messages[{index}]")
            for index, item in enumerate(data["messages"])
        ],
        [_tool(item, f"{name}: tools[{index}]") for index, item in enumerate(tools)],
    )


def _tool(data: object, where: str) -> ToolSpec:
    """A tool as OpenAI-style files have it, with or without the outer object."""
    from engine.errors import UsageError
    from engine.messages import ToolSpec

    if isinstance(data, Mapping) and isinstance(data.get("function"), Mapping):
        data = data["function"]
    if not isinstance(data, Mapping) or not isinstance(data.get("name"), str):
        raise UsageError(f'{where}: expected an object with a "name"')
    parameters = data.get("parameters")
    if parameters is None:
        return ToolSpec(data["name"], str(data.get("description") or ""))
    if not isinstance(parameters, Mapping):
        raise UsageError(f"{where}.parameters: expected a JSON Schema object")
    return ToolSpec(data["name"], str(data.get("description") or ""), parameters)


def _records(opened: _Opened, encoding: Encoding) -> list[dict[str, Any]]:
    """One object a token. `data` are its bytes in hexadecimal, `text` those of them in UTF-8."""
    vocab = opened.vocab
    meanings = opened.detection.profile.meanings(vocab)
    if vocab.bos is not None:
        meanings.setdefault(vocab.texts[vocab.bos], "beginning of text")
    control = frozenset(_control(opened).values())
    rows = zip(encoding.ids, encoding.origins, encoding.offsets, strict=True)
    return [
        {
            "id": index,
            "data": vocab.tokens[index].hex(),
            "text": vocab.tokens[index].decode("utf-8", "replace"),
            "control": index in control,
            "meaning": meanings.get(vocab.texts[index], "") if index in control else "",
            "origin": origin,
            "start": start,
            "end": end,
        }
        for index, origin, (start, end) in rows
    ]


def _row(number: int, record: Mapping[str, Any]) -> tuple[str, ...]:
    data = bytes.fromhex(record["data"])
    meaning = record["meaning"] or "control"
    return (
        f"{number:>5}",
        f"{record['id']:>6}",
        f"'{data.decode('utf-8', 'backslashreplace')}'",
        record["origin"],
        f"{record['start']}:{record['end']}",
        meaning if record["control"] else "",
    )


def _summary(records: Sequence[Mapping[str, Any]]) -> str:
    control = sum(record["control"] for record in records)
    content = sum(record["origin"] == "content" for record in records)
    return f"{len(records)} tokens, {control} of them control tokens, {content} of content"
