"""The leader's duties: every write gets its transaction here, every session its judgement, every sync its proof.

Decides in which order the writes of the whole ensemble happen (as they arrive), and when a sync is answered, or a
client told that its session is over: when what was proposed before is applied, and a quorum has followed this leader
since. ZooKeeper's leader skips the second, so that a deposed one which has not noticed answers with old data, and ends
sessions that are alive. How a proposal becomes committed is the peer's business.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from terzetto.client.errors import WireError
from terzetto.client.values import Id
from terzetto.client.wire.operations import Opcode

from .codes import UNIMPLEMENTED
from .connection import Connection, Phase, Request
from .duties import Duties
from .messages import (
    PacketType,
    QuorumPacket,
    RevalidationReply,
    decode_request,
    decode_revalidation,
    decode_touches,
    encode_revalidation_reply,
)
from .opcodes import WRITES
from .peer import Peer
from .preparer import Preparer
from .processor import RequestProcessor
from .sessions import SessionIds, SessionTracker
from .txns import Txn
from .upkeep import close_session, overdue_sessions, removable_znodes

SWEEP_MAX = 10_000
"""Containers and TTL znodes that one sweep removes at most (the default of `znode.container.maxPerMinute`)."""

_FORWARDED = WRITES | {Opcode.CREATE_SESSION}
_SYNC = QuorumPacket(PacketType.SYNC, 0)


class Learner(NamedTuple):
    """A learner in step; the owner of the sessions whose clients are connected to it."""

    link: int
    sid: int


class _Answer(NamedTuple):
    """An answer that waits: for a transaction, for a proof of leadership."""

    zxid: int
    round: int
    give: Callable[[int], None]


class LeaderDuties(Duties):
    """On duty as the leader of `epoch`, from the moment at which it serves.

    Args:
        processor: the client side of this server; everything that the epoch begins with is in its tree.
        ids: ids for its clients' sessions.
        peer: proposes.
        epoch: whose transactions are made.
        now_ms: the clock; every session gets its full timeout from now on.

    Attributes:
        preparer: makes the transactions.
    """

    def __init__(self, processor: RequestProcessor, ids: SessionIds, peer: Peer, *, epoch: int, now_ms: int) -> None:
        super().__init__(processor, ids)
        settings = processor.settings
        self.sessions = SessionTracker(server_id=settings.server_id, tick_ms=settings.tick_ms, now_ms=now_ms, ids=ids)
        self.sessions.restore(processor.tree.sessions.items(), now_ms)
        self._peer = peer
        self.preparer = Preparer(processor.tree, self.sessions, processor.access, settings)
        self.preparer.last_zxid = epoch << 32
        self._learners: dict[int, Learner] = {}
        # What only a leader may say, with the transaction that must be applied before, until its proof is asked for.
        self._new_answers: list[tuple[int, Callable[[int], None]]] = []
        # Invariant: zxids and rounds only grow along the queue.
        self._answers: deque[_Answer] = deque()
        self._confirmed = -1

    # Clients of this server.

    def begin_session(self, connection: Connection, timeout_ms: int, now_ms: int) -> None:
        """See `Duties`."""
        self.processor.request_session(connection, timeout_ms, now_ms)

    def resume_session(self, connection: Connection, session_id: int, timeout_ms: int, now_ms: int) -> None:
        """See `Duties`."""
        session = self.sessions.reopen(session_id, timeout_ms, now_ms, self.processor)
        if session is not None:
            self.processor.welcome(connection, session, now_ms)
            return

        def refuse(now_ms: int) -> None:
            if connection.phase is Phase.HANDSHAKING:
                self.processor.welcome(connection, None, now_ms)

        self._answer_proved(refuse)

    def _answer_proved(self, give: Callable[[int], None]) -> None:
        """Answers once everything proposed by now is applied, and a quorum has followed since now.

        So is a sync answered, and a session called over: one that was made after this leader was deposed is not known
        here, and the end of another one may never be committed.
        """
        self._new_answers.append((self.preparer.last_zxid, give))

    def order(self, request: Request, now_ms: int, wall_ms: int) -> None:
        """See `Duties`."""
        if request.opcode == Opcode.SYNC:
            self._answer_proved(lambda now_ms: self.processor.complete_sync(request, now_ms))
        else:
            self._peer.propose(self.preparer.prepare(request, wall_ms), now_ms)

    def ordered(self, now_ms: int) -> None:
        """See `Duties`."""
        if self._new_answers:
            # One question for all: whoever follows when it is answered, followed after each of them had come.
            round_number = self._peer.confirm_leadership(now_ms)
            self._answers.extend(_Answer(zxid, round_number, give) for zxid, give in self._new_answers)
            self._new_answers.clear()

    # Learners.

    def learner_joined(self, link: int, sid: int) -> None:
        """See `Duties`."""
        self._learners[link] = Learner(link, sid)

    def learner_left(self, link: int) -> None:
        """See `Duties`."""
        self._learners.pop(link, None)

    def packet(self, link: int, sid: int, packet: QuorumPacket, now_ms: int, wall_ms: int) -> None:
        """See `Duties`."""
        learner = self._learners.setdefault(link, Learner(link, sid))
        if packet.type == PacketType.REQUEST:
            self._order_forwarded(learner, packet, now_ms, wall_ms)
        elif packet.type == PacketType.REVALIDATE:
            session_id, timeout_ms = decode_revalidation(packet.data)
            if self.sessions.reopen(session_id, timeout_ms, now_ms, learner) is not None:
                self._judge(link, session_id, valid=True)
            else:
                self._answer_proved(lambda _: self._judge(link, session_id, valid=False))
        elif packet.type == PacketType.PING:
            for session_id, _ in decode_touches(packet.data):
                session = self.sessions.sessions.get(session_id)
                if session is not None:
                    self.sessions.touch(session, now_ms)

    def _judge(self, link: int, session_id: int, *, valid: bool) -> None:
        reply = encode_revalidation_reply(RevalidationReply(session_id, valid))
        self._peer.send_down(link, QuorumPacket(PacketType.REVALIDATE, -1, reply))

    def _order_forwarded(self, learner: Learner, packet: QuorumPacket, now_ms: int, wall_ms: int) -> None:
        """Every write gets exactly one transaction, in order: else its learner would never answer a later one."""
        session_id, cxid, opcode, body = decode_request(packet.data)
        if opcode == Opcode.SYNC:
            self._answer_proved(lambda _: self._peer.send_down(learner.link, _SYNC))
            return
        request = Request(
            session_id, cxid, opcode, body, ids=_identities(packet.authinfo), owner=learner, received_ms=now_ms
        )
        if opcode in _FORWARDED:
            txn = self.preparer.prepare(request, wall_ms)
        else:
            txn = self.preparer.refuse(request, UNIMPLEMENTED, wall_ms)
        self._peer.propose(txn, now_ms)

    # What was waited for.

    def applied(self, txn: Txn, now_ms: int) -> None:
        """See `Duties`."""
        self.preparer.applied(txn.header.zxid)
        if self._answers:
            self._give_answers(now_ms)

    def leadership_confirmed(self, round_number: int, now_ms: int) -> None:
        """See `Duties`."""
        self._confirmed = max(self._confirmed, round_number)
        self._give_answers(now_ms)

    def _give_answers(self, now_ms: int) -> None:
        answers = self._answers
        applied = max(self.processor.tree.last_zxid, self.processor.floor_zxid)
        while answers and answers[0].zxid <= applied and answers[0].round <= self._confirmed:
            answers.popleft().give(now_ms)

    # Time, and orders from outside.

    @property
    def next_due_ms(self) -> int | None:
        """See `Duties`."""
        return self.sessions.next_due_ms

    def tick(self, now_ms: int) -> None:
        """See `Duties`."""
        if now_ms >= self.sessions.next_due_ms:
            for request in overdue_sessions(self.sessions, now_ms):
                self.processor.add_request(request)

    def sweep(self, wall_ms: int) -> None:
        """See `Duties`."""
        unused_ms = self.processor.settings.container_unused_ms
        for request in removable_znodes(self.processor.tree, wall_ms, unused_ms=unused_ms, limit=SWEEP_MAX):
            self.processor.add_request(request)

    def expire_session(self, session_id: int) -> bool:
        """See `Duties`."""
        session = self.sessions.sessions.get(session_id)
        if session is None or session.closing:
            return False
        self.sessions.set_closing(session_id)
        self.processor.add_request(close_session(session_id))
        return True


def _identities(authinfo: list[Id] | None) -> tuple[Id, ...]:
    for held in authinfo or ():
        # Text in the type, but a learner may send null.
        if not isinstance(held.scheme, str) or not isinstance(held.id, str):
            raise WireError("an identity without a scheme or a name")
    return tuple(authinfo or ())
