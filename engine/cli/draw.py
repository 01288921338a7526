"""An answer as it comes: on a terminal for people, or as JSON lines for programs.

Knows events. Does not know models, chats or where the events come from.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any, Final, Protocol

from engine.cli.console import Console, clip_start, printable_line
from engine.cli.jsonl import event_record, write_record
from engine.events import (
    Approval,
    Control,
    Event,
    Finish,
    Notice,
    Prefill,
    Step,
    Text,
    Thinking,
    Token,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
    ToolProgress,
    ToolResult,
    Usage,
)

RESULT_WIDTH: Final = 400  # characters of a result that are shown without --verbose
PATIENCE: Final = 1.0  # seconds of prefill before its progress is worth showing
# Endings that the answer itself doesn't explain.
ENDINGS: Final[dict[str, str]] = {
    "length": "cut off: the limit of tokens was reached",
    "context_full": "cut off: the context is full; --ctx-size makes it larger",
    "step_limit": "stopped: the limit of tool steps was reached",
    "deadline": "stopped: out of time",
    "cancelled": "stopped",
}


class Drawer(Protocol):
    """Shows one answer after another."""

    verbose: bool
    stats: bool

    def draw(self, event: Event) -> None: ...


class JsonDrawer:
    """Every event as a JSON line on stdout; tokens only when asked for."""

    def __init__(self, console: Console, *, with_tokens: bool = False) -> None:
        self._console = console
        self._with_tokens = with_tokens
        self.verbose = self.stats = True  # a program gets everything

    def draw(self, event: Event) -> None:
        if self._with_tokens or not isinstance(event, Token):
            write_record(self._console.out, event_record(event))


class ScreenDrawer:
    """The answer's text on stdout; thinking, calls, results and counts on stderr."""

    def __init__(self, console: Console, *, verbose: bool = False, stats: bool = True) -> None:
        self._console = console
        self.stats = stats
        self.verbose = verbose
        self._kind: type[Event] | None = None
        self._has_text = False
        self._growing = ""
        self._prefill_since: float | None = None
        self._calls: dict[str, str] = {}

    def draw(self, event: Event) -> None:
        """Show one event. Whatever a model or a tool wrote is escaped first."""
        match event:
            case Token():
                return
            case Prefill():
                return self._draw_prefill(event)
            case Text(text=text):
                self._draw_text(text)
            case Thinking(text=text):
                self._draw_thinking(text)
            case ToolCall():
                self._draw_call(event)
            case Approval(name=name, is_allowed=False, reason=reason):
                self._console.note(f"! {printable_line(name)}: {printable_line(reason)}", "red")
            case ToolResult():
                self._draw_result(event)
            case ToolProgress(text=text):
                self._console.note(f"  .. {printable_line(text)}", "dim")
            case Notice(text=text):
                mark, style = ("! ", "red") if event.is_warning else ("", "dim")
                self._console.note(f"{mark}{printable_line(text)}", style)
            case Step():
                if not self.verbose:
                    return
                self._console.note(f"[step {event.number}: {counts_of(event.usage)}]", "dim")
            case Control() | ToolCallStart() | ToolCallDelta():
                self._draw_wire(event)
            case Finish():
                self._draw_finish(event)
        self._prefill_since = None
        self._kind = type(event)

    def _draw_prefill(self, event: Prefill) -> None:
        now = time.monotonic()
        if self._prefill_since is None:
            self._prefill_since = now
        if event.done >= event.total:
            self._prefill_since = None
            self._console.wipe()
        elif now - self._prefill_since > PATIENCE:
            share = event.done / event.total
            self._console.transient(f"reading: {event.done} of {event.total} tokens ({share:.0%})")

    def _draw_text(self, text: str) -> None:
        if self._kind is not Text:
            self._has_text = False
        if not self._has_text:
            text = text.lstrip("\n")  # what stands between </think> and the answer
        self._has_text = self._has_text or bool(text)
        self._console.answer(text)

    def _draw_thinking(self, text: str) -> None:
        if self._kind is not Thinking:
            self._console.end_line()
            if not self._console.has_colour:
                text = f"(thinking) {text.lstrip()}"
        self._console.aside(text)

    def _draw_call(self, call: ToolCall) -> None:
        arguments = ", ".join(f"{name}={_compact(value)}" for name, value in call.arguments.items())
        line = printable_line(f"{call.name}({arguments})")
        self._calls[call.id] = line
        self._console.note(f"* {self._shorten(line)}", "cyan")

    def _draw_result(self, result: ToolResult) -> None:
        content = result.content if isinstance(result.content, str) else _compact(result.content)
        text = self._shorten(printable_line(content))
        is_alone = len(self._calls) == 1
        self._calls.pop(result.id, None)
        name = "" if is_alone else f"{printable_line(result.name)}: "
        line = f"  -> {name}{text}  ({_seconds(result.seconds)})"
        self._console.note(line, "red" if result.is_error else "dim")

    def _draw_wire(self, event: Control | ToolCallStart | ToolCallDelta) -> None:
        """A call while it grows, and control tokens with --verbose."""
        if isinstance(event, ToolCallStart):
            self._growing = f"{event.name} "
            if self.verbose:
                self._console.aside(f"{event.name} ")
        elif isinstance(event, ToolCallDelta):
            self._growing = (self._growing + event.text)[-80:]
            if self.verbose:
                self._console.aside(event.text)
            else:
                self._console.transient(f"* {clip_start(printable_line(self._growing), 60)}")
        elif self.verbose:
            self._console.note(f"[{printable_line(event.name)}: {event.meaning}]", "dim")

    def _draw_finish(self, finish: Finish) -> None:
        self._calls.clear()
        self._console.end_line()
        if ending := finish.message or ENDINGS.get(finish.reason, ""):
            self._console.note(f"({printable_line(ending)})", "red")
        if self.stats:
            self._console.note(stats_line(finish), "dim")

    def _shorten(self, text: str) -> str:
        if self.verbose or len(text) <= RESULT_WIDTH:
            return text
        return f"{text[:RESULT_WIDTH]}… ({len(text):,} characters)"


def stats_line(finish: Finish) -> str:
    """The counts of one answer on one line."""
    return f"[{counts_of(finish.usage)}]"


def counts_of(usage: Usage) -> str:
    """The counts of an answer, or of one of its steps."""
    parts = [f"{usage.completion_tokens} tokens, {usage.tokens_per_second:.1f}/s"]
    if usage.prefilled:
        parts.append(f"prefill {usage.prefilled} tokens, {usage.prefill_per_second:.0f}/s")
    if usage.prompt_tokens:
        parts.append(f"KV reused {usage.reuse_ratio:.0%} of {usage.prompt_tokens}")
    if usage.kv_restored:
        parts.append(f"{usage.kv_restored} from disk")
    if usage.steps > 1:
        parts.append(f"{usage.steps} steps")
    return " | ".join(parts)


def _compact(value: Any) -> str:
    if isinstance(value, Mapping):
        value = dict(value)
    return json.dumps(value, ensure_ascii=False, default=repr)


def _seconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
