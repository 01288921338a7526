"""What is in the package, whichever way it is installed."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest

import engine._native
from engine import resources
from engine._version import __version__
from engine.errors import InternalError

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.mark.parametrize("name", ["grammars", "models", "bench"])
def test_shipped_folders_are_found(name: resources.Folder) -> None:
    assert resources.resource(name).is_dir()
    assert any(path.is_file() for path in resources.resource(name).rglob("*"))


@pytest.mark.parametrize("place", ["wheel", "checkout"])
def test_shipped_files_are_found_in_a_wheel_and_in_a_checkout(place: str, tmp_path: Path) -> None:
    package = tmp_path / "engine"
    package.mkdir()
    for name in ("__init__.py", "resources.py", "errors.py"):
        shutil.copy(ROOT / "engine" / name, package / name)
    (package / "__init__.py").write_text("")
    above = package if place == "wheel" else tmp_path
    (above / "models").mkdir()
    (above / "models" / "a.toml").write_text("found")
    if place == "checkout":
        (tmp_path / "pyproject.toml").touch()
    assert look_up(tmp_path, "models", "a.toml") == "found"
    assert "damaged" in look_up(tmp_path, "grammars", "a.lark")


def test_a_neighbour_of_the_installed_package_is_not_taken_for_ours(tmp_path: Path) -> None:
    (tmp_path / "engine").mkdir()
    (tmp_path / "bench").mkdir()  # someone else's package in site-packages
    (tmp_path / "bench" / "run.py").touch()
    for name in ("resources.py", "errors.py"):
        shutil.copy(ROOT / "engine" / name, tmp_path / "engine" / name)
    (tmp_path / "engine" / "__init__.py").touch()
    assert "damaged" in look_up(tmp_path, "bench", "run.py")


def look_up(root: Path, folder: str, name: str) -> str:
    """The text of the file found by a Python that knows `root` alone, or the error."""
    code = f"""if True:
        import sys
        sys.path.insert(0, {str(root)!r})
        from engine.errors import InternalError
        from engine.resources import resource
        try:
            print(resource({folder!r}, {name!r}).read_text(), end="")
        except InternalError as error:
            print(error, end="")
    """
    command = [sys.executable, "-I", "-S", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_missing_file_is_named() -> None:
    with pytest.raises(InternalError, match=r"models/nothing\.toml is missing"):
        resources.resource("models", "nothing.toml")


def test_the_version_is_written_once() -> None:
    assert PYPROJECT["project"]["dynamic"] == ["version"]
    assert importlib.metadata.version("engine-gguf") == __version__


def test_the_stub_describes_the_compiled_module(tmp_path: Path) -> None:
    """Anew: python -m nanobind.stubgen -m engine._native -o engine/_native.pyi"""
    pytest.importorskip("nanobind", reason="needs nanobind, which is in the extra `test`")
    fresh = tmp_path / "_native.pyi"
    command = [sys.executable, "-m", "nanobind.stubgen", "-q", "-m", "engine._native"]
    subprocess.run([*command, "-o", str(fresh)], check=True, env={**os.environ})
    committed = ROOT / "engine" / "_native.pyi"
    assert signatures(committed) == signatures(fresh), self_help(committed)


def signatures(stub: Path) -> str:
    """The stub as a syntax tree without docstrings, which nanobind wraps now so, now so."""
    tree = ast.parse(stub.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            node.body = [
                line
                for line in node.body
                if not (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant))
            ]
    return ast.dump(tree)


def self_help(stub: Path) -> str:
    return f"{stub} is out of date: python -m nanobind.stubgen -m engine._native -o {stub}"


def test_every_native_name_has_a_docstring() -> None:
    public = [name for name in vars(engine._native) if not name.startswith("_")]
    assert {"TokenTrie", "Sampler", "argmax"} <= set(public)
    assert [name for name in public if not getattr(engine._native, name).__doc__] == []


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names in a source distribution of this checkout, without the leading folder."""
    build = pytest.importorskip(
        "scikit_build_core.build", reason="needs scikit-build-core, which is in the extra `test`"
    )
    checkout = tmp_path_factory.mktemp("checkout") / "engine"
    skipped = shutil.ignore_patterns("build", ".venv", ".git", "__pycache__", ".*_cache")
    shutil.copytree(ROOT, checkout, ignore=skipped, symlinks=True)
    for name in ("models/huge.gguf", "models/tiny/other.gguf", "weights.gguf", "models/a.pt"):
        (checkout / name).write_bytes(b"GGUF")
    out = tmp_path_factory.mktemp("sdist")
    before = Path.cwd()
    os.chdir(checkout)
    try:
        archive = build.build_sdist(str(out))
    finally:
        os.chdir(before)
    with tarfile.open(out / archive) as tar:
        return {name.partition("/")[2] for name in tar.getnames()}


def test_the_sdist_holds_all_that_a_wheel_is_built_from(sdist: set[str]) -> None:
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "engine").rglob("*.py")}
    for folder in ("grammars", "models", "bench"):
        sources |= {
            path.relative_to(ROOT).as_posix()
            for path in (ROOT / folder).rglob("*")
            if path.suffix in {".lark", ".toml", ".py"}
        }
    headers = {path.relative_to(ROOT).as_posix() for path in (ROOT / "engine/native").iterdir()}
    others = {"CMakeLists.txt", "LICENSE", "README.md", "engine/py.typed", "engine/_native.pyi"}
    assert sources | headers | others <= sdist


def test_the_sdist_holds_the_embedded_model_no_other_weights_and_no_tests(sdist: set[str]) -> None:
    weights = {name for name in sdist if name.endswith((".gguf", ".pt"))}
    assert weights == {"models/tiny/tiny-tools.gguf"}
    assert not {name for name in sdist if name.startswith(("tests/", "build/", ".ci"))}
