"""Processes inside one trio run, each of which can be stopped like a process on SIGSTOP, or like a laptop that sleeps.

Decides which tasks run. A task belongs to the process that it was started in, and so do the deadlines it sets and the
instruments it adds. While a process is stopped none of its tasks takes a step: whatever wakes one of them puts it
aside. When the process goes on, the order is trio's own: what has arrived first, then instruments and the deadlines
that have passed, and then the tasks, so that a task whose wait had ended meanwhile goes on to its next checkpoint, and
one that was still waiting finds its deadline.

Each process has a clock with an offset and a rate of its own, for those who are handed one. trio's timers go by the
run's clock for everybody. A process knows nothing of all this, and no product code does.
"""

from __future__ import annotations

import contextvars
import random
import uuid
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from heapq import heappop, heappush
from math import inf
from typing import Any

import trio
import trio._core._run as scheduler
from trio._core._instrumentation import Instruments
from trio.testing import MockClock

_PROCESSES: trio.lowlevel.RunVar[Any] = trio.lowlevel.RunVar("processes")
_HERE: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)


class Process:
    """One process.

    Attributes:
        name: what the trace calls it.
        wakes: how often it went on after it had been stopped.
        stopped: whether it is stopped.
        stopped_for: seconds that it has been stopped for, in all.
        slept_until: when it last went on after its machine had been asleep; -inf if it never was.
    """

    def __init__(self, processes: Processes, name: str, offset: float = 0.0, rate: float = 1.0) -> None:
        self.name = name
        self.wakes = 0
        self.stopped = False
        self.stopped_for = 0.0
        self.slept_until = -inf
        self._processes = processes
        self._offset = offset
        self._rate = rate
        self._stopped_at = 0.0

    def now(self) -> float:
        """Its clock, in seconds: goes on while the process is stopped, as CLOCK_BOOTTIME does."""
        return self._offset + self._rate * trio.current_time()

    def enter(self) -> None:
        """Makes the current task, and all tasks that are started by it from now on, part of the process."""
        _HERE.set(self)

    def stop(self) -> None:
        """Takes no step from the next pass of the scheduler on."""
        if not self.stopped:
            self.stopped = True
            self._stopped_at = trio.current_time()
            self._processes.put_aside(self)

    def go_on(self, *, slept: bool = False) -> None:
        """Goes on.

        Args:
            slept: the machine was asleep, so that trio's timers have not seen the time pass, while the clock has.
        """
        if self.stopped:
            self.stopped = False
            self.wakes += 1
            missed = trio.current_time() - self._stopped_at
            self.stopped_for += missed
            if slept:
                self.slept_until = trio.current_time()
            self._processes.bring_back(self, missed if slept else 0.0)


class Processes:
    """The processes of one trio run, between its scheduler and its tasks."""

    def __init__(self, runner: Any) -> None:
        self._queue = _RunQueue(runner.runq)
        self._deadlines = _Deadlines(runner.deadlines._heap)
        runner.runq, runner.deadlines = self._queue, self._deadlines
        runner.instruments = _Instruments(runner.instruments)

    @classmethod
    def of_this_run(cls) -> Processes:
        """Those of the current run."""
        found: Processes | None = _PROCESSES.get(None)
        if found is None:
            run: Any = scheduler.GLOBAL_RUN_CONTEXT
            found = cls(run.runner)
            _PROCESSES.set(found)
        return found

    def put_aside(self, process: Process) -> None:
        """Of what is about to run, nothing of this process does."""
        self._queue.sort_out()

    def bring_back(self, process: Process, missed: float) -> None:
        """What was put aside runs in the next pass, after the deadlines have been looked at."""
        for task in self._queue.aside.pop(process, []):
            self._queue.append(task)
        for scope, deadline in self._deadlines.aside.pop(process, {}).items():
            if scope._registered_deadline != deadline:
                continue  # it has ended, or got another deadline
            self._deadlines.put(deadline, scope, process)
            if missed:
                scope.deadline = deadline + missed


