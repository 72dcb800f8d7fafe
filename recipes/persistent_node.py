"""A znode that is kept in existence: Curator's PersistentNode and PersistentTtlNode.

It is a registration, not an ownership: after a lost session, or when somebody deletes it, it is made again, and nobody
is cancelled. Whose an ephemeral znode is, is told by its session.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import trio

from terzetto.client import (
    NodeExistsError,
    NoNodeError,
    PlainNursery,
    RolledBackError,
    RuntimeInconsistency,
    ZnodeStat,
    ZooKeeper,
    ZookeeperError,
)

from ._following import Latest, Standing, in_any_session
from ._znodes import ChangeWait, delete_once, join, make_path, native

_OVERTAKEN = (RolledBackError, RuntimeInconsistency, NoNodeError, NodeExistsError)


def _checked(data: bytes) -> bytes:
    """Raises `TypeError`: no znode can have such data, neither now nor when it is made again."""
    if not isinstance(data, bytes):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"data must be bytes, not {data!r:.60}")
    return data


class PersistentNode(Standing):
    """Keeps a znode in existence for the block: `async with PersistentNode(zk, "/hosts/a", b"data") as node:`.

    It is there when the block begins, and is deleted when it ends. In between it is made again after a lost session and
    when somebody deletes it; data that others write to it stays. An ephemeral znode of another session that is found at
    the beginning is replaced in one transaction, so that a process which starts again does not wait for its own past.
    One that takes the place later is left alone until it goes, so that two processes never fight.

    Args:
        client: the client.
        path: the znode.
        data: its data.
        ephemeral: it goes with the session. If not, one that is there already is taken over with our data.
        container: make missing parents as containers.
    """

    _replaces_persistent = False
    """Whether an ephemeral one takes the place of one that is not, at the beginning."""

    def __init__(
        self, client: ZooKeeper, path: str, data: bytes = b"", *, ephemeral: bool = True, container: bool = True
    ) -> None:
        self.client = native(client)
        self.path = path
        self.data = _checked(data)
        self._ephemeral = ephemeral
        self._container = container
        self._present = Latest(False)
        # From the sending of a create on, until a look shows that nothing or something else is there.
        self._may_be_ours = False
        # `data` may not be in the znode: it was given while one with other data was on its way.
        self._unwritten = False

    @property
    def is_present(self) -> bool:
        """Whether our znode was there when the servers were last asked; they are asked at each change."""
        return self._present.value

    async def wait_present(self) -> None:
        """Returns once it is there, at once if it is. A checkpoint.

        Raises:
            RuntimeError: the block has ended.
        """
        await trio.lowlevel.checkpoint()
        while not self._present.value:
            if self._present.is_final:
                raise RuntimeError(f"{self.path} is kept no more: the block has ended")
            await self._present.wait_changed()

    async def set_data(self, data: bytes) -> None:
        """Other data, now and whenever it is made again. While the znode is missing, it is only kept for that.

        Raises:
            TypeError: the data are not bytes.
            ValueError: they are too many for the servers. The data are as before.
        """
        before = self.data, self._unwritten
        self.data, self._unwritten = _checked(data), True
        await trio.lowlevel.checkpoint()
        if self._present.value:
            try:
                await in_any_session(self.client, self._write)
            except NoNodeError:
                pass
            except ValueError:
                # Too much for one request; it would be again when the znode is made again.
                self.data, self._unwritten = before
                raise

    async def _write(self) -> None:
        # In a session that has begun since, the znode is not ours until it has been made again, with these data.
        stat = await self.client.exists(self.path)
        if stat is not None and self._is_ours(stat):
            data = self.data
            await self.client.set(self.path, data)
            self._unwritten = data is not self.data

    def _is_ours(self, stat: ZnodeStat) -> bool:
        return not self._ephemeral or stat.ephemeralOwner == self.client.session_id

    # Keeping it -------------------------------------------------------------------------------------------------------

    async def _look(self, change: ChangeWait | None = None) -> ZnodeStat | None:
        """The znode's Stat, `None` without one; and whether it is ours."""
        told = None if change is None else change.told
        stat = await in_any_session(self.client, self.client.exists, self.path, watch=told)
        self._may_be_ours = stat is not None and self._is_ours(stat)
        return stat

    async def _begin(self) -> None:
        """The znode is there, and ours."""
        while True:
            stat = await self._look()
            if stat is None:
                if await self._make():
                    break
            elif self._may_be_ours:
                await in_any_session(self.client, self._write)
                break
            elif stat.ephemeralOwner == 0 and not self._replaces_persistent:
                raise NodeExistsError("a znode that is not ephemeral has the place", path=self.path)
            else:
                self._may_be_ours = True
                await in_any_session(self.client, self._replace)
        self._present.put(True)

    async def _make(self) -> bool:
        """Whether it was made now; if not, the next look tells why."""
        self._may_be_ours = True
        try:
            await in_any_session(self.client, self._create)
        except NodeExistsError:
            return False  # ours, by a request whose reply was lost, or somebody else's
        except NoNodeError:
            await self._make_parent()
            return False
        return True

    async def _create(self) -> None:
        await self.client.create(self.path, self.data, ephemeral=self._ephemeral)

    async def _made_again(self) -> None:
        """It is there again, in the block; whatever belongs to it is made as well."""

    async def _make_parent(self) -> None:
        parent = self.path.rpartition("/")[0] or "/"
        await in_any_session(self.client, lambda: make_path(self.client, parent, container=self._container))

    async def _replace(self) -> None:
        """The other session's znode goes and ours comes, at once or not at all."""
        stat = await self.client.exists(self.path)
        if stat is None or self._is_ours(stat):
            return  # gone meanwhile, or an earlier attempt did it
        transaction = self.client.transaction()
        transaction.delete(self.path)
        transaction.create(self.path, self.data, ephemeral=self._ephemeral)
        for result in await transaction.commit():
            if isinstance(result, ZookeeperError) and not isinstance(result, _OVERTAKEN):
                raise result

    async def _keep(self) -> None:
        while True:
            async with ChangeWait(self.client, self.path) as change:
                stat = await self._look(change)
                if self._may_be_ours and self._unwritten:
                    with suppress(NoNodeError):
                        await in_any_session(self.client, self._write)
                if self._may_be_ours != self._present.value:
                    if self._may_be_ours:
                        await self._made_again()
                    self._present.put(self._may_be_ours)
                if stat is not None:
                    await change.happened()
                    continue
            await self._make()

    # The block --------------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        removed = False
        try:
            await self._begin()
            async with PlainNursery() as nursery:
                nursery.start_soon(self._keep)
                try:
                    yield
                finally:
                    nursery.cancel_scope.cancel()
            await self._remove()
            removed = True
        finally:
            self._present.put(False)
            self._present.finish()
            if not removed:
                self._abandon()

    async def _remove(self) -> None:
        """Deletes the znode, if it is ours."""
        await self._look()
        if self._may_be_ours:
            await in_any_session(self.client, delete_once, self.client, self.path)

    def _abandon(self) -> None:
        """What `_remove` does, in the background."""
        if self._may_be_ours and not self.client.is_over:
            self.client.defer_delete(self.path, own=self._ephemeral)


