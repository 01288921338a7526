"""Work out an arithmetic expression, without `eval` and within bounds.

Knows numbers, operators and a table of functions. Does not know tools. Python's parser reads the
expression; only the nodes named here are worked out.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable
from difflib import get_close_matches

MAX_CHARACTERS = 1_000
MAX_DEPTH = 100
MAX_BITS = 10_000  # of an integer: about 3,000 digits
_MAX_FACTORIAL = 1_000

Number = int | float

_LOOK_ALIKES = str.maketrans(
    {"×": "*", "÷": "/", "−": "-", "·": "*", "^": "**", "π": "pi", "²": "**2", "³": "**3"}
    | {chr(code + 0xFEE0): chr(code) for code in range(0x21, 0x7F)}  # full-width forms
)
_RUN_ON = re.compile(r"(?<![\w.])\d[\d_.]*+(?:[eE][+-]?\d++)?+[A-Za-z_]\w*")
_CONSTANTS: dict[str, float] = {"pi": math.pi, "e": math.e, "tau": math.tau}


def evaluate(expression: str) -> Number:
    """The value of an expression such as `2 * (3 + 4) ** 2` or `sqrt(2) / pi`.

    `^` is a power. Integers are exact; other results have 15 significant digits. Raises
    ValueError, saying what is wrong and how to write it, for all that can't be worked out.
    """
    if len(expression) > MAX_CHARACTERS:
        raise ValueError(
            f"the expression has {len(expression)} characters, {MAX_CHARACTERS} are the most"
        )
    text = expression.translate(_LOOK_ALIKES).strip().strip("=").strip()
    if not text:
        raise ValueError("the expression is empty; write for example 2 * (3 + 4)")
    if run_on := _RUN_ON.search(text):  # Python's parser would only warn of some of these
        raise ValueError(f"{run_on[0]!r}: write the '*' between a number and a name")
    try:
        tree = ast.parse(text, mode="eval")
        value = _value(tree.body, 0)
    except SyntaxError as error:
        raise ValueError(_syntax(text, error)) from error
    except ZeroDivisionError as error:
        raise ValueError(f"division by zero in {text[:80]!r}") from error
    except OverflowError as error:
        raise ValueError(f"a number in {text[:80]!r} is too large for a decimal result") from error
    except (RecursionError, MemoryError) as error:
        raise ValueError(f"the expression is nested more than {MAX_DEPTH} deep") from error
    return _tidy(value)


def _syntax(text: str, error: SyntaxError) -> str:
    place = f" at {text[error.offset - 1 :][:20]!r}" if error.offset else ""
    hint = "; '%' is the remainder: for 15 percent write 15 / 100" if "%" in text else ""
    return f"{text[:80]!r} is not arithmetic{place} ({error.msg}){hint}"


def _tidy(value: Number) -> Number:
    if isinstance(value, int):
        return value
    if not math.isfinite(value):
        raise ValueError(f"the result is {value}, not a number")
    rounded = float(f"{value:.15g}")  # 0.1 + 0.2 is 0.3 to people
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded


def _value(node: ast.expr, depth: int) -> Number:
    if depth > MAX_DEPTH:
        raise ValueError(f"the expression is nested more than {MAX_DEPTH} deep")
    match node:
        case ast.Constant(value=value) if type(value) in (int, float):
            return _bounded(value)  # type: ignore[arg-type]
        case ast.Name(id=name) if name in _CONSTANTS:
            return _CONSTANTS[name]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, depth + 1)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _value(operand, depth + 1)
        case ast.BinOp(op=ast.Mod(), right=ast.UnaryOp()):
            raise ValueError("'%' is the remainder: for 15 percent write 15 / 100")
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _operated(type(op), _value(left, depth + 1), _value(right, depth + 1))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
            return _called(name, [_value(item, depth + 1) for item in args])
    raise ValueError(_refusal(node))


def _refusal(node: ast.expr) -> str:
    known = [*_CONSTANTS, *_FUNCTIONS]
    match node:
        case ast.Name(id=name) | ast.Call(func=ast.Name(id=name)) if name not in known:
            close = get_close_matches(name, known, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(known)}"
            return f"{name!r} is unknown; {hint}"
        case ast.Call(func=ast.Constant() | ast.BinOp()):
            return "two numbers stand side by side; write the '*' between them"
        case ast.Tuple():
            return "a comma separates values; write 1000 for a thousand, not 1,000"
        case ast.Compare() | ast.BoolOp():
            return "comparisons can't be worked out, only numbers"
    return f"{ast.unparse(node)[:80]!r} is not arithmetic; use + - * / // % ** and functions"


def _operated(op: type[ast.operator], left: Number, right: Number) -> Number:
    if op is ast.Pow:
        return _power(left, right)
    if op is ast.Mult and isinstance(left, int) and isinstance(right, int):
        _check_bits(left.bit_length() + right.bit_length())
    return _bounded(_OPERATORS[op](left, right))


def _power(base: Number, exponent: Number) -> Number:
    if isinstance(base, int) and isinstance(exponent, int) and exponent >= 0:
        if abs(base) > 1:
            _check_bits(base.bit_length() * exponent)
        return int(base**exponent)
    value = float(base) ** exponent
    if isinstance(value, complex):
        raise ValueError(f"{base} ** {exponent} is not a real number")
    return value


def _check_bits(bits: int) -> None:
    if bits > MAX_BITS:
        raise ValueError(
            f"the number would have about {bits * 3 // 10} digits, {MAX_BITS * 3 // 10} are the "
            "most; use decimals, as in 2.0 ** 500"
        )


def _bounded(value: Number) -> Number:
    if isinstance(value, int):
        _check_bits(value.bit_length())
    return value


def _called(name: str, values: list[Number]) -> Number:
    function, least, most = _FUNCTIONS[name]
    if not least <= len(values) <= most:
        wanted = f"{least}" if least == most else f"{least} to {most}"
        raise ValueError(f"{name} takes {wanted} values, not {len(values)}")
    try:
        return _bounded(function(*values))
    except (TypeError, ValueError) as error:
        shown = ", ".join(str(value)[:40] for value in values)
        raise ValueError(f"{name}({shown}) can't be worked out ({error})") from error


def _whole(value: Number) -> int:
    if not float(value).is_integer() or abs(value) > _MAX_FACTORIAL:
        raise ValueError(f"whole numbers up to {_MAX_FACTORIAL} only")
    return int(value)


_OPERATORS: dict[type[ast.operator], Callable[[Number, Number], Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}

# name: the function, the least and the most values it takes
_FUNCTIONS: dict[str, tuple[Callable[..., Number], int, int]] = {
    "sqrt": (math.sqrt, 1, 1),
    "cbrt": (math.cbrt, 1, 1),
    "abs": (abs, 1, 1),
    "round": (lambda x, digits=0: round(x, _whole(digits)), 1, 2),
    "floor": (math.floor, 1, 1),
    "ceil": (math.ceil, 1, 1),
    "min": (min, 2, 100),
    "max": (max, 2, 100),
    "sum": (lambda *values: sum(values), 1, 100),
    "mean": (lambda *values: sum(values) / len(values), 1, 100),
    "exp": (math.exp, 1, 1),
    "log": (math.log, 1, 2),
    "ln": (math.log, 1, 1),
    "log2": (math.log2, 1, 1),
    "log10": (math.log10, 1, 1),
    "sin": (math.sin, 1, 1),
    "cos": (math.cos, 1, 1),
    "tan": (math.tan, 1, 1),
    "asin": (math.asin, 1, 1),
    "acos": (math.acos, 1, 1),
    "atan": (math.atan, 1, 1),
    "atan2": (math.atan2, 2, 2),
    "degrees": (math.degrees, 1, 1),
    "radians": (math.radians, 1, 1),
    "hypot": (math.hypot, 1, 100),
    "factorial": (lambda n: math.factorial(_whole(n)), 1, 1),
    "comb": (lambda n, k: math.comb(_whole(n), _whole(k)), 2, 2),
    "gcd": (math.gcd, 2, 100),
    "lcm": (math.lcm, 2, 10),
}
