"""An answer that is a Pydantic model: every token is chosen so that it parses.

python docs/examples/structured.py [MODEL] [QUESTION]
"""

from __future__ import annotations

import sys
from typing import Annotated, Literal

from pydantic import BaseModel, Field

import engine


class City(BaseModel):
    """What we want to know. Bounds keep a small model from rambling inside a string."""

    name: Annotated[str, Field(max_length=30)]
    continent: Literal["Asia", "Europe", "Africa", "America", "Oceania"]
    landmarks: Annotated[list[Annotated[str, Field(max_length=30)]], Field(max_length=2)]


def main(
    name: str = "smollm2", question: str = "Tell me about Paris.", max_tokens: int = 120
) -> City | None:
    """Ask and give back the parsed answer, None where it was cut off."""
    with engine.load(name) as model:
        answer = model.generate(
            question,
            system="Be brief.",
            response_format=City,
            max_tokens=max_tokens,
            sampling=engine.Sampling(temperature=0),
        )
    print(answer.text)
    city: City | None = answer.parsed
    return city


if __name__ == "__main__":
    main(*sys.argv[1:])
