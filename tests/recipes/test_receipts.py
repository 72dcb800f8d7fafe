"""Changes that are made once, whatever is lost."""

from __future__ import annotations

import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock

from terzetto.client import BadVersionError, NoNodeError, SessionExpiredError, Transaction, ZooKeeper
from terzetto.client.wire import Opcode
from terzetto.recipes._receipts import change_once
from tests.client.deposed import DeposedLeader
from tests.client.memory_server import MemoryEnsemble
from tests.client.server_link import Fault, Received, nth

from .losing import losses
from .walking import at_rest, tree, walk


async def _change(zk: ZooKeeper) -> list[object] | None:
    def fill(transaction: Transaction) -> None:
        transaction.create("/a/x-", b"1", sequence=True)

    return await change_once(zk, "/a/", fill)


async def test_it_tells_the_results_and_leaves_no_receipt(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    ensemble.realm.create("/a")
    async with ensemble.open() as zk:
        assert await _change(zk) == ["/a/x-0000000001"]
        await at_rest(zk)
        assert tree(ensemble) == {"/a", "/a/x-0000000001"}


async def test_what_makes_it_fail_is_raised_and_nothing_is_done(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    ensemble.realm.create("/a")

    def fill(transaction: Transaction) -> None:
        transaction.create("/a/y")
        transaction.set_data("/a", b"no", 7)

    async with ensemble.open() as zk:
        with pytest.raises(BadVersionError):
            await change_once(zk, "/a/", fill)
        with pytest.raises(NoNodeError):
            await change_once(zk, "/missing/", fill)
        await at_rest(zk)
        assert tree(ensemble) == {"/a"}


async def test_it_is_made_once_whatever_is_lost(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async for loss in losses(ensemble):
        ensemble.realm.create("/a")
        with trio.fail_after(30):
            async with ensemble.open() as zk:
                await _change(zk)
                await at_rest(zk)
                left = tree(ensemble) - {"/a"}
                assert len(left) == 1, str(loss)
                assert left.pop().startswith("/a/x-"), str(loss)


async def test_a_second_loss_while_asking(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    ensemble.realm.create("/a")
    ensemble.rules += [nth(1, Opcode.MULTI, Fault.DO_AND_CUT), nth(1, Opcode.EXISTS, Fault.CUT)]
    async with ensemble.open() as zk:
        assert await _change(zk) is None
        await at_rest(zk)
        assert len(tree(ensemble)) == 2


@pytest.mark.parametrize("fault", [Fault.CUT, Fault.DO_AND_CUT])
async def test_a_session_that_ends_in_between_leaves_the_outcome_unknown(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, fault: Fault
) -> None:
    ensemble.realm.create("/a")

    def lose_session(request: Received) -> Fault | None:
        if request.opcode != Opcode.MULTI or lost:
            return None
        lost.append(request)
        return fault

    lost: list[Received] = []
    ensemble.rules.append(lose_session)
    async with ensemble.open() as zk:
        session = zk.session_id

        async def expire() -> None:
            while not lost:
                await trio.lowlevel.checkpoint()
            ensemble.expire(session)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(expire)
            with pytest.raises(SessionExpiredError) as caught:
                await _change(zk)
        assert caught.value.outcome_unknown
        await at_rest(zk)
        assert len(tree(ensemble)) == (2 if fault is Fault.DO_AND_CUT else 1), "it was not made again"


async def test_a_deposed_leader_does_not_tell_whether_it_was_made(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    """Else it is made again in a later session, where the receipt is gone."""
    ensemble.realm.create("/a")
    deposed = DeposedLeader(ensemble, Opcode.MULTI)
    async with ensemble.open() as zk:
        ensemble.rules.append(deposed)
        assert await _change(zk) is None
        assert deposed.asked
        assert deposed.reads == 1, "its answer was believed"
        await at_rest(zk)
        assert len(tree(ensemble)) == 2


async def test_cancelled_it_leaves_no_receipt(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    await walk(
        ensemble,
        _change,
        prepare=lambda: ensemble.realm.create("/a"),
        may_leave=lambda path: path.startswith("/a/x-"),
        raises=(SessionExpiredError,),
    )
