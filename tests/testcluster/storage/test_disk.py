"""What only the storage on disk does: threads, group commit, files, locks, failing disks."""

from __future__ import annotations

import errno
import os
import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from terzetto.testcluster.storage.disk import DiskOptions, DiskStorage, write_myid
from terzetto.testcluster.storage.errors import (
    DataDirectoryError,
    HistoryUnavailableError,
    StorageError,
    StorageFailedError,
)

from .histories import History, rows, start, take_snapshot

_OPTIONS = DiskOptions(preallocation=1 << 14)
_DEADLINE = 20.0


@pytest.fixture
def storage(tmp_path: Path) -> DiskStorage:
    return DiskStorage(tmp_path, None, _OPTIONS)


@pytest.fixture
def history() -> History:
    return History(random.Random(6))


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in (directory / "version-2").iterdir())


class Flushes:
    """Stands between the product and the system's flush: counts, holds back, fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.error: OSError | None = None
        self.entered = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()
        monkeypatch.setattr(os, "fdatasync", self._flush)

    def _flush(self, fd: int) -> None:
        self.count += 1
        self.entered.set()
        if not self.go_on.wait(_DEADLINE):
            raise TimeoutError("nobody let the flush go on")
        if self.error is not None:
            raise self.error
        os.fsync(fd)


def test_nothing_is_touched_before_recovery(tmp_path: Path) -> None:
    DiskStorage(tmp_path / "data", tmp_path / "log")
    assert list(tmp_path.iterdir()) == []


def test_files_have_zookeepers_names(tmp_path: Path, history: History) -> None:
    storage = DiskStorage(tmp_path / "data", tmp_path / "log", _OPTIONS)
    start(storage)
    storage.append(history.grow(17))
    take_snapshot(storage, history.tree)
    storage.append(history.grow(3))
    storage.write_accepted_epoch(2)
    storage.close()
    assert names(tmp_path / "data") == ["acceptedEpoch", "snapshot.0", "snapshot.11"]
    assert names(tmp_path / "log") == ["log.1", "log.12"]


def test_one_flush_serves_everything_appended_before(
    storage: DiskStorage, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(storage)
    storage.append(history.grow(1))
    storage.sync()
    flushes = Flushes(monkeypatch)
    for _ in range(50):
        storage.append(history.grow(1))
    assert flushes.count == 0
    assert storage.sync() == 51
    assert flushes.count == 1
    storage.sync()
    assert flushes.count == 1
    storage.close()


def test_appending_does_not_wait_for_a_flush(
    storage: DiskStorage, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(storage)
    storage.append(history.grow(1))
    storage.sync()
    flushes = Flushes(monkeypatch)
    flushes.go_on.clear()
    storage.append(history.grow(2))
    results: list[int] = []
    thread = threading.Thread(target=lambda: results.append(storage.sync()))
    thread.start()
    assert flushes.entered.wait(_DEADLINE)
    storage.append(history.grow(3))
    assert (storage.last_zxid, storage.durable_zxid) == (6, 1)
    flushes.go_on.set()
    thread.join(_DEADLINE)
    # What came while the flush ran was not in what it flushed.
    assert results == [3]
    assert (storage.last_zxid, storage.durable_zxid) == (6, 3)
    assert storage.sync() == 6
    storage.close()


def test_a_crash_during_a_flush_keeps_a_beginning(
    storage: DiskStorage, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(storage)
    storage.append(history.grow(5))
    storage.sync()
    flushes = Flushes(monkeypatch)
    flushes.error = OSError(errno.EIO, "broken")
    storage.append(history.grow(5))
    with pytest.raises(StorageFailedError):
        storage.sync()
    flushes.error = None
    storage.crash()
    assert start(storage).last_zxid in range(5, 11)
    storage.close()


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_after_a_failed_flush_nothing_is_promised_any_more(
    storage: DiskStorage, history: History, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    start(storage)
    storage.append(history.grow(5))
    storage.sync()
    flushes = Flushes(monkeypatch)
    flushes.error = OSError(code, os.strerror(code))
    storage.append(history.grow(5))
    with pytest.raises(StorageFailedError, match=os.strerror(code)) as caught:
        storage.sync()
    assert isinstance(caught.value.__cause__, OSError)
    assert storage.durable_zxid == 5
    # The system may have dropped what it could not write: another flush that succeeds would prove nothing.
    flushes.error = None
    for call in (
        storage.sync,
        lambda: storage.append(history.grow(1)),
        lambda: storage.begin_snapshot(5),
        lambda: storage.write_accepted_epoch(1),
        lambda: storage.read_after(1),
        storage.purge,
        storage.recover,
    ):
        with pytest.raises(StorageFailedError, match="close the storage and recover"):
            call()
    storage.close()
    assert start(storage).last_zxid in range(5, 11)
    storage.close()


def test_a_full_disk_fails_the_write(storage: DiskStorage, history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    start(storage)
    storage.append(history.grow(5))
    storage.sync()
    real = os.pwrite

    def half(fd: int, data: bytes, position: int) -> int:
        if len(data) < 20:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(fd, bytes(data[: len(data) // 2]), position)

    monkeypatch.setattr(os, "pwrite", half)
    storage.append(history.grow(5))
    with pytest.raises(StorageFailedError, match=os.strerror(errno.ENOSPC)):
        storage.sync()
    storage.close()
    monkeypatch.setattr(os, "pwrite", real)
    recovery = storage.recover()
    found = list(recovery.txns)
    assert found == history.txns[: len(found)]
    assert len(found) >= 5
    assert len(recovery.report.torn) == 1
    storage.append(history.txns[len(found) :])
    storage.close()
    assert rows(start(storage)) == rows(history.tree)
    storage.close()


def test_short_writes_are_continued(storage: DiskStorage, history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    start(storage)
    real = os.pwrite

    def seven_bytes(fd: int, data: memoryview, position: int) -> int:
        return real(fd, data[:7], position)

    monkeypatch.setattr(os, "pwrite", seven_bytes)
    storage.append(history.grow(20))
    storage.close()
    assert rows(start(storage)) == rows(history.tree)
    storage.close()


def test_a_snapshot_on_a_full_disk_is_no_reason_to_stop(
    storage: DiskStorage, history: History, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    start(storage)
    storage.append(history.grow(5))
    writer = storage.begin_snapshot(5)
    real = os.pwrite

    def full(fd: int, data: bytes, position: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        writer.write(b"ZKSN")
    writer.abort()
    monkeypatch.setattr(os, "pwrite", real)
    assert storage.sync() == 5
    assert names(tmp_path) == ["log.1", "snapshot.0"]
    storage.close()


def test_without_force_nothing_is_flushed(tmp_path: Path, history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = DiskStorage(tmp_path, None, DiskOptions(force_sync=False))
    start(storage)
    flushes = Flushes(monkeypatch)
    storage.append(history.grow(5))
    assert storage.sync() == 5
    storage.append(history.grow(5))
    assert storage.sync() == 10
    assert flushes.count == 0
    storage.close()


def test_what_was_recovered_is_flushed_before_anything_is_served(
    storage: DiskStorage, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that was killed may have left in the system's memory what it had not flushed."""
    start(storage)
    storage.append(history.grow(5))
    storage.close()
    flushed: list[str] = []

    def note(fd: int) -> None:
        flushed.append(Path(os.readlink(f"/proc/self/fd/{fd}")).name)

    monkeypatch.setattr(os, "fdatasync", note)
    start(storage)
    assert flushed == ["log.1"]
    storage.close()


