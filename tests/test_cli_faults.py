"""Bad input to the real command: each is one line on stderr, a code, and never a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from engine.cli.interrupts import Interrupts
from tests.gguf_files import write_model, write_vocabulary
from tests.terminal import ROOT

SYNTAX_ERROR = "def add(a: int) -> int\n    return a\n"
UNSUPPORTED = "import socket\n\ndef send(where: socket.socket) -> str:\n    return 'sent'\n"
FINE = "def add(a: int, b: int) -> int:\n    '''Add.'''\n    return a + b\n"
CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"


def engine(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """The real `engine` in `folder`; it sees no model store of the person who tests."""
    return subprocess.run(
        [sys.executable, "-m", "engine", *arguments],
        cwd=folder,
        input="",
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={"PYTHONPATH": str(ROOT), "HOME": str(folder), "PATH": ""},
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one of each bad file."""
    here = tmp_path_factory.mktemp("faults")
    sound = write_model(here / "sound.gguf").read_bytes()
    for name, content in (
        ("header-cut.gguf", sound[:3000]),
        ("weights-cut.gguf", sound[:-2000]),
        ("text.gguf", b"hello"),
        ("empty.gguf", b""),
    ):
        (here / name).write_bytes(content)
    write_model(here / "no-template.gguf", tokenizer__chat_template=None)
    write_model(here / "hostile.gguf", tokenizer__chat_template=("str", "{{ ''.__class__.mro() }}"))
    write_model(here / "broken.gguf", tokenizer__chat_template=("str", "{% for m in %}"))
    write_model(here / "projector.gguf", general__type=("str", "mmproj"))
    write_model(here / "pooling.gguf", llama__pooling_type=("u32", 1))
    write_vocabulary(here / "vocabulary.gguf")
    (here / "folder").mkdir()
    (here / "syntax.py").write_text(SYNTAX_ERROR)
    (here / "unsupported.py").write_text(UNSUPPORTED)
    (here / "fine.py").write_text(FINE)
    (here / "bad.lark").write_text("start: factr\nfactor: /[0-9]/\n")
    (here / "bad.jinja").write_text("{% if %}")
    return here


LONG = "sea " * 3000
CASES: list[tuple[list[str], int, str]] = [
    (["missing.gguf", "hi"], 3, "missing.gguf"),
    (["./missing.gguf", "hi"], 3, "missing.gguf"),
    (["no such model", "hi"], 3, "no such model"),
    (["folder", "hi"], 3, "folder: is a directory"),
    (["header-cut.gguf", "hi"], 3, "at byte"),
    (["weights-cut.gguf", "hi"], 3, "at byte"),
    (["text.gguf", "hi"], 3, "not a GGUF file"),
    (["empty.gguf", "hi"], 3, "empty.gguf"),
    (["vocabulary.gguf", "hi"], 3, "no weights"),
    (["projector.gguf", "hi"], 3, "projector"),
    (["pooling.gguf", "hi"], 3, "embedding"),
    (["no-template.gguf", "hi"], 4, "--chat-template FILE"),
    (["hostile.gguf", "hi"], 4, "__class__"),
    (["broken.gguf", "hi"], 4, "broken.gguf"),
    (["sound.gguf", "hi", "--chat-template", "bad.jinja"], 4, "Expected an expression"),
    (["sound.gguf", "hi", "--family", "nobody"], 2, "unknown model family 'nobody'"),
    (["sound.gguf", "hi", "--style", "nobody"], 2, "no tool style 'nobody'"),
    (["sound.gguf", LONG, "-c", "256"], 7, "do not fit in 256"),
    (["sound.gguf", "hi", "--tools", "syntax.py"], 6, "syntax.py:1"),
    (["sound.gguf", "hi", "--tools", "unsupported.py"], 6, "parameter 'where' has type socket"),
    (["sound.gguf", "hi", "--tools", "missing.py"], 6, "missing.py"),
    (["sound.gguf", "hi", "--tool-choice", "add"], 2, "unknown tool 'add'"),
    (
        ["sound.gguf", "hi", "--tools", "fine.py", "--tool-choice", "sub"],
        2,
        "unknown tool 'sub'; tools are add",
    ),
    (["sound.gguf", "hi", "--json-schema", '{"type": "strin"}'], 5, "strin"),
    (["sound.gguf", "hi", "--json-schema", '{"type": '], 5, "not JSON"),
    (["sound.gguf", "hi", "--json-schema", "missing.json"], 2, "missing.json"),
    (["sound.gguf", "hi", "--grammar", "bad.lark"], 5, "bad.lark"),
    (["sound.gguf", "hi", "--top-k", "-1"], 2, "--top-k"),
    (["sound.gguf", "hi", "--repeat-penalty", "0"], 2, "repeat"),
]


