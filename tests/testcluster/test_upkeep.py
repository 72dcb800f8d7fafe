"""What the server in charge removes by itself."""

from __future__ import annotations

from terzetto.client.values import OPEN_ACL_UNSAFE
from terzetto.client.wire import Opcode, operations as o
from terzetto.testcluster.sessions import SessionTracker
from terzetto.testcluster.upkeep import close_session, overdue_sessions, removable_znodes

from .port import Peer, Port


def _container(peer: Peer, path: str) -> None:
    peer.ok(o.CREATE_CONTAINER, path, b"", OPEN_ACL_UNSAFE, 4)


def _ttl(peer: Peer, path: str, ttl_ms: int) -> None:
    peer.ok(o.CREATE_TTL, path, b"", OPEN_ACL_UNSAFE, 5, ttl_ms)


def _removable(port: Port, *, unused_ms: int = 300_000, limit: int = 100) -> list[str]:
    found = removable_znodes(port.tree, port.wall_ms, unused_ms=unused_ms, limit=limit)
    assert all(request.opcode == Opcode.DELETE_CONTAINER and request.connection is None for request in found)
    return [request.body.decode() for request in found]


def test_a_container_goes_when_it_has_had_children_and_has_none() -> None:
    port = Port()
    peer = port.connect()
    _container(peer, "/box")
    assert _removable(port) == []
    peer.create("/box/a")
    assert _removable(port) == []
    peer.ok(o.DELETE, "/box/a", -1)
    assert _removable(port) == ["/box"]


def test_a_container_that_was_never_used_goes_after_a_while() -> None:
    port = Port()
    _container(port.connect(), "/box")
    port.wall_ms += 300_000
    assert _removable(port) == []
    port.wall_ms += 1
    assert _removable(port) == ["/box"]
    assert _removable(port, unused_ms=0) == []


def test_a_ttl_counts_from_the_last_change_of_the_data() -> None:
    port = Port(extended_types=True)
    peer = port.connect()
    _ttl(peer, "/old", 1000)
    port.wall_ms += 1000
    assert _removable(port) == []
    port.wall_ms += 1
    assert _removable(port) == ["/old"]
    peer.ok(o.SET_DATA, "/old", b"", -1)
    assert _removable(port) == []
    port.wall_ms += 600
    peer.create("/old/child")
    port.wall_ms += 600
    assert _removable(port) == []
    peer.ok(o.DELETE, "/old/child", -1)
    assert _removable(port) == ["/old"]


def test_a_sweep_has_a_limit() -> None:
    port = Port(extended_types=True)
    peer = port.connect()
    for number in range(5):
        _ttl(peer, f"/{number}", 1)
    port.wall_ms += 10
    assert _removable(port, limit=3) == ["/0", "/1", "/2"]


def test_sessions_that_are_over_are_closed() -> None:
    tracker = SessionTracker(server_id=1, tick_ms=2000, now_ms=0)
    tracker.track(5, 1000, 0)
    tracker.track(6, 9000, 0)
    (request,) = overdue_sessions(tracker, 2000)
    assert (request.session_id, request.opcode, request.cxid, request.body) == (5, Opcode.CLOSE_SESSION, 0, b"")
    assert overdue_sessions(tracker, 4000) == []
    assert close_session(9).session_id == 9
