"""Quorum ports against one another and against raw peers, on memory streams and a virtual clock."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from terzetto.client._hosts import Endpoint
from terzetto.client._scopes import PlainNursery
from terzetto.testcluster import quorum_port
from terzetto.testcluster.datatree import DataTree
from terzetto.testcluster.memory_network import CAPACITY, Network
from terzetto.testcluster.messages import PacketType, QuorumPacket, encode_packet
from terzetto.testcluster.quorum_port import DIAL_ATTEMPTS, DIAL_PAUSE, LINKS_MAX, QuorumPort
from terzetto.testcluster.snapshot_body import SnapshotBody, encode_snapshot_body
from terzetto.testcluster.txns import SnapshotSession

# `until` sleeps.
pytestmark = pytest.mark.usefixtures("autojump_clock")

PORT = 2888
PING = QuorumPacket(PacketType.PING, 5)


def place(sid: int) -> Endpoint:
    return Endpoint(f"s{sid}", PORT, f"s{sid}")


class Server:
    """A quorum port, and everything that it has told."""

    def __init__(self, network: Network, sid: int) -> None:
        self.accepted: list[int] = []
        self.dialled: list[int] = []
        self.failed: list[tuple[int, str]] = []
        self.closed: list[int] = []
        self.items: list[tuple[int, QuorumPacket | SnapshotBody]] = []
        self.gate: trio.Event | None = None
        self.jam: trio.Event | None = None
        self.sid = sid
        self.transport = network.transport(f"s{sid}")
        self.port = QuorumPort(
            sid, {each: (place(each),) for each in (1, 2)}, self.transport, self, gate=lambda: self.gate
        )

    def link_accepted(self, link: int) -> None:
        self.accepted.append(link)

    def link_dialled(self, link: int) -> None:
        self.dialled.append(link)

    def dial_failed(self, sid: int, reason: str) -> None:
        self.failed.append((sid, reason))

    def arrived(self, link: int, items: list[QuorumPacket | SnapshotBody]) -> None:
        self.items += [(link, item) for item in items]

    def link_closed(self, link: int) -> None:
        self.closed.append(link)

    def congestion(self) -> trio.Event | None:
        return self.jam

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        listener = await self.transport.listen(place(self.sid))
        task_status.started()
        try:
            await self.port.serve(listener)
        finally:
            listener.close()

    def send(self, link: int, packet: QuorumPacket) -> None:
        self.port.send(link, encode_packet(packet))
        self.port.flush()


@asynccontextmanager
async def serving(network: Network, *sids: int) -> AsyncIterator[list[Server]]:
    servers = [Server(network, sid) for sid in sids]
    async with PlainNursery() as nursery:
        for server in servers:
            await nursery.start(server.run)
        yield servers
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def linked(network: Network | None = None) -> AsyncIterator[tuple[Server, Server, int, int]]:
    """A learner and its leader, and the numbers of the one link between them."""
    async with serving(network or Network(), 1, 2) as (learner, leader):
        learner.port.dial(2)
        await until(lambda: bool(learner.dialled and leader.accepted))
        yield learner, leader, learner.dialled[0], leader.accepted[0]


async def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - any condition, on virtual time
            await trio.sleep(0.01)


async def test_packets_go_both_ways(autojump_clock: MockClock) -> None:
    async with linked() as (learner, leader, up, down):
        learner.send(up, QuorumPacket(PacketType.ACK, 1))
        for zxid in range(100):
            leader.send(down, QuorumPacket(PacketType.PROPOSAL, zxid, b"data"))
        await until(lambda: len(learner.items) == 100 and len(leader.items) == 1)
        assert leader.items == [(down, QuorumPacket(PacketType.ACK, 1))]
        assert [item.zxid for _, item in learner.items if isinstance(item, QuorumPacket)] == list(range(100))


async def test_what_was_sent_in_one_turn_leaves_in_one_piece(autojump_clock: MockClock) -> None:
    network = Network()
    async with serving(network, 1, 2) as (_, leader):
        raw = await network.transport("raw").dial(place(2))
        await until(lambda: bool(leader.accepted))
        for _ in range(3):
            leader.port.send(leader.accepted[0], encode_packet(PING))
        leader.port.flush()
        assert await raw.receive() == encode_packet(PING) * 3


async def test_a_leader_that_listens_late_is_reached(autojump_clock: MockClock) -> None:
    network = Network()
    async with serving(network, 1) as (learner,):
        learner.port.dial(2)
        await trio.sleep(DIAL_PAUSE * 1.5)
        async with serving(network, 2):
            await until(lambda: bool(learner.dialled))
    assert not learner.failed


async def test_after_a_few_attempts_a_dial_fails(autojump_clock: MockClock) -> None:
    async with serving(Network(), 1) as (learner,):
        began = trio.current_time()
        learner.port.dial(2)
        await until(lambda: bool(learner.failed))
        assert trio.current_time() - began == pytest.approx(DIAL_PAUSE * (DIAL_ATTEMPTS - 1), abs=0.02)
        assert learner.failed[0][0] == 2
        assert "refused" in learner.failed[0][1]
        learner.port.dial(77)
        await until(lambda: len(learner.failed) == 2)
        assert learner.failed[1] == (77, "it is not in the configuration")


async def test_a_leader_that_does_not_answer_is_given_up(autojump_clock: MockClock) -> None:
    network = Network()
    with network.partition({"s1"}, {"s2"}):
        async with serving(network, 1, 2) as (learner, _):
            learner.port.dial(2)
            await until(lambda: bool(learner.failed), 100)
            assert "no answer" in learner.failed[0][1]


async def test_a_newer_dial_and_a_revocation_end_the_one_before(autojump_clock: MockClock) -> None:
    network = Network()
    async with serving(network, 1) as (learner,):
        learner.port.dial(2)
        await trio.sleep(DIAL_PAUSE / 2)
        learner.port.dial(77)
        await until(lambda: bool(learner.failed))
        learner.port.dial(2)
        await trio.sleep(DIAL_PAUSE / 2)
        learner.port.revoke_dial()
        await trio.sleep(60)
    assert [sid for sid, _ in learner.failed] == [77]


async def test_the_end_of_a_link_is_told_to_the_other_side_only(autojump_clock: MockClock) -> None:
    async with linked() as (learner, leader, up, down):
        learner.port.send(up, encode_packet(PING))
        learner.port.hang_up(up)
        learner.port.hang_up(up)
        await until(lambda: leader.closed == [down])
        # What was sent before the end has arrived.
        assert leader.items == [(down, PING)]
        await trio.sleep(1)
        assert learner.closed == []
        leader.send(down, PING)
        assert leader.closed == [down]


async def test_a_broken_link_is_told_to_both(autojump_clock: MockClock) -> None:
    network = Network()
    async with linked(network) as (learner, leader, up, down):
        network.break_connections("s1", "s2")
        await until(lambda: learner.closed == [up] and leader.closed == [down])


@pytest.mark.parametrize(
    "octets", [struct.pack(">iqi", 5, 1, -2), struct.pack(">iqi", 5, 1, 1 << 30), b"GET / HTTP/1.1\r\n\r\n"]
)
async def test_nonsense_ends_its_own_link_only(octets: bytes, autojump_clock: MockClock) -> None:
    network = Network()
    async with linked(network) as (learner, leader, up, down):
        hostile = await network.transport("hostile").dial(place(2))
        await hostile.send(octets)
        assert await hostile.receive() == b""
        await until(lambda: leader.closed == [leader.accepted[1]])
        learner.send(up, PING)
        await until(lambda: leader.items == [(down, PING)])


async def test_links_are_bounded(autojump_clock: MockClock) -> None:
    network = Network()
    async with serving(network, 2) as (leader,):
        transport = network.transport("hostile")
        open_links = [await transport.dial(place(2)) for _ in range(LINKS_MAX)]
        refused = await transport.dial(place(2))
        assert await refused.receive() == b""
        assert len(leader.accepted) == LINKS_MAX
        await open_links[0].aclose()
        await until(lambda: bool(leader.closed))
        await transport.dial(place(2))
        await until(lambda: len(leader.accepted) == LINKS_MAX + 1)


def large_tree(count: int) -> DataTree:
    tree = DataTree()
    rows = list(tree.walk())
    template = rows[-1]
    rows += [template._replace(path=f"/{number}", data=bytes(5000)) for number in range(count)]
    tree.load(7, [SnapshotSession(1, 4000)], [], rows)
    return tree


async def test_a_snapshot_is_sent_piece_by_piece_and_packets_follow_it(autojump_clock: MockClock) -> None:
    tree = large_tree(2000)
    made = 0

    def counted(pieces: Iterator[bytes]) -> Iterator[bytes]:
        nonlocal made
        for piece in pieces:
            made += len(piece)
            yield piece

    async with linked() as (learner, leader, _, down):
        learner.gate = trio.Event()
        leader.port.send(down, encode_packet(QuorumPacket(PacketType.SNAP, 7)))
        pieces = encode_snapshot_body([SnapshotSession(1, 4000)], tree.acls.dump(), tree.walk())
        leader.port.send_pieces(down, counted(pieces))
        leader.send(down, PING)
        await trio.testing.wait_all_tasks_blocked()
        # A slow learner holds back what is made for it, and nothing else.
        assert CAPACITY <= made < 2 * CAPACITY
        gate, learner.gate = learner.gate, None
        gate.set()
        await until(lambda: len(learner.items) == 3)
        first, body, last = (item for _, item in learner.items)
        assert (first, last) == (QuorumPacket(PacketType.SNAP, 7), PING)
        assert isinstance(body, SnapshotBody)
        copy = DataTree()
        copy.load(7, *body)
        assert (copy.digest, len(copy.nodes)) == (tree.digest, len(tree.nodes))
        assert made > 10_000_000


async def test_who_does_not_read_is_given_up(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quorum_port, "UNSENT_MAX", 3 * CAPACITY)
    async with linked() as (learner, leader, _, down):
        learner.gate = trio.Event()
        packet = QuorumPacket(PacketType.PROPOSAL, 1, bytes(CAPACITY))
        for _ in range(3):
            leader.send(down, packet)
            await trio.testing.wait_all_tasks_blocked()
        assert leader.closed == []
        for _ in range(3):
            leader.send(down, packet)
        assert leader.closed == [down]


async def test_a_jam_behind_the_link_stops_the_reading(autojump_clock: MockClock) -> None:
    async with linked() as (learner, leader, up, down):
        jam = learner.jam = trio.Event()
        leader.send(down, PING)
        await until(lambda: len(learner.items) == 1)
        leader.send(down, PING)
        await trio.sleep(100)
        assert len(learner.items) == 1
        learner.jam = None
        jam.set()
        await until(lambda: len(learner.items) == 2)
        assert learner.closed == []
        assert up == learner.items[0][0]
