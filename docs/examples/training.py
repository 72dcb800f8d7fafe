"""Distributed training that grows and shrinks while it runs: membership, ranks, a barrier for each epoch, parameters.

Workers register; one of them, the chief, is elected and gives ranks: 0, 1, 2, ... to the workers of a generation. Each
change of the membership begins a new generation. In an epoch every worker computes the gradient of its own shard of the
samples, all of them meet at a barrier, and rank 0 adds the gradients up and publishes the next version of the
parameters. Who dies in the middle of an epoch spoils that epoch only: the next generation repeats it, with new shards.
So each version is made of every sample once, whoever comes and goes.

    python training.py 127.0.0.1:2181        three workers in one program; one dies, another one joins
    python training.py 127.0.0.1:2181 ada    the worker ada; run some of them, each in a terminal, and kill them
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import trio

from terzetto.client import BadVersionError, NodeExistsError, ZooKeeper, open_zookeeper
from terzetto.recipes import DataWatch, DoubleBarrier, GroupMember, LeaderSelector, Ownership

ROOT = "/example-training"
WORKERS, CHIEF, BARRIERS = f"{ROOT}/workers", f"{ROOT}/chief", f"{ROOT}/barriers"
GENERATION, PARAMETERS = f"{ROOT}/generation", f"{ROOT}/parameters"
SESSION_TIMEOUT = 3.0
SETTLING = 0.2
"""Seconds in which those who come or go together are taken into one generation."""

# What is learnt: the line through samples with noise. -----------------------------------------------------------------

EPOCHS = 60
RATE = 0.5
Vector = Sequence[float]

_chance = random.Random(1)
SAMPLES = [(x, 2.0 * x + 1.0 + _chance.gauss(0, 0.1)) for x in (_chance.uniform(-1, 1) for _ in range(2000))]


def gradient(parameters: Vector, samples: Sequence[tuple[float, float]]) -> Vector:
    """The sum over these samples."""
    slope, offset = parameters
    errors = [(slope * x + offset - y, x) for x, y in samples]
    return sum(error * x for error, x in errors), sum(error for error, _ in errors)


def step(parameters: Vector, gradients: Sequence[Vector]) -> Vector:
    """The next parameters, from the gradients of all shards."""
    totals = [sum(parts) for parts in zip(*gradients, strict=True)]
    return [value - RATE * total / len(SAMPLES) for value, total in zip(parameters, totals, strict=True)]


def alone() -> Vector:
    """What becomes of the parameters where one worker does all epochs."""
    parameters: Vector = [0.0, 0.0]
    for _ in range(EPOCHS):
        parameters = step(parameters, [gradient(parameters, SAMPLES)])
    return parameters


# How the work is coordinated ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Generation:
    """Who takes part.

    Attributes:
        number: the version of the znode that says so; a write that checks it belongs to this generation or fails.
        workers: by rank.
    """

    number: int
    workers: list[str]


@dataclass(frozen=True)
class Shard:
    """One worker's part of one epoch.

    Attributes:
        generation: that it belongs to.
        rank: of the worker.
        version: of the parameters that it begins with.
    """

    generation: Generation
    rank: int
    version: int

    def gradient(self, parameters: Vector) -> Vector:
        """Of every n-th sample, where there are n workers."""
        return gradient(parameters, SAMPLES[self.rank :: len(self.generation.workers)])


async def in_a_thread(shard: Shard, parameters: Vector) -> Vector:
    """Computes beside the event loop: a session whose client answers nobody for too long is lost."""
    return await trio.to_thread.run_sync(shard.gradient, parameters)


class Worker:
    """One worker, for as long as its session lasts. A worker that has lost it is another worker.

    Args:
        zk: its client, of one session.
        name: nobody else's.
        compute: what it does in an epoch.
    """

    def __init__(
        self, zk: ZooKeeper, name: str, compute: Callable[[Shard, Vector], Awaitable[Vector]] = in_a_thread
    ) -> None:
        self.zk = zk
        self.name = name
        self.compute = compute
        self.group = GroupMember(zk, WORKERS, name)

    async def run(self) -> None:
        """Trains until all epochs are done."""
        for path, first in ((GENERATION, list[str]()), (PARAMETERS, [0.0, 0.0])):
            with suppress(NodeExistsError):
                await self.zk.create(path, json.dumps(first).encode(), makepath=True)
        async with self.group, DataWatch(self.zk, GENERATION) as generations, trio.open_nursery() as nursery:
            nursery.start_soon(LeaderSelector(self.zk, CHIEF, self.name).take_turns, self.assign_ranks)
            working = trio.CancelScope()
            async for data, stat, _ in generations:
                # What was under way for the last generation has come to nothing.
                working.cancel()
                generation = Generation(-1 if stat is None else stat.version, json.loads(data or b"[]"))
                working = await nursery.start(self.train, generation, nursery.cancel_scope)

    # The chief

    async def assign_ranks(self, leadership: Ownership) -> None:
        """One term as the chief: begins a generation whenever the membership has changed."""
        async for _ in self.group.changes():
            await trio.sleep(SETTLING)
            # After a lost connection it is looked at again, so nothing is done twice.
            await self.zk.retry(self.begin_generation, leadership)

    async def begin_generation(self, leadership: Ownership) -> None:
        """Writes down the next generation, unless the last one still holds. Who stays keeps its place in the order."""
        data, stat = await self.zk.get(GENERATION)
        before, members = json.loads(data or b"[]"), self.group.members()
        workers = [name for name in before if name in members] + sorted(members.keys() - set(before))
        if workers != before:
            async with leadership.transaction() as transaction:
                transaction.set_data(GENERATION, json.dumps(workers).encode(), stat.version)

    # Any worker

    async def train(
        self,
        generation: Generation,
        finished: trio.CancelScope,
        task_status: trio.TaskStatus[trio.CancelScope] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """The epochs of one generation. Starts with the scope that ends it."""
        with trio.CancelScope() as scope:
            task_status.started(scope)
            if self.name not in generation.workers:
                return
            rank, size = generation.workers.index(self.name), len(generation.workers)
            print(f"{self.name}: generation {generation.number}, rank {rank} of {size}", flush=True)
            async with DataWatch(self.zk, PARAMETERS) as versions:
                async for data, stat, _ in versions:
                    assert stat is not None
                    parameters = json.loads(data or b"")
                    if stat.version == EPOCHS:
                        slope, offset = parameters
                        print(f"{self.name}: version {stat.version}, y = {slope:.2f} x + {offset:.2f}", flush=True)
                        finished.cancel()
                        return
                    await self.train_epoch(Shard(generation, rank, stat.version), parameters)

    async def train_epoch(self, shard: Shard, parameters: Vector) -> None:
        """One epoch: all begin together, and nobody goes on before all gradients are there."""
        workers = shard.generation.workers
        async with DoubleBarrier(self.zk, f"{BARRIERS}/{shard.generation.number}", len(workers), self.name):
            result = await self.compute(shard, parameters)
            report = {"of": [shard.generation.number, shard.version], "gradient": result}
            await self.group.set_data(json.dumps(report).encode())
        if shard.rank == 0:
            gradients = await self.gather(shard)
            await self.zk.retry(self.publish, shard, step(parameters, gradients))

    async def gather(self, shard: Shard) -> list[Vector]:
        """The gradients of all ranks. They stand in the members' znodes, of which we have a copy."""
        wanted = [shard.generation.number, shard.version]
        changes = self.group.changes()
        while True:
            members = await anext(changes)
            reports = [json.loads(members.get(name) or b"{}") for name in shard.generation.workers]
            if all(report.get("of") == wanted for report in reports):
                return [report["gradient"] for report in reports]

    async def publish(self, shard: Shard, parameters: Vector) -> None:
        """The next version, once, and only while this generation lasts. Otherwise somebody else sees to it."""
        with suppress(BadVersionError):
            async with self.zk.transaction() as transaction:
                transaction.check(GENERATION, shard.generation.number)
                transaction.set_data(PARAMETERS, json.dumps(parameters).encode(), shard.version)


