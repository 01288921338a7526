"""One grammar backend in a process of its own: walk texts, time every mask, report as rows.

Knows the backends' protocol, clocks and limits. Does not know files, figures or tables.

A crash, a hang or an exhausted memory of a backend is a result like others: the process is started
anew for the next grammar. Times are thread CPU time: other work on the machine counts less.
"""

from __future__ import annotations

import gc
import importlib.metadata
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

from bench.backends import Backend, Compiled, Kind, Matcher, Refused, backend
from engine.vocab import Vocab

clock = time.thread_time_ns
SETUP_SECONDS = 900.0

State = Literal["compiled", "refused", "timed out", "crashed"]
Verdict = Literal["taken", "rejected", "late", "inconsistent"]


@dataclass(frozen=True, slots=True)
class Text:
    """What is walked: token ids, and whether the grammar should take them; None: nobody knows."""

    ids: Sequence[int]
    is_valid: bool | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A grammar and its texts."""

    id: str
    kind: Kind
    source: str
    texts: Sequence[Text]


@dataclass(slots=True)
class Walk:
    """A walk's times in nanoseconds: one mask for each token, and one for the end."""

    verdict: Verdict
    masks: list[int] = field(default_factory=list)
    advances: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Row:
    """What became of a job. `cold` and `warm` have a walk for each text, as far as they got."""

    id: str
    state: State
    reason: str = ""
    compile_ns: int = 0
    first_ns: int = 0  # compiling, making a matcher, its first mask (which is in `cold` too)
    cold: list[Walk] = field(default_factory=list)
    warm: list[Walk] = field(default_factory=list)
    memory: int = 0  # bytes by which the process grew at its largest
    resident: int = 0  # bytes of the whole process then, with all earlier grammars that it keeps


@dataclass(frozen=True, slots=True)
class Setup:
    """A backend that is ready for grammars: what the vocabulary cost in time and bytes."""

    ns: int
    memory: int
    versions: dict[str, str]
    policy: str


# In the process of the backend


def walk(matcher: Matcher, ids: Sequence[int], ends: Sequence[int], deadline: int) -> Walk:
    """Compute every mask up to the end, or to the token that is refused, or to the deadline."""
    out = Walk("taken")
    for token in ids:
        begun = clock()
        matcher.mask()
        done = clock()
        out.masks.append(done - begun)
        if not matcher.allows(token):
            out.verdict = "rejected"
            return out
        begun = clock()
        taken = matcher.advance(token)
        done = clock()
        out.advances.append(done - begun)
        if not taken or done > deadline:
            out.verdict = "late" if taken else "inconsistent"
            return out
    begun = clock()
    matcher.mask()
    out.masks.append(clock() - begun)
    if not any(matcher.allows(end) for end in ends):
        out.verdict = "rejected"
    return out


def measure(backend: Backend, job: Job, ends: Sequence[int], limit_s: float) -> Row:
    """Compile, walk all texts in fresh matchers, then walk them all again."""
    row = Row(job.id, "compiled")
    started = clock()
    deadline = started + int(limit_s * 1e9)
    before = resident_bytes(reset_peak=True)
    gc.disable()  # a collection inside a mask would be counted as its own
    try:
        begun = clock()
        try:
            compiled = backend.compile(job.kind, job.source)
        except Refused as error:
            row.state, row.reason = "refused", _line(error)
            return row
        finally:
            row.compile_ns = row.first_ns = clock() - begun
        row.first_ns += _pass(compiled, job, ends, deadline, row.cold)
        if 2 * clock() < deadline + started:  # else there is no time for another round
            _pass(compiled, job, ends, deadline, row.warm)
    except Exception as error:
        row.state, row.reason = "crashed", f"{type(error).__name__}: {_line(error)}"
        return row
    finally:
        gc.enable()
        row.resident = resident_bytes(peak=True)
        row.memory = max(0, row.resident - before)
    if len(row.cold) < len(job.texts) or (row.cold[-1:] and row.cold[-1].verdict == "late"):
        row.state, row.reason = "timed out", f"{limit_s:g} s"
    return row


