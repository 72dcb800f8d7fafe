"""Standing watches on one znode: kazoo's DataWatch, ChildrenWatch and PatientChildrenWatch.

Each change is told by a one-shot watch that the next read sets again, so every release of ZooKeeper serves them. What a
reader is shown is decided by transaction ids (czxid, mzxid, pzxid), never by comparing contents or versions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Generic, NamedTuple, TypeVar

import trio

from terzetto.client import KazooException, NoNodeError, PlainNursery, WatchedEvent, ZnodeStat, ZooKeeper

from ._following import Rearmed, call_back, in_any_session, one_end, takes
from ._znodes import native

ItemT = TypeVar("ItemT")

DataFunction = (
    Callable[[bytes | None, ZnodeStat | None], Any]
    | Callable[[bytes | None, ZnodeStat | None, WatchedEvent | None], Any]
)
ChildrenFunction = Callable[[list[str]], Any] | Callable[[list[str], WatchedEvent | None], Any]


class WatchedData(NamedTuple):
    """What a `DataWatch` shows.

    Attributes:
        data: the znode's data; `None` without a znode, and where it holds null.
        stat: its Stat, `None` without a znode.
        event: what led to this read; `None` for the first, of type NONE after a lost session.
    """

    data: bytes | None
    stat: ZnodeStat | None
    event: WatchedEvent | None


class WatchedChildren(NamedTuple):
    """What a `ChildrenWatch` shows.

    Attributes:
        children: names of the children, in no order; empty without a znode.
        stat: Stat of the znode itself, `None` without one.
        event: what led to this read; `None` for the first, of type NONE after a lost session.
    """

    children: list[str]
    stat: ZnodeStat | None
    event: WatchedEvent | None


class _StandingWatch(ABC, Generic[ItemT]):
    """The loop of both watches: read, show what is new, wait for the next change."""

    def __init__(self, client: ZooKeeper, path: str, func: Callable[..., Any] | None) -> None:
        if func is not None and not callable(func):
            raise KazooException(f"a watch calls a function, not {func!r}")
        self.client = native(client)
        self.path = path
        self._func = func
        self._change = Rearmed(client, path)
        self._shown: object = self  # nothing yet, which is not the same as no znode
        self._due = True
        self._entered = False
        self._stopped = trio.Event()
        self._nursery: PlainNursery | None = None
        self._scope = trio.CancelScope()

    @abstractmethod
    async def _read(self) -> tuple[object, ItemT]:
        """The present state, with a watch set: what identifies it, and what is shown of it."""

    @abstractmethod
    async def _call(self, func: Callable[..., Any], item: ItemT) -> Any:
        """Calls the user's function in kazoo's shape."""

    def _goes_on(self) -> bool:
        return not self._stopped.is_set()

    def stop(self) -> None:
        """Nothing more is shown: the iteration ends. kazoo's way is to return False from the function."""
        self._stopped.set()
        self._change.told(WatchedEvent("NONE", "CLOSED", self.path))

    def __aiter__(self) -> _StandingWatch[ItemT]:
        return self

    async def __anext__(self) -> ItemT:
        if not self._entered:
            raise RuntimeError("a watch is read inside its own block: async with ... as changes")
        await trio.lowlevel.checkpoint()
        while True:
            if not self._due:
                await self._change.wait()
                self._due = True
            if not self._goes_on():
                raise StopAsyncIteration
            self._change.arm()
            identity, item = await self._read()
            self._due = False
            if identity != self._shown and self._goes_on():
                self._shown = identity
                return item

    async def _serve(self, func: Callable[..., Any]) -> None:
        with self._scope:
            async for item in self:
                if await self._call(func, item) is False:
                    self.stop()

    async def _call_first(self, func: Callable[..., Any]) -> None:
        try:
            item = await self.__anext__()
        except StopAsyncIteration:  # the session that it was made for is over
            self.stop()
        else:
            if await self._call(func, item) is False:
                self.stop()

    async def run(self) -> None:
        """Calls the function for the present state and every change; returns once it has returned False.

        What the function raises, this raises.

        Raises:
            RuntimeError: there is no function.
        """
        if self._func is None:
            raise RuntimeError("a watch without a function is iterated over, not run")
        async with self:
            await self._stopped.wait()

    async def __aenter__(self) -> _StandingWatch[ItemT]:
        if self._entered:
            raise RuntimeError("a watch is entered once; make another one")
        self._entered = True
        try:
            await trio.lowlevel.checkpoint()
            if self._func is not None:
                await self._call_first(self._func)
        except BaseException:
            self._change.take_back()
            raise
        self._nursery = PlainNursery()
        nursery = await self._nursery.__aenter__()
        if self._func is not None and not self._stopped.is_set():
            nursery.start_soon(self._serve, self._func)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        assert self._nursery is not None
        self.stop()
        self._scope.cancel()
        try:
            return await one_end(self._nursery.__aexit__(kind, error, traceback), error)
        finally:
            self._change.take_back()


