"""Known faults of kazoo's and Curator's locks and elections, each shown to be absent here. What each of them does wrong
stands in the docstrings.
"""

# ruff: noqa: PT012 - what leaves a block is what is tested here
from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from terzetto.client import CancelledError, KazooState, LockTimeout
from terzetto.client.wire import Opcode
from terzetto.recipes import Election, LeaderLatch, Lock, OwnershipLost, ReadLock, Semaphore, WriteLock
from tests.client.holdings import holdings
from tests.client.memory_server import Door, MemoryEnsemble, pass_time, settle, until
from tests.client.server_link import Fault, nth

from .truth import now
from .walking import at_rest, tree


async def test_a_lock_is_not_lost_silently(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    """kazoo and Curator: after an expired session the former owner still says that it owns, and so does the next."""
    async with ensemble.open() as one, ensemble.open() as other:
        former, semaphore = Lock(one, "/a"), Semaphore(one, "/s")
        await former.acquire()
        await semaphore.acquire()
        ensemble.expire(one.session_id)
        async with Lock(other, "/a"):
            assert not now(former.is_acquired)
            assert not now(semaphore.is_acquired)
            assert await former.release() is False
            assert await semaphore.release() is False


async def test_an_owner_that_never_asks_is_stopped(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    """kazoo and Curator: the owner must look at the states of its connection itself."""
    async with ensemble.open() as zk:
        with pytest.raises(OwnershipLost):
            async with Lock(zk, "/a"):
                ensemble.expire(zk.session_id)
                await trio.sleep_forever()


async def test_there_is_a_fencing_token_that_survives_the_parent(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    """kazoo: none. Curator's users take the sequence number, which starts anew when the parent was reaped."""
    tokens: list[int] = []
    async with ensemble.open() as zk:
        for _ in range(3):
            async with Lock(zk, "/a", layout="curator") as held:
                assert held.znode.endswith("0000000000")
                tokens.append(held.fencing_token or 0)
            ensemble.realm.delete("/a")
    assert tokens == sorted(set(tokens))


async def test_a_timeout_is_not_armed_again_by_each_wake_up(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    """kazoo: predecessors that come and go stretch one second to more than three."""

    async def wait_a_little(number: int) -> None:
        async with ensemble.open() as zk:
            with trio.move_on_after(0.3 * (number + 1)):
                await Lock(zk, "/a").acquire()
            await at_rest(zk)

    async with ensemble.open() as one, ensemble.open() as other, trio.open_nursery() as nursery:
        async with Lock(one, "/a"):
            for number in range(10):
                nursery.start_soon(wait_a_little, number)
                await settle()
            start = trio.current_time()
            with pytest.raises(LockTimeout):
                await Lock(other, "/a").acquire(timeout=1.0)
            assert trio.current_time() - start == pytest.approx(1.0)


async def test_an_interrupted_acquire_leaves_no_contender(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    """kazoo: anything but its own exceptions leaves the znode, and everybody behind it waits for ever."""
    async with ensemble.open() as one, ensemble.open() as other:
        async with Lock(one, "/a"):
            with trio.move_on_after(1):
                await Lock(other, "/a").acquire()
            await at_rest(other)
            assert len(tree(ensemble)) == 2
        with trio.fail_after(1):
            async with Lock(other, "/a"):
                pass


async def test_cancel_before_anybody_waits_does_no_harm_later(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    """kazoo: the next acquire raises CancelledError, and the next run of an election returns at once."""
    async with ensemble.open() as zk:
        lock, election = Lock(zk, "/a"), Election(zk, "/e")
        lock.cancel()
        election.cancel()
        try:
            assert await lock.acquire()
        except CancelledError:
            pytest.fail("cancelled by a call long ago")
        assert await election.run(lambda: "led") == "led"


async def test_a_semaphore_leaves_no_listener(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    """kazoo: each leaves one for as long as the session lives."""
    async with ensemble.open() as zk:
        before = await at_rest(zk)
        for number in range(10):
            async with Semaphore(zk, f"/s{number}", on_suspend="cancel"):
                assert holdings(zk).listeners == before.listeners + 1
        assert await at_rest(zk) == before


async def test_waiters_hear_of_a_release_during_a_reconnect(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    """kazoo: watches do not survive a lost connection; its lock reads again for that, its barriers and queues hang."""
    async with ensemble.open() as one, ensemble.open() as other, trio.open_nursery() as nursery:
        waiting = Lock(other, "/a")
        owner = Lock(one, "/a")
        await owner.acquire()
        nursery.start_soon(waiting.acquire)
        await settle()
        assert owner.held is not None
        ensemble.cut()
        ensemble.realm.delete(owner.held.znode)
        await until(lambda: waiting.is_acquired)


async def test_a_create_whose_reply_is_lost_leaves_one_contender(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    """Curator without protection: two znodes, and the first is waited for by the second, for ever."""
    async with ensemble.open() as zk:
        await zk.create("/a")
        ensemble.rules.append(nth(1, Opcode.CREATE2, Fault.DO_AND_CUT))
        with trio.fail_after(5):
            async with Lock(zk, "/a") as held:
                assert tree(ensemble) == {"/a", held.znode}


async def test_a_znode_of_an_earlier_session_makes_nobody_a_leader(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    """Curator up to 5.7: a latch whose znode belongs to a dying session leads, and so does the next (CURATOR-696)."""
    async with ensemble.open(give_up_after=1.0) as zk, LeaderLatch(zk, "/l") as latch:
        first = await latch.wait_leadership()
        ensemble.shut(Door.REFUSES)
        ensemble.cut()
        await until(lambda: zk.state == KazooState.LOST)
        assert not now(latch.has_leadership)
        ensemble.shut(Door.OPEN)
        await until(lambda: zk.connected)
        await pass_time(1)
        # The servers still have the old session, and its znode stands first.
        assert first.znode in tree(ensemble)
        assert not now(latch.has_leadership)


async def test_a_latch_keeps_its_znode_over_a_reconnect(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    """Curator up to 5.3: every reconnect deletes and creates, and candidates chase each other (CURATOR-644, -645)."""
    async with ensemble.open() as zk, LeaderLatch(zk, "/l") as latch:
        held = await latch.wait_leadership()
        for _ in range(3):
            ensemble.cut()
            await until(lambda: not zk.connected)
            await until(lambda: zk.connected)
        assert latch.held is held


async def test_a_downgrade_lets_no_waiting_writer_in(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    """Curator up to 5.4: it does, and both hold (CURATOR-621)."""
    async with ensemble.open() as one, ensemble.open() as other, trio.open_nursery() as nursery:
        waiting = WriteLock(other, "/a", layout="curator")
        async with WriteLock(one, "/a", layout="curator") as held:
            nursery.start_soon(waiting.acquire)
            await settle()
            await held.downgrade()
            await pass_time(10)
            assert not now(waiting.is_acquired)
            assert not held.is_lost
        await settle()
        assert waiting.is_acquired


async def test_a_reader_that_leaves_wakes_no_one_it_need_not(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, told: list[str]
) -> None:
    """Herds: only the nearest blocker is watched, so a reader's end concerns nobody while a writer stands between."""
    async with ensemble.open() as zk, trio.open_nursery() as nursery:
        reader = ReadLock(zk, "/a")
        await reader.acquire()
        writers = [WriteLock(zk, "/a") for _ in range(10)]
        for writer in writers:
            nursery.start_soon(writer.acquire)
            await settle()
        told.clear()
        await reader.release()
        await settle()
        assert len(set(told)) == 1
        assert [writer.is_acquired for writer in writers] == [True] + [False] * 9
        nursery.cancel_scope.cancel()
