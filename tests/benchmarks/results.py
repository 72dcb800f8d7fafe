"""The arithmetic: from samples to percentiles, from rounds to medians and ratios.

Decides that a ratio is taken inside a round, between two measurements seconds apart, and that the median of the rounds'
ratios is the result: machines change their speed over minutes. Refuses to know how anything is measured or shown.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from .workloads import GOALS, Goal, Metric, Workload


def percentile(samples: Sequence[int], fraction: float) -> int:
    """The smallest sample that at least this fraction of them does not exceed."""
    return sorted(samples)[max(0, math.ceil(fraction * len(samples)) - 1)]


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What one driver process measured.

    Attributes:
        operations: how many were measured.
        wall_ns: how long they took.
        cpu_ns: CPU time of the client's process for them, user and system.
        samples_ns: latencies, of operations or batches.
    """

    operations: int
    wall_ns: int
    cpu_ns: int
    samples_ns: Sequence[int]

    def value(self, metric: Metric) -> float:
        """Operations per second, or microseconds."""
        if metric == "rate":
            return self.operations / self.wall_ns * 1e9
        if metric == "cpu":
            return self.cpu_ns / self.operations / 1e3
        return percentile(self.samples_ns, {"p50": 0.5, "p99": 0.99}[metric]) / 1e3


class Ratio(NamedTuple):
    """A client's metric divided by another's: the median of the rounds, and their extremes."""

    median: float
    lowest: float
    highest: float


class Reached(NamedTuple):
    """A goal and what became of it."""

    goal: Goal
    ratio: Ratio

    @property
    def met(self) -> bool:
        """The median is as good as the goal."""
        return self.goal.met_by(self.ratio.median)


@dataclass
class Results:
    """All measurements that count.

    Attributes:
        workloads: what was measured.
        clients: names of those measured.
        rounds: by the names of workload and client, one measurement a round.
    """

    workloads: Sequence[Workload]
    clients: Sequence[str]
    rounds: dict[tuple[str, str], list[Measurement]] = field(default_factory=dict[tuple[str, str], list[Measurement]])

    def add(self, workload: Workload, client: str, measurement: Measurement) -> None:
        """One more round of a workload with a client."""
        self.rounds.setdefault((workload.name, client), []).append(measurement)

    def median(self, workload: str, client: str, metric: Metric) -> float:
        """Over the rounds."""
        return statistics.median(measurement.value(metric) for measurement in self.rounds[workload, client])

    def ratio(self, workload: str, client: str, base: str, metric: Metric) -> Ratio:
        """Of a client to another, round by round."""
        ratios = [
            measurement.value(metric) / other.value(metric)
            for measurement, other in zip(self.rounds[workload, client], self.rounds[workload, base], strict=True)
        ]
        return Ratio(statistics.median(ratios), min(ratios), max(ratios))

    def goals(self, client: str) -> list[Reached]:
        """The goals that this run says something about."""
        measured = self.rounds.keys()
        return [
            Reached(goal, self.ratio(goal.workload, client, goal.base, goal.metric))
            for goal in GOALS
            if (goal.workload, client) in measured and (goal.workload, goal.base) in measured
        ]