def process_of(task: trio.lowlevel.Task) -> Process | None:
    """The process that a task belongs to."""
    return task.context.get(_HERE)


class _RunQueue(deque[trio.lowlevel.Task]):
    """Tasks that are to run, without those of stopped processes."""

    def __init__(self, tasks: deque[trio.lowlevel.Task]) -> None:
        super().__init__(tasks)
        self.aside: dict[Process, list[trio.lowlevel.Task]] = {}

    def append(self, task: trio.lowlevel.Task, /) -> None:
        process = task.context.get(_HERE)
        if process is not None and process.stopped:
            self.aside.setdefault(process, []).append(task)
        else:
            super().append(task)

    def sort_out(self) -> None:
        """Puts those aside whose process was stopped since they came."""
        tasks = list(self)
        self.clear()
        for task in tasks:
            self.append(task)


class _Deadlines:
    """What trio's own container of deadlines does, with those of stopped processes kept aside, and in an order that
    does not depend on addresses.
    """

    def __init__(self, entries: list[Any]) -> None:
        self.aside: dict[Process, dict[Any, float]] = {}
        self._count = 0
        self._heap: list[tuple[float, int, Any, Process | None]] = []
        for deadline, _, scope in entries:
            self.put(deadline, scope, None)

    def put(self, deadline: float, scope: Any, process: Process | None) -> None:
        self._count += 1
        heappush(self._heap, (deadline, self._count, scope, process))

    def add(self, deadline: float, scope: Any) -> None:
        self.put(deadline, scope, _HERE.get())

    def remove(self, deadline: float, scope: Any) -> None:
        """Its entry is out of date now, and is dropped when it is met."""

    def next_deadline(self) -> float:
        while self._heap:
            deadline, _, scope, process = self._heap[0]
            if deadline == scope._registered_deadline:
                if process is None or not process.stopped:
                    return deadline
                self.aside.setdefault(process, {})[scope] = deadline
            heappop(self._heap)
        return inf

    def expire(self, now: float) -> bool:
        expired = False
        while self.next_deadline() <= now:
            _, _, scope, _ = heappop(self._heap)
            scope.cancel()
            expired = True
        return expired


class _Instruments(Instruments):
    """What trio calls at certain points of its loop, without that of stopped processes."""

    def __init__(self, before: Instruments) -> None:
        super().__init__(())
        self._homes: dict[trio.abc.Instrument, Process | None] = {}
        self.update(before)

    def add_instrument(self, instrument: trio.abc.Instrument) -> None:
        self._homes[instrument] = _HERE.get()
        super().add_instrument(instrument)

    def call(self, hookname: str, *args: object) -> None:
        for instrument in list(self[hookname]):
            home = self._homes.get(instrument)
            if home is None or not home.stopped:
                getattr(instrument, hookname)(*args)


async def pass_time(seconds: float) -> None:
    """Lets virtual time pass. A checkpoint."""
    assert isinstance(trio.lowlevel.current_clock(), MockClock), "not on the real clock"
    await trio.sleep(seconds)


@contextmanager
def repeatable(seed: int) -> Iterator[None]:
    """Makes trio's scheduler run tasks in an order that the seed draws, and names unique that the seed draws, so that a
    run can be repeated.
    """
    state: Any = scheduler
    before = state._ALLOW_DETERMINISTIC_SCHEDULING, state._r
    uuid4, names = uuid.uuid4, random.Random(f"{seed} names")
    state._ALLOW_DETERMINISTIC_SCHEDULING, state._r = True, random.Random(seed)
    uuid.uuid4 = lambda: uuid.UUID(int=names.getrandbits(128), version=4)
    try:
        yield
    finally:
        uuid.uuid4 = uuid4
        state._ALLOW_DETERMINISTIC_SCHEDULING, state._r = before
