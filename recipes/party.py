"""Parties: who is there. kazoo's znodes.

A member is an ephemeral znode that is made again after a lost session (`persistent_node`): that is a registration, not
an ownership, and nothing is cancelled.
"""

from __future__ import annotations

import uuid
from abc import abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from terzetto.client import NoNodeError, PlainNursery, ZooKeeper

from ._following import Latest, Standing, in_any_session
from ._znodes import encoded, join, native
from .persistent_node import PersistentNode


class _Party(Standing):
    """See `Party`."""

    def __init__(self, client: ZooKeeper, path: str, identifier: str | bytes | None = None) -> None:
        self.client = native(client)
        self.path = path
        self.data = encoded(identifier)
        self._node = join(path, self._name())
        self._wanted = Latest(False)
        self._joined = Latest(False)
        self._runs = False

    @abstractmethod
    def _name(self) -> str:
        """Of our znode; nobody else has it."""

    @abstractmethod
    async def members(self) -> list[str]:
        """Identifiers of the members, in no order; "" for one without."""

    @property
    def participating(self) -> bool:
        """Whether we are a member, or will be one again as soon as there is a session."""
        return self._joined.value

    async def join(self) -> None:
        """Becomes a member, fine if we are one. Inside the block only, which begins with it."""
        await self._want(True)

    async def leave(self) -> None:
        """Is no member any more, fine if we are none. Inside the block only, which ends with it."""
        await self._want(False)

    async def _want(self, wanted: bool) -> None:
        if not self._runs:
            raise RuntimeError("a member is one inside its own block: async with Party(...) as party")
        await trio.lowlevel.checkpoint()
        self._wanted.put(wanted)
        # Wakes whoever wanted the opposite: that may never come.
        self._joined.tell()
        while self._runs and self._joined.value != wanted and self._wanted.value == wanted:
            await self._joined.wait_changed()

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        async with PlainNursery() as nursery:
            self._runs = True
            try:
                nursery.start_soon(self._take_part)
                await self.join()
                yield
                await self.leave()
            finally:
                self._runs = False
                nursery.cancel_scope.cancel()

    async def _take_part(self) -> None:
        try:
            while True:
                while not self._is_wanted():
                    await self._wanted.wait_changed()
                async with PersistentNode(self.client, self._node, self.data, container=False):
                    self._joined.put(True)
                    while self._is_wanted():
                        await self._wanted.wait_changed()
                self._joined.put(False)
        finally:
            self._joined.put(False)

    def _is_wanted(self) -> bool:
        return self._wanted.value

    async def _names(self) -> list[str]:
        try:
            return await in_any_session(self.client, self.client.get_children, self.path)
        except NoNodeError:
            return []


class Party(_Party):
    """Members with their identifiers in the data: `async with Party(zk, "/party", "me") as party:`.

    Args:
        client: the client.
        path: the znode below which the members stand; made when it is missing.
        identifier: who we are.
    """

    def _name(self) -> str:
        return f"{uuid.uuid4().hex}__party__"

    async def members(self) -> list[str]:
        """Identifiers of the members, in no order; "" for one without. One request for each."""
        found: list[str] = []
        for name in await self._names():
            if "__party__" not in name:
                continue
            try:
                data, _ = await in_any_session(self.client, self.client.get, join(self.path, name))
            except NoNodeError:
                continue
            found.append((data or b"").decode("utf-8", "replace"))
        return found

    async def count(self) -> int:
        """How many members there are. One request."""
        return sum("__party__" in name for name in await self._names())


class ShallowParty(_Party):
    """Members with their identifiers in their names, so that one request lists them. The arguments are `Party`'s.

    Raises:
        ValueError: the identifier has a slash.
    """

    def _name(self) -> str:
        identifier = self.data.decode()
        if "/" in identifier:
            raise ValueError(f"an identifier in a znode's name has no slash: {identifier!r}")
        return f"{uuid.uuid4().hex}-{identifier}"

    async def members(self) -> list[str]:
        """Identifiers of the members, in no order; "" for one without. One request."""
        return [name.partition("-")[2] for name in await self._names()]

    async def count(self) -> int:
        """How many members there are. One request."""
        return len(await self._names())
