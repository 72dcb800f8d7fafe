"""Which connection watches which znode, in every mode that ZooKeeper 3.9 has.

Decides who is told of an event and which registrations that uses up. Standard, persistent and recursive registrations
of one connection on one path are independent of each other. Whether a watcher may learn of an event is an ACL's
business, and how it is told the processor's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from .codes import MARSHALLING_ERROR, Refused

STANDARD = 1
PERSISTENT = 2
RECURSIVE = 4
"""How a watch was registered: bits, as one connection may watch one path in several ways."""


WATCHES_SIZE_MAX = 64 << 20
"""Characters of all paths that one connection may watch; what it asks beyond is refused. A znode need not exist to be
watched, so a frame after the other could each leave a path of a megabyte here. ZooKeeper has no bound."""


class Watcher(Protocol):
    """What the tables need of a connection: its own half of both tables, path to the bits above, and their size."""

    data_watches: dict[str, int]
    child_watches: dict[str, int]
    watches_size: int


W = TypeVar("W", bound=Watcher)


class _Table(Generic[W]):
    """One table, of data or of child watches.

    The connections hold the modes; here a path leads to its one watcher, or to a dict of several: a dict for each of a
    hundred thousand paths with one watcher would cost more than all the rest.
    """

    __slots__ = ("_attribute", "by_path", "recursive")

    def __init__(self, attribute: str) -> None:
        self._attribute = attribute
        self.by_path: dict[str, W | dict[W, None]] = {}
        self.recursive = 0

    def modes(self, watcher: W) -> dict[str, int]:
        """The watcher's own half of the table."""
        modes: dict[str, int] = getattr(watcher, self._attribute)
        return modes

    def watchers(self, path: str) -> tuple[W, ...]:
        """Who watches exactly this path."""
        found = self.by_path.get(path)
        if found is None:
            return ()
        return tuple(found) if isinstance(found, dict) else (found,)

    def add(self, watcher: W, path: str, mode: int) -> None:
        modes = self.modes(watcher)
        before = modes.get(path, 0)
        modes[path] = before | mode
        if mode & ~before & RECURSIVE:
            self.recursive += 1
        if before:
            return
        watcher.watches_size += len(path)
        found = self.by_path.get(path)
        if found is None:
            self.by_path[path] = watcher
        elif isinstance(found, dict):
            found[watcher] = None
        else:
            self.by_path[path] = {found: None, watcher: None}

    def remove(self, watcher: W, path: str, mode: int) -> None:
        modes = self.modes(watcher)
        before = modes.get(path, 0)
        if before & mode & RECURSIVE:
            self.recursive -= 1
        after = before & ~mode
        if after:
            modes[path] = after
        elif before:
            del modes[path]
            watcher.watches_size -= len(path)
            self._forget(watcher, path)

    def _forget(self, watcher: W, path: str) -> None:
        found = self.by_path[path]
        if isinstance(found, dict):
            del found[watcher]
            if found:
                return
        del self.by_path[path]

    def remove_all(self, watcher: W) -> None:
        modes = self.modes(watcher)
        for path, mode in modes.items():
            if mode & RECURSIVE:
                self.recursive -= 1
            watcher.watches_size -= len(path)
            self._forget(watcher, path)
        modes.clear()

    def trigger(self, path: str) -> list[W]:
        """Who watches this path in any mode; standard registrations are used up."""
        found = self.watchers(path)
        for watcher in found:
            if self.modes(watcher)[path] & STANDARD:
                self.remove(watcher, path, STANDARD)
        return list(found)


class WatchTable(Generic[W]):
    """All watches of one server. What adds one raises `Refused` for a connection that watches too much.

    A recursive watch stands in the data table of its own path and hears of everything below but of changed children.
    """

    def __init__(self) -> None:
        self._data = _Table[W]("data_watches")
        self._child = _Table[W]("child_watches")

    def add_data(self, watcher: W, path: str) -> None:
        """A standard watch as exists and getData leave it."""
        _require_room(watcher)
        self._data.add(watcher, path, STANDARD)

    def add_child(self, watcher: W, path: str) -> None:
        """A standard watch as getChildren leaves it."""
        _require_room(watcher)
        self._child.add(watcher, path, STANDARD)

    def add_persistent(self, watcher: W, path: str) -> None:
        """A persistent watch on data and children of one znode."""
        _require_room(watcher)
        self._data.add(watcher, path, PERSISTENT)
        self._child.add(watcher, path, PERSISTENT)

    def add_recursive(self, watcher: W, path: str) -> None:
        """A persistent watch on a whole subtree."""
        _require_room(watcher)
        self._data.add(watcher, path, RECURSIVE)

    def has(self, watcher: W, path: str, data_modes: int, child_modes: int) -> bool:
        """Whether this connection watches the path in one of the modes."""
        data = watcher.data_watches.get(path, 0) & data_modes
        return bool(data or watcher.child_watches.get(path, 0) & child_modes)

    def remove(self, watcher: W, path: str, data_modes: int, child_modes: int) -> None:
        """Takes the path's registrations of these modes away from a connection."""
        self._data.remove(watcher, path, data_modes)
        self._child.remove(watcher, path, child_modes)

    def remove_watcher(self, watcher: W) -> None:
        """The connection is gone, and its watches with it."""
        self._data.remove_all(watcher)
        self._child.remove_all(watcher)

    def on_node(self, path: str) -> list[W]:
        """Who hears that the znode was created or its data changed."""
        return self._with_recursive(path, self._data.trigger(path))

    def on_deleted(self, path: str) -> list[W]:
        """Who hears that the znode was deleted: data and child watches, each connection once."""
        found = self._with_recursive(path, self._data.trigger(path))
        children = self._child.trigger(path)
        return list(dict.fromkeys(found + children)) if children else found

    def on_children(self, path: str) -> list[W]:
        """Who hears that the znode has a child more or less."""
        return self._child.trigger(path)

    def _with_recursive(self, path: str, found: list[W]) -> list[W]:
        if not self._data.recursive:
            return found
        merged = dict.fromkeys(found)
        while path and path != "/":
            path = path[: path.rfind("/")]
            above = path or "/"
            for watcher in self._data.watchers(above):
                if watcher.data_watches[above] & RECURSIVE:
                    merged[watcher] = None
        return list(merged)

    def __bool__(self) -> bool:
        return bool(self._data.by_path or self._child.by_path)

    @property
    def total(self) -> int:
        """Registrations in both tables: pairs of a connection and a path."""
        return sum(len(table.watchers(path)) for table in (self._data, self._child) for path in table.by_path)

    def data_by_path(self) -> Iterator[tuple[str, tuple[W, ...]]]:
        """Path and watchers of the data table, which is the one that the four-letter words show."""
        for path in self._data.by_path:
            yield path, self._data.watchers(path)


def _require_room(watcher: Watcher) -> None:
    if watcher.watches_size > WATCHES_SIZE_MAX:
        raise Refused(MARSHALLING_ERROR)
