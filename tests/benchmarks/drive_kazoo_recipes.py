"""kazoo's side of the comparison of recipes: `python -m tests.benchmarks.drive_kazoo_recipes PLAN...`.

Decides how each workload is written with kazoo's recipes: a thread for each contender. Refuses to know other clients.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter_ns
from typing import Any

from kazoo.client import KazooClient
from kazoo.recipe.cache import TreeCache, TreeEvent

from .driving import Stopwatch, check_value, run_driver
from .recipe_workloads import LOCK_PATH, QUEUE_PATH, check_children, tree_groups, tree_path
from .workloads import VALUE, Plan

_SESSION_TIMEOUT = 30.0
_DEADLINE = 15.0
_READY_SECONDS_MAX = 120.0


def _one_at_a_time(operation: Callable[[], None], plan: Plan, stopwatch: Stopwatch) -> None:
    for _ in range(plan.warmup):
        operation()
    stopwatch.start()
    for _ in range(plan.operations):
        began = perf_counter_ns()
        operation()
        stopwatch.samples_ns.append(perf_counter_ns() - began)
    stopwatch.stop()


def _lock(client: Any, plan: Plan, stopwatch: Stopwatch) -> None:
    lock = client.Lock(LOCK_PATH)

    def acquire_and_release() -> None:
        with lock:
            pass

    _one_at_a_time(acquire_and_release, plan, stopwatch)


def _hand_around(client: Any, callers: int, turns: int, samples_ns: list[int]) -> None:
    inside = 0

    def contend(_: int) -> None:
        nonlocal inside
        lock = client.Lock(LOCK_PATH)
        for _ in range(turns):
            began = perf_counter_ns()
            with lock:
                samples_ns.append(perf_counter_ns() - began)
                inside += 1
                if inside != 1:
                    raise RuntimeError(f"{inside} threads own one lock")
                inside -= 1

    with ThreadPoolExecutor(callers) as pool:
        list(pool.map(contend, range(callers)))


def _contended_lock(client: Any, plan: Plan, stopwatch: Stopwatch) -> None:
    _hand_around(client, plan.callers, plan.warmup // plan.callers, [])
    stopwatch.start()
    _hand_around(client, plan.callers, plan.operations // plan.callers, stopwatch.samples_ns)
    stopwatch.stop()


def _queue(client: Any, plan: Plan, stopwatch: Stopwatch) -> None:
    queue = client.Queue(QUEUE_PATH)

    def put_and_get() -> None:
        queue.put(VALUE)
        check_value(queue.get(), VALUE)

    _one_at_a_time(put_and_get, plan, stopwatch)


def _make_tree(client: Any, znodes: int) -> None:
    if client.exists(tree_path(znodes)) is not None:
        return
    client.ensure_path(tree_path(znodes))
    handles: list[Any] = []
    for group, items in tree_groups(znodes).items():
        handles.append(client.create_async(group))
        handles += [client.create_async(item, VALUE) for item in items]
    for handle in handles:
        handle.get()


def _fill_cache(client: Any, znodes: int, stopwatch: Stopwatch) -> None:
    ready = threading.Event()
    cache = TreeCache(client, tree_path(znodes))

    def told(event: Any) -> None:
        if event.event_type == TreeEvent.INITIALIZED:
            ready.set()

    cache.listen(told)
    began = perf_counter_ns()
    stopwatch.start()
    cache.start()
    try:
        if not ready.wait(_READY_SECONDS_MAX):
            raise TimeoutError(f"the cache was not ready after {_READY_SECONDS_MAX:g} s")
        stopwatch.stop()
        stopwatch.samples_ns.append(perf_counter_ns() - began)
        for group, items in tree_groups(znodes).items():
            check_children(cache.get_children(group), items)
            last = cache.get_data(items[-1])
            check_value(last and last.data, VALUE)
    finally:
        cache.close()


def _tree_cache(client: Any, plan: Plan, stopwatch: Stopwatch) -> None:
    for znodes in (plan.warmup, plan.operations):
        _make_tree(client, znodes)
    _fill_cache(client, plan.warmup, Stopwatch())
    for _ in range(plan.batches):
        _fill_cache(client, plan.operations, stopwatch)


_WORKLOADS: dict[str, Callable[[Any, Plan, Stopwatch], None]] = {
    "lock": _lock,
    "lock-contended": _contended_lock,
    "queue": _queue,
    "tree-cache": _tree_cache,
}


def _work(plan: Plan, stopwatch: Stopwatch) -> None:
    client = KazooClient(plan.hosts, timeout=_SESSION_TIMEOUT)
    client.start(timeout=_DEADLINE)
    try:
        _WORKLOADS[plan.workload](client, plan, stopwatch)
    finally:
        client.stop()
        client.close()


if __name__ == "__main__":
    run_driver(_work)
