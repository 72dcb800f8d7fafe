"""Peers on a bench: one peer between a disk that the test syncs and links that the test is the other end of; or several
of them, with links in memory and one clock. The tree is the list of the zxids that were applied."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from terzetto.testcluster.history import RECENT_MAX, History
from terzetto.testcluster.local import PeerSettings
from terzetto.testcluster.membership import Member
from terzetto.testcluster.messages import Notification, PacketType, QuorumPacket, ServerState
from terzetto.testcluster.peer import Peer
from terzetto.testcluster.quorum import QuorumConfig
from terzetto.testcluster.ready import (
    AppendTxns,
    Dial,
    Entry,
    Hangup,
    InstallSnapshot,
    Ready,
    Role,
    SendNotification,
    SendPacket,
    SendSnapshot,
    TruncateHistory,
    Upcall,
    Write,
    WriteAcceptedEpoch,
    WriteCurrentEpoch,
)
from terzetto.testcluster.snapshot_body import SnapshotBody
from terzetto.testcluster.txns import ErrorTxn, SnapshotSession, Txn, TxnHeader, encode_txn

TICK_MS = 1000
SETTINGS = PeerSettings(tick_ms=TICK_MS, init_limit=10, sync_limit=5)
TOUCHES = bytes(range(12))


def zxid(epoch: int, counter: int) -> int:
    return epoch << 32 | counter


def txn(number: int) -> Txn:
    """A transaction; what it does is of no interest here."""
    return Txn(TxnHeader(7, 0, number, 0, -1), ErrorTxn(-110), None)


def entry(number: int) -> Entry:
    return Entry(number, txn(number), encode_txn(txn(number)))


def payload(number: int) -> bytes:
    return entry(number).payload


def config(voters: int = 3, observers: int = 0) -> QuorumConfig:
    sids = range(1, voters + observers + 1)
    return QuorumConfig({sid: Member(sid, (("127.0.0.1", 2000 + sid, 3000 + sid),), sid > voters) for sid in sids})


class Disk:
    """What a server has on its disk, and what is on its way there."""

    def __init__(self, zxids: Iterable[int] = (), *, accepted: int = 0, current: int = 0, base: int = 0) -> None:
        self.zxids = list(zxids)
        self.base = base
        self.accepted = accepted
        self.current = current
        self.writes: list[tuple[int, Write]] = []
        self.uncuttable = False

    @property
    def last_zxid(self) -> int:
        return self.zxids[-1] if self.zxids else self.base

    def history(self, recent_max: int = RECENT_MAX) -> History:
        logged = [number for number in self.zxids if number > self.base]
        return History(self.last_zxid, [(number, payload(number)) for number in logged], recent_max=recent_max)


class Bench:
    """One peer. Its writes reach the disk with `sync`, or by themselves while `quick`.

    Attributes:
        applied: the tree.
        roles, upcalls, votes: what it wanted, the oldest first.
        sent: packets by link, until `heard` takes them.
        bodies: bodies of snapshots by link.
        hung_up: reasons by link.
        dials: whom it wanted dialled.
    """

    def __init__(
        self,
        sid: int = 1,
        ensemble: QuorumConfig | None = None,
        disk: Disk | None = None,
        *,
        now_ms: int = 50_000,
        recent_max: int = RECENT_MAX,
        seed: int = 0,
    ) -> None:
        self.sid = sid
        self.config = ensemble or config()
        self.disk = disk or Disk()
        self.now_ms = now_ms
        self.quick = True
        self.applied = list(self.disk.zxids)
        self.roles: list[Role] = []
        self.upcalls: list[Upcall] = []
        self.votes: list[tuple[int, Notification]] = []
        self.sent: dict[int, list[QuorumPacket]] = {}
        self.bodies: dict[int, list[SnapshotBody]] = {}
        self.hung_up: dict[int, str] = {}
        self.dials: list[int] = []
        self.writes: list[Write] = []
        # With a disk that is not quick, nothing may be applied between these writes and their end.
        self.rebuilding = 0
        self.touches = TOUCHES
        self.last_link = 0
        self.on_send: Callable[[SendPacket | SendSnapshot | Hangup | Dial | SendNotification], None] | None = None
        self.peer = Peer(
            sid,
            self.config,
            SETTINGS,
            self.disk.history(recent_max),
            self.disk.accepted,
            self.disk.current,
            touches=lambda: self.touches,
            chance=random.Random(seed),
        )
        self.peer.start(now_ms)
        self.drain()

    @property
    def role(self) -> Role:
        return self.roles[-1]

    def leader(self) -> int | None:
        return self.peer.leader

    # What the peer wants.

    def drain(self) -> None:
        while True:
            ready = self.peer.take_ready()
            if ready is None:
                break
            self._carry_out(ready)
            if self.quick:
                self.sync()

    def _carry_out(self, ready: Ready) -> None:
        for write in ready.writes:
            self.disk.writes.append((ready.number, write))
            self.writes.append(write)
            self.rebuilding += isinstance(write, TruncateHistory | InstallSnapshot)
        assert not (ready.applies and self.rebuilding)
        self.applied += [applied.header.zxid for applied in ready.applies]
        if ready.role is not None:
            self.roles.append(ready.role)
        self.upcalls += ready.upcalls
        for send in ready.sends:
            if isinstance(send, SendPacket):
                self.sent.setdefault(send.link, []).append(send.packet)
            elif isinstance(send, SendSnapshot):
                body = SnapshotBody([SnapshotSession(number, 0) for number in self.applied], [], [])
                self.bodies.setdefault(send.link, []).append(body)
            elif isinstance(send, Hangup):
                assert send.link not in self.hung_up
                self.hung_up[send.link] = send.reason
            elif isinstance(send, Dial):
                self.dials.append(send.sid)
            else:
                self.votes.append((send.sid, send.notification))
            if self.on_send is not None:
                self.on_send(send)

    def sync(self, count: int | None = None) -> None:
        """The disk finishes the first writes, or all, and what follows from them."""
        disk = self.disk
        while disk.writes and count != 0:
            number, write = disk.writes.pop(0)
            count = None if count is None else count - 1
            if not self._write(number, write):
                disk.writes = [other for other in disk.writes if other[0] != number]
                self.peer.truncation_failed(number, self.now_ms)
            elif not disk.writes or disk.writes[0][0] != number:
                self.peer.durable(number, self.now_ms)
            self.drain()

    def _write(self, number: int, write: Write) -> bool:
        disk = self.disk
        if isinstance(write, AppendTxns):
            disk.zxids += [each.zxid for each in write.entries]
        elif isinstance(write, WriteAcceptedEpoch):
            assert write.epoch > disk.accepted
            disk.accepted = write.epoch
        elif isinstance(write, WriteCurrentEpoch):
            assert disk.current < write.epoch <= disk.accepted
            disk.current = write.epoch
        elif isinstance(write, TruncateHistory):
            self.rebuilding -= 1
            if disk.uncuttable:
                return False
            assert write.zxid in (*disk.zxids, disk.base)
            disk.zxids = [each for each in disk.zxids if each <= write.zxid]
            self.applied = list(disk.zxids)
        else:
            self.rebuilding -= 1
            rows = [row.session_id for row in write.snapshot.sessions]
            disk.zxids = sorted({*rows, *(each.zxid for each in write.entries)})
            disk.base = write.last_zxid
            self.applied = list(disk.zxids)
        return True

    # What the test says.

    def wait(self, ms: int) -> None:
        """Lets time pass, with every tick that is due."""
        end = self.now_ms + ms
        while True:
            due = self.peer.next_due_ms
            if due is None or due > end:
                break
            self.now_ms = max(self.now_ms, due)
            self.peer.tick(self.now_ms)
            self.drain()
        self.now_ms = end

    def notify(self, sender: int, state: ServerState, leader: int, *, round_: int | None = None) -> None:
        """A vote for a leader; by itself in this server's round, and for the history that it has itself."""
        own = self.votes[-1][1]
        vote = Notification(
            state,
            leader,
            own.zxid if leader == self.sid else zxid(1, 1 << 20),
            own.election_epoch if round_ is None else round_,
            own.peer_epoch if leader == self.sid else 1 << 20,
            config=self.config.text(),
        )
        self.peer.notification(sender, vote, self.now_ms)
        self.drain()

    def win(self) -> None:
        """All voters want this server to lead."""
        for sid in self.config.voters - {self.sid}:
            self.notify(sid, ServerState.LOOKING, self.sid)
        assert self.peer.state is ServerState.LEADING

    def lose(self, leader: int) -> None:
        """Another server leads already."""
        for sid in sorted(self.config.voters - {self.sid}):
            self.notify(sid, ServerState.LEADING if sid == leader else ServerState.FOLLOWING, leader)
        assert self.peer.leader == leader

    def accept(self) -> int:
        """Somebody connects; returns the link."""
        self.last_link += 1
        self.peer.link_accepted(self.last_link, self.now_ms)
        self.drain()
        return self.last_link

    def dialled(self) -> int:
        """The dial succeeds; returns the link."""
        self.last_link += 1
        self.peer.dialled(self.last_link, self.now_ms)
        self.drain()
        return self.last_link

    def say(self, link: int, kind: PacketType, number: int = -1, data: bytes | None = None) -> None:
        """The other end of a link says something."""
        self.peer.packet(link, QuorumPacket(kind, number, data), self.now_ms)
        self.drain()

    def propose_to(self, link: int, *numbers: int) -> None:
        for number in numbers:
            self.say(link, PacketType.PROPOSAL, number, payload(number))

    def show(self, link: int, zxids: Iterable[int] = ()) -> None:
        """The body of a SNAP comes."""
        body = SnapshotBody([SnapshotSession(number, 0) for number in zxids], [], [])
        self.peer.snapshot_received(link, body, self.now_ms)
        self.drain()

    def close(self, link: int) -> None:
        self.peer.link_closed(link, self.now_ms)
        self.drain()

    def propose(self, count: int = 1) -> list[int]:
        """Proposes as leader; returns the zxids."""
        numbers: list[int] = []
        for _ in range(count):
            numbers.append(self.peer.last_proposed + 1)
            self.peer.propose(txn(numbers[-1]), self.now_ms)
            self.drain()
        return numbers

    def heard(self, link: int) -> list[tuple[PacketType, int]]:
        """What was sent on a link since the last call, PINGs apart."""
        packets = self.sent.pop(link, [])
        return [(PacketType(each.type), each.zxid) for each in packets if each.type != PacketType.PING]

    def packets(self, link: int) -> list[QuorumPacket]:
        """The same, whole and with PINGs."""
        return self.sent.pop(link, [])


