"""Clients that contend: each a process of its own, with the real client and the real recipe, and a body that tells the
ledger of every step it takes.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import trio

from terzetto.client import ConnectionLoss, NodeExistsError, NoNodeError, SessionExpiredError, ZooKeeper
from terzetto.recipes import (
    Barrier,
    DoubleBarrier,
    Election,
    LeaderLatch,
    Lock,
    MultiLock,
    MultiOwnership,
    NonBlockingLease,
    Ownership,
    OwnershipLost,
    ReadLock,
    Semaphore,
    SemaphoreMutex,
    WriteLock,
)

from .exclusion_ledger import Body, Ledger
from .stack_processes import Process, pass_time

PATH = "/x/owned"
RECORDS = "/records"
INTERRUPTED = (OwnershipLost, ConnectionLoss, SessionExpiredError)

CHATTER = 4
"""Most writes of a client's other work that are on their way at a time."""

SHIELDED = 0.15
"""Share of the guarded writes that nothing cancels, as one in a thread could not be cancelled."""

Held = Ownership | MultiOwnership
Scope = Callable[[], AbstractAsyncContextManager[Held]]


class Outside:
    """Something that comes from outside of the clients' processes, again and again."""

    def __init__(self) -> None:
        self._came = trio.Event()

    async def wait(self) -> None:
        """Until it comes the next time."""
        await self._came.wait()

    async def come(self, every: float) -> None:
        """Comes for ever."""
        while True:
            await pass_time(every)
            self._came.set()
            self._came = trio.Event()


