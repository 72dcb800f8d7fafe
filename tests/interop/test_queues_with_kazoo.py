"""kazoo and terzetto share queues, counters, barriers and parties, on the real server and on the embedded one."""

from __future__ import annotations

from typing import Any

import trio

from terzetto.recipes import Barrier, Counter, DoubleBarrier, LockingQueue, Party, Queue, ShallowParty, SharedCount

from .background import DEADLINE
from .test_recipes_with_kazoo import blocking, embedded, hosts, open_peers, queued

__all__ = ["embedded", "hosts"]  # pytest finds the fixtures here


async def test_a_queue(hosts: str) -> None:
    async with open_peers(hosts) as (zk, kazoo):
        ours, theirs = Queue(zk, "/q"), kazoo.Queue("/q")
        await ours.put(b"ours")
        await blocking(theirs.put, b"theirs")
        await ours.put(b"ours, urgent", priority=1)
        await blocking(theirs.put, b"theirs, urgent", 2)
        assert await blocking(len, theirs) == await ours.qsize() == 4
        assert await blocking(theirs.get) == b"ours, urgent"
        assert await ours.get() == b"theirs, urgent"
        assert await blocking(theirs.get) == b"ours"
        assert await ours.get() == b"theirs"
        assert await ours.get() is None
        assert await blocking(theirs.get) is None


async def test_a_locking_queue(hosts: str) -> None:
    async with open_peers(hosts) as (zk, kazoo):
        ours, theirs = LockingQueue(zk, "/q"), kazoo.LockingQueue("/q")
        await ours.put(b"one")
        await blocking(theirs.put, b"two")
        assert await blocking(theirs.get, 5) == b"one"
        with trio.fail_after(DEADLINE):
            assert await ours.get() == b"two"
        assert await ours.get(timeout=0.1) == b"two"
        assert await blocking(theirs.holds_lock)
        assert await ours.holds_lock()
        assert await blocking(theirs.release)
        assert await ours.consume()
        with trio.fail_after(DEADLINE):
            assert await ours.get() == b"one"
        assert await blocking(theirs.get, 0.1) is None
        assert await ours.release()
        assert await blocking(theirs.get, 5) == b"one"
        assert await blocking(theirs.consume)
        assert await ours.get(timeout=0.1) is None


async def test_a_counter(hosts: str) -> None:
    async with open_peers(hosts) as (zk, kazoo):
        ours, theirs = Counter(zk, "/c"), await blocking(kazoo.Counter, "/c")
        assert await ours.add(5) == 5
        await blocking(theirs.__add__, 2)
        assert theirs.value == await ours.get() == 7
        real = await blocking(kazoo.Counter, "/f", 1.5)
        await blocking(real.__sub__, 0.25)
        assert await Counter(zk, "/f", 0.0).add(1.0) == 2.25
        curator = await blocking(kazoo.Counter, "/i", support_curator=True)
        await blocking(curator.__add__, -2)
        assert await Counter(zk, "/i", support_curator=True).add(-3) == -5
        async with SharedCount(zk, "/i") as shared:
            assert shared.value == -5
        assert curator.value == -5


async def test_a_barrier(hosts: str) -> None:
    async with open_peers(hosts) as (zk, kazoo):
        theirs, ours = kazoo.Barrier("/b"), Barrier(zk, "/b")
        await blocking(theirs.create)
        assert await ours.wait(timeout=0.1) is False
        assert await ours.remove() is True
        assert await blocking(theirs.wait, 5)
        await ours.create()
        assert not await blocking(theirs.wait, 0.1)
        assert await blocking(theirs.remove)
        assert await ours.wait() is True


async def test_a_double_barrier(hosts: str) -> None:
    async with open_peers(hosts) as (zk, kazoo):
        for kazoo_first in (True, False):
            path = f"/d{kazoo_first}"
            theirs, ours = kazoo.DoubleBarrier(path, 2), DoubleBarrier(zk, path, 2)
            enter = (lambda b=theirs: blocking(b.enter)), ours.enter
            leave = (lambda b=theirs: blocking(b.leave)), ours.leave
            await zk.ensure_path(path)
            with trio.fail_after(DEADLINE):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(enter[not kazoo_first])
                    await queued(zk, path, 1)
                    nursery.start_soon(enter[kazoo_first])
                assert theirs.participating
                assert ours.participating
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(leave[not kazoo_first])
                    nursery.start_soon(leave[kazoo_first])
            assert await zk.get_children(path) == []


def identifiers(party: Any) -> list[str]:
    return sorted(party)


async def test_parties(hosts: str) -> None:
    async with open_peers(hosts) as (zk, kazoo):
        theirs, shallow = kazoo.Party("/p", "kazoo"), kazoo.ShallowParty("/s", "kazoo-1")
        await blocking(theirs.join)
        await blocking(shallow.join)
        async with Party(zk, "/p", "terzetto") as ours, ShallowParty(zk, "/s", "terzetto-1") as our_shallow:
            assert sorted(await ours.members()) == await blocking(identifiers, theirs) == ["kazoo", "terzetto"]
            assert await ours.count() == await blocking(len, theirs) == 2
            names = ["kazoo-1", "terzetto-1"]
            assert sorted(await our_shallow.members()) == await blocking(identifiers, shallow) == names
            await blocking(theirs.leave)
            assert await ours.members() == ["terzetto"]
        assert await blocking(identifiers, shallow) == ["kazoo-1"]
