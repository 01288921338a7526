"""The tools of a Python file or module, for `--tools`.

Knows how to import. Does not know schemas: `engine.tools.declare` makes the tools.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from engine.errors import ToolError
from engine.tools.declare import as_tool
from engine.tools.tool import Tool


def load_tools(sources: Iterable[str]) -> list[Tool]:
    """The tools of every FILE or MODULE, in order. Raises ToolError naming the source."""
    return [tool for source in sources for tool in _tools_of(source)]


def _tools_of(source: str) -> list[Tool]:
    path = Path(source).expanduser()
    if source.endswith(".py") or path.exists():
        module = _import_file(path, source)
    else:
        module = _import_module(source)
    found = _select(module)
    if not found:
        raise ToolError(
            f"{source}: holds no tool; give a function the @engine.tool decorator, "
            "or name functions in __all__",
            source=source,
        )
    return found


def _select(module: ModuleType) -> list[Tool]:
    """What `__all__` names; else what `@tool` marks; else the public functions of the module."""
    members = vars(module)
    if "__all__" in members:
        named = [members[name] for name in module.__all__ if name in members]
        return [as_tool(each) for each in named if _is_function(each)]
    if marked := [each for each in members.values() if isinstance(each, Tool)]:
        return marked
    return [
        as_tool(each)
        for name, each in members.items()
        if inspect.isfunction(each) and not name.startswith("_") and _is_of(each, module)
    ]


def _is_function(value: Any) -> bool:
    return isinstance(value, Tool) or inspect.isroutine(value)


def _is_of(function: Any, module: ModuleType) -> bool:
    return bool(function.__module__ == module.__name__)


def _import_file(path: Path, source: str) -> ModuleType:
    if not path.is_file():
        reason = "is a directory" if path.is_dir() else "no such file"
        raise ToolError(f"{source}: {reason}; --tools takes a .py file or a module", source=source)
    name = f"engine_tools_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ToolError(f"{source}: not a Python file; --tools takes a .py file", source=source)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and postponed annotations look it up there
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise _import_failed(source, error, str(path)) from error
    return module


def _import_module(source: str) -> ModuleType:
    sys.path.insert(0, "")  # as `python -m` does: a module of the current folder
    try:
        return importlib.import_module(source)
    except ModuleNotFoundError as error:
        missing = error.name or source
        if source == missing or source.startswith(missing + "."):
            raise ToolError(
                f"{source}: no such file and no such module; --tools takes a .py file or a module",
                source=source,
            ) from error
        raise _import_failed(source, error, source) from error
    except Exception as error:
        raise _import_failed(source, error, source) from error
    finally:
        sys.path.remove("")


def _import_failed(source: str, error: Exception, path: str) -> ToolError:
    """A mistake in a tool file, with the line of that file where it happened."""
    if isinstance(error, SyntaxError):
        message = f"{error.filename or source}:{error.lineno}: syntax error: {error.msg}"
        return ToolError(message, source=source, line=error.lineno)
    if isinstance(error, ToolError):
        return error
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == path
    ]
    where = f"{source}:{lines[-1]}" if lines else source
    return ToolError(f"{where}: {type(error).__name__}: {error}", source=source)
