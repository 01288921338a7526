"""The calls of one message as their tokens arrive: what they say, and where they leave the form.

Knows a dialect's matchers and what their captures mean. Does not know masks, sampling or spans.

A constrained call is followed by the matcher that masks it. One that is not constrained is followed
by two: the strict one tells the first token that leaves the grammar and what was allowed there, the
loose one, with any name and any arguments, still reads the call.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from engine.callreader import CallReader, ReadCall, python_value
from engine.constraint import Constraint
from engine.dialect import Dialect
from engine.errors import GrammarError
from engine.events import Event, Notice
from engine.grammar.kinds import ALL, Root, kind_of, kinds_of
from engine.grammar.shape import check_shape
from engine.messages import JSON, Call, ToolSpec
from engine.profile import Style
from engine.watch import CallStart


class CallFollower:
    """Follows the calls from their opener on. `matcher` is the one that masks, None without one."""

    def __init__(
        self,
        dialect: Dialect,
        tools: Sequence[ToolSpec],
        start: CallStart,
        new_id: Callable[[str], tuple[str, str | None]],
        matcher: Constraint | None,
    ) -> None:
        self.style: Style = start.style or dialect.style
        self.is_left = False  # the last token is no part of the calls: text follows them
        self._dialect = dialect
        self._tools = {tool.name: tool for tool in tools}
        self._is_masked = matcher is not None
        self._new_id = new_id
        self._ids: dict[str, str | None] = {}
        self._broken: str | None = None
        self._n_tokens = len(start.held)
        self._readers: list[tuple[Constraint, CallReader]] = []
        if matcher is not None:
            self._readers.append((matcher, self._reader()))
        else:
            self._begin_both(tools, start)

    def _begin_both(self, tools: Sequence[ToolSpec], start: CallStart) -> None:
        for options in ({"is_lenient": True}, {"is_loose": True}):
            try:
                matcher = self._matcher(tools, start, options)
                for token in start.held:
                    matcher.advance(token)
            except GrammarError:
                continue
            self._readers.append((matcher, self._reader()))
        if not self._readers:
            self._broken = "its beginning is none of this format"

    def _matcher(
        self, tools: Sequence[ToolSpec], start: CallStart, options: Mapping[str, bool]
    ) -> Constraint:
        """A matcher for these tools; what can't be enforced of one is not asked of it."""
        try:
            return self._dialect.matcher(tools, style=start.style, prefix=start.prefix, **options)
        except GrammarError:
            refused = {tool.name for tool, _ in self._dialect.check(tools)}
            open_tools = [
                replace(tool, parameters={"type": "object"}) if tool.name in refused else tool
                for tool in tools
            ]
            return self._dialect.matcher(
                open_tools, style=start.style, prefix=start.prefix, **options
            )

    def _reader(self) -> CallReader:
        def new_id(name: str) -> str:
            return self._make_id(name, len(reader.calls))

        reader = CallReader(new_id, self._dialect.profile.builtins.code or "code")
        return reader

    def _make_id(self, name: str, index: int) -> str:
        # The loose reading finds the same calls as the strict one, in the same order.
        made = list(self._ids)
        if index < len(made):
            return made[index]
        call_id, wire_id = self._new_id(name)
        self._ids[call_id] = wire_id
        return call_id

    @property
    def is_complete(self) -> bool:
        """Whether the calls are whole and nothing can be added to them."""
        return bool(self._readers) and self._readers[0][0].is_done

    def take(self, token: int, *, is_end: bool) -> list[Event]:
        """The next token. Raises GrammarError for one that a masking matcher refuses."""
        if self._broken is not None:
            return []
        if self._is_masked:
            matcher, reader = self._readers[0]
            matcher.advance(token)
            return reader.take(matcher)
        return self._take_unmasked(token, is_end)

    def _take_unmasked(self, token: int, is_end: bool) -> list[Event]:
        events: list[Event] = []
        kept: list[tuple[Constraint, CallReader]] = []
        was_strict = len(self._readers) == 2
        for index, (matcher, reader) in enumerate(self._readers):
            try:
                matcher.advance(token)
                told = reader.take(matcher)
            except GrammarError as error:
                if index == 0 and was_strict:
                    events.append(self._departure(token, matcher, error))
                if index == len(self._readers) - 1 and not kept:
                    self._refuse(matcher, error, is_end)
                    if self.is_left or self._broken is not None:
                        self._readers = [(matcher, reader)]
                        return events
                continue
            events += told if index == 0 and was_strict else []
            kept.append((matcher, reader))
        self._readers = kept
        self._n_tokens += 1
        return events

    def _refuse(self, matcher: Constraint, error: GrammarError, is_end: bool) -> None:
        """No matcher can go on."""
        if matcher.is_accepting and not is_end:
            self.is_left = True
        elif not is_end:
            self._broken = f"the call leaves its form: {error.message}"
        else:
            self._broken = "it ends before the call is complete"

    def _departure(self, token: int, matcher: Constraint, error: GrammarError) -> Notice:
        """The first token that leaves the grammar of the tools at hand."""
        expected = matcher.allowed_summary()
        return Notice(
            f"token {self._n_tokens + 1} of the call leaves its grammar, "
            f"which allows {expected} there",
            {
                "kind": "departure",
                "token": token,
                "index": self._n_tokens,
                "allowed": expected,
                "reason": error.message,
            },
        )

    def finish(self) -> tuple[list[Call], str | None]:
        """The calls, and why they could not be read."""
        if self._broken is not None or not self._readers:
            return [], self._void(self._broken or "it can't be read")
        matcher, reader = self._readers[0]
        if not matcher.is_accepting and not matcher.is_done:
            return [], self._void("it ends before the call is complete")
        reader.take(matcher)
        try:
            return [self._call(read) for read in reader.calls], None
        except GrammarError as error:
            return [], error.message

    def _void(self, reason: str) -> str:
        """The reason, and which calls of the same message are void with the one it is about."""
        names = [call.name for call in self._readers[0][1].calls[:-1]] if self._readers else []
        return (
            f"{reason}; the calls before it ({', '.join(names)}) are not run" if names else reason
        )

    def _call(self, read: ReadCall) -> Call:
        arguments = read.arguments()
        tool = self._tools.get(read.name)
        if tool is not None:
            arguments |= _repaired(read.raw, tool.parameters)
        return Call(read.id, read.name, arguments, read.wire_id or self._ids.get(read.id))


def _repaired(raw: Mapping[str, str], schema: Any) -> dict[str, JSON]:
    """What a loose reading took for the wrong type, by what the schema wants.

    Text that looks like JSON stays text where only text is allowed; where no text is, Python's
    notation is read as well. What fits neither way stays as it was read.
    """
    out: dict[str, JSON] = {}
    for key, text in raw.items():
        kinds = _kinds_of(key, schema)
        if kinds == {"string"}:
            out[key] = text
        elif "string" not in kinds and not _is_json(text):
            try:
                value = python_value(text)
            except GrammarError:
                continue  # the tool's own check will say it
            if kind_of(value) in kinds:
                out[key] = value
    return out


def _kinds_of(key: str, schema: Any) -> frozenset[str]:
    """What an argument may be, as far as the schema can be read."""
    properties = schema.get("properties") if isinstance(schema, Mapping) else None
    if not isinstance(properties, Mapping):
        return ALL
    try:
        check_shape(schema)
        return kinds_of(properties.get(key, True), Root(schema))
    except GrammarError:
        return ALL


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
