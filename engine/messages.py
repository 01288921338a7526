"""Messages, calls and results: what a conversation is made of, as values.

Knows the shapes that chat templates and OpenAI-style files use. Does not know tokens or templates.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from engine.errors import UsageError

JSON: TypeAlias = "None | bool | int | float | str | list[JSON] | dict[str, JSON]"
Role = Literal["system", "user", "assistant", "tool"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant", "tool")


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call that the model asked for.

    `id` is the engine's own and unique in a conversation; `wire_id` is what the family writes in
    the prompt, where it writes one.
    """

    id: str
    name: str
    arguments: Mapping[str, JSON]
    wire_id: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation.

    `content` of a `tool` message may be any JSON value; of all others it is text.
    """

    role: Role
    content: JSON = ""
    thinking: str = ""
    calls: tuple[Call, ...] = ()
    call_id: str | None = None
    name: str | None = None

    @property
    def text(self) -> str:
        """The content as text: JSON values other than strings as compact JSON."""
        if isinstance(self.content, str):
            return self.content
        return json.dumps(self.content, ensure_ascii=False)

    def to_template(self) -> dict[str, Any]:
        """The dict that Hugging Face chat templates expect; absent parts have no key."""
        out: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.thinking:
            out["reasoning_content"] = self.thinking
        if self.calls:
            out["tool_calls"] = [
                {
                    "type": "function",
                    "id": call.wire_id or call.id,
                    "function": {"name": call.name, "arguments": dict(call.arguments)},
                }
                for call in self.calls
            ]
        if self.call_id is not None:
            out["tool_call_id"] = self.call_id
        if self.name is not None:
            out["name"] = self.name
        return out

    def to_openai(self) -> dict[str, Any]:
        """The dict of OpenAI-style files: as `to_template`, with arguments as JSON text."""
        out = self.to_template()
        for call in out.get("tool_calls", ()):
            call["function"]["arguments"] = json.dumps(
                call["function"]["arguments"], ensure_ascii=False
            )
        return out


def message_from_dict(data: object, where: str = "message") -> Message:
    """Read an OpenAI-style or template-style message.

    Raises UsageError naming `where` for an unknown role or a value of the wrong type.
    """
    if not isinstance(data, Mapping):
        raise UsageError(f"{where}: expected an object, found {type(data).__name__}")
    role = data.get("role")
    if role == "ipython":
        role = "tool"
    if role not in ROLES:
        raise UsageError(f"{where}: unknown role {role!r}; expected one of {', '.join(ROLES)}")
    if not isinstance(data.get("tool_calls") or (), Sequence):
        raise UsageError(f"{where}.tool_calls: expected a list")
    calls = tuple(
        _call_from_dict(item, f"{where}.tool_calls[{index}]")
        for index, item in enumerate(data.get("tool_calls") or ())
    )
    return Message(
        role=role,
        content=_content(data.get("content"), role, where),
        thinking=str(data.get("reasoning_content") or ""),
        calls=calls,
        call_id=data.get("tool_call_id"),
        name=data.get("name"),
    )


def _content(value: Any, role: str, where: str) -> JSON:
    if value is None:
        return ""
    if isinstance(value, str) or role == "tool":
        content: JSON = value
        return content
    if isinstance(value, Sequence):
        parts = []
        for part in value:
            if not isinstance(part, Mapping) or part.get("type") != "text":
                raise UsageError(f"{where}.content: only text parts can be read")
            parts.append(str(part.get("text", "")))
        return "".join(parts)
    raise UsageError(f"{where}.content: expected text, found {type(value).__name__}")


def _call_from_dict(data: object, where: str) -> Call:
    function = data.get("function") if isinstance(data, Mapping) else None
    if not isinstance(data, Mapping) or not isinstance(function, Mapping):
        raise UsageError(f"{where}: expected an object with a 'function' object in it")
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except ValueError as error:
            raise UsageError(f"{where}.function.arguments: not JSON ({error})") from error
    if not isinstance(arguments, Mapping) or not isinstance(function.get("name"), str):
        raise UsageError(f"{where}.function: expected a name and an object of arguments")
    call_id = str(data.get("id") or where)
    return Call(id=call_id, name=function["name"], arguments=dict(arguments), wire_id=call_id)


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """What a model is told of a tool: name, purpose, and a JSON Schema of its arguments."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(
        default_factory=lambda: {"type": "object", "properties": {}}
    )

    def to_template(self) -> dict[str, Any]:
        """The `{"type": "function", ...}` dict that chat templates expect."""
        return {
            "type": "function",
            "function": {
                "name": self.name,
                "description": self.description,
                "parameters": dict(self.parameters),
            },
        }
