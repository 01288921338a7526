"""Isolated tools: the same results as in process, and whatever they do ends with their process."""

from __future__ import annotations

import functools
import importlib.util
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import isolated_tools as samples
import pytest

from engine.errors import ToolDefinitionError
from engine.events import ToolProgress, ToolResult
from engine.messages import Call
from engine.tools import Tool, isolated, load_tools, run_calls, tool, tools_by_name

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True, scope="module")
def nothing_is_left() -> Iterator[None]:
    yield
    isolated.close()
    assert until(lambda: not isolated._children), "a child process is left"


def until(is_so: Callable[[], bool], seconds: float = 20.0) -> bool:
    """Whether a condition comes true in time."""
    ends_at = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > ends_at:
            return False
        time.sleep(0.01)
    return True


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    # Nobody reaps orphans in some containers: a zombie runs no more.
    state = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return state.stdout.strip()[:1] in ("", "Z")


def pids_in(file: Path) -> list[int]:
    assert until(file.exists)
    return [int(pid) for pid in file.read_text().split()]


def run(*calls: tuple[Tool, dict[str, Any]], **options: Any) -> list[Any]:
    tools = tools_by_name(dict.fromkeys(made for made, _ in calls))
    made = [Call(f"c{n}", tool.name, given) for n, (tool, given) in enumerate(calls)]
    return list(run_calls(made, tools, **options))


def result_of(made: Tool, **arguments: Any) -> ToolResult:
    result = run((made, arguments))[-1]
    assert isinstance(result, ToolResult)
    return result


def error_of(result: ToolResult) -> dict[str, str]:
    assert result.is_error and isinstance(result.content, dict)
    error = result.content["error"]
    assert isinstance(error, dict)
    return error  # type: ignore[return-value]


# --- the same as in process


@pytest.mark.parametrize(
    "made, arguments, content",
    [
        (samples.add, {"a": 2, "b": "3"}, 5),
        (samples.move, {"point": {"x": 1, "y": 2}}, {"sum": 5}),
        (samples.wait_for, {"seconds": 0}, "waited"),
        (samples.reports, {}, "done"),
        (samples.steps, {"to": 2}, {"steps": 2}),
        (samples.pages, {"to": 3}, 2),
        (samples.made_apart, {"n": 1}, "2"),
        (samples.Shelf.count, {"n": 3}, 3),
    ],
    ids=lambda value: value.name if isinstance(value, Tool) else "",
)
def test_a_result_is_the_same_in_a_process_of_its_own(
    made: Tool, arguments: dict[str, Any], content: Any
) -> None:
    *progress, result = run((made, arguments))
    assert result.content == content and not result.is_error
    here = Tool(made.name, "", {}, made.function, is_async=made.is_async, _check=made._check,
                result_converter=made.result_converter)  # fmt: skip
    *same_progress, same = run((here, arguments))
    assert (same.content, same_progress) == (result.content, progress)


def test_progress_comes_through_from_generators_and_reports() -> None:
    *progress, _ = run((samples.steps, {"to": 3}))
    assert progress == [ToolProgress("c0", f"step {n}") for n in range(3)]
    *progress, _ = run((samples.reports, {}))
    assert [event.text for event in progress] == ['{"half": true}']


@pytest.mark.parametrize(
    "made, arguments, kind, words",
    [
        (samples.add, {"a": "x"}, "InvalidArguments", "'a'"),
        (samples.add, {"a": -1}, "InvalidArguments", "greater than or equal to 0"),
        (samples.add, {"b": 1, "c": 2}, "InvalidArguments", "'a' is missing"),
        (samples.fail, {"message": "gone"}, "LookupError", "gone"),
        (samples.fail, {"message": "x" * 1000}, "LookupError", "xxx…"),
        (samples.fail, {"message": "\x1b[31m\ud800"}, "LookupError", "\ufffd[31m\ufffd"),
        (samples.use_a_model, {}, "ModuleNotFoundError", "engine.llama"),
    ],
)
def test_an_error_comes_as_type_and_message(
    made: Tool, arguments: dict[str, Any], kind: str, words: str
) -> None:
    error = error_of(result_of(made, **arguments))
    assert error["type"] == kind and words in error["message"]
    assert len(error["message"]) <= 500


def test_a_tools_own_failure_keeps_its_content() -> None:
    result = result_of(samples.fail_in_words)
    assert result.is_error and result.content == {"code": 7}