class Ensemble:
    """Several peers. A message moves with `step` or `settle`; links are cut by `cut`, disks are quick unless told."""

    def __init__(self, voters: int = 3, observers: int = 0, disks: Sequence[Disk] | None = None) -> None:
        self.config = config(voters, observers)
        self.now_ms = 50_000
        sids = sorted(self.config.members)
        self.disks = {sid: disks[sid - 1] if disks else Disk() for sid in sids}
        self.benches: dict[int, Bench] = {}
        # The other ends of links that are open, and of all; what is on its way, by the end that has sent it.
        self._far: dict[tuple[int, int], tuple[int, int]] = {}
        self._wires: dict[tuple[int, int], deque[QuorumPacket | SnapshotBody | None]] = {}
        self._votes: deque[tuple[int, int, Notification]] = deque()
        self._dials: deque[tuple[int, int]] = deque()
        self._fars: dict[tuple[int, int], tuple[int, int]] = {}
        self._links = 0
        self.severed: set[frozenset[int]] = set()
        self.delivered = 0
        self.delivery_limit: int | None = None
        for sid in sids:
            self.start(sid)

    def start(self, sid: int) -> Bench:
        """A server starts with what its disk has."""
        bench = Bench(sid, self.config, self.disks[sid], now_ms=self.now_ms)
        self.benches[sid] = bench
        bench.on_send = lambda send: self._send(sid, send)
        for to, vote in bench.votes:
            self._votes.append((sid, to, vote))
        return bench

    def crash(self, sid: int) -> None:
        """A server dies; what its disk has not written is lost."""
        del self.benches[sid]
        self.disks[sid].writes.clear()
        for end in [end for end in self._far if end[0] == sid]:
            self._close(end)

    def cut(self, one: int, other: int) -> None:
        """Nothing passes between two servers any more."""
        self.severed.add(frozenset((one, other)))
        for end, far in list(self._far.items()):
            if {end[0], far[0]} == {one, other}:
                self._wires[end].clear()
                self._closed(end)

    def isolate(self, sid: int) -> None:
        for other in self.config.members:
            if other != sid:
                self.cut(sid, other)

    def heal(self) -> None:
        self.severed.clear()

    @property
    def leader(self) -> Bench | None:
        """The serving leader of the latest epoch."""
        leading = [bench for bench in self.benches.values() if bench.role.state is ServerState.LEADING]
        return max((bench for bench in leading if bench.role.serving), key=lambda b: b.role.epoch, default=None)

    def serving(self) -> list[int]:
        """Who serves, in the latest epoch that has a serving leader."""
        epoch = self.leader.role.epoch if self.leader is not None else 0
        roles = {sid: bench.role for sid, bench in self.benches.items()}
        return sorted(sid for sid, role in roles.items() if role.serving and role.epoch == epoch)

    # Wires.

    def _send(self, sid: int, send: SendPacket | SendSnapshot | Hangup | Dial | SendNotification) -> None:
        if isinstance(send, SendNotification):
            self._votes.append((sid, send.sid, send.notification))
        elif isinstance(send, Dial):
            self._dials.append((sid, send.sid))
        elif isinstance(send, Hangup):
            self._close((sid, send.link))
        else:
            wire = self._wires.get((sid, send.link))
            if wire is not None:
                wire.append(send.packet if isinstance(send, SendPacket) else self.benches[sid].bodies.pop(send.link)[0])

    def _close(self, end: tuple[int, int]) -> None:
        """One end is closed: what it has sent still arrives, then the end of it."""
        far = self._far.pop(end, None)
        if far is not None:
            self._wires[end].append(None)

    def _closed(self, end: tuple[int, int]) -> None:
        sid, link = end
        if self._far.pop(end, None) is not None and sid in self.benches:
            self.benches[sid].close(link)

    def _deliver_wire(self, end: tuple[int, int], far: tuple[int, int]) -> None:
        item = self._wires[end].popleft()
        sid, link = far
        bench = self.benches.get(sid)
        if item is None:
            del self._wires[end]
            self._closed(far)
        elif bench is None or far not in self._far:
            return
        elif isinstance(item, SnapshotBody):
            bench.peer.snapshot_received(link, item, self.now_ms)
            bench.drain()
        else:
            bench.peer.packet(link, item, self.now_ms)
            bench.drain()

    def step(self) -> bool:
        """One message arrives; False where none is on its way."""
        if self.delivery_limit is not None and self.delivered >= self.delivery_limit:
            return False
        self.delivered += 1
        if self._dials:
            self._dial(*self._dials.popleft())
            return True
        if self._votes:
            sender, to, vote = self._votes.popleft()
            if to in self.benches and sender in self.benches and frozenset((sender, to)) not in self.severed:
                self.benches[to].peer.notification(sender, vote, self.now_ms)
                self.benches[to].drain()
            return True
        for end, wire in list(self._wires.items()):
            if wire:
                self._deliver_wire(end, self._fars[end])
                return True
        self.delivered -= 1
        return False

    def _dial(self, sid: int, to: int) -> None:
        bench = self.benches.get(sid)
        if bench is None:
            return
        if to not in self.benches or frozenset((sid, to)) in self.severed:
            bench.peer.dial_failed(to, "refused", self.now_ms)
            bench.drain()
            return
        self._links += 1
        near, far = (sid, self._links * 2), (to, self._links * 2 + 1)
        self._far[near], self._far[far] = far, near
        self._fars[near], self._fars[far] = far, near
        self._wires[near], self._wires[far] = deque(), deque()
        self.benches[to].peer.link_accepted(far[1], self.now_ms)
        self.benches[to].drain()
        if near in self._far:
            bench.peer.dialled(near[1], self.now_ms)
            bench.drain()

    def settle(self) -> None:
        """Everything that is on its way arrives; no time passes."""
        for _ in range(20_000):
            if not self.step():
                return
        raise AssertionError("the peers do not come to rest")

    def run(self, ms: int, until: Callable[[], bool] | None = None) -> None:
        """Lets time pass; with `until`, at most until it holds, which it must."""
        end = self.now_ms + ms
        self.settle()
        while until is None or not until():
            dues = [bench.peer.next_due_ms for bench in self.benches.values()]
            due = min((due for due in dues if due is not None), default=end)
            if due > end:
                assert until is None, f"it did not come about: {self.benches}"
                break
            self.now_ms = max(self.now_ms, due)
            for bench in list(self.benches.values()):
                bench.now_ms = self.now_ms
                bench.peer.tick(self.now_ms)
                bench.drain()
            self.settle()
        else:
            return
        self.now_ms = end

    def run_until_serving(self, *sids: int, ms: int = 30_000) -> Bench:
        """Runs until these servers serve, or all; returns their leader."""
        wanted = sorted(sids) if sids else sorted(self.benches)
        self.run(ms, lambda: set(wanted) <= set(self.serving()))
        leader = self.leader
        assert leader is not None
        return leader
