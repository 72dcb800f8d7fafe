"""Curator and terzetto contend for the same things, in both orders, on the real server and on the embedded one."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from typing import NamedTuple

import pytest
import trio

from terzetto.client import ZooKeeper, open_zookeeper
from terzetto.recipes import (
    LayoutConflictError,
    LeaderLatch,
    LeaderSelector,
    Lock,
    Ownership,
    ReadLock,
    Semaphore,
    SemaphoreMutex,
    WriteLock,
    wait_revoked,
)
from terzetto.testcluster import start_ensemble
from tests.recipes.truth import now

from .background import DEADLINE
from .curator import CuratorPeer
from .installation import PeerMissing
from .java_programs import find_curator_classpath, find_javac

# Curator takes a number of milliseconds for every wait.
AT_ONCE, PATIENTLY = 300, 15_000


class Peer(NamedTuple):
    """A Curator process and its server."""

    curator: CuratorPeer
    hosts: str

    async def ask(self, line: str) -> str:
        """Curator's answer to a command."""
        return await trio.to_thread.run_sync(self.curator.ask, line)

    async def will(self, line: str, answer: str) -> None:
        """Asks, and expects this answer."""
        assert await self.ask(line) == answer


@pytest.fixture(scope="module")
def curator_installed(zookeeper_installed: None) -> None:
    """Skips where Curator or a compiler is missing; fails there in CI."""
    try:
        find_curator_classpath()
        find_javac()
    except PeerMissing as missing:
        if os.environ.get("CI") == "true":
            pytest.fail(str(missing), pytrace=False)
        pytest.skip(str(missing))


@pytest.fixture(scope="module", params=["real", "embedded"])
def peer(request: pytest.FixtureRequest, curator_installed: None) -> Iterator[Peer]:
    if request.param == "real":
        hosts = request.getfixturevalue("zookeeper").hosts
        with CuratorPeer(hosts) as curator:
            yield Peer(curator, hosts)
    else:
        with start_ensemble(servers=1) as ensemble, CuratorPeer(ensemble.hosts) as curator:
            yield Peer(curator, ensemble.hosts)


@pytest.fixture
def path() -> str:
    """Of this test alone."""
    return f"/{uuid.uuid4().hex}"


async def contended(zk: ZooKeeper, path: str, count: int) -> list[str]:
    """The children of a path, once there are so many."""
    with trio.fail_after(DEADLINE):
        while True:
            changed = trio.Event()
            names = await zk.get_children(path, watch=lambda _, changed=changed: changed.set())  # type: ignore[misc]
            if len(names) >= count:
                return names
            await changed.wait()


async def test_a_mutex(peer: Peer, path: str) -> None:
    async with open_zookeeper(peer.hosts) as zk, trio.open_nursery() as nursery:
        ours = Lock(zk, path, "terzetto", layout="curator")
        await peer.will(f"a new mutex {path}", "ok")
        await peer.will(f"a acquire {PATIENTLY}", "true")
        assert not await ours.acquire(blocking=False)
        nursery.start_soon(ours.acquire)
        await contended(zk, path, 2)
        assert not now(ours.is_acquired)
        await peer.will("a release", "ok")
        with trio.fail_after(DEADLINE):
            while not now(ours.is_acquired):
                await zk.sync(path)
        await peer.will(f"a acquire {AT_ONCE}", "false")
        # Refused there, it leaves nothing here.
        assert len(await zk.get_children(path)) == 1
        nursery.start_soon(peer.will, f"a acquire {PATIENTLY}", "true")
        await contended(zk, path, 2)
        assert await ours.release()


async def test_one_order(peer: Peer, path: str) -> None:
    served: list[str] = []

    async with open_zookeeper(peer.hosts) as zk:

        async def our_turn(name: str) -> None:
            async with Lock(zk, path, layout="curator"):
                served.append(name)

        async def curator_turn(name: str) -> None:
            await peer.will(f"{name} new mutex {path}", "ok")
            await peer.will(f"{name} acquire {PATIENTLY}", "true")
            served.append(name)
            await peer.will(f"{name} release", "ok")

        async with trio.open_nursery() as nursery:
            async with Lock(zk, path, layout="curator"):
                for number in range(3):
                    nursery.start_soon(curator_turn, f"order{number}-{path[1:5]}")
                    await contended(zk, path, 2 + 2 * number)
                    nursery.start_soon(our_turn, f"t{number}")
                    await contended(zk, path, 3 + 2 * number)
    assert [name[0] for name in served] == list("ototot")


