"""`engine chat`: a conversation at the terminal, or with lines of stdin.

Knows the session: whose turn it is, what was counted. Does not know keys (prompt), drawing (draw)
or how answers are made (engine.chat).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.cli.commands import COMMANDS, obey
from engine.cli.consent import open_approvals
from engine.cli.console import Console, printable_line
from engine.cli.draw import Drawer, JsonDrawer, ScreenDrawer
from engine.cli.interrupts import Interrupts
from engine.cli.opening import (
    load_chat,
    open_chat,
    open_model,
    open_servers,
    open_tools,
    tell_notices,
)
from engine.cli.options import Options, takes_options
from engine.cli.prompt import Quit, Reader, check_text, open_reader
from engine.errors import Cancelled, EngineError
from engine.events import Event, Finish

if TYPE_CHECKING:
    from engine.chat import Chat
    from engine.model import Model
    from engine.tools.approval import Approvals
    from engine.tools.mcp import McpServers
    from engine.tools.tool import Tool

DEMO_TOOLS = ("engine.tools.examples", "engine.tools.demo")
DEMO = (
    "tiny-tools, a demo model that calls the example tools (their weather is invented) and knows "
    "little else; for real answers: engine chat MODEL"
)
DEMO_PROMPTS = (
    "What's the weather in Paris?",
    "23 * 19 계산해 줘",
    "What time is it in Seoul?",
)


@takes_options
def chat(
    options: Options,
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL", help="A GGUF file, or the name of a model; `engine models` lists them."
        ),
    ] = None,
) -> None:
    """Talk with a model, with Python functions as its tools.

    Without MODEL it is a tiny demo model, with the example tools switched on.
    Reads messages from stdin, one per line, where that is no terminal.
    """
    console = Console()
    # What a tool prints is not the model's text: it goes to stderr.
    with redirect_stdout(console.err), Interrupts() as interrupts:
        is_demo = model is None and not (options.tools or options.mcp or options.shell)
        tools = open_tools(options, default=DEMO_TOOLS if is_demo else ())
        approvals = open_approvals(options, console, interrupts)
        with (
            open_servers(options, console) as servers,
            open_model(model, options, console, interrupts) as opened,
        ):
            session = Session(opened, tools, options, approvals, console, interrupts, servers)
            reader = open_reader(console, interrupts, session.completions())
            session.greet(reader, is_demo=is_demo)
            try:
                with interrupts.kept() if reader.is_interactive else nullcontext():
                    session.hold(reader)
            except Quit:
                raise typer.Exit(130) from None


class Session:
    """One conversation with a person: messages in, answers drawn, commands obeyed."""

    def __init__(
        self,
        model: Model,
        tools: list[Tool],
        options: Options,
        approvals: Approvals,
        console: Console,
        interrupts: Interrupts,
        servers: McpServers | None = None,
    ) -> None:
        self.model = model
        self._own_tools = tools
        self._servers = servers
        self._tools_version = servers.version if servers is not None else 0
        self.tools = tools = [*tools, *(servers.tools() if servers is not None else ())]
        self.active = {tool.name for tool in tools}
        self.console = console
        self.chat: Chat = open_chat(model, tools, options, approvals)
        self.drawer: Drawer = (
            JsonDrawer(console) if options.json else ScreenDrawer(console, verbose=options.verbose)
        )
        self.max_tokens: int | None = options.max_tokens
        self.is_over = False
        self.last: Finish | None = None
        self.answers = self.generated = self.prefilled = self.prefilled_again = 0
        self._options = options
        self._approvals = approvals
        self._interrupts = interrupts

    def greet(self, reader: Reader, *, is_demo: bool) -> None:
        """Tell a person which model this is; that it is a demo is said in pipes too."""
        if is_demo:
            self.console.note(DEMO, "dim")
        if not reader.is_interactive:
            return
        if is_demo:
            for prompt in DEMO_PROMPTS:
                self.console.note(f"  try: {prompt}", "dim")
            return
        model = self.model
        title = model.path.name if model.path is not None else model.name
        self.console.note(
            f"{printable_line(title)} | {model.profile.title} | {model.n_ctx} tokens of context",
            "dim",
        )
        for name in sorted(self.active):
            self.console.note(f"tool: {name}", "dim")

    def hold(self, reader: Reader) -> None:
        """Answer messages until there are no more. A mistake ends only a chat without a person."""
        for text in reader.messages():
            try:
                if text.startswith("/"):
                    obey(self, text)
                else:
                    self.say(text)
            except EngineError as error:
                if not reader.is_interactive:
                    raise
                self.console.note(f"! {printable_line(error.message)}", "red")
            if self.is_over:
                return

    def say(self, text: str) -> None:
        """Send a message and draw the answer."""
        check_text(text, "the message")
        self._take_changed_tools()
        self._answer(
            lambda cancelled: self.chat.stream(
                text, max_tokens=self.max_tokens, cancelled=cancelled
            )
        )

    def _take_changed_tools(self) -> None:
        """The tools as the MCP servers list them by now. New ones are switched on."""
        servers = self._servers
        if servers is None or servers.version == self._tools_version:
            return
        self._tools_version = servers.version
        tell_notices(servers, self.console)
        known = {tool.name for tool in self.tools}
        self.tools = [*self._own_tools, *servers.tools()]
        names = {tool.name for tool in self.tools}
        self.use_tools((self.active & names) | (names - known))
        self.console.note("the tools of an MCP server have changed; /tools lists them", "dim")

    def retry(self) -> None:
        """Answer the last message anew."""
        self._answer(
            lambda cancelled: self.chat.retry(max_tokens=self.max_tokens, cancelled=cancelled)
        )

    def go_on(self) -> None:
        """Go on with an answer that stopped at a limit."""
        self._answer(
            lambda cancelled: self.chat.go_on(max_tokens=self.max_tokens, cancelled=cancelled)
        )

    def _answer(self, start: Callable[[Callable[[], bool]], Iterator[Event]]) -> None:
        with self._interrupts.working():
            try:
                for event in start(self._interrupts.cancelled):
                    self.drawer.draw(event)
                    if isinstance(event, Finish):
                        self._count(event)
            except Cancelled as error:
                self.console.note(f"({printable_line(error.message)})", "red")
            finally:
                self.console.end_line()

    def _count(self, finish: Finish) -> None:
        self.last = finish
        if finish.reason == "step_limit" and not self._options.json:
            self.console.note("(/continue goes on)", "dim")
        self.answers += 1
        self.generated += finish.usage.completion_tokens
        self.prefilled += finish.usage.prefilled
        self.prefilled_again += finish.usage.prefilled_again

    def use_tools(self, names: set[str]) -> None:
        """Let the model call these tools and no others."""
        before = self.chat.tools
        try:
            self.chat.set_tools([tool for tool in self.tools if tool.name in names])
        except EngineError:  # the tool choice names one that would be gone
            self.chat.set_tools(before)
            raise
        self.active = names

    def use_system(self, text: str) -> None:
        """Begin a new conversation with another system prompt."""
        self.chat.clear(system=text)
        self._approvals.forget_chat()

    def clear(self) -> None:
        """Begin a new conversation with the same system prompt."""
        self.chat.clear()
        self._approvals.forget_chat()

    def load(self, path: Path) -> None:
        """Go on with a saved conversation, with the tools and settings of this session."""
        tools = [tool for tool in self.tools if tool.name in self.active]
        loaded = load_chat(path, self.model, tools, self._options, self._approvals)
        loaded.sampling = self.chat.sampling
        self.chat.close()
        self.chat = loaded
        self._approvals.forget_chat()

    def completions(self) -> dict[str, tuple[str, Callable[[], Iterable[str]]]]:
        """The commands as the line editor completes them."""

        def words_of(command: Any) -> Callable[[], Iterable[str]]:
            return lambda: command.words(self)

        return {name: (each.help, words_of(each)) for name, each in COMMANDS.items()}
