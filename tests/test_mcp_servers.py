"""MCP servers over stdio that misbehave: the others work, the reason is told, nothing is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.errors import McpError
from engine.events import ToolProgress, ToolResult
from engine.tools.mcp import Limits, McpServers, ServerConfig, load_config
from engine.tools.mcp.limits import Backoff, Meter
from tests.mcp_helpers import (
    HOSTILE,
    QUICK,
    events_of,
    eventually,
    hostile,
    is_alive,
    problem_of,
    result_of,
)

# --- a server that behaves


def test_a_servers_tools_are_called_like_local_ones() -> None:
    with McpServers([hostile()]) as servers:
        (status,) = servers.status()
        assert (status.state, status.server, status.reason) == ("up", "hostile 6.6", "")
        assert status.protocol == "2025-06-18" and "h__echo" in status.tools
        assert result_of(servers, "h__echo", text="서울 \x00").content == "서울 \ufffd"
        echo = servers.tools()[0]
        assert (echo.server, echo.runs_here, echo.spec.name) == ("h", True, "h__echo")
    assert servers.status()[0].state == "closed"


def test_what_a_tool_answers_becomes_a_value() -> None:
    with McpServers([hostile()]) as servers:
        failed = result_of(servers, "h__fail")
        assert (failed.is_error, failed.content) == (True, "the disk is full")
        assert "no such thing" in problem_of(result_of(servers, "h__refuse"))
        assert result_of(servers, "h__surrogate").content == "half ? a pair"
        assert result_of(servers, "h__parts").content == (
            "look\n[image image/png, 3 bytes]\n[resource notes file:///notes]\n"
            "[resource file:///a.txt text/plain]\ninside"
        )


def test_progress_arrives_while_the_call_runs() -> None:
    with McpServers([hostile()]) as servers:
        *progress, result = events_of(servers, "h__progress")
    assert isinstance(result, ToolResult) and result.content == "done"
    said = [event.text for event in progress if isinstance(event, ToolProgress)]
    assert said == ["1 of 3: step 1", "2 of 3: step 2", "3 of 3: step 3"]


def test_calls_run_side_by_side_on_one_server() -> None:
    with McpServers([hostile()]) as servers:
        done: list[Any] = []
        threads = [
            threading.Thread(
                target=lambda n=n: done.append(result_of(servers, "h__echo", text=str(n)).content)
            )
            for n in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(done) == [str(n) for n in range(8)]


def test_a_servers_own_requests_are_refused_and_it_gets_no_roots() -> None:
    with McpServers([hostile()]) as servers:
        content = result_of(servers, "h__ask").content
    sampling, elicitation, roots = json.loads(str(content))
    assert "not supported" in sampling["error"]["message"]
    assert "not supported" in elicitation["error"]["message"]
    assert roots["result"] == {"roots": []}


def test_the_environment_of_a_server_is_an_allow_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "s3cret")
    with McpServers([hostile(env={"GIVEN": "yes"})]) as servers:
        content = result_of(servers, "h__env").content
    assert isinstance(content, dict)
    assert content["GIVEN"] == "yes" and "PATH" in content
    assert "SECRET_TOKEN" not in content


# --- M1: servers that don't start


def test_a_server_that_fails_is_down_with_its_reason_and_the_others_work() -> None:
    configs = [
        ServerConfig(name="missing", command="no-such-program-anywhere"),
        ServerConfig(name="nowhere", command="sh", cwd="/no/such/folder"),
        ServerConfig(name="unset", command="sh", problem="the environment variable X is not set"),
        ServerConfig(name="off", command="sh", is_disabled=True),
        hostile("exits", "exits"),
        hostile("silent", "silent", start_seconds=0.5),
        hostile("only_junk", "noisy", start_seconds=0.5),
        hostile("old", "old"),
        hostile("junk", "fine"),
    ]
    with McpServers(configs) as servers:
        found = {status.name: status for status in servers.status()}
        assert result_of(servers, "fine__echo", text="hi").content == "hi"
    states = {name: status.state for name, status in found.items()}
    assert states.pop("fine") == "up" and states.pop("off") == "disabled"
    assert set(states.values()) == {"down"}
    for name, reason in {
        "missing": "there is no program 'no-such-program-anywhere'",
        "nowhere": "no directory",
        "unset": "X is not set",
        "exits": "ended with exit code 3",
        "silent": "did not answer within 0.5 s",
        "noisy": "'Welcome to the server!'",
        "old": "Unsupported protocol version",
    }.items():
        assert reason in found[name].reason, name
    assert "no key: set KEY" in found["exits"].reason
    assert found["exits"].stderr == "no key: set KEY\n"


def test_servers_start_side_by_side() -> None:
    """Eight that never answer take as long as one."""
    configs = [hostile("silent", f"s{n}", start_seconds=1.0) for n in range(8)]
    begun = time.monotonic()
    with McpServers(configs) as servers:
        waited = time.monotonic() - begun
        assert {status.state for status in servers.status()} == {"down"}
    assert waited < 8 * 1.0


def test_a_program_that_may_not_be_executed_is_named(tmp_path: Path) -> None:
    script = tmp_path / "server.py"
    script.write_text("print()")
    with McpServers([ServerConfig(name="x", command=str(script))]) as servers:
        assert "chmod +x" in servers.status()[0].reason


def test_two_servers_of_one_name_are_refused() -> None:
    with pytest.raises(McpError, match="would both be 'my_files'"):
        McpServers([hostile(name="my files"), hostile(name="my_files")])


# --- M2: servers that die


def test_a_server_that_dies_in_a_call_fails_that_call_and_is_started_again() -> None:
    with McpServers([hostile()], limits=QUICK) as servers:
        before = servers.status()[0].pid
        result = result_of(servers, "h__die")
        assert "ended with exit code 7" in problem_of(result)
        assert result_of(servers, "h__echo", text="back").content == "back"
        status = servers.status()[0]
        assert (status.state, status.restarts) == ("up", 1)
        assert status.pid is not None and status.pid != before


def test_a_child_that_holds_the_pipes_does_not_hide_the_death() -> None:
    with McpServers([hostile()], limits=QUICK) as servers:
        assert "exit code 7" in problem_of(result_of(servers, "h__die_with_child"))
        child = int(servers.status()[0].stderr.split()[-1])
        eventually(lambda: not is_alive(child), "the dead server's child ended")


def test_a_server_killed_in_a_call_is_noticed() -> None:
    with McpServers([hostile()], limits=QUICK) as servers:
        results: list[ToolResult] = []
        thread = threading.Thread(target=lambda: results.append(result_of(servers, "h__wait")))
        thread.start()
        eventually(lambda: "waiting" in servers.status()[0].stderr, "the call is under way")
        pid = servers.status()[0].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        thread.join()
        assert "was ended by SIGKILL" in problem_of(results[0])


def test_a_server_that_keeps_dying_stays_down() -> None:
    with McpServers([hostile()], limits=QUICK) as servers:
        for _ in range(4):
            assert result_of(servers, "h__die").is_error
        eventually(lambda: servers.status()[0].state == "down", "it is given up")
        status = servers.status()[0]
        assert status.restarts == 3 and "3 restarts did not help" in status.reason
        assert "is down" in problem_of(result_of(servers, "h__echo", text="x"))
        assert status.tools  # what the model knows of stays; calls say what became of it


def test_restarts_wait_1_2_4_seconds_and_end_after_three_in_a_minute() -> None:
    backoff = Backoff(Limits())
    assert [backoff.after(now) for now in (0, 10, 20, 30)] == [1.0, 2.0, 4.0, None]
    assert backoff.after(60.0) == 4.0  # the first is over a minute ago
    assert Backoff(Limits()).after(1e9) == 1.0


# --- M3: servers that break the protocol


@pytest.mark.parametrize(
    "tool, reason",
    [
        ("long_line", "a line of over 8388608 bytes"),
        ("wrong_id", "a request that was never made (id '1003')"),
        ("invalid", "no JSON-RPC message"),
        ("flood", "more than 100 messages a second"),
    ],
)
def test_a_breach_of_the_protocol_drops_the_connection(tool: str, reason: str) -> None:
    limits = replace(QUICK, messages_per_second=100)  # slow machines don't read 1,000 of them
    with McpServers([hostile()], limits=limits) as servers:
        assert reason in problem_of(result_of(servers, f"h__{tool}"))
        assert result_of(servers, "h__echo", text="still here").content == "still here"
        assert servers.status()[0].restarts == 1


def test_the_meter_lets_a_rate_through_and_a_flood_not() -> None:
    steady = Meter(100, now=0.0)
    assert all(steady.admits(n / 100) for n in range(1_000))
    burst = Meter(100, now=0.0)
    assert [burst.admits(50.0) for _ in range(101)] == [True] * 100 + [False]


def test_stderr_is_kept_as_a_tail() -> None:
    chatty = "import sys; sys.stderr.write('a' * 200_000 + '\\nlast words'); sys.exit(1)"
    config = ServerConfig(name="c", command=sys.executable, args=("-c", chatty))
    with McpServers([config]) as servers:
        stderr = servers.status()[0].stderr
    assert stderr.endswith("last words") and len(stderr) <= 64 * 1024


# --- lists of tools


def test_a_changed_list_is_read_again_and_has_another_version() -> None:
    told = threading.Event()
    with McpServers([hostile()], limits=QUICK, on_change=told.set) as servers:
        told.clear()
        before, version = servers.tools()[0], servers.version
        assert result_of(servers, "h__change").content == "changed"
        assert told.wait(60)
        after = servers.tools()[0]
        assert servers.version == version + 1
        assert after.description == "Says it again, edition 1."
        assert before.definition_hash != after.definition_hash


def test_a_restart_with_the_same_tools_changes_nothing() -> None:
    with McpServers([hostile()], limits=QUICK) as servers:
        version, hashes = servers.version, [t.definition_hash for t in servers.tools()]
        assert result_of(servers, "h__die").is_error
        assert result_of(servers, "h__echo", text="x").content == "x"
        assert servers.version == version
        assert [t.definition_hash for t in servers.tools()] == hashes


def test_tools_that_can_not_be_used_are_left_out_with_a_notice() -> None:
    with McpServers([hostile("odd", "o")]) as servers:
        names = [tool.name for tool in servers.tools()]
        told = "\n".join(notice.text for notice in servers.take_notices())
        asks = {tool.name: tool.approve for tool in servers.tools()}
        assert servers.take_notices() == []
    assert [name for name in names if "xxx" not in name] == [
        *("o__a_b", "o__bare", "o__safe", "o__sharp", "o__strange")
    ]
    assert [len(name) for name in names if "xxx" in name] == [64]
    for problem in ("would take the name o__a_b", "'listy'", "'texty'", "'required'", "without a"):
        assert problem in told
    assert asks == {**dict.fromkeys(names), "o__sharp": "ask"}  # hints never loosen


def test_characters_that_can_not_be_seen_are_escaped_and_flagged() -> None:
    with McpServers([hostile("hidden")]) as servers:
        read, plain = servers.tools()
        told = "\n".join(notice.text for notice in servers.take_notices())
    assert read.name == "h__read_file"
    assert read.description == "Reads.\\u202e\\u001b[31m and sends\\U000e0041"
    assert plain.parameters["properties"]["a"]["description"] == "x\\u200by"
    assert "read\\\\u200bfile" in told and "RIGHT-TO-LEFT OVERRIDE" in told
    assert told.isascii()


# --- cancelling


def test_a_cancelled_call_is_cancelled_at_the_server() -> None:
    stop = threading.Event()
    with McpServers([hostile()]) as servers:
        from engine.messages import Call
        from engine.tools import run_calls, tools_by_name

        results: list[Any] = []
        calls = run_calls(
            [Call("c", "h__wait", {})], tools_by_name(servers.tools()), cancelled=stop.is_set
        )
        thread = threading.Thread(target=lambda: results.extend(calls))
        thread.start()
        eventually(lambda: "waiting" in servers.status()[0].stderr, "the call is under way")
        stop.set()
        thread.join()
        assert problem_of(results[-1]).startswith("cancelled")
        eventually(lambda: "cancelled 3" in servers.status()[0].stderr, "the server was told")
        assert result_of(servers, "h__echo", text="on").content == "on"


def test_a_call_over_its_time_is_cancelled_at_the_server() -> None:
    with McpServers([hostile(timeout_seconds=0.3)]) as servers:
        assert "timeout after 0.3 s" in problem_of(result_of(servers, "h__wait"))
        eventually(lambda: "cancelled" in servers.status()[0].stderr, "the server was told")


def test_closing_ends_calls_under_way() -> None:
    results: list[ToolResult] = []
    with McpServers([hostile()]) as servers:
        thread = threading.Thread(target=lambda: results.append(result_of(servers, "h__wait")))
        thread.start()
        eventually(lambda: "waiting" in servers.status()[0].stderr, "the call is under way")
    thread.join()
    assert results[0].is_error
    late = result_of(servers, "h__echo", text="x")
    assert "session is over" in problem_of(late)


# --- M6, S7: nothing is left


def test_closing_ends_all_that_a_server_started() -> None:
    with McpServers([hostile()]) as servers:
        content = result_of(servers, "h__fork").content
        assert isinstance(content, dict)
        group, alone = content["pids"]  # type: ignore[misc]
        assert is_alive(group) and is_alive(alone)  # type: ignore[arg-type]
    assert not is_alive(group) and not is_alive(content["own"])  # type: ignore[arg-type]
    if sys.platform == "linux":
        assert not is_alive(alone)  # type: ignore[arg-type]
    else:
        os.kill(alone, signal.SIGKILL)  # type: ignore[arg-type]


def test_a_server_that_ignores_everything_is_killed() -> None:
    with McpServers([hostile()]) as servers:
        content = result_of(servers, "h__deaf").content
        assert isinstance(content, dict)
    assert not is_alive(content["own"])  # type: ignore[arg-type]


def test_a_polite_server_may_end_by_itself() -> None:
    with McpServers([hostile()]) as servers:
        pass
    assert servers.status()[0].stderr.endswith("stdin closed\n")


HOLDER = """
import sys, time
from engine.tools.mcp import McpServers
from tests.mcp_helpers import hostile, result_of
with McpServers([hostile()]) as servers:
    made = result_of(servers, "h__fork").content
    print(made["own"], *made["pids"], flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_servers_end_with_us_however_we_end(number: signal.Signals) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert holder.stdout is not None
    pids = [int(word) for word in holder.stdout.readline().split()]
    assert len(pids) == 3 and all(map(is_alive, pids))
    holder.send_signal(number)
    holder.wait()
    holder.stdout.close()
    if sys.platform != "linux":
        os.kill(pids.pop(), signal.SIGKILL)
    eventually(lambda: not any(map(is_alive, pids)), "all are gone")


def test_a_killed_supervisor_takes_its_server_along() -> None:
    with McpServers([hostile()], limits=QUICK) as servers:
        pid = servers.status()[0].pid
        assert pid is not None
        supervisor = os.getpgid(pid)
        parents = subprocess.run(
            ["ps", "-o", "ppid=", "-p", str(pid)], capture_output=True, text=True, check=True
        )
        supervisor = int(parents.stdout)
        os.kill(supervisor, signal.SIGKILL)
        eventually(lambda: not is_alive(pid), "the server is gone")
        eventually(lambda: servers.status()[0].restarts == 1, "another was started")


def test_closing_in_the_middle_of_a_start_leaves_nothing(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    for _ in range(5):
        with McpServers([hostile(env={"PID_FILE": str(file)})], limits=QUICK) as servers:
            assert result_of(servers, "h__die").is_error  # another is about to be started
        text = file.read_text()
        eventually(lambda text=text: not text or not is_alive(int(text)), "the last is gone")


def test_a_failing_on_change_costs_nothing() -> None:
    def fail() -> None:
        raise RuntimeError("mine")

    with McpServers([hostile()], on_change=fail) as servers:
        assert result_of(servers, "h__echo", text="x").content == "x"
        assert servers.status()[0].restarts == 0


def test_many_calls_leave_no_threads_and_no_files_open() -> None:
    def held() -> tuple[int, int]:
        folder = Path("/proc/self/fd")
        return threading.active_count(), len(list(folder.iterdir())) if folder.is_dir() else 0

    before = held()
    with McpServers([hostile()], limits=QUICK) as servers:
        assert result_of(servers, "h__echo", text="x").content == "x"
        inside = held()
        for n in range(200):
            assert result_of(servers, "h__echo", text=str(n)).content == str(n)
        eventually(lambda: held() <= inside, "as many as after the first call")
    eventually(lambda: held() <= before, "as many as before")


def test_servers_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mcp.json"
    entry = {"command": sys.executable, "args": ["-I", "-S", str(HOSTILE), "good"]}
    file.write_text(json.dumps({"mcpServers": {"h": entry}}))
    with McpServers(load_config(file).servers) as servers:
        assert result_of(servers, "h__echo", text="from a file").content == "from a file"
