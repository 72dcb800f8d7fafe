"""kazoo's blocking barriers: shells over the native ones, which go on through lost connections and sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from terzetto import recipes

from ._crossing import Crossing

if TYPE_CHECKING:
    from ..client import KazooClient


class Barrier:
    """A barrier that somebody sets up and takes away.

    Args:
        client: the client.
        path: the znode. The barrier stands as long as it is there.
    """

    def __init__(self, client: KazooClient, path: str) -> None:
        self.client = client
        self.path = path
        self._native = Crossing(client, lambda zk: recipes.Barrier(zk, path))

    def create(self) -> None:
        """Sets it up; fine if it stands."""
        self._native.call(lambda barrier: barrier.create())

    def remove(self) -> bool:
        """Takes it away. False: there was none."""
        return self._native.call(lambda barrier: barrier.remove())

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until it is away. False: it stood for all of `timeout` seconds; with 0, it stands now."""
        if timeout is not None and timeout <= 0:
            return self.client.exists(self.path) is None
        return self._native.call(lambda barrier: barrier.wait(timeout))


class DoubleBarrier:
    """N members begin together and end together.

    Args:
        client: the client.
        path: the znode below which the members stand; made when it is missing.
        num_clients: how many must have entered before any is let through.
        identifier: who we are; the host's name and the process id if not given.
    """

    def __init__(self, client: KazooClient, path: str, num_clients: int, identifier: str | bytes | None = None) -> None:
        self.client = client
        self.path = path
        self.num_clients = num_clients
        self._native = Crossing(client, lambda zk: recipes.DoubleBarrier(zk, path, num_clients, identifier))

    @property
    def participating(self) -> bool:
        """Entered, and not left."""
        native = self._native.present
        return native is not None and native.participating

    @property
    def assured_path(self) -> bool:
        """Whether this object was used on this start of the client, which makes sure of its path."""
        return self._native.is_made

    @property
    def node_name(self) -> str | None:
        """Name of our znode, `None` before `enter` and behind `leave`."""
        native = self._native.present
        return None if native is None else native._name or None  # pyright: ignore[reportPrivateUsage]

    @property
    def create_path(self) -> str | None:
        """As `node_name`, with the path before it."""
        name = self.node_name
        return None if name is None else f"{self.path}/{name}"

    def enter(self) -> None:
        """Waits until `num_clients` members have entered.

        Raises:
            KazooException: whatever prevents it, where kazoo returns as if all had entered.
            RuntimeError: this object has entered already.
        """
        self._native.call(lambda barrier: barrier.enter())

    def leave(self) -> None:
        """Waits until all members who were there have left, or their sessions have ended."""
        if self.participating:
            self._native.call(lambda barrier: barrier.leave())
