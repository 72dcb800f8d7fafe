"""The proof that a session is still alive, on which ownership rests. Sans-IO.

A client must stop before the leader expires its session, without hearing from anyone. Pings are no proof: a follower
that is cut off from its leader goes on answering them, and so does a deposed leader. Nor is it enough that a quorum has
ordered a request: the leader counts a session from the follower's reports, not from requests, and these may be behind.
With T the negotiated timeout, the deadline is the earlier of

- T/2 after the *sending* of the last request that a quorum has ordered and that was answered on this connection;
- T after the leader was *told* of the session, as far as that can be known: less `LATE_SHARE` for a timer that comes
  late, and both less `DRIFT_MARGIN`.

What can be known: a connection is accepted when the leader has been asked for the session, after the connect request
was sent. Later on it takes three requests one after the other on one connection, of which the last is ordered by a
quorum. The server has heard the first one when it answers it. The leader pings its servers every half tick, and a
session lasts two ticks at least. So when the second one is sent T/4 after that answer and asks the leader, then a ping
of the leader's has come to the server before the answer does, and what the server replied to it names the session. The
third one comes to the leader behind that reply; and as it was ordered, the session was alive then, and lasts for T from
the first on.

docs/design/ownership.md says all of that at length.
"""

from __future__ import annotations

from collections import deque
from math import inf

from .wire.operations import MAX_XID

PROOF_SHARE = 1 / 2
REPORT_SHARE = 1 / 4
"""Longest time between two pings of a leader to a server of its, half a tick, of the shortest timeout it grants."""
LATE_SHARE = 1 / 24
RENEWAL_SHARE = 1 / 6
NEXT_ATTEMPT_SHARE = 1 / 4
KEEPALIVE_SHARE = 1 / 6
AMPLE_SHARE = 1 / 4
"""What a renewal that somebody waits for is to prove at least; it asks twice if once is not enough."""
DRIFT_MARGIN = 0.02
"""Part of the proof's length that is given away, since the clocks of client and leader need not run at one speed."""
HEARD_SPACING = 1 / 48
"""Time between two answers that are remembered, as a share of the timeout: enough, and not too many."""


class OwnershipProof:
    """When the session was last proven alive, and until when that holds. Times by the session's clock, in seconds.

    Attributes:
        deadline: until when ownership is proven; -inf without a proof.
        proven_at: when the last request was sent that a quorum has ordered, of those that were answered; -inf without.
        told_at: when the leader was told of the session, or later: the sending of what it was told of.
        holders: how many want the proof kept.
    """

    __slots__ = (
        "_asked_at",
        "_attempted_at",
        "_heard",
        "_newest_xid",
        "_timeout",
        "_will_be_told",
        "deadline",
        "holders",
        "proven_at",
        "told_at",
    )

    def __init__(self) -> None:
        self.deadline = -inf
        self.proven_at = -inf
        self.told_at = -inf
        self.holders = 0
        self._asked_at = -inf
        self._attempted_at = -inf
        self._timeout = inf
        # What the server of this connection has heard: when it was sent, and when it was answered.
        self._heard: deque[tuple[float, float]] = deque()
        # What `told_at` will be once a quorum has ordered a request with a newer xid than this; None is any.
        self._will_be_told = -inf
        self._newest_xid: int | None = None

    def hold(self) -> None:
        """Somebody wants the proof kept."""
        self.holders += 1

    def release(self) -> None:
        """Somebody wants it no more."""
        self.holders -= 1

    # Connections ------------------------------------------------------------------------------------------------------

    def connecting(self, now: float) -> None:
        """The connect request of a new connection is sent from now on. What the old server was to report is lost."""
        self._asked_at = now
        self._heard.clear()
        self._will_be_told, self._newest_xid = -inf, None

    def negotiated(self, timeout: float, now: float) -> None:
        """A connection was accepted with this session timeout. That proves nothing, and may shorten what was proven.

        The server has asked its leader for the session. It proves that this was the leader with the first request that
        a quorum orders.
        """
        shorter, self._timeout = timeout < self._timeout, timeout
        self._attempted_at = -inf
        self._heard.append((self._asked_at, now))
        self._will_be_told, self._newest_xid = self._asked_at, None
        if shorter:
            self.deadline = min(self.deadline, self._end())

    def heard(self, sent_at: float, now: float) -> None:
        """The server has answered something that was sent at `sent_at`, whatever it is: it has heard of the session."""
        heard = self._heard
        if not heard or now - heard[-1][1] >= self._timeout * HEARD_SPACING:
            heard.append((sent_at, now))
            # A request that waits for its answer for longer than T finds nothing older, and proves nothing.
            while len(heard) > 1 and heard[1][1] <= now - self._timeout:
                heard.popleft()

    # Proofs -----------------------------------------------------------------------------------------------------------

    def answered(self, sent_at: float, xid: int, newest_xid: int) -> None:
        """A quorum-ordered request of the current connection was answered.

        Args:
            sent_at: when it was sent.
            xid: its own.
            newest_xid: of all requests made by now; greater ones are sent after this answer.
        """
        before = self._newest_xid
        # xids begin anew after the greatest.
        if before is None or 0 < (xid - before) % MAX_XID < MAX_XID // 2:
            self.told_at = max(self.told_at, self._will_be_told)
            self._will_be_told, self._newest_xid = self._heard_before(sent_at), newest_xid
        if sent_at > self.proven_at:
            self.proven_at = sent_at
        if sent_at >= self._attempted_at:
            self._attempted_at = -inf
        self.deadline = max(self.deadline, self._end())

    def _heard_before(self, sent_at: float) -> float:
        """The sending of the newest of those that were answered so long before `sent_at` that the leader has asked."""
        limit, heard = sent_at - self._timeout * REPORT_SHARE * (1 + DRIFT_MARGIN), self._heard
        while len(heard) > 1 and heard[1][1] <= limit:
            heard.popleft()
        return heard[0][0] if heard and heard[0][1] <= limit else -inf

    def _end(self) -> float:
        length = self._timeout * (1 - DRIFT_MARGIN)
        return min(self.proven_at + length * PROOF_SHARE, self.told_at + length * (1 - LATE_SHARE))

    def renewal_due(self) -> float:
        """When the next renewal must go out; inf while nobody needs one."""
        if not self.holders:
            return inf
        # One that is not answered is not repeated as soon: pings have to come in between, which may be answered.
        return max(
            self.proven_at + self._timeout * RENEWAL_SHARE, self._attempted_at + self._timeout * NEXT_ATTEMPT_SHARE
        )

    def renewing(self, now: float) -> None:
        """A renewal was handed over for sending."""
        self._attempted_at = now

    def session_lost(self) -> None:
        """The session is over, so nothing is proven."""
        self.deadline = self.proven_at = self.told_at = self._attempted_at = -inf
        self._heard.clear()
        self._will_be_told, self._newest_xid = -inf, None
