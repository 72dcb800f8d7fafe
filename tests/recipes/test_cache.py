"""Caches of trees: ZnodeCache, and TreeCache with kazoo's events."""

# ruff: noqa: PT012 - what leaves a block is what is tested here
from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from terzetto.client import Resync, SessionExpiredError, ZooKeeper
from terzetto.recipes import ChangeKind, NodeData, TreeCache, TreeEvent, ZnodeCache
from tests.client.memory_server import Door, MemoryEnsemble, pass_time, settle, until

from .losing import losses
from .walking import tree, walk


class ListenerError(Exception):
    pass


def plant(ensemble: MemoryEnsemble, *paths: str) -> None:
    for path in paths:
        ensemble.realm.create(path, path.encode())


# ZnodeCache -----------------------------------------------------------------------------------------------------------


async def test_a_cache_follows(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    plant(ensemble, "/c", "/c/a")
    async with ensemble.open() as zk:
        async with ZnodeCache(zk, "/c") as cache:
            assert set(cache.znodes) == {"/c", "/c/a"}
            assert cache.get("/c/none") is None
            found = cache.get("/c/a")
            assert found is not None
            assert (found.data, found.stat.version) == (b"/c/a", 0)
            assert cache.children("/c") == {"a"}
            assert cache.age == 0.0
            changes = cache.changes()
            plant(ensemble, "/c/b")
            ensemble.realm.set("/c/a", b"new")
            ensemble.realm.delete("/c/b")
            # What came and went before anybody looked is not shown.
            item = await anext(changes)
            assert not isinstance(item, Resync)
            assert (item.kind, item.znode.path, item.znode.data) == (ChangeKind.UPDATED, "/c/a", b"new")
            await settle()
            assert cache.children("/c") == {"a"}
        with pytest.raises(StopAsyncIteration):
            await anext(changes)


async def test_the_depth_is_bounded(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    plant(ensemble, "/c", "/c/a", "/c/a/b")
    async with ensemble.open() as zk:
        async with ZnodeCache(zk, "/c", depth=1) as cache:
            assert set(cache.znodes) == {"/c", "/c/a"}
        with pytest.raises(ValueError, match="depth"):
            ZnodeCache(zk, "/c", depth=-1)


async def test_a_slow_reader_is_told_what_it_missed(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk, ZnodeCache(zk, "/c") as cache:
        slow, fast = cache.changes(max_buffered=2), cache.changes()
        plant(ensemble, "/c", *(f"/c/{number}" for number in range(5)))
        await settle()
        assert [isinstance(await anext(slow), Resync) for _ in range(2)] == [False, False]
        assert await anext(slow) == Resync(dropped=4)
        assert [(await anext(fast))[0] for _ in range(6)] == [ChangeKind.ADDED] * 6
        with pytest.raises(ValueError, match="max_buffered"):
            cache.changes(0)


async def test_a_reader_waits_for_the_next_change(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    seen: list[Any] = []
    async with ensemble.open() as zk, trio.open_nursery() as nursery:
        async with ZnodeCache(zk, "/c") as cache:

            async def read() -> None:
                async for item in cache.changes():
                    seen.append(item)

            nursery.start_soon(read)
            for path in ("/c", "/c/a"):
                await settle()
                plant(ensemble, path)
            await settle()
        # The end of the block ended the iteration, and the nursery waits for it.
    assert [item.znode.path for item in seen] == ["/c", "/c/a"]


async def test_the_end_of_the_client_ends_the_block(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open(renew_session=False) as zk:
        with pytest.raises(SessionExpiredError):
            async with ZnodeCache(zk, "/c"):
                ensemble.expire(zk.session_id)
                await trio.sleep_forever()


async def test_it_answers_without_a_connection(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    plant(ensemble, "/c")
    async with ensemble.open() as zk:
        cache = ZnodeCache(zk, "/c")
        assert cache.age == float("inf")
        async with cache:
            ensemble.shut(Door.REFUSES)
            ensemble.cut()
            await until(lambda: not zk.connected)
            await pass_time(10)
            assert cache.get("/c") is not None
            assert cache.age == pytest.approx(10, abs=0.1)
            ensemble.shut(Door.OPEN)


# TreeCache ------------------------------------------------------------------------------------------------------------


async def test_kazoos_events(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    plant(ensemble, "/c", "/c/a", "/cx")
    events: list[tuple[int, str | None]] = []
    async with ensemble.open() as zk:
        cache = TreeCache(zk, "/c")

        @cache.listen
        def listen(event: TreeEvent) -> None:
            events.append((event.event_type, event.event_data and event.event_data.path))

        async with cache:
            assert events == [
                (TreeEvent.NODE_ADDED, "/c"),
                (TreeEvent.NODE_ADDED, "/c/a"),
                (TreeEvent.INITIALIZED, None),
            ]
            data = cache.get_data("/c/a")
            assert isinstance(data, NodeData)
            assert data.data == b"/c/a"
            assert cache.get_data("/c/none", 1) == 1
            assert cache.get_children("/c") == frozenset({"a"})
            assert cache.get_children("/c/none", 1) == 1
            for path in ("/cx", "/", "/other"):
                with pytest.raises(ValueError, match="not in the tree"):
                    cache.get_data(path)
                with pytest.raises(ValueError, match="not in the tree"):
                    cache.get_children(path)
            events.clear()
            ensemble.realm.set("/c/a", b"new")
            await settle()
            ensemble.realm.delete("/c/a")
            await settle()
            assert events == [(TreeEvent.NODE_UPDATED, "/c/a"), (TreeEvent.NODE_REMOVED, "/c/a")]
            events.clear()
            ensemble.cut()
            await until(lambda: len(events) == 2)
            ensemble.expire(zk.session_id)
            await until(lambda: events[-1] == (TreeEvent.CONNECTION_RECONNECTED, None) and len(events) > 3)
            assert (TreeEvent.CONNECTION_SUSPENDED, None) in events
            assert (TreeEvent.CONNECTION_LOST, None) in events
    assert TreeEvent(1, None) == (1, None)


async def test_the_root_is_made(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk, TreeCache(zk, "/x/y") as cache:
        assert cache.get_children("/x/y") == frozenset()
        assert tree(ensemble) == {"/x", "/x/y"}


async def test_kazoo_16_what_a_listener_raises_is_somebodys_business(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    error = ListenerError("own")

    def listener(event: TreeEvent) -> None:
        if event.event_type == TreeEvent.NODE_UPDATED:
            raise error

    async with ensemble.open() as zk:
        faults: list[Exception] = []
        cache = TreeCache(zk, "/c")
        cache.listen(listener)
        cache.listen_fault(faults.append)
        async with cache:
            ensemble.realm.set("/c", b"new")
            await settle()
            assert faults == [error]
        alone = TreeCache(zk, "/c")
        alone.listen(listener)
        with pytest.raises(ListenerError) as caught:
            async with alone:
                ensemble.realm.set("/c", b"newer")
                await trio.sleep_forever()
        assert caught.value is error


# Interruptions --------------------------------------------------------------------------------------------------------


async def _cache_znodes(zk: ZooKeeper) -> None:
    async with ZnodeCache(zk, "/c"):
        await pass_time(1)


async def _cache_tree(zk: ZooKeeper) -> None:
    async with TreeCache(zk, "/c"):
        await pass_time(1)


@pytest.mark.parametrize("work", [_cache_znodes, _cache_tree])
async def test_cancelled_anywhere_nothing_stays(ensemble: MemoryEnsemble, autojump_clock: MockClock, work: Any) -> None:
    assert await walk(ensemble, work, leaves={"/c"}) > 2


async def test_whatever_is_lost_both_follow(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async for loss in losses(ensemble):
        async with ensemble.open() as zk, TreeCache(zk, "/c") as tree_cache, ZnodeCache(zk, "/c") as cache:
            plant(ensemble, "/c/a")
            ensemble.realm.set("/c/a", b"new")

            def seen(tree_cache: TreeCache = tree_cache, cache: ZnodeCache = cache) -> bool:
                one, other = tree_cache.get_data("/c/a"), cache.get("/c/a")
                return one is not None and other is not None and one.data == other.data == b"new"

            await until(seen)
            assert tree_cache.get_children("/c") == cache.children("/c") == {"a"}, loss


async def test_a_listener_that_fails_at_a_lost_connection_ends_the_block(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    def listener(event: TreeEvent) -> None:
        if event.event_type == TreeEvent.CONNECTION_SUSPENDED:
            raise ZeroDivisionError

    async with ensemble.open() as zk:
        cache = TreeCache(zk, "/c")
        cache.listen(listener)
        with trio.fail_after(60), pytest.raises(ZeroDivisionError):
            async with cache:
                ensemble.cut()
                await trio.sleep_forever()
        told: list[Exception] = []
        cache = TreeCache(zk, "/c")
        cache.listen(listener)
        cache.listen_fault(told.append)
        async with cache:
            ensemble.cut()
            await until(lambda: told)
        assert isinstance(told[0], ZeroDivisionError)


async def test_after_the_block_there_are_no_changes(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        async with ZnodeCache(zk, "/c") as cache:
            pass
        with trio.fail_after(1):
            assert [change async for change in cache.changes()] == []
