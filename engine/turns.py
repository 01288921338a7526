"""The loop of a conversation: prefill what is new, generate, run the calls, go on.

Knows one conversation's tools, options and the order of things. What each step does is in `feed`,
`decode`, `toolcall` and `tools`. Does not know how a person says something (`chat` does).
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

from engine.compaction import Compaction
from engine.course import MAX_STEPS, Course
from engine.decode import Limits, generate
from engine.dialect import Dialect
from engine.errors import Cancelled, ContextFull, UsageError
from engine.events import (
    Approval,
    Event,
    Finish,
    FinishReason,
    Notice,
    Step,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from engine.feed import Feed
from engine.grammar import Grammar
from engine.messages import Call, Message, ToolSpec
from engine.model import Model
from engine.pending import pending
from engine.profile import Span
from engine.sampler import Sampler, Sampling
from engine.sequence import Sequence as TokenSequence
from engine.toolcall import ToolChoice, Turn, TurnOptions
from engine.tools import Tool, run_calls, tools_by_name
from engine.tools.approval import Approvals
from engine.tools.invoke import error_content
from engine.watch import Watch, markers_for

MIN_OUTPUT_BYTES = 256


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """What stays the same from message to message; see `Model.chat`."""

    tool_choice: str | Sequence[str] = "auto"
    sampling: Sampling | None = None  # the model's own
    constrain: bool = True
    force: bool = True  # tokens that a grammar leaves no choice about are not asked of the model
    max_steps: int = MAX_STEPS
    approvals: Approvals | None = None  # without: tools as they are declared, and nobody is asked
    style: str | None = None
    thinking: bool | None = None
    thinking_budget: int | None = None  # in tokens; then the reasoning is ended
    strict_format: bool = False  # calls in another form than the family's own are text
    compaction: Compaction | None = None  # without, a chat that is too long is refused
    variables: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.thinking_budget is not None and self.thinking_budget < 1:
            raise UsageError(f"thinking_budget is at least 1, not {self.thinking_budget}")


@dataclass(frozen=True, slots=True)
class Terms:
    """What one answer was asked for, and how far it has come."""

    limits: Limits
    course: Course
    response: Grammar | None
    sampler: Sampler
    choice: ToolChoice
    is_demanded: bool  # by this answer, also where it begins behind results
    run_tools: bool


class Turns:
    """One conversation at work: what its model may call, and what it does about it."""

    def __init__(self, model: Model, system: str | None, options: ChatOptions) -> None:
        self.model = model
        self.options = options
        self.tools: dict[str, Tool] = {}
        self.calls_made = 0
        self.dialect: Dialect = model.dialect(options.style)
        prompt = model.prompt(options.style, options.variables, options.thinking)
        self.feed = Feed(model, system, prompt, options.compaction)
        self._ends = model.profile.end_meanings(model.vocab)
        self._meanings = model.profile.meanings(model.vocab)
        self._notices: list[Notice] = []
        self._approvals = options.approvals or Approvals()

    def set_tools(self, tools: Iterable[Tool]) -> None:
        """Offer these tools from the next turn on; see `Chat.set_tools`."""
        offered = tools_by_name(tools)
        specs = [tool.spec for tool in offered.values()]
        refused = self.dialect.check(specs) if self._constrains else []
        notices = []
        for spec, reason in refused:
            del offered[spec.name]
            notices.append(Notice(f"{reason.message}; the tool is left out", reason.data))
        ToolChoice.parse(self.options.tool_choice, list(offered))  # a mistake shows now
        notices += [
            Notice(
                f"{tool.name}: not as it was when the tools of {tool.server} were agreed to; "
                "it asks before it runs",
                {"tool": tool.name, "server": tool.server},
            )
            for tool in self._approvals.meet(offered.values())
        ]
        self.tools = offered
        if any(tool.is_isolated for tool in offered.values()):
            from engine.tools import isolated

            isolated.prepare()
        self._notices += notices
        self.feed.fed = 0

    @property
    def messages(self) -> list[Message]:
        return self.feed.messages

    @property
    def sequence(self) -> TokenSequence:
        return self.feed.sequence

    @property
    def _constrains(self) -> bool:
        return self.options.constrain

    @property
    def _specs(self) -> list[ToolSpec]:
        return [tool.spec for tool in self.tools.values()]

    def answer(self, terms: Terms) -> Generator[Event]:
        course = terms.course
        while True:
            before = course.usage
            try:
                yield from self._told()
                thinking = yield from self.feed.prefill(self._specs, course, terms.limits)
            except Cancelled as error:
                reason: FinishReason = "deadline" if terms.limits.is_late else "cancelled"
                yield Finish(reason, course.usage, error.message)
                return
            except ContextFull as error:
                if not course.step:
                    raise
                yield Finish("context_full", course.usage, error.message)
                return
            is_first = self.messages[-1].role == "user"  # no result is behind it yet
            turn = self._turn(thinking, terms, first=is_first)
            course.has_begun = True
            cut = yield from self._generate(turn, terms)
            course.step += 1
            course.count(steps=1)
            yield Step(course.step, course.usage - before)
            if cut is not None or not (turn.result.calls or turn.result.broken):
                yield Finish(cut or "end_turn", course.usage, _why(cut, self.sequence.n_ctx))
                return
            over = yield from self._act(turn, terms)
            if over is not None:
                yield Finish(over[0], course.usage, over[1])
                return

    def _act(
        self, turn: Turn, terms: Terms
    ) -> Generator[Event, None, tuple[FinishReason, str] | None]:
        """Do what a message asks for; answers whether that was the last step, and why."""
        calls, results = turn.result.calls, []
        mine = [call for call in calls if self._is_ours(call, terms)]
        for event in self._run_calls(mine, terms.limits):
            if isinstance(event, ToolResult):
                results.append(event)
            yield event
        if turn.result.broken is not None:
            problem = f"the call could not be read: {turn.result.broken}"
            self.messages.append(
                Message("tool", error_content("InvalidCall", problem), name="error")
            )
        if len(mine) < len(calls):
            waiting = ", ".join(call.name for call in pending(self.messages))
            return "tool_use", f"results are due for {waiting}"
        if terms.limits.says_stop():
            return ("deadline" if terms.limits.is_late else "cancelled"), ""
        is_direct = bool(calls) and all(self._returns_direct(call.name) for call in calls)
        over = terms.course.over(calls, results, is_direct=is_direct)
        if over is not None and over[0] == "end_turn":  # the results are the answer
            for result in results:
                yield Text(Message("tool", result.content).text)
        return over

    def _is_ours(self, call: Call, terms: Terms) -> bool:
        """Whether the engine answers a call. What a rule denies is not the caller's to run."""
        tool = self.tools.get(call.name)
        if tool is None:
            return True
        runs_here = terms.run_tools and tool.runs_here
        return runs_here or self._approvals.policy(call, tool) == "deny"

    def _returns_direct(self, name: str) -> bool:
        return name in self.tools and self.tools[name].return_direct

    # One step

    def _turn(self, thinking: bool, terms: Terms, *, first: bool) -> Turn:
        model, profile = self.model, self.model.profile
        style = self.dialect.style if self.tools else None
        span: Span = "thinking" if thinking else "text"
        if any(header.is_open for header in profile.headers):
            span = "header"
        in_thinking = profile.thinking is not None and profile.thinking.has_calls
        watch = Watch(
            model.vocab,
            markers_for(
                model.vocab,
                profile,
                style,
                list(self.tools),
                is_strict=self.options.strict_format,
            ),
            self._meanings,
            span=span,
            headers=profile.headers,
            calls_in=("text", "header", "thinking") if in_thinking else ("text", "header"),
        )
        choice, response = terms.choice, terms.response
        is_due = first or (terms.is_demanded and terms.course.step == 0)
        if choice.mode == "required" and not is_due:
            choice = replace(choice, mode="auto")  # a call was demanded, and made
        options = TurnOptions(
            choice,
            self._constrains,
            response,
            "free" if response else "choose" if first else "answer",
            self.options.force,
            self.options.thinking_budget,
        )
        return Turn(
            watch,
            self._ends,
            dialect=self.dialect,
            tools=self._specs,
            options=options,
            new_id=self._new_id,
        )

    def _new_id(self, name: str) -> tuple[str, str | None]:
        """The engine's id of a call, and the family's own where the model doesn't write one."""
        taken = {call.id for message in self.messages for call in message.calls}
        self.calls_made += 1
        while f"call_{self.calls_made}" in taken:  # of a loaded chat
            self.calls_made += 1
        n, form = self.calls_made, self.model.profile.call_ids
        return f"call_{n}", form.format(n=n, n0=n - 1, name=name) if form else None

    def _generate(self, turn: Turn, terms: Terms) -> Generator[Event, None, FinishReason | None]:
        """One message of the model; it joins `messages`, whole or cut off before its call."""
        text: list[str] = []
        thinking: list[str] = []
        begun, length = time.perf_counter(), len(self.sequence)
        loop = generate(self.sequence, turn, terms.sampler, self.model.vocab, terms.limits)
        try:
            reason = yield from _gather(loop, text, thinking)
        finally:
            is_cut = turn.is_in_call and not turn.is_over
            calls = tuple(turn.result.calls)
            # Cut by a limit, an error or a reader who went away: it is never run.
            whole = len(self.sequence) - (turn.call_length if is_cut else 0)
            said = Message("assistant", "".join(text), "".join(thinking), calls)
            self.feed.add(said, whole)
            forced = sum(origin == "forced" for origin in self.sequence.origins[length:])
            terms.course.count(
                completion_tokens=len(self.sequence) - length,
                forced_tokens=forced,
                decode_seconds=time.perf_counter() - begun,
            )
        if is_cut:
            yield Notice(f"a tool call was cut off ({reason}) and dropped")
        return reason

    def _run_calls(self, calls: Sequence[Call], limits: Limits) -> Iterator[Event]:
        """Ask for the calls that need it, then run those that may, side by side."""
        refused: dict[str, str] = {}
        for call in map(_copied, calls):
            if call.name in self.tools:
                yield from self._approved(call, self.tools[call.name], limits, refused)
        for event in run_calls(
            [_copied(call) for call in calls],
            self.tools,
            cancelled=limits.cancelled,
            deadline=limits.deadline,
            max_output_bytes=max(MIN_OUTPUT_BYTES, self.output_bytes // max(1, len(calls))),
            refused=refused,
        ):
            if isinstance(event, ToolResult):
                self.messages.append(
                    Message("tool", event.content, call_id=event.id, name=event.name)
                )
            yield event

    def _approved(
        self, call: Call, tool: Tool, limits: Limits, refused: dict[str, str]
    ) -> Iterator[Event]:
        """Decide about one call; what is not allowed goes into `refused` with its reason."""
        approvals = self._approvals
        if approvals.policy(call, tool) == "allow":
            return
        reason = "cancelled" if limits.says_stop() else approvals.check(call, tool)
        if reason is not None:
            refused[call.id] = reason
        yield Approval(call.id, call.name, reason is None, reason or "")

    @property
    def output_bytes(self) -> int:
        """A message's results take at most a quarter of the free context, at about three bytes a
        token."""
        return max(MIN_OUTPUT_BYTES, self.sequence.room * 3 // 4)

    # Keeping

    def _told(self) -> Iterator[Event]:
        """What a person should know of the tools, once."""
        while self._notices:
            yield self._notices.pop(0)


def _gather(
    loop: Generator[Event, None, FinishReason | None], text: list[str], thinking: list[str]
) -> Generator[Event, None, FinishReason | None]:
    """Pass events on, keeping the words of the answer."""
    while True:
        try:
            event = next(loop)
        except StopIteration as end:
            reason: FinishReason | None = end.value
            return reason
        if isinstance(event, Text):
            text.append(event.text)
        elif isinstance(event, Thinking):
            thinking.append(event.text)
        elif isinstance(event, ToolCall):  # the reader's own: what runs is what was written
            event = replace(event, arguments=deepcopy(event.arguments))
        yield event


def _copied(call: Call) -> Call:
    """Whoever is asked or called may change its arguments; what is kept stays as it was written."""
    return replace(call, arguments=deepcopy(call.arguments))


def _why(reason: FinishReason | None, n_ctx: int) -> str:
    if reason == "context_full":
        return f"the context of {n_ctx} tokens is full; load with a larger --ctx-size"
    return ""
