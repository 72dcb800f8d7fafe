"""Mirrored tests, no real waiting, no foreign words: the tree keeps the rules, and each is seen to bite."""

from __future__ import annotations

from pathlib import Path

import pytest

from .habits import REAL_WAITS, forbidden_words, sleeps, stale_coverage_entries, untested_modules
from .tree import SourceTree, plant, refuse


def test_every_module_has_its_tests(source_tree: SourceTree) -> None:
    refuse(untested_modules(source_tree))


def test_every_exception_to_that_is_needed(source_tree: SourceTree) -> None:
    refuse(stale_coverage_entries(source_tree))


def test_no_test_waits_on_the_real_clock(source_tree: SourceTree) -> None:
    found = [
        f"{file}:{line} in {function}"
        for (file, function), line in sleeps(source_tree)
        if (file, function) not in REAL_WAITS
    ]
    refuse(found)


def test_every_real_wait_is_still_there(source_tree: SourceTree) -> None:
    assert set(REAL_WAITS) - {place for place, _ in sleeps(source_tree)} == set()


def test_nothing_names_a_machine_or_a_workplace(source_tree: SourceTree) -> None:
    refuse(forbidden_words(source_tree))


def test_a_module_without_tests_is_found(tmp_path: Path) -> None:
    tree = plant(
        tmp_path,
        {
            "client/_session.py": "",
            "client/wire/framing.py": "",
            "client/wire/__init__.py": "",
            "recipes/lock.py": "",
            "tests/client/test_session_watches.py": "",
            "tests/client/test_framing.py": "",
            "tests/recipes/test_lock.py": "",
        },
    )
    assert untested_modules(tree) == [
        "client/wire/framing.py: expected tests/client/wire/test_framing.py, or an entry in COVERED_ELSEWHERE"
    ]


@pytest.mark.parametrize(
    "line",
    [
        "see /" + "work/main",
        "cp /" + "root/.ssh x",
        "farm" + "-run",
        "spec/" + "performance says",
        "https://py" + "pi.org/simple",
        "written by clau" + "de",
    ],
)
@pytest.mark.parametrize("name", ["docs/index.md", "client/x.py", ".ci/run"])
def test_a_foreign_word_is_found(tmp_path: Path, name: str, line: str) -> None:
    (found,) = forbidden_words(plant(tmp_path, {name: f"fine\n{line}\n"}))
    assert found.startswith(f"{name}:2: ")


def test_ordinary_words_pass(tmp_path: Path) -> None:
    text = "/root is a znode, /workers too; design/overview.md; networking; the farm; session; /app/home\n"
    assert forbidden_words(plant(tmp_path, {"README.md": text})) == []


@pytest.mark.parametrize(
    ("text", "bites"),
    [
        ("def test_x():\n    time.sleep(0.1)", True),
        ("def test_x(autojump_clock):\n    time.sleep(0.1)", True),
        ("async def test_x():\n    await trio.sleep(1)", True),
        ("async def test_x():\n    await trio.sleep(delay)", True),
        ("async def test_x():\n    async def inner():\n        await trio.sleep(1)", True),
        ("class TestX:\n    async def test_x(self):\n        await trio.sleep(1)", True),
        ("async def test_x():\n    await trio.sleep(0)", False),
        ("async def test_x(autojump_clock):\n    await trio.sleep(1)", False),
        ("async def test_x(autojump_clock):\n    async def inner():\n        await trio.sleep(1)", False),
        ("def test_x():\n    async def f():\n        await trio.sleep(1)\n    trio.run(f, clock=MockClock(0))", False),
        ("pytestmark = pytest.mark.usefixtures('autojump_clock')\nasync def test_x():\n    await trio.sleep(1)", False),
    ],
)
def test_a_real_wait_is_found(tmp_path: Path, text: str, bites: bool) -> None:
    assert bool(list(sleeps(plant(tmp_path, {"tests/test_x.py": text})))) == bites
