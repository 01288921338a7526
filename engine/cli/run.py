"""`engine run`: one prompt, one answer, an exit code.

Knows prompts from arguments and pipes, and which ending means which code. Does not know how
answers are made or drawn.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from engine.cli.consent import open_approvals
from engine.cli.console import Console
from engine.cli.draw import Drawer, JsonDrawer, ScreenDrawer
from engine.cli.interrupts import Interrupts
from engine.cli.opening import open_chat, open_model, open_servers, open_tools
from engine.cli.options import Options, takes_options
from engine.cli.prompt import check_text, read_text, typed_text
from engine.errors import GrammarError, SchemaError, UsageError
from engine.events import Event, Finish, FinishReason

EXIT_CODES: Final[dict[FinishReason, int]] = {"step_limit": 6, "context_full": 7, "cancelled": 130}


@takes_options
def run(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="A GGUF file, or the name of a model; `engine models` lists them."
        ),
    ],
    options: Options,
    prompt: Annotated[
        str | None,
        typer.Argument(metavar="PROMPT", help="The message; - or none reads it from stdin."),
    ] = None,
    json_schema: Annotated[
        str | None,
        typer.Option(
            "--json-schema", metavar="FILE|JSON", help="Answer with JSON that this schema accepts."
        ),
    ] = None,
    grammar: Annotated[
        str | None,
        typer.Option(
            "--grammar", metavar="FILE", help="Answer with what this Lark grammar accepts."
        ),
    ] = None,
    tokens: Annotated[
        bool, typer.Option("--tokens", help="With --json: a line for every token, too.")
    ] = False,
) -> None:
    """Answer one prompt: the text goes to stdout, everything else to stderr."""
    if tokens and not options.json:
        raise UsageError("--tokens needs --json: tokens are shown as JSON lines")
    console = Console()
    response_format = _response_format(json_schema, grammar)
    # What a tool prints is not the model's text: it goes to stderr.
    with redirect_stdout(console.err), Interrupts() as interrupts:
        tools = open_tools(options)
        text = _read_prompt(prompt, console)
        approvals = open_approvals(options, console, interrupts)
        with (
            open_servers(options, console) as servers,
            open_model(model, options, console, interrupts) as opened,
            interrupts.working(),
        ):
            tools += servers.tools() if servers is not None else []
            events = open_chat(opened, tools, options, approvals).stream(
                text,
                max_tokens=options.max_tokens,
                response_format=response_format,
                cancelled=interrupts.cancelled,
            )
            finish = _draw(events, _drawer(options, console, tokens), console)
    if code := EXIT_CODES.get(finish.reason, 0):
        raise typer.Exit(code)


def _drawer(options: Options, console: Console, with_tokens: bool) -> Drawer:
    if options.json:
        return JsonDrawer(console, with_tokens=with_tokens)
    return ScreenDrawer(console, verbose=options.verbose, stats=options.verbose)


def _draw(events: Iterator[Event], drawer: Drawer, console: Console) -> Finish:
    """Draw until the end. The answer ends with a newline on stdout."""
    try:
        for event in events:
            drawer.draw(event)
            if isinstance(event, Finish):
                return event
    finally:
        console.end_line()
    raise AssertionError("an answer ended without Finish")


def _read_prompt(prompt: str | None, console: Console) -> str:
    if prompt is None or prompt == "-":
        is_typed = sys.stdin.isatty() and os.name == "posix"
        if sys.stdin.isatty():
            console.note("the prompt, then Ctrl-D:", "dim")
        prompt = read_text(typed_text if is_typed else sys.stdin.read).removesuffix("\n")
    if not prompt.strip():
        raise UsageError("the prompt is empty; give it as an argument or on stdin")
    return check_text(prompt, "the prompt")


def _response_format(json_schema: str | None, grammar: str | None) -> Any:
    """A schema, a Grammar of Lark text or GBNF, or None."""
    if json_schema is not None and grammar is not None:
        raise UsageError("--json-schema and --grammar exclude each other")
    if json_schema is not None:
        return _read_schema(json_schema)
    if grammar is None:
        return None
    from engine.grammar import Grammar

    make = Grammar.from_gbnf if Path(grammar).suffix == ".gbnf" else Grammar.from_lark
    return make(_read(grammar, "--grammar"), Path(grammar).name)


def _read_schema(source: str) -> Any:
    is_inline = source.lstrip().startswith(("{", "[", "true", "false"))
    text = source if is_inline else _read(source, "--json-schema")
    where = "--json-schema" if is_inline else source
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SchemaError(f"{where}: not JSON: {error}") from error
    if not isinstance(schema, dict | bool):
        raise SchemaError(f"{where}: a schema is an object, found {type(schema).__name__}")
    return schema


def _read(path: str, option: str) -> str:
    try:
        return Path(path).expanduser().read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{option} {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise GrammarError(f"{option} {path}: not UTF-8 text") from error
