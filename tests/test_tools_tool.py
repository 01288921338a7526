"""What can be a tool: functions, methods, partials, raw schemas; and what is refused by name."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel, Field

from engine.errors import ToolArgumentError, ToolDefinitionError
from engine.messages import ToolSpec
from engine.tools import Tool, as_tool, tool, tools_by_name


@dataclasses.dataclass
class Point:
    x: int


def test_a_tool_carries_name_description_and_limits() -> None:
    @tool(name="weather.now", description="Now.", timeout=5, max_output=1000, return_direct=True)
    def current(city: str) -> str:
        """Not told."""
        return city

    assert current.spec == ToolSpec("weather.now", "Now.", current.parameters)
    assert (current.timeout_seconds, current.max_output_bytes) == (5, 1000)
    assert current.return_direct and not current.is_async
    assert current("서울") == "서울" and current.__doc__ == "Not told."


def test_local_types_are_found_from_inside_a_running_function() -> None:
    class Local(BaseModel):
        n: int

    @dataclasses.dataclass
    class Outer:
        locals: list[Local]

    def take(x: list[Local], y: Outer) -> int:
        return x[0].n + y.locals[0].n

    given = {"x": [{"n": "4"}], "y": {"locals": [{"n": 1}]}}
    assert as_tool(take).call(given) == 5


def test_types_in_a_closure_are_found_after_the_scope_has_ended() -> None:
    def factory() -> Callable[..., Any]:
        class Local(BaseModel):
            n: int

        def take(x: Local) -> bool:
            return isinstance(x, Local)

        return take

    assert as_tool(factory()).call({"x": {"n": 1}}) is True


class Weather:
    def __init__(self, city: str) -> None:
        self.city = city

    def plain(self, day: str) -> str:
        return f"{self.city} {day}"

    @tool
    def declared(self, day: str) -> str:
        return f"{self.city} {day}"

    @staticmethod
    def still(day: str) -> str:
        return day

    @classmethod
    def made(cls, day: str) -> str:
        return f"{cls.__name__} {day}"

    def __call__(self, day: str) -> str:
        return f"called {day}"


@pytest.mark.parametrize(
    "function, name, answer",
    [
        (Weather("서울").plain, "plain", "서울 mon"),
        (Weather("서울").declared, "declared", "서울 mon"),
        (Weather.still, "still", "mon"),
        (Weather.made, "made", "Weather mon"),
        (Weather("x"), "Weather", "called mon"),
        (functools.partial(Weather("서울").plain), "plain", "서울 mon"),
    ],
)
def test_bound_things_are_tools_without_self(function: Any, name: str, answer: str) -> None:
    made = as_tool(function)
    assert made.name == name
    assert list(made.parameters["properties"]) == ["day"]
    assert made.call({"day": "mon"}) == answer


def test_what_a_partial_fixes_is_no_parameter() -> None:
    def add(a: int, b: int, c: int) -> int:
        return a * 100 + b * 10 + c

    made = as_tool(functools.partial(add, 1, c=3))
    assert list(made.parameters["properties"]) == ["b"]
    assert made.call({"b": 2}) == 123


def test_async_functions_are_awaited() -> None:
    async def double(n: int) -> int:
        return 2 * n

    made = as_tool(double)
    assert made.is_async and made.call({"n": "4"}) == 8


def test_a_wrapped_function_keeps_its_types() -> None:
    def logged(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return ["logged", function(*args, **kwargs)]

        return wrapper

    @tool
    @logged
    def double(point: Point) -> int:
        return 2 * point.x

    assert double.call({"point": {"x": 2}}) == ["logged", 4]


class Opaque:
    pass


def refusals() -> list[tuple[Any, str | None, str]]:
    def stars(*x: int) -> None: ...
    def names(**x: int) -> None: ...
    def positional(x: int, /) -> None: ...
    def untyped(a: int, x) -> None: ...  # type: ignore[no-untyped-def]
    def callback(x: Callable[[int], int]) -> None: ...
    def maybe(x: Callable[[int], int] | None = None) -> None: ...
    def opaque(a: int, x: list[Opaque]) -> None: ...
    def kind(x: type) -> None: ...
    def unknown(x: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821
    def alias(x: int = Field(1, alias="y")) -> None: ...
    def 날씨(x: int) -> None: ...  # noqa: PLC2401

    return [
        (stars, "x", "declare one list"),
        (names, "x", "one dict"),
        (positional, "x", "remove the '/'"),
        (untyped, "x", "has no type"),
        (callback, "x", "no JSON form"),
        (maybe, "x", "no JSON form"),
        (opaque, "x", "Opaque"),
        (kind, "x", "no JSON form"),
        (unknown, "x", "'Nowhere'"),
        (alias, "x", "rename it"),
        (날씨, None, "name="),
        (lambda: 1, None, "name="),
        (Opaque, None, "is not a function"),
        (5, None, "is not a function"),
        (len, "obj", "remove the '/'"),
        (Weather.plain, None, "take it from an object"),
        (Weather.declared, None, "take it from an object"),
    ]


@pytest.mark.parametrize("function, parameter, words", refusals())
def test_what_no_model_could_call_is_refused_by_name(
    function: Any, parameter: str | None, words: str
) -> None:
    with pytest.raises(ToolDefinitionError) as raised:
        as_tool(function)
    assert words in raised.value.message and "\n" not in raised.value.message
    assert raised.value.data.get("parameter") == parameter
    assert f"tool {raised.value.tool!r}" in raised.value.message
    assert raised.value.exit_code == 6


@pytest.mark.parametrize("name", ["", "a b", "1a", "a" * 65, "a/b", "<|eot_id|>", "a\n", "글"])
def test_names_that_some_family_cannot_write_are_refused(name: str) -> None:
    with pytest.raises(ToolDefinitionError):
        tool(name=name)(Weather.still)
    with pytest.raises(ToolDefinitionError):
        Tool.from_schema(name, "", {}, Weather.still)


@pytest.mark.parametrize(
    "options", [{"timeout": 0}, {"timeout": -1}, {"timeout": float("nan")}, {"max_output": 10}]
)
def test_impossible_limits_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ToolDefinitionError):
        tool(**options)(Weather.still)


def test_declaring_twice_is_refused() -> None:
    with pytest.raises(ToolDefinitionError, match="already"):
        tool(tool(Weather.still))


# --- several tools


def test_two_tools_of_one_name_are_refused() -> None:
    with pytest.raises(ToolDefinitionError, match="declared twice"):
        tools_by_name([Weather.still, tool(name="still")(Weather.made)])


def test_one_bad_tool_among_fifty_leaves_forty_nine() -> None:
    def bad(x: Opaque) -> None: ...

    good = [tool(name=f"tool_{n}")(Weather.still) for n in range(49)]
    reported: list[ToolDefinitionError] = []
    found = tools_by_name([*good[:20], bad, *good[20:]], on_refused=reported.append)
    assert list(found) == [made.name for made in good]
    assert [error.tool for error in reported] == ["bad"]


# --- raw schemas


RAW = {
    "properties": {"city": {"type": "string"}, "days": {"type": ["integer", "null"]}},
    "required": ["city"],
    "additionalProperties": False,
}


def test_a_raw_schema_is_told_as_it_is_and_its_arguments_are_checked() -> None:
    def forecast(city: str, days: int | None = None) -> str:
        return f"{city} {days}"

    made = Tool.from_schema("forecast", "Weather to come.", RAW, forecast)
    assert made.parameters == {"type": "object"} | RAW
    assert made.call({"city": "서울", "days": 3}) == "서울 3"
    for given, words in [
        ({}, "'city' is missing"),
        ({"city": 5}, "'city' must be string, found int"),
        ({"city": "a", "days": True}, "must be integer or null, found bool"),
        ({"city": "a", "dys": 1}, "did you mean 'days'"),
    ]:
        with pytest.raises(ToolArgumentError, match=words):
            made.check(given)


@pytest.mark.parametrize(
    "schema, words",
    [
        ([], "must be an object"),
        ({"type": "array"}, "type 'object'"),
        ({"properties": []}, "type 'object'"),
        ({"properties": {"a": "string"}}, "'a'"),
        ({"required": "a"}, "'required'"),
        ({"properties": {"a": {"default": float("nan")}}}, "not JSON"),
        ({"properties": {"a": {"default": {1, 2}}}}, "not JSON"),
        ({"properties": {"b": {}}, "required": ["b"]}, "disagree"),
        ({"properties": {"a": {}}}, "disagree"),
    ],
)
def test_a_raw_schema_that_cannot_work_is_refused(schema: Any, words: str) -> None:
    def take(a: int) -> None: ...

    with pytest.raises(ToolDefinitionError, match=words):
        Tool.from_schema("take", "", schema, take)
