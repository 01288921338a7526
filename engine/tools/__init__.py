"""Python functions as tools: declared, loaded, run.

Knows calls and their results. Does not know models, prompts or turns.
"""

from __future__ import annotations

from engine.tools.declare import Field, as_tool, tool, tools_by_name
from engine.tools.invoke import report
from engine.tools.load import load_tools
from engine.tools.result import Failure
from engine.tools.run import run_calls
from engine.tools.tool import Tool

__all__ = [
    "Failure",
    "Field",
    "Tool",
    "as_tool",
    "load_tools",
    "report",
    "run_calls",
    "tool",
    "tools_by_name",
]
