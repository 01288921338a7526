"""Every type that people annotate tools with has a schema, or is refused with its parameter.

A schema is valid, can be enforced by the mask, and what it accepts the check takes and converts.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import json
import os
import subprocess
import sys
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import (
    Annotated,
    Any,
    ClassVar,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    NotRequired,
    Optional,
    Required,
    Self,
    TypeAlias,
    TypeVar,
)

import annotated_types as at
import jsonschema
import pytest
import typing_extensions as te
from pydantic import BaseModel, Field

from engine.errors import ToolArgumentError, ToolDefinitionError
from engine.grammar import Grammar
from engine.tools import Tool, as_tool


class Number(enum.Enum):
    ONE = 1
    TWO = 2


class Mixed(enum.Enum):
    TEXT = "b"
    NOTHING = None
    HALF = 2.5


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Colour(enum.Enum):
    RED = (255, 0)


class Tight(te.TypedDict, total=False):
    a: Required[int]
    b: Annotated[str, "bee"]


class Loose(te.TypedDict):
    a: int
    b: NotRequired[str]


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"]
    name: str


class Node(BaseModel):
    value: int
    next: Optional[Node] = None  # noqa: UP045


@dataclasses.dataclass
class Branch:
    value: int
    twigs: list[Branch] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(kw_only=True)
class Named:
    a: int
    inner: Cat = dataclasses.field(default_factory=lambda: Cat(kind="cat"))


class Pair(NamedTuple):
    left: int
    right: str = "r"


class Aliased(BaseModel):
    start: int = Field(alias="from")


T = TypeVar("T")


class Box(BaseModel, Generic[T]):
    item: T


class Plain:
    pass


@dataclasses.dataclass
class HoldsPlain:
    plain: Callable[[], int]


UserId = NewType("UserId", int)
Ids: TypeAlias = "list[UserId]"
Words = te.TypeAliasType("Words", list[str])
City = te.TypeAliasType("City", Annotated[str, "Name of a city"])
Maybe = te.TypeAliasType("Maybe", "int | None")
Nested = te.TypeAliasType("Nested", "dict[str, Nested] | int")


def tool_of(hint: Any, *default: Any) -> Tool:
    def function(x: Any) -> None: ...

    function.__annotations__["x"] = hint
    function.__defaults__ = default or None
    return as_tool(function)


UTC = datetime.UTC
KINDS: list[tuple[Any, list[tuple[Any, Any]], list[Any]]] = [
    # type, [(what a model writes, what the tool gets)], what is refused
    (Number, [(1, Number.ONE)], [3, "1x"]),
    (Mixed, [("b", Mixed.TEXT), (None, Mixed.NOTHING), (2.5, Mixed.HALF)], ["c"]),
    (Level, [(2, Level.HIGH)], [3]),
    (Literal[1, "a", None, True], [(1, 1), ("a", "a"), (None, None)], ["b", 2]),
    (UserId, [(5, 5)], ["x"]),
    (Ids, [([5], [5])], [["x"]]),
    (Words, [(["a"], ["a"])], [[1]]),
    (City, [("서울", "서울")], [1]),
    (Maybe, [(None, None), (1, 1)], ["x"]),
    (Nested, [({"a": {"b": 1}}, {"a": {"b": 1}})], [{"a": "x"}]),
    (Tight, [({"a": 1}, {"a": 1}), ({"a": 1, "b": "c"}, {"a": 1, "b": "c"})], [{"b": "c"}]),
    (Loose, [({"a": 1}, {"a": 1})], [{}]),
    (Annotated[Cat | Dog, Field(discriminator="kind")],
     [({"kind": "dog", "name": "개"}, Dog(kind="dog", name="개"))],
     [{"kind": "dog"}, {"kind": "cow"}]),
    (Cat | Dog, [({"kind": "cat"}, Cat(kind="cat"))], [{"kind": "cow"}]),
    (Node, [({"value": 1, "next": {"value": 2}}, Node(value=1, next=Node(value=2)))],
     [{"value": 1, "next": {}}]),
    (Branch, [({"value": 1, "twigs": [{"value": 2}]}, Branch(1, [Branch(2)]))], [{"twigs": []}]),
    (Named, [({"a": 1}, Named(a=1))], [{}]),
    (Pair, [([1], Pair(1)), ([1, "x"], Pair(1, "x"))], [[], [1, "x", 2]]),
    (Aliased, [({"from": 1}, Aliased(**{"from": 1}))], [{"start": 1}]),
    (Box[int], [({"item": 1}, Box[int](item=1))], [{"item": "x"}]),
    (bytes, [("글", "글".encode())], [1]),
    (datetime.datetime,
     [("2024-01-02T03:04:05Z", datetime.datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC))], ["soon"]),
    (datetime.time, [("03:04:05Z", datetime.time(3, 4, 5, tzinfo=UTC))], ["noon"]),
    (datetime.timedelta, [("PT1H", datetime.timedelta(hours=1))], ["long"]),
    (decimal.Decimal, [(1.5, decimal.Decimal("1.5"))], ["much"]),
    (Annotated[decimal.Decimal, Field(max_digits=3, ge=0)], [(1, decimal.Decimal(1))], [-1]),
    (Annotated[int, at.Ge(1), at.Lt(9)], [(1, 1)], [0, 9]),
    (Annotated[int, at.Interval(gt=1, le=9)], [(9, 9)], [1, 10]),
    (Annotated[str, at.Len(1, 3)], [("abc", "abc")], ["", "abcd"]),
    (Annotated[list[int], at.MinLen(1), at.MaxLen(2)], [([1], [1])], [[], [1, 2, 3]]),
    (Annotated[int, at.MultipleOf(5)], [(10, 10)], [11]),
    (Annotated[int | None, at.Ge(1)], [(None, None), (1, 1)], [0]),
    (Iterable[int], [([1, 2], [1, 2])], [["x"]]),
    (typing.Sequence[int], [([1], [1])], [["x"]]),
    (Mapping[str, int], [({"a": 1}, {"a": 1})], [{"a": "x"}]),
    (frozenset[int], [([1, 1], frozenset({1}))], [["x"]]),
    (tuple[int, str], [([1, "a"], (1, "a"))], [[1], [1, "a", 2]]),
    (dict[int, str], [({"5": "a", "-1": "b"}, {5: "a", -1: "b"})], [{"a": "b"}, {"05x": "b"}]),
    (dict[Literal["a"], int], [({"a": 5}, {"a": 5})], [{"b": 5}]),
    (dict[datetime.date, int], [({"2024-01-02": 5}, {datetime.date(2024, 1, 2): 5})],
     [{"today": 5}]),
    (Literal["a"] | None, [(None, None), ("a", "a")], ["b"]),
]  # fmt: skip


@pytest.mark.parametrize("hint, pairs, wrong", KINDS, ids=[str(kind[0]) for kind in KINDS])
def test_a_type_is_told_enforced_checked_and_converted(
    hint: Any, pairs: list[tuple[Any, Any]], wrong: list[Any]
) -> None:
    made = tool_of(hint)
    schema = json.loads(json.dumps(made.parameters, allow_nan=False))
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["required"] == ["x"], "Optional without a default is required, and may be null"
    Grammar.from_schema(schema)  # raises where the mask can't enforce it
    validator = jsonschema.Draft202012Validator(schema)
    for written, given in pairs:
        assert validator.is_valid({"x": written}), written
        found = made.check({"x": written})["x"]
        assert found == given and type(found) is type(given)
    for value in wrong:
        with pytest.raises(ToolArgumentError, match="'x"):
            made.check({"x": value})


@pytest.mark.parametrize(
    "hint, why",
    [
        (Plain, "Plain"),
        (int | Plain, "Plain"),
        (list[Plain], "Plain"),
        (HoldsPlain, "HoldsPlain"),
        (Colour, "Colour.RED"),
        (Literal[b"x"], "b'x'"),
        (Literal[Number.ONE], "Number.ONE"),
        (type[int], "a class"),
        (complex, "complex"),
        (bytearray, "bytearray"),
        (Iterator[int], "Iterator"),
        (Callable[[int], int], "Callable"),
        (ClassVar[int], "ClassVar"),
        (Self, "Self"),
        (typing.Never, "Never"),
        (range, "range"),
        (dict[bool, int], "keys of objects"),
        (dict[Number, int], "keys of objects"),
        (dict[float, int], "keys of objects"),
        (dict[tuple[int, int], int], "keys of objects"),
    ],
    ids=str,
)
def test_a_type_without_a_json_form_is_refused_with_its_parameter(hint: Any, why: str) -> None:
    with pytest.raises(ToolDefinitionError) as raised:
        tool_of(hint)
    assert raised.value.data["parameter"] == "x" and raised.value.data["tool"] == "function"
    assert why in raised.value.message and "\n" not in raised.value.message
    assert "arbitrary_types_allowed" not in raised.value.message


@pytest.mark.parametrize(
    "hint, default, told",
    [
        (int, 5, 5),
        (Number, Number.TWO, 2),
        (datetime.date, datetime.date(2024, 1, 2), "2024-01-02"),
        (Cat, Cat(kind="cat", lives=1), {"kind": "cat", "lives": 1}),
        (Named, Named(a=1), {"a": 1, "inner": {"kind": "cat", "lives": 9}}),
        (tuple[int, ...], (1, 2), [1, 2]),
        (set[str], {"b", "a"}, ["a", "b"]),
        (int, None, None),
        (Maybe, None, None),
    ],
    ids=str,
)
def test_a_default_is_told_as_json(hint: Any, default: Any, told: Any) -> None:
    made = tool_of(hint, default)
    assert made.parameters["properties"]["x"]["default"] == told
    assert made.check({})["x"] == default


@pytest.mark.parametrize(
    "hint, default",
    [
        (Any, object()),
        (Any, print),
        (float, float("inf")),
        (Any, Plain()),
        (bytes, b"\xff"),
        (list[int], Field(default_factory=lambda: [1])),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_default_that_is_no_json_is_kept_and_not_told(hint: Any, default: Any) -> None:
    made = tool_of(hint, default)
    json.dumps(made.parameters, allow_nan=False)
    assert "default" not in made.parameters["properties"]["x"]
    assert "x" not in made.parameters.get("required", [])
    found = made.check({})["x"]
    assert found is default or found == [1]


@pytest.mark.parametrize(
    "hint",
    [City, te.Annotated[str, te.Doc("Name of a city")], Annotated[City | None, Field(min_length=1)],
     Annotated[str, Field(min_length=1), "Name of a city"]],
    ids=str,
)  # fmt: skip
def test_a_description_is_found_wherever_it_is_written(hint: Any) -> None:
    assert tool_of(hint).parameters["properties"]["x"]["description"] == "Name of a city"


def test_keyword_only_parameters_are_given_by_name() -> None:
    def book(city: str, *, nights: int = 1, breakfast: bool) -> tuple[str, int, bool]:
        return city, nights, breakfast

    made = as_tool(book)
    assert made.parameters["required"] == ["city", "breakfast"]
    assert made.call({"city": "제주", "breakfast": "true"}) == ("제주", 1, True)


def test_a_definition_is_the_same_in_every_process() -> None:
    """Consents are bound to its hash: the order of a set's items must not change it."""
    code = (
        "from typing import Literal\n"
        "from engine.tools import as_tool\n"
        "def f(x: set[str] = {'a', 'b', 'c', 'd', 'e'}, y: Literal['q', 'w'] = 'q') -> None: ...\n"
        "print(as_tool(f).definition_hash)\n"
    )
    hashes = set()
    for seed in "123":
        env = os.environ | {
            "PYTHONHASHSEED": seed,
            "PYTHONPATH": str(Path(__file__).parents[1]),
        }
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
        hashes.add(done.stdout)
    assert len(hashes) == 1
