"""A scripted model and chat for the command line's tests: answers without tokens or weights.

`python tests/fakes_chat.py ARGUMENTS` is `engine ARGUMENTS` on this model. The message chooses the
answer; an unknown message is echoed. Waiting answers wait for their `cancelled`, never for a clock.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from engine.errors import Cancelled, ContextFull, ModelNotFound, StorageError, ToolError
from engine.events import (
    Control,
    Event,
    Finish,
    Notice,
    Prefill,
    Text,
    Thinking,
    Token,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
    ToolResult,
    Usage,
)
from engine.messages import Message

USAGE = Usage(
    prompt_tokens=20,
    kv_reused=15,
    prefilled=5,
    completion_tokens=8,
    steps=1,
    prefill_seconds=0.01,
    decode_seconds=0.2,
)


@dataclass(frozen=True)
class Sampling:
    temperature: float = 0.7
    top_k: int = 40
    top_p: float = 0.9
    min_p: float = 0.0
    repeat_penalty: float = 1.0
    seed: int | None = None


def never() -> bool:
    return False


class FakeChat:
    def __init__(
        self, model: FakeModel, system: str | None, tools: list[Any], **settings: Any
    ) -> None:
        self.model = model
        self.system = system
        self.tools: tuple[Any, ...] = ()
        self.settings = settings
        self.sampling = Sampling()
        self.messages: list[Message] = []
        self.sequence: list[int] = []
        self.set_tools(tools)

    def stream(
        self,
        text: str,
        *,
        max_tokens: int | None = None,
        response_format: Any = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Iterator[Event]:
        self.messages.append(Message(role="user", content=text))
        self.sequence += range(len(text))
        answer = ANSWERS.get(text.split(maxsplit=1)[0], _echo)
        if response_format is not None:
            answer = _formatted
        yield from answer(self, text, max_tokens, response_format, cancelled or never)

    def retry(
        self, *, max_tokens: int | None = None, cancelled: Callable[[], bool] | None = None
    ) -> Iterator[Event]:
        text = self.messages.pop().text
        yield Text("again: ")
        yield from self.stream(text, max_tokens=max_tokens, cancelled=cancelled)

    def clear(self, *, system: str | None = None) -> None:
        self.messages, self.sequence = [], []
        self.system = self.system if system is None else system

    def set_tools(self, tools: Sequence[Any]) -> None:
        self.tools = tuple(tools)
        choice = self.settings.get("tool_choice", "auto")
        for name in choice if isinstance(choice, list) else []:
            if name not in [tool.name for tool in self.tools]:
                raise ToolError(f"unknown tool {name!r} in the tool choice", tool=name)

    def save(self, path: Path) -> None:
        try:
            path.write_text(json.dumps([message.text for message in self.messages]))
        except OSError as error:
            raise StorageError(f"{path}: {error.strerror}", path=path) from error

    def close(self) -> None:
        pass


def load_chat(
    path: Path, model: FakeModel, tools: list[Any], options: Any, approvals: Any
) -> FakeChat:
    chat = FakeChat(model, None, tools)
    chat.messages = [Message(role="user", content=text) for text in json.loads(path.read_text())]
    return chat


class FakeModel:
    name = "fake 1B Q4_0"
    path = Path("fake.gguf")
    profile = SimpleNamespace(title="Fake")
    n_ctx = 4096

    def chat(self, system: str | None = None, tools: Any = (), **settings: Any) -> FakeChat:
        return FakeChat(self, system, list(tools), **settings)

    def close(self) -> None:
        pass

    def __enter__(self) -> FakeModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def load(name: str | None, *, on_progress: Callable[[float], bool], **options: Any) -> FakeModel:
    if name == "missing.gguf":
        raise ModelNotFound("missing.gguf: no such file", name=name)
    if name == "slow.gguf":
        print("loading", file=sys.stderr, flush=True)
        while on_progress(0.5):
            _pause()
        raise Cancelled("loading slow.gguf was stopped")
    return FakeModel()


_silence = threading.Event()


def _pause() -> None:
    _silence.wait(0.005)


def _finish(reason: Any = "end_turn", message: str = "") -> Finish:
    return Finish(reason, USAGE, message)


def _echo(chat: FakeChat, text: str, *_: Any) -> Iterator[Event]:
    yield Prefill(done=20, total=20, reused=15)
    yield Token(id=7, data=text.encode()[:1], origin="sampled", position=20)
    for word in f"You said: {text}".split(" "):
        yield Text(word + " ")
    yield _finish()


def _wait(chat: FakeChat, text: str, limit: Any, form: Any, cancelled: Any) -> Iterator[Event]:
    """Count until told to stop."""
    for number in range(10**6):
        if cancelled():
            yield _finish("cancelled")
            return
        yield Text(f"{number} ")
        _pause()


def _prefill(chat: FakeChat, text: str, limit: Any, form: Any, cancelled: Any) -> Iterator[Event]:
    yield Notice("reading")
    while not cancelled():
        yield Prefill(done=256, total=4096, reused=0)
        _pause()
    raise Cancelled("stopped in the prompt at token 256", position=256)


def _deaf(chat: FakeChat, text: str, limit: Any, form: Any, cancelled: Any) -> Iterator[Event]:
    """Work that hears that it should stop, and doesn't."""
    yield Text("working")
    while not cancelled():
        _pause()
    yield Text("deaf")
    threading.Event().wait()


