"""Split a token stream into spans: text, thinking, tool call; and name its control tokens.

Knows token ids, their bytes, and markers. Does not know models, sampling, grammars or tools.
"""

from __future__ import annotations

import codecs
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from engine.events import Control, Event, Text, Thinking, ToolCallDelta
from engine.profile import Profile, Style
from engine.vocab import Vocab

Span = Literal["text", "thinking", "call"]
MarkerKind = Literal["call", "answer", "think_open", "think_close"]


class Utf8:
    """Bytes in, whole characters out; invalid bytes become U+FFFD, as every decoder does."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, data: bytes) -> str:
        return self._decoder.decode(data)

    def flush(self) -> str:
        """What was held back of a character that never ended."""
        rest = self._decoder.decode(b"", True)
        self._decoder.reset()
        return rest


@dataclass(frozen=True, slots=True)
class Marker:
    """Something that changes the span. `id` where it is one token; else `text` by its bytes.

    `at_start`: only as the message's first characters, blanks in it and before it aside. An
    `answer` marker counts at the message's start alone, and is not said.
    """

    kind: MarkerKind
    text: str
    id: int | None
    at_start: bool = False


@dataclass(frozen=True, slots=True)
class CallStart:
    """A token that opens a call.

    `held` are the ids before it that belong to the opener already, `prefix` the bytes of the first
    of all these tokens that come before the opener, `place` where it begins, counted in bytes of
    the message.
    """

    held: tuple[int, ...] = ()
    prefix: bytes = b""
    place: int = 0


def markers_for(vocab: Vocab, profile: Profile, style: Style | None) -> list[Marker]:
    """The markers of a family; without a style, calls are not looked for."""
    found = []
    for trigger in style.triggers if style else ():
        token = vocab.find(trigger.text) if trigger.kind == "token" else None
        found.append(Marker("call", trigger.text, token, trigger.kind == "start"))
    if style is not None and style.answer:
        found.append(Marker("answer", style.answer, None))
    if profile.thinking:
        opener, closer = profile.thinking
        found.append(Marker("think_open", opener, vocab.find(opener)))
        found.append(Marker("think_close", closer, vocab.find(closer)))
    return found


class Watch:
    """Follows one message. Feed every token once; `span` says where the stream stands."""

    def __init__(
        self,
        vocab: Vocab,
        markers: Collection[Marker],
        meanings: Mapping[str, str],
        *,
        span: Span = "text",
    ) -> None:
        self.span: Span = span
        self.call_id = ""
        self._vocab = vocab
        self._meanings = meanings
        self._by_id = {m.id: m for m in markers if m.id is not None}
        self._texts = [
            (m.text.encode(), m.kind) for m in markers if m.id is None and not m.at_start
        ]
        self._starts = [_squeeze(m.text.encode()) for m in markers if m.at_start]
        self._utf8 = Utf8()
        # Bytes of the message not yet emitted, led by those of the first token that are.
        self._buffer = b""
        self._base = 0  # where the buffer begins, counted in bytes of the message
        self._done = 0  # how many of the buffer's bytes are emitted
        self._lead = 0  # bytes of the next token that come before a call's opener
        self._tokens: list[tuple[int, int]] = []  # id, length of each token in the buffer

    def begins_call(self, token: int) -> CallStart | None:
        """Whether this token, fed next, would open a call. Changes nothing."""
        if self.span != "text":
            return None
        marker = self._by_id.get(token)
        if marker is not None:
            start = CallStart(place=self._base + len(self._buffer))
            return start if marker.kind == "call" else None
        if not (self._texts or self._starts) or self._vocab.is_control(token):
            return None
        buffer = self._buffer + self._vocab.data(token)
        place = self._place_of_opener(buffer)
        if place is None:
            return None
        first = 0
        for index, (_, length) in enumerate(self._tokens):
            if place < first + length:
                held = tuple(held for held, _ in self._tokens[index:])
                return CallStart(held, buffer[first:place], self._base + place)
            first += length
        return CallStart((), buffer[first:place], self._base + place)

    def _place_of_opener(self, buffer: bytes) -> int | None:
        if self._base == 0 and self._done == 0:
            squeezed = _squeeze(buffer)
            if any(squeezed.startswith(text) for text in self._starts):
                return len(buffer) - len(buffer.lstrip())
        places = [
            place
            for text, kind in self._texts
            if kind == "call" and (place := buffer.find(text, self._done)) >= 0
        ]
        return min(places, default=None)

    def open_call(self, start: CallStart, call_id: str) -> list[Event]:
        """Say the text before the opener and take what follows for a call."""
        # Bytes before the opener in a token that is yet to be fed are text as well.
        self._lead = max(0, start.place - self._base - len(self._buffer))
        events = self._say(start.place - self._base - self._lead)
        opener = self._buffer[self._done :]
        self._drop_all()
        self.span, self.call_id = "call", call_id
        text = self._utf8.feed(opener)
        return [*events, ToolCallDelta(call_id, text)] if text else events

    def feed(self, token: int) -> list[Event]:
        """Take a token; the events are whole characters, and nothing that may become a marker."""
        marker = self._by_id.get(token)
        if marker is not None or self._vocab.is_control(token):
            return self._feed_control(token, marker)
        data = self._vocab.data(token)
        if self.span == "call":
            return self._feed_call(data)
        if not self._texts and not self._starts:
            self._base += len(data)
            return self._spoken(self._utf8.feed(data))
        self._buffer += data
        self._tokens.append((token, len(data)))
        return self._release()

    def _feed_call(self, data: bytes) -> list[Event]:
        events: list[Event] = []
        if self._lead:
            said = self._utf8.feed(data[: self._lead])
            events += [Text(said)] if said else []
            data, self._lead = data[self._lead :], 0
        text = self._utf8.feed(data)
        return [*events, ToolCallDelta(self.call_id, text)] if text else events

    def _feed_control(self, token: int, marker: Marker | None) -> list[Event]:
        name = self._vocab.texts[token]
        event = Control(token, name, self._meanings.get(name, ""))
        if self.span == "call":
            return [event]
        events = self._say(len(self._buffer))
        self._base += len(self._vocab.data(token))
        if marker is not None and marker.kind != "call":
            self.span = "thinking" if marker.kind == "think_open" else "text"
        return [*events, event]

    def _release(self) -> list[Event]:
        """Say all that can no longer become a marker, and follow thinking marks that are text."""
        events: list[Event] = []
        while True:
            found = [
                (place, text, kind)
                for text, kind in self._texts
                if kind != "call"
                and (place := self._buffer.find(text, self._done)) >= 0
                and (kind != "answer" or self._base + place == 0)
            ]
            if not found:
                break
            place, text, kind = min(found)
            behind = self._base + place + len(text)
            events += self._say(place)
            self._done = behind - self._base
            self.span = "thinking" if kind == "think_open" else "text"
        return events + self._say(len(self._buffer) - self._hold())

    def _hold(self) -> int:
        """How many of the last bytes may be the beginning of a marker."""
        if self.span == "text" and self._base == 0 and self._done == 0:
            squeezed = _squeeze(self._buffer)
            if any(text.startswith(squeezed) for text in self._starts):
                return len(self._buffer)
        rest = self._buffer[self._done :]
        longest = max((len(text) for text, _ in self._texts), default=1)
        for size in range(min(longest - 1, len(rest)), 0, -1):
            if any(text.startswith(rest[-size:]) for text, _ in self._texts):
                return size
        return 0

    def _say(self, end: int) -> list[Event]:
        """Emit the buffer up to `end` and let go of tokens that are wholly emitted."""
        text = self._utf8.feed(self._buffer[self._done : end])
        self._done = max(end, self._done)
        first = 0
        while self._tokens and first + self._tokens[0][1] <= self._done:
            first += self._tokens.pop(0)[1]
        self._buffer = self._buffer[first:]
        self._base += first
        self._done -= first
        return self._spoken(text)

    def _spoken(self, text: str) -> list[Event]:
        if not text:
            return []
        return [Thinking(text) if self.span == "thinking" else Text(text)]

    def _drop_all(self) -> None:
        self._base += len(self._buffer)
        self._buffer, self._done = b"", 0
        self._tokens.clear()

    def finish(self) -> list[Event]:
        """The message is over: say what was held back."""
        events = [] if self.span == "call" else self._say(len(self._buffer))
        rest = self._utf8.flush()
        if rest and self.span == "call":
            return [ToolCallDelta(self.call_id, rest)]
        return events + self._spoken(rest)


def _squeeze(data: bytes) -> bytes:
    return data.translate(None, b" \t\r\n")
