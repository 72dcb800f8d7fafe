"""Layers, spelling of imports, sans-IO: the tree keeps them, and each rule is seen to bite."""

from __future__ import annotations

from pathlib import Path

import pytest

from .layers import (
    MAY_IMPORT,
    ROWS,
    dynamic_import_violations,
    layer_of,
    layer_violations,
    sans_io_violations,
    spelling_violations,
    unplaced_files,
)
from .tree import SourceTree, plant, refuse


def test_every_product_file_has_a_layer(source_tree: SourceTree) -> None:
    refuse(unplaced_files(source_tree))


def test_imports_point_inwards(source_tree: SourceTree) -> None:
    refuse(layer_violations(source_tree))


def test_imports_are_spelled_one_way(source_tree: SourceTree) -> None:
    refuse(spelling_violations(source_tree))


def test_imports_are_visible(source_tree: SourceTree) -> None:
    refuse(dynamic_import_violations(source_tree))


def test_sans_io_files_take_everything_as_arguments(source_tree: SourceTree) -> None:
    refuse(sans_io_violations(source_tree))


def test_the_table_is_closed_and_has_no_cycle() -> None:
    assert {row.layer for row in ROWS} == set(MAY_IMPORT)
    for layer, inner in MAY_IMPORT.items():
        assert inner <= set(MAY_IMPORT)
        if layer != "outermost":
            assert not any(layer in MAY_IMPORT[other] for other in inner - {layer}), layer


def test_a_pattern_stays_within_its_folder() -> None:
    assert layer_of("client/wire/records.py") == "wire"
    assert layer_of("client/wire/deeper/records.py") is None


def test_an_unknown_file_asks_for_a_row(tmp_path: Path) -> None:
    tree = plant(tmp_path, {"client/_new_noun.py": "", "recipes/lock.py": ""})
    (found,) = unplaced_files(tree)
    assert found.startswith("client/_new_noun.py: no layer; add a row")


_FILES = {
    "client/__init__.py": "from ._client import ZooKeeper as ZooKeeper\n",
    "client/errors.py": "",
    "client/values.py": "",
    "client/wire/__init__.py": "from .records import Header as Header\n",
    "client/wire/records.py": "from ..values import ACL\n",
    "client/_session.py": "from .wire import Header\nfrom random import Random\n",
    "client/_client.py": "import trio\nfrom . import _session\nfrom ._runner import Runner\n",
    "client/_runner.py": "",
    "recipes/lock.py": "import trio\nfrom terzetto.client import ZooKeeper\n",
    "testcluster/server.py": "import trio\nfrom terzetto.client.wire import Header\nfrom .datatree import DataTree\n",
    "testcluster/datatree.py": "from terzetto.client.values import ACL\n",
    "testcluster/cli/__init__.py": "from terzetto.client import ZooKeeper\nfrom ..server import Server\n",
}


def test_a_sound_tree_passes(tmp_path: Path) -> None:
    tree = plant(tmp_path, _FILES)
    assert not unplaced_files(tree)
    assert not layer_violations(tree)
    assert not spelling_violations(tree)
    assert not dynamic_import_violations(tree)
    assert not sans_io_violations(tree)


@pytest.mark.parametrize(
    ("name", "line", "says"),
    [
        ("client/values.py", "from .wire import Header", "'values' may not import 'wire'"),
        ("client/wire/records.py", "from .._session import Session", "'wire' may not import 'session'"),
        ("client/wire/records.py", "from .. import _session", "'wire' may not import 'session'"),
        ("client/_session.py", "def f():\n    from ._client import ZooKeeper", "'session' may not import 'client'"),
        ("client/_client.py", "from terzetto.recipes.lock import Lock", "'client' may not import 'recipes'"),
        ("testcluster/server.py", "import terzetto.client._session", "'server' may not import 'session'"),
        ("testcluster/server.py", "from terzetto.client import ZooKeeper", "'server' may not import 'client'"),
        ("testcluster/datatree.py", "from .server import Server", "'data tree' may not import 'server'"),
        ("testcluster/server.py", "from .cli import main", "'server' may not import 'outermost'"),
        ("recipes/lock.py", "from terzetto.client._client import ZooKeeper", "'recipes' may not import 'client'"),
        ("recipes/lock.py", "from terzetto.client import _session", "'recipes' may not import 'session'"),
        ("recipes/lock.py", "from terzetto.client import wire", "'recipes' may not import 'wire'"),
        ("recipes/lock.py", "import terzetto.client", "recipes import public names"),
        ("recipes/lock.py", "from terzetto.client import _private", "recipes import public names"),
    ],
)
def test_an_outward_import_is_found(tmp_path: Path, name: str, line: str, says: str) -> None:
    (found,) = layer_violations(plant(tmp_path, {**_FILES, name: line + "\n"}))
    assert found.startswith(name)
    assert says in found


@pytest.mark.parametrize(
    ("name", "line", "says"),
    [
        ("tests/client/test_x.py", "import client", "import terzetto.client"),
        ("tests/client/test_x.py", "from testcluster.server import Server", "import terzetto.testcluster"),
        ("client/_client.py", "from recipes.lock import Lock", "import terzetto.recipes"),
        ("client/_client.py", "from terzetto.client.values import ACL", "relative"),
        ("client/_client.py", "from terzetto import client", "relative"),
        ("client/_client.py", "from ..recipes import lock", "leaves the package"),
    ],
)
def test_a_wrongly_spelled_import_is_found(tmp_path: Path, name: str, line: str, says: str) -> None:
    (found,) = spelling_violations(plant(tmp_path, {**_FILES, name: line + "\n"}))
    assert found.startswith(name)
    assert says in found


@pytest.mark.parametrize(
    "call", ["importlib.import_module('terzetto.client')", "import_module('x')", "__import__('x')"]
)
def test_a_hidden_import_is_found(tmp_path: Path, call: str) -> None:
    (found,) = dynamic_import_violations(
        plant(tmp_path, {"recipes/lock.py": call, "testcluster/cli/__init__.py": call})
    )
    assert found.startswith("recipes/lock.py:1")


@pytest.mark.parametrize(
    "text",
    [
        "import time",
        "from time import monotonic",
        "import trio",
        "from trio import sleep",
        "import asyncio.events",
        "import os",
        "import tenacity",
        "def f():\n    import socket",
        "from random import random",
        "import random\nx = random.random()",
        "import random\nx = random.Random()",
        "from random import Random\nx = Random(1)",
    ],
)
def test_io_in_a_sans_io_file_is_found(tmp_path: Path, text: str) -> None:
    (found,) = sans_io_violations(plant(tmp_path, {"client/_session.py": text, "client/_runner.py": text}))
    assert found.startswith("client/_session.py")


@pytest.mark.parametrize(
    "text", ["import random\ndef f(chance: random.Random) -> None: ...", "from random import Random"]
)
def test_a_random_source_may_be_an_argument(tmp_path: Path, text: str) -> None:
    assert sans_io_violations(plant(tmp_path, {"client/_hosts.py": text})) == []
