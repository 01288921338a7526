"""What a running answer tells its reader, as values.

Knows tokens, spans, calls and endings. Does not know who produces them or how they are shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from engine.messages import JSON

Origin = Literal["template", "content", "sampled", "forced", "draft", "tool"]

FinishReason = Literal[
    "end_turn",  # the model ended its turn
    "tool_use",  # the caller asked to run the tools itself
    "length",  # max_tokens reached
    "context_full",
    "step_limit",
    "deadline",
    "cancelled",
    "stop",  # a stop text or a stop condition
]


@dataclass(frozen=True, slots=True)
class Token:
    """One token of the answer, before anything is made of it.

    `allowed` is how many tokens the grammar allowed here, None where nothing constrained the step.
    """

    id: int
    data: bytes
    origin: Origin
    position: int
    allowed: int | None = None


@dataclass(frozen=True, slots=True)
class Prefill:
    """Prompt tokens on their way into the cache: `done` of `total`; `reused` were there already."""

    done: int
    total: int
    reused: int


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of the answer: always whole characters."""

    text: str


@dataclass(frozen=True, slots=True)
class Thinking:
    """A piece of the model's reasoning: always whole characters."""

    text: str


@dataclass(frozen=True, slots=True)
class Control:
    """A control token that the model produced, and what it means for this family."""

    id: int
    name: str
    meaning: str


@dataclass(frozen=True, slots=True)
class ToolCallStart:
    """A call has begun, and its name is known."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """The next piece of the call's arguments as JSON text, however the model writes them.

    Joined, the pieces are a JSON object once the call is whole.
    """

    id: str
    text: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A whole call. Emitted before it is approved and run."""

    id: str
    name: str
    arguments: Mapping[str, JSON]


@dataclass(frozen=True, slots=True)
class Approval:
    """What a rule or a person decided about a call that does not run without being looked at.

    `reason` is what the model is told where the call is not allowed.
    """

    id: str
    name: str
    is_allowed: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ToolProgress:
    """What a tool that works in steps says while it runs."""

    id: str
    text: str


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a call came to. `content` is what the model is given; `seconds` is wall time."""

    id: str
    name: str
    content: JSON
    is_error: bool = False
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Notice:
    """Something a person should know that is not an error: a dropped tool, a broken-off call.

    What went well, such as time saved, is no warning.
    """

    text: str
    data: Mapping[str, Any] = field(default_factory=dict)
    is_warning: bool = True


@dataclass(frozen=True, slots=True)
class Usage:
    """Counts of one answer, tool turns included. Times are wall seconds.

    `prompt_tokens` = `kv_reused` + `prefilled`, summed over the model's turns. `prefilled_again`
    counts tokens that the cache once held at the same place and had to be computed anew;
    `kv_restored` those of `kv_reused` that came from a prefix on disk.
    """

    prompt_tokens: int = 0
    kv_reused: int = 0
    prefilled: int = 0
    prefilled_again: int = 0
    completion_tokens: int = 0
    forced_tokens: int = 0
    steps: int = 0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    kv_restored: int = 0

    def __sub__(self, before: Usage) -> Usage:
        """What was counted since `before`."""
        return Usage(
            *(getattr(self, item.name) - getattr(before, item.name) for item in fields(self))
        )

    @property
    def tokens_per_second(self) -> float:
        return self.completion_tokens / self.decode_seconds if self.decode_seconds else 0.0

    @property
    def prefill_per_second(self) -> float:
        return self.prefilled / self.prefill_seconds if self.prefill_seconds else 0.0

    @property
    def reuse_ratio(self) -> float:
        return self.kv_reused / self.prompt_tokens if self.prompt_tokens else 0.0


@dataclass(frozen=True, slots=True)
class Step:
    """The end of one message of the model, before its calls are run, with its own counts.

    `number` is from 1 in each answer. The steps' counts add up to the Finish's.
    """

    number: int
    usage: Usage


@dataclass(frozen=True, slots=True)
class Finish:
    """The end of an answer, with why it ended."""

    reason: FinishReason
    usage: Usage
    message: str = ""


Event = (
    Token
    | Prefill
    | Text
    | Thinking
    | Control
    | ToolCallStart
    | ToolCallDelta
    | ToolCall
    | Approval
    | ToolProgress
    | ToolResult
    | Notice
    | Step
    | Finish
)
