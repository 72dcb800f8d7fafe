"""Brokers, a controller and replicated partitions: how Apache Kafka ran its clusters on ZooKeeper.

Every broker registers itself and stands for election. The one that is elected, the controller, gives each partition a
leader among its in-sync replicas, and another one when that broker dies; when the controller dies, the next one goes
on. What it decides carries its epoch, and commits only while it is the controller: one that was stopped for a while
and does not know that it was replaced changes nothing any more.

    python cluster_controller.py 127.0.0.1:2181      three brokers in one program, and what happens when two end
    python cluster_controller.py 127.0.0.1:2181 7    broker 7; run some of them, each in a terminal, and kill them
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace

import trio

from terzetto.client import BadVersionError, SessionExpiredError, ZooKeeper, open_zookeeper
from terzetto.recipes import LeaderSelector, Ownership, PersistentNode, ZnodeCache

ROOT = "/example-cluster"
BROKERS, TOPICS, CONTROLLER = f"{ROOT}/brokers", f"{ROOT}/topics", f"{ROOT}/controller"
SESSION_TIMEOUT = 3.0


@dataclass(frozen=True)
class Partition:
    """The state of one partition, which is the data of its znode.

    Attributes:
        replicas: brokers that have a copy of it, the preferred leader first.
        isr: the in-sync replicas, those whose copy is complete.
        leader: the broker that takes writes; none while no in-sync replica is alive.
        leader_epoch: grows with every leader.
        controller_epoch: of the controller that has chosen it; grows with every controller.
    """

    replicas: list[int]
    isr: list[int] = field(default_factory=list[int])
    leader: int | None = None
    leader_epoch: int = 0
    controller_epoch: int = 0

    def among(self, live: set[int]) -> Partition:
        """As it must be when these brokers are alive."""
        # The last ones in sync stay so, dead or not: nobody else has everything.
        isr = [broker for broker in self.isr if broker in live] or self.isr
        if self.leader in live:
            return replace(self, isr=isr)
        leader = next((broker for broker in isr if broker in live), None)
        return replace(self, isr=isr, leader=leader, leader_epoch=self.leader_epoch + (leader != self.leader))

    def to_bytes(self) -> bytes:
        """For the znode."""
        return json.dumps(asdict(self)).encode()


class Cluster(ZnodeCache):
    """A copy of the cluster's metadata, which follows the servers. Every broker has one."""

    def __init__(self, zk: ZooKeeper) -> None:
        super().__init__(zk, ROOT)

    @property
    def live(self) -> set[int]:
        """The brokers that are alive."""
        return set(map(int, self.children(BROKERS)))

    def partitions(self) -> Iterator[tuple[str, Partition, int]]:
        """Path, state and version of each partition."""
        for topic in sorted(self.children(TOPICS)):
            for number in sorted(self.children(f"{TOPICS}/{topic}"), key=int):
                znode = self.get(f"{TOPICS}/{topic}/{number}")
                if znode is not None and znode.data:
                    yield znode.path, Partition(**json.loads(znode.data)), znode.stat.version


