"""What a peer wants written, carried out in its order, and the word that it is durable.

Decides when the storage is synced: one sync serves everything that came while the one before it ran, and an epoch is
written when all before it is durable. A storage that does not block is served at once. Refuses to know why a peer
wants a write, and what waits for it.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable, Sequence

import trio

from .journal import Journal
from .ready import AppendTxns, InstallSnapshot, TruncateHistory, Write, WriteAcceptedEpoch, WriteCurrentEpoch
from .storage.errors import HistoryUnavailableError

BACKLOG_MAX = 64 * 1024 * 1024
"""Bytes of transactions that may wait for the disk before no more is read from the leader."""


class Outcome(enum.Enum):
    """What has become of a Ready's writes."""

    DURABLE = enum.auto()
    LATER = enum.auto()


class DurableWrites:
    """The writes of one peer.

    Args:
        journal: where they go.
        durable: called with the number of a Ready whose writes, and all before them, are durable.
        refused: called with the number of a Ready whose truncation is not possible.
        gate: what to wait for before anything is done, None while the server is not paused.
    """

    def __init__(
        self,
        journal: Journal,
        durable: Callable[[int], None],
        refused: Callable[[int], None],
        gate: Callable[[], trio.Event | None],
    ) -> None:
        self._journal = journal
        self._durable = durable
        self._refused = refused
        self._gate = gate
        self._queue: deque[tuple[int, Sequence[Write]]] = deque()
        self._busy = False
        self._backlog = 0
        self._work = trio.Event()
        self._progress = trio.Event()

    def submit(self, number: int, writes: Sequence[Write]) -> Outcome:
        """Takes the writes of a Ready; what is not durable at once is when `durable` says so."""
        if not writes:
            return Outcome.LATER
        if self._is_quick(writes):
            self._perform_at_once(writes)
            return Outcome.DURABLE
        self._queue.append((number, writes))
        self._backlog += _size(writes)
        self._work.set()
        return Outcome.LATER

    def congestion(self) -> trio.Event | None:
        """What to wait for while too much waits for the disk."""
        return self._progress if self._backlog > BACKLOG_MAX else None

    async def wait_idle(self) -> None:
        """Waits until everything that was submitted is durable."""
        while self._busy or self._queue:
            await self._progress.wait()

    async def run(self) -> None:
        """Writes as long as the server lives. A write that fails ends it: what is not durable is not acknowledged."""
        while True:
            if not self._queue:
                self._work = trio.Event()
                await self._work.wait()
            batch = list(self._queue)
            self._queue.clear()
            self._busy = True
            refused: list[int] = []
            for number, writes in batch:
                if not await self._perform(writes):
                    refused.append(number)
            await self._journal.sync()
            while (closed := self._gate()) is not None:
                await closed.wait()
            self._busy = False
            self._backlog -= sum(_size(writes) for _, writes in batch)
            self._report(batch, refused)
            self._progress.set()
            self._progress = trio.Event()

    def _report(self, batch: list[tuple[int, Sequence[Write]]], refused: list[int]) -> None:
        """Says what is durable: all of it in one word, unless something was refused in between."""
        numbers = [number for number, _ in batch]
        for number in refused:
            before = [other for other in numbers if other < number]
            if before:
                self._durable(before[-1])
            self._refused(number)
            numbers = [other for other in numbers if other > number]
        if numbers:
            self._durable(numbers[-1])

    def _is_quick(self, writes: Sequence[Write]) -> bool:
        if self._journal.storage.blocks or self._busy or self._queue:
            return False
        return not any(isinstance(write, TruncateHistory | InstallSnapshot) for write in writes)

    def _perform_at_once(self, writes: Sequence[Write]) -> None:
        storage = self._journal.storage
        for write in writes:
            if isinstance(write, AppendTxns):
                self._journal.log(write.entries)
                continue
            storage.sync()
            if isinstance(write, WriteAcceptedEpoch):
                storage.write_accepted_epoch(write.epoch)
            elif isinstance(write, WriteCurrentEpoch):
                storage.write_current_epoch(write.epoch)
        storage.sync()

    async def _perform(self, writes: Sequence[Write]) -> bool:
        """Carries out the writes of one Ready; False if a truncation is not possible, and then none behind it is."""
        journal = self._journal
        for write in writes:
            if isinstance(write, AppendTxns):
                journal.log(write.entries)
                continue
            await journal.sync()
            if isinstance(write, TruncateHistory):
                try:
                    await journal.truncate(write.zxid)
                except HistoryUnavailableError:
                    return False
            elif isinstance(write, InstallSnapshot):
                await journal.install(write)
            elif isinstance(write, WriteAcceptedEpoch):
                await journal.write_accepted_epoch(write.epoch)
            else:
                await journal.write_current_epoch(write.epoch)
        return True


def _size(writes: Sequence[Write]) -> int:
    return sum(len(entry.payload) for write in writes if isinstance(write, AppendTxns) for entry in write.entries)
