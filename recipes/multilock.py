"""Several locks as one: all or none."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import trio

from ._acquiring import Acquirable, HeldInBlocks
from ._ownership import GuardedTransaction, Ownership


class MultiOwnership:
    """What `async with MultiLock(...) as held` gives.

    Attributes:
        parts: the `Ownership` of each lock, in the order of acquisition.
    """

    def __init__(self, parts: Iterable[Ownership]) -> None:
        self.parts = tuple(parts)

    @property
    def fencing_tokens(self) -> dict[str, int | None]:
        """The token of each lock, by its path."""
        return {part.path: part.fencing_token for part in self.parts}

    @property
    def is_lost(self) -> bool:
        """Whether any of them is owned no more."""
        return any(part.is_lost for part in self.parts)

    def check(self) -> None:
        """Raises `OwnershipLost` if any of them is owned no more."""
        for part in self.parts:
            part.check()

    def transaction(self) -> GuardedTransaction:
        """A transaction that commits only while all are owned. Raises `ValueError` if they have different clients."""
        return GuardedTransaction(self.parts)

    async def assert_owned(self) -> None:
        """Asks a quorum for each of them. Raises `OwnershipLost`."""
        for part in self.parts:
            await part.assert_owned()


class MultiLock(HeldInBlocks[MultiOwnership]):
    """Owns several things at once: `async with MultiLock([Lock(zk, "/a"), Lock(zk, "/b")]) as held:`.

    Everyone acquires them in the order of their paths, so that two who want the same ones never wait for each other;
    they are released in the reverse order. The body is cancelled as soon as one is lost.

    Args:
        locks: locks, semaphores and the like; each with a path of its own.
    """

    def __init__(self, locks: Iterable[Acquirable[Any]]) -> None:
        super().__init__()
        self.locks = sorted(locks, key=lambda lock: lock.path)
        if not self.locks:
            raise ValueError("a MultiLock needs at least one lock")

    @property
    def is_acquired(self) -> bool:
        """Whether all are owned by these objects."""
        return all(lock.is_acquired for lock in self.locks)

    async def acquire(
        self,
        blocking: bool = True,
        timeout: float | None = None,  # noqa: ASYNC109 - as of the locks; for all of them together
    ) -> bool:
        """Acquires all or none, without a scope. `timeout` is for all together; else as `Acquirable.acquire`."""
        ends_at = None if timeout is None else trio.current_time() + timeout
        async with AsyncExitStack() as undo:
            for lock in self.locks:
                if not await lock.acquire(blocking, _left(ends_at)):
                    return False
                undo.push_async_callback(lock.release)
            undo.pop_all()
        return True

    async def release(self) -> bool:
        """Gives all up, whatever becomes of each; raises what the first failure raised. False: one was not owned."""
        results: list[bool] = []

        async def give_up(lock: Acquirable[Any]) -> None:
            results.append(await lock.release())

        async with AsyncExitStack() as stack:
            for lock in self.locks:
                stack.push_async_callback(give_up, lock)
        return all(results)

    @asynccontextmanager
    async def hold(self, timeout: float | None = None) -> AsyncIterator[MultiOwnership]:  # noqa: ASYNC109 - as of locks
        """The scope with a limit for all acquisitions together, in seconds. Raises `LockTimeout`."""
        ends_at = None if timeout is None else trio.current_time() + timeout
        async with AsyncExitStack() as stack:
            yield MultiOwnership([await stack.enter_async_context(lock.hold(_left(ends_at))) for lock in self.locks])


def _left(ends_at: float | None) -> float | None:
    return None if ends_at is None else max(0.0, ends_at - trio.current_time())
