"""Sessions as the server that may expire them sees them: timeouts in buckets, owners, and which are closing.

Only a leader or a standalone server tracks sessions; the replicated table of sessions is the tree's. Decides when a
session is due and whether a request may act for it; closing one is a transaction like any other. Time comes in as an
argument, in milliseconds of a monotonic clock.
"""

from __future__ import annotations

from collections.abc import Iterable

from .codes import SESSION_EXPIRED, SESSION_MOVED, Refused
from .ids import first_session_id, signed64


class Session:
    """One tracked session.

    Attributes:
        session_id: its id.
        timeout_ms: negotiated timeout.
        expires_ms: the tick at which it is due, unless touched.
        closing: a closeSession is on its way; nothing may act for the session any more.
        owner: through whom its last connect came; `None` until someone claims it.
    """

    __slots__ = ("closing", "expires_ms", "owner", "session_id", "timeout_ms")

    def __init__(self, session_id: int, timeout_ms: int, owner: object | None) -> None:
        self.session_id = session_id
        self.timeout_ms = timeout_ms
        self.expires_ms = 0
        self.closing = False
        self.owner = owner


NO_SESSION = Session(0, 0, None)
"""Stands for the session of a connection that has none yet: nothing may act for it."""
NO_SESSION.closing = True


class SessionIds:
    """Session ids of one server, each given out once in its life, whatever its role.

    Args:
        server_id: highest byte of the ids.
        now_ms: a clock that tells this life of the server from earlier ones.
    """

    def __init__(self, server_id: int, now_ms: int) -> None:
        self._last = first_session_id(server_id, now_ms)

    def next(self) -> int:
        """An id that nobody else gives out."""
        session_id = self._last
        self._last = signed64(session_id + 1)
        return session_id


class SessionTracker:
    """Every live session, in buckets by the tick at which it is due.

    Args:
        server_id: highest byte of the ids given out.
        tick_ms: width of a bucket; a session lives up to one tick longer than its timeout, never shorter.
        now_ms: the clock at the start.
        ids: where new ids come from, for a server that tracks sessions more than once in its life.

    Attributes:
        sessions: every session by its id.
    """

    def __init__(self, *, server_id: int, tick_ms: int, now_ms: int, ids: SessionIds | None = None) -> None:
        self.sessions: dict[int, Session] = {}
        self._tick_ms = tick_ms
        self._ids = SessionIds(server_id, now_ms) if ids is None else ids
        self._buckets: dict[int, dict[int, Session]] = {}
        self._next_due = self._round_up(now_ms)

    def _round_up(self, time_ms: int) -> int:
        return (time_ms // self._tick_ms + 1) * self._tick_ms

    def next_id(self) -> int:
        """A session id that nobody else gives out."""
        return self._ids.next()

    def track(self, session_id: int, timeout_ms: int, now_ms: int, owner: object | None = None) -> Session:
        """Begins to track a session, or touches the one that is there."""
        session = self.sessions.get(session_id)
        if session is None:
            session = self.sessions[session_id] = Session(session_id, timeout_ms, owner)
        self.touch(session, now_ms)
        return session

    def touch(self, session: Session, now_ms: int) -> None:
        """The client was heard of: its timeout begins again. A closing session is not saved by that."""
        expires_ms = self._round_up(now_ms + session.timeout_ms)
        # Word of a touch may come late, through a follower: it never brings the end nearer.
        if expires_ms <= session.expires_ms or session.closing:
            return
        self._remove_from_bucket(session)
        session.expires_ms = expires_ms
        self._buckets.setdefault(expires_ms, {})[session.session_id] = session

    def _remove_from_bucket(self, session: Session) -> None:
        bucket = self._buckets.get(session.expires_ms)
        if bucket is not None:
            bucket.pop(session.session_id, None)
            if not bucket:
                del self._buckets[session.expires_ms]

    def reopen(self, session_id: int, timeout_ms: int, now_ms: int, owner: object | None = None) -> Session | None:
        """A client comes back with a session: the session with its new timeout and owner, `None` when it is over."""
        session = self.sessions.get(session_id)
        if session is None or session.closing:
            return None
        session.timeout_ms = timeout_ms
        session.owner = owner
        # The new timeout may be shorter.
        self._remove_from_bucket(session)
        session.expires_ms = 0
        self.touch(session, now_ms)
        return session

    def check(self, session_id: int, owner: object | None) -> None:
        """Whether a request that came through `owner` may act for the session; an unowned session is claimed.

        Raises:
            Refused: the session is over, or has moved to another server.
        """
        session = self.sessions.get(session_id)
        if session is None or session.closing:
            raise Refused(SESSION_EXPIRED)
        if session.owner is None:
            session.owner = owner
        elif session.owner is not owner:
            raise Refused(SESSION_MOVED)

    def set_closing(self, session_id: int) -> None:
        """A closeSession has been prepared."""
        session = self.sessions.get(session_id)
        if session is not None:
            session.closing = True
            self._remove_from_bucket(session)

    def remove(self, session_id: int) -> None:
        """A closeSession has been applied."""
        session = self.sessions.pop(session_id, None)
        if session is not None:
            self._remove_from_bucket(session)

    def restore(self, sessions: Iterable[tuple[int, int]], now_ms: int) -> None:
        """Starts the full timeout of every session of the tree anew, as after a restart or a new leader."""
        for session_id, timeout_ms in sessions:
            self.track(session_id, timeout_ms, now_ms)

    @property
    def next_due_ms(self) -> int:
        """When `due` should be asked next."""
        return self._next_due

    def due(self, now_ms: int) -> list[Session]:
        """Sessions whose time is over, now closing; each is reported once and stays tracked until it is removed.

        When the caller is late by more than a tick, it was the server that slept: what clients sent meanwhile is still
        to be read, so nobody is due before the next tick.
        """
        overslept = now_ms - self._next_due > self._tick_ms
        self._next_due = self._round_up(now_ms)
        if overslept:
            return []
        found: list[Session] = []
        for tick in sorted(tick for tick in self._buckets if tick <= now_ms):
            found.extend(self._buckets.pop(tick).values())
        for session in found:
            session.closing = True
        return found

    def expiries(self) -> dict[int, list[int]]:
        """Session ids by the tick at which they are due, earliest first."""
        return {due: list(self._buckets[due]) for due in sorted(self._buckets)}
