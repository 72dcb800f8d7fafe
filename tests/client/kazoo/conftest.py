"""An embedded server for the blocking client, and clients that are stopped whatever happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from terzetto.client.kazoo.client import KazooClient
from terzetto.testcluster import BlockingEnsemble, start_ensemble

Connect = Callable[..., KazooClient]


@pytest.fixture(scope="module")
def ensemble() -> Iterator[BlockingEnsemble]:
    """One server for the tests of a module."""
    with start_ensemble() as running:
        yield running


@pytest.fixture
def connect(ensemble: BlockingEnsemble) -> Iterator[Connect]:
    """Makes started clients of the server; arguments are the client's."""
    clients: list[KazooClient] = []

    def make(**options: Any) -> KazooClient:
        client = KazooClient(options.pop("hosts", ensemble.hosts), **options)
        clients.append(client)
        client.start()
        return client

    yield make
    for client in clients:
        client.stop()
        client.close()


@pytest.fixture
def client(connect: Connect, ensemble: BlockingEnsemble) -> KazooClient:
    """A started client of an empty server."""
    started = connect()
    for name in started.get_children("/"):
        if name != "zookeeper":
            started.delete(f"/{name}", recursive=True)
    return started
