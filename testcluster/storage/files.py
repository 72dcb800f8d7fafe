"""The few file operations that durability hangs on: flush, rename, look at, lock.

Decides how each is done on this system. Refuses to know what the files hold.
"""

from __future__ import annotations

import errno
import mmap
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import DataDirectoryError

if sys.platform != "win32":
    import fcntl

_MODE = 0o644


def flush(fd: int) -> None:
    """Returns when the file's bytes, and the size they need, are on the medium."""
    if sys.platform == "darwin":
        # macOS' fsync stops at the drive's cache.
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
    elif sys.platform == "win32":
        os.fsync(fd)
    else:
        os.fdatasync(fd)


def flush_file(path: Path) -> None:
    """`flush` of a file that is not open."""
    fd = os.open(path, os.O_RDWR)
    try:
        flush(fd)
    finally:
        os.close(fd)


def flush_directory(path: Path) -> None:
    """Returns when the names of a directory (creations, renames, deletions) are on the medium."""
    if sys.platform == "win32":
        return
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_directory(path: Path) -> None:
    """Creates a directory and what it stands in, durably. No-op where it exists."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        flush_directory(folder.parent)


def create(path: Path) -> int:
    """Opens a new file, or an old one emptied, for writing; returns the descriptor."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | getattr(os, "O_CLOEXEC", 0), _MODE)


def write_at(fd: int, data: bytes, position: int) -> None:
    """Writes all of `data`, which one call of the system need not."""
    rest = memoryview(data)
    while rest:
        written = os.pwrite(fd, rest, position)
        position += written
        rest = rest[written:]


def write_whole(path: Path, data: bytes) -> None:
    """Writes a small file so that after a crash there is the old one or the new one, durably on return."""
    # The name that ZooKeeper gives it too, and looks for after a crash.
    unfinished = path.with_name(path.name + ".tmp")
    fd = create(unfinished)
    try:
        write_at(fd, data, 0)
        flush(fd)
    finally:
        os.close(fd)
    unfinished.replace(path)
    flush_directory(path.parent)


def cut(path: Path, size: int) -> None:
    """Shortens a file, durably on return."""
    fd = os.open(path, os.O_RDWR)
    try:
        os.ftruncate(fd, size)
        os.fsync(fd)
    finally:
        os.close(fd)


def delete(directory: Path, names: list[str]) -> None:
    """Deletes files one after another, in this order also after a crash."""
    for name in names:
        (directory / name).unlink(missing_ok=True)
        flush_directory(directory)


@contextmanager
def window(path: Path, at_least: int, limit: int | None = None) -> Iterator[memoryview]:
    """A view on a file's bytes without the hole that preallocation leaves at its end.

    Args:
        path: the file; it must not be cut while the view is in use.
        at_least: bytes from the start that are shown, even if nothing was ever written there.
        limit: show no more than so many bytes.
    """
    fd = os.open(path, os.O_RDONLY)
    try:
        size = os.fstat(fd).st_size
        shown = min(size, max(at_least, _data_end(fd, size)))
        if limit is not None:
            shown = min(shown, limit)
        mapped = mmap.mmap(fd, shown, access=mmap.ACCESS_READ) if shown else None
    finally:
        os.close(fd)
    if mapped is None:
        yield memoryview(b"")
        return
    with mapped, memoryview(mapped) as view:
        yield view


def _data_end(fd: int, size: int) -> int:
    """Offset behind the last byte that the file system has stored; `size` where it does not tell."""
    if sys.platform == "win32" or sys.platform == "darwin":
        return size
    end = 0
    try:
        while end < size:
            end = os.lseek(fd, os.lseek(fd, end, os.SEEK_DATA), os.SEEK_HOLE)
    except OSError as error:
        # ENXIO: nothing but a hole from here on.
        return end if error.errno == errno.ENXIO else size
    return end


class DirectoryLock:
    """Keeps a second server out of a directory, until `release` or the end of the process.

    ZooKeeper itself takes no lock, so a Java server is not kept out. The lock is on the directory, and leaves no file.

    Raises:
        DataDirectoryError: another process, or another storage of this one, has it.
    """

    def __init__(self, path: Path) -> None:
        self._fd: int | None = None
        if sys.platform == "win32":
            return
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(fd)
            raise DataDirectoryError(f"{path} is in use by another server") from error
        self._fd = fd

    def release(self) -> None:
        """Lets others in. May be called twice."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
