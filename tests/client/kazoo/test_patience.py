"""`connection_retry`: when a client that finds no server is over."""

from __future__ import annotations

import math
import socket
import threading
import time
from typing import Any

import pytest

from terzetto.client.kazoo._patience import planned
from terzetto.client.kazoo.client import KazooClient
from terzetto.client.kazoo.exceptions import ConnectionClosedError
from terzetto.client.kazoo.handlers.threading import KazooTimeoutError
from terzetto.client.kazoo.retry import KazooRetry
from terzetto.testcluster import BlockingEnsemble, start_ensemble

from .conftest import Connect

BOUND = 10.0


@pytest.mark.parametrize(
    ("policy", "seconds"),
    [
        ({"max_tries": 1, "delay": 5}, 0),
        ({"max_tries": None, "delay": 5}, 0),
        ({"max_tries": -1, "delay": 5}, 0),
        ({"max_tries": 4, "delay": 0.5, "backoff": 2}, 0.5 + 1 + 2),
        ({"max_tries": 6, "delay": 1, "backoff": 2, "max_delay": 3}, 1 + 2 + 3 * 3),
        ({"max_tries": 11, "delay": 0.5, "backoff": 1}, 5),
        ({"max_tries": 10**12, "delay": 0, "backoff": 2}, 0),
        ({"max_tries": 10**12 + 1, "delay": 4, "max_delay": 2}, 2 * 10**12),
    ],
)
def test_the_time_of_a_policys_pauses(policy: dict[str, Any], seconds: float) -> None:
    assert math.isclose(planned(KazooRetry(**policy)), seconds)


@pytest.mark.parametrize(
    "policy", [{"max_tries": 1}, {"max_tries": 3, "delay": 0.01}, {"max_tries": -1, "deadline": 0.2}], ids=str
)
def test_a_client_whose_patience_is_over_fails_its_calls_and_starts_again(policy: dict[str, Any]) -> None:
    with start_ensemble() as ensemble:
        client = KazooClient(ensemble.hosts, connection_retry=policy)
        seen: list[str] = []
        lost = threading.Event()

        def listener(state: str) -> None:
            seen.append(state)
            if state == "LOST":
                lost.set()

        client.add_listener(listener)
        client.start()
        session = client.client_id
        ensemble.stop(1)
        assert lost.wait(BOUND)
        with pytest.raises(ConnectionClosedError):
            client.get_async("/").get(timeout=BOUND)
        assert (client.state, client.connected, client.client_id) == ("LOST", False, None)
        ensemble.start(1)
        ensemble.wait_serving()
        client.start()
        assert client.get("/")[1] is not None
        assert client.client_id not in (None, session)
        client.stop()
        assert seen == ["CONNECTED", "SUSPENDED", "LOST", "CONNECTED", "LOST"]


def test_a_listener_may_start_a_client_whose_patience_is_over(connect: Connect, ensemble: BlockingEnsemble) -> None:
    # One try, and one server: the connection that is lost was the only one.
    client = connect(connection_retry={"max_tries": 1})
    back = threading.Event()

    def listener(state: str) -> None:
        if state == "LOST":
            client.start()
            back.set()

    client.add_listener(listener)
    ensemble.drop_connections()
    assert back.wait(BOUND)
    client.remove_listener(listener)
    assert client.connected
    assert client.get("/")[1] is not None


def test_a_lost_connection_that_comes_back_begins_the_count_anew(connect: Connect, ensemble: BlockingEnsemble) -> None:
    client = connect(connection_retry={"max_tries": 2, "delay": 5})
    session = client.client_id
    for _ in range(4):
        ensemble.drop_connections()
        assert client.retry(client.get, "/")[1] is not None
    assert client.client_id == session


def test_a_start_without_any_server_ends_with_the_patience() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        hosts = f"127.0.0.1:{closed.getsockname()[1]}"
    client = KazooClient(hosts, connection_retry={"max_tries": 2, "delay": 0.01})
    began = time.monotonic()
    with pytest.raises(KazooTimeoutError):
        client.start(timeout=3 * BOUND)
    assert time.monotonic() - began < BOUND
    assert client.state == "LOST"
