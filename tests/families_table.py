"""The table of families in docs/families.md; `python tests/families_table.py` writes it anew."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from engine.families import profiles
from engine.profile import EndMeaning, Profile, Style, Trigger
from engine.resources import read_text

PAGE = Path(__file__).parents[1] / "docs" / "families.md"
BEGIN, END = "<!-- table of families: begin -->", "<!-- table of families: end -->"
HEADINGS = ("family", "recognised by", "trigger", "arguments", "ends", "result", "checked")
MEANINGS: dict[EndMeaning, str] = {
    "turn_end": "turn",
    "message_end": "message, a result is awaited",
    "tool_call": "call",
    "keep_sampling": "a part",
}
WHERE = {"start": " at the start", "header": " in the header"}


def rows() -> Iterator[tuple[str, ...]]:
    for name, item in sorted(profiles().items()):
        for style in item.styles.values():
            first = style is item.style()
            yield (
                f"`{name}`: {item.title}" if first else f"`{name}`, `--style {style.name}`",
                _recognised(item) if first else "",
                ", ".join(dict.fromkeys(_trigger(each) for each in style.triggers)),
                f"{_arguments(style)} ([{style.grammar}](../grammars/tools/{style.grammar}))",
                _ends(item),
                f"`{item.result.role}`, {item.result.form}",
                _checked(item, style),
            )


def table() -> str:
    lines = [HEADINGS, ("---",) * len(HEADINGS), *rows()]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _recognised(item: Profile) -> str:
    parts = [("tokens", item.tokens), ("template has", item.template_marks)]
    parts.append(("has not", item.not_in_template))
    found = [f"{words} {', '.join(map(_code, texts))}" for words, texts in parts if texts]
    return "; ".join(found) or "when no other fits"


def _ends(item: Profile) -> str:
    found = (f"{_code(text)} {MEANINGS[meaning]}" for text, meaning in item.ends.items())
    return ", ".join(found) or "the vocabulary's"


def _trigger(trigger: Trigger) -> str:
    return _code(trigger.text) + WHERE.get(trigger.kind, "")


def _arguments(style: Style) -> str:
    """How the grammar's file writes them, by the rules and captures that it has."""
    source = read_text("grammars", "tools", style.grammar)
    if 'capture="arguments"' in source:
        return "JSON"
    if "quoted@" in source:
        return "Python keywords"
    if "other@" in source:
        return "text as it is or JSON, and the tag says which"
    if "array@" in source:
        return "a notation of its own, lists and objects too"
    return "text as it is, else JSON"


def _checked(item: Profile, style: Style) -> str:
    is_first = style is item.style()
    count = len(item.checked.templates) if is_first else 0
    shown = f"{count} template{'s' * (count != 1)} rendered and parsed" if count else "no template"
    weights = ", ".join(item.checked.weights) if is_first else ""
    return f"{shown}; generated and parsed; {weights or 'no real weights'}"


def _code(text: str) -> str:
    text = text.replace("\n", "\\n").replace("|", "\\|")
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def write() -> None:
    page = PAGE.read_text(encoding="utf-8")
    inside = re.compile(f"{re.escape(BEGIN)}\n.*?{re.escape(END)}", re.DOTALL)
    new = inside.sub(lambda _: f"{BEGIN}\n{table()}\n{END}", page)
    PAGE.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    write()
