"""Two cities compared, with a calculator, in at most five turns of the model.

python docs/examples/weather.py [MODEL] [QUESTION], or as a file of tools:
engine chat MODEL --tools docs/examples/weather.py
"""

from __future__ import annotations

import sys
from typing import Literal

import engine
from engine.tools.examples import calculate

CELSIUS = {"서울": 21, "부산": 24}


@engine.tool
def get_weather(city: Literal["서울", "부산"]) -> dict[str, object]:
    """Current weather in a city."""
    return {"city": city, "temperature": CELSIUS[city]}


def main(
    name: str | None = None,  # the embedded demo model, which looks up one city at a time
    question: str = "서울과 부산 날씨를 비교해 줘. 몇 도 차이야?",
    max_tokens: int = 100,
) -> list[engine.Event]:
    """Ask, print the calls and the answer, and give the events back."""
    with (
        engine.load(name) as model,
        model.chat(tools=[get_weather, calculate], sampling=engine.Sampling(temperature=0)) as chat,
    ):
        events = list(chat.stream(question, max_tokens=max_tokens, stop=engine.steps(5)))
    for event in events:
        match event:
            case engine.ToolCall(name=tool, arguments=arguments):
                print(f"{tool}({dict(arguments)})")
            case engine.ToolResult(content=content):
                print(f"  {content}")
            case engine.Text(text=text):
                print(text, end="")
            case engine.Finish(reason=reason, usage=usage):
                print(f"\n[{reason} after {usage.steps} turns]")
    return events


if __name__ == "__main__":
    main(*sys.argv[1:])
