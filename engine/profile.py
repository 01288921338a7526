"""What is known of a model family, read from models/*.toml, and which family a model is.

Knows markers, ends, result forms and tool-call styles as data. Does not render, tokenise or parse.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal, cast

from engine.errors import ProfileError, UsageError
from engine.resources import resource_files
from engine.vocab import Vocab

EndMeaning = Literal["turn_end", "message_end"]
END_MEANINGS: Final = ("turn_end", "message_end")
_IN_WORDS: Final = {"turn_end": "end of the turn", "message_end": "end of the message"}
TriggerKind = Literal["token", "text", "start"]
GENERIC: Final = "generic"


@dataclass(frozen=True, slots=True)
class Trigger:
    """What opens a tool call.

    `token`: one control token, or its text where the vocabulary has no such token; `text`: these
    characters anywhere; `start`: these characters, blanks aside, at the start of the message.
    """

    kind: TriggerKind
    text: str


@dataclass(frozen=True, slots=True)
class Style:
    """One way in which a family writes calls.

    `prompt` tells the model of its tools where the template doesn't; `answer` is what a message
    begins with that is no call, for models that would never begin a call by themselves.
    `separator` stands between the calls of one message, where there may be several (None: one).
    `written` is how a call looks in a history that the template would not show it in.
    """

    name: str
    grammar: str
    triggers: tuple[Trigger, ...]
    prompt: str = ""
    prompt_always: bool = False
    answer: str = ""
    separator: str | None = None
    written: str = ""


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
class Profile:
    """A family. `ends` and `control` map token texts to meanings."""

    name: str
    title: str
    tokens: tuple[str, ...]
    template_marks: tuple[str, ...]
    ends: Mapping[str, EndMeaning]
    control: Mapping[str, str]
    thinking: tuple[str, str] | None
    result: ResultForm
    builtins: Builtins
    styles: Mapping[str, Style]
    template: str | None

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
        triggers = (t.text for s in self.styles.values() for t in s.triggers if t.kind == "token")
        return frozenset((*self.ends, *self.control, *(self.thinking or ()), *triggers))

    def end_meanings(self, vocab: Vocab) -> dict[int, EndMeaning]:
        """Every id that ends a message of this family; the vocabulary's own ends end the turn."""
        meanings: dict[int, EndMeaning] = {token: "turn_end" for token in vocab.eog}
        for text, meaning in self.ends.items():
            token = vocab.find(text)
            if token is not None:
                meanings[token] = meaning
        return meanings

    def meanings(self, vocab: Vocab) -> dict[str, str]:
        """What each known control text of this vocabulary says, in words."""
        ends = self.end_meanings(vocab)
        return {
            **self.control,
            **{vocab.texts[token]: _IN_WORDS[meaning] for token, meaning in ends.items()},
        }


@dataclass(frozen=True, slots=True)
class Detection:
    """Which family a model is taken for, and why."""

    profile: Profile
    reason: str


_KEYS: Final = {
    "": {"title", "detect", "ends", "control", "thinking", "result", "builtins", "styles"}
    | {"template"},
    "detect": {"tokens", "template"},
    "thinking": {"open", "close"},
    "result": {"role", "form", "wrap", "text_key"},
    "builtins": {"variable", "tools", "code"},
    "template": {"source"},
    "style": {"grammar", "triggers", "prompt", "prompt_always", "answer"}
    | {"separator", "written"},
}


