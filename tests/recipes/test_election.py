"""Elections: kazoo's `run`, the scope, and turns."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from terzetto.client import CancelledError, ConnectionLoss, LockTimeout, ZooKeeper
from terzetto.recipes import Election, LeaderSelector, Lock, Ownership, OwnershipLost
from tests.client.memory_server import MemoryEnsemble, pass_time, settle, until

from .losing import losses
from .truth import now
from .walking import at_rest, tree, walk

if sys.version_info < (3, 11):
    from exceptiongroup import ExceptionGroup


class LeaderError(Exception):
    pass


async def test_run_runs_once_while_leading(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        election = Election(zk, "/e", "me")

        async def lead(first: int, *, second: int) -> int:
            assert election.is_leader
            assert election.lock.held is not None
            assert await election.contenders() == ["me"]
            return first + second

        assert await election.run(lead, 1, second=2) == 3
        assert not now(election.is_leader)
        assert await election.contenders() == []
        assert await election.run(lambda: "plain") == "plain"
        with pytest.raises(ValueError, match="runs a function"):
            await election.run("lead")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def test_what_the_function_raises_leaves_and_resigns(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async def fail() -> None:
        raise LeaderError("own")

    async with ensemble.open() as zk:
        with pytest.raises(LeaderError):
            await Election(zk, "/e").run(fail)
        await at_rest(zk)
        assert tree(ensemble) == {"/e"}


async def test_one_leader_at_a_time_in_order(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    leaders: list[str] = []

    async def candidate(name: str) -> None:
        async with ensemble.open() as zk:

            async def lead() -> None:
                leaders.append(name)
                await pass_time(1)

            await Election(zk, "/e", name).run(lead)

    async with ensemble.open() as zk, trio.open_nursery() as nursery:
        for name in "abcde":
            nursery.start_soon(candidate, name)
            await settle()
        assert await Election(zk, "/e").contenders() == list("abcde")
        # It is a lock with another name.
        assert not await Lock(zk, "/e").acquire(blocking=False)
    assert leaders == list("abcde")


async def test_a_leader_that_loses_is_cancelled(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    cancelled: list[str] = []

    async def lead() -> None:
        try:
            await trio.sleep_forever()
        finally:
            cancelled.append("leader")

    async with ensemble.open() as zk, trio.open_nursery() as nursery:

        async def run() -> None:
            with pytest.raises(OwnershipLost):
                await Election(zk, "/e").run(lead)

        nursery.start_soon(run)
        await settle()
        ensemble.expire(zk.session_id)
    assert cancelled == ["leader"]


async def test_cancel_ends_a_wait_and_no_leadership(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    results: list[object] = []

    async def run(election: Election) -> None:
        results.append(await election.run(lambda: "led"))

    async with ensemble.open() as zk, trio.open_nursery() as nursery:
        waiting = Election(zk, "/e")
        async with Election(zk, "/e") as held:
            nursery.start_soon(run, waiting)
            await settle()
            waiting.cancel()
            await settle()
            assert results == [None]
            assert not now(held.is_lost)
        assert await waiting.run(lambda: "led") == "led"


async def test_the_scope_with_a_limit(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        async with Election(zk, "/e") as held:
            assert held.fencing_token is not None
            with pytest.raises(LockTimeout):
                async with Election(zk, "/e").lead(timeout=1.0):
                    pass
        async with Election(zk, "/e").lead(timeout=1.0):
            pass


async def test_turns_are_taken_again_and_again(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    turns: list[str] = []
    tokens: list[int] = []

    async def candidate(name: str) -> None:
        async with ensemble.open() as zk:

            async def lead(held: Ownership) -> None:
                assert held.fencing_token is not None
                tokens.append(held.fencing_token)
                turns.append(name)
                await pass_time(1)

            await LeaderSelector(zk, "/e", name).take_turns(lead)

    async with trio.open_nursery() as nursery:
        for name in "abc":
            nursery.start_soon(candidate, name)
            await settle()
        assert all("-lock-" in path for path in tree(ensemble) if path != "/e")
        await pass_time(6.5)
        nursery.cancel_scope.cancel()
    assert turns == list("abcabca")
    assert tokens == sorted(set(tokens))


async def test_a_lost_turn_is_followed_by_another(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    turns: list[int] = []

    async def lead(held: Ownership) -> None:
        turns.append(held.fencing_token or 0)
        await trio.sleep_forever()

    async with ensemble.open() as zk, trio.open_nursery() as nursery:
        nursery.start_soon(LeaderSelector(zk, "/e").take_turns, lead)
        await settle()
        ensemble.expire(zk.session_id)
        await until(lambda: len(turns) == 2)
        (znode,) = [path for path in tree(ensemble) if path != "/e"]
        ensemble.realm.delete(znode)
        await until(lambda: len(turns) == 3)
        nursery.cancel_scope.cancel()
    assert turns == sorted(set(turns))


async def test_what_a_turn_raises_ends_all_turns(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:

        async def fail(_: Ownership) -> None:
            raise LeaderError("own")

        async def lose_something_else(_: Ownership) -> None:
            raise OwnershipLost("/another", "why")

        with pytest.raises(LeaderError):
            await LeaderSelector(zk, "/e").take_turns(fail)
        with pytest.raises(OwnershipLost, match="/another"):
            await LeaderSelector(zk, "/e").take_turns(lose_something_else)


async def _run(zk: ZooKeeper) -> None:
    await Election(zk, "/e").run(trio.lowlevel.checkpoint)


async def _turns(zk: ZooKeeper) -> None:
    async def lead(_: Ownership) -> None:
        await trio.lowlevel.checkpoint()

    with trio.move_on_after(3):
        await LeaderSelector(zk, "/e").take_turns(lead)


@pytest.mark.parametrize("work", [_run, _turns])
async def test_cancelled_at_each_checkpoint_it_leaves_nothing(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, work: Any
) -> None:
    await walk(ensemble, work, leaves={"/e"}, raises=(OwnershipLost, ConnectionLoss))


async def test_a_lost_request_or_reply_lets_the_function_run_once(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async for loss in losses(ensemble):
        runs: list[str] = []
        with trio.fail_after(30):
            async with ensemble.open() as zk:
                await Election(zk, "/e").run(runs.append, "led")
                await at_rest(zk)
        assert runs == ["led"]
        assert tree(ensemble) == {"/e"}, str(loss)


async def test_a_lost_turn_whose_children_say_so_is_followed_by_another(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    """A nursery wraps what its children raise."""
    terms: list[Ownership] = []

    async def lead(leadership: Ownership) -> None:
        terms.append(leadership)
        async with trio.open_nursery() as nursery:
            if len(terms) < 3:
                ensemble.realm.delete(leadership.znode)
                nursery.start_soon(leadership.assert_owned)
            else:
                nursery.start_soon(fail)

    async def fail() -> None:
        raise ArithmeticError

    async with ensemble.open() as zk:
        with trio.fail_after(100), pytest.raises(ExceptionGroup) as caught:
            await LeaderSelector(zk, "/e").take_turns(lead)
        assert isinstance(caught.value.exceptions[0], ArithmeticError)
        assert len(terms) == 3


async def test_the_function_s_own_cancelled_error_is_not_the_election_s(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async def work() -> None:
        raise CancelledError("somebody else's lock")

    async with ensemble.open() as zk:
        with pytest.raises(CancelledError, match="somebody else's lock"):
            await Election(zk, "/e").run(work)
