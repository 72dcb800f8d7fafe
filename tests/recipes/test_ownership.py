"""Ownership as a scope: what ends it and when, what leaves the block, guarded writes, tokens. On a `Lock`."""

# ruff: noqa: PT012 - what leaves a block is what is tested here
from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from terzetto.client import ConnectionLoss, KazooState, ZooKeeper
from terzetto.client.wire import Opcode
from terzetto.recipes import Lock, Ownership, OwnershipLost
from tests.client.holdings import holdings
from tests.client.memory_server import Door, MemoryEnsemble, pass_time, settle, until
from tests.client.server_link import Fault, nth

from .losing import losses
from .truth import now
from .walking import at_rest, tree, walk

if sys.version_info < (3, 11):
    from exceptiongroup import ExceptionGroup

T = 10.0
"""Session timeout of these tests, seconds."""


def cut_off(ensemble: MemoryEnsemble) -> None:
    """No server can be reached any more; none says a word."""
    ensemble.shut(Door.HANGS)
    ensemble.cut()


def expire_unseen(ensemble: MemoryEnsemble, held: Ownership) -> None:
    """The leader ends the session while its client has no connection, so that no event tells of the znode."""
    ensemble.cut()
    ensemble.expire(held.client.session_id)


async def lost_after(
    ensemble: MemoryEnsemble, harm: Callable[[Ownership], object], **options: Any
) -> tuple[float, str]:
    """Owns a lock, does harm to it, and returns how many seconds later the body was cancelled, and the reason."""
    async with ensemble.open(session_timeout=T, close_timeout=0.5) as zk:
        cancelled_at = start = 0.0
        with pytest.raises(OwnershipLost) as lost:
            async with Lock(zk, "/a", **options) as held:
                # Long enough for the pings of an owner to have begun.
                await pass_time(T)
                start = trio.current_time()
                harm(held)
                try:
                    await pass_time(10 * T)
                finally:
                    cancelled_at = trio.current_time()
        assert lost.value.path == "/a"
        assert holdings(zk).proof_holders == 0
        ensemble.shut(Door.OPEN)
        return cancelled_at - start, lost.value.reason


# What ends it, and when -----------------------------------------------------------------------------------------------


