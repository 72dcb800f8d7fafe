"""Locks: readers and writers, downgrades, nothing left behind and nothing done twice; on virtual time."""

# ruff: noqa: PT012 - what leaves a block is what is tested here
from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from terzetto.client import ConnectionLoss, LockTimeout, ZooKeeper
from terzetto.client.wire import Opcode
from terzetto.recipes import Lock, OwnershipLost, ReadLock, WriteLock
from tests.client.memory_server import MemoryEnsemble, pass_time, settle
from tests.client.server_link import Fault, nth

from .losing import losses
from .truth import now
from .walking import at_rest, tree, walk

LAYOUTS = ("kazoo", "curator")


# Readers and writers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_many_readers_or_one_writer(ensemble: MemoryEnsemble, autojump_clock: MockClock, layout: Any) -> None:
    async with ensemble.open() as zk:
        readers = [ReadLock(zk, "/a", f"r{number}", layout=layout) for number in range(3)]
        writer = WriteLock(zk, "/a", "w", layout=layout)
        for reader in readers:
            assert await reader.acquire(blocking=False)
            assert reader.held is not None
            assert reader.held.fencing_token is None
        assert not await writer.acquire(blocking=False)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(writer.acquire)
            await settle()
            # A reader that comes after a waiting writer waits behind it.
            late = ReadLock(zk, "/a", "late", layout=layout)
            assert not await late.acquire(blocking=False)
            nursery.start_soon(late.acquire)
            await settle()
            assert await writer.contenders() == ["r0", "r1", "r2", "w", "late"]
            for reader in readers:
                assert not now(writer.is_acquired)
                await reader.release()
                await settle()
            assert writer.is_acquired
            assert writer.held is not None
            assert writer.held.fencing_token is not None
            assert not now(late.is_acquired)
            await writer.release()
        assert late.is_acquired
        assert await readers[0].acquire(blocking=False)


async def test_kazoo_s_lock_and_write_lock_exclude_each_other(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as zk:
        async with Lock(zk, "/a"):
            assert not await WriteLock(zk, "/a").acquire(blocking=False)
            assert not await ReadLock(zk, "/a").acquire(blocking=False)
        async with ReadLock(zk, "/a"):
            # As in kazoo: a plain lock does not know readers.
            assert await Lock(zk, "/a").acquire(blocking=False)


async def test_releasing_a_writer_wakes_the_readers_behind_it_and_no_writer(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, told: list[str]
) -> None:
    async with ensemble.open() as zk, trio.open_nursery() as nursery:
        writer = WriteLock(zk, "/a")
        await writer.acquire()
        readers = [ReadLock(zk, "/a") for _ in range(5)]
        for reader in readers:
            nursery.start_soon(reader.acquire)
            await settle()
        behind = WriteLock(zk, "/a")
        nursery.start_soon(behind.acquire)
        await settle()
        await writer.release()
        await settle()
        assert all(reader.is_acquired for reader in readers)
        assert not now(behind.is_acquired)
        assert len(told) == 1  # one session, one znode: one event tells all who wait for it
        for reader in readers:
            await reader.release()


# Downgrades -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_a_downgrade_lets_readers_in_and_no_writer(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, layout: Any
) -> None:
    async with ensemble.open() as zk, trio.open_nursery() as nursery:
        other, reader = WriteLock(zk, "/a", layout=layout), ReadLock(zk, "/a", layout=layout)
        async with WriteLock(zk, "/a", "me", layout=layout) as held:
            nursery.start_soon(reader.acquire)
            await settle()
            nursery.start_soon(other.acquire)
            await settle()
            token, znode = held.fencing_token, held.znode
            await held.downgrade()
            await settle()
            assert reader.is_acquired
            assert not now(other.is_acquired)
            assert held.fencing_token == token
            assert held.znode != znode
            assert held.znode[-10:] == znode[-10:]
            tag = "__rlock__" if layout == "kazoo" else "__READ__"
            assert held.znode[:-10].endswith(tag)
            assert (await zk.get(held.znode))[0] == b"me"
            async with held.transaction() as t:
                t.create("/x")
            await held.assert_owned()
            await reader.release()
            await settle()
            assert not now(other.is_acquired)
        await settle()
        assert other.is_acquired


