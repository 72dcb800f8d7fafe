"""The source tree as the rules see it: which files there are, their parsed text, and whom a module imports.

Decides which folders belong to the project. Knows no rule.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PRODUCT = ("client", "recipes", "testcluster")
_IGNORED = ("build", "dist", "node_modules", "__pycache__")


@dataclass(frozen=True)
class SourceFile:
    """One Python file. `name` is its path from the root, with slashes."""

    root: Path
    name: str

    @cached_property
    def text(self) -> str:
        return (self.root / self.name).read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.name)

    @property
    def folder(self) -> str:
        return self.name.partition("/")[0]


class Import(NamedTuple):
    """One imported module, as an absolute dotted name. `name` is set in `from module import name`."""

    line: int
    module: str
    name: str | None
    level: int

    def __str__(self) -> str:
        return self.module if self.name is None else f"{self.module}.{self.name}"


class Function(NamedTuple):
    """A function with its dotted name inside the module."""

    qualname: str
    node: ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class SourceTree:
    """All files of a checkout that belong to the project."""

    root: Path
    _files: dict[str, SourceFile] = field(default_factory=dict[str, SourceFile], compare=False)

    def paths(self) -> Iterator[Path]:
        """Every file of the project, of any kind; nothing hidden but .ci and .gitignore, nothing generated."""
        pending = [self.root]
        while pending:
            for path in sorted(pending.pop().iterdir()):
                if path.is_symlink() or path.name in _IGNORED or path.name.endswith(".egg-info"):
                    continue
                if path.name.startswith(".") and path.name not in (".ci", ".gitignore"):
                    continue
                if path.is_dir():
                    if path != self.root / "docs" / "_build":
                        pending.append(path)
                else:
                    yield path

    def python(self, *folders: str) -> list[SourceFile]:
        """The Python files below the folders, or all of them, by name."""
        names = sorted(path.relative_to(self.root).as_posix() for path in self.paths() if path.suffix == ".py")
        files = [self._files.setdefault(name, SourceFile(self.root, name)) for name in names]
        return [file for file in files if not folders or file.folder in folders]

    def product(self) -> list[SourceFile]:
        return self.python(*PRODUCT)

    def module_file(self, module: str) -> str | None:
        """The file of `terzetto.client.x` (client/x.py or client/x/__init__.py), None for a module that is not ours."""
        if not module.startswith("terzetto."):
            return None
        stem = module.removeprefix("terzetto.").replace(".", "/")
        for name in (f"{stem}.py", f"{stem}/__init__.py"):
            if (self.root / name).is_file():
                return name
        return None

    def imported_file(self, imported: Import) -> str | None:
        """The file of ours that an import names: the submodule where there is one, else the module itself."""
        submodule = None if imported.name is None else self.module_file(f"{imported.module}.{imported.name}")
        return submodule or self.module_file(imported.module)


def plant(root: Path, files: Mapping[str, str]) -> SourceTree:
    """A small tree of its own, for the test that shows a rule biting."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return SourceTree(root)


def refuse(found: Iterable[str]) -> None:
    """Fails the test with one line a finding; passes without any."""
    lines = list(found)
    if lines:
        pytest.fail("\n".join(lines), pytrace=False)


def imports(file: SourceFile) -> Iterator[Import]:
    """All imports of a file, wherever they stand (also those for type checkers: an annotation is a dependency too)."""
    package = _package(file.name)
    for node in ast.walk(file.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(node.lineno, alias.name, None, 0)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                base = package[: len(package) - node.level + 1]
                module = ".".join([*base, module] if module else base)
            for alias in node.names:
                yield Import(node.lineno, module, alias.name, node.level)


def _package(name: str) -> list[str]:
    parts = name.split("/")[:-1]
    return ["terzetto", *parts] if parts and parts[0] in PRODUCT else parts


def functions(tree: ast.AST, prefix: str = "") -> Iterator[Function]:
    """All functions, methods and nested functions below a node."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield Function(prefix + node.name, node)
            yield from functions(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.ClassDef):
            yield from functions(node, f"{prefix}{node.name}.")
        else:
            yield from functions(node, prefix)


def dotted(node: ast.AST) -> str:
    """`a.b.c` for a name or an attribute of names, "" for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        owner = dotted(node.value)
        return f"{owner}.{node.attr}" if owner else ""
    return ""
