"""Semaphores: at most a number of owners at once, roughly first come, first served. kazoo's and Curator's znodes.

A lease is an ephemeral znode; whoever wants one passes a gate, a lock in which one at a time counts the leases and
waits for room. The lease is created in one transaction with a check of the gate's znode, so that nobody whose gate was
lost adds one too many.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress

from terzetto.client import (
    ConnectionLoss,
    NodeExistsError,
    NoNodeError,
    SessionExpiredError,
    SessionMovedError,
    ThrottledOpError,
    ZnodeStat,
    ZooKeeper,
    ZookeeperError,
)

from ._acquiring import Acquirable
from ._contenders import ContenderQueue
from ._layout import LayoutName, lock_role
from ._ownership import Ownership, ProofMode, SuspendMode, Terms, owning
from ._znodes import ChangeWait, encoded, find_child, join, make_path, pause_if_throttled, until_answered
from .errors import LayoutConflictError, OwnershipLost

_KAZOO_LEASE = re.compile(r"[0-9a-f]{32}\Z")
_CURATOR_PARTS = ("locks", "leases")


class LeaseOwnership(Ownership):
    """One lease of a semaphore. There is no order among owners at the same time, so it has no fencing token."""

    def __init__(self, zk: ZooKeeper, path: str, znode: str, stat: ZnodeStat, terms: Terms) -> None:
        super().__init__(zk, path, znode, stat, terms)
        self.fencing_token = None


class _WouldWait(Exception):
    """Somebody else is at the gate, and we are not to wait."""


class _Leases(Acquirable[Ownership]):
    """What semaphores share: the gate, the leases behind it, and how one is taken."""

    def __init__(
        self,
        client: ZooKeeper,
        path: str,
        identifier: str | bytes | None,
        max_leases: int,
        *,
        layout: LayoutName,
        terms: Terms,
        container: bool,
        ownership: Callable[[ZooKeeper, str, str, ZnodeStat, Terms], Ownership],
    ) -> None:
        super().__init__(path)
        if isinstance(max_leases, bool) or not isinstance(max_leases, int) or max_leases < 1:
            raise ValueError(f"max_leases must be a positive int, not {max_leases!r}")
        role = lock_role(layout, "lock")
        self.client = client
        self.data = encoded(identifier)
        self.max_leases = max_leases
        self._layout: LayoutName = layout
        self._terms = terms
        self._container = container
        self._ownership = ownership
        kazoo = layout == "kazoo"
        self._parent = path if kazoo else join(path, "leases")
        gate = f"{path}-__lock__" if kazoo else join(path, "locks")
        # What kazoo writes there is the text of the bytes.
        self._gate_data = repr(self.data).encode() if kazoo else self.data
        self._gate = ContenderQueue(client, gate, role, container=container)
        self._agreed = False

    async def lease_holders(self) -> list[str]:
        """Identifiers of the owners, in no order; "" for one without. Empty where nobody ever was."""
        found: list[str] = []
        try:
            names = await until_answered(self.client.get_children, self._parent)
        except NoNodeError:
            return found
        for name in names:
            try:
                data, _ = await until_answered(self.client.get, join(self._parent, name))
            except NoNodeError:
                continue
            found.append((data or b"").decode("utf-8", "replace"))
        return found

    async def _claim(self, wait: bool) -> Ownership | None:
        while True:
            lease: Ownership | None = None
            try:
                if not self._agreed:
                    await self._agree()
                    self._agreed = True
                async with owning(lambda: self._pass_gate(wait)) as gate:
                    lease = await self._take(gate, wait)
                    if lease is None:
                        return None
            except _WouldWait:
                return None
            except (OwnershipLost, SessionExpiredError):
                if self.client.is_over:
                    raise
            except BaseException:
                if lease is not None:
                    lease.abandon()
                raise
            if lease is not None:
                if not lease.is_lost:
                    return lease
                lease.abandon()

    async def _pass_gate(self, wait: bool) -> Ownership:
        gate = await self._gate.claim(Ownership, self._terms, self._gate_data, wait=wait)
        if gate is None:
            raise _WouldWait
        return gate

    async def _agree(self) -> None:
        """Makes sure that all who share the path mean the same by it."""
        zk, number = self.client, str(self.max_leases).encode()
        if self._layout == "curator":
            await make_path(zk, self._parent, container=self._container)
            names = await until_answered(zk.get_children, self.path)
            self._refuse(name for name in names if _KAZOO_LEASE.match(name))
            return
        data: bytes | None = None
        while data is None:
            try:
                data = (await until_answered(zk.get, self.path))[0] or b""
            except NoNodeError:
                await make_path(zk, self.path.rpartition("/")[0] or "/", container=self._container)
                with suppress(NoNodeError, NodeExistsError):
                    await until_answered(zk.create, self.path, number, container=self._container)
        # Other data is somebody's own, and leaves the number unsaid.
        if data.isdigit() and int(data) != self.max_leases:
            raise ValueError(f"{self.path} is a semaphore of {int(data)} leases, not of {self.max_leases}")

    def _refuse(self, foreigners: Iterable[str]) -> None:
        for name in foreigners:
            raise LayoutConflictError(self.path, name, self._layout)

    async def _take(self, gate: Ownership, wait: bool) -> Ownership | None:
        """A lease, while we have the gate. `None`: there is no room, and we are not to wait."""
        prefix = uuid.uuid4().hex if self._layout == "kazoo" else f"_c_{uuid.uuid4()}-lease-"
        while not await self._has_room():
            if not wait:
                return None
            async with ChangeWait(self.client, self._parent) as change:
                if not await self._has_room(change):
                    await change.happened()
        try:
            znode = await self._create(gate, prefix)
            stat = await until_answered(self.client.exists, znode)
            if stat is None:
                raise OwnershipLost(self.path, f"its znode {znode} was deleted")
            lease = self._ownership(self.client, self.path, znode, stat, self._terms)
        except BaseException as error:
            if not self.client.is_over and not isinstance(error, LayoutConflictError):
                self.client.defer_delete(self._parent, prefix=prefix)
            raise
        if not await lease.begin():
            raise OwnershipLost(self.path, f"its znode {znode} is gone")
        return lease

    async def _has_room(self, change: ChangeWait | None = None) -> bool:
        names: list[str] | None = None
        while names is None:
            try:
                watch = None if change is None else change.told
                names = await until_answered(self.client.get_children, self._parent, watch=watch)
            except NoNodeError:
                await make_path(self.client, self._parent, container=self._container)
        if self._layout == "kazoo":
            self._refuse(name for name in names if name in _CURATOR_PARTS)
        return len(names) < self.max_leases

    async def _create(self, gate: Ownership, prefix: str) -> str:
        """The lease's znode, made once, and only as long as the gate is ours."""
        unsure = False
        while True:
            if unsure and (name := await find_child(self.client, self._parent, prefix)) is not None:
                return join(self._parent, name)
            transaction = gate.transaction()
            transaction.create(
                join(self._parent, prefix), self.data, ephemeral=True, sequence=self._layout == "curator"
            )
            try:
                result = (await transaction.commit())[0]
            except (ConnectionLoss, SessionMovedError, ThrottledOpError) as error:
                unsure = unsure or error.outcome_unknown
                await pause_if_throttled(error)
                continue
            if isinstance(result, NoNodeError):
                await make_path(self.client, self._parent, container=self._container)
            elif isinstance(result, ZookeeperError):
                raise result
            else:
                return str(result)


