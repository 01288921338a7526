"""Ctrl-Z and a resized terminal: the shell gets its terminal in order, and the chat goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.live.test_consent_live import QUESTION, TOOLS
from tests.terminal import CTRL_C, FAKE, REAL, ROOT, Terminal

pytestmark = pytest.mark.live
JOBS = (str(ROOT / "tests" / "jobs.py"),)
CTRL_Z = "\x1a"


def suspend(terminal: Terminal) -> None:
    """Ctrl-Z, then what a shell's `fg` does."""
    terminal.type(CTRL_Z)
    terminal.expect("stopped, lines and echo\r\n")
    terminal.type("\r")


def test_an_answer_goes_on_where_it_was_suspended(tmp_path: Path) -> None:
    with Terminal("chat", "x.gguf", home=tmp_path, program=(*JOBS, *FAKE)) as terminal:
        terminal.say("wait")
        terminal.expect(" 5 ")
        suspend(terminal)
        terminal.expect(" 15 ")
        terminal.type(CTRL_C)
        terminal.expect("(stopped)")
        terminal.say("/quit")
        assert terminal.wait() == 0 and terminal.has_first_modes()


def test_a_line_in_the_making_survives_suspension_and_resizing(tmp_path: Path) -> None:
    with Terminal("chat", "x.gguf", home=tmp_path, program=(*JOBS, *FAKE)) as terminal:
        terminal.expect(">>> ")
        terminal.type("half a ")
        terminal.expect("half a")
        suspend(terminal)
        terminal.expect(">>> ")
        terminal.resize(columns=30)
        terminal.type("message\r")
        terminal.expect("You said: half a message")
        terminal.say("/quit")
        assert terminal.wait() == 0 and terminal.has_first_modes()


def test_the_question_about_a_call_is_asked_again_after_suspension(
    tiny_path: Path, tmp_path: Path
) -> None:
    tools = tmp_path / "tools.py"
    tools.write_text(TOOLS)
    flags = ("--tools", str(tools))
    with Terminal("chat", *flags, home=tmp_path, program=(*JOBS, *REAL)) as terminal:
        terminal.say(QUESTION)
        terminal.expect("[n] no")
        suspend(terminal)
        terminal.expect("[n] no")
        terminal.resize(columns=30)
        suspend(terminal)  # as often as one likes
        terminal.expect("[n] no")
        terminal.type("y")
        terminal.expect("KV reused")
        terminal.say("/quit")
        assert terminal.wait() == 0 and terminal.has_first_modes()
    assert (tmp_path / "ran").read_text() == "Paris\n"


def test_ctrl_c_works_after_suspension(tiny_path: Path, tmp_path: Path) -> None:
    tools = tmp_path / "tools.py"
    tools.write_text(TOOLS)
    flags = ("--tools", str(tools))
    with Terminal("chat", *flags, home=tmp_path, program=(*JOBS, *REAL)) as terminal:
        terminal.say(QUESTION)
        terminal.expect("[n] no")
        suspend(terminal)
        terminal.expect("[n] no")
        terminal.type(CTRL_C)
        terminal.expect("(stopped)")
        terminal.say("/quit")
        assert terminal.wait() == 0 and terminal.has_first_modes()
    assert not (tmp_path / "ran").exists()
