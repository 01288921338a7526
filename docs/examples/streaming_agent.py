"""An agent that counts code, shown as it works.

python docs/examples/streaming_agent.py [MODEL] [QUESTION], from the top of the repository
"""

from __future__ import annotations

import sys
from typing import Any, Literal

import engine
from engine.tools.examples import repo_stats


@engine.tool
def count_lines(folder: Literal["engine", "tests", "docs"]) -> Any:
    """Count the lines of code in a folder of this project."""
    return repo_stats.call({"path": folder})  # which folder is a choice: no path to get wrong


def main(
    name: str = "smollm2",
    question: str = "How many lines are in the folder docs?",
    max_tokens: int = 60,
) -> list[engine.Event]:
    """Ask, draw every event, and give the events back."""
    events: list[engine.Event] = []
    with (
        engine.load(name) as model,
        model.chat(
            system="Be brief.",
            tools=[count_lines],
            tool_choice="required",  # the first message must be a call; later ones are free
            sampling=engine.Sampling(temperature=0),
            max_steps=3,
        ) as chat,
    ):
        for event in chat.stream(question, max_tokens=max_tokens):
            events.append(event)
            match event:
                case engine.Text(text=text):
                    print(text, end="", flush=True)
                case engine.ToolCall(name=tool, arguments=arguments):
                    print(f"-> {tool}({dict(arguments)})")
                case engine.ToolResult(content=content, is_error=is_error):
                    print("   failed:" if is_error else "   gave:", content)
                case engine.Notice(text=text):
                    print(f"({text})")
                case engine.Finish(reason=reason, usage=usage):
                    print(f"\n[{reason}; {usage.kv_reused} of {usage.prompt_tokens} reused]")
    return events


if __name__ == "__main__":
    main(*sys.argv[1:])
