"""The duties of a follower or observer: its clients' writes go to the leader, and are answered when they come back.

Decides which answer of the leader belongs to whom: transactions to the oldest write here (`RequestProcessor`), a SYNC
to the oldest sync, a REVALIDATE to whoever came first with that session. It judges neither sessions nor writes.
"""

from __future__ import annotations

import logging
from collections import deque

from terzetto.client.wire.operations import Opcode

from .connection import Connection, Phase, Request
from .duties import Duties
from .learner_sessions import LearnerSessions
from .messages import (
    ForwardedRequest,
    PacketType,
    QuorumPacket,
    Revalidation,
    decode_revalidation_reply,
    encode_request,
    encode_revalidation,
)
from .peer import Peer
from .processor import RequestProcessor
from .sessions import SessionIds
from .txns import Txn

logger = logging.getLogger("terzetto.testcluster.learner_duties")


class LearnerDuties(Duties):
    """On duty as a learner, from the moment at which it serves.

    Args:
        processor: the client side of this server.
        ids: ids for its clients' sessions.
        peer: carries packets to the leader.
    """

    def __init__(self, processor: RequestProcessor, ids: SessionIds, peer: Peer) -> None:
        super().__init__(processor, ids)
        self.sessions = self._known = LearnerSessions(ids)
        self._known.restore(processor.tree.sessions.items(), 0)
        self._known.take_touches()
        self._peer = peer
        # What waits for the leader's word, the oldest first; of the syncs, those that it has answered stand in front
        # with the transaction that must be applied before.
        self._revalidating: dict[int, deque[Connection]] = {}
        self._syncs: deque[Request] = deque()
        self._answered: deque[tuple[int, Request]] = deque()

    def begin_session(self, connection: Connection, timeout_ms: int, now_ms: int) -> None:
        """See `Duties`."""
        self.processor.request_session(connection, timeout_ms, now_ms)

    def resume_session(self, connection: Connection, session_id: int, timeout_ms: int, now_ms: int) -> None:
        """See `Duties`."""
        self._revalidating.setdefault(session_id, deque()).append(connection)
        data = encode_revalidation(Revalidation(session_id, timeout_ms))
        self._peer.send_up(QuorumPacket(PacketType.REVALIDATE, -1, data))

    def order(self, request: Request, now_ms: int, wall_ms: int) -> None:
        """See `Duties`."""
        if request.opcode == Opcode.SYNC:
            self._syncs.append(request)
        request.floor_zxid = self._peer.last_proposed
        data = encode_request(ForwardedRequest(request.session_id, request.cxid, request.opcode, request.body))
        self._peer.send_up(QuorumPacket(PacketType.REQUEST, -1, data, list(request.ids) or None))

    def applied(self, txn: Txn, now_ms: int) -> None:
        """See `Duties`."""
        if self._answered:
            self._complete_syncs(now_ms)

    def packet(self, link: int, sid: int, packet: QuorumPacket, now_ms: int, wall_ms: int) -> None:
        """See `Duties`."""
        if packet.type == PacketType.SYNC:
            self._sync_answered(now_ms)
        elif packet.type == PacketType.REVALIDATE:
            session_id, valid = decode_revalidation_reply(packet.data)
            self._revalidated(session_id, valid, now_ms)

    def _revalidated(self, session_id: int, valid: bool, now_ms: int) -> None:
        waiting = self._revalidating.get(session_id)
        if waiting is None:
            logger.warning("the leader judges session %#x, which nobody has asked for", session_id)
            return
        connection = waiting.popleft()
        if not waiting:
            del self._revalidating[session_id]
        if connection.phase is not Phase.HANDSHAKING:
            return
        session = self._known.confirm(session_id, connection.session_timeout_ms, now_ms) if valid else None
        self.processor.welcome(connection, session, now_ms)

    def _sync_answered(self, now_ms: int) -> None:
        if not self._syncs:
            logger.warning("the leader answers a sync that nobody has asked for")
            return
        # It travels behind the commits that it must follow; those may still wait for the disk here.
        self._answered.append((self._peer.last_committed, self._syncs.popleft()))
        self._complete_syncs(now_ms)

    def _complete_syncs(self, now_ms: int) -> None:
        answered = self._answered
        applied = max(self.processor.tree.last_zxid, self.processor.floor_zxid)
        while answered and answered[0][0] <= applied:
            self.processor.complete_sync(answered.popleft()[1], now_ms)

    def take_touches(self) -> list[tuple[int, int]]:
        """See `Duties`."""
        return self._known.take_touches()
