"""The shell tool: commands from a list, no shell, nothing outside the root, gone at the timeout."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_tools_isolated import error_of, is_gone, pids_in, result_of, until

from engine.errors import ToolDefinitionError
from engine.tools import Tool, isolated
from engine.tools.shell import MAX_WORD, run_command, shell, split

SECRET = "the secret outside"


@pytest.fixture(autouse=True, scope="module")
def nothing_is_left() -> Iterator[None]:
    yield
    isolated.close()
    assert until(lambda: not isolated._children)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    base = tmp_path / "root"
    (base / "src").mkdir(parents=True)
    (base / "readme.txt").write_text("hello\n")
    (tmp_path / "secret.txt").write_text(SECRET)
    (tmp_path / "root-secret").mkdir()  # its name begins with the root's
    (tmp_path / "root-secret" / "x").write_text(SECRET)
    (base / "link.txt").symlink_to("../secret.txt")
    (base / "up").symlink_to("..")
    return base


def ran(root: Path, command: str, *allow: str) -> str:
    entries = [shlex.split(entry) for entry in allow or ("ls", "cat", "echo", "grep", "false")]
    return run_command(command, allow=entries, root=str(root.resolve()))


@pytest.mark.parametrize(
    "command, output",
    [
        ("ls src", "[no output]"),
        ("ls", "link.txt\nreadme.txt\nsrc\nup"),
        ("cat readme.txt", "hello"),
        ("cat ./src/../readme.txt", "hello"),
        ("echo 'a;  b' \"|\" \\; '$(ls)' \"`ls`\" $HOME *", "a;  b | ; $(ls) `ls` $HOME *"),
        ("  echo   글  ", "글"),
        ("false", "[exit code 1]"),
        ("grep -c hello readme.txt", "1"),
    ],
)
def test_an_allowed_command_runs_in_the_root_and_nothing_is_expanded(
    command: str, output: str, root: Path
) -> None:
    assert ran(root, command) == output


@pytest.mark.parametrize(
    "allow, command, is_allowed",
    [
        ("git status", "git status", True),
        ("git status", "git status --short", True),
        ("git status", "git", False),
        ("git status", "git push", False),
        ("git status", "git -c core.pager=x status", False),
        ("git status", "git statusx", False),
        ("git status", "/usr/bin/git status", False),
        ("git status", "'git status'", False),
        ("git status", "", False),
        ("ls", "lsx", False),
        ("ls -l", "ls -la", False),
    ],
)
def test_a_command_is_allowed_by_its_first_words(
    allow: str, command: str, is_allowed: bool, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Any] = []

    class Recorded(Exception):
        pass

    def record(words: list[str], **_: Any) -> Any:
        started.append(words)
        raise Recorded

    monkeypatch.setattr(subprocess, "Popen", record)
    monkeypatch.setattr("engine.tools.shell._program", lambda name: f"/bin/{name}")
    with pytest.raises(Recorded if is_allowed else PermissionError):
        ran(root, command, allow)
    assert bool(started) == is_allowed


@pytest.mark.parametrize("operator", [";", "|", "&", "<", ">", "(", ")", "\n", "&&", "$(", ">>"])
def test_operators_of_a_shell_are_refused_outside_of_quotes(operator: str, root: Path) -> None:
    for command in (f"echo a {operator} ls", f"echo a{operator}ls", f"echo {operator}x"):
        with pytest.raises(ValueError, match="there is no shell"):
            ran(root, command)
    assert ran(root, f"echo '{operator}'") == operator.strip("\n") or operator == "\n"


@pytest.mark.parametrize(
    "command",
    [
        "cat ../secret.txt", "cat link.txt", "cat up/secret.txt", "cat src/../../secret.txt",
        "cat /etc/passwd", "ls ..", "ls /", "ls ~", "cat ~/.ssh/id_rsa", "ls up", "ls -la up",
        "grep -f../secret.txt x", "grep --file=../secret.txt x", "grep -flink.txt x",
        "grep -ilf/etc/passwd x", "grep --file=link.txt x", "cat ./link.txt", "cat src/../link.txt",
        "cat '../secret.txt'", 'cat "."./secret.txt', "cat .\\./secret.txt", "cat x:../secret.txt",
        "cat ../root-secret/x", "ls ../root-secret", "cat @/etc/passwd", "cat a,/etc/passwd",
        f"grep -{'i' * 200}flink.txt x",
    ],
)  # fmt: skip
def test_an_argument_that_leads_outside_the_root_is_refused(command: str, root: Path) -> None:
    with pytest.raises(PermissionError, match="leads outside the root"):
        ran(root, command)


@pytest.mark.parametrize(
    "command, words",
    [
        ("ls 'unclosed", "quotation"),
        ("ls \0", "NUL"),
        ("ls \ud800", "surrogates"),
        ("ls " + "x" * 5000, "4000 characters"),
        ("ls " + "x" * (MAX_WORD + 1), "1000 characters"),
        ("nosuchprogram", "no program 'nosuchprogram'"),
    ],
)
def test_what_is_no_command_is_explained(command: str, words: str, root: Path) -> None:
    with pytest.raises((ValueError, OSError), match=words):
        ran(root, command, "ls", "nosuchprogram")


def test_words_are_those_that_a_posix_shell_makes() -> None:
    for command in ("a 'b c' \"d e\" f\\ g", "''", "a'b'\"c\"", "x\\\\y", "a\tb", '"a\\"b"', "#a"):
        quoted = (
            ["sh", "-c", f"printf '%s\\0' {command}"] if command != "#a" else ["printf", "#a\0"]
        )
        if command == "#a":
            assert split(command) == ["#a"]
            continue
        done = subprocess.run(quoted, capture_output=True, text=True, check=True)
        assert split(command) == done.stdout.split("\0")[:-1]


def test_a_relative_folder_in_path_names_no_program(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = root / "planted"
    planted.write_text("#!/bin/sh\necho planted\n")
    planted.chmod(0o755)
    monkeypatch.chdir(root)
    monkeypatch.setenv("PATH", f".::{os.environ['PATH']}")
    with pytest.raises(FileNotFoundError):
        ran(root, "planted", "planted")


@pytest.mark.parametrize(
    "allow, words",
    [
        ([], "allow is a list"),
        ("git status", "allow is a list"),
        ([""], "an empty entry"),
        (["ls", " "], "an empty entry"),
        (["ls | wc"], "there is no shell"),
        (["'"], "quotation"),
    ],
)
def test_a_list_that_allows_nothing_or_everything_is_refused(allow: Any, words: str) -> None:
    with pytest.raises(ToolDefinitionError, match=words):
        shell(allow)


def test_a_root_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ToolDefinitionError, match="is not a folder"):
        shell(["ls"], root=tmp_path / "gone")


def test_the_tool_is_dangerous_and_tells_the_model_what_is_allowed() -> None:
    made = shell(["git status", "ls"], name="commands")
    assert made.is_dangerous and made.is_isolated and made.approve is None
    assert "git status, ls" in made.description
    assert list(made.parameters["properties"]) == ["command"]


def test_it_runs_in_a_process_of_its_own_and_says_what_is_refused(root: Path) -> None:
    made: Tool = shell(["cat", "printenv", "sh"], root=root)
    assert result_of(made, command="cat readme.txt").content == "hello"
    error = error_of(result_of(made, command="rm -rf ."))
    assert (
        error["type"] == "PermissionError" and "begin with: cat, printenv, sh" in error["message"]
    )
    assert "PYTEST_CURRENT_TEST" not in str(result_of(made, command="printenv").content)
    result = result_of(made, command="sh -c 'kill -9 $$'")
    assert result.content == "[ended by SIGKILL]"


def test_a_command_that_hangs_is_killed_with_all_it_started(root: Path) -> None:
    made = shell(["sh"], root=root, timeout=0.5)
    script = "trap '' TERM; sleep 300 & echo $$ $! > new; mv new pids; wait"
    error = error_of(result_of(made, command=f"sh -c {shlex.quote(script)}"))
    assert error == {"type": "Timeout", "message": "timeout after 0.5 s"}
    for pid in pids_in(root / "pids"):
        assert until(lambda pid=pid: is_gone(pid))


def test_output_without_an_end_is_ended(root: Path) -> None:
    content = result_of(shell(["yes"], root=root), command="yes").content
    assert isinstance(content, str) and content.startswith("y\ny\n")
    assert content.endswith("it printed over 10485760 bytes]")
    Path(content.split("file ")[1].split(" ...]")[0]).unlink()
