"""The proof behind ownership, on real servers: it ends before the leader can have expired the session."""

from __future__ import annotations

import math

import pytest
import trio

from terzetto.client import open_zookeeper

from .conftest import OwnEnsemble
from .proxy import open_proxy
from .zookeeper import RealZooKeeper

SESSION_TIMEOUT = 2.4
KEPT_TIMEOUT = 4.0
"""A busy machine has a quarter of it to answer in."""
BOUND = 30.0


@pytest.mark.parametrize("attempt", range(3))
async def test_the_proof_lapses_before_the_session_expires(zookeeper: RealZooKeeper, attempt: int) -> None:
    async with (
        open_proxy(zookeeper.address) as proxy,
        open_zookeeper(zookeeper.hosts) as other,
        open_zookeeper(proxy.hosts, session_timeout=SESSION_TIMEOUT, close_timeout=0.1) as owner,
    ):
        path = await owner.create(f"/owned-{attempt}-", ephemeral=True, sequence=True)
        gone = trio.Event()
        with owner.keep_proof() as proof:
            proven_when_gone: list[float] = []

            def hear(_: object) -> None:
                proven_when_gone.append(proof.remaining())
                gone.set()

            await other.sync("/")
            assert await other.exists(path, watch=hear) is not None
            await proof.renew()
            proxy.stall("client")
            proxy.stall("server")
            with trio.fail_after(BOUND):
                await proof.wait_lapsed()
                await gone.wait()
        assert proven_when_gone == [0], "the session expired while ownership was proven"


async def test_a_held_proof_is_kept_up_without_any_traffic_of_the_user(zookeeper: RealZooKeeper) -> None:
    async with (
        open_proxy(zookeeper.address) as proxy,
        open_zookeeper(proxy.hosts, session_timeout=KEPT_TIMEOUT) as zk,
    ):
        with zk.keep_proof() as proof:
            first = await proof.renew()
            frames = proxy.count("client")
            with trio.move_on_after(1.5 * KEPT_TIMEOUT):
                await proof.wait_lapsed()
                raise AssertionError("the proof lapsed although the server answers")
            assert proof.deadline > first + KEPT_TIMEOUT
            # An empty transaction every quarter of the timeout, and a ping every sixth.
            assert proxy.count("client") - frames <= 20
        await zk.sync("/")  # what was asked before has been answered
        kept = proof.deadline
        frames = proxy.count("client")
        with trio.move_on_after(KEPT_TIMEOUT):
            await trio.sleep_forever()
        assert proof.deadline == kept
        assert proxy.count("client") - frames <= 4  # pings only


async def test_a_follower_without_its_leader_proves_nothing(own_ensemble: OwnEnsemble) -> None:
    """It goes on answering pings and reads for a while, which is why those are no proof."""
    ensemble = own_ensemble(3)
    follower = ensemble.followers()[0]
    async with open_zookeeper(follower.address, session_timeout=4.0, close_timeout=0.1) as zk:
        with zk.keep_proof() as proof:
            await proof.renew()
            for server in ensemble.servers.values():
                if server is not follower:
                    await trio.to_thread.run_sync(server.pause)
            with trio.fail_after(BOUND):
                await proof.wait_lapsed()
        for server in ensemble.servers.values():
            if server is not follower:
                server.resume()


async def test_reads_and_pings_prove_nothing(zookeeper: RealZooKeeper) -> None:
    async with open_zookeeper(zookeeper.hosts, auth=[("digest", "a:b")]) as zk:
        with zk.keep_proof() as proof:
            await zk.exists("/")
            await zk.sync("/")
            await zk.add_auth("digest", "c:d")
            assert proof.deadline == -math.inf
            assert proof.remaining() == 0
            await zk.sync("/", strict=True)
            assert 0 < proof.remaining() <= zk.session_timeout / 2
