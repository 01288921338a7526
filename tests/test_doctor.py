"""The doctor names what is wrong with an installation and the command that mends it."""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from pathlib import Path

import pytest

from engine import device
from engine.cli import doctor, main
from engine.cli.doctor import Machine
from engine.device import Device

MAC = Machine("Darwin", "arm64", False, False)
LINUX = Machine("Linux", "x86_64", False, False)
NVIDIA = Machine("Linux", "x86_64", False, True)
CPU = Device("CPU", "A processor", "CPU", "CPU", 1 << 30, 2 << 30)
GPU = Device("MTL0", "Apple M2", "MTL", "integrated GPU", 10 << 30, 11 << 30)


@pytest.mark.parametrize(
    "machine, devices, built, status, words",
    [
        (MAC, [GPU, CPU], ["MTL", "BLAS", "CPU"], "ok", ["built in", "Apple M2"]),
        (MAC, [CPU], ["MTL", "CPU"], "warning", ["no Metal device"]),
        (MAC, [CPU], ["BLAS", "CPU"], "warning", ["without Metal"]),
    ],
)
def test_metal_is_reported_as_built_and_found(machine, devices, built, status, words):
    found = {c.name: c for c in doctor.check_devices(machine, devices, built)}
    assert found["Metal"].status == status
    assert all(word in found["Metal"].text for word in words)
    assert bool(found["Metal"].remedy) == (status != "ok")


def test_a_build_without_metal_comes_with_the_command_that_has_it():
    check = doctor.check_metal(MAC, [CPU], ["CPU"])
    assert check.remedy.startswith('CMAKE_ARGS="-DGGML_METAL=on" ')
    assert "-m pip install --force-reinstall" in check.remedy
    assert check.remedy.endswith("--no-binary llama-cpp-python llama-cpp-python")
    assert sys.executable in check.remedy


@pytest.mark.parametrize(
    "machine, built, warned",
    [
        (NVIDIA, ["CPU"], True),
        (NVIDIA, ["CUDA", "CPU"], False),
        (NVIDIA, ["Vulkan", "CPU"], False),
        (LINUX, ["CPU"], False),
    ],
)
def test_an_unused_nvidia_gpu_is_pointed_out(machine, built, warned):
    found = [c for c in doctor.check_devices(machine, [CPU], built) if c.name == "CUDA"]
    assert bool(found) == warned
    assert all("GGML_CUDA=on" in c.remedy for c in found)


def test_devices_are_listed_with_their_memory():
    (check,) = doctor.check_devices(LINUX, [CPU], ["CPU"])
    assert check.text == "CPU: A processor (CPU, CPU), 1.0 GiB of 2.0 GiB free"


def test_an_intel_python_on_apple_silicon_is_a_warning():
    check = doctor.check_python(Machine("Darwin", "x86_64", True, False), "3.12.1")
    assert check.status == "warning" and "Rosetta" in check.text and "arm64" in check.remedy
    assert doctor.check_python(Machine("Darwin", "x86_64", False, False), "3.12.1").status == "ok"


@pytest.mark.parametrize(
    "system, machine, answer, expected",
    [
        ("Darwin", "x86_64", "1\n", True),
        ("Darwin", "x86_64", "0\n", False),
        ("Darwin", "x86_64", "", False),  # a real Intel Mac: unknown oid
        ("Darwin", "arm64", "1\n", False),
        ("Linux", "x86_64", "1\n", False),
    ],
)
def test_rosetta_is_asked_of_the_kernel(system, machine, answer, expected, monkeypatch):
    monkeypatch.setattr(device.platform, "system", lambda: system)
    monkeypatch.setattr(device.platform, "machine", lambda: machine)
    asked = []

    def run(command, **_):
        asked.append(command)
        return subprocess.CompletedProcess(command, 0 if answer else 1, answer, "")

    assert device.is_translated(run) is expected
    assert all(command[-1] == "sysctl.proc_translated" for command in asked)


def test_a_missing_sysctl_is_no_rosetta(monkeypatch):
    monkeypatch.setattr(device.platform, "system", lambda: "Darwin")
    monkeypatch.setattr(device.platform, "machine", lambda: "x86_64")

    def run(*_, **__):
        raise FileNotFoundError

    assert device.is_translated(run) is False


def test_the_installed_llama_cpp_names_its_devices():
    """ggml is asked through ctypes; what it says of the CPU is what llama.cpp prints."""
    llama = pytest.importorskip("engine.llama")
    llama.start()
    library, folder = llama.libraries()
    devices = device.devices(library, folder)
    cpus = [d for d in devices if d.kind == "CPU"]
    assert len(cpus) == 1 and cpus[0].backend == "CPU" and cpus[0].memory_total > 1 << 28
    assert "CPU" in device.backends(library, folder)
    assert {d.backend for d in devices} <= set(device.backends(library, folder))


def test_a_library_without_the_functions_is_an_attribute_error(tmp_path):
    library = ctypes.CDLL(None)
    with pytest.raises(AttributeError, match="ggml_backend_dev_count"):
        device.devices(library, tmp_path)


@pytest.mark.parametrize(
    "encoding, status", [("utf-8", "ok"), ("UTF8", "ok"), ("cp949", "warning")]
)
def test_a_terminal_that_cannot_show_korean_is_a_warning(encoding, status):
    check = doctor.check_terminal(encoding, True)
    assert check.status == status and bool(check.remedy) == (status == "warning")


def test_llama_cpp_that_does_not_load_is_broken_with_a_remedy(monkeypatch):
    def fail() -> None:
        raise RuntimeError("Failed to load shared library\n'libllama.so'")

    monkeypatch.setattr("engine.llama.start", fail)
    (check,), devices, built = doctor.check_llama(MAC)
    assert check.status == "broken" and "\n" not in check.text and "GGML_METAL" in check.remedy
    assert (devices, built) == ([], [])


@pytest.fixture
def quiet_stores(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("ENGINE_MODELS", str(tmp_path))
    return tmp_path


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["doctor", *arguments])
    return int(caught.value.code or 0)


def test_the_report_has_every_part(capsys, quiet_stores):
    pytest.importorskip("engine.llama")
    code = run("--json")
    found = json.loads(capsys.readouterr().out)
    names = [check["name"] for check in found["checks"]]
    assert found["version"] == 1
    for name in ("Python", "llama.cpp", "built with", "device", "native module", "models"):
        assert name in names
    assert found["devices"][0]["memory_total"] > 0 and "CPU" in found["backends"]
    assert code == (9 if any(c["status"] == "broken" for c in found["checks"]) else 0)
    for check in found["checks"]:
        assert check["status"] == "ok" or check["remedy"]


def test_a_broken_part_makes_the_exit_code_9(capsys, quiet_stores, monkeypatch):
    monkeypatch.setattr(
        doctor, "check_native", lambda: doctor.Check("native module", "broken", "gone", "mend it")
    )
    assert run() == 9
    lines = capsys.readouterr().out.splitlines()
    at = next(i for i, line in enumerate(lines) if "native module" in line)
    assert lines[at].startswith("X") and lines[at + 1].strip() == "-> mend it"
