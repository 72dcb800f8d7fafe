"""The duties of a server without a leader: it answers reads, to clients that have said that they want no more.

Decides which sessions there are meanwhile: those of the tree, whose clients may come here, and local ones, which live
on this server only and end with the mode. ZooKeeper 3.8 begins no sessions in this mode unless local sessions are
enabled, and answers a client that asks for one with bytes that it cannot read. Nobody's session expires for the
ensemble here: that is the next leader's business.
"""

from __future__ import annotations

from terzetto.client.wire.operations import Opcode

from .codes import NOT_READ_ONLY, OK
from .connection import Connection, Request
from .duties import Duties
from .processor import RequestProcessor
from .sessions import SessionIds, SessionTracker


class ReadOnlyDuties(Duties):
    """On duty while there is no quorum.

    Args:
        processor: the client side of this server.
        ids: ids for its clients' sessions.
        now_ms: the clock.
    """

    def __init__(self, processor: RequestProcessor, ids: SessionIds, *, now_ms: int) -> None:
        super().__init__(processor, ids)
        settings = processor.settings
        self.sessions = SessionTracker(server_id=settings.server_id, tick_ms=settings.tick_ms, now_ms=now_ms, ids=ids)

    def begin_session(self, connection: Connection, timeout_ms: int, now_ms: int) -> None:
        """See `Duties`. The session is a local one."""
        session = self.sessions.track(self.sessions.next_id(), timeout_ms, now_ms)
        self.processor.welcome(connection, session, now_ms)

    def resume_session(self, connection: Connection, session_id: int, timeout_ms: int, now_ms: int) -> None:
        """See `Duties`. Sessions of the ensemble live as far as this server can tell."""
        if session_id in self.processor.tree.sessions:
            self.sessions.track(session_id, timeout_ms, now_ms)
        self.processor.welcome(connection, self.sessions.reopen(session_id, timeout_ms, now_ms), now_ms)

    def order(self, request: Request, now_ms: int, wall_ms: int) -> None:
        """See `Duties`. The only request that comes so far is a client's end of its session."""
        if request.opcode == Opcode.CLOSE_SESSION and request.session_id not in self.processor.tree.sessions:
            self.sessions.remove(request.session_id)
            self.processor.answer_unordered(request, OK, now_ms)
        else:
            self.processor.answer_unordered(request, NOT_READ_ONLY, now_ms)

    @property
    def next_due_ms(self) -> int | None:
        """See `Duties`."""
        return self.sessions.next_due_ms

    def tick(self, now_ms: int) -> None:
        """See `Duties`. Clients that are silent for too long lose their connection, and a local session ends."""
        if now_ms < self.sessions.next_due_ms:
            return
        for session in self.sessions.due(now_ms):
            self.sessions.remove(session.session_id)
            connection = self.processor.connection_of(session.session_id)
            if connection is not None:
                self.processor.drop(connection)
