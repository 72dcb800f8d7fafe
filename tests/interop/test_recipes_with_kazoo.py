"""kazoo and terzetto contend for the same things, in both orders, on the real server and on the embedded one."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple, TypeVar

import pytest
import trio
from kazoo.client import KazooClient
from kazoo.exceptions import LockTimeout as KazooLockTimeout

from terzetto.client import ZooKeeper, open_zookeeper
from terzetto.recipes import (
    Barrier,
    Counter,
    Election,
    LayoutConflictError,
    Lock,
    LockingQueue,
    MultiNonBlockingLease,
    NonBlockingLease,
    ReadLock,
    Semaphore,
    WriteLock,
)
from terzetto.testcluster import start_ensemble
from tests.recipes.truth import now

from .background import DEADLINE

T = TypeVar("T")
MINUTE = timedelta(minutes=1)


class Peers(NamedTuple):
    """A client of each kind, with the same chroot."""

    zk: ZooKeeper
    kazoo: Any


@pytest.fixture(scope="module")
def embedded() -> Iterator[str]:
    with start_ensemble(servers=1) as ensemble:
        yield ensemble.hosts


@pytest.fixture(params=["real", "embedded"])
def hosts(request: pytest.FixtureRequest) -> str:
    if request.param == "real":
        found: str = request.getfixturevalue("zookeeper").hosts
        return found
    return str(request.getfixturevalue("embedded"))


async def blocking(call: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """kazoo's calls block; each gets a thread."""
    with trio.fail_after(DEADLINE):
        return await trio.to_thread.run_sync(partial(call, *args, **kwargs))


@asynccontextmanager
async def open_peers(hosts: str) -> AsyncIterator[Peers]:
    chroot = f"/{uuid.uuid4().hex}"
    async with open_zookeeper(hosts, chroot=chroot, ensure_chroot=True) as zk:
        kazoo = KazooClient(f"{hosts}{chroot}")
        await blocking(kazoo.start)
        try:
            yield Peers(zk, kazoo)
        finally:
            await blocking(kazoo.stop)
            await blocking(kazoo.close)


async def queued(zk: ZooKeeper, path: str, count: int) -> list[str]:
    """The children of a path, once there are so many."""
    with trio.fail_after(DEADLINE):
        while True:
            changed = trio.Event()
            names = await zk.get_children(path, watch=lambda _, changed=changed: changed.set())  # type: ignore[misc]
            if len(names) >= count:
                return names
            await changed.wait()


async def test_kazoo_has_the_lock(hosts: str) -> None:
    async with open_peers(hosts) as (zk, kazoo), trio.open_nursery() as nursery:
        theirs, ours = kazoo.Lock("/lock", "kazoo"), Lock(zk, "/lock", "terzetto")
        assert await blocking(theirs.acquire)
        assert not await ours.acquire(blocking=False)
        nursery.start_soon(ours.acquire)
        await queued(zk, "/lock", 2)
        assert not now(ours.is_acquired)
        assert await ours.contenders() == ["kazoo", "terzetto"]
        assert await blocking(theirs.contenders) == ["kazoo", "terzetto"]
        assert await blocking(theirs.release)
        with trio.fail_after(DEADLINE):
            while not now(ours.is_acquired):
                await zk.sync("/lock")
        assert not await blocking(theirs.acquire, blocking=False)
        assert await ours.release()
        assert await blocking(theirs.acquire, blocking=False)
        assert await blocking(theirs.release)


async def test_terzetto_has_the_lock(hosts: str) -> None:
    async with open_peers(hosts) as (zk, kazoo), trio.open_nursery() as nursery:
        theirs = kazoo.Lock("/lock", "kazoo")
        async with Lock(zk, "/lock", "terzetto"):
            assert not await blocking(theirs.acquire, blocking=False)
            with pytest.raises(KazooLockTimeout):
                await blocking(theirs.acquire, timeout=0.2)
            nursery.start_soon(blocking, theirs.acquire)
            await queued(zk, "/lock", 2)
            assert not now(theirs.is_acquired)
        with trio.fail_after(DEADLINE):
            while not now(theirs.is_acquired):
                await zk.sync("/lock")
        assert not await Lock(zk, "/lock").acquire(blocking=False)
        assert await blocking(theirs.release)
        assert await Lock(zk, "/lock").acquire(blocking=False)


