"""The page of known faults: its numbers are complete, its tests exist and are named after their faults."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from functools import cache

import pytest

from ..architecture.tree import ROOT
from ..interop.test_kazoo_faults import LACKED
from .test_pages_and_code import rows

_PAGE = "recipes/known-faults.md"
_NUMBERED = re.compile(r"(kazoo|curator)_(\d+)_")
_NUMBERS = {"kazoo": range(1, 26), "curator": range(1, 32)}


@cache
def _tests() -> dict[str, set[str]]:
    """Modules of each test."""
    found = defaultdict[str, set[str]](set)
    for file in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name.startswith("test_"):
                found[node.name].add(file.relative_to(ROOT).as_posix())
    return found


def _named_after(test: str) -> set[tuple[str, int]]:
    """Numbers that a test's name begins with: `test_kazoo_20_curator_22_...`."""
    found: set[tuple[str, int]] = set()
    rest = test.removeprefix("test_")
    while (match := _NUMBERED.match(rest)) is not None:
        found.add((match[1], int(match[2])))
        rest = rest[match.end() :]
    return found


def _faults() -> list[tuple[tuple[str, int], list[str]]]:
    """Number and tests of each row, in the page's order."""
    found: list[tuple[tuple[str, int], list[str]]] = []
    whose = "kazoo"
    for number, _, _, tests in rows(_PAGE, 4):
        if found and number == "1":
            whose = "curator"
        found.append(((whose, int(number)), re.findall(r"`(test_\w+)`", tests)))
    return found


def test_no_fault_is_missing() -> None:
    assert [fault for fault, _ in _faults()] == [
        (whose, number) for whose, numbers in _NUMBERS.items() for number in numbers
    ]


@pytest.mark.parametrize(("fault", "tests"), _faults())
def test_each_fault_has_its_tests(fault: tuple[str, int], tests: list[str]) -> None:
    assert tests
    missing = [test for test in tests if test not in _tests()]
    assert not missing, f"there are no such tests: {missing}"
    named = [
        test
        for test in tests
        if fault in _named_after(test)
        or any(re.search(r"faults|weak_points|delay_queue", module) for module in _tests()[test])
    ]
    assert named, "none of its tests is named after it, nor stands in a module of such tests"


def test_each_test_that_is_named_after_a_fault_stands_in_its_row() -> None:
    table = dict(_faults())
    for test in _tests():
        for fault in _named_after(test):
            assert test in table.get(fault, []), f"{test}: not in the row of {fault}"


def test_what_kazoo_lacks_is_what_is_tested() -> None:
    assert [row[0] for row in rows(_PAGE, 2)] == list(LACKED)
