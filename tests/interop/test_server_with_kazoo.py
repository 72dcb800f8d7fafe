"""kazoo and its recipes do the same work on ZooKeeper 3.8.0 and on this server, with the same outcome.

Results, Stats, events and errors are compared. Both servers are new, so that zxids can be compared as they are; clocks
are masked, session ids replaced by their order.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from kazoo.client import KazooClient, KazooState
from kazoo.exceptions import KazooException
from kazoo.protocol.states import EventType, WatchedEvent, ZnodeStat
from kazoo.recipe.cache import TreeCache, TreeEvent
from kazoo.security import make_acl, make_digest_acl

from terzetto.testcluster import BlockingEnsemble, start_ensemble

from .conftest import OwnZooKeeper
from .rawclient import RawClient, request
from .zookeeper import SUPER_DIGEST, SUPER_DIGEST_PROPERTY, TICK_TIME

DEADLINE = 20.0
CLOSE_SESSION = -11


class Transcript:
    """What a client saw, without clocks and session ids."""

    def __init__(self) -> None:
        self.lines: list[Any] = []
        self._sessions: dict[int, int] = {}

    def session(self, client: Any) -> None:
        self._sessions[client.client_id[0]] = len(self._sessions) + 1

    def note(self, call: Callable[[], Any]) -> Any:
        """Does something and writes down what came of it."""
        try:
            result = call()
        except KazooException as error:
            self.lines.append(type(error).__name__)
            return None
        self.lines.append(self.masked(result))
        return result

    def masked(self, value: Any) -> Any:
        if isinstance(value, ZnodeStat):
            owner = value.ephemeralOwner
            return value._replace(ctime=0, mtime=0, ephemeralOwner=self._sessions.get(owner, owner))
        if isinstance(value, WatchedEvent):
            return (value.type, value.path)
        if isinstance(value, BaseException):
            return type(value).__name__
        items: Any = value
        if isinstance(value, list):
            masked: list[Any] = [self.masked(item) for item in items]
            return sorted(masked) if masked and all(isinstance(item, str) for item in masked) else masked
        if isinstance(value, tuple):
            return tuple(self.masked(item) for item in items)
        return value


@contextmanager
def client(hosts: str, transcript: Transcript | None = None, **options: Any) -> Iterator[Any]:
    kazoo = KazooClient(hosts, timeout=10.0, **options)
    kazoo.start(DEADLINE)
    if transcript is not None:
        transcript.session(kazoo)
    try:
        yield kazoo
    finally:
        kazoo.stop()
        kazoo.close()


def events() -> tuple[list[Any], threading.Semaphore, Callable[[Any], None]]:
    heard: list[Any] = []
    count = threading.Semaphore(0)

    def hear(event: Any) -> None:
        heard.append(event)
        count.release()

    return heard, count, hear


def operations(hosts: str) -> list[Any]:
    """Every operation, right and wrong."""
    t = Transcript()
    with client(hosts, t) as zk:
        t.note(lambda: zk.create("/op", b"value", include_data=True))
        t.note(lambda: zk.create("/op"))
        t.note(lambda: zk.create("/op/a/b", b"", makepath=True))
        t.note(lambda: zk.create("/op/none/such"))
        t.note(lambda: zk.create("/op/e", b"", ephemeral=True, include_data=True))
        t.note(lambda: zk.create("/op/e/child"))
        for _ in range(3):
            t.note(lambda: zk.create("/op/s-", b"", sequence=True))
        t.note(lambda: zk.create("/op/es-", b"", sequence=True, ephemeral=True))
        t.note(lambda: zk.get("/op"))
        t.note(lambda: zk.set("/op", b"more", version=0))
        t.note(lambda: zk.set("/op", b"never", version=0))
        t.note(lambda: zk.get_children("/op", include_data=True))
        t.note(lambda: zk.exists("/op/nothing"))
        t.note(lambda: zk.exists("/op"))
        t.note(lambda: zk.delete("/op"))
        t.note(lambda: zk.delete("/op/none"))
        t.note(lambda: zk.delete("/op/e", version=7))
        t.note(lambda: zk.ensure_path("/op/x/y/z"))
        t.note(lambda: zk.sync("/op"))
        t.note(lambda: zk.get("/zookeeper/config"))
        t.note(lambda: zk.reconfig(joining="server.9=h:1:2", leaving=None, new_members=None))
        t.note(lambda: zk.delete("/op", recursive=True))
        t.note(lambda: zk.get_children("/"))
    return t.lines


def transactions(hosts: str) -> list[Any]:
    """Transactions that commit and that do not."""
    t = Transcript()
    with client(hosts, t) as zk:
        good = zk.transaction()
        good.create("/tx")
        good.create("/tx/s-", b"", sequence=True)
        good.set_data("/tx", b"new", version=0)
        good.check("/tx", version=1)
        t.note(good.commit)
        bad = zk.transaction()
        bad.create("/tx/other")
        bad.check("/tx", version=5)
        bad.delete("/tx")
        t.note(bad.commit)
        t.note(lambda: zk.transaction().commit())
        t.note(lambda: zk.get("/tx"))
    return t.lines


def permissions(hosts: str) -> list[Any]:
    """ACLs of every scheme at hand, with and without the right to them."""
    t = Transcript()
    with client(hosts, t) as zk, client(hosts, t) as stranger:
        zk.add_auth("digest", "ann:secret")
        mine = [make_digest_acl("ann", "secret", all=True)]
        t.note(lambda: zk.create("/acl", b"mine", acl=mine))
        t.note(lambda: stranger.get("/acl"))
        t.note(lambda: stranger.create("/acl/child"))
        t.note(lambda: stranger.get_acls("/acl"))
        t.note(lambda: zk.get_acls("/acl"))
        t.note(lambda: zk.set_acls("/acl", [*mine, make_acl("world", "anyone", read=True)], version=0))
        t.note(lambda: zk.set_acls("/acl", mine, version=0))
        t.note(lambda: stranger.get("/acl"))
        t.note(lambda: stranger.get_acls("/acl"))
        t.note(lambda: stranger.set("/acl", b""))
        t.note(lambda: zk.create("/auth", acl=[make_acl("auth", "", all=True)]))
        t.note(lambda: zk.get_acls("/auth"))
        t.note(lambda: zk.create("/ip", acl=[make_acl("ip", "127.0.0.1", all=True)]))
        t.note(lambda: stranger.get("/ip"))
        t.note(lambda: zk.create("/wrong", acl=[make_acl("ip", "1.2.3.4/99", all=True)]))
        t.note(lambda: zk.create("/wrong", acl=[make_acl("nosuch", "x", all=True)]))
        t.note(lambda: stranger.add_auth("digest", "super:test"))
        t.note(lambda: stranger.get("/acl"))
        t.note(lambda: stranger.set("/zookeeper/config", b"no"))
    return t.lines


def watches(hosts: str) -> list[Any]:
    """Watches that fire once, from reads of every kind and another client's writes."""
    t = Transcript()
    with client(hosts, t) as zk, client(hosts, t) as other:
        heard, count, hear = events()
        steps: list[tuple[Callable[[], Any], Callable[[], Any], int]] = [
            (lambda: zk.exists("/w", watch=hear), lambda: other.create("/w", b"1"), 1),
            (lambda: zk.get("/w", watch=hear), lambda: other.set("/w", b"2"), 1),
            (lambda: zk.get_children("/w", watch=hear), lambda: other.create("/w/child"), 1),
            (lambda: zk.exists("/w/child", watch=hear), lambda: other.delete("/w/child"), 1),
            (lambda: (zk.get("/w", watch=hear), zk.get_children("/w", watch=hear))[0], lambda: other.delete("/w"), 2),
        ]
        for register, act, number in steps:
            t.note(register)
            t.note(act)
            for _ in range(number):
                assert count.acquire(timeout=DEADLINE)
            t.lines.append(sorted((event.type, event.path) for event in heard))
            heard.clear()
        assert {event.type for event in heard} <= {EventType.NONE}
    return t.lines


