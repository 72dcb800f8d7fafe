"""The example of distributed training: workers that die and join in the middle of an epoch spoil no version."""

from __future__ import annotations

import json
import signal
from collections import defaultdict
from itertools import pairwise
from typing import Any

import pytest
import trio

from terzetto.client import ZooKeeper, open_zookeeper
from terzetto.recipes import DataWatch
from terzetto.testcluster import BlockingEnsemble

from .programs import PATIENCE, load, programs

example: Any = load("training")


async def learnt(zk: ZooKeeper) -> list[float]:
    data, stat = await zk.get(example.PARAMETERS)
    assert stat.version == example.EPOCHS
    parameters: list[float] = json.loads(data or b"")
    return parameters


class Trainers:
    """Workers in this process, and what each was told to compute.

    "grace" dies in the middle of an epoch of version 5; "barbara" joins in the middle of an epoch of version 10.
    """

    def __init__(self, nursery: trio.Nursery, ensemble: BlockingEnsemble, chroot: str) -> None:
        self.computed: list[tuple[str, Any]] = []
        self.nursery = nursery
        self._ensemble = ensemble
        self._chroot = chroot

    async def work(self, name: str) -> None:
        with trio.CancelScope() as life:
            async with open_zookeeper(self._ensemble.hosts, chroot=self._chroot, renew_session=False) as zk:

                async def compute(shard: Any, parameters: Any) -> Any:
                    self.computed.append((name, shard))
                    if name == "grace" and shard.version == 5:
                        # Its session goes, and it does nothing more: nobody is told by itself.
                        await trio.to_thread.run_sync(self._ensemble.expire_session, zk.session_id)
                        life.cancel()
                    if shard.version == 10 and "barbara" not in shard.generation.workers:
                        if name == "ada":
                            self.nursery.start_soon(self.work, "barbara")
                        await trio.sleep_forever()
                    return await example.in_a_thread(shard, parameters)

                await example.Worker(zk, name, compute).run()


def check_ranks(computed: list[tuple[str, Any]]) -> None:
    """One list of workers a generation, of which each is in its place."""
    lists = defaultdict[int, set[tuple[str, ...]]](set)
    for name, shard in computed:
        workers = shard.generation.workers
        lists[shard.generation.number].add(tuple(workers))
        assert len(set(workers)) == len(workers)
        assert workers[shard.rank] == name
    assert all(len(of_one) == 1 for of_one in lists.values())


def check_epochs(computed: list[tuple[str, Any]]) -> None:
    """Nobody begins an epoch before all of its generation are through with the last one, and none is left out."""
    by_generation = defaultdict[int, list[tuple[str, Any]]](list)
    for name, shard in computed:
        by_generation[shard.generation.number].append((name, shard))
    for of_one in by_generation.values():
        versions = [shard.version for _, shard in of_one]
        assert versions == sorted(versions)
        workers = set(of_one[0][1].generation.workers)
        for version in range(versions[0], versions[-1]):
            assert {name for name, shard in of_one if shard.version == version} == workers
    assert {shard.version for _, shard in computed} == set(range(example.EPOCHS))


async def test_who_dies_or_joins_in_an_epoch_begins_a_generation_and_spoils_no_version(
    zk: ZooKeeper, zk_ensemble: BlockingEnsemble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(example, "EPOCHS", 15)
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            trainers = Trainers(nursery, zk_ensemble, zk.chroot)
            for name in ("ada", "edsger", "grace"):
                nursery.start_soon(trainers.work, name)
    check_ranks(trainers.computed)
    check_epochs(trainers.computed)
    generations = {shard.generation.number: shard.generation.workers for _, shard in trainers.computed}
    sizes = [(set(workers), number) for number, workers in sorted(generations.items())]
    assert sizes[-1][0] == {"ada", "edsger", "barbara"}
    of_version = defaultdict[int, set[int]](set)
    for _, shard in trainers.computed:
        of_version[shard.version].add(shard.generation.number)
    # Those two epochs were begun again, in the next generation, with other shards.
    assert len(of_version[5]) >= 2
    assert len(of_version[10]) >= 2
    assert all("grace" not in generations[number] for version in range(6, 15) for number in of_version[version])
    for earlier, later in pairwise(sorted(generations)):
        assert [one for one in generations[later] if one in generations[earlier]] == [
            one for one in generations[earlier] if one in generations[later]
        ]
    assert await learnt(zk) == pytest.approx(example.alone(), rel=1e-12)


async def test_rank_0_of_an_older_generation_publishes_nothing(zk: ZooKeeper) -> None:
    for path in (example.GENERATION, example.PARAMETERS):
        await zk.create(path, b"[]", makepath=True)
    await zk.set(example.GENERATION, b'["ada"]')
    worker = example.Worker(zk, "ada")

    async def publish(generation: int, version: int, value: float) -> tuple[bytes | None, int]:
        await worker.publish(example.Shard(example.Generation(generation, ["ada"]), 0, version), [value])
        data, stat = await zk.get(example.PARAMETERS)
        return data, stat.version

    assert await publish(0, 0, 1.0) == (b"[]", 0)
    assert await publish(1, 0, 2.0) == (b"[2.0]", 1)
    assert await publish(1, 0, 3.0) == (b"[2.0]", 1), "a version is published once"


@pytest.mark.soak
async def test_a_worker_is_killed_and_the_other_one_finishes(zk: ZooKeeper, zk_ensemble: BlockingEnsemble) -> None:
    async with (
        programs("training", zk_ensemble.hosts + zk.chroot) as workers,
        DataWatch(zk, example.PARAMETERS) as versions,
    ):
        for name in ("ada", "edsger"):
            await workers.start(name)
        async for _, stat, _ in versions:
            generation = await zk.exists(example.GENERATION)
            if stat is not None and stat.version >= 3 and generation is not None:
                workers.signal("ada", signal.SIGKILL)
                break
        assert await workers.ended("edsger") == 0
        assert await learnt(zk) == pytest.approx(example.alone(), rel=1e-12)
