"""kazoo's cluster of servers for tests, by an ensemble inside this process.

Decides what kazoo's names for servers mean here. Ports are free ones, data is in memory, and no environment variable is
read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

from terzetto.testcluster import BlockingEnsemble, start_ensemble

from ..exceptions import ConfigurationError

SETTINGS = {
    "reconfigEnabled": "true",
    "4lw.commands.whitelist": "*",
    # Password "test", as in kazoo's cluster.
    "DigestAuthenticationProvider.superDigest": "super:D/InIHSb7yEEbrWz8b9l71RjZJU=",
}


class ManagedZooKeeper:
    """One server of a `ZookeeperCluster`.

    Args:
        cluster: whose.
        sid: its id, from 1 on.
    """

    def __init__(self, cluster: ZookeeperCluster, sid: int) -> None:
        self._cluster = cluster
        self._sid = sid
        self._running = True

    @property
    def address(self) -> str:
        """Host and client port."""
        return self._cluster.ensemble.host(self._sid)

    @property
    def secure_address(self) -> str:
        """Raises `ConfigurationError`: this cluster has no port for TLS."""
        raise ConfigurationError("the embedded ensemble of kazoo.testing has no port for TLS")

    @property
    def client_port(self) -> int:
        """The client port."""
        return int(self.address.rpartition(":")[2])

    @property
    def running(self) -> bool:
        """Whether it was started and not stopped."""
        return self._running and self._cluster.running

    def run(self) -> None:
        """Starts it, unless it runs; on the port that it had before."""
        if not self._running:
            self._cluster.ensemble.start(self._sid)
            self._running = True

    def stop(self) -> None:
        """Stops it, unless it is stopped."""
        if self._running:
            self._running = False
            self._cluster.ensemble.stop(self._sid)


class ZookeeperCluster:
    """Servers to test with: `with`out Java, iterable, `cluster[0].stop()`.

    Args:
        size: how many.
    """

    def __init__(self, size: int = 3) -> None:
        self._size = size
        self._stack = ExitStack()
        self._ensemble: BlockingEnsemble | None = None
        self._servers: list[ManagedZooKeeper] = []

    @property
    def ensemble(self) -> BlockingEnsemble:
        """The ensemble behind it, which can do more: partitions, pauses, expiries.

        Raises:
            ConfigurationError: it is not started.
        """
        if self._ensemble is None:
            raise ConfigurationError("the cluster is not started")
        return self._ensemble

    @property
    def running(self) -> bool:
        """Between `start` and `stop`."""
        return self._ensemble is not None

    def __iter__(self) -> Iterator[ManagedZooKeeper]:
        return iter(self._servers)

    def __getitem__(self, index: int) -> ManagedZooKeeper:
        return self._servers[index]

    def __len__(self) -> int:
        return len(self._servers)

    def start(self) -> None:
        """Starts all servers; returns when they serve. A second call starts those that were stopped."""
        if self._ensemble is None:
            self._ensemble = self._stack.enter_context(start_ensemble(self._size, settings=SETTINGS))
            self._servers = [ManagedZooKeeper(self, sid) for sid in self._ensemble.sids]
        for server in self._servers:
            server.run()
        self._ensemble.wait_serving()

    def stop(self) -> None:
        """Stops all servers, and forgets them with their data."""
        self._servers, self._ensemble = [], None
        self._stack.close()

    def terminate(self) -> None:
        """As `stop`."""
        self.stop()

    def reset(self) -> None:
        """New servers without data, on other ports."""
        self.stop()
        self.start()
