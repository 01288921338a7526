"""One message of the model as it comes: free text until an opener, then a constrained call.

Knows watches, dialects and constraints. Does not know prompts, tools' code or the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from engine.callfollower import CallFollower
from engine.constraint import Constraint, either
from engine.dialect import Dialect
from engine.errors import GrammarError, UsageError
from engine.events import Event, Notice, ToolCall
from engine.grammar import Grammar
from engine.messages import Call, ToolSpec
from engine.profile import EndMeaning
from engine.sampler import Sampler
from engine.watch import CallStart, Watch

Choice = Literal["auto", "required", "none"]
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

        A name that ends with `*` stands for all that begin so: `browser_*`. Raises UsageError
        naming the tools there are.
        """
        if choice in ("auto", "none"):
            return cls("auto" if choice == "auto" else "none", tuple(known))
        if choice == "required":
            names = list(known)
        elif isinstance(choice, str):
            names = [name.strip() for name in choice.split(",")]
        else:
            names = list(choice)
        names = [name for given in names for name in _matching(given, known)]
        unknown = [name for name in names if name not in known]
        if unknown or not names:
            there = ", ".join(known) or "none: no tools were given"
            what = f"unknown tool {unknown[0]!r}" if unknown else "no tool to require"
            raise UsageError(f"tool choice: {what}; tools are {there}")
        return cls("required", tuple(dict.fromkeys(names)))


def _matching(name: str, known: Sequence[str]) -> list[str]:
    if not name.endswith("*"):
        return [name]
    return [each for each in known if each.startswith(name[:-1])] or [name]


@dataclass(slots=True)
class TurnResult:
    """What a finished message came to. `broken` says why a call in it could not be read."""

    calls: list[Call] = field(default_factory=list)
    end: EndMeaning | None = None
    broken: str | None = None


@dataclass(frozen=True, slots=True)
class TurnOptions:
    """What one message may be.

    `response` is the form of its text. `opening` matters for styles with an `answer` word: `choose`
    has the model begin with a call or with that word, `answer` with the word. `constrain` masks
    what is no valid call; else the call is followed and judged. `forces`: tokens about which the
    grammar leaves no choice are not asked of the model. `thinking_budget` is how many tokens the
    model may think.
    """

    choice: ToolChoice = ToolChoice("none", ())
    constrain: bool = True
    response: Grammar | None = None
    opening: Opening = "free"
    forces: bool = True
    thinking_budget: int | None = None