async def test_they_are_served_in_one_order(hosts: str) -> None:
    served: list[str] = []

    async with open_peers(hosts) as (zk, kazoo):

        def kazoo_turn(name: str) -> None:
            with kazoo.Lock("/lock", name):
                served.append(name)

        async def our_turn(name: str) -> None:
            async with Lock(zk, "/lock", name):
                served.append(name)

        async with trio.open_nursery() as nursery:
            async with Lock(zk, "/lock"):
                for number in range(3):
                    nursery.start_soon(blocking, kazoo_turn, f"k{number}")
                    await queued(zk, "/lock", 2 + 2 * number)
                    nursery.start_soon(our_turn, f"t{number}")
                    await queued(zk, "/lock", 3 + 2 * number)
    assert served == ["k0", "t0", "k1", "t1", "k2", "t2"]


async def test_readers_and_writers(hosts: str) -> None:
    async with open_peers(hosts) as (zk, kazoo):
        async with ReadLock(zk, "/rw"):
            assert await blocking(kazoo.ReadLock("/rw").acquire, blocking=False)
            assert not await blocking(kazoo.WriteLock("/rw").acquire, blocking=False)
        theirs = kazoo.ReadLock("/rw2")
        assert await blocking(theirs.acquire)
        async with ReadLock(zk, "/rw2"):
            assert not await WriteLock(zk, "/rw2").acquire(blocking=False)
        assert await blocking(theirs.release)
        async with WriteLock(zk, "/rw2") as held:
            assert not await blocking(kazoo.ReadLock("/rw2").acquire, blocking=False)
            assert not await blocking(kazoo.WriteLock("/rw2").acquire, blocking=False)
            await held.downgrade()
            assert not await blocking(kazoo.WriteLock("/rw2").acquire, blocking=False)
            reader = kazoo.ReadLock("/rw2")
            assert await blocking(reader.acquire, blocking=False)
            assert await blocking(reader.release)
        writer = kazoo.WriteLock("/rw2")
        assert await blocking(writer.acquire, blocking=False)
        assert not await ReadLock(zk, "/rw2").acquire(blocking=False)
        assert not await WriteLock(zk, "/rw2").acquire(blocking=False)


async def test_a_semaphore_is_shared(hosts: str) -> None:
    async with open_peers(hosts) as (zk, kazoo):
        theirs, ours = kazoo.Semaphore("/s", "kazoo", max_leases=2), Semaphore(zk, "/s", "terzetto", 2)
        assert await blocking(theirs.acquire)
        async with ours:
            assert sorted(await ours.lease_holders()) == ["kazoo", "terzetto"]
            assert sorted(await blocking(theirs.lease_holders)) == ["kazoo", "terzetto"]
            assert not await blocking(kazoo.Semaphore("/s", max_leases=2).acquire, blocking=False)
            assert not await Semaphore(zk, "/s", max_leases=2).acquire(blocking=False)
            async with trio.open_nursery() as nursery:
                third = Semaphore(zk, "/s", "third", 2)
                nursery.start_soon(third.acquire)
                await queued(zk, "/s-__lock__", 1)
                assert await blocking(theirs.release)
            assert third.is_acquired
        with pytest.raises(ValueError, match="2"):
            await Semaphore(zk, "/s", max_leases=3).acquire()
        with pytest.raises(ValueError, match="max leases"):
            await blocking(kazoo.Semaphore("/s", max_leases=3).acquire)


async def test_several_leases_at_once_count_as_so_many(hosts: str) -> None:
    async with open_peers(hosts) as (zk, kazoo):
        theirs, ours = kazoo.Semaphore("/s", "kazoo", max_leases=3), Semaphore(zk, "/s", "terzetto", 3)
        async with ours.hold(leases=2):
            assert sorted(await blocking(theirs.lease_holders)) == ["terzetto", "terzetto"]
            assert await blocking(theirs.acquire, blocking=False)
            assert not await blocking(kazoo.Semaphore("/s", max_leases=3).acquire, blocking=False)
        assert not await ours.acquire(blocking=False, leases=3)
        assert await blocking(theirs.release)
        assert await ours.acquire(blocking=False, leases=3)
        assert not await blocking(theirs.acquire, blocking=False)


