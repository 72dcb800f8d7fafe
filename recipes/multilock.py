"""Several locks as one: all or none."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import trio

from ._acquiring import Acquirable, HeldInBlocks
from ._following import looks_once
from ._ownership import GuardedTransaction, Ownership
from .errors import OwnershipLost


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
    they are released in the reverse order. The body is cancelled as soon as one is lost. What is lost while another one
    is waited for is acquired again.

    Args:
        locks: locks, semaphores and the like; each with a path of its own.

    Raises:
        ValueError: there is none, or two would wait for each other: one object twice, or one path through one client.
        TypeError: it is nothing that can be acquired.
    """

    def __init__(self, locks: Iterable[Acquirable[Any]]) -> None:
        super().__init__()
        given = list(locks)
        for lock in given:
            if not isinstance(lock, Acquirable):
                raise TypeError(f"a MultiLock is made of locks, not of {lock!r}")
        self.locks = sorted(given, key=lambda lock: lock.path)
        if not self.locks:
            raise ValueError("a MultiLock needs at least one lock")
        places: set[tuple[str, int]] = set()
        for lock in self.locks:
            place = lock.path, id(getattr(lock, "client", lock))
            if place in places:
                raise ValueError(f"{lock.path} is there twice: a MultiLock would wait for itself")
            places.add(place)

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
        ends_at = _end(timeout)
        while True:
            async with AsyncExitStack() as undo:
                for lock in self.locks:
                    if not await lock.acquire(blocking, _left(ends_at)):
                        return False
                    undo.push_async_callback(lock.release)
                # Else one was lost while another one was waited for.
                if self.is_acquired:
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
        ends_at = _end(timeout)
        begun = False
        while not begun:
            parts: list[Ownership] = []
            try:
                async with AsyncExitStack() as stack:
                    for lock in self.locks:
                        parts.append(await stack.enter_async_context(lock.hold(_left(ends_at))))
                    held = MultiOwnership(parts)
                    held.check()
                    begun = True
                    yield held
            except OwnershipLost as lost:
                # Else one was lost while another one was waited for: its scope has ended that wait.
                if begun or lost.path not in [part.path for part in parts]:
                    raise


def _end(timeout: float | None) -> float | None:
    return None if timeout is None else trio.current_time() + (0.0 if looks_once(timeout) else timeout)


def _left(ends_at: float | None) -> float | None:
    return None if ends_at is None else max(0.0, ends_at - trio.current_time())
