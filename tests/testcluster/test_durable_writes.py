"""What a peer wants written, on storages that block and on one that does not."""

from __future__ import annotations

import random
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from terzetto.client.wire.operations import Opcode
from terzetto.testcluster import durable_writes
from terzetto.testcluster.datatree import DataTree
from terzetto.testcluster.durable_writes import DurableWrites, Outcome
from terzetto.testcluster.journal import Journal
from terzetto.testcluster.ready import (
    AppendTxns,
    Entry,
    InstallSnapshot,
    TruncateHistory,
    Write,
    WriteAcceptedEpoch,
    WriteCurrentEpoch,
)
from terzetto.testcluster.snapshot_body import SnapshotBody
from terzetto.testcluster.storage import DiskStorage, MemoryStorage, SnapshotSchedule, Storage
from terzetto.testcluster.txns import CreateTxn, SnapshotSession, Txn, TxnHeader, encode_txn

from .shell import Disk


def entry(zxid: int) -> Entry:
    txn = Txn(TxnHeader(1, 1, zxid, 1000, Opcode.CREATE), CreateTxn(f"/{zxid:x}", b"", None, False, 1), None)
    return Entry(zxid, txn, encode_txn(txn))


def appended(*zxids: int) -> AppendTxns:
    return AppendTxns([entry(zxid) for zxid in zxids])


class Peer:
    """Who wants writes, and what it hears of them."""

    def __init__(self, storage: Storage) -> None:
        self.tree = DataTree()
        self.storage = storage
        self.journal = Journal(storage, self.tree, SnapshotSchedule(random.Random(1), snap_count=1000))
        self.heard: list[tuple[str, int]] = []
        self.gate: trio.Event | None = None
        self.told = trio.Event()
        self.writes = DurableWrites(self.journal, self._durable, self._refused, lambda: self.gate)

    def _durable(self, number: int) -> None:
        self._hear("durable", number)

    def _refused(self, number: int) -> None:
        self._hear("refused", number)

    def _hear(self, what: str, number: int) -> None:
        self.heard.append((what, number))
        self.told.set()
        self.told = trio.Event()

    def want(self, number: int, *writes: Write) -> Outcome:
        return self.writes.submit(number, writes)

    async def until_heard(self, number: int) -> None:
        with trio.fail_after(10):
            while not any(heard == number for _, heard in self.heard):
                await self.told.wait()


@asynccontextmanager
async def writing(storage: Storage) -> AsyncIterator[Peer]:
    peer = Peer(storage)
    await peer.journal.recover()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.writes.run)
        yield peer
        nursery.cancel_scope.cancel()


