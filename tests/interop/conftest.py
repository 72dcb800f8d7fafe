"""The real peers as fixtures. Decides what the shared servers allow and what happens where a peer is not installed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from terzetto.testcluster import start_ensemble

from .installation import PeerMissing, find_classpath, find_java
from .java_programs import find_curator_classpath, find_javac
from .zookeeper import SUPER_DIGEST, SUPER_DIGEST_PROPERTY, RealEnsemble, RealZooKeeper, ServerOptions

OwnZooKeeper = Callable[..., RealZooKeeper]
OwnEnsemble = Callable[..., RealEnsemble]

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker("interop")


@pytest.fixture(scope="session")
def zookeeper_installed() -> None:
    """Skips where ZooKeeper or Java is missing; fails there in CI, where a skipped suite must not look good."""
    try:
        find_java()
        find_classpath()
    except PeerMissing as missing:
        if os.environ.get("CI") == "true":
            pytest.fail(str(missing), pytrace=False)
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def curator_installed(zookeeper_installed: None) -> None:
    """Skips where Curator or a Java compiler is missing; fails there in CI."""
    try:
        find_curator_classpath()
        find_javac()
    except PeerMissing as missing:
        if os.environ.get("CI") == "true":
            pytest.fail(str(missing), pytrace=False)
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def zookeeper(zookeeper_installed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealZooKeeper]:
    """One standalone server for all tests that leave it running: TTL nodes, no reconfig, superuser super:test."""
    options = ServerOptions(
        zoo_cfg={"extendedTypesEnabled": "true", "reconfigEnabled": "false"},
        jvm_properties={SUPER_DIGEST_PROPERTY: SUPER_DIGEST},
    )
    with RealZooKeeper(options, directory=tmp_path_factory.mktemp("zookeeper")) as server:
        yield server


@pytest.fixture(scope="session")
def ensemble(zookeeper_installed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealEnsemble]:
    """Three servers for all tests that leave them and their membership as they are: TTL nodes, reconfig, superuser."""
    options = ServerOptions(
        zoo_cfg={"extendedTypesEnabled": "true", "reconfigEnabled": "true"},
        jvm_properties={SUPER_DIGEST_PROPERTY: SUPER_DIGEST},
    )
    with RealEnsemble(3, options, directory=tmp_path_factory.mktemp("ensemble")) as servers:
        yield servers


@pytest.fixture(scope="module")
def embedded_hosts() -> Iterator[str]:
    """The connect string of three embedded servers."""
    with start_ensemble(servers=3) as servers:
        yield servers.hosts


@pytest.fixture(params=["real", "embedded"])
def hosts_of_either_kind(request: pytest.FixtureRequest) -> str:
    """The connect string of the real server, and in a second run of the test that of embedded ones."""
    if request.param == "real":
        server: RealZooKeeper = request.getfixturevalue("zookeeper")
        return server.hosts
    embedded: str = request.getfixturevalue("embedded_hosts")
    return embedded


@pytest.fixture
def own_zookeeper(zookeeper_installed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnZooKeeper]:
    """Starts a standalone server of the test's own, serving when the call returns; takes `ServerOptions`' arguments."""
    with ExitStack() as servers:

        def start(**options: Any) -> RealZooKeeper:
            directory = tmp_path_factory.mktemp("own-zookeeper")
            return servers.enter_context(RealZooKeeper(ServerOptions(**options), directory=directory))

        yield start


@pytest.fixture
def own_ensemble(zookeeper_installed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnEnsemble]:
    """Starts an ensemble of the test's own, serving when the call returns; takes n and `ServerOptions`' arguments."""
    with ExitStack() as ensembles:

        def start(n: int = 3, **options: Any) -> RealEnsemble:
            directory = tmp_path_factory.mktemp("own-ensemble")
            return ensembles.enter_context(RealEnsemble(n, ServerOptions(**options), directory=directory))

        yield start
