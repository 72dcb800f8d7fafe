"""Shared numbers in kazoo's layout: each change once."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from terzetto.client import SessionExpiredError, ZooKeeper
from terzetto.recipes import Counter
from tests.client.memory_server import MemoryEnsemble

from .losing import losses
from .truth import now
from .walking import at_rest, tree, walk


async def test_it_counts_in_kazoo_s_text(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        counter = Counter(zk, "/c/d")
        assert await counter.get() == 0
        assert (await zk.get("/c/d"))[0] == b""
        assert not now(counter.pre_value is not None)
        assert await counter.add(2) == 2
        assert await counter.subtract(5) == -3
        assert (counter.pre_value, counter.post_value) == (2, -3)
        assert (await zk.get("/c/d"))[0] == b"-3"
        await at_rest(zk)
        assert tree(ensemble) == {"/c", "/c/d"}


async def test_floats_and_defaults(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        counter = Counter(zk, "/f", 1.5)
        assert await counter.get() == 1.5
        assert await counter.add(0.25) == 1.75
        assert (await zk.get("/f"))[0] == b"1.75"
        with pytest.raises(TypeError):
            await counter.add(1)
        with pytest.raises(TypeError):
            await Counter(zk, "/i").add(1.0)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        with pytest.raises(TypeError):
            Counter(zk, "/i", "0")  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
        with pytest.raises(TypeError):
            Counter(zk, "/i", 0.0, support_curator=True)
        assert (await zk.get("/f"))[0] == b"1.75"


async def test_curator_s_four_bytes(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        counter = Counter(zk, "/c", support_curator=True)
        await counter.add(42)
        assert (await zk.get("/c"))[0] == bytes.fromhex("0000002a")
        await counter.subtract(44)
        assert (await zk.get("/c"))[0] == bytes.fromhex("fffffffe")
        with pytest.raises(OverflowError):
            await counter.subtract(1 << 31)
        assert await counter.get() == -2
        with pytest.raises(ValueError, match="no number"):
            await Counter(zk, "/c").get()
        ensemble.realm.set("/c", b"5")
        with pytest.raises(ValueError, match="no number"):
            await counter.get()


async def test_many_at_once_lose_nothing(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk, ensemble.open() as other:
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(Counter(zk if number % 2 else other, "/c").add, number)
        assert await Counter(zk, "/c").get() == sum(range(20))


async def test_kazoo_14_each_change_is_made_once(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async for loss in losses(ensemble):
        with trio.fail_after(30):
            async with ensemble.open() as zk:
                counter = Counter(zk, "/c")
                assert await counter.add(1) == 1, str(loss)
                assert await counter.add(1) == 2, str(loss)
                await at_rest(zk)
                assert ensemble.realm.get("/c").data == b"2", str(loss)
                assert tree(ensemble) == {"/c"}


async def test_a_lost_session_ends_a_change_only_when_its_outcome_is_unknown(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as zk:
        counter = Counter(zk, "/c")
        for _ in range(5):
            await counter.add(1)
            ensemble.expire(zk.session_id)
        assert await counter.get() == 5
    async with ensemble.open(renew_session=False) as zk:
        ensemble.expire(zk.session_id)
        with pytest.raises(SessionExpiredError):
            await Counter(zk, "/c").add(1)


async def _count(zk: ZooKeeper) -> None:
    await Counter(zk, "/c").add(1)


async def test_cancelled_at_each_checkpoint_it_leaves_its_znode_at_most(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    await walk(ensemble, _count, leaves={"/c"})


async def test_what_is_of_another_type_is_refused_before_anything_is_asked(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as zk:
        for change in (Counter(zk, "/n").add, Counter(zk, "/n").subtract):
            with pytest.raises(TypeError, match="is no int"):
                await change(1.5)  # type: ignore[arg-type]
        assert tree(ensemble) == set()
