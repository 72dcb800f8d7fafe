"""Known faults of kazoo's and Curator's clients, each shown to be absent here. The numbers are those of the page
`docs/recipes/known-faults.md`, which says what each of them does wrong.
"""

from __future__ import annotations

import logging
import re
from importlib.metadata import requires
from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock

from terzetto.client import (
    AuthFailedError,
    Connection,
    ConnectionClosedError,
    ConnectionLoss,
    Endpoint,
    KazooState,
    KeeperState,
    Resync,
    SessionExpiredError,
)
from terzetto.client.wire import Opcode

from .memory_server import Door, MemoryEnsemble, pass_time, settle, until


class WatchfulEnsemble(MemoryEnsemble):
    """Servers behind names, of which it is known when they were looked up and dialled.

    Attributes:
        looked_up: each name, when it was asked for.
        dialled: each address that was dialled.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        super().__init__(nursery)
        self.looked_up: list[str] = []
        self.dialled: list[tuple[str, int]] = []

    async def resolve(self, endpoint: Endpoint) -> list[Endpoint]:
        self.looked_up.append(endpoint.host)
        return await super().resolve(endpoint)

    async def dial(self, endpoint: Endpoint) -> Connection:
        self.dialled.append((endpoint.host, endpoint.port))
        return await super().dial(endpoint)


# kazoo ----------------------------------------------------------------------------------------------------------------


async def test_kazoo_6_curator_18_the_end_is_bounded(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    """kazoo joins its threads without a limit, Curator waits for its own; here a server that is silent holds nobody."""
    for door in (Door.SILENT, Door.HANGS, Door.REFUSES):
        ensemble.shut(Door.OPEN)
        async with ensemble.open(close_timeout=2.0) as zk:
            zk.defer_delete("/never-done")
            await settle()
            ensemble.shut(door)
            ensemble.cut()
            began = trio.current_time()
        assert trio.current_time() - began <= 2.0 + 0.001
    ensemble.shut(Door.OPEN)
    async with ensemble.open(close_timeout=2.0) as zk:
        ensemble.link.paused = True
        began = trio.current_time()
    assert trio.current_time() - began <= 2.0 + 0.001


async def test_kazoo_7_whoever_hears_of_the_connection_has_its_credentials(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    """kazoo tells CONNECTED first and sends its credentials afterwards, so that the first calls may be refused."""
    async with ensemble.open(auth=[("digest", "alice:secret")]) as zk, trio.open_nursery() as nursery:

        def ask(state: str) -> None:
            if state == KazooState.CONNECTED:
                nursery.start_soon(zk.get, "/")

        zk.add_listener(ask)
        ensemble.cut()
        await until(lambda: len(ensemble.links) == 2 and Opcode.GET_DATA in ensemble.opcodes())
        opcodes = [request.opcode for request in ensemble.link.received]
        assert opcodes.index(Opcode.AUTH) < opcodes.index(Opcode.GET_DATA)


async def test_kazoo_7_refused_credentials_make_nothing_flap(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    """kazoo sends them again at each reconnect, which the server ends each time."""
    ensemble.refused_credentials = frozenset({b"bad"})
    async with ensemble.open() as zk:
        states: list[str] = []
        zk.add_listener(states.append)
        with pytest.raises(AuthFailedError):
            await zk.add_auth("digest", b"bad")
        await until(lambda: zk.connected)
        connections = len(ensemble.links)
        await pass_time(600)
        assert len(ensemble.links) == connections
        assert states in ([], [KazooState.SUSPENDED, KazooState.CONNECTED])


async def test_kazoo_9_from_a_read_only_server_it_moves_to_the_other_s_own_port(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """kazoo takes the new server's port and the old one's address."""
    ensemble = WatchfulEnsemble(nursery)
    ensemble.read_only.add("a")
    async with ensemble.open("a:2181,b:2182", read_only=True, randomize_hosts=False) as zk:
        await until(lambda: zk.client_state == KeeperState.CONNECTED)
        assert set(ensemble.dialled) == {("a", 2181), ("b", 2182)}
        assert zk.server is not None
        assert (zk.server.host, zk.server.port) == ("b", 2182)


async def test_kazoo_10_the_search_for_a_better_server_stops_nobody(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    """kazoo's has no limit, blocks its input and output, and never pauses longer."""
    ensemble.read_only.add("a")
    ensemble.doors["b"] = Door.HANGS
    async with ensemble.open("a,b", read_only=True, randomize_hosts=False) as zk:
        for _ in range(300):
            await pass_time(1)
            with trio.fail_after(0.001):
                await zk.get("/")
        asked = [at for at, host in ensemble.dials if host == "b"]
        pauses = [later - earlier for earlier, later in pairwise(asked)]
        assert 3 < len(asked) < 30
        assert pauses[-1] > 10 * pauses[0]


