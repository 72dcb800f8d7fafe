"""A server's watch tables for one connection, as ZooKeeper 3.6 to 3.8 and as 3.9 keep them.

The two differ in what a second registration on a path does: up to 3.8 there is one mode for each path and table and the
last one wins, from 3.9 on the modes stand beside each other. Knows no frames and no znodes: it is told what changed.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Protocol

from terzetto.client import AddWatchMode, WatcherType

CREATED, DELETED, CHANGED, CHILD = 1, 2, 3, 4
MARSHALLING = -5
NO_WATCHER = -121

Fired = tuple[int, str]
"""Event type as on the wire, and path."""


class Release(enum.Enum):
    """Which server's behaviour a test runs against."""

    V38 = "3.8"
    V39 = "3.9"


class Mode(enum.Enum):
    STANDARD = enum.auto()
    PERSISTENT = enum.auto()
    RECURSIVE = enum.auto()


class BadWatcherType(Exception):
    """removeWatches with a type that this release does not know."""


def upwards(path: str) -> Iterator[str]:
    yield path
    while path != "/":
        path = path.rpartition("/")[0] or "/"
        yield path


class Table(Protocol):
    def add(self, path: str, mode: Mode) -> None: ...
    def remove(self, path: str, mode: Mode | None) -> bool: ...
    def trigger(self, path: str, event: int) -> bool: ...
    def modes_of(self, path: str) -> set[Mode]: ...


class OneModeTable:
    """3.6 to 3.8: whatever was registered last on a path is all there is."""

    def __init__(self) -> None:
        self._modes: dict[str, Mode] = {}

    def add(self, path: str, mode: Mode) -> None:
        self._modes[path] = mode

    def remove(self, path: str, mode: Mode | None) -> bool:
        return self._modes.pop(path, None) is not None

    def trigger(self, path: str, event: int) -> bool:
        told = False
        for above in upwards(path):
            mode = self._modes.get(above)
            if mode is Mode.RECURSIVE:
                told = told or event != CHILD
            elif above == path and mode is not None:
                told = True
                if mode is Mode.STANDARD:
                    del self._modes[path]
        return told

    def modes_of(self, path: str) -> set[Mode]:
        return {self._modes[path]} if path in self._modes else set()


class ManyModesTable:
    """3.9: the modes of a path are independent."""

    def __init__(self) -> None:
        self._modes: dict[str, set[Mode]] = {}

    def add(self, path: str, mode: Mode) -> None:
        self._modes.setdefault(path, set()).add(mode)

    def remove(self, path: str, mode: Mode | None) -> bool:
        modes = self._modes.get(path, set())
        removed = set(modes) if mode is None else modes & {mode}
        modes -= removed
        return bool(removed)

    def trigger(self, path: str, event: int) -> bool:
        told = False
        for above in upwards(path):
            modes = self._modes.get(above, set())
            if above == path:
                told = bool(modes)
                modes.discard(Mode.STANDARD)
            elif Mode.RECURSIVE in modes:
                told = True
        return told

    def modes_of(self, path: str) -> set[Mode]:
        return set(self._modes.get(path, set()))


class ConnectionWatches:
    """What one connection watches. The methods that report a change return what the connection is told, in order."""

    def __init__(self, release: Release) -> None:
        self.release = release
        self.data: Table
        self.child: Table
        if release is Release.V38:
            self.data, self.child = OneModeTable(), OneModeTable()
        else:
            self.data, self.child = ManyModesTable(), ManyModesTable()

    def add_persistent(self, path: str, mode: int) -> None:
        if mode == AddWatchMode.PERSISTENT_RECURSIVE:
            self.data.add(path, Mode.RECURSIVE)
            if self.release is Release.V38:
                self.child.add(path, Mode.RECURSIVE)
        else:
            self.data.add(path, Mode.PERSISTENT)
            self.child.add(path, Mode.PERSISTENT)

    def remove(self, path: str, kind: int) -> bool:
        """Whether there was anything to remove. Raises `BadWatcherType`."""
        if kind == WatcherType.CHILDREN:
            return self.child.remove(path, Mode.STANDARD)
        if kind == WatcherType.DATA:
            return self.data.remove(path, Mode.STANDARD)
        if kind == WatcherType.ANY:
            mode = None
        elif self.release is Release.V39 and kind == WatcherType.PERSISTENT:
            mode = Mode.PERSISTENT
        elif self.release is Release.V39 and kind == WatcherType.PERSISTENT_RECURSIVE:
            mode = Mode.RECURSIVE
        else:
            raise BadWatcherType
        removed = [table.remove(path, mode) for table in (self.child, self.data)]
        return any(removed)

    def created(self, path: str) -> list[Fired]:
        told = [(CREATED, path)] if self.data.trigger(path, CREATED) else []
        return told + self._parent_changed(path)

    def changed(self, path: str) -> list[Fired]:
        return [(CHANGED, path)] if self.data.trigger(path, CHANGED) else []

    def deleted(self, path: str) -> list[Fired]:
        # Both tables are asked, because both lose their entries; the connection is told once.
        by_data, by_child = self.data.trigger(path, DELETED), self.child.trigger(path, DELETED)
        return ([(DELETED, path)] if by_data or by_child else []) + self._parent_changed(path)

    def _parent_changed(self, path: str) -> list[Fired]:
        above = path.rpartition("/")[0] or "/"
        return [(CHILD, above)] if self.child.trigger(above, CHILD) else []
