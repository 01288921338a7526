"""Two cities compared, with a calculator, in at most five turns of the model.

python docs/examples/weather.py [MODEL] [QUESTION], or as a file of tools:
engine chat MODEL --tools docs/examples/weather.py
"""

from __future__ import annotations

import sys
from typing import Annotated, Literal

import engine

CELSIUS = {"서울": 21, "부산": 24}


@engine.tool
def get_weather(city: Literal["서울", "부산"]) -> dict[str, object]:
    """Current weather in a city."""
    return {"city": city, "celsius": CELSIUS[city]}


@engine.tool
def subtract(
    a: Annotated[int, "The number to take from"], b: Annotated[int, "What is taken away"]
) -> int:
    """Work out a - b."""
    return a - b


def main(
    name: str = "smollm2",
    question: str = "서울과 부산 중 어디가 더 따뜻해? 몇 도 차이야?",
    max_tokens: int = 80,
) -> list[engine.Event]:
    """Ask, print the calls and the answer, and give the events back."""
    with (
        engine.load(name) as model,
        model.chat(
            system="Be brief.",
            tools=[get_weather, subtract],
            tool_choice="get_weather",  # the first message must call it; later ones are free
            sampling=engine.Sampling(temperature=0),
        ) as chat,
    ):
        events = list(chat.stream(question, max_tokens=max_tokens, stop=engine.steps(5)))
    for event in events:
        match event:
            case engine.ToolResult(name=tool, content=content):
                print(f"{tool}: {content}")
            case engine.Text(text=text):
                print(text, end="")
            case engine.Finish(reason=reason, usage=usage):
                print(f"\n[{reason} after {usage.steps} turns]")
    return events


if __name__ == "__main__":
    main(*sys.argv[1:])
