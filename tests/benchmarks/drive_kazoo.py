"""kazoo's side of the comparison: `python -m tests.benchmarks.drive_kazoo PLAN...`.

Decides how each workload is written with kazoo: a thread for each caller, `..._async` for what is pipelined. Refuses to
know other clients.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter_ns
from typing import Any

from kazoo.client import KazooClient
from kazoo.exceptions import NodeExistsError

from .driving import Stopwatch, check_value, run_driver
from .workloads import CHILD, PATH, VALUE, Plan

_SESSION_TIMEOUT = 30.0
_DEADLINE = 15.0


def _connect(plan: Plan) -> Any:
    client = KazooClient(plan.hosts, timeout=_SESSION_TIMEOUT)
    client.start(timeout=_DEADLINE)
    return client


def _read(client: Any) -> None:
    value, _ = client.get(PATH)
    check_value(value, VALUE)


def _write(client: Any) -> None:
    client.set(PATH, VALUE)


def _one_at_a_time(operation: Callable[[Any], None]) -> Callable[[Any, Plan, Stopwatch], None]:
    def run(client: Any, plan: Plan, stopwatch: Stopwatch) -> None:
        for _ in range(plan.warmup):
            operation(client)
        stopwatch.start()
        for _ in range(plan.operations):
            began = perf_counter_ns()
            operation(client)
            stopwatch.samples_ns.append(perf_counter_ns() - began)
        stopwatch.stop()

    return run


def _concurrent(client: Any, plan: Plan, stopwatch: Stopwatch) -> None:
    gate = threading.Barrier(plan.callers + 1)

    def call() -> None:
        gate.wait()
        for _ in range(plan.operations // plan.callers):
            began = perf_counter_ns()
            _read(client)
            stopwatch.samples_ns.append(perf_counter_ns() - began)

    for _ in range(plan.warmup):
        _read(client)
    with ThreadPoolExecutor(plan.callers) as pool:
        callers = [pool.submit(call) for _ in range(plan.callers)]
        stopwatch.start()
        gate.wait()
        for caller in callers:
            caller.result()
        stopwatch.stop()


def _submit_read(client: Any) -> Any:
    return client.get_async(PATH)


def _submit_write(client: Any) -> Any:
    return client.set_async(PATH, VALUE)


def _submit_create(client: Any) -> Any:
    return client.create_async(CHILD, VALUE, ephemeral=True, sequence=True)


def _check_read(result: Any) -> None:
    check_value(result[0], VALUE)


def _check_nothing(result: Any) -> None:
    """The result was there, and no error; that is all there is to say of a write."""


def _pipelined(submit: Callable[[Any], Any], check: Callable[[Any], None]) -> Callable[[Any, Plan, Stopwatch], None]:
    def batch(client: Any, size: int) -> None:
        handles = [submit(client) for _ in range(size)]
        for handle in handles:
            check(handle.get())

    def run(client: Any, plan: Plan, stopwatch: Stopwatch) -> None:
        batch(client, plan.warmup)
        for _ in range(plan.batches):
            began = perf_counter_ns()
            stopwatch.start()
            batch(client, plan.operations)
            stopwatch.stop()
            stopwatch.samples_ns.append(perf_counter_ns() - began)

    return run


def _watch(watching: Any, plan: Plan, stopwatch: Stopwatch) -> None:
    setting = _connect(plan)
    arrived = threading.Event()
    arrived_at = 0

    def changed(_: Any) -> None:
        nonlocal arrived_at
        arrived_at = perf_counter_ns()
        arrived.set()

    def deliver_once() -> int:
        arrived.clear()
        watching.get(PATH, watch=changed)
        began = perf_counter_ns()
        _write(setting)
        if not arrived.wait(_DEADLINE):
            raise TimeoutError("the watch was not told")
        return arrived_at - began

    try:
        for _ in range(plan.warmup):
            deliver_once()
        stopwatch.start()
        for _ in range(plan.operations):
            stopwatch.samples_ns.append(deliver_once())
        stopwatch.stop()
    finally:
        setting.stop()
        setting.close()


_WORKLOADS: dict[str, Callable[[Any, Plan, Stopwatch], None]] = {
    "read": _one_at_a_time(_read),
    "write": _one_at_a_time(_write),
    "concurrent-read": _concurrent,
    "pipelined-read": _pipelined(_submit_read, _check_read),
    "pipelined-write": _pipelined(_submit_write, _check_nothing),
    "pipelined-create": _pipelined(_submit_create, _check_nothing),
    "watch": _watch,
}


def _work(plan: Plan, stopwatch: Stopwatch) -> None:
    client = _connect(plan)
    try:
        try:
            client.create(PATH, VALUE)
        except NodeExistsError:
            pass
        _WORKLOADS[plan.workload](client, plan, stopwatch)
    finally:
        client.stop()
        client.close()


if __name__ == "__main__":
    run_driver(_work)