class Semaphore(_Leases):
    """At most `max_leases` owners at once: `async with Semaphore(zk, "/limits/a", max_leases=3) as held:`.

    Args:
        client: the client.
        path: kazoo's layout: the leases' parent, which holds `max_leases`; the gate stands beside it.
        identifier: who we are, for `lease_holders()`.
        max_leases: how many; all who share the path must say the same. In Curator's layout nobody can check that.
        layout: "kazoo" or "curator" (InterProcessSemaphoreV2): whose znodes. All who share a path must use the same.
        proof, on_suspend, container: see `Lock`.

    Raises (from acquisitions):
        ValueError: the path is a semaphore with another number of leases.
    """

    def __init__(
        self,
        client: ZooKeeper,
        path: str,
        identifier: str | bytes | None = None,
        max_leases: int = 1,
        *,
        layout: LayoutName = "kazoo",
        proof: ProofMode = "quorum",
        on_suspend: SuspendMode = "wait",
        container: bool | None = None,
    ) -> None:
        super().__init__(
            client,
            path,
            identifier,
            max_leases,
            layout=layout,
            terms=Terms(proof, on_suspend),
            container=layout == "curator" if container is None else container,
            ownership=LeaseOwnership,
        )


class SemaphoreMutex(_Leases):
    """Curator's InterProcessSemaphoreMutex: a semaphore of one lease, as an exclusive lock.

    What it has over `Lock` is its znodes, for programs in Java that use the same. It owns alone, so it has a fencing
    token. The arguments are `Semaphore`'s.
    """

    def __init__(
        self,
        client: ZooKeeper,
        path: str,
        identifier: str | bytes | None = None,
        *,
        proof: ProofMode = "quorum",
        on_suspend: SuspendMode = "wait",
        container: bool = True,
    ) -> None:
        super().__init__(
            client,
            path,
            identifier,
            1,
            layout="curator",
            terms=Terms(proof, on_suspend),
            container=container,
            ownership=Ownership,
        )
