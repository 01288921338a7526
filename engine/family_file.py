"""Read models/*.toml strictly into `Profile` values.

Knows the files' keys and types. Does not know which family a model is or what a family is for.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
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


def read_profile(path: Path) -> Profile:
    """Read one models/*.toml.

    Raises ProfileError naming the file and the key for a syntax error, an unknown key or a wrong
    value.
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
    return Profile(
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
        call_ids=data.get("call_ids", ""),
        sampling=file.table("sampling"),
        checked=Checked(
            file.names(checked, "checked", "templates"), file.names(checked, "checked", "weights")
        ),
    )


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
        if not all(isinstance(value, str) for value in values):
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
        given = {
            **table,
            "triggers": tuple(self.trigger(item, where) for item in table["triggers"]),
            "parts": {
                key: self.part(value, where) for key, value in table.get("parts", {}).items()
            },
            "prompt": table.get("prompt", "").strip("\n"),
            "deviations": tuple(others),
        }
        return Style(name, **given)

    def trigger(self, item: Any, where: str) -> Trigger:
        kinds = get_args(TriggerKind)
        if not isinstance(item, dict) or len(item) != 1 or next(iter(item)) not in kinds:
            raise self.wrong(f"{where}.triggers", f"expected {{ {' | '.join(kinds)} = '...' }}")
        kind, text = next(iter(item.items()))
        return Trigger(kind, text)

    def part(self, value: Any, where: str) -> Part:
        if isinstance(value, list) and all(isinstance(text, str) for text in value):
            return tuple(value)
        if not isinstance(value, str):
            raise self.wrong(f"{where}.parts", "expected a text or a list of texts")
        return value


_WORDS: Final = {
    str: "text",
    dict: "a table",
    list: "a list",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
}
