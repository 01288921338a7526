"""Rules of the user: which calls may run, which ask, and which don't.

Knows patterns, names and arguments. Does not know consent or how a person is asked.

Every rule that matches a call is looked at. One that denies wins over everything, and so does a
tool's own `approve="deny"`. Otherwise the most specific kind decides: rules about arguments, about
tools, about servers, the tool's own `approve`, the default; among rules of one kind "ask" wins
over "allow". Where a text may be read in two ways, what allows reads it narrowly, and what denies
or asks reads it widely.
"""

from __future__ import annotations

import copy
import enum
import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase, translate
from pathlib import Path
from typing import Any, Final

from engine.errors import UsageError
from engine.messages import JSON
from engine.tools.tool import POLICIES, Policy, Tool

_KINDS: Final = ("arguments", "tool", "server")  # from the most specific on


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of a policy: which calls it is about, and what becomes of them.

    `tool` and `server` are globs on names; with a server, `tool` may be the name that the server
    itself has for it. `when` has globs on arguments, by name, `a.b` for one inside another.
    Values that are no text are compared as JSON. In a rule that allows, `*` and `?` stand for
    part of one word, `**` for anything. Raises UsageError for what can't be a rule.
    """

    policy: Policy
    tool: str = "*"
    server: str | None = None  # None: tools of servers and others alike
    when: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_policy(self.policy, "a rule's policy")
        if not isinstance(self.tool, str):
            raise UsageError(f"a rule's tool is a pattern as text, found {self.tool!r}")
        if not isinstance(self.server, str | None):
            raise UsageError(f"a rule's server is a pattern as text, found {self.server!r}")
        if not isinstance(self.when, Mapping) or not all(
            isinstance(part, str) for pair in self.when.items() for part in pair
        ):
            raise UsageError(f"a rule's when maps arguments to patterns, found {self.when!r}")

    @property
    def kind(self) -> str:
        if self.when:
            return "arguments"
        return "server" if self.server is not None and self.tool == "*" else "tool"

    def matches(
        self, tool: Tool, arguments: Mapping[str, JSON], converted: Mapping[str, Any] | None = None
    ) -> bool:
        """Whether this is about a call. What denies or asks looks at `converted` as well."""
        if self.server is not None:
            if not tool.server or not _is_named(tool.server, self.server):
                return False
            own = tool.remote or tool.name.partition("__")[2]
            if not any(_is_named(name, self.tool) for name in (tool.name, own)):
                return False
        elif not _is_named(tool.name, self.tool):
            return False
        return all(
            self._fits(pattern, _readings(arguments, path), _readings(converted or {}, path))
            for path, pattern in self.when.items()
        )

    def _fits(self, pattern: str, values: list[Any], converted: list[Any]) -> bool:
        if self.policy == "allow":  # of two arguments of one name, it can't be known which is meant
            return len(values) == 1 and _is_inside(pattern, values[0])
        texts = [
            text for value in (*values, *converted) for text in (_text(value), *_leaves(value))
        ]
        return any(fnmatchcase(text, pattern) for text in texts)

    def __str__(self) -> str:
        parts = [f"server {self.server}"] if self.server is not None else []
        if self.tool != "*" or not parts:
            parts.append(f"tool {self.tool}")
        parts += [f"{name} = {pattern!r}" for name, pattern in sorted(self.when.items())]
        return f"{self.policy}: {', '.join(parts)}"


@dataclass(frozen=True, slots=True)
class Rules:
    """A user's rules; `default` is for tools of one's own, `server_default` for servers' tools."""

    rules: Sequence[Rule] = ()
    default: Policy = "allow"
    server_default: Policy = "ask"

    def __post_init__(self) -> None:
        _check_policy(self.default, "default")
        _check_policy(self.server_default, "server_default")
        for rule in self.rules:
            if not isinstance(rule, Rule):
                raise UsageError(f"rules are made of Rule, found {rule!r}")

    def with_rules(self, rules: Iterable[Rule]) -> Rules:
        """These rules and others behind them."""
        return Rules((*self.rules, *rules), self.default, self.server_default)

    def policy(self, tool: Tool, arguments: Mapping[str, JSON]) -> tuple[Policy, str]:
        """What is to become of a call, and what says so, in words."""
        is_asked = any(rule.when and rule.policy != "allow" for rule in self.rules)
        converted = _converted(tool, arguments) if is_asked else None
        found = [rule for rule in self.rules if rule.matches(tool, arguments, converted)]
        for rule in found:
            if rule.policy == "deny":
                return "deny", f"the rule `{rule}`"
        if tool.approve == "deny":
            return "deny", "the tool itself"
        for kind in _KINDS:
            of_kind = [rule for rule in found if rule.kind == kind]
            for rule in sorted(of_kind, key=lambda rule: rule.policy != "ask"):
                return rule.policy, f"the rule `{rule}`"
        if tool.approve is not None:
            return tool.approve, "the tool itself"
        if tool.is_dangerous:
            return "ask", "the tool is marked as dangerous"
        if tool.server:
            return self.server_default, f"tools of servers: {self.server_default}"
        return self.default, f"the default: {self.default}"


# What a `*` of a rule that allows never stands for: it would begin another word or command.
_STEPS: Final = r"[^\s\x00-\x1f\x7f;|&<>`$()\\]"
_STAR: Final = re.compile(r"\*\*+|\*|\?|\[!?\]?[^\]]*\]")
# `..` as a part of a path, where a path may stand: --file=../x, a:../x, "..", x/..
_EDGES: Final = r"\s/\\=:,;@|&<>`$()\[\]{}'\""
_UP: Final = re.compile(rf"(?<![^{_EDGES}])\.\.(?![^{_EDGES}])")


