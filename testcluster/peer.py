"""One server of an ensemble as Zab sees it: it looks for a leader, leads or learns, and looks again.

Decides who it is at any time, and that nothing of one role survives into the next: before a server votes, everything it
has ever written is durable, so that its vote, its promises and its history are those of its disk. It moves no byte (see
`ready.py` for what it wants done) and does not know what a transaction means.

    peer = Peer(sid, config, settings, history=..., accepted_epoch=..., current_epoch=..., touches=..., chance=...)
    peer.start(now_ms)
    peer.notification(...), link_accepted(...), dialled(...), packet(...), link_closed(...), durable(...)   as they come
    peer.tick(now_ms)                           at `next_due_ms`
    while ready := peer.take_ready(): ...       after each of them
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from .election import Election
from .history import History
from .leader import LINKS_MAX, Leading
from .learner import Learning
from .learner_link import LearnerLink
from .local import Local, PeerSettings
from .messages import Notification, QuorumPacket, ServerState
from .quorum import QuorumConfig
from .ready import Ready, Role, SendNotification
from .snapshot_body import SnapshotBody
from .txns import Txn

__all__ = ["GUEST_PAUSE_MAX_MS", "OBSERVER_PAUSE_MAX_MS", "Peer", "PeerSettings"]

logger = logging.getLogger("terzetto.testcluster.peer")

OBSERVER_PAUSE_MAX_MS = 200
"""Longest time for which an observer that has lost its leader waits before it asks for another one, drawn by chance,
so that the voters are not asked by all of them at once (ZooKeeper's `observer.election.DelayMs`)."""

GUEST_PAUSE_MAX_MS = 1000
"""How long who has connected before the election is over may wait for it. Some moments lie between two servers' finding
that it is; whoever was wrong must not wait long to look again."""

VAIN_MAX = 3
VAIN_PAUSE_MS = 50
VAIN_PAUSE_MAX_MS = 400
"""How often in a row a voter may be refused by a leader before it pauses ahead of the next election, and for how long:
doubled each time. Where a leader is established an election takes no time, so that a server that it can never have (one
that knows a later configuration, say) would keep both busy."""


@dataclass(slots=True)
class _Guest:
    """Who has connected to the quorum port before the election was over.

    Attributes:
        due_ms: when it is sent away.
        packet: what it has said; a learner says one thing and waits.
    """

    due_ms: int
    packet: QuorumPacket | None = None


class Peer:
    """The peer.

    Args:
        sid: this server.
        config: the ensemble; a server that is not in it, or is there as one, is an observer.
        settings: how patient it is.
        history: what its disk has.
        accepted_epoch: the last promise on disk.
        current_epoch: the epoch of the last leader followed, on disk.
        touches: encoded touches of sessions since the last call, for the answer to a PING.
        chance: where chance comes from.
    """

    def __init__(
        self,
        sid: int,
        config: QuorumConfig,
        settings: PeerSettings,
        history: History,
        accepted_epoch: int,
        current_epoch: int,
        *,
        touches: Callable[[], bytes],
        chance: Random,
    ) -> None:
        self._local = Local(
            sid,
            config,
            settings,
            history=history,
            accepted_epoch=accepted_epoch,
            current_epoch=current_epoch,
            touches=touches,
        )
        self._chance = chance
        self._election = Election(sid, config, is_observer=not self._local.is_voter)
        self._role: Leading | Learning | None = None
        # While LOOKING: whether the election has begun, when it may at the earliest, and who has connected already.
        self._looks = False
        self._look_ms: int | None = None
        # Roles, one after the other, that ended before they served.
        self._vain = 0
        self._guests: dict[int, _Guest] = {}

    # What it is.

    @property
    def sid(self) -> int:
        """This server."""
        return self._local.sid

    @property
    def history(self) -> History:
        """What it has logged."""
        return self._local.history

    @property
    def state(self) -> ServerState:
        """LOOKING, FOLLOWING, LEADING or OBSERVING."""
        return ServerState.LOOKING if self._role is None else self._role.state

    @property
    def leader(self) -> int | None:
        """The leader's sid, None while LOOKING."""
        if isinstance(self._role, Leading):
            return self.sid
        return None if self._role is None else self._role.leader

    @property
    def epoch(self) -> int:
        """The leader's epoch, once it is known; else the last one that was followed."""
        return self._local.current_epoch if self._role is None else self._role.epoch

    @property
    def accepted_epoch(self) -> int:
        """The last promise."""
        return self._local.accepted_epoch

    @property
    def current_epoch(self) -> int:
        """The last epoch whose initial history is in the log."""
        return self._local.current_epoch

    @property
    def last_proposed(self) -> int:
        """As leader, the last proposal, before the first one the epoch's own zxid; else the last logged."""
        return self._role.last_proposed if isinstance(self._role, Leading) else self.history.last_logged

    @property
    def last_committed(self) -> int:
        """As leader, the last proposal with a quorum, as `last_proposed`; else the last applied."""
        return self._role.last_committed if isinstance(self._role, Leading) else self.history.applied

    @property
    def next_due_ms(self) -> int | None:
        """When `tick` is to be called."""
        if self._role is not None:
            return self._role.next_due_ms
        dues: list[int | None] = [guest.due_ms for guest in self._guests.values()]
        if self._looks:
            dues.append(self._election.next_due_ms)
        elif self._local.outbox.is_durable:
            dues.append(self._look_ms)
        return min((due for due in dues if due is not None), default=None)

    @property
    def learners(self) -> list[LearnerLink]:
        """As leader, everybody who is connected, however far; else nobody."""
        return self._role.learners if isinstance(self._role, Leading) else []

    def take_ready(self) -> Ready | None:
        """The next portion of work, None when there is none."""
        return self._local.outbox.take()

    # Inputs.

    def start(self, now_ms: int) -> None:
        """Begins to look for a leader."""
        self._local.now_ms = now_ms
        self._look("it has started")

    def tick(self, now_ms: int) -> None:
        """Time has passed."""
        self._local.now_ms = now_ms
        if self._role is not None:
            self._role.tick()
            return
        for link in [link for link, guest in self._guests.items() if now_ms >= guest.due_ms]:
            self._send_away(link)
        if not self._looks:
            self._begin_election()
        else:
            self._election.tick(now_ms)
            self._follow_election()

    def notification(self, sender: int, notification: Notification, now_ms: int) -> None:
        """A vote has come."""
        self._local.now_ms = now_ms
        # Its own vote would be that of the role before, or none.
        if self._role is not None or self._looks:
            self._election.receive(sender, notification, now_ms)
            self._follow_election()

    def voter_absent(self, sid: int, now_ms: int) -> None:
        """Nobody listens at a voter's election port; its machine has said so."""
        self._local.now_ms = now_ms
        if self._looks:
            self._election.absent(sid, now_ms)
            self._follow_election()

    def link_accepted(self, link: int, now_ms: int) -> None:
        """Somebody has connected to the quorum port.

        Others may know that this server is elected before it knows itself, so they are not turned away while it looks.
        """
        self._local.now_ms = now_ms
        if isinstance(self._role, Leading):
            self._role.accepted(link)
        elif self._role is not None:
            self._local.hang_up(link, "this server does not lead")
        elif len(self._guests) >= LINKS_MAX:
            self._local.hang_up(link, "there is no leader, and too many wait for one")
        else:
            self._guests[link] = _Guest(now_ms + GUEST_PAUSE_MAX_MS)

    def dialled(self, link: int, now_ms: int) -> None:
        """A `Dial` has succeeded."""
        self._local.now_ms = now_ms
        if isinstance(self._role, Learning):
            self._role.dialled(link)
        else:
            self._local.hang_up(link, "nobody was to be dialled")

    def dial_failed(self, sid: int, reason: str, now_ms: int) -> None:
        """A `Dial` has failed."""
        self._local.now_ms = now_ms
        if isinstance(self._role, Learning) and self._role.leader == sid:
            self._role.dial_failed(reason)

    def packet(self, link: int, packet: QuorumPacket, now_ms: int) -> None:
        """A packet has come. One that may not come now costs its sender the link."""
        self._local.now_ms = now_ms
        if self._role is not None:
            self._role.packet(link, packet)
        elif link in self._guests:
            if self._guests[link].packet is None:
                self._guests[link].packet = packet
            else:
                self._send_away(link)

    def snapshot_received(self, link: int, body: SnapshotBody, now_ms: int) -> None:
        """The tree behind a SNAP packet has come, whole."""
        self._local.now_ms = now_ms
        if isinstance(self._role, Learning):
            self._role.snapshot_received(link, body)
        elif isinstance(self._role, Leading):
            self._role.reject(link, "a learner sends a snapshot")

    def link_closed(self, link: int, now_ms: int) -> None:
        """The other end of a link is gone."""
        self._local.now_ms = now_ms
        self._guests.pop(link, None)
        if self._role is not None:
            self._role.closed(link)

    def durable(self, number: int, now_ms: int) -> None:
        """The writes of all Readys up to this one are durable."""
        self._local.now_ms = now_ms
        self._local.outbox.durable(number)

    def truncation_failed(self, number: int, now_ms: int) -> None:
        """The storage could not cut its history as this Ready asked for; it is as it was."""
        self._local.now_ms = now_ms
        self._local.outbox.not_written(number)
        if isinstance(self._role, Learning):
            self._role.truncation_failed()

    # The replica's inputs.

    def propose(self, txn: Txn, now_ms: int) -> None:
        """As leader, proposes a transaction; its zxid is the one behind `last_proposed`. Else it is lost."""
        self._local.now_ms = now_ms
        if isinstance(self._role, Leading):
            self._role.propose(txn)

    def send_up(self, packet: QuorumPacket) -> None:
        """As learner, sends a packet to the leader. Else it is lost."""
        if isinstance(self._role, Learning):
            self._role.send_up(packet)

    def send_down(self, link: int, packet: QuorumPacket) -> None:
        """As leader, sends a packet to a learner. It is lost if the learner is gone."""
        if isinstance(self._role, Leading):
            self._role.send(link, packet)

    def reject(self, link: int, reason: str, now_ms: int) -> None:
        """Hangs up: what came on this link makes no sense."""
        self._local.now_ms = now_ms
        if isinstance(self._role, Leading):
            self._role.reject(link, reason)
        elif self._role is not None and link in self._role.links:
            self._leave(reason)

    def confirm_leadership(self, now_ms: int) -> int:
        """As serving leader, asks a quorum of voters whether it still follows.

        Returns:
            The number that `LeadershipConfirmed` will bring; a larger one confirms this one, too. 0 where this server
            does not lead.
        """
        self._local.now_ms = now_ms
        return self._role.confirm_leadership() if isinstance(self._role, Leading) else 0

    # Roles.

    def _leave(self, reason: str) -> None:
        """Ends the role."""
        role, self._role = self._role, None
        assert role is not None, reason
        self._vain = 0 if role.has_served else self._vain + 1
        for link in role.links:
            self._local.hang_up(link, reason)
        self._local.end_role()
        self._look(reason)

    def _look(self, reason: str) -> None:
        local = self._local
        logger.info("server %d looks for a leader: %s", self.sid, reason)
        self._looks = False
        self._look_ms = None
        if not local.is_voter:
            self._look_ms = local.now_ms + self._chance.randrange(OBSERVER_PAUSE_MAX_MS + 1)
        elif self._vain > VAIN_MAX:
            doublings = min(self._vain - VAIN_MAX - 1, VAIN_PAUSE_MAX_MS.bit_length())
            self._look_ms = local.now_ms + min(VAIN_PAUSE_MS << doublings, VAIN_PAUSE_MAX_MS)
        role = Role(ServerState.LOOKING, local.current_epoch, None, serving=False, may_snapshot=False)
        local.outbox.become(role)
        local.outbox.when_durable(self._begin_election)

    def _begin_election(self) -> None:
        local = self._local
        if self._looks or self._role is not None or not local.outbox.is_durable:
            return
        if self._look_ms is not None and local.now_ms < self._look_ms:
            return
        history = local.history
        assert history.last_durable == history.last_logged, (history.last_durable, history.last_logged)
        self._looks = True
        self._look_ms = None
        self._election.start(history.last_durable, local.current_epoch, local.now_ms)
        self._follow_election()

    def _follow_election(self) -> None:
        elected = self._election.elected if self._looks else None
        if elected is not None:
            self._looks = False
            leads = elected.leader == self.sid
            role = (
                Leading(self._local, self._leave, self._election.established)
                if leads
                else Learning(self._local, elected.leader, self._leave, self._election.established)
            )
            logger.info("server %d elects %d in round %d", self.sid, elected.leader, elected.election_epoch)
            self._election.settle(role.state)
            self._role = role
            self._begin_role(role)
        for sid, notification in self._election.take_sends():
            self._local.outbox.send(SendNotification(sid, notification))

    def _begin_role(self, role: Leading | Learning) -> None:
        guests, self._guests = self._guests, {}
        if isinstance(role, Learning):
            for link in guests:
                self._local.hang_up(link, "this server does not lead")
            role.begin()
            return
        role.begin(guests)
        for link, guest in guests.items():
            if guest.packet is not None:
                role.packet(link, guest.packet)

    def _send_away(self, link: int) -> None:
        del self._guests[link]
        self._local.hang_up(link, "there is no leader")
