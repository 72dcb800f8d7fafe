"""The recipes as a client's attributes, `client.Lock("/a")`, each a `functools.partial` as in kazoo."""

from __future__ import annotations

from functools import partial
from typing import Any

from .recipe import barrier, counter, election, lease, lock, partitioner, party, queue, watchers


class RecipeFactories:
    """What makes a client's recipes: a class that has got its first argument."""

    def __init__(self, client: Any) -> None:
        self.Barrier = partial(barrier.Barrier, client)
        self.ChildrenWatch = partial(watchers.ChildrenWatch, client)
        self.Counter = partial(counter.Counter, client)
        self.DataWatch = partial(watchers.DataWatch, client)
        self.DoubleBarrier = partial(barrier.DoubleBarrier, client)
        self.Election = partial(election.Election, client)
        self.Lock = partial(lock.Lock, client)
        self.LockingQueue = partial(queue.LockingQueue, client)
        self.MultiNonBlockingLease = partial(lease.MultiNonBlockingLease, client)
        self.NonBlockingLease = partial(lease.NonBlockingLease, client)
        self.Party = partial(party.Party, client)
        self.Queue = partial(queue.Queue, client)
        self.ReadLock = partial(lock.ReadLock, client)
        self.Semaphore = partial(lock.Semaphore, client)
        self.SetPartitioner = partial(partitioner.SetPartitioner, client)
        self.ShallowParty = partial(party.ShallowParty, client)
        self.WriteLock = partial(lock.WriteLock, client)
