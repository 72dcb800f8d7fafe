"""One whole use of each recipe, for tests that ask the same of all of them. Decides what a use is, and knows no test.

A use works below `/p` and checks its own results. `parents` are the znodes under which it keeps others: a server may
take them away whenever they are empty, if they are containers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any, NamedTuple

import trio

from terzetto.client import ConnectionLoss, NodeExistsError, NoNodeError, ZooKeeper
from terzetto.recipes import (
    AtomicLong,
    Barrier,
    ChildrenWatch,
    ConfigTreeWatcher,
    ConfigWatcher,
    Counter,
    DataWatch,
    DelayQueue,
    DoubleBarrier,
    Election,
    GroupMember,
    LeaderLatch,
    LeaderSelector,
    Lock,
    LockingQueue,
    MultiLock,
    MultiNonBlockingLease,
    NonBlockingLease,
    Ownership,
    Party,
    PatientChildrenWatch,
    PersistentNode,
    PersistentTtlNode,
    PriorityQueue,
    Queue,
    ReadLock,
    Semaphore,
    SemaphoreMutex,
    ServiceInstance,
    ServiceRegistry,
    SetPartitioner,
    ShallowParty,
    SharedCount,
    SharedValue,
    TreeCache,
    TreeEvent,
    WriteLock,
    ZnodeCache,
)

MINUTE = timedelta(minutes=1)

Make = Callable[[ZooKeeper], AbstractAsyncContextManager[Any]]
"""Makes something to be entered."""


class Use(NamedTuple):
    """A use of a recipe.

    Attributes:
        recipe: its class.
        work: uses it, and checks what came out of it.
        parents: see the module.
        keeps: what may be there afterwards, beside the parents.
    """

    recipe: Any
    work: Callable[[ZooKeeper], Awaitable[None]]
    parents: tuple[str, ...]
    keeps: tuple[str, ...] = ()


async def put(zk: ZooKeeper, path: str, data: bytes = b"") -> None:
    """What somebody else writes, whose parents may vanish too and whose requests may be lost."""
    while True:
        try:
            await zk.create(path, data, makepath=True)
            return
        except (NoNodeError, ConnectionLoss):
            continue
        except NodeExistsError:
            return


async def take_away(zk: ZooKeeper, path: str) -> None:
    """What somebody else deletes."""
    while True:
        try:
            await zk.delete(path)
            return
        except ConnectionLoss:
            continue
        except NoNodeError:
            return


def owned_twice(make: Make) -> Callable[[ZooKeeper], Awaitable[None]]:
    """Owns something, gives it back, and owns it again."""

    async def work(zk: ZooKeeper) -> None:
        for _ in range(2):
            async with make(zk) as held:
                held.check()
                await held.assert_owned()

    return work


async def _lead_by_latch(zk: ZooKeeper) -> None:
    async with LeaderLatch(zk, "/p/l", "me") as latch, latch.leading() as held:
        assert await latch.participants() == ["me"]
        await held.assert_owned()


async def _take_turns(zk: ZooKeeper) -> None:
    terms = 0

    async def lead(held: Ownership) -> None:
        nonlocal terms
        terms += 1
        held.check()
        if terms == 2:
            scope.cancel()

    with trio.CancelScope() as scope:
        await LeaderSelector(zk, "/p/e", container=True).take_turns(lead)
    assert terms == 2


async def _run_once(zk: ZooKeeper) -> None:
    assert await Election(zk, "/p/e", "me", container=True).run(lambda: "led") == "led"


async def _lease(zk: ZooKeeper) -> None:
    lease = NonBlockingLease(zk, "/p/l", MINUTE, "me")
    assert await lease.obtain()
    token = lease.fencing_token
    assert token is not None
    assert await lease.obtain()
    assert (lease.fencing_token or 0) > token


async def _lease_one_of_two(zk: ZooKeeper) -> None:
    first, second = (MultiNonBlockingLease(zk, 2, "/p/l", MINUTE, name) for name in ("me", "you"))
    assert await first.obtain()
    assert await second.obtain()


async def _pass_barrier(zk: ZooKeeper) -> None:
    barrier = Barrier(zk, "/p/b")
    await barrier.create()
    assert await barrier.wait(timeout=0.1) is False
    assert await barrier.remove() is True
    assert await barrier.wait() is True


async def _begin_and_end_together(zk: ZooKeeper) -> None:
    inside = 0

    async def take_part() -> None:
        nonlocal inside
        async with DoubleBarrier(zk, "/p/b", 2):
            inside += 1
            # Whoever is let through knows that the other one has come: the barrier may fall again by then.

    for _ in range(2):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(take_part)
            nursery.start_soon(take_part)
    assert inside == 4


async def _count(zk: ZooKeeper) -> None:
    counter = Counter(zk, "/p/c")
    assert await counter.add(2) == 2
    assert await counter.subtract(1) == 1


async def _count_long(zk: ZooKeeper) -> None:
    number = AtomicLong(zk, "/p/n", "/p/lock", attempts=0)
    assert (await number.add(2)).post_value == 2
    assert (await number.increment()).post_value == 3


async def _share_bytes(zk: ZooKeeper) -> None:
    async with SharedValue(zk, "/p/v", b"seed") as shared:
        assert shared.value == b"seed"
        await shared.set(b"new")
        assert shared.value == b"new"


async def _share_count(zk: ZooKeeper) -> None:
    async with SharedCount(zk, "/p/v", 5) as shared:
        assert await shared.update(lambda value: value + 1) == 6


async def _queue(zk: ZooKeeper) -> None:
    queue = Queue(zk, "/p/q")
    for _ in range(2):
        await queue.put(b"later")
        await queue.put(b"first", 1)
        assert await queue.get() == b"first"
        assert await queue.get() == b"later"
        assert await queue.get() is None


async def _hold_items(zk: ZooKeeper) -> None:
    queue = LockingQueue(zk, "/p/q")
    for value in (b"one", b"two"):
        await queue.put(value)
        assert await queue.get(timeout=60) == value
        assert await queue.holds_lock()
        assert await queue.consume()
    assert await queue.get(timeout=0.1) is None


async def _work_by_priority(zk: ZooKeeper) -> None:
    queue = PriorityQueue(zk, "/p/q", "/p/claims")
    for _ in range(2):
        await queue.put(b"later", 5)
        await queue.put(b"first", -5)
        assert await queue.get(timeout=60) == b"first"
        async with queue.claim() as item:
            assert item.value == b"later"
        assert await queue.qsize() == 0


async def _work_when_due(zk: ZooKeeper) -> None:
    queue = DelayQueue(zk, "/p/q", "/p/claims")
    await queue.put(b"one")
    async with queue.claim() as item:
        item.requeue()
    assert await queue.get(timeout=60) == b"one"
    assert await queue.qsize() == 0


async def _join(zk: ZooKeeper) -> None:
    async with Party(zk, "/p/m", "me") as party:
        assert await party.members() == ["me"]
        await party.leave()
        assert await party.members() == []
        await party.join()
        assert await party.count() == 1


async def _join_shallow(zk: ZooKeeper) -> None:
    async with ShallowParty(zk, "/p/m", "me") as party:
        assert await party.members() == ["me"]


async def _belong(zk: ZooKeeper) -> None:
    async with GroupMember(zk, "/p/g", "me", b"1") as group:
        async for members in group.changes():
            if members == {"me": b"1"}:
                break


async def _keep(zk: ZooKeeper) -> None:
    async with PersistentNode(zk, "/p/x/n", b"1") as node:
        await node.set_data(b"2")
        assert (await zk.get("/p/x/n"))[0] == b"2"


async def _keep_for_a_time(zk: ZooKeeper) -> None:
    async with PersistentTtlNode(zk, "/p/n", 10.0, b"1"):
        assert (await zk.get("/p/n"))[0] == b"1"
        assert await zk.exists("/p/n/touch") is not None


async def _register(zk: ZooKeeper) -> None:
    registry = ServiceRegistry(zk, "/p/s")
    async with registry.provider("web") as provider, registry.register(ServiceInstance("web", "a", "h", 1)):
        assert (await provider.wait_instance()).id == "a"
        assert [instance.id for instance in await registry.instances("web")] == ["a"]


async def _follow_configuration(zk: ZooKeeper) -> None:
    async with ConfigWatcher(zk, "/p/c", int, default=1, serialize=lambda value: str(value).encode()) as config:
        assert await config.update(lambda value: value + 1) == 2
        async for value in config:
            if value == 2:
                break


async def _follow_layers(zk: ZooKeeper) -> None:
    async with ConfigTreeWatcher(zk, ["/p/c", "/p/d"], int) as config:
        assert config.value == {}
        await put(zk, "/p/d/a", b"2")
        async for value in config:
            if value == {"a": 2}:
                break
        await take_away(zk, "/p/d/a")


async def _watch_data(zk: ZooKeeper) -> None:
    async with DataWatch(zk, "/p/a") as changes:
        assert (await anext(changes)).data is None
        await put(zk, "/p/a", b"1")
        while (await anext(changes)).data != b"1":
            pass
    await take_away(zk, "/p/a")


async def _watch_children(zk: ZooKeeper) -> None:
    async with ChildrenWatch(zk, "/p/a") as changes:
        await put(zk, "/p/a/b")
        while (await anext(changes)).children != ["b"]:
            pass
    await take_away(zk, "/p/a/b")


async def _watch_patiently(zk: ZooKeeper) -> None:
    await put(zk, "/p/a/b")
    async with PatientChildrenWatch(zk, "/p/a", 1) as watch:
        assert (await watch.start())[0] == ["b"]
    await take_away(zk, "/p/a/b")


async def _cache(zk: ZooKeeper) -> None:
    async with ZnodeCache(zk, "/p/c") as cache:
        changes = cache.changes()
        await put(zk, "/p/c/a", b"1")
        while cache.get("/p/c/a") is None:
            await anext(changes)
        assert cache.children("/p/c") == {"a"}
    await take_away(zk, "/p/c/a")


async def _cache_as_kazoo(zk: ZooKeeper) -> None:
    added = trio.Event()
    cache = TreeCache(zk, "/p/c")

    def listener(event: TreeEvent) -> None:
        if event.event_data is not None and event.event_data.path == "/p/c/a":
            added.set()

    cache.listen(listener)
    async with cache:
        await put(zk, "/p/c/a", b"1")
        await added.wait()
        assert cache.get_children("/p/c") == frozenset({"a"})
    await take_away(zk, "/p/c/a")


async def _divide(zk: ZooKeeper) -> None:
    async with SetPartitioner(zk, "/p/s", ("a", "b"), identifier="me", time_boundary=0.1) as partitioner:
        for _ in range(2):
            async with partitioner.hold() as partition:
                assert partition.items == ("a", "b")
            await partitioner.release_set()


USES: dict[str, Use] = {
    "lock": Use(Lock, owned_twice(lambda zk: Lock(zk, "/p/l", container=True)), ("/p/l",)),
    "lock, Curator's": Use(Lock, owned_twice(lambda zk: Lock(zk, "/p/l", layout="curator")), ("/p/l",)),
    "reader": Use(ReadLock, owned_twice(lambda zk: ReadLock(zk, "/p/l", layout="curator")), ("/p/l",)),
    "writer": Use(WriteLock, owned_twice(lambda zk: WriteLock(zk, "/p/l", layout="curator")), ("/p/l",)),
    "semaphore": Use(Semaphore, owned_twice(lambda zk: Semaphore(zk, "/p/s")), ("/p/s", "/p/s-__lock__")),
    "semaphore, Curator's": Use(
        Semaphore,
        owned_twice(lambda zk: Semaphore(zk, "/p/s", layout="curator")),
        ("/p/s/locks", "/p/s/leases", "/p/s"),
    ),
    "semaphore mutex": Use(
        SemaphoreMutex, owned_twice(lambda zk: SemaphoreMutex(zk, "/p/s")), ("/p/s/locks", "/p/s/leases", "/p/s")
    ),
    "multi-lock": Use(
        MultiLock, owned_twice(lambda zk: MultiLock([Lock(zk, "/p/l"), Lock(zk, "/p/m")])), ("/p/l", "/p/m")
    ),
    "election": Use(Election, _run_once, ("/p/e",)),
    "selector": Use(LeaderSelector, _take_turns, ("/p/e",)),
    "latch": Use(LeaderLatch, _lead_by_latch, ("/p/l",)),
    "lease": Use(NonBlockingLease, _lease, ("/p/l",), ("/p/l/lease_holder",)),
    "leases": Use(
        MultiNonBlockingLease,
        _lease_one_of_two,
        ("/p/l/0", "/p/l/1", "/p/l"),
        ("/p/l/0/lease_holder", "/p/l/1/lease_holder"),
    ),
    "barrier": Use(Barrier, _pass_barrier, ()),
    "double barrier": Use(DoubleBarrier, _begin_and_end_together, ("/p/b",)),
    "counter": Use(Counter, _count, (), ("/p/c",)),
    "atomic long": Use(AtomicLong, _count_long, ("/p/lock",), ("/p/n",)),
    "shared value": Use(SharedValue, _share_bytes, (), ("/p/v",)),
    "shared count": Use(SharedCount, _share_count, (), ("/p/v",)),
    "queue": Use(Queue, _queue, ("/p/q",)),
    "locking queue": Use(LockingQueue, _hold_items, ("/p/q/entries", "/p/q/taken", "/p/q")),
    "priority queue": Use(PriorityQueue, _work_by_priority, ("/p/q", "/p/claims")),
    "delay queue": Use(DelayQueue, _work_when_due, ("/p/q", "/p/claims")),
    "party": Use(Party, _join, ("/p/m",)),
    "shallow party": Use(ShallowParty, _join_shallow, ("/p/m",)),
    "group": Use(GroupMember, _belong, ("/p/g",)),
    "persistent znode": Use(PersistentNode, _keep, ("/p/x",)),
    "persistent TTL znode": Use(PersistentTtlNode, _keep_for_a_time, (), ("/p/n", "/p/n/touch")),
    "set partitioner": Use(
        SetPartitioner, _divide, ("/p/s/locks/a", "/p/s/locks/b", "/p/s/locks", "/p/s/party", "/p/s")
    ),
    "registry": Use(ServiceRegistry, _register, ("/p/s/web", "/p/s")),
    "configuration": Use(ConfigWatcher, _follow_configuration, (), ("/p/c",)),
    "layers": Use(ConfigTreeWatcher, _follow_layers, ("/p/c", "/p/d")),
    "data watch": Use(DataWatch, _watch_data, ()),
    "children watch": Use(ChildrenWatch, _watch_children, ("/p/a",)),
    "patient watch": Use(PatientChildrenWatch, _watch_patiently, ("/p/a",)),
    "cache": Use(ZnodeCache, _cache, ("/p/c",)),
    "tree cache": Use(TreeCache, _cache_as_kazoo, ("/p/c",)),
}
