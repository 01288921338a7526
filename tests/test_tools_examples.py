"""The example tools: confined to their root, exact, and helpful when they refuse."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import unicodedata
import zoneinfo
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from engine.messages import Call
from engine.tools import load_tools, run_calls, tools_by_name
from engine.tools.examples import current_time, list_dir, read_file, repo_stats

SECRET = "the secret outside"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root with files, and around it all that must not be read."""
    base = tmp_path / "root"
    (base / "src" / "안쪽").mkdir(parents=True)
    (base / "readme.txt").write_text("hello\n")
    (base / "src" / "안쪽" / "글.txt").write_text("한국어 내용\n둘째 줄\n", encoding="utf-8")
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "secret.txt").write_text(SECRET)
    (outside / "secret.txt").write_text(SECRET)
    (tmp_path / "root-twin").mkdir()
    (tmp_path / "root-twin" / "secret.txt").write_text(SECRET)
    (base / "link.txt").symlink_to("../secret.txt")
    (base / "absolute.txt").symlink_to(tmp_path / "secret.txt")
    (base / "folder").symlink_to("../outside")
    (base / "src" / "up").symlink_to("..")
    (base / "chain").symlink_to("src/up/folder")
    (base / "loop").symlink_to("loop")
    os.mkfifo(base / "pipe")
    monkeypatch.setenv("ENGINE_TOOLS_ROOT", str(base))
    return base


def test_all_five_load_by_the_documented_name() -> None:
    names = {tool.name for tool in load_tools("engine.tools.examples")}
    assert names == {"calculate", "current_time", "list_dir", "read_file", "repo_stats"}


def test_every_tool_and_argument_is_described() -> None:
    for tool in load_tools("engine.tools.examples"):
        assert len(tool.description) > 20
        for schema in tool.parameters["properties"].values():
            assert len(schema["description"]) > 10


# --- confinement


def escapes(tmp_path: Path) -> list[str]:
    """500 ways out, and more: `..` and links and absolute paths, combined and disguised."""
    targets = ["secret.txt", "outside/secret.txt", "root-twin/secret.txt", "outside", ".", ""]
    starts = ["..", "../", "./..", "src/../..", "src/안쪽/../../..", "x/../..", "src/up/..",
              "folder", "folder/..", "chain", "src/up/folder", "link.txt/..", "//..", "/..",
              ".//..", "../root/..", "readme.txt/../..", "src//..//..", "loop/.."]  # fmt: skip
    paths = [f"{start}/{target}" for start, target in itertools.product(starts, targets)]
    paths += [f"{prefix}{target}" for target in targets for prefix in
              (f"{tmp_path}/", f"{tmp_path}/root/../", f"{tmp_path}/root-twin/", f"//{tmp_path}/",
               "file://", f"file://{tmp_path}/", "~/", "~root/", "$HOME/", "%2e%2e/", "..%2f",
               "..\\", "\\..\\", "..;/", "..\0/", "../\0", "．．/", "‥/", "..／", "…/", " ../",
               "../ ", "`cat ../", "$(cat ../", "; cat ../", "&& rm -rf ../")]  # fmt: skip
    paths += ["link.txt", "absolute.txt", "folder", "folder/secret.txt", "chain/secret.txt",
              "src/up/link.txt", "src/up", "loop", "pipe", "/", "/etc/passwd", "/proc/self/environ",
              "/proc/self/cwd/../secret.txt", "/dev/zero", "/dev/stdin", "/dev/fd/0",
              str(tmp_path / "secret.txt"), f"{tmp_path}/root/link.txt"]  # fmt: skip
    pieces = ["..", ".", "", "src", "안쪽", "folder", "link.txt", "up", "chain", "root",
              "outside", "secret.txt", "absolute.txt", "\\..", "..."]  # fmt: skip
    rng = random.Random(7)
    while len(paths) < 800:
        paths.append("/".join(rng.choices(pieces, k=rng.randint(2, 7))))
    return paths


