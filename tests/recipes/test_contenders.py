"""The queue: order, no herd, vanishing parents and znodes, lost sessions; what others do to it."""

from __future__ import annotations

from functools import partial

import pytest
import trio
from trio.testing import MockClock

from terzetto.client import KazooState, NoAuthError, SessionExpiredError
from terzetto.client.wire import Opcode
from terzetto.recipes import LayoutConflictError, Lock, OwnershipLost
from tests.client.memory_server import Door, MemoryEnsemble, pass_time, settle, until
from tests.client.realm import NO_NODE
from tests.client.server_link import Code, Fault, Received, nth

from .truth import now
from .walking import at_rest, tree

CURATOR = "_c_01234567-89ab-cdef-0123-456789abcdef"


async def test_first_come_first_served(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    served: list[int] = []

    async def contend(number: int) -> None:
        async with ensemble.open() as zk, Lock(zk, "/a", str(number)):
            served.append(number)
            await pass_time(1)

    async with ensemble.open() as zk, trio.open_nursery() as nursery:
        async with Lock(zk, "/a"):
            for number in range(10):
                nursery.start_soon(contend, number)
                await pass_time(0.1)
            assert await Lock(zk, "/a").contenders() == ["", *map(str, range(10))]
    assert served == list(range(10))


async def test_curator_20_a_release_wakes_one_of_two_hundred(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, told: list[str]
) -> None:
    ends: list[trio.CancelScope] = []
    inside: list[int] = []

    async def contend(number: int) -> None:
        with trio.CancelScope() as scope:
            ends.append(scope)
            async with ensemble.open() as zk, Lock(zk, "/a"):
                inside.append(number)
                await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        for number in range(201):
            nursery.start_soon(contend, number)
            await settle()
        assert inside == [0]
        told.clear()
        for number in range(3):
            ends[number].cancel()
            await settle()
            assert inside == list(range(number + 2))
            # The owner's own watch, and that of the next in the queue.
            assert len(told) == 2 * (number + 1)
            assert len(set(told)) == number + 1
        nursery.cancel_scope.cancel()


async def test_curator_21_a_cancelled_waiter_blocks_nobody(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    inside: list[int] = []

    async def contend(number: int, scope: trio.CancelScope) -> None:
        async with ensemble.open() as zk:
            with scope:
                async with Lock(zk, "/a"):
                    inside.append(number)
                    await pass_time(1)
            await at_rest(zk)

    scopes = [trio.CancelScope() for _ in range(6)]
    async with ensemble.open() as zk, trio.open_nursery() as nursery:
        async with Lock(zk, "/a"):
            for number, scope in enumerate(scopes):
                nursery.start_soon(contend, number, scope)
                await pass_time(0.1)
            for number in (0, 2, 3, 5):
                scopes[number].cancel()
            await pass_time(0.5)
            # A waiter whose predecessor left is not the owner for that.
            assert inside == []
    assert inside == [1, 4]
    assert tree(ensemble) == {"/a"}


@pytest.mark.parametrize("container", [False, True])
async def test_a_parent_that_vanishes_between_two_requests_is_made_again(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, container: bool
) -> None:
    vanished: list[int] = []

    def reap(request: Received) -> None:
        # Whatever an empty parent is asked for, it is gone by then; as often as that.
        if request.opcode in (Opcode.CREATE2, Opcode.CREATE_CONTAINER, Opcode.CREATE) and len(vanished) < 4:
            for path in ("/p/a", "/p"):
                if path in tree(ensemble) and not ensemble.realm.children(path):
                    ensemble.realm.delete(path)
                    vanished.append(request.opcode)

    ensemble.realm.create("/p")
    ensemble.realm.create("/p/a")
    ensemble.rules.append(reap)
    async with ensemble.open() as zk:
        async with Lock(zk, "/p/a", container=container) as held:
            assert held.znode in tree(ensemble)
        assert len(vanished) == 4
        made = {request.opcode for request in ensemble.received if request.path == "/p/a"}
        assert (Opcode.CREATE_CONTAINER in made) == container
        assert await Lock(zk, "/q/r").contenders() == []
        assert "/q/r" in tree(ensemble)


async def test_a_waiter_whose_znode_was_deleted_queues_up_again(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as one, ensemble.open() as other, trio.open_nursery() as nursery:
        second, third = Lock(other, "/a"), Lock(other, "/a")
        async with Lock(one, "/a"):
            nursery.start_soon(second.acquire)
            await settle()
            (waiting,) = [path for path in tree(ensemble) if path.endswith("1")]
            nursery.start_soon(third.acquire)
            await settle()
            ensemble.realm.delete(waiting)
            await settle()
        await settle()
        # Nothing told the second: it looks when the one before it has gone, and stands at the end.
        assert not now(second.is_acquired)
        assert third.is_acquired
        await third.release()
        await settle()
        assert second.is_acquired


async def test_a_waiter_whose_session_ends_queues_up_again_in_the_next(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as one, ensemble.open() as other, trio.open_nursery() as nursery:
        lock = Lock(other, "/a")
        async with Lock(one, "/a"):
            nursery.start_soon(lock.acquire)
            await settle()
            before = other.session_id
            ensemble.expire(before)
            await until(lambda: other.connected)
            await pass_time(1)
            assert len(tree(ensemble)) == 3
        await settle()
        assert lock.is_acquired
        assert other.session_id != before


async def test_a_waiter_of_a_client_that_is_over_is_told(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as one, ensemble.open(renew_session=False) as other:
        async with Lock(one, "/a"), trio.open_nursery() as nursery:

            async def wait() -> None:
                with pytest.raises(SessionExpiredError):
                    await Lock(other, "/a").acquire()

            nursery.start_soon(wait)
            await settle()
            ensemble.expire(other.session_id)


async def test_a_waiter_whose_client_gave_its_session_up_takes_its_old_znode_out_of_the_queue(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    """The servers still have the old session. Its znode would be waited for, by its own client too."""
    async with ensemble.open(give_up_after=1.0) as zk, ensemble.open() as other, trio.open_nursery() as nursery:
        lock = Lock(zk, "/a")
        async with Lock(other, "/a"):
            nursery.start_soon(lock.acquire)
            await settle()
            old = zk.session_id
            ensemble.shut(Door.REFUSES)
            ensemble.links[0].hang_up()
            await until(lambda: zk.state == KazooState.LOST)
            ensemble.shut(Door.OPEN)
            await until(lambda: zk.connected)
            await pass_time(1)
            assert not [path for path, znode in ensemble.realm.znodes.items() if znode.owner == old]
        await settle()
        assert lock.is_acquired


async def test_an_owner_whose_client_gave_its_session_up_owns_nothing(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open(give_up_after=1.0) as zk:
        lock = Lock(zk, "/a")
        await lock.acquire()
        old = zk.session_id
        ensemble.shut(Door.REFUSES)
        ensemble.cut()
        await until(lambda: zk.state == KazooState.LOST)
        ensemble.shut(Door.OPEN)
        await until(lambda: zk.connected)
        assert not now(lock.is_acquired), "although the servers would let it write"
        assert old in ensemble.realm.sessions


async def test_a_create_that_is_refused_leaves_nothing_to_clean_up(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as zk:
        ensemble.rules.append(nth(1, Opcode.CREATE2, Code(NoAuthError.code or 0)))
        with pytest.raises(NoAuthError):
            await Lock(zk, "/a").acquire()
        await at_rest(zk)
        assert [request.opcode for request in ensemble.received] == [Opcode.CREATE2, Opcode.GET_CHILDREN, Opcode.SYNC]


async def test_an_overloaded_server_is_given_a_moment(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        await zk.create("/a")
        # The first listing comes with the first create, the second one with the create that is not refused.
        ensemble.rules += [
            nth(1, Opcode.CREATE2, Code(-127)),
            nth(2, Opcode.GET_CHILDREN, Code(-127)),
            nth(1, Opcode.DELETE, Code(-127)),
        ]
        start = trio.current_time()
        async with Lock(zk, "/a"):
            pass
        assert trio.current_time() - start == pytest.approx(0.3)


async def test_curator_21_a_predecessor_that_goes_between_two_requests_is_not_waited_for(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    ensemble.realm.create("/a")
    ensemble.realm.create("/a/x__lock__0000000000")
    ensemble.realm.znodes["/a"].created_children = 1

    def gone_by_then(request: Received) -> Code | None:
        if request.path == "/a/x__lock__0000000000":
            ensemble.realm.znodes.pop("/a/x__lock__0000000000", None)
            return Code(NO_NODE)
        return None

    ensemble.rules.append(gone_by_then)
    async with ensemble.open() as zk:
        with trio.fail_after(1):
            async with Lock(zk, "/a"):
                pass


@pytest.mark.parametrize(
    ("layout", "name"), [("kazoo", f"{CURATOR}-lock-0000000000"), ("curator", f"{'0' * 32}__lock__0000000000")]
)
async def test_contenders_of_the_other_layout_are_refused(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, layout: str, name: str
) -> None:
    ensemble.realm.create("/a")
    ensemble.realm.create(f"/a/{name}")
    async with ensemble.open() as zk:
        with pytest.raises(LayoutConflictError) as refused:
            await Lock(zk, "/a", layout=layout).acquire()  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        assert (refused.value.path, refused.value.name, refused.value.layout) == ("/a", name, layout)
        assert name in str(refused.value)
        await at_rest(zk)
        assert tree(ensemble) == {"/a", f"/a/{name}"}


async def test_an_extra_pattern_waits_for_the_other_layout(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    ensemble.realm.create("/a")
    ensemble.realm.create(f"/a/{CURATOR}-lock-0000000000")
    ensemble.realm.znodes["/a"].created_children = 1
    async with ensemble.open() as zk, trio.open_nursery() as nursery:
        lock = Lock(zk, "/a", extra_lock_patterns=["-lock-"])
        nursery.start_soon(lock.acquire)
        await pass_time(1)
        assert not now(lock.is_acquired)
        ensemble.realm.delete(f"/a/{CURATOR}-lock-0000000000")
        await settle()
        assert lock.is_acquired


async def test_kazoo_20_curator_22_at_the_counter_s_overflow_nobody_passes(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as zk, trio.open_nursery() as nursery:
        await zk.create("/a")
        ensemble.realm.znodes["/a"].created_children = 2**31 - 1
        async with Lock(zk, "/a"):
            ensemble.realm.znodes["/a"].created_children = -(2**31)
            late = Lock(zk, "/a")
            nursery.start_soon(late.acquire)
            await pass_time(1)
            assert not now(late.is_acquired)
        await settle()
        assert late.is_acquired


async def test_curator_19_whoever_loses_every_reply_gets_the_lock_all_the_same(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    """The connection goes with every third request, whatever it is, and the lock is still one contender's at a time."""
    seen = 0
    inside = 0
    turns = 0

    def every_third(request: Received) -> Fault | None:
        nonlocal seen
        if request.opcode in (Opcode.PING, Opcode.SET_WATCHES, Opcode.CLOSE_SESSION):
            return None
        seen += 1
        return (Fault.DO_AND_CUT, Fault.CUT)[seen % 2] if seen % 3 == 0 else None

    async def contend() -> None:
        nonlocal inside, turns
        async with ensemble.open(session_timeout=60.0) as zk:
            for _ in range(5):
                try:
                    async with Lock(zk, "/a"):
                        inside += 1
                        assert inside == 1
                        await pass_time(0.1)
                        inside -= 1
                        turns += 1
                except OwnershipLost:
                    raise AssertionError("the session lived") from None
            await at_rest(zk)

    async with trio.open_nursery() as nursery:
        ensemble.rules.append(every_third)
        for _ in range(4):
            nursery.start_soon(contend)
    assert turns == 20
    assert tree(ensemble) == {"/a"}


async def test_on_the_root_too(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk, Lock(zk, "/") as held:
        assert held.znode.count("/") == 1
        assert await Lock(zk, "/", "x").contenders() == [""]


async def test_below_a_chroot(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open(chroot="/app", ensure_chroot=True) as zk:
        lock = Lock(zk, "/a")
        async with lock as held:
            assert held.znode.startswith("/a/")
            assert f"/app{held.znode}" in tree(ensemble)
            async with held.transaction() as t:
                t.create("/x")
        assert tree(ensemble) == {"/app", "/app/a", "/app/x"}


async def test_identifiers_may_be_anything(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk, trio.open_nursery() as nursery:
        for identifier in ("one", b"two", None, b"\xff"):
            nursery.start_soon(partial(Lock(zk, "/a", identifier).acquire))
            await settle()
        assert await Lock(zk, "/a").contenders() == ["one", "two", "", "\ufffd"]
        nursery.cancel_scope.cancel()


async def test_what_nobody_else_wants_takes_a_round_trip_to_acquire_and_one_to_release(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open(session_timeout=60) as zk:
        await zk.create("/a")
        ensemble.latency = 1.0
        before, start = len(ensemble.received), trio.current_time()
        async with Lock(zk, "/a"):
            assert trio.current_time() - start == pytest.approx(1.0)
        assert trio.current_time() - start == pytest.approx(2.0)
        once = [Opcode.CREATE2, Opcode.GET_CHILDREN, Opcode.DELETE]
        assert [request.opcode for request in ensemble.received[before:]] == once
        ensemble.latency = 0


async def test_a_body_that_waits_for_something_has_the_znode_watched(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as zk:
        await zk.create("/a")
        before = len(ensemble.received)
        async with Lock(zk, "/a") as held:
            await zk.get("/a")
        requests = [(request.opcode, request.path) for request in ensemble.received[before + 2 :]]
        assert sorted(requests) == [
            (Opcode.DELETE, held.znode),
            (Opcode.GET_DATA, "/a"),
            (Opcode.GET_CHILDREN, held.znode),
        ]


async def test_a_znode_that_goes_before_its_watch_is_set_is_lost(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    def gone_by_then(request: Received) -> None:
        if request.opcode == Opcode.GET_CHILDREN and request.path != "/a":
            ensemble.realm.znodes.pop(request.path or "", None)

    async with ensemble.open() as zk:
        ensemble.rules.append(gone_by_then)
        with pytest.raises(OwnershipLost, match="was deleted"):
            async with Lock(zk, "/a"):
                await trio.sleep_forever()


async def test_the_watch_outlives_a_connection_that_took_its_request(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as zk, ensemble.open() as other:
        await zk.create("/a")
        ensemble.rules.append(nth(2, Opcode.GET_CHILDREN, Fault.CUT))
        lock = Lock(zk, "/a")
        await lock.acquire()
        held = lock.held
        assert held is not None
        await until(lambda: not zk.connected)
        await until(lambda: zk.connected)
        await settle()
        assert not now(held.is_lost)
        await other.delete(held.znode)
        assert "was deleted" in await held.wait_lost()
        assert not await lock.release()
