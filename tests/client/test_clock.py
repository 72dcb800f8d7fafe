"""Clocks: the one of the machine goes on while it sleeps, the one of a run is as virtual as the run."""

from __future__ import annotations

import time

import pytest
import trio
from trio.testing import MockClock

from terzetto.client import BootClock, RunClock


async def test_a_runs_clock_is_trios(autojump_clock: MockClock) -> None:
    clock = RunClock()
    begun = clock.now()
    await trio.sleep(100)
    assert clock.now() - begun == 100


def test_the_boot_clock_counts_time_asleep_where_the_system_can() -> None:
    if not hasattr(time, "CLOCK_BOOTTIME"):
        pytest.skip("this system has no CLOCK_BOOTTIME")
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before <= BootClock().now() <= time.clock_gettime(time.CLOCK_BOOTTIME)


def test_elsewhere_it_is_the_monotonic_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(time, "CLOCK_BOOTTIME", raising=False)
    before = time.monotonic()
    assert before <= BootClock().now() <= time.monotonic()
