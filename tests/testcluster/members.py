"""A whole ensemble without a network: replicas under one clock of the test, clients that speak in frames.

The members are the product's own, on its storage in memory; only the wires between them and the clock are the test's.
Packets cross the wires as bytes. Nothing happens but in `pump` (no time passes) and `run`.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import Any

from terzetto.testcluster.connection import Connection
from terzetto.testcluster.datatree import DataTree
from terzetto.testcluster.history import History
from terzetto.testcluster.membership import Member
from terzetto.testcluster.messages import (
    PacketReader,
    QuorumPacket,
    ServerState,
    decode_notification,
    encode_notification,
    encode_packet,
)
from terzetto.testcluster.peer import PeerSettings
from terzetto.testcluster.quorum import QuorumConfig
from terzetto.testcluster.ready import (
    AppendTxns,
    Dial,
    Hangup,
    InstallSnapshot,
    Ready,
    SendNotification,
    SendPacket,
    SendSnapshot,
    TruncateHistory,
    WriteAcceptedEpoch,
    WriteCurrentEpoch,
)
from terzetto.testcluster.replica import Replica
from terzetto.testcluster.settings import ServerSettings
from terzetto.testcluster.snapshot_body import encode_snapshot_body
from terzetto.testcluster.storage import (
    HistoryUnavailableError,
    LoggedTxn,
    MemoryStorage,
    SnapshotDigest,
    encode_snapshot,
)
from terzetto.testcluster.txns import DIGEST_VERSION, SnapshotSession

from .port import Peer

TICK_MS = 200


def write_snapshot(storage: MemoryStorage, tree: DataTree, zxid: int, *, replaces_history: bool = False) -> None:
    """Writes the tree as a snapshot."""
    writer = storage.begin_snapshot(zxid, replaces_history=replaces_history)
    sessions = [SnapshotSession(*row) for row in tree.sessions.items()]
    digest = SnapshotDigest(zxid, DIGEST_VERSION, tree.digest)
    for piece in encode_snapshot(sessions, tree.acls.dump(), tree.walk(), lambda: digest):
        writer.write(piece)
    writer.commit()


def recover(storage: MemoryStorage, tree: DataTree) -> list[LoggedTxn]:
    """Brings the tree to what the storage has; gives the transactions behind its snapshot."""
    recovery = storage.recover()
    snapshot = recovery.snapshot
    if snapshot is None:
        tree.load(0, [], [], [])
    else:
        tree.load(snapshot.zxid, snapshot.sessions, snapshot.acls, snapshot.nodes)
    logged = list(recovery.txns)
    for each in logged:
        tree.apply(recovery.decode(each))
    tree.finish_recovery()
    if snapshot is None:
        write_snapshot(storage, tree, 0)
    return logged


class Wire:
    """One direction of a link: bytes under way, and the far end's number for the link."""

    def __init__(self, to: Server, link: int) -> None:
        self.to = to
        self.life = to.life
        self.link = link
        self.reader = PacketReader()
        self.queue: deque[bytes | None] = deque()
        self.back: Wire


