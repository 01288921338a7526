"""One message of the model as it comes: free text until a trigger, then a constrained call.

Knows watches, dialects and constraints. Does not know prompts, tools' code or the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from engine.constraint import Constraint
from engine.dialect import Dialect, ParsedCall
from engine.errors import GrammarError, UsageError
from engine.events import Event, Notice, ToolCall, ToolCallDelta, ToolCallStart
from engine.grammar import Grammar
from engine.messages import Call, ToolSpec
from engine.profile import EndMeaning
from engine.sampler import Sampler
from engine.watch import CallStart, Watch

Choice = Literal["auto", "required", "none"]
MAX_CALLS = 8  # of one message
Opening = Literal["free", "choose", "answer"]


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Which tools a turn may call, whatever the prompt lists.

    `auto`: any of `names`, or none; `required`: one of them; `none`: none. It acts on the mask
    alone, so the prompt's bytes and the KV cache stay as they are.
    """

    mode: Choice
    names: tuple[str, ...]

    @classmethod
    def parse(cls, choice: str | Sequence[str], known: Sequence[str]) -> ToolChoice:
        """`auto`, `required`, `none`, one tool's name, or several names (a list, or with commas).

        Raises UsageError naming the tools there are.
        """
        if choice in ("auto", "none"):
            return cls("auto" if choice == "auto" else "none", tuple(known))
        if choice == "required":
            names = list(known)
        elif isinstance(choice, str):
            names = [name.strip() for name in choice.split(",")]
        else:
            names = list(choice)
        unknown = [name for name in names if name not in known]
        if unknown or not names:
            there = ", ".join(known) or "none: no tools were given"
            what = f"unknown tool {unknown[0]!r}" if unknown else "no tool to require"
            raise UsageError(f"tool choice: {what}; tools are {there}")
        return cls("required", tuple(names))


@dataclass(slots=True)
class TurnResult:
    """What a finished message came to. `broken` says why a call in it could not be read."""

    text: str = ""
    thinking: str = ""
    calls: list[Call] = field(default_factory=list)
    end: EndMeaning | None = None
    broken: str | None = None


