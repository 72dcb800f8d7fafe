"""What a batch of runs must have reached at least, so that a simulation in which nothing happens cannot pass.

Numbers a run, on average over a batch, about half of what was measured over 200 seeds. What comes once in fifty runs is
asked only of batches that are large enough.
"""

from __future__ import annotations

from .faults import CRASH_POINTS
from .simulation import Reached

_SELDOM = {
    "crash before TruncateHistory": 0.008,
    "crash after TruncateHistory": 0.004,
    "crash before InstallSnapshot": 0.02,
    "crash inside InstallSnapshot": 0.02,
    "crash after InstallSnapshot": 0.008,
    "crash before snapshot": 0.008,
    "crash inside snapshot": 0.008,
    "crash after snapshot": 0.008,
}

FLOORS: dict[str, float] = {
    "events": 2000,
    "transactions committed": 60,
    "multis committed": 5,
    "containers and TTL znodes swept": 0.6,
    "leaders established": 2,
    "synchronized by DIFF": 3.5,
    "synchronized by TRUNC": 0.02,
    "synchronized by SNAP": 0.7,
    "answers: write": 50,
    "answers: read": 50,
    "answers: sync": 12,
    "answers: event": 1,
    "answers: session": 6,
    "answers: expiry": 0.06,
    **{f"crash {point}": 0.04 for point in CRASH_POINTS},
    **_SELDOM,
}
"""Least count a run, on average over a batch; see docs/design/simulation.md."""


def missed(reached: Reached) -> list[str]:
    """What stayed below its floor."""
    found: list[str] = []
    for name, least in FLOORS.items():
        count = reached.events if name == "events" else reached.counts[name]
        wanted = int(least * reached.runs)
        if count < wanted:
            found.append(f"{name}: {count} in {reached.runs} runs, at least {wanted}")
    return found
