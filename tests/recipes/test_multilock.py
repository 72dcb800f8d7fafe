"""Several locks as one: all or none, in one order, lost together."""

# ruff: noqa: PT012 - what leaves a block is what is tested here
from __future__ import annotations

from collections.abc import Iterable

import pytest
import trio
from trio.testing import MockClock

from terzetto.client import ConnectionLoss, LockTimeout, ZooKeeper
from terzetto.recipes import Lock, MultiLock, OwnershipLost, Semaphore
from tests.client.memory_server import MemoryEnsemble, pass_time, settle

from .losing import losses
from .truth import now
from .walking import at_rest, tree, walk


def locks(zk: ZooKeeper, paths: Iterable[str]) -> list[Lock]:
    return [Lock(zk, path) for path in paths]


async def test_all_are_owned_and_all_are_released(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        multi = MultiLock([*locks(zk, ["/b", "/a"]), Semaphore(zk, "/c", max_leases=2)])
        async with multi as held:
            assert multi.is_acquired
            assert [part.path for part in held.parts] == ["/a", "/b", "/c"]
            tokens = held.fencing_tokens
            assert tokens["/a"] is not None
            assert tokens["/b"] is not None
            assert tokens["/c"] is None
            for path in ("/a", "/b"):
                assert not await Lock(zk, path).acquire(blocking=False)
            held.check()
            await held.assert_owned()
            assert not now(held.is_lost)
        assert not now(multi.is_acquired)
        for path in ("/a", "/b"):
            assert await Lock(zk, path).acquire(blocking=False)


async def test_two_who_want_the_same_in_another_order_never_wait_for_each_other(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    turns = 0

    async def contend(paths: Iterable[str]) -> None:
        nonlocal turns
        async with ensemble.open() as zk:
            for _ in range(5):
                async with MultiLock(locks(zk, paths)):
                    await pass_time(0.1)
                    turns += 1

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(contend, ["/a", "/b", "/c"])
            nursery.start_soon(contend, ["/c", "/b", "/a"])
    assert turns == 10


async def test_all_or_none(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as one, ensemble.open() as other:
        multi = MultiLock(locks(other, ["/a", "/b", "/c"]))
        async with Lock(one, "/c"):
            assert await multi.acquire(blocking=False) is False
            start = trio.current_time()
            with pytest.raises(LockTimeout):
                await multi.acquire(timeout=2.0)
            with pytest.raises(LockTimeout):
                async with multi.hold(timeout=2.0):
                    pass
            # One limit for all of them together.
            assert trio.current_time() - start == pytest.approx(4.0)
            await at_rest(other)
            assert len(tree(ensemble)) == 4
            assert not any(lock.is_acquired for lock in multi.locks)
        assert await multi.acquire(timeout=0) is True
        assert multi.is_acquired
        assert await multi.release() is True
        assert await multi.release() is False


async def test_one_lost_is_all_lost(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        for index in range(3):
            with pytest.raises(OwnershipLost) as lost:
                async with MultiLock(locks(zk, ["/a", "/b", "/c"])) as held:
                    ensemble.realm.delete(held.parts[index].znode)
                    await settle()
                    assert held.is_lost
                    with pytest.raises(OwnershipLost):
                        held.check()
                    with trio.CancelScope(shield=True), pytest.raises(OwnershipLost):
                        async with held.transaction() as t:
                            t.create("/x")
                    await trio.sleep_forever()
            assert lost.value.path == ("/a", "/b", "/c")[index]
            await at_rest(zk)
            assert tree(ensemble) == {"/a", "/b", "/c"}


async def test_a_guarded_write_needs_all(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk, MultiLock(locks(zk, ["/a", "/b"])) as held:
        async with held.transaction() as t:
            t.create("/x")
            t.create("/y")
        assert t.results == ["/x", "/y"]


async def test_nothing_is_no_lock() -> None:
    with pytest.raises(ValueError, match="at least one"):
        MultiLock([])


async def _scope(zk: ZooKeeper) -> None:
    async with MultiLock(locks(zk, ["/a", "/b"])):
        await trio.lowlevel.checkpoint()


async def _acquired(zk: ZooKeeper) -> None:
    multi = MultiLock(locks(zk, ["/a", "/b"]))
    try:
        await multi.acquire()
    finally:
        with trio.move_on_after(1, shield=True):
            await multi.release()


@pytest.mark.parametrize("work", [_scope, _acquired])
async def test_cancelled_at_each_checkpoint_it_leaves_nothing(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, work: object
) -> None:
    await walk(ensemble, work, leaves={"/a", "/b"}, raises=(OwnershipLost, ConnectionLoss))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def test_a_lost_request_or_reply_leaves_nothing(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async for loss in losses(ensemble):
        with trio.fail_after(30):
            async with ensemble.open() as zk:
                await _scope(zk)
                await at_rest(zk)
                assert tree(ensemble) == {"/a", "/b"}, str(loss)


@pytest.mark.parametrize("way", ["acquire", "hold"])
async def test_what_is_lost_while_another_is_waited_for_is_acquired_again(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, way: str
) -> None:
    async with ensemble.open() as one, ensemble.open() as zk:
        multi = MultiLock(locks(zk, ["/a", "/b"]))
        other = Lock(one, "/b")
        await other.acquire()

        async def lose_the_first() -> None:
            await pass_time(2)
            (first,) = (path for path in tree(ensemble) if path.startswith("/a/"))
            ensemble.realm.delete(first)
            await pass_time(2)
            ensemble.expire(zk.session_id)
            await pass_time(2)
            await other.release()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(lose_the_first)
            with trio.fail_after(60):
                if way == "acquire":
                    assert await multi.acquire()
                    assert multi.is_acquired
                    assert await multi.release()
                else:
                    async with multi as held:
                        assert multi.is_acquired
                        await held.assert_owned()
        await at_rest(zk)
        assert tree(ensemble) == {"/a", "/b"}


@pytest.mark.parametrize("way", ["acquire", "hold"])
async def test_the_limit_holds_for_that_too(ensemble: MemoryEnsemble, autojump_clock: MockClock, way: str) -> None:
    async with ensemble.open() as one, ensemble.open() as zk:
        multi = MultiLock(locks(zk, ["/a", "/b"]))
        async with Lock(one, "/b"), trio.open_nursery() as nursery:

            async def keep_losing() -> None:
                while True:
                    await pass_time(1)
                    ensemble.expire(zk.session_id)

            nursery.start_soon(keep_losing)
            start = trio.current_time()
            with pytest.raises(LockTimeout):
                if way == "acquire":
                    await multi.acquire(timeout=4.5)
                else:
                    async with multi.hold(timeout=4.5):
                        pass
            assert trio.current_time() - start == pytest.approx(4.5)
            nursery.cancel_scope.cancel()
        await at_rest(zk)
        assert tree(ensemble) == {"/a", "/b"}


async def test_one_object_serves_a_second_task_while_the_first_is_on_its_way_out(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    log: list[str] = []

    async def lose(multi: MultiLock) -> None:
        with pytest.raises(OwnershipLost):
            async with multi:
                try:
                    await trio.sleep_forever()
                finally:
                    with trio.CancelScope(shield=True):
                        await trio.sleep(3)
                    log.append("out")

    async def come_in(multi: MultiLock) -> None:
        async with multi as held:
            log.append("in")
            await trio.sleep(10)
            held.check()
            log.append("done")

    async with ensemble.open() as zk:
        multi = MultiLock(locks(zk, ["/a", "/b"]))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lose, multi)
            await pass_time(1)
            ensemble.expire(zk.session_id)
            await pass_time(1)
            nursery.start_soon(come_in, multi)
        assert log == ["out", "in", "done"]


async def test_what_would_wait_for_itself_is_refused(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk, ensemble.open() as other:
        lock = Lock(zk, "/a")
        for given in ([lock, lock], [Lock(zk, "/a"), Lock(other, "/a"), Lock(zk, "/b"), Semaphore(zk, "/a")]):
            with pytest.raises(ValueError, match="/a is there twice"):
                MultiLock(given)
        assert MultiLock([lock, Lock(other, "/a")]).locks[0] is lock
        with pytest.raises(TypeError, match="a MultiLock is made of locks, not of '/a'"):
            MultiLock(["/a"])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]


async def test_a_reentrant_part_that_the_task_has_lost_is_not_waited_for(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as zk:
        reentrant = Lock(zk, "/b", reentrant=True)
        with pytest.raises(OwnershipLost):
            async with reentrant as held:
                ensemble.realm.delete(held.znode)
                with trio.CancelScope(shield=True), trio.fail_after(60):
                    await settle()
                    multi = MultiLock([Lock(zk, "/a"), reentrant])
                    with pytest.raises(OwnershipLost):
                        await multi.acquire()
                    with pytest.raises(OwnershipLost):
                        async with multi:
                            pytest.fail("owned by nobody")
        await at_rest(zk)
        assert tree(ensemble) == {"/a", "/b"}