@dataclass
class Contender:
    """One client's part in the run.

    Attributes:
        zk: the client.
        process: its process.
        ledger: who is told.
        rng: its own chance.
        timeout: T, in seconds.
        outside: set and replaced again and again by another process.
        quiet: its bodies write nothing.
    """

    zk: ZooKeeper
    process: Process
    ledger: Ledger
    rng: random.Random
    timeout: float
    outside: Outside
    quiet: bool = False

    async def own(self, scope: Scope, *, room: int = 1, shares: bool = False) -> None:
        """Owns, again and again. Whoever owns several things at once runs a body of each."""
        while True:
            try:
                async with scope() as held:
                    parts = held.parts if isinstance(held, MultiOwnership) else (held,)
                    zxids = [part.fencing_token or await self._czxid(part) for part in parts]
                    bodies = [self._enter(part, zxid, room, shares) for part, zxid in zip(parts, zxids, strict=True)]
                    try:
                        await self._work(bodies, held)
                    finally:
                        for body in bodies:
                            self.ledger.leave(body)
                self.ledger.counts["terms that ended by themselves"] += 1
            except INTERRUPTED as error:
                self.ledger.counts[f"ended by {type(error).__name__}"] += 1
            # Now and then long enough that nobody contends, and a container vanishes.
            await pass_time(self.rng.uniform(0, self.timeout * self.rng.choice((0.05, 0.05, 0.05, 0.8))))

    def _enter(self, held: Ownership, zxid: int, room: int, shares: bool) -> Body:
        return self.ledger.enter(
            self.process,
            held.path,
            held.znode,
            zxid,
            held.fencing_token,
            room=room,
            shares=shares,
            weight=len(held.znodes),
        )

    async def _czxid(self, held: Ownership) -> int:
        """Of an owner without a token; before its body counts as begun."""
        stat = await self.zk.exists(held.znode)
        if stat is None:
            raise OwnershipLost(held.path, "gone")
        return stat.czxid

    async def _work(self, bodies: list[Body], held: Held) -> None:
        # A fourth of them stay until they lose it, or long enough.
        steps = 60 if self.rng.random() < 0.25 else self.rng.randrange(1, 16)
        for _ in range(steps):
            wakes = self.process.wakes
            await self._step(bodies, held)
            # No checkpoint may come between here and the end of this pass of the loop.
            for body in bodies:
                self.ledger.wrote(body)
                self.ledger.passed(body, wakes)

    async def _step(self, bodies: list[Body], held: Held) -> None:
        choice = self.rng.random()
        if any(body.over for body in bodies):
            # A former owner that has just gone on: what it had in mind comes first.
            await self._interruptible(self._guarded_write, bodies, held)
        elif choice < 0.3:
            await pass_time(self.rng.uniform(0, self.timeout / 4))
        elif choice < 0.35:
            await trio.lowlevel.checkpoint()
        elif choice < 0.4:
            # A wait that only the end of the ownership ends, or patience.
            await pass_time(self.timeout * 1.5)
        elif choice < 0.65:
            # Word from elsewhere, which arrives while this process is stopped as well.
            await self.outside.wait()
        elif choice < 0.75:
            await self._interruptible(self.zk.exists, "/x")
        elif self.quiet:
            await pass_time(self.rng.uniform(0, self.timeout / 4))
        else:
            await self._interruptible(self._guarded_write, bodies, held)

    async def _interruptible(self, call: Callable[..., Awaitable[Any]], *args: Any) -> None:
        try:
            await call(*args)
        except ConnectionLoss:
            self.ledger.counts["requests lost inside"] += 1
            await trio.lowlevel.checkpoint()

    async def _guarded_write(self, bodies: list[Body], held: Held) -> None:
        is_over = any(body.over for body in bodies)
        shielded = is_over or self.rng.random() < SHIELDED
        self._shield(bodies, shielded)
        self.ledger.counts["guarded writes begun as a former owner"] += is_over
        try:
            with trio.CancelScope(shield=shielded):
                await self._commit(bodies, held, stubborn=shielded)
        except OwnershipLost:
            self.ledger.counts["guarded writes refused"] += 1
        finally:
            # What was shielded is no checkpoint; this is one.
            try:
                await trio.lowlevel.checkpoint_if_cancelled()
            finally:
                self._shield(bodies, False)

    @staticmethod
    def _shield(bodies: list[Body], shielded: bool) -> None:
        for body in bodies:
            body.shielded = shielded

    async def chatter(self) -> None:
        """What else the client does: small writes, of which some are always on their way."""
        path = f"/x/{self.process.name}"
        async with trio.open_nursery() as nursery:
            await _again(self.zk.create, path)
            while True:
                await pass_time(self.rng.uniform(0, self.timeout / 3))
                if len(nursery.child_tasks) < CHATTER:
                    nursery.start_soon(_again, self.zk.set, path, b"")

    async def _commit(self, bodies: list[Body], held: Held, *, stubborn: bool) -> None:
        while True:
            guarded = held.transaction()
            for body in bodies:
                guarded.create(f"{RECORDS}/r-", str(body.number).encode(), sequence=True)
            try:
                await guarded.commit()
                return
            except (ConnectionLoss, SessionExpiredError):
                # Stubborn: again, on the next connection and in the next session.
                if self.zk.is_over or not stubborn:
                    raise


# What is played -------------------------------------------------------------------------------------------------------


@dataclass
class Round:
    """What the members of a barrier have done, for its rule.

    Attributes:
        entered: who has called `enter`, and in which session.
        leaving: who has called `leave`.
        left: whether anyone is done with the round.
        lifted: whether the removal of the barrier has been asked for.
    """

    entered: dict[str, int] = field(default_factory=dict[str, int])
    leaving: set[str] = field(default_factory=set[str])
    left: bool = False
    lifted: bool = False


@dataclass
class Stage:
    """What the clients of one run share.

    Attributes:
        clients: how many there are to be.
        contenders: those that are there, by the names of their processes.
        rounds: of barriers, by their paths.
        leased: who runs with a lease by the clock, and since when.
    """

    clients: int
    contenders: dict[str, Contender] = field(default_factory=dict[str, Contender])
    rounds: dict[str, Round] = field(default_factory=dict[str, Round])
    leased: dict[str, tuple[Process, float]] = field(default_factory=dict[str, tuple[Process, float]])

    def round(self, path: str) -> Round:
        """What is known of a round."""
        return self.rounds.setdefault(path, Round())

    def still_inside(self, known: Round) -> list[str]:
        """Who has entered a round and not asked to leave it, in a session that nobody has ended."""
        found: list[str] = []
        for name, session_id in known.entered.items():
            contender = self.contenders[name]
            alive = all(session_id in tree.sessions for _, tree in contender.ledger.trees())
            if name not in known.leaving and contender.zk.session_id == session_id and alive:
                found.append(name)
        return found