def test_calls_run_side_by_side_and_one_that_dies_leaves_the_others_alone() -> None:
    calls = [(samples.add, {"a": n}) for n in range(4)]
    calls.insert(2, (samples.die, {"how": "SIGKILL"}))
    results = run(*calls)
    assert [r.id for r in results] == ["c0", "c1", "c2", "c3", "c4"]
    assert [r.content for r in results if not r.is_error] == [1, 2, 3, 4]
    assert error_of(results[2])["type"] == "ToolDied"


def test_a_long_result_is_cut_in_the_child_and_kept_in_a_file() -> None:
    content = result_of(samples.long_text, size=1_000_000).content
    assert isinstance(content, str) and len(content.encode()) <= 2000
    assert content.startswith("abcdefgh") and content.endswith("abcdefgh")
    note = content.split("[... ")[1].split(" ...]")[0]
    assert note.startswith("truncated, 1000000 bytes, file ")
    kept = Path(note.split("file ")[1])
    assert kept.read_text() == "abcdefgh" * 125_000
    kept.unlink()


# --- what the process is given


def test_the_process_leads_its_own_session_and_gets_an_environment_from_a_list(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "hush")
    monkeypatch.setenv("LC_TIME", "C")
    monkeypatch.chdir(tmp_path)
    found: Any = result_of(samples.surroundings).content
    assert found["pid"] == found["group"] == found["session"] != os.getsid(0)
    assert found["parent"] == os.getpid()
    assert Path(found["folder"]) == tmp_path.resolve()
    assert found["stdin"] == "" and found["llama"] == [] and len(found["argv"]) == 1
    assert found["environment"]["PATH"] == os.environ["PATH"]
    assert found["environment"]["LC_TIME"] == "C"
    assert "hush" not in str(found["environment"])
    assert set(found["environment"]) <= isolated.ENVIRONMENT | {"LC_TIME", "LC_CTYPE", "LC_ALL"}
    assert result_of(samples.secret).content == "hush"
    assert capfd.readouterr() == ("", "")


def test_what_a_tool_prints_never_reaches_our_streams(capfd: pytest.CaptureFixture[str]) -> None:
    assert result_of(samples.say, text="x", count=300_000).content == "said"
    assert capfd.readouterr() == ("", "")


def test_dangerous_tools_are_isolated() -> None:
    assert samples.danger.is_isolated and samples.danger.is_dangerous
    assert result_of(samples.danger).content != os.getpid()


# --- ends


@pytest.mark.parametrize(
    "how, words",
    [
        ("SIGKILL", "SIGKILL"),
        ("group", "SIGKILL"),
        ("segfault", "SIGSEGV"),
        ("abort", "SIGABRT"),
        ("exit", "exit status 3"),
        ("exit 0", "exit status 0"),
        ("close and exit", "exit status 4"),
        ("fork and exit", "exit status 5"),
    ],
)
def test_a_process_that_dies_is_an_error_that_says_how(how: str, words: str) -> None:
    error = error_of(result_of(samples.die, how=how))
    assert error["type"] == "ToolDied" and words in error["message"]
    assert error["message"].endswith(f"it had printed: about to die of {how}")


def test_a_hanging_tool_is_killed_with_its_group(tmp_path: Path) -> None:
    ways = ["quiet", "deaf", "stubborn", "parent", "native"]
    results = run(*[(samples.hang, {"how": how, "file": str(tmp_path / how)}) for how in ways])
    for result in results:
        assert error_of(result) == {"type": "Timeout", "message": "timeout after 0.5 s"}
        assert result.seconds >= 0.5
    for how in ways:
        for pid in pids_in(tmp_path / how):
            assert until(lambda pid=pid: is_gone(pid)), f"{how}: {pid} is left"


def test_a_tool_that_is_ended_may_tidy_up(tmp_path: Path) -> None:
    file = tmp_path / "tidied"
    assert error_of(result_of(samples.tidy, file=str(file)))["type"] == "Timeout"
    assert until(file.exists) and until(lambda: file.read_text() == "tidied up")


def test_a_process_that_has_answered_ends_in_its_own_way(tmp_path: Path) -> None:
    file = tmp_path / "goodbye"
    assert result_of(samples.say_goodbye, file=str(file)).content == "answered"
    assert until(file.exists)


