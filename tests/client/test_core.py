"""What all operations share: cancelled at any checkpoint, each leaves a usable client and no trace; the proof."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock

from terzetto.client import (
    OPEN_ACL_UNSAFE,
    AddWatchMode,
    EventType,
    KazooState,
    ReadChildren,
    ReadData,
    RetryPolicy,
    WatchedEvent,
    ZooKeeper,
)
from terzetto.client.wire import Opcode

from .holdings import drained, holdings, watched_by_server
from .memory_server import Door, MemoryEnsemble, pass_time, settle, until
from .server_link import Code, Fault, every, nth

# Every checkpoint of every operation ----------------------------------------------------------------------------------


class CancelAfter(trio.abc.Instrument):
    """Cancels the scope when the task has yielded `steps` times more."""

    def __init__(self, scope: trio.CancelScope, steps: int) -> None:
        self._task = trio.lowlevel.current_task()
        self._scope = scope
        self._left = steps
        if steps == 0:
            scope.cancel()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self._task:
            self._left -= 1
            if self._left == 0:
                self._scope.cancel()


async def cancelled_after(steps: int, work: Callable[[], Awaitable[object]]) -> bool:
    """Runs `work`, cancelled at its checkpoint number `steps`; False when it had no more than that many."""
    with trio.CancelScope() as scope:
        instrument = CancelAfter(scope, steps)
        trio.lowlevel.add_instrument(instrument)
        try:
            await work()
        finally:
            trio.lowlevel.remove_instrument(instrument)
    return scope.cancelled_caught


def ignore(_: WatchedEvent) -> None:
    pass


async def _transaction(zk: ZooKeeper) -> None:
    async with zk.transaction() as t:
        t.create("/a/t", b"x")
        t.check("/a", -1)


async def _pipeline(zk: ZooKeeper) -> None:
    async with zk.pipeline(window=4) as p:
        for number in range(20):
            await p.create(f"/a/p{number}")
        await p.get("/a")


async def _watch(zk: ZooKeeper) -> None:
    async with zk.watch("/a", recursive=True) as changes:
        await zk.set("/a", b"y")
        async for _ in changes:
            break


async def _two_watches(zk: ZooKeeper) -> None:
    async with zk.watch("/a", recursive=True), zk.watch("/a"):
        await zk.set("/a", b"y")


async def _remove_watches(zk: ZooKeeper) -> None:
    await zk.add_watch("/a", AddWatchMode.PERSISTENT, ignore)
    try:
        await zk.remove_watches("/a")
    except trio.Cancelled:
        # It may not have been asked for yet; what counts is that the client can still do it.
        with trio.CancelScope(shield=True):
            await drained(zk)
            if holdings(zk).watches:
                await zk.remove_watches("/a")
        raise


async def _proof(zk: ZooKeeper) -> None:
    with zk.keep_proof() as proof:
        await proof.renew()


async def _states(zk: ZooKeeper) -> None:
    async for state in zk.states():
        assert state == KazooState.CONNECTED
        break


async def _retried(zk: ZooKeeper) -> None:
    await zk.retry(zk.get, "/a")


OPERATIONS: dict[str, Callable[[ZooKeeper], Awaitable[object]]] = {
    "get": lambda zk: zk.get("/a"),
    "exists": lambda zk: zk.exists("/a"),
    "exists of nothing": lambda zk: zk.exists("/nothing"),
    "get_children": lambda zk: zk.get_children("/a"),
    "get_children with Stat": lambda zk: zk.get_children("/a", include_data=True),
    "create": lambda zk: zk.create("/new"),
    "create with Stat": lambda zk: zk.create("/new", include_data=True),
    "create ephemeral": lambda zk: zk.create("/new", ephemeral=True),
    "create sequential": lambda zk: zk.create("/new-", sequence=True),
    "create container": lambda zk: zk.create("/new", container=True),
    "create with ttl": lambda zk: zk.create("/new", ttl=5.0),
    "create with parents": lambda zk: zk.create("/new/x/y", makepath=True),
    "ensure_path": lambda zk: zk.ensure_path("/new/x/y"),
    "delete": lambda zk: zk.delete("/a/d"),
    "delete recursively": lambda zk: zk.delete("/a", recursive=True),
    "set": lambda zk: zk.set("/a", b"y"),
    "get_acls": lambda zk: zk.get_acls("/a"),
    "set_acls": lambda zk: zk.set_acls("/a", OPEN_ACL_UNSAFE),
    "sync": lambda zk: zk.sync("/a"),
    "sync strictly": lambda zk: zk.sync("/a", strict=True),
    "add_auth": lambda zk: zk.add_auth("digest", "u:p"),
    "transaction": _transaction,
    "multi_read": lambda zk: zk.multi_read([ReadData("/a"), ReadChildren("/a")]),
    "multi_read of nothing": lambda zk: zk.multi_read([]),
    "get_config": lambda zk: zk.get_config(),
    "reconfig": lambda zk: zk.reconfig(new_members="server.1=h:1:2:participant;3"),
    "who_am_i": lambda zk: zk.who_am_i(),
    "get_ephemerals": lambda zk: zk.get_ephemerals(),
    "count_descendants": lambda zk: zk.count_descendants("/a"),
    "remove_watches": _remove_watches,
    "watch": _watch,
    "two watches on one path": _two_watches,
    "pipeline": _pipeline,
    "keep_proof": _proof,
    "states": _states,
    "retry": _retried,
    "command": lambda zk: zk.command("ruok"),
    "server_version": lambda zk: zk.server_version(),
    "a view's ensure_path": lambda zk: zk.with_chroot("/a").ensure_path("/x/y"),
}


def _fresh(ensemble: MemoryEnsemble) -> None:
    """The tree as each attempt finds it, whatever the one before has left."""
    realm = ensemble.realm
    for path in sorted(realm.znodes, reverse=True):
        if path != "/" and not path.startswith("/zookeeper"):
            realm.delete(path)
    for path in ("/a", "/a/b", "/a/b/c", "/a/d"):
        realm.create(path)


@pytest.mark.parametrize("latency", [0.0, 0.25])
@pytest.mark.parametrize("name", OPERATIONS)
async def test_a_call_can_be_cancelled_at_each_of_its_checkpoints(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, name: str, latency: float
) -> None:
    ensemble.four_letters[b"srvr"] = b"Zookeeper version: 3.8.0-5a02a05"
    async with ensemble.open(retry=RetryPolicy()) as zk:
        ensemble.latency = latency
        before = await drained(zk)
        session_id, steps = zk.session_id, 0
        while True:
            _fresh(ensemble)
            cancelled = await cancelled_after(steps, lambda: OPERATIONS[name](zk))
            assert await drained(zk) == before, f"cancelled at checkpoint {steps}"
            await until(lambda: ensemble.streams_open == 1)
            assert not watched_by_server(ensemble.link, "/a")
            if not cancelled:
                break
            steps += 1
        assert steps > 0
        assert zk.session_id == session_id
        assert len(ensemble.links) == 1, "a cancelled call must not cost the connection"


ONE_SHOT: dict[str, Callable[[ZooKeeper, Callable[[WatchedEvent], None]], Awaitable[object]]] = {
    "get": lambda zk, watch: zk.get("/a", watch),
    "exists": lambda zk, watch: zk.exists("/a", watch),
    "exists of nothing": lambda zk, watch: zk.exists("/new", watch),
    "get_children": lambda zk, watch: zk.get_children("/a", watch),
    "get_config": lambda zk, watch: zk.get_config(watch),
}


@pytest.mark.parametrize("name", ONE_SHOT)
async def test_a_cancelled_read_leaves_at_most_its_own_one_shot_watch(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, name: str
) -> None:
    async with ensemble.open() as zk:
        before, steps = await drained(zk), 0
        while True:
            _fresh(ensemble)
            await zk.sync("/")
            told: list[WatchedEvent] = []
            cancelled = await cancelled_after(steps, partial(ONE_SHOT[name], zk, told.append))
            after = await drained(zk)
            # Sent before it was cancelled, it may have happened: then the next change ends it.
            assert after._replace(watches=0) == before
            assert after.watches <= 1
            ensemble.realm.set_config(b"x")
            ensemble.realm.set("/a")
            ensemble.realm.create("/a/z")
            ensemble.realm.create("/new")
            assert await drained(zk) == before
            assert len(told) == after.watches
            if not cancelled:
                break
            steps += 1
        assert after.watches == 1
        assert steps > 0


async def test_add_watch_cancelled_at_each_checkpoint_is_taken_back(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as zk:
        before, steps = await drained(zk), 0
        while await cancelled_after(steps, lambda: zk.add_watch("/a", AddWatchMode.PERSISTENT_RECURSIVE, ignore)):
            assert await drained(zk) == before
            assert not watched_by_server(ensemble.link, "/a")
            steps += 1
        assert steps > 0
        assert holdings(zk).watches == before.watches + 1
        assert watched_by_server(ensemble.link, "/a")


@pytest.mark.parametrize("options", [{}, {"chroot": "/app/x", "ensure_chroot": True, "track_ensemble": True}])
async def test_opening_and_closing_can_be_cancelled_at_each_checkpoint(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, options: dict[str, object]
) -> None:
    async def whole() -> None:
        async with ensemble.open(**options) as zk:
            await zk.get("/")

    await settle()
    before = trio.lowlevel.current_statistics().tasks_living
    steps = 0
    while await cancelled_after(steps, whole):
        await settle()
        assert trio.lowlevel.current_statistics().tasks_living == before
        assert ensemble.streams_open == 0
        ensemble.realm.znodes.pop("/app/x", None)
        steps += 1
    assert steps >= 3
    # A session whose number the client never learned stays until the server expires it; no other does.
    known = [link for link in ensemble.links if link.received]
    assert known
    assert not {link.session_id for link in known} & set(ensemble.realm.sessions)


@pytest.mark.parametrize("name", ["get", "create", "transaction", "pipeline", "watch", "multi_read", "add_auth"])
async def test_a_call_cancelled_while_suspended_never_happens(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, name: str
) -> None:
    _fresh(ensemble)
    async with ensemble.open() as zk:
        before = await drained(zk)
        ensemble.shut(Door.REFUSES)
        ensemble.cut()
        await until(lambda: zk.state == KazooState.SUSPENDED)
        start = trio.current_time()
        with trio.move_on_after(7.5) as scope:
            await OPERATIONS[name](zk)
        assert scope.cancelled_caught
        assert trio.current_time() - start == 7.5
        ensemble.shut(Door.OPEN)
        assert await drained(zk) == before
        assert ensemble.link.received[-1].opcode == Opcode.SYNC
        assert [request.opcode for request in ensemble.link.received if request.opcode != Opcode.SET_WATCHES] == [
            Opcode.SYNC
        ]


async def test_a_reply_to_a_cancelled_call_is_dropped_and_goes_to_nobody_else(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    ensemble.realm.create("/one", b"1")
    ensemble.realm.create("/two", b"2")
    async with ensemble.open() as zk:
        ensemble.latency = 1.0
        with trio.move_on_after(0.5):
            await zk.get("/one")
        assert (await zk.get("/two"))[0] == b"2"


# The proof ------------------------------------------------------------------------------------------------------------


async def test_without_a_write_there_is_no_proof(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open() as zk:
        await zk.get("/")
        proof = zk.keep_proof()
        assert proof.deadline == -math.inf
        assert proof.remaining() == 0.0
        assert "none" in repr(proof)
        await proof.wait_lapsed()


async def test_a_write_proves_the_session_from_when_it_was_sent(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open(session_timeout=10.0) as zk:
        ensemble.latency = 1.0
        sent_at = trio.current_time()
        await zk.create("/a")
        proof = zk.keep_proof()
        # Not more than half of the session timeout, counted from the sending and not from the answer.
        assert sent_at + 4.0 <= proof.deadline <= sent_at + 5.0
        assert proof.remaining() == proof.deadline - trio.current_time() <= 4.0


async def test_renewing_asks_a_quorum(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open(session_timeout=10.0) as zk:
        proof = zk.keep_proof()
        deadline = await proof.renew()
        assert deadline == proof.deadline
        assert 4.0 <= deadline - trio.current_time() <= 5.0
        assert ensemble.received[-1].opcode == Opcode.MULTI
        assert ensemble.received[-1].record == []


async def test_a_held_proof_is_kept_up(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open(session_timeout=10.0) as zk:
        with zk.keep_proof() as proof:
            await proof.renew()
            for _ in range(400):
                await pass_time(0.25)
                assert proof.remaining() > 1.0
        asked = ensemble.opcodes().count(Opcode.MULTI)
        assert 60 <= asked <= 65
        await pass_time(100.0)
        assert ensemble.opcodes().count(Opcode.MULTI) == asked, "nobody holds it any more"


async def test_a_proof_lapses_when_the_servers_fall_silent(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open(session_timeout=10.0) as zk:
        with zk.keep_proof() as proof:
            deadline = await proof.renew()
            ensemble.shut(Door.SILENT)
            ensemble.rules.append(lambda _: Fault.IGNORE)
            await proof.wait_lapsed()
            assert deadline <= trio.current_time() <= deadline + 0.5
            assert proof.remaining() == 0.0


async def test_waiting_for_the_lapse_ends_at_once_when_the_session_is_lost(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open(session_timeout=10.0) as zk:
        with zk.keep_proof() as proof:
            await proof.renew()
            start = trio.current_time()
            ensemble.expire(zk.session_id)
            await proof.wait_lapsed()
            assert trio.current_time() - start < 1.0


async def test_reads_and_pings_prove_nothing(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    async with ensemble.open(session_timeout=10.0) as zk:
        proof = zk.keep_proof()
        deadline = await proof.renew()
        ensemble.rules.append(every(Opcode.MULTI, Fault.IGNORE))
        for _ in range(20):
            await pass_time(1.0)
            await zk.get("/")
        assert proof.deadline == deadline


# A watch that nobody waits for ----------------------------------------------------------------------------------------


async def test_a_watch_that_nobody_waited_for_is_told_of_the_deletion(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    told: list[WatchedEvent] = []
    async with ensemble.open(chroot="/app", ensure_chroot=True) as zk:
        await zk.create("/a", ephemeral=True)
        zk.keep_proof().watch_deleted("/a", told.append)
        await settle()
        assert watched_by_server(ensemble.link, "/app/a")
        await zk.set("/a", b"changed")
        await zk.delete("/a")
    assert [(event.type, event.path) for event in told] == [(EventType.DELETED, "/a")]


async def test_a_znode_that_is_gone_is_told_as_deleted(ensemble: MemoryEnsemble, autojump_clock: MockClock) -> None:
    told: list[WatchedEvent] = []
    async with ensemble.open() as zk:
        zk.keep_proof().watch_deleted("/a", told.append)
        await settle()
        assert [(event.type, event.path) for event in told] == [(EventType.DELETED, "/a")]
        assert not watched_by_server(ensemble.link, "/a")


async def test_what_a_watch_that_nobody_waited_for_raises_is_logged(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: WatchedEvent) -> None:
        raise KeyError("mine")

    async with ensemble.open() as zk:
        zk.keep_proof().watch_deleted("/gone", fail)
        await settle()
        assert await zk.exists("/") is not None
    assert "a callback raised" in caplog.text


async def test_a_bad_argument_of_a_watch_that_nobody_waits_for_is_refused_at_once(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    async with ensemble.open() as zk:
        proof = zk.keep_proof()
        with pytest.raises(ValueError, match="invalid path 'a': it must start with '/'"):
            proof.watch_deleted("a", ignore)
        with pytest.raises(TypeError, match="watch must be a callable that takes a WatchedEvent, not 7"):
            proof.watch_deleted("/a", cast("Any", 7))
        await settle()
        assert await zk.exists("/") is not None


@pytest.mark.parametrize("fault", [Fault.CUT, Fault.DO_AND_CUT, Code(-127)])
async def test_a_watch_that_nobody_waited_for_is_asked_for_until_it_stands(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, fault: Fault | Code
) -> None:
    told: list[WatchedEvent] = []
    async with ensemble.open() as zk, ensemble.open() as other:
        await zk.create("/a")
        ensemble.rules.append(nth(1, Opcode.GET_CHILDREN, fault))
        zk.keep_proof().watch_deleted("/a", told.append)
        await pass_time(5.0)
        assert told == []
        await other.delete("/a")
        await settle()
        assert [event.type for event in told] == [EventType.DELETED]


@pytest.mark.parametrize("when", ["under way", "standing", "later"])
async def test_a_watch_that_nobody_waited_for_is_told_of_the_session_s_end(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, when: str
) -> None:
    told: list[WatchedEvent] = []
    async with ensemble.open(renew_session=False) as zk:
        await zk.create("/a")
        proof = zk.keep_proof()
        if when != "later":
            ensemble.rules += [every(Opcode.GET_CHILDREN, Fault.IGNORE)] if when == "under way" else []
            proof.watch_deleted("/a", told.append)
            await settle()
        ensemble.expire(zk.session_id)
        await until(lambda: zk.is_over)
        if when == "later":
            proof.watch_deleted("/a", told.append)
        await settle()
        assert [event.type for event in told] == [EventType.NONE]
