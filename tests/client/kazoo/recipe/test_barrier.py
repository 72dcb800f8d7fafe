"""kazoo's barriers, through what makes kazoo's go deaf."""

from __future__ import annotations

import inspect

import kazoo.recipe.barrier as theirs
import pytest

from terzetto.client.kazoo.client import KazooClient
from terzetto.client.kazoo.recipe import barrier as ours
from terzetto.testcluster import BlockingEnsemble
from tests.recipes.truth import now

from ..conftest import Connect
from .test_lock import BOUND, Running, queued


@pytest.mark.parametrize("name", ["Barrier", "DoubleBarrier"])
def test_signatures_are_kazoos(name: str) -> None:
    mine, other = (inspect.signature(getattr(module, name)).parameters for module in (ours, theirs))
    assert list(mine) == list(other)


def test_a_barrier_stands_until_it_is_removed(client: KazooClient, ensemble: BlockingEnsemble) -> None:
    barrier = client.Barrier("/b")
    assert barrier.wait(timeout=BOUND)
    barrier.create()
    barrier.create()
    assert not barrier.wait(timeout=0.01)
    waiting = Running(barrier.wait)
    ensemble.drop_connections()
    client.retry(client.sync, "/")
    assert waiting.waits
    assert barrier.remove()
    assert waiting.outcome() is True
    assert not barrier.remove()


def test_members_enter_and_leave_together(client: KazooClient, connect: Connect, ensemble: BlockingEnsemble) -> None:
    first, second = client.DoubleBarrier("/d", 2, "first"), connect().DoubleBarrier("/d", 2, "second")
    entering = Running(first.enter)
    queued(client, "/d", 1)
    ensemble.drop_connections()
    assert now(first.participating) is False
    second.enter()
    entering.outcome()
    assert now(first.participating)
    assert now(second.participating)
    with pytest.raises(RuntimeError):
        second.enter()
    leaving = Running(first.leave)
    second.leave()
    leaving.outcome()
    assert now(first.participating) is False
    first.leave()
    assert client.get_children("/d") == []


def test_a_barrier_is_looked_at_without_waiting(client: KazooClient) -> None:
    barrier = client.Barrier("/looked-at")
    assert barrier.wait(0) is True
    barrier.create()
    assert barrier.wait(timeout=0) is False
    barrier.remove()
    assert barrier.wait(0) is True
