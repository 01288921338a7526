"""Read models/*.toml strictly into `Profile` values.

Knows the files' keys and types, and what a grammar wants of the file that names it. Does not know
which family a model is or what a family is for.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final, get_args

from engine.errors import ProfileError
from engine.profile import (
    IN_WORDS,
    Builtins,
    Checked,
    Header,
    Part,
    Profile,
    ResultForm,
    Style,
    ThinkingMarks,
    Trigger,
    TriggerKind,
)
from engine.resources import resource

DEVIATIONS: Final = "deviations.toml"  # beside the grammars that they use
# What each table may say: the key and the type of its value.
KEYS: Final[Mapping[str, Mapping[str, tuple[type, ...]]]] = {
    "": {
        "title": (str,),
        "detect": (dict,),
        "ends": (dict,),
        "control": (dict,),
        "thinking": (dict,),
        "headers": (list,),
        "result": (dict,),
        "builtins": (dict,),
        "styles": (dict,),
        "template": (dict,),
        "call_ids": (str,),
        "sampling": (dict,),
        "checked": (dict,),
    },
    "detect": {"tokens": (list,), "template": (list,), "without": (list,)},
    "thinking": {
        "open": (str,),
        "close": (str,),
        "has_calls": (bool,),
        "off": (str,),
        "variable": (str,),
    },
    "headers": {"open": (str,), "close": (str,), "spans": (dict,), "is_open": (bool,)},
    "result": {"role": (str,), "form": (str,), "wrap": (str,), "text_key": (str,)},
    "builtins": {"variable": (str,), "tools": (dict,), "code": (str,)},
    "template": {"source": (str,)},
    "sampling": {
        "temperature": (int, float),
        "top_p": (int, float),
        "top_k": (int,),
        "min_p": (int, float),
        "repeat_penalty": (int, float),
    },
    "checked": {"templates": (list,), "weights": (list,)},
    "styles": {
        "grammar": (str,),
        "triggers": (list,),
        "parts": (dict,),
        "prompt": (str,),
        "prompt_always": (bool,),
        "answer": (str,),
        "separator": (str,),
        "written": (str,),
        "deviations": (list,),
        "has_text_after": (bool,),
    },
}
# The slots of a grammar that are about the tools (see `engine.callgrammar`); others are parts.
TOOL_SLOTS: Final = frozenset(
    ["NAME", "SCHEMA", "KEYWORDS", "PARAMETERS", "KEY", "SAME_KEY", "VALUE", "TEXT", "STRING"]
    + ["QUOTED", "JSON", "ITEMS", "SEPARATOR"]
)
_OPTIONAL_PARTS: Final = frozenset({"STOP"})
_IN_GRAMMAR: Final = re.compile(
    r"""(?P<string>"(?:\\.|[^"\\])*")|//[^\n]*|/(?:\\.|[^/\\\n])+/|(?P<marker><[^<>\s"]+>)"""
    r"""|@(?P<slot>[A-Z][A-Z_]*)"""
)
# What is a token by its look: <|tool_calls|>, <｜tool▁sep｜>, [TOOL_CALLS].
_TOKEN: Final = re.compile(r"<[|｜][^<>\s]+>|\[/?[A-Z][A-Z_]+\]")


def read_profile(path: Path) -> Profile:
    """Read one models/*.toml.

    A grammar that lies beside the file comes before one of that name under grammars/tools.
    Raises ProfileError naming the file and the key for a syntax error, an unknown key, a wrong
    value, or what a grammar needs and the file lacks.
    """
    file = _File(path)
    data = file.data
    file.check("", data)
    styles = {name: file.style(name, table) for name, table in data.get("styles", {}).items()}
    if not styles:
        raise file.wrong("styles", "at least one style is needed")
    ends = file.texts("ends")
    for text, meaning in ends.items():
        if meaning not in IN_WORDS:
            raise file.wrong(f"ends.{text}", f"expected one of {', '.join(IN_WORDS)}")
    detect = file.table("detect")
    thinking, checked = file.table("thinking"), file.table("checked")
    if thinking and not {"open", "close"} <= set(thinking):
        raise file.wrong("thinking", "open and close are needed")
    found = Profile(
        name=path.stem,
        title=data.get("title", path.stem),
        tokens=file.names(detect, "detect", "tokens"),
        template_marks=file.names(detect, "detect", "template"),
        not_in_template=file.names(detect, "detect", "without"),
        ends=ends,  # type: ignore[arg-type]
        control=file.texts("control"),
        thinking=ThinkingMarks(**thinking) if thinking else None,
        headers=file.headers(),
        result=file.result(),
        builtins=file.builtins(),
        styles=styles,
        template=file.table("template").get("source"),
        call_ids=file.call_ids(),
        sampling=file.table("sampling"),
        checked=Checked(
            file.names(checked, "checked", "templates"), file.names(checked, "checked", "weights")
        ),
    )
    file.check_tokens(found)
    return found


@cache
def deviations() -> Mapping[str, Style]:
    """The ways of slipping out of a family's format, by name."""
    file = _File(resource("grammars", "tools", DEVIATIONS))
    return {name: file.style(name, table, name) for name, table in file.data.items()}


class _File:
    """One file's tables, checked on the way out, with the file's name in each error."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.data: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ProfileError(f"{path}: {error}", path=path, key=None) from error

    def wrong(self, key: str, what: str) -> ProfileError:
        return ProfileError(f"{self.path.name}: {key}: {what}", path=self.path, key=key)

    def check(self, kind: str, table: Any, where: str = "") -> None:
        """That a table is one, and has only known keys with values of their types."""
        if not isinstance(table, dict):
            raise self.wrong(where, f"expected a table, found {type(table).__name__}")
        known = KEYS[kind]
        for key, value in table.items():
            name = f"{where}.{key}".strip(".")
            if key not in known:
                raise self.wrong(name, f"unknown key; known are {', '.join(sorted(known))}")
            wanted = known[key]
            if not isinstance(value, wanted) or (type(value) is bool and bool not in wanted):
                words = " or ".join(_WORDS[each] for each in wanted)
                raise self.wrong(name, f"expected {words}, found {type(value).__name__}")

    def table(self, key: str) -> dict[str, Any]:
        value: dict[str, Any] = self.data.get(key, {})
        self.check(key, value, key)
        return value

    def texts(self, key: str) -> dict[str, str]:
        table: dict[str, Any] = self.data.get(key, {})
        for name, value in table.items():
            if not isinstance(value, str):
                raise self.wrong(f"{key}.{name}", f"expected text, found {type(value).__name__}")
        return table

    def names(self, table: Mapping[str, Any], where: str, key: str) -> tuple[str, ...]:
        values = table.get(key, [])
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise self.wrong(f"{where}.{key}", "expected a list of texts")
        return tuple(values)

    def headers(self) -> tuple[Header, ...]:
        found = []
        for index, table in enumerate(self.data.get("headers", ())):
            where = f"headers.{index}"
            self.check("headers", table, where)
            if not {"open", "close"} <= set(table):
                raise self.wrong(where, "open and close are needed")
            for text, span in table.get("spans", {}).items():
                if span not in ("text", "thinking"):
                    raise self.wrong(f"{where}.spans.{text}", "expected text or thinking")
            found.append(Header(**table))
        return tuple(found)

    def result(self) -> ResultForm:
        form = ResultForm(**self.table("result"))
        if form.role not in ("tool", "user"):
            raise self.wrong("result.role", f"expected tool or user, found {form.role!r}")
        if form.form not in ("object", "text"):
            raise self.wrong("result.form", f"expected object or text, found {form.form!r}")
        return form

    def call_ids(self) -> str:
        form: str = self.data.get("call_ids", "")
        try:
            form.format(n=1, n0=0, name="x")
        except (KeyError, IndexError, ValueError) as error:
            raise self.wrong("call_ids", "expected text with {n}, {n0} or {name}") from error
        return form

    def builtins(self) -> Builtins:
        table = self.table("builtins")
        tools = {
            name: self.names(table["tools"], "builtins.tools", name)
            for name in table.get("tools", {})
        }
        return Builtins(table.get("variable", ""), tools, table.get("code"))

    def style(self, name: str, table: Any, where: str = "") -> Style:
        where = where or f"styles.{name}"
        self.check("styles", table, where)
        if "grammar" not in table or not table.get("triggers"):
            raise self.wrong(where, "a style needs a grammar and at least one trigger")
        others = []
        for other in self.names(table, where, "deviations"):
            if other not in deviations():
                known = ", ".join(deviations())
                raise self.wrong(f"{where}.deviations", f"no {other!r}; known are {known}")
            others.append(deviations()[other])
        triggers = tuple(self.trigger(item, where) for item in table["triggers"])
        source = self.grammar(table["grammar"], where)
        self.check_parts(table.get("parts", {}), source, table["grammar"], where)
        given = {
            **table,
            "source": source,
            "triggers": triggers,
            "parts": {
                key: self.part(value, f"{where}.parts.{key}")
                for key, value in table.get("parts", {}).items()
            },
            "prompt": table.get("prompt", "").strip("\n"),
            "deviations": tuple(others),
        }
        return Style(name, **given)

    def grammar(self, name: str, where: str) -> str:
        """The text of a grammar beside this file, else of a shipped one."""
        shipped = resource("grammars", "tools")
        for folder in (self.path.parent, shipped):
            if Path(name).name == name and (folder / name).is_file():
                try:
                    return (folder / name).read_text(encoding="utf-8")
                except (OSError, UnicodeDecodeError) as error:
                    raise self.wrong(f"{where}.grammar", f"{name}: {error}") from error
        known = ", ".join(sorted(path.name for path in shipped.glob("*.lark")))
        raise self.wrong(
            f"{where}.grammar", f"no {name!r} beside this file or among those shipped: {known}"
        )

    def check_parts(self, parts: Mapping[str, Any], source: str, grammar: str, where: str) -> None:
        """That a grammar gets the parts it leaves open, and no others."""
        wanted = {text for kind, text in _named_in(source) if kind == "slot"} - TOOL_SLOTS
        for missing in sorted(wanted - set(parts)):
            raise self.wrong(f"{where}.parts.{missing}", f"{grammar} needs this part")
        for other in sorted(set(parts) - wanted - _OPTIONAL_PARTS):
            words = ", ".join(sorted(wanted)) or "no parts"
            raise self.wrong(f"{where}.parts.{other}", f"{grammar} has no such part, but {words}")

    def check_tokens(self, found: Profile) -> None:
        """That every token in a grammar is one that the file knows: else it would be mere text."""
        said = {*found.markers, *found.tokens}
        for style in found.styles.values():
            parts = [text for part in style.parts.values() for text in _texts_of(part)]
            known = " ".join([*said, *parts, *(trigger.text for trigger in style.triggers)])
            for kind, text in _named_in(style.source):
                for token in _TOKEN.findall(text) if kind != "slot" else ():
                    if token not in known:
                        what = f"{style.grammar} has {token}, which no key of this file declares"
                        raise self.wrong(f"control.{token}", what)

    def trigger(self, item: Any, where: str) -> Trigger:
        kinds = get_args(TriggerKind)
        if not isinstance(item, dict) or len(item) != 1 or next(iter(item)) not in kinds:
            raise self.wrong(f"{where}.triggers", f"expected {{ {' | '.join(kinds)} = '...' }}")
        kind, text = next(iter(item.items()))
        if not isinstance(text, str) or not text:
            raise self.wrong(f"{where}.triggers", f"{kind}: expected a text that opens a call")
        return Trigger(kind, text)

    def part(self, value: Any, where: str) -> Part:
        if isinstance(value, list) and all(isinstance(text, str) for text in value):
            return tuple(value)
        if not isinstance(value, str):
            raise self.wrong(where, "expected a text or a list of texts")
        return value


def _texts_of(part: Part) -> tuple[str, ...]:
    return (part,) if isinstance(part, str) else part


def _named_in(source: str) -> Iterator[tuple[str, str]]:
    """The slots, markers and strings of a grammar's text, each with its kind."""
    for match in _IN_GRAMMAR.finditer(source):
        if match.lastgroup is not None:
            yield match.lastgroup, match[match.lastgroup]


_WORDS: Final = {
    str: "text",
    dict: "a table",
    list: "a list",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
}
