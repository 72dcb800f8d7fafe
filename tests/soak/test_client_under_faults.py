"""A client on an ensemble whose servers are killed and stopped and whose links are cut, with all of it written down.

Afterwards the tree must agree with what the client was told: what was acknowledged is there, what was said not to have
happened is not, what is unknown may be either; each one-shot watch was told exactly once, or its session ended.
"""

from __future__ import annotations

import random
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import pytest
import trio

from terzetto.client import (
    ConnectionLoss,
    EventType,
    NoNodeError,
    PipelineResult,
    RetryPolicy,
    SessionExpiredError,
    WatchedEvent,
    ZooKeeper,
    open_zookeeper,
)
from tests.interop.conftest import OwnEnsemble
from tests.interop.proxy import CuttableProxy, open_proxy
from tests.interop.zookeeper import RealEnsemble

WRITERS = 3
BURST = 40
PATIENT = RetryPolicy(attempts=None, deadline=60.0)


@dataclass
class History:
    """What clients were told about each znode they wanted to create."""

    outcomes: dict[str, str] = field(default_factory=dict[str, str])
    watched: Counter[str] = field(default_factory=Counter[str])
    told: Counter[str] = field(default_factory=Counter[str])
    faults: Counter[str] = field(default_factory=Counter[str])


async def write(zk: ZooKeeper, name: str, history: History, rng: random.Random, stop: trio.Event) -> None:
    """Creates znodes, one by one and in pipelines, each with a name of its own, and notes every outcome."""
    count = 0
    while not stop.is_set():
        async with zk.pipeline(window=rng.choice([1, 8, 1000])) as pipeline:
            handles: list[tuple[str, PipelineResult[str]]] = []
            for _ in range(rng.randrange(1, BURST)):
                path = f"/{name}-{count}"
                count += 1
                history.outcomes[path] = "unknown"
                handles.append((path, await pipeline.create(path)))
        for path, handle in handles:
            history.outcomes[path] = outcome_of(handle)
        with trio.move_on_after(0.02):
            await zk.exists("/nothing")


def outcome_of(handle: PipelineResult[str]) -> str:
    try:
        handle.result()
    except (ConnectionLoss, SessionExpiredError) as error:
        return "unknown" if error.outcome_unknown else "did not happen"
    return "happened"


async def watch(zk: ZooKeeper, history: History, stop: trio.Event) -> None:
    """Sets one-shot watches on znodes that are deleted later, and counts what they are told."""
    count = 0
    while not stop.is_set():
        path = f"/watched-{count}"
        count += 1

        def tell(event: WatchedEvent, path: str = path) -> None:
            history.told[path] += 1
            if event.type == EventType.NONE:
                history.faults["watch ended with its session"] += 1

        try:
            await zk.create(path)
            await zk.get(path, watch=tell)
            history.watched[path] += 1
            await zk.delete(path)
        except (ConnectionLoss, SessionExpiredError, NoNodeError):
            continue


async def break_things(
    ensemble: RealEnsemble, proxies: list[CuttableProxy], rng: random.Random, history: History, seconds: float
) -> None:
    """One fault after the other; a quorum is always left, or comes back soon."""
    with trio.move_on_after(seconds):
        while True:
            proxy, sid = rng.choice(proxies), rng.choice(list(ensemble.servers))
            fault = rng.choice(["cut", "cut", "reset", "stall", "refuse", "kill", "pause"])
            history.faults[fault] += 1
            pause = rng.uniform(0.1, 1.5)
            with trio.CancelScope(shield=True):  # a fault is always mended
                if fault in ("cut", "reset"):
                    proxy.cut(reset=fault == "reset")
                elif fault == "stall":
                    side = rng.choice(["client", "server"])
                    proxy.stall("client" if side == "client" else "server")
                    await trio.sleep(pause)
                    proxy.flow("client" if side == "client" else "server")
                elif fault == "refuse":
                    proxy.refuse()
                    proxy.cut()
                    await trio.sleep(pause)
                    await proxy.accept()
                elif fault == "kill":
                    await trio.to_thread.run_sync(ensemble.kill, sid)
                    await trio.to_thread.run_sync(ensemble.restart, sid)
                else:
                    await trio.to_thread.run_sync(ensemble.pause, sid)
                    await trio.sleep(pause)
                    await trio.to_thread.run_sync(ensemble.resume, sid)
            await trio.sleep(pause)


@pytest.mark.parametrize("session_timeout", [1.0, 6.0])
async def test_what_the_client_says_agrees_with_the_tree(
    own_ensemble: OwnEnsemble, seed: int, soak_seconds: float, session_timeout: float
) -> None:
    rng, history, stop = random.Random(seed), History(), trio.Event()
    ensemble = own_ensemble(3)
    async with AsyncExitStack() as stack:
        proxies = [await stack.enter_async_context(open_proxy(server.address)) for server in ensemble.servers.values()]
        hosts = ",".join(proxy.hosts for proxy in proxies)

        async def client() -> ZooKeeper:
            return await stack.enter_async_context(
                open_zookeeper(hosts, session_timeout=session_timeout, retry=PATIENT, rng=random.Random(rng.random()))
            )

        watching = await client()
        writing = [await client() for _ in range(WRITERS)]
        async with trio.open_nursery() as nursery:
            for i, zk in enumerate(writing):
                nursery.start_soon(write, zk, f"w{i}", history, random.Random(rng.random()), stop)
            nursery.start_soon(watch, watching, history, stop)
            await break_things(ensemble, proxies, rng, history, soak_seconds / 2)
            stop.set()
        await trio.to_thread.run_sync(ensemble.wait_serving)
        with trio.fail_after(60):
            await watching.retry(settle, watching)
    async with open_zookeeper(ensemble.hosts, max_reply_size=64 * 1024 * 1024) as reader:
        await reader.sync("/", strict=True)
        present = {f"/{name}" for name in await reader.get_children("/")}
    verdicts = Counter(history.outcomes.values())
    print(f"\nsession timeout {session_timeout:g} s: {dict(verdicts)}, faults {dict(history.faults)}")
    lost = [path for path, outcome in history.outcomes.items() if outcome == "happened" and path not in present]
    ghosts = [path for path, outcome in history.outcomes.items() if outcome == "did not happen" and path in present]
    assert not lost, "acknowledged, and not there"
    assert not ghosts, "said not to have happened, and there"
    assert verdicts["happened"] > 100, "the faults left nothing to check"
    silent = [path for path in history.watched if path not in present and not history.told[path]]
    assert not silent, "a watched znode is gone, and nobody was told"
    assert max(history.told.values(), default=0) == 1, "a one-shot watch was told twice"


async def settle(zk: ZooKeeper) -> None:
    """Once this is answered on a connection of the client, so is everything before it."""
    try:
        await zk.sync("/", strict=True)
    except SessionExpiredError as error:
        raise ConnectionLoss("the session was renewed meanwhile") from error
