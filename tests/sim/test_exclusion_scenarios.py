"""Constellations that a proof must outlive, step by step: what a follower has heard, and its leader has not been told.

In each of them a request of the owner's is ordered by a quorum and answered, and yet the leader ends the session as if
nothing had been heard of it for long: from the requests that a follower passes on it learns nothing of the session.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import trio
from trio.testing import MockClock

from terzetto.client import ConnectionLoss, SessionExpiredError, ZooKeeper
from terzetto.recipes import Lock

from .exclusion_contenders import INTERRUPTED
from .exclusion_defects import ONE_REQUEST
from .exclusion_ledger import Ledger
from .stack_ensemble import Stack, open_stack
from .stack_processes import Process, pass_time, repeatable

# Each run has a virtual clock of its own.
pytestmark = pytest.mark.usefixtures("autojump_clock")

T = 4.0
TICKS = 16
"""Of the servers, in T: a session ends little later than T after the leader was told of it."""


async def own_once(zk: ZooKeeper, process: Process, ledger: Ledger, release: trio.Event) -> None:
    """Owns until told to release, or until it ends."""
    try:
        async with Lock(zk, "/lock") as held:
            token = held.fencing_token
            assert token is not None
            body = ledger.enter(process, "/lock", held.znode, token, token, shares=False)
            try:
                await release.wait()
            finally:
                ledger.leave(body)
    except INTERRUPTED as error:
        ledger.note(f"{process.name}: {error!r}")


async def write(zk: ZooKeeper) -> None:
    """Anything that a quorum orders."""
    try:
        await zk.create("/w-", sequence=True)
    except (ConnectionLoss, SessionExpiredError):
        return  # what becomes of it is of no account


Link = tuple[str, str]


async def stalled(stack: Stack, late: Link, seconds: float, meanwhile: Callable[[], object], then: Link) -> None:
    """Nothing comes on the first link for a while; then all of it, and nothing more on the other one."""
    stack.network.cut(*late)
    await pass_time(seconds)
    meanwhile()
    await pass_time(T / 100)
    stack.network.mend(*late)
    if late[1] == then[0] and late[0] != then[1]:
        await pass_time(0.001)  # what comes from the client is passed on first
    stack.network.cut(*then)
    await pass_time(1.5 * T)
    stack.network.mend(*then)


async def reenact(which: str) -> Ledger:
    """The next owner waits at a follower whose news of it do not reach the leader."""
    async with open_stack(3, tick_ms=int(T * 1000 / TICKS), sync_limit=3 * TICKS) as stack:
        leader = stack.leader
        assert leader is not None
        follower, third = [machine for machine in stack.machines.values() if machine is not leader]

        def trees() -> Iterator[tuple[str, object]]:
            for machine in stack.machines.values():
                yield machine.name, stack.living(machine.sid).tree

        ledger = Ledger(trees)  # type: ignore[arg-type]
        trio.lowlevel.add_instrument(ledger)
        late, since, seconds = {
            "the leader's word is late": ((leader.name, follower.name), 2 * T, 0.6 * T),
            # A client that hears nothing for two thirds of T gives its server up; idle, it pings every third.
            "the client's word is late": (("second", follower.name), 2.25 * T, 0.35 * T),
        }[which]
        try:
            async with (
                stack.client("first", third.sid, session_timeout=T) as first,
                stack.client("second", follower.sid, session_timeout=T, close_timeout=0.1) as second,
                trio.open_nursery() as nursery,
            ):
                done, never = trio.Event(), trio.Event()
                nursery.start_soon(own_once, first, stack.process("first"), ledger, done)
                await pass_time(T)
                nursery.start_soon(own_once, second, stack.process("second"), ledger, never)
                await pass_time(since)

                def meanwhile() -> None:
                    done.set()
                    nursery.start_soon(write, second)

                await stalled(stack, late, seconds, meanwhile, (follower.name, leader.name))
                nursery.cancel_scope.cancel()
        finally:
            trio.lowlevel.remove_instrument(ledger)
        return ledger


def run(which: str) -> Ledger:
    with repeatable(1):
        return trio.run(reenact, which, clock=MockClock(autojump_threshold=0))


WHICH = ("the leader's word is late", "the client's word is late")


@pytest.mark.parametrize("which", WHICH)
def test_who_is_late_to_own_does_not_own_for_too_long(which: str) -> None:
    ledger = run(which)
    assert ledger.violation is None, "\n".join(ledger.trace())
    assert ledger.counts["terms"] >= 1


@pytest.mark.parametrize("which", WHICH)
def test_it_would_if_one_request_were_a_proof(which: str) -> None:
    with ONE_REQUEST.present():
        ledger = run(which)
    print(*ledger.trace(), sep="\n")
    assert ledger.violation is not None
    assert ledger.violation.rule == "E2"
