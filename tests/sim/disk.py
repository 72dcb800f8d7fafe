"""A simulated server's disk: the storage of test ensembles, made slow, and made to lose what was not synced.

Decides when a write is durable, and in which of the states between two writes a crash leaves the disk. Writes happen in
the order in which they were asked for; appended transactions are volatile until a sync that began after them has ended.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from terzetto.testcluster.datatree import DataTree
from terzetto.testcluster.ready import (
    AppendTxns,
    Entry,
    InstallSnapshot,
    TruncateHistory,
    Write,
    WriteAcceptedEpoch,
    WriteCurrentEpoch,
)
from terzetto.testcluster.storage.errors import HistoryUnavailableError, StorageError
from terzetto.testcluster.storage.interface import SnapshotWriter
from terzetto.testcluster.storage.memory import MemoryStorage
from terzetto.testcluster.storage.snapshot import SnapshotDigest, encode_snapshot
from terzetto.testcluster.storage.txnlog import LoggedTxn
from terzetto.testcluster.txns import DIGEST_VERSION, SnapshotSession, decode_txn

from .ledger import Ledger
from .world import World

PIECE = 400
"""Bytes of a snapshot between two of which transactions may be applied to its tree."""


class SyncedLater(MemoryStorage):
    """The storage in memory with a sync that has a beginning and an end."""

    def __init__(self) -> None:
        super().__init__(retain=2)
        self._reach = 0

    def begin_sync(self) -> None:
        """What is appended by now will be durable at `end_sync`."""
        self._reach = len(self._log)

    def end_sync(self) -> None:
        """See `begin_sync`."""
        self._synced = max(self._synced, min(self._reach, len(self._log)))

    def purge(self) -> list[str]:
        """See `Storage`."""
        before = len(self._log)
        removed = super().purge()
        self._reach = max(0, self._reach - before + len(self._log))
        return removed

    @property
    def unsynced(self) -> int:
        """Transactions that a crash may take."""
        return len(self._log) - self._synced


class DiskCrash(Exception):
    """The server dies at this point of its writing."""


@dataclass
class DiskSpeed:
    """How long writes take, in microseconds.

    Attributes:
        write: an epoch, a cut or a snapshot.
        sync: of the log.
        slow: what both are multiplied by.
    """

    write: int = 800
    sync: int = 1200
    slow: int = 1


class Recovered(NamedTuple):
    """What a restart finds on the disk.

    Attributes:
        tree: every snapshot and transaction of it applied.
        entries: the transactions behind the snapshot.
        fuzzy_until: the tree has traces of transactions up to this zxid.
    """

    tree: DataTree
    entries: list[Entry]
    fuzzy_until: int


class Disk:
    """One server's disk.

    Args:
        sid: whose.
        world: time and chance.
        ledger: is told what is durable.
        tap: called with the name of each point between two writes; may raise `DiskCrash`.

    Attributes:
        storage: what is on it.
        speed: how slow it is.
    """

    storage_class = SyncedLater

    def __init__(self, sid: int, world: World, ledger: Ledger, tap: Callable[[str], None]) -> None:
        self.storage = self.storage_class()
        self.speed = DiskSpeed()
        self._sid = sid
        self._world = world
        self._ledger = ledger
        self._tap = tap
        self._random: random.Random = world.chance(f"disk {sid}")
        self._queue: deque[tuple[int, Write]] = deque()
        self._busy = False
        self._life = 0
        # Ready number to how many of its writes are not durable.
        self._left: dict[int, int] = {}
        self._reaches: dict[int, int] = {}
        # Those appends of the queue that are in the storage already.
        self._appended: set[int] = set()
        self._snapshot: SnapshotWriter | None = None
        self.on_durable: Callable[[int], None] = _ignore
        self.on_failed: Callable[[int], None] = _ignore
        self.on_replaced: Callable[[], None] = _nothing

    # Writing.

    def submit(self, number: int, writes: list[Write]) -> None:
        """Writes what a Ready asks for; `on_durable` is called when it is durable."""
        self._left[number] = len(writes)
        for write in writes:
            if isinstance(write, AppendTxns) and all(isinstance(other, AppendTxns) for _, other in self._queue):
                self._append(write)
            self._queue.append((number, write))
        self._go_on()

    def _append(self, write: AppendTxns) -> None:
        self._appended.add(id(write))
        for entry in write.entries:
            self._ledger.appended(self._sid, entry)
        self.storage.append([LoggedTxn(entry.zxid, entry.payload) for entry in write.entries])

    def _go_on(self) -> None:
        if self._busy or not self._queue:
            return
        self._busy = True
        batch = [self._queue[0]]
        if isinstance(batch[0][1], AppendTxns):
            for item in list(self._queue)[1:]:
                if not isinstance(item[1], AppendTxns):
                    break
                batch.append(item)
            self.storage.begin_sync()
            base = self.speed.sync
        else:
            base = self.speed.write
        delay = int(base * self.speed.slow * (0.5 + self._random.random()))
        self._world.after(delay, self._finish, self._life, len(batch))

    def _finish(self, life: int, count: int) -> None:
        if life != self._life:
            return
        batch = [self._queue.popleft() for _ in range(count)]
        try:
            for number, write in batch:
                self._perform(write)
                self._appended.discard(id(write))
                self._left[number] -= 1
        except DiskCrash:
            return
        except HistoryUnavailableError:
            self._fail(batch[0][0])
            return
        self._busy = False
        for _, write in self._queue:
            # What waited behind something else than appends.
            if not isinstance(write, AppendTxns):
                break
            if id(write) not in self._appended:
                self._append(write)
        self._go_on()
        for number in [number for number, left in self._left.items() if not left]:
            del self._left[number]
            self.on_durable(number)
            if life != self._life:
                return

    def _fail(self, number: int) -> None:
        """A cut was not possible; what else that Ready wanted is left out."""
        while self._queue and self._queue[0][0] == number:
            self._queue.popleft()
        del self._left[number]
        self._busy = False
        self._go_on()
        self.on_failed(number)

    def _perform(self, write: Write) -> None:
        name = type(write).__name__
        self._tap(f"before {name}")
        ledger, sid, storage = self._ledger, self._sid, self.storage
        if isinstance(write, WriteAcceptedEpoch):
            storage.write_accepted_epoch(write.epoch)
            ledger.accepted_written(sid, write.epoch)
        elif isinstance(write, WriteCurrentEpoch):
            storage.write_current_epoch(write.epoch)
            ledger.current_written(sid, write.epoch)
        elif isinstance(write, AppendTxns):
            storage.end_sync()
            ledger.synced(sid, storage.durable_zxid)
        elif isinstance(write, TruncateHistory):
            storage.truncate_to(write.zxid)
            ledger.cut(sid, write.zxid)
        elif isinstance(write, InstallSnapshot):
            self._install(write)
        self._tap(f"after {name}")
        if isinstance(write, TruncateHistory | InstallSnapshot):
            self.on_replaced()

    def _install(self, write: InstallSnapshot) -> None:
        tree = DataTree()
        tree.load(write.zxid, *write.snapshot)
        for entry in write.entries:
            self._ledger.proposed(self._sid, entry)
            tree.apply(entry.txn)
        writer = self.storage.begin_snapshot(write.last_zxid, replaces_history=True)
        for piece in encode_snapshot(_sessions(tree), tree.acls.dump(), tree.walk(), lambda: None):
            writer.write(piece)
        self._tap("inside InstallSnapshot")
        writer.commit()
        self._reaches[write.last_zxid] = self._ledger.body_reach(write.snapshot)
        self._ledger.cut(self._sid, write.last_zxid)

    # Snapshots.

    def begin_snapshot(self, tree: DataTree) -> None:
        """Writes a snapshot, piece by piece while the tree changes."""
        if self._snapshot is not None:
            return
        self._tap("before snapshot")
        zxid = tree.last_zxid
        self._snapshot = writer = self.storage.begin_snapshot(zxid)

        def digest() -> SnapshotDigest:
            self._reaches[zxid] = tree.last_zxid
            return SnapshotDigest(tree.last_zxid, DIGEST_VERSION, tree.digest)

        pieces = encode_snapshot(_sessions(tree), tree.acls.dump(), tree.walk(), digest, chunk_size=PIECE)
        self._world.after(self._pause(), self._write_piece, self._life, writer, iter(pieces))

    def _pause(self) -> int:
        return int(self.speed.write * self.speed.slow * (0.5 + self._random.random()))

    def _write_piece(self, life: int, writer: SnapshotWriter, pieces: list[bytes]) -> None:
        if life != self._life or writer is not self._snapshot:
            return
        piece = next(iter(pieces), None)
        if piece is not None:
            writer.write(piece)
            self._world.after(self._pause(), self._write_piece, life, writer, pieces)
            return
        try:
            self._tap("inside snapshot")
            writer.commit()
            self._ledger.synced(self._sid, self.storage.durable_zxid)
            self._tap("after snapshot")
            if self._random.random() < 0.5:
                self.storage.purge()
        except StorageError:
            # The history was cut or replaced meanwhile.
            pass
        except DiskCrash:
            return
        self._snapshot = None

    def abandon_snapshot(self) -> None:
        """The tree that was being written is given up."""
        if self._snapshot is not None:
            self._snapshot.abort()
            self._snapshot = None

    # Losing and finding.

    def crash(self) -> None:
        """The server dies: any prefix of what was not synced stays."""
        self._life += 1
        self._queue.clear()
        self._left.clear()
        self._appended.clear()
        self._busy = False
        self._snapshot = None
        self.storage.crash(self._random.randint(0, self.storage.unsynced))
        self._ledger.crashed(self._sid, self.storage.durable_zxid)

    def recover(self, tree: DataTree) -> Recovered:
        """Reads everything back into a tree, as a restart does; a new disk gets its first snapshot."""
        self.abandon_snapshot()
        recovery = self.storage.recover()
        fuzzy_until = 0
        found = recovery.snapshot
        if found is not None:
            digest = found.digest
            given = None if digest is None else (digest.zxid, digest.version, digest.tree_digest)
            tree.load(found.zxid, found.sessions, found.acls, found.nodes, given)
            fuzzy_until = self._reaches.get(found.zxid, found.zxid)
        entries = [Entry(logged.zxid, decode_txn(logged.payload), logged.payload) for logged in recovery.txns]
        for entry in entries:
            tree.apply(entry.txn)
        tree.finish_recovery()
        if found is None:
            self._first_snapshot(tree)
        return Recovered(tree, entries, fuzzy_until)

    def _first_snapshot(self, tree: DataTree) -> None:
        writer = self.storage.begin_snapshot(0)
        digest = SnapshotDigest(0, DIGEST_VERSION, tree.digest)
        for piece in encode_snapshot([], tree.acls.dump(), tree.walk(), lambda: digest):
            writer.write(piece)
        writer.commit()


def _sessions(tree: DataTree) -> list[SnapshotSession]:
    return [SnapshotSession(session_id, timeout) for session_id, timeout in tree.sessions.items()]


def _ignore(_: int) -> None:
    pass


def _nothing() -> None:
    pass
