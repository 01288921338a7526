"""What README.md, README.ko.md and docs/ tell a reader to type, open and expect is there.

The commands are parsed by the real command line, the Python runs on a scripted model, tables are
compared with the code that they describe, and the two languages with each other.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import engine
from engine import errors
from engine.cli import COMMANDS as SUBCOMMANDS
from engine.cli import LazyCommand, build
from engine.cli.commands import COMMANDS as SLASH
from engine.cli.commands import SETTINGS
from engine.cli.run import EXIT_CODES
from engine.families import profiles
from engine.family_file import KEYS
from engine.profile import IN_WORDS
from tests.fakes import byte_vocab, scripted_model
from tests.test_layers import LAYERS, OWNERS

ROOT = Path(__file__).parents[1]
README, KOREAN = ROOT / "README.md", ROOT / "README.ko.md"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("[!.]*/*.md"), *ROOT.glob("docs/**/*.md")])
PAGES = list(dict.fromkeys(page for page in PAGES if ".venv" not in page.parts))
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
SPAN = re.compile(r"`([^`\n]+)`")


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return FENCE.sub("", read(page))


def table(page: Path, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its head; `\\|` is no border."""
    section = read(page).split(f"\n## {heading}\n", 1)[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    assert rows, f"{page.name} has no table below {heading}"
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows[2:]]


def code(cell: str) -> list[str]:
    return [span.replace("\\|", "|") for span in SPAN.findall(cell)]


# -- commands ------------------------------------------------------------------------------------


def command_lines(page: Path) -> Iterator[str]:
    """Every `engine ...` of fenced and indented blocks, taken out of pipes and chains."""
    fenced = [body for kind, body in FENCE.findall(read(page)) if kind in ("sh", "console")]
    indented = re.findall(r"(?m)^    (.+)$", prose(page))
    for line in [*"\n".join(fenced).splitlines(), *indented]:
        lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars="|&;")
        lexer.whitespace_split = True
        try:
            words = list(lexer)
        except ValueError:  # a line of a transcript with a lone quote
            continue
        while words:
            end = next((i for i, word in enumerate(words) if set(word) <= set("|&;")), len(words))
            command, words = words[:end], words[end + 1 :]
            if command and command[0].rpartition("/")[2] == "engine":
                yield shlex.join(command[1:])


LINES = [(page.name, line) for page in PAGES for line in command_lines(page)]


def parse(line: str) -> dict[str, object]:
    """The options that the real command takes `line` for. Raises what Typer raises."""
    words = shlex.split(line)
    while words[0].startswith("-"):
        assert words.pop(0) in ("--debug", "--version", "--help")
    command = build().commands[words[0]]
    assert isinstance(command, LazyCommand)
    return dict(command.make_context(words[0], words[1:]).params)


@pytest.mark.parametrize(("page", "line"), LINES)
def test_a_command_line_parses(page: str, line: str) -> None:
    options = parse(line)
    for tools in options.get("tools") or ():  # type: ignore[attr-defined]
        file, _, _ = tools.partition(":")
        assert tools == "engine.tools.examples" or file == "tools.py" or (ROOT / file).is_file()
    schema = options.get("json_schema")
    assert schema is None or json.loads(str(schema))


def test_a_wrong_flag_would_be_noticed() -> None:
    with pytest.raises(Exception, match="no-such-flag"):
        parse("chat smollm2 --no-such-flag")
    assert len(LINES) > 30


