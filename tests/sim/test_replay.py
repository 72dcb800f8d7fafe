"""A seed is one run: the same in every process, whatever the hash seed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from .simulation import Simulation

SEED = 7


def fingerprint_in_another_process(hash_seed: str) -> str:
    run = subprocess.run(
        [sys.executable, "-m", "tests.sim", str(SEED), "--fingerprint"],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return run.stdout.strip()


@pytest.mark.slow
def test_a_seed_gives_the_same_trace_in_every_process() -> None:
    simulation = Simulation(SEED)
    simulation.run()
    own = simulation.world.fingerprint()
    assert {fingerprint_in_another_process(hash_seed) for hash_seed in ("0", "1", "4711")} == {own}


@pytest.mark.slow
def test_another_seed_is_another_run() -> None:
    runs = [Simulation(seed) for seed in (SEED, SEED + 1)]
    for run in runs:
        run.run()
    assert runs[0].world.fingerprint() != runs[1].world.fingerprint()
    assert runs[0].plan != runs[1].plan
