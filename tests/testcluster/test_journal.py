"""The journal on real storages: recovery, group commit, snapshots under writes, purges."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
import trio
import trio.testing

from terzetto.client.wire.operations import Opcode
from terzetto.testcluster.config import ServerConfig
from terzetto.testcluster.datatree import DataTree
from terzetto.testcluster.journal import Journal, open_storage
from terzetto.testcluster.ready import Entry
from terzetto.testcluster.storage import (
    CorruptLogError,
    DataDirectoryError,
    DiskOptions,
    DiskStorage,
    LoggedTxn,
    MemoryStorage,
    SnapshotSchedule,
    Storage,
)
from terzetto.testcluster.txns import CreateTxn, Txn, TxnHeader, encode_txn
from tests.vectors.disk import GoldenDirectory, directories


def schedule(count: int = 100_000) -> SnapshotSchedule:
    return SnapshotSchedule(random.Random(1), snap_count=count)


def txn(tree: DataTree, number: int) -> Txn:
    """A create whose digest is left to the tree."""
    header = TxnHeader(1, number, number, 1000 + number, Opcode.CREATE)
    return Txn(header, CreateTxn(f"/{number}", b"data", None, False, number), None)


class Life:
    """A journal and its tree between two starts."""

    def __init__(self, storage: Storage, count: int = 100_000) -> None:
        self.tree = DataTree()
        self.journal = Journal(storage, self.tree, schedule(count))
        self.commits: list[int] = []

    def commit(self, txns: list[Txn]) -> None:
        self.commits.append(len(txns))
        for each in txns:
            self.tree.apply(each)

    def write(self, first: int, last: int) -> None:
        self.journal.append([txn(self.tree, number) for number in range(first, last + 1)])


def no_gate() -> None:
    return None


async def run_to_idle(life: Life) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(life.journal.run, life.commit, no_gate)
        nursery.start_soon(life.journal.run_snapshots)
        await life.journal.wait_idle()
        await trio.testing.wait_all_tasks_blocked(0.05)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("snap_count", [100_000, 10])
async def test_a_history_on_disk_comes_back(tmp_path: Path, snap_count: int) -> None:
    life = Life(DiskStorage(tmp_path), snap_count)
    await life.journal.recover()
    assert life.tree.last_zxid == 0
    for start in range(1, 100, 20):
        life.write(start, start + 19)
        await run_to_idle(life)
    await life.journal.close()
    assert sum(life.commits) == 100
    again = Life(DiskStorage(tmp_path))
    await again.journal.recover()
    assert again.tree.last_zxid == 100
    assert again.tree.digest == life.tree.digest
    assert again.tree.nodes.keys() == life.tree.nodes.keys()
    await again.journal.close()


async def test_one_sync_takes_everything_that_waits() -> None:
    life = Life(DiskLike())
    await life.journal.recover()
    life.write(1, 50)
    await run_to_idle(life)
    assert life.commits == [50]


class DiskLike(MemoryStorage):
    """Memory whose calls are made in a thread, as a disk's."""

    @property
    def blocks(self) -> bool:  # type: ignore[override]
        return True


async def test_memory_needs_no_task() -> None:
    life = Life(MemoryStorage())
    await life.journal.recover()
    life.write(1, 5)
    assert [each.header.zxid for each in life.journal.take_durable()] == [1, 2, 3, 4, 5]
    assert life.journal.take_durable() == []


async def test_a_snapshot_while_writes_go_on_is_good(tmp_path: Path) -> None:
    life = Life(DiskStorage(tmp_path))
    await life.journal.recover()
    life.write(1, 3000)
    await run_to_idle(life)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(life.journal.run, life.commit, no_gate)
        async with trio.open_nursery() as writing:
            writing.start_soon(life.journal.write_snapshot)
            for number in range(3001, 3200):
                life.write(number, number)
                await trio.lowlevel.checkpoint()
        await life.journal.wait_idle()
        nursery.cancel_scope.cancel()
    assert life.journal.last_snapshot[0] >= 3000
    await life.journal.close()
    again = Life(DiskStorage(tmp_path))
    await again.journal.recover()
    assert again.tree.digest == life.tree.digest
    await again.journal.close()


