"""From a function's types to the JSON Schema of its arguments, and to their check.

Knows annotations and Pydantic (nothing else imports it). Does not know tools: it is told a name
for its errors.
"""

from __future__ import annotations

import reprlib
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from engine.errors import ToolArgumentError
from engine.tools import schema as json_schema
from engine.tools.signature import REQUIRED, Parameter, namespace, plain_function, read_parameters
from engine.tools.tool import refused, unknown_argument

__all__ = ["Field", "read_arguments"]

MAX_PROBLEMS = 8
_SUPPORTED = (
    "str, int, float, bool, None, Literal, Enum, list, tuple, set, dict, a dataclass, "
    "a TypedDict or a Pydantic model"
)
_DIGITS = "^-?(?:0|[1-9][0-9]*)$"


def read_arguments(
    name: str, function: Callable[..., Any], descriptions: Mapping[str, str]
) -> tuple[dict[str, Any], Callable[[Mapping[str, Any]], dict[str, Any]]]:
    """The schema of a function's arguments, and what checks and converts them.

    `descriptions` are those of its docstring. Raises ToolDefinitionError naming the tool and the
    parameter to blame; the check raises ToolArgumentError.
    """
    parameters = read_parameters(function, name)
    fields = {
        f"p{index}": _field(name, item, descriptions.get(item.name))
        for index, item in enumerate(parameters)
    }
    model, schema = _model(name, parameters, fields, plain_function(function))
    # The schema closes nested objects too; only a model that asks for more names keeps them.
    extra: Literal["forbid"] | None = None if json_schema.has_open_object(schema) else "forbid"
    names = [item.name for item in parameters]
    return json_schema.clean(schema), partial(_check, name, model, names, extra)


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

    def dict_schema(self, schema: Any) -> JsonSchemaValue:
        # Keys are text in JSON: which text is said here, or the mask allows what the check refuses.
        made = super().dict_schema(schema)
        keys = self.generate_inner(schema["keys_schema"]) if "keys_schema" in schema else {}
        keys = (self.get_schema_from_definitions(keys["$ref"]) if "$ref" in keys else keys) or {}
        if keys == {"type": "integer"}:
            values = made.pop("additionalProperties", True)
            return made | {"patternProperties": {_DIGITS: values}, "additionalProperties": False}
        listed = keys.get("enum", [keys["const"]] if "const" in keys else [])
        if keys.get("type", "string") != "string" or not all(isinstance(v, str) for v in listed):
            raise TypeError("keys of objects are text: use str, int or Literal for them")
        return made

    def enum_schema(self, schema: Any) -> JsonSchemaValue:
        _check_members([(member, member.value) for member in schema["members"]])
        return super().enum_schema(schema)

    def literal_schema(self, schema: Any) -> JsonSchemaValue:
        _check_members([(member, member) for member in schema["expected"]])
        return super().literal_schema(schema)

    def is_subclass_schema(self, schema: Any) -> JsonSchemaValue:
        raise TypeError("a class can't be written in JSON")

    def complex_schema(self, schema: Any) -> JsonSchemaValue:
        raise TypeError("a complex number can't be written in JSON")

    def generator_schema(self, schema: Any) -> JsonSchemaValue:
        raise TypeError("its items would be checked only when the tool reads them: use list")


def _check_members(members: Iterable[tuple[object, object]]) -> None:
    """Refuse an Enum or Literal with a member that no JSON value is equal to."""
    for member, value in members:
        if value is not None and not isinstance(value, str | int | float):
            raise TypeError(f"its member {member!r} is no text, number, boolean or None")


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
        found = [text for text in map(_said, hint.__metadata__) if text]
        return found[-1] if found else _description(hint.__origin__)
    if hasattr(hint, "__value__"):  # type City = Annotated[str, "Its name"]
        return _description(hint.__value__)
    if get_origin(hint) in (Union, types.UnionType):
        return next((text for text in map(_description, get_args(hint)) if text), None)
    return None


def _said(note: Any) -> str | None:
    """The description in an item of `Annotated`: a text, a Field, or a typing_extensions.Doc."""
    if isinstance(note, str):
        return note
    said = getattr(note, "description", None) or getattr(note, "documentation", None)
    return said if isinstance(said, str) else None


def _allows_none(hint: Any) -> bool:
    if hasattr(hint, "__value__"):
        return _allows_none(hint.__value__)
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
            Field(description=_said(item)) if _is_doc(item) else item for item in hint.__metadata__
        ]
        return Annotated[(_rebuilt(hint.__origin__, inside), *notes)]
    if not args or origin is Literal:
        return hint
    if origin is Iterable:  # Pydantic checks its items one by one, when the tool reads them
        return list[_rebuilt(args[0], inside)]  # type: ignore[misc]
    new = tuple(item if isinstance(item, list) else _rebuilt(item, inside) for item in args)
    if new == args:
        return hint
    if origin in (Union, types.UnionType):
        return Union[new]  # noqa: UP007
    return hint.copy_with(new) if hasattr(hint, "copy_with") else origin[new]


def _is_doc(note: Any) -> bool:
    return isinstance(note, str) or type(note).__name__ == "Doc"


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
                    f"({_reason(cause)}); use {_SUPPORTED}",
                    item.name,
                ) from cause
        raise refused(tool_name, f"no schema can be made for it ({error})") from error


def _reason(cause: Exception) -> str:
    """Pydantic's reason without its remedies, which are for those who write models."""
    return str(cause).splitlines()[0].partition(". Set `")[0][:200]


def _build(
    fields: Mapping[str, tuple[Any, Any]], function: Callable[..., Any]
) -> tuple[type[BaseModel], dict[str, Any]]:
    config = ConfigDict(extra="forbid", allow_inf_nan=False)
    definitions: dict[str, Any] = dict(fields)
    model: type[BaseModel] = create_model("Arguments", __config__=config, **definitions)
    model.model_rebuild(_types_namespace=namespace(function, frames=True))
    if model.model_fields.keys() != fields.keys():
        raise TypeError("ClassVar and Final are for classes")
    schema = model.model_json_schema(schema_generator=_Schema)
    if "properties" not in schema:
        raise TypeError("Self is for classes")
    return model, schema


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
