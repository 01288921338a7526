"""A conversation: turns, tool calls and results on one append-only token stream.

Knows the order of things: render what is new, prefill it, generate, run the calls, go on. What
each step does is in `prompt`, `sequence`, `decode`, `toolcall` and `tools`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from engine.answer import Answer, Progress, StopCondition, grammar_of, parsed, steps
from engine.compaction import Compaction
from engine.decode import Limits, generate
from engine.dialect import Dialect
from engine.errors import Cancelled, ContextFull, UsageError
from engine.events import (
    Event,
    Finish,
    FinishReason,
    Notice,
    Prefill,
    Step,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Usage,
)
from engine.grammar import Grammar
from engine.messages import JSON, Message, ToolSpec
from engine.model import Model
from engine.profile import Span
from engine.prompt import Prompt
from engine.restream import END_TOKENS, Block, Scribe, Script
from engine.reuse import Beginning, begin
from engine.sampler import Sampler, Sampling
from engine.saved import SavedChat, read_chat, write_chat
from engine.toolcall import ToolChoice, Turn, TurnOptions
from engine.tools import Tool, as_tool, run_calls
from engine.tools import tools_by_name as by_name
from engine.watch import Watch, markers_for

# A result takes at most a quarter of the free context, at about three bytes a token.
MIN_OUTPUT_BYTES = 256


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """What stays the same from message to message; see `Model.chat`."""

    tool_choice: str | Sequence[str] = "auto"
    sampling: Sampling | None = None  # the model's own
    constrain: bool = True
    force: bool = True  # tokens that a grammar leaves no choice about are not asked of the model
    max_steps: int = 10
    style: str | None = None
    thinking: bool | None = None
    thinking_budget: int | None = None  # in tokens; then the reasoning is ended
    strict_format: bool = False  # calls in another form than the family's own are text
    variables: Mapping[str, Any] = field(default_factory=dict)
    compaction: Compaction | None = None  # none: a chat that is too long is refused

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
class _Mark:
    """A place in a chat: its messages, how many of them are fed, and the stream's length."""

    messages: list[Message]
    fed: int
    length: int


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
        self.sampling = options.sampling or model.sampling
        self.messages: list[Message] = []
        self.sequence = model.sequence()
        self._system = system
        self._options = options
        self._dialect: Dialect = model.dialect(options.style)
        self._prompt: Prompt = model.prompt(options.style, options.variables, options.thinking)
        self._ends = model.profile.end_meanings(model.vocab)
        self._meanings = model.profile.meanings(model.vocab)
        self._fed = 0  # how many messages are in the sequence; 0: it must be opened anew
        self._blocks: list[Block] = []  # where its messages are in the sequence
        self._calls_made = 0
        self._asked: _Mark | None = None  # where the last message was said
        self._is_busy = False
        self._notices: list[Notice] = []
        try:
            self.set_tools(tools)
        except BaseException:
            self.close()
            raise

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
        if self._is_busy:
            raise UsageError("this chat is answering already; read its stream to the end first")
        if not self.model.owns(self.sequence):
            raise UsageError("this chat is closed; open a new one")
        response, sampler = self._response(response_format), Sampler(self.sampling)
        limits = Limits(
            max_tokens, None if deadline is None else time.monotonic() + deadline, cancelled
        )
        self._is_busy = True
        try:
            yield from self._answer(text, limits, stop, response, sampler)
        finally:
            self._is_busy = False

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

    def retry(self, **options: Any) -> Iterator[Event]:
        """Answer the last message again; `options` are those of `stream`.

        Raises UsageError where there is no message to answer.
        """
        Limits(options.get("max_tokens"))  # a mistake shows before anything is taken back
        asked = [index for index, message in enumerate(self.messages) if message.role == "user"]
        if not asked:
            raise UsageError("there is no answer to retry")
        place, mark = asked[-1], self._asked
        text = self.messages[place].text
        del self.messages[place:]
        if mark is not None and mark.fed and self._fed and len(mark.messages) == place:
            self._fed = mark.fed
            self._rewind_to(mark.length)
        else:
            self._fed = 0
        yield from self.stream(text, **options)

    def _answer(
        self,
        text: str,
        limits: Limits,
        stop: StopCondition | None,
        response: Grammar | None,
        sampler: Sampler,
    ) -> Iterator[Event]:
        tally, step, asked = _Tally(), 0, self._asked
        self._close_calls()
        self._asked = mark = _Mark(list(self.messages), self._fed, len(self.sequence))
        self.messages.append(Message("user", text))
        while True:
            before = tally.usage
            try:
                yield from self._told()
                thinking = yield from self._prefill(tally, limits)
            except BaseException as error:
                if step == 0:  # also where the reader went away: the message was not said
                    now, is_same = self._asked or mark, self._asked is mark
                    self.messages[:], self._asked = now.messages, asked if is_same else None
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
            yield Step(step, tally.usage - before)
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
        again = yield from self._compact(is_first=not tally.usage.steps)
        start = Beginning(len(self.sequence))
        first, place = self._fed, start.reused if self._fed else 0
        if self._fed:
            last = self.messages[self._fed - 1]
            rendered, encoding = self._prompt.following(
                self._with_system(self.messages[: self._fed - 1]),
                self.messages[self._fed :],
                self._specs,
                calls=last.calls,
                said=self.sequence.ids[-END_TOKENS:],
            )
            ids, origins = encoding.ids, encoding.origins
        else:
            rendered, encoding = self._prompt.opening(self._with_system(self.messages), self._specs)
            start = self._begin(encoding.ids)
            yield from start.notices()
            ids, origins = encoding.ids[start.reused :], encoding.origins[start.reused :]
        length = len(self.sequence)
        total, reused = len(ids) + again, start.reused - again
        counts, begun = self.sequence.counts, time.perf_counter()
        self.sequence.extend(ids, origins)
        try:
            yield Prefill(0, total, reused)
            for computed in self.sequence.chunks(border=start.border, cancelled=limits.cancelled):
                yield from start.keep(self.sequence, time.perf_counter() - begun)
                yield Prefill(min(computed, total), total, reused)
        except BaseException:
            self._rewind_to(length)
            raise
        done = self.sequence.counts
        tally.add(
            prompt_tokens=reused + total,
            kv_reused=reused + total - (done.computed - counts.computed),
            prefilled=done.computed - counts.computed,
            prefilled_again=done.again - counts.again,
            prefill_seconds=time.perf_counter() - begun,
            kv_restored=start.restored.tokens,
        )
        self._fed = len(self.messages)
        before = [block for block in self._blocks if block.start < place]
        self._blocks = [*before, Block(first, self._fed, place, len(self.sequence))]
        return self._prompt.opens_thinking(rendered)

    def _compact(self, *, is_first: bool) -> Generator[Event, None, int]:
        """Make room by the chat's policy; answers how many tokens that stay are computed anew.

        What stays is in the sequence afterwards, and computed with what comes next.
        """
        policy, sequence = self._options.compaction, self.sequence
        if policy is None:
            return 0
        blocks = [block for block in self._blocks if self._fed and block.start < len(sequence)]
        scribe = Scribe(self._prompt, self._with_system([]), self._specs)
        script = Script(self.messages, blocks, sequence.ids if blocks else (), sequence.origins)
        made = scribe.compacted(script, policy, sequence.n_ctx)
        if made is None:
            return 0
        script, result = made
        tokens = {"tokens_before": scribe.need(Script(self.messages, blocks, sequence.ids))}
        again, kept = 0, len(sequence)
        if script.fed:
            kept = sequence.keep_prefix(script.ids)
            again = len(script.ids) - kept
            sequence.extend(script.ids[kept:], script.origins[kept:])
        self.messages[:] = script.messages
        self._fed, self._blocks = script.fed, list(script.blocks)
        self._asked = None
        if is_first:
            self._asked = _Mark(self.messages[:-1], self._fed, len(sequence))
        tokens |= {"tokens_after": scribe.need(script), "computed_again": again}
        data = {**tokens, "results": result.results, "dropped": result.dropped}
        yield Notice(_made_room(data), data)
        return again

    def _begin(self, ids: Sequence[int]) -> Beginning:
        """The first tokens of an opening, from wherever they are."""
        store, system = self.model.prefixes, self._with_system([])
        return begin(
            self.sequence,
            ids,
            others=self.model.sequences(),
            store=store,
            pinned=self._prompt.pinned(ids, system, self._specs) if store else 0,
        )

    def _turn(self, thinking: bool, response: Grammar | None, *, first: bool) -> Turn:
        model, profile = self.model, self.model.profile
        style = self._dialect.style if self._tools else None
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
                list(self._tools),
                is_strict=self._options.strict_format,
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
            self._options.force,
            self._options.thinking_budget,
        )
        return Turn(
            watch,
            self._ends,
            dialect=self._dialect,
            tools=self._specs,
            options=options,
            new_id=self._new_id,
        )

    def _new_id(self, name: str) -> tuple[str, str | None]:
        """The engine's id of a call, and the family's own where the model doesn't write one."""
        self._calls_made += 1
        n, form = self._calls_made, self.model.profile.call_ids
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
            self.messages.append(
                Message("assistant", "".join(text), "".join(thinking), tuple(turn.result.calls))
            )
            self._fed = len(self.messages)
            if is_cut:  # by a limit, an error or a reader who went away: it is never run
                self._rewind_to(len(self.sequence) - turn.call_length)
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
        if turn.result.broken is not None:
            problem = f"the call could not be read: {turn.result.broken}"
            error: JSON = {"error": {"type": "InvalidCall", "message": problem}}
            self.messages.append(Message("tool", error, name="error"))
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

    def _rewind_to(self, length: int) -> None:
        """Drop what is behind `length`; where the memory can't, the chat is rendered anew."""
        if len(self.sequence) <= length:
            return
        if self.sequence.can_rewind:
            self.sequence.rewind(len(self.sequence) - length)
        else:
            self.sequence.clear()
            self._fed = 0

    def _told(self) -> Iterator[Event]:
        """What a person should know of the tools, once."""
        while self._notices:
            yield self._notices.pop(0)

    def save(self, path: str | Path) -> None:
        """Write the messages as JSON (version 1), readable by `Chat.load` and by people."""
        write_chat(Path(path), SavedChat(self.model.name, self._system, self.messages))

    @classmethod
    def load(
        cls,
        path: str | Path,
        model: Model,
        tools: Sequence[Tool | Callable[..., Any]] = (),
        options: ChatOptions = ChatOptions(),
    ) -> Chat:
        """Go on with a chat that `save` wrote. Raises StorageError naming what is wrong with it."""
        saved = read_chat(Path(path))
        chat = cls(model, saved.system, tools, options)
        chat.messages = list(saved.messages)
        chat._calls_made = sum(len(message.calls) for message in saved.messages)
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


def _made_room(data: Mapping[str, int]) -> str:
    gone = [f"{data['results']} old results"] if data["results"] else []
    gone += [f"{data['dropped']} old messages"] if data["dropped"] else []
    return (
        f"{' and '.join(gone) or 'old messages'} were left out to make room: "
        f"{data['tokens_before']} tokens before, {data['tokens_after']} now, "
        f"{data['computed_again']} of them computed again"
    )


def _why(reason: FinishReason | None, n_ctx: int) -> str:
    if reason == "context_full":
        return f"the context of {n_ctx} tokens is full; load with a larger --ctx-size"
    return ""


__all__ = ["Answer", "Chat", "ChatOptions", "Progress", "ToolCall", "steps"]
