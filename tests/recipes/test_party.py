"""Who is there, also after a lost session."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from terzetto.client import ConnectionLoss, ZooKeeper
from terzetto.recipes import Party, ShallowParty
from tests.client.memory_server import Door, MemoryEnsemble, pass_time, settle, until

from .losing import losses
from .truth import now
from .walking import at_rest, tree, walk

KINDS: list[Any] = [Party, ShallowParty]


@pytest.mark.parametrize("kind", KINDS)
async def test_members_come_and_go(ensemble: MemoryEnsemble, autojump_clock: MockClock, kind: Any) -> None:
    async with ensemble.open() as zk, ensemble.open() as other:
        assert await kind(zk, "/p").members() == []
        assert await kind(zk, "/p").count() == 0
        async with kind(zk, "/p", "one-1") as one, kind(other, "/p") as two:
            assert sorted(await one.members()) == ["", "one-1"]
            assert await two.count() == 2
            await one.leave()
            assert not now(one.participating)
            assert await two.members() == [""]
            await one.leave()
            await one.join()
            await one.join()
            assert now(one.participating)
            assert await two.count() == 2
        assert tree(ensemble) == {"/p"}
        with pytest.raises(RuntimeError, match="block"):
            await one.join()


async def test_the_znodes_are_kazoo_s(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        async with Party(zk, "/p", "me"), ShallowParty(zk, "/s", "me"):
            (deep,), (shallow,) = await zk.get_children("/p"), await zk.get_children("/s")
            assert (len(deep), deep[32:]) == (41, "__party__")
            assert (len(shallow), shallow[32:]) == (35, "-me")
            for path in (f"/p/{deep}", f"/s/{shallow}"):
                data, stat = await zk.get(path)
                assert data == b"me"
                assert stat.ephemeralOwner == zk.session_id
        with pytest.raises(ValueError, match="slash"):
            ShallowParty(zk, "/s", "a/b")


@pytest.mark.parametrize("kind", KINDS)
async def test_kazoo_2_a_lost_session_ends_no_membership(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, kind: Any
) -> None:
    async with ensemble.open() as zk, kind(zk, "/p", "me") as party:
        for _ in range(3):
            session = zk.session_id
            ensemble.expire(session)
            await until(lambda session=session: zk.session_id not in (0, session))  # type: ignore[misc]
            await until(lambda: len(tree(ensemble)) == 2)
            await settle()
            assert await party.members() == ["me"]
            assert party.participating


async def _take_part(zk: ZooKeeper) -> None:
    async with Party(zk, "/p", "me") as party:
        await party.members()


async def test_cancelled_at_each_checkpoint_it_leaves_nothing(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    await walk(ensemble, _take_part, leaves={"/p"}, raises=(ConnectionLoss,), latency=0.2)


async def test_a_lost_request_or_reply_leaves_one_member_and_then_none(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async for loss in losses(ensemble):
        async with ensemble.open() as zk:
            async with Party(zk, "/p", "me") as party:
                assert await party.members() == ["me"], str(loss)
            await at_rest(zk)
            assert tree(ensemble) == {"/p"}, str(loss)


@pytest.mark.parametrize("first", ["join", "leave"])
async def test_whoever_is_overtaken_waits_for_nothing(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, first: str
) -> None:
    async with ensemble.open() as zk, Party(zk, "/p") as party:
        if first == "join":
            await party.leave()
        with trio.fail_after(10):
            for _ in range(5):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(party.leave)
                    nursery.start_soon(party.join)


async def test_who_waits_to_join_does_not_wait_for_a_block_that_has_failed(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as zk, trio.open_nursery() as nursery:
        party = Party(zk, "/p", "me")

        async def fail_while_it_is_joined() -> None:
            async with party:
                await party.leave()
                ensemble.shut(Door.REFUSES)
                ensemble.cut()
                nursery.start_soon(party.join)
                await pass_time(1)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fail_while_it_is_joined()
        with trio.fail_after(1):
            await until(lambda: not nursery.child_tasks)
        assert not party.participating
        ensemble.shut(Door.OPEN)
