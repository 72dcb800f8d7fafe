"""Curator's delay queue: names, order, and that nothing goes before its time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from terzetto.recipes import DelayQueue
from tests.client.memory_server import MemoryEnsemble, pass_time, settle

from .walking import at_rest, tree

START = 1_700_000_000.0


def about(seconds: float) -> Any:
    """As precise as the milliseconds in a name."""
    return pytest.approx(seconds, rel=0, abs=0.01)


@pytest.fixture
def now(autojump_clock: MockClock) -> Callable[[], float]:
    """A wall clock on virtual time."""
    began = autojump_clock.current_time()
    return lambda: START + autojump_clock.current_time() - began


async def test_names_and_order_are_curator_s(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, now: Callable[[], float]
) -> None:
    async with ensemble.open() as zk:
        queue = DelayQueue(zk, "/q", now=now)
        await queue.put(b"epoch", due=START)
        await queue.put(b"early", due=0.255)
        await queue.put(b"epoch, later", due=START)
        await queue.put_all([b"soon", b"soon, later"], delay=2)
        await at_rest(zk)
        assert tree(ensemble) - {"/q"} == {
            "/q/queue-|18BCFE56800|0000000000",
            "/q/queue-|000000FF|0000000001",
            "/q/queue-|18BCFE56800|0000000002",
            f"/q/queue-|{round((START + 2) * 1000):X}|0000000003",
            f"/q/queue-|{round((START + 2) * 1000):X}|0000000004",
        }
        assert [await queue.get(0) for _ in range(4)] == [b"early", b"epoch", b"epoch, later", None]
        assert await queue.qsize() == 2
        before = now()
        assert [await queue.get(), await queue.get()] == [b"soon", b"soon, later"]
        assert before < now()
        assert now() == about(START + 2)
        for arguments in ({"delay": -START - 100}, {"due": -1.0}):
            with pytest.raises(ValueError, match="since 1970"):
                await queue.put(b"x", **arguments)


async def test_whoever_waits_wakes_for_an_earlier_item(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, now: Callable[[], float]
) -> None:
    got: list[tuple[bytes | None, float]] = []

    async def take(queue: DelayQueue) -> None:
        while len(got) < 2:
            got.append((await queue.get(), now() - START))

    async with ensemble.open() as zk, trio.open_nursery() as nursery:
        queue = DelayQueue(zk, "/q", now=now)
        await queue.put(b"late", delay=500)
        nursery.start_soon(take, queue)
        await pass_time(5)
        await queue.put(b"early", delay=2)
    assert got == [(b"early", about(7)), (b"late", about(500))]


async def test_a_clock_that_is_set_is_looked_at_again(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    times = [START]
    async with ensemble.open() as zk, trio.open_nursery() as nursery:
        queue = DelayQueue(zk, "/q", now=lambda: times[-1])
        await queue.put(b"tomorrow", delay=86_400)
        got: list[bytes | None] = []

        async def take() -> None:
            got.append(await queue.get())

        nursery.start_soon(take)
        await pass_time(100)
        assert got == []
        times.append(START + 86_401)
        await pass_time(61)
        await settle()
        assert got == [b"tomorrow"]


async def test_an_item_that_is_put_back_keeps_its_time_or_gets_another(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, now: Callable[[], float]
) -> None:
    async with ensemble.open() as zk:
        queue = DelayQueue(zk, "/q", "/claims", now=now)
        await queue.put(b"one", delay=1)
        await queue.put(b"two", delay=1)
        async with queue.claim() as item:
            assert (item.value, now()) == (b"one", about(START + 1))
            item.requeue()
        async with queue.claim() as item:
            assert item.value == b"two"
            item.requeue(delay=10)
        assert (await queue.get(), now()) == (b"one", about(START + 1))
        assert await queue.get(5) is None
        assert (await queue.get(), now()) == (b"two", about(START + 11))


async def test_what_curator_put_back_is_due(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, now: Callable[[], float]
) -> None:
    ensemble.realm.create("/q")
    ensemble.realm.create("/q/queue-0000000007", bytes.fromhex("00010001 01 00000001 61 02"))
    async with ensemble.open() as zk:
        assert await DelayQueue(zk, "/q", now=now).get(0) == b"a"


@pytest.mark.parametrize("time", [float("nan"), float("inf"), -1.0, 2.0**60])
async def test_what_is_no_time(ensemble: MemoryEnsemble, autojump_clock: MockClock, time: float) -> None:
    async with ensemble.open() as zk:
        queue = DelayQueue(zk, "/q")
        with pytest.raises(ValueError, match="due at a time since 1970"):
            await queue.put(b"item", due=time)
        assert await queue.qsize() == 0
