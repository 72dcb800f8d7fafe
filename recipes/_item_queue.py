"""Queues of Curator's layout: items in the order of their names, taken out at once or claimed for a block.

A claim is an ephemeral znode with the item's name, below a path of its own. It is an ownership like a lock's: the body
is cancelled when it can no longer be proved, and the item is taken out, or put back, in one transaction with the end
of the claim. What an item's name says, and when it is due, is the queue's.
"""

from __future__ import annotations

import re
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Generic, NamedTuple, TypeVar

import trio

from terzetto.client import (
    BadVersionError,
    LockTimeout,
    NodeExistsError,
    NoNodeError,
    SessionExpiredError,
    Transaction,
    ZnodeStat,
    ZooKeeper,
)

from ._following import Rearmed, first_of, in_any_session
from ._item_frames import pack_items, unpack_items
from ._layout import Seat, in_order
from ._ownership import Ownership, ProofMode, SuspendMode, Terms, owning
from ._receipts import change_once
from ._znodes import join, make_path, native, until_answered
from .errors import ItemFormatError

PREFIX = "queue-"
_NAME = re.compile(rf"{PREFIX}(.*?)(-[0-9]{{9,10}}|[0-9]{{10}})\Z")

LOOK_AGAIN = 60.0
"""Seconds after which whoever waits for an item to be due looks at the clock again: clocks are set."""


class Place(NamedTuple):
    """An item that stands in a queue.

    Attributes:
        name: of its znode.
        key: what stands in the name between the common prefix and the number.
        wait: seconds until it is due.
    """

    name: str
    key: str
    wait: float


class _Elsewhere(Exception):
    """The session that claimed the item is over; a claim of this name is another's."""


class ClaimedItem(Ownership):
    """What `async with queue.claim() as item` gives. When the block ends, the item is taken out of the queue.

    When the body fails or is cancelled, or its process dies, others get the item.

    Attributes:
        name: name of the item's znode.
        data: the bytes of its znode.
        fencing_token: grows with every claim of this item.
    """

    def __init__(self, zk: ZooKeeper, path: str, mark: str, stat: ZnodeStat, terms: Terms, item: ItemFound) -> None:
        super().__init__(zk, path, mark, stat, terms)
        self.name = item.place.name
        self.data = item.data
        self._item = join(path, self.name)
        self._key = item.place.key
        self._version = item.version
        self._claim = item.claim
        self._session = stat.ephemeralOwner
        self._consumes = True
        self._requeued: str | None = None

    @property
    def values(self) -> tuple[bytes, ...]:
        """What was put: one value, unless Curator put several at once. Raises `ItemFormatError`."""
        return tuple(_unpacked(self.path, self.name, self.data))

    @property
    def value(self) -> bytes:
        """What was put. Raises `ItemFormatError`, and `ValueError` where it is not one value."""
        (value,) = self.values
        return value

    def give_back(self) -> None:
        """When the block ends, the item stays where it is, for others."""
        self._consumes, self._requeued = False, None

    def _requeue_as(self, key: str) -> None:
        self._consumes, self._requeued = True, join(self.path, f"{PREFIX}{key}")

    async def release(self) -> bool:
        """Ends the claim, and does with the item what is to be done. False: the claim had ended before."""
        self._finish()

        def fill(transaction: Transaction) -> None:
            # In another session the znode of this name is somebody else's.
            if self.client.session_id != self._session:
                raise _Elsewhere
            transaction.delete(self.znode, 0)
            if self._consumes:
                transaction.delete(self._item, self._version)
            if self._requeued is not None:
                transaction.create(self._requeued, self.data, sequence=True)

        try:
            await change_once(self.client, f"{self.path}-", fill)
        except (NoNodeError, BadVersionError, SessionExpiredError, _Elsewhere):
            self._delete_later()
            return False
        except BaseException:
            self._delete_later()
            raise
        return True

    def _delete_later(self) -> None:
        if not self.client.is_over and not self._proof.session_over:
            self.client.defer_delete(self.znode, data=self._claim)


class ItemFound(NamedTuple):
    """An item that we have claimed, as it was then."""

    place: Place
    data: bytes
    version: int
    claim: bytes


ItemT = TypeVar("ItemT", bound=ClaimedItem)


def checked(value: bytes) -> bytes:
    """Raises `TypeError`: this is no item."""
    if not isinstance(value, bytes):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"value must be bytes, not {value!r:.60}")
    return value


def _unpacked(path: str, name: str, data: bytes) -> list[bytes]:
    try:
        return unpack_items(data)
    except ValueError as error:
        raise ItemFormatError(join(path, name), data, str(error)) from None


