"""When the next snapshot is due: after so many transactions or so many bytes, each with a random part.

The random part keeps the servers of an ensemble from writing their snapshots at the same moment. Refuses to know who
writes them. Rule of ZooKeeper 3.5 to 3.9 (snapCount, snapSizeLimitInKb).
"""

from __future__ import annotations

import random

SNAP_COUNT = 100_000
SNAP_SIZE = 4 << 30


class SnapshotSchedule:
    """Counts what is logged and says when that is enough.

    Args:
        chance: draws the random part, anew after each snapshot.
        snap_count: transactions, at most, between two snapshots; at least 2.
        snap_size: bytes of transactions, at most, between two snapshots; not positive for no such limit.
    """

    def __init__(self, chance: random.Random, *, snap_count: int = SNAP_COUNT, snap_size: int = SNAP_SIZE) -> None:
        self._chance = chance
        self._snap_count = snap_count
        self._snap_size = snap_size
        self._restart()

    def _restart(self) -> None:
        self._count = 0
        self._bytes = 0
        self._count_extra = self._chance.randrange(max(1, self._snap_count // 2))
        self._bytes_extra = self._chance.randrange(max(1, self._snap_size // 2))

    def logged(self, size: int) -> bool:
        """Counts one transaction of `size` bytes; whether a snapshot is due, which also begins the next count."""
        self._count += 1
        self._bytes += size
        enough = self._count > self._snap_count // 2 + self._count_extra
        enough = enough or (self._snap_size > 0 and self._bytes > self._snap_size // 2 + self._bytes_extra)
        if enough:
            self._restart()
        return enough
