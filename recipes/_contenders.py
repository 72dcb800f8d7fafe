"""The queue behind locks and elections: sequential znodes below one parent, each waiting for the one before it.

Whoever stands first has its turn. Every contender has a name that nobody else has, so a create whose reply was lost is
found again; it watches only the one that blocks it, so a release wakes one; and whatever interrupts it, its znode is
deleted in the background. What comes after the turn, and for how long, is `_ownership`'s.

ZooKeeper's recipe for locks, with what Curator learned (a parent that vanishes, a znode of an earlier session).
"""

from __future__ import annotations

from typing import NamedTuple

from terzetto.client import (
    ConnectionLoss,
    NoNodeError,
    PipelineResult,
    SessionExpiredError,
    SessionMovedError,
    ThrottledOpError,
    ZnodeStat,
    ZooKeeper,
    ZookeeperError,
)

from ._layout import Role, Seat
from ._ownership import OwnershipT, Terms
from ._znodes import delete_once, find_child, join, make_path, pause_if_throttled, until_answered, wait_deleted
from .errors import LayoutConflictError


class Contender(NamedTuple):
    """A znode of ours in the queue.

    Attributes:
        name: of the znode.
        path: of the znode.
        stat: of its creation.
        names: all children of the parent after that, where they are known.
    """

    name: str
    path: str
    stat: ZnodeStat
    names: list[str] | None = None


class _Vanished(Exception):
    """Our znode is gone, or its session: deleted by somebody, or expired. There is another turn to be had."""


class ContenderQueue:
    """Contenders of one path.

    Args:
        zk: the client.
        path: the parent.
        role: what ours are called, and for whom they wait.
        container: make a missing parent as a container.
    """

    def __init__(self, zk: ZooKeeper, path: str, role: Role, *, container: bool) -> None:
        self.path = path
        self.role = role
        self._zk = zk
        self._container = container

    async def claim(
        self, kind: type[OwnershipT], terms: Terms, data: bytes, *, wait: bool = True, ephemeral: bool = True
    ) -> OwnershipT | None:
        """Takes a place and waits for its turn; what is then owned. `None`: it would have to wait.

        Raises:
            LayoutConflictError: contenders of the other layout are there.
            SessionExpiredError: the client is over (closed, or its only session lost).
        """
        while True:
            try:
                contender = await self._enter(data, ephemeral=ephemeral)
                owned = await self._take_turn(contender, kind, terms, wait=wait)
            except _Vanished:
                continue
            except SessionExpiredError:
                if self._zk.is_over:
                    raise
                continue
            return owned

    async def names(self) -> list[str]:
        """All children of the parent, which is created if it is missing."""
        while True:
            try:
                return await until_answered(self._zk.get_children, self.path)
            except NoNodeError:
                await make_path(self._zk, self.path, container=self._container)

    async def contenders(self) -> list[tuple[str, bytes]]:
        """Name and data of each contender, in the order in which they came."""
        found: list[tuple[str, bytes]] = []
        for seat in self.role.queue(await self.names()):
            path = join(self.path, seat.name)
            try:
                data, _ = await until_answered(self._zk.get, path)
            except NoNodeError:
                continue
            found.append((seat.name, data or b""))
        return found

    # A place ----------------------------------------------------------------------------------------------------------

    async def _enter(self, data: bytes, *, ephemeral: bool) -> Contender:
        prefix = self.role.new_prefix()
        try:
            while True:
                try:
                    return await self._create(prefix, data, ephemeral)
                except NoNodeError:
                    await make_path(self._zk, self.path, container=self._container)
        except BaseException as error:
            if not isinstance(error, ZookeeperError) or error.outcome_unknown:
                self._leave(prefix=prefix, ephemeral=ephemeral)
            raise

    async def _create(self, prefix: str, data: bytes, ephemeral: bool) -> Contender:
        """Creates the znode, once. Raises `NoNodeError`: the parent is missing."""
        unsure = False
        while True:
            try:
                if unsure and (found := await self._find(prefix)) is not None:
                    return found
                unsure = False
                # One round trip: what is listed behind a create has its znode in it.
                async with self._zk.pipeline() as pipeline:
                    created = await pipeline.create(
                        join(self.path, prefix), data, ephemeral=ephemeral, sequence=True, include_data=True
                    )
                    listed = await pipeline.get_children(self.path)
                path, stat = created.result()
                return Contender(path.rpartition("/")[2], path, stat, await _answer(listed))
            except (ConnectionLoss, SessionMovedError, ThrottledOpError) as error:
                unsure = unsure or error.outcome_unknown
                await pause_if_throttled(error)
            except SessionExpiredError as error:
                if ephemeral or self._zk.is_over:
                    raise  # it went with its session
                unsure = unsure or error.outcome_unknown

    async def _find(self, prefix: str) -> Contender | None:
        """Our znode, if the create whose reply was lost has made it."""
        name = await find_child(self._zk, self.path, prefix)
        if name is None:
            return None
        path = join(self.path, name)
        stat = await until_answered(self._zk.exists, path)
        return None if stat is None else Contender(name, path, stat)

    def _leave(self, path: str | None = None, prefix: str | None = None, *, ephemeral: bool) -> None:
        if not self._zk.is_over:
            self._zk.defer_delete(path or self.path, prefix=prefix, in_any_session=not ephemeral)

    # Its turn ---------------------------------------------------------------------------------------------------------

    async def _take_turn(
        self, contender: Contender, kind: type[OwnershipT], terms: Terms, *, wait: bool
    ) -> OwnershipT | None:
        owned = kind(self._zk, self.path, contender.path, contender.stat, terms)
        try:
            owned.watch_znode_soon()
            names = contender.names
            if names is None:
                names = await until_answered(self._zk.get_children, self.path)
            while (blocker := self._blocker(contender, names)) is not None:
                if not wait:
                    await delete_once(self._zk, contender.path)
                    return None
                await wait_deleted(self._zk, join(self.path, blocker.name))
                names = await until_answered(self._zk.get_children, self.path)
        except NoNodeError:
            raise _Vanished from None
        except BaseException:
            self._leave(contender.path, ephemeral=contender.stat.ephemeralOwner != 0)
            raise
        if not await owned.begin(is_watched=True):
            raise _Vanished
        return owned

    def _blocker(self, contender: Contender, names: list[str]) -> Seat | None:
        """Whom we wait for, `None` for nobody. Raises `_Vanished`: it is not our turn any more."""
        if contender.name not in names or self._zk.keep_proof(contender.stat.ephemeralOwner or None).session_over:
            raise _Vanished
        foreigner = self.role.foreigner(names)
        if foreigner is not None:
            raise LayoutConflictError(self.path, foreigner, self.role.layout)
        before: Seat | None = None
        for seat in self.role.queue(names):
            if seat.name == contender.name:
                break
            if self.role.blocks(seat.name):
                before = seat
        return before


async def _answer(listed: PipelineResult[list[str]]) -> list[str] | None:
    """`None`: the connection went, or the server did not answer this one."""
    try:
        return listed.result()
    except ZookeeperError as error:
        await pause_if_throttled(error)
        return None
