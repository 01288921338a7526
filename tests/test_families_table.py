"""The table in docs/families.md says what the data say, and claims no more than was tested."""

from __future__ import annotations

from families_table import BEGIN, END, PAGE, rows, table
from family_wires import RENDERED
from test_family_walks import STYLES

from engine.families import profiles


def test_the_page_holds_the_table_of_the_data():
    page = PAGE.read_text(encoding="utf-8")
    shown = page.partition(f"{BEGIN}\n")[2].partition(f"\n{END}")[0]
    assert shown == table(), "run `python tests/families_table.py`"


def test_every_style_has_a_row_and_was_generated():
    assert len(list(rows())) == len(STYLES)
    assert {row[0].split("`")[1] for row in rows()} == set(profiles())
    assert all("generated" in row[-1] for row in rows())


def test_templates_are_only_claimed_where_they_are_rendered():
    for row in rows():
        family, is_first = row[0].split("`")[1], "--style" not in row[0]
        count = sum(name == family for name, _ in RENDERED) if is_first else 0
        assert row[-1].startswith(f"{count} template" if count else "no template")
