"""What programs touch of kazoo's client though its name begins with an underscore."""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import threading

import kazoo.client as theirs
import pytest

from terzetto.client.kazoo.client import KazooClient
from terzetto.client.kazoo.exceptions import ConnectionClosedError, ConnectionLoss, SessionExpiredError
from terzetto.client.kazoo.handlers.utils import AsyncResult
from terzetto.client.kazoo.protocol import connection
from terzetto.testcluster import BlockingEnsemble

from .conftest import Connect

BOUND = 10.0
DROP = connection._CONNECTION_DROP
EXPIRE = connection._SESSION_EXPIRED


class States:
    """The states a listener was told."""

    def __init__(self, client: KazooClient) -> None:
        self.seen: list[str] = []
        self.connected = threading.Event()
        client.add_listener(self)

    def __call__(self, state: str) -> None:
        self.seen.append(state)
        if state == "CONNECTED":
            self.connected.set()


def test_attributes_before_during_and_after(ensemble: BlockingEnsemble) -> None:
    client = KazooClient(ensemble.hosts, timeout=7.5)
    other = theirs.KazooClient(ensemble.hosts, timeout=7.5)

    def look(of: object) -> list[object]:
        names = ("_session_id", "_session_passwd", "_session_timeout", "_state")
        return [getattr(of, name) for name in names] + [
            len(of._queue),  # type: ignore[attr-defined]
            of._live.is_set(),  # type: ignore[attr-defined]
            of._stopped.is_set(),  # type: ignore[attr-defined]
        ]

    assert look(client) == look(other) == [None, bytes(16), 7500, "CLOSED", 0, False, True]
    client.start()
    try:
        assert (client._session_id, client._session_passwd) == client.client_id
        assert look(client)[3:] == ["CONNECTED", 0, True, False]
        ensemble.pause(1)
        client.get_async("/")
        ensemble.resume(1)
    finally:
        client.stop()
    assert look(client) == look(other)


def test_a_connection_is_dropped_and_the_session_goes_on(client: KazooClient) -> None:
    states, before = States(client), client.client_id
    told = AsyncResult()
    client._call(DROP, told)
    with pytest.raises(ConnectionLoss):
        told.get(timeout=BOUND)
    assert states.connected.wait(BOUND)
    assert states.seen == ["SUSPENDED", "CONNECTED"]
    assert client.client_id == before


def test_a_session_is_ended_on_the_server_too(client: KazooClient, connect: Connect) -> None:
    states, before, peer = States(client), client.client_id, connect()
    client.create("/ephemeral", ephemeral=True)
    gone = threading.Event()
    assert peer.exists("/ephemeral", watch=lambda _: gone.set())
    told = AsyncResult()
    client._call(EXPIRE, told)
    with pytest.raises(SessionExpiredError):
        told.get(timeout=BOUND)
    assert gone.wait(BOUND)
    assert states.connected.wait(BOUND)
    assert states.seen == ["LOST", "CONNECTED"]
    assert client.client_id != before
    states.seen.clear()
    states.connected.clear()
    client._call(DROP, None)
    assert states.connected.wait(BOUND)
    assert states.seen == ["SUSPENDED", "CONNECTED"]


def test_other_calls_are_refused() -> None:
    client = KazooClient()
    with pytest.raises(TypeError, match="sentinels"):
        client._call("get", None)
    told = AsyncResult()
    client._call(DROP, told)
    with pytest.raises(ConnectionClosedError):
        told.get(timeout=BOUND)
    client._call(DROP)
