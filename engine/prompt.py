"""Messages to tokens: the opening of a conversation, and what follows a message of the model.

Knows the template, the tokenizer and the family's quirks. Does not know the cache or the tools'
code.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from engine.errors import TemplateError
from engine.messages import Call, Message, Role, ToolSpec
from engine.profile import Profile, Style
from engine.template import ChatTemplate, Rendered
from engine.tokenizer import Encoding, Tokenizer, encode_rendered
from engine.vocab import Vocab

_PROBE = ToolSpec("engine_probe_tool", "probe", {"type": "object", "properties": {}})
_SAYINGS = ("x", "1", "가")  # messages that begin with no common token


@dataclass(frozen=True)
class Prompt:
    """One model's way from messages to tokens, for one style of tool calls.

    `variables` go to the template (`date_string`, ...), and so does `thinking` by the names that
    templates have for it; where the family is switched off by words behind the prompt, they are
    written.
    """

    template: ChatTemplate
    tokenizer: Tokenizer
    vocab: Vocab
    profile: Profile
    style: Style
    variables: Mapping[str, Any] = field(default_factory=dict)
    thinking: bool | None = None

    def __post_init__(self) -> None:
        if self.thinking is not None:
            marks = self.profile.thinking
            names = {"enable_thinking", *([marks.variable] if marks and marks.variable else [])}
            asked = {name: self.thinking for name in names}
            object.__setattr__(self, "variables", {**asked, **self.variables})
        control = self.vocab.control_texts(self.template.source, self.profile.markers)
        object.__setattr__(self, "_control", control)
        object.__setattr__(self, "_takes_system", self._renders(_plain("system", "user")))
        object.__setattr__(self, "_takes_tools", self._prints_tools())
        object.__setattr__(self, "_writes_calls", bool(self.style.written) and self._drops_calls())

    _control: Mapping[str, int] = field(init=False, repr=False)
    _takes_system: bool = field(init=False, repr=False)
    _takes_tools: bool = field(init=False, repr=False)
    _writes_calls: bool = field(init=False, repr=False)

    @property
    def prints_tools(self) -> bool:
        """Whether the template itself tells the model of its tools."""
        return self._takes_tools

    def _renders(self, messages: Sequence[Message]) -> bool:
        try:
            self.template.render(messages, variables=self.variables)
        except TemplateError:
            return False
        return True

    def _prints_tools(self) -> bool:
        if self.style.prompt_always:
            return False
        try:
            rendered = self.template.render(
                _plain("user"), tools=[_PROBE], variables=self.variables
            )
        except TemplateError:
            return False
        return _PROBE.name in rendered.text

    def _drops_calls(self) -> bool:
        """Whether the template leaves past calls out, or would show them in another style."""
        if self.style.prompt_always:
            return True
        call = Call("probe", _PROBE.name, {})
        messages = [*_plain("user"), Message("assistant", calls=(call,)), *_plain("user")]
        try:
            rendered = self.template.render(messages, variables=self.variables)
        except TemplateError:
            return True
        return bool(rendered.dropped_calls)

    def opening(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec] = ()
    ) -> tuple[Rendered, Encoding]:
        """The whole conversation up to where the model is to answer.

        Raises TemplateError for what the template refuses.
        """
        rendered = self.template.render(
            self._prepared(messages, tools),
            tools=self._template_tools(tools),
            variables=self._variables(tools),
            control=self._control,
        )
        rendered = self._without_thinking(rendered)
        return rendered, self._encode(rendered, add_bos=self.vocab.add_bos)

    def pinned(
        self, ids: Sequence[int], system: Sequence[Message], tools: Sequence[ToolSpec] = ()
    ) -> int:
        """How many of an opening's first ids stay the same whatever is said: system and tools."""
        length = len(ids)
        for text in _SAYINGS:
            try:
                other = self.opening([*system, Message("user", text)], tools)[1].ids
            except TemplateError:
                return 0
            pairs = zip(ids[:length], other, strict=False)
            length = next((at for at, (one, two) in enumerate(pairs) if one != two), length)
            length = min(length, len(other))
        return length

    def following(
        self,
        history: Sequence[Message],
        new: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        calls: tuple[Call, ...] = (),
        said: Sequence[int],
    ) -> tuple[Rendered, Encoding]:
        """What comes after the model's own last message, whose tokens are in the stream.

        `history` are the messages before it, `new` those after it, `calls` those it made. `said`
        are its last tokens: where they end the message, the template's own end is left out.
        """
        prepared = self._prepared([*history, *new], tools, calls)
        ends = self.profile.end_meanings(self.vocab)
        split = len(prepared) - len(new)  # the tools' section may have added a message in front
        rendered = self.template.render_suffix(
            prepared[:split],
            prepared[split:],
            tools=self._template_tools(tools),
            variables=self._variables(tools),
            control=self._control,
            calls=calls,
            ends=[self.vocab.texts[token] for token in ends],
        )
        rendered = self._without_thinking(rendered)
        encoding = self._encode(rendered, add_bos=False)
        first = self._end_again(encoding.ids, said, is_call=bool(calls))
        encoding = replace(
            encoding,
            ids=encoding.ids[first:],
            origins=encoding.origins[first:],
            offsets=encoding.offsets[first:],
        )
        return rendered, encoding

    def _end_again(self, ids: Sequence[int], said: Sequence[int], *, is_call: bool) -> int:
        """How many of the first ids end the message once more: blanks or marks that the model wrote
        itself, and an end token.

        An end token that begins the next message, `<|user|>`, stays where the model wrote another.
        """
        ends = self.profile.end_meanings(self.vocab)
        place = next((index for index, token in enumerate(ids) if token in ends), None)
        if not said or said[-1] not in ends or place is None:
            return 0
        own, closing = (self.vocab.bytes_of(part).strip() for part in (said[:-1], ids[:place]))
        if not own.endswith(closing):
            return 0
        # The end of a call begins its result where the model ended it otherwise.
        is_result = ends[ids[place]] == "tool_call"
        closes = not is_result and self._closes(ids[place], is_call)
        return place + 1 if closes or ids[place] == said[-1] else 0

    def _closes(self, token: int, is_call: bool) -> bool:
        """Whether the template ends a message with this token."""
        call = Call("probe", _PROBE.name, {})
        message = Message("assistant", "" if is_call else _PROBE.name, calls=(call,) * is_call)
        try:
            rendered = self.template.render(
                [*_plain("user"), message], variables=self.variables, add_generation_prompt=False
            )
        except TemplateError:
            return True
        return self.vocab.texts[token] in rendered.text.rpartition(_PROBE.name)[2]

    def _encode(self, rendered: Rendered, *, add_bos: bool) -> Encoding:
        return encode_rendered(rendered, self.tokenizer, self._control, add_bos=add_bos)

    def opens_thinking(self, rendered: Rendered) -> bool:
        """Whether the prompt's last words open the model's thinking for it."""
        text, marks = rendered.text.rstrip(), self.profile.thinking
        if marks is not None and text.endswith(marks.open.rstrip()):
            return True
        for header in self.profile.headers:
            if text.endswith(header.close):
                said = text.removesuffix(header.close).rpartition(header.open)[2]
                return any(span == "thinking" and w in said for w, span in header.spans.items())
        return False

    def _without_thinking(self, rendered: Rendered) -> Rendered:
        """With the words behind it that make the model answer at once, where that is asked for."""
        marks = self.profile.thinking
        if self.thinking is not False or marks is None or not marks.off:
            return rendered
        if marks.open not in self.template.source:  # a model of the family that doesn't think
            return rendered
        text = rendered.text
        if text.rstrip().endswith(marks.close.rstrip()):
            return rendered
        if text.rstrip().endswith(marks.open):
            return replace(rendered, text=text.rstrip() + marks.off.removeprefix(marks.open))
        return replace(rendered, text=text + marks.off)

    def _template_tools(self, tools: Sequence[ToolSpec]) -> list[ToolSpec]:
        if not self._takes_tools:
            return []
        known = self.profile.builtins
        return [t for t in tools if t.name not in known.tools and t.name != known.code]

    def _variables(self, tools: Sequence[ToolSpec]) -> dict[str, Any]:
        known = self.profile.builtins
        builtin = [t.name for t in tools if t.name in known.tools or t.name == known.code]
        extra = {known.variable: builtin} if builtin and known.variable else {}
        return {**extra, **self.variables}

    def _prepared(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec],
        calls: Sequence[Call] = (),
    ) -> list[Message]:
        """The messages as this template and family want them; `calls` are made between them."""
        made = [*calls, *(call for message in messages for call in message.calls)]
        wire = {call.id: call.wire_id for call in made if call.wire_id is not None}
        if any(map(_is_lone, messages)) and not self._takes_lone_results():
            messages = [Message("user", m.text) if _is_lone(m) else m for m in messages]
        out = [self._result(m) if m.role == "tool" else m for m in messages]
        out = [replace(m, call_id=wire.get(m.call_id, m.call_id)) if m.call_id else m for m in out]
        if self._writes_calls:
            out = [self._written(m) if m.calls else m for m in out]
        section = self._tool_section(tools)
        if section:
            out = _with_system(out, section)
        if not self._takes_system and out and out[0].role == "system":
            out = _system_into_user(out)
        return out

    def _takes_lone_results(self) -> bool:
        """Whether the template shows what is said of a call that could not be read."""
        result = self._result(Message("tool", {"error": _PROBE.name}, name="error"))
        try:
            rendered = self.template.render_suffix(
                _plain("user"), [result], variables=self.variables
            )
        except TemplateError:
            return False
        return _PROBE.name in rendered.text

    def _tool_section(self, tools: Sequence[ToolSpec]) -> str:
        known = self.profile.builtins
        wanted = [t for t in tools if t.name not in known.tools and t.name != known.code]
        if self._takes_tools or not wanted or not self.style.prompt:
            return ""
        section = ChatTemplate(self.style.prompt, name=f"{self.profile.name} tool prompt")
        return section.render([], tools=wanted).text.strip("\n")

    def _written(self, message: Message) -> Message:
        """The message with its calls in the style's own form, as text."""
        style = self.style
        calls = [_filled(style.written, call) for call in message.calls]
        opener, closer = ("".join(style.parts.get(name, "")) for name in ("OPEN", "CLOSE"))
        text = opener + (style.separator or "").join(calls) + closer
        return replace(message, content=message.text + text, calls=())

    def _result(self, message: Message) -> Message:
        form = self.profile.result
        content = message.content
        if form.form == "object":
            if not isinstance(content, dict | list):
                content = {form.text_key: content}
            return replace(message, role=form.role, content=content)
        text = message.text
        if form.role == "user":
            text = form.wrap.replace("{name}", message.name or "tool").replace("{content}", text)
            return Message("user", text)
        return replace(message, content=text)