class ItemQueue(ABC, Generic[ItemT]):
    """What Curator's queues share; see `PriorityQueue`."""

    def __init__(
        self,
        client: ZooKeeper,
        path: str,
        lock_path: str | None = None,
        *,
        proof: ProofMode = "quorum",
        on_suspend: SuspendMode = "wait",
    ) -> None:
        if path == "/":
            raise ValueError("a queue needs a znode of its own, not '/'")
        if lock_path == path:
            raise ValueError(f"the claims need a path of their own, not {path!r}")
        self.client = native(client)
        self.path = path
        self.lock_path = lock_path
        self._terms = Terms(proof, on_suspend)

    @abstractmethod
    def _claimed(self, mark: str, stat: ZnodeStat, found: ItemFound) -> ItemT:
        """What an item is to whoever has claimed it."""

    @abstractmethod
    def _places(self, items: Iterable[tuple[str, str]]) -> list[Place]:
        """Items by their names and keys, in the order of their creation, as places in the order of the queue."""

    async def qsize(self) -> int:
        """How many items there are, with those that are claimed or not yet due."""
        try:
            return len(_items(await in_any_session(self.client, self.client.get_children, self.path)))
        except NoNodeError:
            return 0

    def _look(self) -> _Look:
        paths = [self.path] if self.lock_path is None else [self.path, self.lock_path]
        return _Look(self.client, paths, lambda names: self._places(_items(names)))

    # Putting ----------------------------------------------------------------------------------------------------------

    async def _put(self, values: Iterable[bytes], key: str) -> None:
        """Puts items, all or none."""
        item, frames = join(self.path, f"{PREFIX}{key}"), [pack_items([checked(value)]) for value in values]

        def fill(transaction: Transaction) -> None:
            for frame in frames:
                transaction.create(item, frame, sequence=True)

        while True:
            try:
                # Beside the queue, where Curator's consumers do not stumble over it.
                await change_once(self.client, f"{self.path}-", fill)
            except NoNodeError:
                await in_any_session(self.client, make_path, self.client, self.path, container=False)
            else:
                return

    # Taking -----------------------------------------------------------------------------------------------------------

    async def get(self, timeout: float | None = None) -> bytes | None:  # noqa: ASYNC109 - with a result of its own
        """Takes the first item out, for good: whoever dies with it has lost it. A cancelled call may have taken one.

        Args:
            timeout: seconds to wait for an item, `None` for no limit; 0 looks once. An item that is being taken
                when they are over is taken all the same.

        Returns:
            The item, `None` if there was none in time.

        Raises:
            SessionExpiredError: the session ended; `outcome_unknown` says whether an item may have been taken.
            ItemFormatError: the item's data are not Curator's. It was taken out, and the error has the data.
        """
        ends_at = trio.current_time() + (float("inf") if timeout is None else timeout)
        async with self._look() as look:
            while True:
                places: list[Place] | None = None
                with trio.CancelScope(deadline=ends_at if timeout else float("inf")):
                    places = await look.free()
                for place in places or ():
                    if place.wait <= 0 and (taken := await self._take(place)) is not None:
                        return taken
                if places is None or trio.current_time() >= ends_at:
                    return None
                with trio.CancelScope(deadline=ends_at):
                    await look.wait(places)

    async def _take(self, place: Place) -> bytes | None:
        """The item, or the first of several; `None`: others have it."""
        item = join(self.path, place.name)
        while True:
            try:
                data, stat = await in_any_session(self.client, self.client.get, item)
                values: list[bytes] = []
                error: ItemFormatError | None = None
                try:
                    values = _unpacked(self.path, place.name, data or b"")
                except ItemFormatError as corrupt:
                    error = corrupt
                fill = partial(self._fill_take, place, stat.version, values[1:])
                await change_once(self.client, f"{self.path}-", fill)
            except (NoNodeError, NodeExistsError):
                return None
            except BadVersionError:
                continue
            if error is not None:
                raise error
            return values[0] if values else None

    def _fill_take(self, place: Place, version: int, rest: list[bytes], transaction: Transaction) -> None:
        item = join(self.path, place.name)
        if self.lock_path is not None:
            # There and gone in one transaction: it fails where somebody has claimed the item.
            transaction.create(join(self.lock_path, place.name), ephemeral=True)
        if rest:
            transaction.set_data(item, pack_items(rest), version)
        else:
            transaction.delete(item, version)
        if self.lock_path is not None:
            transaction.delete(join(self.lock_path, place.name))

    # Claiming ---------------------------------------------------------------------------------------------------------

    def claim(self, timeout: float | None = None) -> AbstractAsyncContextManager[ItemT]:
        """`async with queue.claim() as item:` claims the first free item for the block, and takes it out at its end.

        Others get it if the body fails, is cancelled, or dies. The body is cancelled when the claim ends or can no
        longer be proved, and `OwnershipLost` leaves the block.

        Args:
            timeout: seconds to wait for an item, `None` for no limit; 0 looks once.

        Raises:
            LockTimeout: there was no item in time.
            OwnershipLost: the claim was lost, or its session ended so close to the end that nobody can tell.
            ValueError: the queue has no `lock_path`.
        """
        if self.lock_path is None:
            raise ValueError(f"to claim items of {self.path} it needs a lock_path")
        return owning(partial(self._claim_first, timeout))

    async def _claim_first(self, limit: float | None) -> ItemT:
        with trio.move_on_after(limit or float("inf")):
            async with self._look() as look:
                while True:
                    places = await look.free()
                    for place in places:
                        if place.wait <= 0 and (item := await self._claim(place)) is not None:
                            return item
                    if limit == 0:
                        break
                    await look.wait(places)
        raise LockTimeout(f"there was no item of {self.path} within {limit} s")

    async def _claim(self, place: Place) -> ItemT | None:
        """The item, `None`: others have it, or our session ended."""
        assert self.lock_path is not None
        zk, mark, claim = self.client, join(self.lock_path, place.name), uuid.uuid4().hex.encode()
        try:
            try:
                await until_answered(zk.create, mark, claim, ephemeral=True)
            except NodeExistsError:
                # Somebody else's; or ours, by a request whose reply was lost.
                if (await until_answered(zk.get, mark))[0] != claim:
                    return None
            data, stat = await until_answered(zk.get, join(self.path, place.name))
            _, mark_stat = await until_answered(zk.get, mark)
            found = ItemFound(place, data or b"", stat.version, claim)
            item = self._claimed(mark, mark_stat, found)
            return item if await item.begin() else None
        except NoNodeError:
            self._unclaim(mark, claim)  # taken by somebody else, between our look and our claim
        except SessionExpiredError:
            if zk.is_over:
                raise
        except BaseException:
            self._unclaim(mark, claim)
            raise
        return None

    def _unclaim(self, mark: str, claim: bytes) -> None:
        if not self.client.is_over:
            self.client.defer_delete(mark, data=claim)


