"""A conversation's messages and the token stream that they are in: what is new is rendered and fed.

Knows which messages are in the sequence and where. Does not know how answers are generated or
what is done with calls (`turns` does).
"""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass

from engine.compaction import Compaction
from engine.course import Course
from engine.decode import Limits
from engine.events import Event, Notice, Prefill
from engine.messages import Message, ToolSpec
from engine.model import Model
from engine.prompt import Prompt
from engine.restream import END_TOKENS, Block, Scribe, Script
from engine.reuse import Beginning, begin


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a chat: its messages, how many of them are fed, and the stream's length."""

    messages: list[Message]
    fed: int
    length: int


class Feed:
    """Messages, without the system message, and the sequence that holds the first `fed` of them.

    `fed` 0: the sequence must be opened anew. `asked` is where the last message was said, None
    where that place is gone. Ctrl-C may raise at any line of an answer: the tokens behind those of
    the `fed` messages are then dropped by the next one.
    """

    def __init__(
        self, model: Model, system: str | None, prompt: Prompt, compaction: Compaction | None
    ) -> None:
        self.system = system
        self.messages: list[Message] = []
        self.fed = 0
        self._length = 0  # of the sequence when it held the `fed` messages and nothing else
        self._held: list[Message] = []  # these messages: who edits one of them has it fed anew
        self.asked: Mark | None = None
        self.compactions = 0
        self.sequence = model.sequence()
        self._model = model
        self._prompt = prompt
        self._compaction = compaction
        self._blocks: list[Block] = []  # where its messages are in the sequence

    def mark(self) -> Mark:
        """This place."""
        return Mark(list(self.messages), self.fed, len(self.sequence))

    def add(self, message: Message, length: int) -> None:
        """Put the model's own message, which ends the first `length` tokens, behind the others."""
        said = [*self.messages, message]
        # At once: between these, Ctrl-C would leave a message that is not known to be fed.
        self._held, self.messages[:], self.fed, self._length = said, said, len(said), length
        self.settle()

    def go_back(self, fed: int, length: int) -> None:
        """Go on behind the first `fed` messages, which took `length` tokens."""
        self._held, self.fed, self._length = self.messages[:fed], fed, length
        self.settle()

    def settle(self) -> None:
        """Drop what an interrupted answer left behind the messages that are fed.

        Where one of those was edited, all are rendered anew.
        """
        held, now = self._held[: self.fed], self.messages[: self.fed]
        if len(held) != len(now) or any(a is not b for a, b in zip(held, now, strict=True)):
            self.fed = 0
        if self.fed:
            self.rewind_to(self._length)

    def rewind_to(self, length: int) -> None:
        """Drop what is behind `length`; where the memory can't, the chat is rendered anew."""
        if len(self.sequence) <= length:
            return
        if self.sequence.can_rewind:
            self.sequence.rewind(len(self.sequence) - length)
        else:
            self.sequence.clear()
            self.fed = 0

    def prefill(
        self, tools: Sequence[ToolSpec], course: Course, limits: Limits
    ) -> Generator[Event, None, bool]:
        """Bring the sequence up to where the model is to speak; answers whether it is thinking."""
        self.settle()
        again = yield from self._compact(tools)
        start = Beginning(len(self.sequence))
        first, place = self.fed, start.reused if self.fed else 0
        if self.fed:
            last = self.messages[self.fed - 1]
            rendered, encoding = self._prompt.following(
                self._with_system(self.messages[: self.fed - 1]),
                self.messages[self.fed :],
                tools,
                calls=last.calls,
                said=self.sequence.ids[-END_TOKENS:],
            )
            ids, origins = encoding.ids, encoding.origins
        else:
            rendered, encoding = self._prompt.opening(self._with_system(self.messages), tools)
            start = self._begin(encoding.ids, tools)
            yield from start.notices()
            ids, origins = encoding.ids[start.reused :], encoding.origins[start.reused :]
        length, sequence = len(self.sequence), self.sequence
        total, reused = len(ids) + again, start.reused - again
        counts, begun = sequence.counts, time.perf_counter()
        try:
            sequence.extend(ids, origins)
            yield Prefill(0, total, reused)
            for computed in sequence.chunks(border=start.border, cancelled=limits.says_stop):
                yield from start.keep(sequence, time.perf_counter() - begun)
                yield Prefill(min(computed, total), total, reused)
        except BaseException:
            self.rewind_to(length)
            raise
        done = sequence.counts
        course.count(
            prompt_tokens=reused + total,
            kv_reused=reused + total - (done.computed - counts.computed),
            prefilled=done.computed - counts.computed,
            prefilled_again=done.again - counts.again,
            prefill_seconds=time.perf_counter() - begun,
            kv_restored=start.restored.tokens,
        )
        before = [block for block in self._blocks if block.start < place]
        self._blocks = [*before, Block(first, len(self.messages), place, len(sequence))]
        return self._prompt.opens_thinking(rendered)

    def _begin(self, ids: Sequence[int], tools: Sequence[ToolSpec]) -> Beginning:
        """The first tokens of an opening, from wherever they are."""
        store, system = self._model.prefixes, self._with_system([])
        return begin(
            self.sequence,
            ids,
            others=self._model.sequences(),
            store=store,
            pinned=self._prompt.pinned(ids, system, tools) if store else 0,
        )

    def _compact(self, tools: Sequence[ToolSpec]) -> Generator[Event, None, int]:
        """Make room by the chat's policy; answers how many tokens that stay are computed anew.

        What stays is in the sequence afterwards, and computed with what comes next.
        """
        policy, sequence = self._compaction, self.sequence
        if policy is None:
            return 0
        blocks = [block for block in self._blocks if self.fed and block.start < len(sequence)]
        scribe = Scribe(self._prompt, self._with_system([]), tools)
        script = Script(self.messages, blocks, sequence.ids if blocks else (), sequence.origins)
        made = scribe.compacted(script, policy, sequence.n_ctx)
        if made is None:
            return 0
        script, result = made
        tokens = {"tokens_before": scribe.need(Script(self.messages, blocks, sequence.ids))}
        again, kept = 0, len(sequence)
        if script.fed:
            kept = sequence.keep_prefix(script.ids)
            again = len(script.ids) - kept
            sequence.extend(script.ids[kept:], script.origins[kept:])
        self.messages[:] = script.messages
        self._held = list(script.messages)
        self.fed, self._blocks = script.fed, list(script.blocks)
        self._length = len(sequence)
        self.compactions += 1
        self.asked = None
        if self.messages[-1].role == "user":  # just said
            self.asked = Mark(self.messages[:-1], self.fed, len(sequence))
        tokens |= {"tokens_after": scribe.need(script), "computed_again": again}
        data = {**tokens, "results": result.results, "dropped": result.dropped}
        yield Notice(_made_room(data), data)
        return again

    def _with_system(self, messages: Sequence[Message]) -> list[Message]:
        return [*([Message("system", self.system)] if self.system else []), *messages]


def _made_room(data: Mapping[str, int]) -> str:
    gone = [f"{data['results']} old results"] if data["results"] else []
    gone += [f"{data['dropped']} old messages"] if data["dropped"] else []
    return (
        f"{' and '.join(gone) or 'old messages'} were left out to make room: "
        f"{data['tokens_before']} tokens before, {data['tokens_after']} now, "
        f"{data['computed_again']} of them computed again"
    )
