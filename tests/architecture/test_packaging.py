"""What is installed is what stands in the tree: every package is listed, typed, and kept under its one name."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import tomli

from .tree import PRODUCT, ROOT, SourceTree, plant, refuse


def _project() -> dict[str, Any]:
    return tomli.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def _packages(tree: SourceTree) -> list[str]:
    """Every folder with a Python file in it, __init__.py or not."""
    folders = {file.name.rpartition("/")[0] for file in tree.product()}
    return ["terzetto." + folder.replace("/", ".") for folder in sorted(folders)]


def _without_init(tree: SourceTree) -> list[str]:
    names = {file.name for file in tree.product()}
    return sorted({name.rpartition("/")[0] + "/__init__.py" for name in names} - names)


def _unlisted(tree: SourceTree, listed: list[str]) -> list[str]:
    return sorted(set(_packages(tree)) ^ set(listed))


def test_every_package_is_listed(source_tree: SourceTree) -> None:
    refuse(_unlisted(source_tree, _project()["tool"]["setuptools"]["packages"]))


def test_every_folder_is_a_package(source_tree: SourceTree) -> None:
    refuse(_without_init(source_tree))


def test_a_folder_that_is_no_package_is_found(tmp_path: Path) -> None:
    tree = plant(tmp_path, {"client/__init__.py": "", "client/wire/records.py": "", "tests/x/test_x.py": ""})
    assert _without_init(tree) == ["client/wire/__init__.py"]


def test_a_package_that_is_not_listed_is_found(tmp_path: Path) -> None:
    tree = plant(tmp_path, {"client/__init__.py": "", "client/kazoo/__init__.py": "", "tests/__init__.py": ""})
    assert _unlisted(tree, ["terzetto.client"]) == ["terzetto.client.kazoo"]
    assert _unlisted(tree, ["terzetto.client", "terzetto.client.kazoo", "terzetto.gone"]) == ["terzetto.gone"]


@pytest.mark.parametrize("package", PRODUCT)
def test_packages_are_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()
    assert "py.typed" in _project()["tool"]["setuptools"]["package-data"][f"terzetto.{package}"]


def test_no_module_is_named_like_one_of_the_standard_library(source_tree: SourceTree) -> None:
    """The folders can end up on sys.path themselves, and would then hide it."""
    names = {file.name: file.name.rpartition("/")[2].removesuffix(".py") for file in source_tree.product()}
    assert [name for name, stem in names.items() if stem in sys.stdlib_module_names and name.count("/") == 1] == []


@pytest.mark.slow
def test_a_wheel_holds_the_tree(source_tree: SourceTree, tmp_path: Path) -> None:
    # A copy, because setuptools would pack what an earlier build left behind.
    for path in source_tree.paths():
        if path.relative_to(ROOT).parts[0] in (*PRODUCT, "pyproject.toml", "README.md", "LICENSE"):
            copy = tmp_path / "copy" / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-build-isolation",
        "--no-deps",
        "--wheel-dir",
        str(tmp_path),
        ".",
    ]
    subprocess.run(command, cwd=tmp_path / "copy", check=True, timeout=120)
    (wheel,) = tmp_path.glob("terzetto-*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("terzetto/")}
    expected = {f"terzetto/{file.name}" for file in source_tree.product()} | {
        f"terzetto/{name}/py.typed" for name in PRODUCT
    }
    assert packed == expected
