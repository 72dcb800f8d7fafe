"""The checkers bite: each of many defects, most of them bugs that ZooKeeper had, is found within a few seeds."""

from __future__ import annotations

import logging

import pytest

from .defects import DEFECTS, Defect
from .ledger import Violation
from .simulation import Simulation


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    # Servers with a defect complain, rightly, and by the thousand.
    caplog.set_level(logging.CRITICAL)


@pytest.mark.slow
@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.name.replace(" ", "-"))
def test_a_defect_is_found(defect: Defect) -> None:
    with defect.present():
        for seed in range(defect.bound):
            found = violation_of(defect.simulation(seed))
            if found is not None:
                print(f"{defect.name} ({defect.bug or 'no bug of ZooKeeper'}): seed {seed}, {found}")
                assert found.invariant in defect.breaks
                return
    pytest.fail(f"{defect.name}: not found in {defect.bound} seeds")


def violation_of(simulation: Simulation) -> Violation | None:
    """What a run shows."""
    try:
        simulation.run()
    except Violation as violation:
        return violation
    return None
