"""The `engine` command as a whole: its names, its errors, its exit codes, its manners."""

from __future__ import annotations

import io
import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from engine.cli import COMMANDS, _explain
from engine.cli.console import Console, Progress, clip, display_width, printable, printable_line
from engine.cli.jsonl import error_record, event_record, write_record
from engine.cli.options import Options
from engine.errors import ContextFull, EngineError, UsageError
from engine.events import Finish, Token, ToolCallStart, Usage
from tests.terminal import ROOT

HEAVY = {
    "engine.model",
    "huggingface_hub",
    "jinja2",
    "llama_cpp",
    "llguidance",
    "numpy",
    "prompt_toolkit",
    "pydantic",
    "rich",
    "tokenizers",
}


def engine(*arguments: str, input: str = "") -> subprocess.CompletedProcess[str]:
    """`engine ARGUMENTS` on the scripted model."""
    return subprocess.run(
        [sys.executable, str(ROOT / "tests" / "fakes_chat.py"), *arguments],
        input=input,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )


# -- names and helps -----------------------------------------------------------------------------


def test_help_lists_every_command_with_its_line() -> None:
    done = engine("--help")
    assert done.returncode == 0 and done.stderr == ""
    for name, (_, _, text) in COMMANDS.items():
        assert f"  {name}" in done.stdout and text in done.stdout


def test_help_imports_nothing_heavy() -> None:
    done = python(
        "import sys\n"
        "from engine.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: print(*sys.modules, sep=chr(10), file=sys.stderr)"
    )
    loaded = set(done.stderr.split())
    assert "engine.cli" in loaded
    assert not HEAVY & loaded


