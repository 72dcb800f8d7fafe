"""Handshakes: new sessions, sessions that come back, those that are refused."""

from __future__ import annotations

from typing import Any

import pytest

from terzetto.client.values import OPEN_ACL_UNSAFE
from terzetto.client.wire import operations as o
from terzetto.testcluster import txns as t
from terzetto.testcluster.ids import session_password

from .port import Peer, Port, connect_frame, framed


@pytest.fixture
def port() -> Port:
    return Port()


@pytest.fixture
def peer(port: Port) -> Peer:
    return port.connect()


def _create(peer: Peer, path: str, data: bytes = b"") -> bytes:
    return peer.frame(o.CREATE, path, data, OPEN_ACL_UNSAFE, 0)


def test_a_new_session(port: Port) -> None:
    peer = port.connect(timeout_ms=10_000)
    assert (peer.timeout_ms, peer.read_only, len(peer.password or b"")) == (10_000, False, 16)
    assert peer.session_id >> 56 == 1
    assert peer.password == session_password(peer.session_id)
    (txn,) = port.log
    assert txn == t.Txn(
        t.TxnHeader(peer.session_id, 0, 1, port.wall_ms, -10), t.CreateSessionTxn(10_000), t.TxnDigest(2, 0x51C6D660)
    )
    assert port.tree.sessions == {peer.session_id: 10_000}
    assert port.connect().session_id == peer.session_id + 1


@pytest.mark.parametrize("password", [None, b"", b"x" * 40])
def test_a_new_session_may_send_any_password(port: Port, password: bytes | None) -> None:
    assert port.connect(password=password).session_id


def test_a_client_of_3_3_gets_a_shorter_answer(port: Port) -> None:
    assert port.connect(read_only=None).read_only is None


def test_the_protocol_version_does_not_matter(port: Port) -> None:
    peer = port.open()
    peer.send(framed(b"\0\0\0\7" + connect_frame()[8:]))
    assert peer.frames[0][:4] == bytes(4)


def test_what_follows_the_handshake_is_handled_after_it(port: Port) -> None:
    peer = port.open()
    with port.hold():
        peer.send(connect_frame() + _create(peer, "/a") + peer.frame(o.GET_DATA, "/a", False))
        assert peer.frames == []
        assert peer.connection.paused
    assert len(peer.frames) == 3


def test_a_handshake_byte_by_byte(port: Port) -> None:
    peer = port.open()
    for byte in connect_frame() + o.PING.frame(-2):
        peer.send(bytes([byte]))
    assert len(peer.frames) == 2


@pytest.mark.parametrize(
    "terms", [{"last_zxid": 2}, {"last_zxid": 2, "session_id": 5}], ids=["new session", "old session"]
)
def test_a_client_that_has_seen_more_is_sent_away(port: Port, terms: dict[str, Any]) -> None:
    port.connect()
    peer = port.open()
    peer.send(connect_frame(**terms))
    assert (peer.closed, peer.frames) == (True, [])
    assert port.connect(last_zxid=1).session_id


def test_a_session_comes_back(port: Port, peer: Peer) -> None:
    peer.ok(o.AUTH, 0, "digest", b"u:p")
    peer.ok(o.EXISTS, "/", True)
    peer.hang_up()
    again = port.connect(session_id=peer.session_id, password=peer.password, timeout_ms=20_000)
    assert (again.session_id, again.password, again.timeout_ms) == (peer.session_id, peer.password, 20_000)
    assert len(again.connection.ids) == 1
    assert port.machine.watches.total == 0
    assert len(port.log) == 1


def test_the_newest_connection_of_a_session_wins(port: Port, peer: Peer) -> None:
    again = port.connect(session_id=peer.session_id, password=peer.password)
    assert peer.closed
    assert again.create("/a") == "/a"
    assert port.machine.connection_of(peer.session_id) is again.connection
    peer.hang_up()
    assert port.machine.connection_of(peer.session_id) is again.connection


@pytest.mark.parametrize(
    ("session_id", "password"),
    [(0, bytes(16)), (1, None), (0, None), (0, b""), (77, session_password(77)), (0, session_password(0))],
    ids=["wrong", "another id", "null", "empty", "unknown session", "password of none"],
)
def test_a_session_is_refused_with_zeros(port: Port, peer: Peer, session_id: int, password: bytes | None) -> None:
    stranger = port.open()
    stranger.handshake(session_id=session_id or peer.session_id, password=password)
    assert (stranger.session_id, stranger.timeout_ms, stranger.password, stranger.read_only) == (0, 0, bytes(16), False)
    assert stranger.closed


def test_a_wrong_password_does_not_touch_the_rightful_connection(port: Port, peer: Peer) -> None:
    """ZooKeeper up to 3.9 closes it before it looks at the password."""
    stranger = port.open()
    stranger.handshake(session_id=peer.session_id, password=b"guess" * 3 + b"!")
    assert stranger.closed
    assert not peer.closed
    assert peer.create("/a") == "/a"


def test_with_a_secret_nobody_computes_a_password() -> None:
    port = Port(session_secret=b"between servers only")
    peer = port.connect()
    assert peer.password != session_password(peer.session_id)
    stranger = port.open()
    stranger.handshake(session_id=peer.session_id, password=session_password(peer.session_id))
    assert (stranger.session_id, peer.closed) == (0, False)
    assert port.connect(session_id=peer.session_id, password=peer.password).session_id == peer.session_id


def test_a_session_that_is_closing_does_not_come_back(port: Port, peer: Peer) -> None:
    with port.hold():
        peer.send(peer.frame(o.CLOSE_SESSION))
        again = port.open()
        again.handshake(session_id=peer.session_id, password=peer.password)
        assert (again.session_id, again.closed) == (0, True)


def test_a_client_that_left_during_its_handshake(port: Port) -> None:
    peer = port.open()
    with port.hold():
        peer.send(connect_frame())
        peer.hang_up()
    assert (peer.frames, len(port.tree.sessions)) == ([], 1)
    port.tick(40_000)
    assert port.tree.sessions == {}


@pytest.mark.parametrize("body", [b"\0" * 8, b"\0" * 27, connect_frame()[4:30], b"\0" * 24 + b"\xff\xff\xff\xfe"])
def test_a_handshake_that_cannot_be_read(port: Port, body: bytes) -> None:
    peer = port.open()
    peer.send(framed(body))
    assert (peer.closed, peer.frames) == (True, [])
