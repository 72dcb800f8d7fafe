"""A known fault of Curator's test servers, absent here; its number is that of `docs/recipes/known-faults.md`."""

from __future__ import annotations

from contextlib import AsyncExitStack

import trio

from terzetto.client import open_zookeeper
from terzetto.testcluster import Ensemble, open_ensemble


async def test_curator_16_ensembles_side_by_side_are_nobody_else_s() -> None:
    """Curator's choose ports that somebody else may take before they are opened (CURATOR-535, -560)."""
    opened: list[Ensemble] = []

    async with AsyncExitStack() as stack:

        async def open_one() -> None:
            opened.append(await stack.enter_async_context(open_ensemble(servers=3)))

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(open_one)
        addresses = [address for ensemble in opened for address in ensemble.hosts.split(",")]
        assert len(set(addresses)) == 9
        for number, ensemble in enumerate(opened):
            async with open_zookeeper(ensemble.hosts) as zk:
                await zk.create(f"/{number}")
                assert set(await zk.get_children("/")) == {str(number), "zookeeper"}
