"""Curator and terzetto share values, counters, barriers and multi-locks, on the real server and on the embedded one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import trio

from terzetto.client import open_zookeeper
from terzetto.recipes import (
    AtomicLong,
    Barrier,
    Counter,
    DoubleBarrier,
    Lock,
    MultiLock,
    SharedCount,
    SharedValue,
)
from tests.recipes.truth import now

from .background import DEADLINE
from .test_recipes_with_curator import AT_ONCE, PATIENTLY, Peer, contended, curator_installed, path, peer

__all__ = ["curator_installed", "path", "peer"]  # pytest finds the fixtures here


async def test_a_shared_count_that_curator_has_made(peer: Peer, path: str) -> None:
    async with open_zookeeper(peer.hosts) as zk:
        await peer.will(f"c new count {path} 5", "ok")
        async with SharedCount(zk, path, 99) as ours:
            assert ours.value == 5, "one that is there wins over the seed"
            await peer.will("c set -7", "ok")
            with trio.fail_after(DEADLINE):
                async for value in ours.changes():
                    if value == -7:
                        break
            assert await ours.update(lambda before: before + 10) == 3
            await comes(peer, "c get", "3")
            old = await ours.get()
            await peer.will("c try 4", "true")
            assert await ours.try_set(old, 5) is False
            assert (await ours.get()).value == 4
        await peer.will("c close", "ok")


async def test_a_shared_count_that_we_have_made(peer: Peer, path: str) -> None:
    async with open_zookeeper(peer.hosts) as zk, SharedCount(zk, path, 2**31 - 1) as ours:
        await peer.will(f"d new count {path} 5", "ok")
        await peer.will("d get", str(2**31 - 1))
        await ours.set(-(2**31))
        await comes(peer, "d get", str(-(2**31)))
        await peer.will("d try 8", "true")
        with trio.fail_after(DEADLINE):
            async for value in ours.changes():
                if value == 8:
                    break
        await peer.will("d close", "ok")


async def test_a_shared_value(peer: Peer, path: str) -> None:
    async with open_zookeeper(peer.hosts) as zk:
        await peer.will(f"v new value {path}/theirs seed", "ok")
        async with SharedValue(zk, f"{path}/theirs", b"other") as theirs, SharedValue(zk, f"{path}/ours", b"1") as ours:
            assert theirs.value == b"seed"
            await theirs.set(b"two words")
            await comes(peer, "v get", "two words")
            await peer.will(f"w new value {path}/ours other", "ok")
            await peer.will("w get", "1")
            await peer.will("w set 2", "ok")
            with trio.fail_after(DEADLINE):
                async for value in ours.changes():
                    if value == b"2":
                        break
            await peer.will("v close", "ok")
            await peer.will("w close", "ok")


async def test_an_atomic_long(peer: Peer, path: str) -> None:
    async with open_zookeeper(peer.hosts) as zk:
        await peer.will(f"n new long {path}/n", "ok")
        ours = AtomicLong(zk, f"{path}/n")
        await peer.will("n get", "0")
        assert await ours.get() == 0
        await peer.will("n add 5", "5")
        assert (await ours.add(2**40)).post_value == 2**40 + 5
        await peer.will("n increment", str(2**40 + 6))
        assert (await ours.subtract(2**41)).pre_value == 2**40 + 6
        await peer.will("n decrement", str(5 - 2**40))

        await peer.will(f"m new long {path}/m", "ok")
        assert await AtomicLong(zk, f"{path}/m").initialize(-1)
        await peer.will("m increment", "0")


async def test_both_count_at_once_and_nothing_is_lost(peer: Peer, path: str) -> None:
    turns, counters = 20, 3
    async with open_zookeeper(peer.hosts) as zk:
        await peer.will(f"- create-with-parents PERSISTENT {path}/z -", f"{path}/z")
        await AtomicLong(zk, f"{path}/n").initialize(0)
        failed = 0

        async def ours(number: AtomicLong) -> None:
            for _ in range(turns):
                await number.increment()

        async def theirs(name: str) -> None:
            nonlocal failed
            await peer.will(f"{name} new long {path}/n", "ok")
            for _ in range(turns):
                # Curator gives up after so many attempts, and says so.
                failed += await peer.ask(f"{name} increment") == "failed"

        async with trio.open_nursery() as nursery:
            for number in range(counters):
                nursery.start_soon(ours, AtomicLong(zk, f"{path}/n", f"{path}/lock" if number else None))
            nursery.start_soon(theirs, f"at-once{path[1:5]}")
        assert await AtomicLong(zk, f"{path}/n").get() == turns * (counters + 1) - failed


async def test_an_atomic_integer_is_a_counter_s(peer: Peer, path: str) -> None:
    async with open_zookeeper(peer.hosts) as zk:
        ours = Counter(zk, path, support_curator=True)
        assert await ours.add(-3) == -3
        await peer.will(f"i new integer {path}", "ok")
        await peer.will("i add 10", "7")
        assert await ours.get() == 7
        assert await ours.subtract(8) == -1
        await peer.will("i get", "-1")


async def test_a_barrier(peer: Peer, path: str) -> None:
    async with open_zookeeper(peer.hosts) as zk, trio.open_nursery() as nursery:
        ours = Barrier(zk, path)
        await peer.will(f"b new barrier {path}", "ok")
        await peer.will("b set", "ok")
        assert await ours.wait(timeout=0.2) is False
        passed = trio.Event()

        async def wait() -> None:
            assert await ours.wait()
            passed.set()

        nursery.start_soon(wait)
        await zk.sync(path)
        assert not now(passed.is_set())
        await peer.will("b remove", "ok")
        with trio.fail_after(DEADLINE):
            await passed.wait()

        await ours.create()
        await peer.will(f"b wait {AT_ONCE}", "false")
        nursery.start_soon(peer.will, f"b wait {PATIENTLY}", "true")
        assert await ours.remove()


async def test_a_double_barrier_in_both_orders(peer: Peer, path: str) -> None:
    async with open_zookeeper(peer.hosts) as zk:
        for curator_first in (True, False):
            place = f"{path}-{curator_first}"
            name = f"x{place[1:6]}{curator_first}"
            await peer.will(f"{name} new double-barrier {place} 2", "ok")
            ours = DoubleBarrier(zk, place, 2)

            await zk.ensure_path(place)
            entering: list[Callable[[], Awaitable[object]]]
            leaving: list[Callable[[], Awaitable[object]]]
            entering = [partial(peer.will, f"{name} enter {PATIENTLY}", "true"), ours.enter]
            leaving = [partial(peer.will, f"{name} leave {PATIENTLY}", "true"), ours.leave]
            if not curator_first:
                entering.reverse()
                leaving.reverse()
            with trio.fail_after(DEADLINE):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(entering[0])
                    await contended(zk, place, 1)
                    assert not now(ours.participating)
                    nursery.start_soon(entering[1])
                assert ours.participating
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(leaving[0])
                    nursery.start_soon(leaving[1])
            assert not now(ours.participating)
            assert await zk.get_children(place) == []


async def test_a_multi_lock(peer: Peer, path: str) -> None:
    one, other = f"{path}-a", f"{path}-b"
    async with open_zookeeper(peer.hosts) as zk:
        ours = MultiLock([Lock(zk, other, layout="curator"), Lock(zk, one, layout="curator")])
        await peer.will(f"ml new multi-lock {one} {other}", "ok")
        await peer.will(f"ml acquire {PATIENTLY}", "true")
        assert not await ours.acquire(blocking=False)
        await peer.will("ml release", "ok")
        async with ours:
            await peer.will(f"ml acquire {AT_ONCE}", "false")
        await peer.will(f"part new mutex {one}", "ok")
        await peer.will(f"part acquire {PATIENTLY}", "true")
        assert not await ours.acquire(blocking=False)
        assert await Lock(zk, other, layout="curator").acquire(blocking=False), "what was not had whole is given back"
        await peer.will("part release", "ok")


async def comes(peer: Peer, question: str, answer: str) -> None:
    """Curator's copies follow a little later."""
    with trio.fail_after(DEADLINE):
        while await peer.ask(question) != answer:
            await trio.lowlevel.checkpoint()
