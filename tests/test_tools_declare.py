"""Declaring tools: schemas from signatures, arguments checked and converted, bad types refused.

The independent truth for "schema and check agree" is the jsonschema library.
"""

from __future__ import annotations

import dataclasses
import enum
import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, Optional, TypedDict

import jsonschema
import pytest
from pydantic import BaseModel, Field

from engine.errors import ToolArgumentError
from engine.tools import Tool, as_tool
from engine.tools.schema import MAX_INLINED_NODES


class Unit(enum.Enum):
    CELSIUS = "celsius"
    FAHRENHEIT = "fahrenheit"


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0
    tags: list[str] = dataclasses.field(default_factory=list)


class Address(TypedDict):
    street: Annotated[str, "Street and number"]
    zip: NotRequired[str]


class Person(BaseModel):
    title: str
    home: Point
    age: int = Field(ge=0, le=150)


class Tree(BaseModel):
    value: int
    children: list[Tree] = []


class Anything(BaseModel, extra="allow"):
    x: int


def schema_of(hint: Any, *default: Any) -> dict[str, Any]:
    """The schema of one parameter of this type."""

    def function(x: Any) -> None: ...

    function.__annotations__["x"] = hint
    function.__defaults__ = default or None
    made = dict(as_tool(function).parameters)
    assert made["additionalProperties"] is False
    assert ("x" in made.get("required", [])) == (not default)
    return made["properties"]["x"]


# --- schemas

POINT = {
    "type": "object",
    "properties": {
        "x": {"type": "integer"},
        "y": {"type": "integer", "default": 0},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["x"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    "hint, schema",
    [
        (str, {"type": "string"}),
        (int, {"type": "integer"}),
        (float, {"type": "number"}),
        (bool, {"type": "boolean"}),
        (None, {"type": "null"}),
        (Any, {}),
        (list[int], {"type": "array", "items": {"type": "integer"}}),
        (set[str], {"type": "array", "items": {"type": "string"}}),
        (dict[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}),
        (
            dict[Literal["a", "b"], int],
            {
                "type": "object",
                "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
                "additionalProperties": False,
            },
        ),
        (tuple[int, ...], {"type": "array", "items": {"type": "integer"}}),
        (Literal["a", "b"], {"type": "string", "enum": ["a", "b"]}),
        (Unit, {"type": "string", "enum": ["celsius", "fahrenheit"]}),
        (Optional[int], {"type": ["integer", "null"]}),  # noqa: UP045
        (Literal["a", "b"] | None, {"type": ["string", "null"], "enum": ["a", "b", None]}),
        (int | str, {"anyOf": [{"type": "integer"}, {"type": "string"}]}),
        (Annotated[int, "How many"], {"type": "integer", "description": "How many"}),
        (Annotated[int, Field(ge=1, le=9)], {"type": "integer", "minimum": 1, "maximum": 9}),
        (
            Annotated[str, Field(pattern="^a+$", max_length=3), "Some a"],
            {"type": "string", "description": "Some a", "pattern": "^a+$", "maxLength": 3},
        ),
        (
            list[Annotated[str, "City"]],
            {"type": "array", "items": {"type": "string", "description": "City"}},
        ),
        (date, {"type": "string", "format": "date"}),
        (Path, {"type": "string"}),
        (Decimal, {"type": "number"}),
        (Point, POINT),
        (
            Person,
            {
                "type": "object",
                "properties": {
                    "title": {"type": "string"},
                    "home": POINT,
                    "age": {"type": "integer", "minimum": 0, "maximum": 150},
                },
                "required": ["title", "home", "age"],
                "additionalProperties": False,
            },
        ),
        (
            Address,
            {
                "type": "object",
                "properties": {
                    "street": {"type": "string", "description": "Street and number"},
                    "zip": {"type": "string"},
                },
                "required": ["street"],
                "additionalProperties": False,
            },
        ),
    ],
    ids=str,
)
def test_a_type_has_one_clean_schema(hint: Any, schema: dict[str, Any]) -> None:
    assert schema_of(hint) == schema


@pytest.mark.parametrize(
    "hint, default, schema",
    [
        (int, 5, {"type": "integer", "default": 5}),
        (int, None, {"type": ["integer", "null"], "default": None}),
        (Unit, Unit.CELSIUS, schema_of(Unit) | {"default": "celsius"}),
        (list[int], [1], schema_of(list[int]) | {"default": [1]}),
        (Point, Point(1), schema_of(Point) | {"default": {"x": 1, "y": 0, "tags": []}}),
        (int, Field(3, ge=1, description="n"), {"type": "integer", "description": "n",
                                                "default": 3, "minimum": 1}),
    ],
    ids=str,
)  # fmt: skip
def test_defaults_are_told_and_make_a_parameter_optional(
    hint: Any, default: Any, schema: dict[str, Any]
) -> None:
    assert schema_of(hint, default) == schema


def test_recursion_alone_needs_definitions() -> None:
    def grow(tree: Tree, other: Point) -> None: ...

    parameters = as_tool(grow).parameters
    assert list(parameters["$defs"]) == ["Tree"]
    assert parameters["properties"]["tree"] == {"$ref": "#/$defs/Tree"}
    assert "$ref" not in parameters["properties"]["other"]
    jsonschema.validate(
        {"tree": {"value": 1, "children": [{"value": 2}]}, "other": {"x": 1}}, parameters
    )
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"tree": {"value": 1, "children": [{}]}, "other": {"x": 1}}, parameters)


