"""Make a tool from a typed function: its schema, and the check of its arguments.

Knows signatures, docstrings and Pydantic (nothing else imports it). Does not know models, turns
or how calls are scheduled.
"""

from __future__ import annotations

import reprlib
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal, Union, get_args, get_origin, overload

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from engine.errors import ToolArgumentError, ToolDefinitionError
from engine.tools import schema as json_schema
from engine.tools.docstring import parse
from engine.tools.signature import (
    REQUIRED,
    Parameter,
    lacks_self,
    namespace,
    plain_function,
    read_parameters,
)
from engine.tools.tool import (
    MAX_OUTPUT_BYTES,
    TIMEOUT_SECONDS,
    Policy,
    Tool,
    check_name,
    is_async,
    refused,
    unknown_argument,
)

__all__ = ["Field", "Tool", "as_tool", "tool", "tools_by_name"]

MAX_PROBLEMS = 8
_SUPPORTED = (
    "str, int, float, bool, None, Literal, Enum, list, tuple, set, dict, a dataclass, "
    "a TypedDict or a Pydantic model"
)


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
    parameters = read_parameters(function, name)
    fields = {
        f"p{index}": _field(name, item, docstring.arguments.get(item.name))
        for index, item in enumerate(parameters)
    }
    model, schema = _model(name, parameters, fields, plain)
    # The schema closes nested objects too; only a model that asks for more names keeps them.
    extra: Literal["forbid"] | None = None if json_schema.has_open_object(schema) else "forbid"
    return Tool(
        name=name,
        description=docstring.summary if description is None else description,
        parameters=json_schema.clean(schema),
        function=function,
        is_async=is_async(function),
        _check=partial(_check, name, model, [item.name for item in parameters], extra),
        _is_unbound=lacks_self(function),
        **options,
    )


def _name_of(function: Any) -> str:
    named = function.func if isinstance(function, partial) else function
    return str(getattr(named, "__name__", type(function).__name__))


class _Schema(GenerateJsonSchema):
    """Pydantic's generator, made to fail where it would leave something out with a warning."""

    def emit_warning(self, kind: Any, detail: str) -> None:
        if kind == "skipped-choice":
            raise TypeError(detail)

    def decimal_schema(self, schema: Any) -> JsonSchemaValue:
        # Its other choice is a string with a look-ahead pattern, which grammars can't enforce.
        made = super().decimal_schema(schema)
        number: JsonSchemaValue = made["anyOf"][0] if "anyOf" in made else made
        return number


def _field(tool_name: str, item: Parameter, described: str | None) -> tuple[Any, Any]:
    """A Pydantic field for one parameter: (annotation, default).

    The field's own name is neutral and the parameter's name its alias: `schema`, `copy` or `_id`
    are fine names for a parameter and not for a field.
    """
    default = ... if item.default is REQUIRED else item.default
    given = default.default if isinstance(default, FieldInfo) else default
    if isinstance(default, FieldInfo) and (default.alias or default.validation_alias):
        raise refused(
            tool_name, f"parameter {item.name!r} has an alias; rename it instead", item.name
        )
    try:
        hint = _rebuilt(item.annotation)
    except (NameError, TypeError, RecursionError) as error:  # typed dicts, before Python 3.12
        problem = f"parameter {item.name!r} has a type that can't be resolved ({error})"
        raise refused(tool_name, problem, item.name) from error
    description = _description(hint) or described
    if given is None and not _allows_none(hint):
        hint = Union[hint, None]  # noqa: UP007  `hint | None` fails for some hints
    return Annotated[hint, Field(alias=item.name, description=description)], default


def _description(hint: Any) -> str | None:
    if get_origin(hint) is Annotated:
        found = [
            item.description for item in hint.__metadata__ if getattr(item, "description", None)
        ]
        return found[-1] if found else _description(hint.__origin__)
    if get_origin(hint) in (Union, types.UnionType):
        return next((text for text in map(_description, get_args(hint)) if text), None)
    return None


def _allows_none(hint: Any) -> bool:
    if get_origin(hint) is Annotated:
        return _allows_none(hint.__origin__)
    if get_origin(hint) in (Union, types.UnionType, Literal):
        return any(_allows_none(item) for item in get_args(hint))
    return hint in (None, type(None), Any, object)


