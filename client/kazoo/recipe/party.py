"""kazoo's parties: shells over the native ones, whose block lasts from the first `join` to the client's stop."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING

import trio

from terzetto import recipes

from ..handlers.utils import AsyncResult
from ._crossing import Crossing
from .lock import encoded

if TYPE_CHECKING:
    from ..._client import ZooKeeper
    from ..client import KazooClient

NativeParty = recipes.Party | recipes.ShallowParty


class BaseParty:
    """What both share; see `Party`."""

    def __init__(self, client: KazooClient, path: str, identifier: str | bytes | None = None) -> None:
        self.client = client
        self.path = path
        self.data = encoded(identifier)
        self._native: Crossing[NativeParty] = Crossing(client, self._make)
        self._lock = threading.Lock()
        self._entered: NativeParty | None = None

    @abstractmethod
    def _make(self, zk: ZooKeeper) -> NativeParty:
        """The native recipe. Runs in the loop."""

    @property
    def participating(self) -> bool:
        """Whether we are a member; after a lost session we become one again."""
        native = self._native.present
        return native is not None and native.participating

    @property
    def ensured_path(self) -> bool:
        """Whether this object was used on this start of the client, which makes sure of its path."""
        return self._native.is_made

    @property
    def create_path(self) -> str:
        """Path of our znode, whether or not it is there. The client must be started."""

        async def look(party: NativeParty) -> str:
            return party._node  # pyright: ignore[reportPrivateUsage]

        return self._native.call(look)

    @property
    def node(self) -> str:
        """Name of our znode, whether or not it is there. The client must be started."""
        return self.create_path.rpartition("/")[2]

    def join(self) -> None:
        """Becomes a member, fine if we are one."""
        with self._lock:
            if self._entered is not None and self._native.present is self._entered:
                self._native.call(lambda party: party.join())
                return
            joined = self.client.handler.async_result()

            async def stay(party: NativeParty) -> None:
                async with party:
                    joined.set(party)
                    await trio.sleep_forever()

            def ended(task: AsyncResult) -> None:
                if not joined.ready():
                    joined(task)

            self._native.spawn(stay).rawlink(ended)
            self._entered = joined.get()

    def leave(self) -> bool:
        """Is no member any more. False: we were none."""
        if not self.participating:
            return False
        self._native.call(lambda party: party.leave())
        return True

    def __iter__(self) -> Iterator[str]:
        """Identifiers of the members, in no order."""
        return iter(self._native.call(lambda party: party.members()))

    def __len__(self) -> int:
        """How many members there are."""
        return self._native.call(lambda party: party.count())


class Party(BaseParty):
    """Who is there: `party.join()`, `list(party)`, `len(party)`, `party.leave()`.

    Args:
        client: the client.
        path: the znode below which the members stand; made when it is missing.
        identifier: who we are.
    """

    _NODE_NAME = "__party__"

    def _make(self, zk: ZooKeeper) -> recipes.Party:
        return recipes.Party(zk, self.path, self.data)


class ShallowParty(BaseParty):
    """Members with their identifiers in their names, so that one request lists them. The arguments are `Party`'s."""

    def _make(self, zk: ZooKeeper) -> recipes.ShallowParty:
        return recipes.ShallowParty(zk, self.path, self.data)
