"""What Curator's queues share: each item once or its error says so, claims that are ownerships, nothing left behind."""

# ruff: noqa: PT012 - what leaves a block is what is tested here
from __future__ import annotations

from contextlib import suppress

import pytest
import trio
from trio.testing import MockClock

from terzetto.client import ConnectionLoss, LockTimeout, NoNodeError, PlainNursery, SessionExpiredError, ZooKeeper
from terzetto.client.wire import Opcode
from terzetto.recipes import ItemFormatError, OwnershipLost, PriorityQueue
from tests.client.holdings import holdings
from tests.client.memory_server import Door, MemoryEnsemble, pass_time, settle, until
from tests.client.server_link import Fault, Received

from .losing import losses
from .walking import at_rest, tree, walk

ONE = bytes.fromhex("00010001 01 00000001 31 02")
THREE = bytes.fromhex("00010001 01 00000001 31 01 00000000 01 00000001 33 02")


def claiming(zk: ZooKeeper) -> PriorityQueue:
    return PriorityQueue(zk, "/q", "/claims")


def make_item(ensemble: MemoryEnsemble, data: bytes = ONE) -> str:
    for path in ("/q", "/claims", item := "/q/queue-1000000000000000000"):
        ensemble.realm.create(path, data if path == item else b"")
    return item


# Taking ---------------------------------------------------------------------------------------------------------------


