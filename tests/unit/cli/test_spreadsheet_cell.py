"""Cells of a CSV file that no spreadsheet takes for a formula."""

from __future__ import annotations

import pytest

from melascope.cli.image_files import spreadsheet_cell


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("mole.jpg", "mole.jpg"),
        ("a-b+c=d@e.jpg", "a-b+c=d@e.jpg"),
        ("=cmd.png", "'=cmd.png"),
        ("  @sum.png", "'  @sum.png"),
        ("-2+3;=cmd.png", "'-2+3;'=cmd.png"),
        ("\N{FULLWIDTH EQUALS SIGN}cmd.png", "'\N{FULLWIDTH EQUALS SIGN}cmd.png"),
    ],
)
def test_a_name_is_no_formula(text: str, cell: str) -> None:
    assert spreadsheet_cell(text) == cell