class Server:
    """A member and its disk. As a `Port` for the clients that are connected to it, it also knows the clock."""

    def __init__(self, ensemble: Ensemble, sid: int) -> None:
        self.ensemble = ensemble
        self.sid = sid
        self.storage = MemoryStorage()
        self.life = 0
        self.peers: dict[Connection, Peer] = {}
        self.wires: dict[int, Wire] = {}
        self.slow_disk = False
        self.waiting: deque[Ready] = deque()
        self.machine: Replica
        self.alive = False
        self.sent: list[QuorumPacket] = []

    def __repr__(self) -> str:
        return f"<Server {self.sid} {self.machine.role.state.name}>"

    @property
    def now_ms(self) -> int:
        return self.ensemble.now_ms

    @property
    def tree(self) -> DataTree:
        return self.machine.tree

    def start(self) -> None:
        tree = DataTree()
        logged = recover(self.storage, tree)
        self.life += 1
        self.alive = True
        self.machine = Replica(
            self.sid,
            self.ensemble.config,
            settings=ServerSettings(server_id=self.sid, tick_ms=TICK_MS, **self.ensemble.settings),
            peer_settings=PeerSettings(tick_ms=TICK_MS, init_limit=10, sync_limit=5),
            tree=tree,
            history=History(self.storage.last_zxid, logged),
            accepted_epoch=self.storage.accepted_epoch,
            current_epoch=self.storage.current_epoch,
            chance=random.Random(self.sid),
            now_ms=self.now_ms,
            wall_ms=self.ensemble.wall_ms,
            read_only_mode=self.ensemble.read_only_mode,
        )
        self.machine.start(self.now_ms)

    def kill(self) -> None:
        """As SIGKILL does: what is not synced is lost, clients and links find out."""
        self.alive = False
        self.storage.crash()
        self.waiting.clear()
        for link in list(self.wires):
            self.close_link(link)
        for peer in self.peers.values():
            peer.closed = True
        self.peers.clear()

    # Clients, as `Port` has them.

    def open(self) -> Peer:
        peer = Peer(self, self.machine.open("127.0.0.1", self.now_ms))  # type: ignore[arg-type]
        self.peers[peer.connection] = peer
        return peer

    def connect(self, **terms: Any) -> Peer:
        """A client with a session; the members may talk meanwhile, but no time passes."""
        terms.setdefault("timeout_ms", 4000)
        peer = self.open()
        peer.handshake(**terms)
        assert peer.session_id, "the session was refused"
        return peer

    def pump(self) -> None:
        self.ensemble.pump()

    # What a shell does.

    def work(self) -> bool:
        """Carries out what the replica wants; returns whether there was anything."""
        machine, busy = self.machine, False
        while True:
            ready = machine.take_ready(self.now_ms, self.ensemble.wall_ms)
            if ready is None:
                break
            busy = True
            assert not ready.applies
            assert not ready.upcalls
            if ready.writes:
                self.waiting.append(ready)
            for send in ready.sends:
                self.send(send)
            self.write()
        return self.flush() or busy

    def flush(self) -> bool:
        machine = self.machine
        flushable = machine.take_flushable()
        for connection in flushable:
            peer = self.peers.get(connection)
            if peer is None:
                continue
            peer.take(connection.take_output())
            if connection.closing:
                peer.closed = True
                machine.hang_up(connection)
                del self.peers[connection]
            elif connection.stalled:
                machine.receive(connection, b"", self.now_ms)
        return bool(flushable)

    def write(self) -> None:
        """What the disk has to do, unless it is slow today."""
        while self.waiting and not self.slow_disk:
            ready = self.waiting.popleft()
            if all(self.write_one(write) for write in ready.writes):
                self.storage.sync()
                self.machine.durable(ready.number, self.now_ms)
            else:
                self.machine.truncation_failed(ready.number, self.now_ms)

    def write_one(self, write: Any) -> bool:
        storage, tree = self.storage, self.machine.tree
        if isinstance(write, WriteAcceptedEpoch):
            storage.sync()
            storage.write_accepted_epoch(write.epoch)
        elif isinstance(write, WriteCurrentEpoch):
            storage.sync()
            storage.write_current_epoch(write.epoch)
        elif isinstance(write, AppendTxns):
            storage.append([LoggedTxn(entry.zxid, entry.payload) for entry in write.entries])
        elif isinstance(write, TruncateHistory):
            try:
                storage.truncate_to(write.zxid)
            except HistoryUnavailableError:
                return False
            recover(storage, tree)
        else:
            assert isinstance(write, InstallSnapshot)
            tree.load(write.zxid, *write.snapshot)
            for entry in write.entries:
                tree.apply(entry.txn)
            write_snapshot(storage, tree, write.last_zxid, replaces_history=True)
            recover(storage, tree)
        return True

    def send(self, send: Any) -> None:
        ensemble = self.ensemble
        if isinstance(send, SendPacket):
            self.sent.append(send.packet)
            self.post(send.link, encode_packet(send.packet))
        elif isinstance(send, SendSnapshot):
            tree = self.machine.tree
            sessions = [SnapshotSession(*row) for row in tree.sessions.items()]
            self.post(send.link, b"".join(encode_snapshot_body(sessions, tree.acls.dump(), tree.walk())))
        elif isinstance(send, SendNotification):
            # Without a connection the last word waits for one.
            ensemble.votes[self.sid, send.sid] = encode_notification(send.notification)
        elif isinstance(send, Dial):
            ensemble.dials.append((self, send.sid))
        else:
            assert isinstance(send, Hangup)
            self.close_link(send.link)

    def post(self, link: int, data: bytes) -> None:
        wire = self.wires.get(link)
        if wire is not None:
            wire.queue.append(data)

    def close_link(self, link: int) -> None:
        """The far end finds out behind what was sent; what it has sent is lost."""
        wire = self.wires.pop(link, None)
        if wire is not None:
            wire.queue.append(None)
            wire.back.queue.clear()


