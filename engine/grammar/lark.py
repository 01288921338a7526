"""Lark text to a `GrammarText`, in the dialect that llguidance documents (docs/syntax.md there).

The only importer of lark. Knows the dialect's syntax. Does not know tokens or matching.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any, Final

import lark
from lark.exceptions import UnexpectedToken, VisitError
from lark.lexer import Lexer
from lark.visitors import Transformer_NonRecursive

from engine.errors import GrammarError
from engine.grammar import common
from engine.grammar.excerpt import check_text, mistake, suggestion
from engine.grammar.syntax import (
    MAX_DEPTH,
    AnyOrder,
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
    Text,
)

_SYNTAX: Final = r"""
start: _NL? (statement _NL)*
?statement: NAME priority? attributes? ":" choice -> rule
          | "%ignore" choice                      -> ignore
          | "%import" path ("->" NAME)?           -> imports
          | "%import" path "(" NAME ("," NAME)* ")" -> several
          | "%llguidance" JSON                    -> options
path: NAME ("." NAME)*
priority: "." NUMBER
attributes: "[" attribute ("," attribute)* "]"
attribute: NAME ("=" (STRING | NUMBER | REGEX | NAME))?
?choice: sequence ("|" sequence)*
?sequence: conjunction*
?conjunction: counted ("&" counted)*
?counted: negated
        | negated OPERATOR                        -> operated
        | negated "~" NUMBER (".." NUMBER)?       -> times
        | negated "{" NUMBER "}"                  -> exactly
        | negated "{" NUMBER "," "}"              -> at_least
        | negated "{" "," NUMBER "}"              -> at_most
        | negated "{" NUMBER "," NUMBER "}"       -> times
?negated: "~" atom                                -> negation
        | atom
?atom: "(" choice ")"
     | "[" choice "]"                             -> maybe
     | STRING ".." STRING                         -> range
     | STRING                                     -> string
     | REGEX                                      -> regex
     | SPECIAL                                    -> special
     | "%json" JSON                               -> schema
     | "%text" JSON                               -> characters
     | "%regex" JSON                              -> structured
     | ANY_ORDER "(" atom ("," part)* ")"      -> any_order
     | NAME                                       -> name