class DataWatch(_StandingWatch[WatchedData]):
    """Shows a znode's data, and shows it again after each change: `async with DataWatch(zk, "/a") as changes:`.

    Iterate (`async for data, stat, event in changes`), or give a function. The first item is the present state; a
    znode that is missing shows as `(None, None, event)`, and is watched all the same. Of several changes that follow
    each other quickly only the last may be seen.

    Args:
        client: the client.
        path: the znode; it need not exist.
        func: `func(data, stat)` or `func(data, stat, event)`, async or plain, chosen once by its signature. It is
            called for the present state before the block begins, then for each change while the block runs; it stops
            the watch by returning False. What it raises ends the block.
    """

    def __init__(self, client: ZooKeeper, path: str, func: DataFunction | None = None) -> None:
        super().__init__(client, path, func)
        self._with_event = func is not None and takes(func, 3)

    async def _read(self) -> tuple[object, WatchedData]:
        zk, told = self.client, self._change.told
        while True:
            try:
                data, stat = await in_any_session(zk, zk.get, self.path, watch=told)
            except NoNodeError:
                if await in_any_session(zk, zk.exists, self.path, watch=told) is None:
                    return None, WatchedData(None, None, self._change.event)
            else:
                return stat.mzxid, WatchedData(data, stat, self._change.event)

    async def _call(self, func: Callable[..., Any], item: WatchedData) -> Any:
        return await call_back(func, *(item if self._with_event else item[:2]))


class ChildrenWatch(_StandingWatch[WatchedChildren]):
    """Shows the names of a znode's children, again after each change: `async with ChildrenWatch(zk, "/a") as changes:`.

    Iterate (`async for children, stat, event in changes`), or give a function. The first item is the present state. A
    znode that is missing shows without children and with `stat=None`; it is watched all the same, also when it goes
    and comes back.

    Args:
        client: the client.
        path: the znode; it need not exist.
        func: `func(children)`, with `send_event` also `func(children, event)`; otherwise as `DataWatch`'s.
        allow_session_lost: go on in the next session. If not, the watch ends with its session.
        send_event: give the function the event.
    """

    def __init__(
        self,
        client: ZooKeeper,
        path: str,
        func: ChildrenFunction | None = None,
        allow_session_lost: bool = True,
        send_event: bool = False,
    ) -> None:
        super().__init__(client, path, func)
        self._send_event = send_event
        self._session = None if allow_session_lost else client.session_id

    def _goes_on(self) -> bool:
        return super()._goes_on() and self._session in (None, self.client.session_id)

    async def _list(self) -> tuple[list[str], ZnodeStat]:
        return await self.client.get_children(self.path, self._change.told, include_data=True)

    async def _read(self) -> tuple[object, WatchedChildren]:
        zk, told = self.client, self._change.told
        while True:
            try:
                children, stat = await in_any_session(zk, self._list)
            except NoNodeError:
                if await in_any_session(zk, zk.exists, self.path, watch=told) is None:
                    return None, WatchedChildren([], None, self._change.event)
            else:
                return (stat.czxid, stat.pzxid), WatchedChildren(children, stat, self._change.event)

    async def _call(self, func: Callable[..., Any], item: WatchedChildren) -> Any:
        return await (
            call_back(func, item.children, item.event) if self._send_event else call_back(func, item.children)
        )

    async def _serve(self, func: Callable[..., Any]) -> None:
        await super()._serve(func)
        self._stopped.set()  # also where the session ended, so that `run` returns


class PatientChildrenWatch:
    """Waits until a znode's children have been the same for a while, in a block of its own.

    Args:
        client: the client.
        path: the znode, which must exist.
        time_boundary: seconds without a change after which the children count as settled.
    """

    def __init__(self, client: ZooKeeper, path: str, time_boundary: float = 30) -> None:
        if time_boundary < 0:
            raise ValueError(f"time_boundary must be 0 seconds or more, not {time_boundary}")
        self.client = native(client)
        self.path = path
        self.time_boundary = time_boundary
        self._change = Rearmed(client, path)
        self._entered = False
        self._settled = False

    async def start(self) -> tuple[list[str], Callable[[], Awaitable[None]]]:
        """Waits until the children have settled.

        Returns:
            The children, and a function to await: it returns after their next change.

        Raises:
            NoNodeError: there is no such znode.
        """
        if not self._entered:
            raise RuntimeError("a watch is used inside its own block: async with ... as watch")
        while True:
            self._change.arm()
            children = await in_any_session(self.client, self.client.get_children, self.path, watch=self._change.told)
            with trio.move_on_after(self.time_boundary):
                await self._change.wait()
                continue
            return children, self._change.wait

    def __aiter__(self) -> PatientChildrenWatch:
        return self

    async def __anext__(self) -> list[str]:
        """The children each time that they have settled after a change. Raises as `start`."""
        if self._settled:
            await self._change.wait()
            self._settled = False
        children, _ = await self.start()
        self._settled = True
        return children

    async def __aenter__(self) -> PatientChildrenWatch:
        await trio.lowlevel.checkpoint()
        self._entered = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self._entered = False
        self._change.take_back()
