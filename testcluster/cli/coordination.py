"""The steps of the demonstration that need more than one client: a lock, an election, and the death of a leader.

Each does what it says with clients of its own, checks the outcome, and returns a line of evidence.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

from terzetto.client import BadVersionError, ConnectionLoss, ZooKeeper, open_zookeeper
from terzetto.client._scopes import PlainNursery
from terzetto.recipes import Election, Lock

from ..ensemble import BlockingEnsemble
from .stage import Stage, expect

WORKERS = ("ada", "ben", "cleo")
WRITES_BEFORE, WRITES_AFTER = 20, 20
FAILOVER_MAX = 20.0
"""Seconds within which a write must be acknowledged again after the leader's death."""


class FencedStore:
    """A store outside ZooKeeper that refuses whoever comes with an older token than the last."""

    def __init__(self) -> None:
        self.token = -1
        self.written: list[str] = []
        self.refused: list[str] = []

    def write(self, who: str, token: int) -> bool:
        """Whether the write was taken."""
        if token < self.token:
            self.refused.append(who)
            return False
        self.token = token
        self.written.append(who)
        return True


async def contend(stage: Stage, zk: ZooKeeper) -> str:
    """Three workers and one lock: one at a time, each with a higher token; a late write with an old one is refused."""
    store = FencedStore()
    inside: list[str] = []
    tokens: list[tuple[str, int]] = []

    async def work(name: str) -> None:
        async with stage.client() as own, Lock(own, "/locks/report", name) as held:
            expect(not inside, f"{name} has the lock while {inside} has it")
            inside.append(name)
            token = held.fencing_token
            expect(token is not None, "a lock without a fencing token")
            tokens.append((name, token or 0))
            expect(store.write(name, token or 0), f"the store refused {name}, who owns the lock")
            stage.say(name, f"has the lock, token 0x{token:x}")
            await trio.sleep(0.05)
            inside.remove(name)

    async with PlainNursery() as nursery:
        for name in WORKERS:
            nursery.start_soon(work, name)
    numbers = [token for _, token in tokens]
    expect(numbers == sorted(set(numbers)) and len(numbers) == len(WORKERS), f"tokens {numbers} do not grow")
    late, old = tokens[0]
    expect(not store.write(late, old), "the store took a write with an old token")
    stage.say(late, f"comes late with token 0x{old:x}: [yellow]refused[/]")
    # This client's server may be behind those of the workers.
    await zk.sync("/locks/report")
    expect(await zk.get_children("/locks/report") == [], "a contender is left")
    return f"{len(tokens)} owners one after the other, tokens grew, a late write was refused"


async def elect(stage: Stage, zk: ZooKeeper) -> str:
    """Candidates lead in turn; when one resigns, the next takes over."""
    led: list[str] = []

    async def candidate(name: str) -> None:
        async with stage.client() as own, Election(own, "/leader", name):
            expect(name not in led, f"{name} leads twice")
            led.append(name)
            stage.say(name, "leads")
            await trio.sleep(0.05)
            stage.say(name, "resigns")

    async with PlainNursery() as nursery:
        for name in WORKERS:
            nursery.start_soon(candidate, name)
    expect(sorted(led) == sorted(WORKERS), f"only {led} have led")
    expect(await zk.get_children("/leader") == [], "a candidate is left")
    return f"{', '.join(led)} led, one after the other"


@asynccontextmanager
async def _counting(stage: Stage) -> AsyncIterator[list[int]]:
    """A client that counts upwards by compare-and-set while the block runs; gives what was acknowledged."""
    acknowledged: list[int] = []

    async def count() -> None:
        async with stage.client() as own:
            while True:
                try:
                    data, stat = await own.get("/counter")
                    value = int(data or b"0") + 1
                    await own.set("/counter", b"%d" % value, version=stat.version)
                except (ConnectionLoss, BadVersionError):
                    # Not acknowledged; whether it happened, the next read tells.
                    continue
                acknowledged.append(value)
                await trio.sleep(0.01)

    async with PlainNursery() as nursery:
        nursery.start_soon(count)
        yield acknowledged
        nursery.cancel_scope.cancel()


async def outlive_the_leader(stage: Stage, zk: ZooKeeper, ensemble: BlockingEnsemble) -> str:
    """The ensemble's leader is killed: another one leads, no session ends, nothing acknowledged is lost."""
    await zk.create("/counter", b"0")
    await zk.create("/services/mail-", b"{}", ephemeral=True, sequence=True)
    session = zk.session_id
    old = await trio.to_thread.run_sync(ensemble.wait_leader)
    async with _counting(stage) as acknowledged:
        await _until(lambda: len(acknowledged) >= WRITES_BEFORE)
        before = len(acknowledged)
        stage.say("counter", f"at {acknowledged[-1]}; server {old} leads")
        died = trio.current_time()
        await trio.to_thread.run_sync(ensemble.kill, old)
        stage.say("ensemble", f"[red]server {old} is killed[/]")
        await _until(lambda: len(acknowledged) > before)
        outage = trio.current_time() - died
        new = await trio.to_thread.run_sync(ensemble.wait_leader)
        expect(new != old, "the dead server leads")
        stage.say("ensemble", f"[green]server {new} leads[/]; a write was acknowledged again after {outage:.2f} s")
        await _until(lambda: len(acknowledged) >= before + WRITES_AFTER)
        stage.say("counter", f"at {acknowledged[-1]}")
    with trio.fail_after(FAILOVER_MAX):
        while not await _is_registered(zk):  # noqa: ASYNC110 - it is the servers that change
            await trio.sleep(0.02)
    expect(zk.session_id == session, "the session ended with the leader")
    await trio.to_thread.run_sync(ensemble.start, old)
    await trio.to_thread.run_sync(ensemble.wait_serving)
    async with open_zookeeper(ensemble.host(old), chroot=stage.chroot) as back:
        await back.sync("/counter")
        data, _ = await back.get("/counter")
    value = int(data or b"0")
    stage.say("ensemble", f"server {old} is back and has the counter at {value}")
    expect(value >= acknowledged[-1], f"the counter is at {value}, but {acknowledged[-1]} was acknowledged")
    expect(acknowledged == sorted(set(acknowledged)), "the counter went back")
    return f"server {new} took over from {old} within {outage:.2f} s, {len(acknowledged)} updates, none lost"


async def _is_registered(zk: ZooKeeper) -> bool:
    try:
        return any(name.startswith("mail-") for name in await zk.get_children("/services"))
    except ConnectionLoss:
        return False


async def _until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(FAILOVER_MAX):
        while not condition():  # noqa: ASYNC110 - a demonstration; nobody waits for it
            await trio.sleep(0.005)
