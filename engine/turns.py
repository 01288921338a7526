"""The loop of a conversation: prefill what is new, generate, run the calls, go on.

Knows one sequence, its messages and tools. What each step does is in `prompt`, `sequence`,
`decode`, `toolcall` and `tools`. Does not know how a person says something (`chat` does).
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

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
    Prefill,
    Text,
    Thinking,
    ToolResult,
    Usage,
)
from engine.grammar import Grammar
from engine.messages import Call, Message, ToolSpec
from engine.model import Model
from engine.pending import pending
from engine.profile import Span
from engine.prompt import Prompt
from engine.sampler import Sampler, Sampling
from engine.toolcall import ToolChoice, Turn, TurnOptions
from engine.tools import Tool, run_calls, tools_by_name
from engine.tools.approval import Approvals
from engine.tools.run import error_content
from engine.watch import Watch, markers_for

MIN_OUTPUT_BYTES = 256
END_TOKENS = 64  # marks that a template ends a message with are fewer


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
    variables: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.thinking_budget is not None and self.thinking_budget < 1:
            raise UsageError(f"thinking_budget is at least 1, not {self.thinking_budget}")


@dataclass(slots=True)
class _Tally:
    """Usage in the making."""

    usage: Usage = Usage()

    def add(self, **counts: float) -> None:
        values = {name: getattr(self.usage, name) + more for name, more in counts.items()}
        self.usage = replace(self.usage, **values)


@dataclass(frozen=True, slots=True)
class Terms:
    """What one answer was asked for, and how far it has come."""

    limits: Limits
    course: Course
    response: Grammar | None
    sampler: Sampler
    run_tools: bool


class Turns:
    """One conversation at work. `messages` are without the system message.

    `fed` is how many of them are in the sequence; 0: it must be opened anew. Ctrl-C may raise at
    any line of an answer: the tokens behind those of the `fed` messages are then dropped by the
    next one.
    """

    def __init__(self, model: Model, system: str | None, options: ChatOptions) -> None:
        self.model = model
        self.system = system
        self.options = options
        self.messages: list[Message] = []
        self.tools: dict[str, Tool] = {}
        self.fed = 0
        self._length = 0  # of the sequence when it held the `fed` messages and nothing else
        self.calls_made = 0
        self.sequence = model.sequence()
        self.dialect: Dialect = model.dialect(options.style)
        self._prompt: Prompt = model.prompt(options.style, options.variables, options.thinking)
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
        self._choice = ToolChoice.parse(self.options.tool_choice, list(offered))
        notices += [
            Notice(
                f"{tool.name}: not as it was when the tools of {tool.server} were agreed to; "
                "it runs when you agree anew",
                {"tool": tool.name, "server": tool.server},
            )
            for tool in self._approvals.meet(offered.values())
        ]
        self.tools = offered
        self._notices += notices
        self.fed = 0

    @property
    def _constrains(self) -> bool:
        return self.options.constrain

    @property
    def _specs(self) -> list[ToolSpec]:
        return [tool.spec for tool in self.tools.values()]

    def answer(self, terms: Terms) -> Iterator[Event]:
        tally, course = _Tally(), terms.course
        while True:
            try:
                yield from self._told()
                thinking = yield from self._prefill(tally, terms.limits)
            except Cancelled as error:
                reason: FinishReason = "deadline" if terms.limits.is_late else "cancelled"
                yield Finish(reason, tally.usage, error.message)
                return
            except ContextFull as error:
                if not course.step:
                    raise
                yield Finish("context_full", tally.usage, error.message)
                return
            is_first = self.messages[-1].role == "user"  # no result is behind it yet
            turn = self._turn(thinking, terms.response, first=is_first)
            course.has_begun = True
            cut = yield from self._generate(turn, terms.sampler, terms.limits, tally)
            course.step += 1
            tally.add(steps=1)
            if cut is not None or not (turn.result.calls or turn.result.broken):
                yield Finish(cut or "end_turn", tally.usage, _why(cut, self.sequence.n_ctx))
                return
            over = yield from self._act(turn, terms)
            if over is not None:
                yield Finish(over[0], tally.usage, over[1])
                return

    def _act(
        self, turn: Turn, terms: Terms
    ) -> Generator[Event, None, tuple[FinishReason, str] | None]:
        """Do what a message asks for; answers whether that was the last step, and why."""
        calls, results = turn.result.calls, []
        mine = [call for call in calls if terms.run_tools and self._runs_here(call)]
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
        if over == ("end_turn", ""):
            for result in results:
                yield Text(Message("tool", result.content).text)
        return over

    def _runs_here(self, call: Call) -> bool:
        return call.name not in self.tools or self.tools[call.name].runs_here

    def _returns_direct(self, name: str) -> bool:
        return name in self.tools and self.tools[name].return_direct

    # One step

    def _prefill(self, tally: _Tally, limits: Limits) -> Generator[Event, None, bool]:
        """Bring the sequence up to where the model is to speak; answers whether it is thinking."""
        self.settle()
        reused = len(self.sequence)
        if self.fed:
            last = self.messages[self.fed - 1]
            rendered, encoding = self._prompt.following(
                self._with_system(self.messages[: self.fed - 1]),
                self.messages[self.fed :],
                self._specs,
                calls=last.calls,
                said=self.sequence.ids[-END_TOKENS:],
            )
            ids, origins = encoding.ids, encoding.origins
        else:
            rendered, encoding = self._prompt.opening(self._with_system(self.messages), self._specs)
            reused = self.sequence.keep_prefix(encoding.ids)
            ids, origins = encoding.ids[reused:], encoding.origins[reused:]
        length = len(self.sequence)
        counts, begun = self.sequence.counts, time.perf_counter()
        try:
            self.sequence.extend(ids, origins)
            yield Prefill(0, len(ids), reused)
            for computed in self.sequence.chunks(cancelled=limits.says_stop):
                yield Prefill(min(computed, len(ids)), len(ids), reused)
        except BaseException:
            self.rewind_to(length)
            raise
        done = self.sequence.counts
        tally.add(
            prompt_tokens=reused + len(ids),
            kv_reused=reused + len(ids) - (done.computed - counts.computed),
            prefilled=done.computed - counts.computed,
            prefilled_again=done.again - counts.again,
            prefill_seconds=time.perf_counter() - begun,
        )
        return self._prompt.opens_thinking(rendered)

    def _turn(self, thinking: bool, response: Grammar | None, *, first: bool) -> Turn:
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
        choice = self._choice
        if choice.mode == "required" and not first:
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
        self.calls_made += 1
        n, form = self.calls_made, self.model.profile.call_ids
        return f"call_{n}", form.format(n=n, n0=n - 1, name=name) if form else None

    def _generate(
        self, turn: Turn, sampler: Sampler, limits: Limits, tally: _Tally
    ) -> Generator[Event, None, FinishReason | None]:
        """One message of the model; it joins `messages`, whole or cut off before its call."""
        text: list[str] = []
        thinking: list[str] = []
        begun, length = time.perf_counter(), len(self.sequence)
        loop = generate(self.sequence, turn, sampler, self.model.vocab, limits)
        try:
            reason = yield from _gather(loop, text, thinking)
        finally:
            is_cut = turn.is_in_call and not turn.is_over
            calls = tuple(turn.result.calls)
            said = [*self.messages, Message("assistant", "".join(text), "".join(thinking), calls)]
            # Cut by a limit, an error or a reader who went away: it is never run.
            whole = len(self.sequence) - (turn.call_length if is_cut else 0)
            # At once: between these, Ctrl-C would leave a message that is not known to be fed.
            self.messages[:], self.fed, self._length = said, len(said), whole
            self.settle()
            forced = sum(origin == "forced" for origin in self.sequence.origins[length:])
            tally.add(
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
        for call in calls:
            if call.name in self.tools:
                yield from self._approved(call, self.tools[call.name], limits, refused)
        for event in run_calls(
            calls,
            self.tools,
            cancelled=limits.cancelled,
            deadline=limits.deadline,
            max_output_bytes=self.output_bytes,
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
        """A result takes at most a quarter of the free context, at about three bytes a token."""
        return max(MIN_OUTPUT_BYTES, self.sequence.room * 3 // 4)

    # Keeping

    def _with_system(self, messages: Sequence[Message]) -> list[Message]:
        return [*([Message("system", self.system)] if self.system else []), *messages]

    def go_back(self, fed: int, length: int) -> None:
        """Go on behind the first `fed` messages, which took `length` tokens."""
        self.fed, self._length = fed, length
        self.settle()

    def settle(self) -> None:
        """Drop what an interrupted answer left behind the messages that are fed."""
        if self.fed:
            self.rewind_to(self._length)

    def rewind_to(self, length: int) -> None:
        """Drop what is behind `length`; where the memory can't, the chat is rendered anew."""
        if len(self.sequence) <= length:
            return
        if self.sequence.can_rewind:
            self.sequence.rewind(len(self.sequence) - length)
        else:
            self.sequence.clear()
            self.fed = 0

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
        yield event


def _why(reason: FinishReason | None, n_ctx: int) -> str:
    if reason == "context_full":
        return f"the context of {n_ctx} tokens is full; load with a larger --ctx-size"
    return ""
