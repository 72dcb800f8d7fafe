"""What a server keeps: its history in memory or in ZooKeeper's own files.

Exports the interface, both kinds, and the way between a storage and a tree. See `interface.py` for the order of calls.
"""

from __future__ import annotations

from .disk import DiskOptions as DiskOptions, DiskStorage as DiskStorage, write_myid as write_myid
from .errors import (
    CorruptLogError as CorruptLogError,
    CorruptSnapshotError as CorruptSnapshotError,
    DamagedError as DamagedError,
    DataDirectoryError as DataDirectoryError,
    HistoryUnavailableError as HistoryUnavailableError,
    MissingTxnsError as MissingTxnsError,
    NoUsableSnapshotError as NoUsableSnapshotError,
    StorageError as StorageError,
    StorageFailedError as StorageFailedError,
)
from .interface import (
    Recovery as Recovery,
    RecoveryReport as RecoveryReport,
    SnapshotWriter as SnapshotWriter,
    Storage as Storage,
)
from .memory import MemoryStorage as MemoryStorage
from .schedule import SnapshotSchedule as SnapshotSchedule
from .snapshot import Snapshot as Snapshot, SnapshotDigest as SnapshotDigest, encode_snapshot as encode_snapshot
from .txnlog import LoggedTxn as LoggedTxn, TornTail as TornTail, logged as logged

__all__ = [
    "CorruptLogError",
    "CorruptSnapshotError",
    "DamagedError",
    "DataDirectoryError",
    "DiskOptions",
    "DiskStorage",
    "HistoryUnavailableError",
    "LoggedTxn",
    "MemoryStorage",
    "MissingTxnsError",
    "NoUsableSnapshotError",
    "Recovery",
    "RecoveryReport",
    "Snapshot",
    "SnapshotDigest",
    "SnapshotSchedule",
    "SnapshotWriter",
    "Storage",
    "StorageError",
    "StorageFailedError",
    "TornTail",
    "encode_snapshot",
    "logged",
    "write_myid",
]
