"""Queues of kazoo's layout: `Queue`, whose items are taken out at once, and `LockingQueue`, whose items are held first.

An item is put once and taken once, or the error says that nobody knows (`_receipts`).
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable
from functools import partial
from typing import NamedTuple

import trio

from terzetto.client import (
    BadVersionError,
    NodeExistsError,
    NoNodeError,
    SessionExpiredError,
    Transaction,
    ZooKeeper,
)

from ._following import Rearmed, first_of, in_any_session, looks_once, within
from ._layout import Seat, in_order
from ._receipts import change_once
from ._znodes import join, make_path, native, until_answered

_PRIORITY_DIGITS = 3
_NAME = re.compile(rf"(entry-[0-9]{{{_PRIORITY_DIGITS}}}-)(-[0-9]{{9,10}}|[0-9]{{10}})\Z")


def _item_name(priority: int) -> str:
    """Name of an item without its number. Raises `TypeError`, `ValueError`: this is no priority."""
    if isinstance(priority, bool) or not isinstance(priority, int):
        raise TypeError(f"priority must be an int, not {priority!r}")
    if not 0 <= priority < 10**_PRIORITY_DIGITS:
        raise ValueError(f"priority must be from 0 to {10**_PRIORITY_DIGITS - 1}, not {priority}")
    return f"entry-{priority:0{_PRIORITY_DIGITS}}-"


def _checked(value: bytes) -> bytes:
    if not isinstance(value, bytes):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"value must be bytes, not {value!r:.60}")
    return value


def _in_order(names: Iterable[str]) -> list[str]:
    """Items by priority, and of one priority in the order of creation. kazoo takes any child for an item."""
    seats: list[Seat] = []
    ordered: list[tuple[str, str]] = []
    for name in names:
        found = _NAME.match(name)
        if found is None:
            ordered.append((name, name))
        else:
            seats.append(Seat(int(found.group(2)), name))
    ordered += [(name[: name.index("-") + 2 + _PRIORITY_DIGITS], name) for _, name in in_order(seats)]
    return [name for _, name in sorted(ordered, key=lambda item: item[0])]


class Queue:
    """A queue whose items are taken out at once: `await queue.put(b"job")`, `await queue.get()`.

    Whoever takes an item and dies has lost it; `LockingQueue` is for items that must not be lost.

    Args:
        client: the client.
        path: the znode below which the items stand; made when it is missing. Not "/".
    """

    def __init__(self, client: ZooKeeper, path: str) -> None:
        if path == "/":
            raise ValueError("a queue needs a znode of its own, not '/'")
        self.client = native(client)
        self.path = path

    async def put(self, value: bytes, priority: int = 100) -> None:
        """Puts an item. Items of a smaller priority go first, and of one priority in the order in which they came.

        Raises:
            TypeError: the value is not bytes.
            ValueError: the priority is not from 0 to 999.
            SessionExpiredError: the session ended; `outcome_unknown` says whether the item may have been put.
        """
        item, data = join(self.path, _item_name(priority)), _checked(value)

        def fill(transaction: Transaction) -> None:
            transaction.create(item, data, sequence=True)

        while True:
            try:
                # Beside the queue: every child is an item to kazoo.
                await change_once(self.client, f"{self.path}-", fill)
            except NoNodeError:
                await in_any_session(self.client, make_path, self.client, self.path, container=False)
            else:
                return

    async def get(self) -> bytes | None:
        """Takes the first item, `None` if there is none. A call that is cancelled may have taken one.

        Raises:
            SessionExpiredError: the session ended; `outcome_unknown` says whether an item may have been taken.
        """
        while True:
            names = await self._names()
            if not names:
                return None
            for name in names:
                if (data := await self._take(join(self.path, name))) is not None:
                    return data

    async def qsize(self) -> int:
        """How many items there are."""
        return len(await self._names())

    async def _take(self, item: str) -> bytes | None:
        """Its data; `None`: somebody else has it."""
        while True:
            try:
                data, stat = await in_any_session(self.client, self.client.get, item)
                await change_once(self.client, f"{self.path}-", partial(self._fill_take, item, stat.version))
            except NoNodeError:
                return None
            except BadVersionError:
                continue  # somebody has written to it since
            return data or b""

    def _fill_take(self, item: str, version: int, transaction: Transaction) -> None:
        transaction.delete(item, version)

    async def _names(self) -> list[str]:
        try:
            return _in_order(await in_any_session(self.client, self.client.get_children, self.path))
        except NoNodeError:
            return []


class _NotOurs(Exception):
    """The session that held the item is over."""


class HeldItem(NamedTuple):
    """An item that a `LockingQueue` holds.

    Attributes:
        name: of its znode.
        value: what was put.
    """

    name: str
    value: bytes


class LockingQueue:
    """A queue whose items are held first, and stay if their holder dies: at least once.

        item = await queue.get()
        ...
        await queue.consume()

    Args:
        client: the client.
        path: the znode below which the queue stands; made when it is missing.

    Attributes:
        id: what stands in the znode that holds our item; another one for each item.
        processing_element: the item that this object holds, `None` without one.
    """

    def __init__(self, client: ZooKeeper, path: str) -> None:
        self.client = native(client)
        self.path = path
        self.id = uuid.uuid4().hex.encode()
        self.processing_element: HeldItem | None = None
        self._entries = join(path, "entries")
        self._taken = join(path, "taken")
        # Of the session that holds the item: in another one it is not ours.
        self._session = 0
        self._turn = trio.Lock()

    # Putting ----------------------------------------------------------------------------------------------------------

    async def put(self, value: bytes, priority: int = 100) -> None:
        """Puts an item. As `Queue.put`."""
        await self.put_all([value], priority)

    async def put_all(self, values: Iterable[bytes], priority: int = 100) -> None:
        """Puts items, all or none. As `Queue.put`."""
        item, data = join(self._entries, _item_name(priority)), [_checked(value) for value in values]

        def fill(transaction: Transaction) -> None:
            for value in data:
                transaction.create(item, value, sequence=True)

        while True:
            try:
                await change_once(self.client, join(self.path, ""), fill)
            except NoNodeError:
                await self._make_paths()
            else:
                return

    async def qsize(self) -> int:
        """How many items there are, with those that are held."""
        return len(await self._children(self._entries))

    # Holding ----------------------------------------------------------------------------------------------------------

    async def get(self, timeout: float | None = None) -> bytes | None:  # noqa: ASYNC109 - kazoo's, with its result
        """Holds the first item that nobody holds, and returns it; the same again, while this object holds one.

        Lost connections and lost sessions do not end the wait.

        Args:
            timeout: seconds to wait for an item, `None` for no limit; 0 looks once.

        Returns:
            The item, `None` if there was none in time.

        Raises:
            SessionExpiredError: the client is over (closed, or its only session lost).
        """
        if looks_once(timeout) and self._turn.locked():
            await trio.lowlevel.checkpoint()
            return None
        entries, taken = Rearmed(self.client, self._entries), Rearmed(self.client, self._taken)
        try:
            with within(timeout):
                async with self._turn:
                    return await self._get(entries, taken, wait=not looks_once(timeout))
        finally:
            entries.take_back()
            taken.take_back()
        return None

    async def _get(self, entries: Rearmed, taken: Rearmed, *, wait: bool) -> bytes | None:
        if await self.holds_lock() and self.processing_element is not None:
            return self.processing_element.value
        self.processing_element = None
        while True:
            entries.arm()
            taken.arm()
            try:
                held = await self._hold_first(entries, taken)
            except NoNodeError:
                await self._make_paths()
                continue
            except SessionExpiredError:
                if self.client.is_over:
                    raise
                continue
            if held is not None:
                self.processing_element = held
                return held.value
            if not wait:
                return None
            await first_of(entries.wait, taken.wait)

    async def holds_lock(self) -> bool:
        """Whether this object holds an item, as a quorum knows it."""
        held = self.processing_element
        if held is None:
            await trio.lowlevel.checkpoint()
            return False
        mark = join(self._taken, held.name)
        await in_any_session(self.client, self.client.sync, mark, strict=True)
        try:
            data, stat = await in_any_session(self.client, self.client.get, mark)
        except NoNodeError:
            return False
        return data == self.id and stat.ephemeralOwner == self._session == self.client.session_id

    async def consume(self) -> bool:
        """Takes the item that this object holds out of the queue. False: it holds none, or not any more.

        Raises:
            SessionExpiredError: the session ended; `outcome_unknown` says whether the item may have been taken out.
        """
        return await self._end(consume=True)

    async def release(self) -> bool:
        """Gives the item back, for others. False: this object holds none, or not any more."""
        try:
            return await self._end(consume=False)
        except SessionExpiredError:
            return False  # it went with its session

    async def _end(self, *, consume: bool) -> bool:
        held, self.processing_element = self.processing_element, None
        if held is None:
            await trio.lowlevel.checkpoint()
            return False
        mark, claim, session = join(self._taken, held.name), self.id, self._session

        def fill(transaction: Transaction) -> None:
            # In another session the znode of this name is somebody else's.
            if self.client.session_id != session:
                raise _NotOurs
            transaction.delete(mark, 0)
            if consume:
                transaction.delete(join(self._entries, held.name))

        try:
            await change_once(self.client, join(self.path, ""), fill)
        except (NoNodeError, BadVersionError, _NotOurs):
            return False
        except BaseException:
            # Cancelled, or refused: nobody here knows of the item any more, so others must get it.
            self._give_back(mark, claim)
            raise
        return True

    async def _hold_first(self, entries: Rearmed, taken: Rearmed) -> HeldItem | None:
        zk = self.client
        items = _in_order(await until_answered(zk.get_children, self._entries, watch=entries.told))
        marks = set(await until_answered(zk.get_children, self._taken, watch=taken.told))
        for name in items:
            if name in marks:
                continue
            held = await self._hold(name)
            if held is not None:
                return held
        return None

    async def _hold(self, name: str) -> HeldItem | None:
        zk, mark, claim = self.client, join(self._taken, name), uuid.uuid4().hex.encode()
        try:
            try:
                await until_answered(zk.create, mark, claim, ephemeral=True)
            except NodeExistsError:
                # Somebody else's; or ours, by a request whose reply was lost.
                if (await until_answered(zk.get, mark))[0] != claim:
                    return None
            data, _ = await until_answered(zk.get, join(self._entries, name))
            _, stat = await until_answered(zk.get, mark)
        except NoNodeError:
            # Consumed by somebody else, between our list and our mark.
            self._give_back(mark, claim)
            return None
        except BaseException:
            self._give_back(mark, claim)
            raise
        self.id, self._session = claim, stat.ephemeralOwner
        return HeldItem(name, data or b"")

    def _give_back(self, mark: str, claim: bytes) -> None:
        """Deletes the mark in the background, if it is of this claim."""
        if not self.client.is_over:
            self.client.defer_delete(mark, data=claim)

    async def _make_paths(self) -> None:
        for path in (self._entries, self._taken):
            await in_any_session(self.client, make_path, self.client, path, container=False)

    async def _children(self, path: str) -> list[str]:
        try:
            return await in_any_session(self.client, self.client.get_children, path)
        except NoNodeError:
            return []