def test_two_storages_cannot_share_a_directory(storage: DiskStorage, tmp_path: Path) -> None:
    start(storage)
    other = DiskStorage(tmp_path)
    with pytest.raises(DataDirectoryError, match="in use by another server"):
        other.recover()
    elsewhere = DiskStorage(tmp_path / "elsewhere", tmp_path)
    with pytest.raises(DataDirectoryError, match="in use by another server"):
        elsewhere.recover()
    storage.close()
    start(other)
    other.close()
    storage.crash()
    start(storage)
    storage.close()


def test_a_recovery_that_was_overtaken_is_void(storage: DiskStorage, history: History) -> None:
    start(storage)
    storage.append(history.grow(5))
    storage.close()
    first = storage.recover()
    start(storage)
    with pytest.raises(StorageError, match="recovered, cut or closed meanwhile"):
        list(first.txns)
    assert storage.sync() == 5
    storage.close()


def test_reading_while_the_log_grows_and_rolls(storage: DiskStorage, history: History) -> None:
    start(storage)
    storage.append(history.grow(1000))
    txns = storage.read_after(400)
    found = [next(txns) for _ in range(10)]
    storage.append(history.grow(100))
    storage.sync()
    take_snapshot(storage, history.tree)
    storage.append(history.grow(100))
    storage.sync()
    found += txns
    assert found == history.txns[400:1000]
    assert list(storage.read_after(1000)) == history.txns[1000:]
    storage.close()


