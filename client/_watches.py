"""Registered watches: whom an event concerns, what a request must ask the server for, what to restore and to remove.

A server keeps, for each connection and path, one data and one child registration, and up to 3.8 one *mode* for each:
the last registration wins, so that a one-shot watch on a path with a persistent one silently ends the latter. Hence the
rules of this table, which hold on every release:

- a path with a persistent or recursive watch is never asked for a one-shot one; the persistent events serve both;
- a path with both a persistent and a recursive watch is registered as recursive only, and the change of its children is
  derived from the creations and deletions that the recursive watch reports;
- taking the last persistent watch off a path restores the one-shot ones that it was serving.

Events and answers come in one order, so what the server had registered when it sent an event is what it has answered
until then (`answered`), whatever has been asked since.

Paths are absolute. Watchers are opaque values; the same one registered twice on a path is told once, and a persistent
one stays until both registrations are taken back. Sans-IO.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from typing import Any

from .values import AddWatchMode, EventType, WatcherType, ZnodeStat
from .wire.operations import ADD_WATCH, EXISTS, GET_CHILDREN2, REMOVE_WATCHES, SET_WATCHES, SET_WATCHES2, Operation

_KINDS = ("data", "exist", "child")

BATCH_CHARACTERS = 128 * 1024
"""Path characters in one setWatches; Java's client uses the same figure. A server refuses frames over 1 MiB."""

Watchers = dict[Any, int]
"""An ordered set. Of one-shot watchers with the zxid that their read has seen, of persistent ones with the number of
registrations; whom to tell of an event is a set only."""
_PathTable = dict[str, Watchers]
Command = tuple[Operation, tuple[Any, ...]]

_DATA_EVENTS = (EventType.CREATED, EventType.CHANGED, EventType.DELETED)


def _ancestors(path: str) -> Iterator[str]:
    """The path and every path above it, the root last."""
    yield path
    while path != "/":
        path = path.rpartition("/")[0] or "/"
        yield path


def _discard(table: _PathTable, path: str, watcher: Any) -> bool:
    """Takes one registration off; whether that was the watcher's last."""
    watchers = table.get(path)
    if watchers is None or watcher not in watchers:
        return False
    watchers[watcher] -= 1
    if watchers[watcher]:
        return False
    del watchers[watcher]
    if not watchers:
        del table[path]
    return True


