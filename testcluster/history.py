"""What one server has logged: how far, how far durably, how far applied; and what of it another server lacks.

Decides where two histories part, by zxids alone: within an epoch there is one leader, so the same zxid is the same
transaction, and a history with a transaction of an epoch begins with that epoch's initial history. It holds no file:
of what is on disk it remembers the recent part.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Collection, Iterable
from typing import NamedTuple

from .ids import counter_of, epoch_of
from .ready import Entry
from .txns import Txn

RECENT_MAX = 500
"""Transactions kept for servers that come back (ZooKeeper's `commitLogCount`)."""

RECENT_BYTES_MAX = 16 << 20
"""Their bytes, at most; ZooKeeper has no such bound."""


class Meeting(NamedTuple):
    """Where another server's history and this one part.

    Attributes:
        zxid: the last transaction that both have; None where that is not known here.
        is_ahead: whether the other one has something behind it that is not in this history, or may have.
    """

    zxid: int | None
    is_ahead: bool


class History:
    """The history of one server.

    Args:
        last_zxid: the last transaction on disk; the tree has it applied. -1 where the disk is empty and not trusted.
        recent: (zxid, bytes) of the last transactions up to that one, without a gap; may be empty.
        recent_max: how many of them are kept, and of those that follow.

    Attributes:
        last_logged: the last transaction logged, or the zxid of the snapshot where there is none behind it.
        last_durable: the last that a crash cannot take away.
        applied: the last one applied to the tree.
    """

    def __init__(
        self, last_zxid: int, recent: Iterable[tuple[int, bytes]] = (), *, recent_max: int = RECENT_MAX
    ) -> None:
        self._recent_max = recent_max
        self.last_logged = last_zxid
        self.last_durable = last_zxid
        self.applied = last_zxid
        # Logged, not applied. Invariant: all between `applied` and `last_logged`.
        self._tail: deque[Entry] = deque()
        # Invariant: no gap between `_base` and `last_logged`.
        self._recent: list[tuple[int, bytes]] = [(zxid, payload) for zxid, payload in recent]
        self._recent_bytes = sum(len(payload) for _, payload in self._recent)
        self._base = last_zxid
        if self._recent:
            assert self._recent[-1][0] == last_zxid, (self._recent[-1][0], last_zxid)
            # What stood before the first one is not known.
            self._base = self._forget(1)
            self._trim()

    # Growth.

    def is_next(self, zxid: int, last_zxid: int | None = None) -> bool:
        """Whether a transaction may follow `last_zxid`, or the last one logged."""
        last = self.last_logged if last_zxid is None else last_zxid
        if epoch_of(zxid) == epoch_of(last):
            return zxid == last + 1
        return epoch_of(zxid) > epoch_of(last) and counter_of(zxid) == 1

    def append(self, entries: Iterable[Entry]) -> None:
        """Takes what is being logged."""
        for entry in entries:
            assert self.is_next(entry.zxid), (entry.zxid, self.last_logged)
            self.last_logged = entry.zxid
            self._tail.append(entry)
            self._recent.append((entry.zxid, entry.payload))
            self._recent_bytes += len(entry.payload)
        self._trim()

    def made_durable(self, zxid: int) -> None:
        """Everything up to a zxid is on disk."""
        assert zxid <= self.last_logged, (zxid, self.last_logged)
        self.last_durable = max(self.last_durable, zxid)

    def take_committed(self, zxid: int) -> list[Txn]:
        """The transactions up to a zxid that are to be applied now."""
        txns: list[Txn] = []
        while self._tail and self._tail[0].zxid <= zxid:
            entry = self._tail.popleft()
            self.applied = entry.zxid
            txns.append(entry.txn)
        return txns

    def _trim(self) -> None:
        excess = len(self._recent) - self._recent_max
        # In portions, since a list pays for each removal with its whole length.
        if excess > self._recent_max // 4:
            self._base = self._forget(excess)
        while self._recent_bytes > RECENT_BYTES_MAX and self._recent:
            self._base = self._forget(max(1, len(self._recent) // 4))

    def _forget(self, count: int) -> int:
        last = self._recent[count - 1][0]
        self._recent_bytes -= sum(len(payload) for _, payload in self._recent[:count])
        del self._recent[:count]
        return last

    # Changes that a leader demands; to be called when they are durable. The tree was built anew from the disk.

    def truncated(self, zxid: int) -> None:
        """Everything behind a zxid is gone."""
        assert zxid <= self.last_logged, (zxid, self.last_logged)
        index = self._index_after(zxid)
        self._recent_bytes -= sum(len(payload) for _, payload in self._recent[index:])
        del self._recent[index:]
        self._base = min(self._base, zxid)
        self._restart(zxid)

    def replaced(self, zxid: int) -> None:
        """A leader's snapshot has taken the place of everything."""
        self._recent = []
        self._recent_bytes = 0
        self._base = zxid
        self._restart(zxid)

    def _restart(self, zxid: int) -> None:
        self.last_logged = self.last_durable = self.applied = zxid
        self._tail.clear()

    # Comparison.

    def holds(self, zxid: int) -> bool:
        """Whether a transaction is known to be in the history."""
        if zxid == self._base:
            return True
        index = self._index_after(zxid)
        return index > 0 and self._recent[index - 1][0] == zxid

    def between(self, after: int, last: int) -> list[tuple[int, bytes]]:
        """(zxid, bytes) of the transactions behind `after` up to `last`; `after` is not before what is remembered."""
        assert after >= self._base or not self._recent, (after, self._base)
        return self._recent[self._index_after(after) : self._index_after(last)]

    def meeting(self, zxid: int, known_epochs: Collection[int]) -> Meeting:
        """Where this history and that of a server whose last transaction is `zxid` part.

        Args:
            zxid: the other's last transaction. With the counter 0 it says that the other has the whole initial history
                of that epoch and nothing behind it. -1 where it has nothing that can be relied on.
            known_epochs: the last epochs, without one between them, whose initial history this history has.
        """
        if zxid < 0 or (zxid == 0 and self.last_logged != 0):
            # ZooKeeper's own leaders give a new server a snapshot, too, rather than everything that ever was.
            return Meeting(None, is_ahead=False)
        if zxid == self.last_logged or self.holds(zxid):
            return Meeting(zxid, is_ahead=False)
        if zxid < self._base:
            return Meeting(None, is_ahead=False)
        epoch = epoch_of(zxid)
        index = self._index_after(zxid)
        if counter_of(zxid) == 0:
            # ZooKeeper takes such a zxid for common wherever it lies between two of its own; but it may come from a
            # leader that nobody followed. It is common if this history has gone through that epoch too.
            has_epoch = index < len(self._recent) and epoch_of(self._recent[index][0]) == epoch
            if has_epoch or epoch in known_epochs:
                return Meeting(zxid, is_ahead=False)
            return Meeting(None, is_ahead=True)
        before = self._recent[index - 1][0] if index else self._base
        # Of an epoch both have seen, both have the beginning. Of another one ZooKeeper supposes it (ZOOKEEPER-1154).
        if epoch_of(before) == epoch and counter_of(before) != 0:
            return Meeting(before, is_ahead=True)
        return Meeting(None, is_ahead=True)

    def _index_after(self, zxid: int) -> int:
        return bisect_right(self._recent, zxid, key=_zxid_of)


def _zxid_of(entry: tuple[int, bytes]) -> int:
    return entry[0]
