"""Every recipe survives that its parents vanish between any two of its requests, as empty containers do; also together
with the session, which takes away whatever kept them.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import trio
from trio.testing import MockClock

from terzetto.client import SessionExpiredError
from terzetto.recipes import (
    GroupMember,
    OwnershipLost,
    Party,
    PersistentNode,
    ServiceInstance,
    ServiceRegistry,
    ShallowParty,
)
from tests.client.memory_server import MemoryEnsemble, until
from tests.client.server_link import Fault, Received

from .catalogue import USES, Make, Use
from .walking import at_rest, forget_tree, tree

# Uses that a lost session ends or does not touch. Others look at once for what is made again a little later.
WITH_SESSION = ("lock", "writer", "election", "latch", "barrier", "counter", "shared value", "group", "configuration")


@dataclass
class Reaper:
    """Takes away every empty parent, once: when a request comes and there is one. As a rule of the ensemble.

    Attributes:
        first: number of the first request, from 0, before which that may be.
        with_session: ends all sessions first, at that very request, and loses the request.
        seen: requests that have come.
        struck: number of the request before which it was, and `before` the request.
        reaped: what was taken away.
    """

    ensemble: MemoryEnsemble
    parents: tuple[str, ...]
    first: int
    with_session: bool = False
    seen: int = 0
    struck: int | None = None
    before: Received | None = None
    reaped: int = 0

    def __call__(self, request: Received) -> Fault | None:
        number, self.seen = self.seen, self.seen + 1
        if number < self.first or self.struck is not None:
            return None
        if self.with_session:
            for session_id in list(self.ensemble.realm.sessions):
                self.ensemble.expire(session_id)
        self._reap()
        if not self.reaped and not self.with_session:
            return None
        self.struck, self.before = number, request
        return Fault.CUT if self.with_session else None

    def _reap(self) -> None:
        realm = self.ensemble.realm
        for path in (*self.parents, "/p"):
            if path in realm.znodes and not realm.children(path):
                realm.delete(path)
                self.reaped += 1

    def __str__(self) -> str:
        return f"{self.reaped} parents gone before request {self.struck}: {self.before}"


@pytest.mark.parametrize(
    ("name", "with_session"), [*((name, False) for name in USES), *((name, True) for name in WITH_SESSION)]
)
async def test_curator_10_parents_that_vanish_between_two_requests(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, name: str, with_session: bool
) -> None:
    use = USES[name]
    # Nothing else may end a use, and a lost session only what was owned in it or cannot be known any more.
    ended = (OwnershipLost, SessionExpiredError) if with_session else ()
    reaped = rounds = completed = first = 0
    while True:
        reaper = Reaper(ensemble, use.parents, first, with_session)
        try:
            completed += await _use_once(ensemble, use, reaper, ended)
        except Exception as error:
            raise AssertionError(str(reaper)) from error
        left = tree(ensemble) - {"/p", *use.parents, *use.keeps}
        assert not left, f"{sorted(left)}: {reaper}"
        reaped += reaper.reaped
        rounds += 1
        if reaper.struck is None:
            break
        first = reaper.struck + 1
    assert reaped > 0, "nothing has ever vanished"
    assert completed > (rounds / 4 if with_session else rounds - 1), f"only {completed} of {rounds} came to their end"


async def _use_once(ensemble: MemoryEnsemble, use: Use, reaper: Reaper, ended: tuple[type[Exception], ...]) -> bool:
    """Whether the use came to its end."""
    forget_tree(ensemble)
    ensemble.rules[:] = [reaper]
    completed = False
    with trio.fail_after(600):
        async with ensemble.open() as zk:
            try:
                await use.work(zk)
                completed = True
            except ended as error:
                if isinstance(error, SessionExpiredError) and not error.outcome_unknown:
                    raise
            ensemble.rules.clear()
            await at_rest(zk)
    return completed


STANDING: list[Make] = [
    lambda zk: PersistentNode(zk, "/p/q/r"),
    lambda zk: Party(zk, "/p/q", "me"),
    lambda zk: ShallowParty(zk, "/p/q", "me"),
    lambda zk: GroupMember(zk, "/p/q", "me"),
    lambda zk: ServiceRegistry(zk, "/p").register(ServiceInstance("q", "me", "h", 1)),
]


@pytest.mark.parametrize("make", STANDING)
async def test_what_stands_is_made_again_with_its_parents(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, make: Make
) -> None:
    async with ensemble.open() as zk, make(zk):
        before = tree(ensemble)
        assert len(before) == 3
        for _ in range(3):
            ensemble.expire(zk.session_id)
            for path in ("/p/q", "/p"):
                ensemble.realm.delete(path)
            await until(lambda: tree(ensemble) == before)
        await at_rest(zk)
