"""Semaphores: never more owners than leases, in both layouts; nothing left behind."""

# ruff: noqa: PT012 - what leaves a block is what is tested here
from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from terzetto.client import ConnectionLoss, LockTimeout, NoNodeError, SessionExpiredError, ZooKeeper
from terzetto.client.wire import Opcode
from terzetto.recipes import LayoutConflictError, OwnershipLost, Semaphore, SemaphoreMutex
from tests.client.holdings import holdings
from tests.client.memory_server import MemoryEnsemble, pass_time, settle, until
from tests.client.server_link import Received

from .losing import losses
from .truth import now
from .walking import at_rest, tree, walk

LAYOUTS = ("kazoo", "curator")
PARENTS = {"kazoo": {"/s", "/s-__lock__"}, "curator": {"/s", "/s/locks", "/s/leases"}}
KAZOO_LEASE = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_at_most_so_many_at_once(ensemble: MemoryEnsemble, autojump_clock: MockClock, layout: Any) -> None:
    inside: list[int] = []
    most = 0

    async def contend(number: int) -> None:
        nonlocal most
        async with ensemble.open() as zk, Semaphore(zk, "/s", str(number), 3, layout=layout) as held:
            assert held.fencing_token is None
            inside.append(number)
            most = max(most, len(inside))
            assert len(inside) <= 3
            assert str(number) in await Semaphore(zk, "/s", max_leases=3, layout=layout).lease_holders()
            await pass_time(1)
            inside.remove(number)

    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(contend, number)
    assert most == 3
    assert tree(ensemble) == PARENTS[layout]


