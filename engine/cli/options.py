"""The options that `chat` and `run` share, written once.

Knows flag names, which follow llama.cpp where it has one. Does not know what they act on.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from typing import Annotated, Any, Literal, get_type_hints

import typer

from engine.errors import UsageError

SAMPLING = ("temperature", "top_k", "top_p", "min_p", "repeat_penalty", "seed")


def _option(*flags: str, help: str, **settings: Any) -> Any:
    return typer.Option(*flags, help=help, show_default=False, **settings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a person asked for. None where they left the choice to the model's profile."""

    tools: Annotated[
        list[str] | None,
        _option(
            "--tools",
            metavar="FILE|MODULE",
            help="Python file or module with the functions that the model may call; repeatable.",
        ),
    ] = None
    shell: Annotated[
        str | None,
        _option(
            "--shell",
            metavar="COMMANDS",
            help='Commands that the model may run here, such as "git status,git log,ls".',
        ),
    ] = None
    mcp: Annotated[
        list[str] | None,
        _option(
            "--mcp",
            metavar="FILE",
            help="JSON file with mcpServers, whose tools the model may call; repeatable.",
        ),
    ] = None
    tool_choice: Annotated[
        str,
        _option(
            "--tool-choice",
            metavar="CHOICE",
            help="auto (default), required, none, or the names of allowed tools: A, A,B or a*.",
        ),
    ] = "auto"
    allow: Annotated[
        list[str] | None,
        _option(
            "--allow",
            metavar="PATTERN",
            help="Run these tools without asking: read_*, or SERVER:TOOL; repeatable.",
        ),
    ] = None
    ask: Annotated[
        list[str] | None,
        _option("--ask", metavar="PATTERN", help="Ask before these tools run; repeatable."),
    ] = None
    deny: Annotated[
        list[str] | None,
        _option("--deny", metavar="PATTERN", help="Never run these tools; repeatable."),
    ] = None
    rules: Annotated[
        str | None,
        _option(
            "--rules",
            metavar="FILE",
            help="TOML file with rules on who may run what, instead of the user's own.",
        ),
    ] = None
    max_steps: Annotated[
        int, _option("--max-steps", min=1, help="Turns of the tool loop; default 10.")
    ] = 10
    max_tokens: Annotated[
        int | None,
        _option("-n", "--max-tokens", min=1, help="The longest message of the model, in tokens."),
    ] = None
    thinking: Annotated[
        bool | None,
        _option(
            "--thinking/--no-thinking",
            help="Ask for thinking or switch it off, where the model's template can.",
        ),
    ] = None
    thinking_budget: Annotated[
        int | None,
        _option(
            "--thinking-budget",
            min=1,
            metavar="N",
            help="End the model's thinking after N tokens; none: when it likes.",
        ),
    ] = None
    system: Annotated[str | None, _option("--system", help="The system prompt.")] = None
    temperature: Annotated[
        float | None, _option("--temp", min=0.0, help="Temperature; 0 takes the likeliest token.")
    ] = None
    top_k: Annotated[
        int | None, _option("--top-k", min=0, help="Sample among the K likeliest; 0 is off.")
    ] = None
    top_p: Annotated[
        float | None,
        _option("--top-p", min=0.0, max=1.0, help="Sample among the top with mass P; 1 is off."),
    ] = None
    min_p: Annotated[
        float | None,
        _option("--min-p", min=0.0, max=1.0, help="Drop what is P times less likely; 0 is off."),
    ] = None
    repeat_penalty: Annotated[
        float | None, _option("--repeat-penalty", min=0.0, help="Penalty on repeats; 1 is off.")
    ] = None
    seed: Annotated[
        int | None, _option("-s", "--seed", help="Seed of the sampler, for the same answer again.")
    ] = None
    ctx_size: Annotated[
        int,
        _option("-c", "--ctx-size", min=0, help="Context in tokens; 0 or none: the model's own."),
    ] = 0
    gpu_layers: Annotated[
        str,
        _option("-ngl", "--gpu-layers", metavar="N|all", help="Layers on the GPU; default all."),
    ] = "all"
    threads: Annotated[
        int, _option("-t", "--threads", min=0, help="Threads; 0 or none: the fast cores.")
    ] = 0
    family: Annotated[
        str | None,
        _option("--family", help="Take the model for this family instead of detecting it."),
    ] = None
    style: Annotated[
        str | None, _option("--style", help="How calls are written, where the family has several.")
    ] = None
    chat_template: Annotated[
        str | None,
        _option("--chat-template", metavar="FILE", help="Use this Jinja template."),
    ] = None
    prefix_cache: Annotated[
        bool,
        _option(
            "--prefix-cache",
            help="Keep the state of system prompt and tools on disk, for the next start.",
        ),
    ] = False
    compact: Annotated[
        Literal["results", "turns", "both"] | None,
        _option(
            "--compact",
            help="Where the context is full: leave out old results of tools, old turns, or both.",
        ),
    ] = None
    no_constrain: Annotated[
        bool,
        _option("--no-constrain", help="Let the model write calls freely, valid or not."),
    ] = False
    strict_format: Annotated[
        bool,
        _option(
            "--strict-format",
            help="Take calls in the family's own format alone, none of its known slips.",
        ),
    ] = False
    no_force: Annotated[
        bool,
        _option("--no-force", help="Ask the model for every token, where there is no choice too."),
    ] = False
    json: Annotated[
        bool, _option("--json", help="Write events and errors as JSON lines to stdout.")
    ] = False
    verbose: Annotated[
        bool, _option("-v", "--verbose", help="Show llama.cpp's log, raw calls and whole results.")
    ] = False

    @property
    def sampling(self) -> dict[str, Any]:
        """The sampling settings that were given, to replace a model's own ones."""
        given = {name: getattr(self, name) for name in SAMPLING}
        return {name: value for name, value in given.items() if value is not None}

    @property
    def layers(self) -> int | Literal["all"]:
        """Raises UsageError for what is neither a number nor `all`."""
        if self.gpu_layers == "all":
            return "all"
        try:
            return int(self.gpu_layers)
        except ValueError:
            raise UsageError(
                f"--gpu-layers: expected a number or 'all', found {self.gpu_layers!r}"
            ) from None

    @property
    def choice(self) -> str | list[str]:
        """`auto`, `required`, `none`, or the list of tools to choose among."""
        if self.tool_choice in ("auto", "required", "none"):
            return self.tool_choice
        names = [name.strip() for name in self.tool_choice.split(",") if name.strip()]
        if not names:
            raise UsageError("--tool-choice: expected auto, required, none or names of tools")
        return names


def takes_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give Typer a command whose last parameter, `options: Options`, is spread into its flags.

    The command's own parameters come first.
    """
    hints = get_type_hints(function, include_extras=True)
    own = [
        parameter.replace(annotation=hints[name])
        for name, parameter in inspect.signature(function).parameters.items()
        if name != "options"
    ]
    flags = get_type_hints(Options, include_extras=True)
    spread = [
        inspect.Parameter(
            item.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if item.default is MISSING else item.default,
            annotation=flags[item.name],
        )
        for item in fields(Options)
    ]

    def command(**values: Any) -> None:
        options = Options(**{item.name: values.pop(item.name) for item in fields(Options)})
        function(**values, options=options)

    keyword_only = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own]
    command.__name__, command.__doc__ = function.__name__, function.__doc__
    command.__signature__ = inspect.Signature([*keyword_only, *spread])  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in [*keyword_only, *spread]}
    return command