def _tool(chat: FakeChat, *_: Any) -> Iterator[Event]:
    yield Text("Let me look.")
    yield ToolCallStart(id="1", name="get_weather")
    yield ToolCallDelta(id="1", text='{"city": "서울"')
    yield ToolCall(id="1", name="get_weather", arguments={"city": "서울", "days": 2})
    yield ToolResult(id="1", name="get_weather", content={"temperature": 21}, seconds=0.012)
    yield ToolCall(id="2", name="crash", arguments={})
    yield ToolResult(id="2", name="crash", content="ValueError: no", is_error=True, seconds=1.5)
    yield Control(id=9, name="<|eom_id|>", meaning="message_end")
    yield Text("It is 21 degrees.")
    yield _finish()


def _think(chat: FakeChat, *_: Any) -> Iterator[Event]:
    yield Thinking("The user")
    yield Thinking(" greets.\n")
    yield Text("\n\nHello.")
    yield _finish()


def _escape(chat: FakeChat, *_: Any) -> Iterator[Event]:
    yield Text("red \x1b[31mtext\x07\r")
    yield Text("\nnext\r\n\u202eback")
    yield ToolResult(id="1", name="t", content="\x1b]0;title\x07\nsecond")
    yield _finish()


def _full(chat: FakeChat | None, *_: Any) -> Iterator[Event]:
    if chat is not None:
        raise ContextFull("prompt is 9 tokens, context holds 4", need=9, n_ctx=4)
    yield _finish()


def _broken(chat: FakeChat, *_: Any) -> Iterator[Event]:
    yield Text("Half")
    raise RuntimeError("a bug\nof ours")


def _flood(chat: FakeChat, *_: Any) -> Iterator[Event]:
    for number in range(10**6):
        yield Text(f"{number}\n")


def _korean(chat: FakeChat, *_: Any) -> Iterator[Event]:
    yield Text("안녕")
    yield Text("하세요 👩‍💻")
    yield _finish()


def _settings(chat: FakeChat, *_: Any) -> Iterator[Event]:
    yield Text(f"{chat.sampling} system={chat.system!r} {sorted(chat.settings.items())}")
    yield _finish()


def _limit(chat: FakeChat, text: str, limit: Any, *_: Any) -> Iterator[Event]:
    yield Text(f"at most {limit}")
    yield _finish()


def _end(chat: FakeChat, text: str, *_: Any) -> Iterator[Event]:
    yield Text("so far")
    yield _finish(text.split()[1])


def _formatted(chat: FakeChat, text: str, limit: Any, form: Any, *_: Any) -> Iterator[Event]:
    yield Text(f"as {form!r}")
    yield _finish()


def _call(chat: FakeChat, text: str, *_: Any) -> Iterator[Event]:
    """`call TOOL JSON` calls one of the chat's tools, as a model would."""
    from engine.messages import Call
    from engine.tools import run_calls, tools_by_name

    _, name, arguments = text.split(maxsplit=2)
    call = Call("call_1", name, json.loads(arguments))
    yield ToolCallStart(call.id, name)
    yield ToolCall(call.id, name, call.arguments)
    yield from run_calls([call], tools_by_name(chat.tools))
    yield _finish()


ANSWERS: dict[str, Callable[..., Iterator[Event]]] = {
    "wait": _wait,
    "prefill": _prefill,
    "busy": _deaf,
    "tool": _tool,
    "call": _call,
    "think": _think,
    "escape": _escape,
    "full": _full,
    "broken": _broken,
    "flood": _flood,
    "korean": _korean,
    "settings": _settings,
    "limit": _limit,
    "end": _end,
}


def main() -> None:
    import engine
    from engine.cli import chat, main

    vars(engine)["load"] = load
    vars(chat)["load_chat"] = load_chat
    main()


if __name__ == "__main__":
    main()
