"""Names that programs import from `kazoo.client` though they belong elsewhere: recipes, exceptions, values.

Decides nothing.
"""

from __future__ import annotations

from .exceptions import (
    AuthFailedError,
    ConfigurationError,
    ConnectionClosedError,
    ConnectionLoss,
    KazooException,
    NodeExistsError,
    NoNodeError,
    SessionExpiredError,
    WriterNotClosedException,
)
from .handlers.threading import SequentialThreadingHandler
from .handlers.utils import capture_exceptions, wrap
from .hosts import collect_hosts
from .loggingsupport import BLATHER
from .protocol.connection import ConnectionHandler
from .protocol.paths import normpath
from .protocol.serialization import (
    Auth,
    CheckVersion,
    CloseInstance,
    Create,
    Create2,
    Delete,
    Exists,
    GetACL,
    GetChildren,
    GetChildren2,
    GetData,
    Reconfig,
    SetACL,
    SetData,
    Sync,
    Transaction,
)
from .protocol.states import Callback, EventType, KazooState, KeeperState, WatchedEvent
from .recipe.barrier import Barrier, DoubleBarrier
from .recipe.counter import Counter
from .recipe.election import Election
from .recipe.lease import MultiNonBlockingLease, NonBlockingLease
from .recipe.lock import Lock, ReadLock, Semaphore, WriteLock
from .recipe.partitioner import SetPartitioner
from .recipe.party import Party, ShallowParty
from .recipe.queue import LockingQueue, Queue
from .recipe.watchers import ChildrenWatch, DataWatch
from .retry import KazooRetry
from .security import ACL, OPEN_ACL_UNSAFE

__all__ = [
    "ACL",
    "BLATHER",
    "OPEN_ACL_UNSAFE",
    "Auth",
    "AuthFailedError",
    "Barrier",
    "Callback",
    "CheckVersion",
    "ChildrenWatch",
    "CloseInstance",
    "ConfigurationError",
    "ConnectionClosedError",
    "ConnectionHandler",
    "ConnectionLoss",
    "Counter",
    "Create",
    "Create2",
    "DataWatch",
    "Delete",
    "DoubleBarrier",
    "Election",
    "EventType",
    "Exists",
    "GetACL",
    "GetChildren",
    "GetChildren2",
    "GetData",
    "KazooException",
    "KazooRetry",
    "KazooState",
    "KeeperState",
    "Lock",
    "LockingQueue",
    "MultiNonBlockingLease",
    "NoNodeError",
    "NodeExistsError",
    "NonBlockingLease",
    "Party",
    "Queue",
    "ReadLock",
    "Reconfig",
    "Semaphore",
    "SequentialThreadingHandler",
    "SessionExpiredError",
    "SetACL",
    "SetData",
    "SetPartitioner",
    "ShallowParty",
    "Sync",
    "Transaction",
    "WatchedEvent",
    "WriteLock",
    "WriterNotClosedException",
    "capture_exceptions",
    "collect_hosts",
    "normpath",
    "wrap",
]
