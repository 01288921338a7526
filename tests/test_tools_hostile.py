"""Row T10: hostile arguments for every tool that comes along; what they do is seen by audit hooks.

`python tests/test_tools_hostile.py ROOT` is the process that is watched: hooks can't be removed.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import zoneinfo
from pathlib import Path
from typing import Any

from engine.messages import Call
from engine.tools import load_tools, run_calls, tools_by_name
from engine.tools.declare import tool
from engine.tools.shell import run_command

SECRET = "the secret outside"
ALLOWED = [["ls"], ["cat"]]
_STARTS_PROCESS = ("subprocess.", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.system")


def hostile_strings(outside: str, count: int = 500) -> list[str]:
    """Ways out of a folder or into a shell, combined and disguised; the same on every run."""
    ways = ["../secret.txt", "..", "/", outside, "link.txt", "up/secret.txt",
            "src/../../secret.txt", "/etc/passwd", "/proc/self/environ", "~/secret.txt", "loop",
            "//..//secret.txt", "..\\secret.txt", "%2e%2e%2fsecret.txt",
            "．．/secret.txt", "..\0/secret.txt",
            "file:///etc/passwd", "-f../secret.txt", "--file=/etc/passwd",
            "link.txt/.."]  # fmt: skip
    starts = ["", "; ", "&& ", "| ", "$(", "`", "\n", "\0", "' ", '" ', "\\", "\ud800", "\u202e",
              "-", "./", "src/", "ls ", "cat ", "cat '", 'cat "', "cat -- ", "ls;rm -rf ",
              "ls $(cat ", "ls|cat ", "ls>", "cat<", "\x1b[2J",
              "__import__('os').system('cat "]  # fmt: skip
    ends = ["", ")", "`", "'", '"', "\0", "/", " " * 50, "x" * 100_000, ";rm -rf .", "\n", "')"]
    every = [start + way + end for start in starts for way in ways for end in ends]
    return random.Random(10).sample(every, count)


def offence(event: str, detail: tuple[Any, ...], root: str) -> str:
    """What is wrong with an audit event, or nothing."""
    if event == "subprocess.Popen":
        words = [os.fspath(word) for word in detail[1]]
        inside = all(os.path.realpath(os.path.join(root, w)).startswith(root) for w in words[1:])
        is_allowed = os.path.basename(words[0]) in ("ls", "cat") and inside
        return "" if is_allowed else f"started {words}"
    if event == "os.posix_spawn" or event.startswith("os.fork"):
        return ""  # how subprocess starts what was judged above
    if event.startswith(_STARTS_PROCESS) or event.startswith("socket."):
        return f"{event} {detail}"
    if event == "open" and isinstance(detail[0], str | bytes):
        path = os.fsdecode(detail[0])
        if os.path.isabs(path):
            known = [root, sys.prefix, sys.base_prefix, *sys.path, *zoneinfo.TZPATH, os.devnull]
            is_known = any(path == item or path.startswith(f"{item}/") for item in known if item)
            return "" if is_known else f"opened {path}"
        return f"opened {path}" if "/" in path or path == ".." else ""
    return ""


def main(root: str) -> None:
    """Give every string to every tool and print [results, results with the secret, offences]."""
    os.environ["ENGINE_TOOLS_ROOT"] = root
    commands: Any = tool(name="shell")(_shell_in(root))
    tools = tools_by_name([*load_tools("engine.tools.examples"), commands])
    argument = {"calculate": "expression", "current_time": "timezone", "shell": "command"}
    offences: list[str] = []

    def watch(event: str, detail: tuple[Any, ...]) -> None:
        if found := offence(event, detail, root):
            offences.append(found)

    strings = hostile_strings(str(Path(root).parent / "secret.txt"))
    calls = [
        Call(f"{name}-{n}", name, {argument.get(name, "path"): text})
        for name in tools
        for n, text in enumerate(strings)
    ]
    sys.addaudithook(watch)
    results = [event for event in run_calls(calls, tools) if hasattr(event, "is_error")]
    told = [
        result.id for result in results if SECRET in str(result.content) or "root:" in str(result)
    ]
    names = sorted({result.name for result in results if result.is_error})
    print(json.dumps([len(results), told, offences[:20], names]))


def _shell_in(root: str) -> Any:
    def command(command: str) -> str:
        return run_command(command, allow=ALLOWED, root=root)

    return command


def test_hostile_arguments_lead_nowhere(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "src").mkdir(parents=True)
    (root / "readme.txt").write_text("hello\n")
    (tmp_path / "secret.txt").write_text(SECRET)
    (root / "link.txt").symlink_to("../secret.txt")
    (root / "up").symlink_to("..")
    (root / "loop").symlink_to("loop")
    before = sorted(path.name for path in tmp_path.rglob("*"))
    here = Path(__file__)
    done = subprocess.run(
        [sys.executable, str(here), str(root.resolve())],
        env=os.environ | {"PYTHONPATH": str(here.parents[1]), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    count, told, offences, names = json.loads(done.stdout)
    assert count == 500 * len(names) and len(names) == 6
    assert told == [] and offences == []
    assert sorted(path.name for path in tmp_path.rglob("*")) == before, "something was written"


def test_the_judge_of_audit_events_bites() -> None:
    root = "/tmp"
    assert offence("open", ("/etc/passwd", "r", 0), root)
    assert offence("open", ("../x", "r", 0), root)
    assert offence("os.system", (b"ls",), root)
    assert offence("subprocess.Popen", ("/bin/rm", ["/bin/rm", "-rf", "."], None, None), root)
    assert offence("subprocess.Popen", ("/bin/cat", ["/bin/cat", "/etc/passwd"], None, None), root)
    assert not offence("subprocess.Popen", ("/bin/ls", ["/bin/ls", "src"], None, None), root)


if __name__ == "__main__":
    main(sys.argv[1])
