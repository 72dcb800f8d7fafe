"""terzetto's side of the comparison: `python -m tests.benchmarks.drive_terzetto PLAN...`.

Decides how each workload is written with terzetto's native client: a task for each caller, `pipeline()` for what is
pipelined, nothing tuned. Refuses to know other clients.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from time import perf_counter_ns
from typing import Any

import trio
import trio.testing

from terzetto.client import NodeExistsError, Pipeline, PipelineResult, WatchedEvent, ZooKeeper, open_zookeeper

from .driving import Stopwatch, check_value, run_driver
from .workloads import CHILD, PATH, VALUE, Plan

_SESSION_TIMEOUT = 30.0
_DEADLINE = 15.0

_Run = Callable[[ZooKeeper, Plan, Stopwatch], Awaitable[None]]


async def _read(zk: ZooKeeper) -> None:
    value, _ = await zk.get(PATH)
    check_value(value, VALUE)


async def _write(zk: ZooKeeper) -> None:
    await zk.set(PATH, VALUE)


def _one_at_a_time(operation: Callable[[ZooKeeper], Awaitable[None]]) -> _Run:
    async def run(zk: ZooKeeper, plan: Plan, stopwatch: Stopwatch) -> None:
        for _ in range(plan.warmup):
            await operation(zk)
        stopwatch.start()
        for _ in range(plan.operations):
            began = perf_counter_ns()
            await operation(zk)
            stopwatch.samples_ns.append(perf_counter_ns() - began)
        stopwatch.stop()

    return run


async def _concurrent(zk: ZooKeeper, plan: Plan, stopwatch: Stopwatch) -> None:
    gate = trio.Event()

    async def call() -> None:
        await gate.wait()
        for _ in range(plan.operations // plan.callers):
            began = perf_counter_ns()
            await _read(zk)
            stopwatch.samples_ns.append(perf_counter_ns() - began)

    for _ in range(plan.warmup):
        await _read(zk)
    async with trio.open_nursery() as nursery:
        for _ in range(plan.callers):
            nursery.start_soon(call)
        await trio.testing.wait_all_tasks_blocked()
        stopwatch.start()
        gate.set()
    stopwatch.stop()


async def _submit_read(pipeline: Pipeline) -> PipelineResult[Any]:
    return await pipeline.get(PATH)


async def _submit_write(pipeline: Pipeline) -> PipelineResult[Any]:
    return await pipeline.set(PATH, VALUE)


async def _submit_create(pipeline: Pipeline) -> PipelineResult[Any]:
    return await pipeline.create(CHILD, VALUE, ephemeral=True, sequence=True)


def _check_read(result: Any) -> None:
    check_value(result[0], VALUE)


def _check_nothing(result: Any) -> None:
    """The result was there, and no error; that is all there is to say of a write."""


def _pipelined(submit: Callable[[Pipeline], Awaitable[PipelineResult[Any]]], check: Callable[[Any], None]) -> _Run:
    async def batch(zk: ZooKeeper, size: int) -> None:
        async with zk.pipeline() as pipeline:
            handles = [await submit(pipeline) for _ in range(size)]
        for handle in handles:
            check(handle.result())

    async def run(zk: ZooKeeper, plan: Plan, stopwatch: Stopwatch) -> None:
        await batch(zk, plan.warmup)
        for _ in range(plan.batches):
            began = perf_counter_ns()
            stopwatch.start()
            await batch(zk, plan.operations)
            stopwatch.stop()
            stopwatch.samples_ns.append(perf_counter_ns() - began)

    return run


async def _watch(watching: ZooKeeper, plan: Plan, stopwatch: Stopwatch) -> None:
    async def deliver_once(setting: ZooKeeper) -> int:
        arrived = trio.Event()
        arrived_at = 0

        def changed(_: WatchedEvent) -> None:
            nonlocal arrived_at
            arrived_at = perf_counter_ns()
            arrived.set()

        await watching.get(PATH, watch=changed)
        began = perf_counter_ns()
        await _write(setting)
        await arrived.wait()
        return arrived_at - began

    async with open_zookeeper(plan.hosts, session_timeout=_SESSION_TIMEOUT) as setting:
        for _ in range(plan.warmup):
            await deliver_once(setting)
        stopwatch.start()
        for _ in range(plan.operations):
            stopwatch.samples_ns.append(await deliver_once(setting))
        stopwatch.stop()


_WORKLOADS: dict[str, _Run] = {
    "read": _one_at_a_time(_read),
    "write": _one_at_a_time(_write),
    "concurrent-read": _concurrent,
    "pipelined-read": _pipelined(_submit_read, _check_read),
    "pipelined-write": _pipelined(_submit_write, _check_nothing),
    "pipelined-create": _pipelined(_submit_create, _check_nothing),
    "watch": _watch,
}


async def _work_in_trio(plan: Plan, stopwatch: Stopwatch) -> None:
    async with open_zookeeper(plan.hosts, session_timeout=_SESSION_TIMEOUT, connect_timeout=_DEADLINE) as zk:
        try:
            await zk.create(PATH, VALUE)
        except NodeExistsError:
            pass
        await _WORKLOADS[plan.workload](zk, plan, stopwatch)


def _work(plan: Plan, stopwatch: Stopwatch) -> None:
    trio.run(partial(_work_in_trio, plan, stopwatch))


if __name__ == "__main__":
    run_driver(_work)
