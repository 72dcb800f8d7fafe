"""Shared numbers in Curator's layout: each change once, in order where there are many."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from terzetto.client import ZooKeeper
from terzetto.client.wire import Opcode
from terzetto.recipes import AtomicChange, AtomicLong
from tests.client.memory_server import Door, MemoryEnsemble, pass_time, until
from tests.client.server_link import Fault, Received

from .losing import losses
from .walking import at_rest, tree, walk


async def test_it_counts_in_curator_s_eight_bytes(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        number = AtomicLong(zk, "/n/m")
        assert await number.get() == 0
        assert tree(ensemble) == set()
        assert await number.add(2**32 + 1) == AtomicChange(0, 2**32 + 1)
        assert (await zk.get("/n/m"))[0] == bytes.fromhex("0000000100000001")
        assert await number.set(-3) == AtomicChange(2**32 + 1, -3)
        assert (await zk.get("/n/m"))[0] == bytes.fromhex("fffffffffffffffd")
        assert (await number.increment()).post_value == -2
        assert (await number.decrement()).post_value == -3
        assert (await number.subtract(-5)).post_value == 2
        assert (await number.update(lambda before: before * 10)).post_value == 20
        await at_rest(zk)
        assert tree(ensemble) == {"/n", "/n/m"}


async def test_compare_and_set_and_initialize(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        number = AtomicLong(zk, "/n/m")
        assert await number.compare_and_set(0, 5) is False, "there is no znode"
        assert await number.initialize(7) is True
        assert await number.initialize(8) is False
        assert await number.compare_and_set(0, 5) is False
        assert await number.compare_and_set(7, 5) is True
        assert await number.get() == 5


async def test_what_does_not_fit(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        number = AtomicLong(zk, "/n")
        await number.set(2**63 - 1)
        with pytest.raises(OverflowError):
            await number.increment()
        assert await number.get() == 2**63 - 1
        ensemble.realm.set("/n", b"")
        assert await number.get() == 0
        ensemble.realm.set("/n", b"\0" * 7 + b"\x05more")
        assert await number.get() == 5
        ensemble.realm.set("/n", b"short")
        with pytest.raises(ValueError, match="shorter"):
            await number.get()
        with pytest.raises(ValueError, match="attempts"):
            AtomicLong(zk, "/n", attempts=-1)


async def test_many_at_once_are_promoted_to_the_lock(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    changes: list[AtomicChange] = []

    async def add(zk: ZooKeeper) -> None:
        number = AtomicLong(zk, "/n", "/n-lock", attempts=1)
        for _ in range(3):
            changes.append(await number.add(1))

    async with ensemble.open() as zk, ensemble.open() as other:
        ensemble.latency = 0.01
        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(add, zk if number % 2 else other)
        assert sorted(change.post_value for change in changes) == list(range(1, 25))
        assert {change.promoted for change in changes} == {True, False}
        await at_rest(zk)
        await at_rest(other)
        assert tree(ensemble) == {"/n", "/n-lock"}


async def test_curator_29_a_writer_that_takes_no_lock_is_not_overwritten(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    left = [1, 2, 3]

    def write_first(request: Received) -> None:
        if request.opcode == Opcode.MULTI and len(request.record) == 2 and left:
            ensemble.realm.set("/n", left.pop().to_bytes(8, "big"))

    async with ensemble.open() as zk:
        await AtomicLong(zk, "/n").initialize(0)
        ensemble.rules.append(write_first)
        change = await AtomicLong(zk, "/n", "/lock", attempts=0).add(10)
        assert change == AtomicChange(1, 11, promoted=True)
        left[:] = [5]
        assert await AtomicLong(zk, "/n").compare_and_set(11, 12) is False


async def test_curator_31_each_change_is_made_once(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async for loss in losses(ensemble):
        with trio.fail_after(30):
            async with ensemble.open() as zk:
                number = AtomicLong(zk, "/n")
                assert await number.initialize(5) is True, str(loss)
                assert await number.increment() == AtomicChange(5, 6), str(loss)
                assert await number.compare_and_set(6, 7) is True, str(loss)
                await at_rest(zk)
                assert tree(ensemble) == {"/n"}, str(loss)
                assert await number.get() == 7, str(loss)


async def _use(zk: ZooKeeper) -> None:
    await AtomicLong(zk, "/n").add(1)
    await AtomicLong(zk, "/n", "/lock", attempts=0).add(1)


async def test_cancelled_at_each_checkpoint_it_leaves_its_znode_at_most(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    await walk(ensemble, _use, leaves={"/n", "/lock"})


async def test_a_promoted_change_is_made_once_also_where_its_lock_is_lost_on_the_way(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    lost: list[Received] = []

    def lose(request: Received) -> Fault | None:
        if request.opcode != Opcode.MULTI or lost:
            return None
        lost.append(request)
        ensemble.shut(Door.REFUSES)
        return Fault.DO_AND_CUT

    async with ensemble.open(session_timeout=12.0) as zk:
        number = AtomicLong(zk, "/n", "/n-lock", attempts=0)
        await number.set(1)
        ensemble.rules.append(lose)
        changes: list[AtomicChange] = []

        async def increment() -> None:
            changes.append(await number.increment())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(increment)
            await until(lambda: lost)
            # Longer than the lock can be proved to be ours, and not as long as the session lives.
            await pass_time(8)
            ensemble.shut(Door.OPEN)
        assert changes == [AtomicChange(1, 2, promoted=True)]
        assert await number.get() == 2
        await at_rest(zk)
        assert tree(ensemble) == {"/n", "/n-lock"}


async def test_what_is_no_int_is_told(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        number: AtomicLong = AtomicLong(zk, "/n")
        for wrong in (1.5, "2"):
            with pytest.raises(TypeError, match=rf"the value of /n must be an int, not {wrong!r}"):
                await number.set(wrong)  # type: ignore[arg-type]
