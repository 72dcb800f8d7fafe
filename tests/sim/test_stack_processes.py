"""Processes inside one trio run: who is stopped takes no step, and goes on as a process does after SIGCONT."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock

from .stack_processes import Process, Processes, pass_time, process_of, repeatable

# Each run has a virtual clock of its own.
pytestmark = pytest.mark.usefixtures("autojump_clock")

Body = Callable[[Process, list[str]], Awaitable[None]]


async def _stopped(body: Body, slept: bool) -> list[str]:
    """Runs a body in a process that is stopped from 1.0 to 5.0."""
    process, said = Process(Processes.of_this_run(), "p"), list[str]()

    async def run() -> None:
        process.enter()
        assert process_of(trio.lowlevel.current_task()) is process
        await body(process, said)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await pass_time(1.0)
        process.stop()
        process.stop()
        before = list(said)
        await pass_time(4.0)
        assert said == before, "it took a step"
        process.go_on(slept=slept)
        process.go_on(slept=slept)
        assert process.wakes == 1
    return said


def stopped(body: Body, *, slept: bool = False) -> list[str]:
    with repeatable(1):
        return trio.run(_stopped, body, slept, clock=MockClock(autojump_threshold=0))


def test_it_takes_no_step() -> None:
    async def count(process: Process, said: list[str]) -> None:
        for _ in range(20):
            await pass_time(0.3)
            said.append(f"{trio.current_time():.1f}")

    assert stopped(count)[:6] == ["0.3", "0.6", "0.9", "5.0", "5.3", "5.6"]


def test_a_deadline_that_passed_is_met_before_any_step() -> None:
    async def wait(process: Process, said: list[str]) -> None:
        with trio.CancelScope(deadline=3.0) as scope:
            await pass_time(4.0)
            said.append("the sleep was over first")
        said.append(f"cancelled {scope.cancelled_caught} at {trio.current_time():.1f}")

    assert stopped(wait) == ["cancelled True at 5.0"]


def test_who_was_woken_meanwhile_takes_a_step_to_the_next_checkpoint() -> None:
    event = trio.Event()

    async def wait(process: Process, said: list[str]) -> None:
        trio.lowlevel.spawn_system_task(_set_later, event)
        with trio.CancelScope(deadline=3.0):
            await event.wait()
            said.append("woken")
            await trio.lowlevel.checkpoint()
            said.append("it passed a checkpoint")

    async def _set_later(event: trio.Event) -> None:
        await pass_time(2.0)
        event.set()

    assert stopped(wait) == ["woken"]


def test_after_a_sleep_of_the_machine_the_timers_go_on_where_they_were() -> None:
    async def wait(process: Process, said: list[str]) -> None:
        began = process.now()
        await pass_time(2.0)
        said.append(f"{trio.current_time():.1f}, {process.now() - began:.1f} by its clock")

    assert stopped(wait, slept=True) == ["6.0, 6.0 by its clock"]
    assert stopped(wait) == ["5.0, 5.0 by its clock"]


def test_clocks_are_off_and_drift() -> None:
    async def look() -> tuple[float, float]:
        process = Process(Processes.of_this_run(), "p", offset=100.0, rate=1.01)
        began = process.now()
        await pass_time(10.0)
        return began, process.now() - began

    began, passed = trio.run(look, clock=MockClock(autojump_threshold=0))
    assert began == pytest.approx(100.0)
    assert passed == pytest.approx(10.1)


def test_deadlines_that_are_moved_or_dropped_do_not_come() -> None:
    async def move() -> float:
        Processes.of_this_run()
        with trio.CancelScope(deadline=1.0) as scope:
            scope.deadline = 3.0
            await pass_time(2.0)
            scope.deadline = 4.0
            await trio.sleep_forever()
        return trio.current_time()

    assert trio.run(move, clock=MockClock(autojump_threshold=0)) == pytest.approx(4.0)
