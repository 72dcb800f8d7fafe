"""What only the storage in memory does: crashes by choice, and a size."""

from __future__ import annotations

import random

import pytest

from terzetto.testcluster.storage.errors import CorruptSnapshotError, HistoryUnavailableError, StorageError
from terzetto.testcluster.storage.memory import MemoryStorage
from terzetto.testcluster.storage.snapshot import encode_snapshot

from .histories import History, rows, start, take_snapshot


@pytest.mark.parametrize("survivors", [0, 1, 3, 5, 9])
def test_a_crash_keeps_the_synced_part_and_as_much_more_as_it_is_told(survivors: int) -> None:
    storage, history = MemoryStorage(), History(random.Random(1))
    start(storage)
    storage.append(history.grow(10))
    storage.sync()
    storage.append(history.grow(5))
    storage.crash(survivors)
    start(storage)
    expected = 10 + min(survivors, 5)
    assert (storage.last_zxid, storage.durable_zxid) == (expected, expected)
    assert list(storage.read_after(0)) == history.txns[:expected]


def test_nothing_survives_less_than_nothing() -> None:
    with pytest.raises(ValueError, match="-1 transactions cannot survive"):
        MemoryStorage().crash(-1)


def test_a_crash_takes_unfinished_snapshots() -> None:
    storage, history = MemoryStorage(), History(random.Random(1))
    start(storage)
    storage.append(history.grow(3))
    writer = storage.begin_snapshot(3)
    storage.crash()
    start(storage)
    with pytest.raises(StorageError, match="recovered, cut or closed"):
        writer.commit()


def test_trees_share_nothing() -> None:
    storage, history = MemoryStorage(), History(random.Random(1))
    start(storage)
    storage.append(history.grow(20))
    take_snapshot(storage, history.tree)
    before = rows(history.tree)
    history.grow(20)
    storage.close()
    assert rows(start(storage)) == before


def test_memory_stays_bounded() -> None:
    storage, history = MemoryStorage(), History(random.Random(1))
    start(storage)
    sizes: list[int] = []
    txn = history.create("/a", bytes(1000))
    storage.append([txn])
    for _ in range(5):
        for _ in range(50):
            storage.append([history.set_data("/a", bytes(1000))])
        take_snapshot(storage, history.tree)
        storage.purge()
        sizes.append(storage.size)
    assert max(sizes) - min(sizes) < 100
    assert max(sizes) < 3000


def test_retained_snapshots_keep_their_transactions() -> None:
    storage, history = MemoryStorage(retain=2), History(random.Random(1))
    start(storage)
    for _ in range(4):
        storage.append(history.grow(10))
        take_snapshot(storage, history.tree)
    assert sorted(storage.purge()) == ["snapshot.0", "snapshot.14", "snapshot.a"]
    assert list(storage.read_after(30)) == history.txns[30:]
    with pytest.raises(HistoryUnavailableError):
        storage.read_after(29)
    with pytest.raises(ValueError, match="at least one"):
        MemoryStorage(retain=0)


def test_a_snapshot_without_digest_is_no_place_to_cut_back_to() -> None:
    storage, history = MemoryStorage(), History(random.Random(1))
    list(storage.recover().txns)
    writer = storage.begin_snapshot(0)
    for piece in encode_snapshot([], history.tree.acls.dump(), history.tree.walk(), lambda: None):
        writer.write(piece)
    writer.commit()
    storage.append(history.grow(3))
    with pytest.raises(HistoryUnavailableError, match="every snapshot may hold something later"):
        storage.truncate_to(2)
    assert storage.sync() == 3


def test_half_a_snapshot_is_found_out() -> None:
    storage = MemoryStorage()
    list(storage.recover().txns)
    writer = storage.begin_snapshot(0)
    writer.write(b"ZKSN")
    writer.commit()
    with pytest.raises(CorruptSnapshotError):
        storage.recover()
