"""kazoo's queues."""

from __future__ import annotations

import inspect

import kazoo.recipe.queue as theirs
import pytest

from terzetto.client.kazoo.client import KazooClient
from terzetto.client.kazoo.recipe import queue as ours
from terzetto.testcluster import BlockingEnsemble

from ..conftest import Connect
from .test_lock import BOUND, Running


@pytest.mark.parametrize("name", ["Queue", "LockingQueue"])
def test_signatures_are_kazoos(name: str) -> None:
    mine, other = getattr(ours, name), getattr(theirs, name)
    methods = [method for method, _ in inspect.getmembers(other, inspect.isfunction) if method[0] != "_"]
    for method in ["__init__", "__len__", *methods]:
        expected = inspect.signature(getattr(other, method)).parameters.values()
        got = inspect.signature(getattr(mine, method)).parameters.values()
        assert [(p.name, p.default) for p in got] == [(p.name, p.default) for p in expected], method


def test_items_are_taken_in_their_order(client: KazooClient) -> None:
    queue = client.Queue("/q")
    assert (len(queue), queue.get()) == (0, None)
    queue.put(b"second")
    queue.put(b"third")
    queue.put(b"first", priority=1)
    assert len(queue) == 3
    assert [queue.get() for _ in range(4)] == [b"first", b"second", b"third", None]
    with pytest.raises(TypeError):
        queue.put("text")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="1000"):
        queue.put(b"", priority=1000)


def test_an_item_is_held_and_then_consumed_or_given_back(client: KazooClient, connect: Connect) -> None:
    first, second = client.LockingQueue("/q"), connect().LockingQueue("/q")
    assert (first.id, first.processing_element) == (None, None)
    assert [first.holds_lock(), first.consume(), first.release()] == [False, False, False]
    first.put_all([b"a", b"b"])
    first.put(b"urgent", priority=1)
    assert first.get() == first.get() == b"urgent"
    assert first.processing_element is not None
    name, value = first.processing_element
    assert value == b"urgent"
    assert client.get(f"/q/taken/{name}")[0] == first.id
    assert second.get() == b"a"
    assert len(first) == 3
    assert first.holds_lock()
    assert first.consume()
    assert not first.consume()
    assert second.release()
    assert first.get() == b"a"
    assert first.consume()
    assert len(second) == 1
    with pytest.raises(TypeError, match="list"):
        first.put_all(b"no list")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_a_wait_goes_on_through_a_lost_connection(
    client: KazooClient, connect: Connect, ensemble: BlockingEnsemble
) -> None:
    queue, peer = client.LockingQueue("/q"), connect()
    assert queue.get(timeout=0.01) is None
    waiting = Running(lambda: queue.get(timeout=BOUND))
    ensemble.drop_connections()
    peer.LockingQueue("/q").put(b"late")
    assert waiting.outcome() == b"late"


def test_a_lost_session_holds_nothing(client: KazooClient, ensemble: BlockingEnsemble, connect: Connect) -> None:
    queue = client.LockingQueue("/q")
    queue.put(b"a")
    assert queue.get() == b"a"
    assert client.client_id is not None
    ensemble.expire_session(client.client_id[0])
    assert connect().LockingQueue("/q").get(timeout=BOUND) == b"a"
    assert not queue.holds_lock()
    assert not queue.consume()


def test_what_is_there_is_taken_without_waiting(client: KazooClient, connect: Connect) -> None:
    queue, other = client.LockingQueue("/polled"), connect().LockingQueue("/polled")
    assert queue.get(0) is None
    queue.put_all([b"1", b"2"])
    assert queue.get(0) == b"1"
    assert queue.get(0) == b"1"
    other.client.sync("/polled")
    assert other.get(timeout=0) == b"2"
    assert client.LockingQueue("/polled").get(0) is None
    assert queue.consume()
    assert other.consume()
    assert queue.get(0) is None
