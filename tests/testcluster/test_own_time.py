"""An ensemble whose process does not get to run for a while: nothing has happened to it."""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import threading

import pytest
import trio
from trio.testing import MockClock

from terzetto.client import open_zookeeper
from terzetto.testcluster import open_ensemble
from terzetto.testcluster.own_time import OwnTime

TICK = 0.1
SESSION_TIMEOUT = 1.5
BUSY = 2.0


async def test_time_passes_while_the_loop_runs(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    clock = OwnTime(1.0)
    nursery.start_soon(clock.run)
    before = clock()
    await trio.sleep(100)
    assert clock() - before == pytest.approx(100)


async def test_time_stands_still_while_it_does_not(mock_clock: MockClock) -> None:
    clock = OwnTime(1.0)
    before = clock()
    mock_clock.jump(0.4)
    assert clock() - before == pytest.approx(0.4)
    mock_clock.jump(60)
    assert clock() - before == pytest.approx(0.9)
    mock_clock.jump(0.1)
    assert clock() - before == pytest.approx(1.0)


async def check_that_nothing_is_lost(servers: int) -> None:
    async def be_busy() -> None:
        # Longer than any server, or this session, may be silent for.
        threading.Event().wait(BUSY)

    async with (
        open_ensemble(servers, tick_time=TICK) as ensemble,
        open_zookeeper(ensemble.hosts, session_timeout=SESSION_TIMEOUT) as zk,
    ):
        await ensemble.wait_serving()
        session_id = zk.session_id
        await zk.create("/mine", ephemeral=True)
        leader, epoch = ensemble.leader, zk.last_zxid >> 32
        await trio.to_thread.run_sync(ensemble._loop.call, be_busy)
        await zk.retry(zk.set, "/mine", b"x")
        assert (ensemble.leader, zk.last_zxid >> 32) == (leader, epoch)
        assert zk.session_id == session_id


@pytest.mark.slow
async def test_an_ensemble_that_is_kept_from_its_turn_keeps_its_leader_and_its_sessions() -> None:
    async with trio.open_nursery() as nursery:
        for servers in (1, 3):
            nursery.start_soon(check_that_nothing_is_lost, servers)
