"""Mutual exclusion under faults, by seeds: servers that fall silent, followers that are cut off and go on answering
pings, refused connections, lost requests; and a leader that expires sessions as early as it ever may.

The leader here knows of a client what its servers report every half tick. A session ends T after its server has heard
the last thing that was reported, and no later; then the next contender is let in. A server asks the leader for each
session that comes to it. A checker outside looks at every body.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import trio
from trio.testing import MockClock

from terzetto.client import ConnectionLoss, SessionExpiredError, ZooKeeper
from terzetto.client._proof import OwnershipProof
from terzetto.client._session import Session
from terzetto.client.wire import Opcode
from terzetto.recipes import Election, Lock, Ownership, OwnershipLost, Semaphore, WriteLock
from tests.client.memory_server import Door, MemoryEnsemble, pass_time
from tests.client.server_link import Fault, ServerLink

from .walking import forget_tree

T = 4.0
TICK = T / 2
CLIENTS = 4
LENGTH = 120.0
READS = (Opcode.PING, Opcode.EXISTS, Opcode.GET_DATA, Opcode.GET_CHILDREN, Opcode.GET_CHILDREN2)


class Hearing(NamedTuple):
    """When each server has last heard of its client, and when the leader was last asked for a session."""

    at: dict[ServerLink, float]
    asked_for: dict[int, float]


class CutOff:
    """What a follower without its leader has of the realm: it can read, and learns nothing."""

    def __init__(self, link: ServerLink) -> None:
        realm: Any = link.realm
        changed, ended = link._changed, link._session_ended  # pyright: ignore[reportPrivateUsage]
        realm.watchers.remove(changed)
        realm.on_session_end.remove(ended)
        self._realm = realm
        self.watchers = [changed]
        self.on_session_end = [ended]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._realm, name)


class Leader:
    """Counts sessions down, as early as ZooKeeper may, and makes faults. See the module."""

    def __init__(self, ensemble: MemoryEnsemble, rng: random.Random, hearing: Hearing) -> None:
        self._ensemble = ensemble
        self._rng = rng
        self._hearing = hearing
        self._cut_off: list[ServerLink] = []

    async def run(self) -> None:
        """Servers report, and sessions end; every half tick."""
        reported: dict[int, float] = {}
        while True:
            now = trio.current_time()
            for session_id, asked_at in self._hearing.asked_for.items():
                reported[session_id] = max(asked_at, reported.get(session_id, 0.0))
            for link, heard_at in self._hearing.at.items():
                if not link.closed and link not in self._cut_off and not link.paused:
                    reported[link.session_id] = max(heard_at, reported.get(link.session_id, 0.0))
            for session_id in list(self._ensemble.realm.sessions):
                if reported.setdefault(session_id, now) + T <= now:
                    self._ensemble.expire(session_id)
            await pass_time(TICK / 2)

    async def harm(self) -> None:
        """Faults, one after another, each for a while."""
        faults = [self._cut, self._silence, self._isolate, self._refuse, self._lose_quorum]
        while True:
            await pass_time(self._rng.uniform(0, T))
            heals = [self._rng.choice(faults)() for _ in range(self._rng.randrange(1, 3))]
            await pass_time(self._rng.uniform(0, 2 * T))
            for heal in heals:
                heal()

    def _victim(self) -> ServerLink | None:
        """A connection; mostly that of an owner."""
        standing = [
            link for link in self._hearing.at if not link.closed and not link.paused and link not in self._cut_off
        ]
        znodes = self._ensemble.realm.znodes
        queue = sorted((path for path, znode in znodes.items() if znode.owner), key=lambda path: path[-10:])
        owners = [link for link in standing if queue and link.session_id == znodes[queue[0]].owner]
        if owners and self._rng.random() < 0.7:
            return owners[0]
        return self._rng.choice(standing) if standing else None

    def _cut(self) -> Callable[[], object]:
        self._ensemble.cut()
        return lambda: None

    def _refuse(self) -> Callable[[], object]:
        self._ensemble.shut(self._rng.choice([Door.REFUSES, Door.SILENT]))
        victim = self._victim()
        if victim is not None:
            victim.hang_up()
        return lambda: self._ensemble.shut(Door.OPEN)

    def _lose_quorum(self) -> Callable[[], object]:
        """Servers that take a connection and hang up on it."""
        self._ensemble.read_only.add("a")
        victim = self._victim()
        if victim is not None:
            victim.hang_up()
        return lambda: self._ensemble.read_only.discard("a")

    def _silence(self) -> Callable[[], object]:
        """A server that receives, and neither works nor reports."""
        victim = self._victim()
        if victim is None:
            return lambda: None
        victim.paused = True
        return victim.hang_up

    def _isolate(self) -> Callable[[], object]:
        """A follower without its leader: pings and reads are answered, nothing is ordered, nobody is told anything."""
        victim = self._victim()
        if victim is None:
            return lambda: None
        cut_off: Any = CutOff(victim)
        victim.realm = cut_off
        self._cut_off.append(victim)
        victim.rules = [lambda request: None if request.opcode in READS else Fault.IGNORE]
        return victim.hang_up


class Checker:
    """Sees every body from outside, and a store that compares fencing tokens."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._inside: set[int] = set()
        self._newest = 0
        self.findings: list[str] = []
        self.terms = 0
        self.losses = 0

    async def body(self, number: int, held: Ownership, rng: random.Random) -> None:
        """Runs while owned: every step is one that only an owner may take."""
        self._inside.add(number)
        self.terms += 1
        try:
            for _ in range(rng.randrange(1, 30)):
                if len(self._inside) > self._most:
                    self.findings.append(f"{sorted(self._inside)} at {trio.current_time()}")
                if held.fencing_token is not None:
                    if held.fencing_token < self._newest:
                        self.findings.append(f"{held.fencing_token} after {self._newest}")
                    self._newest = max(self._newest, held.fencing_token)
                await pass_time(rng.uniform(0, T / 4))
        finally:
            self._inside.discard(number)


