"""A conversation: something is said, and the answer comes as events.

Knows messages, what may be asked of an answer, and how a chat is kept. The loop is in `turns`.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping, Sequence
from contextlib import aclosing
from inspect import GEN_CLOSED, GEN_RUNNING, getgeneratorstate
from pathlib import Path
from typing import Any, TypedDict, Unpack
from weakref import ReferenceType, ref

from engine.answer import Answer, answer_of, grammar_of
from engine.asynchronous import in_thread
from engine.course import Course, Progress, StopCondition, any_of, steps, tool_called
from engine.decode import Limits
from engine.errors import UsageError
from engine.events import Event
from engine.messages import JSON, Call, Message
from engine.model import Model
from engine.pending import abandon, check_results, pending, put_results
from engine.sampler import Sampler
from engine.saved import SavedChat, read_chat, write_chat
from engine.sequence import Sequence as TokenSequence
from engine.toolcall import ToolChoice
from engine.tools import Failure, Tool, as_tool
from engine.tools.result import content_of
from engine.turns import ChatOptions, Terms, Turns

__all__ = ["Answer", "Chat", "ChatOptions", "Progress", "answer_of", "steps", "tool_called"]


class AnswerOptions(TypedDict, total=False):
    """What may be asked of one answer.

    `max_tokens` bounds each message of the model, `deadline` is in seconds from now. `stop` is one
    condition or several, asked after each step that called tools. `response_format` is a JSON
    Schema, a Pydantic model or a Grammar. `tool_choice` is the chat's own where it is not given;
    it acts on the mask alone, so that nothing is computed anew. With `run_tools` False, and at
    calls of tools that have no function, the answer ends with `tool_use`. `cancelled` is asked all
    the time; once it answers True the answer ends.
    """

    max_tokens: int | None
    deadline: float | None
    stop: StopCondition | Sequence[StopCondition] | None
    response_format: Any
    tool_choice: str | Sequence[str]
    run_tools: bool
    cancelled: Callable[[], bool] | None


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
        self._turns = Turns(model, system, options)
        self._feed = self._turns.feed
        self._answering: ReferenceType[Generator[Event]] | None = None
        self._unanswered: Message | None = None  # said, and not yet part of the chat
        try:
            self.set_tools(tools)
        except BaseException:
            self.close()
            raise

    # What it is made of

    @property
    def messages(self) -> list[Message]:
        return self._feed.messages

    @messages.setter
    def messages(self, messages: Sequence[Message]) -> None:
        self._check_free()
        self._feed.messages[:] = messages

    @property
    def sequence(self) -> TokenSequence:
        return self._feed.sequence

    @property
    def system(self) -> str | None:
        return self._feed.system

    @property
    def tools(self) -> tuple[Tool, ...]:
        return tuple(self._turns.tools.values())

    @property
    def pending(self) -> tuple[Call, ...]:
        """Calls that wait for their results; see `resume`."""
        return pending(self.messages)

    def set_tools(self, tools: Sequence[Tool | Callable[..., Any]]) -> None:
        """Offer these tools from the next message on; the prompt is then rendered anew.

        Raises ToolDefinitionError for duplicates and unsupported types, UsageError where the
        tool choice names a tool that is not there.
        """
        self._turns.set_tools([as_tool(item) for item in tools])

    def clear(self, *, system: str | None = None) -> None:
        """Forget the messages; `system` replaces the system message. The prefix stays cached."""
        self._check_free()
        self.messages.clear()
        self._feed.system = self.system if system is None else system
        self._feed.fed = 0
        self._feed.asked = None

    def close(self) -> None:
        """Give the sequence's slot back to the model. A stream that was not read to its end ends.

        Raises UsageError where the answer is being made just now, by a tool or another thread.
        """
        answering = self._at_work()
        if answering is not None and getgeneratorstate(answering) == GEN_RUNNING:
            self._check_free()
        if answering is not None:
            answering.close()
        self.model.release(self.sequence)

    def __enter__(self) -> Chat:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Talking

    def stream(self, text: str, **options: Unpack[AnswerOptions]) -> Iterator[Event]:
        """Say something and get the answer as events, tool calls run on the way.

        `options` are those of AnswerOptions. The last event is a Finish; where its reason is
        `tool_use`, see `pending` and `resume`. Raises ContextFull, TemplateError and GrammarError
        before anything is generated; the message is then not part of the chat.
        """
        terms = self._terms(**options)
        yield from self._exclusively(self._said(text, terms))

    def resume(
        self, results: Mapping[str, JSON | Failure], **options: Unpack[AnswerOptions]
    ) -> Iterator[Event]:
        """Go on behind a `tool_use`, with a result for each call that is `pending`, by its id.

        A result is any value that a tool may return; `Failure` says that the call failed. Options
        and events are those of `stream`. Raises UsageError where ids are missing or unknown.
        """
        terms = self._terms(**options)
        given = check_results(self.pending, results)
        yield from self._exclusively(self._resumed(given, terms))

    def go_on(self, **options: Unpack[AnswerOptions]) -> Iterator[Event]:
        """Go on where an answer stopped behind results: a step limit, a deadline, a condition.

        Raises UsageError where the last message is no result, or calls are `pending`.
        """
        terms = self._terms(**options)
        if self.pending or not self.messages or self.messages[-1].role != "tool":
            due = ", ".join(call.id for call in self.pending)
            raise UsageError(
                f"results are due for {due}; give them with resume()"
                if due
                else "there is nothing to go on with: the last answer came to its end"
            )
        yield from self._exclusively(self._turns.answer(terms))

    def run(self, text: str, **options: Unpack[AnswerOptions]) -> Answer:
        """Like `stream`, but waits: the whole answer, parsed where `response_format` is given."""
        return answer_of(self.stream(text, **options), options.get("response_format"))

    def astream(self, text: str, **options: Unpack[AnswerOptions]) -> AsyncIterator[Event]:
        """`stream` for `async for`: the work is done in a thread, and stops when its task does."""
        return _asynchronous(lambda given: self.stream(text, **given), options)

    def aresume(
        self, results: Mapping[str, JSON | Failure], **options: Unpack[AnswerOptions]
    ) -> AsyncIterator[Event]:
        """`resume` for `async for`; see `astream`."""
        return _asynchronous(lambda given: self.resume(results, **given), options)

    async def arun(self, text: str, **options: Unpack[AnswerOptions]) -> Answer:
        """`run`, awaited."""
        events = [event async for event in self.astream(text, **options)]
        return answer_of(events, options.get("response_format"))

    def retry(self, **options: Unpack[AnswerOptions]) -> Iterator[Event]:
        """Answer the last message again. Raises UsageError where there is no message to answer."""
        terms = self._terms(**options)
        yield from self._exclusively(self._retried(terms))

    def _terms(
        self,
        *,
        max_tokens: int | None = None,
        deadline: float | None = None,
        stop: StopCondition | Sequence[StopCondition] | None = None,
        response_format: Any = None,
        tool_choice: str | Sequence[str] | None = None,
        run_tools: bool = True,
        cancelled: Callable[[], bool] | None = None,
    ) -> Terms:
        turns = self._turns
        response = None if response_format is None else grammar_of(response_format)
        if response is not None:
            turns.dialect.constraint(response)  # a mistake shows before the prefill
        if deadline is not None and not deadline > 0:
            raise UsageError(f"a deadline is a number of seconds above 0, not {deadline}")
        condition = stop if stop is None or callable(stop) else any_of(stop)
        ends_at = None if deadline is None else time.monotonic() + deadline
        return Terms(
            Limits(max_tokens, ends_at, cancelled),
            Course(turns.options.max_steps, condition),
            response,
            Sampler(self.sampling),
            ToolChoice.parse(
                turns.options.tool_choice if tool_choice is None else tool_choice,
                list(turns.tools),
            ),
            tool_choice is not None,
            run_tools,
        )

    def _exclusively(self, events: Generator[Event]) -> Iterator[Event]:
        self._check_free()
        # A weak one: where Ctrl-C raises before the first event, nothing holds the chat.
        self._answering = ref(events)
        if not self.model.owns(self.sequence):
            raise UsageError("this chat is closed; open a new one")
        yield from events

    def _at_work(self) -> Generator[Event] | None:
        """The answer under way, if there is one."""
        events = self._answering() if self._answering is not None else None
        return None if events is None or getgeneratorstate(events) == GEN_CLOSED else events

    def _check_free(self) -> None:
        if self._at_work() is not None:
            raise UsageError("this chat is answering already; read its stream to the end first")

    def _said(self, text: str, terms: Terms) -> Generator[Event]:
        feed = self._feed
        self._take_back()  # Ctrl-C may have come before it was done
        feed.settle()
        asked, before = feed.asked, list(self.messages)
        abandon(self.messages)
        feed.asked = mark = feed.mark()
        self._unanswered = Message("user", text)
        self.messages.append(self._unanswered)
        try:
            yield from self._turns.answer(terms)
        finally:
            if not terms.course.has_begun:  # nothing was generated: it was not said
                if feed.asked is mark:
                    self.messages[:], feed.asked = before, asked
                else:  # older messages made room for it, and are gone
                    feed.asked = None
            self._take_back()

    def _retried(self, terms: Terms) -> Generator[Event]:
        asked = [index for index, message in enumerate(self.messages) if message.role == "user"]
        if not asked:
            raise UsageError("there is no answer to retry")
        feed, place, before = self._feed, asked[-1], list(self.messages)
        mark, text = feed.asked, before[place].text
        del self.messages[place:]
        if mark is not None and mark.fed and feed.fed and len(mark.messages) == place:
            feed.go_back(mark.fed, mark.length)
        else:
            feed.fed = 0
        try:
            yield from self._said(text, terms)
        finally:
            if not terms.course.has_begun:  # the old answer stays; its tokens were dropped
                self.messages[:], feed.fed, feed.asked = before, 0, None

    def _take_back(self) -> None:
        """Drop a message that no answer followed."""
        if self._unanswered is not None and self.messages[-1:] == [self._unanswered]:
            self.messages.pop()
        self._unanswered = None

    def _resumed(self, given: Mapping[str, Any], terms: Terms) -> Generator[Event]:
        before, compactions = list(self.messages), self._feed.compactions
        limit = self._turns.output_bytes
        results = []
        for call in self.pending:
            tool, value = self._turns.tools.get(call.name), given[call.id]
            most = limit if tool is None else min(limit, tool.max_output_bytes)
            content = content_of(value.content if isinstance(value, Failure) else value, most)
            results.append(Message("tool", content, call_id=call.id, name=call.name))
        put_results(self.messages, results)
        try:
            yield from self._turns.answer(terms)
        finally:
            # Where older messages made room, the results stay: see `go_on`.
            if not terms.course.has_begun and self._feed.compactions == compactions:
                self.messages[:] = before

    # Keeping

    def save(self, path: str | Path) -> None:
        """Write the messages as JSON (version 1), readable by `Chat.load` and by people."""
        write_chat(Path(path), SavedChat(self.model.name, self.system, self.messages))

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
        chat.messages[:] = saved.messages
        chat._turns.calls_made = sum(len(message.calls) for message in saved.messages)
        return chat


async def _asynchronous(
    start: Callable[[AnswerOptions], Iterator[Event]], options: AnswerOptions
) -> AsyncIterator[Event]:
    def begin(cancelled: Callable[[], bool]) -> Iterator[Event]:
        return start({**options, "cancelled": cancelled})

    async with aclosing(in_thread(begin, options.get("cancelled"))) as events:
        async for event in events:
            yield event