def read_profile(path: Path) -> Profile:
    """Read one models/*.toml strictly.

    Raises ProfileError naming the file and the key for a syntax error, an unknown key or a wrong
    value.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ProfileError(f"{path}: {error}", path=path, key=None) from error
    reader = _Reader(path)
    reader.known(data, "", "")
    detect = reader.table(data, "detect")
    thinking = reader.table(data, "thinking")
    styles = {
        name: reader.style(name, reader.table(data.get("styles", {}), name))
        for name in reader.table(data, "styles", check=False)
    }
    if not styles:
        raise reader.wrong("styles", "at least one style is needed")
    ends = reader.texts(data, "ends")
    for text, meaning in ends.items():
        if meaning not in END_MEANINGS:
            raise reader.wrong(f"ends.{text}", f"expected one of {', '.join(END_MEANINGS)}")
    return Profile(
        name=path.stem,
        title=str(data.get("title", path.stem)),
        tokens=tuple(detect.get("tokens", ())),
        template_marks=tuple(detect.get("template", ())),
        ends=cast("dict[str, EndMeaning]", ends),
        control=reader.texts(data, "control"),
        thinking=(thinking["open"], thinking["close"]) if thinking else None,
        result=reader.result(reader.table(data, "result")),
        builtins=reader.builtins(reader.table(data, "builtins")),
        styles=styles,
        template=reader.table(data, "template").get("source"),
    )


class _Reader:
    """Checks keys and types, and knows the file for the error."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def wrong(self, key: str, what: str) -> ProfileError:
        return ProfileError(f"{self.path.name}: {key}: {what}", path=self.path, key=key)

    def known(self, table: Mapping[str, Any], kind: str, where: str) -> None:
        for key in table:
            if key not in _KEYS[kind]:
                name = f"{where}.{key}".strip(".")
                raise self.wrong(name, f"unknown key; known are {', '.join(sorted(_KEYS[kind]))}")

    def table(self, data: Mapping[str, Any], key: str, *, check: bool = True) -> dict[str, Any]:
        value = data.get(key, {})
        if not isinstance(value, dict):
            raise self.wrong(key, f"expected a table, found {type(value).__name__}")
        if check and key in _KEYS:
            self.known(value, key, key)
        return value

    def texts(self, data: Mapping[str, Any], key: str) -> dict[str, str]:
        table = self.table(data, key)
        for name, value in table.items():
            if not isinstance(value, str):
                raise self.wrong(f"{key}.{name}", f"expected text, found {type(value).__name__}")
        return table

    def result(self, table: Mapping[str, Any]) -> ResultForm:
        form = ResultForm(**table)
        if form.role not in ("tool", "user"):
            raise self.wrong("result.role", f"expected tool or user, found {form.role!r}")
        if form.form not in ("object", "text"):
            raise self.wrong("result.form", f"expected object or text, found {form.form!r}")
        return form

    def builtins(self, table: Mapping[str, Any]) -> Builtins:
        tools = {name: tuple(keys) for name, keys in table.get("tools", {}).items()}
        return Builtins(table.get("variable", ""), tools, table.get("code"))

    def style(self, name: str, table: Mapping[str, Any]) -> Style:
        where = f"styles.{name}"
        self.known(table, "style", where)
        if "grammar" not in table or not table.get("triggers"):
            raise self.wrong(where, "a style needs a grammar and at least one trigger")
        triggers = []
        for item in table["triggers"]:
            if len(item) != 1 or next(iter(item)) not in ("token", "text", "start"):
                raise self.wrong(f"{where}.triggers", "expected { token | text | start = '...' }")
            kind, text = next(iter(item.items()))
            triggers.append(Trigger(kind, text))
        prompt = str(table.get("prompt", "")).strip("\n")
        return Style(
            name,
            table["grammar"],
            tuple(triggers),
            prompt,
            bool(table.get("prompt_always")),
            str(table.get("answer", "")),
            table.get("separator"),
            str(table.get("written", "")),
        )


@cache
def profiles() -> Mapping[str, Profile]:
    """All families that ship with the engine, by name."""
    files = sorted(path for path in resource_files("models") if path.suffix == ".toml")
    return {path.stem: read_profile(path) for path in files}


def profile(name: str) -> Profile:
    """One family by name. Raises UsageError naming those there are."""
    known = profiles()
    if name not in known:
        raise UsageError(f"unknown model family {name!r}; known are {', '.join(known)}")
    return known[name]


def detect(
    vocab: Vocab, template: str | None, candidates: Iterable[Profile] | None = None
) -> Detection:
    """Which family a vocabulary and a chat template belong to.

    Every token that a profile names must be in the vocabulary and every text in the template
    (where there is one); of several that fit, the one with more evidence wins.
    """
    fitting: list[tuple[int, Profile, list[str]]] = []
    for item in candidates or profiles().values():
        if not item.tokens and not item.template_marks:
            continue
        if any(vocab.find(text) is None for text in item.tokens):
            continue
        if template is not None and any(mark not in template for mark in item.template_marks):
            continue
        evidence = [*item.tokens, *(item.template_marks if template is not None else ())]
        fitting.append((len(evidence), item, evidence))
    if not fitting:
        return Detection(profile(GENERIC), "no known family's tokens and template marks are there")
    _, best, evidence = max(fitting, key=lambda entry: entry[0])
    return Detection(best, "has " + ", ".join(dict.fromkeys(evidence)))
