"""Everything that can go wrong for a user, as types with an exit code and data.

Knows names and exit codes. Does not know who raises them or how they are shown.
"""

from __future__ import annotations

from typing import Any, ClassVar


class EngineError(Exception):
    """Base of all errors that a user can cause or meet.

    `message` is one line: the thing, the limit, the value found, the remedy. `data` holds the
    same facts for programs; each entry also reads as an attribute (`error.n_ctx`).
    """

    exit_code: ClassVar[int] = 9

    def __init__(self, message: str, **data: object) -> None:
        super().__init__(message)
        self.message = message
        self.data = data

    def __getattr__(self, name: str) -> Any:
        data = self.__dict__.get("data", {})
        if name in data:
            return data[name]
        raise AttributeError(f"{type(self).__name__} has no {name!r}; it carries {sorted(data)}")

    @property
    def kind(self) -> str:
        """The type's name, as `--json` output and traces spell it."""
        return type(self).__name__


class UsageError(EngineError):
    """A command or a call was used in a way that cannot work."""

    exit_code = 2


class ModelError(EngineError):
    """A model can't be found, read or loaded."""

    exit_code = 3


class ModelNotFound(ModelError):
    """No file, cache entry or store answers to this name. Data: `name`, `looked_in`."""


class GGUFError(ModelError):
    """The file's header is damaged or hostile. Data: `path`, `field`, `offset` in bytes."""


class UnsuitableModel(ModelError):
    """The file is sound but can't generate text (projector, embedding, vocabulary only)."""


class TemplateError(EngineError):
    """A chat template is missing, refused, too slow or fails. Data: `name` where known."""

    exit_code = 4


class ProfileError(EngineError):
    """A file under models/ is wrong. Data: `path`, `key`."""

    exit_code = 4


class GrammarError(EngineError):
    """A grammar can't be read or enforced. Data: `line`, `column` where known."""

    exit_code = 5


class SchemaError(GrammarError):
    """A JSON Schema can't be enforced in full. Data: `pointer`, `keyword`, `tool` where known."""


class DeadEnd(GrammarError):
    """The grammar allows no token that the model could take. Data: `position`."""


class ToolError(EngineError):
    """A tool can't be declared, loaded or found."""

    exit_code = 6


class ToolDefinitionError(ToolError):
    """A function can't become a tool. Data: `tool`, `parameter` where one is to blame."""


class ToolArgumentError(ToolError):
    """A call's arguments don't fit the tool. Data: `tool`, `problems` (one line each)."""


class McpError(ToolError):
    """An MCP server can't be configured, reached or used.

    Data: `server`; `path` and `key` where a configuration is to blame; `reason`, one of `config`,
    `package`, `missing`, `no_answer`, `closed`, `down`, `line_too_long`, `flood`, `wrong_id`,
    `protocol`, `refused`, `unreachable`, `unauthorized`, `redirect`, `private_address`.
    """


class ContextFull(EngineError):
    """The context has no room. Data: `need`, `n_ctx`, both in tokens."""

    exit_code = 7


class StorageError(EngineError):
    """A session or trace can't be written or read. Data: `path`."""

    exit_code = 8


class InternalError(EngineError):
    """The engine or llama.cpp failed in a way no user input should cause."""

    exit_code = 9


class NonFiniteLogits(InternalError):
    """The model computed NaN, or no token at all. Data: `position`."""


class DecodeFailed(InternalError):
    """`llama_decode` refused a batch. Data: `status`, `position`."""


class Cancelled(EngineError):
    """Work was stopped by the caller before it was done. Data: `done`, `total` where known."""

    exit_code = 130
