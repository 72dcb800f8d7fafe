"""Sessions as a learner knows them: it judges none, it only tells the leader whose clients it has heard of."""

from __future__ import annotations

from .sessions import Session, SessionIds, SessionTracker


class LearnerSessions(SessionTracker):
    """The sessions of the ensemble, none of which is ever due here.

    Args:
        ids: where new ids come from.
    """

    def __init__(self, ids: SessionIds) -> None:
        super().__init__(server_id=0, tick_ms=1, now_ms=0, ids=ids)
        self._touched: dict[int, int] = {}

    def touch(self, session: Session, now_ms: int) -> None:
        """The client was heard of: the leader is told with the next answer to its ping."""
        self._touched[session.session_id] = session.timeout_ms

    def remove(self, session_id: int) -> None:
        """A closeSession has been applied."""
        super().remove(session_id)
        self._touched.pop(session_id, None)

    def confirm(self, session_id: int, timeout_ms: int, now_ms: int) -> Session:
        """The leader says that a session lives, whose client has come here with this timeout."""
        session = self.track(session_id, timeout_ms, now_ms)
        session.timeout_ms = timeout_ms
        self.touch(session, now_ms)
        return session

    def take_touches(self) -> list[tuple[int, int]]:
        """(session id, timeout in ms) of those heard of since the last call."""
        touched, self._touched = self._touched, {}
        return list(touched.items())
