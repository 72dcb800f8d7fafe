"""A set divided among members: each item one member's at a time, whatever happens to members and connections."""

# ruff: noqa: PT012 - what leaves a block is what is tested here
from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from terzetto.client import ConnectionLoss, LockTimeout, NoNodeError, SessionExpiredError, ZooKeeper
from terzetto.recipes import OwnershipLost, Partition, PartitionState, SetPartitioner
from tests.client.holdings import holdings
from tests.client.memory_server import Door, MemoryEnsemble, pass_time, settle, until

from .losing import losses
from .truth import now
from .walking import at_rest, tree, walk

ITEMS = ("a", "b", "c")


class Ledger:
    """Who works on what at this moment; fails where two work on one item."""

    def __init__(self) -> None:
        self.owners: dict[Any, str] = {}

    def items(self, owner: str) -> list[Any]:
        return sorted(item for item, name in self.owners.items() if name == owner)

    async def work(self, partitioner: SetPartitioner, owner: str) -> None:
        """Holds and works for ever."""
        while True:
            try:
                async with partitioner.hold() as partition:
                    await self.use(partition, owner)
            except OwnershipLost:
                continue

    async def use(self, partition: Partition, owner: str) -> None:
        for item in partition:
            assert item not in self.owners, f"{owner} and {self.owners[item]} both work on {item}"
            self.owners[item] = owner
        try:
            await trio.sleep_forever()
        finally:
            for item in partition:
                del self.owners[item]


def member(zk: ZooKeeper, identifier: str, **options: Any) -> SetPartitioner:
    given: dict[str, Any] = {"set": ITEMS, "identifier": identifier, "time_boundary": 1, **options}
    return SetPartitioner(zk, "/s", **given)


async def joined(stack: AsyncExitStack, zk: ZooKeeper, identifier: str, **options: Any) -> SetPartitioner:
    return await stack.enter_async_context(member(zk, identifier, **options))