async def test_kazoo_waits_for_a_lease_of_ours(hosts: str) -> None:
    async with open_peers(hosts) as (zk, kazoo), trio.open_nursery() as nursery:
        async with Semaphore(zk, "/s"):
            theirs = kazoo.Semaphore("/s")
            nursery.start_soon(blocking, theirs.acquire)
            await queued(zk, "/s-__lock__", 1)
            assert not now(theirs.is_acquired)
        with trio.fail_after(DEADLINE):
            while not now(theirs.is_acquired):
                await zk.sync("/s")
        assert await blocking(theirs.release)


async def test_an_election(hosts: str) -> None:
    led: list[str] = []

    async with open_peers(hosts) as (zk, kazoo):
        theirs, ours = kazoo.Election("/e", "kazoo"), Election(zk, "/e", "terzetto")
        async with trio.open_nursery() as nursery:
            async with Election(zk, "/e", "first"):
                nursery.start_soon(blocking, theirs.run, led.append, "kazoo")
                await queued(zk, "/e", 2)
                nursery.start_soon(ours.run, led.append, "terzetto")
                await queued(zk, "/e", 3)
                assert await blocking(theirs.contenders) == ["first", "kazoo", "terzetto"]
                assert await ours.contenders() == ["first", "kazoo", "terzetto"]
                assert led == []
        assert led == ["kazoo", "terzetto"]


async def test_leases(hosts: str) -> None:
    async with open_peers(hosts) as (zk, kazoo):
        assert await blocking(kazoo.NonBlockingLease, "/l1", MINUTE, "kazoo")
        assert not await NonBlockingLease(zk, "/l1", MINUTE, "terzetto").obtain()
        assert await NonBlockingLease(zk, "/l1", MINUTE, "kazoo").obtain(), "the same holder renews it"
        assert await NonBlockingLease(zk, "/l2", MINUTE, "terzetto").obtain()
        assert not await blocking(kazoo.NonBlockingLease, "/l2", MINUTE, "kazoo")
        assert await blocking(kazoo.NonBlockingLease, "/l2", MINUTE, "terzetto")


async def test_kazoo_s_extra_patterns_and_ours(hosts: str) -> None:
    async with open_peers(hosts) as (zk, kazoo):
        async with Lock(zk, "/lock", layout="curator"):
            patient = kazoo.Lock("/lock", extra_lock_patterns=["-lock-"])
            assert not await blocking(patient.acquire, blocking=False)
            assert not await Lock(zk, "/lock", extra_lock_patterns=["-lock-"]).acquire(blocking=False)
            with pytest.raises(LayoutConflictError):
                await Lock(zk, "/lock").acquire()
            # What terzetto refuses, kazoo takes for a free lock.
            assert await blocking(kazoo.Lock("/lock").acquire, blocking=False)


async def test_a_kazoo_owner_that_dies_makes_room(hosts: str) -> None:
    async with open_peers(hosts) as (zk, kazoo):
        assert await blocking(kazoo.Lock("/lock").acquire)
        async with trio.open_nursery() as nursery:
            ours = Lock(zk, "/lock")
            nursery.start_soon(ours.acquire)
            await queued(zk, "/lock", 2)
            await blocking(kazoo.stop)
        assert ours.is_acquired
        await blocking(kazoo.start)


async def acquired(zk: ZooKeeper, lock: Any) -> None:
    """Returns once it says so: kazoo's in its own thread, ours in its own task."""
    with trio.fail_after(DEADLINE):
        while not now(lock.is_acquired):
            await zk.sync("/")


