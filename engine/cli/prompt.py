"""Where messages come from: a line editor on a terminal, plain lines elsewhere.

The only module that imports prompt_toolkit. Knows keys, history and completion. Does not know
what becomes of a message; commands are known by name and help alone.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from engine.cli.console import Console
from engine.cli.interrupts import Interrupts
from engine.errors import UsageError

BLOCK: Final = '"""'
PLACEHOLDER: Final = "Message, /help for commands, Ctrl-D to leave"
HINT: Final = "(Ctrl-C again or Ctrl-D to leave)"
# command: (help, the words that may follow it)
Commands = Mapping[str, tuple[str, Callable[[], Iterable[str]]]]


class Quit(Exception):
    """The person asked to leave with two Ctrl-C."""


class Reader(Protocol):
    """Gives messages until there are no more."""

    is_interactive: bool

    def messages(self) -> Iterator[str]: ...


def open_reader(console: Console, interrupts: Interrupts, commands: Commands) -> Reader:
    """The line editor when a person sits there, else lines of stdin."""
    if sys.stdin.isatty() and console.err_is_terminal:
        return Editor(console, interrupts, commands)
    return Lines()


class Lines:
    """One message per line of stdin; a line that begins with three quotes opens a block."""

    is_interactive = False

    def messages(self) -> Iterator[str]:
        lines = iter(lambda: read_text(sys.stdin.readline), "")
        for line in lines:
            text = line.removesuffix("\n")
            while is_open_block(text):
                more = next(lines, None)
                if more is None:
                    break
                text += "\n" + more.removesuffix("\n")
            if text.strip():
                yield without_quotes(text)


class Editor:
    """prompt_toolkit on stderr, so that stdout carries the model's text alone."""

    is_interactive = True

    def __init__(self, console: Console, interrupts: Interrupts, commands: Commands) -> None:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.output import create_output

        self._console = console
        self._interrupts = interrupts
        self._session: PromptSession[str] = PromptSession(
            [("class:prompt", ">>> ")],
            output=create_output(stdout=sys.stderr),
            history=_history(console),
            completer=_completer(commands),
            complete_while_typing=_is_command_line(),
            key_bindings=self._keys(),
            multiline=True,
            prompt_continuation="... ",
            placeholder=[("class:placeholder", PLACEHOLDER)],
            style=_style(console),
            enable_suspend=True,
            reserve_space_for_menu=6,
            erase_when_done=False,
        )

    def messages(self) -> Iterator[str]:
        """Raises Quit on a second Ctrl-C within a second; ends on Ctrl-D."""
        while True:
            self._console.end_line()
            try:
                with self._interrupts.asking(self._leave):
                    text = self._session.prompt(pre_run=self._heed)
            except EOFError:
                return
            if text == HINT:
                self._console.note(HINT, "dim")
            elif text.strip():
                yield without_quotes(text)

    def _leave(self) -> None:
        loop = self._session.app.loop
        if loop is not None:
            loop.call_soon_threadsafe(self._heed)

    def _heed(self) -> None:
        """Act on signals that came while the keys were not ours."""
        app = self._session.app
        if app.future is None or app.is_done:
            return
        if self._interrupts.is_ending:
            app.exit(exception=EOFError())
        elif self._interrupts.waiting():
            app.exit(result=HINT)

    def _keys(self) -> Any:
        from prompt_toolkit.key_binding import KeyBindings

        keys = KeyBindings()

        @keys.add("enter")
        def _send(event: Any) -> None:
            buffer = event.current_buffer
            if is_open_block(buffer.text):
                buffer.insert_text("\n")
            else:
                buffer.validate_and_handle()

        @keys.add("escape", "enter")
        @keys.add("escape", "c-j")  # the same, typed ahead: the terminal made \n of Enter then
        def _newline(event: Any) -> None:
            event.current_buffer.insert_text("\n")

        @keys.add("c-c")
        @keys.add("<sigint>")
        def _interrupt(event: Any) -> None:
            if self._interrupts.pressed():
                event.app.exit(exception=Quit(), style="class:aborting")
            elif event.current_buffer.text:
                event.current_buffer.reset()
            else:
                event.app.exit(result=HINT)

        return keys


def read_text(read: Callable[[], str]) -> str:
    """What `read` gives from stdin. Raises UsageError where that is no UTF-8 text."""
    try:
        return check_text(read(), "stdin")
    except UnicodeDecodeError as error:
        raise UsageError(f"stdin is not UTF-8 text: {error}") from error


def typed_text() -> str:
    """All that is typed at the terminal until Ctrl-D.

    A signal that comes just before a blocking read would be noticed only behind it: it wakes the
    wait here, and its handler runs.
    """
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    before = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    parts = []
    try:
        while True:
            if receiver in select.select([sys.stdin, receiver], [], [])[0]:
                receiver.recv(64)
            elif chunk := os.read(sys.stdin.fileno(), 65536):
                parts.append(chunk)
            else:
                return b"".join(parts).decode("utf-8", "surrogateescape")
    finally:
        signal.set_wakeup_fd(before)
        receiver.close()
        sender.close()


def check_text(text: str, where: str) -> str:
    """The text itself. Raises UsageError for bytes that Python let through as surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{where} is not UTF-8 text: {error}") from error
    return text


def is_open_block(text: str) -> bool:
    """Whether `text` begins with three quotes that nothing closed yet."""
    body = text.lstrip()
    return body.startswith(BLOCK) and BLOCK not in body[len(BLOCK) :]


def without_quotes(text: str) -> str:
    """The message inside a block of three quotes, or the text as it is."""
    body = text.strip()
    if not body.startswith(BLOCK):
        return text
    return body.removeprefix(BLOCK).removesuffix(BLOCK).strip("\n")


def _is_command_line() -> Any:
    from prompt_toolkit.application import get_app
    from prompt_toolkit.filters import Condition

    return Condition(lambda: get_app().current_buffer.text.startswith("/"))


def _completer(commands: Commands) -> Any:
    from prompt_toolkit.completion import Completer, Completion
    from prompt_toolkit.document import Document

    class SlashCompleter(Completer):
        def get_completions(self, document: Document, complete_event: Any) -> Iterator[Completion]:
            line = document.text_before_cursor
            if not line.startswith("/") or "\n" in line:
                return
            name, space, rest = line[1:].partition(" ")
            if not space:
                for each, (text, _) in commands.items():
                    if each.startswith(name):
                        yield Completion("/" + each, -len(line), display_meta=text)
            elif name in commands:
                word = rest.rpartition(" ")[2]
                for each in commands[name][1]():
                    if each.startswith(word) and each != word:
                        yield Completion(each, -len(word))

    return SlashCompleter()


def _style(console: Console) -> Any:
    from prompt_toolkit.styles import Style

    if not console.has_colour:
        return Style.from_dict({})
    return Style.from_dict({"prompt": "bold", "placeholder": "#888888"})


def _history(console: Console) -> Any:
    """The history in the user's state folder; in memory, with a word about it, where that fails."""
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    class SafeHistory(FileHistory):
        def store_string(self, string: str) -> None:
            try:
                super().store_string(string)
            except OSError as error:
                console.note(f"! the history can't be kept: {error}", "red")

    try:
        return SafeHistory(str(_history_file()))
    except OSError as error:
        console.note(f"! the history can't be kept: {error}", "red")
        return InMemoryHistory()


def _history_file() -> Path:
    """A file that only its owner may read, made now so that a refusal shows at once."""
    from platformdirs import user_state_path

    folder = user_state_path("engine", appauthor=False)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / "history"
    path.touch(mode=0o600)
    path.open("a").close()
    return path
