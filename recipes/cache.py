"""Caches of trees of znodes: `ZnodeCache`, and `TreeCache` with kazoo's events.

Both show a copy that one persistent recursive watch keeps up to date (`_mirror`); they decide how it is read and how
its changes are told.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import NamedTuple, TypeVar
from weakref import WeakSet

import trio

from terzetto.client import KazooState, PlainNursery, Resync, ZnodeStat, ZooKeeper

from ._following import Standing, in_any_session
from ._mirror import CachedZnode, ChangeKind, TreeMirror, ZnodeChange
from ._znodes import make_path, native

DefaultT = TypeVar("DefaultT")


class _Cache(Standing):
    """What both share: the copy, for the block."""

    def __init__(self, client: ZooKeeper, path: str, depth: int | None) -> None:
        self.client = native(client)
        self.path = path
        self._mirror = TreeMirror(client, path, self._changed, depth=depth)

    @property
    def age(self) -> float:
        """Seconds since the copy was last known to be up to date: 0.0 while connected, infinite before it is
        complete.
        """
        return self._mirror.age

    @abstractmethod
    def _changed(self, change: ZnodeChange) -> None:
        """The copy has changed."""

    def _ended(self) -> None:
        """The copy follows no more."""

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        async with PlainNursery() as nursery:
            try:
                await nursery.start(self._mirror.follow)
                yield
            finally:
                nursery.cancel_scope.cancel()
                self._ended()


class ZnodeCache(_Cache):
    """A copy of a tree of znodes for the block: `async with ZnodeCache(zk, "/config") as cache:`.

    Complete when the block begins; goes on answering without a connection, and says by `age` how old it is. Whether a
    znode has changed is decided by its transaction ids, so one that was deleted and made again is another one. Needs
    servers from 3.6 on. Znodes that the client may not read are left out, with what is below them.

    Args:
        client: the client.
        path: the root of the tree; it need not exist.
        depth: how many levels below the root are copied; all of them if not given.
    """

    def __init__(self, client: ZooKeeper, path: str, *, depth: int | None = None) -> None:
        if depth is not None and depth < 0:
            raise ValueError(f"depth must be 0 or more levels, not {depth}")
        super().__init__(client, path, depth)
        self._streams: WeakSet[ZnodeChangeStream] = WeakSet()
        self._is_over = False

    @property
    def znodes(self) -> Mapping[str, CachedZnode]:
        """The copy, by path. A view: it goes on changing."""
        return MappingProxyType(self._mirror.znodes)

    def get(self, path: str) -> CachedZnode | None:
        """A znode of the copy, `None` for none."""
        return self._mirror.znodes.get(path)

    def children(self, path: str) -> frozenset[str]:
        """Names of a znode's children in the copy."""
        return self._mirror.children(path)

    def changes(self, max_buffered: int = 1024) -> ZnodeChangeStream:
        """What changes from now on, as an async iterator that ends with the block.

        Args:
            max_buffered: changes that wait for a slow reader. What does not fit is counted in a `Resync`.
        """
        if max_buffered < 1:
            raise ValueError(f"max_buffered must be at least 1, not {max_buffered}")
        stream = ZnodeChangeStream(max_buffered)
        self._streams.add(stream)
        if self._is_over:
            stream.finish()
        return stream

    def _changed(self, change: ZnodeChange) -> None:
        for stream in list(self._streams):
            stream.put(change)

    def _ended(self) -> None:
        self._is_over = True
        for stream in list(self._streams):
            stream.finish()


class ZnodeChangeStream:
    """Changes of a `ZnodeCache` as an async iterator of `ZnodeChange`.

    A `Resync` stands for changes that were thrown away because nobody read them in time: look at the cache itself.
    """

    def __init__(self, max_buffered: int) -> None:
        self._max_buffered = max_buffered
        self._items: deque[ZnodeChange | Resync] = deque()
        self._arrived = trio.Event()
        self._finished = False

    def put(self, change: ZnodeChange) -> None:
        """Takes a change from the cache."""
        last = self._items[-1] if self._items else None
        if isinstance(last, Resync):
            self._items[-1] = Resync(dropped=last.dropped + 1)
        elif len(self._items) < self._max_buffered:
            self._items.append(change)
        else:
            self._items.append(Resync(dropped=1))
        self._arrived.set()

    def finish(self) -> None:
        """Nothing follows; what has arrived can still be read."""
        self._finished = True
        self._arrived.set()

    def __aiter__(self) -> ZnodeChangeStream:
        return self

    async def __anext__(self) -> ZnodeChange | Resync:
        await trio.lowlevel.checkpoint()
        while not self._items:
            if self._finished:
                raise StopAsyncIteration
            if self._arrived.is_set():
                self._arrived = trio.Event()
            await self._arrived.wait()
        return self._items.popleft()


