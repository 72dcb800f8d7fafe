"""The leader's duties: syncs, forwarded requests, sessions with owners, sweeps."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given, strategies as st

from terzetto.client.values import ACL, OPEN_ACL_UNSAFE, Id
from terzetto.client.wire import Opcode, operations as o
from terzetto.testcluster.ids import session_password
from terzetto.testcluster.leader_duties import LeaderDuties
from terzetto.testcluster.messages import ForwardedRequest, PacketType, QuorumPacket, encode_request

from .members import Ensemble, Server
from .port import connect_frame


@pytest.fixture
def ensemble() -> Ensemble:
    ensemble = Ensemble(3)
    ensemble.wait_serving().connect()
    return ensemble


@pytest.fixture
def leader(ensemble: Ensemble) -> Server:
    leader = ensemble.leader()
    assert leader is not None
    return leader


def pings(leader: Server) -> int:
    return sum(packet.type == PacketType.PING for packet in leader.sent)


def test_a_sync_is_answered(leader: Server) -> None:
    client = leader.connect()
    assert client.ok(o.SYNC, "/a").path == "/a"


def test_one_question_serves_all_syncs_that_wait(ensemble: Ensemble, leader: Server) -> None:
    clients = [leader.connect() for _ in range(3)]
    before = pings(leader)
    for client in clients:
        frames = [client.frame(o.SYNC, "/") for _ in range(5)]
        leader.machine.receive(client.connection, b"".join(frames), ensemble.now_ms)
    ensemble.pump()
    assert [len(client.replies()) for client in clients] == [5, 5, 5]
    assert pings(leader) - before == 2  # one to each follower


def test_a_leader_that_may_be_deposed_answers_no_sync(ensemble: Ensemble, leader: Server) -> None:
    client = leader.connect()
    client.create("/a", b"old")
    ensemble.cut |= {frozenset((leader.sid, other.sid)) for other in ensemble.followers()}
    # Nobody tells it that the links are gone: it may take long to find out.
    leader.wires.clear()
    client.send(client.frame(o.SYNC, "/") + client.frame(o.GET_DATA, "/a", False))
    assert client.replies() == []
    ensemble.run(20_000, lambda: client.closed)
    assert client.replies() == []


UNKNOWN: dict[str, Any] = {"session_id": 0x0900000000000001, "password": session_password(0x0900000000000001)}


@pytest.mark.parametrize("at", ["leader", "follower"])
def test_a_session_that_nobody_knows_is_over(ensemble: Ensemble, leader: Server, at: str) -> None:
    server = leader if at == "leader" else ensemble.followers()[0]
    client = server.open()
    client.handshake(**UNKNOWN)
    assert (client.session_id, client.timeout_ms, client.closed) == (0, 0, True)


def test_a_leader_that_may_be_deposed_calls_no_session_over(ensemble: Ensemble, leader: Server) -> None:
    ensemble.cut |= {frozenset((leader.sid, other.sid)) for other in ensemble.followers()}
    leader.wires.clear()
    client = leader.open()
    client.send(connect_frame(**UNKNOWN))
    assert (client.frames, client.closed) == ([], False)
    ensemble.run(20_000, lambda: client.closed)
    assert client.frames == []


def test_the_answer_to_an_earlier_question_proves_nothing_for_a_later_sync(ensemble: Ensemble, leader: Server) -> None:
    early, late = leader.connect(), leader.connect()
    leader.machine.receive(early.connection, early.frame(o.SYNC, "/"), ensemble.now_ms)
    leader.work()
    ensemble.deliver_packets()
    for follower in ensemble.followers():
        follower.work()
    # Their answers are on the way; what the leader asks from now on is lost.
    leader.machine.receive(late.connection, late.frame(o.SYNC, "/"), ensemble.now_ms)
    leader.work()
    for wire in leader.wires.values():
        wire.queue.clear()
    ensemble.cut |= {frozenset((leader.sid, other.sid)) for other in ensemble.followers()}
    ensemble.deliver_packets()
    leader.work()
    assert [answer.err for answer in early.replies()] == [0]
    assert late.replies() == []


def test_what_is_applied_is_no_longer_outstanding(ensemble: Ensemble, leader: Server) -> None:
    duties = leader.machine.duties
    assert isinstance(duties, LeaderDuties)
    client = ensemble.followers()[0].connect()
    for follower in ensemble.followers():
        follower.slow_disk = True
    client.send(client.frame(o.CREATE, "/a", b"", OPEN_ACL_UNSAFE, 0))
    assert duties.preparer.outstanding == 2  # the znode and its parent
    for follower in ensemble.followers():
        follower.slow_disk = False
        follower.write()
    ensemble.pump()
    assert duties.preparer.outstanding == 0


def test_a_sync_waits_for_the_writes_before_it(ensemble: Ensemble, leader: Server) -> None:
    client, other = leader.connect(), leader.connect()
    for follower in ensemble.followers():
        follower.slow_disk = True
    other.send(other.frame(o.CREATE, "/a", b"", OPEN_ACL_UNSAFE, 0) + other.frame(o.DELETE, "/a", -1))
    client.send(client.frame(o.SYNC, "/"))
    assert client.replies() == []
    for follower in ensemble.followers():
        follower.slow_disk = False
        follower.write()
    ensemble.pump()
    assert [answer.err for answer in client.replies()] == [0]


def test_a_follower_s_sync_shows_what_was_written_before(ensemble: Ensemble, leader: Server) -> None:
    writer = leader.connect()
    slow, _ = ensemble.followers()
    reader = slow.connect()
    slow.slow_disk = True
    writer.create("/a", b"new")
    reader.send(reader.frame(o.SYNC, "/") + reader.frame(o.GET_DATA, "/a", False))
    slow.slow_disk = False
    slow.write()
    ensemble.pump()
    synced, read = reader.replies()
    assert synced.err == 0
    assert read.value.data == b"new"


def forward(ensemble: Ensemble, request: ForwardedRequest, authinfo: list[Id] | None = None) -> Server:
    """A follower sends a request of its own making to the leader."""
    follower = ensemble.followers()[0]
    packet = QuorumPacket(PacketType.REQUEST, -1, encode_request(request), authinfo)
    follower.machine.peer.send_up(packet)
    ensemble.pump()
    return follower


@pytest.mark.parametrize(
    ("opcode", "body", "code"),
    [
        (13, b"", -6),  # a bare check, which ZooKeeper's followers do forward
        (20, b"/zookeeper", -6),  # what only a leader may ask
        (4, b"", -6),
        (-1, b"", -6),
        (9999, b"", -6),
        (1, b"\x7f\xff\xff\xff", -5),
        (5, b"", -112),
        (14, b"\xff", -5),
        (-10, b"", -5),
        (16, b"", -123),
    ],
)
def test_every_forwarded_request_gets_exactly_one_transaction(
    ensemble: Ensemble, leader: Server, opcode: int, body: bytes, code: int
) -> None:
    before = leader.tree.last_zxid
    digest = leader.tree.digest
    forward(ensemble, ForwardedRequest(77, 5, opcode, body))
    assert leader.tree.last_zxid == before + 1
    assert leader.tree.digest == digest
    assert len(ensemble.followers()) == 2
    client = ensemble.followers()[0].connect()
    assert client.create("/after") == "/after"
    ensemble.assert_equal()
    # The code is that of the error transaction: a request of the same number would get it.
    (entry,) = [each for each in leader.storage.read_after(before) if each.zxid == before + 1]
    (err,) = struct.unpack_from(">i", entry.payload, 32)
    assert err == code


@given(
    st.lists(
        st.builds(ForwardedRequest, st.just(77), st.integers(0, 9), st.sampled_from(Opcode), st.binary(max_size=60)),
        max_size=10,
    )
)
def test_whatever_is_forwarded_the_leader_lives(requests: list[ForwardedRequest]) -> None:
    ensemble = Ensemble(1, 1)
    leader = ensemble.wait_serving()
    for request in requests:
        packet = QuorumPacket(PacketType.REQUEST, -1, encode_request(request))
        ensemble.servers[2].machine.peer.send_up(packet)
    ensemble.pump()
    orders = sum(request.opcode != Opcode.SYNC for request in requests)
    assert leader.machine.peer.last_committed == (1 << 32) + orders
    assert leader.connect().create("/after") == "/after"
    ensemble.assert_equal()


@pytest.mark.parametrize(
    "packet",
    [
        QuorumPacket(PacketType.REQUEST, -1, None),
        QuorumPacket(PacketType.REQUEST, -1, bytes(15)),
        QuorumPacket(PacketType.REQUEST, -1, encode_request(ForwardedRequest(1, 1, 1, b"")), [Id(None, "a")]),  # type: ignore[arg-type]
        QuorumPacket(PacketType.REVALIDATE, -1, bytes(11)),
        QuorumPacket(PacketType.PING, 0, bytes(5)),
    ],
)
def test_a_learner_that_sends_what_makes_no_sense_is_hung_up_on(
    ensemble: Ensemble, leader: Server, packet: QuorumPacket
) -> None:
    follower, other = ensemble.followers()
    client, untouched = follower.connect(), other.connect()
    follower.machine.peer.send_up(packet)
    ensemble.pump()
    assert client.closed
    assert not untouched.closed
    assert leader.machine.serving
    ensemble.wait_serving()


def test_a_forwarded_request_carries_who_the_client_is(ensemble: Ensemble) -> None:
    client = ensemble.followers()[0].connect()
    client.send(client.frame(o.AUTH, 0, "digest", b"ben:secret"))
    client.replies()
    client.create("/mine", acl=[ACL(31, Id("auth", ""))])
    stranger = ensemble.followers()[1].connect()
    assert stranger.err(o.SET_DATA, "/mine", b"", -1) == -102
    assert stranger.err(o.GET_DATA, "/mine", False) == -102
    client.ok(o.SET_DATA, "/mine", b"1", -1)
    ensemble.assert_equal()


def test_only_the_leader_sweeps(ensemble: Ensemble, leader: Server) -> None:
    client = ensemble.followers()[0].connect()
    client.ok(o.CREATE_CONTAINER, "/c", b"", OPEN_ACL_UNSAFE, 4)
    client.create("/c/child")
    client.ok(o.DELETE, "/c/child", -1)
    zxid = leader.tree.last_zxid
    for follower in ensemble.followers():
        follower.machine.sweep(ensemble.wall_ms)
    ensemble.pump()
    assert leader.tree.last_zxid == zxid
    leader.machine.sweep(ensemble.wall_ms)
    ensemble.pump()
    assert "/c" not in leader.tree.nodes
    ensemble.assert_equal()


def test_only_the_leader_ends_sessions(ensemble: Ensemble, leader: Server) -> None:
    follower = ensemble.followers()[0]
    client = follower.connect()
    assert not follower.machine.expire_session(client.session_id)
    assert not leader.machine.expire_session(4711)
    assert leader.machine.expire_session(client.session_id)
    assert not leader.machine.expire_session(client.session_id)
    ensemble.pump()
    assert client.closed
    assert client.session_id not in follower.tree.sessions


def test_a_write_of_a_session_that_ends_is_refused(ensemble: Ensemble, leader: Server) -> None:
    client = ensemble.followers()[0].connect()
    leader.machine.expire_session(client.session_id)
    ensemble.servers[leader.sid].work()
    client.send(client.frame(o.CREATE, "/a", b"", OPEN_ACL_UNSAFE, 0))
    assert client.closed
    assert "/a" not in leader.tree.nodes