class WatchTable:
    """All watches of one session.

    Attributes:
        oneshot: tables of kind "data", "exist" and "child".
        persistent: tables by `AddWatchMode`.
        bared: how often a path has lost its last persistent watch.
    """

    __slots__ = ("_derived", "_recursive", "bared", "oneshot", "persistent")

    def __init__(self) -> None:
        self.oneshot: dict[str, _PathTable] = {kind: {} for kind in _KINDS}
        self.persistent: dict[AddWatchMode, _PathTable] = {mode: {} for mode in AddWatchMode}
        self.bared = 0
        # Where the server reports recursively, and therefore up to 3.8 no change of children.
        self._recursive: set[str] = set()
        # Parent path to zxid of the last change of children that was derived from a recursive event. Releases from 3.9
        # on keep the modes apart and may report the same change once more themselves.
        self._derived: dict[str, int] = {}

    def __len__(self) -> int:
        tables = (*self.oneshot.values(), *self.persistent.values())
        return sum(len(watchers) for table in tables for watchers in table.values())

    def covered(self, path: str) -> bool:
        """Whether persistent events serve one-shot watches on the path, so that the server must not be asked."""
        return any(path in table for table in self.persistent.values())

    def register(self, kind: str, path: str, watcher: Any, zxid: int) -> None:
        """A request with a one-shot watch succeeded, with this zxid."""
        watchers = self.oneshot[kind].setdefault(path, {})
        watchers[watcher] = min(zxid, watchers.get(watcher, zxid))

    def add_persistent(self, path: str, mode: AddWatchMode, watcher: Any) -> Command:
        """Registers at submission, because later requests must already know; returns what to send.

        `discard_persistent` takes it back if the server refuses.
        """
        hash(watcher)  # before the path has an entry, which would count as covered
        watchers = self.persistent[mode].setdefault(path, {})
        watchers[watcher] = watchers.get(watcher, 0) + 1
        recursive = path in self.persistent[AddWatchMode.PERSISTENT_RECURSIVE]
        return ADD_WATCH, (path, int(AddWatchMode.PERSISTENT_RECURSIVE if recursive else mode))

    def discard_persistent(self, path: str, mode: AddWatchMode, watcher: Any) -> list[Command]:
        """Takes a persistent watcher off; returns what to send, in order, so that no other registration suffers."""
        if not _discard(self.persistent[mode], path, watcher) or path in self.persistent[mode]:
            return []
        if path in self.persistent[AddWatchMode.PERSISTENT_RECURSIVE]:
            return []
        if path in self.persistent[AddWatchMode.PERSISTENT]:
            # Up to 3.8 the first command overwrites the mode and the second is refused; from 3.9 on the first adds a
            # mode and the second takes the other one away. Either way nothing is unwatched in between.
            return [
                (ADD_WATCH, (path, int(AddWatchMode.PERSISTENT))),
                (REMOVE_WATCHES, (path, int(WatcherType.PERSISTENT_RECURSIVE))),
            ]
        self.bared += 1
        return [(REMOVE_WATCHES, (path, int(WatcherType.ANY)))]

    def discard_oneshot(self, path: str, watcher: Any) -> list[Command]:
        """Takes a one-shot watcher off a path, whatever its kind; returns what to send where nobody else needs it."""
        had = {kind: self.oneshot[kind].get(path, {}).pop(watcher, None) is not None for kind in _KINDS}
        for kind in _KINDS:
            if had[kind] and not self.oneshot[kind][path]:
                del self.oneshot[kind][path]
        if self.covered(path):
            return []
        commands: list[Command] = []
        if (had["data"] or had["exist"]) and path not in self.oneshot["data"] and path not in self.oneshot["exist"]:
            commands.append((REMOVE_WATCHES, (path, int(WatcherType.DATA))))
        if had["child"] and path not in self.oneshot["child"]:
            commands.append((REMOVE_WATCHES, (path, int(WatcherType.CHILDREN))))
        return commands

    def answered(self, operation: Operation, path: str, number: int) -> None:
        """The server has done an addWatch or removeWatches; `number` is its mode or `WatcherType`."""
        if operation is ADD_WATCH and number == AddWatchMode.PERSISTENT_RECURSIVE:
            self._recursive.add(path)
        elif operation is ADD_WATCH or number in (WatcherType.ANY, WatcherType.PERSISTENT_RECURSIVE):
            self._recursive.discard(path)
            self._derived.pop(path, None)

    def look_back(self, path: str, kind: int) -> list[Command]:
        """The path's one-shot watches of a kind may have gone unregistered: what registers them and shows the znode.

        The answers go to `missed`. A setWatches would report what has changed, but to the persistent watches of the
        path and above as well, which have been told already.
        """
        has_data = kind != WatcherType.CHILDREN and (path in self.oneshot["data"] or path in self.oneshot["exist"])
        has_child = kind != WatcherType.DATA and path in self.oneshot["child"]
        if self.covered(path):
            return [(EXISTS, (path, False))] if has_data or has_child else []
        commands: list[Command] = []
        if has_data:
            commands.append((EXISTS, (path, True)))
        if has_child:
            commands.append((GET_CHILDREN2, (path, True)))
        return commands

    def missed(self, path: str, stat: ZnodeStat | None) -> list[tuple[str, Watchers]]:
        """Takes off the one-shot watchers whose reads have not seen the znode as it is: (event type, watchers) pairs.

        `stat` is the znode's present one, `None` without a znode.
        """
        changes = [("data", EventType.DELETED, inf), ("child", EventType.DELETED, inf)]
        if stat is not None:
            changes = [
                ("exist", EventType.CREATED, inf),
                ("data", EventType.CHANGED, stat.mzxid),
                ("child", EventType.CHILD, stat.pzxid),
            ]
        found: dict[str, Watchers] = {}
        for kind, event_type, changed in changes:
            watchers = self.oneshot[kind].get(path, {})
            told = {watcher: seen for watcher, seen in watchers.items() if seen < changed}
            if told:
                found.setdefault(event_type, {}).update(told)
                self.oneshot[kind][path] = {watcher: seen for watcher, seen in watchers.items() if watcher not in told}
                if not self.oneshot[kind][path]:
                    del self.oneshot[kind][path]
        return list(found.items())

    def remove(self, path: str, kind: WatcherType) -> tuple[list[tuple[str, Watchers]], list[Command]]:
        """Takes every watcher of a kind off a path, for `remove_watches`.

        Returns:
            (event type, watchers to tell) pairs, empty when there were none; and what to send.
        """
        told: list[tuple[str, Watchers]] = []

        def pop(table: _PathTable, event_type: str) -> None:
            watchers = table.pop(path, None)
            if watchers:
                told.append((event_type, watchers))

        if kind in (WatcherType.DATA, WatcherType.ANY):
            pop(self.oneshot["data"], EventType.DATA_WATCH_REMOVED)
            pop(self.oneshot["exist"], EventType.DATA_WATCH_REMOVED)
        if kind in (WatcherType.CHILDREN, WatcherType.ANY):
            pop(self.oneshot["child"], EventType.CHILD_WATCH_REMOVED)
        commands: list[Command] = []
        if kind in (WatcherType.DATA, WatcherType.CHILDREN):
            if told and not self.covered(path):
                commands.append((REMOVE_WATCHES, (path, int(kind))))
            return told, commands
        for mode, number in (
            (AddWatchMode.PERSISTENT, WatcherType.PERSISTENT),
            (AddWatchMode.PERSISTENT_RECURSIVE, WatcherType.PERSISTENT_RECURSIVE),
        ):
            if kind in (number, WatcherType.ANY):
                watchers = dict.fromkeys(self.persistent[mode].get(path, ()), 1)
                if watchers:
                    told.append((EventType.PERSISTENT_WATCH_REMOVED, watchers))
                    self.persistent[mode][path] = dict(watchers)
                for watcher in watchers:
                    commands += self.discard_persistent(path, mode, watcher)
        if told and not commands and not self.covered(path):
            commands.append((REMOVE_WATCHES, (path, int(WatcherType.ANY))))
        return told, commands

    def fire(self, event_type: str, path: str, zxid: int) -> list[tuple[str, str, Watchers]]:
        """Whom a notification concerns: (event type, path, watchers) in the order of delivery. Pops one-shot watches.

        `zxid` is -1 where the server did not say.
        """
        told: Watchers = {}
        recursive = self.persistent[AddWatchMode.PERSISTENT_RECURSIVE]
        if event_type == EventType.CHILD:
            if zxid > 0 and self._derived.get(path) == zxid:
                return []
            self._pop_into(told, "child", path)
        else:
            if event_type in _DATA_EVENTS:
                self._pop_into(told, "data", path)
                self._pop_into(told, "exist", path)
            if event_type == EventType.DELETED:
                self._pop_into(told, "child", path)
            if recursive:
                for above in _ancestors(path):
                    told.update(recursive.get(above, ()))
        told.update(self.persistent[AddWatchMode.PERSISTENT].get(path, ()))
        found = [(event_type, path, told)] if told else []
        if self._recursive and event_type in (EventType.CREATED, EventType.DELETED) and path != "/":
            above = path.rpartition("/")[0] or "/"
            if above in self._recursive:
                found += self._derive_child_event(above, zxid)
        return found

    def _derive_child_event(self, parent: str, zxid: int) -> list[tuple[str, str, Watchers]]:
        told: Watchers = {}
        self._pop_into(told, "child", parent)
        told.update(self.persistent[AddWatchMode.PERSISTENT].get(parent, ()))
        if not told:
            return []
        self._derived[parent] = zxid
        return [(EventType.CHILD, parent, told)]

    def _pop_into(self, told: Watchers, kind: str, path: str) -> None:
        watchers = self.oneshot[kind].pop(path, None)
        if watchers:
            told.update(watchers)

    def restore(self, zxid: int) -> list[Command]:
        """setWatches or setWatches2 batches for a new connection, all relative to the same zxid.

        The one-shot watches of a path that has a persistent one stand behind it in the same way as on the old
        connection: what they missed is reported, and what comes is served by the persistent watch.
        """
        recursive = self.persistent[AddWatchMode.PERSISTENT_RECURSIVE]
        self._recursive = set(recursive)
        self._derived.clear()
        plain = [path for path in self.persistent[AddWatchMode.PERSISTENT] if path not in recursive]
        lists = [list(self.oneshot[kind]) for kind in _KINDS]
        operation = SET_WATCHES
        if plain or recursive:
            operation = SET_WATCHES2
            lists += [plain, list(recursive)]
        commands: list[Command] = []
        batch: list[list[str]] = [[] for _ in lists]
        size = 0
        for index, paths in enumerate(lists):
            for path in paths:
                if size + len(path) > BATCH_CHARACTERS and size:
                    commands.append((operation, (zxid, *batch)))
                    batch = [list[str]() for _ in lists]
                    size = 0
                batch[index].append(path)
                size += len(path)
        if size:
            commands.append((operation, (zxid, *batch)))
        return commands

    def end_session(self, survives: Any) -> list[tuple[str, Watchers]]:
        """The session is over: takes off every watcher but the persistent ones for which `survives(watcher)` is true.

        Returns:
            (path, watchers to tell) pairs.
        """
        told: dict[str, Watchers] = {}
        for table in self.oneshot.values():
            for path, watchers in table.items():
                told.setdefault(path, {}).update(watchers)
            table.clear()
        for table in self.persistent.values():
            for path, watchers in list(table.items()):
                ended = dict.fromkeys((watcher for watcher in watchers if not survives(watcher)), 1)
                if ended:
                    told.setdefault(path, {}).update(ended)
                    table[path] = {watcher: count for watcher, count in watchers.items() if watcher not in ended}
                    if not table[path]:
                        del table[path]
        self._recursive.clear()
        self._derived.clear()
        return list(told.items())