async def test_readers_and_writers_wait_for_each_other(hosts: str) -> None:
    async with open_peers(hosts) as (zk, kazoo), trio.open_nursery() as nursery:
        readers = [kazoo.ReadLock("/rw"), ReadLock(zk, "/rw")]
        assert await blocking(readers[0].acquire)
        assert await readers[1].acquire()
        writers = [WriteLock(zk, "/rw"), kazoo.WriteLock("/rw")]
        nursery.start_soon(writers[0].acquire)
        await queued(zk, "/rw", 3)
        nursery.start_soon(blocking, writers[1].acquire)
        await queued(zk, "/rw", 4)
        late = [kazoo.ReadLock("/rw"), ReadLock(zk, "/rw")]
        nursery.start_soon(blocking, late[0].acquire)
        await queued(zk, "/rw", 5)
        nursery.start_soon(late[1].acquire)
        await queued(zk, "/rw", 6)

        assert await blocking(readers[0].release)
        assert not now(writers[0].is_acquired), "our reader is still there"
        assert await readers[1].release()
        await acquired(zk, writers[0])
        assert not now(writers[1].is_acquired)
        assert await writers[0].release()
        await acquired(zk, writers[1])
        assert not now(late[0].is_acquired)
        assert not now(late[1].is_acquired)
        assert await blocking(writers[1].release)
        for reader in late:
            await acquired(zk, reader)
        assert await blocking(late[0].release)
        assert await late[1].release()


async def test_one_of_several_leases(hosts: str) -> None:
    async with open_peers(hosts) as (zk, kazoo):
        assert await blocking(kazoo.MultiNonBlockingLease, 2, "/l", MINUTE, "kazoo")
        second, third = (MultiNonBlockingLease(zk, 2, "/l", MINUTE, name) for name in ("second", "third"))
        assert await second.obtain()
        assert not await third.obtain()
        assert not await blocking(kazoo.MultiNonBlockingLease, 2, "/l", MINUTE, "fourth")
        assert await blocking(kazoo.MultiNonBlockingLease, 2, "/l", MINUTE, "kazoo"), "who has one may renew it"


async def test_both_wait_at_a_barrier(hosts: str) -> None:
    async with open_peers(hosts) as (zk, kazoo):
        for ours_removes in (True, False):
            theirs, ours = kazoo.Barrier("/b"), Barrier(zk, "/b")
            await ours.create()
            passed: list[bool] = []

            async def kazoo_waits(barrier: Any = theirs, passed: list[bool] = passed) -> None:
                passed.append(await blocking(barrier.wait, 15))

            async def we_wait(barrier: Barrier = ours, passed: list[bool] = passed) -> None:
                passed.append(await barrier.wait())

            with trio.fail_after(DEADLINE):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(kazoo_waits)
                    nursery.start_soon(we_wait)
                    await zk.sync("/b")
                    assert passed == []
                    assert await (ours.remove() if ours_removes else blocking(theirs.remove))
            assert passed == [True, True]


async def test_both_count_at_once_and_nothing_is_lost(hosts: str) -> None:
    turns = 25
    async with open_peers(hosts) as (zk, kazoo):
        await Counter(zk, "/c").get()

        def theirs() -> None:
            counter = kazoo.Counter("/c")
            for _ in range(turns):
                counter += 1

        async def ours() -> None:
            for _ in range(turns):
                await Counter(zk, "/c").add(1)

        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(blocking, theirs)
                nursery.start_soon(ours)
        assert await Counter(zk, "/c").get() == 4 * turns


async def test_both_wait_for_items_and_each_item_is_worked_off_once(hosts: str) -> None:
    items = [str(number).encode() for number in range(12)]
    done: list[bytes] = []

    async with open_peers(hosts) as (zk, kazoo):

        def theirs() -> None:
            queue = kazoo.LockingQueue("/q")
            while (item := queue.get(15)) != b"end":
                done.append(item)
                queue.consume()
            queue.consume()

        async def ours() -> None:
            queue = LockingQueue(zk, "/q")
            while (item := await queue.get()) != b"end":
                assert item is not None
                done.append(item)
                await queue.consume()
            await queue.consume()

        with trio.fail_after(DEADLINE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(blocking, theirs)
                nursery.start_soon(ours)
                for number, item in enumerate(items):
                    if number % 2:
                        await LockingQueue(zk, "/q").put(item)
                    else:
                        await blocking(kazoo.LockingQueue("/q").put, item)
                await LockingQueue(zk, "/q").put_all([b"end", b"end"], priority=900)
    assert sorted(done) == sorted(items)
