"""An agent that counts code, shown as it works.

python docs/examples/streaming_agent.py [MODEL] [QUESTION], from the top of the repository
"""

from __future__ import annotations

import sys

import engine
from engine.tools.examples import list_dir, read_file, repo_stats


def main(
    name: str | None = None,  # the embedded demo model
    question: str = "How many lines of code are in the folder docs?",
    max_tokens: int = 100,
) -> list[engine.Event]:
    """Ask, draw every event, and give the events back."""
    events: list[engine.Event] = []
    with (
        engine.load(name) as model,
        model.chat(
            tools=[repo_stats, list_dir, read_file], sampling=engine.Sampling(temperature=0)
        ) as chat,
    ):
        for event in chat.stream(question, max_tokens=max_tokens):
            events.append(event)
            match event:
                case engine.Text(text=text):
                    print(text, end="", flush=True)
                case engine.ToolCallDelta(text=text):
                    print(text, end="", flush=True)  # the arguments, while they are written
                case engine.ToolCall(name=tool):
                    print(f" -> {tool}")
                case engine.ToolResult(content=content, is_error=is_error):
                    print("   failed:" if is_error else "   gave:", content)
                case engine.Notice(text=text):
                    print(f"({text})")
                case engine.Finish(reason=reason, usage=usage):
                    print(f"\n[{reason}; {usage.kv_reused} of {usage.prompt_tokens} reused]")
    return events


if __name__ == "__main__":
    main(*sys.argv[1:])
