"""Every public method of the drop-in, blocking and `_async`, is called by some test of it."""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from terzetto.client.kazoo._transaction import TransactionRequest
from terzetto.client.kazoo.client import KazooClient
from terzetto.client.kazoo.handlers.threading import SequentialThreadingHandler
from terzetto.client.kazoo.handlers.utils import AsyncResult
from terzetto.client.kazoo.retry import KazooRetry
from terzetto.client.kazoo.testing import KazooTestHarness
from terzetto.client.kazoo.testing.common import ManagedZooKeeper, ZookeeperCluster

HERE = Path(__file__).parent
RECIPES = ("barrier", "cache", "counter", "election", "lock", "partitioner", "party", "queue", "watchers")
CLASSES: list[type[Any]] = [
    AsyncResult,
    KazooClient,
    KazooRetry,
    KazooTestHarness,
    ManagedZooKeeper,
    SequentialThreadingHandler,
    TransactionRequest,
    ZookeeperCluster,
]


def recipes() -> Iterator[type[Any]]:
    for name in RECIPES:
        module = importlib.import_module(f"terzetto.client.kazoo.recipe.{name}")
        for value in vars(module).values():
            if inspect.isclass(value) and value.__module__ == module.__name__ and not value.__name__.startswith("_"):
                yield value


def methods(cls: type[Any]) -> set[str]:
    found: set[str] = set()
    for owner in cls.__mro__:
        if owner.__module__.startswith("terzetto.client.kazoo"):
            found |= {name for name, value in vars(owner).items() if inspect.isfunction(value) and name[0] != "_"}
    return found


@pytest.fixture(scope="module")
def used() -> set[str]:
    """Names of attributes that the tests call, or hand to somebody who does."""
    names: set[str] = set()
    for path in HERE.rglob("test_*.py"):
        if path == Path(__file__):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                names.add(node.attr)
    return names


@pytest.mark.parametrize("cls", [*CLASSES, *recipes()], ids=lambda cls: cls.__name__)
def test_each_is_called(cls: type[Any], used: set[str]) -> None:
    assert methods(cls) - used == set()


def test_the_look_at_the_client_sees_its_methods() -> None:
    seen = methods(KazooClient)
    assert {"get", "get_async", "create_async", "ensure_path_async", "set_acls_async", "add_listener"} <= seen
    twins = {name for name in seen if name.endswith("_async")}
    assert len(twins) == 13
    assert {name.removesuffix("_async") for name in twins} <= seen
