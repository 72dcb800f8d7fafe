"""Curator and terzetto share priority and delay queues, in both directions, on the real server and the embedded one."""

from __future__ import annotations

import time

import trio

from terzetto.client import ZooKeeper, open_zookeeper
from terzetto.recipes import DelayQueue, PriorityQueue

from .background import DEADLINE
from .test_recipes_with_curator import Peer, curator_installed, path, peer

__all__ = ["curator_installed", "path", "peer"]  # pytest finds the fixtures here

PATIENTLY = 15_000
BRIEFLY = 300


async def emptied(zk: ZooKeeper, path: str) -> None:
    """Returns once a znode has no children."""
    with trio.fail_after(DEADLINE):
        while True:
            changed = trio.Event()
            if not await zk.get_children(path, watch=lambda _, changed=changed: changed.set()):  # type: ignore[misc]
                return
            await changed.wait()


async def test_curator_takes_what_we_put_in_its_order(peer: Peer, path: str) -> None:
    name = f"p{path[1:9]}"
    async with open_zookeeper(peer.hosts) as zk:
        ours = PriorityQueue(zk, path)
        for text, priority in (("seven", 7), ("minus one", -1), ("five", 5), ("five again", 5)):
            await ours.put(text.encode(), priority)
        await ours.put_all([b"zero", b"zero again"])
        await peer.will(f"{name} new priority-queue {path}", "ok")
        await peer.will(f"{name} events 6 {PATIENTLY}", "[minus one, zero, zero again, five, five again, seven]")
        await emptied(zk, path)
        await peer.will(f"{name} close", "ok")


async def test_we_take_what_curator_puts_in_its_order(peer: Peer, path: str) -> None:
    name = f"p{path[1:9]}"
    async with open_zookeeper(peer.hosts) as zk:
        await peer.will(f"{name} new priority-queue {path} put-only", "ok")
        for text, priority in (("seven", 7), ("minus one", -1), ("five", 5), ("five again", 5)):
            await peer.will(f"{name} put {priority} {text}", "ok")
        ours = PriorityQueue(zk, path, f"{path}-claims")
        assert await ours.qsize() == 4
        assert [await ours.get() for _ in range(2)] == [b"minus one", b"five"]
        async with ours.claim() as item:
            assert item.value == b"five again"
        assert await ours.get() == b"seven"
        assert await ours.get(timeout=0) is None
        await peer.will(f"{name} close", "ok")


async def test_delays_in_both_directions(peer: Peer, path: str) -> None:
    giver, taker = f"g{path[1:9]}", f"t{path[1:9]}"
    async with open_zookeeper(peer.hosts) as zk:
        ours = DelayQueue(zk, path)
        await peer.will(f"{giver} new delay-queue {path} put-only", "ok")
        began = time.time()
        # Due before the first one, however long it takes to put it.
        await peer.will(f"{giver} put 1500 later", "ok")
        await peer.will(f"{giver} put -60000 sooner", "ok")
        taken = [await ours.get(DEADLINE), await ours.get(DEADLINE)]
        assert taken == [b"sooner", b"later"]
        assert time.time() >= began + 1.49
        await peer.will(f"{giver} close", "ok")
        began = time.time()
        await ours.put(b"later", delay=1.5)
        await ours.put(b"sooner", due=began)
        await peer.will(f"{taker} new delay-queue {path}", "ok")
        await peer.will(f"{taker} events 2 {PATIENTLY}", "[sooner, later]")
        assert time.time() >= began + 1.49
        await peer.will(f"{taker} close", "ok")


async def test_what_we_have_claimed_curator_does_not_take(peer: Peer, path: str) -> None:
    name, claims = f"p{path[1:9]}", f"{path}-claims"
    async with open_zookeeper(peer.hosts) as zk:
        ours = PriorityQueue(zk, path, claims)
        await ours.put_all([b"one", b"two"])
        async with ours.claim() as item:
            assert item.value == b"one"
            await peer.will(f"{name} new priority-queue {path} lock {claims}", "ok")
            await peer.will(f"{name} events 1 {PATIENTLY}", "[two]")
            await peer.will(f"{name} events 1 {BRIEFLY}", "[]")
            item.requeue(priority=3)
        # It has another name now, which Curator sees.
        await peer.will(f"{name} events 1 {PATIENTLY}", "[one]")
        await emptied(zk, path)
        await peer.will(f"{name} close", "ok")
        await emptied(zk, claims)


async def test_what_we_give_back_curator_takes_when_it_looks_again(peer: Peer, path: str) -> None:
    """It looks when items come or go, not when claims do."""
    name, claims = f"p{path[1:9]}", f"{path}-claims"
    async with open_zookeeper(peer.hosts) as zk:
        ours = PriorityQueue(zk, path, claims)
        await ours.put_all([b"one", b"two"])
        async with ours.claim() as item:
            await peer.will(f"{name} new priority-queue {path} lock {claims}", "ok")
            await peer.will(f"{name} events 1 {PATIENTLY}", "[two]")
            item.give_back()
        await ours.put(b"three")
        await peer.will(f"{name} events 2 {PATIENTLY}", "[one, three]")
        await peer.will(f"{name} close", "ok")
