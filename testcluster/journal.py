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
from .ids import counter_of
from .ready import Entry, InstallSnapshot
from .storage.collection import no_collection
from .storage.disk import DiskOptions, DiskStorage
from .storage.interface import Storage
from .storage.memory import MemoryStorage
from .storage.schedule import SnapshotSchedule
from .storage.snapshot import SnapshotDigest, encode_snapshot
from .storage.txnlog import LoggedTxn
from .txns import DIGEST_VERSION, SnapshotSession, Txn, encode_txn

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

RECOVERY_SLICE = 2000
"""Transactions replayed between two looks at the event loop."""

RECENT_MAX = 500
"""Replayed transactions that are kept for learners that lack a few (ZooKeeper's `commitLogCount`)."""


def open_storage(config: ServerConfig) -> Storage:
    """The storage that a configuration asks for. Touches no file: its `recover` makes and locks the directories."""
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
        autocreate=config.trust_empty_database,
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
        recent: the last transactions that the last recovery has replayed.
    """

    def __init__(self, storage: Storage, tree: DataTree, schedule: SnapshotSchedule) -> None:
        self.storage = storage
        self.snapshots_written = 0
        self.last_snapshot: tuple[int, float] = (-1, 0.0)
        self.recent: deque[LoggedTxn] = deque(maxlen=RECENT_MAX)
        self._trusted = True
        self._tree = tree
        self._schedule = schedule
        self._pending: deque[Txn] = deque()
        self._work = trio.Event()
        self._committed = trio.Event()
        self._snapshot_due = trio.Event()
        self._may_snapshot = True
        self._allowed = trio.Event()
        self._writing: trio.CancelScope | None = None
        self._written = trio.Event()
        # Snapshots that wait for the history to come as far as the tree.
        self._behind = trio.lowlevel.ParkingLot()

    async def wait_idle(self) -> None:
        """Waits until everything that was appended is committed."""
        while self._pending:
            await self._committed.wait()

    async def recover(self) -> None:
        """Brings the tree to the state of the storage; a new storage gets its first snapshot.

        An empty storage that is not trusted gets none, and the tree's last zxid is -1 (see `Recovery`).

        Raises:
            StorageError: the history cannot be used.
        """
        is_new = await self._rebuild()
        if not self._trusted:
            self._tree.last_zxid = self.storage.last_zxid
        elif is_new:
            await self.write_snapshot()

    async def _rebuild(self) -> bool:
        """Makes the tree anew from the storage; whether there was no snapshot to begin with."""
        recovery = await self._blocking(self.storage.recover)
        snapshot = recovery.snapshot
        self.recent.clear()
        with no_collection():
            if snapshot is not None:
                digest = snapshot.digest
                given = None if digest is None else (digest.zxid, digest.version, digest.tree_digest)
                self._tree.load(snapshot.zxid, snapshot.sessions, snapshot.acls, snapshot.nodes, given)
            elif self._tree.last_zxid:
                fresh = DataTree()
                self._tree.load(0, [], fresh.acls.dump(), fresh.walk())
        txns = recovery.txns
        while batch := await self._blocking(lambda: _take(txns, RECOVERY_SLICE)):
            self.recent.extend(batch)
            for logged in batch:
                self._tree.apply(recovery.decode(logged))
        self._tree.finish_recovery()
        for line in recovery.report.lines():
            _log.info("%s", line)
        self._trusted = recovery.is_trusted
        return snapshot is None

    # -- what a member of an ensemble is told to write, see `ready.py`

    def log(self, entries: Iterable[Entry]) -> None:
        """Adds transactions to the history; `sync` makes them durable."""
        logged = [LoggedTxn(entry.zxid, entry.payload) for entry in entries]
        self.storage.append(logged)
        if self._behind:
            self._behind.unpark_all()
        for _, payload in logged:
            if self._schedule.logged(len(payload)):
                self._snapshot_due.set()

    async def sync(self) -> None:
        """Makes everything durable that was logged."""
        if self.storage.durable_zxid < self.storage.last_zxid:
            await self._blocking(self.storage.sync)

    async def write_accepted_epoch(self, epoch: int) -> None:
        """See `Storage`."""
        await self._blocking(lambda: self.storage.write_accepted_epoch(epoch))

    async def write_current_epoch(self, epoch: int) -> None:
        """See `Storage`."""
        await self._blocking(lambda: self.storage.write_current_epoch(epoch))

    async def truncate(self, zxid: int) -> None:
        """Cuts everything behind `zxid` off, durably, and makes the tree anew.

        Raises:
            HistoryUnavailableError: that cannot be done; nothing has changed.
        """
        await self._stop_writing()
        await self._blocking(lambda: self.storage.truncate_to(zxid))
        await self._rebuild()

    async def install(self, install: InstallSnapshot) -> None:
        """Replaces tree and history by a leader's tree and the transactions behind it, in one step for the disk."""
        await self._stop_writing()
        tree = self._tree
        with no_collection():
            tree.load(install.zxid, *install.snapshot)
        for entry in install.entries:
            tree.apply(entry.txn)
        # Without a digest, which would say that the snapshot is exact: the leader may have written while it sent.
        await self._write_snapshot(install.last_zxid, replaces_history=True)
        await self._rebuild()

    def set_may_snapshot(self, may_snapshot: bool) -> None:
        """Allows snapshots, or forbids them, also one under way, while the tree may hold what was never committed."""
        self._may_snapshot = may_snapshot
        if may_snapshot:
            self._allowed.set()
            self._allowed = trio.Event()
        elif self._writing is not None:
            # It ends before it writes what it reads from here on.
            self._writing.cancel()

    async def _stop_writing(self) -> None:
        """Gives up a snapshot that is being written."""
        while self._writing is not None:
            self._writing.cancel()
            await self._written.wait()

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
        """Writes a snapshot whenever one is due and allowed."""
        while True:
            await self._snapshot_due.wait()
            while not self._may_snapshot:
                await self._allowed.wait()
            await self.write_snapshot()
            self._snapshot_due = trio.Event()

    async def write_snapshot(self) -> None:
        """Writes a snapshot of the tree while transactions go on being applied to it."""
        self._written = trio.Event()
        try:
            with trio.CancelScope() as self._writing:
                zxid = self._tree.last_zxid
                await self._wait_logged(zxid)
                await self._write_snapshot(zxid)
        finally:
            self._writing = None
            self._written.set()

    async def _wait_logged(self, zxid: int) -> None:
        """Waits until the history is as far as the tree was. A member's tree may be ahead: what the others have made
        durable is committed, although its own disk has not come to it. A snapshot with traces of what no log holds
        could not be used.
        """
        # An epoch without a transaction is nowhere in a log.
        while self.storage.last_zxid < zxid and counter_of(zxid) != 0:
            await self._behind.park()

    async def _write_snapshot(self, zxid: int, *, replaces_history: bool = False) -> None:
        tree = self._tree
        writer = await self._blocking(lambda: self.storage.begin_snapshot(zxid, replaces_history=replaces_history))
        try:
            sessions = [SnapshotSession(session_id, timeout) for session_id, timeout in tree.sessions.items()]
            pieces = encode_snapshot(
                sessions,
                tree.acls.dump(),
                tree.walk(),
                lambda: None if replaces_history else SnapshotDigest(tree.last_zxid, DIGEST_VERSION, tree.digest),
            )
            for piece in pieces:
                await self._blocking_write(writer.write, piece)
            if not replaces_history:
                await self._wait_logged(tree.last_zxid)
            await self._blocking(writer.commit)
            if not self.storage.blocks and not replaces_history:
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

    async def crash(self) -> None:
        """Lets go of the storage as a process does that is killed: what was not synced is lost."""
        await self._blocking(self.storage.crash)

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
