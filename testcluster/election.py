"""FastLeaderElection: for whom one server votes, and when the election is over.

Decides by the rules of ZooKeeper 3.8's FastLeaderElection, whose notifications it speaks, so that both kinds elect
together. It sends nothing by itself, keeps nothing on disk, and does not judge whether the elected leader can lead:
that is found out in discovery.

    election = Election(sid, config, is_observer=False)
    election.start(last_zxid, current_epoch, now_ms)    LOOKING; and again whenever a leader is lost
    election.receive(sender, notification, now_ms)      in every state: others may be LOOKING
    election.tick(now_ms)                               at `next_due_ms`
    election.take_sends()                               after each of them
    election.elected                                    once it is over; then
    election.settle(state), election.established(epoch) what LOOKING servers are told from then on
"""

from __future__ import annotations

from typing import NamedTuple

from .ids import signed64
from .messages import Notification, ServerState
from .quorum import QuorumConfig

RESEND_FIRST_MS = 200
"""Pause before an undecided vote is sent again; each further pause is twice as long (ZooKeeper's own)."""

RESEND_MAX_MS = 1600
"""Longest such pause. (ZooKeeper: 60 s. Here an ensemble shall be back soon after a long partition.)"""

FINALIZE_MS = 200
"""How long a quorum that agrees waits for a better vote, unless every voter agrees already (ZooKeeper's own)."""

ASKING_MAX = 64
"""Servers without a vote that are told of the outcome when they asked too early."""

_ROUND_MAX = 1 << 62
_NO_VOTE = signed64(1 << 63)
_UNKNOWN_ZXID = -1


class Vote(NamedTuple):
    """For whom a server votes.

    Attributes:
        leader: its sid.
        zxid: its last transaction.
        election_epoch: the round of the vote.
        peer_epoch: its current epoch.
    """

    leader: int
    zxid: int
    election_epoch: int
    peer_epoch: int


class _Heard(NamedTuple):
    """A vote with what its equality depends on."""

    vote: Vote
    state: ServerState
    version: int

    def agrees(self, other: _Heard) -> bool:
        mine, theirs = self.vote, other.vote
        if ServerState.LOOKING in (self.state, other.state):
            return mine == theirs
        # A leader's followers rewrite the epoch when they are in step, not all at once; the form without a version
        # says nothing reliable about it.
        if (self.version > 0) != (other.version > 0):
            return mine.leader == theirs.leader
        return (mine.leader, mine.peer_epoch) == (theirs.leader, theirs.peer_epoch)


