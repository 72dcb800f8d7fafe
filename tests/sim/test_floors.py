"""A batch that reached nothing is found out."""

from __future__ import annotations

from collections import Counter

from .faults import CRASH_POINTS
from .floors import FLOORS, missed
from .simulation import Reached


def test_a_batch_in_which_nothing_happened_misses_every_floor() -> None:
    assert len(missed(Reached(1000))) == len(FLOORS)


def test_a_batch_at_its_floors_passes_and_one_below_does_not() -> None:
    counts = Counter({name: int(1000 * least) for name, least in FLOORS.items()})
    reached = Reached(1000, counts.pop("events"), counts)
    assert not missed(reached)
    reached.counts["synchronized by TRUNC"] -= 1
    assert [problem.partition(":")[0] for problem in missed(reached)] == ["synchronized by TRUNC"]


def test_every_point_between_two_disk_writes_has_a_floor() -> None:
    assert {f"crash {point}" for point in CRASH_POINTS} <= set(FLOORS)


def test_batches_add_up() -> None:
    total = Reached()
    for _ in range(2):
        total.add(Reached(1, 10, Counter({"cut": 3})))
    assert (total.runs, total.events, total.counts) == (2, 20, Counter({"cut": 6}))
    assert total.lines() == ["           2  runs", "          20  events", "           6  cut"]
