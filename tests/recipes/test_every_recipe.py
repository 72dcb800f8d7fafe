"""What holds for every recipe at once: each is asked all the questions; no release wakes a herd; tokens always grow."""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import terzetto.recipes
from terzetto.client import ConnectionLoss, SessionExpiredError, ZooKeeper
from terzetto.recipes import (
    Election,
    LeaderLatch,
    LeaderSelector,
    Lock,
    MultiLock,
    NonBlockingLease,
    Ownership,
    OwnershipLost,
    ReadLock,
    Semaphore,
    SemaphoreMutex,
    ServiceInstance,
    WriteLock,
)
from tests.client.memory_server import MemoryEnsemble, settle

from .catalogue import USES, Make
from .losing import losses
from .walking import at_rest, tree, walk

# Names that stand for no recipe: what recipes take, give, raise, or are made of.
NO_RECIPES = {
    "AtomicChange", "CachedZnode", "ChangeKind", "Choice", "ClaimedItem", "ConfigParseError", "DelayedItem",
    "GuardedTransaction", "HeldItem", "ItemFormatError", "LayoutConflictError", "MultiOwnership", "NodeData",
    "Ownership", "OwnershipLost", "Partition", "PartitionState", "PriorityItem", "RandomChoice", "RoundRobinChoice",
    "ServiceInstance", "ServiceType", "StickyChoice", "TreeEvent", "Versioned", "WatchedChildren", "WatchedData",
    "WeightedChoice", "WriterOwnership", "ZnodeChange", "ZnodeChangeStream", "revoke", "wait_revoked",
}  # fmt: skip
# Made by another recipe, under whose name they are used.
MADE_BY = {"Registration": "ServiceRegistry", "ServiceProvider": "ServiceRegistry"}
RECIPES = sorted(set(terzetto.recipes.__all__) - NO_RECIPES - set(MADE_BY))


# Every recipe is asked every question ---------------------------------------------------------------------------------


def test_every_recipe_has_a_use() -> None:
    assert {use.recipe.__name__ for use in USES.values()} == set(RECIPES)


@cache
def _modules() -> list[ast.Module]:
    return [ast.parse(file.read_text(encoding="utf-8")) for file in Path(__file__).parent.glob("test_*.py")]


def _names(node: ast.AST, definitions: dict[str, ast.AST], seen: set[str]) -> Iterator[str]:
    """Names in a definition, and in the module's other definitions that it leads to."""
    for part in ast.walk(node):
        if isinstance(part, ast.Name) and part.id not in seen:
            seen.add(part.id)
            yield part.id
            if part.id in definitions:
                yield from _names(definitions[part.id], definitions, seen)


def _used_with(function: str) -> set[str]:
    """What tests use that call a function: `walk` or `losses`."""
    used = set[str]()
    for module in _modules():
        definitions: dict[str, ast.AST] = {}
        for node in module.body:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                definitions[node.name] = node
            for target in node.targets if isinstance(node, ast.Assign) else ():
                definitions |= {name.id: node for name in ast.walk(target) if isinstance(name, ast.Name)}
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                definitions[node.target.id] = node
        for name, definition in definitions.items():
            if name.startswith("test_") and function in (names := set(_names(definition, definitions, set()))):
                used |= names
    return used


# Uses of the catalogue whose recipes' own tests do not do it.
CANCELLED = ("delay queue", "leases", "semaphore mutex", "shallow party", "shared value")
INTERRUPTED = (*CANCELLED, "patient watch", "selector")


@pytest.mark.parametrize(("function", "here"), [("walk", CANCELLED), ("losses", INTERRUPTED)])
def test_every_recipe_is_cancelled_and_interrupted_everywhere(function: str, here: tuple[str, ...]) -> None:
    """Each stands in a test that cancels it at every checkpoint, and in one that loses every request and reply."""
    assert not _used_with(f"{function}_by_another_name")
    missing = set(RECIPES) - _used_with(function) - {USES[name].recipe.__name__ for name in here}
    assert not missing, f"no test gives them to {function}(): {sorted(missing)}"


@pytest.mark.parametrize("name", CANCELLED)
async def test_cancelled_at_each_checkpoint_it_leaves_nothing(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, name: str
) -> None:
    use = USES[name]
    steps = await walk(
        ensemble,
        use.work,
        leaves={"/p", *use.parents, *use.keeps},
        may_leave=lambda path: path.startswith("/p/q/queue-"),  # items that were put and not yet taken
        raises=(OwnershipLost, SessionExpiredError, ConnectionLoss),
    )
    assert steps > 5


