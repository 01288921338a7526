"""Name a function so that another process can find it again.

Knows modules, files and qualified names. Does not know tools or processes. A function is found by
importing its module, or by running the file it came from (not its `if __name__ == "__main__"`).
"""

from __future__ import annotations

import functools
import importlib
import importlib.machinery
import importlib.util
import inspect
import json
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Reference:
    """`module` is imported where that name leads to `file`, or else `file` is run.

    `qualname` is looked up there. `fixed` are keyword arguments that a partial has bound.
    """

    module: str | None
    file: str | None
    qualname: str
    fixed: dict[str, Any] = field(default_factory=dict)


def reference_to(function: Callable[..., Any]) -> Reference:
    """Raises LookupError, saying why, for a function that another process can't find."""
    fixed: dict[str, Any] = {}
    while isinstance(function, functools.partial):
        if function.args:
            raise LookupError("binds positional arguments; bind them by keyword")
        fixed = {**function.keywords, **fixed}
        function = function.func
    try:
        is_plain_json = json.loads(json.dumps(fixed, allow_nan=False)) == fixed
    except (TypeError, ValueError, RecursionError):
        is_plain_json = False
    if not is_plain_json:
        raise LookupError("binds arguments that are not plain JSON")
    if inspect.ismethod(function):
        raise LookupError("is a method, and its object would not be there")
    qualname = getattr(function, "__qualname__", "")
    if not qualname:
        raise LookupError(f"is an object of type {type(function).__name__}, not a function")
    if "<lambda>" in qualname:
        raise LookupError("is a lambda")
    if "<locals>" in qualname:
        raise LookupError(f"is defined inside the function {qualname.split('.<locals>')[0]!r}")
    module, file = _home(str(getattr(function, "__module__", None)))
    return Reference(module, file, qualname, fixed)


def _home(name: str) -> tuple[str | None, str | None]:
    """(the name to import, if it has one, and the file to run where that leads elsewhere)."""
    module = sys.modules.get(name)
    if module is None:
        raise LookupError(f"is defined in {name!r}, which is no imported module")
    spec = getattr(module, "__spec__", None)
    if isinstance(spec, importlib.machinery.ModuleSpec) and spec.origin is not None:
        return spec.name, spec.origin  # for `python -m package.module` not the same as `name`
    file = getattr(module, "__file__", None)
    if isinstance(file, str) and Path(file).is_file():
        return None, str(Path(file).resolve())
    where = "typed in at a prompt" if name == "__main__" else f"defined in {name!r}"
    raise LookupError(f"is {where}, and no file holds it")


def load(reference: Reference, run_file: Callable[[Path], types.ModuleType]) -> types.ModuleType:
    """The module that a reference names. Raises what its code raises."""
    if reference.module is not None:
        spec = importlib.util.find_spec(reference.module)
        if spec is not None and spec.origin == reference.file:
            return importlib.import_module(reference.module)
    return run_file(Path(reference.file or ""))


def find(reference: Reference, module: types.ModuleType) -> Any:
    """What a reference names in its module. Raises LookupError."""
    found: Any = module
    for part in reference.qualname.split("."):
        try:
            found = getattr(found, part)
        except AttributeError as error:
            where = reference.file or reference.module
            raise LookupError(f"{where} has no {reference.qualname!r}") from error
    return found
