"""One member of an ensemble, whole: its clients' side, its part in Zab, and what connects the two.

Decides which duties the member has (`leader_duties.py`, `learner_duties.py`, `read_only_duties.py`, or none while it
looks for a leader or is not in step yet), and drops its clients when duties end. It moves no bytes and touches no disk:
whoever drives it, the trio shell or the simulation, carries out what `take_ready` gives.

    replica = Replica(sid, config, ...)             its tree is recovered already
    replica.start(now_ms)
    after each input, of any kind:
        while ready := replica.take_ready(now_ms, wall_ms):
            ready.writes, ready.role, ready.sends   see `ready.py`; applies and upcalls are done, and empty
        for connection in replica.take_flushable(): see `RequestProcessor`

The tree is one object for life: what a `TruncateHistory` or `InstallSnapshot` asks for is loaded into it.
"""

from __future__ import annotations

import random

from terzetto.client.errors import WireError

from .connection import Connection, Request
from .datatree import DataTree
from .duties import Duties
from .history import History
from .leader_duties import LeaderDuties
from .learner_duties import LearnerDuties
from .learner_sessions import LearnerSessions
from .messages import Notification, QuorumPacket, ServerState, encode_touches
from .peer import Peer, PeerSettings
from .processor import RequestProcessor
from .quorum import QuorumConfig
from .read_only_duties import ReadOnlyDuties
from .ready import LeadershipConfirmed, LearnerJoined, LearnerLeft, PacketArrived, Ready, Role, Upcall
from .sessions import SessionIds
from .settings import ServerSettings
from .snapshot_body import SnapshotBody
from .sync_barriers import SyncBarriers
from .txns import Txn

READ_ONLY_AFTER_MS = 2000
"""How long a server looks for a leader before it serves reads without one, if it may; a tick where that is longer
(ZooKeeper's own)."""


