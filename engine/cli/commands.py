"""The slash commands of `engine chat`.

Knows names, arguments and what each does to the session. Does not know keys or screens.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from engine.cli.console import printable_line
from engine.cli.draw import stats_line
from engine.errors import UsageError

if TYPE_CHECKING:
    from engine.cli.chat import Session

Action = Callable[["Session", str], None]
Words = Callable[["Session"], Iterable[str]]


@dataclass(frozen=True, slots=True)
class Command:
    """One slash command: `words` are the completions of its argument."""

    usage: str
    help: str
    action: Action
    words: Words


COMMANDS: Final[dict[str, Command]] = {}
ALIASES: Final = {"exit": "quit", "bye": "quit", "?": "help"}


def _command(usage: str, help: str, words: Words = lambda _: ()) -> Callable[[Action], Action]:
    def register(action: Action) -> Action:
        name = usage.split(maxsplit=1)[0].removeprefix("/")
        COMMANDS[name] = Command(usage, help, action, words)
        return action

    return register


def obey(session: Session, line: str) -> None:
    """Run the command that `line` (which begins with a slash) names. Raises UsageError."""
    name, _, argument = line[1:].partition(" ")
    name = ALIASES.get(name, name)
    if name not in COMMANDS:
        near = get_close_matches(name, COMMANDS, 1)
        hint = f"did you mean /{near[0]}?" if near else "/help lists the commands"
        raise UsageError(
            f"unknown command /{name}; {hint} (put a space before a message that begins with /)"
        )
    COMMANDS[name].action(session, argument.strip())


@_command("/help", "List the commands and keys.")
def _help(session: Session, argument: str) -> None:
    width = max(len(command.usage) for command in COMMANDS.values())
    for command in COMMANDS.values():
        session.console.note(f"  {command.usage:<{width}}  {command.help}")
    for keys, meaning in (
        ("Enter", "Send. Alt-Enter begins a new line."),
        ('"""', "Begins and ends a message of several lines."),
        ("Ctrl-C", "Stop the answer; twice within a second, leave."),
        ("Ctrl-D", "Leave."),
    ):
        session.console.note(f"  {keys:<{width}}  {meaning}")


def _tool_words(session: Session) -> Iterable[str]:
    return ("on", "off", *(tool.name for tool in session.tools))


@_command("/tools [on|off [NAME...]]", "List the tools, or switch some on or off.", _tool_words)
def _tools(session: Session, argument: str) -> None:
    if argument:
        _switch_tools(session, argument.split())
    if not session.tools:
        session.console.note("no tools; start with --tools FILE or --tools MODULE")
    for tool in session.tools:
        mark = "*" if tool.name in session.active else " "
        first = printable_line(tool.description.partition("\n")[0])
        session.console.note(f"{mark} {tool.name}: {first}" if first else f"{mark} {tool.name}")


def _switch_tools(session: Session, words: list[str]) -> None:
    state, *names = words
    known = [tool.name for tool in session.tools]
    if state not in ("on", "off"):
        raise UsageError(f"/tools takes on or off and names of tools, found {state!r}")
    if unknown := [name for name in names if name not in known]:
        raise UsageError(f"unknown tool {unknown[0]!r}; there are: {', '.join(known) or 'none'}")
    chosen = set(names or known)
    session.use_tools(session.active | chosen if state == "on" else session.active - chosen)


@_command("/system [TEXT]", "Show the system prompt, or begin anew with another one.")
def _system(session: Session, argument: str) -> None:
    if argument:
        session.use_system(argument)
        session.console.note("a new chat with this system prompt", "dim")
    else:
        session.console.note(printable_line(session.chat.system or "(no system prompt)"))


@dataclass(frozen=True, slots=True)
class Setting:
    """Something that `/set` shows and changes."""

    get: Callable[[Session], object]
    set: Callable[[Session, str], None]


def _sampling(name: str, kind: type) -> Setting:
    def change(session: Session, value: str) -> None:
        new: Any = None if value == "none" and name == "seed" else kind(value)
        session.chat.sampling = dataclasses.replace(session.chat.sampling, **{name: new})

    return Setting(lambda session: getattr(session.chat.sampling, name), change)


def _limit(name: str) -> Setting:
    def change(session: Session, value: str) -> None:
        limit = None if value == "none" else int(value)
        if limit is not None and limit < 1:
            raise ValueError(value)
        setattr(session, name, limit)

    return Setting(lambda session: getattr(session, name), change)


def _switch(name: str) -> Setting:
    def change(session: Session, value: str) -> None:
        setattr(session.drawer, name, {"on": True, "off": False}[value])

    return Setting(lambda session: "on" if getattr(session.drawer, name) else "off", change)


SETTINGS: Final[dict[str, Setting]] = {
    "temp": _sampling("temperature", float),
    "top-k": _sampling("top_k", int),
    "top-p": _sampling("top_p", float),
    "min-p": _sampling("min_p", float),
    "repeat-penalty": _sampling("repeat_penalty", float),
    "seed": _sampling("seed", int),
    "max-tokens": _limit("max_tokens"),
    "verbose": _switch("verbose"),
    "stats": _switch("stats"),
}


@_command("/set [NAME VALUE]", "Show the settings, or change one.", lambda _: SETTINGS)
def _set(session: Session, argument: str) -> None:
    name, _, value = argument.partition(" ")
    if name and name not in SETTINGS:
        raise UsageError(f"unknown setting {name!r}; there are: {', '.join(SETTINGS)}")
    if value := value.strip():
        try:
            SETTINGS[name].set(session, value)
        except (ValueError, KeyError) as error:
            raise UsageError(f"/set {name}: {value!r} is not a value for it") from error
    for each in [name] if name else SETTINGS:
        session.console.note(f"  {each} = {_shown(SETTINGS[each].get(session))}")


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)


@_command("/stats", "Show the counts of the last answer and of the chat.")
def _stats(session: Session, argument: str) -> None:
    used, room = len(session.chat.sequence), session.model.n_ctx
    if session.last is not None:
        session.console.note(f"last answer {stats_line(session.last)}")
    session.console.note(
        f"this chat: {session.answers} answers, {session.generated} tokens generated, "
        f"{session.prefilled} prefilled, {session.prefilled_again} of them twice; "
        f"context {used} of {room} ({used / room:.0%})"
    )


@_command("/save FILE", "Save the chat.")
def _save(session: Session, argument: str) -> None:
    path = _path(argument, "/save")
    session.chat.save(path)
    session.console.note(f"saved to {path}", "dim")


@_command("/load FILE", "Go on with a saved chat.")
def _load(session: Session, argument: str) -> None:
    path = _path(argument, "/load")
    session.load(path)
    session.console.note(
        f"{len(session.chat.messages)} messages, {len(session.chat.sequence)} tokens", "dim"
    )


def _path(argument: str, command: str) -> Path:
    if not argument:
        raise UsageError(f"{command} needs the name of a file")
    return Path(argument).expanduser()


@_command("/clear", "Forget the conversation; keep the system prompt and the tools.")
def _clear(session: Session, argument: str) -> None:
    session.clear()
    session.console.note("a new chat", "dim")


@_command("/retry", "Answer the last message anew.")
def _retry(session: Session, argument: str) -> None:
    session.retry()


@_command("/continue", "Go on with an answer that stopped at the limit of steps.")
def _continue(session: Session, argument: str) -> None:
    session.go_on()


@_command("/quit", "Leave.")
def _quit(session: Session, argument: str) -> None:
    session.is_over = True
