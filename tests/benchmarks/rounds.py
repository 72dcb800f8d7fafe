"""A run: the rounds, and who comes when.

Decides the order: the clients take turns at each workload, in reverse in every second round, and the first round does
not count. Refuses to know what is measured and how.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from .contenders import Contender
from .results import Results
from .servers import Server
from .workloads import DROPIN, KAZOO, TERZETTO, C, Effort, Workload

_WARM_FACTOR = {Effort.FULL: 3, Effort.QUICK: 2, Effort.TINY: 1}


def warm_up(server: Server, contenders: Sequence[Contender], workloads: Sequence[Workload], effort: Effort) -> None:
    """Gives the server's compilers something to work on, through the quickest client there is."""
    quickest = min(contenders, key=lambda contender: (C, TERZETTO, DROPIN, KAZOO).index(contender.name))
    for workload in workloads:
        plan = workload.plan(server.hosts, effort)
        quickest.measure(plan._replace(operations=plan.operations * _WARM_FACTOR[effort]))
        server.settle()


def run_rounds(
    server: Server, contenders: Sequence[Contender], workloads: Sequence[Workload], effort: Effort, rounds: int
) -> Results[Workload]:
    """Measures everything `rounds` times, after those that do not count.

    Raises:
        DriverFailed: one of the measurements failed.
    """
    results = Results(workloads, [contender.name for contender in contenders])
    for number in range(1 - effort.uncounted_rounds, rounds + 1):
        say(f"round {number} of {rounds}" if number > 0 else "a round that does not count")
        order = list(contenders if number % 2 else reversed(contenders))
        for workload in workloads:
            for contender in order:
                measurement = contender.measure(workload.plan(server.hosts, effort))
                server.settle()
                if number > 0:
                    results.add(workload, contender.name, measurement)
    return results


def say(text: str) -> None:
    """How far the run is, for whoever waits for it."""
    print(text, file=sys.stderr, flush=True)
