"""Barriers: nobody is let through early, and nobody stays behind."""

from __future__ import annotations

import os
import socket

import pytest
import trio
from trio.testing import MockClock

from terzetto.client import SessionExpiredError, ZooKeeper
from terzetto.client.wire import Opcode
from terzetto.recipes import Barrier, DoubleBarrier
from terzetto.recipes._znodes import ChangeWait
from tests.client.memory_server import Door, MemoryEnsemble, pass_time, settle, until
from tests.client.server_link import Fault, nth

from .losing import losses
from .truth import now
from .walking import at_rest, forget_tree, tree, walk


class BodyError(Exception):
    pass


async def test_it_is_waited_for_until_it_is_away(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    passed: list[bool] = []

    async with ensemble.open() as one, ensemble.open() as other:
        barrier = Barrier(one, "/b/c")
        assert await barrier.wait() is True, "there is none"
        await barrier.create()
        await barrier.create()
        assert tree(ensemble) == {"/b", "/b/c"}

        async def wait() -> None:
            passed.append(await Barrier(other, "/b/c").wait())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await pass_time(100)
            assert passed == []
            assert await barrier.remove() is True
        assert passed == [True]
        assert await barrier.remove() is False


async def test_a_wait_has_a_limit(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    ensemble.realm.create("/b")
    async with ensemble.open() as zk:
        before, start = await at_rest(zk), trio.current_time()
        assert await Barrier(zk, "/b").wait(timeout=3) is False
        assert trio.current_time() - start == pytest.approx(3)
        assert await at_rest(zk) == before


async def test_kazoo_1_a_wait_survives_a_lost_connection(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    ensemble.realm.create("/b")
    async with ensemble.open() as zk, trio.open_nursery() as nursery:
        nursery.start_soon(Barrier(zk, "/b").wait)
        await settle()
        ensemble.shut(Door.REFUSES)
        ensemble.cut()
        await until(lambda: not zk.connected)
        ensemble.realm.delete("/b")
        nursery.cancel_scope.deadline = trio.current_time() + 30
        ensemble.shut(Door.OPEN)
    assert not nursery.cancel_scope.cancelled_caught


async def test_a_wait_survives_a_lost_session_and_is_not_ended_by_it(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    ensemble.realm.create("/b")
    passed: list[bool] = []

    async def wait(zk: ZooKeeper) -> None:
        passed.append(await Barrier(zk, "/b").wait())

    async with ensemble.open() as zk, trio.open_nursery() as nursery:
        nursery.start_soon(wait, zk)
        await settle()
        session = zk.session_id
        ensemble.expire(session)
        await until(lambda: zk.connected and zk.session_id != session)
        await pass_time(10)
        assert passed == []
        ensemble.realm.delete("/b")
        with trio.fail_after(5):
            await until(lambda: passed)


async def test_a_client_that_is_over_ends_a_wait(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    ensemble.realm.create("/b")
    async with ensemble.open(renew_session=False) as zk:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pass_time, 1)
            ensemble.expire(zk.session_id)
            with pytest.raises(SessionExpiredError):
                await Barrier(zk, "/b").wait()
        with pytest.raises(SessionExpiredError):
            await Barrier(zk, "/b").remove()


async def test_a_removal_whose_reply_was_lost_spares_the_next_barrier(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    ensemble.realm.create("/b")
    ensemble.rules.append(nth(1, Opcode.DELETE, Fault.DO_AND_CUT))
    async with ensemble.open() as zk, trio.open_nursery() as nursery:
        ensemble.shut(Door.OPEN)

        async def set_up_again() -> None:
            await until(lambda: "/b" not in tree(ensemble))
            ensemble.realm.create("/b")

        nursery.start_soon(set_up_again)
        assert await Barrier(zk, "/b").remove() is True
        assert tree(ensemble) == {"/b"}


async def _single(zk: ZooKeeper) -> None:
    barrier = Barrier(zk, "/b")
    await barrier.create()
    await barrier.wait(timeout=1)
    await barrier.remove()
    await barrier.wait()


async def test_a_lost_request_or_reply_does_no_harm(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async for loss in losses(ensemble):
        with trio.fail_after(60):
            async with ensemble.open() as zk:
                barrier = Barrier(zk, "/b")
                await barrier.create()
                assert await barrier.wait(timeout=5) is False, str(loss)
                assert await barrier.remove() is True, str(loss)
                assert await barrier.wait() is True
                await at_rest(zk)
                assert tree(ensemble) == set(), str(loss)


async def test_cancelled_at_each_checkpoint_it_leaves_nothing(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    await walk(ensemble, _single, leaves={"/b"})


# Double barriers ------------------------------------------------------------------------------------------------------


class Group:
    """Members of one barrier, and who is how far."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.inside: list[int] = []
        self.out: list[int] = []
        self.most_missing = 0
        self.go = trio.Event()

    async def member(self, zk: ZooKeeper, number: int) -> None:
        barrier = DoubleBarrier(zk, "/d", self.count, f"m{number}")
        assert await barrier.enter()
        assert now(barrier.participating)
        self.inside.append(number)
        await self.go.wait()
        assert await barrier.leave()
        assert not now(barrier.participating)
        self.out.append(number)


async def test_members_begin_and_end_together(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        for _ in range(2):
            group = Group(3)
            async with trio.open_nursery() as nursery:
                for number in range(3):
                    assert group.inside == []
                    await pass_time(1)
                    nursery.start_soon(group.member, zk, number)
                    await pass_time(1)
                assert sorted(group.inside) == [0, 1, 2]
                assert len(tree(ensemble)) == 5
                assert "/d/ready" in tree(ensemble)
                assert group.out == []
                group.go.set()
            assert sorted(group.out) == [0, 1, 2]
            await at_rest(zk)
            assert tree(ensemble) == {"/d"}


async def test_nobody_has_left_before_all_have(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        groups = [Group(3) for _ in range(3)]
        out: list[int] = []
        async with trio.open_nursery() as nursery:
            for number, group in enumerate(groups):
                nursery.start_soon(group.member, zk, number)
            await pass_time(1)
            for group in groups:
                assert out == []
                assert group.inside
                group.go.set()
                await pass_time(1)
                out = [number for group in groups for number in group.out]
        assert sorted(out) == [0, 1, 2]


async def test_the_znodes_are_kazoo_s(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        async with DoubleBarrier(zk, "/d", 1) as barrier:
            assert barrier.participating
            (name,) = set(await zk.get_children("/d")) - {"ready"}
            data, stat = await zk.get(f"/d/{name}")
            assert data == f"{socket.getfqdn()}-{os.getpid()}".encode()
            assert stat.ephemeralOwner == zk.session_id
            ready, stat = await zk.get("/d/ready")
            assert (ready, stat.ephemeralOwner) == (b"", 0)
        assert tree(ensemble) == {"/d"}


async def test_who_gives_up_waiting_does_not_count(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        first = DoubleBarrier(zk, "/d", 2)
        assert await first.enter(timeout=2) is False
        assert not first.participating
        await at_rest(zk)
        assert tree(ensemble) == {"/d"}
        assert await DoubleBarrier(zk, "/d", 2).enter(timeout=2) is False
        assert await first.leave() is False
        async with trio.open_nursery() as nursery:
            nursery.start_soon(first.enter)
            assert await DoubleBarrier(zk, "/d", 2).enter(timeout=2) is True


async def test_leaving_has_a_limit_too(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        members = [DoubleBarrier(zk, "/d", 2) for _ in range(2)]
        async with trio.open_nursery() as nursery:
            for member in members:
                nursery.start_soon(member.enter)
        assert await members[0].leave(timeout=2) is False
        await at_rest(zk)
        assert len(tree(ensemble)) == 3, "our member has left"
        assert await members[1].leave(timeout=2) is True
        assert tree(ensemble) == {"/d"}


async def test_an_object_is_one_member(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        barrier = DoubleBarrier(zk, "/d", 1)
        await barrier.enter()
        with pytest.raises(RuntimeError, match="entered"):
            await barrier.enter()
        await barrier.leave()
        assert await barrier.enter()
    with pytest.raises(ValueError, match="num_clients"):
        DoubleBarrier(zk, "/d", 0)


async def test_a_body_that_fails_leaves_without_waiting(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        other = DoubleBarrier(zk, "/d", 2)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other.enter)
            with pytest.raises(BodyError):
                async with DoubleBarrier(zk, "/d", 2):
                    raise BodyError
        with trio.fail_after(5):
            assert await other.leave()


async def test_curator_17_what_a_dead_group_left_lets_nobody_through(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as zk:
        async with ensemble.open() as one:
            await DoubleBarrier(one, "/d", 1).enter()
        assert tree(ensemble) == {"/d", "/d/ready"}
        assert await DoubleBarrier(zk, "/d", 2).enter(timeout=5) is False
        await at_rest(zk)
        assert tree(ensemble) == {"/d"}


async def test_ready_counts_though_it_is_gone_again(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    """Others, of kazoo, may have begun to leave before a slow member looks."""
    async with ensemble.open() as zk, trio.open_nursery() as nursery:
        group = Group(3)
        group.go.set()
        nursery.start_soon(group.member, zk, 0)
        await settle()
        ensemble.realm.create("/d/ready")
        ensemble.realm.delete("/d/ready")
        await until(lambda: group.out == [0])


KAZOO_S = f"/d/{0:032x}"
"""A member of kazoo's, the first of all by name."""


async def test_ready_goes_where_the_last_of_kazoo_s_waits_for_that(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    """It has let itself through and taken `ready` along before we looked, so we made another one."""
    async with ensemble.open() as zk, ensemble.open() as kazoo:
        await kazoo.create(KAZOO_S, ephemeral=True, makepath=True)
        ours = DoubleBarrier(zk, "/d", 2)
        assert await ours.enter()
        assert tree(ensemble) > {KAZOO_S, "/d/ready"}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ours.leave)
            # As kazoo waits: for the last of all children, `ready` among them, to be deleted.
            while last := sorted(set(await kazoo.get_children("/d")) - {KAZOO_S.rpartition("/")[2]}):
                with trio.fail_after(60):
                    async with ChangeWait(kazoo, f"/d/{last[-1]}") as gone:
                        if await kazoo.exists(f"/d/{last[-1]}", watch=gone.told) is not None:
                            await gone.happened()
            await kazoo.delete(KAZOO_S)
        assert tree(ensemble) == {"/d"}


async def test_ready_goes_also_where_our_body_has_failed(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    ensemble.realm.create("/d")
    ensemble.realm.create(KAZOO_S)
    async with ensemble.open() as zk:
        with pytest.raises(BodyError):
            async with DoubleBarrier(zk, "/d", 2):
                raise BodyError
        await at_rest(zk)
        assert tree(ensemble) == {"/d", KAZOO_S}


async def test_ready_stays_for_the_slow_ones_where_all_are_ours(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as zk, trio.open_nursery() as nursery:
        barriers = [DoubleBarrier(zk, "/d", 2) for _ in range(2)]
        for barrier in barriers:
            nursery.start_soon(barrier.enter)
        await until(lambda: all(barrier.participating for barrier in barriers))
        nursery.start_soon(barriers[0].leave)
        await settle()
        assert "/d/ready" in tree(ensemble)
        await barriers[1].leave()


async def test_nobody_of_kazoo_s_comes_and_goes_before_we_look(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    """Our znode completes them: they pass, take `ready` along and leave, as soon as they can see us."""
    ensemble.realm.create("/d")
    ensemble.realm.create(KAZOO_S)
    async with ensemble.open() as zk, trio.open_nursery() as nursery:
        ours = DoubleBarrier(zk, "/d", 2)
        ensemble.latency = 1.0
        nursery.start_soon(ours.enter)
        await until(lambda: len(tree(ensemble)) > 2)
        ensemble.realm.create("/d/ready")
        ensemble.realm.delete("/d/ready")
        ensemble.realm.delete(KAZOO_S)
        with trio.fail_after(60):
            await until(lambda: ours.participating)


@pytest.mark.parametrize("session_lost", [False, True])
async def test_kazoo_12_entering_survives_lost_connections_and_sessions(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, session_lost: bool
) -> None:
    async with ensemble.open() as one, ensemble.open() as other, trio.open_nursery() as nursery:
        group = Group(2)
        nursery.start_soon(group.member, one, 0)
        await settle()
        if session_lost:
            ensemble.expire(one.session_id)
        ensemble.cut()
        await pass_time(20)
        assert group.inside == []
        nursery.start_soon(group.member, other, 1)
        with trio.fail_after(10):
            await until(lambda: len(group.inside) == 2)
        if session_lost:
            ensemble.expire(one.session_id)
        ensemble.cut()
        group.go.set()
        with trio.fail_after(30):
            await until(lambda: len(group.out) == 2)


async def test_curator_27_a_slow_member_is_not_left_behind(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as slow, ensemble.open() as quick, trio.open_nursery() as nursery:
        group = Group(3)
        nursery.start_soon(group.member, slow, 0)
        await settle()
        ensemble.shut(Door.REFUSES)
        ensemble.cut()
        await until(lambda: not slow.connected)
        group.go.set()
        ensemble.shut(Door.OPEN)
        for number in (1, 2):
            nursery.start_soon(group.member, quick, number)
        with trio.fail_after(30):
            await until(lambda: len(group.out) == 3)


async def test_a_client_that_is_over_ends_entering_and_leaving(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open(renew_session=False) as zk, ensemble.open() as other:
        barrier, theirs = DoubleBarrier(zk, "/d", 2), DoubleBarrier(other, "/d", 2)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(barrier.enter)
            nursery.start_soon(theirs.enter)
        ensemble.expire(zk.session_id)
        with pytest.raises(SessionExpiredError):
            await barrier.leave()
        with pytest.raises(SessionExpiredError):
            await DoubleBarrier(zk, "/d", 2).enter()
        assert await theirs.leave()


async def _double(zk: ZooKeeper) -> None:
    async def member() -> None:
        async with DoubleBarrier(zk, "/d", 2):
            pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(member)
        nursery.start_soon(member)
        await trio.lowlevel.checkpoint()


async def _alone(zk: ZooKeeper) -> None:
    barrier = DoubleBarrier(zk, "/d", 2)
    await barrier.enter(timeout=1)
    async with DoubleBarrier(zk, "/d", 1):
        pass


async def test_a_member_cancelled_at_each_checkpoint_leaves_nothing(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    await walk(ensemble, _alone, leaves={"/d", "/d/ready"})


async def test_a_lost_request_or_reply_keeps_nobody_in(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async for loss in losses(ensemble):
        with trio.fail_after(60):
            async with ensemble.open() as zk:
                await _double(zk)
                await at_rest(zk)
                assert tree(ensemble) == {"/d"}, str(loss)


async def test_the_next_member_clears_up_whatever_a_lost_connection_left(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    forget_tree(ensemble)
    ensemble.realm.create("/d")
    ensemble.realm.create("/d/ready")
    ensemble.rules.append(nth(1, Opcode.MULTI, Fault.DO_AND_CUT))
    async with ensemble.open() as zk:
        with trio.fail_after(30):
            assert await DoubleBarrier(zk, "/d", 2).enter(timeout=5) is False
        await at_rest(zk)
        assert tree(ensemble) == {"/d"}


async def test_without_time_to_wait_it_looks_once(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    ensemble.realm.create("/b")
    ensemble.latency = 1.0
    async with ensemble.open() as zk:
        assert await Barrier(zk, "/b").wait(0) is False
        ensemble.realm.delete("/b")
        assert await Barrier(zk, "/b").wait(0) is True


async def test_a_member_without_time_to_wait_looks_once(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        alone = DoubleBarrier(zk, "/d", 1)
        assert await alone.enter(0) is True
        assert await alone.leave(0) is True
        await at_rest(zk)
        assert tree(ensemble) == {"/d"}
        one, other = DoubleBarrier(zk, "/d", 2), DoubleBarrier(zk, "/d", 2)
        assert await one.enter(0) is False
        await at_rest(zk)
        assert tree(ensemble) == {"/d"}, "it takes no part"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.enter)
            await settle()
            assert await other.enter(0) is True
        assert await one.leave(0) is False
        await at_rest(zk)
        assert await other.leave(0) is True
        await at_rest(zk)
        assert tree(ensemble) == {"/d"}


async def test_a_member_of_the_next_session_is_another_one(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    """The znode of a session that was given up lives on for a while, and is nobody's when it goes."""
    async with ensemble.open(give_up_after=2.0) as one, ensemble.open("b:2181") as other:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(DoubleBarrier(one, "/d", 2).enter)
            await settle()
            former, ghosts = one.session_id, tree(ensemble)
            assert len(ghosts) == 2
            ensemble.doors.update(a=Door.REFUSES)
            ensemble.links[0].hang_up()
            await until(lambda: one.session_id != former)
            ensemble.doors.update(a=Door.OPEN)
            await until(lambda: one.session_id not in (0, former))
            await pass_time(5)
            ensemble.expire(former)
            await settle()
            assert len(tree(ensemble)) == 2, "the new one stays"
            assert not tree(ensemble) & ghosts - {"/d"}
            assert await DoubleBarrier(other, "/d", 2).enter(5) is True