class PersistentTtlNode(PersistentNode):
    """A znode that outlives its maker, but not for long: kept like a `PersistentNode`, and stays when the block ends.

    The znode is a container with one child, `<path>/touch`, which has a time to live and is written to after each half
    of it. When nobody keeps it any more, the server deletes first the child, then the container. Needs TTL znodes on
    the servers (3.5.3, `zookeeper.extendedTypesEnabled`).

    Args:
        client: the client.
        path: the znode.
        ttl: seconds that it may stay without its maker.
        data: its data.
        container: make missing parents as containers.
    """

    def __init__(self, client: ZooKeeper, path: str, ttl: float, data: bytes = b"", *, container: bool = True) -> None:
        if ttl <= 0:
            raise ValueError(f"ttl must be more than 0 seconds, not {ttl}")
        super().__init__(client, path, data, ephemeral=False, container=container)
        self.ttl = ttl
        self._touched = join(path, "touch")

    async def _create(self) -> None:
        await self.client.create(self.path, self.data, container=True)

    async def _begin(self) -> None:
        await super()._begin()
        await self._touch()

    async def _made_again(self) -> None:
        # A container that has never had a child stays for ever, should we die before the next touch.
        await self._touch()

    async def _touch(self) -> None:
        """The child is there, and has its whole time to live before it."""
        while True:
            try:
                await in_any_session(self.client, self.client.set, self._touched, b"")
                return
            except NoNodeError:
                pass
            try:
                await in_any_session(self.client, self.client.create, self._touched, b"", ttl=self.ttl)
                return
            except NodeExistsError:
                return
            except NoNodeError:
                await self._make()

    async def _keep(self) -> None:
        async with PlainNursery() as nursery:
            nursery.start_soon(self._go_on_touching)
            await super()._keep()

    async def _go_on_touching(self) -> None:
        while True:
            await trio.sleep(self.ttl / 2)
            await self._touch()

    async def _remove(self) -> None:
        await trio.lowlevel.checkpoint()

    def _abandon(self) -> None:
        """It goes by itself."""
