"""The page for those who come from kazoo: each difference that it claims has a test of the name that it gives."""

from __future__ import annotations

import re

from terzetto.client.kazoo.client import KazooClient

from ..architecture.tree import ROOT
from ..client.kazoo.test_surface import DIFFERENCES
from .test_pages_and_code import rows

PAGE = "guides/migrating-from-kazoo.md"
_TEST = re.compile(r"^(?:async )?def (test_\w+)", re.MULTILINE)


def test_each_difference_has_a_test() -> None:
    there = {
        name
        for path in (ROOT / "tests" / "client" / "kazoo").rglob("test_*.py")
        for name in _TEST.findall(path.read_text(encoding="utf-8"))
    }
    differences = rows(PAGE, 4)
    assert len(differences) > 40
    assert [row for row in differences if row[3].strip("`") not in there] == []


def test_the_recipes_that_are_there_are_named() -> None:
    text = (ROOT / "docs" / PAGE).read_text(encoding="utf-8")
    there = text.partition("recipes that are there (")[2].partition(")")[0]
    client = KazooClient()
    named = set(re.findall(r"`(\w+)`", there))
    assert {name for name in named if not hasattr(client, name)} == {"PatientChildrenWatch", "TreeCache"}
    assert {name for name in vars(client) if name[0].isupper()} <= named


def test_what_is_not_there_is_in_the_table_of_the_surface() -> None:
    missing = [row[0].strip("`") for row in rows(PAGE, 2)]
    assert len(missing) > 5
    assert [name for name in missing if name not in DIFFERENCES] == []
