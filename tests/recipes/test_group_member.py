"""Members of a group."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from terzetto.client import ZooKeeper
from terzetto.recipes import GroupMember
from tests.client.memory_server import MemoryEnsemble, settle, until

from .losing import losses
from .walking import tree, walk


async def test_members_know_each_other(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as one, ensemble.open() as other:
        async with GroupMember(one, "/g", "one", b"1") as first:
            assert first.members() == {"one": b"1"}
            assert first.is_member
            assert first.age == 0.0
            changes = first.changes()
            await anext(changes)
            async with GroupMember(other, "/g", "other", b"2") as second:
                assert second.members() == {"one": b"1", "other": b"2"}
                assert await anext(changes) == second.members()
                await second.set_data(b"3")
                assert await anext(changes) == {"one": b"1", "other": b"3"}
            assert await anext(changes) == {"one": b"1"}
        assert tree(ensemble) == {"/g"}


async def test_after_a_lost_session_it_is_a_member_again(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as one, ensemble.open() as other:
        async with GroupMember(one, "/g", "one") as first, GroupMember(other, "/g", "other") as second:
            await first.set_data(b"new")
            ensemble.expire(one.session_id)
            await until(lambda: second.members() == {"other": b""})
            await until(lambda: second.members() == first.members() == {"one": b"new", "other": b""})


async def test_names_that_no_znode_can_have(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        for name in ("", "a/b", ".", ".."):
            with pytest.raises(ValueError, match="name"):
                GroupMember(zk, "/g", name)
        assert GroupMember(zk, "/g", "a").age == float("inf")


async def _belong(zk: ZooKeeper) -> None:
    async with GroupMember(zk, "/g", "a"):
        await settle()


async def test_cancelled_anywhere_nothing_stays(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    assert await walk(ensemble, _belong, leaves={"/g"}) > 3


async def test_whatever_is_lost_it_belongs(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async for loss in losses(ensemble):
        async with ensemble.open() as zk:
            async with GroupMember(zk, "/g", "a", b"1") as member:
                await until(lambda member=member: member.members() == {"a": b"1"})  # type: ignore[misc]
        assert tree(ensemble) == {"/g"}, loss


async def test_changes_end_with_the_block(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    seen: list[dict[str, bytes]] = []

    async def consume(group: GroupMember) -> None:
        seen.extend([members async for members in group.changes()])

    async with ensemble.open() as zk, trio.open_nursery() as nursery:
        async with GroupMember(zk, "/g", "me", b"1") as group:
            nursery.start_soon(consume, group)
            await settle()
    assert seen == [{"me": b"1"}]


async def test_data_that_no_znode_can_have(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        with pytest.raises(TypeError, match=r"data must be bytes, not 'text'"):
            GroupMember(zk, "/g", "me", "text")  # type: ignore[arg-type]
