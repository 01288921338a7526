"""Who may run what: rules of the user, policies of tools, and consent that was given before.

Knows tools, arguments and rules. Does not know how a person is asked (the caller's `ask` does) or
where consent is kept (`consents` does).

Every rule that matches a call is looked at. One that denies wins over everything. Otherwise the
most specific kind decides: rules about arguments, about tools, about servers, the tool's own
`approve`, the default; among rules of one kind "ask" wins over "allow". A tool of a server whose
definition is not the one that was agreed to asks in any case.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final, Literal, get_args

from engine.errors import UsageError
from engine.messages import JSON, Call
from engine.tools.consents import Consents
from engine.tools.tool import POLICIES, Policy, Tool

Decision = Literal["once", "chat", "always", "deny"]
_KINDS: Final = ("arguments", "tool", "server")  # from the most specific on


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of a policy: which calls it is about, and what becomes of them.

    `tool` and `server` are globs on names; `when` has globs on arguments, by name, `a.b` for one
    inside another. Values that are no text are compared as JSON.
    """

    policy: Policy
    tool: str = "*"
    server: str | None = None  # None: tools of servers and others alike
    when: Mapping[str, str] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        if self.when:
            return "arguments"
        return "server" if self.server is not None and self.tool == "*" else "tool"

    def matches(self, tool: Tool, arguments: Mapping[str, JSON]) -> bool:
        if not fnmatchcase(tool.name, self.tool):
            return False
        if self.server is not None and not (tool.server and fnmatchcase(tool.server, self.server)):
            return False
        return all(self._fits(pattern, _at(arguments, path)) for path, pattern in self.when.items())

    def _fits(self, pattern: str, value: Any) -> bool:
        if value is _MISSING:
            return False
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        # `src/*` is meant as what lies in src, and src/../../etc does not.
        if self.policy == "allow" and ".." in text.replace("\\", "/").split("/"):
            return False
        return fnmatchcase(text, pattern)

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

    def with_rules(self, rules: Iterable[Rule]) -> Rules:
        """These rules and others behind them."""
        return Rules((*self.rules, *rules), self.default, self.server_default)

    def policy(self, tool: Tool, arguments: Mapping[str, JSON]) -> tuple[Policy, str]:
        """What is to become of a call, and what says so, in words."""
        found = [rule for rule in self.rules if rule.matches(tool, arguments)]
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


@dataclass(frozen=True, slots=True)
class Request:
    """A call that somebody has to agree to, and why. `is_changed`: not what was agreed to."""

    call: Call
    tool: Tool
    reason: str
    is_changed: bool = False


class Approvals:
    """The decisions of one chat: rules, what was agreed to, and whom to ask.

    `ask` gets a Request and gives a Decision; without one, what would ask is denied. `consents`
    keeps what is agreed to for good; without them, "always" lasts as long as this object.
    """

    def __init__(
        self,
        rules: Rules = Rules(),
        *,
        ask: Callable[[Request], Decision] | None = None,
        consents: Consents | None = None,
    ) -> None:
        self.rules = rules
        self.ask = ask
        self._consents = consents if consents is not None else Consents(None)
        self._chat: set[str] = set()  # keys of what was agreed to for this chat
        self._accepted: set[str] = set()  # changed definitions that this chat agreed to

    def meet(self, tools: Iterable[Tool]) -> list[Tool]:
        """Take note of servers' tools; answers those whose definition was not agreed to.

        A server's first tools are taken as they are; each call of theirs asks by default.
        """
        tools = [tool for tool in tools if tool.server]
        self._consents.pin([tool for tool in tools if not self._consents.knows(tool.server)])
        return [tool for tool in tools if self._is_changed(tool)]

    def _is_changed(self, tool: Tool) -> bool:
        agreed = {self._consents.pinned(tool), *self._accepted}
        return bool(tool.server) and tool.definition_hash not in agreed

    def policy(self, call: Call, tool: Tool) -> Policy:
        """What is to become of a call, before anybody is asked or what was agreed to counts."""
        policy, _ = self.rules.policy(tool, call.arguments)
        return "ask" if policy == "allow" and self._is_changed(tool) else policy

    def check(self, call: Call, tool: Tool) -> str | None:
        """None where the call may run, else what the model is told. May ask a person."""
        policy, why = self.rules.policy(tool, call.arguments)
        if policy == "deny":
            return f"not allowed by {why}"
        is_changed = self._is_changed(tool)
        if is_changed:
            why = "its definition changed" if self._consents.pinned(tool) else "it is new"
            why += f" since the tools of {tool.server} were agreed to"
        elif policy == "allow":
            return None
        key = f"{tool.definition_hash} {why}"
        if not is_changed and (key in self._chat or self._consents.has(key)):
            return None
        if self.ask is None:
            return f"this call needs a person's consent ({why}), and nobody can be asked here"
        return self._asked(Request(call, tool, why, is_changed), key)

    def _asked(self, request: Request, key: str) -> str | None:
        assert self.ask is not None
        decision, tool = self.ask(request), request.tool
        if decision == "deny":
            return "the user did not allow this call"
        if decision not in get_args(Decision):
            raise UsageError(f"a decision is once, chat, always or deny, not {decision!r}")
        if decision == "once":
            return None
        if decision == "always" and not tool.is_code_known:
            decision = "chat"  # other code would look the same the next time
        if request.is_changed:
            self._accepted.add(tool.definition_hash)
            if decision == "always":
                self._consents.pin([tool])
        elif decision == "always":
            self._consents.add(key, tool)
        self._chat.add(key)
        return None


class _Missing:
    pass


_MISSING: Final = _Missing()


def _at(arguments: Any, path: str) -> Any:
    """The argument named `path`; one inside another where no argument has the whole name."""
    value = arguments
    for name in [path] if path in arguments else path.split("."):
        if not isinstance(value, Mapping) or name not in value:
            return _MISSING
        value = value[name]
    return value


def rules_of(policy: Policy, patterns: Iterable[str]) -> list[Rule]:
    """Rules from a command line: `read_*` is a tool, `files:*` the tools of the server files."""
    rules = []
    for pattern in patterns:
        server, colon, tool = pattern.rpartition(":")
        if not pattern.strip() or (colon and not server):
            raise UsageError(f"{pattern!r}: expected TOOL or SERVER:TOOL, with * where any will do")
        # Tools of servers are named server__tool, with the server's name as models can write it.
        name = f"*__{tool}" if colon and tool not in ("", "*") else tool or "*"
        rules.append(Rule(policy, name, server if colon else None))
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
    if value not in POLICIES:
        raise UsageError(f"{where}: expected {', '.join(POLICIES)}, found {value!r}")
    policy: Policy = value
    return policy


def _check_keys(data: Mapping[str, Any], known: set[str], where: str) -> None:
    for key in data:
        if key not in known:
            close = get_close_matches(key, sorted(known), 1)
            hint = (
                f"did you mean {close[0]!r}?" if close else f"known are {', '.join(sorted(known))}"
            )
            raise UsageError(f"{where}: unknown key {key!r}; {hint}")
