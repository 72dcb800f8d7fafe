"""Group commit and snapshots: the trio side of a server's storage.

Decides when the storage is synced (whenever something is appended and no sync runs, so that one sync serves all writes
that came during the last) and when a snapshot is written. Refuses to know what a transaction does and what a file is.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import TypeVar

import trio

from .config import ServerConfig
from .datatree import DataTree
from .storage.disk import DiskOptions, DiskStorage
from .storage.interface import Storage
from .storage.memory import MemoryStorage
from .storage.schedule import SnapshotSchedule
from .storage.snapshot import SnapshotDigest, encode_snapshot
from .storage.txnlog import LoggedTxn
from .txns import DIGEST_VERSION, SnapshotSession, Txn, decode_txn, encode_txn

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

RECOVERY_SLICE = 2000
"""Transactions replayed between two looks at the event loop."""


def open_storage(config: ServerConfig) -> Storage:
    """The storage that a configuration asks for; its directories are made and locked.

    Raises:
        DataDirectoryError: another server uses them.
        OSError: they cannot be made or opened.
    """
    if config.data_dir is None:
        return MemoryStorage()
    options = DiskOptions(
        preallocation=config.preallocation_kb * 1024,
        log_size_max=config.log_size_limit_kb * 1024 if config.log_size_limit_kb > 0 else None,
        force_sync=config.force_sync,
        compression=config.snapshot_compression,
        retain=config.purge_retain,
        trust_empty=config.trust_empty_snapshot,
        replicated=not config.is_standalone,
    )
    return DiskStorage(config.data_dir, config.data_log_dir, options)


class Journal:
    """A server's history on its storage.

    Args:
        storage: not recovered yet.
        tree: a new tree, which `recover` fills.
        schedule: when a snapshot is due.

    Attributes:
        snapshots_written: in this life.
        last_snapshot: zxid and time (seconds since the epoch) of the newest snapshot of this life, (-1, 0) before the
            first.
    """

    def __init__(self, storage: Storage, tree: DataTree, schedule: SnapshotSchedule) -> None:
        self.storage = storage
        self.snapshots_written = 0
        self.last_snapshot: tuple[int, float] = (-1, 0.0)
        self._tree = tree
        self._schedule = schedule
        self._pending: deque[Txn] = deque()
        self._work = trio.Event()
        self._committed = trio.Event()
        self._snapshot_due = trio.Event()

    async def wait_idle(self) -> None:
        """Waits until everything that was appended is committed."""
        while self._pending:
            await self._committed.wait()

    async def recover(self) -> None:
        """Brings the tree to the state of the storage; a new storage gets its first snapshot.

        Raises:
            StorageError: the history cannot be used.
        """
        recovery = await self._blocking(self.storage.recover)
        snapshot = recovery.snapshot
        if snapshot is not None:
            digest = snapshot.digest
            given = None if digest is None else (digest.zxid, digest.version, digest.tree_digest)
            self._tree.load(snapshot.zxid, snapshot.sessions, snapshot.acls, snapshot.nodes, given)
        txns = recovery.txns
        while batch := await self._blocking(lambda: _take(txns, RECOVERY_SLICE)):
            for logged in batch:
                self._tree.apply(decode_txn(logged.payload))
        self._tree.finish_recovery()
        for line in recovery.report.lines():
            _log.info("%s", line)
        if snapshot is None:
            await self.write_snapshot()

    def append(self, txns: Iterable[Txn]) -> None:
        """Adds transactions to the history; `run` commits them once they are durable."""
        logged = [LoggedTxn(txn.header.zxid, encode_txn(txn)) for txn in txns]
        self.storage.append(logged)
        self._pending.extend(txns)
        self._work.set()
        for _, payload in logged:
            if self._schedule.logged(len(payload)):
                self._snapshot_due.set()

    def take_durable(self) -> list[Txn]:
        """Syncs a storage that does not block, and gives what is durable now."""
        durable = self.storage.sync()
        return self._take_until(durable)

    def _take_until(self, durable: int) -> list[Txn]:
        pending = self._pending
        taken: list[Txn] = []
        while pending and pending[0].header.zxid <= durable:
            taken.append(pending.popleft())
        return taken

    async def run(self, commit: Callable[[list[Txn]], None], gate: Callable[[], trio.Event | None]) -> None:
        """Syncs as long as the server lives, and has `commit` apply what is durable.

        A failed sync ends the server: what is not durable is not acknowledged.
        """
        while True:
            if not self._pending:
                self._work = trio.Event()
                await self._work.wait()
            durable = await self._blocking(self.storage.sync)
            closed = gate()
            if closed is not None:
                await closed.wait()
            commit(self._take_until(durable))
            self._committed.set()
            self._committed = trio.Event()

    async def run_snapshots(self) -> None:
        """Writes a snapshot whenever one is due."""
        while True:
            await self._snapshot_due.wait()
            await self.write_snapshot()
            self._snapshot_due = trio.Event()

    async def write_snapshot(self) -> None:
        """Writes a snapshot of the tree while transactions go on being applied to it."""
        tree = self._tree
        zxid = tree.last_zxid
        writer = await self._blocking(lambda: self.storage.begin_snapshot(zxid))
        try:
            sessions = [SnapshotSession(session_id, timeout) for session_id, timeout in tree.sessions.items()]
            pieces = encode_snapshot(
                sessions,
                tree.acls.dump(),
                tree.walk(),
                lambda: SnapshotDigest(tree.last_zxid, DIGEST_VERSION, tree.digest),
            )
            for piece in pieces:
                await self._blocking_write(writer.write, piece)
            await self._blocking(writer.commit)
            if not self.storage.blocks:
                # Nobody looks into memory for old snapshots, and the log behind them would grow for ever.
                self.storage.purge()
        except BaseException:
            writer.abort()
            raise
        self.snapshots_written += 1
        self.last_snapshot = (zxid, time.time())

    async def run_purges(self, interval: float) -> None:
        """Purges old snapshots and logs every `interval` seconds, the first time at once."""
        while True:
            for name in await self._blocking(self.storage.purge):
                _log.info("purged %s", name)
            await trio.sleep(interval)

    async def close(self) -> None:
        """Syncs and closes the storage."""
        await self._blocking(self.storage.close)

    async def _blocking(self, call: Callable[[], _T]) -> _T:
        if self.storage.blocks:
            return await trio.to_thread.run_sync(call)
        await trio.lowlevel.checkpoint()
        return call()

    async def _blocking_write(self, write: Callable[[bytes], None], piece: bytes) -> None:
        await self._blocking(lambda: write(piece))


def _take(txns: Iterable[LoggedTxn], count: int) -> list[LoggedTxn]:
    batch: list[LoggedTxn] = []
    for txn in txns:
        batch.append(txn)
        if len(batch) == count:
            break
    return batch