def test_definitions_that_would_double_at_each_level_are_shared() -> None:
    level: Any = Point
    for depth in range(30):
        level = dataclasses.make_dataclass(f"Level{depth}", [("a", level), ("b", level)])
    text = json.dumps(schema_of(level) and as_tool_of(level).parameters)
    assert len(text) < 100 * MAX_INLINED_NODES


def as_tool_of(hint: Any) -> Tool:
    def function(x: Any) -> None: ...

    function.__annotations__["x"] = hint
    return as_tool(function)


def test_parameters_keep_their_order_and_any_name_will_do() -> None:
    def odd(zulu: int, schema: str, copy: int, _id: int, model_config: str, json: int = 0) -> Any:
        return [zulu, schema, copy, _id, model_config, json]

    made = as_tool(odd)
    names = ["zulu", "schema", "copy", "_id", "model_config", "json"]
    assert list(made.parameters["properties"]) == names
    assert made.parameters["required"] == names[:-1]
    given = {"zulu": 1, "schema": "s", "copy": 2, "_id": 3, "model_config": "m"}
    assert made.call(given) == [1, "s", 2, 3, "m", 0]


def test_a_property_called_title_is_not_noise() -> None:
    def name(title: str, properties: dict[str, str], required: bool) -> None: ...

    properties = as_tool(name).parameters["properties"]
    assert list(properties) == ["title", "properties", "required"]
    assert "title" not in properties["title"]


def test_a_function_without_parameters_takes_an_empty_object() -> None:
    def now() -> str:
        return "now"

    made = as_tool(now)
    assert made.parameters == {"type": "object", "properties": {}, "additionalProperties": False}
    assert made.call({}) == "now"


# --- docstrings


def test_descriptions_in_annotations_win_over_the_docstring() -> None:
    def find(a: Annotated[int, "From the type"], b: int, c: int = Field(1, description="F")) -> int:
        """Find.

        Args:
            a: From the docstring.
            b: From the docstring.
            c: From the docstring.
        """
        return a

    properties = as_tool(find).parameters["properties"]
    said = [properties[name]["description"] for name in "abc"]
    assert said == ["From the type", "From the docstring.", "F"]


# --- checking arguments


def convert(hint: Any, value: Any) -> Any:
    return as_tool_of(hint).check({"x": value})["x"]


@pytest.mark.parametrize(
    "hint, value, converted",
    [
        (int, "5", 5),
        (int, 5.0, 5),
        (float, "2.5", 2.5),
        (bool, "true", True),
        (str, "5", "5"),
        (int | str, "5", "5"),
        (int | None, None, None),
        (Unit, "celsius", Unit.CELSIUS),
        (set[int], [1, "1", 2], {1, 2}),
        (tuple[int, str], ["1", "a"], (1, "a")),
        (Point, {"x": "3"}, Point(3)),
        (Address, {"street": "강남대로 1"}, {"street": "강남대로 1"}),
        (dict[str, list[Point]], {"a": [{"x": 1}]}, {"a": [Point(1)]}),
        (date, "2024-02-29", date(2024, 2, 29)),
        (Path, "a/b", Path("a/b")),
        (Anything, {"x": 1, "y": 2}, Anything(x=1, y=2)),
    ],
    ids=str,
)
def test_arguments_become_what_the_type_says(hint: Any, value: Any, converted: Any) -> None:
    found = convert(hint, value)
    assert found == converted and type(found) is type(converted)


