"""From files to a history: which snapshot to begin with, what to replay, and whether anything is missing.

Decides what a directory must hold for a server to start from it. A crash never makes it refuse; what could have lost an
acknowledged transaction always does. Changes nothing but what a crash left half-done: torn tails are cut, empty logs
and unfinished files removed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .disk_log import open_log
from .disk_snapshots import read_snapshot
from .errors import CorruptLogError, CorruptSnapshotError, DataDirectoryError, MissingTxnsError, NoUsableSnapshotError
from .files import cut, delete, flush_directory, flush_file
from .history import Continuity
from .interface import RecoveryReport, SkippedSnapshot
from .names import (
    INITIALIZE,
    REPLACING_PREFIX,
    UNFINISHED_PREFIX,
    VERSION_DIRECTORY,
    LogName,
    SnapshotName,
    logs,
    logs_from,
    snapshots,
)
from .snapshot import Snapshot
from .txnlog import LoggedTxn
from .zxids import show


@dataclass(frozen=True)
class Directories:
    """Where a server's files are.

    Attributes:
        snapshots: `version-2` of the data directory; the epochs are here too.
        logs: `version-2` of the log directory; the same one unless they were separated.
    """

    snapshots: Path
    logs: Path

    @classmethod
    def of(cls, data: Path, logs: Path | None) -> Directories:
        """The directories for dataDir and dataLogDir."""
        return cls(data / VERSION_DIRECTORY, (logs or data) / VERSION_DIRECTORY)

    def list_snapshots(self) -> list[SnapshotName]:
        """The snapshots, newest first."""
        return snapshots(_names(self.snapshots))

    def list_logs(self) -> list[LogName]:
        """The logs, oldest first."""
        return logs(_names(self.logs))

    def check(self) -> None:
        """Raises `DataDirectoryError` where files lie in the other's directory, so that they would be overlooked."""
        if self.logs == self.snapshots:
            return
        for name in snapshots(_names(self.logs)):
            raise DataDirectoryError(f"{self.logs} holds {name.name}, but snapshots belong to {self.snapshots}")
        for log in logs(_names(self.snapshots)):
            raise DataDirectoryError(f"{self.snapshots} holds {log.name}, but logs belong to {self.logs}")

    def finish_replacement(self) -> None:
        """Lets a leader's snapshot take the place of everything else, also when a crash came between.

        Older snapshots and logs go too: should the new snapshot be lost, the old logs together with those that follow
        it would make a history that never was.
        """
        for name in _names(self.snapshots):
            if name.startswith(REPLACING_PREFIX):
                delete(self.logs, [log.name for log in reversed(self.list_logs())])
                delete(self.snapshots, [snapshot.name for snapshot in self.list_snapshots()])
                (self.snapshots / name).replace(self.snapshots / name.removeprefix(REPLACING_PREFIX))
                flush_directory(self.snapshots)

    @property
    def initialize(self) -> Path:
        """The file that makes an empty directory trusted."""
        return self.snapshots.parent / INITIALIZE

    def has_txns(self) -> bool:
        """Whether there is a transaction in any log."""
        for log in self.list_logs():
            with open_log(self.logs / log.name) as reader:
                if next(iter(reader), None) is not None:
                    return True
        return False

    def remove_initialize(self) -> None:
        """The directory is not empty any more, and is never to be taken for a new one again."""
        if self.initialize.exists():
            delete(self.initialize.parent, [self.initialize.name])

    def remove_unfinished(self) -> list[str]:
        """Deletes what a crash kept from getting its name; returns what was there."""
        removed: list[str] = []
        for directory in {self.snapshots: None, self.logs: None}:
            found = sorted(name for name in _names(directory) if name.startswith(UNFINISHED_PREFIX))
            delete(directory, found)
            removed += found
        return removed


def _names(directory: Path) -> Iterable[str]:
    return [entry.name for entry in directory.iterdir()]