async def test_members_divide_the_set_as_kazoo_does(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk, ensemble.open() as other, AsyncExitStack() as stack:
        two, one = await joined(stack, other, "2"), await joined(stack, zk, "1")
        assert now(one.allocating)
        assert list(one) == []
        assert await one.wait_for_acquire() is True
        assert await two.wait_for_acquire() is True
        assert now(one.acquired)
        assert (list(one), list(two)) == (["a", "c"], ["b"])
        names = sorted(name.partition("-")[2] for name in await zk.get_children("/s/party"))
        assert names == ["1", "2"]
        assert sorted(await zk.get_children("/s/locks")) == ["a", "b", "c"]
        (contender,) = await zk.get_children("/s/locks/a")
        assert contender.endswith("__lock__0000000000")
        async with one.hold() as partition:
            assert partition is one.partition
            assert partition.items == ("a", "c")
            assert len(partition) == 2
            assert partition.ownership("c").path == "/s/locks/c"
            with pytest.raises(KeyError):
                partition.ownership("b")
            async with partition.transaction("a") as transaction:
                transaction.create("/done")
            await partition.assert_owned()
            assert sorted(partition.fencing_tokens) == ["/s/locks/a", "/s/locks/c"]
        assert now(one.acquired), "a body that ends by itself gives nothing back"
    await settle()
    assert tree(ensemble) == {"/s", "/s/party", "/s/locks", "/s/locks/a", "/s/locks/b", "/s/locks/c", "/done"}


async def test_the_set_is_divided_anew_when_members_come_and_go(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    ledger = Ledger()

    async def work(identifier: str, scope: trio.CancelScope) -> None:
        with scope:
            async with ensemble.open() as zk, member(zk, identifier) as partitioner:
                await ledger.work(partitioner, identifier)

    scopes = [trio.CancelScope() for _ in range(3)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(work, "1", scopes[0])
        await until(lambda: ledger.items("1") == ["a", "b", "c"])
        nursery.start_soon(work, "2", scopes[1])
        await until(lambda: (ledger.items("1"), ledger.items("2")) == (["a", "c"], ["b"]))
        nursery.start_soon(work, "3", scopes[2])
        await until(lambda: [ledger.items(name) for name in "123"] == [["a"], ["b"], ["c"]])
        scopes[0].cancel()
        await until(lambda: (ledger.items("2"), ledger.items("3")) == (["a", "c"], ["b"]))
        nursery.cancel_scope.cancel()
    assert ledger.owners == {}


async def test_a_body_has_some_time_when_its_items_are_asked_back(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as zk, ensemble.open() as other, AsyncExitStack() as stack:
        one = await joined(stack, zk, "1", max_reaction_time=3)
        asked = ended = 0.0

        async def second() -> None:
            async with member(other, "2") as two:
                await two.wait_for_acquire()
                assert trio.current_time() >= ended > asked
                assert list(two) == ["b"]
                await trio.sleep_forever()

        async with trio.open_nursery() as nursery:
            async with one.hold() as partition:
                nursery.start_soon(second)
                await partition.wait_asked_back()
                asked = trio.current_time()
                await until(lambda: one.release)
                assert partition.is_asked_back
                partition.check()
                try:
                    await trio.sleep_forever()
                finally:
                    ended = trio.current_time()
            assert ended == asked + 3
            async with one.hold() as partition:
                assert partition.items == ("a", "c")
            nursery.cancel_scope.cancel()


async def test_kazoo_s_way_is_a_loop_over_the_state(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    class Event:
        changes = 0

        def set(self) -> None:
            self.changes += 1

    seen: list[tuple[str, list[Any]]] = []

    async def loop(partitioner: SetPartitioner) -> None:
        while not partitioner.failed:
            if partitioner.release:
                seen.append((partitioner.state, list(partitioner)))
                await partitioner.release_set()
            elif partitioner.acquired:
                seen.append((partitioner.state, list(partitioner)))
                while partitioner.acquired:
                    await pass_time(0.25)
            else:
                seen.append((partitioner.state, list(partitioner)))
                await partitioner.wait_for_acquire()

    async with ensemble.open() as zk, ensemble.open() as other, AsyncExitStack() as stack:
        event = Event()
        one = await joined(stack, zk, "1", state_change_event=event)
        assert one.state_change_event is event
        async with trio.open_nursery() as nursery:
            nursery.start_soon(loop, one)
            await until(lambda: one.acquired)
            async with member(other, "2") as two:
                await two.wait_for_acquire()
                await until(lambda: one.acquired)
                await pass_time(1)
                await one.finish()
    whole = list(ITEMS)
    assert seen == [
        ("ALLOCATING", []),
        ("ACQUIRED", whole),
        ("RELEASE", whole),
        ("ALLOCATING", []),
        ("ACQUIRED", ["a", "c"]),
    ]
    assert event.changes == one.state_id == 5


async def test_what_was_finished_has_left(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk, AsyncExitStack() as stack:
        one = await joined(stack, zk, "1")
        async with one.hold():
            await one.finish()
            await trio.sleep_forever()
        assert now(one.failed)
        await one.finish()
        await one.release_set()
        assert await one.wait_for_acquire() is False
        with pytest.raises(OwnershipLost, match="finished"):
            async with one.hold():
                pass
        assert await zk.get_children("/s/party") == []
        assert await zk.get_children("/s/locks/a") == []
        with pytest.raises(RuntimeError, match="once"):
            await one.__aenter__()


async def test_releasing_by_hand_begins_anew(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk, AsyncExitStack() as stack:
        one = await joined(stack, zk, "1")
        start = 0.0
        async with one.hold() as first:
            start = trio.current_time()
            await one.release_set()
            await trio.sleep_forever()
        assert trio.current_time() == start, "no time to react, since it was its own wish"
        async with one.hold() as second:
            assert second.items == first.items
            assert min(map(str, second.fencing_tokens.values())) > max(map(str, first.fencing_tokens.values()))
        assert trio.current_time() == start + 1
        with pytest.raises(OwnershipLost):
            first.check()


async def test_more_members_than_items(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk, AsyncExitStack() as stack:
        one, two = [await joined(stack, zk, name, set=[7]) for name in "12"]
        async with one.hold() as mine, two.hold() as theirs:
            assert (list(mine), list(theirs)) == ([7], [])
            assert not theirs
            with pytest.raises(ValueError, match="no item"):
                theirs.transaction()


async def test_numbers_are_sorted_as_numbers(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk, AsyncExitStack() as stack:
        one, two = [await joined(stack, zk, name, set=range(12)) for name in "12"]
        async with one.hold() as mine, two.hold() as theirs:
            assert (list(mine), list(theirs)) == ([0, 2, 4, 6, 8, 10], [1, 3, 5, 7, 9, 11])


@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_a_function_of_one_s_own(ensemble: MemoryEnsemble, autojump_clock: MockClock, kind: str) -> None:
    seen: list[tuple[str, list[str], Collection[Any]]] = []

    def divide(identifier: str, members: list[str], items: Collection[Any]) -> list[Any]:
        seen.append((identifier, members, items))
        return [item for item in items if members[ord(item) % len(members)] == identifier]

    async def divide_async(identifier: str, members: list[str], items: Collection[Any]) -> list[Any]:
        await trio.lowlevel.checkpoint()
        return divide(identifier, members, items)

    func = divide if kind == "plain" else divide_async
    async with ensemble.open() as zk, AsyncExitStack() as stack:
        one, two = [await joined(stack, zk, name, partition_func=func) for name in "12"]
        async with one.hold() as mine, two.hold() as theirs:
            assert (list(mine), list(theirs)) == (["b"], ["a", "c"])
    assert seen[-1][1:] == (["1", "2"], ITEMS)


async def test_a_function_that_fails_ends_the_block(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    def fail(identifier: str, members: list[str], items: Collection[Any]) -> list[Any]:
        raise LookupError("no idea")

    def twice(identifier: str, members: list[str], items: Collection[Any]) -> list[Any]:
        return ["a", "a"]

    async with ensemble.open() as zk:
        for func, error in ((fail, LookupError), (twice, ValueError)):
            partitioner = SetPartitioner(zk, "/s", ITEMS, func, time_boundary=1)
            with pytest.raises(error):
                async with partitioner:
                    await trio.sleep_forever()
            assert partitioner.failed
            await at_rest(zk)
            assert tree(ensemble) == {"/s", "/s/party"}


async def test_two_with_one_identifier_have_different_items(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as zk, ensemble.open() as other, AsyncExitStack() as stack:
        one, two = [await joined(stack, client, "same") for client in (zk, other)]
        async with one.hold(60) as mine, two.hold(60) as theirs:
            assert sorted([*mine, *theirs]) == list(ITEMS)
    async with ensemble.open() as zk:
        assert SetPartitioner(zk, "/s", ITEMS).identifier != SetPartitioner(zk, "/s", ITEMS).identifier


async def test_bad_arguments(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        for options in (
            {"set": ["1", 1]},
            {"set": ["", "a"]},
            {"identifier": "a/b"},
            {"time_boundary": -1},
            {"max_reaction_time": -1},
            {"proof": "hearsay"},
        ):
            given: dict[str, Any] = {"set": ITEMS, **options}
            with pytest.raises(ValueError, match=next(iter(options)) if "set" not in options else "text of its own"):
                SetPartitioner(zk, "/s", **given)
        async with AsyncExitStack() as stack:
            one = await joined(stack, zk, "1")
            with pytest.raises(LockTimeout, match=r"within 0\.5 s"):
                async with one.hold(0.5):
                    pass
            async with one.hold():
                with pytest.raises(RuntimeError, match="already"):
                    await one.hold().__aenter__()


# Ownership ------------------------------------------------------------------------------------------------------------


async def test_without_a_proof_the_body_is_cancelled_before_others_have_the_items(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    ledger = Ledger()
    async with ensemble.open("a:2181") as zk, ensemble.open("b:2181") as other, AsyncExitStack() as stack:
        one, two = await joined(stack, zk, "1"), await joined(stack, other, "2")
        start = 0.0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ledger.work, two, "2")
            with pytest.raises(OwnershipLost) as lost:
                async with one.hold() as partition:
                    assert partition.items == ("a", "c")
                    ensemble.doors["a"] = Door.SILENT
                    for link in ensemble.links[:1]:
                        link.hang_up()
                    start = trio.current_time()
                    await ledger.use(partition, "1")
            assert lost.value.path == "/s"
            assert "no quorum" in lost.value.reason
            assert trio.current_time() - start <= zk.session_timeout / 2
            assert now(one.release)
            assert list(one) == []
            ensemble.expire(zk.session_id)
            await until(lambda: ledger.items("2") == ["a", "b", "c"])
            # Back in another session, it is a member again.
            ensemble.doors["a"] = Door.OPEN
            nursery.start_soon(ledger.work, one, "1")
            await until(lambda: (ledger.items("1"), ledger.items("2")) == (["a", "c"], ["b"]))
            nursery.cancel_scope.cancel()


async def test_a_lost_lock_is_a_lost_partition_and_the_others_are_released(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as zk, AsyncExitStack() as stack:
        one = await joined(stack, zk, "1")
        with pytest.raises(OwnershipLost, match="was deleted"):
            async with one.hold() as partition:
                ensemble.realm.delete(partition.ownership("b").znode)
                await trio.sleep_forever()
        await at_rest(zk)
        assert now(one.release)
        assert not [path for path in tree(ensemble) if "__lock__" in path]
        async with one.hold() as partition:
            assert partition.items == ITEMS


async def test_kazoo_s_way_is_told_of_a_loss(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk, AsyncExitStack() as stack:
        one = await joined(stack, zk, "1")
        await one.wait_for_acquire()
        session = zk.session_id
        ensemble.expire(session)
        await until(lambda: one.release)
        assert list(one) == []
        await one.release_set()
        assert await one.wait_for_acquire()
        assert zk.session_id != session
        assert list(one) == list(ITEMS)


async def test_a_lost_session_may_be_the_end(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk, AsyncExitStack() as stack:
        one = await joined(stack, zk, "1", allow_session_lost=False)
        await one.wait_for_acquire()
        ensemble.expire(zk.session_id)
        await until(lambda: one.failed)
        await until(lambda: zk.connected)
        await at_rest(zk)
        assert not [path for path in tree(ensemble) if "__lock__" in path or "/party/" in path]
        with pytest.raises(OwnershipLost, match="session is over"):
            async with one.hold():
                pass


async def test_a_client_that_is_over_ends_the_block(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open(renew_session=False) as zk:
        partitioner = SetPartitioner(zk, "/s", ITEMS, time_boundary=1)
        with pytest.raises((SessionExpiredError, OwnershipLost)):
            async with partitioner:
                async with partitioner.hold():
                    ensemble.expire(zk.session_id)
                    await trio.sleep_forever()
        assert partitioner.failed
        assert holdings(zk).proof_holders == 0


async def test_a_suspension_may_end_it_at_once(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk, AsyncExitStack() as stack:
        one = await joined(stack, zk, "1", on_suspend="cancel")
        with pytest.raises(OwnershipLost, match="connection was lost"):
            async with one.hold():
                ensemble.cut()
                await trio.sleep_forever()
        async with one.hold() as partition:
            assert partition.items == ITEMS


async def test_the_body_s_own_error_leaves_with_a_note(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk, AsyncExitStack() as stack:
        one = await joined(stack, zk, "1")
        with pytest.raises(LookupError) as failed:
            async with one.hold() as partition:
                ensemble.realm.delete(partition.ownership("b").znode)
                with trio.CancelScope(shield=True):
                    await until(lambda: partition.is_lost)
                raise LookupError
        assert "no longer owned" in vars(failed.value)["__notes__"][0]
        async with one.hold():
            pass
        with pytest.raises(LookupError):
            async with one.hold():
                raise LookupError
        assert now(one.acquired)


async def test_two_bodies_share_what_is_ours(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    """The items are released when the last of them has ended."""
    ended: list[float] = []

    async with ensemble.open() as zk, ensemble.open() as other, AsyncExitStack() as stack:
        one = await joined(stack, zk, "1", max_reaction_time=5)

        async def work(seconds: float) -> None:
            async with one.hold() as partition:
                assert partition.items == ITEMS
                await partition.wait_asked_back()
                await pass_time(seconds)
                partition.check()
            ended.append(trio.current_time())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(work, 1)
            nursery.start_soon(work, 4)
            await until(lambda: one.acquired)
            async with member(other, "2") as two:
                await two.wait_for_acquire()
                assert trio.current_time() >= max(ended)
        assert max(ended) - min(ended) <= 3


# Robustness -----------------------------------------------------------------------------------------------------------


async def test_znodes_that_are_taken_away_come_again(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk, AsyncExitStack() as stack:
        one = await joined(stack, zk, "1")
        await pass_time(0.5)
        for path in sorted(tree(ensemble), reverse=True):
            ensemble.realm.delete(path)
        assert await one.wait_for_acquire()
        assert list(one) == list(ITEMS)
        with pytest.raises(OwnershipLost):
            async with one.hold():
                for path in sorted(tree(ensemble), reverse=True):
                    ensemble.realm.delete(path)
                await trio.sleep_forever()
        async with one.hold() as partition:
            assert partition.items == ITEMS


@asynccontextmanager
async def _whole(zk: ZooKeeper) -> AsyncIterator[SetPartitioner]:
    async with SetPartitioner(zk, "/s", ("a", "b"), identifier="me", time_boundary=0.1) as partitioner:
        yield partitioner


async def test_a_lost_request_or_reply_leaves_one_member_and_one_lock_each(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async for loss in losses(ensemble):
        with trio.fail_after(60):
            async with ensemble.open() as zk:
                async with _whole(zk) as partitioner, partitioner.hold() as partition:
                    await settle()
                    assert partition.items == ("a", "b"), str(loss)
                    contenders = [path for path in tree(ensemble) if "__lock__" in path]
                    assert len(contenders) == 2, str(loss)
                await at_rest(zk)
                assert tree(ensemble) == {"/s", "/s/party", "/s/locks", "/s/locks/a", "/s/locks/b"}, str(loss)


async def test_cancelled_at_each_checkpoint_it_leaves_nothing(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async def work(zk: ZooKeeper) -> None:
        async with _whole(zk) as partitioner:
            async with partitioner.hold():
                await trio.lowlevel.checkpoint()
            await partitioner.release_set()
            async with partitioner.hold():
                await trio.lowlevel.checkpoint()

    await walk(
        ensemble,
        work,
        leaves={"/s", "/s/party", "/s/locks", "/s/locks/a", "/s/locks/b"},
        raises=(OwnershipLost, ConnectionLoss),
    )


async def test_a_waiter_cancelled_at_each_checkpoint_leaves_nothing(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    """It waits for an item that a former member has not released."""
    theirs = "/s/locks/b/0123456789abcdef0123456789abcdef__lock__0000000000"

    def prepare() -> None:
        for path in ("/s", "/s/party", "/s/locks", "/s/locks/a", "/s/locks/b", theirs):
            ensemble.realm.create(path)

    async def release(zk: ZooKeeper) -> None:
        await pass_time(4)
        with suppress(NoNodeError):
            await zk.delete(theirs)

    async def work(zk: ZooKeeper) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(release, zk)
            async with _whole(zk) as partitioner, partitioner.hold() as partition:
                assert partition.items == ("a", "b")

    await walk(ensemble, work, prepare=prepare, raises=(OwnershipLost, ConnectionLoss))


async def test_members_who_change_while_items_are_waited_for_begin_anew(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    """Who waits for an item of another gives up what it has got, so that nobody waits in a ring."""
    async with ensemble.open() as zk, ensemble.open() as other, AsyncExitStack() as stack:
        one = await joined(stack, zk, "1")
        await one.wait_for_acquire()
        two = await joined(stack, other, "2", set=(*ITEMS, "d"))
        await pass_time(1.5)
        # Its share of four is b and d: d it has got, for b it waits.
        assert now(two.allocating)
        assert [path for path in tree(ensemble) if path.startswith("/s/locks/d/")]
        async with member(zk, "0") as third:
            await settle()
            assert not [path for path in tree(ensemble) if path.startswith("/s/locks/d/")]
            await one.release_set()
            assert await third.wait_for_acquire()
            assert await one.wait_for_acquire()
            assert await two.wait_for_acquire()
            assert (list(third), list(one), list(two)) == (["a"], ["b"], ["c"])


def test_the_states_are_kazoo_s() -> None:
    from kazoo.recipe.partitioner import PartitionState as Theirs

    for name in ("ALLOCATING", "ACQUIRED", "RELEASE", "FAILURE"):
        assert getattr(PartitionState, name) == getattr(Theirs, name)


async def test_what_is_ours_can_be_held_without_time_to_wait(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as zk, SetPartitioner(zk, "/s", (1, 2), time_boundary=1) as partitioner:
        with pytest.raises(LockTimeout):
            await partitioner.hold(0).__aenter__()
        assert await partitioner.wait_for_acquire()
        async with partitioner.hold(0) as partition:
            assert partition.items == (1, 2)
