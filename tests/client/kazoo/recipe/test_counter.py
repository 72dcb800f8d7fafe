"""kazoo's counter."""

from __future__ import annotations

import inspect
from typing import Any

import kazoo.recipe.counter as theirs
import pytest

from terzetto.client.kazoo.client import KazooClient
from terzetto.client.kazoo.recipe import counter as ours
from terzetto.testcluster import BlockingEnsemble

from .test_lock import Running


def test_its_signature_is_kazoos() -> None:
    mine, other = (inspect.signature(module.Counter).parameters for module in (ours, theirs))
    assert [(p.name, p.default) for p in mine.values()] == [(p.name, p.default) for p in other.values()]


def test_a_counter_changes_on_the_servers(client: KazooClient) -> None:
    counter = client.Counter("/c")
    assert (counter.value, counter.pre_value, counter.post_value) == (0, None, None)
    counter += 2
    assert (counter.value, counter.pre_value, counter.post_value) == (2, 0, 2)
    counter -= 5
    assert (counter.value, counter.pre_value, counter.post_value) == (-3, 2, -3)
    assert client.get("/c")[0] == b"-3"
    assert client.Counter("/f", default=1.5).value == 1.5
    curator = client.Counter("/s", support_curator=True)
    curator += 7
    assert client.get("/s")[0] == b"\0\0\0\7"


def test_what_is_no_number_of_its_type_is_refused(client: KazooClient) -> None:
    counter = client.Counter("/c")
    with pytest.raises(TypeError):
        counter + 1.5  # pyright: ignore[reportUnusedExpression]
    with pytest.raises(TypeError):
        counter - "1"  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue, reportUnusedExpression]
    wrongs: list[tuple[Any, bool]] = [("1", False), (1.5, True)]
    for wrong, curator in wrongs:
        with pytest.raises(TypeError):
            client.Counter("/c", wrong, curator)
    assert counter.value == 0


def test_changes_are_made_once_through_lost_connections(client: KazooClient, ensemble: BlockingEnsemble) -> None:
    counter = client.Counter("/c")

    def count() -> None:
        own = client.Counter("/c")
        for _ in range(20):
            own += 1

    working = [Running(count) for _ in range(3)]
    for _ in range(5):
        ensemble.drop_connections()
        client.retry(client.sync, "/")
    for each in working:
        each.outcome()
    assert counter.value == 60
