"""The example of a cluster of brokers: processes that are killed and stopped, and a controller that came too late."""

from __future__ import annotations

import signal
from itertools import pairwise
from typing import Any

import pytest
import trio

from terzetto.client import ZooKeeper, open_zookeeper
from terzetto.recipes import LeaderSelector, OwnershipLost
from terzetto.testcluster import BlockingEnsemble

from .programs import eventually, load, programs

example: Any = load("cluster_controller")


async def controller_of(zk: ZooKeeper) -> int:
    candidates = await LeaderSelector(zk, example.CONTROLLER).contenders()
    return int(candidates[0])


def state(cluster: Any) -> dict[str, Any]:
    return {path: partition for path, partition, _ in cluster.partitions()}


async def record(zk: ZooKeeper, seen: dict[str, list[Any]], alive: list[set[int]]) -> None:
    """Every state of each partition, and who was alive, as far as they can be told apart from outside."""
    async with example.Cluster(zk) as cluster:
        changes = cluster.changes()
        while True:
            alive.append(cluster.live)
            for path, partition, _ in cluster.partitions():
                states = seen.setdefault(path, [])
                if not states or states[-1] != partition:
                    states.append(partition)
            await anext(changes)


def check_history(states: list[Any]) -> None:
    """Epochs never go back, nobody leads in the same epoch as another one, and leaders have complete copies."""
    for before, after in pairwise(states):
        assert after.controller_epoch >= before.controller_epoch
        assert after.leader_epoch >= before.leader_epoch
        if after.leader != before.leader:
            assert after.leader_epoch > before.leader_epoch
            assert after.controller_epoch > 0
    assert all(one.leader in one.isr for one in states if one.leader is not None)


@pytest.mark.slow
async def test_brokers_are_killed_and_stopped_and_every_partition_has_a_leader(
    zk_ensemble: BlockingEnsemble, zk: ZooKeeper
) -> None:
    seen: dict[str, list[Any]] = {}
    alive: list[set[int]] = []
    for path in (example.BROKERS, example.TOPICS):
        await zk.ensure_path(path)
    async with (
        programs("cluster_controller", zk_ensemble.hosts + zk.chroot) as brokers,
        example.Cluster(zk) as cluster,
        trio.open_nursery() as nursery,
    ):
        for number in (1, 2, 3):
            await brokers.start(number)
        await example.settled(cluster, {1, 2, 3})
        changes = cluster.changes()
        await example.create_topic(zk, "orders", partitions=4, replication=3)
        nursery.start_soon(record, zk, seen, alive)
        await eventually(lambda: len(state(cluster)) == 4, changes.__anext__)
        await example.settled(cluster, {1, 2, 3})
        before = state(cluster)
        assert {partition.leader for partition in before.values()} == {1, 2, 3}

        killed = await controller_of(zk)
        brokers.signal(killed, signal.SIGKILL)
        survivors = {1, 2, 3} - {killed}
        await example.settled(cluster, survivors)
        after = state(cluster)
        # A busy machine may have kept one from its session for so long that it was taken for dead, too.
        undisturbed = all(survivors <= one for one in alive)
        for path, partition in after.items():
            assert partition.leader in survivors
            assert partition.controller_epoch > before[path].controller_epoch
            # Who has lost its leader has another one in an epoch of its own; the others keep theirs.
            moved = before[path].leader == killed
            if moved or undisturbed:
                assert (partition.leader_epoch > before[path].leader_epoch) == moved
                assert (partition.leader != before[path].leader) == moved

        stopped = await controller_of(zk)
        assert stopped in survivors
        brokers.signal(stopped, signal.SIGSTOP)
        await brokers.start(killed)
        others = {1, 2, 3} - {stopped}
        await example.settled(cluster, others)
        assert await controller_of(zk) in others
        newest = {path: partition.controller_epoch for path, partition in state(cluster).items()}
        # It wakes as the controller that it was, with a copy of what the cluster was.
        brokers.signal(stopped, signal.SIGCONT)
        await example.settled(cluster, {1, 2, 3})
        assert all(partition.controller_epoch >= newest[path] for path, partition in state(cluster).items())
        nursery.cancel_scope.cancel()
    assert seen.keys() == before.keys()
    for states in seen.values():
        check_history(states)


async def test_a_controller_that_was_replaced_is_refused(zk: ZooKeeper, zk_ensemble: BlockingEnsemble) -> None:
    for path in (example.BROKERS, example.TOPICS):
        await zk.ensure_path(path)
    await zk.create(f"{example.BROKERS}/1", ephemeral=True)
    await example.create_topic(zk, "orders", partitions=2, replication=1)
    broker = example.Broker(zk, 1)
    async with broker.cluster, open_zookeeper(zk_ensemble.hosts, chroot=zk.chroot) as other:
        selector = LeaderSelector(zk, example.CONTROLLER, "1")
        assert await selector.lock.acquire()
        late = selector.lock.held
        assert late is not None
        before = state(broker.cluster)
        assert {partition.leader for partition in before.values()} == {None}
        # What the end of its session does to the controller that is stopped and does not know.
        await other.delete(late.znode)
        async with LeaderSelector(other, example.CONTROLLER, "2") as present:
            assert (present.fencing_token or 0) > (late.fencing_token or 0)
            with pytest.raises(OwnershipLost):
                await broker.choose_leaders(late)
            successor = example.Broker(other, 2)
            async with successor.cluster:
                assert state(successor.cluster) == before
                await successor.choose_leaders(present)
                await example.settled(successor.cluster, {1})
                assert {one.controller_epoch for one in state(successor.cluster).values()} == {present.fencing_token}
        assert not await selector.lock.release()