class Replica(RequestProcessor):
    """One member of an ensemble.

    Args:
        sid: this server.
        config: the ensemble.
        settings: what the operator decides about the state machine; `server_id` is the sid.
        peer_settings: what the operator decides about Zab.
        tree: the replicated state, recovered.
        history: what is in the log, recovered.
        accepted_epoch: from the disk.
        current_epoch: from the disk.
        chance: randomness for what is not secret.
        now_ms: the monotonic clock.
        wall_ms: the clock that tells this life of the server from earlier ones, for session ids.
        read_only_mode: whether it serves reads while there is no quorum (`readonlymode.enabled`).

    Attributes:
        sid: this server.
        config: the ensemble.
        peer: its part in Zab.
        role: what it has become, as `take_ready` has told it.
        duties: what it does for clients in that role.
    """

    def __init__(
        self,
        sid: int,
        config: QuorumConfig,
        *,
        settings: ServerSettings,
        peer_settings: PeerSettings,
        tree: DataTree,
        history: History,
        accepted_epoch: int,
        current_epoch: int,
        chance: random.Random,
        now_ms: int,
        wall_ms: int,
        read_only_mode: bool = False,
    ) -> None:
        self._ids = SessionIds(sid, wall_ms)
        super().__init__(tree, settings, LearnerSessions(self._ids))
        self.sid = sid
        self.config = config
        self.serving = False
        self.role = Role(ServerState.LOOKING, current_epoch, None, serving=False, may_snapshot=False)
        self.peer = Peer(
            sid,
            config,
            peer_settings,
            history=history,
            accepted_epoch=accepted_epoch,
            current_epoch=current_epoch,
            touches=self._touches,
            chance=chance,
        )
        self.duties = Duties(self, self._ids)
        self._barriers = SyncBarriers()
        self._may_read_only = read_only_mode
        self._read_only_ms: int | None = None

    # Inputs, the clients' side apart. Each is to be followed by `take_ready`.

    def start(self, now_ms: int) -> None:
        """Begins to look for a leader."""
        self.peer.start(now_ms)

    def tick(self, now_ms: int) -> None:
        """Time has passed; to be called at `next_due_ms`."""
        self.peer.tick(now_ms)
        self.duties.tick(now_ms)

    @property
    def next_due_ms(self) -> int | None:
        """When `tick` is to be called."""
        dues = (self.peer.next_due_ms, self.duties.next_due_ms, self._read_only_ms)
        return min((due for due in dues if due is not None), default=None)

    def notification(self, sender: int, notification: Notification, now_ms: int) -> None:
        """See `Peer`."""
        self.peer.notification(sender, notification, now_ms)

    def voter_absent(self, sid: int, now_ms: int) -> None:
        """See `Peer`."""
        self.peer.voter_absent(sid, now_ms)

    def link_accepted(self, link: int, now_ms: int) -> None:
        """See `Peer`."""
        self.peer.link_accepted(link, now_ms)

    def dialled(self, link: int, now_ms: int) -> None:
        """See `Peer`."""
        self.peer.dialled(link, now_ms)

    def dial_failed(self, sid: int, reason: str, now_ms: int) -> None:
        """See `Peer`."""
        self.peer.dial_failed(sid, reason, now_ms)

    def packet(self, link: int, packet: QuorumPacket, now_ms: int) -> None:
        """See `Peer`."""
        self.peer.packet(link, packet, now_ms)

    def snapshot_received(self, link: int, body: SnapshotBody, now_ms: int) -> None:
        """See `Peer`."""
        self.peer.snapshot_received(link, body, now_ms)

    def link_closed(self, link: int, now_ms: int) -> None:
        """See `Peer`."""
        self.peer.link_closed(link, now_ms)

    def durable(self, number: int, now_ms: int) -> None:
        """See `Peer`."""
        self.peer.durable(number, now_ms)

    def truncation_failed(self, number: int, now_ms: int) -> None:
        """See `Peer`."""
        self.peer.truncation_failed(number, now_ms)

    def sweep(self, wall_ms: int) -> None:
        """Removes empty containers and TTL znodes whose time is over; only the leader does."""
        self.duties.sweep(wall_ms)

    def expire_session(self, session_id: int) -> bool:
        """Closes a session as if its time were over; False when there is none, or this server does not lead."""
        return self.duties.expire_session(session_id)

    # Output.

    def take_ready(self, now_ms: int, wall_ms: int) -> Ready | None:
        """The next portion of work for disk and network, `None` when there is no more.

        Args:
            now_ms: the monotonic clock.
            wall_ms: milliseconds since the epoch, for the times of transactions.
        """
        if self._read_only_ms is not None and now_ms >= self._read_only_ms:
            self._begin_read_only(now_ms, wall_ms)
        for request in self.take_requests():
            self.duties.order(request, now_ms, wall_ms)
        self.duties.ordered(now_ms)
        ready = self.peer.take_ready()
        if ready is None:
            return None
        for txn in ready.applies:
            self.apply(txn, now_ms)
        if ready.role is not None:
            self._take_role(ready.role, now_ms, wall_ms)
        for upcall in ready.upcalls:
            self._take_upcall(upcall, now_ms, wall_ms)
        return Ready(ready.number, ready.writes, role=ready.role, sends=ready.sends)

    def take_requests(self) -> list[Request]:
        """See `RequestProcessor`; what stands behind a sync waits for its answer."""
        if self._requests:
            self._requests = self._barriers.admit(self._requests)
        return super().take_requests()

    def complete_sync(self, request: Request, now_ms: int) -> None:
        """See `RequestProcessor`."""
        super().complete_sync(request, now_ms)
        self._requests[:0] = self._barriers.answered(request)

    def drop(self, connection: Connection) -> None:
        """See `RequestProcessor`."""
        super().drop(connection)
        self._requests[:0] = self._barriers.lift(connection)

    def abandon(self) -> None:
        """See `RequestProcessor`."""
        self._barriers.clear()
        super().abandon()

    def apply(self, txn: Txn, now_ms: int) -> None:
        """See `RequestProcessor`."""
        super().apply(txn, now_ms)
        self.duties.applied(txn, now_ms)

    # Roles.

    def _take_role(self, role: Role, now_ms: int, wall_ms: int) -> None:
        before, self.role = self.role, role
        if before.serving and (before.state, before.epoch, before.serving) == (role.state, role.epoch, role.serving):
            return
        self._end()
        if role.state is ServerState.LOOKING and self._may_read_only:
            self._read_only_ms = now_ms + max(READ_ONLY_AFTER_MS, self.settings.tick_ms)
        if not role.serving:
            return
        # The whole history before the epoch is in the tree by now.
        self.floor_zxid = max(self.floor_zxid, role.epoch << 32)
        if role.state is ServerState.LEADING:
            self._begin(LeaderDuties(self, self._ids, self.peer, epoch=role.epoch, now_ms=now_ms), wall_ms)
        else:
            self._begin(LearnerDuties(self, self._ids, self.peer), wall_ms)

    def _begin_read_only(self, now_ms: int, wall_ms: int) -> None:
        self._read_only_ms = None
        self.read_only = True
        self._begin(ReadOnlyDuties(self, self._ids, now_ms=now_ms), wall_ms)

    def _begin(self, duties: Duties, wall_ms: int) -> None:
        self.duties = duties
        self.sessions = duties.sessions
        self.serving = True
        # No transaction, and each member's own: a leader's snapshot may have brought another one's.
        self.tree.set_config(self.config.text().encode(), version=self.config.version, wall_ms=wall_ms)

    def _end(self) -> None:
        self._read_only_ms = None
        if not self.serving:
            return
        self.abandon()
        self.serving = self.read_only = False
        self.duties = Duties(self, self._ids)
        self.sessions = self.duties.sessions

    # Upcalls.

    def _take_upcall(self, upcall: Upcall, now_ms: int, wall_ms: int) -> None:
        duties = self.duties
        if isinstance(upcall, PacketArrived):
            try:
                duties.packet(upcall.link, upcall.sid, upcall.packet, now_ms, wall_ms)
            except WireError as error:
                self.peer.reject(upcall.link, str(error), now_ms)
        elif isinstance(upcall, LearnerJoined):
            duties.learner_joined(upcall.link, upcall.sid)
        elif isinstance(upcall, LearnerLeft):
            duties.learner_left(upcall.link)
        else:
            assert isinstance(upcall, LeadershipConfirmed)
            duties.leadership_confirmed(upcall.round, now_ms)

    def _touches(self) -> bytes:
        return encode_touches(self.duties.take_touches())

    # What clients ask.

    def begin_session(self, connection: Connection, timeout_ms: int, now_ms: int) -> None:
        """See `RequestProcessor`."""
        self.duties.begin_session(connection, timeout_ms, now_ms)

    def resume_session(self, connection: Connection, session_id: int, timeout_ms: int, now_ms: int) -> None:
        """See `RequestProcessor`."""
        self.duties.resume_session(connection, session_id, timeout_ms, now_ms)
