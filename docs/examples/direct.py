"""A tool whose result is the answer: the model chooses it and fills it in, and says nothing more.

python docs/examples/direct.py [MODEL] [QUESTION]
"""

from __future__ import annotations

import sys
from typing import Annotated

import engine


def as_line(weather: dict[str, object]) -> str:
    """What is shown of the result."""
    return f"{weather['city']}: {weather['temperature']} °C"


@engine.tool(return_direct=True, result_converter=as_line, timeout=5)
def get_weather(city: Annotated[str, "Name of the city"]) -> dict[str, object]:
    """Current weather in a city."""
    return {"city": city, "temperature": 21}


def main(
    name: str | None = None,  # the embedded demo model
    question: str = "What's the weather in Paris?",
    max_tokens: int = 60,
) -> engine.Answer:
    """Ask, print the answer and give it back."""
    with (
        engine.load(name) as model,
        model.chat(tools=[get_weather], sampling=engine.Sampling(temperature=0)) as chat,
    ):
        answer = chat.run(question, max_tokens=max_tokens)
    print(answer.text)
    print(f"[{answer.finish.reason} after {answer.finish.usage.steps} turn of the model]")
    return answer


if __name__ == "__main__":
    main(*sys.argv[1:])
