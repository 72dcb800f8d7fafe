"""kazoo and terzetto divide one set, in both orders, on the real server and on the embedded one: the native recipe, and
the blocking one, which is worked with as kazoo's.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import trio
from kazoo.client import KazooClient as TheirClient

from terzetto.client import ZooKeeper
from terzetto.client.kazoo.client import KazooClient as OurClient
from terzetto.recipes import SetPartitioner
from tests.recipes.truth import now

from .background import DEADLINE
from .test_recipes_with_kazoo import blocking, embedded, hosts, open_peers

__all__ = ["embedded", "hosts"]  # pytest finds the fixtures here

ITEMS = ["a", "b", "c", "d", "e"]
SETTLED = 0.2


async def seen(zk: ZooKeeper, condition: Callable[[], object]) -> None:
    """Waits for what another thread or task does; each look takes a request."""
    with trio.fail_after(DEADLINE):
        while not condition():
            await zk.sync("/")


@asynccontextmanager
async def kazoo_member(kazoo: Any, identifier: str, **options: Any) -> AsyncIterator[Any]:
    theirs = await blocking(kazoo.SetPartitioner, "/s", ITEMS, identifier=identifier, time_boundary=SETTLED, **options)
    try:
        yield theirs
    finally:
        with trio.CancelScope(shield=True):
            await blocking(theirs.finish)


def our_member(zk: ZooKeeper, identifier: str, **options: Any) -> SetPartitioner:
    return SetPartitioner(zk, "/s", ITEMS, identifier=identifier, time_boundary=SETTLED, **options)


async def shared(zk: ZooKeeper, ours: Any, theirs: Any, division: tuple[list[str], list[str]]) -> None:
    await seen(zk, lambda: ours.acquired and theirs.acquired)
    assert (list(ours), list(theirs)) == division


async def test_kazoo_is_there_first(hosts: str) -> None:
    async with open_peers(hosts) as (zk, kazoo), kazoo_member(kazoo, "1-kazoo") as theirs:
        await blocking(theirs.wait_for_acquire, DEADLINE)
        assert list(theirs) == ITEMS
        async with our_member(zk, "2-terzetto") as ours:
            await seen(zk, lambda: theirs.release)
            # What they have not released is not ours.
            assert await ours.wait_for_acquire(3 * SETTLED) is False
            assert list(ours) == []
            await blocking(theirs.release_set)
            await shared(zk, ours, theirs, (["b", "d"], ["a", "c", "e"]))
        await seen(zk, lambda: theirs.release)
        await blocking(theirs.release_set)
        await blocking(theirs.wait_for_acquire, DEADLINE)
        assert list(theirs) == ITEMS


async def test_terzetto_is_there_first(hosts: str) -> None:
    async with open_peers(hosts) as (zk, kazoo), our_member(zk, "2-terzetto", max_reaction_time=DEADLINE) as ours:
        async with AsyncExitStack() as stack:
            theirs: Any = None
            async with ours.hold() as partition:
                assert list(partition) == ITEMS
                theirs = await stack.enter_async_context(kazoo_member(kazoo, "1-kazoo"))
                await partition.wait_asked_back()
                await blocking(theirs.wait_for_acquire, 3 * SETTLED)
                assert not now(theirs.acquired)
                # Ours as long as the body has not ended, whatever they wait for.
                async with partition.transaction() as transaction:
                    transaction.create("/still-ours")
            await blocking(theirs.wait_for_acquire, DEADLINE)
            await shared(zk, ours, theirs, (["b", "d"], ["a", "c", "e"]))
        await seen(zk, lambda: ours.release)
        async with ours.hold() as partition:
            assert list(partition) == ITEMS


async def test_they_divide_the_set_while_members_come_and_go(hosts: str) -> None:
    working: dict[str, str] = {}

    async def work(partitioner: SetPartitioner, name: str) -> None:
        while True:
            async with partitioner.hold() as partition:
                for item in partition:
                    assert item not in working, f"{name} and {working[item]} both work on {item}"
                    working[item] = name
                try:
                    await trio.sleep_forever()
                finally:
                    for item in partition:
                        del working[item]

    async with open_peers(hosts) as (zk, kazoo), trio.open_nursery() as nursery:
        async with our_member(zk, "b", max_reaction_time=0.1) as ours:
            nursery.start_soon(work, ours, "b")
            await seen(zk, lambda: len(working) == len(ITEMS))
            async with kazoo_member(kazoo, "a") as theirs:
                await shared(zk, ours, theirs, (["b", "d"], ["a", "c", "e"]))
                assert not working.keys() & set(theirs)
                async with our_member(zk, "c", max_reaction_time=0.1) as third:
                    nursery.start_soon(work, third, "c")
                    await seen(zk, lambda: theirs.release)
                    await blocking(theirs.release_set)
                    await seen(zk, lambda: third.acquired)
                    await shared(zk, ours, theirs, (["b", "e"], ["a", "d"]))
                    assert list(third) == ["c"]
                    assert not working.keys() & set(theirs)
                    nursery.cancel_scope.cancel()


async def test_a_kazoo_member_that_dies_leaves_its_items(hosts: str) -> None:
    async with open_peers(hosts) as (zk, kazoo):
        theirs = await blocking(kazoo.SetPartitioner, "/s", ITEMS, identifier="1", time_boundary=SETTLED)
        async with our_member(zk, "2") as ours:
            with trio.fail_after(DEADLINE):
                while not (ours.acquired and theirs.acquired):
                    if theirs.release:  # it had the whole set before it saw us
                        await blocking(theirs.release_set)
                    await zk.sync("/")
            assert (list(ours), list(theirs)) == (["b", "d"], ["a", "c", "e"])
            async with ours.hold() as partition:
                await blocking(kazoo.stop)
                await partition.wait_asked_back()
            async with ours.hold() as partition:
                assert list(partition) == ITEMS
        await blocking(kazoo.start)


taking = threading.Lock()
"""Held while a worker's items change, and while all are looked at: a look between two changes sees none of both."""