async def test_kazoo_s_znodes(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk, Semaphore(zk, "/s", "me", 2) as held:
        assert (await zk.get("/s"))[0] == b"2"
        assert (await zk.get(held.znode))[0] == b"me"
        name = held.znode.removeprefix("/s/")
        assert len(name) == len(KAZOO_LEASE)
        gates = [request.record for request in ensemble.received if request.opcode == Opcode.CREATE2]
        assert gates[-1].path.startswith("/s-__lock__/")
        assert gates[-1].path.endswith("__lock__")
        assert gates[-1].data == b"b'me'"  # kazoo writes the text of the bytes


async def test_curator_s_znodes(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk, Semaphore(zk, "/s", "me", 2, layout="curator") as held:
        assert held.znode.startswith("/s/leases/_c_")
        assert held.znode.endswith("-lease-0000000000")
        assert (await zk.get(held.znode))[0] == b"me"
        containers = {request.path for request in ensemble.received if request.opcode == Opcode.CREATE_CONTAINER}
        assert containers == {"/s", "/s/locks", "/s/leases"}


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_refused_and_timed_out(ensemble: MemoryEnsemble, autojump_clock: MockClock, layout: Any) -> None:
    async with ensemble.open() as zk:
        one, two = Semaphore(zk, "/s", layout=layout), Semaphore(zk, "/s", layout=layout)
        assert await one.lease_holders() == []
        assert await one.acquire()
        start = trio.current_time()
        assert await two.acquire(blocking=False) is False
        assert trio.current_time() == start
        with pytest.raises(LockTimeout):
            await two.acquire(timeout=2.0)
        assert trio.current_time() - start == pytest.approx(2.0)
        await at_rest(zk)
        assert len(tree(ensemble) - PARENTS[layout]) == 1
        # Somebody waits at the gate: that is contention too.
        async with trio.open_nursery() as nursery:
            nursery.start_soon(two.acquire)
            await settle()
            assert await Semaphore(zk, "/s", layout=layout).acquire(blocking=False) is False
            assert await one.release() is True
        assert two.is_acquired
        assert await two.release() is True
        assert await two.release() is False


async def test_a_number_that_others_do_not_share_is_refused(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as zk:
        async with Semaphore(zk, "/s", max_leases=2):
            with pytest.raises(ValueError, match="is a semaphore of 2 leases, not of 3"):
                await Semaphore(zk, "/s", max_leases=3).acquire()
        await zk.create("/mine", b"about something else")
        assert await Semaphore(zk, "/mine", max_leases=3).acquire()
        for number in (0, -1, True, 1.5):
            with pytest.raises(ValueError, match="max_leases"):
                Semaphore(zk, "/s", max_leases=number)  # type: ignore[arg-type]


async def test_the_other_layout_is_refused(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        await zk.create("/k")
        await zk.create(f"/k/{KAZOO_LEASE}", ephemeral=True)
        with pytest.raises(LayoutConflictError):
            await Semaphore(zk, "/k", max_leases=2, layout="curator").acquire()
        async with Semaphore(zk, "/c", max_leases=2, layout="curator"):
            with pytest.raises(LayoutConflictError):
                await Semaphore(zk, "/c", max_leases=2).acquire()


async def test_a_release_wakes_one(ensemble: MemoryEnsemble, autojump_clock: MockClock, told: list[str]) -> None:
    inside: list[int] = []
    owner = trio.CancelScope()

    async def contend(number: int, scope: trio.CancelScope) -> None:
        with scope:
            async with ensemble.open() as zk, Semaphore(zk, "/s"):
                inside.append(number)
                await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(contend, 0, owner)
        await settle()
        for number in range(1, 30):
            nursery.start_soon(contend, number, trio.CancelScope())
            await settle()
        told.clear()
        owner.cancel()
        await settle()
        assert len(inside) == 2
        # The owner's own, the one who waits in the gate, the gate's next, and those who have just passed.
        assert len(told) <= 6
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_a_lost_gate_adds_no_lease_too_many(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, layout: Any
) -> None:
    """The gate's znode goes right before the lease is created: the next in the gate may have counted already."""
    taken_away: list[str] = []

    def take_the_gate_away(request: Received) -> None:
        if request.opcode == Opcode.MULTI and len(request.record) == 2 and not taken_away:
            gate = request.record[0].request.path
            taken_away.append(gate)
            ensemble.realm.delete(gate)

    ensemble.rules.append(take_the_gate_away)
    async with ensemble.open() as zk, Semaphore(zk, "/s", layout=layout):
        assert len(taken_away) == 1
        assert len(tree(ensemble) - PARENTS[layout]) == 1
        multis = [request for request in ensemble.received if request.opcode == Opcode.MULTI]
        assert len([request for request in multis if len(request.record) == 2]) == 2


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_a_session_that_ends_in_the_gate_begins_again(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, layout: Any
) -> None:
    async with ensemble.open() as one, ensemble.open() as other, trio.open_nursery() as nursery:
        first, second = Semaphore(one, "/s", layout=layout), Semaphore(other, "/s", layout=layout)
        await first.acquire()
        nursery.start_soon(second.acquire)
        await settle()
        old = other.session_id
        ensemble.expire(old)
        await until(lambda: other.connected and other.session_id != old)
        await pass_time(1)
        await first.release()
        await settle()
        assert second.is_acquired


async def test_a_client_that_is_over_is_told(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as one, ensemble.open(renew_session=False) as other, trio.open_nursery() as nursery:
        await Semaphore(one, "/s").acquire()

        async def wait() -> None:
            with pytest.raises((SessionExpiredError, OwnershipLost)):
                await Semaphore(other, "/s").acquire()

        nursery.start_soon(wait)
        await settle()
        ensemble.expire(other.session_id)


async def test_a_lost_lease_cancels_its_body(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        with pytest.raises(OwnershipLost) as lost:
            async with Semaphore(zk, "/s") as held:
                ensemble.realm.delete(held.znode)
                await trio.sleep_forever()
        assert lost.value.path == "/s"
        assert holdings(zk).proof_holders == 0


async def test_parents_that_vanish_are_made_again(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    vanished: list[str] = []

    def reap(request: Received) -> None:
        counting = request.opcode == Opcode.GET_CHILDREN and request.path == "/s/leases"
        creating = request.opcode == Opcode.MULTI and len(request.record) == 2
        if (counting and not vanished) or (creating and len(vanished) == 1):
            ensemble.realm.delete("/s/leases")
            vanished.append("counting" if counting else "creating")

    async with ensemble.open() as zk:
        semaphore = Semaphore(zk, "/s", layout="curator")
        await semaphore.acquire()
        await semaphore.release()
        ensemble.rules.append(reap)
        await semaphore.acquire()
        assert vanished == ["counting", "creating"]
        assert len(await semaphore.lease_holders()) == 1
        await semaphore.release()


async def test_semaphore_mutex_is_an_exclusive_lock_with_a_token(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    tokens: list[int] = []
    async with ensemble.open() as zk:
        for _ in range(3):
            async with SemaphoreMutex(zk, "/s", "me") as held:
                assert held.fencing_token is not None
                tokens.append(held.fencing_token)
                assert not await SemaphoreMutex(zk, "/s").acquire(blocking=False)
                assert not await Semaphore(zk, "/s", layout="curator").acquire(blocking=False)
        mutex = SemaphoreMutex(zk, "/s")
        await mutex.acquire()
        # Any task may release it.
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mutex.release)
        assert not now(mutex.is_acquired)
    assert tokens == sorted(set(tokens))


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_cancelled_at_each_checkpoint_it_leaves_nothing(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, layout: Any
) -> None:
    async def use(zk: ZooKeeper) -> None:
        async with Semaphore(zk, "/s", layout=layout):
            await trio.lowlevel.checkpoint()

    await walk(ensemble, use, leaves=PARENTS[layout], raises=(OwnershipLost, ConnectionLoss))


async def test_a_waiter_cancelled_at_each_checkpoint_leaves_nothing(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    def prepare() -> None:
        ensemble.realm.create("/s", b"1")
        ensemble.realm.create("/s-__lock__")
        ensemble.realm.create(f"/s/{KAZOO_LEASE}")

    async def give_back(zk: ZooKeeper) -> None:
        await pass_time(3)
        try:
            await zk.delete(f"/s/{KAZOO_LEASE}")
        except NoNodeError:
            pass

    async def use(zk: ZooKeeper) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(give_back, zk)
            async with Semaphore(zk, "/s"):
                await trio.lowlevel.checkpoint()

    await walk(ensemble, use, prepare=prepare, raises=(OwnershipLost, ConnectionLoss))


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_a_lost_request_or_reply_takes_one_lease(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, layout: Any
) -> None:
    async for loss in losses(ensemble):
        with trio.fail_after(30):
            async with ensemble.open() as zk:
                async with Semaphore(zk, "/s", layout=layout):
                    await settle()
                    leases = await Semaphore(zk, "/s", layout=layout).lease_holders()
                    assert len(leases) == 1, str(loss)
                await at_rest(zk)
                assert tree(ensemble) == PARENTS[layout], str(loss)


# Several at once ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_several_leases_are_had_together_or_not_at_all(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, layout: Any
) -> None:
    inside = 0

    async def contend(number: int) -> None:
        nonlocal inside
        async with ensemble.open() as zk:
            semaphore = Semaphore(zk, "/s", str(number), 4, layout=layout)
            for leases in (number % 4 + 1, 3, 1):
                async with semaphore.hold(leases=leases) as held:
                    inside += leases
                    assert inside <= 4
                    assert len(held.znodes) == len(set(held.znodes)) == leases
                    assert held.znode == held.znodes[0]
                    assert (await semaphore.lease_holders()).count(str(number)) == leases
                    await pass_time(1)
                    inside -= leases

    with trio.fail_after(600):
        async with trio.open_nursery() as nursery:
            for number in range(6):
                nursery.start_soon(contend, number)
    assert tree(ensemble) == PARENTS[layout]


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_curator_two_who_want_all_do_not_wait_for_each_other(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, layout: Any
) -> None:
    """Curator takes the leases one by one, so each has one and waits for the other's."""
    turns: list[int] = []

    async def contend(number: int) -> None:
        async with ensemble.open() as zk:
            semaphore = Semaphore(zk, "/s", max_leases=2, layout=layout)
            for _ in range(10):
                assert await semaphore.acquire(timeout=30, leases=2)
                turns.append(number)
                assert await semaphore.release() is True

    async with trio.open_nursery() as nursery:
        nursery.start_soon(contend, 1)
        nursery.start_soon(contend, 2)
    assert sorted(turns) == [1] * 10 + [2] * 10


async def test_whoever_wants_many_is_not_passed_by_those_who_want_one(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as zk, ensemble.open() as other, trio.open_nursery() as nursery:
        one, two, late = (Semaphore(client, "/s", max_leases=3) for client in (zk, other, zk))
        assert await one.acquire(leases=2)
        nursery.start_soon(partial(two.acquire, leases=3))
        await settle()
        nursery.start_soon(late.acquire)
        await pass_time(5)
        assert not now(two.is_acquired)
        assert not now(late.is_acquired), "there is room, and others came first"
        await one.release()
        await settle()
        assert now(two.is_acquired)
        await two.release()
        await settle()
        assert now(late.is_acquired)


async def test_kazoo_s_layout_has_kazoo_s_names(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk, Semaphore(zk, "/s", max_leases=20).hold(leases=17):
        names = await zk.get_children("/s")
        assert len(names) == 17
        assert all(len(name) == 32 and int(name, 16) >= 0 for name in names)


async def test_one_lost_lease_is_the_loss_of_all(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        semaphore = Semaphore(zk, "/s", max_leases=3)
        for number in range(3):
            with pytest.raises(OwnershipLost, match="was deleted"):
                async with semaphore.hold(leases=3) as held:
                    ensemble.realm.delete(held.znodes[number])
                    await trio.sleep_forever()
            await at_rest(zk)
            assert tree(ensemble) == PARENTS["kazoo"]


async def test_a_guarded_transaction_checks_every_lease(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    gone: list[str] = []
    async with ensemble.open() as zk:
        with pytest.raises(OwnershipLost) as lost:
            async with Semaphore(zk, "/s", max_leases=3).hold(leases=3) as held:
                async with held.transaction() as transaction:
                    transaction.create("/done")
                transaction = held.transaction()
                transaction.create("/late")
                gone.append(held.znodes[2])
                ensemble.realm.delete(gone[0])
                await transaction.commit()
        assert gone[0] in str(lost.value)
    assert "/done" in tree(ensemble)
    assert "/late" not in tree(ensemble)


@pytest.mark.parametrize("leases", [0, 4, -1, True, 1.5])
async def test_how_many_there_are_not(ensemble: MemoryEnsemble, autojump_clock: MockClock, leases: Any) -> None:
    async with ensemble.open() as zk:
        semaphore = Semaphore(zk, "/s", max_leases=3)
        with pytest.raises(ValueError, match="from 1 to 3"):
            await semaphore.acquire(leases=leases)
        with pytest.raises(ValueError, match="from 1 to 3"):
            semaphore.hold(leases=leases)


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_a_lost_request_or_reply_takes_all_or_none(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, layout: Any
) -> None:
    async for loss in losses(ensemble):
        with trio.fail_after(30):
            async with ensemble.open() as zk:
                semaphore = Semaphore(zk, "/s", max_leases=3, layout=layout)
                async with semaphore.hold(leases=3) as held:
                    await settle()
                    assert len(held.znodes) == 3, str(loss)
                    assert len(await semaphore.lease_holders()) == 3, str(loss)
                await at_rest(zk)
                assert tree(ensemble) == PARENTS[layout], str(loss)


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_several_cancelled_at_each_checkpoint_leave_nothing(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, layout: Any
) -> None:
    async def use(zk: ZooKeeper) -> None:
        async with Semaphore(zk, "/s", max_leases=2, layout=layout).hold(leases=2):
            await trio.lowlevel.checkpoint()

    await walk(ensemble, use, leaves=PARENTS[layout], raises=(OwnershipLost, ConnectionLoss))


async def test_its_number_is_said_again_when_the_znode_was_gone(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as zk:
        semaphore = Semaphore(zk, "/s", max_leases=2)
        async with semaphore:
            pass
        ensemble.realm.delete("/s")
        async with semaphore:
            with pytest.raises(ValueError, match="of 2 leases"):
                await Semaphore(zk, "/s", max_leases=3).acquire()
