"""Membership in a group that everybody can list: Curator's GroupMember.

A member is a znode `<path>/<id>` that is kept in existence (`persistent_node`); the group is a copy of all of them
(`_mirror`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from terzetto.client import PlainNursery, ZooKeeper

from ._following import Latest, LatestStream, Standing
from ._mirror import TreeMirror
from ._znodes import join, native
from .persistent_node import PersistentNode


class GroupMember(Standing):
    """Is a member for the block, and knows the others: `async with GroupMember(zk, "/group", "me", b"data") as group:`.

    After a lost session the membership is renewed; nothing is cancelled. Of two with one id the later one has the
    place. Needs servers from 3.6 on.

    Args:
        client: the client.
        path: the group's znode.
        member_id: who we are; the name of our znode.
        data: what others are told of us.
        container: make a missing group as a container, as Curator does.
    """

    def __init__(
        self, client: ZooKeeper, path: str, member_id: str, data: bytes = b"", *, container: bool = True
    ) -> None:
        if not member_id or "/" in member_id or member_id in (".", ".."):
            raise ValueError(f"{member_id!r} cannot be the name of a znode, so of no member either")
        self.client = native(client)
        self.path = path
        self.id = member_id
        self._node = PersistentNode(client, join(path, member_id), data, container=container)
        self._latest = Latest(dict[str, bytes]())
        self._mirror: TreeMirror | None = None

    @property
    def is_member(self) -> bool:
        """Whether our znode was there at the last look."""
        return self._node.is_present

    @property
    def age(self) -> float:
        """Seconds since `members()` was last known to be up to date: 0.0 while connected."""
        return float("inf") if self._mirror is None else self._mirror.age

    def members(self) -> dict[str, bytes]:
        """Data of every member by its id, ourselves included."""
        return dict(self._latest.value)

    def changes(self) -> AsyncIterator[dict[str, bytes]]:
        """The members, now and after each change, as an async iterator that ends with the block. Slow readers skip
        some.
        """
        return LatestStream(self._latest, self.members)

    async def set_data(self, data: bytes) -> None:
        """Tells the others something else."""
        await self._node.set_data(data)

    def _look(self) -> None:
        assert self._mirror is not None
        znodes = self._mirror.znodes
        found = {name: znodes[join(self.path, name)].data or b"" for name in self._mirror.children(self.path)}
        if found != self._latest.value:
            self._latest.put(found)

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        self._mirror = TreeMirror(self.client, self.path, depth=1, told=self._look)
        async with self._node, PlainNursery() as nursery:
            await nursery.start(self._mirror.follow)
            try:
                yield
            finally:
                nursery.cancel_scope.cancel()
                self._latest.finish()
