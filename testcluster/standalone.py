"""A server on its own: the request processor with its own preparer, and the order prepare, log, commit.

Decides that a transaction is applied when its caller says that it is durable. Where it is made durable, and how bytes
travel, is the shell's business.

    server = Standalone(tree, settings, now_ms=...)
    connection = server.open(peer_ip, now_ms)
    server.receive(connection, data, now_ms)    as RequestProcessor.receive; any number of them, then
    txns = server.prepare(wall_ms)              to be logged in this order; [] when there is nothing to log
    server.commit(txns, now_ms)                 once they are durable; in order, in any portions
    for connection in server.take_flushable():  send connection.take_output(); see RequestProcessor
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from terzetto.client.wire.operations import Opcode

from .connection import Request
from .datatree import DataTree
from .preparer import Preparer
from .processor import RequestProcessor
from .sessions import SessionTracker
from .settings import ServerSettings
from .txns import Txn
from .upkeep import close_session, overdue_sessions, removable_znodes

SWEEP_MAX = 10_000
"""Containers and TTL znodes that one sweep removes at most (the default of `znode.container.maxPerMinute`)."""


class Standalone(RequestProcessor):
    """The state machine of a server without an ensemble.

    Args:
        tree: the state it starts with, recovered already; the sessions in it get their full timeout anew.
        settings: what the operator decides.
        now_ms: the monotonic clock.

    Attributes:
        preparer: makes the transactions.
    """

    def __init__(self, tree: DataTree, settings: ServerSettings, *, now_ms: int) -> None:
        tracker = SessionTracker(server_id=settings.server_id, tick_ms=settings.tick_ms, now_ms=now_ms)
        super().__init__(tree, settings, tracker)
        tracker.restore(tree.sessions.items(), now_ms)
        self.preparer = Preparer(tree, tracker, self.access, settings)
        self._syncs: deque[tuple[int, Request]] = deque()

    def prepare(self, wall_ms: int) -> list[Txn]:
        """The transactions of all writes since the last call, to be logged in this order."""
        txns: list[Txn] = []
        for request in self.take_requests():
            if request.opcode == Opcode.SYNC:
                self._syncs.append((self.preparer.last_zxid, request))
            else:
                txns.append(self.preparer.prepare(request, wall_ms))
        self._complete_syncs()
        return txns

    def commit(self, txns: Iterable[Txn], now_ms: int) -> None:
        """Applies transactions that are durable, and answers the syncs that waited for them."""
        for txn in txns:
            self.apply(txn, now_ms)
            self.preparer.applied(txn.header.zxid)
            if self._syncs:
                self._complete_syncs(now_ms)

    def _complete_syncs(self, now_ms: int | None = None) -> None:
        syncs = self._syncs
        while syncs and syncs[0][0] <= self.tree.last_zxid:
            _, request = syncs.popleft()
            self.complete_sync(request, request.received_ms if now_ms is None else now_ms)

    def expire(self, now_ms: int) -> None:
        """Closes the sessions that are over; to be called at `next_expiry_ms`."""
        for request in overdue_sessions(self.sessions, now_ms):
            self.add_request(request)

    @property
    def next_expiry_ms(self) -> int:
        """When `expire` is to be called next."""
        return self.sessions.next_due_ms

    def expire_session(self, session_id: int) -> bool:
        """Closes a session as if its time were over; False when there is none to close."""
        session = self.sessions.sessions.get(session_id)
        if session is None or session.closing:
            return False
        self.sessions.set_closing(session_id)
        self.add_request(close_session(session_id))
        return True

    def sweep(self, wall_ms: int) -> None:
        """Removes empty containers and TTL znodes whose time is over."""
        unused_ms = self.settings.container_unused_ms
        for request in removable_znodes(self.tree, wall_ms, unused_ms=unused_ms, limit=SWEEP_MAX):
            self.add_request(request)
