"""Known faults of kazoo's and Curator's recipes, each shown to be absent here. What each of them does wrong stands in
the docstrings; the numbers are those of the page `docs/recipes/known-faults.md`.
"""

# ruff: noqa: PT012 - what leaves a block is what is tested here
from __future__ import annotations

import re
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from terzetto.client import CancelledError, ConnectionClosedError, KazooState, LockTimeout, SessionExpiredError
from terzetto.client.wire import Opcode
from terzetto.recipes import (
    DoubleBarrier,
    Election,
    LeaderLatch,
    LeaderSelector,
    Lock,
    LockingQueue,
    NonBlockingLease,
    Ownership,
    OwnershipLost,
    ReadLock,
    Semaphore,
    WriteLock,
)
from tests.client.holdings import holdings
from tests.client.memory_server import Door, MemoryEnsemble, pass_time, settle, until
from tests.client.server_link import Fault, nth

from .catalogue import USES
from .truth import now
from .walking import at_rest, forget_tree, tree

ROOT = Path(__file__).parents[2]


async def test_kazoo_2_a_lock_is_not_lost_silently(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
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


async def test_curator_1_an_owner_that_never_asks_is_stopped(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    """kazoo and Curator: the owner must look at the states of its connection itself."""
    async with ensemble.open() as zk:
        with pytest.raises(OwnershipLost):
            async with Lock(zk, "/a"):
                ensemble.expire(zk.session_id)
                await trio.sleep_forever()


async def test_kazoo_3_curator_24_there_is_a_fencing_token_that_survives_the_parent(
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


async def test_kazoo_11_a_timeout_is_not_armed_again_by_each_wake_up(
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


async def test_kazoo_11_an_interrupted_acquire_leaves_no_contender(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
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


async def test_kazoo_16_cancel_before_anybody_waits_does_no_harm_later(
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


async def test_kazoo_17_a_semaphore_leaves_no_listener(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    """kazoo: each leaves one for as long as the session lives."""
    async with ensemble.open() as zk:
        before = await at_rest(zk)
        for number in range(10):
            async with Semaphore(zk, f"/s{number}", on_suspend="cancel"):
                assert holdings(zk).listeners == before.listeners + 1
        assert await at_rest(zk) == before


async def test_kazoo_1_waiters_hear_of_a_release_during_a_reconnect(
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


async def test_curator_7_a_create_whose_reply_is_lost_leaves_one_contender(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    """Curator without protection: two znodes, and the first is waited for by the second, for ever."""
    async with ensemble.open() as zk:
        await zk.create("/a")
        ensemble.rules.append(nth(1, Opcode.CREATE2, Fault.DO_AND_CUT))
        with trio.fail_after(5):
            async with Lock(zk, "/a") as held:
                assert tree(ensemble) == {"/a", held.znode}


async def test_curator_2_a_znode_of_an_earlier_session_makes_nobody_a_leader(
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


async def test_curator_2_a_latch_keeps_its_znode_over_a_reconnect(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    """Curator up to 5.3: every reconnect deletes and creates, and candidates chase each other (CURATOR-644, -645)."""
    async with ensemble.open() as zk, LeaderLatch(zk, "/l") as latch:
        held = await latch.wait_leadership()
        for _ in range(3):
            ensemble.cut()
            await until(lambda: not zk.connected)
            await until(lambda: zk.connected)
        assert latch.held is held


async def test_curator_26_a_downgrade_lets_no_waiting_writer_in(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
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


async def test_curator_20_a_reader_that_leaves_wakes_no_one_it_need_not(
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


async def test_kazoo_23_a_lease_says_how_long_it_lasts_and_nobody_has_to_wait_for_it(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    """kazoo: rests on the clocks alone, and waits without a limit for the lock under which it looks."""
    time = datetime(2026, 1, 1)

    async with ensemble.open() as zk, ensemble.open() as other:
        lease = NonBlockingLease(zk, "/l", timedelta(seconds=60), "me", lambda: time)
        assert await lease.obtain()
        assert lease.ends_at == time + timedelta(seconds=60)
        assert lease.fencing_token is not None
        time += timedelta(seconds=61)
        assert not lease
        late = NonBlockingLease(other, "/l", timedelta(seconds=60), "you", lambda: time)
        async with Lock(zk, "/l"):
            with trio.move_on_after(1) as scope:
                await late.obtain()
            assert scope.cancelled_caught
        await at_rest(other)
        assert await late.obtain()
        assert (late.fencing_token or 0) > lease.fencing_token
        assert tree(ensemble) == {"/l", "/l/lease_holder"}


def test_kazoo_25_nothing_deprecated_is_called() -> None:
    """kazoo: `logger.warn` in busy places, and `utcnow`, which Python 3.12 warns of."""
    deprecated = re.compile(r"\.(?:utcnow|utcfromtimestamp)\b|(?<!warnings)\.warn\(")
    assert deprecated.search("logger.warn('too late')")
    files = [file for folder in ("client", "recipes", "testcluster") for file in (ROOT / folder).rglob("*.py")]
    assert len(files) > 50
    for file in files:
        assert not deprecated.search(file.read_text(encoding="utf-8")), file


async def test_curator_2_a_latch_survives_that_all_znodes_are_gone(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    """Curator: no leader any more once the servers came back empty (CURATOR-724)."""
    async with ensemble.open() as one, ensemble.open() as other:
        async with LeaderLatch(one, "/l") as first, LeaderLatch(other, "/l") as second:
            await until(lambda: first.has_leadership or second.has_leadership)
            await settle()
            ensemble.shut(Door.REFUSES)
            ensemble.cut()
            for path in sorted(tree(ensemble), reverse=True):
                ensemble.realm.delete(path)
            ensemble.shut(Door.OPEN)
            await until(lambda: first.has_leadership != second.has_leadership and len(tree(ensemble)) == 3)
            leader, follower = (first, second) if first.has_leadership else (second, first)
            await pass_time(60)
            assert leader.has_leadership
            assert not follower.has_leadership


async def test_curator_2_a_turn_that_was_lost_is_followed_by_another(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    """Curator: who asked to be queued again while leadership was being lost waited for ever (CURATOR-518, -671)."""
    turns = 0

    async def lead(_: Ownership) -> None:
        nonlocal turns
        turns += 1
        if turns < 5:
            ensemble.expire(zk.session_id)
        await trio.sleep_forever()

    async with ensemble.open() as zk, trio.open_nursery() as nursery:
        nursery.start_soon(LeaderSelector(zk, "/e").take_turns, lead)
        await until(lambda: turns == 5)
        nursery.cancel_scope.cancel()


async def test_curator_4_a_flapping_connection_changes_no_leader(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    """Curator: every flap was a change of leaders, with an event for every listener (CURATOR-505, -533)."""

    async def follow(latch: LeaderLatch, *, task_status: trio.TaskStatus[None]) -> None:
        async with latch:
            task_status.started()
            await trio.sleep_forever()

    async with ensemble.open() as one, ensemble.open() as other, trio.open_nursery() as nursery:
        async with LeaderLatch(one, "/l") as leader:
            held = await leader.wait_leadership()
            await nursery.start(follow, follower := LeaderLatch(other, "/l"))
            await settle()
            before = tree(ensemble)
            for flap in range(1, 11):
                ensemble.cut()
                await until(lambda flap=flap: len(ensemble.links) == 2 * (flap + 1))  # type: ignore[misc]
                await until(lambda: one.connected and other.connected)
            assert leader.held is held
            assert not follower.has_leadership
            assert tree(ensemble) == before
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("name", USES)
async def test_curator_9_a_use_leaves_nothing_in_the_client(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, name: str
) -> None:
    """Curator: watches, listeners and threads stayed after recipes were closed (CURATOR-710, GH-1264, -1277, -1292)."""
    async with ensemble.open() as zk:
        before, tasks = await at_rest(zk), trio.lowlevel.current_statistics().tasks_living
        for _ in range(2):
            forget_tree(ensemble)
            await USES[name].work(zk)
            assert await at_rest(zk) == before
            assert trio.lowlevel.current_statistics().tasks_living == tasks


async def test_curator_13_what_is_given_back_keeps_its_place(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    """Curator: an item that is queued again loses its priority, and comes before all others."""
    async with ensemble.open() as zk:
        queue = LockingQueue(zk, "/q")
        for value, priority in ((b"late", 500), (b"middle", 200), (b"first", 5)):
            await queue.put(value, priority)
        names = await zk.get_children("/q/entries")
        assert await queue.get() == b"first"
        await queue.consume()
        for _ in range(3):
            assert await queue.get() == b"middle"
            assert await queue.release()
        assert await queue.get() == b"middle"
        assert set(await zk.get_children("/q/entries")) < set(names)


async def test_curator_14_a_lock_belongs_to_its_object_and_to_no_task(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    """Curator: to the thread that acquired it, so that nobody else can release it."""
    async with ensemble.open() as zk:
        lock = Lock(zk, "/a")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lock.acquire)
        assert lock.is_acquired
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lock.release)
        assert not now(lock.is_acquired)
        assert tree(ensemble) == {"/a"}


async def test_curator_17_curator_27_nobody_is_let_through_by_a_wake_up(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    """Curator up to 5.9: whatever woke a member let it through (GH-1290)."""
    async with ensemble.open() as one, ensemble.open() as other, trio.open_nursery() as nursery:
        first, second = DoubleBarrier(one, "/d", 3), DoubleBarrier(other, "/d", 3)
        for member in (first, second):
            nursery.start_soon(member.enter)
        for lose in (ensemble.cut, lambda: ensemble.expire(one.session_id), lambda: ensemble.expire(other.session_id)):
            await settle()
            lose()
            await pass_time(10)
            assert not now(first.participating)
            assert not now(second.participating)
        assert await DoubleBarrier(one, "/d", 3).enter()
        await settle()
        assert now(first.participating)
        assert now(second.participating)


async def test_curator_18_whoever_waits_for_a_lock_ends_with_its_client(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    """Curator: closing hung on what was waited for, or the wait on what was closed (CURATOR-121, -408, -720)."""
    ended: list[str] = []

    async def wait(lock: Lock) -> None:
        with pytest.raises((SessionExpiredError, ConnectionClosedError)):
            await lock.acquire()
        ended.append("told")

    async with ensemble.open() as owner, Lock(owner, "/a"):
        async with trio.open_nursery() as nursery:
            async with ensemble.open(close_timeout=1.0) as zk:
                nursery.start_soon(wait, Lock(zk, "/a"))
                await settle()
                began = trio.current_time()
        assert trio.current_time() - began <= 1.001
        assert ended == ["told"]
        assert len(tree(ensemble)) == 2
