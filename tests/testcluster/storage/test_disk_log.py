"""Logs as files: names, sizes, when a file begins and ends."""

from __future__ import annotations

import os
import random
from functools import partial
from pathlib import Path

import pytest

from terzetto.testcluster.storage.disk_log import LogWriter, open_log
from terzetto.testcluster.storage.txnlog import HEADER, LoggedTxn, encode_records

from .histories import History

MIB = 1 << 20


def writer_in(directory: Path, *, preallocation: int = 0, size_max: int | None = None) -> LogWriter:
    return LogWriter(directory, preallocation=preallocation, size_max=size_max, force_sync=True)


def txns(count: int) -> list[LoggedTxn]:
    history = History(random.Random(5))
    return [history.create(f"/{i}", bytes(50)) for i in range(count)]


def content(*written: LoggedTxn) -> bytes:
    return HEADER + encode_records(txn.payload for txn in written)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_log_is_named_by_its_first_transaction(tmp_path: Path) -> None:
    writer = writer_in(tmp_path)
    written = txns(20)
    assert names(tmp_path) == []
    writer.write(written[9:12])
    assert (writer.name, writer.position) == ("log.a", len(content(*written[9:12])))
    writer.write(written[12:15])
    writer.sync()
    writer.finish()
    assert writer.name is None
    writer.write(written[15:])
    writer.finish()
    assert names(tmp_path) == ["log.10", "log.a"]
    assert (tmp_path / "log.a").read_bytes() == content(*written[9:15])
    assert (tmp_path / "log.10").read_bytes() == content(*written[15:])


def test_a_name_stands_for_something_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, list[str]]] = []

    def note(kind: str, _fd: int) -> None:
        seen.append((kind, names(tmp_path)))

    monkeypatch.setattr(os, "fdatasync", partial(note, "file"))
    monkeypatch.setattr(os, "fsync", partial(note, "directory"))
    writer = writer_in(tmp_path)
    written = txns(2)
    writer.write(written[:1])
    assert seen == [("file", ["unfinished-log.1"]), ("directory", ["log.1"])]
    writer.sync()
    assert len(seen) == 2
    writer.write(written[1:])
    writer.sync()
    assert seen[2:] == [("file", ["log.1"])]
    writer.abandon()


def test_room_is_reserved_and_given_back(tmp_path: Path) -> None:
    writer = writer_in(tmp_path, preallocation=MIB)
    written = txns(3)
    writer.write(written[:1])
    path = tmp_path / "log.1"
    assert path.stat().st_size == MIB
    assert path.read_bytes() == content(written[0]).ljust(MIB, b"\0")
    writer.write(written[1:])
    assert path.stat().st_size == MIB
    writer.finish()
    assert path.read_bytes() == content(*written)


def test_a_file_grows_before_it_is_full(tmp_path: Path) -> None:
    writer = writer_in(tmp_path, preallocation=8192)
    path = tmp_path / "log.1"
    sizes: set[int] = set()
    for txn in txns(200):
        writer.write([txn])
        sizes.add(path.stat().st_size)
        assert path.stat().st_size >= writer.position + 4096
    assert sorted(sizes) == [8192 * i for i in range(1, 6)]


def test_a_batch_larger_than_the_reserved_room(tmp_path: Path) -> None:
    writer = writer_in(tmp_path, preallocation=8192)
    written = txns(500)
    writer.write(written[:1])
    writer.write(written[1:])
    with open_log(tmp_path / "log.1") as reader:
        assert list(reader) == written
        assert reader.torn is None


def test_a_long_log_is_not_continued(tmp_path: Path) -> None:
    writer = writer_in(tmp_path, size_max=500)
    for txn in txns(12):
        writer.write([txn])
    writer.finish()
    found = sorted(tmp_path.iterdir(), key=lambda path: int(path.suffix[1:], 16))
    assert len(found) > 2
    assert all(500 < path.stat().st_size < 800 for path in found[:-1])
    read: list[LoggedTxn] = []
    for path in found:
        with open_log(path) as reader:
            read += reader
    assert read == txns(12)


def test_an_abandoned_log_keeps_its_room(tmp_path: Path) -> None:
    writer = writer_in(tmp_path, preallocation=MIB)
    written = txns(2)
    writer.write(written)
    writer.abandon()
    writer.abandon()
    writer.finish()
    assert (tmp_path / "log.1").stat().st_size == MIB
    with open_log(tmp_path / "log.1") as reader:
        assert list(reader) == written
        assert (reader.torn, reader.end) == (None, len(content(*written)))


def test_a_new_log_replaces_what_a_crash_left_under_its_name(tmp_path: Path) -> None:
    (tmp_path / "log.1").write_bytes(HEADER)
    (tmp_path / "unfinished-log.1").write_bytes(b"garbage" * 100)
    writer = writer_in(tmp_path)
    written = txns(1)
    writer.write(written)
    writer.finish()
    assert names(tmp_path) == ["log.1"]
    assert (tmp_path / "log.1").read_bytes() == content(*written)


def test_reading_can_stop_at_a_limit(tmp_path: Path) -> None:
    writer = writer_in(tmp_path)
    written = txns(3)
    writer.write(written)
    with open_log(tmp_path / "log.1", len(content(*written[:2]))) as reader:
        assert list(reader) == written[:2]
