"""Locks that are not ephemeral: they outlive their session, nothing is cancelled, and nothing is left of them."""

# ruff: noqa: PT012 - what leaves a block is what is tested here
from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from terzetto.client import ZooKeeper
from terzetto.client.wire import Opcode
from terzetto.recipes import Lock, WriteLock
from tests.client.holdings import holdings
from tests.client.memory_server import Door, MemoryEnsemble, pass_time, settle
from tests.client.server_link import Fault, nth

from .truth import now
from .walking import at_rest, tree

T = 10.0
"""Session timeout of these tests, seconds."""


async def test_a_lock_that_is_not_ephemeral_outlives_its_session_and_cancels_nothing(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open(session_timeout=T) as zk:
        async with Lock(zk, "/a").hold(ephemeral=False) as held:
            ensemble.expire(zk.session_id)
            await pass_time(2 * T)
            assert not now(held.is_lost)
            assert held.znode in tree(ensemble)
            async with held.transaction() as t:
                t.create("/x")
            assert holdings(zk).proof_holders == 0
        assert tree(ensemble) == {"/a", "/x"}


async def test_a_lock_that_is_not_ephemeral_blocks_others_when_its_owner_is_gone(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as one:
        assert await Lock(one, "/a").acquire(ephemeral=False)
    async with ensemble.open() as other:
        assert not await Lock(other, "/a").acquire(blocking=False)
        (left,) = tree(ensemble) - {"/a"}
        ensemble.realm.delete(left)
        assert await Lock(other, "/a").acquire(blocking=False)


async def _expires_without_connection(ensemble: MemoryEnsemble, zk: ZooKeeper) -> None:
    session_id = zk.session_id
    ensemble.shut(Door.REFUSES)
    ensemble.cut()
    await pass_time(1)
    ensemble.expire(session_id)
    ensemble.shut(Door.OPEN)


@pytest.mark.parametrize("fault", [Fault.CUT, Fault.DO_AND_CUT])
async def test_a_lock_that_is_not_ephemeral_is_released_in_the_next_session(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, fault: Fault
) -> None:
    async with ensemble.open() as zk:
        lock = Lock(zk, "/a")
        await lock.acquire(ephemeral=False)
        ensemble.rules.append(nth(1, Opcode.DELETE, fault))
        async with trio.open_nursery() as nursery:
            ensemble.shut(Door.REFUSES)
            nursery.start_soon(_expires_without_connection, ensemble, zk)
            assert await lock.release() is True
        assert tree(ensemble) == {"/a"}


async def test_a_lock_that_is_not_ephemeral_is_given_up_in_the_next_session(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as zk:
        with pytest.raises(KeyError):
            async with Lock(zk, "/a").hold(ephemeral=False):
                ensemble.shut(Door.REFUSES)
                ensemble.cut()
                await settle()
                raise KeyError
        await _expires_without_connection(ensemble, zk)
        await at_rest(zk)
        assert tree(ensemble) == {"/a"}


async def test_a_waiter_that_is_not_ephemeral_leaves_the_queue_in_the_next_session(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as one, ensemble.open() as zk:
        async with Lock(one, "/a"):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lambda: Lock(zk, "/a").acquire(ephemeral=False))
                await settle()
                assert len(tree(ensemble)) == 3
                ensemble.shut(Door.REFUSES)
                ensemble.cut()
                await settle()
                nursery.cancel_scope.cancel()
            await _expires_without_connection(ensemble, zk)
            await at_rest(zk)
        await at_rest(one)
        assert tree(ensemble) == {"/a"}


async def test_a_downgraded_lock_that_is_not_ephemeral_outlives_its_session(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open(session_timeout=T) as zk:
        async with WriteLock(zk, "/a").hold(ephemeral=False) as held:
            await held.downgrade()
            session_id = zk.session_id
            ensemble.expire(session_id)
            await pass_time(2 * T)
            assert zk.session_id != session_id
            assert not now(held.is_lost)
            await held.assert_owned()
        await at_rest(zk)
        assert tree(ensemble) == {"/a"}