@pytest.mark.parametrize(
    "hint, value, place",
    [
        (int, "five", "'x'"),
        (int, 2.5, "'x'"),
        (float, float("nan"), "'x'"),
        (str, 5, "'x'"),
        (Unit, "kelvin", "'x'"),
        (list[int], [1, "b"], "'x[1]'"),
        (dict[str, Point], {"a": {"x": 1}, "b": {}}, "'x.b.x' is missing"),
        (Point, {"x": 1, "z": 2}, "'x.z'"),
        (Person, {"title": "a", "home": {"x": "b"}, "age": 3}, "'x.home.x'"),
        (Person, {"title": "a", "home": {"x": 1}, "age": 3, "zz": 1}, "'x.zz'"),
        (tuple[int, str], [1], "'x[1]' is missing"),
        (int | list[int], ["a"], "'x[0]'"),
        (Annotated[int, Field(le=3)], 4, "'x'"),
    ],
    ids=str,
)
def test_a_wrong_argument_is_named_with_its_place(hint: Any, value: Any, place: str) -> None:
    made = as_tool_of(hint)
    with pytest.raises(ToolArgumentError) as raised:
        made.check({"x": value})
    assert raised.value.tool == "function"
    assert any(place in problem for problem in raised.value.problems)
    assert "\n" not in raised.value.message
    assert raised.value.exit_code == 6


def test_missing_and_unknown_arguments_are_all_listed() -> None:
    def find(city: str, limit: int) -> None: ...

    with pytest.raises(ToolArgumentError) as raised:
        as_tool(find).check({"cty": "x", "zz": 1})
    assert raised.value.problems == [
        "argument 'city' is missing",
        "argument 'limit' is missing",
        "there is no argument 'cty'; did you mean 'city'?",
        "there is no argument 'zz'; it has: city, limit",
    ]


@pytest.mark.parametrize("given", [None, [], "x", 5])
def test_arguments_must_be_an_object(given: Any) -> None:
    with pytest.raises(ToolArgumentError, match="must be an object"):
        as_tool_of(int).check(given)


def test_problems_and_the_values_in_them_are_bounded() -> None:
    with pytest.raises(ToolArgumentError) as raised:
        as_tool_of(list[int]).check({"x": ["y" * 10_000] * 1000})
    assert len(raised.value.message) < 3000
    assert raised.value.problems[-1] == "and 992 more"


def test_a_mutable_default_is_not_shared_between_calls() -> None:
    def collect(items: list[int] = []) -> list[int]:  # noqa: B006
        items.append(1)
        return items

    made = as_tool(collect)
    assert [made.call({}), made.call({})] == [[1], [1]]


SAMPLES = [None, True, 0, 5, -1, 2.5, "", "a", "b", "celsius", [], [1], ["a"], [1, "a"], {},
           {"x": 1}, {"x": "a"}, {"x": 1, "z": 1}, {"street": "s"}, {"street": 1},
           {"value": 1, "children": []}, {"value": 1, "children": [{}]}, {"a": [1]}]  # fmt: skip


@pytest.mark.parametrize(
    "hint",
    [str, int, float, bool, Any, Unit, Point, Address, Tree, Anything, Literal["a"], int | str,
     Point | None, list[int], set[int], tuple[int, str], dict[str, list[int]],
     Annotated[int, Field(ge=0)] | None, Annotated[str, Field(max_length=1)]],
    ids=str,
)  # fmt: skip
def test_what_the_schema_accepts_the_check_accepts(hint: Any) -> None:
    """The mask lets through what the schema accepts: none of it may fail afterwards."""
    made = as_tool_of(hint)
    validator = jsonschema.Draft202012Validator(dict(made.parameters))
    accepted = [value for value in SAMPLES if validator.is_valid({"x": value})]
    assert accepted
    for value in accepted:
        made.check({"x": value})