@pytest.mark.parametrize(
    "arguments, code, says", CASES, ids=[" ".join(case[0])[:60] for case in CASES]
)
def test_bad_input_is_one_line_and_its_code(
    folder: Path, arguments: list[str], code: int, says: str
) -> None:
    done = engine("run", *arguments, folder=folder)
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("engine: ") and says in line


@pytest.mark.parametrize("name", ["missing.gguf", "weights-cut.gguf", "no-template.gguf"])
def test_chat_refuses_a_model_as_run_does(folder: Path, name: str) -> None:
    by_chat, by_run = engine("chat", name, folder=folder), engine("run", name, "x", folder=folder)
    assert (by_chat.returncode, by_chat.stderr) == (by_run.returncode, by_run.stderr)


def test_an_error_record_holds_the_facts_of_the_fault(folder: Path) -> None:
    done = engine("run", "weights-cut.gguf", "hi", "--json", folder=folder)
    error = json.loads(done.stdout)["error"]
    assert error["type"] == "GGUFError" and error["exit_code"] == 3
    assert isinstance(error["offset"], int) and "weights-cut" in error["path"]


@pytest.mark.parametrize("extra", [[], ["--chat-template", "chatml.jinja"]])
def test_a_sound_model_answers(folder: Path, extra: list[str]) -> None:
    (folder / "chatml.jinja").write_text(CHATML)
    done = engine("run", "sound.gguf", "the sea", "-n", "3", "--temp", "0", *extra, folder=folder)
    assert done.returncode == 0, done.stderr


def test_tools_load_before_the_model_does(folder: Path) -> None:
    done = engine("run", "missing.gguf", "hi", "--tools", "syntax.py", folder=folder)
    assert done.returncode == 6


def test_what_a_tool_file_prints_stays_out_of_the_answer(folder: Path) -> None:
    (folder / "loud.py").write_text("print('loud')\n" + FINE)
    flags = ["--tools", "loud.py", "--json", "-n", "1", "-c", "1024"]
    done = engine("run", "sound.gguf", "the sea", *flags, folder=folder)
    assert all(json.loads(line) for line in done.stdout.splitlines())
    assert done.stderr == "loud\n"


def test_the_context_filling_up_while_the_model_writes_is_an_ending_with_its_code(
    folder: Path,
) -> None:
    # Constrained to write a number without end, so that no model can stop before.
    (folder / "digits.lark").write_text("start: /[0-9]{2000}/\n")
    flags = ["-c", "256", "--grammar", "digits.lark", "--json"]
    done = engine("run", "sound.gguf", "the sea", *flags, folder=folder)
    last = json.loads(done.stdout.splitlines()[-1])
    assert (last["type"], last["reason"], done.returncode) == ("finish", "context_full", 7)


def test_the_last_resort_ends_the_process_where_the_terminal_is_gone(monkeypatch) -> None:
    """A terminal that hung up can't be put in order; leaving must not depend on it."""
    interrupts, codes = Interrupts(), []

    def gone(*_: object) -> None:
        raise termios.error(5, "Input/output error")

    monkeypatch.setattr(interrupts, "_modes", [])
    monkeypatch.setattr(termios, "tcsetattr", gone)
    monkeypatch.setattr(os, "_exit", codes.append)
    with pytest.raises(termios.error):  # what the true _exit leaves no time for
        interrupts._leave_now(129)
    assert codes == [129]