async def test_a_downgraded_owner_loses_with_its_new_znode(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        with pytest.raises(OwnershipLost, match="__rlock__"):
            async with WriteLock(zk, "/a") as held:
                await held.downgrade()
                ensemble.realm.delete(held.znode)
                await trio.sleep_forever()


async def test_a_downgrade_of_what_was_lost_is_refused(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        lock = WriteLock(zk, "/a")
        await lock.acquire()
        assert lock.held is not None
        ensemble.realm.delete(lock.held.znode)
        with pytest.raises(OwnershipLost):
            await lock.held.downgrade()
        await lock.release()
        await at_rest(zk)
        assert tree(ensemble) == {"/a"}


@pytest.mark.parametrize("fault", [Fault.CUT, Fault.DO_AND_CUT])
async def test_a_downgrade_whose_request_or_reply_is_lost_is_made_once(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, fault: Fault
) -> None:
    async with ensemble.open() as zk:
        async with WriteLock(zk, "/a", proof="session") as held:
            ensemble.rules.append(nth(1, Opcode.MULTI, fault))
            await held.downgrade()
            assert tree(ensemble) == {"/a", held.znode}
            assert "__rlock__" in held.znode
        assert tree(ensemble) == {"/a"}


# Nothing left behind, nothing done twice ------------------------------------------------------------------------------


async def _uncontended(zk: ZooKeeper) -> None:
    async with Lock(zk, "/a"):
        await trio.lowlevel.checkpoint()


async def _contended(zk: ZooKeeper) -> None:
    async with trio.open_nursery() as nursery:
        # Of the same session, so that it goes with the loss of the connection as the waiter does.
        nursery.start_soon(_free_soon, zk, "/a/x__lock__0000000000")
        async with Lock(zk, "/a"):
            await trio.lowlevel.checkpoint()


async def _free_soon(zk: ZooKeeper, znode: str) -> None:
    await pass_time(3)
    await zk.delete(znode)


async def _timed_out(zk: ZooKeeper) -> None:
    with pytest.raises(LockTimeout):
        await Lock(zk, "/b").acquire(timeout=3)


async def _refused(zk: ZooKeeper) -> None:
    assert not await Lock(zk, "/b").acquire(blocking=False)


async def _persistent(zk: ZooKeeper) -> None:
    async with Lock(zk, "/a").hold(ephemeral=False):
        await trio.lowlevel.checkpoint()


async def _downgraded(zk: ZooKeeper) -> None:
    async with WriteLock(zk, "/a") as held:
        await held.downgrade()


async def _reader(zk: ZooKeeper) -> None:
    async with ReadLock(zk, "/a", layout="curator"):
        await trio.lowlevel.checkpoint()


WORKS: dict[str, Callable[[ZooKeeper], Awaitable[object]]] = {
    "uncontended": _uncontended,
    "contended": _contended,
    "timed out": _timed_out,
    "refused": _refused,
    "not ephemeral": _persistent,
    "downgraded": _downgraded,
    "reader": _reader,
}


@pytest.mark.parametrize("name", WORKS)
async def test_cancelled_at_each_checkpoint_it_leaves_nothing(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, name: str
) -> None:
    def prepare() -> None:
        for number, path in enumerate(("/a", "/b")):
            ensemble.realm.create(path)
            if name in ("contended", "timed out", "refused"):
                ensemble.realm.create(f"{path}/x__lock__000000000{number}")
                ensemble.realm.znodes[path].created_children = 2

    await walk(ensemble, WORKS[name], prepare=prepare, raises=(OwnershipLost, ConnectionLoss))


@pytest.mark.parametrize("name", ["uncontended", "not ephemeral", "downgraded", "reader"])
async def test_a_lost_request_or_reply_leaves_nothing_and_stops_nobody(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, name: str
) -> None:
    async for loss in losses(ensemble):
        with trio.fail_after(30):
            async with ensemble.open() as zk:
                await WORKS[name](zk)
                await at_rest(zk)
                assert tree(ensemble) == {"/a"}, str(loss)
                assert await Lock(zk, "/a", layout="curator" if name == "reader" else "kazoo").acquire(blocking=False)


async def test_two_contenders_and_any_lost_request_or_reply(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async for loss in losses(ensemble):
        inside = turns = 0

        async def contend(kind: type[Lock]) -> None:
            nonlocal inside, turns
            async with ensemble.open() as zk:
                for _ in range(2):
                    async with kind(zk, "/a"):
                        inside += 1
                        assert inside == 1
                        await pass_time(0.5)
                        inside -= 1
                        turns += 1

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(contend, Lock)
                nursery.start_soon(contend, Lock)
        assert turns == 4
        assert tree(ensemble) == {"/a"}, str(loss)


@pytest.mark.parametrize("after", [1.5, 2.5])
async def test_a_downgrade_that_was_interrupted_leaves_no_writer(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, after: float
) -> None:
    """It may have been made all the same, and then readers come in."""
    async with ensemble.open() as zk, ensemble.open() as other:
        with pytest.raises(OwnershipLost):
            async with WriteLock(zk, "/l") as held:
                ensemble.latency = 1.0
                with trio.move_on_after(after):
                    await held.downgrade()
                with trio.CancelScope(shield=True):
                    ensemble.latency = 0.0
                    async with ReadLock(other, "/l"):
                        assert held.is_lost
        await at_rest(zk)
        assert tree(ensemble) == {"/l"}


async def test_a_downgrade_that_has_not_begun_changes_nothing(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as zk, WriteLock(zk, "/l") as held:
        ensemble.latency = 1.0
        with trio.move_on_after(0.5):
            await held.downgrade()
        assert not held.is_lost
        await held.assert_owned()


async def test_a_second_downgrade_changes_nothing(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        with pytest.raises(OwnershipLost):
            async with WriteLock(zk, "/a") as held:
                await held.downgrade()
                znode, writes = held.znode, ensemble.opcodes().count(Opcode.MULTI)
                await held.downgrade()
                assert held.znode == znode
                assert ensemble.opcodes().count(Opcode.MULTI) == writes
                ensemble.realm.delete(znode)
                with trio.CancelScope(shield=True):
                    await settle()
                    with pytest.raises(OwnershipLost):
                        await held.downgrade()