Play = Callable[[Contender, Stage], Awaitable[None]]


def _owned(make: Callable[[ZooKeeper, str], Any], *, room: int = 1, shares: bool = False) -> Play:
    async def play(contender: Contender, stage: Stage) -> None:
        recipe = make(contender.zk, contender.process.name)
        await contender.own(lambda: recipe, room=room, shares=shares)

    return play


async def _read_and_write(contender: Contender, stage: Stage) -> None:
    async def writes() -> None:
        lock = WriteLock(contender.zk, PATH)
        await contender.own(lambda: lock)

    async def reads() -> None:
        lock = ReadLock(contender.zk, PATH)
        await contender.own(lambda: lock, room=1000, shares=True)

    await (writes() if contender.process.name in ("c0", "c1") else reads())


async def _latch(contender: Contender, stage: Stage) -> None:
    while True:
        try:
            async with LeaderLatch(contender.zk, PATH, contender.process.name) as latch:
                with trio.move_on_after(contender.rng.uniform(1, 6) * contender.timeout):
                    await contender.own(latch.leading)
        except INTERRUPTED:
            contender.ledger.counts["a latch ended"] += 1
        await pass_time(contender.rng.uniform(0, contender.timeout))


async def _semaphore(contender: Contender, stage: Stage) -> None:
    semaphore = Semaphore(contender.zk, PATH, max_leases=2)
    await contender.own(lambda: semaphore, room=2, shares=True)


async def _several_leases(contender: Contender, stage: Stage) -> None:
    """One or two leases at a time, of three."""
    semaphore = Semaphore(contender.zk, PATH, max_leases=3)
    await contender.own(lambda: semaphore.hold(leases=contender.rng.choice((1, 2, 2))), room=3, shares=True)


async def _multi_lock(contender: Contender, stage: Stage) -> None:
    """Two of three things at a time, given in any order."""

    def scope() -> AbstractAsyncContextManager[MultiOwnership]:
        paths = contender.rng.sample([f"{PATH}-{name}" for name in "abc"], 2)
        return MultiLock([Lock(contender.zk, path) for path in paths]).hold()

    await contender.own(scope)


async def _lease(contender: Contender, stage: Stage) -> None:
    """A lease by the clock, where all clocks agree; nobody has it while another one runs with it."""
    name, ledger, process = contender.process.name, contender.ledger, contender.process
    duration = timedelta(seconds=1 + contender.timeout)
    lease = NonBlockingLease(contender.zk, PATH, duration, name, utcnow=_everybodys_clock)
    while True:
        with suppress(OwnershipLost, ConnectionLoss, SessionExpiredError):
            # It may be over already: who was stopped in the middle of it goes on late.
            if await lease.obtain() and lease and lease.fencing_token is not None:
                _judge_lease(contender, stage, lease.fencing_token)
                with lease.body():
                    stage.leased[name] = process, trio.current_time()
                    try:
                        await pass_time(contender.rng.uniform(0, 1.5 * duration.total_seconds()))
                    finally:
                        del stage.leased[name]
                ledger.counts["terms"] += 1
                ledger.counts["terms that ended by themselves"] += 1
        await pass_time(contender.rng.uniform(0, contender.timeout / 2))


