"""Make a tool from a typed function, with the options that `@tool` has.

Knows functions, docstrings and options. Does not know types (`typed` does), models, turns or how
calls are scheduled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, overload

from engine.errors import ToolDefinitionError
from engine.tools.docstring import parse
from engine.tools.signature import lacks_self, plain_function
from engine.tools.tool import (
    MAX_OUTPUT_BYTES,
    TIMEOUT_SECONDS,
    Policy,
    Tool,
    check_name,
    is_async,
    refused,
)
from engine.tools.typed import Field, read_arguments

__all__ = ["Field", "Tool", "as_tool", "tool", "tools_by_name"]


@overload
def tool(function: Callable[..., Any], /) -> Tool: ...
@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    timeout: float | None = TIMEOUT_SECONDS,
    max_output: int = MAX_OUTPUT_BYTES,
    return_direct: bool = False,
    result_converter: Callable[[Any], Any] | None = None,
    approve: Policy | None = None,
    isolate: bool = False,
    dangerous: bool = False,
    env: str | Sequence[str] = (),
) -> Callable[[Callable[..., Any]], Tool]: ...
def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    timeout: float | None = TIMEOUT_SECONDS,
    max_output: int = MAX_OUTPUT_BYTES,
    return_direct: bool = False,
    result_converter: Callable[[Any], Any] | None = None,
    approve: Policy | None = None,
    isolate: bool = False,
    dangerous: bool = False,
    env: str | Sequence[str] = (),
) -> Tool | Callable[[Callable[..., Any]], Tool]:
    """Declare a function as a tool: `@tool`, or `@tool(name=..., timeout=...)`.

    The schema comes from the type annotations, the descriptions from the docstring or from
    `Annotated[int, "description"]`. `timeout` is in seconds, `max_output` in bytes.
    `result_converter` makes of the function's value what the model is given. `approve` is
    "allow", "ask" or "deny"; `isolate` runs each call in a child process; `dangerous` does so
    and asks, unless `approve` or a rule says otherwise. `env` names the environment variables
    that an isolated tool is given besides PATH, HOME and the like. Raises ToolDefinitionError
    naming tool and parameter where a type has no JSON form.
    """

    def declare(function: Callable[..., Any]) -> Tool:
        return _declare(
            function,
            name=name,
            description=description,
            timeout_seconds=timeout,
            max_output_bytes=max_output,
            return_direct=return_direct,
            result_converter=result_converter,
            approve=approve,
            is_isolated=isolate or dangerous,
            is_dangerous=dangerous,
            env=(env,) if isinstance(env, str) else tuple(env),
        )

    return declare if function is None else declare(function)


def as_tool(function: Tool | Callable[..., Any]) -> Tool:
    """The tool itself, or the tool that a plain function makes."""
    made = function if isinstance(function, Tool) else _declare(function)
    if made._is_unbound:
        raise refused(made.name, "is a method; take it from an object, as in `Weather().current`")
    return made


def tools_by_name(
    tools: Iterable[Tool | Callable[..., Any]],
    *,
    on_refused: Callable[[ToolDefinitionError], None] | None = None,
) -> dict[str, Tool]:
    """Tools under their names, in order. Refuses two tools of one name.

    With `on_refused`, a tool that is refused is reported there and left out; the others stay.
    """
    found: dict[str, Tool] = {}
    for item in tools:
        try:
            made = as_tool(item)
            if made.name in found:
                raise refused(made.name, "is declared twice; give one of them another name=")
            found[made.name] = made
        except ToolDefinitionError as error:
            if on_refused is None:
                raise
            on_refused(error)
    return found


def _declare(
    function: Callable[..., Any],
    *,
    name: str | None = None,
    description: str | None = None,
    **options: Any,
) -> Tool:
    if isinstance(function, Tool):
        raise refused(function.name, "is declared as a tool already; remove one @tool")
    if isinstance(function, staticmethod):
        function = function.__func__
    if isinstance(function, type) or not callable(function):
        raise refused(name or _name_of(function), "is not a function; wrap it in one")
    plain = plain_function(function)
    name = _name_of(function) if name is None else name
    check_name(name)
    docstring = parse(plain.__doc__)
    schema, check = read_arguments(name, function, docstring.arguments)
    return Tool(
        name=name,
        description=docstring.summary if description is None else description,
        parameters=schema,
        function=function,
        is_async=is_async(function),
        _check=check,
        _is_unbound=lacks_self(function),
        **options,
    )


def _name_of(function: Any) -> str:
    named = function.func if isinstance(function, partial) else function
    return str(getattr(named, "__name__", type(function).__name__))