# The program ----------------------------------------------------------------------------------------------------------


async def run_worker(
    hosts: str, name: str, task_status: trio.TaskStatus[trio.CancelScope] = trio.TASK_STATUS_IGNORED
) -> None:
    """A worker with a session of its own, and no second one. Starts with the scope that ends it."""
    with trio.CancelScope() as scope:
        async with open_zookeeper(hosts, session_timeout=SESSION_TIMEOUT, renew_session=False) as zk:
            task_status.started(scope)
            await Worker(zk, name).run()


async def main(hosts: str) -> None:
    """Three workers; one dies on the way, another one joins."""
    async with open_zookeeper(hosts) as zk:
        async with trio.open_nursery() as nursery, DataWatch(zk, PARAMETERS) as versions:
            ends = [await nursery.start(run_worker, hosts, name) for name in ("ada", "edsger", "grace")]
            async for _, stat, _ in versions:
                if stat is not None and stat.version >= EPOCHS // 4 and ends:
                    print("grace dies, barbara joins")
                    ends.pop().cancel()
                    ends.clear()
                    nursery.start_soon(run_worker, hosts, "barbara")
                if stat is not None and stat.version == EPOCHS:
                    break
        data, _ = await zk.get(PARAMETERS)
        differences = [abs(one - other) for one, other in zip(json.loads(data or b""), alone(), strict=True)]
        print(f"that is {max(differences):.1g} away from what one worker learns alone")
        await zk.delete(ROOT, recursive=True)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        trio.run(run_worker, sys.argv[1], sys.argv[2])
    else:
        trio.run(main, sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:2181")
