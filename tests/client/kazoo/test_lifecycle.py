"""Listeners, and ends that are bounded: from callbacks, from listeners, with a server that is silent."""

from __future__ import annotations

import logging
import threading
import time

import pytest

from terzetto.client.kazoo.client import KazooClient
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
    client.sync("/")
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


def test_the_last_state_is_told_before_the_workers_end(connect: Connect) -> None:
    client = connect()
    seen: list[str] = []
    client.add_listener(seen.append)
    client.stop()
    assert seen == ["LOST"]
    client.start()
    client.stop()
    assert seen == ["LOST", "CONNECTED", "LOST"]
