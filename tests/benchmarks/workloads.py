"""What is measured, how much of it, and what is to be reached.

Decides the workloads with their sizes, the goals, and what a driver process is told and answers. Refuses to know any
client.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal, NamedTuple

CALLERS = 64
"""Tasks or threads that read at the same time in the concurrent workload."""

TERZETTO, KAZOO, C = "terzetto", "kazoo", "C"
DROPIN = "drop-in"
"""kazoo's own program, unchanged, with terzetto's blocking client in kazoo's place."""

PATH = "/terzetto-benchmark"
CHILD = f"{PATH}/child-"
VALUE = b"x" * 100

Metric = Literal[
    "rate", "p50", "p99", "cpu", "ready", "empty", "empty-pss", "full", "full-pss", "failover", "threads", "held"
]
ServerKind = Literal["zookeeper", "null"]


class Plan(NamedTuple):
    """What one driver process does, also its command line.

    Attributes:
        hosts: the connect string.
        workload: a `Workload.name`.
        operations: of a batch, where the workload has batches.
        warmup: operations before the clock starts.
        batches: 1 where there are none.
        callers: tasks or threads of the concurrent workload.
    """

    hosts: str
    workload: str
    operations: int
    warmup: int
    batches: int
    callers: int

    def arguments(self) -> list[str]:
        """For the command line."""
        return [str(value) for value in self]

    @classmethod
    def from_arguments(cls, arguments: list[str]) -> Plan:
        """Back from the command line."""
        hosts, workload, *numbers = arguments
        operations, warmup, batches, callers = map(int, numbers)
        return cls(hosts, workload, operations, warmup, batches, callers)


class Sizes(NamedTuple):
    """How much a run does of one workload."""

    operations: int
    warmup: int
    batches: int = 1


class Effort(Enum):
    """How long a run takes."""

    FULL = 5
    QUICK = 3
    TINY = 1

    @property
    def rounds(self) -> int:
        """The rounds that count."""
        return self.value

    @property
    def uncounted_rounds(self) -> int:
        """Those before them."""
        return 0 if self is Effort.TINY else 1


@dataclass(frozen=True)
class Workload:
    """One thing that is measured.

    Attributes:
        name: as drivers know it.
        title: as people read it.
        sample: what a latency is the latency of.
        sizes: by effort.
        reads_only: can be run against the null server.
        callers: how many tasks or threads.
    """

    name: str
    title: str
    sample: str
    sizes: dict[Effort, Sizes]
    reads_only: bool = False
    callers: int = 1

    @property
    def has_batches(self) -> bool:
        """A latency is that of a batch, not of an operation."""
        return self.name.startswith("pipelined-")

    def plan(self, hosts: str, effort: Effort) -> Plan:
        """What a driver is told."""
        sizes = self.sizes[effort]
        return Plan(hosts, self.name, sizes.operations, sizes.warmup, sizes.batches, self.callers)

    def describe(self, effort: Effort) -> str:
        """The title with the size of the run."""
        sizes = self.sizes[effort]
        return f"{self.title.format(operations=f'{sizes.operations:,}')}"


def _blocking(full: int, quick: int) -> dict[Effort, Sizes]:
    return {Effort.FULL: Sizes(full, 300), Effort.QUICK: Sizes(quick, 100), Effort.TINY: Sizes(5, 1)}


def _pipelined(quick: int) -> dict[Effort, Sizes]:
    return {Effort.FULL: Sizes(10_000, 2_000, 2), Effort.QUICK: Sizes(quick, 500), Effort.TINY: Sizes(20, 2, 2)}


WORKLOADS = (
    Workload("read", "blocking read", "read", _blocking(2_000, 500), reads_only=True),
    Workload("write", "blocking write", "write", _blocking(2_000, 500)),
    Workload(
        "concurrent-read",
        f"{CALLERS} concurrent callers, one read at a time each",
        "read",
        {
            Effort.FULL: Sizes(CALLERS * 150, 300),
            Effort.QUICK: Sizes(CALLERS * 40, 100),
            Effort.TINY: Sizes(CALLERS, 1),
        },
        reads_only=True,
        callers=CALLERS,
    ),
    Workload("pipelined-read", "{operations} pipelined reads", "batch", _pipelined(4_000), reads_only=True),
    Workload("pipelined-write", "{operations} pipelined writes", "batch", _pipelined(4_000)),
    Workload("pipelined-create", "{operations} pipelined sequential-ephemeral creates", "batch", _pipelined(4_000)),
    Workload("watch", "watch delivery", "delivery", _blocking(500, 150)),
)


class Goal(NamedTuple):
    """A ratio that is to be reached.

    Attributes:
        workload: a `Workload.name`.
        metric: what is compared.
        base: the client or server it is compared with; None for a figure that stands for itself.
        bound: the ratio, or the figure: microseconds, or a number of threads.
        at_most: a smaller ratio is better; otherwise a greater one is.
        of: whose metric it is.
    """

    workload: str
    metric: Metric
    base: str | None
    bound: float
    at_most: bool
    of: str = TERZETTO

    def met_by(self, ratio: float) -> bool:
        """Whether the ratio is as good as the bound."""
        return ratio <= self.bound if self.at_most else ratio >= self.bound


GOALS = (
    Goal("read", "p50", KAZOO, 0.42, at_most=True),
    Goal("read", "p50", C, 1.2, at_most=True),
    Goal("concurrent-read", "rate", KAZOO, 5.0, at_most=False),
    Goal("concurrent-read", "rate", C, 1.5, at_most=False),
    Goal("concurrent-read", "cpu", KAZOO, 0.18, at_most=True),
    Goal("pipelined-read", "rate", KAZOO, 5.0, at_most=False),
    Goal("pipelined-read", "rate", C, 1.2, at_most=False),
    Goal("pipelined-read", "cpu", KAZOO, 0.12, at_most=True),
    Goal("read", "rate", KAZOO, 1.6, at_most=False, of=DROPIN),
    Goal("read", "threads", None, 3, at_most=True, of=DROPIN),
    Goal("pipelined-read", "rate", KAZOO, 3.5, at_most=False, of=DROPIN),
    Goal("pipelined-read", "cpu", KAZOO, 0.25, at_most=True, of=DROPIN),
)
