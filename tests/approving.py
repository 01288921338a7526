"""Tools to be approved, and a person who answers what a test tells it to."""

from __future__ import annotations

from typing import Any

from engine.messages import Call
from engine.tools import Tool, tool
from engine.tools.approval import (
    Approvals,
    Decision,
    Request,
)

OBJECT = {"type": "object", "properties": {}}


def remote(name: str = "files__read", description: str = "Read.", **extra: Any) -> Tool:
    return Tool.from_schema(name, description, OBJECT | extra, lambda **_: 1, server="files")


def call(tool: Tool, **arguments: Any) -> Call:
    return Call("call_1", tool.name, arguments)


def verdict(approvals: Approvals, item: Tool, **arguments: Any) -> str | None:
    return approvals.check(call(item, **arguments), item)


class Person:
    """Answers what a test tells it to, and remembers what it was asked."""

    def __init__(self, *decisions: Decision) -> None:
        self.decisions = list(decisions)
        self.asked: list[Request] = []

    def __call__(self, request: Request) -> Decision:
        self.asked.append(request)
        return self.decisions.pop(0)


@tool
def read(path: str) -> str:
    """Read a file."""
    return path


@tool(approve="ask")
def send(to: str) -> str:
    """Send a letter."""
    return to


@tool(dangerous=True)
def erase(path: str) -> str:
    """Erase a file."""
    return path
