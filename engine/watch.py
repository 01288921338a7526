"""Split a token stream into spans: text, thinking, header, tool call; and name its control tokens.

Knows token ids, their bytes, and markers. Does not know models, sampling, grammars or tools.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from engine.events import Control, Event, Text, Thinking
from engine.needles import needles
from engine.profile import Header, Profile, Span, Style
from engine.utf8 import Utf8, cut_off, is_inside
from engine.vocab import Vocab

MarkerKind = Literal["call", "answer", "think_open", "think_close"]
Where = Literal["anywhere", "start", "header"]


@dataclass(frozen=True, slots=True)
class Marker:
    """Something that changes the span. `id` where it is one token; else `text` by its bytes.

    `where` a text counts: `start` is only as the first characters of a stretch of text, blanks in
    it and before it aside; `header` in a header alone. An `answer` marker counts at the message's
    start alone, and is not said. `style` is the way of calling that a `call` marker begins.
    """

    kind: MarkerKind
    text: str
    id: int | None
    where: Where = "anywhere"
    style: Style | None = None


@dataclass(frozen=True, slots=True)
class CallStart:
    """A token that opens a call.

    `held` are the ids before it that belong to the opener already, `prefix` the bytes of the first
    of all these tokens that come before the opener, `place` where it begins, counted in bytes of
    the message. `style` is the way of calling that begins so, None for the family's own.
    """

    held: tuple[int, ...] = ()
    prefix: bytes = b""
    place: int = 0
    style: Style | None = None


def markers_for(
    vocab: Vocab,
    profile: Profile,
    style: Style | None,
    tools: Sequence[str] = (),
    *,
    is_strict: bool = False,
) -> list[Marker]:
    """The markers of a family; without a style, calls are not looked for.

    `tools` are the names that triggers may ask for. With `is_strict` the ways in which models slip
    out of the format are not looked for.
    """
    found = []
    styles = [style, *(() if is_strict else style.deviations)] if style else []
    for each in styles:
        for trigger in each.triggers:
            names = tools if "{name}" in trigger.text else ("",)
            texts = [trigger.text.replace("{name}", name) for name in names]
            token = vocab.find(trigger.text) if trigger.kind in ("token", "start") else None
            where = trigger.kind if trigger.kind in ("start", "header") else "anywhere"
            found += [Marker("call", text, token, where, each) for text in texts]
    if style is not None and style.answer:
        found.append(Marker("answer", style.answer, None))
    if profile.thinking:
        opener, closer = profile.thinking.open, profile.thinking.close
        found.append(Marker("think_open", opener, vocab.find(opener)))
        found.append(Marker("think_close", closer, vocab.find(closer)))
    return found


class Watch:
    """Follows one message. Feed every token once; `span` says where the stream stands.

    `calls_in` are the spans in which a call may begin. What a call says is not told here: its
    matcher knows.
    """

    def __init__(
        self,
        vocab: Vocab,
        markers: Collection[Marker],
        meanings: Mapping[str, str],
        *,
        span: Span = "text",
        headers: Sequence[Header] = (),
        calls_in: Collection[Span] = ("text", "header"),
    ) -> None:
        self.span: Span = span
        self._vocab = vocab
        self._meanings = meanings
        self._calls_in = calls_in
        self._headers = {vocab.find(h.open): h for h in headers}
        self._header = next((h for h in headers if h.is_open), None) if span == "header" else None
        self._by_id = {m.id: m for m in reversed(list(markers)) if m.id is not None}
        by_text = [m for m in markers if m.id is None]
        anywhere = [m for m in by_text if m.where == "anywhere"]
        self._marks = [(m.text.encode(), m.kind) for m in anywhere if m.kind != "call"]
        self._texts = needles(tuple(m.text.encode() for m in anywhere))
        self._calls = _Openers([m for m in anywhere if m.kind == "call"])
        self._starts = _Openers([m for m in by_text if m.where == "start"], _squeeze)
        self._in_header = _Openers([m for m in by_text if m.where == "header"])
        self._is_plain = not anywhere and not self._starts.styles
        self._utf8 = Utf8()
        # Bytes of the message not yet emitted, led by those of the first token that are.
        self._buffer = b""
        self._base = 0  # where the buffer begins, counted in bytes of the message
        self._done = 0  # how many of the buffer's bytes are emitted
        self._tokens: list[tuple[int, int]] = []  # id, length of each token in the buffer
        self._is_fresh = True  # nothing of this stretch of text is emitted

    def begins_call(self, token: int) -> CallStart | None:
        """Whether this token, fed next, would open a call. Changes nothing."""
        if self.span not in self._calls_in:
            return None
        marker = self._by_id.get(token)
        if marker is not None:
            place = self._base + len(self._buffer)
            is_call = marker.kind == "call" and self.span != "header"
            is_call = is_call and (marker.where == "anywhere" or self._is_fresh)
            return CallStart(place=place, style=marker.style) if is_call else None
        if self._vocab.is_control(token):
            return None
        buffer = self._buffer + self._vocab.data(token)
        found = self._opener(buffer)
        if found is None:
            return None
        place, style = found
        begins = list(accumulate((length for _, length in self._tokens), initial=0))
        index = max(index for index, begin in enumerate(begins) if begin <= place)
        while index and is_inside(buffer[begins[index] : place][:1]):
            index -= 1  # a grammar has whole characters, so the prefix must
        held = tuple(held for held, _ in self._tokens[index:])
        return CallStart(held, buffer[begins[index] : place], self._base + place, style)

    @property
    def is_naming(self) -> bool:
        """Whether a header is open that says what follows; others only end a section."""
        return self._header is not None and (self._header.is_open or bool(self._header.spans))

    def here(self) -> CallStart:
        """A call that the next token opens, whatever it is."""
        return CallStart(place=self._base + len(self._buffer))

    def _opener(self, buffer: bytes) -> tuple[int, Style | None] | None:
        """The first opener in the buffer's new part: its place and its style."""
        if self.span == "text" and self._is_fresh:
            rest = buffer[self._done :]
            index = self._starts.texts.which(_squeeze(rest))
            if index is not None:
                place = self._done + len(rest) - len(rest.lstrip())
                return place, self._starts.styles[index]
        openers = self._in_header if self.span == "header" else self._calls
        found = openers.texts.find(buffer, self._done)
        return None if found is None else (found[0], openers.styles[found[1]])

    def open_call(self, start: CallStart) -> list[Event]:
        """Say the text before the opener and take what follows for a call."""
        events: list[Event] = []
        if self.span != "header":
            lead = start.place - self._base - len(self._buffer)
            if lead > 0:
                self._buffer += start.prefix[-lead:]  # of the opener's token, yet to be fed
            events = self._pass_marks()
            events += self._say(start.place - self._base)
        self._drop_all()
        self.span = "call"
        return events

    def close_call(self) -> None:
        """The call is over; what follows is text."""
        self.span, self._is_fresh = "text", False

    def feed(self, token: int) -> list[Event]:
        """Take a token; the events are whole characters, and nothing that may become a marker."""
        marker = self._by_id.get(token)
        if marker is not None or self._vocab.is_control(token) or self._closes_header(token):
            return self._feed_control(token, marker)
        data = self._vocab.data(token)
        if self.span == "call":
            return []
        if self.span != "header" and self._is_plain:
            self._base += len(data)
            return self._spoken(self._utf8.feed(data))
        self._buffer += data
        self._tokens.append((token, len(data)))
        return [] if self.span == "header" else self._release()

    def _closes_header(self, token: int) -> bool:
        return self._header is not None and self._vocab.find(self._header.close) == token

    def _feed_control(self, token: int, marker: Marker | None) -> list[Event]:
        name = self._vocab.texts[token]
        event = Control(token, name, self._meanings.get(name, ""))
        if self.span == "call":
            return [event]
        if self.span == "header" and self._closes_header(token):
            self._close_header()
            self._base += len(self._vocab.data(token))
            return [event]
        if self.span == "header":
            events: list[Event] = []
            self._drop_all()
        else:
            events = self._say(len(self._buffer))
        self._base += len(self._vocab.data(token))
        if token in self._headers:
            self.span, self._header = "header", self._headers[token]
        elif marker is not None and marker.kind in ("think_open", "think_close"):
            self.span = "thinking" if marker.kind == "think_open" else "text"
            self._is_fresh = True
        return [*events, event]

    def _close_header(self) -> None:
        assert self._header is not None
        text = self._buffer.decode("utf-8", "replace")
        spans = self._header.spans.items()
        self.span = next((span for word, span in spans if word in text), "text")
        self._header, self._is_fresh = None, True
        self._drop_all()

    def _release(self) -> list[Event]:
        """Say all that can no longer become a marker."""
        events = self._pass_marks()
        return events + self._say(len(self._buffer) - self._hold())

    def _pass_marks(self) -> list[Event]:
        """Follow the marks in the buffer that are text, and say what stands before them."""
        events: list[Event] = []
        while True:
            found = [
                (place, text, kind)
                for text, kind in self._marks
                if (place := self._buffer.find(text, self._done)) >= 0
                and (kind != "answer" or self._base + place == 0)
            ]
            if not found:
                break
            place, text, kind = min(found)
            behind = self._base + place + len(text)
            events += self._say(place)
            self._done = behind - self._base
            self.span = "thinking" if kind == "think_open" else "text"
            self._is_fresh = True
        return events

    def _hold(self) -> int:
        """How many of the last bytes may be the beginning of a marker."""
        rest = self._buffer[self._done :]
        is_start = self.span == "text" and self._is_fresh
        if is_start and self._starts.texts.is_beginning(_squeeze(rest)):
            return len(rest)
        return self._texts.held(rest) or cut_off(rest)

    def _say(self, end: int) -> list[Event]:
        """Emit the buffer up to `end` and let go of tokens that are wholly emitted.

        What is left begins with a whole character, as what comes before an opener has to.
        """
        text = self._utf8.feed(self._buffer[self._done : end])
        self._is_fresh = self._is_fresh and end <= self._done
        self._done = max(end, self._done)
        first = count = place = 0
        for index, (_, length) in enumerate(self._tokens, 1):
            place += length
            if place <= self._done and not is_inside(self._buffer[place : place + 1]):
                first, count = place, index
        del self._tokens[:count]
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

    def finish(self, *, is_cut: bool = False) -> list[Event]:
        """The message is over: say what was held back.

        Where a limit cut it off inside a character, that one is not said.
        """
        if self.span in ("call", "header"):
            return []
        said = self._say(len(self._buffer))
        rest = self._utf8.flush()
        return said if is_cut else said + self._spoken(rest)


class _Openers:
    """Texts that open calls, and the way of calling that each begins."""

    def __init__(
        self, markers: Sequence[Marker], written: Callable[[bytes], bytes] = bytes
    ) -> None:
        self.texts = needles(tuple(written(m.text.encode()) for m in markers))
        self.styles = [m.style for m in markers]


def _squeeze(data: bytes) -> bytes:
    return data.translate(None, b" \t\r\n")