class Election:
    """One server's part in all elections of its life.

    Args:
        sid: this server.
        config: the ensemble.
        is_observer: whether it only watches who is elected.

    Attributes:
        state: what the server is doing.
        round: the logical clock of elections; it never goes back.
        vote: for whom it votes, or which leader it follows.
        elected: the outcome, once there is one, until the next `start`.
    """

    def __init__(self, sid: int, config: QuorumConfig, *, is_observer: bool) -> None:
        self.sid = sid
        self.state = ServerState.LOOKING
        self.round = 0
        self.elected: Vote | None = None
        self._config = config
        self._config_text = config.text()
        self._votes = config.is_voter(sid) and not is_observer
        self._own = self.vote = Vote(_NO_VOTE, _NO_VOTE, 0, _NO_VOTE)
        # Votes of this round; and of servers that have a leader, of any round.
        self._received: dict[int, _Heard] = {}
        self._settled: dict[int, _Heard] = {}
        self._asking: dict[int, None] = {}
        self._absent: set[int] = set()
        self._sends: list[tuple[int, Notification]] = []
        self._pause_ms = RESEND_FIRST_MS
        self._resend_ms: int | None = None
        self._decide_ms: int | None = None

    # Inputs.

    def start(self, last_zxid: int, current_epoch: int, now_ms: int) -> None:
        """Looks for a leader.

        Args:
            last_zxid: the last transaction that is durable here; -1 if this server cannot trust its empty disk.
            current_epoch: as the disk has it.
            now_ms: the clock.
        """
        self.round += 1
        self.state = ServerState.LOOKING
        self.elected = None
        self._own = Vote(_NO_VOTE, _NO_VOTE, self.round, _NO_VOTE)
        if self._votes:
            self._own = Vote(self.sid, last_zxid, self.round, current_epoch)
        self.vote = self._own
        self._received.clear()
        self._settled.clear()
        self._absent.clear()
        self._decide_ms = None
        self._pause_ms = RESEND_FIRST_MS
        self._resend_ms = now_ms + self._pause_ms
        self._broadcast()
        self._conclude(now_ms)

    def receive(self, sender: int, notification: Notification, now_ms: int) -> None:
        """A notification has come; in every state of this server."""
        looking = notification.state is ServerState.LOOKING
        if sender == self.sid:
            return
        self._absent.discard(sender)
        if not self._config.is_voter(sender):
            self._answer_stranger(sender, looking=looking)
        elif self.state is not ServerState.LOOKING:
            if looking and self._votes:
                self._send(sender, self.vote.election_epoch)
        elif self._config.is_voter(notification.leader) and abs(notification.election_epoch) < _ROUND_MAX:
            if looking:
                self._count_looking(sender, notification, now_ms)
            elif notification.state is not ServerState.OBSERVING:
                self._count_settled(sender, notification)

    def absent(self, sid: int, now_ms: int) -> None:
        """A voter's machine says that no server listens there: nobody needs to wait for its vote until it speaks."""
        if self.state is ServerState.LOOKING and self.elected is None:
            self._absent.add(sid)
            self._conclude(now_ms)

    def tick(self, now_ms: int) -> None:
        """Time has passed."""
        if self._decide_ms is not None and now_ms >= self._decide_ms:
            self._decide(self.vote)
        elif self._resend_ms is not None and now_ms >= self._resend_ms:
            self._pause_ms = min(2 * self._pause_ms, RESEND_MAX_MS)
            self._resend_ms = now_ms + self._pause_ms
            self._broadcast()

    def settle(self, state: ServerState) -> None:
        """Takes the role that follows from the election; those who asked for a leader meanwhile are told."""
        self.state = state
        asking, self._asking = self._asking, {}
        for sid in asking:
            self._send(sid, self.round)

    def established(self, epoch: int) -> None:
        """The server is in step with the leader of `epoch`, or leads it: so says its vote from now on."""
        self.vote = self.vote._replace(peer_epoch=epoch)

    # Outputs.

    def take_sends(self) -> list[tuple[int, Notification]]:
        """What is to be sent to whom, the oldest first."""
        sends, self._sends = self._sends, []
        return sends

    @property
    def next_due_ms(self) -> int | None:
        """When `tick` is to be called."""
        return self._resend_ms if self._decide_ms is None else self._decide_ms

    def _send(self, sid: int, election_epoch: int) -> None:
        leader, zxid, _, peer_epoch = self.vote
        notification = Notification(self.state, leader, zxid, election_epoch, peer_epoch, config=self._config_text)
        self._sends.append((sid, notification))

    def _broadcast(self) -> None:
        for sid in sorted(self._config.voters):
            if sid != self.sid:
                self._send(sid, self.round)
        if self._votes:
            self._received[self.sid] = _Heard(self.vote, ServerState.LOOKING, 0)

    def _answer_stranger(self, sender: int, *, looking: bool) -> None:
        # ZooKeeper answers whatever comes, and an observer that has a leader answers a voter that has none: without
        # end, so here neither does.
        if not looking:
            return
        if self.state is ServerState.LOOKING and len(self._asking) < ASKING_MAX:
            self._asking[sender] = None
        self._send(sender, self.round)

    # Votes of servers that look for a leader.

    def _beats(self, new: Vote, current: Vote) -> bool:
        """ZooKeeper's order of votes: epoch, then history, then sid."""
        if self._config.weight(new.leader) == 0:
            return False
        return (new.peer_epoch, new.zxid, new.leader) > (current.peer_epoch, current.zxid, current.leader)

    def _count_looking(self, sender: int, notification: Notification, now_ms: int) -> None:
        theirs = Vote(notification.leader, notification.zxid, notification.election_epoch, notification.peer_epoch)
        if theirs.election_epoch < self.round:
            self._tell(sender)
            return
        if _UNKNOWN_ZXID in (self._own.zxid, theirs.zxid):
            return
        if theirs.election_epoch > self.round:
            self.round = theirs.election_epoch
            self._received.clear()
            self._own = self._own._replace(election_epoch=self.round)
            self._adopt(theirs if self._beats(theirs, self._own) else self._own)
        elif self._beats(theirs, self.vote):
            self._adopt(theirs)
        elif self._beats(self.vote, theirs):
            # ZooKeeper waits here until one of both sends again.
            self._tell(sender)
        self._received[sender] = _Heard(theirs, ServerState.LOOKING, 0)
        self._conclude(now_ms)

    def _tell(self, sender: int) -> None:
        """Lets a voter know of a better vote. Voters answer whoever has no vote, so such a one must not answer them."""
        if self._votes:
            self._send(sender, self.round)

    def _adopt(self, vote: Vote) -> None:
        self.vote = vote
        self._decide_ms = None
        self._broadcast()

    def _conclude(self, now_ms: int) -> None:
        """Decides when every voter agrees that is there; when a quorum does, lets others have their say first."""
        agreeing = {sid for sid, heard in self._received.items() if heard.vote == self.vote}
        if not self._config.has_quorum(agreeing):
            self._decide_ms = None
        elif self._config.voters <= agreeing | self._absent:
            self._decide(self.vote)
        elif self._decide_ms is None:
            self._decide_ms = now_ms + FINALIZE_MS

    # Votes of servers that have a leader.

    def _count_settled(self, sender: int, notification: Notification) -> None:
        state, leader, zxid, election_epoch, peer_epoch, version, _ = notification
        vote = Vote(leader, zxid, election_epoch, peer_epoch)
        heard = _Heard(vote, state, version)
        if election_epoch == self.round:
            # As ZooKeeper keeps it: without the version, so that the epochs of such votes are not compared.
            self._received[sender] = _Heard(vote, state, 0)
            if self._is_led(self._received, heard):
                self._decide(vote)
                return
        self._settled[sender] = heard
        if self._is_led(self._settled, heard):
            self.round = election_epoch
            self._decide(vote)

    def _is_led(self, votes: dict[int, _Heard], heard: _Heard) -> bool:
        """Whether a quorum follows the leader of that vote, and the leader knows that it leads."""
        if not self._config.has_quorum([sid for sid, other in votes.items() if other.agrees(heard)]):
            return False
        leader = heard.vote.leader
        if leader == self.sid:
            return heard.vote.election_epoch == self.round
        return leader in votes and votes[leader].state is ServerState.LEADING

    def _decide(self, vote: Vote) -> None:
        self.vote = self.elected = vote
        self._decide_ms = self._resend_ms = None
        self._received.clear()
        self._settled.clear()
        if vote.leader == self.sid:
            self.state = ServerState.LEADING
        else:
            self.state = ServerState.FOLLOWING if self._votes else ServerState.OBSERVING
