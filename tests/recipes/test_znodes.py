"""Requests that are made again, parents, waits for one change."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from terzetto.client import ConnectionLoss, NoAuthError, NoNodeError, ReplyTooLargeError, SessionExpiredError, ZooKeeper
from terzetto.client.wire import Opcode
from terzetto.recipes._znodes import (
    ChangeWait,
    delete_once,
    encoded,
    find_child,
    join,
    make_path,
    until_answered,
    wait_deleted,
)
from tests.client.deposed import DeposedLeader
from tests.client.holdings import holdings
from tests.client.memory_server import Door, MemoryEnsemble, pass_time, settle
from tests.client.server_link import Code, Fault, Oversized, Received, nth

from .losing import losses
from .walking import tree, walk


@pytest.mark.parametrize(("path", "joined"), [("/", "/x"), ("/a", "/a/x"), ("/a/b", "/a/b/x")])
def test_join(path: str, joined: str) -> None:
    assert join(path, "x") == joined


@pytest.mark.parametrize(("identifier", "data"), [(None, b""), ("", b""), ("\u00e4", b"\xc3\xa4"), (b"\xff", b"\xff")])
def test_identifiers(identifier: str | bytes | None, data: bytes) -> None:
    assert encoded(identifier) == data


async def test_it_is_asked_until_it_is_answered(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    lost: list[Fault | Code] = [Fault.CUT, Fault.DO_AND_CUT, Code(-127), Fault.CUT]
    ensemble.rules.append(lambda request: lost.pop() if lost and request.opcode == Opcode.EXISTS else None)
    async with ensemble.open() as zk:
        assert await until_answered(zk.exists, "/a", watch=None) is None
        assert lost == []


async def test_what_a_server_says_is_the_answer(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open(renew_session=False) as zk:
        with pytest.raises(NoNodeError):
            await until_answered(zk.get, "/a")
        ensemble.rules.append(nth(1, Opcode.GET_DATA, Oversized(1 << 30)))
        with pytest.raises(ReplyTooLargeError):
            await until_answered(zk.get, "/")
        ensemble.expire(zk.session_id)
        with pytest.raises(SessionExpiredError):
            await until_answered(zk.get, "/")


async def test_without_a_connection_nothing_spins(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    asked = 0

    async with ensemble.open() as zk:

        async def ask() -> None:
            nonlocal asked
            asked += 1
            await zk.get("/")

        ensemble.shut(Door.REFUSES)
        ensemble.cut()
        with trio.move_on_after(60):
            await until_answered(ask)
        assert asked <= 2


async def test_a_deletion_is_made_once(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async for loss in losses(ensemble):
        ensemble.realm.create("/a")
        async with ensemble.open() as zk:
            assert await delete_once(zk, "/a") is True, str(loss)
        assert tree(ensemble) == set()
    async with ensemble.open() as zk:
        assert await delete_once(zk, "/a") is False
        await zk.create("/a")
        ensemble.rules.append(nth(1, Opcode.DELETE, Code(NoAuthError.code or 0)))
        with pytest.raises(NoAuthError):
            await delete_once(zk, "/a")


async def test_a_child_is_found_by_its_prefix(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        assert await find_child(zk, "/a", "x") is None
        await zk.ensure_path("/a/y-1")
        assert await find_child(zk, "/a", "x") is None
        await zk.create("/a/x-1")
        assert await find_child(zk, "/a", "x") == "x-1"


async def test_a_child_is_found_though_a_deposed_leader_does_not_know_it(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    """Else a contender is made twice, and waits for itself."""
    ensemble.realm.create("/a")
    deposed = DeposedLeader(ensemble, Opcode.CREATE)
    async with ensemble.open() as zk:
        ensemble.rules.append(deposed)
        with pytest.raises(ConnectionLoss):
            await zk.create("/a/x-1")
        assert await find_child(zk, "/a", "x") == "x-1"
        assert deposed.asked


@pytest.mark.parametrize("container", [False, True])
async def test_parents_are_made_whatever_is_lost(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, container: bool
) -> None:
    async for _ in losses(ensemble):
        async with ensemble.open() as zk:
            await make_path(zk, "/a/b/c", container=container)
            await make_path(zk, "/a/b/c", container=container)
        assert tree(ensemble) == {"/a", "/a/b", "/a/b/c"}
    made = {request.opcode for request in ensemble.received if request.path == "/a"}
    assert (Opcode.CREATE_CONTAINER in made) == container
    assert (Opcode.CREATE in made) != container


async def test_parents_that_go_while_they_are_made(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    gone: list[str] = []

    def reap(request: Received) -> None:
        if request.path == "/a/b/c" and request.opcode in (Opcode.CREATE, Opcode.CREATE_CONTAINER) and len(gone) < 2:
            ensemble.realm.delete("/a/b")
            gone.append("/a/b")

    async with ensemble.open() as zk:
        for container in (False, True):
            gone.clear()
            ensemble.rules[:] = [reap]
            await zk.ensure_path("/a/b")
            await make_path(zk, "/a/b/c", container=container)
            assert len(gone) == 2
            assert "/a/b/c" in tree(ensemble)
            await zk.delete("/a", recursive=True)
        await make_path(zk, "/", container=True)


async def test_a_change_is_waited_for(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        await zk.create("/a")
        async with ChangeWait(zk, "/a") as change:
            await zk.get("/a", watch=change.told)
            ensemble.realm.set("/a")
            await change.happened()
        async with ChangeWait(zk, "/a") as change:
            await zk.get("/a", watch=change.told)
            assert holdings(zk).watches == 1
        assert holdings(zk).watches == 0


async def test_a_deletion_is_waited_for_and_nothing_else(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk, trio.open_nursery() as nursery:
        await wait_deleted(zk, "/never")
        await zk.create("/a")
        waited: list[str] = []

        async def wait() -> None:
            await wait_deleted(zk, "/a")
            waited.append("/a")

        nursery.start_soon(wait)
        await settle()
        ensemble.realm.set("/a")
        ensemble.cut()
        await pass_time(10)
        assert waited == []
        ensemble.realm.delete("/a")
        await settle()
        assert waited == ["/a"]


async def test_cancelled_at_each_checkpoint_a_wait_leaves_nothing(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async def wait(zk: ZooKeeper) -> None:
        with trio.move_on_after(1):
            await wait_deleted(zk, "/a")

    await walk(ensemble, wait, prepare=lambda: ensemble.realm.create("/a"))
