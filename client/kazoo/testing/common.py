"""kazoo's cluster of servers for tests, by an ensemble inside this process.

Decides what kazoo's names for servers mean here. Ports are free ones, data is in memory, and no environment variable is
read.
"""

from __future__ import annotations

import logging
import re
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

from terzetto.testcluster import BlockingEnsemble, start_ensemble

from ..exceptions import ConfigurationError
from ._certificates import Certificates

LOG_LINES = 100
"""How many of the last lines of the servers' log are kept."""

# Of a JAAS configuration, what DIGEST-MD5 needs: `user_name="password"`.
_JAAS_USER = re.compile(r"""user_(\w+)\s*=\s*"([^"]*)\"""")

SETTINGS = {
    "reconfigEnabled": "true",
    "4lw.commands.whitelist": "*",
    "readonlymode.enabled": "true",
    # Password "test", as in kazoo's cluster.
    "DigestAuthenticationProvider.superDigest": "super:D/InIHSb7yEEbrWz8b9l71RjZJU=",
}


class _Lines(logging.Handler):
    """The last lines that the servers have logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: deque[str] = deque(maxlen=LOG_LINES)

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        self.lines.append(self.format(record) + "\n")


def _settings(entries: Iterable[str], java_properties: Iterable[str]) -> dict[str, str]:
    """Lines of a zoo.cfg, and Java's properties that ZooKeeper reads, as settings of servers."""
    found: dict[str, str] = {}
    for entry in entries:
        key, _, value = entry.partition("=")
        found[key.strip()] = value.strip()
    for entry in java_properties:
        key, _, value = entry.removeprefix("-D").partition("=")
        if key.startswith("zookeeper."):
            found[key.removeprefix("zookeeper.")] = value
    return found


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
    def classpath(self) -> str:
        """Nothing: there are no classes of Java."""
        return ""

    @property
    def address(self) -> str:
        """Host and client port."""
        return self._cluster.ensemble.host(self._sid)

    @property
    def secure_address(self) -> str:
        """Where it speaks TLS, which is where it speaks without, too.

        Raises:
            ConfigurationError: the cluster speaks none, see `ZookeeperCluster.get_ssl_client_configuration`.
        """
        if not self._cluster.speaks_tls:
            raise ConfigurationError(
                "this cluster was started without TLS: call get_ssl_client_configuration() before, or reset() behind it"
            )
        return self.address

    @property
    def client_port(self) -> int:
        """The client port."""
        return int(self.address.rpartition(":")[2])

    @property
    def secure_client_port(self) -> int:
        """The port of `secure_address`. Raises as that does."""
        return int(self.secure_address.rpartition(":")[2])

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

    def reset(self) -> None:
        """Stops it and starts it again, without its data, which it gets from the others."""
        self.stop()
        self.run()

    def destroy(self) -> None:
        """As `stop`; the data go with the cluster."""
        self.stop()

    def get_logs(self, num_lines: int = 100) -> list[str]:
        """The last lines that the servers of the cluster have logged, whichever it was."""
        return self._cluster.get_logs()[-num_lines:]


class ZookeeperCluster:
    """Servers to test with: `with`out Java, iterable, `cluster[0].stop()`.

    Args:
        install_path: where kazoo looks for Java's classes; means nothing here.
        classpath: the same.
        size: how many.
        port_offset: means nothing here: ports are free ones.
        observer_start_id: servers from this id on, beginning with 1, are observers; -1 for none.
        configuration_entries: lines of a zoo.cfg.
        java_system_properties: those that begin with "zookeeper." are settings too.
        jaas_config: with DigestLoginModule, whose users may log in by DIGEST-MD5.

    Raises:
        ConfigurationError: the JAAS configuration names no users.
    """

    def __init__(
        self,
        install_path: str | None = None,
        classpath: str | None = None,
        size: int = 3,
        port_offset: int = 20000,
        observer_start_id: int = -1,
        configuration_entries: Iterable[str] = (),
        java_system_properties: Iterable[str] = (),
        jaas_config: str | None = None,
    ) -> None:
        self._observers = 0 if observer_start_id == -1 else max(0, size + 1 - observer_start_id)
        self._voters = size - self._observers
        self._settings = {**SETTINGS, **_settings(configuration_entries, java_system_properties)}
        self._users = dict(_JAAS_USER.findall(jaas_config)) if jaas_config else None
        if self._users == {}:
            raise ConfigurationError(
                'jaas_config has no user_NAME="PASSWORD"; other logins than DIGEST-MD5\'s are not set up'
            )
        self._certificates: Certificates | None = None
        self._speaks_tls = False
        self._lines = _Lines()
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

    @property
    def speaks_tls(self) -> bool:
        """Whether it was started so that its servers speak TLS."""
        return self.running and self._speaks_tls

    def get_ssl_client_configuration(self) -> dict[str, bytes]:
        """What a client needs for TLS: "client_key", "client_cert" and "ca_cert", each PEM, to be written into files.

        Servers speak TLS from the next `start` or `reset` of the cluster on. kazoo's always do; here the certificates
        cost time that a cluster without them does not take.

        Raises:
            ConfigurationError: the package trustme is missing.
        """
        if self._certificates is None:
            self._certificates = Certificates()
        return dict(self._certificates.for_clients)

    def __iter__(self) -> Iterator[ManagedZooKeeper]:
        return iter(self._servers)

    def __getitem__(self, index: int) -> ManagedZooKeeper:
        return self._servers[index]

    def __len__(self) -> int:
        return len(self._servers)

    def start(self) -> None:
        """Starts all servers; returns when they serve. A second call starts those that were stopped."""
        if self._ensemble is None:
            logger = logging.getLogger("terzetto.testcluster")
            logger.addHandler(self._lines)
            self._stack.callback(logger.removeHandler, self._lines)
            settings = self._settings
            self._speaks_tls = self._certificates is not None
            if self._certificates is not None:
                folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="terzetto-kazoo-"))
                settings = {**settings, **self._certificates.settings(Path(folder))}
            self._ensemble = self._stack.enter_context(
                start_ensemble(self._voters, observers=self._observers, sasl_users=self._users, settings=settings)
            )
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

    def get_logs(self) -> list[str]:
        """The last lines that the servers have logged."""
        return list(self._lines.lines)
