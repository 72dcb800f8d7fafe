"""The leader: it wins a quorum for an epoch, gives every learner its history, then orders and commits proposals.

Decides when an epoch is promised, when the leader is established, what a learner lacks and gets, what is committed, and
when the leader gives up. It speaks to ZooKeeper's learners as to ours and cannot tell them apart; where they need
different things, it does what is right for both. What is in a transaction it does not know.

Order of the disk and the network, in which it differs from ZooKeeper 3.8.0 nowhere that a learner could see:
acceptedEpoch is durable before LEADERINFO, currentEpoch before NEWLEADER, and an own ACK counts once the own log is
durable.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from typing import NoReturn

from terzetto.client.errors import WireError

from .ids import COUNTER_MAX, counter_of, epoch_of, make_zxid
from .learner_link import LearnerLink, LinkPhase
from .local import EPOCH_MAX, Local, ProtocolViolationError
from .messages import (
    PROTOCOL_VERSION,
    PacketType,
    QuorumPacket,
    ServerState,
    decode_int,
    decode_learner_info,
    encode_int,
)
from .proposals import Proposals, Rounds
from .ready import (
    Entry,
    LeadershipConfirmed,
    LearnerJoined,
    LearnerLeft,
    PacketArrived,
    Role,
    SendPacket,
    SendSnapshot,
)
from .synchronization import Synchronization, choose_synchronization
from .txns import Txn, encode_txn

LINKS_MAX = 1024
"""Connections to the quorum port at a time. (ZooKeeper has no bound.)"""


class LeaderPhase(enum.IntEnum):
    """What the leader waits for."""

    DISCOVERY = 0
    """A quorum of learners, to choose an epoch later than all that they have promised."""
    PROMISE = 1
    """A quorum that has promised the epoch, none of it with a longer history."""
    SYNCHRONIZATION = 2
    """A quorum that has the leader's history on disk."""
    BROADCAST = 3
    """Nothing: it is established."""


