"""Registered watches: whom an event concerns, what a request must ask the server for, what to restore and to remove.

A server keeps, for each connection and path, one data and one child registration, and up to 3.8 one *mode* for each:
the last registration wins, so that a one-shot watch on a path with a persistent one silently ends the latter. Hence the
rules of this table, which hold on every release:

- a path with a persistent or recursive watch is never asked for a one-shot one; the persistent events serve both;
- a path with both a persistent and a recursive watch is registered as recursive only, and the change of its children is
  derived from the creations and deletions that the recursive watch reports;
- taking the last persistent watch off a path restores the one-shot ones that it was serving, once the server has
  answered the removal: it may take along what a read still under way has registered.

Paths are absolute. Watchers are opaque values; the same one registered twice on a path is told once, and a persistent
one stays until both registrations are taken back. Sans-IO.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .values import AddWatchMode, EventType, WatcherType, ZnodeStat
from .wire.operations import ADD_WATCH, EXISTS, REMOVE_WATCHES, SET_WATCHES, SET_WATCHES2, Operation

_KINDS = ("data", "exist", "child")

BATCH_CHARACTERS = 128 * 1024
"""Path characters in one setWatches; Java's client uses the same figure. A server refuses frames over 1 MiB."""

Watchers = dict[Any, int]  # an ordered set, with how often each was registered
_PathTable = dict[str, Watchers]
Command = tuple[Operation, tuple[Any, ...]]

_DATA_EVENTS = (EventType.CREATED, EventType.CHANGED, EventType.DELETED)


def _ancestors(path: str) -> Iterator[str]:
    """The path and every path above it, the root last."""
    yield path
    while path != "/":
        path = path.rpartition("/")[0] or "/"
        yield path


def _add(table: _PathTable, path: str, watcher: Any) -> None:
    watchers = table.setdefault(path, {})
    watchers[watcher] = watchers.get(watcher, 0) + 1


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

    __slots__ = ("_derived", "_leaving", "bared", "oneshot", "persistent")

    def __init__(self) -> None:
        self.oneshot: dict[str, _PathTable] = {kind: {} for kind in _KINDS}
        self.persistent: dict[AddWatchMode, _PathTable] = {mode: {} for mode in AddWatchMode}
        self.bared = 0
        # Parent path to zxid of the last change of children that was derived from a recursive event. Releases from 3.9
        # on keep the modes apart and report the same change once more themselves.
        self._derived: dict[str, int] = {}
        # Paths where a recursive watch gives way to a plain one, until the server has answered that it did: how many
        # such changes are under way. Its events are recursive ones until then.
        self._leaving: dict[str, int] = {}

    def __len__(self) -> int:
        tables = (*self.oneshot.values(), *self.persistent.values())
        return sum(len(watchers) for table in tables for watchers in table.values())

    def covered(self, path: str) -> bool:
        """Whether persistent events serve one-shot watches on the path, so that the server must not be asked."""
        return any(path in table for table in self.persistent.values())

    def register(self, kind: str, path: str, watcher: Any) -> None:
        """A request with a one-shot watch succeeded."""
        _add(self.oneshot[kind], path, watcher)

    def add_persistent(self, path: str, mode: AddWatchMode, watcher: Any) -> Command:
        """Registers at submission, because later requests must already know; returns what to send.

        `discard_persistent` takes it back if the server refuses.
        """
        _add(self.persistent[mode], path, watcher)
        recursive = path in self.persistent[AddWatchMode.PERSISTENT_RECURSIVE]
        return ADD_WATCH, (path, int(AddWatchMode.PERSISTENT_RECURSIVE if recursive else mode))

    def discard_persistent(self, path: str, mode: AddWatchMode, watcher: Any) -> list[Command]:
        """Takes a persistent watcher off; returns what to send, in order, so that no other registration suffers."""
        if not _discard(self.persistent[mode], path, watcher) or path in self.persistent[mode]:
            return []
        if mode is AddWatchMode.PERSISTENT_RECURSIVE:
            if path in self.persistent[AddWatchMode.PERSISTENT]:
                self._leaving[path] = self._leaving.get(path, 0) + 1
                # Up to 3.8 the first command overwrites the mode and the second is refused; from 3.9 on the first adds
                # a mode and the second takes the other one away. Either way nothing is unwatched in between.
                return [
                    (ADD_WATCH, (path, int(AddWatchMode.PERSISTENT))),
                    (REMOVE_WATCHES, (path, int(WatcherType.PERSISTENT_RECURSIVE))),
                ]
            self._derived.pop(path, None)
        elif path in self.persistent[AddWatchMode.PERSISTENT_RECURSIVE]:
            return []
        self.bared += 1
        return [(REMOVE_WATCHES, (path, int(WatcherType.ANY)))]

    def left(self, path: str) -> None:
        """The server has answered the addWatch by which a recursive watch gave way (`discard_persistent`)."""
        count = self._leaving.pop(path, 0) - 1
        if count > 0:
            self._leaving[path] = count
        elif path not in self.persistent[AddWatchMode.PERSISTENT_RECURSIVE]:
            self._derived.pop(path, None)

    def look_back(self, path: str, kind: int, since: int) -> list[Command]:
        """The path's one-shot watches of a kind may have gone unregistered: what makes good for that.

        A setWatches registers them and reports at once what has changed since the zxid. Where a persistent watch serves
        them, that would overwrite it up to 3.8; there the client compares for itself (`missed`).
        """
        kinds = {WatcherType.DATA: ("data", "exist"), WatcherType.CHILDREN: ("child",)}.get(WatcherType(kind), _KINDS)
        lists = [[path] if name in kinds and path in self.oneshot[name] else [] for name in _KINDS]
        if not any(lists):
            return []
        return [(EXISTS, (path, False))] if self.covered(path) else [(SET_WATCHES, (since, *lists))]

    def missed(self, path: str, since: int, stat: ZnodeStat | None) -> list[tuple[str, Watchers]]:
        """Takes off the one-shot watchers that a change since the zxid concerns: (event type, watchers) pairs.

        `stat` is the znode's present one, `None` without a znode.
        """
        found: list[tuple[str, Watchers]] = []

        def pop(event_type: str, *kinds: str) -> None:
            told: Watchers = {}
            for kind in kinds:
                self._pop_into(told, kind, path)
            if told:
                found.append((event_type, told))

        if stat is None:
            pop(EventType.DELETED, "data", "child")
            return found
        pop(EventType.CREATED, "exist")
        if stat.mzxid > since:
            pop(EventType.CHANGED, "data")
        if stat.pzxid > since:
            pop(EventType.CHILD, "child")
        return found

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
        if (recursive or self._leaving) and event_type in (EventType.CREATED, EventType.DELETED) and path != "/":
            above = path.rpartition("/")[0] or "/"
            if above in recursive or above in self._leaving:
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
        # What the old connection had still to report, or to answer, is lost with it.
        self._derived.clear()
        self._leaving.clear()
        recursive = self.persistent[AddWatchMode.PERSISTENT_RECURSIVE]
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
        self._derived.clear()
        self._leaving.clear()
        return list(told.items())
