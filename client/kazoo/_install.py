"""`import kazoo` answered by the drop-in, for programs that nobody wants to edit.

Decides which module stands for which name. Runs nothing.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from multiprocessing import spawn
from types import ModuleType
from typing import Any

_THEIRS = "kazoo"
_OURS = "terzetto.client.kazoo"


class _Loader(Loader):
    """Puts our module itself in place of a new one, so that a class is the same by either name."""

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__
        sys.modules[name] = importlib.import_module(_OURS + name.removeprefix(_THEIRS))


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _THEIRS and not fullname.startswith(_THEIRS + "."):
            return None
        ours = _OURS + fullname.removeprefix(_THEIRS)
        if importlib.util.find_spec(ours) is None:
            raise ModuleNotFoundError(
                f"No module named {fullname!r}: kazoo's modules are answered by {_OURS}, which has no {ours!r}",
                name=fullname,
            )
        return ModuleSpec(fullname, _Loader(), is_package=True)


class _ForChildren:
    """Travels with what multiprocessing tells a process that it starts afresh; unpacked there, it calls `install`."""

    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        return install, ()


def _cover_children() -> None:
    """A process that is forked has the modules of its parent. One that is spawned imports the program anew."""
    prepare = spawn.get_preparation_data

    def prepare_with_dropin(name: str) -> dict[str, Any]:
        # Unpacked before the program is imported; a key that multiprocessing does not know is passed over.
        return {**prepare(name), _OURS: _ForChildren()}

    spawn.get_preparation_data = prepare_with_dropin


def install() -> None:
    """Has `import kazoo`, and everything below it, answered by the drop-in from now on. May be called twice.

    That holds for processes that `multiprocessing` starts from here as well.

    Raises:
        RuntimeError: kazoo itself is imported already, so that a program would get classes of both.
    """
    if any(isinstance(finder, _Finder) for finder in sys.meta_path):
        return
    if _THEIRS in sys.modules:
        raise RuntimeError("kazoo itself is imported already; call install() before the first import of it")
    sys.meta_path.insert(0, _Finder())
    _cover_children()
