"""Holds a connection's writes back while a sync before them is not answered.

The leader asks a quorum before it answers a sync, and may have committed a later write of the same client by then: the
answers in between would show that write too early. (ZooKeeper's leader answers at once; its SYNC goes out before the
COMMIT of anything that was asked later.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from terzetto.client.wire.operations import Opcode

from .connection import Connection, Request


class _Barrier:
    """Of one connection: syncs that are not answered, and what waits until they are."""

    __slots__ = ("held", "syncs")

    def __init__(self) -> None:
        self.syncs = 0
        self.held: deque[Request] = deque()


class SyncBarriers:
    """The barriers of all connections of a server."""

    def __init__(self) -> None:
        self._barriers: dict[Connection, _Barrier] = {}

    def admit(self, requests: Iterable[Request]) -> list[Request]:
        """Of requests in the order in which they came, those that can be ordered now."""
        barriers = self._barriers
        admitted: list[Request] = []
        for request in requests:
            connection = request.connection
            barrier = None if connection is None else barriers.get(connection)
            is_sync = request.opcode == Opcode.SYNC
            if barrier is not None and (barrier.held or not is_sync):
                barrier.held.append(request)
                continue
            if is_sync and connection is not None:
                barriers.setdefault(connection, _Barrier()).syncs += 1
            admitted.append(request)
        return admitted

    def answered(self, sync: Request) -> list[Request]:
        """What no longer has to wait, now that this sync is answered; it is to be admitted before anything newer."""
        connection = sync.connection
        barrier = None if connection is None else self._barriers.get(connection)
        if connection is None or barrier is None:
            return []
        barrier.syncs -= 1
        return [] if barrier.syncs else self.lift(connection)

    def lift(self, connection: Connection) -> list[Request]:
        """What no longer has to wait, now that the connection is gone and gets no answers; as with `answered`.

        Its client may come back to this server: what it asks then must come behind.
        """
        barrier = self._barriers.pop(connection, None)
        return [] if barrier is None else list(barrier.held)

    def clear(self) -> None:
        """Nothing will be answered any more."""
        self._barriers.clear()
