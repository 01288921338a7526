"""A hostile template can neither reach out nor hang nor fill the memory."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import TemplateError
from engine.messages import Message
from engine.template import ChatTemplate, Limits

CONVERSATION = [Message("system", "Be brief."), Message("user", "Hello there")]

HOSTILE = Path(__file__).parent / "hostile"
ESCAPES = (HOSTILE / "template_escapes.txt").read_text("utf-8").splitlines()
BOMBS = (HOSTILE / "template_bombs.txt").read_text("utf-8").splitlines()

SOURCES = {
    "a long template": "x" * 200_000,
    "nested ifs": "{% if 1 %}" * 3000 + "{% endif %}" * 3000,
    "nested loops": "{% for i in [1] %}" * 100 + "{% endfor %}" * 100,
    "nested brackets": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "nested lists": "{{ " + "[" * 5000 + "]" * 5000 + " }}",
    "a chain of not": "{% if " + "not " * 5000 + "x %}{% endif %}",
    "a chain of plus": "{{ 1" + "+1" * 20000 + " }}",
    "a chain of attributes": "{{ a" + ".b" * 20000 + " }}",
    "a chain of filters": "{{ 'a'" + "|upper" * 10000 + " }}",
    "a number of many digits": "{{ " + "9" * 10000 + " }}",
    "an unclosed block": "{% if x %}",
    "an unknown tag": "{% exec 'ls' %}",
    "an unknown filter": "{{ 'ls'|system }}",
}

WATCHED = ("open", "os.", "subprocess.", "socket.", "shutil.", "ctypes.", "import")


class Audit:
    """What Python's audit hook saw while it was switched on. Hooks can't be taken off again."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.is_on = False
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.is_on and event.startswith(WATCHED):
            self.events.append(f"{event}{arguments!r}")

    def __enter__(self) -> list[str]:
        self.events, self.is_on = [], True
        return self.events

    def __exit__(self, *_: object) -> None:
        self.is_on = False


@pytest.fixture(scope="module")
def audit() -> Iterator[Audit]:
    watcher = Audit()
    refusal("{% unknown %}")  # Jinja and Python import what they need for an error only then
    yield watcher


def refusal(source: str, limits: Limits = Limits()) -> TemplateError | str:  # noqa: B008
    """The error, or the text that should not have come."""
    try:
        return ChatTemplate(source, name="hostile", limits=limits).render(CONVERSATION).text
    except TemplateError as error:
        return error


@pytest.mark.parametrize("source", ESCAPES)
def test_a_template_reaches_nothing_outside(source: str, audit: Audit) -> None:
    with audit as events:
        outcome = refusal(source)
    assert isinstance(outcome, TemplateError), f"rendered {outcome!r:.200}"
    assert outcome.exit_code == 4
    assert str(outcome).startswith("hostile") and "\n" not in str(outcome)
    assert events == []


@pytest.mark.parametrize("source", BOMBS)
def test_a_bomb_is_refused_in_time(source: str) -> None:
    started = time.process_time()  # not the clock: other work on the machine is not the bomb's
    outcome = refusal(source, Limits(seconds=0.2))
    seconds = time.process_time() - started
    assert isinstance(outcome, TemplateError), f"rendered {len(outcome)} characters"
    assert seconds < 1.2


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES.keys())
def test_a_template_that_cannot_be_compiled_is_refused(source: str) -> None:
    started = time.monotonic()
    assert isinstance(refusal(source), TemplateError)
    assert time.monotonic() - started < 2.5


def test_the_default_limit_on_time_holds() -> None:
    started = time.monotonic()
    loops = "{% for i in range(99999) %}{% set x = range(99999)|sum %}{% endfor %}"
    outcome = refusal(loops)
    assert isinstance(outcome, TemplateError) and "2 s" in str(outcome)
    assert time.monotonic() - started < 2.5


def test_no_bomb_takes_half_a_gigabyte() -> None:
    """All bombs in one process of their own; its greatest size tells."""
    assert peak("[refusal(bomb, Limits(seconds=0.1)) for bomb in BOMBS]") < 512 * 2**20


def test_the_memory_test_can_tell() -> None:
    assert peak("bytearray(600 * 2**20)") > 600 * 2**20


def peak(expression: str) -> int:
    """Bytes that a fresh process had resident at most while it evaluated `expression`.

    Linux hands the parent's `ru_maxrss` on to its children, so VmHWM is read there.
    """
    code = (
        "import sys; sys.path[:0] = sys.argv[1:]\n"
        "from test_template_security import BOMBS, Limits, Path, refusal\n"
        "import resource\n"
        f"kept = {expression}\n"
        "status = Path('/proc/self/status')\n"
        "if status.exists():\n"
        "    print(int(status.read_text().partition('VmHWM:')[2].split()[0]) * 1024)\n"
        "else:\n"
        "    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    paths = [str(path) for path in sys.path if path]
    child = subprocess.run(
        [sys.executable, "-c", code, str(HOSTILE.parent), *paths],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(child.stdout)


@pytest.mark.parametrize("size", [10, 1000, 20_000])
def test_a_large_honest_conversation_is_rendered(size: int) -> None:
    source = (
        "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\n' }}"
        "{%- set content = message.content | trim %}{%- if '</think>' in content %}"
        "{%- set content = content.split('</think>')[-1].lstrip('\n') %}{%- endif %}"
        "{{- content ~ '<|im_end|>\n' }}{%- endfor %}"
    )
    messages = [Message("user", f"question {index} " + "word " * 20) for index in range(size)]
    assert ChatTemplate(source).render(messages).text.count("<|im_end|>") == size


def test_rendering_changes_nothing_of_the_callers() -> None:
    content = {"list": [1, {"deep": "value"}], "text": "value"}
    messages = [Message("user", "hi"), Message("tool", content, call_id="a")]
    source = (
        "{% set _ = messages.append(1) %}{% set _ = messages[1].content.list.append(2) %}"
        "{% set _ = messages.pop(0) %}{{ messages|length }}"
    )
    variables = {"extra": [1]}
    assert ChatTemplate(source).render(messages, variables=variables).text == "2"
    assert content == {"list": [1, {"deep": "value"}], "text": "value"}
    assert len(messages) == 2 and variables == {"extra": [1]}


def test_limits_say_what_was_passed() -> None:
    outcome = refusal("{{ 'a' * 10**9 }}")
    assert isinstance(outcome, TemplateError)
    assert outcome.line == 1
    assert "1,000,000,000" in str(outcome) and "4,194,304" in str(outcome)
