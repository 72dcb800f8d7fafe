"""Tables of WebSockets, for a terminal and for the documentation.

Decides columns and words. Refuses to compute anything: `results` does.
"""

from __future__ import annotations

from collections.abc import Sequence

from .gateway_workloads import TCP, GatewayWorkload
from .report import NOTHING, align, format_ratio, format_time, markdown_table
from .results import Results
from .workloads import Effort, Metric

_MIB = 1 << 20

# Kind of workload: metrics in absolute figures, and those that are compared, each with the head of its column.
_COLUMNS: dict[str, tuple[Sequence[tuple[str, Metric]], Sequence[tuple[str, Metric]]]] = {
    "reads": (
        [("reads/s", "rate"), ("p50", "p50"), ("p99", "p99"), ("client CPU/read", "cpu")],
        [("rate", "rate"), ("p50", "p50"), ("client CPU", "cpu")],
    ),
    "held": (
        [
            ("held", "held"),
            ("connected in", "ready"),
            ("PSS before", "empty-pss"),
            ("PSS with them", "full-pss"),
            ("RSS before", "empty"),
            ("RSS with them", "full"),
            ("ping p50", "p50"),
            ("p99", "p99"),
        ],
        [],
    ),
}


def _format(metric: Metric, value: float) -> str:
    if metric in ("rate", "held"):
        return f"{value:,.0f}"
    if metric in ("empty", "empty-pss", "full", "full-pss"):
        return f"{value / _MIB:.0f} MiB"
    return format_time(value)


def header(workload: GatewayWorkload) -> list[str]:
    """The columns after the way's name."""
    absolute, compared = _COLUMNS[workload.kind]
    return [*(word for word, _ in absolute), *(f"{word} / {TCP}" for word, _ in compared)]


def cells(results: Results[GatewayWorkload], workload: GatewayWorkload, way: str) -> list[str]:
    """One row's columns: absolute medians, then ratios to TCP."""
    absolute, compared = _COLUMNS[workload.kind]
    row = [_format(metric, results.median(workload.name, way, metric)) for _, metric in absolute]
    base = workload.base_of(way)
    ratios = [results.ratio(workload.name, way, base, metric).median for _, metric in compared if base is not None]
    return row + ([format_ratio(ratio) for ratio in ratios] or [NOTHING] * len(compared))


def gateway_tables(results: Results[GatewayWorkload], effort: Effort) -> str:
    """Everything measured of WebSockets, for a terminal."""
    tables: list[str] = []
    for workload in results.workloads:
        rows = [[workload.describe(effort), *header(workload)]]
        rows += [[f"  {way}", *cells(results, workload, way)] for way in workload.ways]
        tables.append(align(rows))
    return "\n".join(tables)


def gateway_sections(results: Results[GatewayWorkload], effort: Effort) -> list[str]:
    """The parts of a page of the documentation."""
    parts: list[str] = []
    for workload in results.workloads:
        rows = [["", *header(workload)]]
        rows += [[way, *cells(results, workload, way)] for way in workload.ways]
        parts += [f"### By WebSocket: {workload.describe(effort)}", markdown_table(rows)]
    return parts
