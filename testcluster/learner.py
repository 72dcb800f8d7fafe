"""The learner: a follower or an observer, from dialling its leader to losing it.

Decides what a server promises, when its history becomes the leader's, and when it acknowledges. Nothing on disk changes
before NEWLEADER: until then everything that comes is kept in memory, and a leader that is lost takes nothing with it.
Then, in this order, each durable before the next: what the leader has cut or replaced, what it has sent, currentEpoch,
the ACK of NEWLEADER, the ACKs of proposals. (ZooKeeper 3.8.0 acknowledges first: ZOOKEEPER-4643, -4646.)
"""

from __future__ import annotations

import enum
import logging
from collections import deque
from collections.abc import Callable

from terzetto.client.errors import WireError

from .ids import epoch_of, make_zxid
from .local import EPOCH_MAX, Local, ProtocolViolationError
from .messages import (
    LearnerInfo,
    PacketType,
    QuorumPacket,
    ServerState,
    decode_int,
    encode_int,
    encode_learner_info,
)
from .ready import Dial, Entry, InstallSnapshot, PacketArrived, Role, SendPacket, TruncateHistory
from .snapshot_body import SnapshotBody
from .txns import decode_txn

logger = logging.getLogger("terzetto.testcluster.learner")

DIALS_MAX = 5
"""Attempts to reach the leader's quorum port (ZooKeeper's own)."""

DIAL_PAUSE_MS = 100
"""Time between two of them (ZooKeeper's own)."""

PENDING_MAX = 1_000_000
"""Packets kept while the disk is busy, or before NEWLEADER."""

PENDING_BYTES_MAX = 1 << 30
"""Bytes of them."""

_ACTIVATED_SIZE = 8


class LearnerPhase(enum.IntEnum):
    """How far a learner has come with its leader."""

    DIALLING = 0
    DISCOVERY = 1
    """FOLLOWERINFO was sent."""
    PROMISED = 2
    """The epoch is promised, ACKEPOCH sent or about to be; DIFF, TRUNC or SNAP is expected."""
    SYNCHRONIZATION = 3
    """What the leader sends is gathered, until NEWLEADER."""
    WRITING = 4
    """It is being written."""
    SYNCED = 5
    """NEWLEADER was acknowledged; UPTODATE is expected."""
    BROADCAST = 6