part: atom OPERATOR?
ANY_ORDER: "%any_order"
%declare NAME NUMBER STRING REGEX SPECIAL JSON OPERATOR _NL
"""

_WORDS: Final = {
    ":": "COLON", "|": "VBAR", "(": "LPAR", ")": "RPAR", "[": "LSQB", "]": "RSQB", "{": "LBRACE",
    "}": "RBRACE", ",": "COMMA", "&": "AMPERSAND", "~": "TILDE", "=": "EQUAL", "..": "__ANON_0",
    "->": "__ANON_1", ".": "DOT",
}  # fmt: skip
_ESCAPE: Final = re.compile(r"\\(?:x([0-9a-fA-F]{2})|(.))", re.S)
_TOKEN: Final = re.compile(
    r"""(?P<blank>[ \t\r]+|(?://|\#)[^\n]*)|(?P<newline>\n)"""
    r"""|(?P<STRING>"(?:\\.|[^"\\\n])*"i?)|(?P<REGEX>/(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n])+/[imslux]*)"""
    r"""|(?P<SPECIAL><[^<>\s"]+>)|(?P<directive>%[a-z_]+)|(?P<NUMBER>-?\d+(?:\.\d+)?(?!\.\d))"""
    r"""|(?P<NAME>[!?]?[A-Za-z_](?:[A-Za-z0-9_]|-(?!>))*)|(?P<OPERATOR>[*+?])|(?P<word>\.\.|->|[:|()\[\]{},&~=.])"""
)


class _Lexer(Lexer):
    """Tokens for the parser. Knows where a rule ends, and reads JSON as one token."""

    def __init__(self, lexer_conf: Any) -> None:
        self.names = {}
        for terminal in lexer_conf.terminals:
            if terminal.pattern.type == "str":
                self.names[terminal.pattern.value] = terminal.name

    def lex(self, text: str) -> Iterator[lark.Token]:  # type: ignore[override]
        at, line, begin, depth, before = 0, 1, 0, 0, "_NL"

        def token(kind: str, value: str) -> lark.Token:
            return lark.Token(kind, value, at, line, at - begin + 1)

        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:
                found = text[at]
                raise mistake(text, Place(line, at - begin + 1), f"unexpected {found!r}")
            kind, value = match.lastgroup, match.group()
            assert kind is not None
            if kind == "newline":
                ends = depth == 0 and before != "_NL" and not _continues(text, match.end())
                if ends:
                    yield token("_NL", value)
                    before = "_NL"
                at, line, begin = match.end(), line + 1, match.end()
                continue
            if kind != "blank":
                if kind in ("word", "directive"):
                    depth += (value in "([") - (value in ")]")
                    kind = self.names.get(value, "")
                    if not kind:
                        raise mistake(text, Place(line, at - begin + 1), f"unknown {value}")
                    if depth > MAX_DEPTH:
                        what = f"groups nested deeper than {MAX_DEPTH}"
                        raise mistake(text, Place(line, at - begin + 1), what)
                yield token(kind, value)
                before = kind
            at = match.end()
            if value in ("%json", "%text", "%regex", "%llguidance"):
                end, source = _json(text, at, Place(line, at - begin + 1))
                yield token("JSON", source)
                before = "JSON"
                lines = text.count("\n", at, end)
                at = end
                if lines:
                    line, begin = line + lines, text.rindex("\n", 0, at) + 1
        if before != "_NL":
            yield token("_NL", "\n")


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


class _Tree(Transformer_NonRecursive[Any, Any]):
    """The parser's tree as our values."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text
        self.rules: list[Rule] = []
        self.ignored: list[Item] = []

    def rule(self, parts: list[Any]) -> None:
        name, *rest = parts
        attributes = next((part for part in rest if isinstance(part, dict)), {})
        self._add(str(name).lstrip("!?"), rest[-1], _place(name), attributes)

    def _add(self, name: str, body: Item, place: Place, attributes: dict[str, Any]) -> None:
        is_terminal = name.lstrip("_")[:1].isupper()
        self.rules.append(Rule(name, body, place, attributes, is_terminal))

    def priority(self, parts: list[Any]) -> None:
        return None

    def attributes(self, parts: list[Any]) -> dict[str, Any]:
        return dict(parts)

    def attribute(self, parts: list[Any]) -> tuple[str, Any]:
        name, *value = parts
        if not value:
            return str(name), True
        token = value[0]
        if str(token) in ("true", "false"):
            return str(name), str(token) == "true"
        if token.type == "NUMBER":
            return str(name), float(token) if "." in token else int(token)
        if token.type == "REGEX":
            return str(name), self.regex([token])
        if token.type == "NAME":
            return str(name), Name(str(token), _place(token))
        return str(name), _string(self.text, token)[0]

    def ignore(self, parts: list[Any]) -> None:
        self.ignored.append(parts[0])

    def path(self, parts: list[Any]) -> list[Any]:
        return parts

    def imports(self, parts: list[Any]) -> None:
        library, name = parts[0][:-1], parts[0][-1]
        self._import(library, name, str(parts[1] if len(parts) > 1 else name))

    def several(self, parts: list[Any]) -> None:
        for name in parts[1:]:
            self._import(parts[0], name, str(name))

    def _import(self, library: list[Any], name: Any, alias: str) -> None:
        if ".".join(library) != "common" or str(name) not in common.TERMINALS:
            whole = ".".join([*library, name])
            hint = suggestion(str(name), common.TERMINALS) or (
                f"; common has {', '.join(common.TERMINALS)}"
            )
            raise mistake(self.text, _place(name), f"no terminal {whole}{hint}")
        place = _place(name)
        self._add(alias, Pattern(common.TERMINALS[str(name)], place), place, {})

    def options(self, parts: list[Any]) -> None:
        """What %llguidance says is about that engine's ways."""

    def choice(self, parts: list[Any]) -> Item:
        return Choice(tuple(parts))

    def sequence(self, parts: list[Any]) -> Item:
        return Sequence(tuple(parts))

    def conjunction(self, parts: list[Any]) -> Item:
        return Both(tuple(parts))

    def operated(self, parts: list[Any]) -> Item:
        least, most = {"*": (0, None), "+": (1, None), "?": (0, 1)}[str(parts[1])]
        return Repeat(parts[0], least, most)

    def times(self, parts: list[Any]) -> Item:
        least, most = self._count(parts[1]), self._count(parts[-1])
        if least > most:
            raise mistake(self.text, _place(parts[1]), "bounds out of order")
        return Repeat(parts[0], least, most)

    exactly = times

    def at_least(self, parts: list[Any]) -> Item:
        return Repeat(parts[0], self._count(parts[1]), None)

    def at_most(self, parts: list[Any]) -> Item:
        return Repeat(parts[0], 0, self._count(parts[1]))

    def _count(self, token: lark.Token) -> int:
        if not token.isdecimal() or len(token) > 9:
            raise mistake(self.text, _place(token), "a count from 0 to 999999999 expected here")
        return int(token)

    def negation(self, parts: list[Any]) -> Item:
        return Not(parts[0])

    def maybe(self, parts: list[Any]) -> Item:
        return Repeat(parts[0], 0, 1)

    def range(self, parts: list[Any]) -> Item:
        low, high = (_string(self.text, part)[0] for part in parts)
        if len(low) != 1 or len(high) != 1 or low > high:
            raise mistake(self.text, _place(parts[0]), "a range is of two characters, in order")
        return Pattern(f"[\\u{{{ord(low):x}}}-\\u{{{ord(high):x}}}]", _place(parts[0]))

    def string(self, parts: list[Any]) -> Item:
        return Literal(*_string(self.text, parts[0]))

    def regex(self, parts: list[Any]) -> Item:
        source, _, flags = str(parts[0])[1:].rpartition("/")
        for flag in flags:
            if flag not in "isu":
                raise mistake(self.text, _place(parts[0]), f"the flag {flag} is not known here")
        source = source.replace("\\/", "/")
        return Pattern(source, _place(parts[0]), "s" in flags, "i" in flags)

    def special(self, parts: list[Any]) -> Item:
        return Special(str(parts[0]), _place(parts[0]))

    def schema(self, parts: list[Any]) -> Item:
        return Json(str(parts[0]), _place(parts[0]))

    def characters(self, parts: list[Any]) -> Item:
        return Text(str(parts[0]), _place(parts[0]))

    def structured(self, parts: list[Any]) -> Item:
        value = json.loads(parts[0])
        match value:
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
        raise mistake(self.text, _place(parts[0]), what)

    def part(self, parts: list[Any]) -> tuple[Item, int]:
        if len(parts) == 1:
            return parts[0], 1
        if str(parts[1]) == "+":
            what = "a part is required, optional (?) or comes any number of times (*)"
            raise mistake(self.text, _place(parts[1]), what)
        return parts[0], {"?": 0, "*": 2}[str(parts[1])]

    def any_order(self, parts: list[Any]) -> Item:
        token, separator, *given = parts
        items = tuple(item for item, _ in given)
        return AnyOrder(items, tuple(kind for _, kind in given), separator, _place(token))

    def name(self, parts: list[Any]) -> Item:
        return Name(str(parts[0]).lstrip("!?"), _place(parts[0]))


def _place(token: lark.Token) -> Place:
    return Place(token.line or 1, token.column or 1)


def _string(text: str, token: lark.Token) -> tuple[str, bool]:
    source = str(token)
    ignores = source.endswith("i")
    escaped = source[: len(source) - ignores]
    try:
        value = json.loads(_ESCAPE.sub(_as_json, escaped), strict=False)
        value.encode()  # half a pair of surrogates is no character
    except ValueError as error:
        raise mistake(text, _place(token), f"a string with a bad escape: {error}") from error
    return value, ignores


def _as_json(match: re.Match[str]) -> str:
    """Lark's escapes beyond JSON's: \\xHH, and \\ before anything else, which it only quotes."""
    byte, other = match.group(1), match.group(2)
    if byte:
        return f"\\u00{byte}"
    return match.group() if other in '"\\/bfnrtu' else other


@cache
def _parser() -> lark.Lark:
    return lark.Lark(_SYNTAX, parser="lalr", lexer=_Lexer)


def parse(text: str) -> GrammarText:
    """Raises GrammarError with line, column and the line itself."""
    tree = _Tree(text)
    check_text(text)
    try:
        tree.transform(_parser().parse(text))
    except UnexpectedToken as error:
        what = "the end of the text" if error.token.type == "$END" else repr(str(error.token))
        what = "the end of a rule" if error.token.type == "_NL" else what
        raise mistake(text, _place(error.token), f"unexpected {what}") from error
    except VisitError as error:
        if isinstance(error.orig_exc, GrammarError):
            raise error.orig_exc from None
        raise
    return GrammarText(tuple(tree.rules), tuple(tree.ignored))
