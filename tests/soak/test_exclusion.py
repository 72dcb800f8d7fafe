"""Thousands of seeds of mutual exclusion in the whole stack; EXCLUSION_SEEDS and EXCLUSION_FIRST_SEED change which."""

from __future__ import annotations

import logging
import os
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

import pytest

from tests.sim.exclusion import batch, missed, run_seed

SEEDS = int(os.environ.get("EXCLUSION_SEEDS", "3000"))
FIRST = int(os.environ.get("EXCLUSION_FIRST_SEED", "1000000"))
# Small enough that a batch ends long before a test counts as hanging.
BATCH = 250


def reached_quietly(seed: int) -> Counter[str]:
    """One run; servers and clients without each other would complain, and a lot."""
    logging.disable(logging.CRITICAL)
    return run_seed(seed)


@pytest.mark.parametrize("first", range(FIRST, FIRST + SEEDS, BATCH))
def test_no_seed_of_thousands_breaks_a_rule(first: int) -> None:
    reached, seeds = Counter[str](), range(first, min(first + BATCH, FIRST + SEEDS))
    with ProcessPoolExecutor() as pool:
        for counts in pool.map(reached_quietly, seeds, chunksize=10):
            reached.update(counts)
    print(*batch(reached, len(seeds)), sep="\n")
    assert not missed(reached, len(seeds))
