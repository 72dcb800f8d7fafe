"""The picture: each client's rate and CPU time per operation, workload by workload.

Decides what is drawn and how; needs matplotlib, from the extra `bench`. Refuses to compute anything: `results` does.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from .report import format_ratio, format_time
from .results import Results
from .workloads import DROPIN, KAZOO, TERZETTO, C, Effort, Metric, Workload

_COLOURS = {TERZETTO: "#2a6f97", DROPIN: "#89c2d9", KAZOO: "#c9ada7", C: "#6c757d"}
_BAR = 0.8


def draw(results: Results[Workload], effort: Effort, file: Path) -> None:
    """Writes the picture in the format of the file's suffix.

    Raises:
        ImportError: there is no matplotlib.
    """
    # Its annotations leave too much open for a strict checker.
    mpl: Any = import_module("matplotlib")
    mpl.use("agg")
    plt: Any = import_module("matplotlib.pyplot")

    # The same results give the same file.
    with mpl.rc_context({"svg.hashsalt": "terzetto", "font.size": 9}):
        figure, (rates, costs) = plt.subplots(
            1, 2, figsize=(11, 1.2 + 0.9 * len(results.workloads)), sharey=True, layout="constrained"
        )
        base = KAZOO if KAZOO in results.clients else results.clients[-1]
        _bars(rates, results, "rate", base)
        rates.set_title(f"operations per second, {base} = 1")
        _bars(costs, results, "cpu", base)
        costs.set_title("client CPU per operation, microseconds")
        rates.set_yticks(range(len(results.workloads)), [workload.describe(effort) for workload in results.workloads])
        rates.invert_yaxis()
        handles, labels = rates.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
        figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)
        plt.close(figure)


def _bars(axes: Any, results: Results[Workload], metric: Metric, base: str) -> None:
    height = _BAR / len(results.clients)
    for place, client in enumerate(results.clients):
        lengths: list[float] = []
        labels: list[str] = []
        for workload in results.workloads:
            median = results.median(workload.name, client, metric)
            if metric == "rate":
                lengths.append(results.ratio(workload.name, client, base, metric).median)
                labels.append(f"{format_ratio(lengths[-1])}   {median:,.0f}/s")
            else:
                lengths.append(median)
                labels.append(format_time(median))
        rows = [row - _BAR / 2 + height * (place + 0.5) for row in range(len(results.workloads))]
        bars = axes.barh(rows, lengths, height * 0.92, color=_COLOURS[client], label=client)
        axes.bar_label(bars, labels, padding=3, fontsize=7)
    axes.margins(x=0.22)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