def _rebuilt(hint: Any, inside: tuple[Any, ...] = ()) -> Any:
    """The hint with plain strings in `Annotated` as descriptions, in nested places too.

    `inside` are the typed dicts around it: one that contains itself is left alone there.
    """
    if typing.is_typeddict(hint):
        return hint if hint in inside else _typed_dict(hint, (*inside, hint))
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        notes = [
            Field(description=item) if isinstance(item, str) else item for item in hint.__metadata__
        ]
        return Annotated[(_rebuilt(hint.__origin__, inside), *notes)]
    if not args or origin is Literal:
        return hint
    new = tuple(item if isinstance(item, list) else _rebuilt(item, inside) for item in args)
    if new == args:
        return hint
    if origin in (Union, types.UnionType):
        return Union[new]  # noqa: UP007
    return hint.copy_with(new) if hasattr(hint, "copy_with") else origin[new]


def _typed_dict(hint: Any, inside: tuple[Any, ...]) -> Any:
    """A copy with its fields rebuilt, of the kind that Pydantic takes on this Python."""
    make: Any = typing.TypedDict
    if sys.version_info < (3, 12):
        import typing_extensions  # comes with Pydantic, which asks for it

        make = typing_extensions.TypedDict
    fields = {}
    for key, value in typing.get_type_hints(hint, include_extras=True).items():
        # A mark counts before `__required_keys__`, which can't see marks in string annotations.
        mark: Any = typing.Required if key in hint.__required_keys__ else typing.NotRequired
        inner = value
        if get_origin(value) in (typing.Required, typing.NotRequired):
            mark, inner = get_origin(value), get_args(value)[0]
        fields[key] = mark[_rebuilt(inner, inside)]
    made = make(hint.__name__, fields)
    made.__doc__, made.__module__ = hint.__doc__, hint.__module__
    return made


def _model(
    tool_name: str,
    parameters: Sequence[Parameter],
    fields: Mapping[str, tuple[Any, Any]],
    function: Callable[..., Any],
) -> tuple[type[BaseModel], dict[str, Any]]:
    """The model that checks the arguments, and its JSON Schema.

    Raises ToolDefinitionError naming the first parameter whose type can't be used.
    """
    try:
        return _build(fields, function)
    except Exception as error:  # Pydantic and users' own type hooks raise many kinds
        for item, key in zip(parameters, fields, strict=True):
            try:
                _build({key: fields[key]}, function)
            except Exception as cause:
                is_class = isinstance(item.annotation, type) and not get_args(item.annotation)
                kind = item.annotation.__qualname__ if is_class else str(item.annotation)
                raise refused(
                    tool_name,
                    f"parameter {item.name!r} has type {kind}, which has no JSON form "
                    f"({str(cause).splitlines()[0][:200]}); use {_SUPPORTED}",
                    item.name,
                ) from cause
        raise refused(tool_name, f"no schema can be made for it ({error})") from error


def _build(
    fields: Mapping[str, tuple[Any, Any]], function: Callable[..., Any]
) -> tuple[type[BaseModel], dict[str, Any]]:
    config = ConfigDict(extra="forbid", allow_inf_nan=False)
    definitions: dict[str, Any] = dict(fields)
    model: type[BaseModel] = create_model("Arguments", __config__=config, **definitions)
    model.model_rebuild(_types_namespace=namespace(function, frames=True))
    return model, model.model_json_schema(schema_generator=_Schema)


def _check(
    tool_name: str,
    model: type[BaseModel],
    names: Sequence[str],
    extra: Literal["forbid"] | None,
    arguments: Mapping[str, Any],
) -> dict[str, Any]:
    try:
        checked = model.model_validate(dict(arguments), extra=extra)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False)
        problems = [_problem(item, arguments, names) for item in found[:MAX_PROBLEMS]]
        if len(found) > MAX_PROBLEMS:
            problems.append(f"and {len(found) - MAX_PROBLEMS} more")
        raise ToolArgumentError(
            f"tool {tool_name!r}: {'; '.join(problems)}", tool=tool_name, problems=problems
        ) from error
    return {name: getattr(checked, f"p{index}") for index, name in enumerate(names)}


def _problem(error: Any, arguments: Any, names: Sequence[str]) -> str:
    """One line for one of Pydantic's errors, with the place as the model wrote it."""
    place, value = "", arguments
    for index, part in enumerate(error["loc"]):
        is_absent = error["type"] == "missing" and index + 1 == len(error["loc"])
        if isinstance(value, Mapping) and (part in value or is_absent):
            place += f".{part}" if place else str(part)
            value = value.get(part)
        elif isinstance(value, list | tuple) and isinstance(part, int):
            place += f"[{part}]"
            value = value[part] if part < len(value) else None
        # Any other part names a branch of a union, which means nothing to the caller.
    if error["type"] == "missing":
        return f"argument {place!r} is missing"
    if error["type"] == "extra_forbidden" and place in arguments:
        return unknown_argument(place, names)
    return f"argument {place[:80]!r}: {error['msg'][:300]} (found {reprlib.repr(error['input'])})"
