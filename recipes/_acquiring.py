"""kazoo's way of owning (`acquire`, `release`, `cancel`) and the scope, over a step that each recipe gives, the claim.

`HeldInBlocks` is `async with` over a recipe's own `hold`, for whatever can be held in one block after another.

One object owns at most once at a time; tasks that share it wait for each other here, in order, before they ask anyone.
It refuses to know what is claimed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Generic, TypeVar

import trio

from terzetto.client import CancelledError, LockTimeout

from ._following import looks_once
from ._ownership import OwnershipT, owning

Claim = Callable[[bool], Awaitable[OwnershipT | None]]
HeldT = TypeVar("HeldT")


class HeldInBlocks(ABC, Generic[HeldT]):
    """`async with recipe as held:`, which is `async with recipe.hold() as held:` without a name for the block."""

    def __init__(self) -> None:
        # Of each task inside `async with`, innermost last: who has lost it may still be on its way out when another one
        # comes in.
        self._blocks: dict[trio.lowlevel.Task, list[AbstractAsyncContextManager[HeldT]]] = {}

    @abstractmethod
    def hold(self, timeout: float | None = None) -> AbstractAsyncContextManager[HeldT]:
        """The scope with a limit for the acquisition, in seconds."""

    async def __aenter__(self) -> HeldT:
        block = self.hold()
        held = await block.__aenter__()
        self._blocks.setdefault(trio.lowlevel.current_task(), []).append(block)
        return held

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        task = trio.lowlevel.current_task()
        block = self._blocks[task].pop()
        if not self._blocks[task]:
            del self._blocks[task]
        return await block.__aexit__(kind, error, traceback)


class Acquirable(HeldInBlocks[OwnershipT], Generic[OwnershipT]):
    """Something that is acquired and released, or owned for a block: `async with Lock(zk, "/locks/a") as held:`.

    Args:
        path: the recipe's path, for messages.
        reentrant: a task that owns it may acquire it again, and must release it as often.
    """

    def __init__(self, path: str, *, reentrant: bool = False) -> None:
        super().__init__()
        self.path = path
        self._reentrant = reentrant
        self._turn = trio.Semaphore(1, max_value=1)
        self._waiting: set[trio.CancelScope] = set()
        self._cancelled: set[trio.CancelScope] = set()
        self._held: OwnershipT | None = None
        self._owner: trio.lowlevel.Task | None = None
        self._count = 0
        # Scopes that have begun with an acquisition and have not ended.
        self._bodies = 0

    @abstractmethod
    async def _claim(self, wait: bool) -> OwnershipT | None:
        """Acquires it on the servers. `None`: others own it, and `wait` is false."""

    @property
    def held(self) -> OwnershipT | None:
        """What this object owns, also when it was lost since; `None` between a release and the next acquisition."""
        return self._held

    @property
    def is_acquired(self) -> bool:
        """Whether this object owns it now. Looks at the clock, not at the servers."""
        return self._held is not None and not self._held.is_lost

    # kazoo's methods --------------------------------------------------------------------------------------------------

    async def acquire(
        self,
        blocking: bool = True,
        timeout: float | None = None,  # noqa: ASYNC109 - kazoo's, and more than a scope: 0 tries once
    ) -> bool:
        """Acquires it, without a scope: nothing is cancelled when it is lost; ask `is_acquired` or `held`.

        Args:
            blocking: wait for others to release it.
            timeout: seconds for all of it, `None` for no limit; 0 or less tries once.

        Returns:
            False: others own it and `blocking` is false, or another task has this object.

        Raises:
            LockTimeout: not acquired within `timeout`.
            CancelledError: `cancel()` was called.
            ValueError: a timeout without blocking.
            RuntimeError: this task is in a block of this object, and would wait for itself.
            LayoutConflictError: contenders of the other layout are there.
        """
        return await self._acquire(self._claim, blocking, timeout)

    async def _acquire(self, claim: Claim[OwnershipT], blocking: bool, limit: float | None) -> bool:
        if not blocking and limit is not None:
            raise ValueError("a timeout is for blocking acquisitions")
        self._forget_lost()
        if (held := self._mine()) is not None:
            await trio.lowlevel.checkpoint()
            held.check()
            self._count += 1
            return True
        wait = blocking and not looks_once(limit)
        if wait and limit is None:
            self._refuse_own_block()
        scope = trio.CancelScope()
        if wait and limit is not None:
            scope.deadline = trio.current_time() + limit
        self._waiting.add(scope)
        entered = owned = was_cancelled = False
        try:
            with scope:
                entered = await self._enter(wait)
                owned = entered and await self._own(claim, wait)
        finally:
            self._waiting.discard(scope)
            was_cancelled = scope in self._cancelled
            self._cancelled.discard(scope)
        if was_cancelled and not owned:
            raise CancelledError(f"waiting for {self.path} was cancelled")
        if entered and not owned and limit is not None:
            raise LockTimeout(f"{self.path} was not acquired within {limit} s")
        return owned

    async def release(self) -> bool:
        """Gives it up, and waits until a server has confirmed. False: it was not owned, or not any more."""
        held = self._mine()
        if held is not None and self._count > 1:
            await trio.lowlevel.checkpoint()
            self._count -= 1
            return not held.is_lost
        held = self._held
        if held is None:
            await trio.lowlevel.checkpoint()
            return False
        self._held = None
        try:
            if not held.is_lost:
                return await held.release()
            held.abandon()
            await trio.lowlevel.checkpoint()
            return False
        finally:
            self._free()

    def cancel(self) -> None:
        """Ends every wait in this object's `acquire`, which raises `CancelledError`."""
        self._cancelled |= self._waiting
        for scope in self._waiting:
            scope.cancel()

    # The scope --------------------------------------------------------------------------------------------------------

    def hold(self, timeout: float | None = None) -> AbstractAsyncContextManager[OwnershipT]:
        """`async with lock.hold(timeout=5) as held:`, the scope with a limit for the acquisition.

        `async with lock as held:` is the same without one. The body is cancelled when ownership ends or can no longer
        be proved, and `OwnershipLost` leaves the block; what the body itself raises leaves it unchanged.

        Args:
            timeout: as for `acquire`; the body has no limit.
        """
        return self._hold(self._claim, timeout)

    @asynccontextmanager
    async def _hold(self, claim: Claim[OwnershipT], limit: float | None) -> AsyncIterator[OwnershipT]:
        self._forget_lost()
        if (mine := self._mine()) is not None:
            mine.check()
            self._count += 1
            self._bodies += 1
            try:
                # What is around it need not be a block.
                with mine.body():
                    yield mine
                mine.check()
            finally:
                self._bodies -= 1
                if self._held is mine:
                    self._count -= 1
            return

        async def acquired() -> OwnershipT:
            if not await self._acquire(claim, True, limit) or self._held is None:
                raise LockTimeout(f"another task had {self.path} for {limit} s")
            self._bodies += 1
            return self._held

        async with owning(acquired, self._ended) as held:
            yield held

    def _refuse_own_block(self) -> None:
        if self._bodies and self._owner is trio.lowlevel.current_task():
            raise RuntimeError(f"this task owns {self.path} already and would wait for itself (see reentrant=True)")

    def _ended(self, held: OwnershipT) -> None:
        self._bodies -= 1
        self._let_go(held)

    def _let_go(self, held: OwnershipT) -> None:
        if self._held is held:
            self._held = None
            self._free()

    # Tasks that share this object -------------------------------------------------------------------------------------

    async def _enter(self, wait: bool) -> bool:
        """This object's own turn. False: another task has it. A checkpoint where nothing is asked of the servers."""
        if not wait:
            await trio.lowlevel.checkpoint()
        try:
            self._turn.acquire_nowait()
        except trio.WouldBlock:
            if wait:
                await self._turn.acquire()
            return wait
        return True

    async def _own(self, claim: Claim[OwnershipT], wait: bool) -> bool:
        try:
            held = await claim(wait)
        except BaseException:
            self._free()
            raise
        if held is None:
            self._free()
            return False
        self._held, self._owner, self._count = held, trio.lowlevel.current_task(), 1
        return True

    def _free(self) -> None:
        self._owner, self._count = None, 0
        self._turn.release()

    def _mine(self) -> OwnershipT | None:
        """What the current task owns and may acquire again, also when it was lost since."""
        return self._held if self._reentrant and self._owner is trio.lowlevel.current_task() else None

    def _forget_lost(self) -> None:
        """What was acquired without a scope and lost since stands in nobody's way."""
        held = self._held
        if held is not None and held.is_lost and not self._bodies:
            held.abandon()
            self._let_go(held)
