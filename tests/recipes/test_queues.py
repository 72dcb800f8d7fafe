"""kazoo's queues: no item twice, none lost, or the error says so."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from terzetto.client import NotEmptyError, SessionExpiredError, ZooKeeper
from terzetto.client.wire import Opcode
from terzetto.recipes import HeldItem, LockingQueue, Queue
from tests.client.memory_server import Door, MemoryEnsemble, pass_time, settle, until
from tests.client.server_link import Fault, Received

from .losing import losses
from .truth import now
from .walking import at_rest, tree, walk


async def test_items_come_out_in_order(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        queue = Queue(zk, "/q/r")
        assert await queue.get() is None
        await queue.put(b"one")
        await queue.put(b"two")
        await queue.put(b"first", priority=5)
        await at_rest(zk)
        assert tree(ensemble) == {
            "/q",
            "/q/r",
            "/q/r/entry-100-0000000000",
            "/q/r/entry-100-0000000001",
            "/q/r/entry-005-0000000002",
        }
        assert await queue.qsize() == 3
        assert await queue.get() == b"first"
        await queue.put(b"late but urgent", priority=0)
        assert [await queue.get() for _ in range(4)] == [b"late but urgent", b"one", b"two", None]
        assert await queue.qsize() == 0


@pytest.mark.parametrize(
    ("value", "priority", "error"),
    [
        ("text", 1, TypeError),
        (b"", "1", TypeError),
        (b"", True, TypeError),
        (b"", -1, ValueError),
        (b"", 1000, ValueError),
    ],
)
async def test_what_is_no_item(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, value: Any, priority: Any, error: type[Exception]
) -> None:
    async with ensemble.open() as zk:
        with pytest.raises(error):
            await Queue(zk, "/q").put(value, priority)
        with pytest.raises(error):
            await LockingQueue(zk, "/q").put(value, priority)
        with pytest.raises(ValueError, match="'/'"):
            Queue(zk, "/")
    assert tree(ensemble) == set()


async def test_many_who_take_get_each_item_once(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    got: list[bytes | None] = []

    async def take(zk: ZooKeeper) -> None:
        while (item := await Queue(zk, "/q").get()) is not None:
            got.append(item)

    async with ensemble.open() as zk, ensemble.open() as other:
        ensemble.latency = 0.01
        for number in range(20):
            await Queue(zk, "/q").put(b"%d" % number)
        async with trio.open_nursery() as nursery:
            for client in (zk, zk, other, other):
                nursery.start_soon(take, client)
    assert sorted(got, key=lambda item: int(item or b"")) == [b"%d" % number for number in range(20)]


async def test_kazoo_14_items_are_put_once_and_taken_once(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async for loss in losses(ensemble):
        with trio.fail_after(30):
            async with ensemble.open() as zk:
                queue = Queue(zk, "/q")
                await queue.put(b"one")
                await queue.put(b"two")
                assert await queue.qsize() == 2, str(loss)
                assert [await queue.get(), await queue.get(), await queue.get()] == [b"one", b"two", None], str(loss)
                await at_rest(zk)
                assert tree(ensemble) == {"/q"}, str(loss)


async def _put(zk: ZooKeeper) -> None:
    await Queue(zk, "/q").put(b"1")
    await Queue(zk, "/q").get()


async def test_cancelled_at_each_checkpoint_it_leaves_items_only(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    await walk(
        ensemble,
        _put,
        may_leave=lambda path: path == "/q" or path.startswith("/q/entry-"),
        raises=(SessionExpiredError,),
    )


# Locking queues -------------------------------------------------------------------------------------------------------


async def test_an_item_is_held_and_consumed(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        queue, other = LockingQueue(zk, "/l"), LockingQueue(zk, "/l")
        await queue.put(b"one")
        await queue.put_all([b"two", b"three"], priority=7)
        assert await queue.qsize() == 3
        assert await queue.holds_lock() is False
        assert await queue.consume() is False
        assert await queue.release() is False
        assert await queue.get() == b"two"
        assert await queue.get() == b"two", "the same again"
        assert queue.processing_element == HeldItem("entry-007-0000000001", b"two")
        assert (await zk.get("/l/taken/entry-007-0000000001"))[0] == queue.id
        assert await queue.holds_lock() is True
        assert await other.get() == b"three"
        assert await queue.qsize() == 3
        assert await queue.consume() is True
        assert await queue.holds_lock() is False
        assert await other.release() is True
        assert await queue.get() == b"three"
        assert await queue.consume() is True
        assert await queue.get() == b"one"
        assert await queue.consume() is True
        assert await queue.get(timeout=2) is None
        await at_rest(zk)
        assert tree(ensemble) == {"/l", "/l/entries", "/l/taken"}


async def test_a_wait_ends_when_an_item_comes_or_is_given_back(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    got: list[bytes | None] = []

    async def take(zk: ZooKeeper) -> None:
        got.append(await LockingQueue(zk, "/l").get())

    async with ensemble.open() as zk, ensemble.open() as other, trio.open_nursery() as nursery:
        nursery.start_soon(take, zk)
        await pass_time(1)
        assert got == []
        await LockingQueue(other, "/l").put(b"one")
        await settle()
        assert got == [b"one"]
        holder = LockingQueue(other, "/l")
        await holder.put(b"two")
        await holder.get()
        nursery.start_soon(take, zk)
        await pass_time(1)
        assert len(got) == 1
        await holder.release()
        await settle()
        assert got == [b"one", b"two"]


@pytest.mark.parametrize("session_lost", [False, True])
async def test_kazoo_1_a_wait_survives_lost_connections_and_sessions(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, session_lost: bool
) -> None:
    got: list[bytes | None] = []

    async def take(zk: ZooKeeper) -> None:
        got.append(await LockingQueue(zk, "/l").get())

    async with ensemble.open() as zk, ensemble.open() as other, trio.open_nursery() as nursery:
        nursery.start_soon(take, zk)
        await settle()
        if session_lost:
            ensemble.expire(zk.session_id)
        ensemble.shut(Door.REFUSES)
        ensemble.cut()
        await until(lambda: not zk.connected)
        ensemble.shut(Door.OPEN)
        await LockingQueue(other, "/l").put(b"one")
        with trio.fail_after(30):
            await until(lambda: got == [b"one"])


async def test_kazoo_13_a_lost_session_is_told(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk, ensemble.open() as other:
        queue, theirs = LockingQueue(zk, "/l"), LockingQueue(other, "/l")
        await queue.put(b"one")
        for end in (queue.consume, queue.release):
            assert await queue.get() == b"one"
            session = zk.session_id
            ensemble.expire(session)
            await until(lambda session=session: zk.session_id not in (0, session))  # type: ignore[misc]
            assert await queue.holds_lock() is False
            assert await theirs.get() == b"one"
            assert await end() is False
            assert await theirs.holds_lock() is True, "it is theirs now, and nobody took it"
            assert await theirs.release() is True
        await theirs.get()
        assert await theirs.consume() is True


async def test_a_mark_that_somebody_deleted_is_told(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        queue = LockingQueue(zk, "/l")
        await queue.put(b"one")
        await queue.get()
        ensemble.realm.delete("/l/taken/entry-100-0000000000")
        assert not now(await queue.holds_lock())
        assert await queue.consume() is False
        assert await queue.get() == b"one"


async def test_giving_back_spares_the_mark_of_whoever_came_first(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    mark = "/l/taken/entry-100-0000000000"

    def overtake(request: Received) -> Fault | None:
        if request.opcode not in (Opcode.CREATE, Opcode.CREATE2) or request.path != mark:
            return None
        ensemble.realm.create(mark, b"of another holder")
        ensemble.shut(Door.REFUSES)
        return Fault.DO_AND_CUT

    async with ensemble.open() as zk:
        queue = LockingQueue(zk, "/l")
        await queue.put(b"one")
        ensemble.rules.append(overtake)
        assert await queue.get(timeout=1) is None, "nobody has answered whose it is"
        ensemble.shut(Door.OPEN)
        await at_rest(zk)
        assert ensemble.realm.get(mark).data == b"of another holder"


async def test_a_cancelled_holder_can_hold_the_same_item_again_at_once(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as zk:
        queue = LockingQueue(zk, "/l")
        await queue.put(b"one")
        ensemble.latency = 1.0
        for seconds in (2.5, 3.5, 4.5, 5.5):
            with trio.move_on_after(seconds):
                await queue.get()
                await queue.release()
            assert await queue.get() == b"one"
            ensemble.latency = 0.0
            await at_rest(zk)
            assert await queue.holds_lock(), "what was given back is not what is held since"
            assert await queue.release()
            ensemble.latency = 1.0
        ensemble.latency = 0.0


async def test_an_item_is_held_once_and_consumed_once(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async for loss in losses(ensemble):
        with trio.fail_after(60):
            async with ensemble.open() as zk:
                queue = LockingQueue(zk, "/l")
                await queue.put(b"one")
                assert await queue.get() == b"one", str(loss)
                assert await queue.release() is True, str(loss)
                assert await queue.get() == b"one", str(loss)
                assert await queue.consume() is True, str(loss)
                assert await queue.get(timeout=1) is None, str(loss)
                await at_rest(zk)
                assert tree(ensemble) == {"/l", "/l/entries", "/l/taken"}, str(loss)


async def test_many_holders_work_each_item_off_once(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    done: list[bytes | None] = []

    async def work(zk: ZooKeeper) -> None:
        queue = LockingQueue(zk, "/l")
        while (item := await queue.get(timeout=1)) is not None:
            assert await queue.consume()
            done.append(item)

    async with ensemble.open() as zk, ensemble.open() as other:
        await LockingQueue(zk, "/l").put_all([b"%d" % number for number in range(12)])
        async with trio.open_nursery() as nursery:
            for client in (zk, zk, other, other):
                nursery.start_soon(work, client)
    assert sorted(done, key=lambda item: int(item or b"")) == [b"%d" % number for number in range(12)]


async def test_a_holder_cancelled_at_each_checkpoint_gives_back(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    def prepare() -> None:
        for path in ("/l", "/l/entries", "/l/taken", "/l/entries/entry-100-0000000000"):
            ensemble.realm.create(path)

    async def work(zk: ZooKeeper) -> None:
        queue = LockingQueue(zk, "/l")
        assert await queue.get() == b""
        await queue.release()

    await walk(ensemble, work, prepare=prepare)
    await walk(ensemble, _put_locked, may_leave=lambda path: path.startswith("/l"), raises=(SessionExpiredError,))


async def _put_locked(zk: ZooKeeper) -> None:
    await LockingQueue(zk, "/l").put(b"1")


@pytest.mark.parametrize("kind", [Queue, LockingQueue])
async def test_kazoo_20_items_stay_in_order_when_their_numbers_begin_anew(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, kind: Any
) -> None:
    """ZooKeeper goes on at -2**31. kazoo compares the texts, in which those that come then are the first."""
    async with ensemble.open() as zk:
        queue = kind(zk, "/q")
        parent = "/q" if kind is Queue else "/q/entries"
        await zk.ensure_path(parent)
        for counted, values in ((2**31 - 1, [b"1"]), (-(2**31), [b"2", b"3"])):
            ensemble.realm.znodes[parent].created_children = counted
            for value in values:
                await queue.put(value)
        await queue.put(b"0", priority=1)
        taken: list[Any] = []
        for _ in range(4):
            taken.append(await queue.get())
            if kind is LockingQueue:
                await queue.consume()
        assert taken == [b"0", b"1", b"2", b"3"]


async def test_without_time_to_wait_it_looks_once(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    ensemble.latency = 1.0
    async with ensemble.open() as zk:
        queue = LockingQueue(zk, "/l")
        assert await queue.get(0) is None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(queue.get)
            await pass_time(30)
            assert await queue.get(0) is None, "another task of this object's waits"
            nursery.cancel_scope.cancel()
        await queue.put(b"job")
        assert await queue.get(0) == b"job"
        assert await queue.get(0) == b"job"
        assert await LockingQueue(zk, "/l").get(0) is None


async def test_an_item_that_is_written_to_while_it_is_taken(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    written: list[str] = []

    def write(request: Received) -> None:
        if request.opcode == Opcode.MULTI and not written:
            written.extend(ensemble.realm.children("/q"))
            ensemble.realm.set(f"/q/{written[0]}", b"newer")

    async with ensemble.open() as zk:
        queue = Queue(zk, "/q")
        await queue.put(b"old")
        ensemble.rules.append(write)
        assert await queue.get() == b"newer"
        assert await queue.get() is None


async def test_an_item_that_cannot_be_consumed_is_given_back(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as zk:
        queue = LockingQueue(zk, "/q")
        await queue.put(b"job")
        assert await queue.get() == b"job"
        assert queue.processing_element is not None
        stray = f"/q/entries/{queue.processing_element.name}/stray"
        ensemble.realm.create(stray)
        with pytest.raises(NotEmptyError):
            await queue.consume()
        await at_rest(zk)
        assert ensemble.realm.children("/q/taken") == []
        ensemble.realm.delete(stray)
        assert await queue.get(timeout=1) == b"job"
        assert await queue.consume()