async def test_readers_and_writers(peer: Peer, path: str) -> None:
    async with open_zookeeper(peer.hosts) as zk:
        await peer.will(f"rw new read-write-lock {path}", "ok")
        async with ReadLock(zk, path, layout="curator"):
            await peer.will(f"rw read acquire {PATIENTLY}", "true")
            await peer.will(f"rw2 new read-write-lock {path}", "ok")
            await peer.will(f"rw2 write acquire {AT_ONCE}", "false")
        assert not await WriteLock(zk, path, layout="curator").acquire(blocking=False)
        assert await ReadLock(zk, path, layout="curator").acquire(blocking=False)
        await peer.will("rw read release", "ok")
    async with open_zookeeper(peer.hosts) as zk:
        async with WriteLock(zk, path, layout="curator") as held:
            await peer.will(f"rw read acquire {AT_ONCE}", "false")
            await peer.will(f"rw2 write acquire {AT_ONCE}", "false")
            await held.downgrade()
            await peer.will(f"rw2 write acquire {AT_ONCE}", "false")
            await peer.will(f"rw read acquire {PATIENTLY}", "true")
            await peer.will("rw read release", "ok")
        await peer.will(f"rw2 write acquire {PATIENTLY}", "true")
        assert not await ReadLock(zk, path, layout="curator").acquire(blocking=False)
        assert not await WriteLock(zk, path, layout="curator").acquire(blocking=False)
        await peer.will("rw2 write release", "ok")


async def test_a_semaphore(peer: Peer, path: str) -> None:
    async with open_zookeeper(peer.hosts) as zk, trio.open_nursery() as nursery:
        ours = Semaphore(zk, path, "terzetto", 2, layout="curator")
        await peer.will(f"s new semaphore {path} 2", "ok")
        await peer.will(f"s acquire {PATIENTLY}", "true")
        assert await ours.acquire()
        assert not await Semaphore(zk, path, max_leases=2, layout="curator").acquire(blocking=False)
        await peer.will(f"s acquire {AT_ONCE}", "false")
        third = Semaphore(zk, path, "third", 2, layout="curator")
        nursery.start_soon(third.acquire)
        await contended(zk, f"{path}/locks", 1)
        await peer.will("s release", "ok")
        with trio.fail_after(DEADLINE):
            while not now(third.is_acquired):
                await zk.sync(path)
        nursery.start_soon(peer.will, f"s acquire {PATIENTLY}", "true")
        await contended(zk, f"{path}/locks", 1)
        assert await ours.release()


async def test_several_leases_of_a_semaphore(peer: Peer, path: str) -> None:
    async with open_zookeeper(peer.hosts) as zk:
        ours = Semaphore(zk, path, "terzetto", 3, layout="curator")
        await peer.will(f"several new semaphore {path} 3", "ok")
        await peer.will(f"several acquire-many 2 {PATIENTLY}", "true")
        assert not await ours.acquire(blocking=False, leases=2)
        assert await ours.acquire(leases=1)
        await ours.release()
        await peer.will("several release", "ok")
        async with ours.hold(leases=2) as held:
            assert {znode.rpartition("/")[2][-16:-10] for znode in held.znodes} == {"lease-"}
            await peer.will(f"several acquire {AT_ONCE}", "false")
            await contended(zk, f"{path}/leases", 3)
        await peer.will(f"several acquire-many 2 {PATIENTLY}", "true")
        for _ in range(3):
            await peer.will("several release", "ok")


async def test_a_semaphore_mutex(peer: Peer, path: str) -> None:
    async with open_zookeeper(peer.hosts) as zk:
        await peer.will(f"m new semaphore-mutex {path}", "ok")
        async with SemaphoreMutex(zk, path) as held:
            assert held.fencing_token is not None
            await peer.will(f"m acquire {AT_ONCE}", "false")
        await peer.will(f"m acquire {PATIENTLY}", "true")
        assert not await SemaphoreMutex(zk, path).acquire(blocking=False)
        await peer.will("m release", "ok")
        assert await SemaphoreMutex(zk, path).acquire(blocking=False)