def sessions(hosts: str) -> list[Any]:
    """A session that is taken over and closed by somebody else is lost, and its ephemerals with it."""
    t = Transcript()
    states: list[str] = []
    lost = threading.Event()
    again = threading.Event()

    def listen(state: str) -> None:
        states.append(state)
        if state == KazooState.LOST:
            lost.set()
        elif lost.is_set():
            again.set()

    with client(hosts, t) as zk, client(hosts, t) as other:
        t.note(lambda: zk.create("/mortal", ephemeral=True))
        zk.add_listener(listen)
        session_id, password = zk.client_id
        with RawClient(int(hosts.rpartition(":")[2])) as thief:
            # In one piece: the owner, who has lost his connection by the first, must not come between.
            thief.connect(session_id=session_id, password=password, then=request(1, CLOSE_SESSION))
            thief.read_until(1)
        assert lost.wait(DEADLINE)
        assert again.wait(DEADLINE)
        t.lines.append([state for state in states if state != KazooState.SUSPENDED])
        t.note(lambda: other.exists("/mortal"))
    return t.lines


def locks(hosts: str) -> list[Any]:
    """Locks, a semaphore and an election between two clients."""
    t = Transcript()
    with client(hosts, t) as one, client(hosts, t) as two:
        first, second = one.Lock("/lock", "one"), two.Lock("/lock", "two")
        t.note(first.acquire)
        t.note(lambda: second.acquire(blocking=False))
        t.note(first.contenders)
        t.note(first.release)
        t.note(lambda: second.acquire(timeout=DEADLINE))
        t.note(second.release)
        readers = [zk.ReadLock("/rw", "r") for zk in (one, two)]
        t.note(lambda: [lock.acquire(timeout=DEADLINE) for lock in readers])
        writer = one.WriteLock("/rw", "w")
        t.note(lambda: writer.acquire(blocking=False))
        t.note(lambda: [lock.release() for lock in readers])
        t.note(lambda: writer.acquire(timeout=DEADLINE))
        t.note(writer.release)
        leases = [zk.Semaphore("/sem", "s", max_leases=2) for zk in (one, two, one)]
        t.note(lambda: [lease.acquire(timeout=DEADLINE) for lease in leases[:2]])
        t.note(lambda: leases[2].acquire(blocking=False))
        t.note(lambda: [lease.release() for lease in leases[:2]])
        elected: list[str] = []
        t.note(lambda: one.Election("/elect", "one").run(elected.append, "one"))
        t.lines.append(elected)
        lease = one.NonBlockingLease("/lease", timedelta(seconds=60), "one")
        t.lines.append(bool(lease))
    return t.lines


