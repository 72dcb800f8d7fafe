"""The proof that a session is still alive, on which ownership rests. Sans-IO.

A client must stop before the leader expires its session, without hearing from anyone. Pings are no proof: a follower
that is cut off from its leader goes on answering them, and so does a deposed leader. What proves that the leader had
the session at a certain time is the answer to a request that a quorum ordered. With T the negotiated timeout:

- the proof holds until T/2 after the *sending* of the last such request that was answered on the current connection;
- while anyone needs it, it is renewed at least every T/4, by any write of the session or else by an empty multi, and
  the session sends something at least every T/6.

So the leader's last touch of the session is at most T/6 and half a tick old when a proof is sent: a follower reports
the sessions it has heard of every half tick. The leader then expires the session no earlier than T - T/6 - tick/2 after
the sending, which is more than T/2 for T of at least two ticks, the shortest that a server grants.

Before the sixths have begun a ping may be T/3 old, and only T - T/3 - tick/2, so 5/12 of T, are certain.
"""

from __future__ import annotations

from math import inf

PROOF_SHARE = 1 / 2
RENEWAL_SHARE = 1 / 4
KEEPALIVE_SHARE = 1 / 6
FIRST_PROOF_SHARE = 5 / 12
DRIFT_MARGIN = 0.02
"""Part of the proof's length that is given away, since the clocks of client and leader need not run at one speed."""


class OwnershipProof:
    """When the session was last proven alive, and until when that holds. Times by the session's clock, in seconds.

    Attributes:
        deadline: until when ownership is proven; -inf without a proof.
        proven_at: when the request behind the current proof was sent; -inf without one.
        holders: how many want the proof kept.
    """

    __slots__ = ("_attempted_at", "_kept_from", "_timeout", "deadline", "holders", "proven_at")

    def __init__(self) -> None:
        self.deadline = -inf
        self.proven_at = -inf
        self.holders = 0
        self._attempted_at = -inf
        self._timeout = inf
        # A request sent from here on finds the session touched within a sixth of the timeout.
        self._kept_from = inf

    def hold(self, now: float) -> None:
        """Somebody wants the proof kept."""
        self.holders += 1
        if self.holders == 1:
            self._kept_from = now + self._timeout * KEEPALIVE_SHARE

    def release(self) -> None:
        """Somebody wants it no more."""
        self.holders -= 1
        if not self.holders:
            self._kept_from = inf

    def negotiated(self, timeout: float) -> None:
        """A connection was accepted with this session timeout. That proves nothing, and may shorten what was proven."""
        shorter, self._timeout = timeout < self._timeout, timeout
        self._attempted_at = -inf
        if self.holders:
            self._kept_from = -inf  # the leader was asked for the session a moment ago
        if shorter and self.proven_at > -inf:
            self.deadline = min(self.deadline, self._until(self.proven_at, FIRST_PROOF_SHARE))

    def answered(self, sent_at: float) -> None:
        """A quorum-ordered request that was sent at `sent_at`, on the current connection, was answered."""
        if sent_at > self.proven_at:
            self.proven_at = sent_at
            share = PROOF_SHARE if sent_at >= self._kept_from else FIRST_PROOF_SHARE
            self.deadline = max(self.deadline, self._until(sent_at, share))

    def _until(self, sent_at: float, share: float) -> float:
        return sent_at + self._timeout * share * (1 - DRIFT_MARGIN)

    def renewal_due(self) -> float:
        """When the next renewal must go out; inf while nobody needs one."""
        if not self.holders:
            return inf
        return max(self.proven_at, self._attempted_at) + self._timeout * RENEWAL_SHARE

    def renewing(self, now: float) -> None:
        """A renewal was handed over for sending."""
        self._attempted_at = now

    def session_lost(self) -> None:
        """The session is over, so nothing is proven."""
        self.deadline = self.proven_at = self._attempted_at = -inf