class NodeData(NamedTuple):
    """A znode of a `TreeCache`, as kazoo has it."""

    path: str
    data: bytes | None
    stat: ZnodeStat


class _TypeAndData(NamedTuple):
    event_type: int
    event_data: NodeData | None


class TreeEvent(_TypeAndData):
    """An event of a `TreeCache`, as kazoo has it: `(event_type, event_data)`.

    Attributes:
        event_type: one of the constants of this class.
        event_data: the znode; `None` for what is about the connection or the cache.
    """

    __slots__ = ()

    NODE_ADDED = 0
    NODE_UPDATED = 1
    NODE_REMOVED = 2
    CONNECTION_SUSPENDED = 3
    CONNECTION_RECONNECTED = 4
    CONNECTION_LOST = 5
    INITIALIZED = 6


_TYPES = {
    ChangeKind.ADDED: TreeEvent.NODE_ADDED,
    ChangeKind.UPDATED: TreeEvent.NODE_UPDATED,
    ChangeKind.REMOVED: TreeEvent.NODE_REMOVED,
}
_CONNECTION = {
    KazooState.SUSPENDED: TreeEvent.CONNECTION_SUSPENDED,
    KazooState.CONNECTED: TreeEvent.CONNECTION_RECONNECTED,
    KazooState.LOST: TreeEvent.CONNECTION_LOST,
}
EventListener = Callable[[TreeEvent], object]
FaultListener = Callable[[Exception], object]
EventListenerT = TypeVar("EventListenerT", bound=EventListener)
FaultListenerT = TypeVar("FaultListenerT", bound=FaultListener)


class TreeCache(_Cache):
    """kazoo's cache of a tree, for a block: `async with TreeCache(zk, "/config") as cache:`.

    The root is created if it is missing. Listeners that are there before the block begins are told of every znode as
    NODE_ADDED, then INITIALIZED, before the body runs. Needs servers from 3.6 on.

    Args:
        client: the client.
        path: the root of the tree.
    """

    def __init__(self, client: ZooKeeper, path: str) -> None:
        super().__init__(client, path, None)
        self._listeners: list[EventListener] = []
        self._fault_listeners: list[FaultListener] = []
        self._crash: Exception | None = None
        self._crashed = trio.Event()

    def listen(self, listener: EventListenerT) -> EventListenerT:
        """Calls `listener(event)` for each event. It must not block. Returns it, so it serves as a decorator."""
        self._listeners.append(listener)
        return listener

    def listen_fault(self, listener: FaultListenerT) -> FaultListenerT:
        """Calls `listener(error)` with what a listener raises; without any such, that ends the block. Returns it."""
        self._fault_listeners.append(listener)
        return listener

    def get_data(self, path: str, default: DefaultT | None = None) -> NodeData | DefaultT | None:
        """The znode, `default` if there is none. Raises `ValueError` outside the tree."""
        self._check_inside(path)
        znode = self._mirror.znodes.get(path)
        return default if znode is None else NodeData(*znode)

    def get_children(self, path: str, default: DefaultT | None = None) -> frozenset[str] | DefaultT | None:
        """Names of the znode's children, `default` if there is no znode. Raises `ValueError` outside the tree."""
        self._check_inside(path)
        return self._mirror.children(path) if path in self._mirror.znodes else default

    def _check_inside(self, path: str) -> None:
        if not self._mirror.covers(path):
            raise ValueError(f"{path} is not in the tree {self.path}")

    def _changed(self, change: ZnodeChange) -> None:
        self._tell(_TYPES[change.kind], NodeData(*change.znode))

    def _state_changed(self, state: str) -> None:
        try:
            self._tell(_CONNECTION[state])
        except Exception as error:  # noqa: BLE001 - the listener is the program's
            # Whoever calls this would only log it.
            self._crash = error
            self._crashed.set()

    async def _raise_crash(self) -> None:
        await self._crashed.wait()
        assert self._crash is not None
        raise self._crash

    def _tell(self, event_type: int, data: NodeData | None = None) -> None:
        event = TreeEvent(event_type, data)
        for listener in self._listeners:
            try:
                listener(event)
            except Exception as error:
                if not self._fault_listeners:
                    raise
                for fault_listener in self._fault_listeners:
                    fault_listener(error)

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        await in_any_session(self.client, lambda: make_path(self.client, self.path, container=False))
        async with super()._running(), PlainNursery() as nursery:
            self._tell(TreeEvent.INITIALIZED)
            nursery.start_soon(self._raise_crash)
            self.client.add_listener(self._state_changed)
            try:
                yield
            finally:
                self.client.remove_listener(self._state_changed)
                nursery.cancel_scope.cancel()
