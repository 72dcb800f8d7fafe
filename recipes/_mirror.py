"""A local copy of a tree of znodes, kept up to date by one persistent recursive watch (servers from 3.6 on).

An event is only a reason to read the znode that it names: what the copy holds comes from reads, so the order of events
and replies cannot bend it. After anything that may have hidden a change (a reconnect, a lost session, a full buffer)
the whole tree is read again and compared by czxid and mzxid: a znode that was deleted and made again is another one,
also where its version and its children's names are the same. It knows nothing of what the znodes mean.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import NamedTuple

import trio

from terzetto.client import (
    ConnectionLoss,
    KazooState,
    NoAuthError,
    NoNodeError,
    ReplyTooLargeError,
    Resync,
    SessionExpiredError,
    SessionMovedError,
    ThrottledOpError,
    WatchedEvent,
    ZnodeStat,
    ZooKeeper,
)

from ._following import in_any_session
from ._znodes import join, pause_if_throttled

_PASSING = (ConnectionLoss, SessionExpiredError, SessionMovedError, ThrottledOpError)


class CachedZnode(NamedTuple):
    """A znode of the copy.

    Attributes:
        path: its path.
        data: its data, `None` for null.
        stat: its Stat, as it was when the data were read.
    """

    path: str
    data: bytes | None
    stat: ZnodeStat


class ChangeKind(enum.Enum):
    """What became of a znode of the copy."""

    ADDED = "added"
    UPDATED = "updated"
    REMOVED = "removed"


class ZnodeChange(NamedTuple):
    """One change of the copy: a REMOVED znode is as it was last."""

    kind: ChangeKind
    znode: CachedZnode


class TreeMirror:
    """See the module.

    Args:
        zk: the client.
        path: the root of the copy; it need not exist.
        changed: called after each change of the copy, with that change. It must not block.
        depth: how many levels below the root are copied; `None` for all.
        told: called after each look at the tree, whether or not it has changed anything, and when `age` begins to grow.

    Attributes:
        znodes: the copy, by path.
        refused: what the client may not read, by path; it is not in the copy.
        is_complete: whether the whole tree has been read at least once.
    """

    def __init__(
        self,
        zk: ZooKeeper,
        path: str,
        changed: Callable[[ZnodeChange], object] = lambda _: None,
        *,
        depth: int | None = None,
        told: Callable[[], object] = lambda: None,
    ) -> None:
        self.path = path
        self.znodes: dict[str, CachedZnode] = {}
        self.refused: dict[str, NoAuthError] = {}
        self.is_complete = False
        self._zk = zk
        self._changed = changed
        self._told = told
        self._depth = depth
        self._children: dict[str, set[str]] = {}
        self._since: float | None = trio.current_time()

    @property
    def age(self) -> float:
        """Seconds since the copy was last known to follow the servers; 0.0 while it does, infinite before it is
        complete.

        The servers' own silence counts from the moment when the client gave the connection up.
        """
        if not self.is_complete:
            return float("inf")
        return 0.0 if self._since is None else trio.current_time() - self._since

    def children(self, path: str) -> frozenset[str]:
        """Names of a znode's children in the copy."""
        return frozenset(self._children.get(path, ()))

    async def follow(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keeps the copy up to date; started once it is complete. Never returns.

        Raises:
            SessionExpiredError: the client is over.
            UnimplementedError: the server is older than 3.6.
        """
        self._zk.add_listener(self._state_changed)
        try:
            while True:
                try:
                    # Ends only when somebody removes the watches of the path.
                    async with self._zk.watch(self.path, recursive=True) as changes:
                        await self._read_all()
                        task_status.started()
                        task_status = trio.TASK_STATUS_IGNORED
                        async for item in changes:
                            await self._look_at(item)
                except ReplyTooLargeError:
                    raise
                except _PASSING as error:  # while the watch was being registered
                    if self._zk.is_over:
                        raise
                    await pause_if_throttled(error)
        finally:
            self._zk.remove_listener(self._state_changed)

    def _state_changed(self, state: str) -> None:
        if state != KazooState.CONNECTED:
            self._doubt()

    def _doubt(self) -> None:
        if self._since is None:
            self._since = trio.current_time()
            self._told()

    async def _look_at(self, item: WatchedEvent | Resync) -> None:
        if isinstance(item, Resync):
            self._doubt()
            await self._read_all()
        else:
            await self._read_one(item.path)

    # Reading ----------------------------------------------------------------------------------------------------------

    async def _read_one(self, path: str) -> None:
        if not self.covers(path) or (path != self.path and (path.rpartition("/")[0] or "/") not in self.znodes):
            return
        try:
            data, stat = await in_any_session(self._zk, self._zk.get, path)
        except NoNodeError:
            self.refused.pop(path, None)
            self._remove(path)
        except NoAuthError as error:
            self._refuse(path, error)
        else:
            self._put(CachedZnode(path, data, stat))
        self._told()

    async def _read_all(self) -> None:
        """Reads the tree level by level, many requests at a time."""
        while True:
            found: set[str] = set()
            self.refused.clear()
            try:
                level = [self.path]
                while level:
                    level = await self._read_level(level, found)
            except ReplyTooLargeError:
                raise
            except _PASSING as error:
                if self._zk.is_over:
                    raise
                await pause_if_throttled(error)
                continue
            break
        for path in [path for path in self.znodes if path not in found]:
            self._remove(path)
        self.is_complete = True
        # What went since the last look comes as another item to look at.
        if self._zk.connected:
            self._since = None
        self._told()

    async def _read_level(self, level: list[str], found: set[str]) -> list[str]:
        async with self._zk.pipeline() as pipeline:
            handles = [
                (path, await pipeline.get(path), await pipeline.get_children(path) if self._deeper(path) else None)
                for path in level
            ]
        below: list[str] = []
        for path, got, listed in handles:
            try:
                data, stat = got.result()
                self._put(CachedZnode(path, data, stat))
                found.add(path)
                below += [join(path, name) for name in listed.result()] if listed is not None else []
            except NoNodeError:
                continue
            except NoAuthError as error:
                # Without the znode itself, what is below it cannot be followed either.
                self._refuse(path, error)
        return below

    def _level(self, path: str) -> int:
        """How many levels below the root; -1 outside."""
        if path == self.path:
            return 0
        prefix = "/" if self.path == "/" else self.path + "/"
        return path.count("/", len(prefix)) + 1 if path.startswith(prefix) else -1

    def covers(self, path: str) -> bool:
        """Whether a path belongs to the copy, if it exists."""
        level = self._level(path)
        return level >= 0 and (self._depth is None or level <= self._depth)

    def _deeper(self, path: str) -> bool:
        return self._depth is None or self._level(path) < self._depth

    # The copy ---------------------------------------------------------------------------------------------------------

    def _refuse(self, path: str, error: NoAuthError) -> None:
        self.refused[path] = error
        self._remove(path)

    def _put(self, znode: CachedZnode) -> None:
        self.refused.pop(znode.path, None)
        before = self.znodes.get(znode.path)
        if before is not None and before.stat.czxid != znode.stat.czxid:
            self._remove(znode.path)
            before = None
        self.znodes[znode.path] = znode
        if before is None:
            if znode.path != self.path:
                parent, _, name = znode.path.rpartition("/")
                self._children.setdefault(parent or "/", set()).add(name)
            self._changed(ZnodeChange(ChangeKind.ADDED, znode))
        elif before.stat.mzxid != znode.stat.mzxid:
            self._changed(ZnodeChange(ChangeKind.UPDATED, znode))

    def _remove(self, path: str) -> None:
        """Takes a znode out of the copy, those below it first."""
        for name in sorted(self._children.get(path, ())):
            self._remove(join(path, name))
        self._children.pop(path, None)
        gone = self.znodes.pop(path, None)
        if gone is None:
            return
        parent, _, name = path.rpartition("/")
        self._children.get(parent or "/", set()).discard(name)
        self._changed(ZnodeChange(ChangeKind.REMOVED, gone))
