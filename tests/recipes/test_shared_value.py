"""Shared values: at hand, up to date, each change once."""

# ruff: noqa: PT012 - what leaves a block is what is tested here

from __future__ import annotations

from functools import partial
from operator import add

import pytest
import trio
from trio.testing import MockClock

from terzetto.client import ZooKeeper
from terzetto.recipes import SharedCount, SharedValue
from tests.client.memory_server import MemoryEnsemble, pass_time, settle, until

from .losing import losses
from .truth import now
from .walking import at_rest, tree, walk


async def test_the_value_is_at_hand_and_follows(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk, ensemble.open() as other:
        async with SharedValue(zk, "/v/w", b"seed") as shared, SharedValue(other, "/v/w", b"late") as theirs:
            assert shared.value == theirs.value == b"seed", "the first seed wins"
            await theirs.set(b"new")
            assert now(theirs.value == b"new")
            await settle()
            assert now(shared.value == b"new")
            assert shared.versioned.version == 1
        await at_rest(zk)
        await at_rest(other)
        assert tree(ensemble) == {"/v", "/v/w"}
        with pytest.raises(RuntimeError, match="block"):
            _ = SharedValue(zk, "/v/w", b"").value


async def test_changes_are_seen_across_sessions(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    seen: list[int] = []

    async def see(shared: SharedCount) -> None:
        async for value in shared.changes():
            seen.append(value)

    async with ensemble.open() as zk, SharedCount(zk, "/v", 3) as shared, trio.open_nursery() as nursery:
        nursery.start_soon(see, shared)
        await settle()
        ensemble.realm.set("/v", bytes.fromhex("fffffffe"))
        await settle()
        ensemble.expire(zk.session_id)
        ensemble.realm.set("/v", bytes.fromhex("00000007"))
        await pass_time(10)
        ensemble.realm.delete("/v")
        await pass_time(1)
        assert seen == [3, -2, 7, 3], "made anew, with the seed"
        nursery.cancel_scope.cancel()


async def test_try_set_compares(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        count = SharedCount(zk, "/v", 1)
        first = await count.get()
        assert await count.try_set(first, 2) is True
        assert await count.try_set(first, 3) is False
        second = await count.get()
        assert second.value == 2
        ensemble.realm.delete("/v")
        assert await count.try_set(second, 4) is False
        assert await count.update(lambda value: value + 41) == 42
        assert (await zk.get("/v"))[0] == bytes.fromhex("0000002a")
        ensemble.realm.delete("/v")
        await count.set(5)
        assert (await count.get()).value == 5


async def test_what_is_no_number(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        with pytest.raises(OverflowError):
            SharedCount(zk, "/v", 1 << 31)
        await SharedCount(zk, "/v").set(1)
        ensemble.realm.set("/v", b"12345")
        with pytest.raises(ValueError, match="int32"):
            await SharedCount(zk, "/v").get()
        with pytest.raises(ValueError, match="int32"):
            async with SharedCount(zk, "/v"):
                pass


async def test_a_value_that_stops_being_one_ends_the_block(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        with pytest.raises(ValueError, match="int32"):
            async with SharedCount(zk, "/v"):
                ensemble.realm.set("/v", b"12345")
                await trio.sleep_forever()


async def test_many_updates_lose_nothing(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk, SharedCount(zk, "/v") as shared:
        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(SharedCount(zk, "/v").update, partial(add, number))
        await until(lambda: shared.value == 45)


async def test_curator_31_each_change_is_made_once(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async for loss in losses(ensemble):
        with trio.fail_after(30):
            async with ensemble.open() as zk, SharedCount(zk, "/v", 1) as shared:
                assert await shared.try_set(await shared.get(), 2) is True, str(loss)
                assert await shared.update(lambda value: value + 1) == 3
                await shared.set(4)
                await at_rest(zk)
                assert tree(ensemble) == {"/v"}
                assert ensemble.realm.stat("/v").version == 3, str(loss)


async def _use(zk: ZooKeeper) -> None:
    async with SharedCount(zk, "/v", 1) as shared:
        await shared.set(2)


async def test_cancelled_at_each_checkpoint_it_leaves_its_znode_at_most(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    await walk(ensemble, _use, leaves={"/v"}, latency=0.2)


async def test_what_is_no_int_is_told(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        with pytest.raises(TypeError, match=r"the value of /n must be an int, not 1.5"):
            await SharedCount(zk, "/n").set(1.5)  # type: ignore[arg-type]


async def test_changes_end_with_the_block(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    seen: list[int] = []

    async def consume(shared: SharedCount) -> None:
        seen.extend([value async for value in shared.changes()])

    async with ensemble.open() as zk, trio.open_nursery() as nursery:
        async with SharedCount(zk, "/n", 3) as shared:
            nursery.start_soon(consume, shared)
            await settle()
    assert seen == [3]
