"""Acquiring and releasing as kazoo's users know it, and tasks that share one object. On a `Lock`."""

# ruff: noqa: PT012 - what leaves a block is what is tested here
from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from terzetto.client import CancelledError, LockTimeout, ZooKeeper
from terzetto.client.wire import Opcode
from terzetto.recipes import Lock, OwnershipLost
from tests.client.holdings import holdings
from tests.client.memory_server import MemoryEnsemble, pass_time, settle
from tests.client.server_link import Fault

from .truth import now
from .walking import at_rest, tree

LAYOUTS = ("kazoo", "curator")


# acquire and release --------------------------------------------------------------------------------------------------


async def test_acquire_and_release(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        lock = Lock(zk, "/locks/a", "me")
        assert await lock.release() is False
        assert await lock.acquire() is True
        assert lock.is_acquired
        assert await lock.contenders() == ["me"]
        assert await lock.release() is True
        assert not now(lock.is_acquired)
        assert lock.held is None
        assert await lock.contenders() == []
        assert await lock.release() is False
        assert await lock.acquire() is True
        assert await lock.release() is True
        assert tree(ensemble) == {"/locks", "/locks/a"}


async def test_without_blocking_a_contended_lock_is_refused_and_leaves_nothing(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as one, ensemble.open() as other:
        lock = Lock(other, "/a")
        async with Lock(one, "/a") as held:
            start = trio.current_time()
            assert await lock.acquire(blocking=False) is False
            assert trio.current_time() == start
            assert tree(ensemble) == {"/a", held.znode}
        assert await lock.acquire(blocking=False) is True


async def test_a_timeout_is_one_for_all_and_not_for_each_wake_up(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async def come_and_go(zk: ZooKeeper) -> None:
        for _ in range(10):
            async with Lock(zk, "/a"):
                await pass_time(0.3)

    async with ensemble.open() as one, ensemble.open() as other, ensemble.open() as late:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(come_and_go, one)
            nursery.start_soon(come_and_go, other)
            await pass_time(0.1)
            await Lock(one, "/b").acquire()
            start = trio.current_time()
            lock = Lock(late, "/b")
            with pytest.raises(LockTimeout, match=r"/b was not acquired within 1\.0 s"):
                await lock.acquire(timeout=1.0)
            assert trio.current_time() - start == pytest.approx(1.0)
            assert not now(lock.is_acquired)
            with pytest.raises(LockTimeout):
                await lock.acquire(timeout=0)
            with pytest.raises(LockTimeout):
                async with lock.hold(timeout=0.5):
                    pass
            nursery.cancel_scope.cancel()
        await at_rest(late)
        assert len([path for path in tree(ensemble) if path.startswith("/b/")]) == 1


async def test_a_timeout_counts_without_a_connection_too(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        ensemble.rules.append(lambda request: Fault.CUT if request.opcode == Opcode.CREATE2 else None)
        start = trio.current_time()
        with pytest.raises(LockTimeout):
            await Lock(zk, "/a").acquire(timeout=2.0)
        assert trio.current_time() - start == pytest.approx(2.0)


async def test_a_timeout_without_blocking_is_refused(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        with pytest.raises(ValueError, match="blocking"):
            await Lock(zk, "/a").acquire(blocking=False, timeout=1.0)


async def test_cancel_ends_the_wait_and_nothing_else(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    ended: list[str] = []

    async def wait(lock: Lock) -> None:
        with pytest.raises(CancelledError):
            await lock.acquire()
        ended.append("cancelled")

    async with ensemble.open() as one, ensemble.open() as other:
        lock = Lock(other, "/a")
        lock.cancel()  # nobody waits; the next acquisition is not harmed
        async with Lock(one, "/a"), trio.open_nursery() as nursery:
            nursery.start_soon(wait, lock)
            await settle()
            lock.cancel()
        assert ended == ["cancelled"]
        await at_rest(other)
        assert tree(ensemble) == {"/a"}
        assert await lock.acquire()
        lock.cancel()
        assert lock.is_acquired


# One object, several tasks --------------------------------------------------------------------------------------------


async def test_tasks_that_share_an_object_take_turns(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    inside = 0
    served: list[int] = []

    async def contend(lock: Lock, number: int) -> None:
        nonlocal inside
        async with lock:
            inside += 1
            assert inside == 1
            served.append(number)
            await pass_time(0.1)
            inside -= 1

    async with ensemble.open() as zk:
        lock = Lock(zk, "/a")
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(contend, lock, number)
                await settle()
            assert len(tree(ensemble)) == 2, "one object, one contender"
        assert served == list(range(20))


async def test_an_object_that_another_task_has_is_refused_as_kazoo_does(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as zk:
        lock = Lock(zk, "/a")
        await lock.acquire()
        start = trio.current_time()
        assert await lock.acquire(blocking=False) is False
        assert await lock.acquire(timeout=2.0) is False
        assert trio.current_time() - start == 2.0
        with pytest.raises(LockTimeout):
            async with lock.hold(timeout=1.0):
                pass


async def test_a_task_does_not_wait_for_itself(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        lock = Lock(zk, "/a")
        async with lock:
            with pytest.raises(RuntimeError, match="would wait for itself"):
                async with lock:
                    pass
            assert lock.is_acquired


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_reentrant(ensemble: MemoryEnsemble, autojump_clock: MockClock, layout: Any) -> None:
    async with ensemble.open() as zk:
        lock = Lock(zk, "/a", layout=layout, reentrant=True)
        async with lock as outer:
            async with lock as inner:
                assert inner is outer
                assert await lock.acquire()
                assert await lock.release()
            assert lock.is_acquired
            async with trio.open_nursery() as nursery:
                # Another task is another owner.
                with trio.move_on_after(1):
                    nursery.start_soon(lock.acquire)
                    await trio.sleep_forever()
                assert len(tree(ensemble)) == 2
                nursery.cancel_scope.cancel()
        assert not now(lock.is_acquired)
        assert await lock.acquire()
        assert await lock.acquire()
        assert await lock.release()
        assert lock.is_acquired
        assert await lock.release()
        assert not now(lock.is_acquired)


async def test_a_lock_lost_without_a_scope_can_be_acquired_again(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as zk:
        lock = Lock(zk, "/a")
        await lock.acquire()
        ensemble.expire(zk.session_id)
        await pass_time(1)
        assert not now(lock.is_acquired)
        assert lock.held is not None
        assert lock.held.is_lost
        with trio.fail_after(1):
            assert await lock.acquire()
        assert lock.is_acquired
        assert await lock.release()
        assert holdings(zk).proof_holders == 0


async def test_a_lock_released_inside_its_block_ends_the_block(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as zk:
        lock = Lock(zk, "/a")
        with pytest.raises(OwnershipLost, match="it was given up"):
            async with lock:
                assert await lock.release()
                await trio.sleep_forever()
        # The block has cancelled the release that ended it, so the znode goes in the background.
        await at_rest(zk)
        assert await lock.acquire(blocking=False)


async def test_a_reentrant_lock_that_was_lost_is_not_acquired_once_more(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as zk:
        lock = Lock(zk, "/l", reentrant=True)
        assert await lock.acquire()
        assert await lock.acquire()
        assert lock.held is not None
        ensemble.realm.delete(lock.held.znode)
        await settle()
        assert await lock.release() is False, "not any more"
        assert await lock.acquire(), "a new one"
        assert lock.is_acquired
        assert await lock.release() is True
        assert await lock.release() is False
        assert tree(ensemble) == {"/l"}


async def test_a_block_in_a_lost_block_is_refused(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    """Where a shield lets the body go on. It must neither wait for itself nor run as if it owned."""
    async with ensemble.open() as zk:
        lock = Lock(zk, "/l", reentrant=True)
        with pytest.raises(OwnershipLost):
            async with lock as held:
                ensemble.realm.delete(held.znode)
                with trio.CancelScope(shield=True):
                    await settle()
                    with pytest.raises(OwnershipLost):
                        await lock.acquire()
                    async with lock:
                        pytest.fail("owned by nobody")


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_a_block_of_a_lock_that_was_acquired_without_one_ends_with_it(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, layout: Any
) -> None:
    async with ensemble.open() as zk:
        lock = Lock(zk, "/l", reentrant=True, layout=layout)
        assert await lock.acquire()
        with trio.fail_after(60), pytest.raises(OwnershipLost):
            async with lock as held:
                ensemble.realm.delete(held.znode)
                await trio.sleep_forever()
        assert await lock.release() is False
        assert await lock.acquire()
        assert await lock.release()


@pytest.mark.parametrize("inner", ["block", "hold", "acquire"])
@pytest.mark.parametrize("outer", ["block", "hold"])
async def test_a_task_waits_for_itself_in_no_way(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, outer: str, inner: str
) -> None:
    async with ensemble.open() as zk:
        lock = Lock(zk, "/l")
        with trio.fail_after(60):
            async with lock if outer == "block" else lock.hold():
                with pytest.raises(RuntimeError, match="would wait for itself"):
                    if inner == "acquire":
                        await lock.acquire()
                    else:
                        async with lock if inner == "block" else lock.hold():
                            pass
                assert not await lock.acquire(blocking=False)
                assert lock.is_acquired
        assert await lock.acquire(blocking=False)


async def test_who_comes_in_while_another_is_on_its_way_out_ends_its_own_block(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    log: list[str] = []

    async def give_up_inside(lock: Lock) -> None:
        with pytest.raises(OwnershipLost):
            async with lock:
                with trio.CancelScope(shield=True):
                    await lock.release()
                    await trio.sleep(3)
                log.append("out")

    async def come_in(lock: Lock) -> None:
        async with lock as held:
            log.append("in")
            await trio.sleep(10)
            held.check()
            log.append("done")

    async with ensemble.open() as zk:
        lock = Lock(zk, "/l")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(give_up_inside, lock)
            await trio.sleep(1)
            nursery.start_soon(come_in, lock)
        assert log == ["in", "out", "done"]
        assert await lock.acquire(blocking=False)


@pytest.mark.parametrize("limit", [0, -1, -0.5])
async def test_no_time_to_wait_is_one_attempt(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, limit: float
) -> None:
    async with ensemble.open() as one, ensemble.open() as other:
        async with Lock(one, "/l").hold(limit):
            with pytest.raises(LockTimeout):
                await Lock(other, "/l").acquire(timeout=limit)
        assert await Lock(other, "/l").acquire(timeout=limit) is True


@pytest.mark.parametrize(("limit", "error"), [("5", TypeError), (float("nan"), ValueError)])
async def test_what_is_no_time_is_refused(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, limit: Any, error: type[Exception]
) -> None:
    async with ensemble.open() as zk:
        with pytest.raises(error, match="timeout must be a number of seconds or None"):
            await Lock(zk, "/l").acquire(timeout=limit)
        with pytest.raises(error, match="timeout must be a number of seconds or None"):
            async with Lock(zk, "/l").hold(limit):
                pass
        assert tree(ensemble) == set()


async def test_a_cancel_in_the_moment_of_another_is_not_kept(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    """Cancelled by `cancel()` and from outside in one moment: it is the latter, and the object remembers nothing."""
    async with ensemble.open() as one, ensemble.open() as other:
        lock = Lock(other, "/l")
        async with Lock(one, "/l"):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lock.acquire)
                await settle()
                nursery.cancel_scope.cancel()
                lock.cancel()
            assert not lock._cancelled  # pyright: ignore[reportPrivateUsage]
        assert await lock.acquire(blocking=False)
