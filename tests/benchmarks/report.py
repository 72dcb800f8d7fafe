"""Tables for people: aligned text for a terminal, Markdown for the documentation.

Decides units, columns and words. Refuses to compute anything: `results` does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .results import Ratio, Reached, Results
from .workloads import KAZOO, TERZETTO, C, Effort, Metric, Workload

_METRICS: Sequence[Metric] = ("rate", "p50", "cpu")
_WORDS: dict[Metric, str] = {"rate": "rate", "p50": "p50", "p99": "p99", "cpu": "CPU"}
_ABSOLUTE: Sequence[str] = ("ops/s", "p50", "p99", "CPU/op")
_NOTHING = "-"


def format_time(microseconds: float) -> str:
    """With three digits and the unit that suits them."""
    for factor, unit in ((1.0, "us"), (1e3, "ms")):
        if microseconds / factor < 999.5:
            return f"{microseconds / factor:.3g} {unit}"
    return f"{microseconds / 1e6:.3g} s"


def format_ratio(ratio: float) -> str:
    """With as many digits as mean something."""
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:.1f}"


def header(results: Results) -> list[str]:
    """The columns after the client's name."""
    columns = list(_ABSOLUTE)
    for base in _bases(results):
        columns += [f"{_WORDS[metric]} / {base}" for metric in _METRICS]
    return columns


def cells(results: Results, workload: Workload, client: str) -> list[str]:
    """One row's columns: absolute medians, then ratios to kazoo and to C."""
    median = {metric: results.median(workload.name, client, metric) for metric in _WORDS}
    row = [f"{median['rate']:,.0f}", *(format_time(median[metric]) for metric in ("p50", "p99", "cpu"))]
    for base in _bases(results):
        for metric in _METRICS:
            same = client == base
            row.append(_NOTHING if same else format_ratio(results.ratio(workload.name, client, base, metric).median))
    return row


def _bases(results: Results) -> list[str]:
    return [base for base in (KAZOO, C) if base in results.clients]


def _title(workload: Workload, effort: Effort) -> str:
    note = " (p50, p99: of a batch)" if workload.has_batches else ""
    return workload.describe(effort) + note


# -- text


def text_tables(results: Results, effort: Effort) -> str:
    """Everything measured, for a terminal."""
    rows: list[list[str]] = [["", *header(results)]]
    for workload in results.workloads:
        rows.append([_title(workload, effort)])
        rows += [[f"  {client}", *cells(results, workload, client)] for client in results.clients]
    return _align(rows)


def text_goals(reached: Sequence[Reached]) -> str:
    """Each goal beside what became of it."""
    rows = [["goal", "reached", "rounds", ""]]
    rows += [[_goal(one), format_ratio(one.ratio.median), _spread(one.ratio), _verdict(one)] for one in reached]
    return _align(rows)


def _align(rows: Sequence[Sequence[str]]) -> str:
    """Columns aligned: the first to the left, the others to the right; a row of one cell is a title."""
    full = [row for row in rows if len(row) > 1]
    widths = [max(len(row[column]) for row in full) for column in range(len(full[0]))]
    lines: list[str] = []
    for row in rows:
        first, *others = row
        padded = [first.ljust(widths[0]) if others else first]
        padded += [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=False)]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def _goal(reached: Reached) -> str:
    goal = reached.goal
    relation = "at most" if goal.at_most else "at least"
    return f"{goal.workload}: {_WORDS[goal.metric]} {relation} {goal.bound:g} x {goal.base}'s"


def _spread(ratio: Ratio) -> str:
    return f"{format_ratio(ratio.lowest)} to {format_ratio(ratio.highest)}"


def _verdict(reached: Reached) -> str:
    return "met" if reached.met else "missed"


# -- Markdown


def markdown_page(
    results: Results,
    effort: Effort,
    *,
    title: str,
    about: Iterable[str],
    commands: Iterable[str],
    reached: Sequence[Reached],
    picture: str | None,
) -> str:
    """A page of the documentation.

    Args:
        results: what was measured.
        effort: how much was measured.
        title: of the page.
        about: what was measured on, a line each.
        commands: that write this page.
        reached: the goals, where the server is the one that they are about.
        picture: its file's name, if there is one.
    """
    parts = [f"# {title}", "Written by either of these commands; [what the numbers mean](index.md)."]
    parts.append("```sh\n" + "\n".join(commands) + "\n```")
    parts.append("\n".join(f"- {line}" for line in about))
    if picture:
        parts.append(f"![Rate and CPU time of each client]({picture})")
    for workload in results.workloads:
        rows = [["", *header(results)]]
        rows += [[_emphasis(client), *cells(results, workload, client)] for client in results.clients]
        parts += [f"## {_capital(_title(workload, effort))}", _markdown_table(rows)]
    if reached:
        rows = [["Goal", "Reached", "In the rounds", ""]]
        rows += [[_goal(one), format_ratio(one.ratio.median), _spread(one.ratio), _verdict(one)] for one in reached]
        parts += ["## Goals", _markdown_table(rows)]
    return "\n\n".join(parts) + "\n"


def _emphasis(client: str) -> str:
    return f"**{client}**" if client == TERZETTO else client


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _markdown_table(rows: Sequence[Sequence[str]]) -> str:
    first, *others = rows
    rule = ["---", *(["---:"] * (len(first) - 1))]
    return "\n".join(f"| {' | '.join(row)} |" for row in (first, rule, *others))
