"""Recovery: from Java's directories, over torn tails, and refusals where something may be lost."""

from __future__ import annotations

import random
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from terzetto.testcluster.datatree import DataTree
from terzetto.testcluster.storage.disk import DiskOptions, DiskStorage
from terzetto.testcluster.storage.disk_recovery import Directories
from terzetto.testcluster.storage.errors import (
    CorruptLogError,
    DataDirectoryError,
    MissingTxnsError,
    NoUsableSnapshotError,
)
from terzetto.testcluster.storage.interface import RecoveryReport
from terzetto.testcluster.storage.txnlog import HEADER, LoggedTxn, encode_records
from tests.vectors.disk import GoldenDirectory, directories

from .histories import History, as_golden, rebuild, rows, snapshot_pieces, start

_STANDALONE = DiskOptions(force_sync=False, preallocation=0)


def content(txns: Sequence[LoggedTxn]) -> bytes:
    return HEADER + encode_records(txn.payload for txn in txns)


class Directory:
    """A data directory made file by file.

    Attributes:
        folder: version-2.
        history: what the files are made of; 30 transactions to begin with.
    """

    def __init__(self, path: Path, seed: int = 4) -> None:
        self.path = path
        self.folder = path / "version-2"
        self.folder.mkdir()
        self.history = History(random.Random(seed))
        self.put_snapshot()
        self.history.grow(30)
        self.txns = self.history.txns

    def put_snapshot(self, name: str | None = None) -> None:
        data = b"".join(snapshot_pieces(self.history.tree))
        (self.folder / (name or f"snapshot.{self.history.tree.last_zxid:x}")).write_bytes(data)

    def put_log(self, first: int, last: int, tail: bytes = b"") -> Path:
        """A log with the transactions from the first to the last, both counted from 1."""
        path = self.folder / f"log.{first:x}"
        path.write_bytes(content(self.txns[first - 1 : last]) + tail)
        return path

    def recover(self, options: DiskOptions = _STANDALONE) -> tuple[DataTree, RecoveryReport]:
        storage = DiskStorage(self.path, None, options)
        try:
            recovery = storage.recover()
            return rebuild(recovery), recovery.report
        finally:
            storage.close()

    def names(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    return Directory(tmp_path)


# -- whether an empty directory is a new server's

_MEMBER = DiskOptions(force_sync=False, preallocation=0, replicated=True, autocreate=False)


def is_trusted(path: Path, options: DiskOptions) -> bool:
    storage = DiskStorage(path, None, options)
    try:
        recovery = storage.recover()
        list(recovery.txns)
        return recovery.is_trusted
    finally:
        storage.crash()


def test_an_empty_directory_is_trusted_by_default_and_on_a_server_of_its_own(tmp_path: Path) -> None:
    assert is_trusted(tmp_path, DiskOptions(replicated=True))
    assert is_trusted(tmp_path, DiskOptions(autocreate=False))
    assert not is_trusted(tmp_path, _MEMBER)


def test_a_file_makes_an_empty_directory_trusted_until_it_is_not_empty(tmp_path: Path) -> None:
    flag = tmp_path / "initialize"
    flag.touch()
    assert is_trusted(tmp_path, _MEMBER)
    # It died before its first snapshot, and is as new as before.
    assert flag.exists()
    storage = DiskStorage(tmp_path, None, _MEMBER)
    start(storage)
    assert not flag.exists()
    storage.close()
    assert is_trusted(tmp_path, _MEMBER)
    for path in (tmp_path / "version-2").iterdir():
        path.unlink()
    assert not is_trusted(tmp_path, _MEMBER)


def test_the_file_goes_where_there_is_data(directory: Directory) -> None:
    flag = directory.path / "initialize"
    flag.touch()
    directory.put_log(1, 30)
    directory.recover(_MEMBER)
    assert not flag.exists()


def test_a_first_snapshot_that_a_crash_cut_short_is_no_loss(directory: Directory) -> None:
    (directory.folder / "snapshot.0").write_bytes(b"ZKSN")
    assert is_trusted(directory.path, _MEMBER)


def test_a_log_without_any_snapshot_is_no_empty_directory(directory: Directory) -> None:
    (directory.folder / "snapshot.0").unlink()
    directory.put_log(1, 30)
    with pytest.raises(NoUsableSnapshotError):
        is_trusted(directory.path, _MEMBER)
    assert is_trusted(directory.path, replace(_MEMBER, trust_empty=True))


# -- what Java left


@pytest.mark.parametrize("golden", directories(), ids=lambda golden: golden.path.name)
def test_a_directory_of_java_gives_the_tree_that_its_clients_saw(golden: GoldenDirectory, tmp_path: Path) -> None:
    shutil.copytree(golden.path / "version-2", tmp_path / "version-2")
    before = {path.name: path.read_bytes() for path in (tmp_path / "version-2").iterdir()}
    storage = DiskStorage(tmp_path)
    recovery = storage.recover()
    tree = rebuild(recovery)
    assert storage.last_zxid == tree.last_zxid == golden.last_zxid
    assert len(recovery.report.lines()) == 1
    assert recovery.report.replayed == golden.last_zxid - recovery.report.snapshot_zxid
    assert as_golden(tree) == golden.znodes
    assert (storage.accepted_epoch, storage.current_epoch) == (0, 0)
    storage.close()
    # Nothing was out of order, so nothing was touched.
    assert {path.name: path.read_bytes() for path in (tmp_path / "version-2").iterdir()} == before


@pytest.mark.parametrize("golden", directories(), ids=lambda golden: golden.path.name)
def test_any_snapshot_of_java_leads_to_the_same_tree(golden: GoldenDirectory, tmp_path: Path) -> None:
    shutil.copytree(golden.path / "version-2", tmp_path / "version-2")
    storage = DiskStorage(tmp_path)
    used: list[str] = []
    while True:
        recovery = storage.recover()
        assert as_golden(rebuild(recovery)) == golden.znodes
        used.append(str(recovery.report.snapshot))
        if used[-1] == "snapshot.0":
            break
        (tmp_path / "version-2" / used[-1]).unlink()
    storage.close()
    assert len(used) == len(list((golden.path / "version-2").glob("snapshot.*")))


# -- the ordinary


def test_a_log_is_continued_in_a_new_file(directory: Directory) -> None:
    directory.put_log(1, 30)
    storage = DiskStorage(directory.path, None, _STANDALONE)
    start(storage)
    storage.append(directory.history.grow(5))
    storage.close()
    assert directory.names() == ["log.1", "log.1f", "snapshot.0"]
    assert rows(directory.recover()[0]) == rows(directory.history.tree)


def test_several_logs(directory: Directory) -> None:
    directory.put_log(1, 12)
    directory.put_log(13, 30)
    for _ in range(2):
        tree, report = directory.recover()
        assert rows(tree) == rows(directory.history.tree)
        assert report.lines() == ["recovered 0x1e from snapshot.0 and 30 logged transactions"]


def test_what_a_crash_left_half_done_is_removed(directory: Directory) -> None:
    directory.put_log(1, 30)
    (directory.folder / "unfinished-log.1f").write_bytes(b"x")
    (directory.folder / "unfinished-snapshot.1e.gz").write_bytes(b"x")
    (directory.folder / "other").write_bytes(b"x")
    _, report = directory.recover()
    assert report.removed == ["unfinished-log.1f", "unfinished-snapshot.1e.gz"]
    assert directory.names() == ["log.1", "other", "snapshot.0"]


def test_separate_directories_must_not_be_mixed_up(directory: Directory, tmp_path: Path) -> None:
    directory.put_log(1, 30)
    for data, logs, misplaced in (
        (tmp_path, tmp_path / "logs", "log.1"),
        (tmp_path / "data", tmp_path, "snapshot.0"),
    ):
        storage = DiskStorage(data, logs)
        with pytest.raises(DataDirectoryError, match=rf"version-2 holds {misplaced}, but (logs|snapshots) belong to"):
            storage.recover()
        storage.close()


def test_directories_are_zookeepers() -> None:
    assert Directories.of(Path("d"), None) == Directories(Path("d/version-2"), Path("d/version-2"))
    assert Directories.of(Path("d"), Path("l")) == Directories(Path("d/version-2"), Path("l/version-2"))


# -- torn tails


@pytest.mark.parametrize("padding", [0, 5000])
def test_a_torn_write_is_cut_off_and_reported(directory: Directory, padding: int) -> None:
    whole = len(content(directory.txns[:29]))
    last = encode_records([directory.txns[29].payload])
    expected = None
    for size in range(1, len(last)):
        path = directory.put_log(1, 29, last[:size] + bytes(padding))
        tree, report = directory.recover()
        if not any(last[:size]):
            assert report.torn == []
            continue
        (torn,) = report.torn
        assert (torn.name, torn.offset, torn.size) == ("log.1", whole, len(last[:size].rstrip(b"\0")))
        assert path.read_bytes() == content(directory.txns[:29])
        assert (tree.last_zxid, report.last_zxid, report.replayed) == (29, 29, 29)
        assert "log.1 ended in a torn write at byte" in report.lines()[1]
        expected = expected or rows(tree)
        assert rows(tree) == expected
        assert directory.recover()[1].torn == []


def test_a_torn_write_that_was_written_again_is_no_gap(directory: Directory) -> None:
    directory.put_log(1, 12, encode_records([directory.txns[12].payload])[:-1])
    directory.put_log(13, 30)
    tree, report = directory.recover()
    assert rows(tree) == rows(directory.history.tree)
    assert [torn.name for torn in report.torn] == ["log.1"]


@pytest.mark.parametrize("data", [b"", HEADER[:7], bytes(4000), HEADER[:4] + bytes(4000)])
def test_a_log_without_content_is_removed(directory: Directory, data: bytes) -> None:
    directory.put_log(1, 30)
    (directory.folder / "log.1f").write_bytes(data)
    tree, report = directory.recover()
    assert rows(tree) == rows(directory.history.tree)
    assert report.removed == ["log.1f"]
    assert directory.names() == ["log.1", "snapshot.0"]


def test_a_log_with_a_header_only_is_empty(directory: Directory) -> None:
    directory.put_log(1, 30)
    directory.put_log(31, 31)
    tree, report = directory.recover()
    assert rows(tree) == rows(directory.history.tree)
    assert len(report.lines()) == 1


# -- damage and loss


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 0x10
    path.write_bytes(bytes(data))


def test_damage_in_a_log_is_refused_and_nothing_is_changed(directory: Directory) -> None:
    first, second = directory.put_log(1, 12), directory.put_log(13, 30)
    for path, position in ((first, 100), (first, len(content(directory.txns[:11])) + 30), (second, 500)):
        good = path.read_bytes()
        flip(path, position)
        before = {name: (directory.folder / name).read_bytes() for name in directory.names()}
        with pytest.raises(CorruptLogError) as caught:
            directory.recover()
        assert caught.value.name == path.name
        assert caught.value.offset <= position
        assert {name: (directory.folder / name).read_bytes() for name in directory.names()} == before
        path.write_bytes(good)
    assert rows(directory.recover()[0]) == rows(directory.history.tree)


@pytest.mark.parametrize(
    ("logs", "found", "last"),
    [
        ([(1, 10), (12, 30)], 12, 10),
        ([(2, 30)], 2, 0),
        ([(1, 10), (11, 15), (20, 30)], 20, 15),
    ],
)
def test_a_missing_part_is_refused(directory: Directory, logs: list[tuple[int, int]], found: int, last: int) -> None:
    for first, until in logs:
        directory.put_log(first, until)
    with pytest.raises(
        MissingTxnsError, match=rf"log.{found:x}: .* is 0x{found:x}, but the history before it ends with 0x{last:x}"
    ):
        directory.recover()


def test_an_epoch_that_does_not_begin_at_its_beginning_is_refused(directory: Directory) -> None:
    directory.put_log(1, 30)
    directory.history.next_epoch()
    later = directory.history.grow(3)
    (directory.folder / "log.100000002").write_bytes(content(later[1:]))
    with pytest.raises(MissingTxnsError, match="0x100000002"):
        directory.recover()
    (directory.folder / "log.100000001").write_bytes(content(later[:1]))
    assert rows(directory.recover()[0]) == rows(directory.history.tree)


def test_transactions_logged_twice_are_given_once(directory: Directory) -> None:
    directory.put_log(1, 12)
    directory.put_log(9, 30)
    path = directory.folder / "log.d"
    path.write_bytes(content(directory.txns[12:30]))
    tree, report = directory.recover()
    assert rows(tree) == rows(directory.history.tree)
    assert report.replayed == 30
    assert report.repeated == 4 + 18


def test_two_transactions_under_one_zxid_are_refused(directory: Directory) -> None:
    other = History(random.Random(77))
    other.grow(12)
    directory.put_log(1, 12)
    (directory.folder / "log.9").write_bytes(content([*other.txns[8:12], *directory.txns[12:]]))
    with pytest.raises(CorruptLogError, match=r"log.9 is damaged at byte 16: transaction 0x9 is another one than"):
        directory.recover()


# -- snapshots


def test_an_older_snapshot_serves_when_the_newest_is_damaged(directory: Directory) -> None:
    directory.put_log(1, 30)
    directory.put_snapshot()
    directory.history.grow(5)
    directory.put_log(31, 35)
    damaged = directory.folder / "snapshot.1e"
    for change in (lambda: flip(damaged, 200), lambda: damaged.write_bytes(damaged.read_bytes()[:100])):
        change()
        tree, report = directory.recover()
        assert rows(tree) == rows(directory.history.tree)
        assert report.snapshot == "snapshot.0"
        assert [skipped.name for skipped in report.skipped] == ["snapshot.1e"]
        assert "snapshot.1e cannot be used: snapshot.1e is damaged at byte" in report.lines()[1]


def test_a_damaged_snapshot_shows_how_far_the_history_went(directory: Directory) -> None:
    directory.put_log(1, 20)
    directory.put_snapshot()
    flip(directory.folder / "snapshot.1e", 200)
    with pytest.raises(
        MissingTxnsError, match=r"snapshot.1e cannot be read, and the logs end with 0x14, but there was"
    ):
        directory.recover()


def test_a_snapshot_alone_is_enough(directory: Directory) -> None:
    directory.put_snapshot()
    tree, report = directory.recover()
    assert rows(tree) == rows(directory.history.tree)
    assert report.last_zxid == 30


def test_no_good_snapshot(directory: Directory) -> None:
    directory.put_log(1, 30)
    (directory.folder / "snapshot.0").unlink()
    with pytest.raises(NoUsableSnapshotError, match=r"log.1 begins with transaction 0x1, but there is no snapshot"):
        directory.recover()
    trusting = DiskOptions(force_sync=False, trust_empty=True)
    assert rows(directory.recover(trusting)[0]) == rows(directory.history.tree)
    directory.put_snapshot()
    flip(directory.folder / "snapshot.1e", 200)
    for options in (_STANDALONE, trusting):
        with pytest.raises(NoUsableSnapshotError, match=r"no snapshot in .* can be read: snapshot.1e is damaged"):
            directory.recover(options)


def test_a_damaged_first_snapshot_loses_nothing(directory: Directory) -> None:
    directory.put_log(1, 30)
    (directory.folder / "snapshot.0").write_bytes(b"ZKSN")
    tree, report = directory.recover()
    assert rows(tree) == rows(directory.history.tree)
    assert report.snapshot is None


def test_a_snapshot_with_traces_of_what_the_log_lacks(directory: Directory) -> None:
    tree = directory.history.tree
    # Fuzzy: begun at 30, ended at 33.
    pieces: list[bytes] = []
    for number, piece in enumerate(snapshot_pieces(tree, 400)):
        pieces.append(piece)
        if number < 3:
            directory.history.grow(1)
    (directory.folder / "snapshot.1e").write_bytes(b"".join(pieces))
    directory.put_log(1, 32)
    with pytest.raises(MissingTxnsError, match=r"snapshot.1e holds traces of transactions up to 0x21, but .* 0x20"):
        directory.recover()
    # A follower may apply what its leader has committed before it has it in its own log: the leader sends it again.
    storage = DiskStorage(directory.path, None, DiskOptions(force_sync=False, replicated=True))
    for _ in storage.recover().txns:
        pass
    assert storage.last_zxid == 32
    storage.close()
    directory.put_log(33, 33)
    assert rows(directory.recover()[0]) == rows(tree)


def test_java_has_no_snapshot_and_no_log_before_its_first_start(tmp_path: Path) -> None:
    (tmp_path / "myid").write_text("1\n")
    storage = DiskStorage(tmp_path)
    recovery = storage.recover()
    assert (recovery.snapshot, list(recovery.txns)) == (None, [])
    storage.close()
    assert sorted(path.name for path in (tmp_path / "version-2").iterdir()) == []


@pytest.mark.parametrize("cut", [False, True])
def test_reading_may_stop_early(directory: Directory, cut: bool) -> None:
    directory.put_log(1, 30)
    storage = DiskStorage(directory.path, None, _STANDALONE)
    txns = storage.recover().txns
    assert next(txns) == directory.txns[0]
    if cut:
        storage.close()
    del txns
    assert rows(start(storage)) == rows(directory.history.tree)
    storage.close()
