"""The order in which a connection is answered, handshakes, bounds, and hostile bytes."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from terzetto.client.values import OPEN_ACL_UNSAFE
from terzetto.client.wire import Opcode, operations as o
from terzetto.testcluster import txns as t
from terzetto.testcluster.connection import OUTPUT_HARD_MAX, OUTPUT_SOFT_MAX, READS_WAITING_MAX, Phase

from .port import Event, Peer, Port, connect_frame, create, framed, multi_frame


@pytest.fixture
def port() -> Port:
    return Port()


@pytest.fixture
def peer(port: Port) -> Peer:
    return port.connect()


def _create(peer: Peer, path: str, data: bytes = b"") -> bytes:
    return peer.frame(o.CREATE, path, data, OPEN_ACL_UNSAFE, 0)


# Frames


@pytest.mark.parametrize("length", [0, 1, 7, -1, -(2**31), 1_048_576, 2**31 - 1])
@pytest.mark.parametrize("greeted", [False, True])
def test_lengths_that_end_the_connection(port: Port, length: int, greeted: bool) -> None:
    peer = port.connect() if greeted else port.open()
    peer.send(struct.pack(">i", length))
    assert (peer.closed, peer.replies()) == (True, [])


@pytest.mark.parametrize("length", [0, -5, 1_048_576])
def test_a_bad_length_behind_good_requests(peer: Peer, length: int) -> None:
    peer.send(peer.frame(o.PING) + _create(peer, "/a") + struct.pack(">iiii", length, 1, 1, 1))
    assert peer.closed
    assert [answer.xid for answer in peer.replies()] == [-2]
    assert "/a" in peer.port.tree.nodes


def test_a_write_in_two_pieces_behind_a_whole_one(peer: Peer) -> None:
    first, second = _create(peer, "/a"), _create(peer, "/b")
    peer.send(first + second[:20])
    peer.send(second[20:])
    assert [answer.err for answer in peer.replies()] == [0, 0]


def test_the_longest_frame(port: Port) -> None:
    peer = port.connect()
    frame = o.CREATE.frame(1, "/a", bytes(1_048_575 - 49), OPEN_ACL_UNSAFE, 0)
    assert len(frame) == 4 + 1_048_575
    assert peer.ask_frame(frame).err == 0
    assert Port(max_frame=100).connect().ask_frame(o.CREATE.frame(1, "/a", bytes(20), OPEN_ACL_UNSAFE, 0)).err == 0


@pytest.mark.parametrize("opcode", [0, -1, 10, 20, 13, 23, 77, 99, 108, -10, -12, 2**31 - 1])
def test_opcodes_that_no_client_may_send(peer: Peer, opcode: int) -> None:
    body = _create(peer, "/a")[12:]
    peer.send(_create(peer, "/b") + framed(struct.pack(">ii", 9, opcode) + body) + _create(peer, "/c"))
    assert [(answer.xid, answer.zxid, answer.err) for answer in peer.replies()] == [(2, 2, 0), (9, -1, -6)]
    assert peer.closed
    assert peer.session_id in peer.port.tree.sessions
    assert "/c" not in peer.port.tree.nodes


def test_any_number_may_stand_for_a_request(peer: Peer) -> None:
    for xid in (0, -7, 5, 5, 2**31 - 1, -(2**31)):
        assert peer.ask_frame(o.GET_DATA.frame(xid, "/", False)).xid == xid


# Order


def test_reads_wait_for_earlier_writes_of_their_connection(port: Port, peer: Peer) -> None:
    other = port.connect()
    with port.hold():
        peer.send(_create(peer, "/a", b"1") + peer.frame(o.GET_DATA, "/a", False) + peer.frame(o.PING))
        assert other.err(o.GET_DATA, "/a", False) == -101
        assert peer.replies() == []
        assert (peer.connection.queued, port.machine.outstanding) == (3, 3)
    answers = peer.replies()
    assert [(answer.xid, answer.err) for answer in answers] == [(1, 0), (2, 0), (-2, 0)]
    assert answers[1].value.data == b"1"
    assert (peer.connection.queued, port.machine.outstanding) == (0, 0)


def test_each_read_sees_what_stands_before_it_and_nothing_behind(port: Port, peer: Peer) -> None:
    peer.create("/a", b"0")
    frames: list[bytes] = []
    for number in range(1, 4):
        frames += [
            peer.frame(o.GET_DATA, "/a", False),
            peer.frame(o.SYNC, "/a"),
            peer.frame(o.SET_DATA, "/a", b"%d" % number, -1),
            peer.frame(o.GET_DATA, "/a", False),
        ]
    with port.hold():
        peer.send(b"".join(frames))
    values = [answer.value.data for answer in peer.replies() if hasattr(answer.value, "data")]
    assert values == [b"0", b"1", b"1", b"2", b"2", b"3"]


def test_a_later_write_does_not_overtake_reads_held_up_by_their_output(port: Port, peer: Peer) -> None:
    big = OUTPUT_SOFT_MAX // 2
    peer.create("/a", bytes(big))
    with port.hold() as held:
        reads = [peer.frame(o.GET_DATA, "/a", False) for _ in range(6)]
        peer.send(
            _create(peer, "/b")
            + b"".join(reads)
            + peer.frame(o.SET_DATA, "/a", b"small", -1)
            + peer.frame(o.GET_DATA, "/a", False)
        )
        machine = port.machine
        machine.commit([held.pop(0)], port.now_ms)
        assert peer.connection.stalled
        assert peer.connection.queued == 9 - 3
        machine.commit([held.pop(0)], port.now_ms)
    sizes = [len(answer.value.data) for answer in peer.replies() if hasattr(answer.value, "data")]
    assert sizes == [big] * 6 + [5]


def test_a_sync_waits_for_the_writes_of_everybody_before_it(port: Port, peer: Peer) -> None:
    other = port.connect()
    assert peer.ok(o.SYNC, "anything").path == "anything"
    with port.hold() as held:
        other.send(_create(other, "/a"))
        peer.send(peer.frame(o.SYNC, None) + peer.frame(o.EXISTS, "/a", False))
        other.send(_create(other, "/b"))
        assert peer.replies() == []
        port.machine.commit([held.pop(0)], port.now_ms)
        port.pump()
        answers = peer.replies()
        assert [(answer.xid, answer.err) for answer in answers] == [(2, 0), (3, 0)]
        assert answers[0].value.path is None


def test_a_sync_that_cannot_be_read(port: Port, peer: Peer) -> None:
    with port.hold():
        peer.send(_create(peer, "/a") + framed(struct.pack(">ii", 7, Opcode.SYNC) + b"\0"))
    assert [(answer.xid, answer.zxid, answer.err) for answer in peer.replies()] == [(1, 2, 0), (7, 2, -5)]
    assert len(port.log) == 2


def test_reads_behind_a_write_can_fail_too(port: Port, peer: Peer) -> None:
    bad = framed(struct.pack(">ii", 9, Opcode.GET_DATA) + b"\0\0")
    with port.hold():
        peer.send(_create(peer, "/a") + peer.frame(o.GET_CHILDREN, "/nope", False) + bad)
    assert [(answer.xid, answer.err) for answer in peer.replies()] == [(1, 0), (2, -101), (9, -5)]


def test_events_and_replies_of_a_batch_stand_in_the_order_of_the_writes(port: Port, peer: Peer) -> None:
    peer.create("/a")
    peer.ok(o.ADD_WATCH, "/a", 0)
    with port.hold():
        peer.send(b"".join(peer.frame(o.SET_DATA, "/a", b"", -1) for _ in range(3)))
    kinds = [type(item).__name__ for item in peer.stream()]
    assert kinds == ["Event", "Reply"] * 3


def test_a_client_that_hangs_up_has_written_all_the_same(port: Port, peer: Peer) -> None:
    other = port.connect()
    with port.hold():
        peer.send(_create(peer, "/a") + peer.frame(o.GET_DATA, "/a", False))
        other.send(_create(other, "/b"))
        peer.hang_up()
        assert port.machine.outstanding == 1
    assert {"/a", "/b"} <= set(port.tree.nodes)
    assert [answer.err for answer in other.replies()] == [0]
    assert (peer.frames, port.machine.outstanding) == ([], 0)


# Closing


def test_closing_a_session(port: Port, peer: Peer) -> None:
    other = port.connect()
    peer.create("/p")
    peer.create("/p/e", flags=1)
    other.ok(o.ADD_WATCH, "/", 1)
    peer.send(peer.frame(o.CLOSE_SESSION) + peer.frame(o.PING))
    (answer,) = peer.replies()
    assert (answer.err, answer.value, peer.closed) == (0, None, True)
    assert port.log[-1].record == t.CloseSessionTxn(["/p/e"])
    assert answer.zxid == port.log[-1].header.zxid == other.stat("/p").pzxid
    assert other.take_events() == [(2, "/p/e")]
    assert peer.session_id not in port.tree.sessions
    assert peer.session_id not in port.machine.sessions.sessions
    assert port.machine.connection_of(peer.session_id) is None


def test_what_stands_before_a_close_is_answered_first(port: Port, peer: Peer) -> None:
    with port.hold():
        peer.send(
            peer.frame(o.GET_DATA, "/", False)
            + _create(peer, "/a")
            + peer.frame(o.GET_DATA, "/a", False)
            + peer.frame(o.CLOSE_SESSION)
        )
        peer.send(_create(peer, "/late"))
    assert [(answer.xid, answer.err) for answer in peer.replies()] == [(1, 0), (2, 0), (3, 0), (4, 0)]
    assert peer.closed
    assert "/late" not in port.tree.nodes


def test_a_session_that_was_silent_is_closed_without_a_word(port: Port) -> None:
    peer = port.connect(timeout_ms=4000)
    other = port.connect(timeout_ms=4000)
    peer.create("/e", flags=1)
    for _ in range(12):
        port.tick(500)
        other.send(other.frame(o.PING))
    assert (peer.closed, other.closed) == (True, False)
    assert "/e" not in port.tree.nodes
    assert port.log[-1].header == t.TxnHeader(peer.session_id, 0, 4, port.log[-1].header.time, Opcode.CLOSE_SESSION)
    again = port.open()
    again.handshake(session_id=peer.session_id, password=peer.password)
    assert again.session_id == 0


@pytest.mark.parametrize(
    ("operation", "fields", "kept"),
    [
        (o.PING, (), True),
        (o.GET_DATA, ("/", False), True),
        (o.CREATE, ("/nope/x", b"", OPEN_ACL_UNSAFE, 0), True),
        (o.SYNC, ("/",), True),
        (o.AUTH, (0, "digest", b"u:p"), False),
        (o.SASL, (b"",), False),
    ],
)
def test_which_requests_keep_a_session_alive(operation: o.Operation, fields: Any, kept: bool) -> None:
    port = Port()
    peer = port.connect(timeout_ms=4000)
    for _ in range(20):
        port.tick(1000)
        if not peer.closed:
            peer.send(peer.frame(operation, *fields))
    assert peer.closed is not kept


def test_requests_of_a_session_that_is_closing(port: Port) -> None:
    peer = port.connect()
    with port.hold():
        assert port.machine.expire_session(peer.session_id)
        port.pump()
        peer.send(peer.frame(o.GET_DATA, "/", False) + _create(peer, "/a"))
        assert [answer.err for answer in peer.replies()] == [-112]
    assert peer.closed
    assert [txn.record for txn in port.log[-1:]] == [t.ErrorTxn(-112)]
    assert "/a" not in port.tree.nodes


# Bounds


def test_a_flood_of_large_answers_stalls_until_they_have_left(port: Port, peer: Peer) -> None:
    peer.create("/a", bytes(OUTPUT_SOFT_MAX // 4))
    machine, connection = port.machine, peer.connection
    machine.receive(connection, b"".join(peer.frame(o.GET_DATA, "/a", False) for _ in range(100)), port.now_ms)
    assert connection.out_size < 2 * OUTPUT_SOFT_MAX
    rounds = 0
    for _ in range(100):
        peer.take(connection.take_output())
        if not connection.stalled:
            break
        rounds += 1
        machine.receive(connection, b"", port.now_ms)
    assert [answer.xid for answer in peer.replies()] == list(range(2, 102))
    assert rounds > 15


def test_few_reads_wait_behind_a_write(port: Port, peer: Peer) -> None:
    count = 3 * READS_WAITING_MAX
    with port.hold():
        peer.send(_create(peer, "/a") + b"".join(peer.frame(o.GET_DATA, "/a", False) for _ in range(count)))
        assert peer.connection.stalled
        assert peer.connection.queued <= READS_WAITING_MAX + 2
        port.machine.receive(peer.connection, b"", port.now_ms)
        assert peer.connection.stalled
    assert [answer.err for answer in peer.replies()] == [0] * (count + 1)
    assert not peer.connection.stalled


def test_a_client_that_does_not_read_its_events_is_dropped(port: Port) -> None:
    peer, other = port.connect(), port.connect()
    machine, connection = port.machine, peer.connection
    peer.ok(o.ADD_WATCH, "/", 1)
    path = "/" + "n" * 500_000
    for number in range(OUTPUT_HARD_MAX // 1_000_000 + 80):
        frame = o.CREATE.frame(1, path, b"", OPEN_ACL_UNSAFE, 0) if number % 2 == 0 else o.DELETE.frame(1, path, -1)
        machine.receive(other.connection, frame, port.now_ms)
        machine.commit(machine.prepare(port.wall_ms), port.now_ms)
        other.connection.take_output()
    assert connection.phase is Phase.CLOSING
    assert connection.out == []
    assert machine.watches.total == 0


def test_reads_that_a_write_forces_are_bounded_too(port: Port, peer: Peer) -> None:
    name = "n" * 500_000
    for number in range(8):
        peer.create(f"/{number}{name}")
    reads = b"".join(peer.frame(o.GET_CHILDREN, "/", False) for _ in range(READS_WAITING_MAX - 8))
    with port.hold():
        peer.send(_create(peer, "/first") + reads + _create(peer, "/second") + peer.frame(o.PING))
        machine, connection = port.machine, peer.connection
        machine.commit(port.log[-2:], port.now_ms)
        assert connection.phase is Phase.CLOSING
        assert (connection.out, machine.outstanding) == ([], 0)
        port.held = []
    assert {"/first", "/second"} <= set(port.tree.nodes)


def test_a_sync_of_a_client_that_left(port: Port, peer: Peer) -> None:
    other = port.connect()
    with port.hold():
        other.send(_create(other, "/a"))
        peer.send(peer.frame(o.SYNC, "/"))
        peer.hang_up()
    assert (peer.frames, port.machine.outstanding) == ([], 0)


def test_a_dropped_connection_is_told_nothing_more(port: Port, peer: Peer) -> None:
    other = port.connect()
    peer.ok(o.ADD_WATCH, "/", 1)
    with port.hold():
        peer.send(_create(peer, "/a") + peer.frame(o.GET_DATA, "/", False))
        port.machine.drop(peer.connection)
        port.machine.drop(peer.connection)
        other.send(_create(other, "/b"))
    assert (peer.frames, peer.closed) == ([], True)
    port.machine.receive(peer.connection, o.PING.frame(-2), port.now_ms)
    assert peer.connection.out == []
    assert peer.connection not in port.machine.connections


# Read-only


def test_a_read_only_server(port: Port, peer: Peer) -> None:
    peer.create("/a")
    port.machine.read_only = True
    for frame in (
        _create(peer, "/b"),
        peer.frame(o.SYNC, "/"),
        peer.frame(o.DELETE, "/a", -1),
        multi_frame(6, (1, create("/b"))),
        peer.frame(o.RECONFIG, None, None, None, -1),
    ):
        answer = peer.ask_frame(frame)
        assert (answer.err, answer.zxid) == (-119, 2)
    assert peer.ok(o.GET_DATA, "/a", False).data == b""
    writer = port.open()
    writer.send(connect_frame(read_only=False))
    assert (writer.closed, writer.frames) == (True, [])
    old = port.open()
    old.send(connect_frame(read_only=None))
    assert old.closed
    reader = port.connect(read_only=True)
    assert reader.read_only is True
    assert reader.ask(o.CLOSE_SESSION).err == 0


# Counters


def test_counters(port: Port, peer: Peer) -> None:
    traffic = peer.connection.traffic
    assert (traffic.received, traffic.sent) == (1, 1)
    peer.ok(o.ADD_WATCH, "/", 1)
    with port.hold():
        peer.send(_create(peer, "/a") + peer.frame(o.GET_DATA, "/a", False))
        port.now_ms += 30
        peer.send(peer.frame(o.PING))
        port.now_ms += 10
    assert (traffic.received, traffic.sent) == (5, 6)
    assert (traffic.answered, traffic.latency_max, traffic.latency_min) == (5, 40, 0)
    connection = peer.connection
    assert (connection.last_opcode, connection.last_cxid, connection.last_zxid) == (Opcode.PING, 4, 2)
    assert (connection.last_latency_ms, connection.last_response_ms) == (10, port.now_ms)
    port.connect()
    assert port.machine.traffic.received == 6


def test_events_of_one_transaction_reach_every_watcher(port: Port) -> None:
    peers = [port.connect() for _ in range(5)]
    peers[0].create("/a")
    for peer in peers:
        peer.ok(o.GET_DATA, "/a", True)
    peers[0].send(peers[0].frame(o.SET_DATA, "/a", b"", -1))
    for peer in peers:
        assert [item for item in peer.stream() if isinstance(item, Event)] == [Event(3, "/a", 7)]
