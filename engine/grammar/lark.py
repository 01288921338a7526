"""Lark text to a `GrammarText`, in the dialect that llguidance documents (docs/syntax.md there).

Knows the dialect's syntax. Does not know tokens or matching. Reads it by hand: the library of that
name takes 80 ms of each process to begin with.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Final, NamedTuple, NoReturn

from engine.errors import GrammarError
from engine.grammar import common
from engine.grammar.excerpt import check_text, mistake, suggestion
from engine.grammar.syntax import (
    MAX_DEPTH,
    Both,
    Choice,
    Chunks,
    GrammarText,
    Item,
    Json,
    Literal,
    Name,
    Not,
    Pattern,
    Place,
    Repeat,
    Rule,
    Sequence,
    Special,
)

Value = str | int | float | bool | Item  # of an attribute
_ATOMS: Final = ("(", "[", "STRING", "REGEX", "SPECIAL", "%json", "%regex", "NAME")
_BEGINNINGS: Final = frozenset((*_ATOMS, "~"))
_OPERATORS: Final[dict[str, tuple[int, int | None]]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}
_ESCAPE: Final = re.compile(r"\\(?:x([0-9a-fA-F]{2})|(.))", re.S)
_TOKEN: Final = re.compile(
    r"""(?P<blank>[ \t\r]+|(?://|\#)[^\n]*)|(?P<newline>\n)"""
    r"""|(?P<STRING>"(?:\\.|[^"\\\n])*"i?)|(?P<REGEX>/(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n])+/[imslux]*)"""
    r"""|(?P<SPECIAL><[^<>\s"]+>)|(?P<directive>%[a-z]+)|(?P<NUMBER>-?\d+(?:\.\d+)?(?!\.\d))"""
    r"""|(?P<NAME>[!?]?[A-Za-z_](?:[A-Za-z0-9_]|-(?!>))*)|(?P<OPERATOR>[*+?])|(?P<word>\.\.|->|[:|()\[\]{},&~=.])"""
)


_DIRECTIVES: Final = ("%ignore", "%import", "%llguidance", "%json", "%regex")


class _Word(NamedTuple):
    """A piece of the text. Its kind is a group of `_TOKEN`, `JSON`, `_NL` at a rule's end, or the
    word itself."""

    kind: str
    value: str
    place: Place


def _words(text: str) -> Iterator[_Word]:
    """Knows where a rule ends, and reads JSON as one word."""
    at, line, begin, depth, before = 0, 1, 0, 0, "_NL"
    while at < len(text):
        match = _TOKEN.match(text, at)
        place = Place(line, at - begin + 1)
        if match is None:
            raise mistake(text, place, f"unexpected {text[at]!r}")
        kind, value = match.lastgroup or "", match.group()
        if kind == "newline":
            if depth == 0 and before != "_NL" and not _continues(text, match.end()):
                yield _Word("_NL", value, place)
                before = "_NL"
            at, line, begin = match.end(), line + 1, match.end()
            continue
        if kind != "blank":
            if kind in ("word", "directive"):
                depth += (value in "([") - (value in ")]")
                if kind == "directive" and value not in _DIRECTIVES:
                    raise mistake(text, place, f"unknown {value}")
                if depth > MAX_DEPTH:
                    raise mistake(text, place, f"groups nested deeper than {MAX_DEPTH}")
                kind = value
            yield _Word(kind, value, place)
            before = kind
        at = match.end()
        if value in ("%json", "%regex", "%llguidance"):
            end, source = _json(text, at, Place(line, at - begin + 1))
            yield _Word("JSON", source, Place(line, at - begin + 1))
            before = "JSON"
            lines = text.count("\n", at, end)
            at = end
            if lines:
                line, begin = line + lines, text.rindex("\n", 0, at) + 1
    if before != "_NL":
        yield _Word("_NL", "\n", Place(line, at - begin + 1))
    while True:
        yield _Word("", "", Place(line, at - begin + 1))


def _continues(text: str, at: int) -> bool:
    """Whether the next line that says something begins with another alternative."""
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup not in ("blank", "newline"):
            return text[at] == "|"
        at = match.end()
    return False


def _json(text: str, at: int, place: Place) -> tuple[int, str]:
    begin = at + len(text[at:]) - len(text[at:].lstrip())
    try:
        _, end = json.JSONDecoder().raw_decode(text, begin)
    except ValueError as error:
        raise mistake(text, place, f"JSON expected here: {error}") from error
    except RecursionError as error:
        raise mistake(text, place, "JSON nested too deeply") from error
    return end, text[begin:end]


class _Parser:
    """Rules from words, from the top down; groups are not deep, so it may call itself."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.rules: list[Rule] = []
        self.ignored: list[Item] = []
        self._words = _words(text)
        self._word = next(self._words)
        self._next: _Word | None = None  # behind it, where that was looked at

    # Words

    def take(self, *kinds: str) -> _Word | None:
        """The word, if it is one of these; then the next is up."""
        word = self._word
        if word.kind not in kinds:
            return None
        self._word, self._next = self._next or next(self._words), None
        return word

    def want(self, *kinds: str) -> _Word:
        return self.take(*kinds) or self.fail()

    def fail(self) -> NoReturn:
        kind, value, place = self._word
        ends = {"_NL": "the end of a rule", "": "the end of the text"}
        raise mistake(self.text, place, f"unexpected {ends.get(kind) or repr(value)}")

    def behind(self) -> str:
        """The kind of the word behind this one."""
        if self._next is None:
            self._next = next(self._words)
        return self._next.kind

    # Statements

    def run(self) -> GrammarText:
        while self._word.kind:
            self.statement()
            self.want("_NL")
        return GrammarText(tuple(self.rules), tuple(self.ignored))

    def statement(self) -> None:
        if self.take("%ignore"):
            self.ignored.append(self.choice())
        elif self.take("%import"):
            self.imports()
        elif self.take("%llguidance"):  # about that engine's ways
            self.want("JSON")
        else:
            name = self.want("NAME")
            if self.take("."):  # a priority
                self.want("NUMBER")
            attributes = self.attributes() if self.take("[") else {}
            self.want(":")
            self.add(name.value.lstrip("!?"), self.choice(), name.place, attributes)

    def add(
        self, name: str, body: Item, place: Place, attributes: dict[str, Value] | None = None
    ) -> None:
        is_terminal = name.lstrip("_")[:1].isupper()
        self.rules.append(Rule(name, body, place, attributes or {}, is_terminal))

    def attributes(self) -> dict[str, Value]:
        out: dict[str, Value] = {}
        while True:
            name = self.want("NAME").value
            out[name] = self.attribute() if self.take("=") else True
            if not self.take(","):
                self.want("]")
                return out

    def attribute(self) -> Value:
        word = self.want("STRING", "NUMBER", "REGEX", "NAME")
        if word.value in ("true", "false"):
            return word.value == "true"
        if word.kind == "NUMBER":
            return float(word.value) if "." in word.value else int(word.value)
        if word.kind == "REGEX":
            return self.regex(word)
        if word.kind == "NAME":
            return Name(word.value, word.place)
        return _string(self.text, word)[0]

    def imports(self) -> None:
        path = [self.want("NAME")]
        while self.take("."):
            path.append(self.want("NAME"))
        if self.take("("):
            names = [self.want("NAME")]
            while self.take(","):
                names.append(self.want("NAME"))
            self.want(")")
            for name in names:
                self.import_one(path, name, name.value)
        else:
            alias = self.want("NAME") if self.take("->") else path[-1]
            self.import_one(path[:-1], path[-1], alias.value)

    def import_one(self, library: list[_Word], name: _Word, alias: str) -> None:
        path = [word.value for word in library]
        if path != ["common"] or name.value not in common.TERMINALS:
            whole = ".".join([*path, name.value])
            hint = suggestion(name.value, common.TERMINALS) or (
                f"; common has {', '.join(common.TERMINALS)}"
            )
            raise mistake(self.text, name.place, f"no terminal {whole}{hint}")
        self.add(alias, Pattern(common.TERMINALS[name.value], name.place), name.place)

    # What a rule says

    def choice(self) -> Item:
        parts = [self.sequence()]
        while self.take("|"):
            parts.append(self.sequence())
        return parts[0] if len(parts) == 1 else Choice(tuple(parts))

    def sequence(self) -> Item:
        parts = []
        while self._word.kind in _BEGINNINGS:
            parts.append(self.conjunction())
        return parts[0] if len(parts) == 1 else Sequence(tuple(parts))

    def conjunction(self) -> Item:
        parts = [self.counted()]
        while self.take("&"):
            parts.append(self.counted())
        return parts[0] if len(parts) == 1 else Both(tuple(parts))

    def counted(self) -> Item:
        item = Not(self.atom()) if self.take("~") else self.atom()
        if operator := self.take("OPERATOR"):
            least, most = _OPERATORS[operator.value]
            return Repeat(item, least, most)
        if self._word.kind == "~" and self.behind() == "NUMBER":
            self.want("~")
            number = self.want("NUMBER")
            return self.times(item, number, self.want("NUMBER") if self.take("..") else number)
        return self.bounded(item) if self.take("{") else item

    def bounded(self, item: Item) -> Item:
        least = self.take("NUMBER")
        if least is None:
            self.want(",")
            out: Item = Repeat(item, 0, self.count(self.want("NUMBER")))
        elif not self.take(","):
            out = self.times(item, least, least)
        elif most := self.take("NUMBER"):
            out = self.times(item, least, most)
        else:
            out = Repeat(item, self.count(least), None)
        self.want("}")
        return out

    def times(self, item: Item, low: _Word, high: _Word) -> Item:
        least, most = self.count(low), self.count(high)
        if least > most:
            raise mistake(self.text, low.place, "bounds out of order")
        return Repeat(item, least, most)

    def count(self, word: _Word) -> int:
        if not word.value.isdecimal() or len(word.value) > 9:
            raise mistake(self.text, word.place, "a count from 0 to 999999999 expected here")
        return int(word.value)

    def atom(self) -> Item:
        word = self.want(*_ATOMS)
        match word.kind:
            case "(":
                item = self.choice()
                self.want(")")
                return item
            case "[":
                item = self.choice()
                self.want("]")
                return Repeat(item, 0, 1)
            case "STRING":
                if self.take(".."):
                    return self.range(word, self.want("STRING"))
                return Literal(*_string(self.text, word))
            case "REGEX":
                return self.regex(word)
            case "SPECIAL":
                return Special(word.value, word.place)
            case "%json":
                source = self.want("JSON")
                return Json(source.value, source.place)
            case "%regex":
                return self.structured(self.want("JSON"))
        return Name(word.value.lstrip("!?"), word.place)

    def range(self, first: _Word, last: _Word) -> Item:
        low, high = (_string(self.text, word)[0] for word in (first, last))
        if len(low) != 1 or len(high) != 1 or low > high:
            raise mistake(self.text, first.place, "a range is of two characters, in order")
        return Pattern(f"[\\u{{{ord(low):x}}}-\\u{{{ord(high):x}}}]", first.place)

    def regex(self, word: _Word) -> Item:
        source, _, flags = word.value[1:].rpartition("/")
        for flag in flags:
            if flag not in "isu":
                raise mistake(self.text, word.place, f"the flag {flag} is not known here")
        source = source.replace("\\/", "/")
        return Pattern(source, word.place, "s" in flags, "i" in flags)

    def structured(self, word: _Word) -> Item:
        match json.loads(word.value):
            case {"substring_chunks": [*chunks]} if all(isinstance(each, str) for each in chunks):
                return Chunks(tuple(chunks))
            case {"substring_words": str(words)}:
                return Chunks(tuple(re.findall(r"\w+|\W", words)))
            case {"substring_chars": str(characters)}:
                return Chunks(tuple(characters))
        what = (
            "%regex takes substring_chunks, a list of texts, or substring_words or "
            "substring_chars, a text"
        )
        raise mistake(self.text, word.place, what)


def _string(text: str, word: _Word) -> tuple[str, bool]:
    source = word.value
    ignores = source.endswith("i")
    escaped = source[: len(source) - ignores]
    try:
        value = json.loads(_ESCAPE.sub(_as_json, escaped), strict=False)
        value.encode()  # half a pair of surrogates is no character
    except ValueError as error:
        raise mistake(text, word.place, f"a string with a bad escape: {error}") from error
    return value, ignores


def _as_json(match: re.Match[str]) -> str:
    """Lark's escapes beyond JSON's: \\xHH, and \\ before anything else, which it only quotes."""
    byte, other = match.group(1), match.group(2)
    if byte:
        return f"\\u00{byte}"
    return match.group() if other in '"\\/bfnrtu' else other


def parse(text: str) -> GrammarText:
    """Raises GrammarError with line, column and the line itself."""
    check_text(text)
    try:
        return _Parser(text).run()
    except RecursionError as error:  # not by depth alone: the caller may stand deep already
        raise GrammarError("grammar: nested too deeply") from error
