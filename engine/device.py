"""What this machine computes with: ggml's backends and devices, and the Python that runs us.

Knows ggml's device functions in a library that it is given, and Rosetta. Does not import llama_cpp
and does not load models.
"""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Kind = Literal["CPU", "GPU", "integrated GPU", "accelerator", "meta"]
_KINDS: tuple[Kind, ...] = ("CPU", "GPU", "integrated GPU", "accelerator", "meta")


@dataclass(frozen=True, slots=True)
class Device:
    """One device of ggml's. Memory in bytes; 0 where the device has none of its own."""

    name: str
    description: str
    backend: str
    kind: Kind
    memory_free: int
    memory_total: int


def devices(library: ctypes.CDLL, folder: Path) -> list[Device]:
    """The devices that this build of llama.cpp can use, in ggml's order.

    `library` is the loaded libllama, `folder` where the ggml libraries lie. May initialise a GPU
    (a second or so). Call `engine.llama.start` before it, which silences ggml's log.
    """
    ggml = _Functions(library, folder)
    count = ggml.get("ggml_backend_dev_count", ctypes.c_size_t)()
    at = ggml.get("ggml_backend_dev_get", ctypes.c_void_p, ctypes.c_size_t)
    name = ggml.get("ggml_backend_dev_name", ctypes.c_char_p, ctypes.c_void_p)
    description = ggml.get("ggml_backend_dev_description", ctypes.c_char_p, ctypes.c_void_p)
    kind = ggml.get("ggml_backend_dev_type", ctypes.c_int, ctypes.c_void_p)
    registry = ggml.get("ggml_backend_dev_backend_reg", ctypes.c_void_p, ctypes.c_void_p)
    backend = ggml.get("ggml_backend_reg_name", ctypes.c_char_p, ctypes.c_void_p)
    size = ctypes.POINTER(ctypes.c_size_t)
    memory = ggml.get("ggml_backend_dev_memory", None, ctypes.c_void_p, size, size)
    found = []
    for index in range(count):
        device = at(index)
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        memory(device, ctypes.byref(free), ctypes.byref(total))
        number = kind(device)
        found.append(
            Device(
                name=_text(name(device)),
                description=_text(description(device)).strip(),
                backend=_text(backend(registry(device))),
                kind=_KINDS[number] if 0 <= number < len(_KINDS) else "accelerator",
                memory_free=int(free.value),
                memory_total=int(total.value),
            )
        )
    return found


def backends(library: ctypes.CDLL, folder: Path) -> list[str]:
    """The backends built into llama.cpp, such as `MTL` or `Metal`, `CUDA`, `BLAS`, `CPU`."""
    ggml = _Functions(library, folder)
    count = ggml.get("ggml_backend_reg_count", ctypes.c_size_t)()
    at = ggml.get("ggml_backend_reg_get", ctypes.c_void_p, ctypes.c_size_t)
    name = ggml.get("ggml_backend_reg_name", ctypes.c_char_p, ctypes.c_void_p)
    return [_text(name(at(index))) for index in range(count)]


def is_translated(
    run: Callable[..., subprocess.CompletedProcess[str]] = subprocess.run,
) -> bool:
    """Whether this Python is an Intel one that Rosetta translates on Apple Silicon."""
    if platform.system() != "Darwin" or platform.machine() != "x86_64":
        return False
    try:
        answer = run(
            ["/usr/sbin/sysctl", "-n", "sysctl.proc_translated"],
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return False  # a real Intel Mac knows no such key
    return answer.stdout.strip() == "1"


class _Functions:
    """Functions of ggml, wherever the platform lets them be found.

    Linux and macOS look into the libraries that libllama links; Windows only into the one asked.
    """

    def __init__(self, library: ctypes.CDLL, folder: Path) -> None:
        self._libraries = [library]
        self._paths = [
            path
            for stem in ("ggml", "libggml", "ggml-base", "libggml-base")
            for ending in (".dll", ".dylib", ".so")
            if (path := folder / (stem + ending)).is_file()
        ]

    def get(self, name: str, result: Any, *arguments: Any) -> Any:
        """A function with its types. Raises AttributeError where this build doesn't have it."""
        while True:
            for library in self._libraries:
                if hasattr(library, name):
                    # A prototype of our own: other users of the library keep theirs.
                    prototype = ctypes.CFUNCTYPE(result, *arguments)
                    return prototype((name, library))
            if not self._paths:
                raise AttributeError(f"this build of ggml has no {name}")
            self._libraries.append(ctypes.CDLL(str(self._paths.pop(0))))


def _text(data: bytes | None) -> str:
    return (data or b"").decode("utf-8", "replace")


def fast_cores() -> int:
    """How many cores decode well: performance cores on Apple Silicon, physical ones elsewhere.

    llama.cpp's own rule (`common_cpu_get_num_math`); hyper-threads only get in each other's way.
    """
    if sys.platform == "darwin":
        try:
            answer = subprocess.run(
                ["/usr/sbin/sysctl", "-n", "hw.perflevel0.physicalcpu"],
                capture_output=True,
                text=True,
                timeout=5,
                check=True,
            )
            return max(1, int(answer.stdout))
        except (OSError, ValueError, subprocess.SubprocessError):
            return os.cpu_count() or 4  # an Intel Mac has no performance levels
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    siblings = {
        path.read_text().strip()
        for path in Path("/sys/devices/system/cpu").glob("cpu[0-9]*/topology/thread_siblings")
    }
    return max(1, min(usable or 4, len(siblings) or usable or 4))
