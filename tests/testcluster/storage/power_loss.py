"""What may be on a disk after the power went: the changes of files that a program made, and which were flushed.

Records what really happens to files below a directory, then rebuilds, for any moment of it, the directories that a
crash of the machine could leave. Decides which those are: names and contents become durable apart from one another, a
file's bytes by fsync or fdatasync of it, names by fsync of their directory, and what was not flushed may be there or
not.
"""

from __future__ import annotations

import copy
import os
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

LOST, NAMES_FIRST, DATA_FIRST, KILLED, TORN = "lost", "names first", "data first", "killed", "torn"
OUTCOMES = (LOST, NAMES_FIRST, DATA_FIRST, KILLED, TORN)
"""Nothing unflushed stays; all names and no unflushed data; the reverse; everything; any beginning of each file."""


class Change(NamedTuple):
    """One thing that happened: to a handle (what `os.open` gave) or to paths; or what the program says it has."""

    kind: str
    handle: int = 0
    path: str = ""
    data: Any = None


class Recorder:
    """Notes the changes of files below a directory while `recording`."""

    def __init__(self) -> None:
        self._directory: str | None = None
        self._handles: dict[int, int] = {}
        self._count = 0
        self.changes: list[Change] = []

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Hears of what has no wrapper here, because `pathlib` keeps its own way to it."""
        if self._directory is None or event not in ("os.rename", "os.remove", "os.mkdir"):
            return
        path = str(arguments[0])
        if path.startswith(self._directory):
            target = str(arguments[1]) if event == "os.rename" else None
            self.changes.append(Change(event, path=path, data=target))

    def promise(self, what: object) -> None:
        """The program says that something is durable now."""
        self.changes.append(Change("promise", data=what))

    @contextmanager
    def recording(self, directory: Path) -> Iterator[None]:
        self._directory, self.changes = str(directory), []
        wrapped: dict[str, Callable[..., Any]] = {name: getattr(os, name) for name in self._wrappers()}
        try:
            for name, wrapper in self._wrappers().items():
                setattr(os, name, wrapper(wrapped[name]))
            yield
        finally:
            self._directory = None
            self._handles.clear()
            for name, function in wrapped.items():
                setattr(os, name, function)

    def _wrappers(self) -> dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]]:
        return {
            "open": self._open,
            "close": self._close,
            "pwrite": self._on_handle("write"),
            "ftruncate": self._on_handle("size"),
            "fsync": self._on_handle("flush"),
            "fdatasync": self._on_handle("flush"),
        }

    def _open(self, real: Callable[..., int]) -> Callable[..., int]:
        def opened(path: Any, flags: int, *more: Any, **options: Any) -> int:
            fd = real(path, flags, *more, **options)
            if self._directory is not None and str(path).startswith(self._directory):
                self._count += 1
                self._handles[fd] = self._count
                self.changes.append(Change("open", self._count, str(path), flags))
            return fd

        return opened

    def _close(self, real: Callable[[int], None]) -> Callable[[int], None]:
        def closed(fd: int) -> None:
            self._handles.pop(fd, None)
            real(fd)

        return closed

    def _on_handle(self, kind: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        def wrapper(real: Callable[..., Any]) -> Callable[..., Any]:
            def called(fd: int, *arguments: Any) -> Any:
                result = real(fd, *arguments)
                handle = self._handles.get(fd)
                if handle is not None:
                    data = (bytes(arguments[0])[:result], arguments[1]) if kind == "write" else arguments
                    self.changes.append(Change(kind, handle, data=data))
                return result

            return called

        return wrapper


def matters(change: Change) -> bool:
    """Whether a loss of power after it may leave something else than before it."""
    return change.kind not in ("open", "promise") or bool(change.kind == "open" and change.data & os.O_CREAT)


recorder = Recorder()
sys.addaudithook(recorder.audit)


class Medium:
    """A directory as the program sees it, and as the medium has it.

    Args:
        directory: all that is in it is durable.
    """

    def __init__(self, directory: Path) -> None:
        self._root = str(directory)
        self._count = 0
        # Files by number; folders, and files under their names, by path within the directory.
        self._handles: dict[int, int | str] = {}
        self._names: dict[str, int] = {}
        self._contents: dict[int, bytearray] = {}
        self._folders = {"."}
        for path in directory.rglob("*"):
            if path.is_dir():
                self._folders.add(self._within(str(path)))
            else:
                self._contents[self._new_file(self._within(str(path)))][:] = path.read_bytes()
        self._durable_names = dict(self._names)
        self._durable_contents = {file: bytes(content) for file, content in self._contents.items()}
        # Changes of each file since it was flushed.
        self._unflushed: dict[int, list[Change]] = {}

    def _within(self, path: str) -> str:
        return os.path.relpath(path, self._root)

    def _new_file(self, name: str) -> int:
        self._count += 1
        self._names[name] = self._count
        self._contents[self._count] = bytearray()
        return self._count

    def at(self, directory: Path) -> Medium:
        """The same, in a directory that has what the program saw last."""
        moved = copy.deepcopy(self)
        moved._root = str(directory)
        moved._handles.clear()
        return moved

    def apply(self, change: Change) -> None:
        """Goes on by one change."""
        kind = change.kind
        if kind == "open":
            self._open(self._within(change.path), change)
        elif kind == "os.mkdir":
            self._folders.add(self._within(change.path))
        elif kind == "os.remove":
            self._names.pop(self._within(change.path), None)
        elif kind == "os.rename":
            self._names[self._within(change.data)] = self._names.pop(self._within(change.path))
        elif kind == "flush":
            self._flush(self._handles[change.handle])
        elif kind in ("write", "size"):
            file = self._handles[change.handle]
            assert isinstance(file, int)
            self._change(file, change)

    def _open(self, name: str, change: Change) -> None:
        if name in self._folders:
            self._handles[change.handle] = name
            return
        file = self._names.get(name)
        if file is None:
            file = self._new_file(name)
        elif change.data & os.O_TRUNC:
            self._change(file, Change("size", data=(0,)))
        self._handles[change.handle] = file

    def _change(self, file: int, change: Change) -> None:
        _change(self._contents[file], change)
        self._unflushed.setdefault(file, []).append(change)

    def _flush(self, what: int | str) -> None:
        if isinstance(what, int):
            self._durable_contents[what] = bytes(self._contents[what])
            self._unflushed.pop(what, None)
            return
        for name in {*self._names, *self._durable_names}:
            if (os.path.dirname(name) or ".") == what:
                if name in self._names:
                    self._durable_names[name] = self._names[name]
                else:
                    del self._durable_names[name]

    def leave(self, outcome: str, chance: random.Random, target: Path) -> None:
        """Makes a directory of what a crash now, of this kind, leaves."""
        names = self._durable_names if outcome in (LOST, DATA_FIRST) else self._names
        for folder in self._folders:
            (target / folder).mkdir(parents=True, exist_ok=True)
        for name, file in names.items():
            durable = self._durable_contents.get(file, b"")
            content = durable if outcome in (LOST, NAMES_FIRST) else bytes(self._contents[file])
            if outcome == TORN:
                content = self._torn(file, durable, chance)
            (target / name).write_bytes(content)

    def _torn(self, file: int, durable: bytes, chance: random.Random) -> bytes:
        """What was flushed, some of the changes since, and of the last of these only a part."""
        content = bytearray(durable)
        changes = self._unflushed.get(file, [])
        kept = changes[: chance.randrange(len(changes) + 1)]
        for number, change in enumerate(kept):
            _change(content, _cut_short(change, chance) if number == len(kept) - 1 else change)
        return bytes(content)


def _cut_short(change: Change, chance: random.Random) -> Change:
    if change.kind != "write":
        return change
    data, position = change.data
    return change._replace(data=(data[: chance.randrange(len(data) + 1)], position))


def _change(content: bytearray, change: Change) -> None:
    if change.kind == "size":
        (size,) = change.data
        del content[size:]
        content.extend(bytes(size - len(content)))
        return
    data, position = change.data
    content.extend(bytes(max(0, position - len(content))))
    content[position : position + len(data)] = data