async def test_a_latch(peer: Peer, path: str) -> None:
    async with open_zookeeper(peer.hosts) as zk:
        async with LeaderLatch(zk, path, "terzetto") as ours:
            await ours.wait_leadership()
            await peer.will(f"l new latch {path} java", "ok")
            await contended(zk, path, 2)
            await peer.will("l leading", "false")
            await peer.will("l leader", "terzetto")
            assert await ours.participants() == ["terzetto", "java"]
        await peer.will(f"l await {PATIENTLY}", "true")
        async with LeaderLatch(zk, path, "again") as ours:
            await contended(zk, path, 2)
            assert not now(ours.has_leadership)
            assert await ours.leader() == "java"
            await peer.will("l close", "ok")
            with trio.fail_after(DEADLINE):
                await ours.wait_leadership()


async def test_a_selector(peer: Peer, path: str) -> None:
    async with open_zookeeper(peer.hosts) as zk, trio.open_nursery() as nursery:
        terms = 0

        async def lead(_: Ownership) -> None:
            nonlocal terms
            terms += 1
            await contended(zk, path, 2)

        await zk.ensure_path(path)
        await peer.will(f"e new selector {path} java", "ok")
        await contended(zk, path, 1)
        nursery.start_soon(LeaderSelector(zk, path, "terzetto").take_turns, lead)
        await contended(zk, path, 2)
        for turn in range(3):
            await peer.will(f"e terms 1 {PATIENTLY}", "[led]")
            await peer.will("e yield", "ok")
            with trio.fail_after(DEADLINE):
                while terms <= turn:
                    await zk.sync(path)
        await peer.will("e close", "ok")
        nursery.cancel_scope.cancel()


async def test_what_curator_s_revoker_writes_is_seen(peer: Peer, path: str) -> None:
    async with open_zookeeper(peer.hosts) as zk:
        async with Lock(zk, path, layout="curator") as held, trio.open_nursery() as nursery:
            nursery.start_soon(wait_revoked, held)
            assert "version=1" in await peer.ask(f"- set -1 {held.znode} __REVOKE__")
            assert not now(held.is_lost)


async def test_kazoo_s_layout_on_curator_s_path_is_refused(peer: Peer, path: str) -> None:
    async with open_zookeeper(peer.hosts) as zk:
        await peer.will(f"c new mutex {path}", "ok")
        await peer.will(f"c acquire {PATIENTLY}", "true")
        with pytest.raises(LayoutConflictError):
            await Lock(zk, path).acquire()
        await peer.will("c release", "ok")


async def test_readers_and_writers_wait_for_each_other(peer: Peer, path: str) -> None:
    async with open_zookeeper(peer.hosts) as zk, trio.open_nursery() as nursery:
        reader, writer, late = (kind(zk, path, layout="curator") for kind in (ReadLock, WriteLock, ReadLock))
        names = [f"{kind}{path[1:6]}" for kind in ("r", "w", "l")]
        for name in names:
            await peer.will(f"{name} new read-write-lock {path}", "ok")
        done = {name: trio.Event() for name in names}

        async def theirs(name: str, command: str) -> None:
            await peer.will(f"{name} {command} acquire {PATIENTLY}", "true")
            done[name].set()

        await theirs(names[0], "read")
        assert await reader.acquire()
        nursery.start_soon(theirs, names[1], "write")
        await contended(zk, path, 3)
        nursery.start_soon(writer.acquire)
        await contended(zk, path, 4)
        nursery.start_soon(theirs, names[2], "read")
        await contended(zk, path, 5)
        nursery.start_soon(late.acquire)
        await contended(zk, path, 6)

        await peer.will(f"{names[0]} read release", "ok")
        assert not now(done[names[1]].is_set()), "our reader is still there"
        assert await reader.release()
        with trio.fail_after(DEADLINE):
            await done[names[1]].wait()
            assert not now(writer.is_acquired)
            await peer.will(f"{names[1]} write release", "ok")
            while not now(writer.is_acquired):
                await zk.sync(path)
            assert not now(done[names[2]].is_set())
            assert not now(late.is_acquired)
            assert await writer.release()
            await done[names[2]].wait()
            while not now(late.is_acquired):
                await zk.sync(path)
        await peer.will(f"{names[2]} read release", "ok")
        assert await late.release()
