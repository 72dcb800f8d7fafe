"""One simulated server: the product's state machine between the simulated disk, network and clock.

Decides nothing that the product decides: it carries out each `Ready` in the order that `ready.py` lays down, as the
real shell does, and tells the ledger what it sees on the way. A server can die at any point, and stand still.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from itertools import islice
from typing import Any, NamedTuple

from terzetto.client.wire import Opcode
from terzetto.testcluster.connection import Connection
from terzetto.testcluster.datatree import DataTree
from terzetto.testcluster.history import History
from terzetto.testcluster.local import PeerSettings
from terzetto.testcluster.membership import Member
from terzetto.testcluster.messages import (
    Notification,
    PacketReader,
    PacketType,
    QuorumPacket,
    ServerState,
    decode_notification,
    decode_touches,
    encode_notification,
    encode_packet,
)
from terzetto.testcluster.quorum import QuorumConfig
from terzetto.testcluster.ready import (
    AppendTxns,
    Dial,
    Hangup,
    Ready,
    Role,
    Send,
    SendNotification,
    SendPacket,
    SendSnapshot,
)
from terzetto.testcluster.replica import Replica
from terzetto.testcluster.settings import ServerSettings
from terzetto.testcluster.snapshot_body import SnapshotBody, encode_snapshot_body
from terzetto.testcluster.txns import SnapshotSession, Txn

from .disk import Disk, DiskCrash, Recovered
from .faults import Saboteur
from .ledger import Ledger, Violation
from .network import Network
from .plan import Plan
from .world import MILLISECOND, World

WALL_START_MS = 1_700_000_000_000

CLIENT_NODES = 100
"""Nodes beyond this are clients."""

ROWS_AT_ONCE = 4
"""Znodes of a snapshot that leave before transactions may be applied again."""

SWEEP_PAUSE = 700 * MILLISECOND
"""Time between two looks for containers and TTL znodes to be removed."""

SPINS_MAX = 100
"""Ticks in a row after which the next one may be due at once."""

_SYNCS = {PacketType.DIFF: "DIFF", PacketType.TRUNC: "TRUNC", PacketType.SNAP: "SNAP"}


class SentBody(NamedTuple):
    """A snapshot's body on its way, and the last transaction that left traces in it."""

    body: SnapshotBody | bytes
    reach: int


class ObservedTree(DataTree):
    """The product's tree; each transaction that is applied to it is noted."""

    def __init__(self, observe: Callable[[Txn, DataTree], None]) -> None:
        super().__init__()
        self._observe = observe
        self.live = False

    def apply(self, txn: Txn) -> int:
        """See `DataTree`."""
        code = super().apply(txn)
        if self.live:
            self._observe(txn, self)
        return code