def test_no_path_leads_outside_the_root(root: Path, tmp_path: Path) -> None:
    allowed = {"readme.txt", "src", "link.txt", "absolute.txt", "folder", "chain", "loop", "pipe"}
    paths = escapes(tmp_path)
    assert len(paths) >= 500
    calls = [
        Call(f"{number}-{name}", name, {"path": path})
        for number, path in enumerate(paths)
        for name in ("read_file", "list_dir", "repo_stats")
    ]
    results = list(run_calls(calls, tools_by_name([read_file, list_dir, repo_stats])))
    assert len(results) == len(calls)
    for call, result in zip(calls, results, strict=True):
        assert SECRET not in str(result.content), call.arguments
        if result.is_error:
            assert result.content["error"]["type"] in {
                "PermissionError", "FileNotFoundError", "NotADirectoryError",
                "IsADirectoryError", "ValueError",
            }, result.content  # fmt: skip
        elif result.name == "list_dir":
            listed = set(result.content["folders"]) | set(result.content["files"])
            assert listed <= allowed | {"안쪽", "글.txt"}, call.arguments
        elif result.name == "repo_stats":
            assert result.content["files"] <= 2


@pytest.mark.parametrize("path", ["link.txt", "absolute.txt", "folder", "folder/secret.txt",
                                  "src/up/readme.txt", "chain/secret.txt", "loop"])  # fmt: skip
@pytest.mark.parametrize("tool", [read_file, list_dir, repo_stats])
def test_links_are_refused_wherever_they_lead(root: Path, tool: Any, path: str) -> None:
    with pytest.raises(PermissionError, match="is a link"):
        tool.call({"path": path})


def test_a_folder_whose_name_begins_like_the_root_is_outside(root: Path) -> None:
    with pytest.raises(PermissionError, match="outside the root"):
        read_file.call({"path": f"{root}-twin/secret.txt"})


def test_a_pipe_is_refused_without_waiting_for_a_writer(root: Path) -> None:
    with pytest.raises(PermissionError, match="not a regular file"):
        read_file.call({"path": "pipe"})