@pytest.mark.parametrize("when", ["before", "meanwhile"])
async def test_a_snapshot_waits_for_a_disk_that_is_behind_the_tree(tmp_path: Path, when: str) -> None:
    life = Life(DiskStorage(tmp_path))
    await life.journal.recover()
    life.write(1, 300)
    await run_to_idle(life)
    late = [txn(life.tree, number) for number in (301, 302)]
    if when == "before":
        # A quorum of others has committed these, and this member has not come to log them.
        life.commit(late)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(life.journal.write_snapshot)
        if when == "meanwhile":
            while not list((tmp_path / "version-2").glob("unfinished-snapshot*")):
                await trio.lowlevel.checkpoint()
            life.commit(late)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert life.journal.snapshots_written == 1, "with traces of what no log holds it would be of no use"
        life.journal.log([Entry(each.header.zxid, each, encode_txn(each)) for each in late])
    assert life.journal.last_snapshot[0] == (302 if when == "before" else 300)
    await life.journal.crash()
    again = Life(DiskStorage(tmp_path))
    await again.journal.recover()
    assert (again.tree.last_zxid, again.tree.digest) == (302, life.tree.digest)
    await again.journal.close()


async def test_a_snapshot_that_waits_for_the_disk_is_given_up_with_the_tree(tmp_path: Path) -> None:
    life = Life(DiskStorage(tmp_path))
    await life.journal.recover()
    life.write(1, 5)
    await run_to_idle(life)
    life.commit([txn(life.tree, 6)])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(life.journal.write_snapshot)
        await trio.testing.wait_all_tasks_blocked()
        await life.journal.truncate(4)
    assert (life.tree.last_zxid, life.journal.last_snapshot[0]) == (4, 0)
    await life.journal.close()


async def test_a_cancelled_snapshot_leaves_nothing(tmp_path: Path) -> None:
    life = Life(DiskStorage(tmp_path))
    await life.journal.recover()
    life.write(1, 3000)
    await run_to_idle(life)
    before = sorted(path.name for path in (tmp_path / "version-2").glob("snapshot*"))
    with trio.CancelScope() as scope:
        scope.cancel()
        await life.journal.write_snapshot()
    assert sorted(path.name for path in (tmp_path / "version-2").glob("snapshot*")) == before
    await life.journal.close()


async def test_a_purge_comes_at_once(tmp_path: Path) -> None:
    life = Life(DiskStorage(tmp_path))
    await life.journal.recover()
    for number in range(1, 7):
        life.write(number, number)
        life.commit(life.journal.take_durable())
        await life.journal.write_snapshot()

    def kept() -> int:
        return len(list((tmp_path / "version-2").glob("snapshot.*")))

    assert kept() == 7
    with trio.move_on_after(0.5):
        await life.journal.run_purges(3600.0)
    assert kept() == 3
    await life.journal.close()


async def test_a_transaction_that_cannot_be_decoded_names_its_file(tmp_path: Path) -> None:
    life = Life(DiskStorage(tmp_path))
    await life.journal.recover()
    life.write(1, 3)
    record = encode_txn(txn(life.tree, 4))[:-3]
    life.journal.storage.append([LoggedTxn(4, record)])
    await life.journal.close()
    again = Life(DiskStorage(tmp_path))
    with pytest.raises(CorruptLogError, match=r"^log\.1 is damaged at byte \d+: transaction 0x4 cannot be decoded: "):
        await again.journal.recover()
    await again.journal.close()


async def test_a_killed_server_loses_what_was_not_synced(tmp_path: Path) -> None:
    storage = DiskStorage(tmp_path)
    life = Life(storage)
    await life.journal.recover()
    life.write(1, 5)
    storage.sync()
    life.write(6, 9)
    await life.journal.crash()
    again = Life(DiskStorage(tmp_path))
    await again.journal.recover()
    assert again.tree.last_zxid == 5
    await again.journal.close()


async def test_a_member_without_data_makes_none_up(tmp_path: Path) -> None:
    life = Life(DiskStorage(tmp_path, None, DiskOptions(replicated=True, autocreate=False)))
    await life.journal.recover()
    assert (life.tree.last_zxid, life.journal.snapshots_written) == (-1, 0)
    await life.journal.close()
    assert list((tmp_path / "version-2").iterdir()) == []


@pytest.mark.parametrize("golden", directories(), ids=lambda golden: golden.path.name)
async def test_what_java_left_starts(tmp_path: Path, golden: GoldenDirectory) -> None:
    shutil.copytree(golden.path / "version-2", tmp_path / "version-2")
    life = Life(DiskStorage(tmp_path))
    await life.journal.recover()
    assert life.tree.last_zxid == golden.last_zxid
    await life.journal.close()


def test_the_storage_of_a_configuration(tmp_path: Path) -> None:
    assert isinstance(open_storage(ServerConfig(client_port=0)), MemoryStorage)
    storage = open_storage(ServerConfig(client_port=0, data_dir=tmp_path))
    assert isinstance(storage, DiskStorage)
    storage.recover()
    with pytest.raises(DataDirectoryError, match="in use"):
        open_storage(ServerConfig(client_port=0, data_dir=tmp_path)).recover()
    storage.close()
