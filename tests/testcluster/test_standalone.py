"""A server on its own: prepare, log, commit; expiry; sweeps; starting from a tree that is there."""

from __future__ import annotations

import pytest

from terzetto.client.values import OPEN_ACL_UNSAFE
from terzetto.client.wire import Opcode, operations as o
from terzetto.testcluster import txns as t
from terzetto.testcluster.datatree import DataTree
from terzetto.testcluster.standalone import SWEEP_MAX

from .port import Port, connect_frame


def test_nothing_is_answered_before_it_is_committed() -> None:
    port = Port()
    peer = port.connect()
    with port.hold() as held:
        peer.send(peer.frame(o.CREATE, "/a", b"", OPEN_ACL_UNSAFE, 0))
        assert [txn.header.zxid for txn in held] == [2]
        assert "/a" not in port.tree.nodes
        assert peer.replies() == []
    assert [answer.err for answer in peer.replies()] == [0]


def test_without_requests_there_is_nothing_to_log() -> None:
    port = Port()
    assert port.machine.prepare(port.wall_ms) == []
    port.machine.commit([], port.now_ms)
    assert port.machine.take_flushable() == []


def test_a_sync_with_nothing_before_it_needs_no_commit() -> None:
    port = Port()
    peer = port.connect()
    port.machine.receive(peer.connection, o.SYNC.frame(1, "/"), port.now_ms)
    assert port.machine.prepare(port.wall_ms) == []
    assert len(peer.connection.take_output()) == 4 + 16 + 5


def test_the_log_rebuilds_the_tree() -> None:
    port = Port(extended_types=True)
    peer = port.connect()
    peer.create("/a", b"x")
    peer.create("/a/e", flags=1)
    peer.ok(o.CREATE_TTL, "/t", b"", OPEN_ACL_UNSAFE, 5, 1000)
    peer.err(o.DELETE, "/a", -1)
    peer.ok(o.SET_DATA, "/a", b"yy", 0)
    peer.ask(o.CLOSE_SESSION)
    tree = DataTree()
    for txn in port.log:
        tree.apply(t.decode_txn(t.encode_txn(txn)))
    assert list(tree.walk()) == list(port.tree.walk())
    assert (tree.digest, tree.digest_mismatches) == (port.tree.digest, 0)


def test_sessions_of_the_tree_live_on_with_their_full_timeout() -> None:
    port = Port()
    peer = port.connect(timeout_ms=4000)
    peer.create("/e", flags=1)
    again = Port(tree=port.tree)
    back = again.connect(session_id=peer.session_id, password=peer.password, timeout_ms=4000)
    assert back.ok(o.GET_EPHEMERALS, None).ephemerals == ["/e"]
    once_more = Port(tree=port.tree)
    once_more.tick(4000)
    assert peer.session_id in once_more.tree.sessions
    once_more.tick(4000)
    assert once_more.tree.sessions == {}
    assert "/e" not in once_more.tree.nodes


def test_ids_of_sessions_are_not_given_twice() -> None:
    port = Port(server_id=3)
    first = port.connect().session_id
    port.now_ms += 1
    again = Port(tree=port.tree, server_id=3)
    again.machine.sessions.__init__(server_id=3, tick_ms=2000, now_ms=port.now_ms)  # type: ignore[misc]
    assert first >> 56 == 3
    assert again.connect().session_id != first


def test_a_session_is_expired_on_request() -> None:
    port = Port()
    peer, other = port.connect(), port.connect()
    peer.create("/e", flags=1)
    other.ok(o.EXISTS, "/e", True)
    assert port.machine.expire_session(peer.session_id)
    assert not port.machine.expire_session(peer.session_id)
    port.pump()
    assert peer.closed
    assert other.take_events() == [(2, "/e")]
    assert not port.machine.expire_session(peer.session_id)
    assert not port.machine.expire_session(12345)


def test_expiry_is_asked_for_at_the_next_tick() -> None:
    port = Port()
    assert port.machine.next_expiry_ms == 1_002_000
    port.now_ms = 1_002_001
    port.machine.expire(port.now_ms)
    assert port.machine.next_expiry_ms == 1_004_000


def test_a_sweep_removes_what_is_due() -> None:
    port = Port(extended_types=True)
    peer = port.connect()
    peer.ok(o.CREATE_CONTAINER, "/box", b"", OPEN_ACL_UNSAFE, 4)
    peer.create("/box/a")
    peer.ok(o.DELETE, "/box/a", -1)
    peer.ok(o.CREATE_TTL, "/t", b"", OPEN_ACL_UNSAFE, 5, 100)
    peer.ok(o.ADD_WATCH, "/", 1)
    port.machine.sweep(port.wall_ms)
    port.pump()
    assert peer.take_events() == [(2, "/box")]
    port.wall_ms += 101
    port.machine.sweep(port.wall_ms)
    port.machine.sweep(port.wall_ms)
    port.pump()
    assert peer.take_events() == [(2, "/t")]
    assert [txn.header.type for txn in port.log[-3:]] == [
        Opcode.DELETE_CONTAINER,
        Opcode.DELETE_CONTAINER,
        Opcode.ERROR,
    ]
    assert SWEEP_MAX == 10_000


def test_a_container_that_is_used_again_in_time_stays() -> None:
    port = Port()
    peer = port.connect()
    peer.ok(o.CREATE_CONTAINER, "/box", b"", OPEN_ACL_UNSAFE, 4)
    peer.create("/box/a")
    peer.ok(o.DELETE, "/box/a", -1)
    with port.hold():
        peer.send(peer.frame(o.CREATE, "/box/b", b"", OPEN_ACL_UNSAFE, 0))
        port.machine.sweep(port.wall_ms)
        port.pump()
    assert "/box/b" in port.tree.nodes
    assert port.log[-1].record == t.ErrorTxn(-111)


@pytest.mark.parametrize("count", [1, 2000])
def test_idle_sessions_cost_no_transaction(count: int) -> None:
    port = Port()
    peers = [port.open() for _ in range(count)]
    for peer in peers:
        port.machine.receive(peer.connection, connect_frame(timeout_ms=40_000), port.now_ms)
    port.pump()
    zxid = port.tree.last_zxid
    for _ in range(3):
        port.tick(20_000)
        for peer in peers:
            port.machine.receive(peer.connection, o.PING.frame(-2), port.now_ms)
        port.pump()
    assert (port.tree.last_zxid, len(port.tree.sessions)) == (zxid, count)
    assert not any(peer.closed for peer in peers)
