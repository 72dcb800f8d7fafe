"""A value that all can see and set: Curator's SharedValue (bytes) and SharedCount (an int32).

Inside its block the newest value is at hand, kept up to date by a watch. Each change is made once, or its error says
that nobody knows (`_receipts`).
"""

from __future__ import annotations

import struct
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from terzetto.client import BadVersionError, NodeExistsError, NoNodeError, PlainNursery, Transaction, ZooKeeper

from ._following import Latest, LatestStream, Rearmed, Standing, in_any_session
from ._receipts import change_once
from ._znodes import join, make_path, native

T = TypeVar("T")

_INT32 = struct.Struct(">i")


@dataclass(frozen=True)
class Versioned(Generic[T]):
    """A value as it was read.

    Attributes:
        value: the value.
        version: version of its znode.
        zxid: of the write that made it. Newer values have greater ones, also where the znode was made anew.
    """

    value: T
    version: int
    zxid: int


class _Shared(Standing, Generic[T]):
    """See `SharedValue`."""

    def __init__(self, client: ZooKeeper, path: str, seed: T) -> None:
        self.client = native(client)
        self.path = path
        self.seed = seed
        self._seed_data = self._encoded(seed)
        self._latest: Latest[Versioned[T] | None] = Latest(None)

    @abstractmethod
    def _encoded(self, value: T) -> bytes: ...

    @abstractmethod
    def _decoded(self, data: bytes) -> T: ...

    # The value at hand ------------------------------------------------------------------------------------------------

    @property
    def value(self) -> T:
        """The newest value that we know of. Inside the block only."""
        return self.versioned.value

    @property
    def versioned(self) -> Versioned[T]:
        """The newest value that we know of, with its version. Inside the block only."""
        if self._latest.value is None:
            raise RuntimeError("a shared value is at hand inside its own block: async with ... as shared")
        return self._latest.value

    def changes(self) -> LatestStream[T]:
        """`async for value in shared.changes():` the value at once, then each newer one, until the block ends; who is
        slow skips some.
        """
        return LatestStream(self._latest, lambda: self.value)

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        change = Rearmed(self.client, self.path)
        try:
            await self._read(change)
            async with PlainNursery() as nursery:
                nursery.start_soon(self._follow, change)
                yield
                nursery.cancel_scope.cancel()
        finally:
            self._latest.finish()
            change.take_back()

    async def _follow(self, change: Rearmed) -> None:
        while True:
            await change.wait()
            await self._read(change)

    # Requests ---------------------------------------------------------------------------------------------------------

    async def get(self) -> Versioned[T]:
        """The value as the connected server knows it, at least as new as the one at hand. Also outside the block.

        The znode is made, with the seed, when it is missing.

        Raises:
            ValueError: what stands in the znode is no such value.
        """
        return await self._read(None)

    async def set(self, value: T) -> None:
        """Sets it, whatever it was.

        Raises:
            SessionExpiredError: the session ended; `outcome_unknown` says whether it may have been set.
        """
        data = self._encoded(value)
        while True:
            with suppress(NoNodeError):
                await self._write(data, -1)
                break
            await self._make()
        await self._read(None)

    async def try_set(self, previous: Versioned[T], value: T) -> bool:
        """Sets it if it is still `previous`. False: it is not; `get` tells what it is. Raises as `set`."""
        data = self._encoded(value)
        if await self.get() != previous:
            return False
        try:
            await self._write(data, previous.version)
        except (BadVersionError, NoNodeError):
            return False
        await self._read(None)
        return True

    async def update(self, function: Callable[[T], T]) -> T:
        """Sets it to `function(value)`, which may be called several times; returns the new one. Raises as `set`."""
        while True:
            before = await self.get()
            after = function(before.value)
            if await self.try_set(before, after):
                return after

    async def _read(self, change: Rearmed | None) -> Versioned[T]:
        while True:
            if change is not None:
                change.arm()
            try:
                watch = None if change is None else change.told
                data, stat = await in_any_session(self.client, self.client.get, self.path, watch=watch)
            except NoNodeError:
                await self._make()
                continue
            found = Versioned(self._decoded(data or b""), stat.version, stat.mzxid)
            known = self._latest.value
            if known is not None and found.zxid <= known.zxid:
                return known  # in a new session the server may be behind
            self._latest.put(found)
            return found

    async def _make(self) -> None:
        zk = self.client
        await in_any_session(zk, make_path, zk, self.path.rpartition("/")[0] or "/", container=False)
        with suppress(NodeExistsError, NoNodeError):
            await in_any_session(zk, zk.create, self.path, self._seed_data)

    async def _write(self, data: bytes, version: int) -> None:
        await change_once(self.client, join(self.path, ""), partial(self._fill, data=data, version=version))

    def _fill(self, transaction: Transaction, *, data: bytes, version: int) -> None:
        transaction.set_data(self.path, data, version)


class SharedValue(_Shared[bytes]):
    """Shared bytes: `async with SharedValue(zk, "/values/a", b"seed") as shared: ... shared.value`.

    Args:
        client: the client.
        path: its znode; made, with the seed, when it is missing.
        seed: the first value. One that is there wins.
    """

    def _encoded(self, value: bytes) -> bytes:
        return value

    def _decoded(self, data: bytes) -> bytes:
        return data


class SharedCount(_Shared[int]):
    """A shared int32: `async with SharedCount(zk, "/values/a", 3) as shared: ... shared.value`.

    The arguments are `SharedValue`'s. A number that does not fit raises `OverflowError`.
    """

    def __init__(self, client: ZooKeeper, path: str, seed: int = 0) -> None:
        super().__init__(client, path, seed)

    def _encoded(self, value: int) -> bytes:
        try:
            return _INT32.pack(value)
        except struct.error:
            if not isinstance(value, int):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError(f"the value of {self.path} must be an int, not {value!r}") from None
            raise OverflowError(f"{value!r} does not fit into an int32") from None

    def _decoded(self, data: bytes) -> int:
        try:
            value: int = _INT32.unpack(data)[0]
        except struct.error:
            raise ValueError(f"{self.path} holds {data!r:.60}, which is no int32") from None
        return value