def _filled(form: str, call: Call) -> str:
    """A call in a form with places for its parts."""
    parts = {
        "{name}": call.name,
        "{keywords}": ", ".join(f"{key}={value!r}" for key, value in call.arguments.items()),
        "{arguments}": json.dumps(dict(call.arguments), ensure_ascii=False),
    }
    return re.sub(r"\{\w+\}", lambda found: parts.get(found[0], found[0]), form)


def _plain(*roles: Role) -> list[Message]:
    return [Message(role, "x") for role in roles]


def _is_lone(message: Message) -> bool:
    """Whether it is a result without a call."""
    return message.role == "tool" and message.call_id is None


def _with_system(messages: Sequence[Message], section: str) -> list[Message]:
    """The tool section before the system message's own words."""
    if messages and messages[0].role == "system":
        first = replace(messages[0], content=f"{section}\n{messages[0].text}")
        return [first, *messages[1:]]
    return [Message("system", section), *messages]


def _system_into_user(messages: Sequence[Message]) -> list[Message]:
    """For templates without a system role: its words before the first user message's."""
    system, *rest = messages
    for index, message in enumerate(rest):
        if message.role == "user":
            rest[index] = replace(message, content=f"{system.text}\n\n{message.text}")
            return rest
    return [Message("user", system.text), *rest]
