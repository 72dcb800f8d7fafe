"""The names that programs take from kazoo's connection module, and what they touch of `client._connection`."""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import socket
import threading
import time
from typing import Any

import kazoo.protocol.connection as theirs
import pytest

from terzetto.client.kazoo.client import KazooClient
from terzetto.client.kazoo.exceptions import ConnectionClosedError
from terzetto.client.kazoo.protocol import connection
from terzetto.client.wire.operations import Opcode
from terzetto.testcluster import BlockingEnsemble

from ..conftest import Connect
from ..odd_server import OddServer

BOUND = 10.0


def test_codes_are_kazoos() -> None:
    codes = [name for name in connection.__all__ if isinstance(getattr(connection, name), int)]
    assert len(codes) == 9
    for name in codes:
        assert getattr(connection, name) == getattr(theirs, name), name


def test_sentinels_have_names() -> None:
    for name in ("_SESSION_EXPIRED", "_CONNECTION_DROP", "STOP_CONNECTING"):
        assert hasattr(theirs, name)
        assert repr(getattr(connection, name)) == name
    assert connection._SESSION_EXPIRED is not connection._CONNECTION_DROP


def test_requests_are_counted(client: KazooClient) -> None:
    before = client._connection._xid
    assert before is not None
    client.get("/")
    assert client._connection._xid == before + 1
    client.stop()
    assert client._connection._xid is None


def test_the_socket_is_the_connections(client: KazooClient, ensemble: BlockingEnsemble) -> None:
    back = threading.Event()
    sock = client._connection._socket
    assert sock is not None
    assert ensemble.hosts == "{}:{}".format(*sock.getpeername())

    def tell(state: str) -> None:
        if state == "CONNECTED":
            back.set()

    client.add_listener(tell)
    before = client.client_id
    sock.shutdown(socket.SHUT_RDWR)
    assert back.wait(BOUND)
    assert client._connection._socket is not sock
    assert client.client_id == before
    client.stop()
    assert client._connection._socket is None
    with pytest.raises(ConnectionClosedError):
        client._connection._connect("127.0.0.1", "127.0.0.1", 2181)


def test_a_programs_own_read_timeout_finds_a_silent_server_sooner(connect: Connect, ensemble: BlockingEnsemble) -> None:
    client = KazooClient(ensemble.hosts, timeout=40)
    before = client._connection._connect
    asked: list[tuple[Any, ...]] = []

    def shorter(*args: Any) -> tuple[float, float]:
        asked.append(args)
        read, connect_timeout = before(*args)
        assert read > 20_000
        return 1500, connect_timeout

    client._connection._connect = shorter
    lost, back = threading.Event(), threading.Event()

    def tell(state: str) -> None:
        (back if state == "CONNECTED" else lost).set()

    client.start()
    try:
        client.add_listener(tell)
        host, port = ensemble.hosts.split(":")
        assert client.get_children("/")
        # With a server that answers, pings keep the connection.
        assert not lost.wait(2.5)
        ensemble.pause(1)
        try:
            assert lost.wait(BOUND)
        finally:
            ensemble.resume(1)
        assert back.wait(BOUND)
        assert asked[0] == (host, host, int(port))
        # Another function takes its place at once, and the first is asked no more.
        client._connection._connect = before
        asked.clear()
        back.clear()
        client._call(connection._CONNECTION_DROP)
        assert back.wait(BOUND)
        assert asked == []
    finally:
        client.stop()


def test_requests_wait_for_answers_in_pending() -> None:
    with OddServer(lambda opcode: None if opcode == Opcode.GET_DATA else -101) as server:
        client = KazooClient(server.hosts)
        client.lifecycle.close_timeout = 0.2
        client.start(timeout=BOUND)
        try:
            client.get_async("/a")
            client.get_async("/b")
            deadline = time.monotonic() + BOUND
            while client._queue:
                assert time.monotonic() < deadline
            assert [request.path for request in client._pending] == ["/a", "/b"]
        finally:
            client.stop()
        assert client._pending == []
