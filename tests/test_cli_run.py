"""`engine run`: prompts from arguments and pipes, answers, records and exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.terminal import CTRL_C, CTRL_D, ROOT, Terminal
from tests.test_cli import engine

SHARED = ["--temp", "0.1", "--top-k", "5", "--top-p", "0.5", "--min-p", "0.1", "--seed", "3"]


@pytest.mark.parametrize(
    "arguments, input",
    [(["hello"], ""), (["-"], "hello\n"), ([], "hello\n"), (["hello"], "not read")],
    ids=["argument", "dash", "nothing", "argument before stdin"],
)
def test_the_prompt_is_the_argument_or_stdin(arguments: list[str], input: str) -> None:
    done = engine("run", "x", *arguments, input=input)
    assert (done.returncode, done.stdout, done.stderr) == (0, "You said: hello \n", "")


def test_stdin_that_is_not_utf8_is_a_usage_error() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "fakes_chat.py"), "run", "x"],
        input=b"\xff\xfe",
        capture_output=True,
        timeout=60,
        check=False,
        env=os.environ | {"PYTHONUTF8": "1"},
    )
    assert done.returncode == 2
    assert b"not UTF-8" in done.stderr and done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("arguments", [["\udcff"], ["hello", "--system", "\udcff"]])
def test_arguments_that_are_not_utf8_are_usage_errors(arguments: list[str]) -> None:
    done = engine("run", "x", *arguments)
    assert done.returncode == 2
    assert "is not UTF-8" in done.stderr and done.stderr.count("\n") == 1


def test_only_the_answer_goes_to_stdout() -> None:
    done = engine("run", "x", "tool")
    assert done.stdout == "Let me look.\nIt is 21 degrees.\n"
    assert '* get_weather(city="서울", days=2)' in done.stderr
    assert "ValueError: no" in done.stderr
    done = engine("run", "x", "think")
    assert done.stdout == "Hello.\n" and "greets" in done.stderr


def test_counts_show_only_when_asked_for() -> None:
    assert "40.0/s" not in engine("run", "x", "hello").stderr
    assert "40.0/s" in engine("run", "x", "hello", "-v").stderr


@pytest.mark.parametrize(
    "reason, code",
    [
        ("end_turn", 0),
        ("stop", 0),
        ("length", 0),
        ("tool_use", 0),
        ("deadline", 0),
        ("step_limit", 6),
        ("context_full", 7),
        ("cancelled", 130),
    ],
)
def test_the_ending_is_the_exit_code(reason: str, code: int) -> None:
    done = engine("run", "x", f"end {reason}")
    assert (done.returncode, done.stdout) == (code, "so far\n")


@pytest.mark.parametrize("command", ["run", "chat"])
def test_both_commands_take_the_same_options(command: str) -> None:
    flags = [*SHARED, "--system", "Be brief.", "--max-steps", "4", "--tool-choice", "none"]
    more = ["--style", "json", "--no-constrain", "--strict-format", "--thinking-budget", "64"]
    prompt = ["settings"] if command == "run" else []
    done = engine(command, "x", *prompt, *flags, *more, input="settings\n")
    for each in (
        "temperature=0.1",
        "top_k=5",
        "top_p=0.5",
        "min_p=0.1",
        "seed=3",
        "repeat_penalty=1.0",
        "system='Be brief.'",
        "('max_steps', 4)",
        "('tool_choice', 'none')",
        "('style', 'json')",
        "('constrain', False)",
        "('strict_format', True)",
        "('thinking_budget', 64)",
    ):
        assert each in done.stdout


def test_formats_are_lenient_and_thinking_unbounded_unless_asked_for() -> None:
    done = engine("run", "x", "settings")
    assert "('strict_format', False)" in done.stdout and "('thinking_budget', None)" in done.stdout
    assert engine("run", "x", "settings", "--thinking-budget", "0").returncode == 2


def test_max_tokens_reaches_the_answer() -> None:
    assert engine("run", "x", "limit", "-n", "5").stdout == "at most 5\n"
    assert engine("chat", "x", "-n", "5", input="limit\n").stdout == "at most 5\n"


@pytest.mark.parametrize("from_file", [True, False])
def test_a_schema_is_read_from_a_file_or_the_argument(from_file: bool, tmp_path: Path) -> None:
    path = tmp_path / "schema.json"
    path.write_text('{"type": "integer"}')
    source = str(path) if from_file else path.read_text()
    done = engine("run", "x", "one", "--json-schema", source)
    assert done.stdout == "as {'type': 'integer'}\n"


def test_a_grammar_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "yes.lark"
    path.write_text('start: "yes" | "no"')
    done = engine("run", "x", "one", "--grammar", str(path))
    assert "Grammar(kind='lark', source='start: \"yes\" | \"no\"', name='yes.lark'" in done.stdout


@pytest.mark.parametrize("flags, has_tokens", [([], False), (["--tokens"], True)])
def test_json_gives_one_record_per_event(flags: list[str], has_tokens: bool) -> None:
    done = engine("run", "x", "hello", "--json", *flags)
    records = [json.loads(line) for line in done.stdout.splitlines()]
    kinds = [record["type"] for record in records]
    assert kinds[0] == "prefill" and kinds[-1] == "finish"
    assert ("token" in kinds) is has_tokens
    assert "".join(r["text"] for r in records if r["type"] == "text") == "You said: hello "
    assert done.stderr == ""


@pytest.mark.parametrize("message, sign", [("wait", "3 "), ("prefill", "reading")])
@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_the_answer_with_its_code(
    tmp_path: Path, message: str, sign: str, number: signal.Signals, code: int
) -> None:
    with Terminal("run", "x", message, home=tmp_path) as terminal:
        terminal.expect(sign)
        terminal.signal(number)
        assert terminal.wait() == code
        assert "Traceback" not in terminal.text


def test_at_a_terminal_the_prompt_is_typed_and_ctrl_c_leaves(tmp_path: Path) -> None:
    with Terminal("run", "x", home=tmp_path) as terminal:
        terminal.expect("the prompt, then Ctrl-D:")
        terminal.type("hello\r" + CTRL_D)
        terminal.expect("You said: hello")
        assert terminal.wait() == 0
    with Terminal("run", "x", home=tmp_path) as terminal:
        terminal.expect("the prompt, then Ctrl-D:")
        terminal.type(CTRL_C)
        assert terminal.wait() == 130
        assert "Traceback" not in terminal.text
