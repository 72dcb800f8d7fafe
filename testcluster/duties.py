"""What a member of an ensemble does for clients in a role, and what it does while it has none.

Decides the questions that a role answers: who makes sessions, where writes go, who says that a session lives. The
answers stand in `leader_duties.py`, `learner_duties.py` and `read_only_duties.py`; which of them is on duty is decided
in `replica.py`.
"""

from __future__ import annotations

from .connection import Connection, Request
from .learner_sessions import LearnerSessions
from .messages import QuorumPacket
from .processor import RequestProcessor
from .sessions import SessionIds, SessionTracker
from .txns import Txn


class Duties:
    """Off duty: serves nobody, and follows what is applied.

    Args:
        processor: the client side of this server.
        ids: ids for its clients' sessions.

    Attributes:
        sessions: the sessions as this role knows them.
    """

    sessions: SessionTracker

    def __init__(self, processor: RequestProcessor, ids: SessionIds) -> None:
        self.processor = processor
        self.sessions = LearnerSessions(ids)

    # What the clients of this server ask.

    def begin_session(self, connection: Connection, timeout_ms: int, now_ms: int) -> None:
        """A new client wants a session."""
        self.processor.drop(connection)

    def resume_session(self, connection: Connection, session_id: int, timeout_ms: int, now_ms: int) -> None:
        """A client has come back with a session."""
        self.processor.drop(connection)

    def order(self, request: Request, now_ms: int, wall_ms: int) -> None:
        """A write or sync of this server's clients."""

    def ordered(self, now_ms: int) -> None:
        """There are no more of them for now."""

    # What happens in the ensemble.

    def applied(self, txn: Txn, now_ms: int) -> None:
        """A transaction has been applied here."""

    def learner_joined(self, link: int, sid: int) -> None:
        """A learner is in step."""

    def learner_left(self, link: int) -> None:
        """A learner is gone."""

    def packet(self, link: int, sid: int, packet: QuorumPacket, now_ms: int, wall_ms: int) -> None:
        """A packet that is not Zab's has come.

        Raises:
            WireError: it makes no sense.
        """

    def leadership_confirmed(self, round_number: int, now_ms: int) -> None:
        """A quorum has followed this leader since that question was asked."""

    def take_touches(self) -> list[tuple[int, int]]:
        """(session id, timeout in ms) of the sessions that were heard of since the last call, for the leader."""
        return []

    # Time, and orders from outside.

    @property
    def next_due_ms(self) -> int | None:
        """When `tick` is to be called next."""
        return None

    def tick(self, now_ms: int) -> None:
        """Time has passed."""

    def sweep(self, wall_ms: int) -> None:
        """Removes empty containers and TTL znodes whose time is over, where that is this server's business."""

    def expire_session(self, session_id: int) -> bool:
        """Ends a session as if its client had been silent; False when it is not this server's business, or over."""
        return False
