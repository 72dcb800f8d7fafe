"""The order of a history: what may be appended, and what a log may hold for a recovery to go on.

Knows zxids and entries, no file.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ..ids import counter_of
from .errors import MissingTxnsError, StorageError
from .txnlog import LoggedTxn
from .zxids import follows, show


def require_order(txns: Iterable[LoggedTxn], last_zxid: int) -> None:
    """Refuses transactions that do not continue a history. Raises `ValueError`."""
    for txn in txns:
        if not follows(txn.zxid, last_zxid):
            raise ValueError(f"transaction {show(txn.zxid)} does not follow {show(last_zxid)}")
        last_zxid = txn.zxid


def require_snapshot_zxid(zxid: int, last_zxid: int | None) -> None:
    """Refuses a snapshot of something that is not in the history.

    Args:
        zxid: the snapshot's. An epoch that has no transaction yet may be named too.
        last_zxid: the history's last transaction, `None` for a new storage.

    Raises:
        ValueError: it is later than the history.
    """
    if last_zxid is not None and zxid > last_zxid and counter_of(zxid) != 0:
        raise ValueError(f"a snapshot at {show(zxid)} is beyond the history, which ends with {show(last_zxid)}")


def require_trusted(is_trusted: bool) -> None:
    """Refuses to make a new history where the old one may have been lost (see `Recovery`). Raises `StorageError`."""
    if not is_trusted:
        raise StorageError("an empty storage that is not trusted takes nothing but a leader's snapshot")


class Repeat(NamedTuple):
    """A transaction whose zxid came before. Harmless if it is the same one."""

    txn: LoggedTxn
    name: str
    offset: int


class Continuity:
    """Follows a log from a snapshot on, and notices when something is missing or stands there twice.

    Args:
        base: the snapshot's zxid; what is at or before it is passed over.

    Attributes:
        last_zxid: of the last transaction admitted, `base` before the first.
        repeats: transactions to be compared with those that were admitted under their zxid.
        repeated: how many transactions were passed over because their zxid had come.
    """

    def __init__(self, base: int) -> None:
        self.base = base
        self.last_zxid = base
        self.repeats: list[Repeat] = []
        self.repeated = 0
        self._last: LoggedTxn | None = None

    def admit(self, txn: LoggedTxn, name: str, offset: int) -> bool:
        """Whether the transaction at `offset` of the log `name` is the next one.

        Raises:
            MissingTxnsError: there were others before it.
        """
        if follows(txn.zxid, self.last_zxid):
            self.last_zxid = txn.zxid
            self._last = txn
            return True
        if txn.zxid <= self.base:
            return False
        if txn.zxid > self.last_zxid:
            raise MissingTxnsError(
                f"{name}: the transaction at byte {offset} is {show(txn.zxid)}, but the history before it "
                f"ends with {show(self.last_zxid)}: what was between them is lost"
            )
        self.repeated += 1
        # Members of an ensemble up to 3.9.2 may log a proposal again after they lost their leader (ZOOKEEPER-4712).
        if txn != self._last:
            self.repeats.append(Repeat(txn, name, offset))
        return False
