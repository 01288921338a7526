"""The architecture as a test: who may import whom, and which module owns which dependency."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ENGINE = Path(__file__).parents[1] / "engine"

# A module imports only from its own layer's row or from rows above it in this table.
LAYERS: list[set[str]] = [
    {
        "errors",
        "messages",
        "events",
        "resources",
        "saved",
        "private",
        "signed",
        "filehash",
        "visible",
        "_version",
    },
    {
        "gguf",
        "utf8",
        "tokenbytes",
        "special",
        "pretokenizers",
        "vocab",
        "fit",
        "store",
        "repository",
        "hub",
    }
    | {"backend", "loading", "question", "llama", "device", "_native"},
    {
        "profile",
        "family_file",
        "families",
        "template",
        "encoding",
        "tokenizer",
        "prompt",
        "sequence",
        "prefixes",
        "reuse",
    },
    {"constraint", "grammar", "callvalues", "callgrammar", "dialect", "sampler"}
    | {"framing", "probing"},
    {"needles", "watch", "decode", "callreader"},
    {"tools", "callfollower", "toolcall", "model", "answer", "course", "pending"}
    | {"compaction", "restream", "feed", "asynchronous", "turns", "chat"},
    {"cli", "__init__", "__main__"},
]
LAYER = {name: index for index, names in enumerate(LAYERS) for name in names}

# Each outside dependency is imported by one module: change the library, change one file.
OWNERS = {
    "llama_cpp": "llama",
    "lark": "grammar/lark",
    "jinja2": "template/sandbox",
    "tokenizers": "tokenizer",
    "pydantic": "tools/typed",
    "typing_extensions": "tools/typed",
    "huggingface_hub": "hub",
    "prompt_toolkit": "cli/prompt",
    "mcp": "tools/mcp/client",
    "mcp_types": "tools/mcp/client",
    "anyio": "tools/mcp/client",
    "httpx2": "tools/mcp/web",
}
ANYWHERE = {"numpy"}
SURFACE_ONLY = {"typer", "click", "rich", "platformdirs"}  # anywhere in cli/, nowhere else
FOLDERS = "prefixes"  # the one module below it that knows where a user's data lies


def modules() -> list[Path]:
    return sorted(path for path in ENGINE.rglob("*.py") if "native" not in path.parts)


def name_of(path: Path) -> str:
    return path.relative_to(ENGINE).with_suffix("").as_posix()


def unit_of(path: Path) -> str:
    """The module or package at the top of engine/ that a file belongs to."""
    return name_of(path).split("/")[0]


def imports(path: Path) -> set[str]:
    """Every module that a file imports, at its top, in functions, or for types alone."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module)
            if node.module == "engine":
                found.discard("engine")
                found.update(f"engine.{alias.name}" for alias in node.names)
    return found


def runtime_imports(path: Path) -> set[str]:
    """As `imports`, without those under `if TYPE_CHECKING`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))

    class Strip(ast.NodeTransformer):
        def visit_If(self, node: ast.If) -> ast.AST | None:
            is_guard = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
            return None if is_guard else node

    stripped = Strip().visit(tree)
    found: set[str] = set()
    for node in ast.walk(stripped):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [f"engine.{a.name}" for a in node.names] if node.module == "engine" else []
            found.update(names or [node.module])
    return found


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_every_module_has_a_layer_and_imports_only_downwards(path):
    unit = unit_of(path)
    assert unit in LAYER, f"engine/{unit} has no layer: put it into the table, and into the docs"
    for name in sorted(runtime_imports(path)):
        if not name.startswith("engine."):
            continue
        used = name.split(".")[1]
        if unit == "__init__" or used == unit or used not in LAYER:
            continue
        upwards = LAYER[used] > LAYER[unit]
        # `Model.chat` makes a Chat, which knows the Model: the one import against the flow.
        assert not upwards or (unit, used) == ("model", "chat"), f"{name_of(path)} imports {name}"


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_every_dependency_has_one_importer(path):
    for name in sorted(imports(path)):
        root = name.split(".")[0]
        if root in sys.stdlib_module_names or root in ANYWHERE or root == "engine":
            continue
        if root in SURFACE_ONLY:
            is_folder = root == "platformdirs" and unit_of(path) == FOLDERS
            assert unit_of(path) == "cli" or is_folder, f"{name_of(path)}: {root}"
            continue
        assert root in OWNERS, f"{name_of(path)} imports {root}: name its owner in OWNERS"
        assert name_of(path) == OWNERS[root], f"{root} belongs to engine/{OWNERS[root]}.py"


def test_no_modules_import_each_other_in_a_ring():
    """Imports at a module's top; `Model.chat` imports `engine.chat` when it is called."""
    tops: dict[str, set[str]] = {}
    for path in modules():
        body = ast.parse(path.read_text(encoding="utf-8")).body
        names = {n.module for n in body if isinstance(n, ast.ImportFrom) and n.module}
        tops.setdefault(unit_of(path), set()).update(
            name.split(".")[1] for name in names if name.startswith("engine.")
        )
    done: set[str] = set()

    def visit(unit: str, path: tuple[str, ...]) -> None:
        assert unit not in path, " -> ".join((*path, unit))
        if unit not in done:
            for used in sorted(tops.get(unit, set()) - {unit}):
                visit(used, (*path, unit))
            done.add(unit)

    for unit in tops:
        visit(unit, ())


def test_the_table_names_no_module_that_is_gone():
    units = {unit_of(path) for path in modules()} | {"_native"}
    assert set(LAYER) == units
    for owner in OWNERS.values():
        assert (ENGINE / f"{owner}.py").is_file(), owner


def test_a_planted_breach_is_seen(tmp_path):
    """The test above bites: an upward import and a foreign import are found in a file."""
    planted = tmp_path / "planted.py"
    planted.write_text("from engine.chat import Chat\ndef f():\n    import jinja2\n")
    assert {"engine.chat", "jinja2"} <= imports(planted)
    planted.write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import engine.chat\n"
    )
    assert "engine.chat" not in runtime_imports(planted)
