"""Semaphores: at most a number of owners at once, roughly first come, first served. kazoo's and Curator's znodes.

A lease is an ephemeral znode; whoever wants some passes a gate, a lock in which one at a time counts the leases and
waits for room. The leases are created in one transaction with a check of the gate's znode, so that nobody whose gate
was lost adds one too many, and nobody has some of several while he waits for the others.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial

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
from ._znodes import (
    ChangeWait,
    delete_once,
    encoded,
    find_children,
    join,
    make_path,
    native,
    pause_if_throttled,
    until_answered,
)
from .errors import LayoutConflictError, OwnershipLost

_KAZOO_LEASE = re.compile(r"[0-9a-f]{32}\Z")
_CURATOR_PARTS = ("locks", "leases")
_NUMBER_DIGITS = 6
_CONSEQUENCES = (0, -2)
"""Codes of the operations before and behind the one that made a transaction fail."""


class LeaseOwnership(Ownership):
    """Leases of a semaphore, acquired together: all must be there. There is no order among owners at the same time, so
    it has no fencing token.
    """

    def __init__(
        self, zk: ZooKeeper, path: str, znode: str, stat: ZnodeStat, terms: Terms, others: Iterable[str] = ()
    ) -> None:
        super().__init__(zk, path, znode, stat, terms)
        self.fencing_token = None
        self._others = tuple(others)

    @property
    def znodes(self) -> tuple[str, ...]:
        """One for each lease; `znode` is the first."""
        return (self.znode, *self._others)

    async def release(self) -> bool:
        """Gives all leases back; waits for a server's answer. False: one was gone before."""
        self._finish()
        try:
            return all([await delete_once(self.client, znode) for znode in self.znodes])
        except SessionExpiredError:
            return True  # they went with their session, after the body
        except BaseException:
            self._delete_later()
            raise


class _Mutex(Ownership):
    """The only lease of a semaphore, with a token."""

    def __init__(
        self, zk: ZooKeeper, path: str, znode: str, stat: ZnodeStat, terms: Terms, others: Iterable[str] = ()
    ) -> None:
        assert not tuple(others)
        super().__init__(zk, path, znode, stat, terms)


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
        ownership: type[LeaseOwnership | _Mutex],
    ) -> None:
        super().__init__(path)
        if isinstance(max_leases, bool) or not isinstance(max_leases, int) or max_leases < 1:
            raise ValueError(f"max_leases must be a positive int, not {max_leases!r}")
        role = lock_role(layout, "lock")
        self.client = native(client)
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

    async def _claim(self, wait: bool, *, leases: int = 1) -> Ownership | None:
        while True:
            lease: Ownership | None = None
            try:
                if not self._agreed:
                    await self._agree()
                    self._agreed = True
                async with owning(lambda: self._pass_gate(wait)) as gate:
                    lease = await self._take(gate, wait, leases)
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
            names: list[str] | None = None
            while names is None:
                await make_path(zk, self._parent, container=self._container)
                with suppress(NoNodeError):
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

    async def _take(self, gate: Ownership, wait: bool, count: int) -> Ownership | None:
        """So many leases, while we have the gate. `None`: there is no room, and we are not to wait."""
        prefix, names = self._new_names(count)
        while not await self._has_room(count):
            if not wait:
                return None
            async with ChangeWait(self.client, self._parent) as change:
                if not await self._has_room(count, change):
                    await change.happened()
        try:
            first, *others = await self._create(gate, prefix, names)
            stat = await until_answered(self.client.exists, first)
            if stat is None:
                raise OwnershipLost(self.path, f"its znode {first} was deleted")
            lease = self._ownership(self.client, self.path, first, stat, self._terms, others)
        except BaseException as error:
            if not self.client.is_over and not isinstance(error, LayoutConflictError):
                self.client.defer_delete(self._parent, prefix=prefix)
            raise
        if not await lease.begin():
            raise OwnershipLost(self.path, f"its znode {first} is gone")
        return lease

    def _new_names(self, count: int) -> tuple[str, list[str]]:
        """Names of leases that nobody else has, the server's numbers not counted, and a prefix that they share."""
        if self._layout == "curator":
            prefix = f"_c_{uuid.uuid4()}-lease-"
            return prefix, [prefix] * count
        if count == 1:
            prefix = uuid.uuid4().hex
            return prefix, [prefix]
        # kazoo's are 32 hexadecimal digits.
        prefix = uuid.uuid4().hex[:-_NUMBER_DIGITS]
        return prefix, [f"{prefix}{number:0{_NUMBER_DIGITS}x}" for number in range(count)]

    async def _has_room(self, count: int, change: ChangeWait | None = None) -> bool:
        names: list[str] | None = None
        while names is None:
            try:
                watch = None if change is None else change.told
                names = await until_answered(self.client.get_children, self._parent, watch=watch)
            except NoNodeError:
                await self._agree()
        if self._layout == "kazoo":
            self._refuse(name for name in names if name in _CURATOR_PARTS)
        return len(names) + count <= self.max_leases

    async def _create(self, gate: Ownership, prefix: str, names: Sequence[str]) -> list[str]:
        """The leases' znodes, made once, all or none, and only as long as the gate is ours."""
        unsure = False
        while True:
            if unsure and (found := await find_children(self.client, self._parent, prefix)):
                if len(found) < len(names):
                    raise OwnershipLost(self.path, "one of its znodes was deleted")
                return [join(self._parent, name) for name in found]
            transaction = gate.transaction()
            for name in names:
                transaction.create(
                    join(self._parent, name), self.data, ephemeral=True, sequence=self._layout == "curator"
                )
            try:
                results = await transaction.commit()
            except (ConnectionLoss, SessionMovedError, ThrottledOpError) as error:
                unsure = unsure or error.outcome_unknown
                await pause_if_throttled(error)
                continue
            failed = [result for result in results if isinstance(result, ZookeeperError)]
            if not failed:
                return [str(result) for result in results]
            cause = next((error for error in failed if error.code not in _CONSEQUENCES), failed[0])
            if not isinstance(cause, NoNodeError):
                raise cause
            await self._agree()


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

    async def acquire(
        self,
        blocking: bool = True,
        timeout: float | None = None,
        *,
        leases: int = 1,
    ) -> bool:
        """As `Acquirable.acquire`.

        Args:
            blocking: wait for others to release enough.
            timeout: seconds for all of it, `None` for no limit; 0 tries once.
            leases: how many at once: all or none, and none are held while waiting, so that two who want several each
                never wait for each other. `release` gives all back.
        """
        return await self._acquire(partial(self._claim, leases=self._checked(leases)), blocking, timeout)

    def hold(self, timeout: float | None = None, *, leases: int = 1) -> AbstractAsyncContextManager[Ownership]:
        """As `Acquirable.hold`, with so many leases at once: `async with semaphore.hold(leases=3) as held:`."""
        return self._hold(partial(self._claim, leases=self._checked(leases)), timeout)

    def _checked(self, leases: int) -> int:
        if isinstance(leases, bool) or not isinstance(leases, int) or not 1 <= leases <= self.max_leases:
            raise ValueError(f"leases must be from 1 to {self.max_leases}, not {leases!r}")
        return leases


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
            ownership=_Mutex,
        )