class SimulatedServer:
    """One member of the simulated ensemble.

    Args:
        sid: its id.
        config: the ensemble.
        plan: the run's parameters.
        world: time and chance.
        network: links.
        ledger: is told what the server does.

    Attributes:
        sid: its id.
        nemesis: may make it die between two disk writes.
        counts: what it went through.
        tree: the state it has.
    """

    disk_class = Disk

    def __init__(
        self, sid: int, config: QuorumConfig, plan: Plan, world: World, network: Network, ledger: Ledger
    ) -> None:
        self.sid = sid
        self.config = config
        self.plan = plan
        self.world = world
        self.network = network
        self.ledger = ledger
        self.nemesis: Saboteur | None = None
        self.counts: Counter[str] = Counter()
        self.tree = self._new_tree()
        self.replica: Replica | None = None
        self.role = Role(ServerState.LOOKING, 0, None, serving=False, may_snapshot=False)
        self.disk = self._new_disk()
        self.disk.speed.sync = plan.sync
        self.disk.on_durable = self._durable
        self.disk.on_failed = self._failed
        self.disk.on_replaced = self._replaced
        self._random: random.Random = world.chance(f"server {sid}")
        self._drift = 1000 + plan.drifts[sid - 1]
        self._start_ms = self._random.randrange(1_000_000, 100_000_000)
        self._wall_ms = WALL_START_MS + plan.skews_ms[sid - 1]
        self._life = 0
        self._paused = False
        self._inbox: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self._timer: int | None = None
        self._spins = 0
        self._clients: dict[int, Connection] = {}
        self._links: dict[Connection, int] = {}
        self._readers: dict[int, PacketReader] = {}
        # Links on which a snapshot's body is on its way, and what waits behind it.
        self._streams: dict[int, list[SendPacket | SendSnapshot]] = {}
        self._sync_kinds: dict[int, str] = {}
        # As the leader: when it last heard of a session.
        self._heard: dict[int, int] = {}

    def _new_tree(self) -> ObservedTree:
        return ObservedTree(self._applied)

    def _new_replica(self, recovered: Recovered) -> Replica:
        plan, storage = self.plan, self.disk.storage
        return Replica(
            self.sid,
            self.config,
            settings=ServerSettings(server_id=self.sid, tick_ms=plan.tick_ms, extended_types=True),
            peer_settings=PeerSettings(tick_ms=plan.tick_ms, init_limit=plan.init_limit, sync_limit=plan.sync_limit),
            tree=recovered.tree,
            history=History(
                storage.last_zxid,
                [(entry.zxid, entry.payload) for entry in recovered.entries],
                recent_max=plan.commit_log,
            ),
            accepted_epoch=storage.accepted_epoch,
            current_epoch=storage.current_epoch,
            chance=self._random,
            now_ms=self.now_ms,
            wall_ms=self.wall_ms,
        )

    def _new_disk(self) -> Disk:
        return self.disk_class(self.sid, self.world, self.ledger, self._tap)

    # Life.

    @property
    def alive(self) -> bool:
        """Whether its process runs; a paused one does."""
        return self.replica is not None

    @property
    def leads(self) -> bool:
        """Whether it leads and knows that it has a quorum."""
        return self.role.state is ServerState.LEADING and self.role.serving

    def boot(self) -> None:
        """Starts its process, from what the disk has."""
        if self.alive:
            return
        self.world.note("boot", self.sid)
        self.tree = tree = self._new_tree()
        recovered = self.disk.recover(tree)
        self.ledger.loaded(self.sid, tree, recovered.fuzzy_until)
        tree.live = True
        self.replica = self._new_replica(recovered)
        self._call(self.replica.start, self.now_ms)
        self.network.started(self.sid)
        self.world.after(SWEEP_PAUSE, self._sweep, self._life)

    def crash(self, *, silent: bool) -> None:
        """Its process dies."""
        if not self.alive:
            return
        self._life += 1
        self.replica = None
        self.role = Role(ServerState.LOOKING, 0, None, serving=False, may_snapshot=False)
        self._paused = False
        self._timer = None
        for table in (
            self._inbox,
            self._clients,
            self._links,
            self._readers,
            self._streams,
            self._sync_kinds,
            self._heard,
        ):
            table.clear()
        self.disk.crash()
        self.network.stop(self.sid, silent=silent)

    def pause(self) -> None:
        """Stands still."""
        self._paused = self.alive
        self.world.note("pause", self.sid)

    def resume(self) -> None:
        """Goes on, with everything that has come meanwhile."""
        if not self._paused:
            return
        self.world.note("resume", self.sid)
        self._paused = False
        inbox, self._inbox = self._inbox, []
        for index, (call, arguments) in enumerate(inbox):
            if self._paused or not self.alive:
                self._inbox = inbox[index:] if self._paused else []
                return
            self._call(call, *arguments)
        self._set_timer()

    def set_disk_slow(self, factor: int) -> None:
        """See `Victim`."""
        self.disk.speed.slow = factor

    def shift_wall_clock(self, delta_ms: int) -> None:
        """See `Victim`."""
        self._wall_ms += delta_ms

    def snapshot(self) -> None:
        """Writes a snapshot if it may."""
        if self.alive and self.role.may_snapshot:
            try:
                self.disk.begin_snapshot(self.tree)
            except DiskCrash:
                return
            self.counts["snapshots begun"] += 1

    def describe(self) -> str:
        """One line on what it is doing."""
        if not self.alive:
            return f"{self.sid} is down"
        replica = self.ledger.replicas[self.sid]
        return f"{self.sid} is {self.role.state.name} {self.role} applied {replica.applied:#x}"

    @property
    def now_ms(self) -> int:
        """Its monotonic clock."""
        return self._start_ms + self.world.now * self._drift // 1_000_000

    @property
    def wall_ms(self) -> int:
        """Its wall clock."""
        return self._wall_ms + self.world.now * self._drift // 1_000_000

    # What comes in. A server that stands still finds it when it goes on.

    def _call(self, call: Callable[..., None], *arguments: Any) -> None:
        """Gives the replica an input, and carries out what follows."""
        if not self.alive:
            return
        if self._paused:
            self._inbox.append((call, arguments))
            return
        call(*arguments)
        self._drain()

    def accepted(self, link: int, peer: int) -> None:
        """See `Node`."""
        self._call(self._accept, link, peer)

    def _accept(self, link: int, peer: int) -> None:
        replica = self._running
        if peer > CLIENT_NODES:
            connection = replica.open(f"10.0.0.{peer}", self.now_ms)
            self._clients[link] = connection
            self._links[connection] = link
        else:
            self._readers[link] = PacketReader()
            replica.link_accepted(link, self.now_ms)

    def dialled(self, link: int, peer: int) -> None:
        """See `Node`."""
        self._call(self._dialled, link)

    def _dialled(self, link: int) -> None:
        self._readers[link] = PacketReader()
        self._running.dialled(link, self.now_ms)

    def dial_failed(self, peer: int, reason: str) -> None:
        """See `Node`."""
        self._call(lambda: self._running.dial_failed(peer, reason, self.now_ms))

    def closed(self, link: int) -> None:
        """See `Node`."""
        self._call(self._closed, link)

    def _closed(self, link: int) -> None:
        self._streams.pop(link, None)
        connection = self._clients.pop(link, None)
        if connection is not None:
            self._links.pop(connection, None)
            self._running.hang_up(connection)
        elif self._readers.pop(link, None) is not None:
            self._running.link_closed(link, self.now_ms)

    def letter(self, sender: int, message: Any) -> None:
        """See `Node`."""
        self._call(self._letter, sender, message)

    def _letter(self, sender: int, message: Notification | bytes) -> None:
        notification = decode_notification(message) if isinstance(message, bytes) else message
        state, *vote = notification[:5]
        self.world.note("vote", sender, self.sid, state.name, *vote)
        self._running.notification(sender, notification, self.now_ms)

    def arrived(self, link: int, message: Any) -> None:
        """See `Node`."""
        self._call(self._arrived, link, message)

    def _arrived(self, link: int, message: Any) -> None:
        connection = self._clients.get(link)
        if connection is not None:
            self._heard[connection.session_id] = self.now_ms
            self._running.receive(connection, message, self.now_ms)
            return
        reader = self._readers.get(link)
        if reader is None:
            return
        if isinstance(message, QuorumPacket):
            self._packet(link, message)
        elif isinstance(message, bytes):
            cut = self._random.randint(0, len(message))
            for item in (*reader.feed(message[:cut]), *reader.feed(message[cut:])):
                assert isinstance(item, QuorumPacket)
                self._packet(link, item)
        else:
            body = message.body
            if isinstance(body, bytes):
                (body,) = reader.feed(body)
            assert isinstance(body, SnapshotBody)
            self.ledger.body_arrived(body, message.reach)
            self._running.snapshot_received(link, body, self.now_ms)

    def _packet(self, link: int, packet: QuorumPacket) -> None:
        self.world.note("packet", self.sid, link, PacketType(packet.type).name, packet.zxid)
        if packet.type == PacketType.PING and self.leads:
            for session_id, _ in decode_touches(packet.data):
                self._heard[session_id] = self.now_ms
        self._running.packet(link, packet, self.now_ms)

    def _durable(self, number: int) -> None:
        self._call(lambda: self._running.durable(number, self.now_ms))

    def _failed(self, number: int) -> None:
        self.counts["cuts impossible"] += 1
        self._call(lambda: self._running.truncation_failed(number, self.now_ms))

    @property
    def _running(self) -> Replica:
        assert self.replica is not None
        return self.replica

    # What goes out.

    def _drain(self) -> None:
        replica = self.replica
        while replica is not None and self.replica is replica:
            ready = replica.take_ready(self.now_ms, self.wall_ms)
            if ready is None:
                break
            self._carry_out(ready)
        if self.replica is replica and replica is not None:
            self._flush(replica)
            self._set_timer()

    def _carry_out(self, ready: Ready) -> None:
        if ready.writes:
            self._write(ready)
        role = ready.role
        # What was said before a role ended is found in the same Ready.
        if role is None or not role.serving:
            self._observe_all(ready.sends)
        if role is not None:
            self._become(role)
            if role.serving:
                self._observe_all(ready.sends)
        for send in ready.sends:
            self._send(send)

    def _observe_all(self, sends: list[Send]) -> None:
        for send in sends:
            if isinstance(send, SendPacket):
                self._observe(send.link, send.packet)

    def _write(self, ready: Ready) -> None:
        if self.leads:
            self._check_expiries(ready)
        self.disk.submit(ready.number, ready.writes)

    def _become(self, role: Role) -> None:
        self.world.note("role", self.sid, role.state.name, role.epoch, role.serving)
        if not self.leads:
            self._heard.clear()
        self.role = role
        if not role.may_snapshot:
            self.disk.abandon_snapshot()
        if role.serving:
            self.ledger.serves(self.sid, role.epoch, self.tree, leading=role.state is ServerState.LEADING)
        else:
            self.ledger.retires(self.sid)

    def _send(self, send: Send) -> None:
        if isinstance(send, SendPacket | SendSnapshot):
            self._send_behind(send)
        elif isinstance(send, SendNotification):
            self._vote(send)
        elif isinstance(send, Dial):
            self.network.dial(self.sid, send.sid)
        else:
            self._hang_up(send)

    def _hang_up(self, send: Hangup) -> None:
        self.world.note("hang up", self.sid, send.link, send.reason)
        self._readers.pop(send.link, None)
        self._streams.pop(send.link, None)
        self.network.hang_up(send.link, self.sid)

    def _vote(self, send: SendNotification) -> None:
        notification = send.notification
        if notification.state is ServerState.LOOKING and notification.leader == self.sid:
            self.ledger.voted(self.sid, notification.zxid, notification.peer_epoch)
        message = encode_notification(notification) if self.plan.by_bytes else notification
        self.network.post(self.sid, send.sid, message)

    def _transmit(self, send: SendPacket | SendSnapshot) -> None:
        link = send.link
        if isinstance(send, SendPacket):
            packet = send.packet
            self.network.send(link, self.sid, encode_packet(packet) if self.plan.by_bytes else packet)
            if self.nemesis is not None:
                self.nemesis.sent(self, link, packet.type)
            return
        self._streams[link] = []
        tree = self.tree
        sessions = [SnapshotSession(session_id, timeout) for session_id, timeout in tree.sessions.items()]
        body = SnapshotBody(sessions, tree.acls.dump(), [])
        self._stream(self._life, link, body, tree)

    def _stream(self, life: int, link: int, body: SnapshotBody, tree: DataTree) -> None:
        rows = tree.walk()

        def go_on() -> None:
            if life != self._life or link not in self._streams:
                return
            taken = list(islice(rows, ROWS_AT_ONCE))
            body.nodes.extend(taken)
            if taken:
                self.world.after(MILLISECOND, go_on)
                return
            message = SentBody(body, self.ledger.replicas[self.sid].applied)
            if self.plan.by_bytes:
                message = SentBody(b"".join(encode_snapshot_body(*body)), message.reach)
            self.network.send(link, self.sid, message)
            for send in self._streams.pop(link):
                self._send_behind(send)

        go_on()

    def _send_behind(self, send: SendPacket | SendSnapshot) -> None:
        waiting = self._streams.get(send.link)
        if waiting is None:
            self._transmit(send)
        else:
            waiting.append(send)

    def _flush(self, replica: Replica) -> None:
        while flushable := replica.take_flushable():
            for connection in flushable:
                link = self._links.get(connection)
                data = connection.take_output()
                if link is not None and data:
                    self.network.send(link, self.sid, data)
                if connection.closing:
                    replica.hang_up(connection)
                    if link is not None:
                        del self._links[connection], self._clients[link]
                        self.network.hang_up(link, self.sid)
                elif connection.stalled:
                    replica.receive(connection, b"", self.now_ms)

    # Time.

    def _sweep(self, life: int) -> None:
        if life == self._life:
            self._call(lambda: self._running.sweep(self.wall_ms))
            self.world.after(SWEEP_PAUSE, self._sweep, life)

    def _set_timer(self) -> None:
        replica = self.replica
        due_ms = None if replica is None else replica.next_due_ms
        if due_ms is None:
            return
        at = max(self.world.now + 1, -((self._start_ms - due_ms) * 1_000_000 // self._drift))
        if self._timer is None or at < self._timer:
            self._timer = at
            self.world.after(at - self.world.now, self._tick, self._life, at)

    def _tick(self, life: int, at: int) -> None:
        if life != self._life or self._timer != at:
            return
        self._timer = None
        if self._paused:
            return
        self._call(lambda: self._running.tick(self.now_ms))
        due_ms = None if self.replica is None else self.replica.next_due_ms
        self._spins = self._spins + 1 if due_ms is not None and due_ms <= self.now_ms else 0
        if self._spins > SPINS_MAX:
            raise Violation("L1", f"server {self.sid} asks for a tick at once, again and again")

    # What the checkers are told.

    def _tap(self, point: str) -> None:
        self.counts[f"point {point}"] += 1
        if self.nemesis is not None and self.nemesis.reached(self, point):
            raise DiskCrash

    def _applied(self, txn: Txn, tree: DataTree) -> None:
        self.ledger.applied(self.sid, txn, tree)

    def _replaced(self) -> None:
        """The history on disk has become another one; so must the tree."""
        tree = self.tree
        assert isinstance(tree, ObservedTree)
        tree.live = False
        recovered = self.disk.recover(tree)
        tree.live = True
        self.ledger.loaded(self.sid, tree, recovered.fuzzy_until)

    def _check_expiries(self, ready: Ready) -> None:
        """No session is over that its leader was hearing of."""
        for entry in (entry for write in ready.writes if isinstance(write, AppendTxns) for entry in write.entries):
            header = entry.txn.header
            if header.type != Opcode.CLOSE_SESSION or header.cxid:
                continue
            silence_ms = self.now_ms - self._heard.get(header.client_id, 0)
            if silence_ms < self.tree.sessions.get(header.client_id, 0):
                raise Violation(
                    "I19",
                    f"server {self.sid} ends session {header.client_id:#x}, of which it heard {silence_ms} ms ago",
                )

    def _observe(self, link: int, packet: QuorumPacket) -> None:
        self.ledger.sent(self.sid, link, packet)
        kind = packet.type
        if kind in _SYNCS:
            self._sync_kinds[link] = _SYNCS[PacketType(kind)]
        elif kind == PacketType.UPTODATE:
            self.counts[f"synchronized by {self._sync_kinds[link]}"] += 1


def members(voters: int, observers: int) -> QuorumConfig:
    """An ensemble of servers 1, 2, ...; the last ones do not vote."""
    servers = {
        sid: Member(sid, (("127.0.0.1", 2000 + sid, 3000 + sid),), observer=sid > voters)
        for sid in range(1, voters + observers + 1)
    }
    return QuorumConfig(servers)
