"""What is known of a model family: markers, ends, result forms, tool-call styles.

Knows them as values. Does not know where they are written down (`family_file`), which family a
model is (`families`), rendering, tokens or parsing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from engine.errors import UsageError
from engine.vocab import Vocab

EndMeaning = Literal["turn_end", "message_end", "tool_call", "keep_sampling"]
IN_WORDS: Final[Mapping[EndMeaning, str]] = {
    "turn_end": "end of the turn",
    "message_end": "end of the message",
    "tool_call": "end of a tool call, whose result is awaited",
    "keep_sampling": "end of a part of the answer",
}
TriggerKind = Literal["token", "text", "start", "header"]
Span = Literal["text", "thinking", "call", "header"]


@dataclass(frozen=True, slots=True)
class Trigger:
    """What opens a tool call.

    `token`: one control token, or its text where the vocabulary has no such token; `text`: these
    characters anywhere; `start`: these characters, blanks aside, at the start of the message;
    `header`: these characters in a message's header. `{name}` stands for each tool's name.
    """

    kind: TriggerKind
    text: str


Part = str | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Style:
    """One way in which a family writes calls.

    `grammar` names a file under grammars/tools, or what `source` is, Lark text from elsewhere.
    `parts` are the texts that the grammar leaves open. `prompt` tells the model of its tools
    where the template doesn't; `answer` is what a message begins with that is no call, for models
    that would never begin a call by themselves. `separator` stands between the calls of one
    message, where there may be several (None: one). `written` is how a call looks in a history that
    the template would not show it in. `deviations` are other ways that models of the family slip
    into; `has_text_after` says that the model may go on with text behind its calls.
    """

    name: str
    grammar: str
    triggers: tuple[Trigger, ...]
    parts: Mapping[str, Part] = field(default_factory=dict)
    prompt: str = ""
    prompt_always: bool = False
    answer: str = ""
    separator: str | None = None
    written: str = ""
    deviations: tuple[Style, ...] = ()
    has_text_after: bool = False
    source: str = ""


@dataclass(frozen=True, slots=True)
class ResultForm:
    """How a tool's result goes back: the message's role, and its content as object or text.

    `wrap` is text around `{content}` and `{name}`; `text_key` names plain text in an object.
    """

    role: Literal["tool", "user"] = "tool"
    form: Literal["object", "text"] = "text"
    wrap: str = "{content}"
    text_key: str = "output"


@dataclass(frozen=True, slots=True)
class Builtins:
    """Tools that the family knows by name: their keyword arguments, and the one that runs code."""

    variable: str = ""
    tools: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    code: str | None = None


@dataclass(frozen=True, slots=True)
class ThinkingMarks:
    """The marks around reasoning.

    `has_calls`: a call may begin before the closing mark. `off` is what, behind the prompt, makes
    the model answer at once; `variable` is the template's switch, if it has one.
    """

    open: str
    close: str
    has_calls: bool = False
    off: str = ""
    variable: str = ""


@dataclass(frozen=True, slots=True)
class Header:
    """What stands before a part of the answer and says what it is.

    It begins with the token `open` and ends with the token `close`; `spans` maps texts in it to
    what follows, any other text means `text`. `is_open`: the prompt has begun one already.
    """

    open: str
    close: str
    spans: Mapping[str, Literal["text", "thinking"]] = field(default_factory=dict)
    is_open: bool = False


@dataclass(frozen=True, slots=True)
class Checked:
    """What the family was checked with: published templates by name, and real weights."""

    templates: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Profile:
    """A family. `ends` and `control` map token texts to meanings.

    `call_ids` is how the family writes the id of a call that the model didn't name: a format of
    `{n}` (from 1), `{n0}` (from 0) and `{name}`. `sampling` is what the vendor recommends.
    """

    name: str
    title: str
    tokens: tuple[str, ...]
    template_marks: tuple[str, ...]
    not_in_template: tuple[str, ...]
    ends: Mapping[str, EndMeaning]
    control: Mapping[str, str]
    thinking: ThinkingMarks | None
    headers: tuple[Header, ...]
    result: ResultForm
    builtins: Builtins
    styles: Mapping[str, Style]
    template: str | None
    call_ids: str = ""
    sampling: Mapping[str, float] = field(default_factory=dict)
    checked: Checked = Checked()

    def style(self, name: str | None = None) -> Style:
        """The style called `name`, or the family's first. Raises UsageError naming them."""
        if name is None:
            return next(iter(self.styles.values()))
        if name not in self.styles:
            raise UsageError(
                f"{self.title} has no tool style {name!r}; it has {', '.join(self.styles)}"
            )
        return self.styles[name]

    @property
    def markers(self) -> frozenset[str]:
        """All texts with a meaning: where the vocabulary has such tokens, content never is one."""
        found = {*self.ends, *self.control}
        if self.thinking is not None:
            found |= {self.thinking.open, self.thinking.close}
        for header in self.headers:
            found |= {header.open, header.close}
        for style in self.styles.values():
            found |= {t.text for t in style.triggers if t.kind == "token"}
        return frozenset(found)

    def end_meanings(self, vocab: Vocab) -> dict[int, EndMeaning]:
        """Every id that ends a message of this family; the vocabulary's own ends end the turn."""
        meanings: dict[int, EndMeaning] = {token: "turn_end" for token in vocab.eog}
        for text, meaning in self.ends.items():
            token = vocab.find(text)
            if token is not None:
                meanings[token] = meaning
        return {token: meaning for token, meaning in meanings.items() if meaning != "keep_sampling"}

    def meanings(self, vocab: Vocab) -> dict[str, str]:
        """What each known control text of this vocabulary says, in words."""
        ends = {vocab.texts[token]: m for token, m in self.end_meanings(vocab).items()}
        ends |= {text: meaning for text, meaning in self.ends.items()}
        return {**self.control, **{text: IN_WORDS[meaning] for text, meaning in ends.items()}}
