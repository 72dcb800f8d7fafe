"""Ten thousand seeds of the deterministic simulation without a violation; SIM_SEEDS and SIM_FIRST_SEED change which."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor

import pytest

from tests.sim.floors import missed
from tests.sim.simulation import Reached, run_seed

SEEDS = int(os.environ.get("SIM_SEEDS", "10000"))
FIRST = int(os.environ.get("SIM_FIRST_SEED", "1000000"))
# Small enough that a batch ends long before a test counts as hanging.
BATCH = 250


@pytest.mark.parametrize("first", range(FIRST, FIRST + SEEDS, BATCH))
def test_no_seed_of_ten_thousand_shows_a_violation(first: int) -> None:
    total = Reached()
    with ProcessPoolExecutor() as pool:
        for reached in pool.map(run_seed, range(first, min(first + BATCH, FIRST + SEEDS)), chunksize=10):
            total.add(reached)
    print(*total.lines(), sep="\n")
    assert not missed(total)