async def test_a_body_without_a_connection_ends_before_the_session_can_expire(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    after, reason = await lost_after(ensemble, lambda _: cut_off(ensemble))
    # The proof is T/2 long, and at most T/4 old when the connection goes.
    assert T / 4 - 0.2 <= after <= T / 2
    assert reason == "no quorum has confirmed for too long that the session lives"


async def test_a_server_that_answers_pings_and_nothing_else_proves_nothing(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    def isolate(_: Ownership) -> None:
        # A follower that is cut off from its leader: pings and reads are answered, writes are not.
        ensemble.rules.append(lambda request: Fault.IGNORE if request.opcode == Opcode.MULTI else None)

    after, _ = await lost_after(ensemble, isolate)
    assert T / 4 - 0.2 <= after <= T / 2


async def test_the_session_s_loss_ends_it_at_once(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    after, reason = await lost_after(ensemble, lambda held: expire_unseen(ensemble, held))
    # The client learns of it from the next server that it asks.
    assert after <= 0.2
    assert reason == "the session is over"


async def test_the_znode_s_deletion_ends_it_at_once(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    after, reason = await lost_after(ensemble, lambda held: ensemble.realm.delete(held.znode))
    assert after == 0.0
    assert reason.endswith("was deleted")


async def test_a_deletion_during_a_lost_connection_is_seen_when_it_is_back(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    def harm(held: Ownership) -> None:
        ensemble.cut()
        ensemble.realm.delete(held.znode)

    after, reason = await lost_after(ensemble, harm)
    assert after <= 0.2
    assert reason.endswith("was deleted")


@pytest.mark.parametrize("proof", ["quorum", "session"])
async def test_on_suspend_cancel_ends_it_with_the_connection(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, proof: str
) -> None:
    after, reason = await lost_after(ensemble, lambda _: ensemble.cut(), proof=proof, on_suspend="cancel")
    assert after == 0.0
    assert "on_suspend='cancel'" in reason


async def test_by_the_session_s_state_it_ends_a_third_of_the_timeout_after_the_connection(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    after, _ = await lost_after(ensemble, lambda _: cut_off(ensemble), proof="session")
    assert after == pytest.approx(T / 3)


async def test_by_the_session_s_state_a_loss_ends_it_at_once(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    after, reason = await lost_after(ensemble, lambda held: expire_unseen(ensemble, held), proof="session")
    assert after <= 0.2
    assert reason == "the session is over"


@pytest.mark.parametrize("proof", ["quorum", "session"])
async def test_curator_25_a_reconnect_in_time_ends_nothing(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, proof: Any
) -> None:
    async with ensemble.open(session_timeout=T) as zk, Lock(zk, "/a", proof=proof) as held:
        for _ in range(5):
            ensemble.shut(Door.REFUSES)
            ensemble.cut()
            await pass_time(T / 10)
            ensemble.shut(Door.OPEN)
            await until(lambda: zk.connected)
            await pass_time(T / 2)
        assert not now(held.is_lost)


async def test_a_quiet_owner_asks_a_quorum_every_sixth_of_the_timeout(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open(session_timeout=T) as zk:
        async with Lock(zk, "/a") as held:
            await settle()
            before = len(ensemble.received)
            await pass_time(10 * T)
            opcodes = [request.opcode for request in ensemble.received[before:]]
            assert not now(held.is_lost)
        assert 58 <= opcodes.count(Opcode.MULTI) <= 62
        assert set(opcodes) <= {Opcode.MULTI, Opcode.PING}
        before = len(ensemble.received)
        await pass_time(10 * T)
        assert {request.opcode for request in ensemble.received[before:]} == {Opcode.PING}


async def test_by_the_session_s_state_there_is_no_traffic_but_pings(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open(session_timeout=T) as zk, Lock(zk, "/a", proof="session"):
        await settle()
        before = len(ensemble.received)
        await pass_time(10 * T)
        assert {request.opcode for request in ensemble.received[before:]} == {Opcode.PING}


async def test_curator_23_a_process_that_was_stopped_passes_no_checkpoint_more(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    steps: list[str] = []
    async with ensemble.open(session_timeout=T) as zk:
        with pytest.raises(OwnershipLost):
            async with Lock(zk, "/a"):
                await pass_time(T)
                # Stopped, and nothing of it ran meanwhile.
                autojump_clock.jump(T / 2)
                await trio.lowlevel.checkpoint()
                steps.append("passed a checkpoint")
    assert steps == []


async def test_the_bodies_of_two_owners_never_overlap_at_the_earliest_expiry(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    """The leader ends the session as early as its last contact allows: the first body has ended by then."""
    ended: list[float] = []

    async with ensemble.open(session_timeout=T, close_timeout=0.5) as first, ensemble.open() as second:

        async def own_until_lost() -> None:
            with pytest.raises(OwnershipLost):
                async with Lock(first, "/a"):
                    try:
                        await trio.sleep_forever()
                    finally:
                        ended.append(trio.current_time())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(own_until_lost)
            await pass_time(3.3 * T)
            last_contact = trio.current_time()
            ensemble.shut(Door.HANGS)
            ensemble.links[0].paused = True
            expiry = last_contact + T - T / 6 - 1.0  # a tick of 2 s, half of it
            session_id = first.session_id
            await pass_time(expiry - trio.current_time())
            assert ended, "the first body runs while its session may be over"
            ensemble.expire(session_id)
            async with Lock(second, "/a"):
                assert ended[0] < trio.current_time()
            nursery.cancel_scope.deadline = trio.current_time() + T
        ensemble.shut(Door.OPEN)


# What leaves the block ------------------------------------------------------------------------------------------------


class BodyError(Exception):
    pass


async def test_the_body_s_own_error_leaves_unchanged(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    error = BodyError("own")
    async with ensemble.open() as zk:
        with pytest.raises(BodyError) as caught:
            async with Lock(zk, "/a"):
                raise error
        assert caught.value is error
        assert not hasattr(error, "__notes__")
        await at_rest(zk)
        assert tree(ensemble) == {"/a"}


async def test_an_error_of_a_body_that_had_lost_its_lock_leaves_with_a_note(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as zk:
        znode = ""
        with pytest.raises(BodyError) as caught:
            async with Lock(zk, "/a") as held:
                znode = held.znode
                ensemble.realm.delete(znode)
                try:
                    await trio.sleep_forever()
                finally:
                    raise BodyError("while cleaning up")
        assert getattr(caught.value, "__notes__", []) == [f"/a was no longer owned: its znode {znode} was deleted"]


async def test_a_group_of_the_body_s_loses_the_cancellation_and_nothing_else(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async def fail_when_cancelled() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise BodyError("in a task")

    async with ensemble.open() as zk:
        with pytest.raises(ExceptionGroup) as caught:
            async with Lock(zk, "/a") as held, trio.open_nursery() as nursery:
                nursery.start_soon(fail_when_cancelled)
                nursery.start_soon(trio.sleep_forever)
                await trio.testing.wait_all_tasks_blocked()
                ensemble.realm.delete(held.znode)
        assert [type(error) for error in caught.value.exceptions] == [BodyError]
        assert len(caught.value.__notes__) == 1


async def test_a_body_that_never_noticed_is_told_at_its_end(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    done: list[str] = []
    async with ensemble.open() as zk:
        with pytest.raises(OwnershipLost, match="was deleted"):
            async with Lock(zk, "/a") as held:
                ensemble.realm.delete(held.znode)
                with trio.CancelScope(shield=True):
                    await pass_time(1)
                done.append("all of it")
        assert done == ["all of it"]


async def test_a_body_without_a_checkpoint_is_told_at_its_end(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open(session_timeout=T) as zk:
        with pytest.raises(OwnershipLost):
            async with Lock(zk, "/a") as held:
                autojump_clock.jump(T)
                with pytest.raises(OwnershipLost):
                    held.check()


async def test_a_znode_that_is_gone_when_it_is_to_be_deleted_ends_in_ownership_lost(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    def delete_first(request: Any) -> None:
        if request.opcode == Opcode.DELETE and request.path in ensemble.realm.znodes:
            ensemble.realm.delete(request.path)

    async with ensemble.open() as zk:
        ensemble.rules.append(delete_first)
        with pytest.raises(OwnershipLost, match="was gone before it was released"):
            async with Lock(zk, "/a"):
                pass


async def test_a_cancellation_from_outside_passes_and_releases(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as zk:
        with trio.move_on_after(1) as scope:
            async with Lock(zk, "/a"):
                await trio.sleep_forever()
        assert scope.cancelled_caught
        await at_rest(zk)
        assert tree(ensemble) == {"/a"}


async def test_a_timeout_of_the_body_is_the_body_s(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        with pytest.raises(trio.TooSlowError):
            async with Lock(zk, "/a"):
                with trio.fail_after(1):
                    await trio.sleep_forever()


async def test_a_session_that_ends_during_the_release_has_released(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as zk:
        ensemble.rules.append(nth(1, Opcode.DELETE, Fault.CUT))
        async with Lock(zk, "/a"):
            session_id = zk.session_id
            zk.add_listener(lambda state: ensemble.expire(session_id) if state == KazooState.SUSPENDED else None)
        assert tree(ensemble) == {"/a"}


# Looking on -----------------------------------------------------------------------------------------------------------


async def test_wait_lost_and_other_bodies_end_with_it(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    told: list[str] = []

    async def wait(held: Ownership) -> None:
        told.append(await held.wait_lost())

    async def work(held: Ownership) -> None:
        with held.body():
            await trio.sleep_forever()
        told.append("body ended")

    async with ensemble.open() as zk:
        lock = Lock(zk, "/a")
        await lock.acquire()
        held = lock.held
        assert held is not None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait, held)
            nursery.start_soon(work, held)
            await pass_time(100)
            assert told == []
            ensemble.realm.delete(held.znode)
        assert sorted(told) == ["body ended", held.loss]
        with held.body():
            await trio.lowlevel.checkpoint()
            told.append("a body begun too late")
        assert len(told) == 2
        await lock.release()
        assert holdings(zk).proof_holders == 0


@pytest.mark.parametrize("proof", ["quorum", "session"])
async def test_wait_lost_follows_the_proof(ensemble: MemoryEnsemble, autojump_clock: MockClock, proof: Any) -> None:
    async with ensemble.open(session_timeout=T, close_timeout=0.1) as zk:
        lock = Lock(zk, "/a", proof=proof)
        await lock.acquire()
        held = lock.held
        assert held is not None
        await pass_time(T)
        start = trio.current_time()
        cut_off(ensemble)
        assert lock.is_acquired
        await held.wait_lost()
        assert trio.current_time() - start <= T / 2
        assert not now(lock.is_acquired)
        ensemble.shut(Door.OPEN)
        await until(lambda: zk.connected)
        assert not now(lock.is_acquired), "what was lost once stays lost"
        assert await lock.release() is False


async def test_a_proof_that_ran_out_while_nobody_looked_stays_run_out(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open(session_timeout=T) as zk:
        lock = Lock(zk, "/a")
        await lock.acquire()
        session_id = zk.session_id
        ensemble.shut(Door.REFUSES)
        ensemble.cut()
        await pass_time(0.6 * T)
        ensemble.shut(Door.OPEN)
        await until(lambda: zk.connected)
        await pass_time(T)
        # The servers had kept the session; they need not have.
        assert zk.session_id == session_id
        assert zk.keep_proof().remaining() > 0
        assert not lock.is_acquired


async def test_by_the_session_s_state_a_wait_begun_without_a_connection_ends_with_the_others(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open(session_timeout=T, close_timeout=0.1) as zk:
        lock = Lock(zk, "/a", proof="session")
        await lock.acquire()
        assert lock.held is not None
        cut_off(ensemble)
        await until(lambda: not zk.connected)
        start = trio.current_time()
        await pass_time(T / 6)
        await lock.held.wait_lost()
        assert trio.current_time() - start == pytest.approx(T / 3, abs=0.01)
        ensemble.shut(Door.OPEN)


async def test_by_the_session_s_state_a_connection_that_is_back_gives_nothing_back(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    """While a body that was cancelled is still on its way out. It must not look as if it had come to its end."""
    async with ensemble.open(session_timeout=T) as zk:
        session_id = zk.session_id
        with pytest.raises(OwnershipLost):
            async with Lock(zk, "/a", proof="session") as held:
                ensemble.shut(Door.REFUSES)
                ensemble.cut()
                try:
                    await trio.sleep_forever()
                finally:
                    with trio.CancelScope(shield=True):
                        ensemble.shut(Door.OPEN)
                        await until(lambda: zk.connected)
                        await pass_time(1)
                        assert held.is_lost
        assert zk.session_id == session_id
        await at_rest(zk)
        assert tree(ensemble) == {"/a"}


async def test_a_body_begins_with_a_proof_also_after_a_long_wait(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open(session_timeout=T) as one, ensemble.open(session_timeout=T) as other:
        left: list[float] = []

        async def wait() -> None:
            async with Lock(other, "/a"):
                left.append(other.keep_proof().remaining())

        async with trio.open_nursery() as nursery:
            async with Lock(one, "/a"):
                nursery.start_soon(wait)
                await pass_time(5 * T)
                asked = [request.opcode for request in ensemble.links[1].received]
                assert Opcode.MULTI not in asked, "who waits proves nothing"
        assert T / 4 <= left[0] <= T / 2


async def test_it_says_what_it_is(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        async with Lock(zk, "/a") as held:
            assert repr(held) == f"<Ownership {held.znode} token {held.fencing_token} held>"
        assert repr(held) == f"<Ownership {held.znode} token {held.fencing_token} it was given up>"
    assert str(OwnershipLost("/a", "why")) == "/a is no longer owned: why"


@pytest.mark.parametrize("options", [{"proof": "ping"}, {"on_suspend": "ignore"}])
async def test_terms_that_do_not_exist_are_refused(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, options: Any
) -> None:
    async with ensemble.open() as zk:
        with pytest.raises(ValueError, match="must be one of"):
            Lock(zk, "/a", **options)


# A machine that sleeps ------------------------------------------------------------------------------------------------


class SleepyClock:
    """The run's clock, and what the machine has slept besides, in seconds: trio's timers do not see that."""

    slept = 0.0

    def now(self) -> float:
        return trio.current_time() + self.slept


async def test_a_body_passes_no_checkpoint_after_its_machine_was_asleep(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    clock = SleepyClock()
    async with ensemble.open(session_timeout=T, clock=clock) as zk:
        with pytest.raises(OwnershipLost, match="no quorum"):
            async with Lock(zk, "/a"):
                await settle()
                clock.slept = T
                await trio.lowlevel.checkpoint()
                pytest.fail("it passed a checkpoint")


def _is_in_every_pass(zk: ZooKeeper) -> bool:
    guard = zk._core.guard  # pyright: ignore[reportPrivateUsage]
    try:
        trio.lowlevel.remove_instrument(guard)
    except KeyError:
        return False
    trio.lowlevel.add_instrument(guard)
    return True


@pytest.mark.parametrize("closed_while_held", [False, True])
async def test_who_owns_nothing_costs_no_pass_of_the_scheduler(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, closed_while_held: bool
) -> None:
    async with ensemble.open(session_timeout=T) as zk:
        lock = Lock(zk, "/a")
        for _ in range(2):  # it comes and goes
            await lock.acquire()
            assert _is_in_every_pass(zk)
            await lock.release()
            await pass_time(T / 10)
            assert not _is_in_every_pass(zk)
        if closed_while_held:
            await lock.acquire()
    assert not _is_in_every_pass(zk)


# Nothing left behind --------------------------------------------------------------------------------------------------


async def _guarded(zk: ZooKeeper) -> None:
    async with Lock(zk, "/a") as held:
        await held.assert_owned()
        transaction = held.transaction()
        transaction.check("/", -1)
        await transaction.commit()


async def _by_session(zk: ZooKeeper) -> None:
    async with Lock(zk, "/a", proof="session", on_suspend="cancel") as held:
        with trio.move_on_after(0.1):
            await held.wait_lost()


async def _lost(zk: ZooKeeper) -> None:
    with pytest.raises(OwnershipLost):
        async with Lock(zk, "/a") as held:
            await zk.delete(held.znode)
            await trio.sleep_forever()


@pytest.mark.parametrize("work", [_guarded, _by_session])
async def test_cancelled_at_each_checkpoint_it_leaves_nothing(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, work: Callable[[ZooKeeper], Awaitable[object]]
) -> None:
    assert await walk(ensemble, work, leaves={"/a"}, raises=(OwnershipLost, ConnectionLoss)) > 5


async def test_a_lost_lock_leaves_nothing(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        before = await at_rest(zk)
        await _lost(zk)
        assert await at_rest(zk) == before
        assert tree(ensemble) == {"/a"}


async def test_a_lost_request_or_reply_ends_no_ownership(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async for loss in losses(ensemble):
        async with ensemble.open() as zk, Lock(zk, "/a") as held:
            await held.assert_owned()
            await pass_time(1)
            assert not now(held.is_lost), str(loss)
        assert tree(ensemble) == {"/a"}, str(loss)