class Worker:
    """One blocking member in a thread of its own, which uses its partitioner as kazoo's documentation shows it."""

    def __init__(self, client: Any, path: str, identifier: str) -> None:
        self.items: list[str] = []
        self.told = threading.Event()
        self._over = threading.Event()
        self._partitioner = client.SetPartitioner(
            path, ITEMS, identifier=identifier, time_boundary=SETTLED, state_change_event=self.told
        )
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        partitioner = self._partitioner
        while not (partitioner.failed or self._over.is_set()):
            if partitioner.release:
                self._take([])
                partitioner.release_set()
            elif partitioner.acquired:
                self._take(list(partitioner))
                self.told.wait(0.05)
                self.told.clear()
            elif partitioner.allocating:
                partitioner.wait_for_acquire(0.2)
        self._take([])
        partitioner.finish()

    def _take(self, items: list[str]) -> None:
        with taking:
            self.items = items

    def finish(self) -> None:
        self._over.set()
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive()


def settled(division: dict[Worker, list[str]]) -> None:
    """Waits until each has its items."""
    ends_at = time.monotonic() + DEADLINE
    while True:
        with taking:
            found = {worker: worker.items for worker in division}
        if found == division:
            return
        items = [item for of_one in found.values() for item in of_one]
        assert len(items) == len(set(items)), f"two work on one item: {items}"
        assert time.monotonic() < ends_at, items
        next(iter(division)).told.wait(0.02)


@pytest.mark.parametrize("first", [TheirClient, OurClient])
def test_the_blocking_member_is_a_member_like_kazoo_s(hosts: str, first: Any) -> None:
    second = OurClient if first is TheirClient else TheirClient
    path = f"/{uuid.uuid4().hex}"
    clients = [kind(hosts) for kind in (first, second)]
    try:
        for client in clients:
            client.start()
        one = Worker(clients[0], path, "1")
        settled({one: ITEMS})
        two = Worker(clients[1], path, "2")
        settled({one: ["a", "c", "e"], two: ["b", "d"]})
        one.finish()
        settled({two: ITEMS})
        two.finish()
    finally:
        for client in clients:
            client.stop()
            client.close()
