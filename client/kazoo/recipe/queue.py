"""kazoo's blocking queues: shells over the native ones."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from terzetto import recipes

from ..exceptions import ConnectionLoss, NoNodeError
from ._crossing import Crossing

if TYPE_CHECKING:
    from ..client import KazooClient

ONE_LOOK = 5.0
"""Bound for taking an item that was there a moment ago, in seconds."""


class BaseQueue(ABC):
    """What both queues have.

    Attributes:
        client: the client.
        path: the znode below which the queue stands.
        structure_paths: the paths that it needs, which its first use makes sure of.
    """

    def __init__(self, client: KazooClient, path: str) -> None:
        self.client = client
        self.path = path
        self.structure_paths: tuple[str, ...] = (path,)
        self._native: Crossing[Any]

    @property
    def ensured_path(self) -> bool:
        """Whether this object was used on this start of the client, which makes sure of its paths."""
        return self._native.is_made

    @abstractmethod
    def __len__(self) -> int:
        """How many items there are."""


class Queue(BaseQueue):
    """A queue whose items are taken out at once. Whoever takes an item and dies has lost it.

    Args:
        client: the client.
        path: the znode below which the items stand; made when it is missing.
    """

    prefix = "entry-"
    """Of the items' znodes."""

    def __init__(self, client: KazooClient, path: str) -> None:
        super().__init__(client, path)
        self._native: Crossing[recipes.Queue] = Crossing(client, lambda zk: recipes.Queue(zk, path))

    def __len__(self) -> int:
        """How many items there are."""
        return self._native.call(lambda queue: queue.qsize())

    def get(self) -> bytes | None:
        """Takes the first item; `None` if there is none. Does not wait for one."""
        return self._native.call(lambda queue: queue.get())

    def put(self, value: bytes, priority: int = 100) -> None:
        """Puts an item. Items of a smaller priority, from 0 to 999, go first.

        Raises:
            TypeError: the value is not bytes, or the priority no int.
            ValueError: the priority is out of range.
        """
        self._native.call(lambda queue: queue.put(value, priority))


class LockingQueue(BaseQueue):
    """A queue whose items are held first, and stay if their holder dies.

    Args:
        client: the client.
        path: the znode below which the queue stands; made when it is missing.
    """

    lock = "/taken"
    """Where the znodes of those who hold items stand, below the path."""
    entries = "/entries"
    """Where the items' znodes stand, below the path."""
    entry = "entry"
    """What the items' znodes are called."""

    def __init__(self, client: KazooClient, path: str) -> None:
        super().__init__(client, path)
        self.structure_paths = (path, path + self.lock, path + self.entries)
        self._native: Crossing[recipes.LockingQueue] = Crossing(client, lambda zk: recipes.LockingQueue(zk, path))

    @property
    def id(self) -> bytes | None:
        """What stands in the znodes that hold our items; `None` before the first call."""
        native = self._native.present
        return None if native is None else native.id

    @property
    def processing_element(self) -> tuple[str, bytes] | None:
        """Name and value of the item that this object holds, `None` without one."""
        native = self._native.present
        held = None if native is None else native.processing_element
        return None if held is None else (held.name, held.value)

    def __len__(self) -> int:
        """How many items there are, with those that are held."""
        return self._native.call(lambda queue: queue.qsize())

    def put(self, value: bytes, priority: int = 100) -> None:
        """Puts an item. As `Queue.put`."""
        self._native.call(lambda queue: queue.put(value, priority))

    def put_all(self, values: list[bytes], priority: int = 100) -> None:
        """Puts items, all or none. As `Queue.put`."""
        if not isinstance(values, list):
            raise TypeError(f"values must be a list of bytes, not {values!r:.100}")
        self._native.call(lambda queue: queue.put_all(values, priority))

    def get(self, timeout: float | None = None) -> bytes | None:
        """Holds the first item that nobody holds; the same again, while this object holds one.

        Args:
            timeout: seconds to wait for an item; `None` for no limit; 0 takes one that is there.

        Returns:
            The item, `None` if there was none in time.
        """

        async def get(queue: recipes.LockingQueue) -> bytes | None:
            if timeout is None or timeout > 0:
                return await queue.get(timeout)
            # The native limit is for all of it, requests too.
            return await queue.get(ONE_LOOK) if queue.processing_element or await self._has_free() else None

        return self._native.take(get, give_back=lambda queue: queue.release())

    async def _has_free(self) -> bool:
        zk = self.client.native
        try:
            return bool(
                set(await zk.get_children(self.path + self.entries)) - set(await zk.get_children(self.path + self.lock))
            )
        except (NoNodeError, ConnectionLoss):
            return False  # what cannot be asked for at once is not there at once

    def holds_lock(self) -> bool:
        """Whether this object holds an item, as a quorum knows it."""
        return self._native.present is not None and self._native.call(lambda queue: queue.holds_lock())

    def consume(self) -> bool:
        """Takes the item that this object holds out of the queue. False: it holds none, or not any more."""
        return self._native.present is not None and self._native.call(lambda queue: queue.consume())

    def release(self) -> bool:
        """Gives the item back, for others. False: this object holds none, or not any more."""
        return self._native.present is not None and self._native.call(lambda queue: queue.release())
