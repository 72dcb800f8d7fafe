"""The same random requests to a real ZooKeeper 3.8.0 and to this server: every reply, event and zxid must be the same.

Both servers are new, so that zxids can be compared as they are. Each step's whole effect is compared: what the sender
hears up to its reply or to the end of its connection, and what every other client hears up to a ping behind it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from terzetto.client.wire import Opcode, codec, records as r
from terzetto.testcluster import BlockingEnsemble, start_ensemble

from .answers import World
from .conftest import OwnZooKeeper
from .differences import is_intended
from .rawclient import RawClient, request
from .request_sequences import Requests
from .zookeeper import TICK_TIME, RealZooKeeper

CLIENTS = 3
STEPS = 2500
SEEDS = (11, 12, 13, 14)
# A sweep of containers comes when it comes, and takes zxids.
NO_SWEEP = {"znode.container.checkIntervalMs": "3600000"}


@contextmanager
def opened(port: int) -> Iterator[World]:
    world = World(port, CLIENTS)
    try:
        world.open()
        yield world
    finally:
        world.close()


def port_of(ensemble: BlockingEnsemble) -> int:
    return int(ensemble.hosts.rpartition(":")[2])


@pytest.fixture
def real(own_zookeeper: OwnZooKeeper) -> RealZooKeeper:
    return own_zookeeper(zoo_cfg={"extendedTypesEnabled": "true"}, jvm_properties=NO_SWEEP)


@pytest.fixture
def here() -> Iterator[BlockingEnsemble]:
    with start_ensemble(tick_time=TICK_TIME, settings=NO_SWEEP) as ensemble:
        yield ensemble


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_random_requests_are_answered_alike(real: RealZooKeeper, here: BlockingEnsemble, seed: int) -> None:
    forgiven = 0
    with opened(real.port) as there_world, opened(port_of(here)) as here_world:
        requests = Requests(random.Random(seed), CLIENTS)
        for number in range(STEPS):
            requests.last_zxid = there_world.last_zxid
            step = requests.step()
            there_heard, here_heard = there_world.play(step), here_world.play(step)
            if there_heard != here_heard:
                forgiven += is_intended(step, there_heard, here_heard)
                assert is_intended(step, there_heard, here_heard), (
                    f"seed {seed}, step {number}: client {step.who} sent {step.note}\n"
                    f"there {there_heard}\nhere  {here_heard}"
                )
        assert there_world.last_zxid == here_world.last_zxid > STEPS // 4
        assert forgiven < STEPS // 20
        assert tree_of(there_world, real.port) == tree_of(here_world, port_of(here))
    compare_counts(real, here)


def tree_of(world: World, port: int) -> dict[str, object]:
    """Every znode with its data, masked Stat, children and ACL, as a superuser-less but READ-blessed client sees it."""
    found: dict[str, object] = {}
    with RawClient(port) as client:
        client.connect()
        waiting = ["/"]
        while waiting:
            path = waiting.pop()
            body = codec(r.GetDataRequest).encode(r.GetDataRequest(path, False))
            parts: list[object] = []
            for opcode, response in (
                (Opcode.GET_DATA, r.GetDataResponse),
                (Opcode.GET_CHILDREN2, r.GetChildren2Response),
                (Opcode.GET_ACL, r.GetACLResponse),
            ):
                client.send(request(1, opcode, body))
                (frame,) = client.read_until(1)
                if frame.err:
                    parts.append(frame.err)
                    continue
                record, _ = codec(response).decode(frame.body, 0, len(frame.body))
                parts.append(world.mask(record))
                if isinstance(record, r.GetChildren2Response):
                    waiting += [f"{path.rstrip('/')}/{child}" for child in record.children]
            found[path] = parts
    return found


def compare_counts(real: RealZooKeeper, here: BlockingEnsemble) -> None:
    """The figures of mntr that say what is in the tree and who watches it."""
    keys = ("znode_count", "ephemerals_count", "approximate_data_size", "global_sessions")
    with RawClient(port_of(here)) as client:
        text = client.four_letter(b"mntr")
    figures = [
        dict(line.split("\t") for line in answer.splitlines() if "\t" in line)
        for answer in (real.four_letter("mntr"), text)
    ]
    for key in keys:
        assert figures[0][f"zk_{key}"] == figures[1][f"zk_{key}"], key
