"""The parameters of a function, with their annotations resolved.

Knows Python's signatures, closures and frames. Does not know schemas or Pydantic.
"""

from __future__ import annotations

import functools
import inspect
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_type_hints

from engine.errors import ToolDefinitionError

REQUIRED = inspect.Parameter.empty


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter; `default` is REQUIRED where there is none."""

    name: str
    annotation: Any
    default: Any


def plain_function(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function that holds annotations and docstring: without partial, binding and wrappers."""
    while True:
        if isinstance(function, functools.partial):
            function = function.func
        elif inspect.ismethod(function):
            function = function.__func__
        elif hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        elif not inspect.isroutine(function):
            function = type(function).__call__  # an object that can be called
        else:
            return function


def lacks_self(function: Callable[..., Any]) -> bool:
    """Whether this is a function of a class body that has not been bound to an object."""
    if not inspect.isfunction(function):
        return False
    scope = function.__qualname__.split(".")
    first = next(iter(inspect.signature(function).parameters.values()), None)
    return (
        len(scope) > 1
        and scope[-2] != "<locals>"
        and first is not None
        and first.name == "self"
        and first.annotation is REQUIRED
    )


def read_parameters(function: Callable[..., Any], tool: str) -> list[Parameter]:
    """The parameters that a caller may name, in order.

    Raises ToolDefinitionError for what a JSON object can't express: `*args`, `**kwargs`,
    positional-only parameters, missing or unresolvable annotations.
    """
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError, NameError) as error:
        raise ToolDefinitionError(
            f"tool {tool!r}: its signature can't be read ({error}); wrap it in a typed function",
            tool=tool,
        ) from error
    found = list(signature.parameters.values())
    if lacks_self(function):
        found = found[1:]
    fixed = function.keywords if isinstance(function, functools.partial) else {}
    return [
        Parameter(item.name, _annotation(function, item, tool), item.default)
        for item in found
        if item.name not in fixed
    ]


def _annotation(function: Callable[..., Any], item: inspect.Parameter, tool: str) -> Any:
    problems: dict[object, str] = {
        inspect.Parameter.VAR_POSITIONAL: "takes any number of values; declare one list instead",
        inspect.Parameter.VAR_KEYWORD: "takes any names; declare each parameter, or one dict",
        inspect.Parameter.POSITIONAL_ONLY: "is positional-only; remove the '/' from the signature",
    }
    problem = problems.get(item.kind)
    if problem is None and item.annotation is REQUIRED:
        problem = f"has no type; write for example `{item.name}: str`"
    if problem is None:
        try:
            return _resolve(plain_function(function), item.name, item.annotation)
        except (NameError, AttributeError, TypeError, SyntaxError, ValueError) as error:
            problem = f"has a type that can't be resolved: {item.annotation!r} ({error})"
    raise ToolDefinitionError(
        f"tool {tool!r}: parameter {item.name!r} {problem}", tool=tool, parameter=item.name
    )


def _resolve(function: Callable[..., Any], name: str, annotation: Any) -> Any:
    """The annotation as an object. Names are looked up as Python would: inner scopes first."""

    def holder() -> None: ...

    holder.__annotations__ = {name: annotation}
    global_names = getattr(function, "__globals__", {})
    try:
        names = namespace(function, frames=False)
        return get_type_hints(holder, global_names, names, include_extras=True)[name]
    except NameError:
        names = namespace(function, frames=True)
        return get_type_hints(holder, global_names, names, include_extras=True)[name]


def namespace(function: Callable[..., Any], *, frames: bool) -> dict[str, Any]:
    """The names a function sees besides its module's: its closure, and the scopes it stands in.

    With `from __future__ import annotations` a type that is local to an enclosing function is in
    no closure; it is found in that function's frame, as long as it is still running.
    """
    found: dict[str, Any] = {}
    if frames:
        stack: list[types.FrameType] = []
        frame: types.FrameType | None = sys._getframe(1)
        while frame is not None:
            if _encloses(frame, function):
                stack.append(frame)
            frame = frame.f_back
        for frame in reversed(stack):  # outermost first, so that inner names win
            found.update(frame.f_locals)
    code = getattr(function, "__code__", None)
    cells = getattr(function, "__closure__", None) or ()
    for name, cell in zip(code.co_freevars if code else (), cells, strict=False):
        try:
            found[name] = cell.cell_contents
        except ValueError:
            continue  # not assigned yet
    return found


def _encloses(frame: types.FrameType, function: Callable[..., Any]) -> bool:
    scope = frame.f_code.co_qualname
    qualname = getattr(function, "__qualname__", "")
    return frame.f_globals is getattr(function, "__globals__", None) and (
        qualname.startswith((f"{scope}.<locals>.", f"{scope}."))
    )
