"""The arithmetic: from samples to percentiles, from rounds to medians and ratios.

Decides that a ratio is taken inside a round, between two measurements seconds apart, and that the median of the rounds'
ratios is the result: machines change their speed over minutes. Refuses to know how anything is measured or shown.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, Protocol, TypeVar

from .workloads import Goal, Metric


def percentile(samples: Sequence[int], fraction: float) -> int:
    """The smallest sample that at least this fraction of them does not exceed."""
    return sorted(samples)[max(0, math.ceil(fraction * len(samples)) - 1)]


_FRACTIONS: Mapping[Metric, float] = {"p50": 0.5, "p99": 0.99}


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What one driver process measured, of itself as a client or of the server it loaded.

    Attributes:
        operations: how many were measured.
        wall_ns: how long they took.
        cpu_ns: CPU time of the measured process for them, user and system.
        samples_ns: latencies, of operations or batches.
        threads: that the client has of its own, where the driver can tell.
    """

    operations: int
    wall_ns: int
    cpu_ns: int
    samples_ns: Sequence[int]
    threads: int = 0

    def value(self, metric: Metric) -> float:
        """Operations per second, microseconds, or a number."""
        if metric == "rate":
            return self.operations / self.wall_ns * 1e9
        if metric == "threads":
            return self.threads
        if metric == "cpu":
            return self.cpu_ns / self.operations / 1e3
        return percentile(self.samples_ns, _FRACTIONS[metric]) / 1e3


@dataclass(frozen=True)
class Reading:
    """Figures that were read off a process as they are.

    Attributes:
        values: microseconds for a time, bytes for memory.
    """

    values: Mapping[Metric, float]

    def value(self, metric: Metric) -> float:
        """One of them."""
        return self.values[metric]


class Measured(Protocol):
    """What a round has brought for one workload and one contender."""

    def value(self, metric: Metric) -> float:
        """One of its figures."""
        ...


class Named(Protocol):
    """A workload, as far as the arithmetic is concerned."""

    @property
    def name(self) -> str:
        """As goals know it."""
        ...


W = TypeVar("W", bound=Named)


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
class Results(Generic[W]):
    """All measurements that count, of clients or of servers.

    Attributes:
        workloads: what was measured.
        clients: names of those measured.
        rounds: by the names of workload and client, one measurement a round.
    """

    workloads: Sequence[W]
    clients: Sequence[str]
    rounds: dict[tuple[str, str], list[Measured]] = field(default_factory=dict[tuple[str, str], list[Measured]])

    def add(self, workload: W, client: str, measurement: Measured) -> None:
        """One more round of a workload with a client."""
        self.rounds.setdefault((workload.name, client), []).append(measurement)

    def median(self, workload: str, client: str, metric: Metric) -> float:
        """Over the rounds."""
        return statistics.median(measurement.value(metric) for measurement in self.rounds[workload, client])

    def ratio(self, workload: str, client: str, base: str | None, metric: Metric) -> Ratio:
        """Of a client to another, round by round; to 1 without another."""
        mine = [measurement.value(metric) for measurement in self.rounds[workload, client]]
        theirs = [1.0] * len(mine)
        if base is not None:
            theirs = [measurement.value(metric) for measurement in self.rounds[workload, base]]
        ratios = [one / other for one, other in zip(mine, theirs, strict=True)]
        return Ratio(statistics.median(ratios), min(ratios), max(ratios))

    def goals(self, goals: Sequence[Goal]) -> list[Reached]:
        """Those that this run says something about."""
        measured = self.rounds.keys()
        return [
            Reached(goal, self.ratio(goal.workload, goal.of, goal.base, goal.metric))
            for goal in goals
            if {(goal.workload, name) for name in (goal.of, goal.base) if name is not None} <= measured
        ]