class Leading:
    """A server from winning its election to giving up.

    Args:
        local: the server.
        leave: to be called with the reason when it gives up; nothing is done afterwards.
        established: to be called with the epoch, once.
    """

    state = ServerState.LEADING

    def __init__(self, local: Local, leave: Callable[[str], None], established: Callable[[int], None]) -> None:
        self.phase = LeaderPhase.DISCOVERY
        self.epoch = local.current_epoch
        self.next_due_ms = 0
        self._local = local
        self._leave = leave
        self._established = established
        self._links: dict[int, LearnerLink] = {}
        # Of those, who gets proposals, and who is informed of what is committed.
        self._followers: list[LearnerLink] = []
        self._informed: list[LearnerLink] = []
        # Voters that wait for an epoch; then that have promised it; then that have the initial history.
        self._waiting: set[int] = set()
        self._promised: set[int] = set()
        self._synced: set[int] = set()
        self._previous_epoch = local.current_epoch
        self._proposals = Proposals(local.config, 0)
        self._own_ack = 0
        self._phase_since_ms = 0
        self._next_count_ms = 0
        # When a voter was last seen in step; one that comes back at once is not missed.
        self._in_step_ms: dict[int, int] = {}
        self._rounds = Rounds(local.sid, local.config)
        self._may_offer = False
        self._may_synchronize = False

    # Inputs.

    def begin(self, links: Iterable[int]) -> None:
        """Starts with the links that were opened already."""
        now_ms = self._phase_since_ms = self._local.now_ms
        self.next_due_ms = now_ms + self._local.settings.tick_ms // 2
        self._local.on_logged = self._logged
        self._tell_role(serving=False)
        for link in links:
            self.accepted(link)
        self._waiting.add(self._local.sid)
        self._choose_epoch()

    def accepted(self, link: int) -> None:
        """A learner, or a stranger, has connected."""
        if len(self._links) >= LINKS_MAX:
            self._local.hang_up(link, "there are too many learners")
        else:
            self._links[link] = LearnerLink(link, self._local.now_ms)

    def closed(self, link: int) -> None:
        """The other end has gone."""
        learner = self._links.pop(link, None)
        if learner is not None:
            self._forget(learner)

    def packet(self, link: int, packet: QuorumPacket) -> None:
        """A packet has come."""
        learner = self._links.get(link)
        if learner is None:
            return
        learner.heard_ms = self._local.now_ms
        try:
            self._receive(learner, packet)
        except (WireError, ProtocolViolationError) as error:
            self.reject(link, str(error))

    def reject(self, link: int, reason: str) -> None:
        """Hangs up a learner."""
        learner = self._links.pop(link, None)
        if learner is not None:
            self._local.hang_up(link, reason)
            self._forget(learner)

    def tick(self) -> None:
        """Half a tick has passed: pings, and what is overdue."""
        now_ms = self._local.now_ms
        if now_ms < self.next_due_ms:
            return
        settings = self._local.settings
        self.next_due_ms = now_ms + settings.tick_ms // 2
        for learner in list(self._links.values()):
            reason = learner.overdue(now_ms, init_ms=settings.init_ms, sync_ms=settings.sync_ms)
            if reason is not None:
                self.reject(learner.link, reason)
        reason = self._check_leadership() if self.phase == LeaderPhase.BROADCAST else self._check_progress()
        if reason is not None:
            self._leave(reason)
            return
        self._ping(self._links.values())

    # What a learner says.

    def _receive(self, learner: LearnerLink, packet: QuorumPacket) -> None:
        phase, kind = learner.phase, packet.type
        if phase == LinkPhase.GREETING:
            self._greeted(learner, packet)
        elif phase == LinkPhase.OFFERED and kind == PacketType.ACKEPOCH:
            self._epoch_answered(learner, packet)
        elif phase < LinkPhase.SYNCING:
            _refuse(packet, learner)
        elif kind == PacketType.ACK:
            self._acknowledged(learner, packet.zxid)
        elif phase == LinkPhase.SYNCING:
            _refuse(packet, learner)
        elif kind == PacketType.PING:
            self._pinged(learner, packet)
        elif kind in (PacketType.REQUEST, PacketType.REVALIDATE):
            if phase != LinkPhase.ACTIVE:
                _refuse(packet, learner)
            self._local.outbox.call(PacketArrived(learner.link, learner.sid, packet))

    def _greeted(self, learner: LearnerLink, packet: QuorumPacket) -> None:
        if packet.type not in (PacketType.FOLLOWERINFO, PacketType.OBSERVERINFO):
            _refuse(packet, learner)
        info = decode_learner_info(packet.data)
        accepted = epoch_of(packet.zxid)
        if info.protocol_version < PROTOCOL_VERSION:
            raise ProtocolViolationError(f"a learner of protocol {info.protocol_version:#x}, before Zab 1.0")
        if info.config_version > self._local.config.version:
            raise ProtocolViolationError("the learner knows a later configuration")
        if not -1 <= accepted < EPOCH_MAX:
            raise ProtocolViolationError(f"no leader can have had epoch {accepted}")
        if info.server_id == self._local.sid:
            raise ProtocolViolationError("the learner has the leader's own sid")
        if info.server_id in self._local.config.members:
            self._replace_links_of(info.server_id)
        learner.sid = info.server_id
        learner.is_observer = packet.type == PacketType.OBSERVERINFO
        learner.enter(LinkPhase.WAITING, self._local.now_ms)
        self._local.highest_epoch = max(self._local.highest_epoch, accepted)
        if self.phase != LeaderPhase.DISCOVERY:
            self._greeted_late(learner, accepted)
            return
        if self._local.config.is_voter(learner.sid):
            self._waiting.add(learner.sid)
        self._choose_epoch()

    def _greeted_late(self, learner: LearnerLink, accepted: int) -> None:
        """Offers the epoch that was chosen without this learner."""
        if accepted > self.epoch and self._local.config.is_voter(learner.sid) and not learner.is_observer:
            # It can never follow this epoch; ZooKeeper leaves it out until another leader is elected.
            self._leave(f"server {learner.sid} has promised epoch {accepted}, later than {self.epoch}")
        elif self._may_offer:
            self._offer(learner)

    def _replace_links_of(self, sid: int) -> None:
        # An ACK that is still under way on an older link must not count for what the server is about to lose.
        for other in [other.link for other in self._links.values() if other.sid == sid]:
            self.reject(other, "the server has connected again")

    def _sort_links(self) -> None:
        self._followers = [learner for learner in self._links.values() if learner.gets_proposals]
        self._informed = [learner for learner in self._links.values() if learner.gets_informed]

    def _forget(self, learner: LearnerLink) -> None:
        self._sort_links()
        if self.phase == LeaderPhase.DISCOVERY:
            self._waiting.discard(learner.sid)
        if learner.phase == LinkPhase.ACTIVE:
            self._local.outbox.call(LearnerLeft(learner.link, learner.sid))
        if learner.phase in (LinkPhase.SYNCED, LinkPhase.ACTIVE) and self._local.config.is_voter(learner.sid):
            self._in_step_ms[learner.sid] = self._local.now_ms
        self._release_held()

    # Discovery.

    def _choose_epoch(self) -> None:
        if self.phase != LeaderPhase.DISCOVERY or not self._local.config.has_quorum(self._waiting):
            return
        self.epoch = max(self._local.highest_epoch, self._local.accepted_epoch) + 1
        self._enter(LeaderPhase.PROMISE)
        self._proposals = Proposals(self._local.config, make_zxid(self.epoch, 0))
        self._local.accept_epoch(self.epoch)
        self._local.outbox.when_durable(self._offer_to_all)

    def _offer_to_all(self) -> None:
        self._may_offer = True
        for learner in list(self._links.values()):
            if learner.phase == LinkPhase.WAITING:
                self._offer(learner)
        self._promised.add(self._local.sid)
        self._count_promises()

    def _offer(self, learner: LearnerLink) -> None:
        learner.enter(LinkPhase.OFFERED, self._local.now_ms)
        self._send(learner, PacketType.LEADERINFO, make_zxid(self.epoch, 0), encode_int(PROTOCOL_VERSION))

    def _epoch_answered(self, learner: LearnerLink, packet: QuorumPacket) -> None:
        local, zxid = self._local, packet.zxid
        their_epoch = decode_int(packet.data)
        if zxid < -1 or their_epoch < -1 or epoch_of(zxid) > self.epoch or zxid > self._last_proposed:
            raise ProtocolViolationError(f"a history that ends with {zxid:#x} in epoch {self.epoch}")
        learner.zxid = zxid
        learner.enter(LinkPhase.ADMITTED, self._local.now_ms)
        if self.phase == LeaderPhase.PROMISE and their_epoch != -1:
            if self._is_ahead(their_epoch, zxid):
                raise ProtocolViolationError("the learner is ahead of the leader")
            # A promise made before, to this leader or another one of this epoch, says nothing (-1). A server that may
            # have lost its history has none that could be compared.
            if zxid != -1 and local.config.is_voter(learner.sid):
                self._promised.add(learner.sid)
                self._count_promises()
                return
        self._synchronize(learner)

    def _is_ahead(self, their_epoch: int, zxid: int) -> bool:
        history, own_epoch = self._local.history, self._local.current_epoch
        if (their_epoch, zxid) <= (own_epoch, history.last_durable):
            return False
        # One that has led this server's epoch without a transaction names the epoch and has no more than this one.
        return their_epoch != own_epoch or zxid != make_zxid(own_epoch, 0)

    @property
    def _last_proposed(self) -> int:
        return max(self._proposals.last_proposed, self._local.history.last_logged)

    def _count_promises(self) -> None:
        if self.phase == LeaderPhase.PROMISE and self._local.config.has_quorum(self._promised):
            self._enter(LeaderPhase.SYNCHRONIZATION)
            # Whoever leads was LOOKING before, and began to only once its log was durable.
            assert self._local.history.last_durable == self._local.history.last_logged
            self._local.enter_epoch(self.epoch)
            self._local.outbox.when_durable(self._begin_synchronization)

    def _begin_synchronization(self) -> None:
        self._may_synchronize = True
        for learner in list(self._links.values()):
            self._synchronize(learner)
        self._synced.add(self._local.sid)
        self._count_synced()
        self._release_held()

    # Synchronization.

    def _synchronize(self, learner: LearnerLink, *, can_wait: bool = True) -> None:
        """Sends a learner what it lacks; then it gets the live traffic."""
        if learner.phase != LinkPhase.ADMITTED or not self._may_synchronize:
            return
        local, proposals = self._local, self._proposals
        if not learner.is_observer:
            proposals.resume(learner.sid, learner.zxid)
            self._commit()
        # What it has logged is this epoch's, and its ACK counts. It is in step as soon as that is committed.
        if learner.phase != LinkPhase.ADMITTED or learner.zxid > proposals.last_committed:
            return
        chosen = choose_synchronization(
            local.history,
            learner.zxid,
            known_epochs=(self._previous_epoch, self.epoch),
            last_committed=proposals.last_committed,
            is_established=self.phase == LeaderPhase.BROADCAST,
            can_wait=can_wait,
        )
        if chosen is None:
            return
        self._send(learner, chosen.method, chosen.zxid)
        if chosen.method == PacketType.SNAP:
            # Before the leader is established, its tree lacks what it had logged and not heard to be committed.
            local.commit(proposals.last_committed)
            local.outbox.send(SendSnapshot(learner.link, chosen.zxid))
        else:
            self._send_difference(learner, chosen)
        self._send(learner, PacketType.NEWLEADER, self._epoch_zxid, local.config.text().encode())
        learner.enter(LinkPhase.SYNCING, local.now_ms)
        self._sort_links()
        # Behind NEWLEADER: ZooKeeper 3.8.0 cannot commit later what it was proposed before (ZOOKEEPER-4394).
        if learner.gets_proposals:
            for entry in proposals:
                self._send(learner, PacketType.PROPOSAL, entry.zxid, entry.payload)
                learner.proposed(entry.zxid, local.now_ms)

    def _send_difference(self, learner: LearnerLink, chosen: Synchronization) -> None:
        for zxid, payload in self._local.history.between(chosen.start, self.last_committed):
            self._send(learner, PacketType.PROPOSAL, zxid, payload)
            self._send(learner, PacketType.COMMIT, zxid)
            # ZooKeeper 3.8.0 acknowledges NEWLEADER before these are on its disk (ZOOKEEPER-4646).
            if chosen.method == PacketType.DIFF and not learner.is_observer:
                learner.owed = zxid

    def _release_held(self) -> None:
        """Brings those into step who waited for an established leader, and without whom there will be none."""
        if self.phase != LeaderPhase.SYNCHRONIZATION or not self._may_synchronize:
            return
        config = self._local.config
        for learner in list(self._links.values()):
            coming = {other.sid for other in self._links.values() if other.gets_proposals}
            if config.has_quorum(coming | self._synced | {self._local.sid}):
                return
            if learner.phase == LinkPhase.ADMITTED and config.is_voter(learner.sid) and not learner.is_observer:
                self._synchronize(learner, can_wait=False)

    def _acknowledged(self, learner: LearnerLink, zxid: int) -> None:
        if counter_of(zxid) == 0:
            if zxid != self._epoch_zxid:
                return
            # Another one comes after UPTODATE.
            if learner.phase == LinkPhase.SYNCING:
                learner.enter(LinkPhase.SYNCED, self._local.now_ms)
                if self.phase == LeaderPhase.BROADCAST:
                    self._activate(learner)
                else:
                    self._count_synced()
            return
        learner.acknowledged(zxid, self._local.now_ms)
        if self.phase != LeaderPhase.BROADCAST:
            self._count_synced()
        elif not learner.is_observer:
            if self._proposals.acknowledge(learner.sid, zxid):
                self._commit()

    def _trust_silent(self) -> None:
        """Counts learners that never acknowledge what they are sent by DIFF.

        ZooKeeper 3.9.3 and later have it on disk before they acknowledge NEWLEADER, and say nothing more.
        """
        for learner in self._links.values():
            if (
                learner.phase == LinkPhase.SYNCED
                and self._local.now_ms - learner.since_ms > self._local.settings.sync_ms
            ):
                learner.owed = None
        self._count_synced()

    def _count_synced(self) -> None:
        if self.phase != LeaderPhase.SYNCHRONIZATION or self._local.sid not in self._synced:
            return
        for learner in self._links.values():
            is_counted = learner.owed is None and not learner.is_observer and self._local.config.is_voter(learner.sid)
            if learner.phase == LinkPhase.SYNCED and is_counted:
                self._synced.add(learner.sid)
        if self._local.config.has_quorum(self._synced):
            self._establish()

    def _establish(self) -> None:
        local = self._local
        self._enter(LeaderPhase.BROADCAST)
        self._next_count_ms = self._local.now_ms + local.settings.tick_ms
        # The initial history is committed now.
        local.commit(local.history.last_logged)
        self._established(self.epoch)
        self._tell_role(serving=True)
        for learner in list(self._links.values()):
            if learner.phase == LinkPhase.SYNCED:
                self._activate(learner)
            else:
                self._synchronize(learner)

    def _activate(self, learner: LearnerLink) -> None:
        self._send(learner, PacketType.UPTODATE, -1)
        learner.enter(LinkPhase.ACTIVE, self._local.now_ms)
        self._local.outbox.call(LearnerJoined(learner.link, learner.sid))

    # Broadcast.

    @property
    def last_proposed(self) -> int:
        """The last proposal of this epoch, before the first one the epoch's own zxid."""
        return self._proposals.last_proposed

    @property
    def last_committed(self) -> int:
        """The last proposal with a quorum, before the first one the epoch's own zxid."""
        return self._proposals.last_committed

    def propose(self, txn: Txn) -> None:
        """Proposes a transaction; its zxid is the one behind `last_proposed`."""
        if self.phase != LeaderPhase.BROADCAST:
            return
        zxid = txn.header.zxid
        if zxid != self.last_proposed + 1:
            raise ValueError(f"a proposal {zxid:#x} does not follow {self.last_proposed:#x}")
        if counter_of(zxid) > COUNTER_MAX:
            self._leave("the zxids of the epoch are used up")
            return
        entry = Entry(zxid, txn, encode_txn(txn))
        self._proposals.add(entry)
        packet = QuorumPacket(PacketType.PROPOSAL, zxid, entry.payload)
        send, now_ms = self._local.outbox.send, self._local.now_ms
        for learner in self._followers:
            send(SendPacket(learner.link, packet))
            learner.proposed(zxid, now_ms)
        self._local.log([entry])

    def _logged(self) -> None:
        """The own disk has more proposals: the own ACK of each."""
        last_durable = self._local.history.last_durable
        for zxid in range(max(self._own_ack, self.last_committed) + 1, last_durable + 1):
            self._proposals.acknowledge(self._local.sid, zxid)
        self._own_ack = last_durable
        self._commit()

    def _commit(self) -> None:
        committed = self._proposals.take_committed()
        if not committed:
            return
        send = self._local.outbox.send
        for entry in committed:
            commit = QuorumPacket(PacketType.COMMIT, entry.zxid)
            for learner in self._followers:
                send(SendPacket(learner.link, commit))
            inform = QuorumPacket(PacketType.INFORM, entry.zxid, entry.payload)
            for learner in self._informed:
                send(SendPacket(learner.link, inform))
        self._local.commit(self.last_committed)
        for learner in list(self._links.values()):
            if learner.phase == LinkPhase.ADMITTED and learner.zxid <= self.last_committed:
                self._synchronize(learner)

    # Liveness.

    def _check_progress(self) -> str | None:
        """Why a leader that is not established yet is to give up, None where it is not."""
        if self._local.now_ms - self._phase_since_ms > self._local.settings.init_ms:
            return f"no quorum in {self.phase.name} in time"
        self._release_held()
        self._trust_silent()
        return None

    def _check_leadership(self) -> str | None:
        """Why an established leader is to give up, None where it is not."""
        if self._local.now_ms < self._next_count_ms:
            return None
        self._next_count_ms = self._local.now_ms + self._local.settings.tick_ms
        is_followed = self._local.config.has_quorum(self._in_step())
        return None if is_followed else "no quorum is in step any more"

    def _in_step(self) -> set[int]:
        """The leader and the learners that follow it, or have come back just now to do so again."""
        sids = {self._local.sid}
        init_ms = self._local.settings.init_ms
        for learner in self._links.values():
            if learner.is_observer or not self._local.config.is_voter(learner.sid):
                continue
            if learner.phase >= LinkPhase.SYNCED:
                self._in_step_ms[learner.sid] = self._local.now_ms
            elif self._local.now_ms - self._in_step_ms.get(learner.sid, self._phase_since_ms) > init_ms:
                continue
            sids.add(learner.sid)
        return sids

    def _ping(self, learners: Iterable[LearnerLink]) -> None:
        """Asks for a sign of life. ZooKeeper's learners send the zxid field back, whatever is in it."""
        packet = QuorumPacket(PacketType.PING, self._rounds.current)
        for learner in learners:
            if learner.phase >= LinkPhase.SYNCING:
                self._local.outbox.send(SendPacket(learner.link, packet))

    def _pinged(self, learner: LearnerLink, packet: QuorumPacket) -> None:
        if learner.phase != LinkPhase.ACTIVE:
            return
        if packet.data:
            self._local.outbox.call(PacketArrived(learner.link, learner.sid, packet))
        if not learner.is_observer:
            self._rounds.echoed(learner.sid, packet.zxid)
            self._finish_round()

    def confirm_leadership(self) -> int:
        """Asks a quorum whether it still follows; `LeadershipConfirmed` brings the number back."""
        number, begins = self._rounds.want()
        if begins:
            self._begin_round()
        return number

    def _begin_round(self) -> None:
        self._rounds.begin()
        self._ping(learner for learner in self._links.values() if learner.phase == LinkPhase.ACTIVE)
        self._finish_round()

    def _finish_round(self) -> None:
        number = self._rounds.take_confirmed()
        if number is not None:
            self._local.outbox.call(LeadershipConfirmed(number))
            if self._rounds.is_wanted:
                self._begin_round()

    # Outputs.

    def send(self, link: int, packet: QuorumPacket) -> None:
        """Sends the replica's packet to a learner, where it is still there."""
        learner = self._links.get(link)
        if learner is not None and learner.phase == LinkPhase.ACTIVE:
            self._local.outbox.send(SendPacket(link, packet))

    @property
    def learners(self) -> list[LearnerLink]:
        """Everybody who is connected, however far."""
        return list(self._links.values())

    @property
    def has_served(self) -> bool:
        """Whether it was established."""
        return self.phase == LeaderPhase.BROADCAST

    @property
    def links(self) -> list[int]:
        """All links, to be hung up when the role is over."""
        return list(self._links)

    @property
    def _epoch_zxid(self) -> int:
        return make_zxid(self.epoch, 0)

    def _enter(self, phase: LeaderPhase) -> None:
        assert phase == self.phase + 1, (phase, self.phase)
        self.phase = phase
        self._phase_since_ms = self._local.now_ms

    def _tell_role(self, *, serving: bool) -> None:
        role = Role(self.state, self.epoch, self._local.sid, serving=serving, may_snapshot=serving)
        self._local.outbox.become(role)

    def _send(self, learner: LearnerLink, kind: PacketType, zxid: int, data: bytes | None = None) -> None:
        self._local.send(learner.link, kind, zxid, data)


def _refuse(packet: QuorumPacket, learner: LearnerLink) -> NoReturn:
    raise ProtocolViolationError(f"a packet of type {packet.type} in {learner.phase.name}")
