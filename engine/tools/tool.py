"""A tool: a function with a name, a description, a JSON Schema and limits.

Knows raw JSON Schemas and how to call. Does not know signatures or types (`declare` does), nor
how calls are scheduled (`run` does).
"""

from __future__ import annotations

import asyncio
import copy
import hashlib
import inspect
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import partial
from typing import Any, Literal

from engine.errors import ToolArgumentError, ToolDefinitionError, ToolError
from engine.messages import ToolSpec
from engine.tools.identity import code_of, noted_hash
from engine.tools.reference import reference_to
from engine.tools.signature import plain_function

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
TIMEOUT_SECONDS = 60.0
MAX_OUTPUT_BYTES = 64 * 1024
MIN_OUTPUT_BYTES = 256  # room for the note that says how much was cut

Policy = Literal["allow", "ask", "deny"]
POLICIES: tuple[Policy, ...] = ("allow", "ask", "deny")

_Check = Callable[[Mapping[str, Any]], dict[str, Any]]


@dataclass(frozen=True, eq=False, repr=False)
class Tool:
    """A function that a model may call. Made by `tool`, `as_tool` or `Tool.from_schema`.

    `function` None: the caller runs it, and a turn that calls it ends with `tool_use`.
    `timeout_seconds` None means no limit of its own. `return_direct`: the result is the answer,
    and the model is not asked again. `result_converter` makes of the function's value what the
    model is given. `approve` is the tool's own policy, None where a rule of the user or else
    `is_dangerous` (which asks) decides. `is_isolated` runs in a child process, which is given
    the variables `env` of our environment besides the usual ones. `server` is the MCP server
    that it comes from and `remote` its name there, `origin` tells apart two of one name. Calling
    the tool itself calls the plain function.

    `definition_hash` is the SHA-256 in hex of what a consent is bound to: name, description and
    schema, server and origin, what the function runs in and is given, and its code, which is its
    whole file as it was when the tool was made (see `identity`). Where `is_code_known` is false,
    some of that code can't be told apart from other code. `file_hash` is what the file of an
    isolated tool must still be when a child process loads it.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]
    function: Callable[..., Any] | None
    timeout_seconds: float | None = TIMEOUT_SECONDS
    max_output_bytes: int = MAX_OUTPUT_BYTES
    return_direct: bool = False
    is_async: bool = False
    result_converter: Callable[[Any], Any] | None = field(default=None, kw_only=True)
    approve: Policy | None = field(default=None, kw_only=True)
    is_isolated: bool = field(default=False, kw_only=True)
    is_dangerous: bool = field(default=False, kw_only=True)
    env: tuple[str, ...] = field(default=(), kw_only=True)
    server: str = field(default="", kw_only=True)
    origin: str = field(default="", kw_only=True)
    remote: str = field(default="", kw_only=True)
    _check: _Check = field(default=dict, kw_only=True)
    _is_unbound: bool = field(default=False, kw_only=True)
    definition_hash: str = field(init=False)
    is_code_known: bool = field(init=False)
    file_hash: str | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.timeout_seconds is not None and not self.timeout_seconds > 0:
            raise refused(self.name, f"timeout must be above 0 seconds, not {self.timeout_seconds}")
        if self.max_output_bytes < MIN_OUTPUT_BYTES:
            raise refused(
                self.name,
                f"max_output must be {MIN_OUTPUT_BYTES} bytes or more, not {self.max_output_bytes}",
            )
        if self.approve is not None and self.approve not in POLICIES:
            raise refused(
                self.name, f"approve is one of {', '.join(POLICIES)}, not {self.approve!r}"
            )
        if self.function is not None:
            self._take(self.function)
        self._note_definition()

    def _take(self, function: Callable[..., Any]) -> None:
        """Refuse options that don't go with the function; look like it."""
        if self.is_isolated:
            self._check_isolated(function)
        elif self.env:
            raise refused(self.name, "env is for isolated tools; add isolate=True")
        object.__setattr__(self, "__doc__", function.__doc__)
        object.__setattr__(self, "__wrapped__", function)
        for attribute in ("__module__", "__qualname__"):
            value = getattr(plain_function(function), attribute, None)
            object.__setattr__(self, attribute, value)

    def _note_definition(self) -> None:
        """The definition as it is now: by the time of a question the file may be another."""
        code, is_known = ([], True) if self.server else code_of(self.function)
        if self.result_converter is not None:
            converter, is_converter_known = code_of(self.result_converter)
            code, is_known = code + converter, is_known and is_converter_known
        said = [self.name, self.description, self.parameters, self.server, self.origin, self.remote]
        parts = [said, code, self.env, self.is_isolated, self.is_dangerous]
        text = json.dumps(parts, ensure_ascii=True, sort_keys=True, default=str)
        object.__setattr__(self, "definition_hash", hashlib.sha256(text.encode()).hexdigest())
        object.__setattr__(self, "is_code_known", is_known)

    def _check_isolated(self, function: Callable[..., Any]) -> None:
        """Refuse what a child process could not find."""
        try:
            if self._is_unbound:
                raise LookupError("is a method, and its object would not be there")
            file = reference_to(function).file
        except LookupError as error:
            raise refused(
                self.name,
                f"can't run in a process of its own, because it {error.args[0]}; "
                "write it as a function at the top of a file, or leave isolate and dangerous out",
            ) from error
        object.__setattr__(self, "file_hash", noted_hash(function, file))

    @classmethod
    def from_schema(
        cls,
        name: str,
        description: str,
        parameters: Mapping[str, Any],
        function: Callable[..., Any] | None = None,
        *,
        timeout: float | None = TIMEOUT_SECONDS,
        max_output: int = MAX_OUTPUT_BYTES,
        return_direct: bool = False,
        approve: Policy | None = None,
        server: str = "",
        origin: str = "",
        remote: str = "",
    ) -> Tool:
        """A tool whose arguments are described by a JSON Schema instead of by types.

        `function` gets the arguments by keyword, unconverted; without one the caller runs the
        tool (see `Chat.resume`). `call` checks names, required arguments and top-level types;
        anything deeper is left to the grammar and the function.
        """
        check_name(name)
        schema = _raw_schema(name, parameters)
        if function is not None:
            _check_accepts(name, function, schema)
        return cls(
            name=name,
            description=description,
            parameters=schema,
            function=function,
            timeout_seconds=timeout,
            max_output_bytes=max_output,
            return_direct=return_direct,
            is_async=function is not None and is_async(function),
            approve=approve,
            server=server,
            origin=origin,
            remote=remote,
            _check=partial(_check_raw, name, schema),
        )

    @property
    def spec(self) -> ToolSpec:
        """What a model is told of this tool."""
        return ToolSpec(self.name, self.description, self.parameters)

    @property
    def runs_here(self) -> bool:
        """Whether the engine runs it; otherwise its caller does."""
        return self.function is not None

    def check(self, arguments: object) -> dict[str, Any]:
        """Arguments as the function wants them: converted, defaults filled in.

        Raises ToolArgumentError naming every argument at fault.
        """
        if not isinstance(arguments, Mapping):
            problem = f"arguments must be an object, found {type(arguments).__name__}"
            raise ToolArgumentError(
                f"tool {self.name!r}: {problem}", tool=self.name, problems=[problem]
            )
        return self._check(arguments)

    def call(self, arguments: Mapping[str, Any]) -> Any:
        """Check the arguments, run the function, wait for it if it is async, and give its value.

        No timeout, output cap or process of its own here: `run_calls` has them. What the function
        raises is raised. An async tool can't be called so from inside a running event loop.
        """
        value = self._callable()(**self.check(arguments))
        return asyncio.run(_finish(value)) if inspect.isawaitable(value) else value

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._callable()(*args, **kwargs)

    def _callable(self) -> Callable[..., Any]:
        if self.function is None:
            raise ToolError(f"tool {self.name!r} has no function: its caller runs it")
        return self.function

    def __get__(self, instance: object, owner: type | None = None) -> Tool:
        """A tool declared in a class body binds to the object it is taken from."""
        if instance is None or not self._is_unbound:
            return self
        bound = self._callable().__get__(instance, owner)
        return replace(self, function=bound, _is_unbound=False)

    def __repr__(self) -> str:
        return f"<Tool {self.name}({', '.join(self.parameters.get('properties', ()))})>"


