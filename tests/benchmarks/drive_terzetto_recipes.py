"""terzetto's side of the comparison of recipes: `python -m tests.benchmarks.drive_terzetto_recipes PLAN...`.

Decides how each workload is written with terzetto's recipes: a task for each contender, nothing tuned. Refuses to know
other clients.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from time import perf_counter_ns

import trio

from terzetto.client import ZooKeeper, open_zookeeper
from terzetto.recipes import Lock, Queue, TreeCache

from .driving import Stopwatch, check_value, run_driver
from .recipe_workloads import LOCK_PATH, QUEUE_PATH, check_children, tree_groups, tree_path
from .workloads import VALUE, Plan

_SESSION_TIMEOUT = 30.0
_DEADLINE = 15.0

_Run = Callable[[ZooKeeper, Plan, Stopwatch], Awaitable[None]]


async def _one_at_a_time(operation: Callable[[], Awaitable[None]], plan: Plan, stopwatch: Stopwatch) -> None:
    for _ in range(plan.warmup):
        await operation()
    stopwatch.start()
    for _ in range(plan.operations):
        began = perf_counter_ns()
        await operation()
        stopwatch.samples_ns.append(perf_counter_ns() - began)
    stopwatch.stop()


async def _lock(zk: ZooKeeper, plan: Plan, stopwatch: Stopwatch) -> None:
    lock = Lock(zk, LOCK_PATH)

    async def acquire_and_release() -> None:
        async with lock:
            pass

    await _one_at_a_time(acquire_and_release, plan, stopwatch)


async def _hand_around(zk: ZooKeeper, callers: int, turns: int, samples_ns: list[int]) -> None:
    inside = 0

    async def contend() -> None:
        nonlocal inside
        lock = Lock(zk, LOCK_PATH)
        for _ in range(turns):
            began = perf_counter_ns()
            async with lock:
                samples_ns.append(perf_counter_ns() - began)
                inside += 1
                if inside != 1:
                    raise RuntimeError(f"{inside} tasks own one lock")
                inside -= 1

    async with trio.open_nursery() as nursery:
        for _ in range(callers):
            nursery.start_soon(contend)


async def _contended_lock(zk: ZooKeeper, plan: Plan, stopwatch: Stopwatch) -> None:
    await _hand_around(zk, plan.callers, plan.warmup // plan.callers, [])
    stopwatch.start()
    await _hand_around(zk, plan.callers, plan.operations // plan.callers, stopwatch.samples_ns)
    stopwatch.stop()


async def _queue(zk: ZooKeeper, plan: Plan, stopwatch: Stopwatch) -> None:
    queue = Queue(zk, QUEUE_PATH)

    async def put_and_get() -> None:
        await queue.put(VALUE)
        check_value(await queue.get(), VALUE)

    await _one_at_a_time(put_and_get, plan, stopwatch)


async def _make_tree(zk: ZooKeeper, znodes: int) -> None:
    if await zk.exists(tree_path(znodes)) is not None:
        return
    groups = tree_groups(znodes)
    await zk.ensure_path(tree_path(znodes))
    async with zk.pipeline() as pipeline:
        for group, items in groups.items():
            await pipeline.create(group)
            for item in items:
                await pipeline.create(item, VALUE)


async def _fill_cache(zk: ZooKeeper, znodes: int, stopwatch: Stopwatch) -> None:
    began = perf_counter_ns()
    stopwatch.start()
    async with TreeCache(zk, tree_path(znodes)) as cache:
        stopwatch.stop()
        stopwatch.samples_ns.append(perf_counter_ns() - began)
        for group, items in tree_groups(znodes).items():
            check_children(cache.get_children(group), items)
            last = cache.get_data(items[-1])
            check_value(last and last.data, VALUE)


async def _tree_cache(zk: ZooKeeper, plan: Plan, stopwatch: Stopwatch) -> None:
    for znodes in (plan.warmup, plan.operations):
        await _make_tree(zk, znodes)
    await _fill_cache(zk, plan.warmup, Stopwatch())
    for _ in range(plan.batches):
        await _fill_cache(zk, plan.operations, stopwatch)


_WORKLOADS: dict[str, _Run] = {
    "lock": _lock,
    "lock-contended": _contended_lock,
    "queue": _queue,
    "tree-cache": _tree_cache,
}


async def _work_in_trio(plan: Plan, stopwatch: Stopwatch) -> None:
    async with open_zookeeper(plan.hosts, session_timeout=_SESSION_TIMEOUT, connect_timeout=_DEADLINE) as zk:
        await _WORKLOADS[plan.workload](zk, plan, stopwatch)


def _work(plan: Plan, stopwatch: Stopwatch) -> None:
    trio.run(partial(_work_in_trio, plan, stopwatch))


if __name__ == "__main__":
    run_driver(_work)
