"""Leadership as a standing flag."""

# ruff: noqa: PT012 - what leaves a block is what is tested here
from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from terzetto.client import ConnectionLoss, SessionExpiredError, ZooKeeper
from terzetto.recipes import LayoutConflictError, LeaderLatch, OwnershipLost
from tests.client.holdings import holdings
from tests.client.memory_server import MemoryEnsemble, pass_time, settle, until

from .losing import losses
from .truth import now
from .walking import at_rest, tree, walk


class BodyError(Exception):
    pass


async def test_one_leads_and_the_others_follow(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as one, ensemble.open() as other:
        assert await LeaderLatch(one, "/l").leader() is None
        async with LeaderLatch(one, "/l", "one") as first:
            await first.wait_leadership()
            async with LeaderLatch(other, "/l", "other") as second:
                await settle()
                assert first.has_leadership
                assert not now(second.has_leadership)
                assert second.held is None
                assert await second.participants() == ["one", "other"]
                assert await second.leader() == "one"
        await at_rest(one)
        await at_rest(other)
        assert tree(ensemble) == {"/l"}
        assert not now(first.has_leadership)
        assert holdings(one).proof_holders == 0


@pytest.mark.parametrize(("layout", "tag"), [("curator", "-latch-"), ("kazoo", "__lock__")])
async def test_the_znodes_are_those_of_the_layout(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, layout: Any, tag: str
) -> None:
    async with ensemble.open() as zk, LeaderLatch(zk, "/l", "me", layout=layout) as latch:
        held = await latch.wait_leadership()
        assert held.znode.endswith(f"{tag}0000000000")
        assert (await zk.get(held.znode))[0] == b"me"


async def test_leaving_the_block_hands_over(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as one, ensemble.open() as other, LeaderLatch(other, "/l") as second:
        await second.wait_leadership()
        async with LeaderLatch(one, "/l") as first:
            await settle()
            assert not now(first.has_leadership)
            ensemble.realm.delete(second.held.znode)  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]
            await settle()
            assert first.has_leadership
            assert not now(second.has_leadership)
        await settle()
        assert second.has_leadership


async def test_every_term_has_a_znode_and_a_token_of_its_own(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    tokens: list[int] = []
    async with ensemble.open() as zk, LeaderLatch(zk, "/l") as latch:
        for _ in range(3):
            held = await latch.wait_leadership()
            assert held.fencing_token is not None
            tokens.append(held.fencing_token)
            ensemble.expire(zk.session_id)
            await until(lambda held=held: latch.has_leadership and latch.held is not held)  # type: ignore[misc]
        # Of the terms that have ended nothing is kept.
        assert holdings(zk).proof_holders == 1
        assert (await at_rest(zk)).watches == 1
    assert tokens == sorted(set(tokens))


async def test_a_lost_connection_ends_no_term_that_is_proved_in_time(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as zk, LeaderLatch(zk, "/l") as latch:
        held = await latch.wait_leadership()
        for _ in range(5):
            ensemble.cut()
            await until(lambda: zk.connected)
            await pass_time(10)
        assert latch.held is held


async def test_what_only_the_leader_may_do_ends_with_the_term(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as zk, LeaderLatch(zk, "/l") as latch:
        first = await latch.wait_leadership()
        with pytest.raises(OwnershipLost):
            async with latch.leading() as held:
                assert held is first
                ensemble.realm.delete(held.znode)
                await trio.sleep_forever()
        async with latch.leading() as again:
            assert again is not first
        # Leaving that block resigns nothing.
        assert latch.held is again
        with pytest.raises(BodyError):
            async with latch.leading():
                raise BodyError


async def test_what_the_body_raises_leaves_unchanged(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        error = BodyError("own")
        with pytest.raises(BodyError) as caught:
            async with LeaderLatch(zk, "/l") as latch:
                await latch.wait_leadership()
                raise error
        assert caught.value is error
        await at_rest(zk)
        assert tree(ensemble) == {"/l"}


async def test_a_latch_that_cannot_take_part_ends_its_block(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    ensemble.realm.create("/l")
    ensemble.realm.create(f"/l/{'0' * 32}__lock__0000000000")
    async with ensemble.open() as zk:
        with pytest.raises(LayoutConflictError):
            async with LeaderLatch(zk, "/l"):
                await trio.sleep_forever()
    async with ensemble.open(renew_session=False) as zk:
        with pytest.raises(SessionExpiredError):
            async with LeaderLatch(zk, "/m") as latch:
                await latch.wait_leadership()
                ensemble.expire(zk.session_id)
                await trio.sleep_forever()


async def test_a_latch_is_entered_once(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk, LeaderLatch(zk, "/l") as latch:
        with pytest.raises(RuntimeError, match="entered once"):
            async with latch:
                pass


async def _use(zk: ZooKeeper) -> None:
    async with LeaderLatch(zk, "/l") as latch:
        async with latch.leading():
            await trio.lowlevel.checkpoint()


async def test_cancelled_at_each_checkpoint_it_leaves_nothing(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    await walk(ensemble, _use, leaves={"/l"}, raises=(OwnershipLost, ConnectionLoss))


async def test_a_lost_request_or_reply_leaves_nothing(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async for loss in losses(ensemble):
        with trio.fail_after(30):
            async with ensemble.open() as zk:
                await _use(zk)
                await at_rest(zk)
                assert tree(ensemble) == {"/l"}, str(loss)


class _WhenScheduled(trio.abc.Instrument):
    """Cancels a scope when the task of a latch is to go on for the time number `at`."""

    def __init__(self, at: int, scope: trio.CancelScope) -> None:
        self.left = at
        self._scope = scope

    def task_scheduled(self, task: trio.lowlevel.Task) -> None:
        if "_take_part" in task.name:
            self.left -= 1
            if self.left == 0:
                self._scope.cancel()


@pytest.mark.parametrize("chance", range(8))
async def test_a_term_that_begins_while_the_block_ends_is_resigned(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, chance: int
) -> None:
    """The latch's task has its answer and does not know yet that the block is over; which of both runs is chance."""
    ensemble.realm.create("/l")
    at, left = 0, 0
    while left <= 0:
        at += 1
        async with ensemble.open() as zk:
            scope = trio.CancelScope()
            instrument = _WhenScheduled(at, scope)
            with scope:
                trio.lowlevel.add_instrument(instrument)
                try:
                    async with LeaderLatch(zk, "/l"):
                        await trio.sleep(1)
                finally:
                    trio.lowlevel.remove_instrument(instrument)
            left = instrument.left
            assert (await at_rest(zk)).proof_holders == 0, at
            assert tree(ensemble) <= {"/l"}, at
    assert at > 2


async def test_who_waits_for_leadership_is_told_that_the_latch_was_left(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    ended: list[str] = []

    async def lead(latch: LeaderLatch) -> None:
        with pytest.raises(OwnershipLost) as lost:
            async with latch.leading():
                pytest.fail("another one leads")
        ended.append(lost.value.reason)

    async with ensemble.open() as one, ensemble.open() as other:
        async with LeaderLatch(other, "/l") as leader, trio.open_nursery() as nursery:
            await leader.wait_leadership()
            latch = LeaderLatch(one, "/l")
            nursery.start_soon(lead, latch)  # before it is entered, too
            with trio.fail_after(60):
                async with latch:
                    await settle()
                    nursery.start_soon(lead, latch)
                    await settle()
                    assert ended == []
                with pytest.raises(OwnershipLost, match="/l is no longer owned: its latch was left"):
                    await latch.wait_leadership()
        assert ended == ["its latch was left"] * 2