def _items(names: Iterable[str]) -> list[tuple[str, str]]:
    """Names and keys of items, in the order of their creation; other znodes are none."""
    keys: dict[str, str] = {}
    seats: list[Seat] = []
    for name in names:
        found = _NAME.match(name)
        if found is not None:
            keys[name] = found.group(1)
            seats.append(Seat(int(found.group(2)), name))
    return [(seat.name, keys[seat.name]) for seat in in_order(seats)]


class _Look:
    """A consumer's view of a queue: what is there, and when to look again. Takes its watches back at its end.

    Args:
        zk: the client.
        paths: the queue's, and that of its claims if it has any.
        order: names as places, in the order of the queue.
    """

    def __init__(self, zk: ZooKeeper, paths: Sequence[str], order: Callable[[list[str]], list[Place]]) -> None:
        self._zk = zk
        self._paths = paths
        self._order = order
        self._changes = [Rearmed(zk, path) for path in paths]

    async def free(self) -> list[Place]:
        """Items that nobody has claimed, in the order of the queue."""
        for change in self._changes:
            change.arm()
        names, *marks = [
            await self._list(change, path) for change, path in zip(self._changes, self._paths, strict=True)
        ]
        claimed = {name for listed in marks for name in listed}
        return [place for place in self._order(names) if place.name not in claimed]

    async def _list(self, change: Rearmed, path: str) -> list[str]:
        while True:
            try:
                return await in_any_session(self._zk, self._zk.get_children, path, watch=change.told)
            except NoNodeError:
                await in_any_session(self._zk, make_path, self._zk, path, container=False)

    async def wait(self, places: list[Place]) -> None:
        """Returns when there may be something new, or the next item is due."""
        due = min((place.wait for place in places if place.wait > 0), default=LOOK_AGAIN)
        with trio.move_on_after(min(due, LOOK_AGAIN)):
            await first_of(*(change.wait for change in self._changes))

    async def __aenter__(self) -> _Look:
        return self

    async def __aexit__(self, *_: object) -> None:
        for change in self._changes:
            change.take_back()
