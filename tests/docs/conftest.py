"""A real server of the documentation's own, empty at the start of every test that asks for it."""

from __future__ import annotations

from collections.abc import Iterator

import kazoo.client
import pytest

from tests.interop.conftest import zookeeper_installed
from tests.interop.zookeeper import SUPER_AUTH, SUPER_DIGEST, SUPER_DIGEST_PROPERTY, RealZooKeeper, ServerOptions

__all__ = ["zookeeper_installed"]  # pytest finds the fixture here


@pytest.fixture(scope="session")
def documentation_server(
    zookeeper_installed: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RealZooKeeper]:
    options = ServerOptions(jvm_properties={SUPER_DIGEST_PROPERTY: SUPER_DIGEST})
    with RealZooKeeper(options, directory=tmp_path_factory.mktemp("documentation")) as server:
        yield server


@pytest.fixture
def empty_server(documentation_server: RealZooKeeper) -> RealZooKeeper:
    """The server with nothing on it. kazoo clears it, so that a page's test leans on terzetto in the page alone."""
    # As the super user: a page may leave znodes behind that nobody else can list.
    client = kazoo.client.KazooClient(documentation_server.hosts, auth_data=[("digest", SUPER_AUTH)])
    client.start(timeout=30)
    try:
        for name in set(client.get_children("/")) - {"zookeeper"}:
            client.delete(f"/{name}", recursive=True)
    finally:
        client.stop()
        client.close()
    return documentation_server
