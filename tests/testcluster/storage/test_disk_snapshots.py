"""Snapshots as files."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from terzetto.testcluster.storage.disk_snapshots import DiskSnapshotWriter, Rename, is_whole, read_snapshot
from terzetto.testcluster.storage.errors import CorruptSnapshotError, StorageError
from terzetto.testcluster.storage.names import SnapshotName, snapshots
from tests.vectors.disk import directories

from .histories import History, snapshot_pieces


def publish(rename: Rename) -> None:
    rename("")


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.mark.parametrize(("method", "name"), [("", "snapshot.1e"), ("gz", "snapshot.1e.gz")])
def test_a_snapshot_appears_when_it_is_whole(tmp_path: Path, method: str, name: str) -> None:
    history = History(random.Random(2))
    history.grow(30)
    writer = DiskSnapshotWriter(tmp_path, 30, method, publish)
    for piece in snapshot_pieces(history.tree, 100):
        writer.write(piece)
        assert names(tmp_path) == [f"unfinished-{name}"]
    writer.commit()
    writer.abort()
    assert names(tmp_path) == [name]
    found = SnapshotName(30, Path(name).suffix if method else "", name)
    assert is_whole(tmp_path, found)
    snapshot = read_snapshot(tmp_path, found)
    assert snapshot.zxid == 30
    assert snapshot.nodes == list(history.tree.walk())


def test_a_name_stands_for_something_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, list[str]]] = []

    def note(kind: str, _fd: int) -> None:
        seen.append((kind, names(tmp_path)))

    monkeypatch.setattr(os, "fdatasync", partial(note, "file"))
    monkeypatch.setattr(os, "fsync", partial(note, "directory"))
    writer = DiskSnapshotWriter(tmp_path, 1, "", publish)
    writer.write(b"x")
    writer.commit()
    assert seen == [("file", ["unfinished-snapshot.1"]), ("directory", ["snapshot.1"])]


def test_an_aborted_snapshot_leaves_nothing(tmp_path: Path) -> None:
    writer = DiskSnapshotWriter(tmp_path, 30, "", publish)
    writer.write(b"half")
    writer.abort()
    assert names(tmp_path) == []
    calls: list[Callable[[], None]] = [lambda: writer.write(b""), writer.commit]
    for call in calls:
        with pytest.raises(StorageError, match="committed or aborted already"):
            call()


def test_a_snapshot_that_cannot_be_published_leaves_nothing(tmp_path: Path) -> None:
    def refuse(_: Rename) -> None:
        raise StorageError("no")

    writer = DiskSnapshotWriter(tmp_path, 30, "", refuse)
    with pytest.raises(StorageError, match="no"):
        writer.commit()
    assert names(tmp_path) == []


@pytest.mark.parametrize("suffix", ["", ".gz", ".snappy"])
def test_a_snapshot_that_was_cut_is_not_whole(tmp_path: Path, suffix: str) -> None:
    folder = directories()[-1].path / "version-2"
    source = next(name for name in snapshots(names(folder)) if name.suffix == suffix)
    data = (folder / source.name).read_bytes()
    name = SnapshotName(5, suffix, f"snapshot.5{suffix}")
    # Without its digest and the seal behind that, an uncompressed one is whole.
    sections = 33
    for size in (*range(0, len(data) - sections, 37), *range(len(data) - sections + 1, len(data))):
        (tmp_path / name.name).write_bytes(data[:size])
        assert not is_whole(tmp_path, name), size
        with pytest.raises(CorruptSnapshotError) as caught:
            read_snapshot(tmp_path, name)
        assert caught.value.name == name.name
    (tmp_path / name.name).write_bytes(data)
    assert is_whole(tmp_path, name)
    assert read_snapshot(tmp_path, name).zxid == 5


def test_a_snapshot_that_is_gone_is_not_whole(tmp_path: Path) -> None:
    assert not is_whole(tmp_path, SnapshotName(5, "", "snapshot.5"))
