"""Listeners, and ends that are bounded: from callbacks, from listeners, with a server that is silent."""

from __future__ import annotations

import logging
import threading
import time

import pytest

from terzetto.client.kazoo.client import KazooClient
from terzetto.client.kazoo.exceptions import ConnectionClosedError
from terzetto.testcluster import BlockingEnsemble

from .conftest import Connect

BOUND = 10.0


def test_listeners_may_block_and_call_the_client(client: KazooClient, ensemble: BlockingEnsemble) -> None:
    done = threading.Event()
    seen: list[object] = []

    def listener(state: str) -> bool:
        if state != "CONNECTED":
            return False
        seen.append(client.get_children("/zookeeper"))
        done.set()
        return True

    client.add_listener(listener)
    ensemble.drop_connections()
    assert done.wait(BOUND)
    assert len(seen) == 1
    settled = threading.Event()
    client.handler.dispatch(settled.set)  # behind the listener on its worker
    assert settled.wait(BOUND)
    assert client.state_listeners == set()


def test_a_listener_that_raises_is_logged_and_stays(
    client: KazooClient, ensemble: BlockingEnsemble, caplog: pytest.LogCaptureFixture
) -> None:
    done = threading.Event()

    def listener(state: str) -> None:
        if state == "CONNECTED":
            done.set()
        raise RuntimeError("from a listener")

    client.add_listener(listener)
    with caplog.at_level(logging.ERROR):
        ensemble.drop_connections()
        assert done.wait(BOUND)
    client.remove_listener(listener)
    assert "from a listener" in caplog.text


@pytest.mark.parametrize("where", ["watch", "listener", "completion"])
def test_stop_from_a_callback_ends(
    connect: Connect, ensemble: BlockingEnsemble, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = connect()
    done = threading.Event()

    def stop(*_: object) -> None:
        client.stop()
        done.set()

    if where == "watch":
        client.ensure_path("/stop-from")
        client.get("/stop-from", watch=stop)
        client.set("/stop-from", b"")
    elif where == "listener":
        client.add_listener(stop)
        ensemble.drop_connections()
    else:
        client.get_async("/").rawlink(stop)
    assert done.wait(BOUND)
    assert client.state == "LOST"
    client.start()
    assert client.connected


def test_stop_is_bounded_when_the_server_is_silent(ensemble: BlockingEnsemble) -> None:
    client = KazooClient(ensemble.hosts)
    client.lifecycle.close_timeout = 0.2
    client.start()
    ensemble.pause(1)
    try:
        waiting = client.get_async("/")
        start = time.monotonic()
        client.stop()
        assert time.monotonic() - start < BOUND
        assert waiting.ready()
        assert waiting.exception is not None
    finally:
        ensemble.resume(1)


def test_stop_does_not_wait_long_for_a_server_that_is_away(ensemble: BlockingEnsemble) -> None:
    client = KazooClient(ensemble.hosts)
    client.lifecycle.close_timeout = 2 * BOUND
    client.start()
    lost = threading.Event()
    client.add_listener(lambda state: lost.set() if state == "SUSPENDED" else None)
    ensemble.stop(1)
    try:
        assert lost.wait(BOUND)
        waiting = client.get_async("/")
        start = time.monotonic()
        client.stop()
        assert time.monotonic() - start < BOUND
        assert isinstance(waiting.exception, ConnectionClosedError)
        assert (client.state, client.client_state) == ("LOST", "CLOSED")
    finally:
        ensemble.start(1)
        ensemble.wait_serving()


def test_the_last_state_is_told_before_the_workers_end(connect: Connect) -> None:
    client = connect()
    seen: list[str] = []
    client.add_listener(seen.append)
    client.stop()
    assert seen == ["LOST"]
    client.start()
    client.stop()
    assert seen == ["LOST", "CONNECTED", "LOST"]


def test_a_listener_may_start_the_client_that_is_being_stopped(connect: Connect) -> None:
    client = connect()
    seen: list[str] = []
    told = threading.Event()

    def listener(state: str) -> None:
        seen.append(state)
        if seen == ["LOST"]:
            client.start()
        elif state == "CONNECTED":
            told.set()

    client.add_listener(listener)
    client.stop()
    assert told.wait(BOUND)
    assert (seen, client.connected) == (["LOST", "CONNECTED"], True)
    changed, answered = threading.Event(), threading.Event()
    client.ensure_path("/started-by-a-listener")
    client.get("/started-by-a-listener", watch=lambda _: changed.set())
    client.set("/started-by-a-listener", b"")
    client.get_async("/").rawlink(lambda _: answered.set())
    assert changed.wait(BOUND)
    assert answered.wait(BOUND)
    client.remove_listener(listener)


def test_states_come_in_order_when_a_callback_restarts_the_client(connect: Connect) -> None:
    client = connect()
    seen: list[str] = []
    done = threading.Event()
    client.add_listener(seen.append)
    session = client.client_id

    def restart(_: object) -> None:
        client.restart()
        done.set()

    client.ensure_path("/restart")
    client.get("/restart", watch=restart)
    client.set("/restart", b"")
    assert done.wait(BOUND)
    assert client.client_id != session
    client.stop()
    assert seen == ["LOST", "CONNECTED", "LOST"]


def test_changes_of_the_state_are_logged_by_the_clients_logger(
    connect: Connect, ensemble: BlockingEnsemble, caplog: pytest.LogCaptureFixture
) -> None:
    back = threading.Event()
    with caplog.at_level(logging.INFO, "a-program"):
        client = connect(logger=logging.getLogger("a-program"))
        client.add_listener(lambda state: back.set() if state == "CONNECTED" else None)
        ensemble.drop_connections()
        assert back.wait(BOUND)
        client.stop()
    said = [(record.levelname, record.getMessage()) for record in caplog.records if record.name == "a-program"]
    assert [level for level, _ in said] == ["INFO", "WARNING", "INFO", "INFO"]
    assert [text.split(",")[0].split(":")[0] for _, text in said] == [
        "connected",
        "connection lost",
        "connected",
        "session closed",
    ]