def test_without_a_thread_to_watch_it_no_process_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    isolated.close()
    call = isolated.IsolatedCall(samples.add, {"a": 1}, 1000, print, lambda: None)

    def no_more(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_more)
    assert "can't start new thread" in str(call.run().content)
    assert until(lambda: not isolated._children)


def test_what_a_tool_leaves_running_ends_after_its_answer(tmp_path: Path) -> None:
    file = tmp_path / "pids"
    assert result_of(samples.leave_behind, file=str(file)).content == "answered"
    for pid in pids_in(file):
        assert until(lambda pid=pid: is_gone(pid)), f"{pid} is left"


@pytest.mark.parametrize("reason", ["Cancelled", "Deadline", "left"])
def test_whatever_ends_the_call_ends_the_process(reason: str, tmp_path: Path) -> None:
    file = tmp_path / "pids"
    patient = Tool("hang", "", {}, samples.hang.function, None, _check=samples.hang._check,
                   is_isolated=True)  # fmt: skip
    calls, tools = [Call("a", "hang", {"how": "parent", "file": str(file)})], {"hang": patient}
    if reason == "Cancelled":
        [result] = run_calls(calls, tools, cancelled=file.exists)
        assert error_of(result)["type"] == "Cancelled"
    elif reason == "Deadline":
        until_then = time.monotonic() + 2
        [result] = run_calls(calls, tools, deadline=until_then)
        assert error_of(result)["type"] == "Deadline"
    else:
        stream = run_calls([Call("b", "chatter", {})], {"chatter": samples.chatter})
        assert next(stream) == ToolProgress("b", "still here")
        stream.close()  # type: ignore[attr-defined]
        assert until(lambda: len(isolated._children) <= 1), "more than the spare process is left"
        return
    for pid in pids_in(file):
        assert until(lambda pid=pid: is_gone(pid)), f"{pid} is left"


def test_a_call_that_was_stopped_before_it_has_a_process_never_runs_long(tmp_path: Path) -> None:
    call = isolated.IsolatedCall(samples.hang, {"how": "quiet"}, 1000, print, lambda: None)
    call.stop()
    outcomes = []
    thread = threading.Thread(target=lambda: outcomes.append(call.run()), daemon=True)
    thread.start()
    thread.join(20)
    isolated.close()
    assert [outcome.content["error"]["type"] for outcome in outcomes] == ["ToolDied"]


@pytest.mark.parametrize("how", ["parent", "deaf", "stubborn", "native", "spare", "asked to end"])
def test_a_parent_that_is_killed_takes_everything_along(how: str, tmp_path: Path) -> None:
    """SIGKILL for the engine while a tool runs: no process is left, whatever the tool does."""
    file, script = tmp_path / "pids", tmp_path / "parent.py"
    children = tmp_path / "children"
    call = f"Call('a', 'hang', {{'how': {how!r}, 'file': {str(file)!r}}})"
    options = ""
    if how == "spare":
        call = "Call('a', 'add', {'a': 1})"
    elif how == "asked to end":  # SIGTERM for all the group: neither tool nor watcher heeds it
        call = call.replace(how, "deaf")
        options = f", cancelled=lambda: os.path.exists({str(file)!r})"
    script.write_text(
        textwrap.dedent(f"""
        import dataclasses, os, sys, threading
        sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}]
        import isolated_tools as samples
        from engine import Call
        from engine.tools import isolated, run_calls
        patient = dataclasses.replace(samples.hang, timeout_seconds=None)
        isolated.GRACE_SECONDS = 300
        print(list(run_calls([{call}], {{"hang": patient, "add": samples.add}}{options})))
        with open({str(children)!r}, "w") as out:
            out.write(" ".join(str(child._process.pid) for child in isolated._children))
        print("ready", flush=True)
        threading.Event().wait(300)
        """)
    )
    parent = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.DEVNULL,
        env=os.environ | {"TMPDIR": str(tmp_path)},  # a killed process leaves files
    )
    try:
        if options or how == "spare":  # not before the call is over
            file = children
        assert until(lambda: file.exists() and bool(file.read_text()))
        pids = pids_in(file)
        assert pids and not all(is_gone(pid) for pid in pids)
    finally:
        parent.kill()
        parent.wait()
    for pid in pids:
        assert until(lambda pid=pid: is_gone(pid)), f"{pid} is left"