RECIPES: dict[str, tuple[int, Callable[[ZooKeeper, dict[str, Any]], Any]]] = {
    "Lock": (1, lambda zk, terms: Lock(zk, "/a", **terms)),
    "WriteLock": (1, lambda zk, terms: WriteLock(zk, "/a", layout="curator", **terms)),
    "Election": (1, lambda zk, terms: Election(zk, "/a", **terms)),
    "Semaphore": (2, lambda zk, terms: Semaphore(zk, "/a", max_leases=2, **terms)),
}
"""How many may own at once, and how one is made."""


async def _guarded_count(held: Ownership) -> None:
    transaction = held.transaction()
    transaction.set_data("/count", str(held.fencing_token).encode())
    await transaction.commit()


async def contend(zk: ZooKeeper, number: int, recipe: Any, checker: Checker, rng: random.Random) -> None:
    while True:
        try:
            async with recipe as held:
                await checker.body(number, held, rng)
                if held.fencing_token is not None:
                    await _guarded_count(held)
        except (OwnershipLost, ConnectionLoss, SessionExpiredError):
            checker.losses += 1


@pytest.fixture
def hearing(monkeypatch: pytest.MonkeyPatch) -> Hearing:
    """Listens to every server."""
    heard = Hearing({}, {})
    receive: Any = ServerLink.receive

    def receiving(link: ServerLink, data: bytes) -> None:
        comes = link.handshake is None
        receive(link, data)
        heard.at[link] = trio.current_time()
        if comes:
            heard.asked_for[link.session_id] = trio.current_time()

    monkeypatch.setattr(ServerLink, "receive", receiving)
    return heard


async def simulate(ensemble: MemoryEnsemble, hearing: Hearing, name: str, seed: int, **terms: Any) -> Checker:
    rng = random.Random(seed)
    most, make = RECIPES[name]
    checker, leader = Checker(most), Leader(ensemble, rng, hearing)
    ensemble.realm.create("/count")
    with trio.move_on_after(LENGTH):
        async with trio.open_nursery() as nursery:

            async def client(number: int) -> None:
                async with ensemble.open(session_timeout=T, close_timeout=0.1, rng=random.Random(rng.random())) as zk:
                    await contend(zk, number, make(zk, terms), checker, rng)

            nursery.start_soon(leader.run)
            for number in range(CLIENTS):
                nursery.start_soon(client, number)
            await pass_time(1.0)
            nursery.start_soon(leader.harm)
    ensemble.shut(Door.OPEN)
    ensemble.read_only.clear()
    return checker


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("name", RECIPES)
async def test_no_two_bodies_run_at_once(
    ensemble: MemoryEnsemble,
    autojump_clock: MockClock,
    hearing: Hearing,
    seed: int,
    name: str,
    number: int,
) -> None:
    checker = await simulate(ensemble, hearing, name, seed + number)
    assert checker.findings == []
    assert checker.terms > 5
    assert not checker._inside  # pyright: ignore[reportPrivateUsage]


# The checker itself: each of these mistakes must show -----------------------------------------------------------------


def _trusts_its_server(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """No fault of the code: what `proof="session"` assumes does not hold here."""
    return {"proof": "session"}


def _prove(session: Session, now: float) -> None:
    session.proof.told_at = session.proof.proven_at = now
    session.proof.deadline = max(session.proof.deadline, session.proof._end())  # pyright: ignore[reportPrivateUsage]


def _counts_pings(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    receive_data: Any = Session.receive_data

    def receiving(session: Session, data: bytes, now: float) -> Any:
        _prove(session, now)
        return receive_data(session, data, now)

    monkeypatch.setattr(Session, "receive_data", receiving)
    return {}


def _extends_over_a_reconnect(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    link_up: Any = Session.link_up

    def connecting(session: Session, now: float, handshake_timeout: float) -> Any:
        if session.proof.proven_at > 0:
            _prove(session, now)
        return link_up(session, now, handshake_timeout)

    monkeypatch.setattr(Session, "link_up", connecting)
    return {}


def _lasts_too_long(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    def end(proof: OwnershipProof) -> float:
        return proof.proven_at + T

    monkeypatch.setattr(OwnershipProof, "_end", end)
    return {}


DEFECTS = (_trusts_its_server, _counts_pings, _extends_over_a_reconnect, _lasts_too_long)


@pytest.mark.parametrize("defect", DEFECTS)
async def test_a_mistake_is_found(
    ensemble: MemoryEnsemble,
    autojump_clock: MockClock,
    hearing: Hearing,
    monkeypatch: pytest.MonkeyPatch,
    defect: Callable[..., Any],
) -> None:
    terms = defect(monkeypatch)
    for seed in range(60):
        forget_tree(ensemble)
        ensemble.rules.clear()
        ensemble.links.clear()
        hearing.at.clear()
        if (await simulate(ensemble, hearing, "Lock", seed, **terms)).findings:
            return
    raise AssertionError("the checker saw nothing")