class DiskRecovery:
    """One recovery: `begin`, then `replay` to its end.

    Args:
        directories: where the files are.
        trust_empty: accept a log without any snapshot (snapshot.trust.empty).
        replicated: the server is a member of an ensemble: its snapshot may be ahead of its log, which the leader mends;
            and if it has lost everything, it must not pass for a new one.
        autocreate: take an empty directory for that of a new server (db.autocreate).

    Attributes:
        report: what was found.
        is_trusted: see `Recovery`; known after `begin`.
    """

    def __init__(self, directories: Directories, *, trust_empty: bool, replicated: bool, autocreate: bool) -> None:
        self._directories = directories
        self._trust_empty = trust_empty
        self._replicated = replicated
        self._autocreate = autocreate
        self._snapshot: Snapshot | None = None
        self._logs: list[LogName] = []
        self.report = RecoveryReport()
        self.is_trusted = True

    def begin(self) -> Snapshot | None:
        """Reads the newest good snapshot; `None` for an empty tree.

        Raises:
            NoUsableSnapshotError: there is none, but there was one or there are log entries.
            DataDirectoryError: see `Directories.check`.
        """
        self._directories.check()
        report = self.report
        self._directories.finish_replacement()
        report.removed += self._directories.remove_unfinished()
        candidates = self._directories.list_snapshots()
        for candidate in candidates:
            try:
                self._snapshot = read_snapshot(self._directories.snapshots, candidate)
            except CorruptSnapshotError as error:
                report.skipped.append(SkippedSnapshot(candidate.name, candidate.zxid, str(error)))
            else:
                report.snapshot = candidate.name
                break
        base = self._snapshot.zxid if self._snapshot is not None else 0
        self._logs = logs_from(self._directories.list_logs(), base)
        if self._snapshot is None:
            self._require_beginning(candidates)
        report.snapshot_zxid = report.last_zxid = base
        if not candidates and self._replicated and not (self._autocreate or self._directories.initialize.exists()):
            self.is_trusted = self._directories.has_txns()
            report.last_zxid = base if self.is_trusted else -1
        return self._snapshot

    def _require_beginning(self, candidates: list[SnapshotName]) -> None:
        # The first snapshot of a new server holds no transaction, so its loss loses nothing.
        if any(candidate.zxid for candidate in candidates):
            reasons = "; ".join(reason for _, _, reason in self.report.skipped)
            raise NoUsableSnapshotError(f"no snapshot in {self._directories.snapshots} can be read: {reasons}")
        if candidates or self._trust_empty:
            return
        for log in self._logs:
            with open_log(self._directories.logs / log.name) as reader:
                first = next(iter(reader), None)
            if first is not None:
                raise NoUsableSnapshotError(
                    f"{self._directories.logs / log.name} begins with transaction {show(first.zxid)}, but there is no "
                    f"snapshot in {self._directories.snapshots}; set snapshot.trust.empty if there never was one"
                )

    def replay(self) -> Iterator[LoggedTxn]:
        """The transactions behind the snapshot; then makes sure of them.

        Raises:
            CorruptLogError: a log is damaged.
            MissingTxnsError: transactions are missing between two others, or at the end.
        """
        report = self.report
        continuity = Continuity(report.snapshot_zxid)
        for log in self._logs:
            with open_log(self._directories.logs / log.name) as reader:
                for txn in reader:
                    if continuity.admit(txn, reader.name, reader.offset):
                        report.replayed += 1
                        report.last_zxid = txn.zxid
                        yield txn
            if reader.torn is not None:
                report.torn.append(reader.torn)
        self._compare_repeats(continuity)
        report.repeated = continuity.repeated
        self._require_end()
        self._tidy()

    def _compare_repeats(self, continuity: Continuity) -> None:
        """Holds transactions whose zxid came twice against one another."""
        wanted = {repeat.txn.zxid: repeat for repeat in continuity.repeats}
        for log in self._logs if wanted else ():
            with open_log(self._directories.logs / log.name) as reader:
                for txn in reader:
                    repeat = wanted.get(txn.zxid)
                    if repeat is None or txn == repeat.txn:
                        continue
                    reason = (
                        f"transaction {show(txn.zxid)} is another one than at byte {reader.offset} of {reader.name}"
                    )
                    raise CorruptLogError(repeat.name, repeat.offset, reason)

    def _require_end(self) -> None:
        """Raises `MissingTxnsError` where something shows that the history went further."""
        last = self.report.last_zxid
        for name, zxid, _ in self.report.skipped:
            if zxid > last:
                raise MissingTxnsError(
                    f"{name} cannot be read, and the logs end with {show(last)}, but there was {show(zxid)}"
                )
        reaches = None if self._snapshot is None else self._snapshot.reaches
        if reaches is not None and reaches > last and not self._replicated:
            raise MissingTxnsError(
                f"{self.report.snapshot} holds traces of transactions up to {show(reaches)}, "
                f"but the logs end with {show(last)}"
            )

    def _tidy(self) -> None:
        """Cuts torn tails, and makes durable what was read: a server that crashed may have read it unsynced."""
        directory = self._directories.logs
        torn_tails = self.report.torn
        empty = [torn.name for torn in torn_tails if torn.offset == 0]
        for torn in torn_tails:
            if torn.offset:
                cut(directory / torn.name, torn.offset)
        delete(directory, empty)
        self.report.removed += empty
        for log in self._logs:
            if log.name not in empty:
                flush_file(directory / log.name)
        flush_directory(directory)
        if self._snapshot is not None:
            self._directories.remove_initialize()

    def locate(self, zxid: int) -> tuple[str, int]:
        """Log and offset of a transaction that `replay` gave."""
        for log in self._logs:
            with open_log(self._directories.logs / log.name) as reader:
                for txn in reader:
                    if txn.zxid == zxid:
                        return log.name, reader.offset
        raise MissingTxnsError(f"{show(zxid)} is in no log of {self._directories.logs}")
