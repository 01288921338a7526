"""Chat templates as a value: render a conversation, or what comes after an answer.

Knows messages, tools, and how templates want them. Does not know Jinja, tokens or models.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Final

from engine.errors import TemplateError
from engine.messages import ROLES, Message, ToolSpec
from engine.template.limits import Limits, Refused
from engine.template.marked import all_content, content_ranges, origin_of, plain
from engine.template.sandbox import Program, RaisedByTemplate
from engine.template.writing import mark_all

_FIRST_MESSAGE: Final = 2  # origins 0 and 1 are the template and content in general
_MESSAGE_TEXT, _CALL_NAME = 0, 1  # each message has an origin for either


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


@dataclass(frozen=True, slots=True)
class _Form:
    """How calls, results and tools are handed over: families differ, and only trying tells."""

    results_as_text: bool = False  # a result that is an object as JSON text
    arguments_as_text: bool = False
    no_content_with_calls: bool = False  # None instead of ""
    no_tools_as_list: bool = False  # [] instead of None: templates made for tool use alone


def _forms(messages: Sequence[Message], with_tools: bool) -> Iterator[tuple[_Form, ...]]:
    """The forms worth trying, the usual one first; a later group only where all before failed."""
    with_calls = (False, True) if any(message.calls for message in messages) else (False,)
    with_objects = any(not isinstance(message.content, str) for message in messages)
    choices = ((False, True) if with_objects else (False,), with_calls, with_calls)
    for as_list in (False,) if with_tools else (False, True):
        yield tuple(
            _Form(results, arguments, none, as_list)
            for none, arguments, results in product(*reversed(choices))
        )


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
            raise self._failure(error) from error

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
        failures: list[TemplateError] = []
        for forms in _forms(messages, bool(tools)):
            best: Rendered | None = None
            for form in forms:
                try:
                    rendered, is_clean = self._attempt(
                        messages, tools, form, variables, add_generation_prompt
                    )
                except TemplateError as error:
                    failures.append(error)
                    continue
                if is_clean:
                    return rendered
                best = best or rendered
            if best is not None:
                return best
        raise failures[0]

    def _attempt(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec],
        form: _Form,
        variables: Mapping[str, Any],
        add_generation_prompt: bool,
    ) -> tuple[Rendered, bool]:
        """Render in this form. Also: are all calls and results there, none in Python's notation?"""
        try:
            given = [_message(message, index, form) for index, message in enumerate(messages)]
            objects = {id(value) for message in given for value in _objects(message)}
            scope = self._variables(given, tools, variables, [] if form.no_tools_as_list else None)
            scope["add_generation_prompt"] = add_generation_prompt
            text, budget = self._program.run(scope)
        except Exception as error:
            raise self._failure(error) from error
        origins = set(origin_of(text))
        rendered = Rendered(
            plain(text),
            content_ranges(text),
            tuple(_missing(messages, origins, _MESSAGE_TEXT)),
            tuple(_missing(messages, origins, _CALL_NAME)),
        )
        lost = rendered.dropped_calls or any(
            not isinstance(messages[index].content, str) for index in rendered.dropped
        )
        return rendered, not lost and objects.isdisjoint(budget.printed)

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
            "tools": [_tool(tool) for tool in tools] or no_tools,
            "documents": None,
            "bos_token": self.bos,
            "eos_token": self.eos,
        }
        reads = self._program.reads
        if "functions" in reads and "tools" not in reads:  # FireFunction: the tools as JSON text
            listed = json.dumps(
                [tool.to_template() for tool in tools], indent=4, ensure_ascii=False
            )
            scope["functions"] = all_content(listed)
        if "datetime" in reads:
            scope["datetime"] = self._now().strftime("%b %d %Y")
        return scope | {name: mark_all(value) for name, value in variables.items()}

    def _failure(self, error: Exception) -> TemplateError:
        """Any exception of a template's as one line with its place."""
        program = getattr(self, "_program", None)
        line = program.line_of(error) if program else getattr(error, "lineno", None)
        reason = " ".join(str(error).split())[:500] or type(error).__name__
        reason = reason.replace("'engine.template.marked.Marked object'", "'str object'")
        if isinstance(error, RaisedByTemplate):
            reason = f"the template refuses this conversation: {reason}"
        elif isinstance(error, RecursionError):
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
        )


def _origin(index: int, part: int) -> str:
    return chr(_FIRST_MESSAGE + 2 * index + part)


def _message(message: Message, index: int, form: _Form) -> dict[str, Any]:
    """The dict that templates expect, its strings marked as content of message `index`."""
    given = message.to_template()
    out = {name: mark_all(value) for name, value in given.items()}
    if message.role in ROLES:
        out["role"] = message.role
    content = message.text if form.results_as_text else given["content"]
    out["content"] = mark_all(content, _origin(index, _MESSAGE_TEXT))
    for call in out.get("tool_calls", ()):
        call["type"] = plain(call["type"])
        function = call["function"]
        function["name"] = all_content(function["name"], _origin(index, _CALL_NAME))
        if form.arguments_as_text:
            function["arguments"] = all_content(
                json.dumps(function["arguments"], ensure_ascii=False)
            )
    if message.calls and form.no_content_with_calls and out["content"] == "":
        out["content"] = None
    return out


def _objects(message: Mapping[str, Any]) -> Iterator[Any]:
    """What a template should write as JSON."""
    if message["role"] == "tool":
        yield message["content"]
    for call in message.get("tool_calls", ()):
        yield call["function"]["arguments"]


def _tool(tool: ToolSpec) -> dict[str, Any]:
    given = tool.to_template()
    return {**given, "function": mark_all(given["function"])}


def _missing(messages: Sequence[Message], origins: set[str], part: int) -> Iterator[int]:
    """Messages whose content (or calls) should have left a trace in the text and have not."""
    for index, message in enumerate(messages):
        if part == _MESSAGE_TEXT:
            expected = _has_text(message.content)
        else:
            expected = any(call.name for call in message.calls)
        if expected and _origin(index, part) not in origins:
            yield index


def _has_text(value: Any) -> bool:
    if isinstance(value, str):
        return bool(value.strip())
    if isinstance(value, Mapping):
        return any(map(_has_text, (*value, *value.values())))
    return isinstance(value, list | tuple) and any(map(_has_text, value))
