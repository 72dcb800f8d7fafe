"""Length, docstrings, broad handlers and exports: the tree keeps the rules, and each is seen to bite."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from .shape import (
    BROAD_EXCEPTS,
    broad_excepts,
    export_violations,
    is_public_package,
    long_files,
    long_functions,
    silent_modules,
)
from .tree import SourceTree, plant, refuse


def test_files_are_short(source_tree: SourceTree) -> None:
    refuse(long_files(source_tree))


def test_functions_are_short(source_tree: SourceTree) -> None:
    refuse(long_functions(source_tree))


def test_every_file_says_what_it_is_for(source_tree: SourceTree) -> None:
    refuse(silent_modules(source_tree))


def test_nothing_swallows_everything(source_tree: SourceTree) -> None:
    found = [
        f"{file}:{line} in {function or 'the module'}"
        for (file, function), line in broad_excepts(source_tree)
        if (file, function) not in BROAD_EXCEPTS
    ]
    refuse(found)


def test_every_exception_to_that_is_needed(source_tree: SourceTree) -> None:
    assert set(BROAD_EXCEPTS) - {place for place, _ in broad_excepts(source_tree)} == set()


def test_packages_show_exactly_what_they_list(source_tree: SourceTree) -> None:
    refuse(export_violations(source_tree))


def test_what_a_package_lists_can_be_imported(source_tree: SourceTree) -> None:
    for file in source_tree.product():
        if is_public_package(file.name):
            module = importlib.import_module("terzetto." + file.name.removesuffix("/__init__.py").replace("/", "."))
            missing = [name for name in getattr(module, "__all__", ()) if not hasattr(module, name)]
            assert missing == [], file.name


def test_a_long_file_is_found(tmp_path: Path) -> None:
    tree = plant(tmp_path, {"client/a.py": "x = 1\n" * 600, "client/b.py": "x = 1\n" * 601})
    assert long_files(tree) == ["client/b.py: 601 lines, at most 600"]


def test_a_long_function_is_found_and_its_docstring_is_free(tmp_path: Path) -> None:
    docstring = '    """\n' + "    text\n" * 30 + '    """\n'
    good = "def good():\n" + docstring + "    x = 1\n" * 69
    bad = "class A:\n    async def bad(self):\n" + "        x = 1\n" * 70
    assert long_functions(plant(tmp_path, {"tests/test_x.py": good + bad})) == [
        "tests/test_x.py:104: A.bad has 71 lines, at most 70"
    ]


def test_a_module_without_docstring_is_found(tmp_path: Path) -> None:
    tree = plant(tmp_path, {"recipes/__init__.py": "", "recipes/lock.py": '"""A lock."""\n'})
    assert silent_modules(tree) == ["recipes/__init__.py: no module docstring"]


_TRY = "async def f():\n    try:\n        g()\n    {}\n        {}\n"


@pytest.mark.parametrize(
    ("handler", "body", "bites"),
    [
        ("except:", "pass", True),
        ("except Exception:", "log()", True),
        ("except (ValueError, BaseException) as error:", "failed = error", True),
        ("except trio.Cancelled:", "return None", True),
        ("except Exception as error:", "raise Wrapped() from error", False),
        ("except Exception:", "def later(): raise", True),
        ("except trio.Cancelled:", "withdraw(); raise", False),
        ("except OSError:", "pass", False),
    ],
)
def test_a_handler_for_everything_is_found(tmp_path: Path, handler: str, body: str, bites: bool) -> None:
    tree = plant(tmp_path, {"client/x.py": _TRY.format(handler, body)})
    assert list(broad_excepts(tree)) == ([(("client/x.py", "f"), 4)] if bites else [])


def test_suppressing_everything_is_found(tmp_path: Path) -> None:
    tree = plant(tmp_path, {"client/x.py": "with suppress(OSError): pass\nwith contextlib.suppress(Exception): pass\n"})
    assert list(broad_excepts(tree)) == [(("client/x.py", ""), 2)]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("from .a import B as B\n", "binds B and has no __all__"),
        ("from .a import B as B, c as c\n__all__ = ['B']\n", "c is public and not in __all__"),
        ("from .a import B as B\n__all__ = ['B', 'D']\n", "D is in __all__ and not bound"),
        ("from .a import B as B, C\n__all__ = ['C', 'B']\n", "__all__ is not sorted; expected ['B', 'C']"),
        (
            "from .a import B, c, D_E\n__all__ = ['B', 'D_E', 'c']\n",
            "__all__ is not sorted; expected ['D_E', 'B', 'c']",
        ),
        ("import trio\n__all__ = []\n", "trio is public and not in __all__"),
        ("if TYPE_CHECKING:\n    from .a import B, C\n__all__ = ['B']\n", "C is public and not in __all__"),
    ],
)
def test_a_wrong_export_is_found(tmp_path: Path, text: str, problem: str) -> None:
    tree = plant(tmp_path, {"client/__init__.py": text, "client/_x/__init__.py": text, "client/_y.py": text})
    assert export_violations(tree) == [f"client/__init__.py: {problem}"]


def test_a_sound_export_passes(tmp_path: Path) -> None:
    text = "from __future__ import annotations\nfrom typing import TYPE_CHECKING\n"
    text += "if TYPE_CHECKING:\n    from .a import B\nfrom .a import D_E, c as c\nX: int = 1\n"
    text += "__all__ = ['D_E', 'B', 'X', 'c']\n"
    assert export_violations(plant(tmp_path, {"client/__init__.py": text})) == []
