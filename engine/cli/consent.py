"""Rules from files and flags, and a person who is asked before a call runs.

Knows terminals, one key at a time. Does not know what a consent is worth (tools.approval does).
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from engine.cli.console import Console, printable, printable_line
from engine.cli.interrupts import Interrupts
from engine.cli.options import Options

if TYPE_CHECKING:
    from engine.tools.approval import Approvals, Decision, Request
    from engine.tools.consents import Consents

KEYS: Final[dict[str, Decision]] = {"y": "once", "c": "chat", "a": "always", "n": "deny"}
# The same keys of a Korean keyboard.
KEYS_KOREAN: Final = {"ㅛ": "y", "ㅊ": "c", "ㅁ": "a", "ㅜ": "n"}
QUESTION: Final = "  run it? [y] once  [c] in this chat  [a] always  [n] no "
SHOWN: Final = 4_000  # characters of one argument; that there are more is said


def open_approvals(options: Options, console: Console, interrupts: Interrupts) -> Approvals:
    """The rules that were given, what was agreed to before, and a person where one sits here."""
    from platformdirs import user_config_path

    from engine.tools.approval import Approvals, Rules, read_rules, rules_of

    default = user_config_path("engine", appauthor=False) / "rules.toml"
    path = Path(options.rules).expanduser() if options.rules is not None else default
    rules = read_rules(path) if options.rules is not None or path.exists() else Rules()
    rules = rules.with_rules(
        [
            *rules_of("deny", options.deny or ()),
            *rules_of("ask", options.ask or ()),
            *rules_of("allow", options.allow or ()),
        ]
    )
    is_asked = sys.stdin.isatty() and console.err_is_terminal and not options.json
    return Approvals(
        rules,
        ask=Person(console, interrupts).ask if is_asked else None,
        consents=open_consents(),
    )


def open_consents() -> Consents:
    """What this user agreed to for good."""
    from platformdirs import user_state_path

    from engine.tools.consents import Consents

    return Consents(user_state_path("engine", appauthor=False) / "consents.json")


class Person:
    """Shows a call and waits for a key. Ctrl-C says no, and stops the answer."""

    def __init__(self, console: Console, interrupts: Interrupts) -> None:
        self._console = console
        self._interrupts = interrupts

    def ask(self, request: Request) -> Decision:
        """Everything that a model or a server wrote is shown escaped, and whole up to a limit."""
        call, tool, note = request.call, request.tool, self._console.note
        note(f"? {printable_line(tool.name)} wants to run ({printable_line(request.reason)})")
        if request.is_changed:
            note(f"  its description now: {_shown(tool.description)}")
            note(f"  its arguments now: {_shown(dict(tool.parameters))}")
        for name, value in call.arguments.items():
            note(f"  {printable_line(name)}: {_shown(value)}")
        with _raw_keys() as keys:
            key = self._key(keys)
        decision: Decision = KEYS.get(key, "deny")
        self._console.note(f"  {decision}", "dim")
        return decision

    def _key(self, keys: Callable[[], str | None]) -> str:
        while not self._interrupts.cancelled():
            self._console.aside(QUESTION, "")
            while (typed := keys()) is not None:
                if (key := _key_of(typed)) is not None:
                    return key
            self._console.end_line()  # a signal: who suspended us finds the question anew
        return "n"


def _key_of(typed: str) -> str | None:
    """The key that decides, or None while none of these was pressed."""
    for key in typed.lower():
        key = KEYS_KOREAN.get(key, key)  # noqa: PLW2901
        if key in KEYS:
            return key
        if key in "\x1b\x04\r\n":  # Escape, Ctrl-D, Enter: no is the default
            return "n"
    return None if typed else "n"  # at the end the terminal is gone


@contextmanager
def _raw_keys() -> Iterator[Callable[[], str | None]]:
    """Keys as they are pressed, not echoed; signals stay signals.

    The function waits for some; it gives None when a signal came instead, "" at the end.
    What was typed before the question does not answer it. Ctrl-Z gives the shell its terminal as
    it was, and comes back to raw keys.
    """
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    before = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    modes = termios.tcgetattr(sys.stdin)

    def keys() -> str | None:
        if receiver in select.select([sys.stdin, receiver], [], [])[0]:
            receiver.recv(64)
            return None
        return os.read(sys.stdin.fileno(), 64).decode("utf-8", "replace")

    def suspend(number: int, frame: FrameType | None) -> None:
        termios.tcsetattr(sys.stdin, termios.TCSANOW, modes)
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)  # comes back with SIGCONT
        signal.signal(signal.SIGTSTP, suspend)
        tty.setcbreak(sys.stdin, termios.TCSAFLUSH)

    on_suspend = signal.signal(signal.SIGTSTP, suspend)
    try:
        tty.setcbreak(sys.stdin, termios.TCSAFLUSH)
        yield keys
    finally:
        signal.signal(signal.SIGTSTP, on_suspend)
        termios.tcsetattr(sys.stdin, termios.TCSANOW, modes)
        signal.set_wakeup_fd(before)
        receiver.close()
        sender.close()


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=repr)
    text = printable(text).replace("\n", "\n    ")
    if len(text) <= SHOWN:
        return text
    return f"{text[:SHOWN]}… and {len(text) - SHOWN:,} more characters that are not shown"