async def test_kazoo_16_what_a_listener_raises_is_in_the_log(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """kazoo swallows it, in several places."""
    caplog.set_level(logging.ERROR)
    heard: list[str] = []

    def fail(state: str) -> None:
        raise ValueError(f"the listener's own, at {state}")

    async with ensemble.open() as zk:
        zk.add_listener(fail)
        zk.add_listener(heard.append)
        ensemble.cut()
        await until(lambda: heard == [KazooState.SUSPENDED, KazooState.CONNECTED])
    for state in heard:
        assert f"the listener's own, at {state}" in caplog.text


async def test_kazoo_22_pauses_between_attempts_stay_short(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    """kazoo's grow up to an hour."""
    async with ensemble.open(session_timeout=10.0) as zk:
        ensemble.shut(Door.REFUSES)
        ensemble.cut()
        await pass_time(3600)
        times = [at for at, _ in ensemble.dials]
        assert max(later - earlier for earlier, later in pairwise(times[1:])) <= 10.0
        ensemble.shut(Door.OPEN)
        began = trio.current_time()
        await until(lambda: zk.connected)
        assert trio.current_time() - began <= 10.0


# Curator --------------------------------------------------------------------------------------------------------------


async def test_curator_3_every_listener_hears_every_state_in_order(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    """Curator's states came out of order, or not at all."""
    first: list[str] = []
    second: list[str] = []
    async with ensemble.open() as zk:
        zk.add_listener(first.append)
        zk.add_listener(second.append)
        for lose in (ensemble.cut, lambda: ensemble.expire(zk.session_id)) * 5:
            lose()
            await until(lambda: not zk.connected)
            await until(lambda: zk.connected)
    assert first == second
    suspended, lost, connected = KazooState.SUSPENDED, KazooState.LOST, KazooState.CONNECTED
    assert first == [suspended, connected, suspended, lost, connected] * 5 + [lost]


async def test_curator_4_a_flapping_connection_makes_no_storm(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    """Curator needed a circuit breaker for its listeners; here a reconnect is few requests, and one item a stream."""
    flaps, watches = 10, 200
    told: list[object] = []
    async with ensemble.open() as zk:
        for number in range(watches):
            await zk.exists(f"/{number}", watch=told.append)
        async with zk.watch("/", recursive=True) as changes:
            for _ in range(flaps):
                ensemble.cut()
                await until(lambda: not zk.connected)
                await until(lambda: zk.connected)
                await settle()
                assert len(ensemble.link.received) <= 3
            for _ in range(flaps):
                assert isinstance(await anext(changes), Resync)
            await zk.create("/0")
            assert not isinstance(await anext(changes), Resync)
        assert len(told) == 1


async def test_curator_5_nothing_is_tried_after_the_end(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    """Curator went on trying after it was closed, and in the next session what was meant for the last one."""
    async with ensemble.open() as zk:
        ensemble.link.paused = True
        ended: list[type[Exception]] = []

        async def ask() -> None:
            try:
                await zk.retry(zk.create, "/a", ephemeral=True)
            except (SessionExpiredError, ConnectionLoss) as error:
                ended.append(type(error))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await settle()
            ensemble.expire(zk.session_id)
        assert ended == [SessionExpiredError]
        await until(lambda: zk.connected)
        assert await zk.exists("/a") is None
    requests = len(ensemble.received)
    began = trio.current_time()
    with pytest.raises(ConnectionClosedError):
        await zk.retry(zk.get, "/")
    assert trio.current_time() == began
    assert len(ensemble.received) == requests


async def test_curator_6_every_call_comes_to_an_end(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    """Curator lost callbacks in several places. Here each of many calls ends, whatever they were under way for."""
    for lose in ("cut", "expire", "leave"):
        ended: list[type[Exception]] = []

        async def ask(ended: list[type[Exception]] = ended) -> None:
            try:
                await zk.get("/")
            except (ConnectionLoss, SessionExpiredError, ConnectionClosedError) as error:
                ended.append(type(error))

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                async with ensemble.open(close_timeout=1.0) as zk:
                    ensemble.link.paused = True
                    for _ in range(100):
                        nursery.start_soon(ask)
                    await settle()
                    if lose == "cut":
                        ensemble.cut()
                    elif lose == "expire":
                        ensemble.expire(zk.session_id)
        assert len(ended) == 100


async def test_curator_11_names_are_looked_up_again_at_each_attempt(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """Curator kept addresses; in a cluster whose servers move, none of them is right after a while."""
    ensemble = WatchfulEnsemble(nursery)
    async with ensemble.open("a:2181") as zk:
        for attempt in range(1, 5):
            assert ensemble.looked_up == ["a"] * attempt
            ensemble.cut()
            await until(lambda: not zk.connected)
            await until(lambda: zk.connected)


def test_curator_15_few_packages_are_needed() -> None:
    """Curator brings Guava, Jackson and ZooKeeper in versions of its own, which collide with the application's."""
    needed = {
        re.split("[^a-z0-9-]", line, maxsplit=1)[0] for line in requires("terzetto") or () if "extra ==" not in line
    }
    assert {"trio"} <= needed <= {"trio", "trio-websocket", "tenacity", "h11", "wsproto", "exceptiongroup"}
