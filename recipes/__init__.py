"""Coordination recipes for trio on a ZooKeeper client, one recipe a file.

A recipe takes a client and uses nothing of `terzetto.client` but its public names; the client knows no recipe.
"""

from __future__ import annotations

from ._item_queue import ClaimedItem as ClaimedItem
from ._mirror import (
    CachedZnode as CachedZnode,
    ChangeKind as ChangeKind,
    ZnodeChange as ZnodeChange,
)
from ._ownership import (
    GuardedTransaction as GuardedTransaction,
    Ownership as Ownership,
)
from ._service_json import (
    ServiceInstance as ServiceInstance,
    ServiceType as ServiceType,
)
from .atomic_long import (
    AtomicChange as AtomicChange,
    AtomicLong as AtomicLong,
)
from .barrier import (
    Barrier as Barrier,
    DoubleBarrier as DoubleBarrier,
)
from .cache import (
    NodeData as NodeData,
    TreeCache as TreeCache,
    TreeEvent as TreeEvent,
    ZnodeCache as ZnodeCache,
    ZnodeChangeStream as ZnodeChangeStream,
)
from .config_watcher import (
    ConfigTreeWatcher as ConfigTreeWatcher,
    ConfigWatcher as ConfigWatcher,
)
from .counter import Counter as Counter
from .delay_queue import (
    DelayedItem as DelayedItem,
    DelayQueue as DelayQueue,
)
from .election import (
    Election as Election,
    LeaderSelector as LeaderSelector,
)
from .errors import (
    ConfigParseError as ConfigParseError,
    ItemFormatError as ItemFormatError,
    LayoutConflictError as LayoutConflictError,
    OwnershipLost as OwnershipLost,
)
from .group_member import GroupMember as GroupMember
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
from .party import (
    Party as Party,
    ShallowParty as ShallowParty,
)
from .persistent_node import (
    PersistentNode as PersistentNode,
    PersistentTtlNode as PersistentTtlNode,
)
from .priority_queue import (
    PriorityItem as PriorityItem,
    PriorityQueue as PriorityQueue,
)
from .queues import (
    HeldItem as HeldItem,
    LockingQueue as LockingQueue,
    Queue as Queue,
)
from .revocation import (
    revoke as revoke,
    wait_revoked as wait_revoked,
)
from .semaphore import (
    Semaphore as Semaphore,
    SemaphoreMutex as SemaphoreMutex,
)
from .service_registry import (
    Choice as Choice,
    RandomChoice as RandomChoice,
    Registration as Registration,
    RoundRobinChoice as RoundRobinChoice,
    ServiceProvider as ServiceProvider,
    ServiceRegistry as ServiceRegistry,
    StickyChoice as StickyChoice,
    WeightedChoice as WeightedChoice,
)
from .set_partitioner import (
    Partition as Partition,
    PartitionState as PartitionState,
    SetPartitioner as SetPartitioner,
)
from .shared_value import (
    SharedCount as SharedCount,
    SharedValue as SharedValue,
    Versioned as Versioned,
)
from .watchers import (
    ChildrenWatch as ChildrenWatch,
    DataWatch as DataWatch,
    PatientChildrenWatch as PatientChildrenWatch,
    WatchedChildren as WatchedChildren,
    WatchedData as WatchedData,
)

__all__ = [
    "AtomicChange",
    "AtomicLong",
    "Barrier",
    "CachedZnode",
    "ChangeKind",
    "ChildrenWatch",
    "Choice",
    "ClaimedItem",
    "ConfigParseError",
    "ConfigTreeWatcher",
    "ConfigWatcher",
    "Counter",
    "DataWatch",
    "DelayQueue",
    "DelayedItem",
    "DoubleBarrier",
    "Election",
    "GroupMember",
    "GuardedTransaction",
    "HeldItem",
    "ItemFormatError",
    "LayoutConflictError",
    "LeaderLatch",
    "LeaderSelector",
    "Lock",
    "LockingQueue",
    "MultiLock",
    "MultiNonBlockingLease",
    "MultiOwnership",
    "NodeData",
    "NonBlockingLease",
    "Ownership",
    "OwnershipLost",
    "Partition",
    "PartitionState",
    "Party",
    "PatientChildrenWatch",
    "PersistentNode",
    "PersistentTtlNode",
    "PriorityItem",
    "PriorityQueue",
    "Queue",
    "RandomChoice",
    "ReadLock",
    "Registration",
    "RoundRobinChoice",
    "Semaphore",
    "SemaphoreMutex",
    "ServiceInstance",
    "ServiceProvider",
    "ServiceRegistry",
    "ServiceType",
    "SetPartitioner",
    "ShallowParty",
    "SharedCount",
    "SharedValue",
    "StickyChoice",
    "TreeCache",
    "TreeEvent",
    "Versioned",
    "WatchedChildren",
    "WatchedData",
    "WeightedChoice",
    "WriteLock",
    "WriterOwnership",
    "ZnodeCache",
    "ZnodeChange",
    "ZnodeChangeStream",
    "revoke",
    "wait_revoked",
]
