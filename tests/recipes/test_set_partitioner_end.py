"""The end of a `SetPartitioner`, at whichever moment it comes."""

# ruff: noqa: PT012 - what leaves a block is what is tested here
from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from terzetto.recipes import OwnershipLost, SetPartitioner
from tests.client.memory_server import MemoryEnsemble

from .walking import at_rest


class _WhenScheduled(trio.abc.Instrument):
    """Calls something when one of what it waits for at once is to go on for the time number `left`."""

    def __init__(self, left: int, reached: Callable[[], object]) -> None:
        self.left = left
        self._reached = reached

    def task_scheduled(self, task: trio.lowlevel.Task) -> None:
        if "first_of" in task.name:
            self.left -= 1
            if self.left == 0:
                self._reached()


@pytest.mark.parametrize("chance", range(8))
async def test_it_can_be_finished_while_the_items_are_being_acquired(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, chance: int
) -> None:
    """The allocation has come to its end and does not know yet that all is over; which of both runs is chance."""
    at, left = 0, 0
    while left <= 0:
        at += 1
        async with ensemble.open() as zk, trio.open_nursery() as nursery:
            partitioner = SetPartitioner(zk, "/s", ("a",), time_boundary=1)
            instrument = _WhenScheduled(at, partial(nursery.start_soon, partitioner.finish))
            trio.lowlevel.add_instrument(instrument)
            with trio.fail_after(100):
                async with partitioner:
                    await trio.sleep(30)
                    assert partitioner.failed or instrument.left > 0
            trio.lowlevel.remove_instrument(instrument)
            left = instrument.left
            await at_rest(zk)
    assert at > 3


@pytest.mark.parametrize("inside", ["hold", "nursery"])
async def test_an_error_of_the_division_is_all_that_leaves_the_block(
    ensemble: MemoryEnsemble, autojump_clock: MockClock, inside: str
) -> None:
    """Also for whoever waits for a part meanwhile, and is told that there will be none."""

    def fails(identifier: str, members: list[str], items: Collection[str]) -> list[str]:
        raise LookupError("no idea")

    async with ensemble.open() as zk:
        partitioner = SetPartitioner(zk, "/s", ("a",), fails, time_boundary=1)
        with pytest.raises(LookupError, match="no idea"):
            async with partitioner:
                if inside == "hold":
                    async with partitioner.hold():
                        pytest.fail("nothing is ours")
                async with trio.open_nursery() as nursery:
                    for _ in range(3):
                        nursery.start_soon(partitioner.hold().__aenter__)
        with pytest.raises(OwnershipLost):
            async with partitioner.hold():
                pytest.fail("nothing is ours")
        await at_rest(zk)
