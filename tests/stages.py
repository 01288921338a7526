"""The real command, held at a stage of its work until a signal comes.

`python tests/stages.py STAGE ARGUMENTS` is `engine ARGUMENTS` that says `at STAGE` on stderr the
first time it gets there, and goes on when a signal's handler has run. With `STAGE!` it says `deaf`
then and never goes on: work that does not hear. So a signal comes exactly where a test wants it,
without a clock.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import Any

from engine import gguf
from engine.cli import main
from engine.cli.draw import ScreenDrawer
from engine.cli.interrupts import Interrupts
from engine.events import Finish, Text
from engine.grammar import native
from engine.llama import LlamaBackend
from engine.template import ChatTemplate
from engine.turns import Turns

DECODED = 4  # tokens of the answer before the stage `decode`

# stage: who does it, under which name, and whether it does it in an answer only
STAGES: dict[str, tuple[Any, str, bool]] = {
    "header": (gguf, "read_header", False),
    "weights": (LlamaBackend, "_load", False),
    "context": (LlamaBackend, "_open_context", False),
    "template": (ChatTemplate, "_render", True),
    "grammar": (native, "_compile", True),
    "prefill": (LlamaBackend, "_run", True),
    "decode": (LlamaBackend, "_run", True),
    "drawing": (ScreenDrawer, "draw", True),
    "ending": (ScreenDrawer, "draw", True),
}


class Stage:
    """Where to hold, and whether a signal has come."""

    def __init__(self, name: str) -> None:
        self.name = name.removesuffix("!")
        self.is_deaf = name.endswith("!")
        owner, method, in_answer = STAGES[self.name]
        # A pipe: an Event's lock may be held by the very thread that the handler interrupts.
        self._come, self._tell = os.pipe()
        self._is_armed = not in_answer
        self._count = 0
        self._wrap(Interrupts, "_on_interrupt", after=self._note)
        self._wrap(Interrupts, "_on_end", after=self._note)
        self._wrap(Turns, "answer", before=lambda *_: setattr(self, "_is_armed", True))
        self._wrap(owner, method, before=self._hold)

    def _wrap(
        self,
        owner: Any,
        name: str,
        before: Callable[..., object] = lambda *_: None,
        after: Callable[[], object] = lambda: None,
    ) -> None:
        real = getattr(owner, name)

        def wrapped(*given: Any, **named: Any) -> Any:
            before(*given)
            try:
                return real(*given, **named)
            finally:
                after()

        setattr(owner, name, wrapped)

    def _note(self) -> None:
        os.write(self._tell, b"!")

    def _hold(self, *given: Any) -> None:
        if not self._is_armed or not self._is_here(given):
            return
        self._is_armed = False
        self._is_here = lambda given: False  # type: ignore[method-assign]
        print(f"at {self.name}", file=sys.stderr, flush=True)
        os.read(self._come, 1)
        if self.is_deaf:
            print("deaf", file=sys.stderr, flush=True)
            threading.Event().wait()

    def _is_here(self, given: tuple[Any, ...]) -> bool:
        if self.name in ("prefill", "decode"):
            is_prefill = given[2] is not None  # only more than one token asks whether to stop
            self._count += not is_prefill
            return is_prefill if self.name == "prefill" else self._count == DECODED
        if self.name in ("drawing", "ending"):
            return isinstance(given[1], Text if self.name == "drawing" else Finish)
        return True


if __name__ == "__main__":
    Stage(sys.argv.pop(1))
    main()