def _judge_lease(contender: Contender, stage: Stage, token: int) -> None:
    """At the moment in which somebody goes to work with a lease."""
    name, ledger = contender.process.name, contender.ledger
    ledger.note(f"{name} has the lease, token {token}")
    for other, (process, began) in stage.leased.items():
        # The block is by trio's clock, which has not seen the time pass in which the machine slept.
        if not process.stopped and process.slept_until < began:
            ledger.fail("E1", f"{name} has the lease, and {other} runs with it")
    if not ledger.stores[PATH].write(token):
        ledger.fail("E5", f"{name} has token {token} after {ledger.stores[PATH].newest}")


def _everybodys_clock() -> datetime:
    return datetime(2026, 1, 2) + timedelta(seconds=trio.current_time())


async def _double_barrier(contender: Contender, stage: Stage) -> None:
    """Everybody enters and leaves a round together; the rounds have paths of their own."""
    number = 0
    name = contender.process.name
    while True:
        number += 1
        path = f"/x/round-{number}"
        known = stage.round(path)
        barrier = DoubleBarrier(contender.zk, path, stage.clients, name)
        known.entered[name] = contender.zk.session_id
        while not await _again(barrier.enter, 4 * contender.timeout):
            if known.left:
                break  # its session was lost, and the others have gone on without it
        else:
            await _take_part(contender, stage, known, barrier)
        known.leaving.add(name)
        known.left = True


async def _take_part(contender: Contender, stage: Stage, known: Round, barrier: DoubleBarrier) -> None:
    """From the moment of being let into a round."""
    name, ledger, path = contender.process.name, contender.ledger, barrier.path
    ledger.note(f"{name} is let into {path}")
    ledger.counts["rounds entered"] += 1
    if len(known.entered) < stage.clients:
        ledger.fail("E6", f"{name} was let into {path} with {sorted(known.entered)}")
    await pass_time(contender.rng.uniform(0, contender.timeout / 4))
    known.leaving.add(name)
    await _again(barrier.leave)
    ledger.counts["rounds left"] += 1
    if inside := stage.still_inside(known):
        ledger.fail("E6", f"{name} has left {path} while {inside} had not asked to")


async def _barrier(contender: Contender, stage: Stage) -> None:
    """The first client sets barriers up and takes them down; the others wait for each."""
    number = 0
    name, ledger = contender.process.name, contender.ledger
    while True:
        number += 1
        path = f"/x/barrier-{number}"
        known = stage.round(path)
        barrier = Barrier(contender.zk, path)
        if name == "c0":
            await _again(barrier.create)
            await _again(contender.zk.ensure_path, f"/x/set-{number}")
            await pass_time(contender.rng.uniform(0, contender.timeout))
            known.lifted = True
            await _again(barrier.remove)
        else:
            while await _again(contender.zk.exists, f"/x/set-{number}") is None:
                await pass_time(contender.timeout / 20)
            await _again(barrier.wait)
            ledger.counts["barriers passed"] += 1
            if not known.lifted:
                ledger.fail("E6", f"{name} has passed {path}, which nobody has lifted")


async def _again(call: Callable[..., Awaitable[Any]], *args: Any) -> Any:
    while True:
        try:
            return await call(*args)
        except (NodeExistsError, NoNodeError):
            return None
        except (ConnectionLoss, SessionExpiredError):
            await trio.lowlevel.checkpoint()


PLAYS: dict[str, Play] = {
    "Lock": _owned(lambda zk, name: Lock(zk, PATH, name)),
    "Lock, Curator's layout": _owned(lambda zk, name: Lock(zk, PATH, name, layout="curator")),
    "Lock below a container": _owned(lambda zk, name: Lock(zk, PATH, name, container=True)),
    "WriteLock and ReadLock": _read_and_write,
    "Election": _owned(lambda zk, name: Election(zk, PATH, name)),
    "LeaderLatch": _latch,
    "Semaphore": _semaphore,
    "SemaphoreMutex": _owned(lambda zk, name: SemaphoreMutex(zk, PATH)),
    "DoubleBarrier": _double_barrier,
    "Barrier": _barrier,
    "Semaphore, several leases": _several_leases,
    "MultiLock": _multi_lock,
    "NonBlockingLease": _lease,
}