class Ensemble:
    """Servers 1 to `voters`, and observers behind them.

    Args:
        voters: how many vote.
        observers: how many do not.
        read_only_mode: whether servers serve reads without a quorum.
        settings: of `ServerSettings`.
    """

    def __init__(self, voters: int = 3, observers: int = 0, *, read_only_mode: bool = False, **settings: Any) -> None:
        members = {
            sid: Member(sid, ((f"10.0.0.{sid}", 2888, 3888),), observer=sid > voters)
            for sid in range(1, voters + observers + 1)
        }
        self.config = QuorumConfig(members)
        self.read_only_mode = read_only_mode
        self.settings = settings
        self.now_ms = 1_000_000
        self.wall_ms = 1_700_000_000_000
        self.votes: dict[tuple[int, int], bytes] = {}
        self.dials: deque[tuple[Server, int]] = deque()
        self.cut: set[frozenset[int]] = set()
        self.wires: list[Wire] = []
        self.links = 0
        self.servers = {sid: Server(self, sid) for sid in members}
        for server in self.servers.values():
            server.start()

    # Time.

    def pump(self) -> None:
        """Everything that happens without time passing."""
        for _ in range(10_000):
            busy = [server.work() for server in self.alive()]
            moved = [self.deliver_votes(), self.deliver_dials(), self.deliver_packets()]
            if not any(busy) and not any(moved):
                return
        raise AssertionError("the ensemble does not come to rest")

    def run(self, ms: int, until: Callable[[], bool] | None = None) -> None:
        """Lets time pass, until something holds if that is given: then it must."""
        end = self.now_ms + ms
        self.pump()
        while not (until is not None and until()):
            if self.now_ms >= end:
                assert until is None, "it did not come about in time"
                return
            dues = [server.machine.next_due_ms for server in self.alive()]
            due = min((due for due in dues if due is not None), default=end)
            step = max(1, min(due, end) - self.now_ms)
            self.now_ms += step
            self.wall_ms += step
            for server in self.alive():
                server.machine.tick(self.now_ms)
            self.pump()

    def alive(self) -> list[Server]:
        return [server for server in self.servers.values() if server.alive]

    # The network.

    def connected(self, one: int, other: int) -> bool:
        return self.servers[other].alive and frozenset((one, other)) not in self.cut

    def deliver_votes(self) -> bool:
        moved = False
        for (sender, to), raw in list(self.votes.items()):
            if self.servers[sender].alive and self.connected(sender, to):
                del self.votes[sender, to]
                self.servers[to].machine.notification(sender, decode_notification(raw), self.now_ms)
                moved = True
        return moved

    def deliver_dials(self) -> bool:
        dials, self.dials = self.dials, deque()
        for server, sid in dials:
            if not server.alive:
                continue
            if self.connected(server.sid, sid):
                self.connect(server, self.servers[sid])
            else:
                server.machine.dial_failed(sid, "connection refused", self.now_ms)
        return bool(dials)

    def connect(self, dialler: Server, to: Server) -> None:
        self.links += 2
        there, back = Wire(to, self.links), Wire(dialler, self.links - 1)
        there.back, back.back = back, there
        self.wires += [there, back]
        dialler.wires[back.link] = there
        to.wires[there.link] = back
        to.machine.link_accepted(there.link, self.now_ms)
        dialler.machine.dialled(back.link, self.now_ms)

    def deliver_packets(self) -> bool:
        moved = False
        for wire in list(self.wires):
            while wire.queue:
                moved = True
                self.arrive(wire, wire.queue.popleft())
        return moved

    def arrive(self, wire: Wire, data: bytes | None) -> None:
        server, link = wire.to, wire.link
        if not server.alive or server.life != wire.life or link not in server.wires:
            return
        if data is None:
            del server.wires[link]
            self.wires.remove(wire)
            server.machine.link_closed(link, self.now_ms)
            return
        for arrived in wire.reader.feed(data):
            if isinstance(arrived, QuorumPacket):
                server.machine.packet(link, arrived, self.now_ms)
            else:
                server.machine.snapshot_received(link, arrived, self.now_ms)

    def isolate(self, *sids: int) -> None:
        """Cuts these servers, together, off from the others; links between the sides break."""
        for one in sids:
            for other in set(self.servers) - set(sids):
                self.cut.add(frozenset((one, other)))
        for server in self.alive():
            for link, wire in list(server.wires.items()):
                if frozenset((server.sid, wire.to.sid)) in self.cut:
                    del server.wires[link]
                    server.machine.link_closed(link, self.now_ms)
        self.wires = [wire for wire in self.wires if wire.link in wire.to.wires]

    def heal(self) -> None:
        self.cut.clear()

    # What a test asks.

    def leader(self) -> Server | None:
        """The server that leads and serves; the one of the latest epoch, should there be two."""
        leading = [each for each in self.alive() if each.machine.role.state is ServerState.LEADING]
        leading = [each for each in leading if each.machine.serving]
        return max(leading, key=lambda each: each.machine.role.epoch, default=None)

    def wait_serving(self, *sids: int, within_ms: int = 10_000) -> Server:
        """Lets time pass until these servers (all that live, if none is named) serve under one leader."""
        wanted = sids or tuple(server.sid for server in self.alive())

        def all_serve() -> bool:
            roles = [self.servers[sid].machine.role for sid in wanted]
            return all(role.serving for role in roles) and len({(role.epoch, role.leader) for role in roles}) == 1

        self.run(within_ms, all_serve)
        leader = self.servers[self.servers[wanted[0]].machine.role.leader or 0]
        assert leader.machine.role.state is ServerState.LEADING
        return leader

    def followers(self) -> list[Server]:
        return [each for each in self.alive() if each.machine.role.state is ServerState.FOLLOWING]

    def assert_equal(self) -> None:
        """Every living server has the same tree and the same sessions."""
        self.pump()
        # Not the last zxid: the one of a snapshot may name an epoch that has no transaction yet.
        states = {(each.tree.digest, tuple(sorted(each.tree.sessions))) for each in self.alive()}
        assert len(states) == 1, states
        assert {each.tree.digest_mismatches for each in self.alive()} == {0}
