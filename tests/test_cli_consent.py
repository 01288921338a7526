"""The question at the terminal: what answers it, and how much of a call it shows."""

from __future__ import annotations

import os
import pty
import termios
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
from fakes import scripted_model

from engine.cli import consent
from engine.cli.chat import Session
from engine.cli.commands import obey
from engine.cli.consent import MAX_LINE, MAX_LINES, Person, key_of, open_approvals, shown
from engine.cli.console import Console
from engine.cli.interrupts import Interrupts
from engine.cli.options import Options
from engine.messages import Call
from engine.tools import Tool, tool
from engine.tools.approval import Approvals, Request


@tool(approve="ask")
def send(to: str) -> str:
    """Send a letter."""
    return to


def request(item: Tool = send, *, is_changed: bool = False, **arguments: Any) -> Request:
    return Request(Call("call_1", item.name, arguments), item, "the tool itself", is_changed)


@pytest.mark.parametrize(
    "typed, key",
    [
        ("y", "y"),
        ("A", "a"),
        ("c", "c"),
        ("n", "n"),
        ("ㅁ", "a"),
        ("", "n"),
        ("\x1b", "n"),
        ("\r", "n"),
        ("\x04", "n"),
        ("\x1b[A", "n"),
        ("y\r", "n"),
        ("abort", None),
        ("aa", None),
        ("ya", None),
        ("ㅁㅁ", None),
        ("x", None),
        ("?", None),
        ("K", None),
    ],
)
def test_only_one_known_key_by_itself_agrees(typed, key):
    assert key_of(typed) == key


class Typist(Console):
    """A console whose person types one piece at each question."""

    pieces: list[str]
    master: int

    def aside(self, text: str, style: str = "dim") -> None:
        super().aside(text, style)
        os.write(self.master, self.pieces.pop(0).encode())


class Terminal:
    """A terminal in this process, and what was written to its person."""

    def __init__(self) -> None:
        self.master, slave = pty.openpty()
        self.stdin = os.fdopen(slave, "r")
        self.console = Typist(out=StringIO(), err=StringIO())
        self.console.master = self.master

    @property
    def shown(self) -> str:
        return self.console.err.getvalue()  # type: ignore[attr-defined,no-any-return]

    def close(self) -> None:
        self.stdin.close()
        os.close(self.master)


@pytest.fixture
def terminal(monkeypatch) -> Iterator[Terminal]:
    made = Terminal()
    monkeypatch.setattr(consent.sys, "stdin", made.stdin)
    yield made
    made.close()


def answered(terminal: Terminal, *typed: str, item: Tool = send) -> str:
    """What a person decides who types these pieces, one at each question."""
    terminal.console.pieces = list(typed)
    return Person(terminal.console, Interrupts()).ask(request(item, to="me"))


@pytest.mark.parametrize(
    "typed, decision",
    [
        (["y"], "once"),
        (["abort", "n"], "deny"),
        (["y" * 65, "n"], "deny"),
        (["a" * 129, "c"], "chat"),
        (["\x04"], "deny"),
    ],
)
def test_a_burst_is_thrown_away_whole_and_the_question_asked_again(terminal, typed, decision):
    modes = termios.tcgetattr(terminal.stdin)
    assert answered(terminal, *typed) == decision
    assert terminal.shown.count("run send?") == len(typed)
    assert termios.tcgetattr(terminal.stdin) == modes


def test_what_was_typed_before_the_question_is_thrown_away(terminal):
    os.write(terminal.master, b"y")
    assert answered(terminal, "n") == "deny"


def test_a_question_shows_a_few_lines_of_every_argument_and_says_what_it_leaves_out():
    lines = shown(request(text="word\n" * 1_000, path="/etc/passwd", wide="w" * 1_000))
    assert len(lines) <= MAX_LINES + 3
    assert "path: /etc/passwd" in lines
    assert any("more lines (" in line and "not shown" in line for line in lines)
    assert all(len(line) <= MAX_LINE + 50 for line in lines)
    assert any(f"and {1_000 + len('wide: ') - MAX_LINE} more characters" in line for line in lines)
    many = shown(request(**{f"a{n}": n for n in range(500)}))
    assert len(many) < MAX_LINES and "490 more arguments" in many[-1]


def test_a_changed_definition_stays_in_sight_whatever_the_arguments_are():
    lines = shown(request(is_changed=True, **{f"a{n}": "x\n" * 99 for n in range(99)}))
    assert "its description now: Send a letter." in lines
    assert len(lines) < 3 * MAX_LINES


def test_what_can_t_be_seen_is_shown_as_an_escape():
    [line] = shown(request(**{"to\n": "a\u200bb\u202e\U000e0041\x1b[2J"}))
    assert line == "to\\n: a\\u200bb\\u202e\\U000e0041\\u001b[2J"


def test_always_is_not_offered_where_the_code_can_t_be_told_from_other_code(terminal):
    made = Tool.from_schema("act", "Act.", {}, os.getcwd, approve="ask")
    assert answered(terminal, "a", "n", item=made) == "deny"
    assert "always" not in terminal.shown


@pytest.mark.parametrize("json", [False, True])
def test_nobody_is_asked_where_records_are_written(monkeypatch, tmp_path, json):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(consent.sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(Console, "err_is_terminal", property(lambda self: True))
    approvals = open_approvals(Options(json=json), Console(), Interrupts())
    assert (approvals.ask is None) is json


@pytest.mark.parametrize("command", ["/clear", "/system Be brief.", "/load FILE"])
def test_a_chat_s_consent_ends_with_the_chat(tmp_path, command):
    person: list[Request] = []
    approvals = Approvals(ask=lambda request: person.append(request) or "chat")  # type: ignore[func-returns-value]
    with scripted_model(family="hermes") as model:
        session = Session(model, [send], Options(), approvals, Console(), Interrupts())
        for _ in range(2):
            assert approvals.check(Call("call_1", "send", {"to": "me"}), send) is None
        session.chat.save(tmp_path / "chat.json")
        obey(session, command.replace("FILE", str(tmp_path / "chat.json")))
        assert approvals.check(Call("call_1", "send", {"to": "me"}), send) is None
        session.chat.close()
    assert len(person) == 2
