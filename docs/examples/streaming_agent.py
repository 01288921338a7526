"""An agent that counts code, shown as it works.

python docs/examples/streaming_agent.py [MODEL] [QUESTION]
"""

from __future__ import annotations

import sys

import engine
from engine.tools.examples import repo_stats


def main(
    name: str = "smollm2",
    question: str = "How many lines of code are in the folder . ?",
    max_tokens: int = 120,
) -> list[engine.Event]:
    """Ask, draw every event, and give the events back."""
    events: list[engine.Event] = []
    with (
        engine.load(name) as model,
        model.chat(
            system="Be brief.",
            tools=[repo_stats],
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
                case engine.ToolCall(name=name, arguments=arguments):
                    print(f"-> {name}({dict(arguments)})")
                case engine.ToolResult(content=content, is_error=is_error):
                    print("   failed:" if is_error else "   gave:", content)
                case engine.Notice(text=text):
                    print(f"({text})")
                case engine.Finish(reason=reason, usage=usage):
                    print(f"\n[{reason}; {usage.kv_reused} of {usage.prompt_tokens} reused]")
    return events


if __name__ == "__main__":
    main(*sys.argv[1:])
