"""A number of 64 bits that many change: Curator's DistributedAtomicLong.

Changes are optimistic: read, compute, write with the version that was read. Under contention they can be promoted to a
lock, which serves those who wait in order; correctness rests on the versions either way. Each change is made once, or
its error says that nobody knows (`_receipts`), which Curator's does not promise.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from terzetto.client import BadVersionError, NodeExistsError, NoNodeError, Transaction, ZooKeeper

from ._following import in_any_session
from ._receipts import change_once
from ._znodes import make_path, native
from .lock import Lock

OPTIMISTIC_ATTEMPTS = 4
"""Attempts before a change is promoted to the lock."""

_INT64 = struct.Struct(">q")


@dataclass(frozen=True)
class AtomicChange:
    """What a change did.

    Attributes:
        pre_value: the number before it.
        post_value: the number after it.
        promoted: it took the lock.
    """

    pre_value: int
    post_value: int
    promoted: bool = False


class AtomicLong:
    """A shared int64: `await AtomicLong(zk, "/counters/a").add(2)`.

    Args:
        client: the client.
        path: its znode. A missing or empty one counts as 0; made by the first change.
        lock_path: where changes that failed too often against others wait for each other, in Curator's layout. All who
            share the number should name the same. Without it they go on trying.
        attempts: how often a change is tried before it takes the lock.
    """

    def __init__(
        self, client: ZooKeeper, path: str, lock_path: str | None = None, *, attempts: int = OPTIMISTIC_ATTEMPTS
    ) -> None:
        if attempts < 0:
            raise ValueError(f"attempts must not be negative, and is {attempts}")
        self.client = native(client)
        self.path = path
        self.lock_path = lock_path
        self.attempts = attempts

    async def get(self) -> int:
        """The number, as the connected server knows it.

        Raises:
            ValueError: what stands in the znode is shorter than eight bytes.
        """
        return (await self._read())[0]

    async def add(self, value: int) -> AtomicChange:
        """Adds to it.

        Raises:
            OverflowError: the result does not fit into 64 bits. Nothing was changed.
            SessionExpiredError: the session ended; `outcome_unknown` says whether the change may have been made.
        """
        return await self.update(lambda before: before + value)

    async def subtract(self, value: int) -> AtomicChange:
        """Subtracts from it. As `add`."""
        return await self.update(lambda before: before - value)

    async def increment(self) -> AtomicChange:
        """Adds 1. As `add`."""
        return await self.add(1)

    async def decrement(self) -> AtomicChange:
        """Subtracts 1. As `add`."""
        return await self.add(-1)

    async def set(self, value: int) -> AtomicChange:
        """Gives it a value, whatever it was; `pre_value` says what. As `add`."""
        return await self.update(lambda _: value)

    async def compare_and_set(self, expected: int, value: int) -> bool:
        """Gives it a value if it is `expected`. False: it was not, or there is no znode yet (see `initialize`)."""
        while True:
            before, version = await self._read()
            if version is None or before != expected:
                return False
            with suppress(BadVersionError, NoNodeError):
                await self._write(value, version)
                return True

    async def initialize(self, value: int) -> bool:
        """Makes it, with a value. False: it was there."""
        while True:
            if (await self._read())[1] is not None:
                return False
            try:
                await self._write(value, None)
            except NodeExistsError:
                return False
            except NoNodeError:
                await self._make_parent()
                continue
            return True

    async def update(self, function: Callable[[int], int]) -> AtomicChange:
        """Makes of it what `function(number)` returns, which may be called several times. As `add`."""
        tried = 0
        while self.lock_path is None or tried < self.attempts:
            if (done := await self._try(function)) is not None:
                return done
            tried += 1
        lock = Lock(self.client, self.lock_path, layout="curator")
        # Not its scope: a change that is cut off where the lock is lost may have been made, and would be made again.
        await lock.acquire()
        try:
            while (done := await self._try(function, promoted=True)) is None:
                pass
        finally:
            await lock.release()
        return done

    async def _try(self, function: Callable[[int], int], *, promoted: bool = False) -> AtomicChange | None:
        before, version = await self._read()
        after = function(before)
        try:
            await self._write(after, version)
        except (BadVersionError, NodeExistsError):
            return None
        except NoNodeError:
            await self._make_parent()
            return None
        return AtomicChange(before, after, promoted)

    async def _read(self) -> tuple[int, int | None]:
        """The number, and the version of its znode; `None` where there is no znode."""
        try:
            data, stat = await in_any_session(self.client, self.client.get, self.path)
        except NoNodeError:
            return 0, None
        if not data:
            return 0, stat.version
        if len(data) < _INT64.size:
            raise ValueError(f"{self.path} holds {data!r}, which is shorter than eight bytes")
        number: int = _INT64.unpack_from(data)[0]
        return number, stat.version

    async def _write(self, value: int, version: int | None) -> None:
        try:
            data = _INT64.pack(value)
        except struct.error:
            if not isinstance(value, int):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError(f"the value of {self.path} must be an int, not {value!r}") from None
            raise OverflowError(f"{value!r} does not fit into an int64") from None
        # Beside the znode, which may not be there yet.
        prefix = f"{self.path}-" if self.path != "/" else "/"
        await change_once(self.client, prefix, partial(self._fill, data=data, version=version))

    def _fill(self, transaction: Transaction, *, data: bytes, version: int | None) -> None:
        if version is None:
            transaction.create(self.path, data)
        else:
            transaction.set_data(self.path, data, version)

    async def _make_parent(self) -> None:
        parent = self.path.rpartition("/")[0] or "/"
        await in_any_session(self.client, make_path, self.client, parent, container=False)
