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

from engine.cli.console import Console
from engine.cli.interrupts import Interrupts
from engine.cli.options import Options
from engine.visible import visible, visible_line

if TYPE_CHECKING:
    from engine.tools.approval import Approvals, Decision, Request
    from engine.tools.consents import Consents

KEYS: Final[dict[str, Decision]] = {"y": "once", "c": "chat", "a": "always", "n": "deny"}
# The same keys of a Korean keyboard.
KEYS_KOREAN: Final = {"ㅛ": "y", "ㅊ": "c", "ㅁ": "a", "ㅜ": "n"}
CHOICES: Final = "[y] once  [c] in this chat  [a] always  [n] no "
CHOICES_UNKNOWN: Final = "[y] once  [c] in this chat  [n] no "  # its code can't be told from other
MAX_LINES: Final = 20  # of what a model or a server wrote; that there are more is said
MAX_LINE: Final = 300  # characters of one of them


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
        """What a model or a server wrote is shown escaped, and up to a limit that is said."""
        tool, note = request.tool, self._console.note
        name = visible_line(tool.name)
        note(f"? {name} wants to run ({visible_line(request.reason)})")
        for line in shown(request):
            note(f"  {line}")
        choices = CHOICES if tool.is_code_known else CHOICES_UNKNOWN
        with _raw_keys() as keys:
            key = self._key(keys, f"  run {name}? ", choices)
        decision: Decision = KEYS.get(key, "deny")
        note(f"  {decision}", "dim")
        return decision

    def _key(self, keys: Callable[[], str | None], question: str, choices: str) -> str:
        while not self._interrupts.cancelled():
            self._console.aside(question + choices, "")
            typed = keys()
            key = key_of(typed) if typed is not None else None
            if key is not None and f"[{key}]" in choices:
                return key
            self._console.end_line()  # a signal, or no answer: the question stands there anew
        return "n"


def key_of(typed: str) -> str | None:
    """The key that decides, or None where the question is to be asked again.

    What comes in one piece and is more than one key was pasted, or is a word: it agrees to
    nothing, whatever letters are in it. Enter, Escape and Ctrl-D mean no wherever they stand.
    """
    if not typed or any(key in "\x1b\x04\r\n" for key in typed):
        return "n"  # nothing at all: the terminal is gone
    key = KEYS_KOREAN.get(typed, typed.lower())
    return key if key in KEYS else None


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
        typed = b""
        while select.select([sys.stdin], [], [], 0)[0] and (
            more := os.read(sys.stdin.fileno(), 64)
        ):
            typed = (typed + more)[:64]  # all that is there: a piece of a paste is no key either
        return typed.decode("utf-8", "replace")

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


def shown(request: Request) -> list[str]:
    """The lines that tell what is asked about: few enough that the question stays in sight."""
    tool, lines = request.tool, _lines(dict(request.call.arguments))
    if request.is_changed:
        now = {"its description now": tool.description, "its arguments now": dict(tool.parameters)}
        lines = _lines(now) + lines
    return lines


def _lines(values: dict[str, Any]) -> list[str]:
    """At most about MAX_LINES lines, of which no value can take those of another."""
    lines: list[str] = []
    share = max(2, MAX_LINES // max(1, len(values)))
    for name, value in list(values.items())[: MAX_LINES // 2]:
        text = f"{visible_line(str(name))}: {_text(value)}".split("\n")
        lines += [_cut(line) for line in text[:share]]
        if hidden := text[share:]:
            count = sum(len(line) for line in hidden)
            lines.append(f"  … and {len(hidden):,} more lines ({count:,} characters), not shown")
    if len(values) > MAX_LINES // 2:
        lines.append(f"… and {len(values) - MAX_LINES // 2:,} more arguments, not shown")
    return lines


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=repr)
    return visible(text).replace("\n", "\n  ")


def _cut(line: str) -> str:
    if len(line) <= MAX_LINE:
        return line
    return f"{line[:MAX_LINE]}… and {len(line) - MAX_LINE:,} more characters, not shown"
