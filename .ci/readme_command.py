"""Print a command of README.md: the fenced block that follows `<!-- ci:NAME -->`.

So that what CI runs is what a reader is told to type, and not a copy of it.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path


def command(readme: str, name: str) -> str:
    """The block's lines, `$ ` prompts taken off. Exits where there is not exactly one."""
    marker = rf"^<!-- ci:{re.escape(name)} -->\s*\n```[a-z]*\n(.*?)^```"
    blocks = re.findall(marker, readme, re.MULTILINE | re.DOTALL)
    if len(blocks) != 1:
        sys.exit(f"README.md: {len(blocks)} fenced blocks follow <!-- ci:{name} -->, expected one")
    return re.sub(r"^\$ ", "", blocks[0], flags=re.MULTILINE).strip()


if __name__ == "__main__":
    readme, name = sys.argv[1:]
    print(command(Path(readme).read_text(encoding="utf-8"), name))
