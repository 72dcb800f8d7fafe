"""The pytest fixture `kazoo_client`: a started blocking client with a chroot of its own for each test.

The ensemble comes from `terzetto.testcluster`. Imports nothing but pytest until the fixture is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from terzetto.testcluster import BlockingEnsemble

    from .client import KazooClient


@pytest.fixture
def kazoo_client(zk_ensemble: BlockingEnsemble, zk_chroot: str) -> Iterator[KazooClient]:
    """A started `KazooClient` below `zk_chroot`; stopped behind the test, and what it has made is deleted."""
    from .client import KazooClient

    with KazooClient(zk_ensemble.hosts) as outside:
        outside.ensure_path(zk_chroot)
        client = KazooClient(zk_ensemble.hosts + zk_chroot)
        client.start()
        try:
            yield client
        finally:
            client.stop()
            client.close()
            zk_ensemble.heal()
            outside.retry(outside.delete, zk_chroot, recursive=True)
