"""Scopes that end with the proof, proofs of one session, and one-shot watches that are taken back."""

from __future__ import annotations

import math
from typing import Any

import pytest
import trio
import trio._core._run as scheduler
from hypothesis import given, strategies as st
from trio.testing import MockClock

from terzetto.client import KazooState, WatchedEvent
from terzetto.client._liveness import Liveness
from terzetto.client.wire import Opcode
from tests.recipes.truth import now

from .holdings import drained, holdings, watched_by_server
from .memory_server import Door, MemoryEnsemble, pass_time, settle, until

T = 10.0


async def test_a_guarded_scope_lasts_as_long_as_the_proof_is_renewed(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open(session_timeout=T, close_timeout=0.1) as zk:
        lost_at = 0.0
        with zk.keep_proof() as proof:
            await proof.renew()
            with trio.CancelScope() as scope:
                proof.guard(scope)
                await pass_time(10 * T)
                assert 0 < scope.deadline - trio.current_time() <= proof.remaining() + T / 20
                ensemble.shut(Door.HANGS)
                ensemble.cut()
                lost_at = trio.current_time()
                await trio.sleep_forever()
            assert scope.cancelled_caught
            assert trio.current_time() - lost_at <= T / 2
            assert proof.remaining() == 0.0


async def test_a_scope_without_a_proof_is_cancelled_at_once(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as zk:
        proof = zk.keep_proof()
        scope = trio.CancelScope()
        proof.guard(scope)
        assert scope.cancel_called


async def test_a_lost_session_cancels_in_the_moment_that_it_is_known(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open(session_timeout=T) as zk:
        seen: list[bool] = []
        with zk.keep_proof() as proof:
            await proof.renew()
            scope = trio.CancelScope()
            proof.guard(scope)
            zk.add_listener(lambda state: seen.append(scope.cancel_called) if state == KazooState.LOST else None)
            ensemble.expire(zk.session_id)
            await until(lambda: zk.connected and seen)
        assert seen == [True]


async def test_a_scope_that_is_let_go_is_left_alone(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open(session_timeout=T, close_timeout=0.1) as zk:
        with zk.keep_proof() as proof:
            await proof.renew()
            scope = trio.CancelScope()
            proof.guard(scope)
            await pass_time(T)
            proof.unguard(scope)
            assert scope.deadline == math.inf
            proof.unguard(scope)
            ensemble.shut(Door.HANGS)
            ensemble.cut()
            await pass_time(2 * T)
            assert not scope.cancel_called


async def test_the_end_of_the_client_ends_what_it_guards(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        proof = zk.keep_proof()
        await proof.renew()
        scope = trio.CancelScope()
        proof.guard(scope)
        assert not scope.cancel_called
    assert scope.cancel_called


async def test_a_stopped_process_finds_its_scopes_cancelled(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open(session_timeout=T) as zk:
        with zk.keep_proof() as proof:
            await proof.renew()
            with trio.CancelScope() as scope:
                proof.guard(scope)
                await pass_time(T)
                autojump_clock.jump(T)
                await trio.lowlevel.checkpoint()
                raise AssertionError("it passed a checkpoint")
            assert scope.cancelled_caught


async def test_a_clock_that_goes_on_while_trio_s_stands_still_is_looked_at(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    class BootedClock:
        """The machine slept: trio's clock did not see it."""

        slept = 0.0

        def now(self) -> float:
            return trio.current_time() + self.slept

    clock = BootedClock()
    async with ensemble.open(session_timeout=T, clock=clock) as zk:
        with zk.keep_proof() as proof:
            await proof.renew()
            with trio.CancelScope() as scope:
                proof.guard(scope)
                await pass_time(T)
                clock.slept = T
                await trio.lowlevel.checkpoint()
                raise AssertionError("it passed a checkpoint")
            assert scope.cancelled_caught


def _watching_every_pass() -> int:
    """How many instruments trio calls in every pass of its scheduler."""
    run: Any = scheduler.GLOBAL_RUN_CONTEXT
    return len(run.runner.instruments.get("after_io_wait", {}))


async def test_the_passes_are_left_when_there_is_nothing_to_guard(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    before = _watching_every_pass()
    async with ensemble.open(session_timeout=T) as zk:
        await pass_time(T)
        assert _watching_every_pass() == before
        with zk.keep_proof() as proof:
            await proof.renew()
            scope = trio.CancelScope()
            for _ in range(3):
                proof.guard(scope)
                assert _watching_every_pass() == before + 1
                proof.unguard(scope)
            await pass_time(T)
            assert _watching_every_pass() == before
            proof.guard(scope)
            assert _watching_every_pass() == before + 1
    assert _watching_every_pass() == before
    proof.guard(trio.CancelScope())
    assert _watching_every_pass() == before, "there is nothing to guard when the client has ended"


async def test_a_proof_of_one_session_says_nothing_of_the_next(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as zk:
        path, stat = await zk.create("/e", ephemeral=True, include_data=True)
        proof = zk.keep_proof(stat.ephemeralOwner)
        assert not now(proof.session_over)
        assert proof.remaining() > 0
        ensemble.expire(zk.session_id)
        await until(lambda: zk.connected and zk.session_id != stat.ephemeralOwner)
        await zk.create(path, ephemeral=True)
        assert now(proof.session_over)
        assert proof.deadline == -math.inf
        assert zk.keep_proof().remaining() > 0
        assert not zk.keep_proof().session_over


async def test_a_read_only_server_does_not_end_a_session(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open("a:2181", read_only=True, session_timeout=T) as zk:
        _, stat = await zk.create("/e", ephemeral=True, include_data=True)
        proof = zk.keep_proof(stat.ephemeralOwner)
        ensemble.read_only.add("a")
        ensemble.cut()
        await until(lambda: zk.session_id != stat.ephemeralOwner)
        assert zk.connected
        assert not proof.session_over


# forget_watch ---------------------------------------------------------------------------------------------------------

READS = ("get", "exists", "get_children")


@pytest.mark.parametrize("read", READS)
async def test_a_watch_that_was_taken_back_is_not_told(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, read: str
) -> None:
    told: list[WatchedEvent] = []
    ensemble.realm.create("/a")
    async with ensemble.open() as zk:
        before = await drained(zk)
        await getattr(zk, read)("/a", watch=told.append)
        assert watched_by_server(ensemble.link, "/a")
        zk.forget_watch("/a", told.append)
        assert await drained(zk) == before
        assert not watched_by_server(ensemble.link, "/a")
        ensemble.realm.set("/a")
        ensemble.realm.create("/a/b")
        await settle()
        assert told == []
        zk.forget_watch("/a", told.append)
        zk.forget_watch("/never", told.append)
        assert ensemble.opcodes().count(Opcode.REMOVE_WATCHES) == 1


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("other", READS)
async def test_others_on_the_path_keep_theirs(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, read: str, other: str
) -> None:
    mine: list[WatchedEvent] = []
    others: list[WatchedEvent] = []
    ensemble.realm.create("/a")
    async with ensemble.open() as zk:
        await getattr(zk, read)("/a", watch=mine.append)
        await getattr(zk, other)("/a", watch=others.append)
        zk.forget_watch("/a", mine.append)
        await zk.sync("/")
        ensemble.realm.delete("/a")
        await settle()
        assert mine == []
        assert len(others) == 1


async def test_a_stream_on_the_path_keeps_its_watch(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    told: list[WatchedEvent] = []
    ensemble.realm.create("/a")
    async with ensemble.open() as zk, zk.watch("/a") as changes:
        await zk.get("/a", watch=told.append)
        zk.forget_watch("/a", told.append)
        await zk.sync("/")
        ensemble.realm.set("/a")
        async for change in changes:
            assert isinstance(change, WatchedEvent)
            break
        assert told == []
        assert Opcode.REMOVE_WATCHES not in ensemble.opcodes()


async def test_it_is_the_view_s_own_watch(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    told: list[WatchedEvent] = []
    ensemble.realm.create("/app")
    ensemble.realm.create("/app/a")
    async with ensemble.open() as zk:
        view = zk.with_chroot("/app")
        await view.get("/a", watch=told.append)
        zk.forget_watch("/app/a", told.append)
        assert holdings(zk).watches == 1
        view.forget_watch("/a", told.append)
        assert (await drained(zk)).watches == 0


async def test_without_a_connection_there_is_nobody_to_tell(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    told: list[WatchedEvent] = []
    ensemble.realm.create("/a")
    async with ensemble.open() as zk:
        await zk.get("/a", watch=told.append)
        ensemble.shut(Door.REFUSES)
        ensemble.cut()
        await until(lambda: not zk.connected)
        zk.forget_watch("/a", told.append)
        ensemble.shut(Door.OPEN)
        await drained(zk)
        assert not watched_by_server(ensemble.link, "/a")
        assert Opcode.REMOVE_WATCHES not in ensemble.opcodes()
        assert told == []


# Deadlines ------------------------------------------------------------------------------------------------------------


@given(st.floats(0, 1e6), st.floats(0.01, 1e3))
def test_a_silence_that_is_due_is_a_silence(heard_at: float, timeout: float) -> None:
    """A timer that wakes at the very deadline must find something to do: it would wake there for ever."""
    liveness = Liveness(timeout)
    liveness.link_up(heard_at, timeout)
    assert liveness.silence(liveness.next_deadline(keepalive=False, blocked=True)) is not None


async def test_a_pipeline_s_read_may_set_a_watch(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    told: list[WatchedEvent] = []
    ensemble.realm.create("/a")
    async with ensemble.open() as zk:
        async with zk.pipeline() as pipeline:
            listed = await pipeline.get_children("/a", told.append)
        assert listed.result() == []
        ensemble.realm.delete("/a")
        await settle()
        assert [event.path for event in told] == ["/a"]
        assert (await drained(zk)).watches == 0
