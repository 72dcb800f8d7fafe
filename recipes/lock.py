"""Locks: exclusive, and for many readers or one writer. kazoo's and Curator's znodes.

`Lock`, `ReadLock` and `WriteLock` are three roles in one queue below `path` (`_contenders`); what owning one means is
`_ownership`'s.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import ClassVar, Generic, Literal

import trio

from terzetto.client import NoNodeError, ZnodeStat, ZooKeeper

from ._acquiring import Acquirable
from ._contenders import ContenderQueue
from ._layout import LayoutName, lock_role
from ._ownership import Ownership, OwnershipT, ProofMode, SuspendMode, Terms
from ._znodes import encoded, join, native
from .revocation import revoke


class _QueueLock(Acquirable[OwnershipT], Generic[OwnershipT]):
    """What all locks share: see `Lock` for the arguments."""

    _kind: ClassVar[Literal["lock", "read", "write", "latch"]]
    _ownership: type[OwnershipT]

    def __init__(
        self,
        client: ZooKeeper,
        path: str,
        identifier: str | bytes | None = None,
        extra_lock_patterns: Iterable[str] = (),
        *,
        layout: LayoutName = "kazoo",
        proof: ProofMode = "quorum",
        on_suspend: SuspendMode = "wait",
        reentrant: bool = False,
        container: bool | None = None,
    ) -> None:
        super().__init__(path, reentrant=reentrant)
        self.client = native(client)
        self.data = encoded(identifier)
        self._terms = Terms(proof, on_suspend)
        role = lock_role(layout, self._kind, extra_lock_patterns)
        self._queue = ContenderQueue(
            client, path, role, container=layout == "curator" if container is None else container
        )

    async def _claim(self, wait: bool, *, ephemeral: bool = True) -> OwnershipT | None:
        return await self._queue.claim(self._ownership, self._terms, self.data, wait=wait, ephemeral=ephemeral)

    async def acquire(
        self,
        blocking: bool = True,
        timeout: float | None = None,  # noqa: ASYNC109 - kazoo's, see `Acquirable.acquire`
        ephemeral: bool = True,
    ) -> bool:
        """As `Acquirable.acquire`.

        Args:
            blocking: wait for others to release it.
            timeout: seconds for all of it, `None` for no limit; 0 tries once.
            ephemeral: its znode goes with the session; else it stays until it is released, by whomever.
        """
        return await self._acquire(partial(self._claim, ephemeral=ephemeral), blocking, timeout)

    def hold(self, timeout: float | None = None, *, ephemeral: bool = True) -> AbstractAsyncContextManager[OwnershipT]:
        """As `Acquirable.hold`; the body of a lock that outlives the session (`ephemeral=False`) is not cancelled."""
        return self._hold(partial(self._claim, ephemeral=ephemeral), timeout)

    async def revoke(self) -> bool:
        """Asks the first in the queue to let go, by Curator's sign in its znode; it need not. False: there is nobody.

        The sign takes the place of its identifier. `wait_revoked(held)` waits for it.
        """
        for name, _ in await self._queue.contenders():
            try:
                await revoke(self.client, join(self.path, name))
            except NoNodeError:
                continue
            return True
        return False

    async def contenders(self) -> list[str]:
        """Identifiers of those who own it or wait for it, in the order in which they came; "" for one without.

        The path is created if it is missing.
        """
        return [data.decode("utf-8", "replace") for _, data in await self._queue.contenders()]


class Lock(_QueueLock[Ownership]):
    """An exclusive lock: `async with Lock(zk, "/locks/a") as held:`. First come, first served.

    Args:
        client: the client.
        path: the znode below which the contenders stand; made when it is missing.
        identifier: who we are, for `contenders()`; stored as UTF-8.
        extra_lock_patterns: regular expressions of other contenders' names, without the number, that we wait for too.
        layout: "kazoo" or "curator" (InterProcessMutex): whose znodes. All who share a path must use the same.
        proof: "quorum": a write or an empty transaction proves at least every quarter of the session timeout that the
            session lives; "session": no such traffic, the body is cancelled a third of the session timeout after the
            connection was lost.
        on_suspend: "cancel" cancels the body as soon as the connection is lost; "wait" when the proof runs out.
        reentrant: a task that owns it may acquire it again, and must release it as often.
        container: make a missing parent as a container, which the server deletes when it is empty again; not given: in
            Curator's layout.

    Attributes:
        held: the `Ownership`, while it is acquired.
        is_acquired: whether this object owns it, as far as the clock can tell.
    """

    _kind = "lock"
    _ownership = Ownership


class ReaderOwnership(Ownership):
    """A reader's. There is no order among readers, so it has no fencing token."""

    def __init__(self, zk: ZooKeeper, path: str, znode: str, stat: ZnodeStat, terms: Terms) -> None:
        super().__init__(zk, path, znode, stat, terms)
        self.fencing_token = None


class ReadLock(_QueueLock[ReaderOwnership]):
    """A reader's part of a lock for many readers or one writer: waits for the writers that came before it.

    The arguments are `Lock`'s. Readers and a writer that waits are served in the order in which they came, so a reader
    that comes later waits behind that writer.
    """

    _kind = "read"
    _ownership = ReaderOwnership


class WriterOwnership(Ownership):
    """A writer's; it can go on as a reader."""

    async def downgrade(self) -> None:
        """Goes on as a reader, at the writer's place in the queue, so that no other writer comes in between. Nothing
        changes for one that is a reader already.

        The fencing token stays. There is no way back: a reader that waits for its own end as a writer never gets there.

        Raises:
            OwnershipLost: it was no longer owned.
        """
        reader = _reader_name(self.znode)
        if reader == self.znode:
            self.check()
            await trio.lowlevel.checkpoint()
        else:
            await self._move(reader)


class WriteLock(_QueueLock[WriterOwnership]):
    """A writer's part of a lock for many readers or one writer: waits for everyone who came before it.

    The arguments are `Lock`'s.
    """

    _kind = "write"
    _ownership = WriterOwnership


def _reader_name(znode: str) -> str:
    """The same place, number and prefix, in a reader's spelling."""
    parent, _, name = znode.rpartition("/")
    reader = name.replace("__WRIT__", "__READ__") if "__WRIT__" in name else name.replace("__lock__", "__rlock__")
    return f"{parent}/{reader}"
