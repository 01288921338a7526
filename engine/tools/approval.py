"""Who may run what: what rules and tools say, and the consent that was given before.

Knows tools, calls and what was agreed to. Does not know how rules match (`rules` does), how a
person is asked (the caller's `ask` does) or where consent is kept (`consents` does). A tool of a
server whose definition is not the one that was agreed to asks in any case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Literal, get_args

from engine.errors import UsageError
from engine.messages import Call
from engine.tools.consents import Consents
from engine.tools.rules import Rule, Rules, read_rules, rules_of
from engine.tools.tool import Policy, Tool

__all__ = ["Approvals", "Decision", "Request", "Rule", "Rules", "read_rules", "rules_of"]

NO_RULES: Final = Rules()
Decision = Literal["once", "chat", "always", "deny"]


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
        rules: Rules = NO_RULES,
        *,
        ask: Callable[[Request], Decision] | None = None,
        consents: Consents | None = None,
    ) -> None:
        self.rules = rules
        self.ask = ask
        self._consents = consents if consents is not None else Consents(None)
        self._chat: set[str] = set()  # keys of what was agreed to for this chat
        self._accepted: set[str] = set()  # changed definitions that this chat agreed to

    def forget_chat(self) -> None:
        """A new chat begins: what was agreed to for the last one is asked again."""
        self._chat.clear()
        self._accepted.clear()

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
        if decision == "always":  # kept by the consents alone, where it can be taken back
            if request.is_changed:
                self._consents.pin([tool])
            else:
                self._consents.add(key, tool)
        elif request.is_changed:
            self._accepted.add(tool.definition_hash)
        else:
            self._chat.add(key)
        return None
