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
    with pytest.raises(TypeError, match="made by the client's methods"):
        client._call("get", None)
    told = AsyncResult()
    client._call(DROP, told)
    with pytest.raises(ConnectionClosedError):
        told.get(timeout=BOUND)
    client._call(DROP)


def test_a_subclass_may_answer_calls_itself(ensemble: BlockingEnsemble) -> None:
    refused: list[object] = []

    class Refusing(KazooClient):
        refuses = False

        def _call(self, request: object, async_result: AsyncResult | None = None) -> None:
            if self.refuses and async_result is not None:
                refused.append(request)
                async_result.set_exception(SessionExpiredError("the program's own word"))
            else:
                super()._call(request, async_result)

    client = Refusing(ensemble.hosts)
    with pytest.raises(ConnectionClosedError):
        client.get("/")
    with client:
        assert client.ensure_path("/refusing/a") == "/refusing/a"
        assert client.get("/refusing")[1].numChildren == 1
        client.refuses = True
        for call in (
            lambda: client.get("/"),
            lambda: client.ensure_path("/refusing/b"),
            lambda: client.create_async("/refusing/c/d", makepath=True).get(timeout=BOUND),
            lambda: client.delete("/refusing", recursive=True),
        ):
            with pytest.raises(SessionExpiredError, match="own word"):
                call()
        assert len(refused) == 4
        client.refuses = False
        assert client.get_children("/refusing") == ["a"]
        assert client.delete("/refusing", recursive=True) is None


def test_another_password_counts_from_the_next_connection_on(client: KazooClient) -> None:
    states, before = States(client), client.client_id
    client._session_passwd = bytes(16)
    assert client._session_passwd == bytes(16)
    client._call(DROP)
    # The server takes it for somebody else, and gives a session of its own.
    while "LOST" not in states.seen or not client.connected:
        states.connected.wait(BOUND)
    assert client.client_id is not None
    assert client.client_id != before
    assert client.retry(client.get_children, "/")


def test_another_session_may_be_taken_over(client: KazooClient, connect: Connect) -> None:
    other = connect()
    assert other.client_id is not None
    session, passwd = other.client_id
    client._session_id, client._session_passwd = session, passwd
    states = States(client)
    client._call(DROP)
    assert states.connected.wait(BOUND)
    assert client.client_id == (session, passwd)


def test_another_timeout_counts_from_the_next_start_on(connect: Connect) -> None:
    client = connect(timeout=8)
    assert (client._session_timeout, client.native.session_timeout) == (8000, 8.0)
    client._session_timeout = 12_000
    assert client.native.session_timeout == 8.0
    client.restart()
    assert client.native.session_timeout == 12.0


def test_requests_wait_in_the_queue_while_suspended(connect: Connect, ensemble: BlockingEnsemble) -> None:
    client = connect(timeout=20)
    lost = threading.Event()
    client.add_listener(lambda state: lost.set() if state == "SUSPENDED" else None)
    ensemble.stop(1)
    try:
        assert lost.wait(BOUND)
        result = client.create_async("/queued")
        assert [request.path for request in client._queue] == ["/queued"]
        assert not result.ready()
    finally:
        ensemble.start(1)
    assert result.get(timeout=BOUND) == "/queued"
    assert client._queue == []
