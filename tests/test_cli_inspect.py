"""inspect, models and pull as a person calls them: results on stdout, the rest on stderr."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest
from fake_hub import FakeHub
from gguf_files import write_model, write_vocabulary

from engine.cli import main
from engine.cli.table import count_text, size_text


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    """Stores of our own only."""
    home = tmp_path / "home"
    home.mkdir()
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME", "OLLAMA_MODELS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(home / "hf"))
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("ENGINE_MODELS", str(home / "models"))
    monkeypatch.setattr("engine.store.places._packages", lambda: iter(()))
    monkeypatch.setattr("engine.store.places._embedded", lambda found: iter(()))
    monkeypatch.setattr("engine.store.places.SYSTEM_OLLAMA", home / "ollama")
    (home / "models").mkdir()
    return home


@pytest.fixture
def engine(capsys):
    """Run a command line; answers (exit code, stdout, stderr)."""

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return int(caught.value.code or 0), out, err

    return run


def rows(text: str) -> dict[str, str]:
    """The labels and values of a report."""
    return {
        match[1]: match[2]
        for line in text.splitlines()
        if (match := re.match(r"(\w+)\s+(.*)", line))
    }


def test_inspect_tells_what_a_model_is(engine, home):
    path = write_model(home / "models" / "tiny.gguf")
    code, out, err = engine("inspect", "tiny")
    found = rows(out)
    assert code == 0 and err.count("\n") == 1 and "shown with --all: 1" in err  # <unk>
    assert found["name"] == "Tiny" and found["file"] == str(path)
    assert found["architecture"] == "llama" and found["quantisation"] == "F32"
    assert found["context"] == "64 tokens in training"
    assert found["template"].startswith("sha256 ")
    assert "for 64 tokens" in found["memory"]
    assert re.search(r"^  2  </s>\s+end of the turn; the file's end token$", out, re.M)


def test_inspect_as_json_says_the_same(engine, home):
    path = write_model(home / "models" / "tiny.gguf")
    template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    code, out, _ = engine("inspect", path, "--json", "-c", "1024")
    found = json.loads(out)
    assert code == 0 and found["version"] == 1
    assert found["parameters"] * 4 == found["weight_bytes"]
    assert found["chat_template_sha256"] == hashlib.sha256(template.encode()).hexdigest()
    memory = found["memory"]
    assert memory["n_ctx"] == 1024 and memory["kv"] == 1024 * 2 * 16 * 2
    assert memory["total"] == memory["weights"] + memory["kv"] + memory["compute"]
    assert {t["id"]: t["text"] for t in found["control_tokens"]}[1] == "<s>"
    assert any("trained for 64 tokens" in note for note in found["notes"])


def test_inspect_knows_the_family_and_its_control_tokens(engine, shared_data):
    path = shared_data / "vocab" / "llama-3.1.gguf"
    code, out, err = engine("inspect", path, "--json")
    found = json.loads(out)
    meanings = {token["text"]: (token["id"], token["meaning"]) for token in found["control_tokens"]}
    assert code == 0 and found["family"] == "llama3"
    assert meanings["<|eom_id|>"] == (128008, "end of the message")
    assert meanings["<|eot_id|>"][0] == 128009 and "end of the turn" in meanings["<|eot_id|>"][1]
    assert meanings["<|python_tag|>"][0] == 128010
    assert any("no weights" in note for note in found["notes"])
    code, out, err = engine("inspect", path)
    assert "<|python_tag|>" in out and "reserved" not in out and "--all" in err
    assert "<|reserved_special_token_9|>" in engine("inspect", path, "--all")[1]


CALLING = """
{%- for m in messages %}{{ m.role }}: {{ m.content }}
{%- for c in m.tool_calls or [] %}CALL{% endfor %}
{%- if m.role == 'assistant' %}</s>{% endif %}
{% endfor %}"""
CALLED = "<tool_use>{{ c.function.name }} {{ c.function.arguments | tojson }}</tool_use>"


@pytest.mark.parametrize(
    "call, family, reason, opener",
    [
        (CALLED, "derived", "calls are as its template writes them", {"text": "<tool_use>"}),
        ("", "generic", "a call's name is not shown", {"text": "<tool_call>"}),
    ],
)
def test_inspect_says_what_became_of_an_unknown_template(
    engine, home, call, family, reason, opener
):
    template = ("str", CALLING.replace("CALL", call))
    path = write_model(home / "models" / "new.gguf", tokenizer__chat_template=template)
    found = json.loads(engine("inspect", path, "--json")[1])
    assert found["family"] == family and reason in found["family_reason"]
    assert found["styles"][0]["triggers"] == [opener] and found["ends"] == {"</s>": "turn_end"}
    said = rows(engine("inspect", path)[1])
    assert reason in said["family"] and next(iter(opener.values())) in said["calls"]
    assert said["ends"] == "</s> end of the turn"


def test_inspect_takes_the_family_that_is_asked_for(engine, home):
    path = write_model(home / "models" / "tiny.gguf")
    found = json.loads(engine("inspect", path, "--json", "--family", "llama3")[1])
    assert (found["family"], found["family_reason"]) == ("llama3", "asked for by name")
    assert [style["name"] for style in found["styles"]] == ["json", "function_tag"]
    code, _, err = engine("inspect", path, "--family", "llama9")
    assert code != 0 and "unknown model family 'llama9'" in err and err.count("\n") == 1


def test_inspect_shows_every_key_on_demand(engine, home):
    write_model(home / "models" / "tiny.gguf", x__evil=("str", "a\x1b[2Jb\n\u202ec"))
    _, out, _ = engine("inspect", "tiny", "--metadata")
    assert re.search(r"tokenizer\.ggml\.tokens\s+arr\[str\]\s+267: <unk>, <s>, </s>,", out)
    assert "\x1b" not in out and "\\x1b[2Jb\\n\\u202ec" in out


@pytest.mark.parametrize(
    "changes, note",
    [
        ({"general__type": ("str", "mmproj")}, "projector"),
        ({"llama__pooling_type": ("u32", 1)}, "embedding"),
        ({"tokenizer__chat_template": ("str", "{% if %}")}, "chat template can't be used"),
        ({"tokenizer__ggml__model": ("str", "no_vocab")}, "no_vocab"),
        ({"tokenizer__chat_template": None}, "no chat template"),
    ],
)
def test_inspect_notes_what_a_file_is_not_good_for(changes, note, engine, home):
    write_model(home / "models" / "odd.gguf", **changes)
    code, out, err = engine("inspect", "odd")
    assert code == 0 and note in err and rows(out)["name"] == "Tiny"


BAD = {
    "missing": (lambda path: None, 3, "no such file"),
    "a folder": (lambda path: path.mkdir(), 3, "directory"),
    "empty": (lambda path: path.write_bytes(b""), 3, "magic"),
    "cut off": (
        lambda path: path.write_bytes(write_model(path).read_bytes()[:3000]),
        3,
        "truncated or damaged",
    ),
    "no GGUF": (lambda path: path.write_text("hello, I am a text"), 3, "not a GGUF file"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_files_are_one_line_on_stderr(kind, engine, tmp_path):
    make, code, expected = BAD[kind]
    path = tmp_path / "bad.gguf"
    make(path)
    found, out, err = engine("inspect", path)
    assert (found, out, err.count("\n")) == (code, "", 1)
    assert expected in err and str(path) in err
    found, out, _ = engine("inspect", path, "--json")
    error = json.loads(out)["error"]
    assert (found, error["exit_code"]) == (code, code) and expected in error["message"]


def test_models_lists_what_is_there(engine, home):
    write_model(home / "models" / "tiny.gguf")
    write_vocabulary(home / "models" / "words.gguf")
    (home / "models" / "broken.gguf").write_bytes(b"GGUF")
    code, out, err = engine("models")
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert code == 0 and err == ""
    assert list(lines) == ["NAME", "broken", "tiny", "words"]
    assert "F32" in lines["tiny"] and "folder" in lines["tiny"]
    assert "no weights" in lines["words"] and "truncated or damaged" in lines["broken"]


def test_models_as_json(engine, home):
    path = write_model(home / "models" / "tiny.gguf")
    write_model(home / "models" / "other.gguf")
    code, out, _ = engine("models", "tin", "--json")
    found = json.loads(out)
    (model,) = found["models"]
    assert code == 0 and found["version"] == 1
    assert model["path"] == str(path) and model["bytes"] == path.stat().st_size
    assert model["family"] == "generic" and model["problem"] is None


def test_models_without_any_says_how_to_get_one(engine):
    code, out, err = engine("models")
    assert (code, out) == (0, "") and "engine pull" in err
    assert "holds 'x'" in engine("models", "x")[2]


@pytest.fixture
def hub(home, monkeypatch):
    data = write_model(home / "tiny.gguf").read_bytes()
    with FakeHub(files={"Tiny-Q8_0.gguf": data, "Tiny-Q4_K_M.gguf": data[:5000]}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        yield server


def test_pull_names_the_model_its_path_and_its_hash(engine, hub):
    code, out, err = engine("pull", "org/Tiny-GGUF:q8_0")
    found = rows(out)
    assert code == 0 and err == ""
    assert found["name"] == "org/Tiny-GGUF:Q8_0"
    data = hub.files["Tiny-Q8_0.gguf"]
    assert Path(found["path"]).read_bytes() == data
    assert found["sha256"] == hashlib.sha256(data).hexdigest()
    assert rows(engine("inspect", found["name"])[1])["file"] == found["path"]


def test_pull_as_json_and_again(engine, hub):
    engine("pull", "org/Tiny-GGUF:Q8_0")
    code, out, _ = engine("pull", "org/Tiny-GGUF:Q8_0", "--json")
    found = json.loads(out)
    assert code == 0 and found["version"] == 1 and found["fetched_bytes"] == 0
    assert found["files"][0]["sha256"] == hashlib.sha256(hub.files["Tiny-Q8_0.gguf"]).hexdigest()


def test_pull_notes_a_file_that_cannot_be_used(engine, hub):
    code, _, err = engine("pull", "org/Tiny-GGUF")
    assert code == 0 and "note:" in err and "truncated or damaged" in err


@pytest.mark.parametrize(
    "reference, code, expected",
    [
        ("org/Tiny-GGUF:Q2_K", 3, "it has Q4_K_M, Q8_0"),
        ("org/Other", 3, "no such repository"),
        ("nonsense", 2, "ORG/REPO"),
    ],
)
def test_pull_refusals_have_an_exit_code(reference, code, expected, engine, hub):
    found, out, err = engine("pull", reference)
    assert (found, out, err.count("\n")) == (code, "", 1) and expected in err


def test_an_interrupted_pull_says_that_it_goes_on(engine, hub, monkeypatch):
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("engine.hub.hf_raise_for_status", interrupt)
    code, out, err = engine("pull", "org/Tiny-GGUF:Q8_0")
    assert (code, out) == (130, "") and "goes on there" in err


@pytest.mark.parametrize(
    "size, text", [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (92 << 20, "92.0 MiB")]
)
def test_sizes_read_as_memory_does(size, text):
    assert size_text(size) == text


@pytest.mark.parametrize(
    "count, text", [(999, "999"), (134_515_008, "135 M"), (7_615_616_512, "7.62 B")]
)
def test_parameters_read_as_models_are_named(count, text):
    assert count_text(count) == text