def collections(hosts: str) -> list[Any]:
    """Queues, counters, parties and barriers."""
    t = Transcript()
    with client(hosts, t) as one, client(hosts, t) as two:
        queue = one.Queue("/queue")
        t.note(lambda: [queue.put(item, priority) for item, priority in ((b"b", 200), (b"a", 100), (b"c", 300))])
        t.note(lambda: [two.Queue("/queue").get() for _ in range(4)])
        locking = one.LockingQueue("/locking")
        t.note(lambda: locking.put_all([b"x", b"y"]))
        t.note(lambda: locking.get(timeout=DEADLINE))
        t.note(locking.consume)
        t.note(lambda: len(two.LockingQueue("/locking")))
        counter = one.Counter("/counter", default=5)
        counter += 3
        counter -= 1
        t.lines.append((counter.value, two.Counter("/counter", default=5).value))
        party = one.Party("/party", "one")
        t.note(party.join)
        t.note(lambda: list(two.Party("/party", "two")))
        shallow = two.ShallowParty("/shallow", "two")
        t.note(shallow.join)
        t.note(lambda: len(shallow))
        barrier = one.Barrier("/barrier")
        t.note(barrier.create)
        t.note(lambda: two.Barrier("/barrier").wait(0.05))
        t.note(barrier.remove)
        t.note(lambda: two.Barrier("/barrier").wait(DEADLINE))
        entered = threading.Thread(target=one.DoubleBarrier("/double", 2, "one").enter)
        entered.start()
        t.note(two.DoubleBarrier("/double", 2, "two").enter)
        entered.join(DEADLINE)
        t.lines.append(entered.is_alive())
    return t.lines


def watchers(hosts: str) -> list[Any]:
    """The recipes that keep watching, with a client that writes."""
    t = Transcript()
    with client(hosts, t) as zk, client(hosts, t) as other:
        other.create("/seen", b"0")
        data: list[bytes | None] = []
        names: list[list[str]] = []
        arrived = threading.Condition()

        def saw_data(value: bytes | None, stat: Any) -> None:
            with arrived:
                data.append(value)
                arrived.notify_all()

        def saw_names(children: list[str]) -> None:
            with arrived:
                names.append(sorted(children))
                arrived.notify_all()

        zk.DataWatch("/seen")(saw_data)
        zk.ChildrenWatch("/seen")(saw_names)
        for number in range(1, 4):
            other.set("/seen", str(number).encode())
            other.create(f"/seen/{number}")
            with arrived:
                seen = str(number).encode()
                assert arrived.wait_for(lambda: data[-1] == seen and str(number) in names[-1], DEADLINE)  # noqa: B023
        t.lines += [data, names]
        cache = TreeCache(zk, "/seen")
        ready = threading.Event()

        def hear(event: Any) -> None:
            if event.event_type == TreeEvent.INITIALIZED:
                ready.set()

        cache.listen(hear)
        cache.start()
        assert ready.wait(DEADLINE)
        t.lines.append(sorted(cache.get_children("/seen")))
        cache.close()
    return t.lines


PROGRAMS = (operations, transactions, permissions, watches, sessions, locks, collections, watchers)


@pytest.fixture
def here() -> Iterator[BlockingEnsemble]:
    settings = {"DigestAuthenticationProvider.superDigest": SUPER_DIGEST}
    with start_ensemble(tick_time=TICK_TIME, settings=settings) as ensemble:
        yield ensemble


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS)
def test_the_same_work_has_the_same_outcome(
    own_zookeeper: OwnZooKeeper, here: BlockingEnsemble, program: Callable[[str], list[Any]]
) -> None:
    real = own_zookeeper(zoo_cfg={"extendedTypesEnabled": "true"}, jvm_properties={SUPER_DIGEST_PROPERTY: SUPER_DIGEST})
    there_lines, here_lines = program(real.hosts), program(here.hosts)
    assert len(there_lines) > 2
    assert here_lines == there_lines
