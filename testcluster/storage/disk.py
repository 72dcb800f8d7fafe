"""A storage on disk, in ZooKeeper's own files: `Storage` over logs, snapshots and epoch files.

Decides which bytes reach the medium when, and in which order files change, so that after a crash at any moment a
recovery finds the old history, a beginning of it, or the new one. What is appended waits in memory until `sync` writes
it in one piece and flushes once (group commit), so `append` never waits for the disk. Knows threads, since `sync` is
made for a worker thread, and no event loop.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from threading import Lock, RLock

from .compression import suffix_of
from .disk_log import LogWriter, open_log
from .disk_recovery import Directories, DiskRecovery
from .disk_snapshots import DiskSnapshotWriter, Rename, is_whole, read_snapshot
from .epochs import EpochFiles
from .errors import (
    CorruptSnapshotError,
    HistoryUnavailableError,
    StorageError,
    StorageFailedError,
)
from .files import DirectoryLock, cut, delete, make_directory, write_whole
from .history import Continuity, require_order, require_snapshot_zxid, require_trusted
from .interface import Recovery
from .names import MYID, REPLACING_PREFIX, RETAIN_MIN, LogName, logs_from, purgeable
from .txnlog import LoggedTxn
from .zxids import show

PREALLOCATION = 64 << 20
"""Bytes by which a log grows (ZooKeeper's preAllocSize)."""

_READ_AT_ONCE = 256


@dataclass(frozen=True, kw_only=True)
class DiskOptions:
    """How a server keeps its files; the defaults are ZooKeeper's.

    Attributes:
        preallocation: bytes by which a log grows; 0 for no more than is written.
        log_size_max: bytes after which the next transaction begins a new log; `None` for no such limit.
        force_sync: False leaves it to the system when bytes reach the medium: then a crash of the machine, though not
            one of the server, loses what was acknowledged last.
        compression: of new snapshots, one of `compression.WRITTEN_METHODS`.
        retain: snapshots that a purge leaves, at least 3.
        trust_empty: accept a log without any snapshot.
        replicated: the server is a member of an ensemble (see `DiskRecovery`).
        autocreate: a member takes its empty directory for that of a new server, without the file `initialize` there.
    """

    preallocation: int = PREALLOCATION
    log_size_max: int | None = None
    force_sync: bool = True
    compression: str = ""
    retain: int = RETAIN_MIN
    trust_empty: bool = False
    replicated: bool = False
    autocreate: bool = True

    def __post_init__(self) -> None:
        suffix_of(self.compression)
        if self.retain < RETAIN_MIN:
            raise ValueError(f"at least {RETAIN_MIN} snapshots must be retained, not {self.retain}")
        if self.preallocation < 0:
            raise ValueError(f"a log cannot grow by {self.preallocation} bytes")


_DEFAULTS = DiskOptions()


def write_myid(data_dir: Path, sid: int) -> None:
    """Gives a data directory its server's id, durably."""
    make_directory(data_dir)
    write_whole(data_dir / MYID, f"{sid}\n".encode())


class DiskStorage:
    """`Storage` in a data directory, and a log directory where the two are separated.

    Args:
        data_dir: dataDir; made where it is missing.
        log_dir: dataLogDir, `None` for the same.
        options: see there.

    The constructor touches nothing; `recover` makes the directories and takes them for this storage until `close` or
    `crash`, after which it may be called again.
    """

    blocks = True

    def __init__(self, data_dir: Path, log_dir: Path | None = None, options: DiskOptions = _DEFAULTS) -> None:
        self._options = options
        self._directories = Directories.of(data_dir, log_dir)
        self._locks: list[DirectoryLock] = []
        self._epochs = EpochFiles(self._directories.snapshots, replicated=options.replicated)
        self._writer = LogWriter(
            self._directories.logs,
            preallocation=options.preallocation,
            size_max=options.log_size_max,
            force_sync=options.force_sync,
        )
        # `_working` is held while files change, `_appending` for moments; whoever needs both takes `_working` first.
        self._working = RLock()
        self._appending = Lock()
        # A new log begins between two runs.
        self._pending: list[list[LoggedTxn]] = [[]]
        self._last_zxid = 0
        self._durable_zxid = 0
        self._has_snapshot = False
        self._is_trusted = True
        self._ready = False
        self._failure: OSError | None = None
        # Rises with whatever makes open snapshot writers and readers meaningless.
        self._generation = 0

    @property
    def last_zxid(self) -> int:
        """See `Storage`."""
        return self._last_zxid

    @property
    def durable_zxid(self) -> int:
        """See `Storage`."""
        return self._durable_zxid

    @property
    def accepted_epoch(self) -> int:
        """See `Storage`."""
        return self._epochs.accepted

    @property
    def current_epoch(self) -> int:
        """See `Storage`."""
        return self._epochs.current

    # -- states

    def _require(self, *, ready: bool) -> None:
        if self._failure is not None:
            raise StorageFailedError(
                f"writing to {self._directories.logs} failed ({self._failure}); close the storage and recover"
            ) from self._failure
        if ready and not self._ready:
            raise StorageError("the storage is not recovered: call recover() and read its transactions to the end")

    def _require_generation(self, generation: int) -> None:
        if generation != self._generation:
            raise StorageError("the storage was recovered, cut or closed meanwhile")

    @contextmanager
    def _holding(self, *, ready: bool = True) -> Iterator[None]:
        with self._working:
            self._require(ready=ready)
            yield

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Around changes that leave nothing certain when they fail. In particular, what was written before a failed
        flush may be dropped by the system, so that a second flush would succeed and mean nothing.
        """
        try:
            yield
        except OSError as error:
            self._failure = error
            raise StorageFailedError(f"writing to {self._directories.logs} failed: {error}") from error

    def _halt(self) -> None:
        """Lets go of the history as it was known; only `recover` leads on."""
        self._forget()
        self._writer.finish()

    def _forget(self) -> None:
        with self._appending:
            self._pending = [[]]
            self._ready = False
            self._generation += 1

    def _take_directories(self) -> None:
        if self._locks:
            return
        try:
            for directory in {self._directories.snapshots: None, self._directories.logs: None}:
                make_directory(directory)
                self._locks.append(DirectoryLock(directory))
        except BaseException:
            self._release()
            raise

    def _release(self) -> None:
        self._writer.abandon()
        for lock in self._locks:
            lock.release()
        self._locks = []
        self._failure = None

    # -- recovery

    def recover(self) -> Recovery:
        """See `Storage`. Raises `OSError` where a directory cannot be made or read."""
        with self._holding(ready=False):
            self._take_directories()
            with self._changing():
                self._drain()
                self._halt()
            recovery = DiskRecovery(
                self._directories,
                trust_empty=self._options.trust_empty,
                replicated=self._options.replicated,
                autocreate=self._options.autocreate,
            )
            snapshot = recovery.begin()
            txns = self._replay(recovery, snapshot is not None, self._generation)
        return Recovery(snapshot, txns, recovery.report, recovery.locate, recovery.is_trusted)

    def _replay(self, recovery: DiskRecovery, has_snapshot: bool, generation: int) -> Iterator[LoggedTxn]:
        yield from recovery.replay()
        with self._holding(ready=False):
            self._require_generation(generation)
            last_zxid = recovery.report.last_zxid
            with self._changing():
                self._epochs.load(last_zxid)
            with self._appending:
                self._last_zxid = self._durable_zxid = last_zxid
                self._has_snapshot = has_snapshot
                self._is_trusted = recovery.is_trusted
                self._ready = True

    # -- appending

    def append(self, txns: Iterable[LoggedTxn]) -> None:
        """See `Storage`."""
        added = list(txns)
        with self._appending:
            self._require(ready=True)
            if not self._has_snapshot:
                raise StorageError("a new storage needs a snapshot before its first transaction")
            require_order(added, self._last_zxid)
            if added:
                self._pending[-1] += added
                self._last_zxid = added[-1].zxid

    def sync(self) -> int:
        """See `Storage`."""
        with self._holding(), self._changing():
            self._drain()
            return self._durable_zxid

    def _drain(self) -> None:
        """Writes and flushes what is pending."""
        with self._appending:
            runs, self._pending = self._pending, [[]]
            last_zxid = self._last_zxid
        for number, run in enumerate(runs):
            if number:
                self._writer.finish()
            if run:
                self._writer.write(run)
        self._writer.sync()
        self._durable_zxid = last_zxid

    # -- reading

    def floor_zxid(self, zxid: int) -> int | None:
        """See `Storage`."""
        with self._holding():
            with self._changing():
                self._drain()
            return self._floor(zxid)

    def _floor(self, zxid: int) -> int | None:
        known = [snapshot.zxid for snapshot in self._directories.list_snapshots() if snapshot.zxid <= zxid]
        found, _ = self._last_record(zxid)
        return max(known if found is None else [*known, found], default=None)

    def _last_record(self, zxid: int) -> tuple[int | None, tuple[str, int] | None]:
        """The last logged transaction at or before `zxid`, and the log and offset where its record ends."""
        for log in reversed(self._directories.list_logs()):
            if log.zxid > zxid:
                continue
            found: int | None = None
            end = 0
            with open_log(self._directories.logs / log.name) as reader:
                for txn in reader:
                    if txn.zxid > zxid:
                        break
                    found, end = txn.zxid, reader.end
            if found is not None:
                return found, (log.name, end)
        return None, None

    def read_after(self, zxid: int) -> Iterator[LoggedTxn]:
        """See `Storage`. Raises `DamagedError` and `MissingTxnsError` too, in the iteration."""
        with self._holding():
            with self._changing():
                self._drain()
            if self._floor(zxid) != zxid:
                raise HistoryUnavailableError(f"{show(zxid)} is not in the history, or no longer")
            found = logs_from(self._directories.list_logs(), zxid)
            # The log that grows may grow on meanwhile.
            limits = [self._writer.position if log.name == self._writer.name else None for log in found]
            return self._read_after(zxid, list(zip(found, limits, strict=True)), self._generation)

    def _read_after(self, zxid: int, found: list[tuple[LogName, int | None]], generation: int) -> Iterator[LoggedTxn]:
        continuity = Continuity(zxid)
        for log, limit in found:
            with ExitStack() as opened:
                try:
                    reader = opened.enter_context(open_log(self._directories.logs / log.name, limit))
                except FileNotFoundError as error:
                    raise HistoryUnavailableError(f"{log.name} was purged while the history was read") from error
                txns = iter(reader)
                more = True
                while more:
                    # A log is never cut while somebody reads in it: that would end the process, not the read.
                    with self._holding(ready=False):
                        if generation != self._generation:
                            raise HistoryUnavailableError("the history was cut while it was read")
                        read = [(txn, reader.offset) for txn in islice(txns, _READ_AT_ONCE)]
                    more = len(read) == _READ_AT_ONCE
                    yield from (txn for txn, offset in read if continuity.admit(txn, log.name, offset))

    # -- cutting

    def truncate_to(self, zxid: int) -> None:
        """See `Storage`. Raises `DamagedError` and `MissingTxnsError` too."""
        with self._holding():
            with self._changing():
                self._drain()
            superfluous = self._snapshots_beyond(zxid)
            with self._changing():
                self._halt()
                # Snapshots first: the logs still hold what they hold, so a crash here loses nothing.
                delete(self._directories.snapshots, superfluous)
                self._cut_logs(zxid)

    def _snapshots_beyond(self, zxid: int) -> list[str]:
        """The snapshots that may hold something behind `zxid`, newest first.

        Raises:
            HistoryUnavailableError: without them there is no way to `zxid`.
        """
        if self._floor(zxid) != zxid:
            raise HistoryUnavailableError(f"cannot cut at {show(zxid)}: it is not in the history")
        superfluous: list[str] = []
        for candidate in self._directories.list_snapshots():
            if candidate.zxid <= zxid:
                try:
                    is_usable = read_snapshot(self._directories.snapshots, candidate).ends_by(zxid)
                except CorruptSnapshotError:
                    is_usable = False
                if is_usable:
                    self._require_way(candidate.zxid, zxid)
                    return superfluous
            superfluous.append(candidate.name)
        raise HistoryUnavailableError(f"cannot cut at {show(zxid)}: every snapshot may hold something later")

    def _require_way(self, base: int, zxid: int) -> None:
        continuity = Continuity(base)
        for log in logs_from(self._directories.list_logs(), base):
            with open_log(self._directories.logs / log.name) as reader:
                for txn in reader:
                    if txn.zxid <= zxid:
                        continuity.admit(txn, log.name, reader.offset)
        if continuity.last_zxid != zxid:
            raise HistoryUnavailableError(
                f"cannot cut at {show(zxid)}: from snapshot {show(base)} the logs lead to {show(continuity.last_zxid)}"
            )

    def _cut_logs(self, zxid: int) -> None:
        """Takes everything behind `zxid` out of the logs, the newest first, so that a crash leaves a beginning."""
        found = self._directories.list_logs()
        delete(self._directories.logs, [log.name for log in reversed(found) if log.zxid > zxid])
        _, place = self._last_record(zxid)
        if place is not None:
            name, end = place
            cut(self._directories.logs / name, end)

    # -- snapshots

    def begin_snapshot(self, zxid: int, *, replaces_history: bool = False) -> DiskSnapshotWriter:
        """See `Storage`. Raises `OSError` where the file cannot be made."""
        with self._holding(ready=not replaces_history):
            if not replaces_history:
                require_trusted(self._is_trusted)
                require_snapshot_zxid(zxid, self._last_zxid if self._has_snapshot else None)
                with self._appending:
                    self._pending.append([])
            generation = self._generation

        def publish(rename: Rename) -> None:
            with self._holding(ready=not replaces_history):
                self._require_generation(generation)
                if replaces_history:
                    with self._changing():
                        self._halt()
                        rename(REPLACING_PREFIX)
                        self._directories.finish_replacement()
                else:
                    self._add_snapshot(zxid, rename)

        return DiskSnapshotWriter(self._directories.snapshots, zxid, self._options.compression, publish)

    def _add_snapshot(self, zxid: int, rename: Rename) -> None:
        # The znodes may hold effects of what is still pending: a log without it would be continued differently.
        with self._changing():
            self._drain()
        rename("")
        if not self._has_snapshot:
            self._directories.remove_initialize()
        with self._appending:
            self._has_snapshot = True
            self._last_zxid = max(self._last_zxid, zxid)
        self._durable_zxid = max(self._durable_zxid, zxid)

    def purge(self) -> list[str]:
        """See `Storage`."""
        with self._holding():
            generation = self._generation
        kept: list[int] = []
        for candidate in self._directories.list_snapshots():
            if is_whole(self._directories.snapshots, candidate):
                kept.append(candidate.zxid)
            if len(kept) == self._options.retain:
                break
        else:
            return []
        with self._holding():
            self._require_generation(generation)
            logs_found, snapshots_found = self._directories.list_logs(), self._directories.list_snapshots()
            names = purgeable(logs_found, snapshots_found, kept[-1])
            snapshots_gone = {snapshot.name for snapshot in snapshots_found}.intersection(names)
            delete(self._directories.snapshots, [name for name in names if name in snapshots_gone])
            delete(self._directories.logs, [name for name in names if name not in snapshots_gone])
        return names

    # -- epochs

    def write_accepted_epoch(self, epoch: int) -> None:
        """See `Storage`."""
        with self._holding(), self._changing():
            self._epochs.write_accepted(epoch)

    def write_current_epoch(self, epoch: int) -> None:
        """See `Storage`."""
        with self._holding(), self._changing():
            self._epochs.write_current(epoch)

    # -- the end

    def crash(self) -> None:
        """See `Storage`. What was written and not synced may be found again."""
        with self._working:
            self._forget()
            self._release()

    def close(self) -> None:
        """See `Storage`."""
        with self._working:
            try:
                if self._failure is None:
                    with self._changing():
                        self._drain()
                        self._writer.finish()
            finally:
                self._forget()
                self._release()