class Turn:
    """The state of one message. `choose` picks a token, `feed` takes it.

    `constraint` is what masks the next token, None while text is free. `call_length` counts the
    open calls' tokens from the opener on: what a call that is cut off is rewound by.
    """

    def __init__(
        self,
        watch: Watch,
        ends: Mapping[int, EndMeaning],
        *,
        dialect: Dialect | None = None,
        tools: Sequence[ToolSpec] = (),
        options: TurnOptions = TurnOptions(),
        new_id: Callable[[str], tuple[str, str | None]] = lambda name: ("call", None),
    ) -> None:
        self.result = TurnResult()
        self.constraint: Constraint | None = None
        self.call_length = 0
        self._watch = watch
        self._ends = ends
        self._dialect = dialect
        self._options = options
        self._choice = options.choice
        self._tools = [tool for tool in tools if tool.name in self._choice.names]
        self._new_id = new_id
        self._calls: CallFollower | None = None  # of the calls that are open
        self._pending: tuple[CallStart, Constraint | None] | None = None
        self._response = options.response
        # The response's matcher and the calls', while both may be meant, and what came so far.
        self._rivals: tuple[Constraint, Constraint] | None = None
        self._undecided: list[int] = []
        self._unsaid: list[Event] = []
        self._is_opening = False  # the first word is being chosen
        self._n_thought = 0
        self._closing: list[int] = []  # tokens that end the thinking, by the budget
        self._is_demanded = False  # the next token begins a call, whatever it is
        self._think: int | None = None  # the token that opens thinking in front of a response
        self._begin()

    def _begin(self) -> None:
        if self._response is not None and self._watch.span == "text":
            self._constrain_answer()
        if self._choice.mode == "required":
            self._demand_call()
        elif self._choice.mode == "auto" and self._tools and self._options.constrain:
            self._constrain_opening()

    @property
    def is_in_call(self) -> bool:
        return self._calls is not None

    @property
    def is_over(self) -> bool:
        return self.result.end is not None

    def _constrain_answer(self) -> None:
        """Hold the text to its form; a call or thinking may come instead, where they can."""
        assert self._response is not None and self._dialect is not None
        answer = self._dialect.constraint(self._response)
        parts, self._response = [answer], None
        if self._choice.mode == "auto" and self._tools:
            self._rivals = answer, self._matcher(CallStart())
            parts.append(self._rivals[1])
        marks, vocab = self._dialect.profile.thinking, self._dialect.vocab
        self._think = vocab.find(marks.open) if marks and not self._n_thought else None
        if self._think is not None:
            parts.append(self._token_alone(self._think))
        self.constraint = either(*parts) if len(parts) > 1 else answer

    def _token_alone(self, token: int) -> Constraint:
        assert self._dialect is not None
        return self._dialect.constraint(Grammar.from_lark(f"start: <[{token}]>\n"))

    def _constrain_opening(self) -> None:
        opening = self._options.opening
        if self._dialect is None or not self._dialect.style.answer or opening == "free":
            return
        if self._watch.span != "text":
            return
        self._is_opening = True
        if opening == "answer":
            self.constraint = self._dialect.answer_matcher()
        else:
            self.constraint = self._matcher(CallStart(), or_answer=True)

    def _demand_call(self) -> None:
        """Hold the model to a call from the next token on, once it is done with thinking."""
        watch, dialect = self._watch, self._dialect
        assert dialect is not None
        is_text = watch.span == "text"
        in_header = all(trigger.kind == "header" for trigger in dialect.style.triggers)
        header = next((h.open for h in dialect.profile.headers if h.is_open or h.spans), "")
        opener = dialect.vocab.find(header) if in_header and is_text else None
        self._is_demanded = opener is None and (is_text or watch.is_naming)
        if not self._options.constrain:
            return
        if opener is not None:
            self.constraint = self._token_alone(opener)
        else:
            self.constraint = self._matcher(CallStart()) if self._is_demanded else None

    # Choosing

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
        if token in self._ends and self._owes:
            token = self._choose_other(logits, sampler, token, self._ends.__contains__)
        start = self._watch.begins_call(token) if self._tools else None
        if start is None:
            return token, None
        if self._choice.mode == "none":
            refused = self._watch.begins_call
            return self._choose_other(
                logits, sampler, token, lambda other: refused(other) is not None
            ), None
        if not self._options.constrain:
            self._pending = (start, None)
            return token, None
        matcher = self._matcher_or_none(start)
        if matcher is None:
            return token, None
        self._pending = (start, matcher)
        if matcher.allows(token):
            return token, None
        return sampler.sample(logits, matcher.mask())

    def prepare(self) -> None:
        """`choose` comes next, once the model has computed: its mask may be made meanwhile."""
        if self.constraint is not None:
            self.constraint.prepare()

    def forced(self) -> list[int]:
        """The tokens about which there is no choice; they need no logits."""
        if self._closing:
            closing, self._closing = self._closing, []
            return closing
        encode = self._dialect.encode if self._dialect is not None else None
        if self.constraint is None or encode is None or self._is_opening:
            return []
        if not self._options.forces or (self._choice.mode == "required" and not self.is_in_call):
            return []  # the first token tells how the call begins
        return self.constraint.forced(encode)

    @property
    def _owes(self) -> bool:
        """Whether a call or an answer in its form is still to come: the message can't end here."""
        is_due = self._choice.mode == "required" and not self.result.calls
        return self._options.constrain and (is_due or self._response is not None)

    def _choose_other(
        self,
        logits: NDArray[np.float32],
        sampler: Sampler,
        token: int,
        is_refused: Callable[[int], bool],
    ) -> int:
        """Sample again without the tokens that are refused: exact, since all others stay."""
        mask = np.full((len(logits) + 31) // 32, 0xFFFFFFFF, dtype=np.uint32)
        if len(logits) % 32:
            mask[-1] = (1 << (len(logits) % 32)) - 1
        while is_refused(token):
            mask[token >> 5] &= ~np.uint32(1 << (token & 31))
            token, _ = sampler.sample(logits, mask)
        return token

    def _matcher_or_none(self, start: CallStart) -> Constraint | None:
        """The matcher of a call that begins so; None where the tokens held are no call's."""
        matcher = self._matcher(start)
        try:
            for token in start.held:
                matcher.advance(token)
        except GrammarError:
            return None
        return matcher

    def _matcher(self, start: CallStart, *, or_answer: bool = False) -> Constraint:
        """The matcher at the beginning of a call, before the tokens that are held."""
        assert self._dialect is not None  # tools are only given with a dialect
        return self._dialect.matcher(
            self._tools, style=start.style, prefix=start.prefix, or_answer=or_answer
        )

    # Taking

    def feed(self, token: int) -> list[Event]:
        """Take the chosen token: what it means, as events."""
        events = self._decide(token)
        opens = not self.is_in_call and self._opens(token)
        if opens:
            events += self._open()
        if self._calls is not None:
            events += self._follow(token, is_end=token in self._ends and not opens)
        elif self.constraint is not None:
            self.constraint.advance(token)
            if self._is_opening and self.constraint.is_accepting:
                self.constraint, self._is_opening = None, False  # it answers: the words are free
        seen = self._watch.feed(token)
        if self._rivals is not None and token != self._think:
            self._unsaid += seen
        else:
            events += seen
        if self._think is not None and token == self._think:  # the response is what comes after it
            self.constraint = self._rivals = self._think = None
            self._response = self._options.response
        self._count_thought()
        meaning = self._ends.get(token)
        if meaning is not None and not (opens and self.is_in_call):
            return [*events, *self._end(meaning)]
        if self._choice.mode == "required" and not self.is_in_call and not self.result.calls:
            self._demand_call()
        elif self._response is not None and self._watch.span == "text":
            self._constrain_answer()
        return events

    def _decide(self, token: int) -> list[Event]:
        """Whether the token makes an answer or a call of what may be either: `{"name": "n`."""
        if self._rivals is None or token == self._think:
            return []
        is_answer, is_call = (rival.allows(token) for rival in self._rivals)
        if is_answer and is_call and token not in self._ends:
            self._undecided.append(token)
            return []
        self._rivals = None
        unsaid, self._unsaid = self._unsaid, []
        if is_answer:
            return unsaid
        start = CallStart(tuple(self._undecided), place=self._watch.here().place)
        self._pending = (start, self.constraint)
        return []

    def _opens(self, token: int) -> bool:
        if self._pending is not None:
            return True
        if self._is_demanded:
            self._is_demanded = False
            self._pending = (self._watch.here(), self.constraint)
            return True
        return False

    def _open(self) -> list[Event]:
        assert self._pending is not None and self._dialect is not None
        start, matcher = self._pending
        self._pending, self._is_opening = None, False
        self.constraint = matcher if self._options.constrain else None
        self._calls = CallFollower(self._dialect, self._tools, start, self._new_id, self.constraint)
        self.call_length = len(start.held)
        events = self._watch.open_call(start)
        if self._undecided:  # what was held back for text is the call's beginning
            events.clear()
        if start.style is not None and start.style is not self._dialect.style:
            deviation = start.style.name
            events.append(
                Notice(
                    f"the call is not in the family's own format but {deviation!r}",
                    {"kind": "deviation", "deviation": deviation},
                )
            )
        return events

    def _follow(self, token: int, *, is_end: bool) -> list[Event]:
        assert self._calls is not None
        events = self._calls.take(token, is_end=is_end)
        if self._calls.is_left:
            return [*events, *self._leave()]
        self.call_length += 1
        style = self._calls.style
        may_go_on = style.has_text_after and self._options.response is None
        if may_go_on and self._calls.is_complete and not is_end:
            self.call_length = 0
            return [*events, *self._leave()]
        return events

    def _leave(self) -> list[Event]:
        """Text follows the calls, which are whole."""
        events = self._take_calls()
        self._watch.close_call()
        self._calls, self.constraint, self.call_length = None, None, 0
        return events

    def _count_thought(self) -> None:
        """End the thinking where its budget is used up."""
        budget, dialect = self._options.thinking_budget, self._dialect
        if budget is None or self._watch.span != "thinking" or dialect is None:
            return
        self._n_thought += 1
        thinking = dialect.profile.thinking
        if self._n_thought != max(budget, 1) or thinking is None:
            return
        token = dialect.vocab.find(thinking.close)
        if token is not None:
            self._closing = [token]
        elif dialect.encode is not None:
            self._closing = dialect.encode(thinking.close)

    def _end(self, meaning: EndMeaning) -> list[Event]:
        self.result.end = meaning
        return [*self._watch.finish(), *(self._take_calls() if self._calls is not None else [])]

    def _take_calls(self) -> list[Event]:
        assert self._calls is not None
        calls, broken = self._calls.finish()
        self.result.calls += calls
        events: list[Event] = [ToolCall(c.id, c.name, c.arguments) for c in calls]
        if broken is not None:
            self.result.broken = broken
            events.append(Notice(f"a call could not be read: {broken}", {"kind": "broken"}))
        return events

    def cut(self) -> list[Event]:
        """The message is cut off by a limit: say the text that was held back; calls are void."""
        return [] if self.is_in_call else [*self._unsaid, *self._watch.finish(is_cut=True)]