def test_at_exit_nothing_stays_and_a_fork_of_ours_keeps_nothing_alive(tmp_path: Path) -> None:
    script, file = tmp_path / "main.py", tmp_path / "pids"
    script.write_text(
        textwrap.dedent(f"""
        import os, sys, threading
        sys.path.insert(0, {str(ROOT)!r})
        from engine import Call, tool
        from engine.tools import isolated, run_calls

        @tool(isolate=True)
        def double(n: int) -> int:
            return 2 * n

        if __name__ == "__main__":
            [first] = run_calls([Call("a", "double", {{"n": 4}})], {{"double": double}})
            print(first.content)
            with open({str(file)!r}, "w") as out:
                out.write(" ".join(str(child._process.pid) for child in isolated._children))
            if os.fork() == 0:
                print(isolated._children, flush=True)
                [second] = run_calls([Call("a", "double", {{"n": 5}})], {{"double": double}})
                print(second.content, flush=True)
                isolated.close()
                os._exit(0)
            os.wait()
        """)
    )
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split()) == ["10", "8", "set()"]
    for pid in pids_in(file):
        assert until(lambda pid=pid: is_gone(pid)), f"{pid} is left"


def test_no_descriptor_and_no_thread_is_left_by_calls() -> None:
    def timers() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]

    def open_now() -> tuple[int, int]:
        assert until(lambda: len(isolated._children) == 1 and not timers())
        return len(os.listdir("/dev/fd")), threading.active_count()

    run((samples.add, {"a": 1}), (samples.die, {"how": "exit"}))
    before = open_now()
    for how in ("SIGKILL", "exit", "segfault"):
        run((samples.add, {"a": 1}), (samples.die, {"how": how}), (samples.fail, {"message": "x"}))
    assert until(lambda: open_now() == before), (before, open_now())


# --- where the function comes from


MAIN = """
import dataclasses
from engine import Call
from engine.tools import isolated, run_calls, tool

@dataclasses.dataclass
class Point:
    x: int

@tool(isolate=True)
def double(point: Point) -> int:
    return 2 * point.x

if __name__ == "__main__":
    [result] = run_calls([Call("a", "double", {"point": {"x": 4}})], {"double": double})
    print(result.content)
"""


