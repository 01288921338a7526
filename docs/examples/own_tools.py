"""A client that runs the tools itself and gives results back by id: the engine never runs them.

python docs/examples/own_tools.py [MODEL] [QUESTION]
"""

from __future__ import annotations

import sys

import engine

# Known by name and schema alone, as from a service: there is no function to run.
WEATHER = engine.Tool.from_schema(
    "get_weather",
    "Current weather in a city.",
    {
        "type": "object",
        "properties": {"city": {"type": "string", "description": "Name of the city"}},
        "required": ["city"],
        "additionalProperties": False,
    },
)


def run_somewhere(call: engine.Call) -> dict[str, object]:
    """Stands for a queue, a browser, another machine: whatever runs a call and answers."""
    return {"city": call.arguments["city"], "temperature": 21}


def main(
    name: str | None = None,  # the embedded demo model
    question: str = "What's the weather in Paris?",
    max_tokens: int = 60,
) -> list[engine.Answer]:
    """Ask, run what is called until the model is done, and give the answers back."""
    with (
        engine.load(name) as model,
        model.chat(tools=[WEATHER], sampling=engine.Sampling(temperature=0)) as chat,
    ):
        answers = [chat.run(question, max_tokens=max_tokens)]
        while answers[-1].finish.reason == "tool_use":
            results = {}
            for call in chat.pending:
                print(f"{call.id}: {call.name}({dict(call.arguments)})")
                results[call.id] = run_somewhere(call)
            answers.append(engine.answer_of(chat.resume(results, max_tokens=max_tokens)))
    print(answers[-1].text)
    return answers


if __name__ == "__main__":
    main(*sys.argv[1:])
