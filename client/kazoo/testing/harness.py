"""kazoo's `unittest` cases: clients of a cluster, that lose connections and sessions on purpose.

Decides how a test case gets its clients and when they end. The cluster is shared by the tests of a class.
"""

from __future__ import annotations

import atexit
import logging
import threading
import unittest
import uuid
from collections.abc import Callable
from typing import Any

from ..client import KazooClient
from ..exceptions import KazooException
from ..protocol.connection import (
    _CONNECTION_DROP,  # pyright: ignore[reportPrivateUsage]
    _SESSION_EXPIRED,  # pyright: ignore[reportPrivateUsage]
)
from ..protocol.states import KazooState
from .common import ZookeeperCluster

log = logging.getLogger(__name__)

LOSS_TIMEOUT = 5.0
"""Bound for a loss to be noticed, in seconds."""

RETURN_TIMEOUT = 15.0
"""Bound for a client to be connected again after a loss, in seconds."""

_USERS = """
Server {
    org.apache.zookeeper.server.auth.DigestLoginModule required
    user_super="super_secret"
    user_jaasuser="jaas_password";
};"""
"""Who may log in by DIGEST-MD5, as in kazoo's cluster for tests of it."""

_cluster = ZookeeperCluster(jaas_config=_USERS)
atexit.register(_cluster.terminate)


def get_global_cluster() -> ZookeeperCluster:
    """The cluster of this process. kazoo's environment variables mean nothing here."""
    return _cluster


class KazooTestHarness(unittest.TestCase):
    """`self.client`, a started client with a chroot of its own, between `setup_zookeeper` and `teardown_zookeeper`.

    Attributes:
        client: the client, `None` outside of that.
        hosts: for further clients, with the chroot.
    """

    DEFAULT_CLIENT_TIMEOUT = 15

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # None outside a test, as in kazoo; a test that uses it is inside one.
        self.client: Any = None
        self.hosts = ""
        self._clients: list[KazooClient] = []

    @property
    def cluster(self) -> ZookeeperCluster:
        """The cluster."""
        return get_global_cluster()

    @property
    def servers(self) -> str:
        """The servers, separated by commas, without a chroot."""
        return ",".join(server.address for server in self.cluster)

    @property
    def secure_servers(self) -> str:
        """The same for TLS. Raises `ConfigurationError`: the cluster was started without."""
        return ",".join(server.secure_address for server in self.cluster)

    def log(self, level: int, msg: str, *args: Any, **kwargs: Any) -> None:
        """Logs a message."""
        log.log(level, msg, *args, **kwargs)

    def _get_nonchroot_client(self) -> KazooClient:
        return self._keep(KazooClient(self.servers))

    def _get_client(self, **client_options: Any) -> KazooClient:
        client_options.setdefault("timeout", self.DEFAULT_CLIENT_TIMEOUT)
        return self._keep(KazooClient(self.hosts, **client_options))

    def _keep(self, client: KazooClient) -> KazooClient:
        self._clients.append(client)
        return client

    def setup_zookeeper(self, **client_options: Any) -> None:
        """Starts what of the cluster does not run, and a client.

        Args:
            client_options: `KazooClient`'s arguments. With `use_ssl` the servers speak TLS, and a cluster that was
                started without is made anew.
        """
        use_ssl = bool(client_options.get("use_ssl"))
        if use_ssl:
            self.cluster.get_ssl_client_configuration()
            if self.cluster.running and not self.cluster.speaks_tls:
                self.cluster.terminate()
        if not self.cluster.running or not all(server.running for server in self.cluster):
            self.cluster.start()
        self.hosts = f"{self.secure_servers if use_ssl else self.servers}/kazootests{uuid.uuid4().hex}"
        with KazooClient(self.servers) as outside:
            outside.ensure_path("/" + self.hosts.partition("/")[2])
        self.client = self._get_client(**client_options)
        self.client.start()

    def teardown_zookeeper(self) -> None:
        """Stops every client that this case has made."""
        while self._clients:
            client = self._clients.pop()
            try:
                client.stop()
            except KazooException:
                log.exception("a client could not be stopped: %r", client)
            finally:
                client.close()
        self.client = None

    def lose_connection(self, event_factory: Callable[[], threading.Event]) -> None:
        """Cuts the connection of `self.client`; returns when it has another one, with the same session."""
        self._break(_CONNECTION_DROP, KazooState.SUSPENDED, event_factory)

    def expire_session(self, event_factory: Callable[[], threading.Event]) -> None:
        """Ends the session of `self.client`; returns when it has another one.

        The server ends it: ephemerals are gone, where kazoo's case leaves them until the session times out.
        """
        self._break(_SESSION_EXPIRED, KazooState.LOST, event_factory)

    def _break(self, how: object, expected: str, event_factory: Callable[[], threading.Event]) -> None:
        lost, safe = event_factory(), event_factory()

        def watch_loss(state: str) -> bool:
            if state == expected:
                lost.set()
            elif lost.is_set() and state == KazooState.CONNECTED:
                safe.set()
                return True
            return False

        self.client.add_listener(watch_loss)
        self.client._call(how, None)
        for event, bound, what in ((lost, LOSS_TIMEOUT, "lost"), (safe, RETURN_TIMEOUT, "back")):
            if not event.wait(bound):
                self.client.remove_listener(watch_loss)
                raise TimeoutError(f"the connection was not {what} within {bound:g} s")


class KazooTestCase(KazooTestHarness):
    """A case whose every test has a client; the cluster ends with the class."""

    def setUp(self) -> None:
        """See `setup_zookeeper`."""
        self.setup_zookeeper()

    def tearDown(self) -> None:
        """See `teardown_zookeeper`."""
        self.teardown_zookeeper()

    @classmethod
    def tearDownClass(cls) -> None:
        """Ends the cluster."""
        get_global_cluster().terminate()
