"""What a server, alone or in an ensemble, asks of its storage; kept in memory or on disk.

Decides the order and the meaning of the calls. Refuses to know what a transaction does: transactions come and go as
encoded entries, and the tree is loaded from rows.

The life of a storage: `recover`, whose transactions are read to the end; then, in a new directory, one snapshot; then
`append` and `sync` as writes come, `begin_snapshot` now and then, `purge`; `close`. A server that acknowledges nothing
beyond `durable_zxid` loses nothing it acknowledged:

    storage.append(txns)                     # at once, no input or output
    durable = storage.sync()                 # in a worker thread where `blocks`; one sync for all appended so far
    ... acknowledge and apply everything up to durable ...

`append`, `last_zxid`, `durable_zxid` and the epochs may be used while another thread is inside of one of the blocking
calls; what is appended then belongs to the next `sync`. Blocking calls exclude one another by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from terzetto.client.errors import WireError

from ..txns import Txn, decode_txn
from .errors import CorruptLogError
from .snapshot import Snapshot
from .txnlog import LoggedTxn, TornTail
from .zxids import show


class SkippedSnapshot(NamedTuple):
    """A snapshot that could not be read, so that an older one was taken."""

    name: str
    zxid: int
    reason: str


@dataclass
class RecoveryReport:
    """What recovery found. Complete when the recovered transactions were read to the end.

    Attributes:
        snapshot: name of the snapshot it began with, `None` for the empty tree.
        snapshot_zxid: its zxid.
        last_zxid: the last transaction; -1 where the storage is empty and not trusted to be (see `Recovery`).
        replayed: transactions given to the tree.
        repeated: transactions that stood in the log twice, and were given once.
        torn: writes that a crash cut short. Nothing that was acknowledged is in them.
        skipped: snapshots that could not be read.
        removed: files without content, and left-overs of unfinished writes.
    """

    snapshot: str | None = None
    snapshot_zxid: int = 0
    last_zxid: int = 0
    replayed: int = 0
    repeated: int = 0
    torn: list[TornTail] = field(default_factory=list[TornTail])
    skipped: list[SkippedSnapshot] = field(default_factory=list[SkippedSnapshot])
    removed: list[str] = field(default_factory=list[str])

    def lines(self) -> list[str]:
        """The report as sentences, the ordinary one first and one for each thing out of the ordinary."""
        base = "an empty tree" if self.snapshot is None else self.snapshot
        found = [f"recovered {show(self.last_zxid)} from {base} and {self.replayed} logged transactions"]
        if self.last_zxid < 0:
            found = ["there is no data, and nothing says that there never was any: only a leader's snapshot helps"]
        found += [f"{name} cannot be used: {reason}" for name, _, reason in self.skipped]
        found += [
            f"{name} ended in a torn write at byte {offset}: {reason}; {size} bytes left out"
            for name, offset, size, reason in self.torn
        ]
        if self.repeated:
            found.append(f"{self.repeated} transactions stood in the log twice")
        found += [f"removed {name}" for name in self.removed]
        return found


@dataclass
class Recovery:
    """What to build the tree from.

    Attributes:
        snapshot: to load first; `None` means to start from a new tree.
        txns: then to be applied, in order, to the end. A fuzzy snapshot may contain effects of some already.
        report: what was found.
        locate: file and offset of a transaction, by its zxid.
        is_trusted: False where a member of an ensemble finds nothing at all, and nobody has said that it is new. It may
            have lost what it had acknowledged, so it must not vote as one that never had anything: `last_zxid` and the
            epochs are -1, and only a leader's snapshot brings it back (`begin_snapshot` with `replaces_history`).
    """

    snapshot: Snapshot | None
    txns: Iterator[LoggedTxn]
    report: RecoveryReport
    locate: Callable[[int], tuple[str, int]]
    is_trusted: bool = True

    def decode(self, logged: LoggedTxn) -> Txn:
        """One of the transactions, to be applied.

        Raises:
            CorruptLogError: its bytes are those that were written, and are no transaction; names file and zxid.
        """
        try:
            return decode_txn(logged.payload)
        except WireError as error:
            reason = f"transaction {show(logged.zxid)} cannot be decoded: {error}"
            raise CorruptLogError(*self.locate(logged.zxid), reason) from error


class SnapshotWriter(Protocol):
    """A snapshot being written. Without `commit` it never existed."""

    def write(self, data: bytes) -> None:
        """Takes the next piece (see `encode_snapshot`). May block."""
        ...

    def commit(self) -> None:
        """Makes the snapshot durable and visible, after everything appended so far. May block."""
        ...

    def abort(self) -> None:
        """Forgets what was written. No-op after `commit`."""
        ...


class Storage(Protocol):
    """The durable history of one server.

    Every method but `close` and `crash` raises `StorageFailedError` after a write or sync that failed half-way.
    """

    @property
    def blocks(self) -> bool:
        """Whether the blocking calls really block, so that an event loop must make them in a worker thread."""
        ...

    @property
    def last_zxid(self) -> int:
        """The last transaction appended or recovered; the zxid of the snapshot where there is none behind it.

        -1 in an empty storage that is not trusted (see `Recovery`).
        """
        ...

    @property
    def durable_zxid(self) -> int:
        """The last transaction that a crash cannot take away any more."""
        ...

    @property
    def accepted_epoch(self) -> int:
        """The last epoch promised to a prospective leader; at a recovery that of `last_zxid`, where that is larger."""
        ...

    @property
    def current_epoch(self) -> int:
        """The epoch of the last leader followed; at a recovery that of `last_zxid`, where that is larger."""
        ...

    def recover(self) -> Recovery:
        """Reads what there is. Blocks, and so does the iteration over the transactions.

        Raises:
            DamagedError, MissingTxnsError, NoUsableSnapshotError, DataDirectoryError: see there; the iteration too.
        """
        ...

    def append(self, txns: Iterable[LoggedTxn]) -> None:
        """Adds transactions to the history, volatile until the next `sync` that begins after this. Does not block.

        Raises:
            ValueError: a zxid does not follow the one before it (`zxids.follows`); none was added.
            StorageError: the storage is not recovered, or has no snapshot yet.
        """
        ...

    def sync(self) -> int:
        """Makes everything durable that was appended when it began. Blocks. Returns `durable_zxid`."""
        ...

    def read_after(self, zxid: int) -> Iterator[LoggedTxn]:
        """The transactions behind `zxid`, durable or not, in order. Blocks, and so does the iteration.

        Raises:
            HistoryUnavailableError: `zxid` is not in the history, or was purged; or, in the iteration, the history
                was cut meanwhile.
        """
        ...

    def floor_zxid(self, zxid: int) -> int | None:
        """The last transaction at or before `zxid` that is still in the history; `None` where none is. Blocks."""
        ...

    def truncate_to(self, zxid: int) -> None:
        """Cuts everything behind `zxid` out of log and snapshots, durably. Blocks. `recover` must follow.

        A snapshot that may hold traces of a later transaction goes too (ZooKeeper keeps it, ZOOKEEPER-1549).

        Raises:
            HistoryUnavailableError: `zxid` is not in the history, or no snapshot would be left; nothing was cut.
        """
        ...

    def begin_snapshot(self, zxid: int, *, replaces_history: bool = False) -> SnapshotWriter:
        """Opens a snapshot of a tree in which everything up to `zxid` is applied; the next transaction begins a log.

        Args:
            zxid: the tree's last applied transaction before the first row is read.
            replaces_history: the rows come from a leader and replace everything here, also what is later than `zxid`;
                `recover` must follow `commit`. They may hold traces of later transactions, and say not of which, so
                the snapshot is to have no digest: with one, `truncate_to` would take it for exact.

        Raises:
            ValueError: `zxid` is beyond the history.
            StorageError: the storage is not recovered, or is empty and not trusted; not with `replaces_history`.
        """
        ...

    def purge(self) -> list[str]:
        """Deletes snapshots and logs that the newest snapshots make superfluous; returns their names. Blocks."""
        ...

    def write_accepted_epoch(self, epoch: int) -> None:
        """Keeps a promise, durably on return. Blocks.

        Raises:
            ValueError: the epoch is smaller than the last.
        """
        ...

    def write_current_epoch(self, epoch: int) -> None:
        """Notes which leader is followed, durably on return. Blocks.

        Raises:
            ValueError: the epoch is smaller than the last, or larger than the accepted one.
        """
        ...

    def crash(self) -> None:
        """Lets go as a process does that dies: what was not synced is lost. Blocks. `recover` may follow."""
        ...

    def close(self) -> None:
        """Syncs and lets go. Blocks. May be called twice, and `recover` may follow."""
        ...
