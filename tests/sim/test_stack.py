"""The whole stack under faults: real servers, clients and recipes on memory streams and virtual time.

Every fault is drawn from the seed: links that are cut one way or both, slow ones, connections that break, servers that
are killed, paused and started again, clocks that are off. Afterwards all servers must hold the same tree, and whatever
a client was told must be in it; two clients never held the lock at once.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field

import pytest
import trio
from trio.testing import MockClock

from terzetto.client import ConnectionLoss, SessionExpiredError, ZnodeStat, ZooKeeper
from terzetto.recipes import Lock, OwnershipLost

from .stack_ensemble import Stack, open_stack
from .stack_processes import repeatable

# Each run has a virtual clock of its own, in `run`.
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("autojump_clock")]

FAULTS_FOR = 20.0
"""Virtual seconds."""

_INTERRUPTED = (ConnectionLoss, SessionExpiredError, OwnershipLost)


@dataclass
class History:
    """What the clients were told, and what was done to the servers."""

    created: set[str] = field(default_factory=set[str])
    unknown: set[str] = field(default_factory=set[str])
    tokens: list[int] = field(default_factory=list[int])
    inside: str | None = None
    counts: Counter[str] = field(default_factory=Counter[str])
    is_over: bool = False

    def enter(self, name: str, token: int | None) -> None:
        """A client owns the lock from now on."""
        assert self.inside is None, f"{name} owns the lock that {self.inside} owns"
        assert token is not None
        assert not self.tokens or token > self.tokens[-1], f"token {token:#x} after {self.tokens[-1]:#x}"
        self.inside = name
        self.tokens.append(token)
        self.counts["locks"] += 1

    def leave(self) -> None:
        """It does not any more."""
        self.inside = None


async def write(zk: ZooKeeper, name: str, history: History) -> None:
    """Creates znodes and notes what came of each."""
    number = 0
    while not history.is_over:
        path = f"/{name}-{number}"
        number += 1
        try:
            await zk.create(path)
        except _INTERRUPTED:
            history.unknown.add(path)
            history.counts["interrupted writes"] += 1
        else:
            history.created.add(path)
        await trio.sleep(0.1)


async def contend(zk: ZooKeeper, name: str, history: History, rng: random.Random) -> None:
    """Takes the lock again and again."""
    while not history.is_over:
        try:
            async with Lock(zk, "/lock") as held:
                history.enter(name, held.fencing_token)
                try:
                    await trio.sleep(rng.uniform(0, 0.3))
                finally:
                    history.leave()
        except _INTERRUPTED:
            history.counts["interrupted locks"] += 1
        await trio.sleep(rng.uniform(0, 0.05))


async def harm(stack: Stack, history: History, rng: random.Random) -> None:
    """One fault after the other, never so many that a quorum could not come back."""
    sids = list(stack.machines)
    faults = (kill, pause, cut, slow, shatter)
    until = trio.current_time() + FAULTS_FOR
    while trio.current_time() < until:
        fault = rng.choice(faults)
        leader = stack.leader
        victim = leader.sid if leader is not None and rng.random() < 0.5 else rng.choice(sids)
        history.counts[fault.__name__] += 1
        await fault(stack, victim, rng)
        await trio.sleep(rng.uniform(0, 2))


async def kill(stack: Stack, sid: int, rng: random.Random) -> None:
    await stack.kill(sid)
    await trio.sleep(rng.uniform(0, 4))
    await stack.start(sid)


async def pause(stack: Stack, sid: int, rng: random.Random) -> None:
    stack.living(sid).pause()
    await trio.sleep(rng.uniform(0, 6))
    stack.living(sid).resume()


async def cut(stack: Stack, sid: int, rng: random.Random) -> None:
    """From the other servers, and perhaps from the clients."""
    others = {f"s{other}" for other in stack.machines if other != sid}
    if rng.random() < 0.4:
        others |= {"writer-0", "locker-0", "locker-1"}
    sides = [{f"s{sid}"}, others]
    rng.shuffle(sides)
    with stack.network.partition(*sides, one_way=rng.random() < 0.4):
        await trio.sleep(rng.uniform(0, 6))


async def slow(stack: Stack, sid: int, rng: random.Random) -> None:
    others = [f"s{other}" for other in stack.machines if other != sid]
    for other in others:
        stack.network.slow(f"s{sid}", other, rng.uniform(0, 1))
    await trio.sleep(rng.uniform(0, 4))
    for other in others:
        stack.network.slow(f"s{sid}", other, 0)


async def shatter(stack: Stack, sid: int, rng: random.Random) -> None:
    hosts = [*(f"s{other}" for other in stack.machines), "writer-0", "writer-1", "locker-0", "locker-1"]
    for host in rng.sample(hosts, 3):
        stack.network.break_connections(f"s{sid}", host)


async def tree_of(stack: Stack, sid: int) -> dict[str, tuple[bytes | None, ZnodeStat]]:
    """Every znode of one server outside /zookeeper, after a sync."""
    found: dict[str, tuple[bytes | None, ZnodeStat]] = {}
    async with stack.client(f"reader-{sid}", sid) as zk:
        await zk.sync("/")
        pending = ["/"]
        while pending:
            path = pending.pop()
            found[path] = await zk.get(path)
            for name in await zk.get_children(path):
                if (path, name) != ("/", "zookeeper"):
                    pending.append(f"{path.rstrip('/')}/{name}")
    return found


async def survive(seed: int) -> Counter[str]:
    """One run; what it reached."""
    rng = random.Random(seed)
    history = History()
    async with open_stack(3, seed=rng.getrandbits(32)) as stack:
        async with trio.open_nursery() as nursery:

            async def play(name: str) -> None:
                async with stack.client(name) as zk:
                    if name.startswith("writer"):
                        await write(zk, name, history)
                    else:
                        await contend(zk, name, history, random.Random(f"{seed} {name}"))

            for name in ("writer-0", "writer-1", "locker-0", "locker-1"):
                nursery.start_soon(play, name)
            await harm(stack, history, rng)
            await stack.wait_serving()
            before = len(history.created), len(history.tokens)
            # The healed ensemble does its work again.
            await stack.until(lambda: (len(history.created), len(history.tokens)) >= (before[0] + 20, before[1] + 5))
            history.is_over = True
        trees = {sid: await tree_of(stack, sid) for sid in stack.machines}
        assert trees[1] == trees[2] == trees[3]
        digests = {stack.living(sid).tree.digest for sid in stack.machines}
        assert len(digests) == 1
        assert all(stack.living(sid).tree.digest_mismatches == 0 for sid in stack.machines)
        assert history.created <= trees[1].keys()
        strangers = {path for path in trees[1] if path.startswith("/writer")} - history.created - history.unknown
        assert not strangers
        history.counts["created"] = len(history.created)
        history.counts["epochs"] = stack.living(1).tree.last_zxid >> 32
    return history.counts


def run(seed: int) -> Counter[str]:
    with repeatable(seed):
        return trio.run(survive, seed, clock=MockClock(autojump_threshold=0))


@pytest.mark.parametrize("number", range(3))
def test_nothing_is_lost_and_nobody_owns_at_once(number: int, seed: int) -> None:
    counts = run(seed + number)
    assert counts["created"] > 60, counts
    assert counts["locks"] > 20, counts


def test_the_same_seed_is_the_same_run() -> None:
    assert run(7) == run(7)