@pytest.mark.parametrize("how", [["main.py"], ["-m", "main"], ["-m", "package.main"]], ids=str)
def test_tools_of_a_script_run_isolated(how: list[str], tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    for folder in (tmp_path, tmp_path / "package"):
        (folder / "main.py").write_text(MAIN)
    done = subprocess.run(
        [sys.executable, *how],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("8\n", "")


def test_a_module_that_was_loaded_from_its_file_by_hand_is_run_from_there(tmp_path: Path) -> None:
    file = tmp_path / "json.py"  # a name that leads elsewhere
    file.write_text(
        "from engine import tool\n@tool(isolate=True)\ndef f() -> str:\n    return __file__\n"
    )
    spec = importlib.util.spec_from_file_location("by_hand", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["by_hand"] = module
    spec.loader.exec_module(module)
    assert result_of(module.f).content == str(file.resolve())
    del sys.modules["by_hand"]


def test_tools_of_a_file_run_isolated_and_see_their_neighbours(tmp_path: Path) -> None:
    (tmp_path / "neighbour.py").write_text("WORD = '이웃'\n", encoding="utf-8")
    file = tmp_path / "도구.py"
    file.write_text(
        "from engine import tool\n"
        "@tool(isolate=True)\n"
        "def word(times: int) -> str:\n"
        "    from neighbour import WORD\n"
        "    return WORD * times\n",
        encoding="utf-8",
    )
    [made] = load_tools(str(file))
    assert result_of(made, times=2).content == "이웃이웃"
    sys.path.remove(str(tmp_path))


@pytest.mark.parametrize(
    "code, words",
    [
        ("raise OSError('no disk')", "no disk"),
        ("import os; os._exit(9)", "exit status 9"),
        ("import engine; engine.load()", "if __name__ == '__main__'"),
        ("from engine import Call\nfrom engine.tools import run_calls\n"
         "[r] = run_calls([Call('a', 'f', {})], {'f': f})\nassert not r.is_error, r.content",
         "calls tools while it is loaded"),
        ("del f", "has no 'f'"),
    ],
    ids=["raises", "exits", "loads a model", "calls itself", "forgets"],
)  # fmt: skip
def test_a_file_that_does_not_load_again_is_an_error_result(
    code: str, words: str, tmp_path: Path
) -> None:
    """What only the child sees: the parent has loaded the file without this code."""
    file = tmp_path / "twice.py"
    declared = "from engine import tool\n@tool(isolate=True)\ndef f() -> int:\n    return 1\n"
    again = tmp_path / "again"
    code = textwrap.indent(code, "    ")
    file.write_text(f"{declared}import os\nif os.path.exists({str(again)!r}):\n{code}\n")
    [made] = load_tools(str(file))
    again.touch()
    result = result_of(made)
    sys.path.remove(str(tmp_path))
    assert words in error_of(result)["message"]


@pytest.mark.parametrize("how", ["file", "module"])
def test_a_file_that_changed_since_it_was_loaded_is_not_run(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, ran = tmp_path / "engine_changing_probe.py", tmp_path / "ran"
    text = "from engine import tool\n@tool(isolate=True)\ndef f() -> str:\n    return 'agreed'\n"
    file.write_text(text)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    importlib.invalidate_caches()
    [made] = load_tools(str(file) if how == "file" else file.stem)
    assert result_of(made).content == "agreed"
    file.write_text(f"{text.replace('agreed', 'not agreed')}open({str(ran)!r}, 'w')\n")
    error = error_of(result_of(made))
    assert error["type"] == "ToolError" and "changed since it was loaded" in error["message"]
    assert not ran.exists(), "nothing of the changed file ran"
    file.write_text(text)
    assert result_of(made).content == "agreed"
    sys.modules.pop(file.stem, None)


def top_level(n: int) -> int:
    return n


def local_function() -> Callable[..., Any]:
    def inner(n: int) -> int:
        return n

    return inner


class Box:
    def method(self, n: int) -> int:
        return n

    def __call__(self, n: int) -> int:
        return n


typed_lambda = lambda n: n  # noqa: E731
typed_lambda.__annotations__ = {"n": int}


def of_no_module() -> Any:
    names: dict[str, Any] = {"__name__": "nowhere"}
    exec("def typed(n: int) -> int: ...", names)
    return names["typed"]


@pytest.mark.parametrize(
    "function, why",
    [
        (local_function(), "is defined inside the function 'local_function'"),
        (typed_lambda, "is a lambda"),
        (Box().method, "is a method"),
        (Box.method, "is a method"),
        (Box(), "is an object of type Box"),
        (functools.partial(top_level, 1), "binds positional arguments"),
        (functools.partial(top_level, n={1}), "binds arguments that are not plain JSON"),
        (of_no_module(), "'nowhere', which is no imported module"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("option", ["isolate", "dangerous"])
def test_what_another_process_cannot_find_is_refused_when_declared(
    function: Any, why: str, option: str
) -> None:
    declare: Any = tool(name="some_tool", **{option: True})  # type: ignore[call-overload]
    with pytest.raises(ToolDefinitionError, match="some_tool") as raised:
        declare(function)
    assert why in raised.value.message


def test_what_was_typed_at_a_prompt_is_refused() -> None:
    code = "from engine import tool\n@tool(isolate=True)\ndef f(n: int) -> int: ..."
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert "typed in at a prompt" in done.stderr


def test_env_is_for_isolated_tools() -> None:
    with pytest.raises(ToolDefinitionError, match="isolate=True"):
        tool(env=["TOKEN"])(top_level)


def test_a_process_that_cannot_start_is_an_error_result(monkeypatch: pytest.MonkeyPatch) -> None:
    isolated.close()
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    assert "can't be started" in error_of(result_of(samples.add, a=1))["message"]
    monkeypatch.setattr(sys, "executable", "")
    assert "can't be started" in error_of(result_of(samples.add, a=1))["message"]
    monkeypatch.undo()
    assert result_of(samples.add, a=1).content == 2


def test_a_spare_process_that_was_killed_is_replaced() -> None:
    result_of(samples.add, a=1)
    assert isolated._spare is not None
    os.kill(isolated._spare._process.pid, signal.SIGKILL)
    dead = isolated._spare
    assert until(lambda: not dead.is_alive)
    assert result_of(samples.add, a=1).content == 2
    assert dead.channel.fileno() == -1, "its socket is left open"
