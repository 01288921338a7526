"""What a figure belongs to: commit, versions, processor, devices."""

from __future__ import annotations

import ctypes
import json
import platform
import subprocess
from pathlib import Path
from typing import Any

import engine
from engine.llama import build_info


def machine() -> dict[str, Any]:
    """What the figures belong to."""
    root = Path(__file__).resolve().parents[1]
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        "commit": commit.stdout.strip() or None,
        "engine": engine.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "pointer_bits": ctypes.sizeof(ctypes.c_void_p) * 8,
        **build_info(),
    }


def publish(result: dict[str, Any], path: Path | None) -> None:
    """Print a result as one JSON line, and write it where `--json` said."""
    line = json.dumps(result)
    print(line)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(line + "\n", encoding="utf-8")