@pytest.fixture(params=["memory", "disk"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    return MemoryStorage() if request.param == "memory" else DiskStorage(tmp_path)


async def settle(peer: Peer, number: int, *writes: Write) -> None:
    """Until the writes are durable, at once or later."""
    if peer.want(number, *writes) is Outcome.LATER:
        await peer.until_heard(number)


async def test_writes_are_durable_in_their_order(storage: Storage) -> None:
    async with writing(storage) as peer:
        first = (1 << 32) + 1
        await settle(peer, 1, WriteAcceptedEpoch(1))
        await settle(peer, 2, WriteCurrentEpoch(1), appended(first, first + 1))
        await settle(peer, 3, appended(first + 2), WriteAcceptedEpoch(2), WriteCurrentEpoch(2))
        assert (storage.accepted_epoch, storage.current_epoch) == (2, 2)
        assert storage.durable_zxid == storage.last_zxid == first + 2
        await peer.writes.wait_idle()
    again = Journal(storage, tree := DataTree(), SnapshotSchedule(random.Random(1), snap_count=1000))
    storage.crash()
    await again.recover()
    assert tree.last_zxid == first + 2
    assert [logged.zxid for logged in again.recent] == [first, first + 1, first + 2]


async def test_nothing_to_write_is_nothing_to_wait_for(storage: Storage) -> None:
    async with writing(storage) as peer:
        assert peer.want(1) is Outcome.LATER
        await peer.writes.wait_idle()
        assert peer.heard == []


async def test_a_storage_that_does_not_block_is_served_at_once() -> None:
    async with writing(MemoryStorage()) as peer:
        assert peer.want(1, WriteAcceptedEpoch(1), WriteCurrentEpoch(1), appended(1)) is Outcome.DURABLE
        assert peer.storage.durable_zxid == 1
        assert peer.heard == []


async def test_one_sync_serves_all_that_came_during_the_last() -> None:
    disk = Disk()
    async with writing(disk) as peer:
        disk.hold()
        before = disk.syncs
        peer.want(1, appended(1))
        await trio.to_thread.run_sync(disk.running.wait, 5)
        for number in range(2, 50):
            peer.want(number, appended(number))
        assert peer.heard == []
        disk.release()
        await peer.until_heard(49)
        assert peer.heard == [("durable", 1), ("durable", 49)]
        assert disk.syncs == before + 2
        assert disk.durable_zxid == 49


async def test_what_was_appended_is_durable_before_an_epoch() -> None:
    order: list[str] = []

    class Watched(Disk):
        def sync(self) -> int:
            order.append("sync")
            return super().sync()

        def write_accepted_epoch(self, epoch: int) -> None:
            assert self.durable_zxid == self.last_zxid
            order.append(f"accepted {epoch}")
            super().write_accepted_epoch(epoch)

    async with writing(Watched()) as peer:
        order.clear()
        peer.want(1, appended(1, 2), WriteAcceptedEpoch(1), appended(3))
        await peer.until_heard(1)
    assert order == ["sync", "accepted 1", "sync"]


async def test_a_history_is_cut(storage: Storage) -> None:
    async with writing(storage) as peer:
        await settle(peer, 1, appended(1, 2, 3))
        for txn in (1, 2, 3):
            peer.tree.apply(entry(txn).txn)
        peer.want(2, TruncateHistory(1), appended(2))
        await peer.until_heard(2)
        assert storage.last_zxid == storage.durable_zxid == 2
        # The tree is what was left; what is appended later is applied when it is committed.
        assert peer.tree.last_zxid == 1
        assert "/1" in peer.tree.nodes
        assert "/2" not in peer.tree.nodes


async def test_a_cut_that_is_not_possible_is_told_and_changes_nothing(storage: Storage) -> None:
    async with writing(storage) as peer:
        await settle(peer, 1, appended(1, 2))
        peer.want(2, WriteAcceptedEpoch(1))
        peer.want(3, TruncateHistory(7), WriteAcceptedEpoch(5))
        peer.want(4, WriteAcceptedEpoch(2))
        await peer.until_heard(4)
        heard = [heard for heard in peer.heard if heard[1] > 1]
        assert heard in ([("durable", 2), ("refused", 3), ("durable", 4)], [("refused", 3), ("durable", 4)])
        assert storage.accepted_epoch == 2
        assert storage.last_zxid == 2


async def test_a_leaders_tree_replaces_everything(storage: Storage) -> None:
    leader = DataTree()
    for zxid in (1, 2, (1 << 32) + 1):
        leader.apply(entry(zxid).txn)
    leader.sessions[77] = 4000
    body = SnapshotBody([SnapshotSession(77, 4000)], leader.acls.dump(), list(leader.walk()))
    async with writing(storage) as peer:
        await settle(peer, 1, appended(1, 2, 3, 4))
        later = entry((1 << 32) + 2)
        peer.want(2, WriteAcceptedEpoch(1), InstallSnapshot((1 << 32) + 1, body, [later]), WriteCurrentEpoch(1))
        await peer.until_heard(2)
        leader.apply(later.txn)
        assert peer.tree.last_zxid == storage.last_zxid == (1 << 32) + 2
        assert (peer.tree.digest, peer.tree.sessions) == (leader.digest, {77: 4000})
    storage.crash()
    again = Journal(storage, tree := DataTree(), SnapshotSchedule(random.Random(1), snap_count=1000))
    await again.recover()
    assert (tree.digest, tree.last_zxid, storage.current_epoch) == (leader.digest, (1 << 32) + 2, 1)


async def test_a_cut_gives_up_the_snapshot_that_is_being_written(tmp_path: Path) -> None:
    async with writing(DiskStorage(tmp_path)) as peer, trio.open_nursery() as nursery:
        await settle(peer, 1, appended(1, 2, 3))
        for txn in (1, 2, 3):
            peer.tree.apply(entry(txn).txn)
        held, going = threading.Event(), threading.Event()
        begin = peer.storage.begin_snapshot

        def slow(zxid: int, *, replaces_history: bool = False) -> Any:
            going.set()
            assert held.wait(10)
            return begin(zxid, replaces_history=replaces_history)

        peer.storage.begin_snapshot = slow  # type: ignore[method-assign]
        nursery.start_soon(peer.journal.write_snapshot)
        await trio.to_thread.run_sync(going.wait)
        peer.want(2, TruncateHistory(2))
        await trio.testing.wait_all_tasks_blocked()
        held.set()
        await peer.until_heard(2)
        assert peer.storage.last_zxid == 2
        assert peer.journal.snapshots_written == 1


async def test_no_snapshot_is_written_while_it_is_forbidden() -> None:
    async with writing(MemoryStorage()) as peer, trio.open_nursery() as nursery:
        nursery.start_soon(peer.journal.run_snapshots)
        peer.journal.set_may_snapshot(False)
        for number in range(1, 1501):
            peer.want(number, appended(number))
            peer.tree.apply(entry(number).txn)
        await trio.testing.wait_all_tasks_blocked()
        assert peer.journal.snapshots_written == 1
        peer.journal.set_may_snapshot(True)
        await trio.testing.wait_all_tasks_blocked()
        assert peer.journal.snapshots_written == 2
        assert peer.journal.last_snapshot[0] == 1500
        nursery.cancel_scope.cancel()


async def test_too_much_that_waits_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable_writes, "BACKLOG_MAX", 300)
    disk = Disk()
    async with writing(disk) as peer:
        disk.hold()
        peer.want(1, appended(1))
        assert peer.writes.congestion() is None
        peer.want(2, appended(*range(2, 20)))
        jam = peer.writes.congestion()
        assert jam is not None
        disk.release()
        await peer.until_heard(2)
        await jam.wait()
        assert peer.writes.congestion() is None


async def test_a_paused_server_hears_of_nothing() -> None:
    async with writing(Disk()) as peer:
        gate = peer.gate = trio.Event()
        peer.want(1, appended(1))
        with trio.move_on_after(0.2):
            await peer.until_heard(1)
        assert peer.heard == []
        peer.gate = None
        gate.set()
        await peer.until_heard(1)


async def test_a_write_that_fails_is_never_called_durable() -> None:
    disk = Disk()
    peer = Peer(disk)
    await peer.journal.recover()
    disk.fail = OSError("the disk is full")
    peer.want(1, appended(1))
    with pytest.raises(OSError, match="the disk is full"):
        await peer.writes.run()
    assert peer.heard == []
