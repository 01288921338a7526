"""Ten requests, one after the other, with everything that may happen to a call.

Four tools of one's own, an MCP server, one call that fails, one that takes too long, one that is
not allowed. What every step computed is printed; nothing is computed twice, and the second start
takes the beginning of the prompt from disk.

python docs/examples/agent.py [MODEL] [QUESTION], which asks QUESTION after the ten
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass, field
from pathlib import Path

import engine
from engine.tools.demo import get_weather
from engine.tools.examples import calculate, current_time, list_dir
from engine.tools.mcp import McpServers, ServerConfig

NOTES = Path(__file__).parent / "servers" / "notes.py"


@engine.tool(timeout=0.5)
async def fetch_report(city: str) -> str:
    """Fetch the weather report of a city."""
    await asyncio.sleep(60)  # a service that does not answer
    return city


@engine.tool
def delete_file(path: str) -> str:
    """Delete a file."""
    raise AssertionError("the rule below keeps this from being run")


# Which tool is to be called is said with each request: a mask, so that the prompt stays as it is.
PLAN = (
    ("What's the weather in Paris?", "get_weather"),
    ("서울 날씨 어때?", "get_weather"),
    ("23 * 19 계산해 줘", "calculate"),
    ("What time is it in Seoul?", "current_time"),
    ("List the files in docs", "list_dir"),
    ("Add a note: buy milk", "notes__add"),
    ("Show all notes", "notes__show"),
    ("What is 1 / 0?", "calculate"),  # fails
    ("Fetch the report of Busan", "fetch_report"),  # takes too long
    ("Delete the file notes.txt", "delete_file"),  # is not allowed
)


@dataclass
class Step:
    """What became of one request."""

    request: str
    results: list[engine.ToolResult] = field(default_factory=list)
    text: str = ""
    usage: engine.Usage = field(default_factory=engine.Usage)


def main(
    name: str | None = None,  # the embedded demo model
    question: str = "",
    max_tokens: int = 60,
    prefix_cache: bool | str = True,
) -> list[Step]:
    """Go through the plan, print what happens and give it back."""
    rules = engine.Rules(
        [engine.Rule("allow", server="notes"), engine.Rule("deny", "delete_*")],
    )
    server = ServerConfig("notes", command=sys.executable, args=(str(NOTES),))
    steps = []
    with McpServers([server]) as servers, engine.load(name, prefix_cache=prefix_cache) as model:
        tools = [get_weather, calculate, current_time, list_dir, fetch_report, delete_file]
        with model.chat(
            tools=[*tools, *servers.tools()],
            approvals=engine.Approvals(rules),
            sampling=engine.Sampling(temperature=0),
        ) as chat:
            plan = [*PLAN, (question, "auto")] if question else PLAN
            for number, (request, tool) in enumerate(plan, 1):
                print(f"{number}. {request}")
                step = Step(request)
                steps.append(step)
                for event in chat.stream(request, tool_choice=tool, max_tokens=max_tokens):
                    draw(event, step)
    return steps


def draw(event: engine.Event, step: Step) -> None:
    """Print an event, and take down what became of the request."""
    match event:
        case engine.ToolCall(name=tool, arguments=arguments):
            print(f"   -> {tool}({dict(arguments)})")
        case engine.ToolResult(content=content, is_error=is_error):
            step.results.append(event)
            print("   failed:" if is_error else "   gave:", content)
        case engine.Text(text=text):
            step.text += text
        case engine.Notice(text=text):
            print(f"   ({text})")
        case engine.Finish(usage=usage):
            step.usage = usage
            print(f"   {step.text.strip()}")
            print(
                f"   [{usage.prompt_tokens} prompt tokens, {usage.kv_reused} reused, "
                f"{usage.prefilled} computed, {usage.prefilled_again} of them twice]"
            )


if __name__ == "__main__":
    main(*sys.argv[1:])
