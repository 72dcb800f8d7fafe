"""A storage in memory that can crash: what was appended and not synced is lost, what was synced stays.

The default of test ensembles, and the disk of the simulation: a killed server that starts again recovers from the same
object. Decides the crash model, which is that of `DiskStorage` seen from outside: a log of which any prefix of the
unsynced part may survive; snapshots, epochs and cuts that are durable when the call returns; a recovery after which
nothing is volatile. Sans-IO, and nothing here blocks.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator

from ..ids import epoch_of
from .errors import HistoryUnavailableError, StorageError
from .history import require_order, require_snapshot_zxid, require_trusted
from .interface import Recovery, RecoveryReport
from .names import snapshot_name
from .snapshot import decode_snapshot
from .txnlog import LoggedTxn
from .zxids import show


class MemoryStorage:
    """`Storage` without a disk.

    Snapshots are kept in ZooKeeper's form: a tree loaded from one shares nothing with the tree it was taken of.

    Args:
        retain: snapshots that a purge leaves; with them stay the transactions behind the oldest.
        trusted: whether it may be taken for a new server's while it is empty (see `Recovery`).
    """

    blocks = False

    def __init__(self, *, retain: int = 1, trusted: bool = True) -> None:
        if retain < 1:
            raise ValueError(f"at least one snapshot must be retained, not {retain}")
        self._retain = retain
        self._trusted = trusted
        # Invariant: zxids follow one another from the base on; the first `_synced` entries survive a crash.
        self._log: list[LoggedTxn] = []
        self._base = 0 if trusted else -1
        self._synced = 0
        self._snapshots: dict[int, bytes] = {}
        # What was written, None before; and what counts since the last recovery, as with files.
        self._written_accepted: int | None = None
        self._written_current: int | None = None
        self._accepted_epoch = 0
        self._current_epoch = 0
        self._ready = False
        # Rises with whatever makes open snapshot writers and readers meaningless.
        self._generation = 0

    @property
    def last_zxid(self) -> int:
        """See `Storage`."""
        return max(self._log[-1].zxid if self._log else self._base, *self._snapshots, self._base)

    @property
    def durable_zxid(self) -> int:
        """See `Storage`."""
        return max(self._log[self._synced - 1].zxid if self._synced else self._base, *self._snapshots, self._base)

    @property
    def accepted_epoch(self) -> int:
        """See `Storage`."""
        return self._accepted_epoch

    @property
    def current_epoch(self) -> int:
        """See `Storage`."""
        return self._current_epoch

    @property
    def size(self) -> int:
        """Bytes held in transactions and snapshots."""
        return sum(len(txn.payload) for txn in self._log) + sum(map(len, self._snapshots.values()))

    def crash(self, survivors: int = 0) -> None:
        """The machine stops: unsynced transactions and unfinished snapshots are gone. `recover` must follow.

        Args:
            survivors: unsynced transactions, from the first on, that reached the disk all the same.
        """
        if survivors < 0:
            raise ValueError(f"{survivors} transactions cannot survive")
        self._synced = min(self._synced + survivors, len(self._log))
        del self._log[self._synced :]
        self._halt()

    def _halt(self) -> None:
        self._ready = False
        self._generation += 1

    def recover(self) -> Recovery:
        """See `Storage`. What was never synced is there still, and is synced now, unless the storage crashed."""
        self._halt()
        self._synced = len(self._log)
        if not self._snapshots:
            report = RecoveryReport(last_zxid=self._base)
            return Recovery(None, self._replay(0, report), report, self._locate, self._trusted)
        zxid = max(self._snapshots)
        name = snapshot_name(zxid)
        snapshot = decode_snapshot(self._snapshots[zxid], zxid, name)
        report = RecoveryReport(name, zxid, self.last_zxid)
        return Recovery(snapshot, self._replay(zxid, report), report, self._locate)

    def _replay(self, zxid: int, report: RecoveryReport) -> Iterator[LoggedTxn]:
        generation = self._generation
        for txn in self._log[self._index_after(zxid) :]:
            report.replayed += 1
            yield txn
        if generation == self._generation:
            logged = epoch_of(self.last_zxid)
            self._current_epoch = max(logged, logged if self._written_current is None else self._written_current)
            accepted = logged if self._written_accepted is None else self._written_accepted
            self._accepted_epoch = max(self._current_epoch, accepted)
            # So that neither falls when the log is cut.
            self._written_accepted, self._written_current = self._accepted_epoch, self._current_epoch
            self._ready = True

    def _locate(self, zxid: int) -> tuple[str, int]:
        return "the log in memory", self._index_after(zxid - 1)

    def _index_after(self, zxid: int) -> int:
        return bisect_right(self._log, zxid, key=_zxid_of)

    def _require_ready(self) -> None:
        if not self._ready:
            raise StorageError("the storage is not recovered: call recover() and read its transactions to the end")

    def append(self, txns: Iterable[LoggedTxn]) -> None:
        """See `Storage`."""
        self._require_ready()
        if not self._snapshots:
            raise StorageError("a new storage needs a snapshot before its first transaction")
        added = list(txns)
        require_order(added, self.last_zxid)
        self._log += added

    def sync(self) -> int:
        """See `Storage`."""
        self._require_ready()
        self._synced = len(self._log)
        return self.durable_zxid

    def floor_zxid(self, zxid: int) -> int | None:
        """See `Storage`."""
        self._require_ready()
        index = self._index_after(zxid)
        known = [self._log[index - 1].zxid] if index else []
        known += [point for point in self._snapshots if point <= zxid]
        return max(known, default=None)

    def read_after(self, zxid: int) -> Iterator[LoggedTxn]:
        """See `Storage`."""
        if self.floor_zxid(zxid) != zxid:
            raise HistoryUnavailableError(f"{show(zxid)} is not in the history, or no longer")
        return self._read_after(zxid, self._generation)

    def _read_after(self, zxid: int, generation: int) -> Iterator[LoggedTxn]:
        for txn in self._log[self._index_after(zxid) :]:
            if generation != self._generation:
                raise HistoryUnavailableError("the history was cut while it was read")
            yield txn

    def truncate_to(self, zxid: int) -> None:
        """See `Storage`."""
        if self.floor_zxid(zxid) != zxid:
            raise HistoryUnavailableError(f"cannot cut at {show(zxid)}: it is not in the history")
        usable = {found: data for found, data in self._snapshots.items() if _is_within(found, data, zxid)}
        if not usable:
            raise HistoryUnavailableError(f"cannot cut at {show(zxid)}: every snapshot may hold something later")
        self._snapshots = usable
        self._base = min(self._base, zxid)
        del self._log[self._index_after(zxid) :]
        self._synced = len(self._log)
        self._halt()

    def begin_snapshot(self, zxid: int, *, replaces_history: bool = False) -> MemorySnapshotWriter:
        """See `Storage`."""
        if not replaces_history:
            self._require_ready()
            require_trusted(self._trusted or bool(self._snapshots))
            require_snapshot_zxid(zxid, self.last_zxid if self._snapshots else None)
        return MemorySnapshotWriter(self, zxid, replaces_history)

    def add_snapshot(self, zxid: int, data: bytes) -> None:
        """Takes a whole snapshot of the own history."""
        self.sync()
        if not self._snapshots:
            self._base = zxid
        self._snapshots[zxid] = data

    def replace_history(self, zxid: int, data: bytes) -> None:
        """Takes a whole snapshot of a leader's history, and forgets the own."""
        self._log = []
        self._synced = 0
        self._base = zxid
        self._snapshots = {zxid: data}
        self._halt()

    def purge(self) -> list[str]:
        """See `Storage`."""
        self._require_ready()
        newest = sorted(self._snapshots, reverse=True)
        if len(newest) <= self._retain:
            return []
        removed = newest[self._retain :]
        for zxid in removed:
            del self._snapshots[zxid]
        oldest = newest[self._retain - 1]
        # What was synced only: the writer of a snapshot has synced everything that the snapshot covers.
        cut = min(self._index_after(oldest), self._synced)
        del self._log[:cut]
        self._synced -= cut
        self._base = max(self._base, oldest)
        return [snapshot_name(zxid) for zxid in removed]

    def write_accepted_epoch(self, epoch: int) -> None:
        """See `Storage`."""
        self._require_ready()
        if epoch < self.accepted_epoch:
            raise ValueError(f"accepted epoch {epoch} is smaller than {self.accepted_epoch}")
        self._accepted_epoch = self._written_accepted = epoch

    def write_current_epoch(self, epoch: int) -> None:
        """See `Storage`."""
        self._require_ready()
        if not self.current_epoch <= epoch <= self.accepted_epoch:
            raise ValueError(f"current epoch {epoch} is not between {self.current_epoch} and {self.accepted_epoch}")
        self._current_epoch = self._written_current = epoch

    @property
    def generation(self) -> int:
        """Changes when what was begun before cannot be finished any more."""
        return self._generation

    def close(self) -> None:
        """See `Storage`."""
        if self._ready:
            self.sync()
        self._halt()


