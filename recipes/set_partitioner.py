"""Divides a set among the members of a group, so that each item is one member's at a time. kazoo's znodes.

A member is an ephemeral znode that is made again after a lost session; whoever sees the same members comes to the same
division. What makes an item a member's own is a lock, so a division that somebody sees late takes nothing from anybody:
while members disagree, they wait for each other's locks.

Refuses to know what the items are, and how long work on them takes.
"""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any, Final, NamedTuple, Protocol, cast

import trio

from terzetto.client import KazooState, LockTimeout, NoNodeError, PlainNursery, ZooKeeper

from ._following import Latest, Standing, call_back, first_of, in_any_session, looks_once, within
from ._ownership import GuardedTransaction, Ownership, ProofMode, SuspendMode, Terms, add_note
from ._znodes import join, make_path, native
from .errors import OwnershipLost
from .lock import Lock
from .multilock import MultiOwnership
from .persistent_node import PersistentNode
from .watchers import PatientChildrenWatch

PartitionFunction = Callable[[str, list[str], Collection[Any]], Iterable[Any] | Awaitable[Iterable[Any]]]


class PartitionState:
    """What a `SetPartitioner` is at. The values are kazoo's.

    Attributes:
        ALLOCATING: members have come or gone, or have not been the same for long enough, or have items of ours.
        ACQUIRED: the items are ours.
        RELEASE: members have come or gone, or the items were lost: they are to be released.
        FAILURE: it is over.
    """

    ALLOCATING: Final = "ALLOCATING"
    ACQUIRED: Final = "ACQUIRED"
    RELEASE: Final = "RELEASE"
    FAILURE: Final = "FAILURE"


class SettableEvent(Protocol):
    """trio's Event, threading's, or anything else that can be set."""

    def set(self) -> object:
        """There was a change."""
        ...


class Partition(MultiOwnership):
    """The items that are ours, from their acquisition to their release. Iterable; it may have none.

    Attributes:
        path: path of the partitioner.
        items: the items, in the order of the division.
        parts: the `Ownership` of each item's lock, in the same order.
    """

    def __init__(self, path: str, items: Sequence[Any], parts: Sequence[Ownership], reaction_time: float) -> None:
        super().__init__(parts)
        self.path = path
        self.items = tuple(items)
        self._reaction_time = reaction_time
        self._asked = trio.Event()
        self._given_back = trio.Event()
        # Of the bodies: cancelled, with a delay, when the items are to be given back.
        self._scopes: set[trio.CancelScope] = set()

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def ownership(self, item: Any) -> Ownership:
        """What is owned of one item, with its fencing token. Raises `KeyError`: it is none of ours."""
        for mine, part in zip(self.items, self.parts, strict=True):
            if mine == item:
                return part
        raise KeyError(item)

    def transaction(self, *items: Any) -> GuardedTransaction:
        """A transaction that commits only while these items are ours; without any named, while all are.

        Raises:
            KeyError: an item is none of ours.
            ValueError: there is no item.
        """
        parts = [self.ownership(item) for item in items] or self.parts
        if not parts:
            raise ValueError(f"no item of {self.path} is ours")
        return GuardedTransaction(parts)

    @property
    def loss(self) -> str | None:
        """Why the items are ours no more, `None` while they are. Looks at the clock, not at the servers."""
        return next((part.loss for part in self.parts if part.loss is not None), None)

    @property
    def is_asked_back(self) -> bool:
        """Whether the items are to be given back. They are ours until the block ends."""
        return self._asked.is_set()

    async def wait_asked_back(self) -> None:
        """Returns once the items are to be given back."""
        await self._asked.wait()

    # The partitioner's part -------------------------------------------------------------------------------------------

    @contextmanager
    def body(self) -> Iterator[None]:
        """A block that is cancelled when the items were lost, and some time after they were asked back."""
        with trio.CancelScope() as owned, trio.CancelScope() as unasked:
            for part in self.parts:
                part.bind(owned)
            self._scopes.add(unasked)
            if self.is_asked_back:
                unasked.cancel()
            try:
                yield
            finally:
                self._scopes.discard(unasked)
                for part in self.parts:
                    part.unbind(owned)

    def ask_back(self, *, at_once: bool = False) -> None:
        """The items are to be given back; bodies end soon."""
        self._asked.set()
        for scope in self._scopes:
            scope.deadline = min(scope.deadline, trio.current_time() + (0.0 if at_once else self._reaction_time))

    def give_back(self) -> None:
        """Nothing more will be done with the items, by bodies that begin from here on."""
        self.ask_back()
        self._given_back.set()

    @property
    def is_given_back(self) -> bool:
        """Whether `give_back` was called."""
        return self._given_back.is_set()

    async def wait_given_back(self) -> None:
        """Returns after `give_back`."""
        await self._given_back.wait()


