"""One family's way of writing tool calls, as a grammar for the tools at hand.

Knows which file under grammars/tools a style uses and which tokens its markers are. Does not know
how tools enter the file (`callgrammar`), streams, or how tools run.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from weakref import WeakKeyDictionary

from engine.callgrammar import CallGrammar, ToolSet
from engine.callvalues import literal
from engine.constraint import Constraint, Encode, Terminals
from engine.errors import GrammarError, SchemaError
from engine.grammar import Grammar, Limits
from engine.messages import ToolSpec
from engine.profile import Profile, Style
from engine.resources import read_text
from engine.vocab import Vocab

# Of texts that are written here, for any number of tools: 50 with 60 arguments are 13,700 rules.
_LIMITS: Final = Limits(source_bytes=1 << 24, rules=1 << 18)
# Of the texts that stay written for each vocabulary; the one used least recently goes first.
MAX_WRITTEN: Final = 256
MAX_CHARACTERS: Final = 64 << 20


class Written:
    """Grammars that were written before, by all that they depend on."""

    def __init__(self) -> None:
        self._grammars: dict[Hashable, tuple[Grammar, object]] = {}
        self._n_characters = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._grammars)

    def grammar(self, key: Hashable, kept: object, write: Callable[[], Grammar]) -> Grammar:
        """The grammar of a key. `kept` holds the values whose ids are in the key."""
        with self._lock:
            found = self._grammars.pop(key, None)
            if found is not None:
                self._grammars[key] = found  # the latest used stands last
                return found[0]
        made = write()
        with self._lock:
            before = self._grammars.pop(key, None)
            self._n_characters += len(made.source) - (len(before[0].source) if before else 0)
            self._grammars[key] = made, kept
            while len(self._grammars) > 1 and (
                len(self._grammars) > MAX_WRITTEN or self._n_characters > MAX_CHARACTERS
            ):
                forgotten, _ = self._grammars.pop(next(iter(self._grammars)))
                self._n_characters -= len(forgotten.source)
        return made


_written: WeakKeyDictionary[Vocab, Written] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Dialect:
    """A family's style over one vocabulary."""

    profile: Profile
    style: Style
    vocab: Vocab
    encode: Encode | None = None
    _terminals: list[Terminals] = field(default_factory=list, compare=False, repr=False)

    def terminals(self) -> Terminals:
        """This family's end tokens and markers, as the matcher wants them."""
        if not self._terminals:
            base = Terminals.of(self.vocab, list(self._markers().values()))
            ends = frozenset(self.profile.end_meanings(self.vocab))
            self._terminals.append(Terminals(ends, base.special | ends))
        return self._terminals[0]

    def _markers(self) -> dict[str, int]:
        """The texts that are tokens of their own here, never a part of other text."""
        named = set(self.profile.markers)
        for style in (*self.profile.styles.values(), *self.style.deviations):
            for part in style.parts.values():
                texts = (part,) if isinstance(part, str) else part
                named.update(text for text in texts if len(text.strip()) > 2)
        found = self.vocab.control_texts("", named)
        known = {text: self.vocab.find(text) for text in self.profile.markers}
        return found | {text: token for text, token in known.items() if token is not None}

    def grammar(
        self,
        tools: Sequence[ToolSpec],
        *,
        style: Style | None = None,
        prefix: bytes = b"",
        is_loose: bool = False,
        is_lenient: bool = False,
        or_answer: bool = False,
    ) -> Grammar:
        """The grammar of a message's calls, from the first one's opener to the last one's end.

        `style` is another one than the dialect's own. `prefix` is text that the token with the
        opener's first byte brings along. `is_lenient` allows JSON's keys in any order, blanks
        anywhere between its parts and all its escapes, `is_loose` also any name and any arguments:
        for following a model that is not constrained. `or_answer` allows the style's `answer` word
        instead, at which the grammar is complete.
        """
        style = style or self.style

        def write() -> Grammar:
            text = CallGrammar(
                style.grammar,
                style.source or read_text("grammars", "tools", style.grammar),
                tools,
                self.set_of,
                self._markers().get,
                {"SEPARATOR": style.separator or "", **style.parts},
                self.profile.builtins.tools,
                is_loose,
            ).text(prefix, style.answer if or_answer else "")
            options: dict[str, Any] = {"limits": _LIMITS}
            if is_lenient or is_loose:
                options |= {"whitespace": "flexible", "any_order": True, "escapes": "any"}
            return Grammar.from_lark(text, style.grammar, **options)

        try:
            # By what the schemas say, since whoever gave them may write into them.
            content = json.dumps([[tool.name, tool.parameters] for tool in tools])
        except (TypeError, ValueError, RecursionError):
            return write()  # which names what is wrong
        kept = (self.profile, self.style, style)
        key = (*map(id, kept), content, prefix, is_loose, is_lenient, or_answer)
        return _written.setdefault(self.vocab, Written()).grammar(key, kept, write)

    def matcher(self, tools: Sequence[ToolSpec], **options: Any) -> Constraint:
        """A fresh matcher for `grammar`, which takes the same options."""
        return self.constraint(self.grammar(tools, **options))

    def answer_matcher(self) -> Constraint:
        """A matcher for the style's `answer` word alone."""
        return self.constraint(Grammar.from_lark(f"start: {literal(self.style.answer)}\n"))

    def constraint(self, grammar: Grammar) -> Constraint:
        """A fresh matcher for any grammar, with this family's ends and markers."""
        return grammar.constraint(self.vocab, self.terminals())

    def set_of(self, tool: str) -> ToolSet:
        """Which set of the grammar a tool belongs to, by its name."""
        builtins = self.profile.builtins
        if tool == builtins.code:
            return "code"
        return "builtin" if tool in builtins.tools else "function"

    def check(self, tools: Sequence[ToolSpec]) -> list[tuple[ToolSpec, SchemaError]]:
        """The tools whose arguments can't be enforced, each with the reason."""
        refused = []
        for tool in tools:
            try:
                self.matcher([tool])
            except GrammarError as error:
                refused.append((tool, _refusal(tool, self._as_json(tool) or error)))
        return refused

    def _as_json(self, tool: ToolSpec) -> GrammarError | None:
        """What is wrong with the whole schema, by a pointer into it, whatever the notation."""
        try:
            self.constraint(Grammar.from_schema(tool.parameters))
        except GrammarError as error:
            return error
        return None


def _refusal(tool: ToolSpec, error: GrammarError) -> SchemaError:
    reason = error.message.split(": ", 1)[-1]
    return SchemaError(
        f"tool {tool.name!r}: its arguments {reason}",
        tool=tool.name,
        keyword=error.data.get("keyword"),
        pointer=error.data.get("pointer"),
    )
