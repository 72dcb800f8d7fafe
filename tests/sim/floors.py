"""What a batch of runs must have reached at least, so that a simulation in which nothing happens cannot pass.

Numbers for each run on average, well below what was measured; a rare thing has its floor as a share of a run.
"""

from __future__ import annotations

from .faults import CRASH_POINTS
from .simulation import Reached

FLOORS: dict[str, float] = {
    "transactions committed": 60,
    "leaders established": 2,
    "synchronized by DIFF": 2,
    "synchronized by TRUNC": 0.02,
    "synchronized by SNAP": 0.05,
    "answers: write": 40,
    "answers: read": 40,
    "answers: sync": 3,
    "answers: event": 0.2,
    "answers: session": 2,
    "answers: expiry": 0.1,
    **{f"crash {point}": 0.01 for point in CRASH_POINTS},
}
"""Least count a run, on average over a batch; see docs/design/simulation.md."""

EVENTS = 1000
"""Least events a run, on average over a batch."""


def missed(reached: Reached) -> list[str]:
    """What stayed below its floor."""
    found = [] if reached.events >= EVENTS * reached.runs else [f"{reached.events} events in {reached.runs} runs"]
    for name, least in FLOORS.items():
        # In a small batch one occurrence is not asked of what comes once in a hundred runs.
        wanted = int(least * reached.runs)
        if reached.counts[name] < wanted:
            found.append(f"{name}: {reached.counts[name]}, at least {wanted}")
    return found