class Broker:
    """One broker: follows the metadata, leads the partitions it is told to, and is the controller when elected."""

    def __init__(self, zk: ZooKeeper, broker_id: int) -> None:
        self.zk = zk
        self.id = broker_id
        self.cluster = Cluster(zk)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Takes part until it is cancelled. After a lost session it registers again."""
        for path in (BROKERS, TOPICS):
            await self.zk.ensure_path(path)
        selector = LeaderSelector(self.zk, CONTROLLER, str(self.id))
        async with PersistentNode(self.zk, f"{BROKERS}/{self.id}"), self.cluster, trio.open_nursery() as nursery:
            nursery.start_soon(self.lead_partitions)
            nursery.start_soon(selector.take_turns, self.control)
            task_status.started()

    # The controller

    async def control(self, leadership: Ownership) -> None:
        """One term as the controller. It is cancelled when the term is over, or when that can no longer be excluded."""
        print(f"broker {self.id} is the controller, in epoch {leadership.fencing_token}", flush=True)
        changes = self.cluster.changes()
        # A session that is over takes the term along, and there may be another one.
        with suppress(SessionExpiredError):
            while True:
                # Lost connections: tried again, and the versions tell whether it was done. An older version: the
                # change that made it so is on its way into our copy.
                with suppress(BadVersionError):
                    await self.zk.retry(self.choose_leaders, leadership)
                await anext(changes)

    async def choose_leaders(self, leadership: Ownership) -> None:
        """Writes down which partition is led by whom, where that has changed: all of it, or nothing.

        Raises:
            OwnershipLost: we are not the controller any more; nothing was written.
        """
        live = self.cluster.live
        decisions = {
            path: (partition.among(live), version)
            for path, partition, version in self.cluster.partitions()
            if partition.among(live) != partition
        }
        if not decisions:
            return
        async with leadership.transaction() as transaction:
            for path, (chosen, version) in decisions.items():
                signed = replace(chosen, controller_epoch=leadership.fencing_token or 0)
                transaction.set_data(path, signed.to_bytes(), version)
        print(f"broker {self.id} has decided on {len(decisions)} partitions", flush=True)

    # Any broker

    async def lead_partitions(self) -> None:
        """Takes the lead of what we are to lead, and takes replicas that are back into its ISR."""
        changes = self.cluster.changes()
        while True:
            for path, partition, version in self.cluster.partitions():
                if partition.leader == self.id:
                    await self.extend_isr(path, partition, version)
            await anext(changes)

    async def extend_isr(self, path: str, partition: Partition, version: int) -> None:
        """In-sync is who is alive: a real broker would have its followers catch up first."""
        live = self.cluster.live
        isr = [broker for broker in partition.replicas if broker in live or broker in partition.isr]
        if set(isr) != set(partition.isr):
            # The version is the fence: whoever was replaced as the leader has an older one.
            with suppress(BadVersionError, SessionExpiredError):
                await self.zk.retry(self.zk.set, path, replace(partition, isr=isr).to_bytes(), version)


async def create_topic(zk: ZooKeeper, name: str, partitions: int, replication: int) -> None:
    """Spreads a topic's partitions over the brokers that are there, all at once; the controller chooses leaders."""
    brokers = sorted(map(int, await zk.get_children(BROKERS)))
    async with zk.transaction() as creation:
        creation.create(f"{TOPICS}/{name}")
        for number in range(partitions):
            replicas = [brokers[(number + copy) % len(brokers)] for copy in range(replication)]
            creation.create(f"{TOPICS}/{name}/{number}", Partition(replicas, isr=replicas).to_bytes())


# The program ----------------------------------------------------------------------------------------------------------


async def run_broker(
    hosts: str, broker_id: int, task_status: trio.TaskStatus[trio.CancelScope] = trio.TASK_STATUS_IGNORED
) -> None:
    """A broker with a session of its own. Starts with the scope that ends it."""
    with trio.CancelScope() as scope:
        async with open_zookeeper(hosts, session_timeout=SESSION_TIMEOUT) as zk, trio.open_nursery() as nursery:
            await nursery.start(Broker(zk, broker_id).run)
            task_status.started(scope)


async def settled(cluster: Cluster, brokers: set[int]) -> None:
    """Returns once these brokers are there, and every partition is led, and in sync on all of them that have it."""
    changes = cluster.changes()
    while cluster.live != brokers or not all(
        partition.leader in brokers and set(partition.isr) == brokers & set(partition.replicas)
        for _, partition, _ in cluster.partitions()
    ):
        await anext(changes)


def show(cluster: Cluster) -> None:
    """The metadata as a table."""
    print(f"\n{'partition':12}{'replicas':12}{'in sync':12}{'leader':8}{'epoch':7}controller's epoch")
    for path, partition, _ in cluster.partitions():
        name = path.removeprefix(f"{TOPICS}/").replace("/", "-")
        replicas, isr = (" ".join(map(str, brokers)) for brokers in (partition.replicas, partition.isr))
        print(f"{name:12}{replicas:12}{isr:12}{partition.leader!s:8}", end="")
        print(f"{partition.leader_epoch:<7}{partition.controller_epoch}")
    print(flush=True)


async def main(hosts: str) -> None:
    """Three brokers; one ends, then the controller does, then both are back."""
    async with open_zookeeper(hosts) as zk, trio.open_nursery() as nursery:
        ends = {number: await nursery.start(run_broker, hosts, number) for number in (1, 2, 3)}
        await create_topic(zk, "orders", partitions=6, replication=3)
        async with Cluster(zk) as cluster:
            await settled(cluster, {1, 2, 3})
            show(cluster)
            for victim in ("a broker", "the controller"):
                first, *others = map(int, await LeaderSelector(zk, CONTROLLER).contenders())
                number = first if victim == "the controller" else others[-1]
                print(f"{victim}, {number}, ends")
                ends.pop(number).cancel()
                await settled(cluster, set(ends))
                show(cluster)
            for number in {1, 2, 3} - set(ends):
                print(f"broker {number} is back")
                ends[number] = await nursery.start(run_broker, hosts, number)
            await settled(cluster, {1, 2, 3})
            show(cluster)
        nursery.cancel_scope.cancel()
    async with open_zookeeper(hosts) as zk:
        await zk.delete(ROOT, recursive=True)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        trio.run(run_broker, sys.argv[1], int(sys.argv[2]))
    else:
        trio.run(main, sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:2181")
