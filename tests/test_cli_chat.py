"""`engine chat` on a real pseudo-terminal, and with lines of stdin; the model is scripted."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.cli.commands import COMMANDS
from tests.terminal import ALT_ENTER, CTRL_C, CTRL_D, ROOT, Terminal

TOOLS = '''
import engine.tools.declare as declare

@declare.tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b

@declare.tool
def today() -> str:
    """Today's date."""
    return "2026-11-21"
'''


NAMES = ["help", "tools", "system", "set", "stats", "save", "load", "clear", "retry"]
NAMES += ["continue", "quit"]


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    with Terminal("chat", "x.gguf", home=tmp_path) as opened:
        yield opened


def chat_lines(text: str, *arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    """`engine chat` with a pipe for stdin."""
    return subprocess.run(
        [sys.executable, str(ROOT / "tests" / "fakes_chat.py"), "chat", "x.gguf", *arguments],
        input=text,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": str(ROOT), "HOME": str(home)},
    )


# -- messages and answers ------------------------------------------------------------------------


def test_an_answer_streams_and_ends_with_its_counts(terminal: Terminal) -> None:
    terminal.say("hello there")
    terminal.expect("You said: hello there")
    terminal.expect("[8 tokens, 40.0/s | prefill 5 tokens, 500/s | KV reused 75% of 20]")
    terminal.say(CTRL_D)
    assert terminal.wait() == 0


def test_text_shows_while_the_answer_still_runs(terminal: Terminal) -> None:
    terminal.say("wait")
    terminal.expect("0 1 2 3 ")
    assert terminal.process.poll() is None


def test_wide_and_joined_characters_arrive_whole(terminal: Terminal) -> None:
    terminal.say("korean 한글")
    terminal.expect("안녕하세요 👩‍💻")


@pytest.mark.parametrize(
    "typed, message",
    [
        (f"one{ALT_ENTER}two\r", "one\r\ntwo"),
        ('"""one\rtwo"""\r', "one\r\ntwo"),
        ('"""\rone\r\rtwo\r"""\r', "one\r\n\r\ntwo"),
        ("\x1b[200~one\ntwo\x1b[201~\r", "one\r\ntwo"),  # bracketed paste
        ("안녕\x7f녕하세요\r", "안녕하세요"),
    ],
    ids=["alt-enter", "block", "block on its own lines", "paste", "composed input"],
)
def test_a_message_keeps_its_lines(terminal: Terminal, typed: str, message: str) -> None:
    terminal.expect(">>> ")
    terminal.type(typed)
    terminal.expect(f"You said: {message}")


def test_what_is_typed_while_an_answer_runs_is_the_next_message(terminal: Terminal) -> None:
    terminal.say("wait")
    terminal.expect("5 ")
    terminal.type("hello\r")
    terminal.expect("hello")
    terminal.signal(signal.SIGINT)  # a typed Ctrl-C would discard what was typed ahead
    terminal.expect("(stopped)")
    terminal.expect("You said: hello")


def test_a_call_shows_while_it_is_written(terminal: Terminal) -> None:
    terminal.say("tool")
    terminal.expect('* get_weather {"city": "서울"')
    terminal.expect("* get_weather(city=")


def test_calls_and_results_show_in_order(terminal: Terminal) -> None:
    terminal.say("tool")
    terminal.expect("Let me look.\r\n")
    terminal.expect('* get_weather(city="서울", days=2)\r\n')
    terminal.expect('-> {"temperature": 21}  (12 ms)\r\n')
    terminal.expect("* crash()\r\n")
    terminal.expect("-> ValueError: no  (1.5 s)\r\n")
    terminal.expect("It is 21 degrees.\r\n")
    assert b"\x1b[31m  -> ValueError: no" in terminal.raw


def test_thinking_is_dimmed_and_parted_from_the_answer(terminal: Terminal) -> None:
    terminal.say("think")
    terminal.expect("The user greets.\r\nHello.\r\n")
    assert b"\x1b[2mThe user\x1b[0m" in terminal.raw


def test_escape_sequences_of_models_and_tools_are_shown_not_executed(terminal: Terminal) -> None:
    terminal.say("escape")
    terminal.expect("red \\x1b[31mtext\\x07\r\nnext\r\n\\u202eback\r\n")
    terminal.expect("t: \\x1b]0;title\\x07\\nsecond")
    assert b"\x1b[31mtext" not in terminal.raw and b"\x1b]0;" not in terminal.raw


def test_no_color_leaves_the_answer_without_colours(tmp_path: Path) -> None:
    with Terminal("chat", "x.gguf", home=tmp_path, NO_COLOR="1") as terminal:
        terminal.say("tool")
        terminal.expect("It is 21 degrees.")
        terminal.say("think")
        terminal.expect("(thinking) The user greets.")
        assert b"\x1b[31m" not in terminal.raw and b"\x1b[2m" not in terminal.raw


def test_an_error_is_one_line_and_keeps_the_chat(terminal: Terminal) -> None:
    terminal.say("full")
    terminal.expect("! prompt is 9 tokens, context holds 4\r\n")
    terminal.say("hello")
    terminal.expect("You said: hello")


def test_resizing_while_an_answer_runs_changes_nothing(terminal: Terminal) -> None:
    terminal.say("wait")
    terminal.expect("3 ")
    terminal.resize(columns=30)
    terminal.expect("9 ")
    terminal.type(CTRL_C)
    terminal.expect("(stopped)")
    terminal.resize(columns=100)
    terminal.say("hello")
    terminal.expect("You said: hello")


# -- leaving and stopping ------------------------------------------------------------------------


@pytest.mark.parametrize("message, sign", [("wait", "5 "), ("prefill", "reading")])
def test_ctrl_c_stops_the_answer_and_keeps_the_chat(
    terminal: Terminal, message: str, sign: str
) -> None:
    terminal.say(message)
    terminal.expect(sign)
    terminal.type(CTRL_C)
    terminal.expect("(stopped")
    terminal.say("hello")
    terminal.expect("You said: hello")
    terminal.say("/quit")
    assert terminal.wait() == 0


def test_two_ctrl_c_at_an_answer_leave_with_130(terminal: Terminal) -> None:
    terminal.say("wait")
    terminal.expect("5 ")
    terminal.type(CTRL_C)
    terminal.expect("(stopped")
    terminal.expect(">>> ")
    terminal.type(CTRL_C)
    assert terminal.wait() == 130
    assert terminal.has_first_modes()


def test_two_ctrl_c_leave_even_work_that_does_not_stop(terminal: Terminal) -> None:
    terminal.say("busy")
    terminal.expect("working")
    terminal.type(CTRL_C)
    terminal.expect("deaf")
    began = time.monotonic()
    terminal.type(CTRL_C)
    assert terminal.wait() == 130
    assert time.monotonic() - began < 3


def test_two_ctrl_c_at_the_prompt_leave_with_130(terminal: Terminal) -> None:
    terminal.expect(">>> ")
    terminal.type("half a mess" + CTRL_C)
    terminal.type(CTRL_C)
    assert terminal.wait() == 130


def test_one_ctrl_c_at_an_empty_prompt_says_how_to_leave(terminal: Terminal) -> None:
    terminal.expect(">>> ")
    terminal.type(CTRL_C)
    terminal.expect("(Ctrl-C again or Ctrl-D to leave)")
    terminal.say(CTRL_D)
    assert terminal.wait() == 0


def test_one_ctrl_c_at_the_prompt_clears_the_line(terminal: Terminal) -> None:
    terminal.expect(">>> ")
    terminal.type("half a mess" + CTRL_C + "hello\r")
    terminal.expect("You said: hello")


def test_ctrl_c_while_loading_leaves_with_130(tmp_path: Path) -> None:
    with Terminal("chat", "slow.gguf", home=tmp_path) as terminal:
        terminal.expect("loading")
        terminal.type(CTRL_C)
        assert terminal.wait() == 130
        assert "engine: loading slow.gguf was stopped" in terminal.text
        assert "Traceback" not in terminal.text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("message", ["", "wait"], ids=["at the prompt", "in an answer"])
def test_ending_signals_leave_the_terminal_as_it_was(
    terminal: Terminal, number: signal.Signals, message: str
) -> None:
    if message:
        terminal.say(message)
        terminal.expect("5 ")
    else:
        terminal.expect(">>> ")
    terminal.signal(number)
    assert terminal.wait() == 128 + number
    assert terminal.has_first_modes()
    assert "Traceback" not in terminal.text


# -- commands ------------------------------------------------------------------------------------


def test_help_lists_every_command(terminal: Terminal) -> None:
    assert list(COMMANDS) == NAMES
    terminal.say("/help")
    for name in COMMANDS:
        terminal.expect(f"/{name}")


@pytest.mark.parametrize(
    "line, answer",
    [
        ("/set temp 0.2", "temp = 0.2"),
        ("/set temp warm", "! /set temp: 'warm' is not a value for it"),
        ("/set heat 1", "! unknown setting 'heat'; there are: temp, "),
        ("/set max-tokens 0", "! /set max-tokens: '0' is not a value for it"),
        ("/tools", "no tools; start with --tools"),
        ("/system", "(no system prompt)"),
        ("/save", "! /save needs the name of a file"),
        ("/save /nowhere/at/all", "! /nowhere/at/all: No such file or directory"),
        ("/sve", "! unknown command /sve; did you mean /save?"),
        ("/usr/bin", "! unknown command /usr/bin; /help lists the commands"),
    ],
)
def test_a_command_answers_on_one_line(terminal: Terminal, line: str, answer: str) -> None:
    terminal.say(line)
    terminal.expect(answer)
    terminal.say("hello")
    terminal.expect("You said: hello")


def test_settings_reach_the_next_answer(terminal: Terminal) -> None:
    terminal.say("/set temp 0.2")
    terminal.say("/set seed 7")
    terminal.say("/set max-tokens 12")
    terminal.say("/system Be brief.")
    terminal.expect("a new chat with this system prompt")
    terminal.say("settings")
    seen = terminal.expect("[8 tokens").replace("\r\n", "")
    assert "temperature=0.2" in seen and "seed=7" in seen and "system='Be brief.'" in seen
    terminal.say("limit")
    terminal.expect("at most 12")


def test_retry_answers_the_last_message_again(terminal: Terminal) -> None:
    terminal.say("hello")
    terminal.expect("You said: hello")
    terminal.say("/retry")
    terminal.expect("again: You said: hello")


def test_a_saved_chat_loads(terminal: Terminal, tmp_path: Path) -> None:
    path = tmp_path / "chat.json"
    terminal.say("hello")
    terminal.say(f"/save {path}")
    terminal.expect("saved to")
    terminal.say("/clear")
    terminal.expect("a new chat")
    terminal.say(f"/load {path}")
    terminal.expect("1 messages")
    assert json.loads(path.read_text()) == ["hello"]


def test_tools_are_listed_and_switched(tmp_path: Path) -> None:
    path = tmp_path / "my_tools.py"
    path.write_text(TOOLS)
    with Terminal("chat", "x.gguf", "--tools", str(path), home=tmp_path) as terminal:
        terminal.expect("tool: add")
        terminal.say("/tools")
        terminal.expect("* add: Add two numbers.")
        terminal.say("/tools off add")
        terminal.expect("  add: Add two numbers.")
        terminal.expect("* today: Today's date.")
        terminal.say("/tools off nothing")
        terminal.expect("! unknown tool 'nothing'; there are: add, today")


def test_switching_off_a_tool_that_the_choice_needs_is_refused_and_undone(tmp_path: Path) -> None:
    path = tmp_path / "my_tools.py"
    path.write_text(TOOLS)
    flags = ["--tools", str(path), "--tool-choice", "add"]
    with Terminal("chat", "x.gguf", *flags, home=tmp_path) as terminal:
        terminal.say("/tools off add")
        terminal.expect("! unknown tool 'add' in the tool choice")
        terminal.say("/tools")
        terminal.expect("* add: Add two numbers.")
        terminal.expect("* today: Today's date.")


@pytest.mark.parametrize(
    "typed, offered, answer",
    [("/he", "/help", "List the commands"), ("/set te", "temp", "temp = 0.7")],
)
def test_tab_completes_commands_and_their_arguments(
    terminal: Terminal, typed: str, offered: str, answer: str
) -> None:
    terminal.expect(">>> ")
    terminal.type(typed)
    terminal.expect(typed)
    terminal.expect(offered)
    terminal.type("\t")
    terminal.expect(offered)
    terminal.type("\r")
    terminal.expect(answer)


def test_history_is_kept_for_the_next_chat_and_for_its_owner_only(tmp_path: Path) -> None:
    with Terminal("chat", "x.gguf", home=tmp_path) as first:
        first.say("remember me")
        first.expect("You said: remember me")
        first.say(CTRL_D)
        assert first.wait() == 0
    [history] = tmp_path.rglob("history")
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
    with Terminal("chat", "x.gguf", home=tmp_path) as second:
        second.expect(">>> ")
        second.type("\x1b[A\r")
        second.expect("You said: remember me")


def test_a_history_that_cannot_be_kept_is_said_once_and_the_chat_goes_on(tmp_path: Path) -> None:
    (tmp_path / "engine").write_text("a file where the folder should be")
    (tmp_path / "Library").write_text("and on a Mac")
    with Terminal("chat", "x.gguf", home=tmp_path) as terminal:
        terminal.expect("! the history can't be kept")
        terminal.say("hello")
        terminal.expect("You said: hello")


# -- without a terminal --------------------------------------------------------------------------


def test_lines_of_stdin_are_messages_and_stdout_is_the_answers_alone(tmp_path: Path) -> None:
    done = chat_lines('hello\n\n"""two\nlines"""\n/stats\ntool\n', home=tmp_path)
    assert done.returncode == 0
    assert done.stdout.split("\n") == [
        "You said: hello ",
        "You said: two",
        "lines ",
        "Let me look.",
        "It is 21 degrees.",
        "",
    ]
    assert ">>>" not in done.stderr and "2 answers" in done.stderr


def test_quit_leaves_the_rest_of_stdin_alone(tmp_path: Path) -> None:
    done = chat_lines("hello\n/quit\nkorean\n", home=tmp_path)
    assert (done.returncode, done.stdout) == (0, "You said: hello \n")


def test_without_a_person_an_error_ends_the_chat_with_its_code(tmp_path: Path) -> None:
    done = chat_lines("full\nhello\n", home=tmp_path)
    assert (done.returncode, done.stdout) == (7, "")
    assert done.stderr == "engine: prompt is 9 tokens, context holds 4\n"


def test_json_writes_nothing_but_records_to_stdout(tmp_path: Path) -> None:
    done = chat_lines("hello\n/set\nfull\n", "--json", home=tmp_path)
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert {record["version"] for record in records} == {1}
    kinds = [record["type"] for record in records]
    assert kinds == ["prefill", "text", "text", "text", "finish", "error"]
    assert records[-1]["error"] == {
        "type": "ContextFull",
        "message": "prompt is 9 tokens, context holds 4",
        "exit_code": 7,
        "need": 9,
        "n_ctx": 4,
    }