@pytest.mark.parametrize("name", INTERRUPTED)
async def test_a_lost_request_or_reply_does_no_harm(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, name: str
) -> None:
    use = USES[name]
    async for loss in losses(ensemble):
        with trio.fail_after(600):
            async with ensemble.open() as zk:
                await use.work(zk)
                await at_rest(zk)
                left = tree(ensemble) - {"/p", *use.parents, *use.keeps}
                assert not left, f"{sorted(left)}: {loss}"


def test_what_is_no_recipe_is_one_no_more() -> None:
    """The lists above name nothing that is gone; everything else that is exported is asked."""
    assert set(terzetto.recipes.__all__) >= NO_RECIPES | set(MADE_BY)
    assert all(inspect.isclass(getattr(terzetto.recipes, name)) for name in RECIPES)


# No herd --------------------------------------------------------------------------------------------------------------

WAITERS = 200

# What a waiter enters; how many wait; how many may be told of a release: the owner's own watch and the next one's, and
# where there is a gate the one that waits for room in it, and the two of the gate's own hand-over. Locks: in
# `test_contenders`.
HERDS: dict[str, tuple[Make, int, int]] = {
    "writers": (lambda zk: WriteLock(zk, "/a"), WAITERS, 2),
    "writers, Curator's": (lambda zk: WriteLock(zk, "/a", layout="curator"), 20, 2),
    "multi-locks": (lambda zk: MultiLock([Lock(zk, "/a"), Lock(zk, "/b")]), 20, 4),
    "elections": (lambda zk: Election(zk, "/a"), 20, 2),
    "selectors": (lambda zk: LeaderSelector(zk, "/a"), 20, 2),
    "latches": (lambda zk: LeaderLatch(zk, "/a"), WAITERS, 2),
    "semaphores": (lambda zk: Semaphore(zk, "/a"), 100, 5),
    "semaphores, Curator's": (lambda zk: Semaphore(zk, "/a", layout="curator"), 20, 5),
    "semaphore mutexes": (lambda zk: SemaphoreMutex(zk, "/a"), 20, 5),
}


@pytest.mark.parametrize("name", HERDS)
async def test_curator_20_a_release_wakes_one_of_many(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, told: list[str], name: str
) -> None:
    make, waiters, most = HERDS[name]
    ends: list[trio.CancelScope] = []
    inside: list[int] = []

    async def contend(number: int) -> None:
        with trio.CancelScope() as scope:
            ends.append(scope)
            async with ensemble.open() as zk, make(zk) as entered:
                if isinstance(entered, LeaderLatch):
                    await entered.wait_leadership()
                inside.append(number)
                await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        for number in range(waiters + 1):
            nursery.start_soon(contend, number)
            await settle()
        assert inside == [0]
        for number in range(2):
            told.clear()
            ends[number].cancel()
            await settle()
            assert inside == list(range(number + 2))
            assert 1 <= len(told) <= most, told
        nursery.cancel_scope.cancel()


async def test_a_writer_s_release_tells_each_reader_once_and_no_writer(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, told: list[str]
) -> None:
    """All readers behind a writer wait for it, each with one watch; who waits for one of them is not told."""
    readers: list[ReadLock] = []
    async with ensemble.open() as owner, trio.open_nursery() as nursery:

        async def read() -> None:
            async with ensemble.open() as zk:
                readers.append(ReadLock(zk, "/a"))
                await readers[-1].acquire()
                await trio.sleep_forever()

        async with WriteLock(owner, "/a"):
            for _ in range(100):
                nursery.start_soon(read)
                await settle()
            last = WriteLock(owner, "/a")
            nursery.start_soon(last.acquire)
            await settle()
            told.clear()
        await settle()
        assert all(reader.is_acquired for reader in readers)
        assert len(set(told)) == 1
        assert len(told) == 100 + 1, "one watch of each reader, and the owner's own"
        assert not last.is_acquired
        nursery.cancel_scope.cancel()


# Fencing tokens -------------------------------------------------------------------------------------------------------


async def _token_of_a_term(zk: ZooKeeper) -> Ownership:
    async with LeaderLatch(zk, "/a") as latch:
        return await latch.wait_leadership()


async def _token_of_a_turn(zk: ZooKeeper) -> Ownership:
    led: list[Ownership] = []
    with trio.CancelScope() as scope:

        async def lead(held: Ownership) -> None:
            led.append(held)
            scope.cancel()

        await LeaderSelector(zk, "/a").take_turns(lead)
    return led[0]


def _owned(make: Make) -> Callable[[ZooKeeper], Awaitable[Ownership]]:
    async def own(zk: ZooKeeper) -> Ownership:
        async with make(zk) as held:
            owned: Ownership = held
        return owned

    return own


