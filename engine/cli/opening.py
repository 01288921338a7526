"""From options to an open model and chat: the part that `chat` and `run` share.

Knows `engine.load` and its progress. Does not know how answers are drawn.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.cli.console import Console, Progress, printable_line
from engine.cli.interrupts import Interrupts
from engine.cli.options import Options
from engine.cli.prompt import check_text
from engine.errors import Cancelled, TemplateError

if TYPE_CHECKING:
    from engine.chat import Chat
    from engine.model import Model
    from engine.tools.approval import Approvals
    from engine.tools.mcp import McpServers
    from engine.tools.tool import Tool


def open_model(
    name: str | None, options: Options, console: Console, interrupts: Interrupts
) -> Model:
    """Load the model, with a bar when that takes over a second. Ctrl-C stops it (Cancelled)."""
    import engine

    template = None if options.chat_template is None else read_template(options.chat_template)
    title = Path(name).name if name else "the model"
    progress = Progress(console, f"loading {title}")

    def on_progress(share: float) -> bool:
        progress.update(share)
        return not interrupts.cancelled()

    try:
        with interrupts.working():
            model = engine.load(
                name,
                n_ctx=options.ctx_size,
                gpu_layers=options.layers,
                threads=options.threads,
                family=options.family,
                chat_template=template,
                prefix_cache=options.prefix_cache,
                verbose=options.verbose,
                on_progress=on_progress,
            )
            if interrupts.cancelled():  # after the weights: nothing asked any more
                model.close()
                raise Cancelled(f"loading {title} was stopped")
            return model
    finally:
        progress.close()


def read_template(path: str) -> str:
    try:
        return Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise TemplateError(f"--chat-template {path}: {reason}", name=path) from error


def open_tools(options: Options, *, default: Sequence[str] = ()) -> list[Tool]:
    """The tools of every `--tools`, else those of `default`; and that of `--shell`.

    Done before the model loads: a mistake there shows at once.
    """
    specs = options.tools or default
    if not specs and options.shell is None:
        return []
    from engine.tools.load import load_tools
    from engine.tools.shell import shell

    tools = [tool for spec in specs for tool in load_tools(spec)]
    if options.shell is not None:
        tools.append(shell([entry for entry in options.shell.split(",") if entry.strip()]))
    return tools


@contextmanager
def open_servers(options: Options, console: Console) -> Iterator[McpServers | None]:
    """The servers of every `--mcp`, started; None without. What is wrong with them is told."""
    if not options.mcp:
        yield None
        return
    from engine.tools.mcp import McpServers, load_config

    files = [load_config(path) for path in options.mcp]
    configs = [server for file in files for server in file.servers]
    with ExitStack() as stack:
        console.transient(f"starting {len(configs)} MCP servers")
        try:
            servers = stack.enter_context(McpServers(configs))
        finally:
            console.wipe()
        for status in servers.status():
            if status.state == "down":
                console.note(f"! {printable_line(status.reason)}", "red")
        for notice in [text for file in files for text in file.notices]:
            console.note(f"! {printable_line(notice)}", "dim")
        tell_notices(servers, console)
        yield servers


def tell_notices(servers: McpServers, console: Console) -> None:
    """Show what became known of the servers since the last time."""
    for notice in servers.take_notices():
        console.note(f"! {printable_line(notice.text)}", "dim")


def open_chat(
    model: Model, tools: list[Tool], options: Options, approvals: Approvals | None = None
) -> Chat:
    """A chat with these tools, and the limits and sampling that were asked for."""
    if options.system is not None:
        check_text(options.system, "--system")
    chat = model.chat(options.system, tools, approvals=approvals, **_settings(options))
    chat.sampling = dataclasses.replace(chat.sampling, **options.sampling)
    return chat


def load_chat(
    path: Path, model: Model, tools: list[Tool], options: Options, approvals: Approvals
) -> Chat:
    """A saved chat with these tools, and the limits that were asked for."""
    from engine.chat import Chat, ChatOptions

    return Chat.load(path, model, tools, ChatOptions(approvals=approvals, **_settings(options)))


def _settings(options: Options) -> dict[str, Any]:
    from engine.compaction import Compaction

    return {
        "tool_choice": options.choice,
        "constrain": not options.no_constrain,
        "force": not options.no_force,
        "max_steps": options.max_steps,
        "style": options.style,
        "thinking": options.thinking,
        "thinking_budget": options.thinking_budget,
        "strict_format": options.strict_format,
        "compaction": Compaction.of(options.compact),
    }
