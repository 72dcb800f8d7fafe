"""One learner as its leader sees it: how far it has come, when it was heard of, what it owes.

Decides when a learner is overdue. It sends nothing; what happens in which phase is the leader's business.
"""

from __future__ import annotations

import enum


class LinkPhase(enum.IntEnum):
    """How far a learner has come; it only goes forward."""

    GREETING = 0
    """Connected; FOLLOWERINFO or OBSERVERINFO is expected."""
    WAITING = 1
    """It waits for the epoch of its leader, which a quorum decides on."""
    OFFERED = 2
    """It has the epoch; ACKEPOCH is expected."""
    ADMITTED = 3
    """It waits to be brought into step."""
    SYNCING = 4
    """Everything it lacks was sent, then NEWLEADER; the ACK of that is expected, live traffic follows already."""
    SYNCED = 5
    """It has the initial history; it waits until a quorum has it."""
    ACTIVE = 6
    """UPTODATE was sent."""


class LearnerLink:
    """One link that a learner has opened.

    Args:
        link: its number.
        now_ms: the clock.

    Attributes:
        phase: how far it has come.
        sid: who it is, once it has said so; -1 before.
        is_observer: whether it came as one: it gets INFORM in place of PROPOSAL and COMMIT.
        zxid: the last transaction it had when it came.
        heard_ms: when the last packet came from it.
        since_ms: when it came to its phase.
        echoed: the last round of PINGs that it has answered.
        owed: the last committed transaction that it was sent by DIFF, and has not acknowledged; None where none is.
    """

    __slots__ = (
        "_last_sent",
        "_watched",
        "_watched_ms",
        "echoed",
        "heard_ms",
        "is_observer",
        "link",
        "owed",
        "phase",
        "sid",
        "since_ms",
        "zxid",
    )

    def __init__(self, link: int, now_ms: int) -> None:
        self.link = link
        self.phase = LinkPhase.GREETING
        self.sid = -1
        self.is_observer = False
        self.zxid = -1
        self.heard_ms = now_ms
        self.since_ms = now_ms
        self.echoed = 0
        self.owed: int | None = None
        # The oldest proposal without an ACK is not known; one of them is watched at a time, as ZooKeeper does.
        self._watched = 0
        self._watched_ms: int | None = None
        self._last_sent = 0

    def enter(self, phase: LinkPhase, now_ms: int) -> None:
        """Comes to its next phase."""
        assert phase > self.phase, (phase, self.phase)
        self.phase = phase
        self.since_ms = now_ms

    @property
    def gets_proposals(self) -> bool:
        """Whether PROPOSAL and COMMIT are sent to it."""
        return self.phase >= LinkPhase.SYNCING and not self.is_observer

    @property
    def gets_informed(self) -> bool:
        """Whether INFORM is sent to it."""
        return self.phase >= LinkPhase.SYNCING and self.is_observer

    def proposed(self, zxid: int, now_ms: int) -> None:
        """It was sent a proposal, which it is to acknowledge."""
        self._last_sent = zxid
        if self._watched_ms is None:
            self._watched, self._watched_ms = zxid, now_ms

    def acknowledged(self, zxid: int, now_ms: int) -> None:
        """It has acknowledged a proposal; it does so in order."""
        if self.owed is not None and zxid >= self.owed:
            self.owed = None
        if self._watched_ms is not None and zxid >= self._watched:
            self._watched, self._watched_ms = self._last_sent, now_ms
            if zxid >= self._last_sent:
                self._watched_ms = None

    def overdue(self, now_ms: int, *, init_ms: int, sync_ms: int) -> str | None:
        """Why its link is to be closed, None where it is not."""
        if self.phase >= LinkPhase.SYNCED:
            if self.phase == LinkPhase.ACTIVE and now_ms - max(self.heard_ms, self.since_ms) > sync_ms:
                return "it was silent for too long"
            if self._watched_ms is not None and now_ms - max(self._watched_ms, self.since_ms) > sync_ms:
                return "it did not acknowledge a proposal in time"
        elif self.phase in (LinkPhase.GREETING, LinkPhase.OFFERED):
            if now_ms - self.since_ms > init_ms:
                return f"it took too long in {self.phase.name}"
        elif self.phase == LinkPhase.SYNCING and now_ms - max(self.heard_ms, self.since_ms) > init_ms:
            return "it did not acknowledge NEWLEADER in time"
        return None