def _pass(compiled: Compiled, job: Job, ends: Sequence[int], deadline: int, out: list[Walk]) -> int:
    """Walk every text; returns what a matcher and the very first mask took."""
    first = 0
    for text in job.texts:
        if clock() > deadline:
            break
        begun = clock()
        matcher = compiled.matcher()
        made = clock() - begun
        out.append(walk(matcher, text.ids, ends, deadline))
        first = first or made + out[0].masks[0]
    return first


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def resident_bytes(*, peak: bool = False, reset_peak: bool = False) -> int:
    """This process's memory, or its largest since the last reset; without procfs, ever."""
    with suppress(OSError):
        if reset_peak:
            Path("/proc/self/clear_refs").write_text("5")
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        import resource

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most << 10
    name = "VmHWM:" if peak else "VmRSS:"
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(name))


def cpu_seconds(pid: int) -> float:
    """What a process has used so far; 0 without procfs."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def serve(
    connection: Connection, name: str, vocab: Vocab, path: Path | None, memory: int, limit_s: float
) -> None:
    """The process: set up, report, then a row for every job until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    with open(os.devnull, "wb") as silence:  # llama.cpp prints every grammar that it can't read
        os.dup2(silence.fileno(), sys.stderr.fileno())
    try:
        made = backend(name, vocab, path)
        gc.collect()
        gc.freeze()
        before, begun = resident_bytes(reset_peak=True), clock()
        made.setup()
    except Exception as error:
        connection.send(f"{type(error).__name__}: {_line(error)}")
        return
    ends = sorted(vocab.eog)
    spent, grown = clock() - begun, max(0, resident_bytes(peak=True) - before)
    versions = {package: importlib.metadata.version(package) for package in made.packages}
    connection.send(Setup(spent, grown, versions, made.policy))
    with suppress(EOFError):
        while True:
            connection.send(measure(made, connection.recv(), ends, limit_s))


# In the process of the bench


class Worker:
    """A backend in a process, started anew whenever it died or had to be ended."""

    def __init__(
        self,
        name: str,
        vocab: Vocab,
        path: Path | None = None,
        *,
        limit_s: float = 20.0,
        memory: int = 12 << 30,
    ) -> None:
        self.name = name
        self.setup: Setup | None = None
        self._limit_s = limit_s
        self._arguments = (name, replace(vocab), path, memory, limit_s)
        self._process: Any = None
        self._connection: Any = None

    def start(self) -> None:
        """Start the process and wait until the vocabulary is ready. Raises RuntimeError."""
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, *self._arguments), daemon=True)
        self._process.start()
        theirs.close()
        try:
            if not self._connection.poll(SETUP_SECONDS):
                raise EOFError
            setup: Setup | str = self._connection.recv()
        except (EOFError, OSError):
            setup = f"the process ended, or {SETUP_SECONDS:g} s were over"
        if isinstance(setup, str):
            self.close()
            raise RuntimeError(f"{self.name}: the vocabulary could not be set up: {setup}")
        self.setup = self.setup or setup

    def ask(self, job: Job) -> Row:
        if self._process is None:
            self.start()
        spent_s, begun = cpu_seconds(self._process.pid), time.monotonic()
        try:
            self._connection.send(job)
            while not self._connection.poll(0.5):
                # What hangs inside a call ends here; a busy machine is no reason.
                cpu_s = cpu_seconds(self._process.pid) - spent_s
                wall_s = time.monotonic() - begun
                if cpu_s > 1.2 * self._limit_s + 1 or wall_s > 10 * self._limit_s + 10:
                    self.close()
                    return Row(
                        job.id, "timed out", f"after {cpu_s:.0f} s, {wall_s:.0f} s by the clock"
                    )
            row: Row = self._connection.recv()
        except (EOFError, OSError):
            self._process.join(10)
            code = self._process.exitcode
            self.close()
            return Row(job.id, "crashed", f"the process ended with {code}")
        return row

    def close(self) -> None:
        if self._process is not None:
            self._connection.close()
            self._process.kill()
            self._process.join()
            self._process = None
