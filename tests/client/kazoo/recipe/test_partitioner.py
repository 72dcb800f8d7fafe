"""kazoo's set partitioner."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Collection
from typing import Any

import pytest

from terzetto.client.kazoo.client import KazooClient
from terzetto.client.kazoo.exceptions import ConnectionClosedError, NoAuthError
from terzetto.client.kazoo.recipe.partitioner import PartitionState, SetPartitioner
from terzetto.client.kazoo.security import make_acl
from terzetto.testcluster import BlockingEnsemble

from ..conftest import Connect

BOUND = 10.0
ITEMS = ["a", "b", "c"]


def member(client: KazooClient, identifier: str | None = None, **options: Any) -> SetPartitioner:
    given: dict[str, Any] = {"time_boundary": 0.1, **options}
    return client.SetPartitioner("/s", ITEMS, identifier=identifier, **given)


class Changes(threading.Event):
    """Told of each state, to wait for one."""

    def wait_for(self, condition: Callable[[], bool]) -> None:
        ends_at = time.monotonic() + BOUND
        while not condition():
            assert self.wait(ends_at - time.monotonic()), "no further state"
            self.clear()


class Logged(logging.Handler):
    """Waits for one record."""

    def __init__(self) -> None:
        super().__init__()
        self._records: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()

    def emit(self, record: logging.LogRecord) -> None:
        self._records.put(record)

    def one(self) -> str:
        return self._records.get(timeout=BOUND).getMessage()


def test_a_set_is_divided_and_divided_anew(client: KazooClient, connect: Connect) -> None:
    changes = Changes()
    one = member(client, "1", state_change_event=changes)
    assert one.state_change_event is changes
    one.wait_for_acquire(BOUND)
    assert (one.state, one.state_id, list(one)) == (PartitionState.ACQUIRED, 1, ITEMS)
    two = member(connect(), "2")
    changes.wait_for(lambda: one.release)
    assert (one.acquired, one.allocating, one.failed, two.allocating) == (False, False, False, True)
    two.wait_for_acquire(0.3)
    assert list(two) == []
    one.release_set()
    for partitioner in (one, two):
        partitioner.wait_for_acquire(BOUND)
    assert (list(one), list(two)) == (["a", "c"], ["b"])
    assert sorted(name.partition("-")[2] for name in client.get_children("/s/party")) == ["1", "2"]
    two.finish()
    two.finish()
    assert two.failed
    changes.wait_for(lambda: one.release)
    one.release_set()
    one.wait_for_acquire(BOUND)
    assert list(one) == ITEMS
    one.finish()
    assert (one.state, list(one)) == (PartitionState.FAILURE, [])
    assert client.get_children("/s/party") == []


def test_a_function_of_the_program_s_may_use_the_client(client: KazooClient) -> None:
    threads: list[str] = []

    def divide(identifier: str, members: list[str], items: Collection[Any]) -> list[Any]:
        threads.append(threading.current_thread().name)
        assert client.exists("/s/party") is not None
        return [item for item in items if item != "b"]

    partitioner = member(client, "1", partition_func=divide)
    partitioner.wait_for_acquire(BOUND)
    assert list(partitioner) == ["a", "c"]
    assert threads != [threading.current_thread().name]


def test_a_function_that_fails_is_logged_and_the_end(client: KazooClient) -> None:
    def divide(identifier: str, members: list[str], items: Collection[Any]) -> list[Any]:
        raise LookupError("no idea")

    changes, logged = Changes(), Logged()
    logger = logging.getLogger(SetPartitioner.__module__)
    logger.addHandler(logged)
    try:
        partitioner = member(client, partition_func=divide, state_change_event=changes)
        partitioner.wait_for_acquire(BOUND)
        changes.wait_for(lambda: partitioner.failed)
        assert logged.one() == "the division of /s has failed"
        partitioner.finish()
    finally:
        logger.removeHandler(logged)


def test_what_the_first_requests_meet_is_raised(client: KazooClient, connect: Connect) -> None:
    client.create("/s", acl=[make_acl("world", "anyone", read=True)])
    with pytest.raises(NoAuthError):
        member(client)
    with pytest.raises(ValueError, match="slash"):
        member(client, "a/b")
    other = connect()
    other.stop()
    with pytest.raises(ConnectionClosedError):
        member(other)


def test_a_lost_connection_asks_for_the_items(client: KazooClient, ensemble: BlockingEnsemble) -> None:
    changes = Changes()
    partitioner = member(client, state_change_event=changes)
    partitioner.wait_for_acquire(BOUND)
    ensemble.drop_connections()
    changes.wait_for(lambda: partitioner.release)
    assert list(partitioner) == []
    partitioner.release_set()
    partitioner.wait_for_acquire(BOUND)
    assert list(partitioner) == ITEMS


def test_a_lost_session_is_the_end(client: KazooClient, connect: Connect, ensemble: BlockingEnsemble) -> None:
    changes = Changes()
    partitioner = member(client, state_change_event=changes)
    partitioner.wait_for_acquire(BOUND)
    assert client.client_id is not None
    ensemble.expire_session(client.client_id[0])
    changes.wait_for(lambda: partitioner.failed)
    partitioner.release_set()
    partitioner.finish()
    assert partitioner.failed
    again = member(client)
    again.wait_for_acquire(BOUND)
    assert list(again) == ITEMS


def test_it_is_over_with_its_client(client: KazooClient) -> None:
    partitioner = member(client)
    partitioner.wait_for_acquire(BOUND)
    client.stop()
    assert (partitioner.failed, list(partitioner)) == (True, [])
    partitioner.finish()
    client.start()
    assert partitioner.failed
    partitioner.release_set()
    partitioner.wait_for_acquire(BOUND)
    assert client.get_children("/s/party") == []
    assert client.get_children("/s/locks/a") == []
