"""A server without a quorum: who is served, with which sessions, and what becomes of them."""

from __future__ import annotations

import pytest

from terzetto.client.values import OPEN_ACL_UNSAFE
from terzetto.client.wire import operations as o
from terzetto.testcluster.replica import READ_ONLY_AFTER_MS

from .members import Ensemble, Server
from .port import Peer, connect_frame


@pytest.fixture
def ensemble() -> Ensemble:
    ensemble = Ensemble(3, read_only_mode=True)
    leader = ensemble.wait_serving()
    leader.connect().create("/a", b"1")
    return ensemble


@pytest.fixture
def lonely(ensemble: Ensemble) -> Server:
    """A follower that serves without a quorum."""
    server = ensemble.followers()[0]
    ensemble.isolate(server.sid)
    ensemble.run(20_000, lambda: server.machine.read_only)
    assert server.machine.serving
    return server


def reader(server: Server, **terms: object) -> Peer:
    return server.connect(read_only=True, **terms)


def test_only_after_a_while_and_only_if_allowed() -> None:
    for allowed in (True, False):
        ensemble = Ensemble(3, read_only_mode=allowed)
        ensemble.isolate(1)
        server = ensemble.servers[1]
        ensemble.run(READ_ONLY_AFTER_MS - 1)
        assert not server.machine.serving
        ensemble.run(1)
        assert server.machine.serving is server.machine.read_only is allowed


def test_only_clients_that_want_no_more_are_served(lonely: Server) -> None:
    for wanted in (False, None):
        client = lonely.open()
        client.send(connect_frame(read_only=wanted))
        assert client.closed
        assert client.frames == []
    client = reader(lonely)
    assert client.read_only is True
    assert client.ok(o.GET_DATA, "/a", False).data == b"1"


def test_with_a_quorum_they_are_served_as_all_others(ensemble: Ensemble) -> None:
    client = reader(ensemble.followers()[0])
    assert client.read_only is False
    client.create("/b")


def test_a_new_session_lives_here_only(ensemble: Ensemble, lonely: Server) -> None:
    client = reader(lonely)
    assert client.session_id >> 56 == lonely.sid
    assert client.timeout_ms == 4000
    assert client.session_id not in lonely.tree.sessions
    again = reader(lonely, session_id=client.session_id, password=client.password)
    assert again.session_id == client.session_id
    assert client.closed
    ensemble.heal()
    ensemble.wait_serving()
    assert again.closed
    late = ensemble.leader().open()  # type: ignore[union-attr]
    late.handshake(session_id=client.session_id, password=client.password, read_only=True)
    assert (late.session_id, late.closed) == (0, True)


def test_a_session_of_the_ensemble_can_come(ensemble: Ensemble) -> None:
    server, other = ensemble.followers()
    client = other.connect()
    client.create("/mine", flags=1)
    ensemble.isolate(server.sid)
    ensemble.run(20_000, lambda: server.machine.read_only)
    back = reader(server, session_id=client.session_id, password=client.password)
    assert back.session_id == client.session_id
    assert back.stat("/mine").ephemeralOwner == client.session_id
    stranger = server.open()
    stranger.handshake(session_id=4711, password=bytes(16), read_only=True)
    assert (stranger.session_id, stranger.closed) == (0, True)


def test_writes_and_syncs_are_refused(lonely: Server) -> None:
    client = reader(lonely)
    digest = lonely.tree.digest
    assert client.err(o.CREATE, "/b", b"", OPEN_ACL_UNSAFE, 0) == -119
    assert client.err(o.SET_DATA, "/a", b"", -1) == -119
    assert client.err(o.SYNC, "/a") == -119
    assert client.ok(o.GET_DATA, "/a", False).data == b"1"
    assert lonely.tree.digest == digest


def test_a_client_may_end_a_session_that_lives_here(lonely: Server) -> None:
    client = reader(lonely)
    client.send(client.frame(o.EXISTS, "/a", False) + client.frame(o.CLOSE_SESSION))
    assert [answer.err for answer in client.replies()] == [0, 0]
    assert client.closed
    late = lonely.open()
    late.handshake(session_id=client.session_id, password=client.password, read_only=True)
    assert (late.session_id, late.closed) == (0, True)


def test_a_session_of_the_ensemble_cannot_end_here(ensemble: Ensemble) -> None:
    server, other = ensemble.followers()
    client = other.connect()
    ensemble.isolate(server.sid)
    ensemble.run(20_000, lambda: server.machine.read_only)
    back = reader(server, session_id=client.session_id, password=client.password)
    assert back.err(o.CLOSE_SESSION) == -119
    assert back.closed
    assert client.session_id in server.tree.sessions


def test_silent_clients_lose_their_connection_and_a_local_session_ends(ensemble: Ensemble, lonely: Server) -> None:
    silent, client = reader(lonely), reader(lonely)

    def one_is_gone() -> bool:
        client.send(client.frame(o.PING))
        return silent.closed

    ensemble.run(10_000, one_is_gone)
    assert not client.closed
    late = lonely.open()
    late.handshake(session_id=silent.session_id, password=silent.password, read_only=True)
    assert late.session_id == 0


def test_a_server_that_finds_a_leader_ends_the_mode(ensemble: Ensemble, lonely: Server) -> None:
    client = reader(lonely)
    ensemble.heal()
    ensemble.run(10_000, lambda: client.closed)
    assert not lonely.machine.read_only
    ensemble.wait_serving()
    assert lonely.machine.serving
    assert not lonely.machine.read_only
    lonely.connect().create("/c")
    ensemble.assert_equal()


def test_a_read_only_server_watches_too(lonely: Server) -> None:
    client = reader(lonely)
    assert client.ok(o.GET_DATA, "/a", True).data == b"1"
    assert lonely.machine.watches.total == 1
