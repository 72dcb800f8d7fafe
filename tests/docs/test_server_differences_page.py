"""The page of the server's intended differences says, row for row, what the tests know of them."""

from __future__ import annotations

import re

from tests.architecture.tree import ROOT
from tests.interop.differences import DIFFERENCES

from .test_pages_and_code import rows

PAGE = "guides/server-differences.md"


def test_the_page_has_every_difference_as_the_tests_know_it() -> None:
    table = [tuple(cell.replace("`", "") for cell in cells) for cells in rows(PAGE, 4)]
    known = [tuple(text.replace("`", "") for text in row) for row in DIFFERENCES]
    assert sorted(table) == sorted(known)


def test_the_tests_that_the_page_names_exist() -> None:
    text = (ROOT / "docs" / PAGE).read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w/]*test_\w+\.py)`", text))
    assert len(named) >= 5
    assert [name for name in sorted(named) if not (ROOT / "tests" / "interop" / name).exists()] == []
