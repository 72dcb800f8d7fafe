"""Those who are told of events: a callback, or the stream behind `ZooKeeper.watch`.

The session treats both as opaque values; the shell calls `deliver`. Paths arrive absolute and leave relative to the
view's chroot.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import trio

from .errors import ConnectionClosedError
from .paths import Chroot
from .values import EventType, Resync, WatchedEvent

WatchCallback = Callable[[WatchedEvent], object]


class CallbackWatcher(NamedTuple):
    """A plain function; registered twice on a path in one view, it is told once."""

    callback: WatchCallback
    prefix: str

    @property
    def survives_session(self) -> bool:
        """A callback ends with its session."""
        return False

    def deliver(self, event: WatchedEvent) -> None:
        """Calls the function."""
        if self.prefix:
            event = event.at(Chroot(self.prefix).relative(event.path))
        self.callback(event)


class WatchStream:
    """Events of one persistent watch, in order, as an async iterator of `WatchedEvent` and `Resync`.

    A `Resync` says that changes may have been missed (a reconnect, a lost session, a full buffer), so that what is
    watched must be read again. The iteration ends when somebody removes the watch from the path.

    Raises (from the iteration):
        ConnectionClosedError: the client was closed, or its session ended for good.
    """

    survives_session: ClassVar[bool] = True

    def __init__(self, chroot: Chroot, max_buffered: int) -> None:
        if isinstance(max_buffered, bool) or not isinstance(max_buffered, int) or max_buffered < 1:
            raise ValueError(f"max_buffered must be at least 1, not {max_buffered!r}")
        self._chroot = chroot
        self._max_buffered = max_buffered
        self._items: deque[WatchedEvent | Resync] = deque()
        self._arrived = trio.Event()
        self._finished: Exception | None = None

    def deliver(self, event: WatchedEvent) -> None:
        """Takes an event from the shell; what does not fit is counted."""
        if event.type == EventType.NONE:
            self.finish(ConnectionClosedError(f"the session ended while {event.path!r} was watched"))
        elif event.type == EventType.PERSISTENT_WATCH_REMOVED:
            self.finish(StopAsyncIteration())
        else:
            self._put(event.at(self._chroot.relative(event.path)))

    def resync(self, *, session_lost: bool) -> None:
        """The connection was lost and is there again, with all watches."""
        self._put(Resync(session_lost=session_lost))

    def _put(self, item: WatchedEvent | Resync) -> None:
        if len(self._items) < self._max_buffered:
            self._items.append(item)
        else:
            last = self._items[-1]
            if not isinstance(last, Resync):
                last = Resync()
                self._items.append(last)
            lost = isinstance(item, Resync) and item.session_lost
            dropped = last.dropped + isinstance(item, WatchedEvent)
            self._items[-1] = Resync(session_lost=last.session_lost or lost, dropped=dropped)
        self._wake()

    def finish(self, reason: Exception) -> None:
        """Nothing follows; what has arrived can still be read. The first reason counts."""
        self._finished = self._finished or reason
        self._wake()

    def _wake(self) -> None:
        self._arrived.set()

    def __aiter__(self) -> WatchStream:
        return self

    async def __anext__(self) -> WatchedEvent | Resync:
        await trio.lowlevel.checkpoint()
        while not self._items:
            if self._finished is not None:
                raise self._finished
            if self._arrived.is_set():
                self._arrived = trio.Event()
            await self._arrived.wait()
        return self._items.popleft()


class StateNode:
    """One state in the client's history; later ones hang on it. Holding a node holds nothing that came before."""

    __slots__ = ("changed", "next", "state")

    def __init__(self, state: str) -> None:
        self.state = state
        self.next: StateNode | None = None
        self.changed = trio.Event()

    def append(self, state: str) -> StateNode:
        """The state changed."""
        self.next = StateNode(state)
        self.changed.set()
        return self.next

    def close(self) -> None:
        """No state follows."""
        self.changed.set()


class StateStream:
    """`KazooState` values as an async iterator: the current one at once, then every change. Ends with the client."""

    def __init__(self, node: StateNode) -> None:
        self._node: StateNode | None = node
        self._first = True

    def __aiter__(self) -> StateStream:
        return self

    async def __anext__(self) -> str:
        node = self._node
        if node is None:
            await trio.lowlevel.checkpoint()
            raise StopAsyncIteration
        if self._first:
            self._first = False
            await trio.lowlevel.checkpoint()
            return node.state
        await node.changed.wait()
        if self._node is node:
            self._node = node.next
        # Another task may have read this change while we waited; it is ours as well.
        if node.next is None:
            raise StopAsyncIteration
        return node.next.state