def _is_named(name: str, pattern: str) -> bool:
    return name == pattern or fnmatchcase(name, pattern)


def _is_inside(pattern: str, value: Any) -> bool:
    """Whether a rule that allows means this value. `src/*` never means src/../../etc."""
    if any(_UP.search(text) for text in _leaves(value)):
        return False
    return re.fullmatch(_allowing(pattern), _text(value)) is not None


def _allowing(pattern: str) -> str:
    """A regex for a pattern of a rule that allows."""
    parts, end = [], 0
    for found in _STAR.finditer(pattern):
        parts.append(re.escape(pattern[end : found.start()]))
        wild, end = found[0], found.end()
        if wild.startswith("**"):
            parts.append("(?s:.*)")
        elif wild.startswith("["):
            parts.append(f"(?={_STEPS}){translate(wild)[4:-3]}")
        else:
            parts.append(_STEPS + ("*" if wild == "*" else ""))
    return "".join([*parts, re.escape(pattern[end:])])


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=_json)


def _json(value: Any) -> Any:
    """A converted value: what a type of Python makes of an argument."""
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, set | frozenset):
        return sorted(value, key=str)
    return vars(value) if hasattr(value, "__dict__") else str(value)


def _leaves(value: Any) -> list[str]:
    """The texts of a value: itself, or those in it, names of arguments included."""
    if isinstance(value, Mapping):
        return [text for pair in value.items() for item in pair for text in _leaves(item)]
    if isinstance(value, list | tuple | set | frozenset):
        return [text for item in value for text in _leaves(item)]
    return [_text(value)]


def _readings(arguments: Any, path: str) -> list[Any]:
    """Every argument that `path` may name: `a.b` is one of that name, and b inside a."""
    if not isinstance(arguments, Mapping):
        return []
    found = [arguments[path]] if path in arguments else []
    for at in (place for place, char in enumerate(path) if char == "."):
        if path[:at] in arguments:
            found += _readings(arguments[path[:at]], path[at + 1 :])
    return found


def _converted(tool: Tool, arguments: Mapping[str, JSON]) -> Mapping[str, Any] | None:
    """The arguments as the function gets them, or None where the call can't run at all."""
    try:
        values = tool.check(copy.deepcopy(dict(arguments)))
        plain: Mapping[str, Any] = json.loads(json.dumps(values, default=_json))
    except Exception:  # a validator of the tool's own may raise anything
        return None
    return plain


def rules_of(policy: Policy, patterns: Iterable[str]) -> list[Rule]:
    """Rules from a command line: `read_*` is a tool, `files:*` the tools of the server files."""
    rules = []
    for pattern in patterns:
        server, colon, tool = (part.strip() for part in pattern.rpartition(":"))
        if not pattern.strip() or (colon and not server):
            raise UsageError(f"{pattern!r}: expected TOOL or SERVER:TOOL, with * where any will do")
        rules.append(Rule(policy, tool or "*", server if colon else None))
    return rules


def read_rules(path: Path) -> Rules:
    """Rules from a TOML file, read strictly. Raises UsageError naming file and key."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(f"{path}: {reason}", path=str(path)) from error
    where = str(path)
    _check_keys(data, {"default", "server_default", "tools", "servers", "rules"}, where)
    rules = [
        Rule(_policy(value, f"{where}: tools.{name}"), name)
        for name, value in _table(data, "tools", where).items()
    ]
    rules += [
        Rule(_policy(value, f"{where}: servers.{name}"), server=name)
        for name, value in _table(data, "servers", where).items()
    ]
    items = data.get("rules", [])
    if not isinstance(items, list):
        raise UsageError(f"{where}: rules: expected [[rules]] tables")
    rules += [_rule(item, f"{where}: rules[{index}]") for index, item in enumerate(items)]
    return Rules(
        tuple(rules),
        _policy(data.get("default", "allow"), f"{where}: default"),
        _policy(data.get("server_default", "ask"), f"{where}: server_default"),
    )


def _rule(item: Any, where: str) -> Rule:
    if not isinstance(item, dict):
        raise UsageError(f"{where}: expected a table")
    _check_keys(item, {"policy", "tool", "server", "when"}, where)
    for key in ("tool", "server"):
        if not isinstance(item.get(key, ""), str):
            raise UsageError(f"{where}.{key}: expected a name, found {item[key]!r}")
    when = _table(item, "when", where)
    for name, pattern in when.items():
        if not isinstance(pattern, str):
            raise UsageError(f"{where}.when.{name}: expected a pattern as text, found {pattern!r}")
    policy = _policy(item.get("policy"), f"{where}.policy")
    return Rule(policy, item.get("tool", "*"), item.get("server"), when)


def _table(data: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
    value = data.get(key, {})
    if not isinstance(value, dict):
        raise UsageError(f"{where}: {key}: expected a table")
    return value


def _policy(value: Any, where: str) -> Policy:
    _check_policy(value, where)
    policy: Policy = value
    return policy


def _check_policy(value: Any, where: str) -> None:
    if value not in POLICIES:
        raise UsageError(f"{where}: expected {', '.join(POLICIES)}, found {value!r}")


def _check_keys(data: Mapping[str, Any], known: set[str], where: str) -> None:
    for key in data:
        if key not in known:
            close = get_close_matches(key, sorted(known), 1)
            hint = (
                f"did you mean {close[0]!r}?" if close else f"known are {', '.join(sorted(known))}"
            )
            raise UsageError(f"{where}: unknown key {key!r}; {hint}")