class Turn:
    """The state of one message. `choose` picks a token, `feed` takes it.

    `opening` matters for styles with an `answer` word: `choose` has the model begin with a call or
    with that word, `answer` with the word. `constraint` is what masks the next token, None while
    text is free. `call_length` counts the open call's tokens from its opener on: what a call that
    is cut off is rewound by. `forces`: tokens about which the grammar leaves no choice are not
    asked of the model.
    """

    def __init__(
        self,
        watch: Watch,
        ends: Mapping[int, EndMeaning],
        *,
        dialect: Dialect | None = None,
        tools: Sequence[ToolSpec] = (),
        choice: ToolChoice | None = None,
        constrain: bool = True,
        response: Grammar | None = None,
        opening: Opening = "free",
        forces: bool = True,
        new_id: Callable[[], str] = lambda: "call",
    ) -> None:
        self.result = TurnResult()
        self.constraint: Constraint | None = None
        self.call_length = 0
        self._watch = watch
        self._ends = ends
        self._dialect = dialect
        self._choice = choice or ToolChoice("none", ())
        self._tools = [tool for tool in tools if tool.name in self._choice.names]
        self._constrain = constrain
        self._forces = forces
        self._new_id = new_id
        self._follower: Constraint | None = None  # the matcher of the open call
        self._captures: list[tuple[str, bytes]] = []  # of the calls before it in this message
        self._n_calls = 0
        self._pending: tuple[CallStart, Constraint] | None = None
        self._forbidden: NDArray[np.uint32] | None = None
        self._response = response
        if response is not None and watch.span == "text":
            self._constrain_answer()
        self._is_opening = False  # the first word is being chosen
        if self._choice.mode == "required":
            self._demand_call()
        elif self._choice.mode == "auto" and self._tools and constrain and opening != "free":
            self._constrain_opening(opening)

    @property
    def is_in_call(self) -> bool:
        return self._follower is not None

    @property
    def is_over(self) -> bool:
        return self.result.end is not None

    def _constrain_answer(self) -> None:
        if self._response is not None and self._dialect is not None:
            self.constraint = self._dialect.constraint(self._response)
            self._response = None

    def _constrain_opening(self, opening: Opening) -> None:
        if self._dialect is None or not self._dialect.style.answer or self._watch.span != "text":
            return
        self._is_opening = True
        if opening == "answer":
            self.constraint = self._dialect.answer_matcher()
        else:
            self.constraint = self._matcher(CallStart(), or_answer=True)

    def _demand_call(self) -> None:
        """Hold the model to a call from the next token on, once it is done with thinking."""
        if self._watch.span == "text" and not self.is_in_call:
            matcher = self._matcher(CallStart())
            if self._constrain:
                self.constraint = matcher

    def choose(self, logits: NDArray[np.float32], sampler: Sampler) -> tuple[int, int | None]:
        """The next token, and how many the grammar allowed (None: all).

        Raises NonFiniteLogits for NaN, DeadEnd where the grammar allows nothing.
        """
        if self.constraint is not None:
            token, allowed = sampler.sample(logits, self.constraint.mask())
            start = self._watch.begins_call(token) if self._is_opening else None
            if start is not None:
                self._pending = (start, self.constraint)
            return token, allowed
        token, _ = sampler.sample(logits, None)
        start = self._watch.begins_call(token) if self._tools else None
        if start is None:
            return token, None
        if self._choice.mode == "none":
            return self._choose_other(logits, sampler, token), None
        matcher = self._matcher_or_none(start)
        if matcher is None:
            return token, None
        if self._constrain and not matcher.allows(token):
            token, allowed = sampler.sample(logits, matcher.mask())
            self._pending = (start, matcher)
            return token, allowed
        self._pending = (start, matcher)
        return token, None

    def prepare(self) -> None:
        """`choose` comes next, once the model has computed: its mask may be made meanwhile."""
        if self.constraint is not None:
            self.constraint.prepare()

    def forced(self) -> list[int]:
        """The tokens that the grammar leaves no choice about; they need no logits."""
        encode = self._dialect.encode if self._dialect is not None else None
        if self.constraint is None or encode is None or self._is_opening or not self._forces:
            return []
        if self._choice.mode == "required" and not self.is_in_call:
            return []  # the first token tells how the call begins
        return self.constraint.forced(encode)

    def _choose_other(self, logits: NDArray[np.float32], sampler: Sampler, token: int) -> int:
        """Sample again without the tokens that open a call: exact, since all others stay."""
        mask = np.full((len(logits) + 31) // 32, 0xFFFFFFFF, dtype=np.uint32)
        if len(logits) % 32:
            mask[-1] = (1 << (len(logits) % 32)) - 1
        while self._watch.begins_call(token) is not None:
            mask[token >> 5] &= ~np.uint32(1 << (token & 31))
            token, _ = sampler.sample(logits, mask)
        return token

    def _matcher_or_none(self, start: CallStart) -> Constraint | None:
        """The matcher of a call that begins so; None where the tokens held are no call's."""
        try:
            return self._matcher(start)
        except GrammarError:
            return None

    def _matcher(self, start: CallStart, *, or_answer: bool = False) -> Constraint:
        assert self._dialect is not None  # tools are only given with a dialect
        matcher = self._dialect.matcher(
            self._tools, prefix=start.prefix, loose=not self._constrain, or_answer=or_answer
        )
        for token in start.held:
            matcher.advance(token)
        return matcher

    def feed(self, token: int) -> list[Event]:
        """Take the chosen token: what it means, as events."""
        events: list[Event] = []
        if not self.is_in_call and self._opens(token):
            events += self._open()
        if self.is_in_call:
            self._follow(token)
            self.call_length += 1
        elif self.constraint is not None:
            self.constraint.advance(token)
            if self._is_opening and self.constraint.is_accepting:
                self.constraint, self._is_opening = None, False  # it answers: the words are free
        events += self._watch.feed(token)
        meaning = self._ends.get(token)
        if meaning is not None:
            events += self._end(meaning)
        elif self._choice.mode == "required" and not self.is_in_call:
            self._demand_call()
        elif self._response is not None and self._watch.span == "text":
            self._constrain_answer()
        return events

    def _opens(self, token: int) -> bool:
        if self._pending is not None:
            return True
        if self._choice.mode == "required" and self._watch.span == "text":
            start = CallStart()
            self._pending = (start, self.constraint or self._matcher(start))
            return True
        return False

    def _open(self) -> list[Event]:
        assert self._pending is not None
        start, self._follower = self._pending
        self._pending, self._is_opening = None, False
        if self._constrain:
            self.constraint = self._follower
        self.call_length = len(start.held)
        call_id = self._new_id()
        events = self._watch.open_call(start, call_id)
        said = [event for event in events if not isinstance(event, ToolCallDelta)]
        return [*said, ToolCallStart(call_id), *events[len(said) :]]

    def _follow(self, token: int) -> None:
        if self._follower is None or self.result.broken is not None:
            return
        try:
            self._follower.advance(token)
            if token not in self._ends:
                self._go_on()
        except GrammarError as error:
            if self._constrain:
                raise
            self.result.broken = f"the call leaves its form: {error.message}"

    def _go_on(self) -> None:
        """Behind a whole call, where the style allows several: a matcher for one more, or none.

        One matcher a call, so that each has its own captures.
        """
        assert self._follower is not None and self._dialect is not None
        if self._dialect.style.separator is None or self._n_calls + 1 >= MAX_CALLS:
            return
        captures = self._follower.captures() if self._follower.is_accepting else []
        if captures:
            self._captures += captures
            self._n_calls += 1
            self._follower = self._dialect.matcher(
                self._tools, loose=not self._constrain, again=True
            )
            if self._constrain:
                self.constraint = self._follower

    def _end(self, meaning: EndMeaning) -> list[Event]:
        self.result.end = meaning
        events = self._watch.finish()
        if not self.is_in_call:
            return events
        calls = self._read_calls()
        if self.result.broken is not None:
            return [*events, Notice(f"a call could not be read: {self.result.broken}")]
        for index, call in enumerate(calls):
            call_id = self._watch.call_id if index == 0 else self._new_id()
            self.result.calls.append(Call(call_id, call.name, call.arguments))
        return [*events, *(ToolCall(c.id, c.name, c.arguments) for c in self.result.calls)]

    def _read_calls(self) -> list[ParsedCall]:
        assert self._follower is not None and self._dialect is not None
        if self.result.broken is None and not self._follower.is_accepting:
            self.result.broken = "it ends before the call is complete"
        if self.result.broken is not None:
            return []
        try:
            return self._dialect.calls([*self._captures, *self._follower.captures()])
        except GrammarError as error:
            self.result.broken = error.message
            return []

    def cut(self) -> list[Event]:
        """The message is cut off by a limit: say the text that was held back; calls are void."""
        return [] if self.is_in_call else self._watch.finish()
