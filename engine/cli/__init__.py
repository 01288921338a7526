"""The `engine` command: names its subcommands, turns what goes wrong into one line and a code.

Knows the names, one-line helps and modules of the commands. Does not import them until one is
invoked: `engine --help` costs Typer and nothing else. Model text goes to stdout and everything
else to stderr; with `--json` an error is also one JSON line on stdout, last in the stream.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from itertools import takewhile
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from engine._version import __version__
from engine.errors import EngineError

if TYPE_CHECKING:
    from typer import Context

# name: (module, function, help). Listed by `engine --help` in this order.
COMMANDS: Final[dict[str, tuple[str, str, str]]] = {
    "chat": ("engine.cli.chat", "chat", "Talk with a model, with Python functions as its tools."),
    "run": ("engine.cli.run", "run", "Answer one prompt: for scripts and pipes."),
    "tokens": ("engine.cli.tokens", "tokens", "Show a text or a conversation as tokens."),
    "inspect": ("engine.cli.inspect", "inspect", "Show what a model file holds and needs."),
    "models": ("engine.cli.models", "models", "List the models found on this machine."),
    "pull": ("engine.cli.pull", "pull", "Download a model from the Hugging Face hub."),
    "mcp": ("engine.cli.mcp", "mcp", "List the tools of MCP servers, or call one."),
    "doctor": ("engine.cli.doctor", "doctor", "Check this installation and its devices."),
}
INTERRUPTED: Final = 130
DISK: Final = 8
DISK_ERRORS: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG})
BROKEN_PIPE: Final = 141  # what a shell reports for a program that SIGPIPE ended


class LazyCommand(TyperCommand):
    """A command that is listed by name and help, and imported when it is invoked."""

    def __init__(self, name: str, module: str, function: str, help: str) -> None:
        super().__init__(name, help=help)
        self._module = module
        self._function = function

    def load(self) -> TyperCommand:
        """Import the module and build the real command."""
        function = getattr(import_module(self._module), self._function)
        app = typer.Typer(add_completion=False, rich_markup_mode=None)
        app.command(name=self.name, help=function.__doc__)(function)
        command = typer.main.get_command(app)
        assert isinstance(command, TyperCommand)
        return command

    def make_context(
        self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any
    ) -> Any:
        return self.load().make_context(info_name, args, parent=parent, **extra)


def _show_version(wanted: bool) -> None:
    if not wanted:
        return
    print(f"engine {__version__}")
    raise typer.Exit


class _ReaderGone(Exception):
    """Whoever read our stdout went away."""


class _Group(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:  # Typer would make exit code 1 of it
            raise _ReaderGone from error


# Rich would draw the help in boxes, and take 100 ms to be imported for it.
app = typer.Typer(name="engine", cls=_Group, rich_markup_mode=None)


@app.callback(
    epilog="Exit codes: 0 ok, 2 usage, 3 model, 4 template, 5 grammar or schema, 6 tool, "
    "7 context full, 8 disk, 9 internal, 130 interrupted."
)
def _engine(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Run local GGUF models in process: chat, tools, constrained output."""


def build() -> TyperGroup:
    """The whole command tree, nothing of it loaded."""
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    for name, (module, function, text) in COMMANDS.items():
        group.add_command(LazyCommand(name, module, function, text))
    return group


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command line and exit with its code. Never shows a traceback without `--debug`."""
    _open_missing_streams()
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # see __main__
        signal.signal(signal.SIGINT, signal.default_int_handler)
    arguments = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    debug = "--debug" in takewhile(lambda word: word.startswith("-"), arguments)
    try:
        code = _run(arguments, debug)
        sys.stdout.flush()
    except (BrokenPipeError, _ReaderGone):
        code = _let_go_of_stdout(BROKEN_PIPE)
    except OSError as error:
        with contextlib.suppress(OSError):  # the same disk may be behind stderr
            print(f"engine: the output can't be written: {error.strerror}", file=sys.stderr)
        code = _let_go_of_stdout(DISK)
    sys.exit(code)


def _open_missing_streams() -> None:
    """Python has None for a stream that was closed before it began (`engine ... >&-`)."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115


def _run(arguments: list[str], debug: bool) -> int:
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        return int(build().main(arguments, prog_name="engine", standalone_mode=False) or 0)
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except _ReaderGone:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            raise
        if debug:
            import traceback

            traceback.print_exc()
        return _report(error, as_json="--json" in arguments)


def _report(error: Exception, *, as_json: bool) -> int:
    """Say what went wrong in one line on stderr, with `--json` also on stdout. Answers the code."""
    from engine.cli.console import printable_line
    from engine.cli.jsonl import error_record, write_record

    code, message = _explain(error)
    if code and as_json:
        write_record(sys.stdout, error_record(error, message, code))
    print(f"engine: {printable_line(message)}", file=sys.stderr)
    return code


def _explain(error: Exception) -> tuple[int, str]:
    if isinstance(error, EngineError):
        return error.exit_code, error.message
    if isinstance(error, typer.TyperException):
        return _explain_usage(error)
    kind, text = type(error).__name__, str(error)
    if isinstance(error, MemoryError):
        return 3, "out of memory; try a smaller --ctx-size or a smaller model"
    advice = "run `engine --debug ...` for the traceback"
    return 9, f"unexpected {kind}{': ' + text if text else ''}; {advice}"


def _explain_usage(error: typer.TyperException) -> tuple[int, str]:
    """A mistake on the command line, as one line that names the command's help."""
    message = error.format_message().strip().rstrip(".")
    context: Context | None = getattr(error, "ctx", None)
    if context is not None:
        message += f"; see `{context.command_path} --help`"
    return error.exit_code, message


def _let_go_of_stdout(code: int) -> int:
    """Nobody can have what is still to be written: leave with nothing left to flush at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code
