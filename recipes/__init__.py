"""Coordination recipes for trio on a ZooKeeper client, one recipe a file.

A recipe takes a client and uses nothing of `terzetto.client` but its public names; the client knows no recipe.
"""

from __future__ import annotations

from ._ownership import (
    GuardedTransaction as GuardedTransaction,
    Ownership as Ownership,
)
from .election import (
    Election as Election,
    LeaderSelector as LeaderSelector,
)
from .errors import (
    LayoutConflictError as LayoutConflictError,
    OwnershipLost as OwnershipLost,
)
from .latch import LeaderLatch as LeaderLatch
from .lease import (
    MultiNonBlockingLease as MultiNonBlockingLease,
    NonBlockingLease as NonBlockingLease,
)
from .lock import (
    Lock as Lock,
    ReadLock as ReadLock,
    WriteLock as WriteLock,
    WriterOwnership as WriterOwnership,
)
from .multilock import (
    MultiLock as MultiLock,
    MultiOwnership as MultiOwnership,
)
from .revocation import (
    revoke as revoke,
    wait_revoked as wait_revoked,
)
from .semaphore import (
    Semaphore as Semaphore,
    SemaphoreMutex as SemaphoreMutex,
)
from .watchers import (
    ChildrenWatch as ChildrenWatch,
    DataWatch as DataWatch,
    PatientChildrenWatch as PatientChildrenWatch,
    WatchedChildren as WatchedChildren,
    WatchedData as WatchedData,
)

__all__ = [
    "ChildrenWatch",
    "DataWatch",
    "Election",
    "GuardedTransaction",
    "LayoutConflictError",
    "LeaderLatch",
    "LeaderSelector",
    "Lock",
    "MultiLock",
    "MultiNonBlockingLease",
    "MultiOwnership",
    "NonBlockingLease",
    "Ownership",
    "OwnershipLost",
    "PatientChildrenWatch",
    "ReadLock",
    "Semaphore",
    "SemaphoreMutex",
    "WatchedChildren",
    "WatchedData",
    "WriteLock",
    "WriterOwnership",
    "revoke",
    "wait_revoked",
]
