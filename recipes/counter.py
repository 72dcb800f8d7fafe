"""A number that many change: kazoo's Counter, in kazoo's text or in Curator's four bytes.

Each change is made once, or its error says that nobody knows (`_receipts`).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

from terzetto.client import BadVersionError, NoNodeError, Transaction, ZooKeeper

from ._following import in_any_session
from ._receipts import change_once
from ._znodes import join, make_path, native

NumberT = TypeVar("NumberT", int, float)

_INT32 = struct.Struct(">i")


class Counter(Generic[NumberT]):
    """A shared number: `await Counter(zk, "/counters/a").add(2)`.

    Args:
        client: the client.
        path: its znode; made, empty, when it is missing.
        default: its value while the znode is empty. All values have its type.
        support_curator: as Curator's SharedCount and DistributedAtomicInteger write it, a big-endian int32.

    Attributes:
        pre_value: the number before our last change, `None` before the first.
        post_value: the number that our last change made of it.
    """

    def __init__(self, client: ZooKeeper, path: str, default: NumberT = 0, support_curator: bool = False) -> None:
        if not isinstance(default, (int, float)):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"default must be a number, not {default!r}")
        if support_curator and not isinstance(default, int):
            raise TypeError(f"Curator's counters are ints, not {default!r}")
        self.client = native(client)
        self.path = path
        self.default: NumberT = default
        self.pre_value: NumberT | None = None
        self.post_value: NumberT | None = None
        self._curator = support_curator

    async def get(self) -> NumberT:
        """The number, as the connected server knows it. The znode is made when it is missing.

        Raises:
            ValueError: what stands in the znode is not a number of ours.
        """
        return (await self._read())[0]

    async def add(self, value: NumberT) -> NumberT:
        """Adds to it, and returns the result; what others add meanwhile is not lost.

        Raises:
            TypeError: the value has not the default's type. Nothing was changed.
            OverflowError: the result does not fit into Curator's four bytes. Nothing was changed.
            SessionExpiredError: the session ended; `outcome_unknown` says whether the change may have been made.
        """
        self._check(value)
        return await self._change(lambda before: before + value)

    async def subtract(self, value: NumberT) -> NumberT:
        """Subtracts from it. As `add`."""
        self._check(value)
        return await self._change(lambda before: before - value)

    async def _change(self, result: Callable[[NumberT], NumberT]) -> NumberT:
        while True:
            before, version = await self._read()
            after = result(before)
            fill = partial(self._write, data=self._encoded(after), version=version)
            try:
                await change_once(self.client, join(self.path, ""), fill)
            except (BadVersionError, NoNodeError):
                continue
            self.pre_value, self.post_value = before, after
            return after

    def _write(self, transaction: Transaction, *, data: bytes, version: int) -> None:
        transaction.set_data(self.path, data, version)

    async def _read(self) -> tuple[NumberT, int]:
        while True:
            try:
                data, stat = await in_any_session(self.client, self.client.get, self.path)
            except NoNodeError:
                await in_any_session(self.client, make_path, self.client, self.path, container=False)
                continue
            return self._decoded(data or b""), stat.version

    def _check(self, value: NumberT) -> None:
        if not isinstance(value, type(self.default)):
            raise TypeError(f"{value!r} is no {type(self.default).__name__}, as the counter's values are")

    def _encoded(self, value: NumberT) -> bytes:
        if not self._curator:
            return repr(value).encode("ascii")
        try:
            return _INT32.pack(value)
        except struct.error:
            raise OverflowError(f"{value} does not fit into an int32") from None

    def _decoded(self, data: bytes) -> NumberT:
        if not data:
            return self.default
        try:
            value: NumberT = type(self.default)(_INT32.unpack(data)[0] if self._curator else data.decode("ascii"))
        except (struct.error, ValueError):
            raise ValueError(f"{self.path} holds {data!r:.60}, which is no number of this kind") from None
        return value