def is_async(function: Callable[..., Any]) -> bool:
    """Whether calling it gives a coroutine or an async generator."""
    if not inspect.isroutine(function) and not isinstance(function, partial):
        function = type(function).__call__
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


async def _finish(value: Any) -> Any:
    return await value


def check_name(name: object) -> None:
    """Raise ToolDefinitionError unless models of every family can write this name."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise refused(
            str(name),
            "has a name that models can't write; name= may hold up to 64 of A-Z a-z 0-9 _ . - "
            "and starts with a letter or _",
        )


def refused(name: str, problem: str, parameter: str | None = None) -> ToolDefinitionError:
    """The error for a tool that can't be; to be raised by the caller."""
    data = {} if parameter is None else {"parameter": parameter}
    return ToolDefinitionError(f"tool {name[:80]!r}: {problem}", tool=name, **data)


_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "object": (Mapping,),
    "array": (list, tuple),
    "null": (type(None),),
}


def _raw_schema(name: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(parameters, Mapping):
        raise refused(name, f"its schema must be an object, not {type(parameters).__name__}")
    schema = {"type": "object", "properties": {}} | copy.deepcopy(dict(parameters))
    try:
        json.dumps(schema, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise refused(name, f"its schema is not JSON ({error})") from error
    properties, required = schema["properties"], schema.get("required", [])
    if schema["type"] != "object" or not isinstance(properties, dict):
        raise refused(name, "its schema must have type 'object' and an object of properties")
    for key, value in properties.items():
        if not isinstance(value, dict | bool):
            raise refused(name, f"the schema of {key!r} must be an object", key)
    if not isinstance(required, list) or not all(isinstance(item, str) for item in required):
        raise refused(name, "'required' in its schema must be a list of names")
    return schema


def _check_accepts(name: str, function: Callable[..., Any], schema: Mapping[str, Any]) -> None:
    """Refuse a function that can't be called with what its schema allows."""
    if not callable(function):
        raise refused(name, f"needs a function, not {type(function).__name__}")
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):
        return  # a builtin without a signature: nothing is known of it
    required = schema.get("required", [])
    for names in (dict.fromkeys([*schema["properties"], *required]), dict.fromkeys(required)):
        try:
            signature.bind(**names)
        except TypeError as error:
            raise refused(name, f"schema and function disagree ({error})") from error


def unknown_argument(name: str, known: Iterable[str]) -> str:
    """Say that a tool has no such argument, and what it has."""
    known = list(known)
    close = get_close_matches(name, known, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"it has: {', '.join(known) or 'none'}"
    return f"there is no argument {name[:80]!r}; {hint}"


def _check_raw(
    name: str, schema: Mapping[str, Any], arguments: Mapping[str, Any]
) -> dict[str, Any]:
    properties = schema["properties"]
    problems = [
        f"argument {key!r} is missing" for key in schema.get("required", []) if key not in arguments
    ]
    is_open = schema.get("additionalProperties", True) is not False
    for key, value in arguments.items():
        if key in properties:
            problems += _wrong_type(key, properties[key], value)
        elif not is_open:
            problems.append(unknown_argument(key, properties))
    if problems:
        raise ToolArgumentError(
            f"tool {name!r}: {'; '.join(problems)}", tool=name, problems=problems
        )
    return dict(arguments)


def _wrong_type(key: str, schema: Any, value: Any) -> list[str]:
    wanted = schema.get("type", []) if isinstance(schema, dict) else []
    names = [wanted] if isinstance(wanted, str) else wanted
    allowed = tuple(kind for name in names for kind in _TYPES.get(name, (object,)))
    is_bool_as_number = isinstance(value, bool) and bool not in allowed and object not in allowed
    if not names or (isinstance(value, allowed) and not is_bool_as_number):
        return []
    return [f"argument {key!r} must be {' or '.join(names)}, found {type(value).__name__}"]