def test_a_folder_swapped_for_a_link_after_its_check_is_still_refused(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The classic race: fine when the path is looked at, a link when it is opened."""
    real = os.open
    (root / "swap").mkdir()
    (root / "swap" / "secret.txt").write_text("inside")

    def swapping(path: Any, *args: Any, **kwargs: Any) -> int:
        if path == "swap" and not (root / "swap").is_symlink():
            (root / "swap" / "secret.txt").unlink()
            (root / "swap").rmdir()
            (root / "swap").symlink_to("../outside")
        return real(path, *args, **kwargs)

    monkeypatch.setattr("engine.tools.rooted.os.open", swapping)
    # `os.open` is looked up in os.supports_dir_fd
    monkeypatch.setattr("engine.tools.rooted.os.supports_dir_fd", {swapping})
    with pytest.raises(PermissionError):
        read_file.call({"path": "swap/secret.txt"})


def test_paths_inside_may_be_absolute_or_roundabout(root: Path) -> None:
    for path in ("readme.txt", "./readme.txt", "src/../readme.txt", "src//..//readme.txt",
                 str(root / "readme.txt"), f"{root}//readme.txt"):  # fmt: skip
        assert read_file.call({"path": path}) == "hello"


def test_a_root_that_is_a_link_itself_is_followed_once(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "alias").symlink_to("root")
    monkeypatch.setenv("ENGINE_TOOLS_ROOT", str(tmp_path / "alias"))
    assert read_file.call({"path": "readme.txt"}) == "hello"
    assert read_file.call({"path": f"{tmp_path}/alias/readme.txt"}) == "hello"
    assert read_file.call({"path": f"{tmp_path}/root/readme.txt"}) == "hello"


def test_the_root_is_the_current_folder_unless_named(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ENGINE_TOOLS_ROOT")
    monkeypatch.chdir(root / "src")
    assert list_dir.call({})["folders"] == ["안쪽"]
    monkeypatch.setenv("ENGINE_TOOLS_ROOT", str(root / "nowhere"))
    with pytest.raises(NotADirectoryError, match="nowhere"):
        list_dir.call({})


def test_no_descriptor_is_left_open(root: Path, tmp_path: Path) -> None:
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("this system does not list open descriptors in /proc/self/fd")
    before = len(os.listdir("/proc/self/fd"))
    for path in [*escapes(tmp_path)[:300], "readme.txt", "src"]:
        for tool in (read_file, list_dir, repo_stats):
            try:
                tool.call({"path": path})
            except (OSError, ValueError):
                continue
    assert len(os.listdir("/proc/self/fd")) == before


# --- read_file and list_dir


def test_korean_names_and_content_are_read_in_either_unicode_form(root: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "받침.txt")
    (root / decomposed).write_text("가", encoding="utf-8")
    assert read_file.call({"path": "src/안쪽/글.txt"}) == "한국어 내용\n둘째 줄"
    assert read_file.call({"path": "받침.txt"}) == "가"
    assert read_file.call({"path": decomposed}) == "가"
    assert "받침.txt" in list_dir.call({})["files"]


@pytest.mark.parametrize(
    "data, text",
    [
        (b"", "[the file is empty]"),
        (b"\n", ""),
        (b"one\ntwo", "one\ntwo"),
        (b"one\r\ntwo\r\n", "one\ntwo"),
        ("\ufeff한글".encode(), "한글"),
        ("한글 문서".encode("cp949"), "한글 문서\n[decoded as cp949]"),
        ("한글".encode("utf-16"), "한글\n[decoded as utf-16]"),
        (b"\xff\xff a", "\ufffd\ufffd a\n[decoded as utf-8, with damaged characters replaced]"),
        (b"<|eot_id|>\n", "<|eot_id|>"),
    ],
)
def test_text_is_read_as_people_see_it(root: Path, data: bytes, text: str) -> None:
    (root / "file").write_bytes(data)
    assert read_file.call({"path": "file"}) == text


@pytest.mark.parametrize("start, count", [(1, 3), (4, 3), (9, 3), (10, 5000), (1, 5000), (1, 10)])
def test_lines_are_the_slice_asked_for_and_the_note_says_how_to_go_on(
    root: Path, start: int, count: int
) -> None:
    lines = [f"line {n}" for n in range(1, 11)]
    (root / "ten").write_text("\n".join(lines) + "\n")
    got = read_file.call({"path": "ten", "start_line": start, "max_lines": count}).split("\n")
    wanted = lines[start - 1 : start - 1 + count]
    assert got[: len(wanted)] == wanted
    note = got[len(wanted) :]
    assert bool(note) == (len(wanted) < 10)
    last = start + len(wanted) - 1
    assert (f"go on with start_line={last + 1}" in str(note)) == (last < 10)


def test_a_long_file_can_be_read_to_its_end_by_following_the_notes(root: Path) -> None:
    lines = [f"{n} " + "글" * (n % 500) for n in range(2000)]
    (root / "long").write_text("\n".join(lines), encoding="utf-8")
    found: list[str] = []
    start = 1
    while start:
        text = read_file.call({"path": "long", "start_line": start, "max_lines": 5000})
        assert len(text.encode()) < 64 * 1024
        *body, note = text.split("\n")
        found += body
        start = int(note.partition("start_line=")[2].rstrip("]") or 0)
    assert found == lines


@pytest.mark.parametrize(
    "name, arguments, said",
    [
        ("binary", {}, "is not text"),
        ("src", {}, "is a folder, not a file"),
        (".", {}, "is a folder, not a file"),
        ("readme.txtt", {}, "did you mean 'readme.txt'"),
        ("readme.txt/x", {}, "is a file, not a folder"),
        ("readme.txt", {"start_line": 5}, "has 1 lines"),
        ("a\0b", {}, "NUL"),
        ("x" * 300, {}, "can't be opened"),
    ],
)
def test_a_file_that_cannot_be_read_is_explained(
    root: Path, name: str, arguments: dict[str, int], said: str
) -> None:
    (root / "binary").write_bytes(b"\x7fELF\x00\x01")
    with pytest.raises((OSError, ValueError), match=said):
        read_file.call({"path": name, **arguments})


def test_one_endless_line_is_cut_and_said_to_be(root: Path) -> None:
    (root / "line").write_text("x" * 1_000_000)
    text = read_file.call({"path": "line"})
    assert len(text) < 64 * 1024 and "it has 1000000 characters" in text


def test_a_listing_has_sizes_and_is_bounded(root: Path) -> None:
    listed = list_dir.call({})
    assert listed["folders"] == ["src"] and listed["files"] == {"readme.txt": 6}
    assert set(listed["links_and_devices"]) == {"absolute.txt", "chain", "folder", "link.txt",
                                                "loop", "pipe"}  # fmt: skip
    (root / "many").mkdir()
    for number in range(510):
        (root / "many" / f"{number:03}").touch()
    listed = list_dir.call({"path": "many"})
    assert len(listed["files"]) == 500 and listed["left_out"] == 10


# --- repo_stats


def test_lines_are_those_that_wc_counts(root: Path) -> None:
    rng = random.Random(3)
    files = []
    for number in range(40):
        file = root / "src" / f"file{number}.{rng.choice(['py', 'cpp', 'MD'])}"
        file.write_text("".join(rng.choice(["a\n", "\n", "  \n", "글"]) for _ in range(50)) + "\n")
        files.append(str(file))
    stats = repo_stats.call({"path": "src"})
    counted = subprocess.run(["wc", "-l", *files], capture_output=True, text=True, check=True)
    total = int(counted.stdout.strip().splitlines()[-1].split()[0])
    assert stats["lines"] - stats["by_extension"][".txt"]["lines"] == total
    assert stats["by_extension"][".txt"] == {"files": 1, "lines": 2, "blank": 0}
    assert set(stats["by_extension"]) == {".py", ".cpp", ".md", ".txt"}
    assert stats["files"] == 41


def test_what_is_not_source_is_left_out_and_counted(root: Path) -> None:
    for folder in (".git", "node_modules", "src/__pycache__", "env", "build"):
        (root / folder).mkdir()
        (root / folder / "x.py").write_text("x\n" * 1000)
    (root / "env" / "pyvenv.cfg").touch()
    (root / "build" / "CMakeCache.txt").touch()
    (root / "image.png").write_bytes(b"\x89PNG\x00")
    (root / "Makefile").write_text("all:\n\n\ttrue")
    stats = repo_stats.call({})
    assert stats["by_extension"] == {
        "(none)": {"files": 1, "lines": 3, "blank": 1},
        ".txt": {"files": 2, "lines": 3, "blank": 0},
    }
    assert stats["skipped"]["folders"] == 5
    assert stats["skipped"]["binary files"] == 1
    assert stats["skipped"]["links and unreadable files"] == 7  # and the pipe


def test_an_empty_file_has_no_lines(root: Path) -> None:
    (root / "src" / "empty.py").touch()
    assert repo_stats.call({"path": "src"})["by_extension"][".py"] == {
        "files": 1, "lines": 0, "blank": 0,
    }  # fmt: skip


def test_counting_stops_at_its_limit_and_says_so(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.tools.examples.MAX_FILES", 1)
    stats = repo_stats.call({})
    assert stats["files"] == 1 and "stopped after 1 files" in stats["incomplete"]


# --- current_time


@pytest.mark.parametrize("zone", ["UTC", "Asia/Seoul", "asia/seoul", "America/New_York", "+05:30"])
def test_the_time_is_that_of_the_zone(zone: str) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    told = current_time.call({"timezone": zone})
    moment = datetime.fromisoformat(f"{told['date']}T{told['time']}{told['utc_offset']}")
    assert before <= moment <= datetime.now(UTC)
    assert told["weekday"] == moment.strftime("%A")
    if "/" in zone:
        real = zoneinfo.ZoneInfo(told["timezone"])
        assert moment.utcoffset() == moment.astimezone(real).utcoffset()


@pytest.mark.parametrize(
    "zone, offset",
    [("UTC+9", "+09:00"), ("GMT-3", "-03:00"), ("+0530", "+05:30"), ("utc", "+00:00")],
)
def test_offsets_count_as_zones(zone: str, offset: str) -> None:
    assert current_time.call({"timezone": zone})["utc_offset"] == offset


@pytest.mark.parametrize(
    "zone, nearest",
    [
        ("Seoul", "Asia/Seoul"),
        ("KST", "Asia/Seoul"),
        ("New York", "America/New_York"),
        ("Asia/Seuol", "Asia/Seoul"),
        ("Europe/Londn", "Europe/London"),
        ("../../etc/passwd", "names look like Asia/Seoul"),
        ("", "names look like Asia/Seoul"),
        ("UTC+99", ""),
        ("\0", ""),
    ],
)
def test_an_unknown_zone_names_the_nearest(zone: str, nearest: str) -> None:
    with pytest.raises(ValueError) as raised:
        current_time.call({"timezone": zone})
    assert nearest in str(raised.value) and "Etc/" not in str(raised.value)