async def test_a_taker_waits_for_an_item(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    got: list[bytes | None] = []

    async def take(zk: ZooKeeper) -> None:
        got.append(await PriorityQueue(zk, "/q").get())

    async with ensemble.open() as zk, ensemble.open() as other:
        start = trio.current_time()
        assert await PriorityQueue(zk, "/q").get(timeout=3) is None
        assert trio.current_time() == start + 3
        async with trio.open_nursery() as nursery:
            nursery.start_soon(take, zk)
            await pass_time(1)
            ensemble.expire(zk.session_id)
            await pass_time(1)
            assert got == []
            await PriorityQueue(other, "/q").put(b"one")
        assert got == [b"one"]
        assert holdings(zk).watches == 0


@pytest.mark.parametrize("lock_path", [None, "/claims"])
async def test_many_who_take_get_each_item_once(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, lock_path: str | None
) -> None:
    got: list[bytes] = []

    async def take(zk: ZooKeeper) -> None:
        queue = PriorityQueue(zk, "/q", lock_path)
        while (item := await queue.get(timeout=1)) is not None:
            got.append(item)

    async with ensemble.open() as zk, ensemble.open() as other:
        ensemble.latency = 0.01
        await PriorityQueue(zk, "/q", lock_path).put_all([b"%02d" % number for number in range(15)])
        async with trio.open_nursery() as nursery:
            for client in (zk, zk, other, other):
                nursery.start_soon(take, client)
    assert sorted(got) == [b"%02d" % number for number in range(15)]


async def test_what_was_claimed_is_not_taken(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    item = make_item(ensemble)
    overtaken: list[bool] = []

    def overtake(request: Received) -> None:
        """Somebody claims the item between our look and our taking."""
        if request.opcode == Opcode.MULTI and not overtaken:
            overtaken.append(True)
            ensemble.realm.create(item.replace("/q/", "/claims/"))

    ensemble.rules.append(overtake)
    async with ensemble.open() as zk:
        assert await claiming(zk).get(timeout=1) is None
        assert overtaken
        await zk.delete(item.replace("/q/", "/claims/"))
        assert await claiming(zk).get(timeout=1) == b"1"


async def test_items_that_came_together_are_taken_one_by_one(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    make_item(ensemble, THREE)
    async with ensemble.open() as zk:
        queue = claiming(zk)
        async with queue.claim() as item:
            assert item.values == (b"1", b"", b"3")
            with pytest.raises(ValueError, match="too many"):
                _ = item.value
            item.give_back()
        assert [await queue.get(0) for _ in range(4)] == [b"1", b"", b"3", None]
        await at_rest(zk)
        assert tree(ensemble) == {"/q", "/claims"}


async def test_what_is_no_item_is_told_with_its_data(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    path = make_item(ensemble, b"by somebody else")
    async with ensemble.open() as zk:
        with pytest.raises(ItemFormatError):
            async with claiming(zk).claim() as item:
                assert item.data == b"by somebody else"
                _ = item.value
        with pytest.raises(ItemFormatError, match="begin with 00010001") as told:
            await claiming(zk).get()
        assert (told.value.path, told.value.data) == (path, b"by somebody else")
        assert await claiming(zk).get(timeout=0) is None
        ensemble.realm.create(path, bytes.fromhex("0001000102"))
        assert await claiming(zk).get(timeout=0) is None
        assert await claiming(zk).qsize() == 0, "an item of nothing is out of the way"


async def test_an_item_is_put_once_and_taken_once(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async for loss in losses(ensemble):
        with trio.fail_after(30):
            async with ensemble.open() as zk:
                queue = claiming(zk)
                await queue.put(b"one", 2)
                await queue.put(b"two", 1)
                assert await queue.qsize() == 2, str(loss)
                assert [await queue.get(0) for _ in range(3)] == [b"two", b"one", None], str(loss)
                await at_rest(zk)
                assert tree(ensemble) == {"/q", "/claims"}, str(loss)


# Claiming -------------------------------------------------------------------------------------------------------------


async def test_a_claimed_item_is_others_when_the_body_fails(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as zk, ensemble.open() as other:
        queue, theirs = claiming(zk), claiming(other)
        await queue.put(b"one")
        tokens: list[int | None] = []
        for error in (LookupError, KeyError):
            with pytest.raises(error):
                async with queue.claim() as item:
                    tokens.append(item.fencing_token)
                    with pytest.raises(LockTimeout, match="no item of /q"):
                        await theirs.claim(timeout=0).__aenter__()
                    raise error
            await at_rest(zk)
        async with theirs.claim(timeout=5) as item:
            tokens.append(item.fencing_token)
            assert item.value == b"one"
            assert item.name == "queue-1000000000000000000"
            assert await queue.get(timeout=0) is None
            assert await queue.qsize() == 1
            async with item.transaction() as transaction:
                transaction.create("/done")
        assert await queue.qsize() == 0
        assert tokens == sorted(tokens, key=lambda token: token or 0)
        assert len(set(tokens)) == 3
        with pytest.raises(ValueError, match="lock_path"):
            PriorityQueue(zk, "/q").claim()


async def test_a_waiter_gets_what_is_given_back(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    got: list[float] = []

    async def wait(zk: ZooKeeper) -> None:
        async with claiming(zk).claim() as item:
            assert item.value == b"one"
            got.append(trio.current_time())

    async with ensemble.open() as zk, ensemble.open() as other, trio.open_nursery() as nursery:
        queue = claiming(zk)
        await queue.put(b"one")
        async with queue.claim() as item:
            nursery.start_soon(wait, other)
            await pass_time(2)
            item.requeue()
            item.give_back()
            assert got == []
            ended = trio.current_time()
    assert got == [ended]
    assert tree(ensemble) == {"/q", "/claims"}


async def test_a_lost_claim_cancels_its_body_and_others_get_the_item(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open("a:2181") as zk, ensemble.open("b:2181") as other:
        queue = claiming(zk)
        await queue.put(b"one")
        with pytest.raises(OwnershipLost, match="no quorum"):
            async with queue.claim():
                ensemble.doors["a"] = Door.SILENT
                ensemble.links[0].hang_up()
                await trio.sleep_forever()
        ensemble.expire(zk.session_id)
        async with claiming(other).claim(timeout=5) as item:
            assert item.value == b"one"
        await at_rest(other)
        assert tree(ensemble) == {"/q", "/claims"}


async def test_a_former_holder_takes_nothing_out_and_commits_nothing(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    """The next claim of the item has the same name; it stands for its own holder only."""
    async with ensemble.open() as zk, ensemble.open() as other:
        queue = claiming(zk)
        await queue.put(b"one")
        with pytest.raises(OwnershipLost):
            async with queue.claim() as item:
                session = zk.session_id
                ensemble.expire(session)
                with trio.CancelScope(shield=True):
                    await until(lambda: zk.session_id not in (0, session))
                    async with claiming(other).claim() as theirs:
                        assert theirs.znode == item.znode
                        transaction = item.transaction()
                        transaction.create("/late")
                        with pytest.raises(OwnershipLost):
                            await transaction.commit()
                        with pytest.raises(OwnershipLost):
                            await item.assert_owned()
                        assert await item.release() is False
                        await at_rest(zk)
                        await theirs.assert_owned()
                        theirs.give_back()
                await trio.lowlevel.checkpoint()
        assert "/late" not in tree(ensemble)
        assert await queue.qsize() == 1


async def test_a_claim_that_was_taken_away_leaves_the_next_one_alone(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as zk, ensemble.open() as other:
        await claiming(zk).put(b"one")
        with pytest.raises(OwnershipLost, match="was deleted"):
            async with claiming(zk).claim() as item:
                ensemble.realm.delete(item.znode)
                ensemble.realm.create(item.znode, b"of another holder")
                await trio.sleep_forever()
        await at_rest(zk)
        assert await claiming(other).get(timeout=0) is None
        assert await claiming(other).qsize() == 1


async def test_an_item_that_somebody_took_all_the_same_is_a_lost_claim(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    """As a consumer without the lock path would."""
    item = make_item(ensemble)
    async with ensemble.open() as zk:
        with pytest.raises(OwnershipLost):
            async with claiming(zk).claim():
                await zk.delete(item)
        await at_rest(zk)
        assert tree(ensemble) == {"/q", "/claims"}


async def test_a_claim_is_made_once_and_ended_once(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async for loss in losses(ensemble):
        with trio.fail_after(60):
            async with ensemble.open() as zk:
                queue = claiming(zk)
                await queue.put(b"one", 3)
                async with queue.claim() as item:
                    item.requeue(4)
                async with queue.claim() as item:
                    assert item.value == b"one", str(loss)
                    item.give_back()
                assert await queue.qsize() == 1, str(loss)
                async with queue.claim() as item:
                    await settle()
                    assert len([path for path in tree(ensemble) if path.startswith("/claims/")]) == 1, str(loss)
                await at_rest(zk)
                assert tree(ensemble) == {"/q", "/claims"}, str(loss)


async def test_a_session_that_ends_with_the_block_leaves_the_item_or_says_that_nobody_knows(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    make_item(ensemble)
    async with ensemble.open() as zk:

        def expire(request: Received) -> None:
            if request.opcode == Opcode.MULTI and len(request.record) == 3:
                ensemble.rules.clear()
                ensemble.expire(zk.session_id)

        def lose(request: Received) -> Fault | None:
            if request.opcode != Opcode.MULTI or len(request.record) != 3:
                return None
            ensemble.rules.clear()
            return Fault.DO_AND_CUT

        with pytest.raises(OwnershipLost):
            async with claiming(zk).claim():
                ensemble.rules.append(expire)
        assert await claiming(zk).qsize() == 1
        async with claiming(zk).claim():
            ensemble.rules.append(lose)
        assert await claiming(zk).qsize() == 0


async def test_cancelled_at_each_checkpoint_it_leaves_items_only(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async def work(zk: ZooKeeper) -> None:
        queue = claiming(zk)
        async with queue.claim() as item:
            item.requeue()
        async with queue.claim() as item:
            item.give_back()
        await queue.get()

    def may_leave(path: str) -> bool:
        return path.startswith("/q/queue-")

    await walk(
        ensemble,
        work,
        prepare=lambda: make_item(ensemble),
        may_leave=may_leave,
        raises=(OwnershipLost, SessionExpiredError, ConnectionLoss),
    )


async def test_a_cancelled_body_gives_its_item_back(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async def work(zk: ZooKeeper) -> None:
        async with claiming(zk).claim() as item:
            item.give_back()
            await trio.lowlevel.checkpoint()

    await walk(ensemble, work, prepare=lambda: make_item(ensemble), raises=(OwnershipLost, ConnectionLoss))
    assert "/q/queue-1000000000000000000" in tree(ensemble)


async def test_a_waiter_cancelled_at_each_checkpoint_leaves_nothing(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    """It waits for an item that another has claimed, and gives back meanwhile."""
    mark = "/claims/queue-1000000000000000000"

    def prepare() -> None:
        make_item(ensemble)
        ensemble.realm.create(mark)

    async def give_back(zk: ZooKeeper) -> None:
        await pass_time(3)
        with suppress(NoNodeError):
            await zk.delete(mark)

    async def work(zk: ZooKeeper) -> None:
        queue = claiming(zk)
        assert await queue.get(timeout=1) is None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(give_back, zk)
            async with queue.claim() as item:
                item.give_back()

    await walk(ensemble, work, prepare=prepare, raises=(OwnershipLost, ConnectionLoss))


async def test_paths_that_vanish_are_made_again(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    got: list[bytes] = []

    async def consume(zk: ZooKeeper) -> None:
        while len(got) < 2:
            async with claiming(zk).claim() as item:
                got.append(item.value)

    async with ensemble.open() as zk, ensemble.open() as other, trio.open_nursery() as nursery:
        await claiming(other).put(b"one")
        nursery.start_soon(consume, zk)
        await settle()
        await at_rest(zk)
        for path in ("/q", "/claims"):
            ensemble.realm.delete(path)
        await claiming(other).put(b"two")
        await until(lambda: len(got) == 2)
        assert got == [b"one", b"two"]
        await at_rest(zk)
        assert tree(ensemble) == {"/q", "/claims"}


async def test_a_client_that_is_over_is_told(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    for way in ("get", "claim"):
        async with ensemble.open(renew_session=False) as zk:
            wait = claiming(zk).get if way == "get" else claiming(zk).claim().__aenter__
            with pytest.raises(SessionExpiredError):
                async with PlainNursery() as nursery:
                    nursery.start_soon(wait)
                    await settle()
                    ensemble.expire(zk.session_id)
