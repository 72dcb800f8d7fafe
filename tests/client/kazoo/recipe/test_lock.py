"""kazoo's locks and semaphore as programs use them: from many threads, cancelled, interrupted, lost."""

from __future__ import annotations

import inspect
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import kazoo.recipe.lock as theirs
import pytest

from terzetto.client.kazoo.client import KazooClient
from terzetto.client.kazoo.exceptions import CancelledError, LockTimeout
from terzetto.client.kazoo.handlers.utils import AsyncResult, capture_exceptions
from terzetto.client.kazoo.recipe import lock as ours
from terzetto.testcluster import BlockingEnsemble

from ..conftest import Connect

BOUND = 10.0
LOCKS = ("Lock", "ReadLock", "WriteLock")


class Running:
    """A call in a thread of its own, and its outcome."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._result = AsyncResult()

        def run() -> None:
            self._result.set(call())

        threading.Thread(target=capture_exceptions(self._result)(run), daemon=True).start()

    def outcome(self) -> Any:
        return self._result.get(timeout=BOUND)

    @property
    def waits(self) -> bool:
        return not self._result.ready()


class Setting:
    """A watch that sets an event."""

    def __init__(self, event: threading.Event) -> None:
        self._event = event

    def __call__(self, _: object) -> None:
        self._event.set()


def queued(client: KazooClient, path: str, count: int) -> list[str]:
    """The children, once there are so many."""
    deadline = time.monotonic() + BOUND
    client.ensure_path(path)
    while True:
        changed = threading.Event()
        names = client.get_children(path, watch=Setting(changed))
        if len(names) == count:
            return sorted(names)
        assert changed.wait(deadline - time.monotonic()), names


@pytest.mark.parametrize("name", [*LOCKS, "Semaphore"])
def test_signatures_are_kazoos(client: KazooClient, name: str) -> None:
    mine, other = getattr(ours, name), getattr(theirs, name)
    assert list(inspect.signature(mine).parameters) == list(inspect.signature(other).parameters)
    for method in ("acquire", "release", "cancel", "contenders", "lease_holders"):
        if hasattr(other, method):
            expected = inspect.signature(getattr(other, method)).parameters.values()
            got = inspect.signature(getattr(mine, method)).parameters.values()
            assert [(p.name, p.default) for p in got] == [(p.name, p.default) for p in expected], method
    their_attributes: list[str] = list(other(client, "/l").__dict__)
    made = getattr(client, name)("/l")
    assert [name for name in their_attributes if name[0] != "_" and not hasattr(made, name)] == []


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_is_taken_and_given_back(client: KazooClient, name: str) -> None:
    lock = getattr(client, name)("/l", "me")
    assert (lock.is_acquired, lock.node, lock.prefix, lock.create_path, lock.assured_path) == (
        False,
        None,
        None,
        None,
        False,
    )
    assert not lock.release()
    with lock:
        assert lock.is_acquired
        assert lock.assured_path
        assert lock.create_tried
        assert client.get_children("/l") == [lock.node]
        assert lock.node.startswith(lock.prefix)
        assert client.get(f"/l/{lock.node}")[0] == lock.data == b"me"
        assert lock.create_path == f"/l/{lock.prefix}"
        assert lock.contenders() == ["me"]
        assert not lock.acquire(blocking=False)
        assert not lock.acquire(timeout=0.01)
    assert not lock.is_acquired
    assert client.get_children("/l") == []


def test_who_contends_in_vain_is_told_and_leaves_nothing(client: KazooClient, connect: Connect) -> None:
    first, second = client.Lock("/l", "first"), connect().Lock("/l", "second")
    with first:
        assert not second.acquire(blocking=False)
        for limit in (0, 0.05):
            with pytest.raises(LockTimeout):
                second.acquire(timeout=limit)
        with pytest.raises(ValueError, match="timeout"):
            second.acquire(blocking=False, timeout=1)
        # What waited in vain is taken away in the background.
        queued(client, "/l", 1)
        assert first.contenders() == ["first"]
    assert second.acquire(timeout=BOUND)
    assert second.release()


def test_contenders_are_served_in_order(client: KazooClient) -> None:
    order: list[str] = []
    waiting: list[Running] = []

    def work(name: str) -> None:
        with client.Lock("/l", name):
            order.append(name)

    names = [f"contender-{number}" for number in range(5)]
    with client.Lock("/l", "holder") as held:
        assert held is not None
        for number, name in enumerate(names):
            waiting.append(Running(lambda name=name: work(name)))  # type: ignore[misc]
            queued(client, "/l", number + 2)
        assert client.Lock("/l").contenders() == ["holder", *names]
    for each in waiting:
        each.outcome()
    assert order == names


def test_threads_on_one_object_take_turns(client: KazooClient) -> None:
    lock = client.Lock("/l")
    inside: list[int] = []

    def work() -> None:
        with lock:
            inside.append(1)
            assert len(inside) == 1
            assert lock.is_acquired
            inside.pop()

    for each in [Running(work) for _ in range(20)]:
        each.outcome()
    assert client.get_children("/l") == []


def test_cancel_ends_a_wait(client: KazooClient) -> None:
    lock = client.Lock("/l", "cancelled")
    with client.Lock("/l", "holder"):
        waiting = Running(lock.acquire)
        queued(client, "/l", 2)
        lock.cancel()
        with pytest.raises(CancelledError):
            waiting.outcome()
        queued(client, "/l", 1)
    assert not lock.cancelled
    assert lock.acquire(timeout=BOUND)


def test_cancel_before_the_wait_counts_for_the_next_one(client: KazooClient) -> None:
    lock = client.Lock("/l")
    lock.cancel()
    assert lock.cancelled
    assert lock.wake_event.is_set()
    with pytest.raises(CancelledError):
        lock.acquire()
    assert lock.acquire(timeout=BOUND)
    lock.cancel()
    assert lock.release()
    with pytest.raises(CancelledError):
        lock.acquire()


def test_an_interrupted_wait_leaves_nothing(client: KazooClient, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = client.Lock("/l", "interrupted")
    real_wait = AsyncResult.wait
    waiter = threading.get_ident()
    with client.Lock("/l", "holder"):
        watcher = client.handler

        def wait(result: AsyncResult, timeout: float | None = None) -> bool:
            if threading.get_ident() != waiter:
                return real_wait(result, timeout)
            # What a signal does: the wait is left by an exception, once the contender stands.
            monkeypatch.undo()
            queued(client, "/l", 2)
            abandon = result.abandon
            assert abandon is not None
            abandon()
            raise KeyboardInterrupt

        assert watcher.running
        monkeypatch.setattr(AsyncResult, "wait", wait)
        with pytest.raises(KeyboardInterrupt):
            lock.acquire()
        queued(client, "/l", 1)
    assert lock.acquire(timeout=BOUND)


def test_a_lock_that_is_lost_is_not_acquired_any_more(
    client: KazooClient, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    lock, other = client.Lock("/l", "first"), connect().Lock("/l", "second")
    with caplog.at_level(logging.WARNING), lock as held:
        assert held is not None
        client.delete(held.znode)
        assert held.wait_lost(BOUND) is not None
        assert not lock.is_acquired
        assert other.acquire(timeout=BOUND)
    assert "was owned no more" in caplog.text
    assert not lock.release()
    assert other.is_acquired
    assert other.release()
    assert lock.acquire(timeout=BOUND)


def test_a_lock_outlives_a_restart_of_its_client(client: KazooClient) -> None:
    lock = client.Lock("/l")
    assert lock.acquire(timeout=BOUND)
    client.restart()
    assert not lock.is_acquired
    assert not lock.release()
    assert lock.acquire(timeout=BOUND)


def test_a_lock_that_is_not_ephemeral_outlives_its_client(client: KazooClient, connect: Connect) -> None:
    owner = connect()
    lock = owner.Lock("/l", "permanent")
    assert lock.acquire(ephemeral=False)
    owner.stop()
    assert client.Lock("/l").contenders() == ["permanent"]
    assert not client.Lock("/l").acquire(blocking=False)


def test_readers_share_and_writers_do_not(client: KazooClient, connect: Connect) -> None:
    peer = connect()
    with client.ReadLock("/l", "r1"), peer.ReadLock("/l", "r2"):
        writer = peer.WriteLock("/l", "w")
        assert not writer.acquire(blocking=False)
        waiting = Running(writer.acquire)
        queued(client, "/l", 3)
        assert not client.ReadLock("/l", "r3").acquire(blocking=False)
    assert waiting.outcome() is True
    assert writer.contenders() == ["w"]
    assert writer.release()


def test_other_patterns_are_waited_for(client: KazooClient) -> None:
    client.create("/l/_c_x-lock-", b"", sequence=True, makepath=True)
    assert not client.Lock("/l", extra_lock_patterns=["-lock-"]).acquire(blocking=False)


# Semaphores -----------------------------------------------------------------------------------------------------------


def test_a_semaphore_has_so_many_leases(client: KazooClient, connect: Connect) -> None:
    first = client.Semaphore("/s", "one", max_leases=2)
    second, third = (connect().Semaphore("/s", name, max_leases=2) for name in ("two", "three"))
    assert first.acquire()
    with second:
        assert first.lease_holders() in (["one", "two"], ["two", "one"])
        assert not third.acquire(blocking=False)
        with pytest.raises(LockTimeout):
            third.acquire(timeout=0.05)
        waiting = Running(third.acquire)
        assert waiting.waits
    assert waiting.outcome() is True
    assert third.release()
    assert not third.release()
    assert (first.lock_path, client.get("/s")[0]) == ("/s-__lock__", b"2")
    with pytest.raises(ValueError, match="2 leases"):
        client.Semaphore("/s", max_leases=3).acquire()
    with pytest.raises(ValueError, match="timeout"):
        first.acquire(blocking=False, timeout=1)


def test_a_lease_acquired_twice_is_released_once(client: KazooClient) -> None:
    semaphore = client.Semaphore("/s")
    assert semaphore.create_path is None
    assert semaphore.acquire()
    assert semaphore.acquire()
    assert client.get_children("/s") == [str(semaphore.create_path).rpartition("/")[2]]
    assert semaphore.release()
    assert not semaphore.release()
    assert semaphore.lease_holders() == []


def test_cancel_ends_a_semaphores_wait_and_not_the_next_one(client: KazooClient) -> None:
    semaphore = client.Semaphore("/s", "cancelled")
    with client.Semaphore("/s", "holder"):
        waiting = Running(semaphore.acquire)
        queued(client, "/s-__lock__", 1)
        semaphore.cancel()
        with pytest.raises(CancelledError):
            waiting.outcome()
        queued(client, "/s-__lock__", 0)
    semaphore.cancel()
    assert semaphore.acquire(timeout=BOUND)


def test_a_lease_goes_with_its_session(client: KazooClient, ensemble: BlockingEnsemble) -> None:
    semaphore = client.Semaphore("/s")
    with semaphore as held:
        assert held is not None
        assert held.fencing_token is None
        assert client.client_id is not None
        ensemble.expire_session(client.client_id[0])
        assert held.wait_lost(BOUND) is not None
        assert not semaphore.is_acquired
    assert semaphore.acquire(timeout=BOUND)
