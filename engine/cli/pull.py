"""`engine pull`: download a model from the Hugging Face hub.

Knows the bar and the result's lines; the download is `engine.hub`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from engine.cli.console import Console, Progress
    from engine.hub import Pulled


def pull(
    model: Annotated[
        str, typer.Argument(metavar="ORG/REPO[:QUANT]", help="Repository and quantisation.")
    ],
    json: Annotated[bool, typer.Option("--json", help="Write one JSON object.")] = False,
) -> None:
    """Download a model into the Hugging Face cache; an interrupted download goes on there.

    Without a quantisation Q4_K_M is taken, or the next best that the repository has.
    """
    from engine.cli.console import Console
    from engine.cli.table import print_json, print_notes
    from engine.hub import pull as download

    console = Console()
    bars = _Bars(console)
    try:
        pulled = download(model, progress=bars.update)
    except KeyboardInterrupt:
        bars.close()
        console.note("interrupted; what is downloaded is kept, `engine pull` again goes on there")
        raise
    finally:
        bars.close()
    notes = _problems(pulled)
    if json:
        print_json(**_record(pulled), notes=notes)
        return
    _print(pulled)
    print_notes(notes)


class _Bars:
    """A bar for each file in turn."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._name = ""
        self._bar: Progress | None = None

    def update(self, name: str, done: int, total: int) -> None:
        from engine.cli.console import Progress, printable_line
        from engine.cli.table import size_text

        if name != self._name or self._bar is None:
            self.close()
            self._name = name
            short = printable_line(name.rpartition("/")[2])
            self._bar = Progress(self._console, f"{short} {size_text(total)}")
            if 0 < done < total:
                self._console.note(f"going on at {size_text(done)} of {size_text(total)}", "dim")
        self._bar.update(done / total if total else 1.0)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def _problems(pulled: Pulled) -> list[str]:
    """What is wrong with the file that the hub really holds."""
    from engine.errors import EngineError
    from engine.fit import check_suitable
    from engine.gguf import read_header

    notes = [
        f"{file.name}: the hub gives no sha256 for it, so only its size was checked"
        for file in pulled.variant.files
        if file.sha256 is None
    ]
    try:
        check_suitable(read_header(pulled.path))
    except EngineError as error:
        notes.append(error.message)
    return notes


def _name(pulled: Pulled) -> str:
    """What to type to use it."""
    quantisation = pulled.variant.quantisation
    if quantisation:
        return f"{pulled.repository}:{quantisation}"
    return f"{pulled.repository}/{pulled.variant.files[0].name}"


def _record(pulled: Pulled) -> dict[str, object]:
    return {
        "name": _name(pulled),
        "path": str(pulled.path),
        "repository": pulled.repository,
        "commit": pulled.commit,
        "quantisation": pulled.variant.quantisation,
        "bytes": pulled.variant.size,
        "fetched_bytes": pulled.fetched,
        "files": [
            {"name": file.name, "bytes": file.size, "sha256": file.sha256}
            for file in pulled.variant.files
        ],
    }


def _print(pulled: Pulled) -> None:
    from engine.cli.table import print_rows, size_text

    size = size_text(pulled.variant.size)
    fetched = f"{size_text(pulled.fetched)} downloaded" if pulled.fetched else "it was here already"
    rows = [("name", _name(pulled)), ("path", str(pulled.path)), ("size", f"{size}, {fetched}")]
    rows += [("sha256", file.sha256) for file in pulled.variant.files if file.sha256]
    print_rows(rows)
