"""Leases by everybody's clock; kazoo's znodes and contracts."""

from __future__ import annotations

import json
import socket
from datetime import datetime, timedelta

import pytest
import trio
from trio.testing import MockClock

from terzetto.client import ConnectionLoss, NoAuthError, SessionMovedError, ThrottledOpError, ZooKeeper
from terzetto.client.wire import Opcode
from terzetto.recipes import MultiNonBlockingLease, NonBlockingLease, OwnershipLost
from tests.client.memory_server import MemoryEnsemble, pass_time
from tests.client.server_link import Code, Received, nth

from .losing import losses
from .truth import now
from .walking import at_rest, tree, walk

START = datetime(2026, 1, 2, 3, 4, 5, 678901)
MINUTE = timedelta(minutes=1)


def wall() -> datetime:
    """A wall clock that goes with the run's."""
    return START + timedelta(seconds=trio.current_time())


def lease(zk: ZooKeeper, identifier: str | None = None) -> NonBlockingLease:
    return NonBlockingLease(zk, "/l", MINUTE, identifier, utcnow=wall)


async def test_kazoo_s_znode(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        mine = NonBlockingLease(zk, "/l", MINUTE, utcnow=lambda: START)
        assert not now(mine)
        assert await mine.obtain() is True
        assert now(mine)
        assert mine.obtained
        data, stat = await zk.get("/l/lease_holder")
        assert json.loads(data or b"") == {"version": 1, "holder": socket.gethostname(), "end": "2026-01-02T03:05:05"}
        assert mine.fencing_token == stat.mzxid
        assert stat.ephemeralOwner == 0
        assert tree(ensemble) == {"/l", "/l/lease_holder"}


async def test_another_has_it_until_its_time_is_over(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        one, other = lease(zk, "one"), lease(zk, "other")
        assert await one.obtain()
        assert not await other.obtain()
        assert not now(other)
        assert other.fencing_token is None
        await pass_time(30)
        assert await one.obtain(), "its holder renews it"
        first = one.fencing_token
        assert first is not None
        await pass_time(45)
        assert not await other.obtain()
        assert now(one)
        await pass_time(15)
        assert not now(one), "its time is over"
        assert one.obtained
        assert await other.obtain()
        assert (other.fencing_token or 0) > first
        assert not await one.obtain()


async def test_its_owner_s_session_does_not_matter(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        assert await lease(zk, "one").obtain()
    async with ensemble.open() as zk:
        assert not await lease(zk, "other").obtain()
        assert await lease(zk, "one").obtain()


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"version": 2, "holder": "x", "end": "2000-01-01T00:00:00"}'])
async def test_what_it_does_not_understand_it_leaves_alone(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, data: bytes
) -> None:
    ensemble.realm.create("/l")
    ensemble.realm.create("/l/lease_holder", data)
    async with ensemble.open() as zk:
        assert not await lease(zk, "me").obtain()
        assert (await zk.get("/l/lease_holder"))[0] == data


async def test_a_body_ends_with_the_lease(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        mine = lease(zk, "me")
        with mine.body() as scope:
            await trio.sleep_forever()
        assert scope.cancelled_caught, "there is no lease yet"
        await mine.obtain()
        start = trio.current_time()
        with mine.body() as scope:
            await trio.sleep_forever()
        assert scope.cancelled_caught
        # Whole seconds are written down.
        assert 59.0 <= trio.current_time() - start <= 60.0
        assert not now(mine)


async def test_many_who_want_it_at_once(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    got: list[str] = []

    async def want(name: str) -> None:
        async with ensemble.open() as zk:
            if await lease(zk, name).obtain():
                got.append(name)

    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(want, str(number))
    assert len(got) == 1


async def test_a_writer_without_the_lock_is_not_overwritten(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    other = {"version": 1, "holder": "other", "end": "2026-01-02T03:59:59"}

    def write_first(request: Received) -> None:
        if request.opcode == Opcode.MULTI and len(request.record) == 2 and "/l/lease_holder" not in tree(ensemble):
            ensemble.realm.create("/l/lease_holder", json.dumps(other).encode())

    async with ensemble.open() as zk:
        ensemble.rules.append(write_first)
        assert not await lease(zk, "me").obtain()
        assert json.loads((await zk.get("/l/lease_holder"))[0] or b"") == other


async def test_a_refusal_is_raised(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    from tests.client.server_link import Code, nth

    async with ensemble.open() as zk:
        ensemble.rules.append(nth(1, Opcode.CREATE2, Code(NoAuthError.code or 0)))
        with pytest.raises(NoAuthError):
            await lease(zk, "me").obtain()


async def test_one_of_several(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        holders = [MultiNonBlockingLease(zk, 2, "/m", MINUTE, name, utcnow=wall) for name in "abc"]
        assert [await holder.obtain() for holder in holders] == [True, True, False]
        assert [bool(holder) for holder in holders] == [True, True, False]
        assert [holder.obtained for holder in holders] == [True, True, False]
        assert holders[0].lease is not None
        assert (holders[0].lease.path, holders[2].lease) == ("/m/0", None)
        await pass_time(61)
        assert not holders[0]
        assert await holders[2].obtain()
        assert holders[2].lease is not None
        assert holders[2].lease.path == "/m/0"


async def _obtain(zk: ZooKeeper) -> None:
    assert await lease(zk, "me").obtain()


async def test_cancelled_at_each_checkpoint_it_leaves_its_own_znode_at_most(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    await walk(ensemble, _obtain, leaves={"/l", "/l/lease_holder"}, raises=(OwnershipLost, ConnectionLoss))


async def test_a_lost_request_or_reply_takes_it_once(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async for loss in losses(ensemble):
        with trio.fail_after(30):
            async with ensemble.open() as zk:
                mine = lease(zk, "me")
                assert await mine.obtain()
                assert ensemble.realm.stat("/l/lease_holder").mzxid == mine.fencing_token, str(loss)
                await at_rest(zk)
                assert tree(ensemble) == {"/l", "/l/lease_holder"}, str(loss)


async def test_one_of_several_renews_the_one_that_it_has(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        first, second = (MultiNonBlockingLease(zk, 2, "/l", timedelta(minutes=1), name) for name in ("one", "two"))
        assert await first.obtain()
        assert await second.obtain()
        assert second.lease is not None
        had = second.lease.path
        await zk.delete("/l/0/lease_holder")
        assert await second.obtain()
        assert second.lease.path == had == "/l/1"
        assert tree(ensemble) == {"/l", "/l/0", "/l/1", "/l/1/lease_holder"}


@pytest.mark.parametrize("code", [SessionMovedError.code, ThrottledOpError.code])
async def test_a_write_that_the_server_has_dropped_is_made_again(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, code: int
) -> None:
    async with ensemble.open() as zk:
        ensemble.rules.append(nth(1, Opcode.MULTI, Code(code)))
        assert await lease(zk, "one").obtain()


async def test_what_is_no_duration_or_no_identifier_is_refused(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as zk:
        for seconds in (5, "5", None):
            with pytest.raises(TypeError, match="duration must be a timedelta, not"):
                NonBlockingLease(zk, "/l", seconds)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        with pytest.raises(TypeError, match="identifier must be a str or None, not b'me'"):
            NonBlockingLease(zk, "/l", MINUTE, b"me")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
