"""Curator's priority queue: names, order, and items put back."""

from __future__ import annotations

from typing import Any

import pytest
from trio.testing import MockClock

from terzetto.recipes import PriorityQueue
from tests.client.memory_server import MemoryEnsemble

from .walking import at_rest, tree


async def test_names_and_order_are_curator_s(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        queue = PriorityQueue(zk, "/q/r")
        assert await queue.qsize() == 0
        assert await queue.get(timeout=0) is None
        for value, priority in ((b"5", 5), (b"-1", -1), (b"5 later", 5), (b"least", 2**31 - 1), (b"most", -(2**31))):
            await queue.put(value, priority)
        await queue.put_all([b"0", b"0 later"])
        await at_rest(zk)
        assert tree(ensemble) == {
            "/q",
            "/q/r",
            "/q/r/queue-1000000050000000000",
            "/q/r/queue-0FFFFFFFF0000000001",
            "/q/r/queue-1000000050000000002",
            "/q/r/queue-17FFFFFFF0000000003",
            "/q/r/queue-0800000000000000004",
            "/q/r/queue-1000000000000000005",
            "/q/r/queue-1000000000000000006",
        }
        assert ensemble.realm.get("/q/r/queue-1000000050000000000").data == bytes.fromhex("00010001 01 00000001 35 02")
        assert await queue.qsize() == 7
        taken = [await queue.get() for _ in range(7)]
        assert taken == [b"most", b"-1", b"0", b"0 later", b"5", b"5 later", b"least"]
        assert await queue.qsize() == 0


@pytest.mark.parametrize(
    ("value", "priority", "error"),
    [("text", 1, TypeError), (b"", "1", TypeError), (b"", True, TypeError), (b"", 2**31, ValueError)],
)
async def test_what_is_no_item(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, value: Any, priority: Any, error: type[Exception]
) -> None:
    async with ensemble.open() as zk:
        with pytest.raises(error):
            await PriorityQueue(zk, "/q").put(value, priority)
        with pytest.raises(ValueError, match="'/'"):
            PriorityQueue(zk, "/")
        with pytest.raises(ValueError, match="of their own"):
            PriorityQueue(zk, "/q", "/q")
    assert tree(ensemble) == set()


async def test_the_order_outlives_the_end_of_the_numbers(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    """ZooKeeper goes on at -2**31."""
    names = ["queue-1000000012147483646", "queue-1000000012147483647", "queue-100000001-2147483648"]
    frame = "00010001 01 00000001 {:02x} 02"
    ensemble.realm.create("/q")
    for number, name in enumerate(reversed(names)):
        ensemble.realm.create(f"/q/{name}", bytes.fromhex(frame.format(ord("c") - number)))
    async with ensemble.open() as zk:
        queue = PriorityQueue(zk, "/q")
        assert [await queue.get() for _ in names] == [b"a", b"b", b"c"]


async def test_an_item_keeps_its_priority_when_it_is_put_back(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as zk:
        queue = PriorityQueue(zk, "/q", "/claims")
        await queue.put(b"one", 5)
        await queue.put(b"two", 5)
        async with queue.claim() as item:
            assert item.value == b"one"
            item.requeue()
        async with queue.claim() as item:
            assert item.value == b"two"
            item.requeue(priority=-7)
        await at_rest(zk)
        assert sorted(await zk.get_children("/q")) == ["queue-0FFFFFFF90000000003", "queue-1000000050000000002"]
        assert [await queue.get(), await queue.get()] == [b"two", b"one"]


async def test_curator_s_own_requeue_lost_the_priority(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    """Its name has a number only, and goes first there as here. A foreign znode is nobody's item."""
    frame = bytes.fromhex("00010001 01 00000001 61 02")
    for path in ("/q", "/q/queue-1800000000000000001", "/q/queue-0000000002", "/q/entry-100-0000000003", "/q/queue-x"):
        ensemble.realm.create(path, frame if "queue" in path else b"")
    async with ensemble.open() as zk:
        queue = PriorityQueue(zk, "/q")
        assert await queue.qsize() == 2
        await queue.get()
        assert "/q/queue-0000000002" not in tree(ensemble)
