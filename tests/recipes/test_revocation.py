"""Asking an owner to let go."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from terzetto.client import ConnectionLoss, NoNodeError, ZooKeeper
from terzetto.recipes import Lock, OwnershipLost, revoke, wait_revoked
from tests.client.holdings import holdings
from tests.client.memory_server import MemoryEnsemble, pass_time, settle

from .losing import losses
from .truth import now
from .walking import walk


async def test_an_owner_that_looks_lets_go(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    events: list[str] = []

    async def work(zk: ZooKeeper) -> None:
        async with Lock(zk, "/a", "worker") as held:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                await wait_revoked(held)
                events.append("asked")
                nursery.cancel_scope.cancel()
        events.append("released")

    async with ensemble.open() as one, ensemble.open() as other, trio.open_nursery() as nursery:
        mine = Lock(other, "/a")
        assert await mine.revoke() is False
        nursery.start_soon(work, one)
        await settle()
        assert events == []
        assert await mine.revoke() is True
        async with mine:
            assert events == ["asked", "released"]
        assert holdings(one).watches == 0


async def test_the_sign_is_seen_by_one_who_looks_late_and_ends_nothing_by_itself(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as zk, Lock(zk, "/a", "me") as held:
        await revoke(zk, held.znode)
        assert (await zk.get(held.znode))[0] == b"__REVOKE__"
        await pass_time(1)
        assert not now(held.is_lost)
        with trio.fail_after(1):
            await wait_revoked(held)


async def test_other_data_is_no_sign(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk, Lock(zk, "/a") as held:
        ensemble.realm.set(held.znode, b"x")
        with trio.move_on_after(1) as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait_revoked, held)
                await pass_time(0.5)
                ensemble.realm.set(held.znode, b"y")
        assert scope.cancelled_caught
        assert not now(held.is_lost)


async def test_an_owner_that_is_gone(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        with pytest.raises(NoNodeError):
            await revoke(zk, "/a/x-lock-0000000000")
        lock = Lock(zk, "/a")
        await lock.acquire()
        held = lock.held
        assert held is not None
        ensemble.realm.delete(held.znode)
        with pytest.raises(OwnershipLost):
            await wait_revoked(held)


async def _wait(zk: ZooKeeper) -> None:
    async with Lock(zk, "/a") as held:
        with trio.move_on_after(1):
            await wait_revoked(held)


async def test_cancelled_at_each_checkpoint_it_leaves_nothing(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    await walk(ensemble, _wait, leaves={"/a"}, raises=(OwnershipLost, ConnectionLoss))


async def test_the_sign_comes_whatever_request_or_reply_is_lost(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async for _ in losses(ensemble):
        with trio.fail_after(30):
            async with ensemble.open() as zk:
                async with Lock(zk, "/a") as held, trio.open_nursery() as nursery:
                    nursery.start_soon(wait_revoked, held)
                    await settle()
                    assert await Lock(zk, "/a").revoke()
