"""The contract of `Storage`, kept by memory and disk alike, by example."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from terzetto.testcluster.storage.disk import DiskOptions, DiskStorage
from terzetto.testcluster.storage.errors import CorruptLogError, HistoryUnavailableError, StorageError
from terzetto.testcluster.storage.interface import RecoveryReport, SkippedSnapshot, Storage
from terzetto.testcluster.storage.memory import MemoryStorage
from terzetto.testcluster.storage.txnlog import LoggedTxn, TornTail

from .histories import History, rebuild, rows, snapshot_pieces, start, take_snapshot

E1 = 1 << 32
_OPTIONS = DiskOptions(preallocation=1 << 14, force_sync=False)


def memory_storage(directory: Path) -> Storage:
    assert directory.is_dir()
    return MemoryStorage()


def disk_storage(directory: Path) -> Storage:
    return DiskStorage(directory, None, _OPTIONS)


def split_disk_storage(directory: Path) -> Storage:
    return DiskStorage(directory / "data", directory / "log", _OPTIONS)


def compressed_disk_storage(directory: Path) -> Storage:
    options = DiskOptions(preallocation=0, force_sync=False, compression="gz", log_size_max=2000)
    return DiskStorage(directory, None, options)


_KINDS = [memory_storage, disk_storage, split_disk_storage, compressed_disk_storage]


@pytest.fixture(params=_KINDS)
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    return request.param(tmp_path)  # type: ignore[no-any-return]


@pytest.fixture
def history(seed: int) -> History:
    return History(random.Random(seed))


def read(storage: Storage, zxid: int) -> list[LoggedTxn]:
    return list(storage.read_after(zxid))


def test_a_new_storage_is_empty(storage: Storage) -> None:
    recovery = storage.recover()
    assert recovery.snapshot is None
    assert list(recovery.txns) == []
    assert (storage.last_zxid, storage.durable_zxid) == (0, 0)
    assert (storage.accepted_epoch, storage.current_epoch) == (0, 0)
    assert recovery.report.lines() == ["recovered 0x0 from an empty tree and 0 logged transactions"]


def test_the_first_snapshot_comes_before_the_first_transaction(storage: Storage, history: History) -> None:
    list(storage.recover().txns)
    txns = history.grow(1)
    with pytest.raises(StorageError, match="needs a snapshot before its first transaction"):
        storage.append(txns)
    take_snapshot(storage, rebuild(storage.recover()))
    storage.append(txns)
    assert storage.last_zxid == 1


def test_nothing_works_before_recovery_was_read_to_its_end(storage: Storage, history: History) -> None:
    start(storage)
    storage.append(history.grow(5))
    storage.crash()
    recovery = storage.recover()
    calls: list[Callable[[], object]] = [
        lambda: storage.append(history.grow(1)),
        storage.sync,
        storage.purge,
        lambda: storage.begin_snapshot(0),
        lambda: storage.floor_zxid(0),
        lambda: storage.read_after(0),
        lambda: storage.truncate_to(0),
        lambda: storage.write_accepted_epoch(1),
        lambda: storage.write_current_epoch(0),
    ]
    for call in calls:
        with pytest.raises(StorageError, match="not recovered"):
            call()
    list(recovery.txns)
    storage.sync()


def test_what_was_synced_survives_and_nothing_else_does(storage: Storage, history: History) -> None:
    start(storage)
    storage.append(history.grow(10))
    assert (storage.last_zxid, storage.durable_zxid) == (10, 0)
    assert storage.sync() == storage.durable_zxid == 10
    kept = rows(history.tree)
    storage.append(history.grow(5))
    assert (storage.last_zxid, storage.durable_zxid) == (15, 10)
    storage.crash()
    assert rows(start(storage)) == kept
    assert (storage.last_zxid, storage.durable_zxid) == (10, 10)


def test_closing_syncs_and_recovery_may_follow(storage: Storage, history: History) -> None:
    start(storage)
    storage.append(history.grow(10))
    storage.close()
    storage.close()
    with pytest.raises(StorageError):
        storage.sync()
    assert rows(start(storage)) == rows(history.tree)


def test_nothing_is_volatile_after_a_recovery(storage: Storage, history: History) -> None:
    start(storage)
    storage.append(history.grow(10))
    assert rows(start(storage)) == rows(history.tree)
    assert storage.durable_zxid == storage.last_zxid == 10
    storage.crash()
    assert rows(start(storage)) == rows(history.tree)


def test_order_is_kept(storage: Storage, history: History) -> None:
    start(storage)
    first, second, third, fourth = history.grow(4)
    storage.append([first, second])
    for wrong in ([fourth], [second], [third, third], [first]):
        with pytest.raises(ValueError, match="does not follow"):
            storage.append(wrong)
    assert storage.last_zxid == 2
    storage.append([third, fourth])
    history.next_epoch()
    storage.append(history.grow(2))
    assert storage.last_zxid == E1 + 2
    assert storage.sync() == E1 + 2
    # Until the next recovery, which may find that the epoch was not written when the server died.
    assert (storage.accepted_epoch, storage.current_epoch) == (0, 0)
    storage.close()
    start(storage)
    assert (storage.accepted_epoch, storage.current_epoch) == (1, 1)


def test_appending_nothing_changes_nothing(storage: Storage) -> None:
    start(storage)
    storage.append([])
    assert storage.sync() == 0


def test_a_snapshot_and_what_comes_behind_it(storage: Storage, history: History) -> None:
    start(storage)
    storage.append(history.grow(20))
    take_snapshot(storage, history.tree)
    storage.append(history.grow(7))
    storage.close()
    recovery = storage.recover()
    assert recovery.snapshot is not None
    assert recovery.snapshot.zxid == 20
    assert rows(rebuild(recovery)) == rows(history.tree)
    assert (recovery.report.snapshot_zxid, recovery.report.replayed, recovery.report.last_zxid) == (20, 7, 27)


def test_a_snapshot_makes_durable_what_was_appended_before(storage: Storage, history: History) -> None:
    start(storage)
    storage.append(history.grow(20))
    take_snapshot(storage, history.tree)
    assert storage.durable_zxid == 20
    storage.crash()
    assert rows(start(storage)) == rows(history.tree)


def test_a_fuzzy_snapshot(storage: Storage, history: History) -> None:
    start(storage)
    storage.append(history.grow(60))
    zxid = history.tree.last_zxid
    writer = storage.begin_snapshot(zxid)
    for piece in snapshot_pieces(history.tree, 200):
        writer.write(piece)
        storage.append(history.grow(1))
    writer.commit()
    storage.append(history.grow(3))
    storage.close()
    recovery = storage.recover()
    assert recovery.snapshot is not None
    assert recovery.snapshot.zxid == zxid
    assert recovery.snapshot.digest is not None
    assert recovery.snapshot.digest.zxid > zxid
    assert rows(rebuild(recovery)) == rows(history.tree)


def test_an_unfinished_snapshot_never_was(storage: Storage, history: History) -> None:
    start(storage)
    storage.append(history.grow(9))
    aborted, crashed = storage.begin_snapshot(9), storage.begin_snapshot(5)
    aborted.write(b"half")
    aborted.abort()
    aborted.abort()
    with pytest.raises(StorageError, match="committed or aborted already"):
        aborted.write(b"more")
    with pytest.raises(StorageError, match="committed or aborted already"):
        aborted.commit()
    crashed.write(b"half")
    storage.close()
    recovery = storage.recover()
    assert recovery.snapshot is not None
    assert recovery.snapshot.zxid == 0
    assert rows(rebuild(recovery)) == rows(history.tree)
    with pytest.raises(StorageError, match="recovered, cut or closed"):
        crashed.commit()


def test_a_snapshot_cannot_be_ahead_of_the_history(storage: Storage, history: History) -> None:
    start(storage)
    storage.append(history.grow(3))
    with pytest.raises(ValueError, match="beyond the history"):
        storage.begin_snapshot(4)
    # But a leader names its snapshot by its epoch, before the first transaction in it.
    history.tree.last_zxid = E1
    take_snapshot(storage, history.tree)
    assert (storage.last_zxid, storage.durable_zxid) == (E1, E1)
    storage.close()
    assert start(storage).last_zxid == E1
    history.next_epoch()
    storage.append(history.grow(1))
    assert storage.sync() == E1 + 1


def test_reading_on_from_a_transaction(storage: Storage, history: History) -> None:
    start(storage)
    storage.append(history.grow(30))
    storage.sync()
    take_snapshot(storage, history.tree)
    history.next_epoch()
    storage.append(history.grow(10))
    for index in (0, 1, 29, 30, 35, 40):
        zxid = history.txns[index - 1].zxid if index else 0
        assert read(storage, zxid) == history.txns[index:]
    for zxid in (31, E1, E1 + 11, -1):
        with pytest.raises(HistoryUnavailableError, match="is not in the history"):
            storage.read_after(zxid)


def test_the_last_transaction_at_or_before_a_zxid(storage: Storage, history: History) -> None:
    start(storage)
    storage.append(history.grow(5))
    history.next_epoch()
    storage.append(history.grow(5))
    expected = {-1: None, 0: 0, 3: 3, 5: 5, 99: 5, E1: 5, E1 + 1: E1 + 1, E1 + 99: E1 + 5}
    assert {zxid: storage.floor_zxid(zxid) for zxid in expected} == expected


def test_cutting(storage: Storage, history: History) -> None:
    start(storage)
    storage.append(history.grow(10))
    take_snapshot(storage, history.tree)
    cut_here = History(random.Random(0))
    storage.append(history.grow(10))
    storage.truncate_to(15)
    with pytest.raises(StorageError, match="not recovered"):
        storage.append(history.grow(1))
    tree = start(storage)
    assert (storage.last_zxid, storage.durable_zxid) == (15, 15)
    assert read(storage, 0 if storage.floor_zxid(0) == 0 else 10)[-1] == history.txns[14]
    # Another history goes on from there.
    cut_here = History(random.Random(1), tree)
    cut_here.next_epoch()
    storage.append(cut_here.grow(5))
    storage.close()
    assert rows(start(storage)) == rows(cut_here.tree)


def test_cutting_takes_snapshots_that_know_too_much(storage: Storage, history: History) -> None:
    start(storage)
    storage.append(history.grow(60))
    early = rows(history.tree)
    # Named 60, but with traces of what follows.
    writer = storage.begin_snapshot(60)
    for piece in snapshot_pieces(history.tree, 200):
        writer.write(piece)
        storage.append(history.grow(1))
    writer.commit()
    storage.truncate_to(60)
    recovery = storage.recover()
    assert recovery.snapshot is not None
    assert recovery.snapshot.zxid == 0
    assert rows(rebuild(recovery)) == early


def test_cutting_where_there_is_no_way_changes_nothing(storage: Storage, history: History) -> None:
    start(storage)
    storage.append(history.grow(10))
    for zxid in (-1, 11, E1):
        with pytest.raises(HistoryUnavailableError, match=r"cannot cut at .*not in the history"):
            storage.truncate_to(zxid)
    storage.append(history.grow(1))
    assert storage.sync() == 11


def test_a_leaders_snapshot_replaces_everything(storage: Storage, history: History) -> None:
    start(storage)
    storage.append(history.grow(30))
    take_snapshot(storage, history.tree)
    storage.append(history.grow(10))
    leader = History(random.Random(99))
    leader.grow(20)
    writer = storage.begin_snapshot(leader.tree.last_zxid, replaces_history=True)
    for piece in snapshot_pieces(leader.tree):
        writer.write(piece)
    # Until then the old history counts.
    assert read(storage, 30) == history.txns[30:]
    writer.commit()
    assert rows(start(storage)) == rows(leader.tree)
    assert (storage.last_zxid, storage.durable_zxid) == (20, 20)
    assert storage.floor_zxid(19) is None
    leader.next_epoch()
    storage.append(leader.grow(3))
    storage.close()
    assert rows(start(storage)) == rows(leader.tree)


def test_a_leaders_snapshot_may_be_the_first(storage: Storage) -> None:
    leader = History(random.Random(99))
    leader.next_epoch()
    leader.grow(20)
    assert storage.recover().snapshot is None
    take_snapshot(storage, leader.tree, replaces_history=True)
    assert rows(start(storage)) == rows(leader.tree)


def test_a_purge_leaves_what_is_needed(storage: Storage, history: History) -> None:
    start(storage)
    for _ in range(6):
        storage.append(history.grow(10))
        take_snapshot(storage, history.tree)
    removed = storage.purge()
    assert any(name.startswith("snapshot.0") for name in removed)
    assert storage.purge() == []
    storage.append(history.grow(5))
    assert read(storage, 60) == history.txns[60:]
    storage.close()
    assert rows(start(storage)) == rows(history.tree)


def test_history_that_was_purged_is_not_made_up(storage: Storage, history: History) -> None:
    start(storage)
    for _ in range(6):
        storage.append(history.grow(10))
        take_snapshot(storage, history.tree)
    storage.purge()
    with pytest.raises(HistoryUnavailableError):
        storage.read_after(3)
    with pytest.raises(HistoryUnavailableError):
        storage.truncate_to(3)
    assert storage.floor_zxid(3) is None


def test_epochs_are_durable_at_once(storage: Storage) -> None:
    start(storage)
    storage.write_accepted_epoch(4)
    storage.write_current_epoch(2)
    storage.crash()
    start(storage)
    assert (storage.accepted_epoch, storage.current_epoch) == (4, 2)
    with pytest.raises(ValueError, match="smaller than 4"):
        storage.write_accepted_epoch(3)
    for epoch in (1, 5):
        with pytest.raises(ValueError, match="not between 2 and 4"):
            storage.write_current_epoch(epoch)


def test_the_log_raises_an_epoch_that_was_not_written(storage: Storage, history: History) -> None:
    start(storage)
    storage.write_accepted_epoch(1)
    storage.write_current_epoch(1)
    for _ in range(3):
        history.next_epoch()
        storage.append(history.grow(1))
    storage.sync()
    assert (storage.accepted_epoch, storage.current_epoch) == (1, 1)
    storage.crash()
    start(storage)
    assert (storage.accepted_epoch, storage.current_epoch) == (3, 3)


def untrusted_memory(directory: Path) -> Storage:
    assert directory.is_dir()
    return MemoryStorage(trusted=False)


def untrusted_disk(directory: Path) -> Storage:
    return DiskStorage(directory, None, DiskOptions(force_sync=False, replicated=True, autocreate=False))


@pytest.mark.parametrize("make", [untrusted_memory, untrusted_disk])
def test_a_member_that_may_have_lost_everything_waits_for_a_leader(
    make: Callable[[Path], Storage], tmp_path: Path
) -> None:
    storage, leader = make(tmp_path), History(random.Random(3))
    leader.next_epoch()
    leader.grow(20)
    for _ in range(2):
        recovery = storage.recover()
        assert (recovery.snapshot, recovery.is_trusted, list(recovery.txns)) == (None, False, [])
        assert recovery.report.lines() == [
            "there is no data, and nothing says that there never was any: only a leader's snapshot helps"
        ]
        assert (storage.last_zxid, storage.durable_zxid) == (-1, -1)
        assert storage.current_epoch == -1
        with pytest.raises(StorageError, match="takes nothing but a leader's snapshot"):
            storage.begin_snapshot(0)
        with pytest.raises(StorageError, match="needs a snapshot"):
            storage.append(leader.txns[:1])
        # It promises the leader to follow nobody older, then dies before it has its snapshot.
        storage.write_accepted_epoch(1)
        storage.crash()
    assert storage.recover().is_trusted is False
    take_snapshot(storage, leader.tree, replaces_history=True)
    recovery = storage.recover()
    assert recovery.is_trusted
    assert rows(rebuild(recovery)) == rows(leader.tree)
    assert (storage.last_zxid, storage.accepted_epoch, storage.current_epoch) == (E1 + 20, 1, 1)
    storage.append(leader.grow(3))
    storage.close()
    assert rows(start(storage)) == rows(leader.tree)


def test_a_transaction_that_is_none_is_named(storage: Storage, history: History) -> None:
    start(storage)
    storage.append(history.grow(3))
    # Right checksum, right zxid, and a type that no transaction has.
    payload = bytearray(history.grow(1)[0].payload)
    payload[28:32] = (77).to_bytes(4, "big")
    storage.append([LoggedTxn(4, bytes(payload))])
    storage.close()
    recovery = storage.recover()
    txns = list(recovery.txns)
    name, offset = recovery.locate(4)
    with pytest.raises(CorruptLogError, match="transaction 0x4 cannot be decoded: 77 is no type") as caught:
        recovery.decode(txns[3])
    assert (caught.value.name, caught.value.offset) == (name, offset)
    assert name in ("log.1", "the log in memory")
    assert recovery.decode(txns[2]).header.zxid == 3


def test_a_cut_ends_reading(storage: Storage, history: History) -> None:
    start(storage)
    storage.append(history.grow(600))
    txns = storage.read_after(0)
    assert next(txns) == history.txns[0]
    storage.truncate_to(300)
    with pytest.raises(HistoryUnavailableError, match="cut while it was read"):
        list(txns)


def test_a_report_is_readable() -> None:
    report = RecoveryReport("snapshot.5", 5, 12, 7, 2)
    report.torn.append(TornTail("log.6", 400, 20, "the last record misses some of its 60 bytes"))
    report.skipped.append(SkippedSnapshot("snapshot.9", 9, "snapshot.9 is damaged at byte 3: cut"))
    report.removed.append("unfinished-log.d")
    assert report.lines() == [
        "recovered 0xc from snapshot.5 and 7 logged transactions",
        "snapshot.9 cannot be used: snapshot.9 is damaged at byte 3: cut",
        "log.6 ended in a torn write at byte 400: the last record misses some of its 60 bytes; 20 bytes left out",
        "2 transactions stood in the log twice",
        "removed unfinished-log.d",
    ]