class _Settled(NamedTuple):
    """The members' znodes, and what to await for their next change."""

    names: list[str]
    changed: Callable[[], Awaitable[None]]


class SetPartitioner(Standing):
    """Divides a set among all who enter on one path: `async with SetPartitioner(zk, "/work", items) as partitioner:`.

    Inside, hold what is ours, again and again::

        while True:
            async with partitioner.hold() as partition:
                await work_on(partition.items)

    The body is cancelled `max_reaction_time` after members have come or gone, and `hold` ends without an exception: the
    next one waits for the new division. It is cancelled at once, and `OwnershipLost` leaves the block, when the items
    are no longer ours or that can no longer be proved. A body that ends by itself gives nothing back.

    kazoo's way is to look at the state in a loop: `failed`, `release`, `acquired`, `allocating`.

    Args:
        client: the client.
        path: the znode below which all of it stands; made when it is missing.
        set: the items: sortable, unless there is a `partition_func`; told apart by their texts, which are names of
            znodes. It is read anew for each division. All members must have the same.
        partition_func: `partition_func(identifier, members, set)`, plain or async, gives this member's items instead of
            every n-th in sorted order; `members` are the identifiers in sorted order. All members must use the same.
        identifier: who we are, without a slash; two members should not have the same. If not given, the host's name,
            the process's number and something random.
        time_boundary: seconds for which the members must have been the same before the set is divided.
        max_reaction_time: seconds that a body may still take when its items are asked back.
        state_change_event: `set()` is called on it at each change of the state.
        allow_session_lost: after a lost session, join again and go on; if not, that is the end (FAILURE), as in kazoo.
        proof, on_suspend: see `Lock`.

    Attributes:
        state: one of `PartitionState`.
        state_id: grows with each change of the state.
    """

    def __init__(
        self,
        client: ZooKeeper,
        path: str,
        set: Collection[Any],
        partition_func: PartitionFunction | None = None,
        identifier: str | None = None,
        time_boundary: float = 30,
        max_reaction_time: float = 1,
        state_change_event: SettableEvent | None = None,
        *,
        allow_session_lost: bool = True,
        proof: ProofMode = "quorum",
        on_suspend: SuspendMode = "wait",
    ) -> None:
        if max_reaction_time < 0:
            raise ValueError(f"max_reaction_time must be 0 seconds or more, not {max_reaction_time}")
        if identifier is None:
            identifier = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        if not isinstance(identifier, str):
            raise TypeError(f"identifier must be a str or None, not {identifier!r}")
        if "/" in identifier:
            raise ValueError(f"an identifier in a znode's name has no slash: {identifier!r}")
        self.client = native(client)
        self.path = path
        self.identifier = identifier
        self.time_boundary = time_boundary
        self.max_reaction_time = max_reaction_time
        self.state_change_event: SettableEvent = trio.Event() if state_change_event is None else state_change_event
        self._set = set
        self._partition_func = partition_func
        self._allow_session_lost = allow_session_lost
        self._terms = Terms(proof, on_suspend)
        self._party, self._locks = join(path, "party"), join(path, "locks")
        self._name = f"{uuid.uuid4().hex}-{identifier}"
        self._watch = PatientChildrenWatch(client, self._party, time_boundary)
        self._states = Latest[str](PartitionState.ALLOCATING)
        self._state_id = 0
        self._partition: Partition | None = None
        self._bodies: dict[trio.lowlevel.Task, Partition] = {}
        self._failure: str | None = None
        # Set when nothing is to be acquired any more, and when everything was released.
        self._over, self._ended = trio.Event(), trio.Event()
        self._check(set)

    @staticmethod
    def _check(items: Iterable[Any]) -> None:
        """Raises `ValueError`: they cannot be told apart, or be told at all."""
        names: set[str] = set()
        for item in items:
            name = str(item)
            if not name or name in names:
                raise ValueError(f"each item needs a text of its own, not {name!r}")
            names.add(name)

    # The state --------------------------------------------------------------------------------------------------------

    @property
    def state(self) -> str:
        """One of `PartitionState`. Looks at the clock: items that can no longer be proved ours are to be released."""
        state, partition = self._states.value, self._partition
        if state == PartitionState.ACQUIRED and (partition is None or partition.is_lost):
            return PartitionState.RELEASE
        return state

    @property
    def state_id(self) -> int:
        """Grows with each change of the state."""
        return self._state_id

    @property
    def failed(self) -> bool:
        """Whether it is over."""
        return self.state == PartitionState.FAILURE

    @property
    def release(self) -> bool:
        """Whether the items are to be released, by `release_set()` or the next `hold()`."""
        return self.state == PartitionState.RELEASE

    @property
    def allocating(self) -> bool:
        """Whether the division is under way."""
        return self.state == PartitionState.ALLOCATING

    @property
    def acquired(self) -> bool:
        """Whether the items are ours."""
        return self.state == PartitionState.ACQUIRED

    def __iter__(self) -> Iterator[Any]:
        """The items that are ours, until they are released or lost."""
        partition = self._partition
        return iter(() if partition is None or partition.is_lost else partition.items)

    @property
    def partition(self) -> Partition | None:
        """What is ours, `None` without a division. kazoo's way has no block that is cancelled: ask `loss`."""
        return self._partition

    def _set_state(self, state: str) -> None:
        if self._states.value not in (state, PartitionState.FAILURE):
            self._state_id += 1
            self._states.put(state)
            self.state_change_event.set()

    async def wait_state_changed(self) -> str:
        """Waits for the next change of the state, and returns the new one; at once FAILURE, after which none comes."""
        await trio.lowlevel.checkpoint()
        before = self._state_id
        while self._state_id == before and not self.failed:
            await self._states.wait_changed()
        return self.state

    # kazoo's methods --------------------------------------------------------------------------------------------------

    async def wait_for_acquire(self, timeout: float | None = 30) -> bool:  # noqa: ASYNC109 - kazoo's, with a result
        """Waits as long as the set is being divided. Returns whether the items are ours.

        Args:
            timeout: seconds, `None` for no limit.
        """
        with trio.move_on_after(float("inf") if timeout is None else timeout):
            await trio.lowlevel.checkpoint()
            while self.allocating:
                await self._states.wait_changed()
        return self.acquired

    async def release_set(self) -> None:
        """Releases the items, and begins the next division. Ends the bodies of `hold()` at once, and waits for them."""
        await self._release(at_once=True)

    async def _release(self, *, at_once: bool) -> None:
        await trio.lowlevel.checkpoint()
        partition = self._partition
        if partition is not None:
            partition.give_back()
            partition.ask_back(at_once=at_once)
            while self._partition is partition and trio.lowlevel.current_task() not in self._bodies:
                await self._states.wait_changed()

    async def finish(self) -> None:
        """Releases the items and leaves the group: FAILURE. Ends the bodies of `hold()` at once, and waits for them."""
        self._end()
        await trio.lowlevel.checkpoint()
        if trio.lowlevel.current_task() not in self._bodies:
            await self._ended.wait()

    # The scope --------------------------------------------------------------------------------------------------------

    def hold(self, timeout: float | None = None) -> AbstractAsyncContextManager[Partition, bool]:
        """`async with partitioner.hold() as partition:` waits for a part of the set, and runs the block with it.

        See the class for what cancels the block, and what leaves it then.

        Args:
            timeout: seconds for the wait, `None` for no limit; 0 takes what is ours already.

        Raises:
            LockTimeout: nothing was acquired in time.
            OwnershipLost: the items were lost; or there will be none any more (FAILURE).
        """
        # A block that may end early without an exception, which contextlib's own type denies.
        return cast("AbstractAsyncContextManager[Partition, bool]", self._hold(timeout))

    @asynccontextmanager
    async def _hold(self, limit: float | None) -> AsyncIterator[Partition]:
        task = trio.lowlevel.current_task()
        if task in self._bodies:
            raise RuntimeError(f"this task holds its part of {self.path} already")
        partition = await self._acquired(limit)
        self._bodies[task] = partition
        try:
            with partition.body():
                yield partition
            if partition.loss is not None:
                raise OwnershipLost(self.path, partition.loss)
        except BaseException as error:
            if partition.loss is not None and not isinstance(error, (OwnershipLost, trio.Cancelled)):
                add_note(error, f"the part of {self.path} was no longer owned: {partition.loss}")
            raise
        finally:
            del self._bodies[task]
            self._states.tell()
        if partition.is_asked_back:
            await self._release(at_once=False)

    async def _acquired(self, limit: float | None) -> Partition:
        with within(limit):
            await trio.lowlevel.checkpoint()
            while True:
                if self._over.is_set():
                    # Where the whole block fails, its error says why, and this is no other one.
                    await trio.lowlevel.checkpoint_if_cancelled()
                    raise OwnershipLost(self.path, self._failure or "it was finished")
                partition = self._partition
                if partition is not None and self.acquired and not partition.is_asked_back:
                    return partition
                if looks_once(limit):
                    break
                if self.release:
                    await self._release(at_once=False)
                else:
                    await self._states.wait_changed()
        raise LockTimeout(f"no part of {self.path} was acquired within {limit} s")

    # The block --------------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        joined = trio.Event()
        async with PlainNursery() as nursery:
            nursery.start_soon(self._take_part, joined)
            await joined.wait()
            yield
            await self.finish()

    async def _take_part(self, joined: trio.Event) -> None:
        self.client.add_listener(self._session_changed)
        try:
            member = PersistentNode(
                self.client, join(self._party, self._name), self.identifier.encode(), container=False
            )
            async with member, self._watch:
                joined.set()
                while not self._over.is_set():
                    await self._take_turn()
        finally:
            self._end()
            self.client.remove_listener(self._session_changed)
            self._set_state(PartitionState.FAILURE)
            self._ended.set()

    def _session_changed(self, state: str) -> None:
        if state == KazooState.LOST and not self._allow_session_lost:
            self._failure = "the session is over"
            self._end()
            self._set_state(PartitionState.FAILURE)

    def _end(self) -> None:
        """Nothing is acquired any more, and what was is released."""
        self._over.set()
        if self._partition is not None:
            self._partition.give_back()
            self._partition.ask_back(at_once=True)

    async def _take_turn(self) -> None:
        """One division: until the members settle, until its items are acquired, until they are released."""
        locks: list[Lock] = []
        try:
            settled: list[_Settled] = []

            async def allocate() -> None:
                members = await self._settle()
                items = await self._share(members.names)
                locks.extend(self._lock(item) for item in items)
                if await self._acquire(locks, members):
                    settled.append(members)
                    parts = [lock.held for lock in locks if lock.held is not None]
                    self._partition = Partition(self.path, items, parts, self.max_reaction_time)

            await first_of(allocate, self._over.wait)
            # What was acquired while the end came was not there yet to be asked back.
            if self._partition is not None and settled and not self._over.is_set():
                await self._keep(self._partition, settled[0], locks)
        finally:
            try:
                await _give_up(locks)
            finally:
                partition, self._partition = self._partition, None
                if self._over.is_set():
                    self._set_state(PartitionState.FAILURE)
                elif partition is not None:
                    self._set_state(PartitionState.ALLOCATING)
                self._states.tell()

    def _lock(self, item: Any) -> Lock:
        return Lock(
            self.client,
            join(self._locks, str(item)),
            self.identifier,
            proof=self._terms.proof,
            on_suspend=self._terms.on_suspend,
        )

    async def _settle(self) -> _Settled:
        """The members, once they have been the same for long enough and we are one of them."""
        while True:
            try:
                members = _Settled(*await self._watch.start())
            except NoNodeError:  # somebody took it away; our znode comes again, too
                await in_any_session(self.client, make_path, self.client, self._party, container=False)
                continue
            if self._name in members.names:
                return members
            await members.changed()

    async def _share(self, names: Iterable[str]) -> list[Any]:
        """This member's items."""
        self._check(self._set)
        members = sorted((name.partition("-")[2], name) for name in names)
        if self._partition_func is None:
            # By the znode: an identifier that two members have would give both the same.
            place = members.index((self.identifier, self._name))
            return sorted(self._set)[place :: len(members)]
        identifiers = [identifier for identifier, _ in members]
        items = list(await call_back(self._partition_func, self.identifier, identifiers, self._set))
        self._check(items)
        return items

    async def _acquire(self, locks: Sequence[Lock], members: _Settled) -> bool:
        """Whether all locks are ours. False: the members changed meanwhile."""
        acquired = False

        async def acquire_all() -> None:
            nonlocal acquired
            async with PlainNursery() as nursery:
                for lock in locks:
                    nursery.start_soon(lock.acquire)
            acquired = True

        await first_of(acquire_all, members.changed)
        return acquired and all(lock.held is not None for lock in locks)

    async def _keep(self, partition: Partition, members: _Settled, locks: Sequence[Lock]) -> None:
        """From the acquisition of the items until they may be released."""
        self._set_state(PartitionState.ACQUIRED)
        with partition.body():
            await first_of(members.changed, partition.wait_given_back)
        partition.ask_back(at_once=partition.is_lost)
        if not partition.is_given_back:
            self._set_state(PartitionState.RELEASE)
        if partition.is_lost:
            await self._wait_bodies(partition)
            await _give_up(locks)
        await partition.wait_given_back()
        await self._wait_bodies(partition)

    async def _wait_bodies(self, partition: Partition) -> None:
        while partition in self._bodies.values():
            await self._states.wait_changed()


async def _give_up(locks: Iterable[Lock]) -> None:
    """Releases locks, whether they were acquired or not; in the background, where it is cancelled."""
    try:
        async with PlainNursery() as nursery:
            for lock in locks:
                nursery.start_soon(lock.release)
    finally:
        for lock in locks:
            if lock.held is not None:
                lock.held.abandon()
