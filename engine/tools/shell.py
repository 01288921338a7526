"""A tool that runs commands from a list, without a shell: exists only where somebody asks for it.

Knows words, an allow-list and one root. Does not know who may call it: it is dangerous, so that
it runs in a process of its own and asks. What an allowed command does with its arguments is up to
that command: allow only those of which every option may be used.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import stat
import subprocess
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

from engine.tools.declare import tool
from engine.tools.tool import MAX_OUTPUT_BYTES, Policy, Tool, refused

MAX_COMMAND = 4000  # characters
MAX_WORD = 1000
MAX_READ_BYTES = 10 * 1024 * 1024  # of what a command prints; then it is ended
_OPERATORS = frozenset(";|&<>()\n\r")
# Where a path may begin inside a word: --file=/etc/passwd, HEAD:../x, @/etc/passwd.
_STARTS = re.compile(r"[=:,@]")


def shell(
    allow: Sequence[str],
    *,
    root: str | Path = ".",
    timeout: float | None = 30.0,
    max_output: int = MAX_OUTPUT_BYTES,
    name: str = "shell",
    approve: Policy | None = None,
    env: Sequence[str] = (),
) -> Tool:
    """A tool that runs commands which begin with the words of an entry of `allow`.

    `shell(["git status", "git log", "ls"])` runs `git log --oneline -5` in the folder `root`, and
    refuses `git push`. No shell is used: pipes, redirections, `;` and `$(...)` outside of quotes
    are refused, and nothing is expanded. Arguments that are paths stay inside `root`. The tool
    asks before each call unless `approve` or a rule says otherwise. Raises ToolDefinitionError
    for an empty list and for a root that is no folder.
    """
    entries = [] if isinstance(allow, str) else [_entry(name, item) for item in allow]
    if not entries:
        raise refused(name, 'allow is a list of commands that may be run, such as ["git status"]')
    if not Path(root).is_dir():
        raise refused(name, f"its root {str(root)!r} is not a folder")
    listed = ", ".join(shlex.join(entry) for entry in entries)
    declare = tool(
        name=name,
        description=f"Run a command. Allowed are those that begin with: {listed}. There is no "
        "shell: no pipes, redirection, variables or wildcards.",
        timeout=timeout,
        max_output=max_output,
        approve=approve,
        dangerous=True,
        env=env,
    )
    return declare(partial(run_command, allow=entries, root=os.path.realpath(root)))


def _entry(name: str, text: str) -> list[str]:
    try:
        words = split(text)
    except ValueError as error:
        raise refused(name, f"{text!r} in allow can't be a command ({error})") from error
    if not words:
        raise refused(name, "an empty entry in allow would allow every command")
    return words


def run_command(
    command: Annotated[str, "The command and its arguments, quoted as in a shell"],
    *,
    allow: list[list[str]],
    root: str,
) -> str:
    """Run an allowed command in the root folder; its output, and its exit code if not 0."""
    words = split(command)
    entry = next((item for item in allow if words[: len(item)] == item), None)
    if entry is None:
        listed = ", ".join(shlex.join(item) for item in allow)
        raise PermissionError(f"{command[:80]!r} is not allowed; commands begin with: {listed}")
    for word in words[len(entry) :]:
        _check_inside(word, root)
    program = _program(words[0])
    # The group of this process, which is killed at the timeout, is the command's as well.
    with subprocess.Popen(
        [program, *words[1:]],
        executable=program,
        cwd=root,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ | {"PWD": root, "PAGER": "cat", "GIT_TERMINAL_PROMPT": "0"},
    ) as process:
        assert process.stdout is not None
        data = process.stdout.read(MAX_READ_BYTES)
        is_cut = len(data) == MAX_READ_BYTES
        if is_cut:
            process.kill()
    note = f"ended: it printed over {MAX_READ_BYTES} bytes" if is_cut else _end(process.returncode)
    text = data.decode("utf-8", "replace").removesuffix("\n")
    return "\n".join(part for part in (text, note and f"[{note}]") if part) or "[no output]"


def split(command: str) -> list[str]:
    """The words of a command, by a shell's rules of quoting and no others.

    Raises ValueError for what a shell would do more with, and for quotes that don't end.
    """
    if len(command) > MAX_COMMAND:
        raise ValueError(f"a command has {MAX_COMMAND} characters at most, not {len(command)}")
    if "\0" in command:
        raise ValueError("a command can't contain a NUL character")
    command.encode("utf-8")  # lone surrogates name no file (UnicodeEncodeError is a ValueError)
    if quoted := _unquoted_operators(command):
        raise ValueError(
            f"{quoted!r} means nothing here: there is no shell, and each call runs one command; "
            "put it in quotes where it belongs to an argument"
        )
    words = shlex.split(command)
    for word in words:
        if len(word) > MAX_WORD:
            raise ValueError(f"an argument has {MAX_WORD} characters at most, not {len(word)}")
    return words


def _unquoted_operators(command: str) -> str:
    """The first operator that stands outside of quotes, or nothing."""
    quote = ""
    is_escaped = False
    for character in command.strip():
        if is_escaped:
            is_escaped = False
        elif character == "\\" and quote != "'":
            is_escaped = True
        elif quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character in _OPERATORS:
            return character
    return ""


def _check_inside(word: str, root: str) -> None:
    """Refuse an argument in which a path out of the root can be read, links resolved.

    A link that is made between this check and the command's own look is not seen.
    """
    for part in _paths_in(word):
        if part.startswith("~"):
            raise PermissionError(f"{word[:200]!r} leads outside the root")
        target = os.path.realpath(os.path.join(root, part))
        if target != root and not target.startswith(f"{root.rstrip('/')}/"):
            raise PermissionError(f"{word[:200]!r} leads outside the root {root!r}")


def _paths_in(word: str) -> Iterator[str]:
    """All that a command might take for a path in one of its arguments."""
    yield word
    for match in _STARTS.finditer(word):
        yield word[match.end() :]
    if word.startswith("-"):  # -f/etc/passwd, -Iname: an option and its value in one word
        yield from (word[start:] for start in range(1, len(word)))


def _program(name: str) -> str:
    """The program's file. A relative entry of PATH could name one that a model has written."""
    folders = [path for path in os.environ.get("PATH", os.defpath).split(":") if path[:1] == "/"]
    found = shutil.which(name, path=":".join(folders))
    if found is None or not os.path.isabs(found) or not stat.S_ISREG(os.stat(found).st_mode):
        raise FileNotFoundError(f"there is no program {name!r} on this system")
    return found


def _end(status: int) -> str:
    if status < 0:
        return f"ended by {signal.Signals(-status).name}"
    return f"exit code {status}" if status else ""
