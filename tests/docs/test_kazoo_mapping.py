"""The mapping page names everything that kazoo offers, and nothing native that does not exist."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from typing import Any

import kazoo.client
import pytest
from kazoo import security
from kazoo.protocol import paths, states

import terzetto.client
import terzetto.recipes

from ..architecture.tree import ROOT

_PAGE = (ROOT / "docs" / "design" / "kazoo-mapping.md").read_text(encoding="utf-8")
_CODE = re.compile(r"`([^`]+)`")
_RECIPES = {
    "Lock": "lock",
    "Semaphore": "semaphore",
    "Election": "election",
    "Barrier": "barrier",
    "DoubleBarrier": "double_barrier",
    "Counter": "counter",
    "Party": "party",
    "Queue": "queue",
    "LockingQueue": "locking_queue",
    "SetPartitioner": "partitioner",
    "TreeCache": "tree_cache",
}
_MODULES = ("barrier", "cache", "counter", "election", "lease", "lock", "partitioner", "party", "queue", "watchers")


def _rows() -> list[tuple[list[str], list[str]]]:
    """The code words of the first two cells of every table row."""
    rows = [line.strip("|").split("|") for line in _PAGE.splitlines() if line.startswith("| `")]
    return [(_CODE.findall(cells[0]), _CODE.findall(cells[1])) for cells in rows]


def _public(owner: object) -> set[str]:
    return {name for name in dir(owner) if not name.startswith("_")}


def _recipe_classes() -> dict[str, Any]:
    modules = [import_module(f"kazoo.recipe.{name}") for name in _MODULES]
    return {
        name: value
        for module in modules
        for name, value in vars(module).items()
        if inspect.isclass(value) and value.__module__ == module.__name__ and not name.startswith(("_", "Base"))
    }


def _offered_by_kazoo() -> set[str]:
    client = kazoo.client.KazooClient()
    offered = {f"client.{name}" for name in _public(client)}
    offered |= {f"transaction.{name}" for name in _public(client.transaction())}
    recipes = _recipe_classes()
    attached = {name for name in recipes if hasattr(client, name)}
    offered |= set(recipes) - attached
    for name, prefix in _RECIPES.items():
        offered |= {f"{prefix}.{member}" for member in _public(recipes[name]) if not member.startswith("STATE_")}
    for module in (states, security, paths):
        offered |= {
            name
            for name, value in vars(module).items()
            if not name.startswith("_")
            and not inspect.ismodule(value)
            and getattr(value, "__module__", module.__name__).startswith("kazoo")
        }
    return offered - {"namedtuple"}


def test_every_public_name_of_kazoo_is_mapped() -> None:
    mapped = {name for left, _ in _rows() for name in left}
    assert sorted(_offered_by_kazoo() - mapped) == []


def test_the_page_names_nothing_that_kazoo_has_not() -> None:
    mapped = {name for left, _ in _rows() for name in left if name.startswith(("client.", "transaction."))}
    assert sorted(mapped - _offered_by_kazoo()) == []


def _native_client() -> Any:
    """The client's class; until it stands there is nothing to compare with, and the snippets fail instead."""
    found = getattr(terzetto.client, "ZooKeeper", None)
    if found is None:
        pytest.skip("terzetto.client has no ZooKeeper yet")
    return found


def test_every_native_method_on_the_page_exists() -> None:
    client = _native_client()
    named = set(re.findall(r"`zk\.(\w+)", _PAGE))
    annotated = {name for cls in client.__mro__ for name in getattr(cls, "__annotations__", {})}
    assert sorted(name for name in named if not hasattr(client, name) and name not in annotated) == []


def test_every_native_argument_on_the_page_exists() -> None:
    _native_client()
    named = set(re.findall(r"`open_zookeeper\((\w+)=\)", _PAGE))
    assert sorted(named - set(inspect.signature(terzetto.client.open_zookeeper).parameters)) == []


def test_the_same_names_are_the_same_names() -> None:
    _native_client()
    rows = [left for left, _ in _rows() if set(left) & {"KazooState", "ACL", "make_acl"}]
    missing = [name for left in rows for name in left if not hasattr(terzetto.client, name)]
    missing += [name for name in kazoo.exceptions.EXCEPTIONS if name not in terzetto.client.errors.EXCEPTIONS]
    assert missing == []


def test_the_recipes_exist() -> None:
    section = _PAGE.partition("## Recipes")[2]
    named: dict[str, bool] = {}
    for line in section.splitlines():
        if line.startswith("| `"):
            _, _, names, note, *_ = line.split("|")
            for name in _CODE.findall(f"{names} {note}"):
                if name[:1].isupper() and name.isidentifier():
                    named[name] = note.strip().startswith("to come")
    assert sorted(name for name, to_come in named.items() if to_come == (name in terzetto.recipes.__all__)) == []
    assert {name for name, to_come in named.items() if not to_come}