class Learning:
    """A server from the end of an election that another one has won to the loss of that leader.

    Args:
        local: the server.
        leader: the leader's sid.
        leave: to be called with the reason when the leader is given up; nothing is done afterwards.
        established: to be called with the epoch, once.
    """

    def __init__(
        self, local: Local, leader: int, leave: Callable[[str], None], established: Callable[[int], None]
    ) -> None:
        self.state = ServerState.FOLLOWING if local.is_voter else ServerState.OBSERVING
        self.phase = LearnerPhase.DIALLING
        self.leader = leader
        self.epoch = local.current_epoch
        self.link: int | None = None
        self._local = local
        self._leave = leave
        self._established = established
        self._dials = 0
        self._dial_ms: int | None = None
        self._heard_ms = 0
        # How the leader's history begins: what it said first, and a snapshot where it sends one.
        self._needs_snapshot = False
        self._method = PacketType.DIFF
        self._start_zxid = -1
        self._snapshot: SnapshotBody | None = None
        # What followed, not written yet; which proposals are to be acknowledged; how far it is committed.
        self._gathered: list[Entry] = []
        self._unacknowledged: deque[int] = deque()
        self._committed = -1
        self._pending: deque[QuorumPacket] = deque()
        self._pending_bytes = 0

    # Inputs.

    def begin(self) -> None:
        """Starts by dialling the leader."""
        self._heard_ms = self._local.now_ms
        self._local.on_logged = self._acknowledge
        self._tell_role(serving=False)
        self._dial()

    def _dial(self) -> None:
        self._dials += 1
        self._dial_ms = None
        self._local.outbox.send(Dial(self.leader))

    def dialled(self, link: int) -> None:
        """The leader's quorum port has been reached."""
        local = self._local
        if self.link is not None or self.phase != LearnerPhase.DIALLING:
            local.hang_up(link, "nobody was to be dialled")
            return
        self.link = link
        self.phase = LearnerPhase.DISCOVERY
        self._heard_ms = self._local.now_ms
        kind = PacketType.FOLLOWERINFO if local.is_voter else PacketType.OBSERVERINFO
        info = encode_learner_info(LearnerInfo(local.sid, config_version=local.config.version))
        local.send(link, kind, make_zxid(local.accepted_epoch, 0), info)

    def dial_failed(self, reason: str) -> None:
        """The leader's quorum port has not been reached."""
        if self.phase != LearnerPhase.DIALLING:
            return
        if self._dials >= DIALS_MAX:
            self._give_up(f"cannot reach the leader: {reason}")
        else:
            self._dial_ms = self._local.now_ms + DIAL_PAUSE_MS

    def closed(self, link: int) -> None:
        """The link is gone."""
        if link == self.link:
            self.link = None
            self._give_up("the leader has closed the connection")

    def packet(self, link: int, packet: QuorumPacket) -> None:
        """A packet has come."""
        if link != self.link:
            return
        self._heard_ms = self._local.now_ms
        try:
            if self.phase == LearnerPhase.WRITING:
                self._keep(packet)
            else:
                self._receive(packet)
        except (WireError, ProtocolViolationError) as error:
            self._give_up(f"the leader cannot be followed: {error}")

    def snapshot_received(self, link: int, body: SnapshotBody) -> None:
        """The tree behind a SNAP has come."""
        if link != self.link:
            return
        self._heard_ms = self._local.now_ms
        if self.phase != LearnerPhase.SYNCHRONIZATION or self._method != PacketType.SNAP or self._snapshot is not None:
            self._give_up("the leader cannot be followed: a snapshot that was not announced")
            return
        self._snapshot = body

    def truncation_failed(self) -> None:
        """The history cannot be cut where the leader's ends: the leader is dialled again, for a snapshot.

        Without another election: this server may be one that the leader needs for its quorum, and could not even find
        out again whom it is to follow.
        """
        if self.phase != LearnerPhase.WRITING or self.link is None:
            return
        self._local.hang_up(self.link, "the history cannot be cut where the leader's ends")
        self.link = None
        self.phase = LearnerPhase.DIALLING
        self._heard_ms = self._local.now_ms
        self._dials = 0
        self._needs_snapshot = True
        self._gathered = []
        self._unacknowledged.clear()
        self._pending.clear()
        self._pending_bytes = 0
        self._dial()

    def tick(self) -> None:
        """Time has passed."""
        now_ms = self._local.now_ms
        if self._dial_ms is not None and now_ms >= self._dial_ms:
            self._dial()
        if now_ms > self._deadline_ms:
            self._give_up(f"nothing was heard of the leader for too long in {self.phase.name}")

    @property
    def next_due_ms(self) -> int:
        """When `tick` is to be called."""
        due = self._deadline_ms + 1
        return due if self._dial_ms is None else min(due, self._dial_ms)

    @property
    def _deadline_ms(self) -> int:
        # ZooKeeper's leaders send no PING before a quorum is in step.
        settings = self._local.settings
        return self._heard_ms + (settings.sync_ms if self.phase == LearnerPhase.BROADCAST else settings.init_ms)

    def _give_up(self, reason: str) -> None:
        self._leave(reason)
        self.link = None

    # Discovery.

    def _receive(self, packet: QuorumPacket) -> None:
        kind = packet.type
        if self.phase == LearnerPhase.BROADCAST:
            self._follow(packet)
        elif self.phase == LearnerPhase.DISCOVERY:
            # A leader before Zab 1.0 says NEWLEADER here.
            if kind != PacketType.LEADERINFO:
                raise _unexpected(packet, self.phase)
            self._promise(packet)
        elif self.phase == LearnerPhase.PROMISED:
            self._begin_synchronization(packet)
        elif kind == PacketType.NEWLEADER and self.phase == LearnerPhase.SYNCHRONIZATION:
            self._write_history(packet.zxid)
        elif kind == PacketType.UPTODATE and self.phase == LearnerPhase.SYNCED:
            self._begin_broadcast()
        else:
            self._follow(packet)

    def _promise(self, packet: QuorumPacket) -> None:
        local = self._local
        epoch = epoch_of(packet.zxid)
        decode_int(packet.data)
        if not local.accepted_epoch <= epoch <= EPOCH_MAX or epoch < 1:
            raise ProtocolViolationError(f"it offers epoch {epoch} where {local.accepted_epoch} is promised")
        self.epoch = epoch
        # To promise it once more says nothing about the history that the promise was made with.
        answer = -1
        if epoch > local.accepted_epoch:
            # Who could not be followed without a snapshot leads another epoch by now, and may need this promise.
            self._needs_snapshot = False
            answer = local.current_epoch
            local.accept_epoch(epoch)
        self.phase = LearnerPhase.PROMISED
        local.outbox.when_durable(lambda: self._acknowledge_epoch(answer))

    def _acknowledge_epoch(self, answer: int) -> None:
        history = self._local.history
        assert history.last_durable == history.last_logged, (history.last_durable, history.last_logged)
        # To claim nothing is no lie that counts: the promise of this epoch was made with the whole truth.
        assert not (self._needs_snapshot and answer != -1)
        zxid = -1 if self._needs_snapshot else history.last_durable
        self._send(PacketType.ACKEPOCH, zxid, encode_int(answer))

    # Synchronization.

    def _begin_synchronization(self, packet: QuorumPacket) -> None:
        kind, zxid = packet.type, packet.zxid
        if kind not in (PacketType.DIFF, PacketType.TRUNC, PacketType.SNAP):
            raise _unexpected(packet, self.phase)
        last_logged = self._local.history.last_logged
        if kind != PacketType.SNAP and (last_logged < 0 or self._needs_snapshot):
            raise ProtocolViolationError("it sends no snapshot, without which this server has no history")
        if zxid < 0 or epoch_of(zxid) > self.epoch or (kind == PacketType.TRUNC and zxid > last_logged):
            raise ProtocolViolationError(f"packet {kind} of {zxid:#x} to a history that ends with {last_logged:#x}")
        self._method = PacketType(kind)
        logger.info(
            "server %d is brought into step by %s of 0x%x behind 0x%x",
            self._local.sid,
            self._method.name,
            zxid,
            last_logged,
        )
        self._start_zxid = self._committed = last_logged if kind == PacketType.DIFF else zxid
        self.phase = LearnerPhase.SYNCHRONIZATION

    def _write_history(self, epoch_zxid: int) -> None:
        """NEWLEADER has come: what was gathered becomes the history."""
        if epoch_zxid != make_zxid(self.epoch, 0):
            raise ProtocolViolationError(f"NEWLEADER of {epoch_zxid:#x} in epoch {self.epoch}")
        if self._method == PacketType.SNAP and self._snapshot is None:
            raise ProtocolViolationError("a SNAP without a snapshot")
        self.phase = LearnerPhase.WRITING
        if self._method == PacketType.SNAP:
            self._install()
        elif self._method == PacketType.TRUNC:
            self._cut()
        else:
            self._append()

    def _install(self) -> None:
        local, body = self._local, self._snapshot
        assert body is not None
        index = sum(entry.zxid <= self._committed for entry in self._gathered)
        install = InstallSnapshot(self._start_zxid, body, self._gathered[:index])
        del self._gathered[:index]
        self._snapshot = None
        local.outbox.write(install)
        local.outbox.when_durable(lambda: local.installed(install.last_zxid), outlives_role=True)
        local.outbox.when_durable(self._append)

    def _cut(self) -> None:
        """Cuts off what is not in the leader's history.

        Not what the leader sends again: ZooKeeper's has a transaction cut off that is committed and not yet applied
        there, and this server may be one of those who have acknowledged it.
        """
        local, history = self._local, self._local.history
        kept = self._start_zxid
        for entry in self._gathered:
            if history.holds(entry.zxid):
                kept = entry.zxid
        if kept < history.last_logged:
            local.outbox.write(TruncateHistory(kept))
            local.outbox.when_durable(lambda: history.truncated(kept), outlives_role=True)
        local.outbox.when_durable(self._append)

    def _append(self) -> None:
        local = self._local
        new = [entry for entry in self._gathered if entry.zxid > local.history.last_logged]
        self._gathered = []
        if new:
            local.log(new)
        local.enter_epoch(self.epoch)
        local.outbox.when_durable(self._acknowledge_leader)

    def _acknowledge_leader(self) -> None:
        self.phase = LearnerPhase.SYNCED
        # While the disk was busy, nobody listened.
        self._heard_ms = self._local.now_ms
        # This one first: ZooKeeper 3.8.0 takes the first ACK for that of NEWLEADER (ZOOKEEPER-4685).
        self._send(PacketType.ACK, make_zxid(self.epoch, 0))
        self._acknowledge()
        pending, self._pending = self._pending, deque()
        self._pending_bytes = 0
        link = self.link
        while pending and link is not None and link == self.link:
            self.packet(link, pending.popleft())

    def _acknowledge(self) -> None:
        """Acknowledges the proposals that are on disk, but none before NEWLEADER."""
        if self.phase < LearnerPhase.SYNCED:
            return
        waiting, last_durable = self._unacknowledged, self._local.history.last_durable
        while waiting and waiting[0] <= last_durable:
            self._send(PacketType.ACK, waiting.popleft())

    def _begin_broadcast(self) -> None:
        local = self._local
        self.phase = LearnerPhase.BROADCAST
        local.commit(self._committed)
        self._send(PacketType.ACK, make_zxid(self.epoch, 0))
        self._established(self.epoch)
        self._tell_role(serving=True)

    # Broadcast, and what comes before that in the same packets.

    def _follow(self, packet: QuorumPacket) -> None:
        kind = packet.type
        if kind == PacketType.PROPOSAL:
            self._propose(packet.data, is_committed=False)
        elif kind in (PacketType.COMMIT, PacketType.COMMITANDACTIVATE):
            self._commit(packet.zxid)
        elif kind == PacketType.INFORM:
            self._propose(packet.data, is_committed=True)
        elif kind == PacketType.INFORMANDACTIVATE:
            data = packet.data
            self._propose(None if data is None else data[_ACTIVATED_SIZE:], is_committed=True)
        elif kind == PacketType.PING:
            if self.phase >= LearnerPhase.SYNCED:
                self._send(PacketType.PING, packet.zxid, self._local.touches())
        elif kind in (PacketType.SYNC, PacketType.REVALIDATE):
            if self.link is not None and self.phase == LearnerPhase.BROADCAST:
                self._local.outbox.call(PacketArrived(self.link, self.leader, packet))
        elif self.phase < LearnerPhase.BROADCAST:
            raise _unexpected(packet, self.phase)

    def _propose(self, payload: bytes | None, *, is_committed: bool) -> None:
        if payload is None:
            raise ProtocolViolationError("a proposal of nothing")
        txn = decode_txn(payload)
        zxid = txn.header.zxid
        if zxid < 0 or epoch_of(zxid) > self.epoch:
            raise ProtocolViolationError(f"a proposal {zxid:#x} in epoch {self.epoch}")
        entry = Entry(zxid, txn, payload)
        gathers = self.phase == LearnerPhase.SYNCHRONIZATION
        if zxid > self._last:
            if not self._local.history.is_next(zxid, self._last):
                raise ProtocolViolationError(f"a proposal {zxid:#x} behind {self._last:#x}: some are missing")
            if gathers:
                self._keep_entry(entry)
            else:
                self._local.log([entry])
        if is_committed:
            self._commit(zxid)
        elif self._local.is_voter:
            # Also what was known already: the leader may need the ACK.
            self._unacknowledged.append(zxid)
            if zxid <= self._local.history.last_durable:
                self._acknowledge()

    @property
    def _last(self) -> int:
        """The last transaction, with those that were gathered."""
        if self.phase != LearnerPhase.SYNCHRONIZATION:
            return self._local.history.last_logged
        return self._gathered[-1].zxid if self._gathered else self._start_zxid

    def _commit(self, zxid: int) -> None:
        if zxid > self._last:
            raise ProtocolViolationError(f"a COMMIT of {zxid:#x}, which was not proposed")
        self._committed = max(self._committed, zxid)
        if self.phase == LearnerPhase.BROADCAST:
            self._local.commit(zxid)

    # Bounds.

    def _keep(self, packet: QuorumPacket) -> None:
        self._charge(len(self._pending), len(packet.data or b""))
        self._pending.append(packet)

    def _keep_entry(self, entry: Entry) -> None:
        self._charge(len(self._gathered), len(entry.payload))
        self._gathered.append(entry)

    def _charge(self, count: int, size: int) -> None:
        self._pending_bytes += size
        if count >= PENDING_MAX or self._pending_bytes > PENDING_BYTES_MAX:
            raise ProtocolViolationError("it sends more than this server can keep until it is written")

    # Outputs.

    def send_up(self, packet: QuorumPacket) -> None:
        """Sends the replica's packet to the leader, where it is followed."""
        if self.link is not None and self.phase == LearnerPhase.BROADCAST:
            self._local.outbox.send(SendPacket(self.link, packet))

    @property
    def has_served(self) -> bool:
        """Whether it has come into step."""
        return self.phase == LearnerPhase.BROADCAST

    @property
    def links(self) -> list[int]:
        """The link, to be hung up when the role is over."""
        return [] if self.link is None else [self.link]

    def _send(self, kind: PacketType, zxid: int, data: bytes | None = None) -> None:
        if self.link is not None:
            self._local.send(self.link, kind, zxid, data)

    def _tell_role(self, *, serving: bool) -> None:
        role = Role(self.state, self.epoch, self.leader, serving=serving, may_snapshot=serving)
        self._local.outbox.become(role)


def _unexpected(packet: QuorumPacket, phase: LearnerPhase) -> ProtocolViolationError:
    return ProtocolViolationError(f"a packet of type {packet.type} in {phase.name}")
