"""Find the tools in a Python file or module that a person names.

Knows files, modules and how they fail to import. Does not know schemas or how tools are run.
Loading runs the file's code: name only files that you trust.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
import types
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

from engine.errors import ToolDefinitionError, ToolError
from engine.tools.declare import as_tool, tools_by_name
from engine.tools.identity import RAN
from engine.tools.tool import Tool

MAX_FILE_BYTES = 4 * 1024 * 1024
_MAX_REASON = 300  # characters of somebody else's error in ours


def load_tools(spec: str) -> list[Tool]:
    """The tools of `spec`: `tools.py`, `a.module`, or either with `:name` for one of them.

    Takes what `@tool` made; where there is none, the public functions that the file itself
    defines. With `__all__`, the tools and functions it names. Raises ToolError, on one line and
    with file and line, for whatever stands in the way; the code's own exceptions never come out.
    """
    source, name = _split(spec)
    if _is_path(source):
        module = module_from_file(Path(source).expanduser())
    else:
        module = _module_by_name(source)
    candidates = [_named(module, name, spec)] if name else list(_candidates(module))
    if not candidates:
        raise ToolError(
            f"{spec}: no tools in it; mark functions with @tool, or define public functions",
            spec=spec,
        )
    tools = []
    for candidate in candidates:
        try:
            tools.append(as_tool(candidate))
        except ToolDefinitionError as error:
            where = _place_of(candidate, module)
            raise ToolDefinitionError(f"{where}: {error.message}", **error.data) from error
    try:
        return list(tools_by_name(tools).values())
    except ToolDefinitionError as error:
        raise ToolDefinitionError(f"{spec}: {error.message}", **error.data) from error


def _split(spec: str) -> tuple[str, str]:
    """The source and the name after its last colon; `C:\\tools.py` has no name."""
    source, colon, name = spec.rpartition(":")
    if colon and name.isidentifier() and source and not Path(spec).exists():
        return source, name
    return spec, ""


def _is_path(source: str) -> bool:
    separators = (os.sep, os.altsep or os.sep)
    has_separator = any(separator in source for separator in separators)
    return has_separator or source.endswith(".py") or Path(source).is_file()


def module_from_file(path: Path) -> types.ModuleType:
    """Run the file as a module of its own, once for each state of the file."""
    data, stamp = _read(path)
    path = path.resolve()
    digest = hashlib.sha256(str(path).encode("utf-8", "surrogateescape")).hexdigest()[:12]
    name = f"_engine_tools_{digest}"
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__engine_stamp__", None) == stamp:
        return known
    module = types.ModuleType(name)
    module.__file__ = str(path)
    module.__dict__["__engine_stamp__"] = stamp
    module.__dict__[RAN] = hashlib.sha256(data).hexdigest()
    # The file may import its neighbours, now or when a tool runs. Last, so that it shadows nothing.
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    sys.modules[name] = module  # dataclasses and Pydantic look their module up there
    try:
        exec(compile(data, str(path), "exec", dont_inherit=True), module.__dict__)
    except (Exception, SystemExit) as error:
        sys.modules.pop(name, None)
        _fail(error, str(path))
    return module


def _read(path: Path) -> tuple[bytes, tuple[int, int]]:
    try:
        if path.is_dir():
            raise ToolError(f"{path}: is a directory; name a .py file in it", path=str(path))
        if path.exists() and not path.is_file():  # a pipe would keep us waiting
            raise ToolError(f"{path}: is not a regular file", path=str(path))
        with path.open("rb") as file:
            info = os.fstat(file.fileno())
            if info.st_size > MAX_FILE_BYTES:
                raise ToolError(
                    f"{path}: is {info.st_size} bytes, a tool file holds {MAX_FILE_BYTES} at most",
                    path=str(path),
                )
            return file.read(MAX_FILE_BYTES), (info.st_mtime_ns, info.st_size)
    except FileNotFoundError as error:
        folder = path.parent if path.parent.is_dir() else None
        names = [item.name for item in folder.glob("*.py")] if folder else []
        raise ToolError(f"{path}: no such file{_hint(path.name, names)}", path=str(path)) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ToolError(f"{str(path)!r}: can't be read ({reason})", path=str(path)) from error


def _module_by_name(name: str) -> types.ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise ToolError(
            f"{name!r}: neither a file nor a module name; write tools.py or package.module",
            spec=name,
        )
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise ToolError(
                f"{name}: no such module; for a file write its path, as in ./{name}.py", spec=name
            ) from error
        _fail(error, _origin(name))
    except (Exception, SystemExit) as error:
        _fail(error, _origin(name))


def _origin(name: str) -> str | None:
    try:
        spec = importlib.util.find_spec(name)
    except Exception:  # its package fails to import, which is what is being reported
        return None
    return spec.origin if spec else None


def _fail(error: BaseException, path: str | None) -> NoReturn:
    """Raise ToolError for what running a file raised, with the line to look at.

    The line is the last one of the file itself; of whatever file, where it is not involved.
    """
    if isinstance(error, SyntaxError):
        file, line = error.filename, error.lineno
        reason = error.msg
    else:
        frames = list(_frames(error))
        own = [frame for frame in frames if frame[0] == path]
        file, line = (own or frames or [(path or "?", None)])[-1]
        reason = str(error)
    if isinstance(error, ToolDefinitionError):
        raise ToolDefinitionError(f"{file}:{line}: {reason}", **error.data) from error
    place = f"{file or path}:{line}" if line else f"{file or path}"
    reason = " ".join(reason.split())[:_MAX_REASON]
    kind = type(error).__name__
    raise ToolError(
        f"{place}: {kind}: {reason}" if reason else f"{place}: {kind}", path=file, line=line
    ) from error


def _frames(error: BaseException) -> Iterator[tuple[str, int | None]]:
    here = {__file__, importlib.__file__}
    frame = error.__traceback__
    while frame is not None:
        file = frame.tb_frame.f_code.co_filename
        if file not in here and not file.startswith("<frozen "):
            yield file, frame.tb_lineno
        frame = frame.tb_next


def _candidates(module: types.ModuleType) -> Iterator[Any]:
    listed = getattr(module, "__all__", None)
    if listed is not None:
        for name in listed:
            value = _named(module, str(name), f"{_file_of(module)}: __all__")
            if isinstance(value, Tool) or inspect.isroutine(value):
                yield value
        return
    public = {id(value): value for name, value in vars(module).items() if name[:1] != "_"}
    tools = [value for value in public.values() if isinstance(value, Tool)]
    yield from tools or (
        value
        for value in public.values()
        if inspect.isfunction(value) and value.__module__ == module.__name__
    )


def _named(module: types.ModuleType, name: str, spec: str) -> Any:
    try:
        return getattr(module, name)
    except AttributeError as error:
        names = [key for key in vars(module) if not key.startswith("_")]
        raise ToolError(f"{spec}: has no {name!r}{_hint(name, names)}", spec=spec) from error


def _hint(name: str, names: list[str]) -> str:
    close = get_close_matches(name, names, 1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _file_of(module: types.ModuleType) -> str:
    return getattr(module, "__file__", None) or module.__name__


def _place_of(value: Any, module: types.ModuleType) -> str:
    code = getattr(inspect.unwrap(value) if callable(value) else value, "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else _file_of(module)