class MemorySnapshotWriter:
    """`SnapshotWriter` of a `MemoryStorage`."""

    def __init__(self, storage: MemoryStorage, zxid: int, replaces_history: bool) -> None:
        self._storage = storage
        self._zxid = zxid
        self._replaces_history = replaces_history
        self._generation = storage.generation
        self._parts: list[bytes] | None = []

    def write(self, data: bytes) -> None:
        """See `SnapshotWriter`."""
        if self._parts is None:
            raise StorageError("the snapshot was committed or aborted already")
        self._parts.append(data)

    def commit(self) -> None:
        """See `SnapshotWriter`."""
        if self._parts is None:
            raise StorageError("the snapshot was committed or aborted already")
        if self._generation != self._storage.generation:
            raise StorageError("the storage was recovered, cut or closed while the snapshot was written")
        data = b"".join(self._parts)
        self._parts = None
        take = self._storage.replace_history if self._replaces_history else self._storage.add_snapshot
        take(self._zxid, data)

    def abort(self) -> None:
        """See `SnapshotWriter`."""
        self._parts = None


def _zxid_of(txn: LoggedTxn) -> int:
    return txn.zxid


def _is_within(snapshot_zxid: int, data: bytes, zxid: int) -> bool:
    return decode_snapshot(data, snapshot_zxid, snapshot_name(snapshot_zxid)).ends_by(zxid)
