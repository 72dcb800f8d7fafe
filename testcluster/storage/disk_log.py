"""Transaction logs as files: one that grows, and those that are whole.

Decides when a file begins and how it is sized. Does not know when to sync, or what may be deleted.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .files import create, flush, flush_directory, window, write_at
from .names import UNFINISHED_PREFIX, log_name
from .txnlog import HEADER, LoggedTxn, LogReader, encode_records

# ZooKeeper sizes a file anew when less than this is left of it.
_ROOM = 4096


class LogWriter:
    """Appends to the newest log. A file of an earlier life is never continued; the first transaction begins a new one.

    A new file gets its name when its first records are durable, so that no crash leaves an empty log, which
    ZooKeeper 3.8.0 refuses to start from.

    Args:
        directory: where the logs are.
        preallocation: bytes by which a file grows, so that its size seldom changes with a write; 0 for none.
        size_max: a file longer than this is not continued; `None` for no such limit.
        force_sync: False leaves it to the system when bytes reach the medium (forceSync=no).

    Attributes:
        name: the log that grows, `None` before its first record.
        position: where its next record goes.
    """

    def __init__(self, directory: Path, *, preallocation: int, size_max: int | None, force_sync: bool) -> None:
        self._directory = directory
        self._preallocation = preallocation
        self._size_max = size_max
        self._force_sync = force_sync
        self._fd: int | None = None
        self._size = 0
        self._dirty = False
        self.name: str | None = None
        self.position = 0

    def write(self, txns: list[LoggedTxn]) -> None:
        """Writes some transactions, in one piece. They are durable after `sync`."""
        records = encode_records(txn.payload for txn in txns)
        if self._fd is None:
            self._begin(log_name(txns[0].zxid), HEADER + records)
        else:
            self._reserve(self._fd, len(records))
            write_at(self._fd, records, self.position)
            self.position += len(records)
            self._dirty = True
        if self._size_max is not None and self.position > self._size_max:
            self.finish()

    def _begin(self, name: str, data: bytes) -> None:
        unfinished = self._directory / (UNFINISHED_PREFIX + name)
        fd = create(unfinished)
        try:
            self._size = 0
            self.position = 0
            self._reserve(fd, len(data))
            write_at(fd, data, 0)
            if self._force_sync:
                flush(fd)
            unfinished.replace(self._directory / name)
            if self._force_sync:
                flush_directory(self._directory)
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd
        self.name = name
        self.position = len(data)
        self._dirty = False

    def _reserve(self, fd: int, more: int) -> None:
        if self._preallocation == 0 or self.position + more + _ROOM < self._size:
            return
        step = self._preallocation
        self._size = (self.position + more + _ROOM) // step * step + step
        os.ftruncate(fd, self._size)

    def sync(self) -> None:
        """Returns when everything written is durable."""
        if self._fd is not None and self._dirty:
            if self._force_sync:
                flush(self._fd)
            self._dirty = False

    def finish(self) -> None:
        """Ends the file, without the room that is left in it; the next transaction begins a new one."""
        if self._fd is None:
            return
        try:
            if self._size:
                os.ftruncate(self._fd, self.position)
            if self._force_sync:
                os.fsync(self._fd)
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Closes the file as it is."""
        if self._fd is not None:
            os.close(self._fd)
        self._fd = None
        self._dirty = False
        self.name = None
        self.position = 0


@contextmanager
def open_log(path: Path, limit: int | None = None) -> Iterator[LogReader]:
    """Opens one log for reading.

    Args:
        path: the log; it must not be cut while it is open.
        limit: read no further than this byte.
    """
    with window(path, len(HEADER), limit) as view:
        yield LogReader(view, path.name)
