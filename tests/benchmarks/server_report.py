"""Tables of the servers, for a terminal and for the documentation.

Decides columns and words. Refuses to compute anything: `results` does.
"""

from __future__ import annotations

from collections.abc import Sequence

from .report import NOTHING, align, capital, emphasis, format_ratio, format_time, markdown_table
from .results import Results
from .server_workloads import JAVA, ServerWorkload
from .workloads import Effort, Metric

_MIB = 1 << 20

# Kind of workload: metrics in absolute figures, and those that are compared, each with the head of its column.
_COLUMNS: dict[str, tuple[Sequence[tuple[str, Metric]], Sequence[tuple[str, Metric]]]] = {
    "start": ([("ready", "ready")], [("ready", "ready")]),
    "memory": (
        [("empty", "empty"), ("PSS", "empty-pss"), ("full", "full"), ("PSS", "full-pss")],
        [("empty", "empty"), ("full", "full")],
    ),
    "ensemble": (
        [("ready", "ready"), ("PSS", "empty-pss"), ("failover", "failover"), ("writes/s", "rate")],
        [("ready", "ready"), ("PSS", "empty-pss"), ("failover", "failover"), ("writes", "rate")],
    ),
    "in-process": ([("ready", "ready")], []),
    "pytest": ([("added", "ready")], []),
    "load": ([("ops/s", "rate"), ("p50", "p50"), ("p99", "p99"), ("server CPU/op", "cpu")], [("rate", "rate")]),
}


def _format(metric: Metric, value: float) -> str:
    if metric == "rate":
        return f"{value:,.0f}"
    if metric in ("empty", "empty-pss", "full", "full-pss"):
        return f"{value / _MIB:.0f} MiB"
    return format_time(value)


def header(workload: ServerWorkload) -> list[str]:
    """The columns after the server's name."""
    absolute, compared = _COLUMNS[workload.kind]
    return [*(word for word, _ in absolute), *(f"{word} / {JAVA}" for word, _ in compared)]


def cells(results: Results[ServerWorkload], workload: ServerWorkload, server: str) -> list[str]:
    """One row's columns: absolute medians, then ratios to Java's servers."""
    absolute, compared = _COLUMNS[workload.kind]
    row = [_format(metric, results.median(workload.name, server, metric)) for _, metric in absolute]
    base = workload.base_of(server)
    ratios = [results.ratio(workload.name, server, base, metric).median for _, metric in compared if base is not None]
    return row + ([format_ratio(ratio) for ratio in ratios] or [NOTHING] * len(compared))


def server_tables(results: Results[ServerWorkload], effort: Effort) -> str:
    """Everything measured of servers, for a terminal."""
    tables: list[str] = []
    for workload in results.workloads:
        rows = [[workload.describe(effort), *header(workload)]]
        rows += [[f"  {name}", *cells(results, workload, name)] for name in workload.servers]
        tables.append(align(rows))
    return "\n".join(tables)


def server_sections(results: Results[ServerWorkload], effort: Effort) -> list[str]:
    """The parts of a page of the documentation."""
    parts: list[str] = []
    for workload in results.workloads:
        rows = [["", *header(workload)]]
        rows += [[emphasis(name), *cells(results, workload, name)] for name in workload.servers]
        parts += [f"### {capital(workload.describe(effort))}", markdown_table(rows)]
    return parts
