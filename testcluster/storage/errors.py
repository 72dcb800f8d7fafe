"""What can be wrong with stored data, as exceptions that name the file, the place and the reason.

Decides no policy: what is tolerated (a torn tail) is reported in a `RecoveryReport` and is no exception.

    StorageError
    +-- DamagedError                 bytes that were once whole
    |   +-- CorruptLogError
    |   +-- CorruptSnapshotError
    +-- MissingTxnsError             whole bytes, but some between them are gone
    +-- NoUsableSnapshotError        nothing to start from
    +-- HistoryUnavailableError      the log does not reach back as far as asked
    +-- DataDirectoryError           files in the wrong place, epochs that contradict the log, a directory in use
    +-- StorageFailedError           an earlier write or sync failed, so nothing is known to be durable any more
"""

from __future__ import annotations

from terzetto.client.errors import KazooException


class StorageError(KazooException):
    """Base of what a storage raises."""


class DamagedError(StorageError):
    """A file's bytes are not what was written.

    Args:
        name: the file.
        offset: where the damaged record or section begins, in (uncompressed) bytes from the start of the file.
        reason: what is wrong there.
    """

    def __init__(self, name: str, offset: int, reason: str) -> None:
        super().__init__(f"{name} is damaged at byte {offset}: {reason}")
        self.name = name
        self.offset = offset
        self.reason = reason


class CorruptLogError(DamagedError):
    """A transaction log holds damage that a crash in the middle of a write cannot explain."""


class CorruptSnapshotError(DamagedError):
    """A snapshot is incomplete or changed; an older one may serve."""


class MissingTxnsError(StorageError):
    """Transactions that once existed are in no file: starting without them would lose acknowledged writes."""


class NoUsableSnapshotError(StorageError):
    """No snapshot can be read, or there is none beside log entries."""


class HistoryUnavailableError(StorageError):
    """The log does not hold what follows, or is, the zxid that was asked for."""


class DataDirectoryError(StorageError):
    """The directory as a whole cannot be used."""


class StorageFailedError(StorageError):
    """An earlier operation failed half-way (disk full, input/output error); close the storage and recover."""
