"""The token stream of an edited conversation: what stays is taken over token by token.

Knows which stretch of the stream came from which messages, and how a template renders new ones.
Does not know the cache. What the model said is never rendered again: its tokens go along.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from engine.compaction import Compacted, Compaction, compact
from engine.encoding import Encoding
from engine.events import Origin
from engine.messages import Message, ToolSpec
from engine.prompt import Prompt

END_TOKENS: Final = 64  # marks that a template ends a message with are fewer
MIN_GAIN: Final = 0.05  # of the context: for less, nothing is computed anew


@dataclass(frozen=True, slots=True)
class Block:
    """One prefill, and what the model said behind it.

    `messages[first:fed]` were prefilled as `ids[start:spoken]`; `messages[fed]` is what the model
    said, up to the next block's start.
    """

    first: int
    fed: int
    start: int
    spoken: int


@dataclass(frozen=True, slots=True)
class Script:
    """A conversation, and the stream of those messages that are in it: `fed` of them."""

    messages: list[Message]
    blocks: Sequence[Block] = ()
    ids: Sequence[int] = ()
    origins: Sequence[Origin] = ()

    @property
    def fed(self) -> int:
        return self.blocks[-1].fed + 1 if self.blocks else 0


@dataclass(frozen=True, slots=True)
class Scribe:
    """Renders a conversation with one prompt, system message and set of tools."""

    prompt: Prompt
    system: Sequence[Message]
    tools: Sequence[ToolSpec]

    def new(self, script: Script) -> Encoding:
        """What is to be prefilled: the messages that are not in the stream yet."""
        fed = script.fed
        return self._render(script.messages[:fed], script.messages[fed:], script.ids)

    def need(self, script: Script) -> int:
        """How many tokens the stream has once the model is to speak."""
        return len(script.ids) + len(self.new(script).ids)

    def fixed(self) -> int:
        """About how many tokens are not messages."""
        return len(self._render([], [Message("user", "x")], ()).ids)

    def _render(
        self, history: Sequence[Message], new: Sequence[Message], ids: Sequence[int]
    ) -> Encoding:
        if not history:
            return self.prompt.opening([*self.system, *new], self.tools)[1]
        said, before = history[-1], [*self.system, *history[:-1]]
        end = ids[-END_TOKENS:]
        return self.prompt.following(before, new, self.tools, calls=said.calls, said=end)[1]

    def edited(self, script: Script, messages: list[Message]) -> Script:
        """The script of other messages; those that stay are the same objects as before.

        Where a message of the model is not one that it said, nothing is in the stream: all is
        rendered anew.
        """
        if not script.blocks:
            return Script(messages)
        ends = [*(block.start for block in script.blocks[1:]), len(script.ids)]
        said = {
            id(script.messages[b.fed]): (b, e) for b, e in zip(script.blocks, ends, strict=True)
        }
        asked = {self._key(script, block.first, block.fed): block for block in script.blocks}
        ids: list[int] = []
        origins: list[Origin] = []
        blocks: list[Block] = []
        for place, message in enumerate(messages):
            if id(message) not in said:
                if message.role == "assistant" and blocks:
                    return Script(messages)
                continue
            own, end = said[id(message)]
            first, start = (blocks[-1].fed + 1 if blocks else 0), len(ids)
            old = asked.get(self._key(Script(messages, blocks), first, place))
            if old is not None:
                ids += script.ids[old.start : old.spoken]
                origins += script.origins[old.start : old.spoken]
            else:
                encoding = self._render(messages[:first], messages[first:place], ids)
                ids += encoding.ids
                origins += encoding.origins
            blocks.append(Block(first, place, start, len(ids)))
            ids += script.ids[own.spoken : end]
            origins += script.origins[own.spoken : end]
        return Script(messages, blocks, ids, origins)

    @staticmethod
    def _key(script: Script, first: int, fed: int) -> tuple[int, ...]:
        """The same for the same messages behind the same message of the model."""
        before = id(script.messages[first - 1]) if first else 0
        return (before, *map(id, script.messages[first:fed]))

    def compacted(
        self, script: Script, policy: Compaction, n_ctx: int
    ) -> tuple[Script, Compacted] | None:
        """A shorter script by this policy; None where there is room or nothing is gained.

        The rest must fit, and not be about as long as before.
        """
        need = self.need(script)
        if need <= policy.at * n_ctx:
            return None
        fixed = min(self.fixed(), need - 1)
        share = max(0.0, (policy.to * n_ctx - fixed) / (need - fixed))
        best: tuple[Script, Compacted] | None = None
        for wanted in (share,) if callable(policy.how) else (share, 0.0):
            result = compact(script.messages, policy, wanted)
            if not (result.results or result.dropped or callable(policy.how)):
                break
            made = self.edited(script, result.messages)
            left = self.need(made)
            if left <= n_ctx and (n_ctx < need or left <= need - MIN_GAIN * n_ctx):
                best = made, result
            if left <= policy.at * n_ctx:
                break
        return best
