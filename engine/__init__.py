"""Run local GGUF models in process, with tools whose calls are valid by construction.

    model = engine.load("model.gguf")
    chat = model.chat(system="Be brief.", tools=[get_weather])
    for event in chat.stream("서울 날씨 어때?"):
        ...

The names below are the public API. They are imported when first used, so that `import engine`
costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from engine._version import __version__

if TYPE_CHECKING:
    from engine.chat import Answer as Answer
    from engine.chat import Chat as Chat
    from engine.chat import ChatOptions as ChatOptions
    from engine.chat import Progress as Progress
    from engine.chat import answer_of as answer_of
    from engine.chat import steps as steps
    from engine.chat import tool_called as tool_called
    from engine.compaction import Compaction as Compaction
    from engine.constraint import Constraint as Constraint
    from engine.errors import EngineError as EngineError
    from engine.events import Approval as Approval
    from engine.events import Control as Control
    from engine.events import Event as Event
    from engine.events import Finish as Finish
    from engine.events import Notice as Notice
    from engine.events import Prefill as Prefill
    from engine.events import Step as Step
    from engine.events import Text as Text
    from engine.events import Thinking as Thinking
    from engine.events import Token as Token
    from engine.events import ToolCall as ToolCall
    from engine.events import ToolCallDelta as ToolCallDelta
    from engine.events import ToolCallStart as ToolCallStart
    from engine.events import ToolProgress as ToolProgress
    from engine.events import ToolResult as ToolResult
    from engine.events import Usage as Usage
    from engine.grammar import Grammar as Grammar
    from engine.messages import Call as Call
    from engine.messages import Message as Message
    from engine.model import Model as Model
    from engine.model import load as load
    from engine.sampler import Sampling as Sampling
    from engine.sequence import Sequence as Sequence
    from engine.tools import Failure as Failure
    from engine.tools import Tool as Tool
    from engine.tools import tool as tool
    from engine.tools.approval import Approvals as Approvals
    from engine.tools.approval import Rule as Rule
    from engine.tools.approval import Rules as Rules

_HOME = {
    "engine.chat": (
        "Answer",
        "Chat",
        "ChatOptions",
        "Progress",
        "answer_of",
        "steps",
        "tool_called",
    ),
    "engine.compaction": ("Compaction",),
    "engine.constraint": ("Constraint",),
    "engine.grammar": ("Grammar",),
    "engine.errors": ("EngineError",),
    "engine.events": (
        "Approval",
        "Control",
        "Event",
        "Finish",
        "Notice",
        "Prefill",
        "Step",
        "Text",
        "Thinking",
        "Token",
        "ToolCall",
        "ToolCallDelta",
        "ToolCallStart",
        "ToolProgress",
        "ToolResult",
        "Usage",
    ),
    "engine.messages": ("Call", "Message"),
    "engine.model": ("Model", "load"),
    "engine.sampler": ("Sampling",),
    "engine.sequence": ("Sequence",),
    "engine.tools": ("Failure", "Tool", "tool"),
    "engine.tools.approval": ("Approvals", "Rule", "Rules"),
}
_WHERE = {name: module for module, names in _HOME.items() for name in names}

__all__ = ["__version__", *sorted(_WHERE)]  # noqa: PLE0604 (names are made above)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'engine' has no attribute {name!r}")
    value = getattr(import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_WHERE})
