"""Mutual exclusion in the whole stack: no seed of a batch breaks a rule, and each batch gets to where bugs live.

Every kind of recipe has seeds of its own here. A violation says how to see it again.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections import Counter

import pytest

from .exclusion import Run, batch, missed, plan_of, run_seed
from .exclusion_contenders import PLAYS
from .exclusion_defects import DEFECTS, Defect
from .exclusion_ledger import Violation

# Each run has a virtual clock of its own.
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("autojump_clock")]

SEED = 1
FIRST = 26
"""From here on so many seeds reach what the floors ask of an average."""
SEEDS = 20


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    # Servers and clients without each other complain, rightly, and a lot.
    caplog.set_level(logging.CRITICAL)


def test_no_seed_breaks_a_rule() -> None:
    reached = Counter[str]()
    plays = list(PLAYS)
    for seed in range(FIRST, FIRST + SEEDS):
        reached.update(run_seed(seed, plays[seed % len(plays)]))
    print(*batch(reached, SEEDS), sep="\n")
    assert not missed(reached, SEEDS)


def test_a_batch_in_which_nothing_happened_is_found_out() -> None:
    assert missed(Counter(), 1000)


def test_a_violation_tells_how_to_see_it_again() -> None:
    defect = next(defect for defect in DEFECTS if defect.name == "nothing cancels the body")
    with defect.present(), pytest.raises(Violation, match=r"python -m tests\.sim\.exclusion \d+ --recipe"):
        _search(defect)


def _search(defect: Defect) -> None:
    for seed in range(defect.bound):
        defect.run(seed).run()


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.name.replace(" ", "-"))
def test_a_defect_is_found(defect: Defect) -> None:
    with defect.present():
        for seed in range(defect.bound):
            try:
                defect.run(seed).run()
            except Violation as violation:
                print(f"{defect.name}: seed {seed}, {violation}")
                if violation.rule in defect.breaks:
                    return
    pytest.fail(f"{defect.name}: not found in {defect.bound} seeds")


def fingerprint_in_another_process(hash_seed: str) -> str:
    run = subprocess.run(
        [sys.executable, "-m", "tests.sim.exclusion", str(SEED), "--fingerprint"],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return run.stdout.strip()


def test_a_seed_gives_the_same_trace_in_every_process() -> None:
    run = Run(SEED, plan_of(SEED))
    run.run()
    assert {fingerprint_in_another_process(hash_seed) for hash_seed in ("0", "4711")} == {run.ledger.fingerprint()}


def test_another_seed_is_another_run() -> None:
    runs = [Run(seed, plan_of(seed)) for seed in (SEED, SEED + 1)]
    for run in runs:
        run.run()
    assert runs[0].ledger.fingerprint() != runs[1].ledger.fingerprint()


def test_a_server_that_is_stopped_as_it_is_killed_comes_back() -> None:
    """The faults ended between the two, and nobody started it again."""
    assert run_seed(5000535)["leaders killed"]
