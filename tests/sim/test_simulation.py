"""Two hundred seeds: no violation in any of them, and each batch gets to where bugs live."""

from __future__ import annotations

import pytest

from .floors import missed
from .simulation import Reached, run_seed

BATCH = 50
BATCHES = 4


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, BATCH * BATCHES, BATCH))
def test_no_seed_of_a_batch_shows_a_violation(first: int) -> None:
    reached = Reached()
    for seed in range(first, first + BATCH):
        reached.add(run_seed(seed))
    print("\n".join(reached.lines()))
    assert not missed(reached)
