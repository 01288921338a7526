"""How far an answer has come, and whether it must stop: counts, steps, repeats, conditions.

Knows calls, results and limits. Does not know models, prompts or how calls are run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from engine.errors import UsageError
from engine.events import FinishReason, ToolResult, Usage
from engine.messages import JSON, Call

MAX_STEPS: Final = 10
MAX_REPEATS: Final = 5  # the same calls with the same results, one after the other
MAX_REPAIRS: Final = 3  # messages in a row whose calls could all not be run as written
UNREADABLE: Final = frozenset({"InvalidCall", "InvalidArguments", "UnknownTool"})


@dataclass(frozen=True, slots=True)
class Progress:
    """Where an answer stands, for stop conditions: `step` model turns are done.

    `calls` and `results` are those of the last turn, in the same order.
    """

    step: int
    calls: tuple[Call, ...] = ()
    results: tuple[ToolResult, ...] = ()


StopCondition = Callable[[Progress], bool]


def steps(count: int) -> StopCondition:
    """Stop after `count` turns of the model, tool results included. Raises UsageError below 1."""
    if count < 1:
        raise UsageError(f"steps: expected 1 or more, found {count}")
    return lambda progress: progress.step >= count


def tool_called(*names: str) -> StopCondition:
    """Stop once one of these tools has been called, and its call is answered."""
    if not names:
        raise UsageError("tool_called: expected the name of a tool")
    return lambda progress: any(call.name in names for call in progress.calls)


def any_of(conditions: Sequence[StopCondition]) -> StopCondition:
    """Stop as soon as one of them says so; all are asked."""
    return lambda progress: any([condition(progress) for condition in conditions])


class Course:
    """One answer's steps. `over` says after each whether it ends, with a reason and in words."""

    def __init__(self, max_steps: int, stop: StopCondition | None) -> None:
        self.step = 0  # turns of the model that are done
        self.has_begun = False  # something was generated: what was asked is part of the chat
        self.usage = Usage()
        self._max_steps = max_steps
        self._stop = stop
        self._last: object = None
        self._repeats = 0
        self._repairs = 0

    def count(self, **counts: float) -> None:
        """Add to `usage`."""
        values = {name: getattr(self.usage, name) + more for name, more in counts.items()}
        self.usage = replace(self.usage, **values)

    def over(
        self, calls: Sequence[Call], results: Sequence[ToolResult], *, is_direct: bool
    ) -> tuple[FinishReason, str] | None:
        """After a step with calls. `is_direct`: the results are the answer."""
        if is_direct and not any(result.is_error for result in results):
            return "end_turn", ""
        self._note(calls, results)
        if self._stop is not None and self._stop(Progress(self.step, tuple(calls), tuple(results))):
            return "stop", ""
        if self._repeats >= MAX_REPEATS:
            names = ", ".join(call.name for call in calls)
            return "step_limit", f"stopped: {names} was called {self._repeats} times alike"
        if self._repairs > MAX_REPAIRS:
            return "step_limit", f"stopped: {self._repairs} messages in a row had unusable calls"
        if self.step >= self._max_steps:
            count = f"{self.step} step{'s' if self.step > 1 else ''}"
            return "step_limit", f"stopped after {count}"
        return None

    def _note(self, calls: Sequence[Call], results: Sequence[ToolResult]) -> None:
        made = [(call.name, call.arguments) for call in calls]
        this = made, [result.content for result in results]
        self._repeats = self._repeats + 1 if made and this == self._last else 1
        self._last = this
        kinds = [error_kind(result.content) if result.is_error else "" for result in results]
        is_unusable = all(kind in UNREADABLE for kind in kinds)  # also where none could be read
        self._repairs = self._repairs + 1 if is_unusable else 0


def error_kind(content: JSON) -> str:
    """The type in a result's `{"error": {"type": ...}}`, or nothing."""
    error = content.get("error") if isinstance(content, dict) else None
    return str(error.get("type", "")) if isinstance(error, dict) else ""
