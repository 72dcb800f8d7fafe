"""Snapshots as files: written aside and renamed when they are durable; read whole.

Decides which file is a good snapshot. Does not know what the log holds.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from .compression import compressor, decompress, suffix_of
from .errors import CorruptSnapshotError, StorageError
from .files import create, flush, flush_directory, write_at
from .names import UNFINISHED_PREFIX, SnapshotName, snapshot_name
from .snapshot import Snapshot, decode_snapshot, is_sealed

Rename = Callable[[str], None]


def read_snapshot(directory: Path, name: SnapshotName) -> Snapshot:
    """Reads one snapshot.

    Raises:
        CorruptSnapshotError: it is incomplete or damaged.
    """
    data = (directory / name.name).read_bytes()
    try:
        data = decompress(data, name.suffix)
    except ValueError as error:
        raise CorruptSnapshotError(name.name, 0, str(error)) from error
    return decode_snapshot(data, name.zxid, name.name)


def is_whole(directory: Path, name: SnapshotName) -> bool:
    """Whether a snapshot was written to its end."""
    try:
        return is_sealed(decompress((directory / name.name).read_bytes(), name.suffix))
    except (FileNotFoundError, ValueError):
        return False


class DiskSnapshotWriter:
    """`SnapshotWriter` into a file.

    Args:
        directory: where the snapshots are.
        zxid: of the snapshot.
        method: of compression.
        publish: called by `commit` when the bytes are durable, with a function that names the file, durably: as the
            snapshot it is, with a prefix before that.

    Raises:
        OSError: the file cannot be made.
    """

    def __init__(self, directory: Path, zxid: int, method: str, publish: Callable[[Rename], None]) -> None:
        self._directory = directory
        self._name = snapshot_name(zxid, suffix_of(method))
        self._unfinished = directory / (UNFINISHED_PREFIX + self._name)
        self._compressor = compressor(method)
        self._publish = publish
        self._position = 0
        self._fd: int | None = create(self._unfinished)

    def write(self, data: bytes) -> None:
        """See `SnapshotWriter`. Raises `OSError`, such as for a full disk."""
        self._put(self._compressor.compress(data))

    def _put(self, data: bytes) -> None:
        if self._fd is None:
            raise StorageError("the snapshot was committed or aborted already")
        write_at(self._fd, data, self._position)
        self._position += len(data)

    def commit(self) -> None:
        """See `SnapshotWriter`. Raises `OSError`; the snapshot does not exist then."""
        if self._fd is None:
            raise StorageError("the snapshot was committed or aborted already")
        try:
            self._put(self._compressor.flush())
            flush(self._fd)
            self._publish(self._rename)
        finally:
            self.abort()

    def _rename(self, prefix: str) -> None:
        self._unfinished.replace(self._directory / (prefix + self._name))
        flush_directory(self._directory)

    def abort(self) -> None:
        """See `SnapshotWriter`."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
            self._unfinished.unlink(missing_ok=True)
