"""Signals that end the command, at each stage of its work: a code, no traceback, a sound terminal.

Stages by `tests/stages.py`; see docs/faults.md, rows S1 to S9. By default SIGTERM and the second
Ctrl-C strike at some stages; ENGINE_TESTS=full has them strike at all.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.live.test_interrupts_live import BEGUN, FLAGS, LOADING, QUESTION, UNSAID, chat, held
from tests.terminal import CTRL_C, Terminal

pytestmark = pytest.mark.live
FULL = os.environ.get("ENGINE_TESTS") == "full"
ALL = (*LOADING, *UNSAID, *BEGUN)
SOME = ALL if FULL else ("context", "grammar")


@pytest.mark.parametrize(
    "stage, number, code",
    [(stage, signal.SIGINT, 130) for stage in ALL]
    + [(stage, signal.SIGTERM, 143) for stage in SOME],
)
def test_a_signal_ends_run_with_its_code_and_no_traceback(
    tiny_path: Path, tmp_path: Path, stage: str, number: signal.Signals, code: int
) -> None:
    arguments = ("run", str(tiny_path), QUESTION, *FLAGS)
    with Terminal(*arguments, home=tmp_path, program=held(stage)) as terminal:
        terminal.expect(f"at {stage}")
        terminal.signal(number)
        assert terminal.wait() == code
        assert terminal.has_first_modes() and "Traceback" not in terminal.text


@pytest.mark.parametrize("stage", LOADING if FULL else ["context"])
def test_ctrl_c_while_a_chat_loads_ends_it_with_130(
    tiny_path: Path, tmp_path: Path, stage: str
) -> None:
    with chat(tmp_path, held(stage)) as terminal:
        terminal.expect(f"at {stage}")
        terminal.type(CTRL_C)
        assert terminal.wait() == 130
        assert "was stopped" in terminal.text and "Traceback" not in terminal.text


@pytest.mark.parametrize("stage", SOME)
def test_a_second_ctrl_c_leaves_work_that_does_not_hear(
    tiny_path: Path, tmp_path: Path, stage: str
) -> None:
    with chat(tmp_path, held(stage + "!")) as terminal:
        if stage not in LOADING:
            terminal.say(QUESTION)
        terminal.expect(f"at {stage}")
        terminal.type(CTRL_C)
        terminal.expect("deaf")  # two at once may be one signal
        terminal.type(CTRL_C)
        assert terminal.wait() == 130
        assert terminal.has_first_modes() and "Traceback" not in terminal.text


@pytest.mark.parametrize("stage", ["prefill", "decode"] if FULL else ["decode"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_ending_signals_in_an_answer_leave_the_terminal_as_it_was(
    tiny_path: Path, tmp_path: Path, stage: str, number: signal.Signals
) -> None:
    with chat(tmp_path, held(stage)) as terminal:
        terminal.say(QUESTION)
        terminal.expect(f"at {stage}")
        terminal.signal(number)
        assert terminal.wait() == 128 + number
        assert terminal.has_first_modes() and "Traceback" not in terminal.text