def test_help_takes_under_200_ms() -> None:
    def seconds() -> float:
        """Processor time, which is what it takes where nobody else uses the machine."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-m", "engine", "--help"], cwd=ROOT, check=True, capture_output=True
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(seconds() for _ in range(5)) < 0.2


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_without_opening_a_model(name: str) -> None:
    done = engine(name, "--help")
    assert done.returncode == 0, done.stderr
    assert f"Usage: engine {name}" in done.stdout


def test_version_is_the_packages_own() -> None:
    from engine._version import __version__

    assert engine("--version").stdout == f"engine {__version__}\n"


def test_the_module_runs_as_the_command_does() -> None:
    done = python("import runpy, sys; sys.argv = ['x', '--version']; runpy.run_module('engine')")
    assert done.stdout == ""  # run_module does not call it `__main__`
    done = subprocess.run(
        [sys.executable, "-m", "engine", "--version"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith("engine ")


# -- what goes wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments, code, says",
    [
        (["nonsense"], 2, "No such command 'nonsense'; see `engine --help`"),
        (["chta"], 2, "Did you mean 'chat'?"),
        (["run"], 2, "Missing argument 'MODEL'; see `engine run --help`"),
        (["run", "x", "hi", "more"], 2, "unexpected extra argument"),
        (["run", "x", "hi", "--what"], 2, "No such option: --what"),
        (["run", "x", "hi", "--temp", "warm"], 2, "Invalid value for '--temp'"),
        (["run", "x", "hi", "--top-p", "2"], 2, "Invalid value for '--top-p'"),
        (["run", "x", "hi", "-ngl", "many"], 2, "--gpu-layers: expected a number or 'all'"),
        (["run", "x", "hi", "--tool-choice", ","], 2, "--tool-choice: expected auto"),
        (["run", "x", "hi", "--tokens"], 2, "--tokens needs --json"),
        (["run", "x", "  "], 2, "the prompt is empty"),
        (["run", "missing.gguf", "hi"], 3, "missing.gguf: no such file"),
        (["run", "x", "hi", "--chat-template", "/no/file"], 4, "/no/file: No such file"),
        (["run", "x", "hi", "--json-schema", "{"], 5, "--json-schema: not JSON"),
        (["run", "x", "hi", "--json-schema", "[]"], 5, "a schema is an object, found list"),
        (["run", "x", "hi", "--json-schema", "/no/file"], 2, "--json-schema /no/file: No such"),
        (["run", "x", "hi", "--grammar", "/no/file"], 2, "--grammar /no/file: No such file"),
        (["run", "x", "hi", "--grammar", "a", "--json-schema", "{}"], 2, "exclude each other"),
        (["run", "x", "hi", "--tools", "/no/tools.py"], 6, "/no/tools.py"),
        (["run", "x", "hi", "--tools", "no_such_module"], 6, "no_such_module"),
        (["run", "x", "hi", "--tool-choice", "nobody"], 6, "unknown tool 'nobody'"),
        (["run", "x", "hi", "--shell", " , "], 6, "allow is a list of commands"),
        (["run", "x", "hi", "--shell", "ls | wc"], 6, "there is no shell"),
        (["run", "x", "hi", "--shell", "ls", "--tool-choice", "sell"], 6, "unknown tool 'sell'"),
        (["run", "x", "full"], 7, "prompt is 9 tokens, context holds 4"),
        (
            ["run", "x", "broken"],
            9,
            "unexpected RuntimeError: a bug\\nof ours; run `engine --debug",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_and_a_code(arguments: list[str], code: int, says: str) -> None:
    done = engine(*arguments)
    assert done.returncode == code, done.stderr
    [line] = done.stderr.splitlines()
    assert line.startswith("engine: ") and says in line


@pytest.mark.parametrize("arguments", [["run", "missing.gguf", "hi"], ["run", "--json", "--no"]])
def test_with_json_an_error_is_a_record_on_stdout_too(arguments: list[str]) -> None:
    done = engine(*arguments, "--json")
    record = json.loads(done.stdout)
    assert record["type"] == "error" and record["version"] == 1
    assert record["error"]["exit_code"] == done.returncode != 0
    assert record["error"]["message"] in done.stderr


def test_debug_shows_the_traceback_and_keeps_the_line() -> None:
    done = engine("--debug", "run", "x", "broken")
    assert "Traceback" in done.stderr and "engine: unexpected RuntimeError" in done.stderr
    assert done.returncode == 9


def test_every_error_type_has_the_exit_code_that_the_help_documents() -> None:
    def types(of: type[EngineError]) -> list[type[EngineError]]:
        return [of, *(deeper for sub in of.__subclasses__() for deeper in types(sub))]

    epilog = engine("--help").stdout
    for kind in types(EngineError):
        assert f"{kind.exit_code} " in epilog
        assert _explain(kind("why")) == (kind.exit_code, "why")


def test_memory_running_out_is_no_bug_of_ours() -> None:
    code, message = _explain(MemoryError())
    assert code == 3 and "--ctx-size" in message


def test_a_reader_that_leaves_ends_the_command_quietly() -> None:
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "tests" / "fakes_chat.py"), "run", "x", "flood"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline() == b"0\n"
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(30) == 141
    process.stderr.close()


# -- what a terminal may show --------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, shown",
    [
        ("plain\ttext\n", "plain\ttext\n"),
        ("서울 👩‍💻", "서울 👩‍💻"),
        ("\x1b[2J", "\\x1b[2J"),
        ("\x00\x07\x7f", "\\x00\\x07\\x7f"),
        ("\x9b31m", "\\x9b31m"),
        ("a\rb", "a\\x0db"),
        ("\u202egpj.exe\u2066", "\\u202egpj.exe\\u2066"),
    ],
)
def test_control_characters_are_shown_not_executed(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert "\n" not in printable_line(text)


@pytest.mark.parametrize(
    "text, width, kept",
    [("abc", 3, "abc"), ("abcd", 3, "ab…"), ("서울역", 6, "서울역"), ("서울역", 5, "서울…")],
)
def test_a_clipped_line_fits_its_columns(text: str, width: int, kept: str) -> None:
    assert clip(text, width) == kept
    assert display_width(kept) <= width


class Screen(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    "pieces, shown",
    [
        (["a\r\nb"], "a\nb"),
        (["a\r", "\nb"], "a\nb"),
        (["a\r", "b"], "a\\x0db"),
        (["a\r"], "a\\x0d\n"),
        (["\x1b", "[31m"], "\\x1b[31m"),
    ],
)
def test_pieces_of_an_answer_are_escaped_as_the_whole_is(pieces: list[str], shown: str) -> None:
    console = Console(out=Screen(), err=io.StringIO())
    for piece in pieces:
        console.answer(piece)
    console.end_line()
    assert console.out.getvalue().removesuffix("\n") == shown.removesuffix("\n")  # type: ignore[attr-defined]


def test_an_answer_in_a_pipe_keeps_every_character() -> None:
    console = Console(out=io.StringIO(), err=io.StringIO())
    console.answer("a\x1b[31m\r\nb\r")
    assert console.out.getvalue() == "a\x1b[31m\r\nb\r"  # type: ignore[attr-defined]


def test_the_two_streams_never_share_a_line() -> None:
    screen = Screen()
    console = Console(out=screen, err=screen)
    console.answer("answer")
    console.note("note")
    console.aside("thought")
    console.out, console.err = screen, screen
    console.end_line()
    assert "answer\nnote\n" in screen.getvalue()


def test_progress_shows_only_on_a_terminal_and_only_when_it_takes_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr("engine.cli.console.time.monotonic", lambda: now[0])
    monkeypatch.setenv("TERM", "xterm")
    for stream, expected in ((Screen(), True), (io.StringIO(), False)):
        now[0] = 0.0
        bar = Progress(Console(out=io.StringIO(), err=stream), "loading")
        bar.update(0.5)
        assert stream.getvalue() == ""
        now[0] = 1.5
        bar.update(0.5)
        assert ("loading" in stream.getvalue()) is expected
        bar.close()
        assert stream.getvalue().endswith("\r\x1b[K") is expected


# -- records and options -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "event, expected",
    [
        (
            ToolCallStart(id="1", name="f"),
            {"type": "tool_call_start", "id": "1", "name": "f"},
        ),
        (
            Token(5, "é".encode()[:1], "sampled", 9, None),
            {
                "type": "token",
                "id": 5,
                "data": "c3",
                "text": "\ufffd",
                "origin": "sampled",
                "position": 9,
                "allowed": None,
            },
        ),
    ],
)
def test_an_event_becomes_a_versioned_record(event: Token, expected: dict[str, object]) -> None:
    assert event_record(event) == {"version": 1} | expected


def test_a_finish_record_holds_counts_and_rates() -> None:
    usage = Usage(prompt_tokens=4, kv_reused=3, completion_tokens=10, decode_seconds=2.0)
    record = event_record(Finish("end_turn", usage))
    assert record["usage"]["tokens_per_second"] == 5.0
    assert record["usage"]["reuse_ratio"] == 0.75


@pytest.mark.parametrize("text", ["서울", "\udc80", "\x1b\x9b", "\u2028"])
def test_a_record_is_one_line_that_reads_back(text: str, tmp_path: Path) -> None:
    path = tmp_path / "records"
    with path.open("w", encoding="utf-8") as stream:
        write_record(stream, {"text": text, "path": Path("a"), "set": {2, 1}})
    [line] = path.read_bytes().split(b"\n")[:-1]
    assert json.loads(line) == {"text": text, "path": "a", "set": [1, 2]}
    assert b"\x1b" not in line and b"\xc2\x9b" not in line


def test_an_error_record_carries_the_errors_data() -> None:
    error = ContextFull("too long", need=9, n_ctx=4, type="data can't hide the type")
    record = error_record(error, error.message, 7)["error"]
    assert record == {
        "need": 9,
        "n_ctx": 4,
        "type": "ContextFull",
        "message": "too long",
        "exit_code": 7,
    }


@pytest.mark.parametrize(
    "given, choice",
    [("auto", "auto"), ("none", "none"), ("add", ["add"]), ("add, sub,", ["add", "sub"])],
)
def test_tool_choice_is_a_word_or_names(given: str, choice: object) -> None:
    assert Options(tool_choice=given).choice == choice


def test_only_sampling_that_was_asked_for_replaces_the_models_own() -> None:
    assert Options().sampling == {}
    assert Options(temperature=0.0, seed=0).sampling == {"temperature": 0.0, "seed": 0}


def test_layers_are_a_number_or_all() -> None:
    assert [Options(gpu_layers=text).layers for text in ("all", "0", "12")] == ["all", 0, 12]
    with pytest.raises(UsageError, match="found 'some'"):
        _ = Options(gpu_layers="some").layers
