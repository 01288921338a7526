"""A conversation: turns, tool calls and results on one append-only token stream.

Knows the order of things: render what is new, prefill it, generate, run the calls, go on. What
each step does is in `prompt`, `sequence`, `decode`, `toolcall` and `tools`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from engine.answer import Answer, Progress, StopCondition, grammar_of, parsed, steps
from engine.constraint import Grammar
from engine.decode import Limits, generate
from engine.dialect import Dialect
from engine.errors import Cancelled, ContextFull, EngineError, StorageError, UsageError
from engine.events import (
    Event,
    Finish,
    FinishReason,
    Notice,
    Prefill,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Usage,
)
from engine.messages import JSON, Message, ToolSpec, message_from_dict
from engine.model import Model
from engine.prompt import Prompt
from engine.sampler import Sampler, Sampling
from engine.toolcall import ToolChoice, Turn
from engine.tools import Tool, as_tool, run_calls
from engine.tools import tools_by_name as by_name
from engine.watch import Watch, markers_for

SAVE_VERSION = 1
# A result takes at most a quarter of the free context, at about three bytes a token.
MIN_OUTPUT_BYTES = 256


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """What stays the same from message to message; see `Model.chat`."""

    tool_choice: str | Sequence[str] = "auto"
    sampling: Sampling = Sampling()
    constrain: bool = True
    max_steps: int = 10
    style: str | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class _Tally:
    """Usage in the making."""

    usage: Usage = Usage()

    def add(self, **counts: float) -> None:
        values = {name: getattr(self.usage, name) + more for name, more in counts.items()}
        self.usage = replace(self.usage, **values)


class Chat:
    """A conversation with one model. `messages` are without the system message.

    Every token that was computed stays in `sequence`; a turn prefills only what is new. Tools
    whose arguments can't be enforced are left out with a Notice. Close it to free its slot.
    """

    def __init__(
        self,
        model: Model,
        system: str | None = None,
        tools: Sequence[Tool | Callable[..., Any]] = (),
        options: ChatOptions = ChatOptions(),
    ) -> None:
        self.model = model
        self.sampling = options.sampling
        self.messages: list[Message] = []
        self.sequence = model.sequence()
        self._system = system
        self._options = options
        self._dialect: Dialect = model.dialect(options.style)
        self._prompt: Prompt = model.prompt(options.style, options.variables)
        self._ends = model.profile.end_meanings(model.vocab)
        self._meanings = model.profile.meanings(model.vocab)
        self._fed = 0  # how many messages are in the sequence; 0: it must be opened anew
        self._calls_made = 0
        self._asked: tuple[int, int, int] | None = None  # messages, fed, tokens before the last ask
        self._notices: list[Notice] = []
        self.set_tools(tools)

    # What it is made of

    @property
    def system(self) -> str | None:
        return self._system

    @property
    def tools(self) -> tuple[Tool, ...]:
        return tuple(self._tools.values())

    def set_tools(self, tools: Sequence[Tool | Callable[..., Any]]) -> None:
        """Offer these tools from the next message on; the prompt is then rendered anew.

        Raises ToolDefinitionError for duplicates and unsupported types, UsageError where the
        tool choice names a tool that is not there.
        """
        made = [item if isinstance(item, Tool) else as_tool(item) for item in tools]
        tools_by_name = by_name(made)
        refused = self._dialect.check([tool.spec for tool in made]) if self._constrains else []
        notices = []
        for spec, reason in refused:
            del tools_by_name[spec.name]
            notices.append(Notice(f"{reason.message}; the tool is left out", reason.data))
        self._choice = ToolChoice.parse(self._options.tool_choice, list(tools_by_name))
        self._tools = tools_by_name
        self._notices += notices
        self._fed = 0

    @property
    def _constrains(self) -> bool:
        return self._options.constrain

    @property
    def _specs(self) -> list[ToolSpec]:
        return [tool.spec for tool in self._tools.values()]

    def clear(self, *, system: str | None = None) -> None:
        """Forget the messages; `system` replaces the system message. The prefix stays cached."""
        self.messages.clear()
        self._system = self._system if system is None else system
        self._fed = 0
        self._asked = None

    def close(self) -> None:
        """Give the sequence's slot back to the model."""
        self.model.release(self.sequence)

    def __enter__(self) -> Chat:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Talking

    def stream(
        self,
        text: str,
        *,
        max_tokens: int | None = None,
        deadline: float | None = None,
        stop: StopCondition | None = None,
        response_format: Any = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Iterator[Event]:
        """Say something and get the answer as events, tool calls run on the way.

        `max_tokens` bounds each message of the model, `deadline` is in seconds from now, `stop`
        is asked after each step that called tools. `response_format` is a JSON Schema, a Pydantic
        model or a Grammar. The last event is a Finish. Raises ContextFull, TemplateError and
        GrammarError before anything is generated; the message is then not part of the chat.
        """
        response = self._response(response_format)
        self._close_calls()
        before = (list(self.messages), self._fed, len(self.sequence))
        self.messages.append(Message("user", text))
        limits = Limits(
            max_tokens, None if deadline is None else time.monotonic() + deadline, cancelled
        )
        yield from self._answer(limits, stop, response, before)

    def ask(self, text: str, **options: Any) -> Answer:
        """Like `stream`, but waits: the whole answer, parsed where `response_format` is given."""
        pieces: list[str] = []
        finish = Finish("end_turn", Usage())
        for event in self.stream(text, **options):
            if isinstance(event, Text):
                pieces.append(event.text)
            elif isinstance(event, Finish):
                finish = event
        whole = "".join(pieces)
        value = (
            parsed(whole, options.get("response_format")) if finish.reason == "end_turn" else None
        )
        return Answer(whole, value, finish)

    def retry(
        self, *, max_tokens: int | None = None, cancelled: Callable[[], bool] | None = None
    ) -> Iterator[Event]:
        """Answer the last message again. Raises UsageError where there is none to answer."""
        if self._asked is None:
            raise UsageError("there is no answer to retry")
        count, fed, length = self._asked
        text = self.messages[count - 1].text
        del self.messages[count - 1 :]
        if self._fed and fed and self.sequence.can_rewind:
            self.sequence.rewind(len(self.sequence) - length)
            self._fed = fed
        else:
            self._fed = 0
        yield from self.stream(text, max_tokens=max_tokens, cancelled=cancelled)

    def _answer(
        self,
        limits: Limits,
        stop: StopCondition | None,
        response: Grammar | None,
        before: tuple[list[Message], int, int],
    ) -> Iterator[Event]:
        tally = _Tally()
        sampler = Sampler(self.sampling)
        yield from self._notices
        self._notices.clear()
        self._asked = (len(self.messages), before[1], before[2])
        step = 0
        while True:
            try:
                thinking = yield from self._prefill(tally, limits)
            except EngineError as error:
                if step == 0:
                    self._restore(before)
                else:
                    self.sequence.forget_waiting()
                if isinstance(error, Cancelled):
                    yield Finish("cancelled", tally.usage, error.message)
                    return
                if step and isinstance(error, ContextFull):
                    yield Finish("context_full", tally.usage, error.message)
                    return
                raise
            turn = self._turn(thinking, response, first=step == 0)
            reason = yield from self._generate(turn, sampler, limits, tally)
            step += 1
            tally.add(steps=1)
            if reason is not None or not (turn.result.calls or turn.result.broken):
                yield Finish(reason or "end_turn", tally.usage, _why(reason, self.sequence.n_ctx))
                return
            reason = yield from self._run_calls(turn, limits)
            over = reason or self._over(turn, step, stop)
            if over is not None:
                message = f"stopped after {step} steps" if over == "step_limit" else ""
                yield Finish(over, tally.usage, message)
                return

    def _over(self, turn: Turn, step: int, stop: StopCondition | None) -> FinishReason | None:
        calls = turn.result.calls
        if calls and all(self._returns_direct(call.name) for call in calls):
            return "end_turn"
        if step >= self._options.max_steps:
            return "step_limit"
        if stop is not None and stop(Progress(step, tuple(calls))):
            return "stop"
        return None

    def _returns_direct(self, name: str) -> bool:
        return name in self._tools and self._tools[name].return_direct

    # One step

    def _prefill(self, tally: _Tally, limits: Limits) -> Generator[Event, None, bool]:
        """Bring the sequence up to where the model is to speak; answers whether it is thinking."""
        reused = len(self.sequence)
        if self._fed:
            last = self.messages[self._fed - 1]
            ended = bool(reused) and self.sequence.ids[-1] in self._ends
            rendered, encoding = self._prompt.following(
                self._with_system(self.messages[: self._fed - 1]),
                self.messages[self._fed :],
                self._specs,
                calls=last.calls,
                ended=ended,
            )
            ids, origins = encoding.ids, encoding.origins
        else:
            rendered, encoding = self._prompt.opening(self._with_system(self.messages), self._specs)
            reused = self.sequence.keep_prefix(encoding.ids)
            ids, origins = encoding.ids[reused:], encoding.origins[reused:]
        self.sequence.extend(ids, origins)
        yield Prefill(0, len(ids), reused)
        counts, begun = self.sequence.counts, time.perf_counter()
        yield from self._compute(len(ids), reused, limits)
        done = self.sequence.counts
        tally.add(
            prompt_tokens=reused + len(ids),
            kv_reused=reused + len(ids) - (done.computed - counts.computed),
            prefilled=done.computed - counts.computed,
            prefilled_again=done.again - counts.again,
            prefill_seconds=time.perf_counter() - begun,
        )
        self._fed = len(self.messages)
        return self._prompt.opens_thinking(rendered)

    def _compute(self, total: int, reused: int, limits: Limits) -> Iterator[Event]:
        """Compute what waits, a chunk at a time, so that progress is seen between chunks."""
        for done in self.sequence.chunks(cancelled=limits.cancelled):
            yield Prefill(min(done, total), total, reused)

    def _turn(self, thinking: bool, response: Grammar | None, *, first: bool) -> Turn:
        model = self.model
        style = self._dialect.style if self._tools else None
        watch = Watch(
            model.vocab,
            markers_for(model.vocab, model.profile, style),
            self._meanings,
            span="thinking" if thinking else "text",
        )
        choice = self._choice
        if choice.mode == "required" and not first:
            choice = replace(choice, mode="auto")  # a call was demanded, and made
        return Turn(
            watch,
            self._ends,
            dialect=self._dialect,
            tools=self._specs,
            choice=choice,
            constrain=self._constrains,
            response=response,
            opening="free" if response else "choose" if first else "answer",
            new_id=self._new_id,
        )

    def _new_id(self) -> str:
        self._calls_made += 1
        return f"call_{self._calls_made}"

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
            if is_cut:  # by a limit, an error or a reader who went away: it is never run
                self.sequence.rewind(turn.call_length)
            self.messages.append(
                Message("assistant", "".join(text), "".join(thinking), tuple(turn.result.calls))
            )
            self._fed = len(self.messages)
            forced = sum(origin == "forced" for origin in self.sequence.origins[length:])
            tally.add(
                completion_tokens=len(self.sequence) - length,
                forced_tokens=forced,
                decode_seconds=time.perf_counter() - begun,
            )
        if is_cut:
            yield Notice(f"a tool call was cut off ({reason}) and dropped")
        return reason

    def _run_calls(self, turn: Turn, limits: Limits) -> Generator[Event, None, FinishReason | None]:
        if turn.result.broken is not None:
            problem = f"the call could not be read: {turn.result.broken}"
            error: JSON = {"error": {"type": "InvalidCall", "message": problem}}
            self.messages.append(Message("tool", error, name="error"))
            return None
        for event in run_calls(
            turn.result.calls,
            self._tools,
            cancelled=limits.cancelled,
            deadline=limits.deadline,
            max_output_bytes=max(MIN_OUTPUT_BYTES, self.sequence.room * 3 // 4),
        ):
            if isinstance(event, ToolResult):
                self.messages.append(
                    Message("tool", event.content, call_id=event.id, name=event.name)
                )
            yield event
        return "cancelled" if limits.cancelled is not None and limits.cancelled() else None

    def _close_calls(self) -> None:
        """Give every call a result, also where the reader went away before its tool had run."""
        for index, message in enumerate(self.messages):
            if not message.calls:
                continue
            after = self.messages[index + 1 :]
            answered = {m.call_id for m in after if m.role == "tool"}
            gone: JSON = {"error": {"type": "Cancelled", "message": "the call was abandoned"}}
            missing = [call for call in message.calls if call.id not in answered]
            place = index + 1 + len(message.calls) - len(missing)
            self.messages[place:place] = [
                Message("tool", gone, call_id=call.id, name=call.name) for call in missing
            ]

    # Keeping

    def _with_system(self, messages: Sequence[Message]) -> list[Message]:
        return [*([Message("system", self._system)] if self._system else []), *messages]

    def _restore(self, before: tuple[list[Message], int, int]) -> None:
        """Undo a message that could not be prefilled."""
        self.messages, self._fed, length = before
        self._asked = None
        if len(self.sequence) > length and self._fed:
            self.sequence.rewind(len(self.sequence) - length)
        elif not self._fed:
            self.sequence.forget_waiting()

    def save(self, path: str | Path) -> None:
        """Write the messages as JSON (version 1), readable by `Chat.load` and by people."""
        data = {
            "version": SAVE_VERSION,
            "model": self.model.name,
            "system": self._system,
            "messages": [message.to_openai() for message in self.messages],
        }
        try:
            Path(path).write_text(json.dumps(data, ensure_ascii=False, indent=1), encoding="utf-8")
        except OSError as error:
            raise StorageError(f"{path}: {error.strerror}", path=str(path)) from error

    @classmethod
    def load(
        cls,
        path: str | Path,
        model: Model,
        tools: Sequence[Tool | Callable[..., Any]] = (),
        options: ChatOptions = ChatOptions(),
    ) -> Chat:
        """Go on with a chat that `save` wrote. Raises StorageError naming what is wrong with it."""
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else f"not JSON ({error})"
            raise StorageError(f"{path}: {reason}", path=str(path)) from error
        if not isinstance(data, dict) or data.get("version") != SAVE_VERSION:
            raise StorageError(f"{path}: not a chat saved by this version", path=str(path))
        messages = [
            message_from_dict(item, f"{path}: messages[{index}]")
            for index, item in enumerate(data.get("messages", ()))
        ]
        chat = cls(model, data.get("system"), tools, options)
        chat.messages = messages
        return chat

    def _response(self, form: Any) -> Grammar | None:
        if form is None:
            return None
        grammar = grammar_of(form)
        self._dialect.constraint(grammar)  # a mistake shows before the prefill
        return grammar


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


__all__ = ["Answer", "Chat", "ChatOptions", "Progress", "ToolCall", "steps"]
