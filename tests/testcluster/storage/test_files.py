"""Durable file operations."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from terzetto.testcluster.storage.errors import DataDirectoryError
from terzetto.testcluster.storage.files import (
    DirectoryLock,
    create,
    cut,
    delete,
    make_directory,
    window,
    write_at,
    write_whole,
)


def test_directories_are_made_with_what_they_stand_in(tmp_path: Path) -> None:
    make_directory(tmp_path / "a" / "b" / "c")
    make_directory(tmp_path / "a" / "b" / "c")
    assert (tmp_path / "a" / "b" / "c").is_dir()


def test_a_small_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    write_whole(tmp_path / "epoch", b"12345")
    (tmp_path / "epoch.tmp").write_bytes(b"left over from a crash")
    write_whole(tmp_path / "epoch", b"6")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("epoch", b"6")]


def test_bytes_land_where_they_belong(tmp_path: Path) -> None:
    fd = create(tmp_path / "file")
    write_at(fd, b"abc", 2)
    write_at(fd, b"", 9)
    os.close(fd)
    assert (tmp_path / "file").read_bytes() == b"\0\0abc"
    cut(tmp_path / "file", 3)
    assert (tmp_path / "file").read_bytes() == b"\0\0a"


def test_deletion_is_in_order_and_may_be_repeated(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).touch()
    delete(tmp_path, ["a", "c", "gone"])
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_a_window_leaves_out_what_was_never_written(tmp_path: Path) -> None:
    path = tmp_path / "log"
    fd = create(path)
    os.ftruncate(fd, 64 << 20)
    write_at(fd, b"header", 0)
    write_at(fd, b"far", 1 << 20)
    os.close(fd)
    with window(path, 16) as view:
        assert bytes(view[:6]) == b"header"
        assert bytes(view[1 << 20 : (1 << 20) + 3]) == b"far"
        assert (1 << 20) + 3 <= len(view) < 2 << 20
    with window(path, 16, 5) as view:
        assert bytes(view) == b"heade"


def test_a_window_on_files_without_holes(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for data in (b"", b"x", b"abc" * 5000, bytes(5000)):
        path.write_bytes(data)
        with window(path, 16) as view:
            assert bytes(view) == data
    fd = create(path)
    os.ftruncate(fd, 1 << 20)
    os.close(fd)
    with window(path, 16) as view:
        assert bytes(view) == bytes(16)


def test_a_directory_has_one_owner(tmp_path: Path) -> None:
    first = DirectoryLock(tmp_path)
    with pytest.raises(DataDirectoryError, match="in use by another server"):
        DirectoryLock(tmp_path)
    first.release()
    first.release()
    second = DirectoryLock(tmp_path)
    second.release()
    assert list(tmp_path.iterdir()) == []
