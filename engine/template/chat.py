"""Chat templates as a value: render a conversation, or what comes after an answer.

Knows messages, tools, and how templates want them. Does not know Jinja, tokens or models.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.errors import TemplateError
from engine.messages import Call, Message, ToolSpec
from engine.template.given import (
    CALL_NAME,
    MESSAGE_TEXT,
    Form,
    forms,
    json_text,
    message_dict,
    missing,
    objects,
    tool_dict,
)
from engine.template.limits import Limits, Refused
from engine.template.marked import content_ranges, origin_of, plain
from engine.template.sandbox import Program, RaisedByTemplate, SecurityError, syntax_line
from engine.template.suffix import NoSuffix, suffix_after
from engine.template.writing import mark_all


@dataclass(frozen=True, slots=True)
class Rendered:
    """A prompt's text and which parts of it came from messages, tools and variables.

    `content`: sorted, disjoint [start, end) character ranges; everything else the template wrote.
    A control text is genuine only where it overlaps none of them.
    `dropped`, `dropped_calls`: indices of messages whose content, or one of whose calls, the
    template left out.
    """

    text: str
    content: tuple[tuple[int, int], ...] = ()
    dropped: tuple[int, ...] = ()
    dropped_calls: tuple[int, ...] = ()


class ChatTemplate:
    """A model family's Jinja template, compiled once. May be used from several threads."""

    def __init__(
        self,
        source: str,
        *,
        name: str = "chat template",
        bos: str = "",
        eos: str = "",
        limits: Limits = Limits(),  # noqa: B008 (frozen)
        now: Callable[[], datetime.datetime] = datetime.datetime.now,
    ) -> None:
        """Compile `source`. Raises TemplateError naming the line. 5 to 30 ms."""
        self.source = source
        self.name = name
        self.bos = bos
        self.eos = eos
        self._now = now
        try:
            self._program = Program(source, limits, now)
        except Exception as error:
            raise self._failure(error) from _without_frames(error)

    @property
    def sha256(self) -> str:
        """The template's fingerprint, for traces and known-good lists."""
        return hashlib.sha256(self.source.encode("utf-8", "surrogatepass")).hexdigest()

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[ToolSpec] = (),
        add_generation_prompt: bool = True,
        variables: Mapping[str, Any] = {},
        control: Collection[str] = (),
    ) -> Rendered:
        """The prompt for a conversation: exactly what Hugging Face's `apply_chat_template` gives.

        `control` is not needed to tell content apart and changes nothing in the result.
        Raises TemplateError when the template refuses the conversation, fails or passes a limit.
        """
        text = self._render(messages, tools, variables, add_generation_prompt)
        return _rendered(text, messages)

    def render_suffix(
        self,
        history: Sequence[Message],
        new: Sequence[Message],
        *,
        tools: Sequence[ToolSpec] = (),
        variables: Mapping[str, Any] = {},
        control: Collection[str] = (),
        calls: tuple[Call, ...] = (),
        ends: Collection[str] = (),
        add_generation_prompt: bool = True,
    ) -> Rendered:
        """What to append after an answer whose own tokens are in the stream already.

        `history` is the conversation up to that answer (assistant messages at its end are taken
        for the answer itself), `calls` what the answer called, `new` the results or the next
        question. The text begins with the template's end of the answer, such as `<|im_end|>\\n`:
        the caller takes off the end token that the model wrote. `ends` are the texts of all end
        tokens; without them what follows a call is taken to be what follows a text.
        `dropped` counts within `new`. Raises TemplateError where the template doesn't show it.
        """

        def render(messages: Sequence[Message], with_prompt: bool) -> str:
            return self._render(messages, tools, variables, with_prompt)

        taken = repr((tools, variables)) + self.source
        try:
            text, start = suffix_after(
                render, history, new, calls, ends, add_generation_prompt, taken
            )
        except NoSuffix as error:
            raise TemplateError(
                f"{self.name}: no suffix can be told after the answer: {error}", name=self.name
            ) from error
        return _rendered(text, [Message("user", "")] * start + list(new), start)

    def _render(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec],
        variables: Mapping[str, Any],
        add_generation_prompt: bool,
    ) -> str:
        """The marked text, in the first form that the template takes without losing anything."""
        failures: list[TemplateError] = []
        for group in forms(messages, bool(tools)):
            best: str | None = None
            for form in group:
                try:
                    text, is_clean = self._attempt(
                        messages, tools, form, variables, add_generation_prompt
                    )
                except TemplateError as error:
                    if error.is_final:
                        raise
                    failures.append(error)
                    continue
                if is_clean:
                    return text
                best = text if best is None else best
            if best is not None:
                return best
        raise failures[0]

    def _attempt(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec],
        form: Form,
        variables: Mapping[str, Any],
        add_generation_prompt: bool,
    ) -> tuple[str, bool]:
        """Render in this form. Also: are all calls and results there, none in Python's notation?"""
        try:
            given = [message_dict(message, index, form) for index, message in enumerate(messages)]
            expected = {id(value) for message in given for value in objects(message)}
            scope = self._variables(given, tools, variables, [] if form.no_tools_as_list else None)
            scope["add_generation_prompt"] = add_generation_prompt
            text, budget = self._program.run(scope)
        except Exception as error:
            raise self._failure(error) from _without_frames(error)
        origins = set(origin_of(text))
        lost = missing(messages, origins, CALL_NAME) or any(
            not isinstance(messages[index].content, str)
            for index in missing(messages, origins, MESSAGE_TEXT)
        )
        return text, not lost and expected.isdisjoint(budget.printed)

    def _variables(
        self,
        messages: list[dict[str, Any]],
        tools: Sequence[ToolSpec],
        variables: Mapping[str, Any],
        no_tools: list[Any] | None,
    ) -> dict[str, Any]:
        """All that the template can read."""
        scope: dict[str, Any] = {
            "messages": messages,
            "tools": [tool_dict(tool) for tool in tools] or no_tools,
            "documents": None,
            "bos_token": self.bos,
            "eos_token": self.eos,
        }
        reads = self._program.reads
        if "functions" in reads and "tools" not in reads:  # FireFunction: the tools as JSON text
            scope["functions"] = json_text([tool.to_template() for tool in tools], indent=4)
        if "datetime" in reads:
            scope["datetime"] = self._now().strftime("%b %d %Y")
        return scope | {name: mark_all(value) for name, value in variables.items()}

    def _failure(self, error: Exception) -> TemplateError:
        """Any exception of a template's as one line with its place."""
        program = getattr(self, "_program", None)
        line = program.line_of(error) if program else syntax_line(error)
        reason = " ".join(str(error).split())[:500] or type(error).__name__
        reason = reason.replace("'engine.template.marked.Marked object'", "'str object'")
        if isinstance(error, RaisedByTemplate):
            reason = f"the template refuses this conversation: {reason}"
        elif isinstance(error, RecursionError | MemoryError | SyntaxError):
            reason = "it is nested too deeply"
        elif isinstance(error, Refused):
            reason = f"not rendered, because {reason}"
        elif isinstance(error, KeyError):
            reason = f"no key {reason}"
        place = self.name if line is None else f"{self.name}:{line}"
        return TemplateError(
            f"{place}: {reason}",
            name=self.name,
            line=line,
            refused=isinstance(error, RaisedByTemplate),
            is_final=isinstance(error, Refused | SecurityError | RecursionError | MemoryError),
        )


def _without_frames(error: Exception) -> Exception:
    """`error` without its tracebacks, whose frames would keep the conversation in memory."""
    at: BaseException | None = error
    while at is not None:
        at.__traceback__ = None
        at = at.__cause__ or at.__context__
    return error


def _rendered(text: str, messages: Sequence[Message], start: int = 0) -> Rendered:
    origins = set(origin_of(text))
    return Rendered(
        plain(text),
        content_ranges(text),
        tuple(index - start for index in missing(messages, origins, MESSAGE_TEXT)),
        tuple(index - start for index in missing(messages, origins, CALL_NAME)),
    )