TOKENS: dict[str, Callable[[ZooKeeper], Awaitable[Ownership]]] = {
    "lock": _owned(lambda zk: Lock(zk, "/a", container=True)),
    "lock, Curator's": _owned(lambda zk: Lock(zk, "/a", layout="curator")),
    "writer": _owned(lambda zk: WriteLock(zk, "/a", container=True)),
    "writer, Curator's": _owned(lambda zk: WriteLock(zk, "/a", layout="curator")),
    "semaphore mutex": _owned(lambda zk: SemaphoreMutex(zk, "/a")),
    "election": _owned(lambda zk: Election(zk, "/a", container=True)),
    "selector": _token_of_a_turn,
    "latch": _token_of_a_term,
}


@pytest.mark.parametrize("name", TOKENS)
async def test_tokens_grow_although_the_numbers_begin_anew(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, name: str
) -> None:
    owned: list[Ownership] = []
    async with ensemble.open() as one, ensemble.open() as other:
        for turn in range(6):
            owned.append(await TOKENS[name](one if turn % 2 else other))
            if turn % 2:
                await at_rest(one)
                await at_rest(other)
                # The servers reap empty containers, and with them the counters of sequential znodes.
                for path in ("/a/leases", "/a/locks", "/a"):
                    if path in ensemble.realm.znodes:
                        ensemble.realm.delete(path)
    tokens = [held.fencing_token for held in owned]
    assert None not in tokens
    assert tokens == sorted(set(tokens), key=lambda token: token or 0)
    assert [held.znode[-10:] for held in owned] == ["0000000000", "0000000001"] * 3


async def test_tokens_of_all_parts_grow_although_the_numbers_begin_anew(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    seen: list[int] = []
    async with ensemble.open() as zk:
        for _ in range(4):
            async with MultiLock([Lock(zk, "/a"), Lock(zk, "/b")]) as held:
                tokens = list(held.fencing_tokens.values())
                assert None not in tokens
                assert min(token or 0 for token in tokens) > max(seen, default=0)
                seen += [token or 0 for token in tokens]
            ensemble.realm.delete("/a")
            ensemble.realm.delete("/b")


async def test_tokens_of_leases_grow_although_the_znode_vanished(
    ensemble: MemoryEnsemble, autojump_clock: MockClock
) -> None:
    tokens: list[int] = []
    async with ensemble.open() as zk:
        for turn in range(6):
            lease = NonBlockingLease(zk, "/a", timedelta(minutes=1), "me")
            assert await lease.obtain()
            tokens.append(lease.fencing_token or 0)
            if turn % 2:
                ensemble.realm.delete("/a/lease_holder")
                ensemble.realm.delete("/a")
    assert tokens == sorted(set(tokens))
    assert tokens[0] > 0


ONE_OF_MANY: list[Make] = [lambda zk: ReadLock(zk, "/a"), lambda zk: Semaphore(zk, "/a")]


@pytest.mark.parametrize("make", ONE_OF_MANY)
async def test_who_is_one_of_many_has_no_token(ensemble: MemoryEnsemble, autojump_clock: MockClock, make: Make) -> None:
    async with ensemble.open() as zk, make(zk) as held:
        assert held.fencing_token is None


@pytest.mark.parametrize("name", USES)
async def test_below_a_chroot_it_is_the_same(ensemble: MemoryEnsemble, autojump_clock: MockClock, name: str) -> None:
    use = USES[name]
    async with ensemble.open() as zk:
        await zk.ensure_path("/a/root")
        before = await at_rest(zk)
        await use.work(zk.with_chroot("/a/root"))
        assert await at_rest(zk) == before
        kept = {f"/a/root{path}" for path in ("", "/p", *use.parents, *use.keeps)}
        assert tree(ensemble) <= {"/a", *kept}


# What else each takes that it does not make up itself.
GIVEN: dict[str, Any] = {
    "path": "/a",
    "paths": ["/a"],
    "base_path": "/a",
    "parse": json.loads,
    "num_clients": 2,
    "member_id": "me",
    "count": 2,
    "duration": timedelta(minutes=1),
    "ttl": 60.0,
    "instance": ServiceInstance("web", "1"),
    "name": "web",
    "set": ["part"],
    "seed": b"",
}


@pytest.mark.parametrize("name", [*sorted(set(RECIPES) - {"MultiLock"}), *MADE_BY])
async def test_what_is_no_client_is_named_at_once(name: str) -> None:
    recipe = getattr(terzetto.recipes, name)
    required = [
        parameter
        for parameter in inspect.signature(recipe).parameters.values()
        if parameter.default is parameter.empty and parameter.name != "client"
    ]
    arguments = {parameter.name: GIVEN[parameter.name] for parameter in required}
    with pytest.raises(TypeError, match=r"client must be what open_zookeeper\(\) gives.*not str: '127\.0\.0\.1:2181'"):
        recipe("127.0.0.1:2181", **arguments)