def test_every_subcommand_is_shown_in_both_readmes() -> None:
    for page in (README, KOREAN):
        shown = {shlex.split(line)[0] for name, line in LINES if name == page.name}
        assert shown == set(SUBCOMMANDS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_flags_named_in_the_text_exist(page: Path) -> None:
    spans = [span for span in SPAN.findall(prose(page)) if "pip " not in span]
    flags = {flag for span in spans for flag in re.findall(r"(?<!\S)--?[a-z][a-z-]*", span)}
    known = {"--debug", "--version", "--help", "--strict"}
    for name in SUBCOMMANDS:
        command = build().commands[name]
        assert isinstance(command, LazyCommand)
        known |= {flag for option in command.load().params for flag in option.opts}
    known |= {"-t", "-n", "-m"}
    if page.parent.name == "bench":
        sources = "".join(path.read_text() for path in page.parent.glob("*.py"))
        known |= set(re.findall(r'add_argument\("(--[a-z-]+)"', sources))
    assert flags <= known
    for span in spans:
        if match := re.match(r"engine (?:--debug )?([a-z]+)", span):
            assert match[1] in SUBCOMMANDS, span


@pytest.mark.parametrize("name", ["setup", "test"])
def test_the_two_set_up_commands_are_one_line_and_the_same_in_both_languages(name: str) -> None:
    command = [
        subprocess.run(
            [sys.executable, str(ROOT / ".ci" / "readme_command.py"), str(page), name],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.removesuffix("\n")
        for page in (README, KOREAN)
    ]
    assert command[0] == command[1]
    assert command[0].count("\n") == 0
    assert command[0].startswith("python3 -m venv .venv && .venv/bin/pip install ")


@pytest.mark.live
def test_the_set_up_command_ends_with_a_right_answer(tmp_path: Path) -> None:
    line = next(line for kind, line in FENCE.findall(read(README)) if "| .venv/bin/engine" in line)
    last = line.strip().rpartition("&& ")[2]
    last = last.replace(".venv/bin/engine", f"{shlex.quote(sys.executable)} -m engine")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["sh", "-c", last],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        env=environment,
    )
    assert done.returncode == 0 and "Paris" in done.stdout, done.stderr


# -- links ---------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"(?m)^#+ (.+)$", prose(page))
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        there = (page.parent / file).resolve() if file else page
        assert there.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in anchors(there), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_name_no_place_of_one_machine(page: Path) -> None:
    assert re.findall(r"(?<![\w.])/(?:home|Users|tmp|work|root)/", read(page)) == []


# -- Python --------------------------------------------------------------------------------------

BLOCKS = [
    pytest.param(page, body, id=f"{page.name}-{number}")
    for page in PAGES
    for number, (kind, body) in enumerate(FENCE.findall(read(page)))
    if kind == "python"
]


@pytest.mark.parametrize(("page", "body"), BLOCKS)
def test_python_compiles(page: Path, body: str) -> None:
    compile(body, str(page), "exec", dont_inherit=True)


def marked_blocks(page: Path) -> list[str]:
    return re.findall(r"^<!-- run: \w+ -->\n```python\n(.*?)^```$", read(page), re.M | re.S)


CALL = ["<tool_call>", '{"name": "', "get_weather", '", "arguments": {"city": "', "서울", '"}}']
CALL += ["</tool_call>"]


@pytest.mark.parametrize("page", [README, KOREAN], ids=lambda page: page.name)
def test_the_readme_s_python_runs(
    page: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = marked_blocks(page)
    assert len(blocks) == len(re.findall(r"^```python$", read(page), re.M)), "a block is not run"
    model = scripted_model(byte_vocab(words=CALL), family="hermes")
    end = model.vocab.find("<|im_end|>")
    for text in ("".join(CALL), "21도입니다.", '{"city": "Paris"}'):
        model.backend.say([*model.encode(text), end])  # type: ignore[attr-defined]
    model.backend.say([7])  # type: ignore[attr-defined]
    asked: list[object] = []
    monkeypatch.setattr(engine, "load", lambda name, **_: asked.append(name) or model)
    names: dict[str, object] = {"__name__": "readme"}
    for block in blocks:
        exec(compile(block, str(page), "exec", dont_inherit=True), names)
    assert asked == ["smollm2"] and model.backend.closed  # type: ignore[attr-defined]
    out = capsys.readouterr().out
    assert "\n-> get_weather({'city': '서울'})\n" in out and "21도입니다.\n[end_turn; " in out
    assert out.endswith("Paris\n7 10\n")


def test_the_errors_page_s_python_runs() -> None:
    for kind, body in FENCE.findall(read(ROOT / "docs" / "errors.md")):
        if kind == "python":
            exec(compile(body, "errors.md", "exec", dont_inherit=True), {})


# -- tables --------------------------------------------------------------------------------------

ERRORS = [
    item
    for _, item in inspect.getmembers(errors, inspect.isclass)
    if issubclass(item, errors.EngineError)
]


def test_the_exit_codes_are_those_of_the_errors() -> None:
    codes = {0, *(item.exit_code for item in ERRORS)}
    for page, heading in ((README, "Exit codes"), (KOREAN, "종료 코드")):
        assert [int(row[0]) for row in table(page, heading)] == sorted(codes)


def test_the_errors_page_lists_every_error_with_its_base_and_code() -> None:
    rows = re.findall(r"(?m)^\| `(\w+)` \| `(\w+)` \| (\d+) \|", read(ROOT / "docs/errors.md"))
    assert {row[0]: row[1:] for row in rows} == {
        item.__name__: (item.__base__.__name__, str(item.exit_code)) for item in ERRORS
    }
    assert len(rows) == len(ERRORS)
    text = prose(ROOT / "docs/errors.md")
    said = re.search(r"step limit (\d+), a full context (\d+), Ctrl-C (\d+)", text)
    assert said is not None
    names = ("step_limit", "context_full", "cancelled")
    assert tuple(map(int, said.groups())) == tuple(EXIT_CODES[name] for name in names)


def test_slash_commands_and_settings_are_listed() -> None:
    for page in (README, KOREAN):
        heading = "Chat" if page is README else "채팅"
        spans = [span for row in table(page, heading) for span in code(row[0])]
        slash = [span for span in spans if span.startswith("/")]
        assert sorted(slash) == sorted(command.usage for command in SLASH.values())
        [settings] = [row[1] for row in table(page, heading) if "/set " in row[0]]
        assert code(settings) == list(SETTINGS)


def test_the_number_of_families_is_that_of_the_data() -> None:
    for page in (README, KOREAN):
        found = re.findall(r"(\d+)(?: families ship|개 계열이 들어)", read(page))
        assert found == [str(len(profiles()))]


def test_the_keys_of_profiles_are_explained() -> None:
    rows = table(ROOT / "docs/families.md", "models/*.toml")
    named = {span for row in rows for span in code(row[0])}
    named |= {f"result.{span}" for row in rows if "result.form" in row[0] for span in code(row[1])}
    known = {"title", "ends", "control"}
    for kind in set(KEYS) - {"", "styles"}:
        known |= {f"{kind}.{key}" for key in KEYS[kind]}
    known |= {f"styles.NAME.{key}" for key in KEYS["styles"]}
    assert known <= named, known - named
    assert set(IN_WORDS) <= {span for row in rows for span in code(row[1])}


def test_the_grammar_in_the_guide_is_the_one_that_is_used() -> None:
    [body] = [
        text for kind, text in FENCE.findall(read(ROOT / "docs/families.md")) if kind == "lark"
    ]
    source = read(ROOT / "grammars/tools/generic.lark")
    assert body == re.sub(r"(?m)^//.*\n", "", source)


def test_our_environment_variables_are_explained() -> None:
    source = "".join(read(path) for path in (ROOT / "engine").rglob("*.py"))
    ours = set(re.findall(r"\bENGINE_[A-Z_]+[A-Z]\b", source))
    for page, heading in ((README, "Environment variables"), (KOREAN, "환경 변수")):
        named = {span for row in table(page, heading) for span in code(row[0])}
        assert ours <= named
        assert {name for name in named if name not in source} == set()


# -- architecture --------------------------------------------------------------------------------


def test_the_architecture_page_names_the_modules_that_there_are_layer_by_layer() -> None:
    text = read(ROOT / "docs" / "architecture.md")
    sections = re.split(r"\n## (?=Layer \d)", text)[1:]
    said = [
        {span.removesuffix(".py").removesuffix("/") for span in SPAN.findall(first)}
        for section in sections
        for first in [" ".join(re.findall(r"(?m)^\| (`[^|]+) \|", section.split("\n## ")[0]))]
    ]
    assert said == [{"native" if name == "_native" else name for name in row} for row in LAYERS]
    files = {path.name for path in (ROOT / "engine").iterdir()}
    modules = {name.removesuffix(".py") for name in files if name.endswith(".py")}
    modules |= {path.parent.name for path in (ROOT / "engine").glob("*/__init__.py")}
    assert set().union(*said) == modules | {"native"}


def test_the_architecture_page_names_the_importer_of_each_dependency() -> None:
    rows = table(ROOT / "docs" / "architecture.md", "Outside dependencies")
    said = {row[0]: code(row[1])[0].removesuffix(".py") for row in rows}
    assert said == {name: home for name, home in OWNERS.items() if name != "typing_extensions"}


# -- two languages -------------------------------------------------------------------------------


def test_both_readmes_have_the_same_blocks_headings_tables_and_terms() -> None:
    english, korean = read(README), read(KOREAN)
    assert FENCE.findall(english) == FENCE.findall(korean)
    assert re.findall(r"<!--.*?-->", english) == re.findall(r"<!--.*?-->", korean)
    levels = [re.findall(r"(?m)^(#+) ", prose(page)) for page in (README, KOREAN)]
    assert levels[0] == levels[1]
    rows = [len(re.findall(r"(?m)^\|", prose(page))) for page in (README, KOREAN)]
    assert rows[0] == rows[1]
    links = [
        sorted(re.findall(r"\]\(([^)]+)\)", prose(page).replace("README.ko.md", "README.md")))
        for page in (README, KOREAN)
    ]
    assert links[0] == links[1]
    terms = [set(SPAN.findall(prose(page))) for page in (README, KOREAN)]
    assert terms[0] == terms[1], terms[0] ^ terms[1]


def test_the_readmes_stay_short() -> None:
    assert max(len(read(page).splitlines()) for page in (README, KOREAN)) <= 260
