"""Is the server still there, and does it know that we are? Times of one connection, and what follows from them.
Sans-IO.

Sends nothing: it says when a ping is due and when a server is to be given up, and why.
"""

from __future__ import annotations

from math import inf

from ._proof import KEEPALIVE_SHARE
from .errors import OperationTimeoutError

PING_SHARE = 1 / 3
READ_TIMEOUT_SHARE = 2 / 3
REPLY_TIMEOUT_SHARE = 3
"""Shares of the negotiated session timeout: send-idle time before a ping, silence before the server is given up (both
as in the Java client), and how long the oldest request may stay unanswered on a connection that is otherwise alive."""


class Liveness:
    """Times of the current connection, in seconds by the session's clock.

    Attributes:
        timeout: negotiated session timeout.
        heard_at: when the last bytes came.
        sent_at: when the last bytes went.
        ready_by: until when the connection must be established and everything restored.
    """

    __slots__ = ("_oldest", "heard_at", "ready_by", "sent_at", "timeout")

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.heard_at = self.sent_at = -inf
        self.ready_by = inf
        # The oldest request in flight at the last look, and since when it has been the oldest.
        self._oldest: tuple[int, float] = (0, inf)

    def link_up(self, now: float, handshake_timeout: float) -> None:
        """A connection begins."""
        self.heard_at = self.sent_at = now
        self.ready_by = now + handshake_timeout
        self._oldest = (0, inf)

    def accepted(self, timeout: float) -> None:
        """The server gave a session with this timeout; what follows may take as long once more."""
        self.timeout = timeout
        self.ready_by = self.heard_at + timeout

    def _ping_at(self, keepalive: bool) -> float:
        return self.sent_at + self.timeout * (KEEPALIVE_SHARE if keepalive else PING_SHARE)

    def next_deadline(self, keepalive: bool, blocked: bool) -> float:
        """When to look again, on an accepted connection. `blocked`: the link takes nothing, so no ping can be due."""
        silent_at = self.heard_at + self.timeout * READ_TIMEOUT_SHARE
        return silent_at if blocked else min(silent_at, self._ping_at(keepalive))

    def ping_due(self, now: float, keepalive: bool) -> bool:
        """Nothing was sent for long enough that the server must be told of us. `keepalive`: somebody owns something."""
        return now >= self._ping_at(keepalive)

    def silence(self, now: float) -> OperationTimeoutError | None:
        """Why the server must be given up, if it must: nothing was heard from it."""
        # The same sum as in `next_deadline`: rounded otherwise, a deadline could be due and nothing to do about it.
        if now >= self.heard_at + self.timeout * READ_TIMEOUT_SHARE:
            return OperationTimeoutError(f"nothing heard from the server for {now - self.heard_at:.3f} s")
        return None

    def unreadiness(self, now: float) -> OperationTimeoutError | None:
        """Why the server must be given up, if it must: the connection is not established in time."""
        if now >= self.ready_by:
            return OperationTimeoutError("the server did not answer the connect request, or what follows it, in time")
        return None

    def stuckness(self, now: float, oldest_xid: int) -> OperationTimeoutError | None:
        """Why the server must be given up, if it must: it answers pings, but not the oldest request (0: there is
        none).
        """
        if oldest_xid == 0 or oldest_xid != self._oldest[0]:
            self._oldest = (oldest_xid, now if oldest_xid else inf)
        waited = now - self._oldest[1]
        if waited >= self.timeout * REPLY_TIMEOUT_SHARE:
            return OperationTimeoutError(f"request {oldest_xid} has not been answered for {waited:.3f} s")
        return None