def test_reading_what_is_purged_meanwhile(storage: DiskStorage, history: History) -> None:
    start(storage)
    for _ in range(5):
        storage.append(history.grow(300))
        take_snapshot(storage, history.tree)
    txns = storage.read_after(100)
    assert next(txns) == history.txns[100]
    storage.purge()
    with pytest.raises(HistoryUnavailableError, match=r"log.12d was purged"):
        list(txns)
    storage.close()


def test_a_purge_keeps_three_whole_snapshots(storage: DiskStorage, history: History, tmp_path: Path) -> None:
    start(storage)
    for _ in range(5):
        storage.append(history.grow(16))
        take_snapshot(storage, history.tree)
    folder = tmp_path / "version-2"
    data = (folder / "snapshot.40").read_bytes()
    (folder / "snapshot.40").write_bytes(data[:50])
    # The damaged one is no help, so one more is kept; it goes with those that are too old.
    assert storage.purge() == ["snapshot.10", "snapshot.0", "log.1"]
    assert names(tmp_path) == [
        *("log.11", "log.21", "log.31", "log.41"),
        *("snapshot.20", "snapshot.30", "snapshot.40", "snapshot.50"),
    ]
    assert storage.purge() == []
    storage.close()
    assert rows(start(storage)) == rows(history.tree)
    storage.close()


def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match="at least 3 snapshots must be retained, not 2"):
        DiskOptions(retain=2)
    with pytest.raises(ValueError, match="cannot grow by -1 bytes"):
        DiskOptions(preallocation=-1)
    with pytest.raises(ValueError, match="snapshots cannot be written with 'snappy'"):
        DiskOptions(compression="snappy")


def test_myid(tmp_path: Path) -> None:
    write_myid(tmp_path / "data", 3)
    assert [(path.name, path.read_bytes()) for path in (tmp_path / "data").iterdir()] == [("myid", b"3\n")]


def test_many_threads(storage: DiskStorage) -> None:
    """One thread appends, others sync, read and take snapshots; whatever was called durable is there in the end."""
    history = History(random.Random(8))
    start(storage)
    stop = threading.Event()
    failures: list[BaseException] = []
    durable: list[int] = []

    def guarded(work: Callable[[], None]) -> None:
        try:
            while not stop.is_set():
                work()
        except BaseException as error:
            failures.append(error)
            raise

    def sync() -> None:
        durable.append(storage.sync())

    def read() -> None:
        zxids = [txn.zxid for txn in storage.read_after(0)]
        assert zxids == list(range(1, len(zxids) + 1))

    threads = [threading.Thread(target=guarded, args=(work,)) for work in (sync, sync, read)]
    for thread in threads:
        thread.start()
    for number in range(300):
        storage.append(history.grow(3))
        if number % 100 == 50:
            take_snapshot(storage, history.tree)
    stop.set()
    for thread in threads:
        thread.join(_DEADLINE)
    assert failures == []
    storage.crash()
    tree = start(storage)
    assert tree.last_zxid >= max(durable)
    assert list(storage.read_after(0)) == history.txns[: tree.last_zxid]
    storage.close()
