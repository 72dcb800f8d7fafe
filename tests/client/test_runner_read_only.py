"""A client on a server without a quorum looks for one that has it, patiently, and moves there."""

from __future__ import annotations

from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock

from terzetto.client import ConnectionLoss, KazooState, KeeperState, NotReadOnlyCallError, ZooKeeper
from terzetto.client.wire import Opcode

from .memory_server import Door, MemoryEnsemble, pass_time, until
from .server_link import Fault, every


def probes(ensemble: MemoryEnsemble, since: float) -> list[tuple[float, str]]:
    return [(at, host) for at, host in ensemble.dials if at > since]


async def test_it_is_looked_for_with_growing_pauses(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    ensemble.read_only.update("ab")
    async with ensemble.open("a,b", read_only=True, randomize_hosts=False) as zk:
        assert zk.client_state == KeeperState.CONNECTED_RO
        since = trio.current_time()
        await pass_time(300.0)
        # The server that it is on is not asked.
        assert {host for _, host in probes(ensemble, since)} == {"b"}
        times = [since, *(at for at, _ in probes(ensemble, since))]
        pauses = [later - earlier for earlier, later in pairwise(times)]
        assert pauses == pytest.approx([min(0.1 * 2**number, 60.0) for number in range(len(pauses))], abs=0.01)
        assert pauses[-1] == pytest.approx(60.0, abs=0.01)


@pytest.mark.parametrize("door", [Door.REFUSES, Door.HANGS, Door.SILENT])
async def test_a_server_that_cannot_be_asked_is_passed_over(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, door: Door
) -> None:
    ensemble.read_only.add("a")
    ensemble.doors["b"] = door
    async with ensemble.open("a,b,c", read_only=True, randomize_hosts=False) as zk:
        await until(lambda: zk.client_state == KeeperState.CONNECTED)
        assert trio.current_time() < 6.0
        assert ensemble.dials[-1][1] == "c"


async def test_it_moves_to_the_server_that_it_has_found_and_to_no_other(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    ensemble.read_only.update("ab")
    async with ensemble.open("a,b,c", read_only=True, randomize_hosts=False) as zk:
        states: list[str] = []
        zk.add_listener(states.append)
        await until(lambda: zk.client_state == KeeperState.CONNECTED)
        assert states == [KazooState.SUSPENDED, KazooState.CONNECTED]
        # Once for the question, once to stay; the read-only servers before it in the list are left out.
        assert [host for _, host in ensemble.dials][-2:] == ["c", "c"]
        await zk.create("/written")


async def refused(zk: ZooKeeper) -> None:
    with pytest.raises(NotReadOnlyCallError):
        await zk.create("/never")


async def test_calls_under_way_are_lost_and_later_ones_wait(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    ensemble.read_only.update("ab")
    async with ensemble.open("a,b", read_only=True, randomize_hosts=False) as zk:
        await refused(zk)
        ensemble.rules.append(every(Opcode.GET_DATA, Fault.IGNORE))
        ensemble.read_only.remove("b")
        with pytest.raises(ConnectionLoss, match="leaving a read-only server for b:2181") as caught:
            await zk.get("/")
        assert caught.value.outcome_unknown
        await zk.create("/written")


async def test_the_search_ends_with_the_connection_it_was_for(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    ensemble.read_only.update("ab")
    async with ensemble.open("a,b", read_only=True, randomize_hosts=False) as zk:
        await pass_time(20.0)
        since = trio.current_time()
        ensemble.read_only.clear()
        ensemble.cut()
        await until(lambda: zk.client_state == KeeperState.CONNECTED)
        await pass_time(200.0)
        assert len(probes(ensemble, since)) == 1
