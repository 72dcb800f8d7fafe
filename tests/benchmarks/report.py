"""Tables for people: aligned text for a terminal, Markdown for the documentation.

Decides units, columns and words. Refuses to compute anything: `results` does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from .results import Reached, Results
from .workloads import KAZOO, TERZETTO, C, Effort, Goal, Metric, Workload

_METRICS: Sequence[Metric] = ("rate", "p50", "cpu")
_COMPARED: Sequence[Metric] = ("rate", "p50", "p99", "cpu")
_WORDS: dict[Metric, str] = {
    "rate": "rate",
    "p50": "p50",
    "p99": "p99",
    "cpu": "CPU",
    "ready": "time",
    "empty": "empty memory",
    "full": "full memory",
    "empty-pss": "memory",
    "threads": "threads",
    "failover": "time of failover",
    "held": "clients",
}
_ABSOLUTE: Sequence[str] = ("ops/s", "p50", "p99", "CPU/op")
NOTHING = "-"
"""What stands where a server or client would be compared with itself."""


def format_time(microseconds: float) -> str:
    """With three digits and the unit that suits them."""
    for factor, unit in ((1.0, "us"), (1e3, "ms")):
        if microseconds / factor < 999.5:
            return f"{microseconds / factor:.3g} {unit}"
    return f"{microseconds / 1e6:.3g} s"


def format_ratio(ratio: float) -> str:
    """With as many digits as mean something."""
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:.1f}"


def header(results: Results[Workload]) -> list[str]:
    """The columns after the client's name."""
    columns = list(_ABSOLUTE)
    for base in _bases(results):
        columns += [f"{_WORDS[metric]} / {base}" for metric in _METRICS]
    return columns


def cells(results: Results[Workload], workload: Workload, client: str) -> list[str]:
    """One row's columns: absolute medians, then ratios to kazoo and to C."""
    median = {metric: results.median(workload.name, client, metric) for metric in _COMPARED}
    row = [f"{median['rate']:,.0f}", *(format_time(median[metric]) for metric in ("p50", "p99", "cpu"))]
    for base in _bases(results):
        for metric in _METRICS:
            same = client == base
            row.append(NOTHING if same else format_ratio(results.ratio(workload.name, client, base, metric).median))
    return row


def _bases(results: Results[Workload]) -> list[str]:
    return [base for base in (KAZOO, C) if base in results.clients]


def _title(workload: Workload, effort: Effort) -> str:
    note = " (p50, p99: of a batch)" if workload.has_batches else ""
    return workload.describe(effort) + note


# -- text


def text_tables(results: Results[Workload], effort: Effort) -> str:
    """Everything measured, for a terminal."""
    rows: list[list[str]] = [["", *header(results)]]
    for workload in results.workloads:
        rows.append([_title(workload, effort)])
        rows += [[f"  {client}", *cells(results, workload, client)] for client in results.clients]
    return align(rows)


def text_goals(reached: Sequence[Reached]) -> str:
    """Each goal beside what became of it."""
    rows = [["goal", "reached", "rounds", ""]]
    rows += [[_goal(one), _reached(one, one.ratio.median), _spread(one), _verdict(one)] for one in reached]
    return align(rows)


def align(rows: Sequence[Sequence[str]]) -> str:
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
    if goal.base is None:
        return f"{goal.workload}: {_WORDS[goal.metric]} of {goal.of} {relation} {_figure(goal, goal.bound)}"
    if goal.of == TERZETTO:
        return f"{goal.workload}: {_WORDS[goal.metric]} {relation} {goal.bound:g} x {goal.base}'s"
    return f"{goal.workload}: {_WORDS[goal.metric]} of {goal.of} {relation} {goal.bound:g} x that of {goal.base}"


def _reached(reached: Reached, value: float) -> str:
    return _figure(reached.goal, value) if reached.goal.base is None else format_ratio(value)


def _figure(goal: Goal, value: float) -> str:
    return f"{value:g}" if goal.metric in ("threads", "held") else format_time(value)


def _spread(reached: Reached) -> str:
    return f"{_reached(reached, reached.ratio.lowest)} to {_reached(reached, reached.ratio.highest)}"


def _verdict(reached: Reached) -> str:
    return "met" if reached.met else "missed"


# -- Markdown


class Page(NamedTuple):
    """What surrounds the tables of a page.

    Attributes:
        title: of the page.
        about: what was measured on, a line each.
        commands: that write this page.
        picture: its file's name, if there is one.
    """

    title: str
    about: Sequence[str]
    commands: Sequence[str]
    picture: str | None


def markdown_page(page: Page, sections: Iterable[str], reached: Sequence[Reached]) -> str:
    """A page of the documentation.

    Args:
        page: its head.
        sections: the tables under their headings.
        reached: the goals, where the servers are those that they are about.
    """
    parts = [f"# {page.title}", "Written by either of these commands; [what the numbers mean](index.md)."]
    parts.append("```sh\n" + "\n".join(page.commands) + "\n```")
    parts.append("\n".join(f"- {line}" for line in page.about))
    if page.picture:
        parts.append(f"![Rate and CPU time of each client]({page.picture})")
    parts += sections
    if reached:
        rows = [["Goal", "Reached", "In the rounds", ""]]
        rows += [[_goal(one), _reached(one, one.ratio.median), _spread(one), _verdict(one)] for one in reached]
        parts += ["## Goals", markdown_table(rows)]
    return "\n\n".join(parts) + "\n"


def client_sections(results: Results[Workload], effort: Effort) -> list[str]:
    """Everything measured of clients, as parts of a page."""
    parts: list[str] = []
    for workload in results.workloads:
        rows = [["", *header(results)]]
        rows += [[emphasis(client), *cells(results, workload, client)] for client in results.clients]
        parts += [f"### {capital(_title(workload, effort))}", markdown_table(rows)]
    return parts


def emphasis(name: str) -> str:
    """The name, in bold type when it is ours."""
    return f"**{name}**" if name.startswith(TERZETTO) else name


def capital(text: str) -> str:
    """With a great letter at its beginning."""
    return text[0].upper() + text[1:]


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """The first row is the head; all columns but the first go to the right."""
    first, *others = rows
    rule = ["---", *(["---:"] * (len(first) - 1))]
    return "\n".join(f"| {' | '.join(row)} |" for row in (first, rule, *others))
