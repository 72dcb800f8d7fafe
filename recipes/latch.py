"""Leadership as a standing flag: Curator's LeaderLatch."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType

import trio

from terzetto.client import PlainNursery, ZooKeeper

from ._contenders import ContenderQueue
from ._layout import LayoutName, lock_role
from ._ownership import Ownership, ProofMode, SuspendMode, Terms
from ._znodes import encoded, native
from .errors import OwnershipLost


class LeaderLatch:
    """Takes part in an election for the whole block: `async with LeaderLatch(zk, "/leader", "me") as latch:`.

    The block's body is not cancelled when leadership comes and goes: it asks `has_leadership`, or does what only the
    leader may do in `async with latch.leading() as held:`. After a lost leadership the latch queues up again, with a
    new znode, so that every term has its own fencing token. Leaving the block resigns.

    Args:
        client: the client.
        path: the znode below which the candidates stand.
        identifier: who we are, for `leader()` and `participants()`.
        layout: "curator" (LeaderLatch) or "kazoo" (Election): whose znodes. All who share a path must use the same.
        proof, on_suspend, container: see `Lock`.
    """

    def __init__(
        self,
        client: ZooKeeper,
        path: str,
        identifier: str | bytes | None = None,
        *,
        layout: LayoutName = "curator",
        proof: ProofMode = "quorum",
        on_suspend: SuspendMode = "wait",
        container: bool | None = None,
    ) -> None:
        self.client = native(client)
        self.path = path
        self.data = encoded(identifier)
        self._terms = Terms(proof, on_suspend)
        role = lock_role(layout, "latch")
        self._queue = ContenderQueue(
            client, path, role, container=layout == "curator" if container is None else container
        )
        self._held: Ownership | None = None
        self._changed = trio.Event()
        self._nursery: PlainNursery | None = None
        self._scope = trio.CancelScope()
        self._left = False

    @property
    def held(self) -> Ownership | None:
        """The present term, `None` while others lead."""
        return None if self._held is None or self._held.is_lost else self._held

    @property
    def has_leadership(self) -> bool:
        """Whether we lead. Looks at the clock, not at the servers."""
        return self.held is not None

    async def wait_leadership(self) -> Ownership:
        """Returns the term once we lead, at once if we do. A checkpoint.

        Raises:
            OwnershipLost: the latch has been left, so we never lead again.
        """
        await trio.lowlevel.checkpoint()
        while (held := self.held) is None:
            if self._left:
                raise OwnershipLost(self.path, "its latch was left")
            await self._changed.wait()
        return held

    @asynccontextmanager
    async def leading(self) -> AsyncIterator[Ownership]:
        """Waits until we lead, and runs the block for as long as we do. Leaving it does not resign.

        Raises:
            OwnershipLost: the term ended before the block did: enter another one for the next term. Or the latch has
                been left.
        """
        held = await self.wait_leadership()
        with held.body():
            yield held
        held.check()

    async def participants(self) -> list[str]:
        """Identifiers of all who take part, the leader first; "" for one without."""
        return [data.decode("utf-8", "replace") for _, data in await self._queue.contenders()]

    async def leader(self) -> str | None:
        """Identifier of the leader, `None` when nobody takes part."""
        return next(iter(await self.participants()), None)

    async def _take_part(self) -> None:
        with self._scope:
            while True:
                held = await self._queue.claim(Ownership, self._terms, self.data)
                assert held is not None
                self._held = held
                self._tell()
                try:
                    await held.wait_lost()
                finally:
                    # Who leaves the block takes the term along, unless it began only then.
                    if self._held is held:
                        self._held = None
                        held.abandon()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def __aenter__(self) -> LeaderLatch:
        if self._nursery is not None:
            raise RuntimeError("a latch is entered once; make another one")
        self._nursery = PlainNursery()
        nursery = await self._nursery.__aenter__()
        nursery.start_soon(self._take_part)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        assert self._nursery is not None
        self._scope.cancel()
        held, self._held = self._held, None
        self._left = True
        self._tell()
        try:
            if held is not None and kind is None and not held.is_lost:
                await held.release()
        finally:
            if held is not None:
                held.abandon()
            ended = await self._nursery.__aexit__(kind, error, traceback)
        return ended
